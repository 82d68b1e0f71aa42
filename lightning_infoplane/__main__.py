"""The ``infoplane`` command: reports, films and comparisons of finished runs, and measuring their checkpoints."""

import argparse
import importlib
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

# What a command needs is imported in it: help and reports load neither torch nor Lightning.
if TYPE_CHECKING:
    from lightning_infoplane.network.probe import Probe
    from lightning_infoplane.views.runs import Run

__all__ = ["main"]

_EXAMPLES = """examples:
  infoplane report lightning_logs                   the newest run below, as lightning_logs/.../infoplane-report.html
  infoplane report runs/a --format pdf --out a.pdf  one page of all pictures
  infoplane animate runs/a --out plane.gif          the information plane, epoch by epoch
  infoplane compare runs/a runs/b                   two planes on the same axes, as infoplane-compare.png
  infoplane measure --model net:Net --data net:probe --checkpoints runs/a/checkpoints/*.ckpt

A file that this command did not write is never overwritten, unless --force says so.
A run is a folder with infoplane.csv, or with TensorBoard event files of a run that had a MatrixRenyiCallback."""


# Kinds of pictures.
_PICTURES = ("png", "pdf", "svg")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; 0 if all went well, 2 after one line about what did not."""
    options = _parser().parse_args(arguments)
    try:
        for path in options.command(options):
            print(path)
    except (ValueError, OSError) as error:
        return _say(str(error))
    except Exception as error:  # damaged files fail anywhere, in the libraries that draw them too
        return _say(f"{type(error).__name__}: {error}")
    return 0


def _report(options: argparse.Namespace) -> list[Path]:
    """One HTML file for all probes, or one picture for each."""
    from lightning_infoplane.views.files import of_probe, output, save_figure
    from lightning_infoplane.views.page import html_report
    from lightning_infoplane.views.panels import plot_summary
    from lightning_infoplane.views.runs import read_run

    kind = options.format
    run = read_run(options.run)
    path = options.out or run.folder / f"infoplane-report.{kind}"
    if kind == "html":
        with output(path, kind, options.force) as partial:
            partial.write_text(html_report(run), encoding="utf-8")
        return [path]
    paths = {probe: of_probe(path, probe) for probe in run.probes}
    for probe, one in paths.items():
        with output(one, kind, options.force) as partial:
            save_figure(plot_summary(run.rows, probe), partial, kind)
    return list(paths.values())


def _animate(options: argparse.Namespace) -> list[Path]:
    from lightning_infoplane.views.files import output, sign_gif
    from lightning_infoplane.views.page import animate
    from lightning_infoplane.views.runs import read_run

    run = read_run(options.run)
    path = options.out or run.folder / "infoplane.gif"
    with output(path, "gif", options.force) as partial:
        animate(run, partial, _probe(run, options.probe), options.fps)
        sign_gif(partial)
    return [path]


def _compare(options: argparse.Namespace) -> list[Path]:
    from lightning_infoplane.views.files import output, save_figure
    from lightning_infoplane.views.page import compare
    from lightning_infoplane.views.runs import read_run

    kind = options.out.suffix.lower().removeprefix(".")
    if kind not in _PICTURES:
        raise ValueError(f"{options.out}: expected a name that ends in .{', .'.join(_PICTURES)}.")
    first = read_run(options.first)
    second = read_run(options.second)
    with output(options.out, kind, options.force) as partial:
        save_figure(compare(first, second, _probe(first, options.probe)), partial, kind)
    return [options.out]


def _measure(options: argparse.Namespace) -> list[Path]:
    """Rows of every checkpoint, as a table that the other commands read."""
    from lightning_infoplane.checkpoints import measure_checkpoints
    from lightning_infoplane.measurement.settings import Estimator
    from lightning_infoplane.views.files import check_output, output

    check_output(options.out, "csv", options.force)  # a measurement may take hours
    sys.path.insert(0, "")  # modules of the folder one is in, as for python -m
    try:
        model = _call("--model", options.model, **options.init)
        data = _call("--data", options.data)
    finally:
        sys.path.remove("")
    history = measure_checkpoints(
        options.checkpoints,
        model,
        _as_probe(options.data, data),
        options.layers,
        Estimator(alpha=options.alpha, shuffles=options.shuffles),
        batch_size=options.batch_size,
    )
    with output(options.out, "csv", options.force) as partial:
        history.save(partial)
    return [options.out]


def _as_probe(where: str, data: Any) -> "Probe":  # noqa: ANN401 - the user's
    """What the user's function returned, as a probe."""
    from lightning_infoplane.network.probe import Probe

    if isinstance(data, Probe):
        return data
    if not isinstance(data, tuple | list) or len(data) != 2:
        raise ValueError(f"--data {where}: expected (inputs, targets), got {type(data).__name__}.")
    return Probe(*data)


def _probe(run: "Run", wanted: str) -> str:
    """The probe asked for; without a wish the first."""
    known = run.probes
    if wanted and wanted not in known:
        raise ValueError(f"--probe {wanted}: this run has {', '.join(known) if any(known) else 'only one, unnamed'}.")
    return wanted or known[0]


def _call(option: str, where: str, **keywords: Any) -> Any:  # noqa: ANN401 - the user's
    """What a user's ``module:name`` returns; whatever goes wrong in it is said with the option's name."""
    module, colon, name = where.partition(":")
    if not colon:
        raise ValueError(f"{option} {where}: expected module:name, such as my_package.my_module:{name or 'Name'}.")
    try:
        return getattr(importlib.import_module(module), name)(**keywords)
    except Exception as error:
        raise ValueError(f"{option} {where}: {type(error).__name__}: {error}") from error


def _keywords(text: str) -> dict[str, Any]:
    """Keyword arguments, as JSON."""
    try:
        return dict(json.loads(text))
    except (ValueError, TypeError):
        raise argparse.ArgumentTypeError(f'expected a JSON object such as {{"classes": 10}}, got {text}') from None


def _rate(text: str) -> float:
    """A number that a film can have: it counts hundredths of a second."""
    if not 0.01 <= (value := float(text)) <= 100:
        raise argparse.ArgumentTypeError(f"expected a number from 0.01 to 100, got {text}")
    return value


def _say(mistake: str) -> int:
    """In one line, without anything that a terminal would obey."""
    print("infoplane:", *"".join(one if one.isprintable() else " " for one in mistake).split(), file=sys.stderr)
    return 2


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="infoplane",
        description=__doc__,
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")

    report = commands.add_parser("report", help="one self-contained HTML file, or one page as PNG, PDF or SVG")
    report.add_argument("run", type=Path, metavar="RUN_DIR", help="the newest run at or below this folder is taken")
    report.add_argument("--format", choices=("html", *_PICTURES), default="html")
    report.add_argument("--out", type=Path, metavar="FILE", help="infoplane-report.FORMAT beside the run if left out")
    report.set_defaults(command=_report)

    film = commands.add_parser("animate", help="the information plane through the epochs, as GIF")
    film.add_argument("run", type=Path, metavar="RUN_DIR")
    film.add_argument("--out", type=Path, metavar="FILE", help="infoplane.gif beside the run if left out")
    film.add_argument("--fps", type=_rate, default=4.0, help="measurements a second (default: 4)")
    film.add_argument("--probe", default="", help="train or val, for a run with both")
    film.set_defaults(command=_animate)

    both = commands.add_parser("compare", help="two information planes side by side, on the same axes")
    both.add_argument("first", type=Path, metavar="RUN_A")
    both.add_argument("second", type=Path, metavar="RUN_B")
    both.add_argument("--out", type=Path, metavar="FILE", default=Path("infoplane-compare.png"))
    both.add_argument("--probe", default="", help="train or val, for runs with both")
    both.set_defaults(command=_compare)

    _add_measure(commands)
    for command in commands.choices.values():
        command.add_argument("--force", action="store_true", help="also overwrite a file that is not of this command")
    return parser


def _add_measure(commands: Any) -> None:  # noqa: ANN401 - argparse names no type for it
    measure = commands.add_parser("measure", help="measure the checkpoints of a finished run")
    measure.add_argument("--model", required=True, metavar="MODULE:CLASS", help="called without arguments, or --init")
    measure.add_argument("--init", type=_keywords, default={}, metavar="JSON", help="such as '{\"classes\": 10}'")
    measure.add_argument("--data", required=True, metavar="MODULE:FUNCTION", help="returns (inputs, targets)")
    measure.add_argument("--checkpoints", required=True, nargs="+", type=Path, metavar="FILE")
    measure.add_argument("--layers", nargs="+", default=["conv"], help="conv, linear, all, names or globs")
    measure.add_argument("--alpha", type=float, default=1.01)
    measure.add_argument("--shuffles", type=int, default=2, help="for the chance level (default: 2)")
    measure.add_argument("--batch-size", type=int, help="send the probe through the network in pieces")
    measure.add_argument("--out", type=Path, metavar="FILE", default=Path("infoplane.csv"))
    measure.set_defaults(command=_measure)


if __name__ == "__main__":
    sys.exit(main())
