"""A finished run as one HTML file that needs nothing else, and as a film or two planes side by side.

Everything that comes from the run, layer names above all, is escaped.
"""

from __future__ import annotations

import io
from base64 import b64encode
from collections.abc import Iterator, Sequence
from functools import partial
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lightning_infoplane.plane import Row, of_probe, verdicts
from lightning_infoplane.plots import plot_curves, plot_depth, plot_gaps, plot_plane, plot_redundancy
from lightning_infoplane.runs import Run
from lightning_infoplane.summary import panels
from lightning_infoplane.tables import Table, probes_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["animate", "compare", "html_report"]

_STYLE = """
body { font: 1rem/1.5 system-ui, sans-serif; color: #1a1a1a; background: #fff; margin: 0 auto; max-width: 60rem;
  padding: 1rem; overflow-wrap: anywhere; }
h1 { font-size: 1.6rem; line-height: 1.2; } h2 { font-size: 1.25rem; margin-top: 2rem; }
figure { margin: 1.5rem 0; } figcaption { margin-bottom: .5rem; } img { width: 100%; min-width: 34rem; height: auto; }
.scroll { overflow-x: auto; } table { border-collapse: collapse; } th, td { padding: .25rem .75rem; text-align: right;
  border-bottom: 1px solid #ccc; white-space: nowrap; } th:first-child, td:first-child { text-align: left; }
.warn { font-weight: bold; } dt { font-weight: bold; margin-top: .75rem; } dd { margin: 0; }
pre { background: #f4f4f4; padding: .75rem; overflow-x: auto; } footer { margin-top: 2rem; color: #595959; }
"""
_EXPLAINED = (
    (
        "I(X;T), information about the input",
        "How well the samples of the probe can be told apart by looking at a layer instead of at the input, in bits. "
        "It cannot exceed H(X), what there is to know.",
    ),
    (
        "I(T;Y), information about the target",
        "How much of the label can be read from the layer. It cannot exceed H(Y). It may well rise with depth: later "
        "layers put the classes where they are easy to see.",
    ),
    (
        "Shuffled pairs",
        "The same number after the samples of one side were put in random order, so that there is nothing to share. A "
        "value is worth only what it exceeds this by.",
    ),
    (
        "Data-processing inequality",
        "Where a layer sees the input only through the one before it, it cannot know more about it. A loss below zero "
        "says that the estimate, not the network, breaks this rule.",
    ),
    (
        "What it does not tell you",
        "Bits depend on the kernel and its bandwidth: compare layers and epochs of one run, or runs with the same "
        "settings. And one run is one seed.",
    ),
)
_VERDICTS = {
    "ok": "The curve can be read.",
    "saturated": "To the kernel all samples differ, so I(X;T) is H(X) whatever the layer does: use a larger bandwidth "
    "or a larger probe.",
    "collapsed": "To the kernel all samples look alike: a dead layer, or a bandwidth that is too large.",
    "at chance": "I(X;T) is no larger than for shuffled pairs, so it says nothing: use a larger probe.",
}
_COLUMNS = {"I_XT": "I(X;T)", "I_XT_chance": "shuffled", "I_TY": "I(T;Y)", "I_TY_chance": "shuffled", "H_T": "H(T)"}


def html_report(run: Run) -> str:
    """The report of a run: verdicts, explanations, tables, pictures with descriptions, settings.

    Raises:
        ValueError: if there is nothing to draw.
    """
    title = f"What the layers know: {escape(run.name)}"
    names = probes_of(run.rows)
    dpi = 120 if len(names) == 1 else 85  # two probes of a deep network stay below 3 MB
    probes = [_probe_section(run.rows, probe, dpi) for probe in names]
    explained = "".join(f"<dt>{escape(name)}</dt><dd>{escape(text)}</dd>\n" for name, text in _EXPLAINED)
    return (
        f'<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n<title>{title}</title>\n'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">\n<style>{_STYLE}</style>\n</head>\n'
        f"<body>\n<main>\n<h1>{title}</h1>\n{''.join(probes)}"
        f"<h2>How to read this</h2>\n<dl>\n{explained}</dl>\n{_settings(run)}</main>\n"
        f"<footer><p>Matrix-based Rényi information, from {escape(run.source.name)}. Estimator: Yu, Wickstrøm, "
        "Jenssen, Príncipe, arXiv 1804.06537.</p></footer>\n</body>\n</html>\n"
    )


def animate(run: Run, path: Path, probe: str = "", frames_per_second: float = 4.0) -> None:
    """The information plane drawing itself, a frame a measurement, as GIF.

    Raises:
        ValueError: without I(T;Y).
    """
    from matplotlib.animation import PillowWriter

    table = Table(run.rows, probe)
    moments = table.moments_of("I_XT")
    ax = _axes()
    figure: Any = ax.figure
    plot_plane(run.rows, ax, probe)
    ax.set_title(" ", loc="left")
    figure.draw_without_rendering()
    figure.set_layout_engine("none")  # what the full picture needs, every frame gets
    limits = {"xlim": ax.get_xlim(), "ylim": ax.get_ylim()}
    writer = PillowWriter(fps=frames_per_second)  # type: ignore[arg-type]  # a float is fine
    with writer.saving(figure, str(path), dpi=100):
        for moment in [*moments, *moments[-1:] * round(2 * frames_per_second)]:  # the end stays for a while
            ax.clear()
            plot_plane([row for row in run.rows if (row.epoch, row.step) <= moment], ax, probe)
            ax.set(**limits)
            ax.set_title(table.moment_label(moment), loc="left")
            writer.grab_frame()


def compare(first: Run, second: Run, probe: str = "") -> Figure:
    """Two information planes on the same axes, side by side.

    Raises:
        ValueError: without I(T;Y) in one of them.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(14, 5), layout="constrained")
    axes = figure.subplots(1, 2)
    for ax, run in zip(axes, (first, second), strict=True):
        plot_plane(run.rows, ax, probe)
        ax.set_title(run.name.replace("$", r"\$") + "\n", loc="left")  # above the limits
    for which in ("xlim", "ylim"):
        lows, highs = zip(*(getattr(ax, f"get_{which}")() for ax in axes), strict=True)
        for ax in axes:
            ax.set(**{which: (min(lows), max(highs))})
    return figure


# ----------------------------------------------------------------------------------------------- parts of the page


def _probe_section(rows: Sequence[Row], probe: str, dpi: int) -> str:
    """Verdicts, table and pictures of one probe."""
    table = Table(rows, probe)
    moments = table.moments_of("I_XT")
    last = [row for row in rows if (row.epoch, row.step) == moments[-1]]
    heading = f"<h2>Measured on {escape(probe)} samples</h2>\n" if probe else ""
    return (
        f"{heading}<p>{escape(_sizes(last, probe))} {len(moments)} measurements, the last one "
        f"{escape(table.moment_label(moments[-1]))}.</p>\n"
        f"<h2>In short</h2>\n{''.join(_in_short(table, last, probe))}"
        f"<h2>The last measurement</h2>\n{_numbers(table, last, probe)}"
        f"<h2>Pictures</h2>\n{''.join(_pictures(rows, table, probe, dpi))}"
    )


def _sizes(last: Sequence[Row], probe: str) -> str:
    """The probe and the limits it sets."""
    known = {row.quantity: row.value for row in of_probe(last, probe) if not row.layer}
    limits = [f"{words} = {known[key]:.2f} bits" for key, words in (("H_X", "H(X)"), ("H_Y", "H(Y)")) if key in known]
    samples = f"A fixed probe of {round(2 ** known['log2_n'])} samples" if "log2_n" in known else "A fixed probe"
    return f"{samples}{': ' if limits else ''}{', '.join(limits)}."


def _verdicts(last: Sequence[Row], probe: str) -> dict[str, str]:
    """By layer; nothing where the number of samples is not known, as from event files without a text card."""
    return verdicts(last, probe) if any(row.quantity == "log2_n" for row in of_probe(last, probe)) else {}


def _in_short(table: Table, last: Sequence[Row], probe: str) -> Iterator[str]:
    """What happened to each layer, and whether it means anything, in sentences."""
    found = _verdicts(last, probe)
    yield "<ul>\n"
    for layer in table.layers:
        moves = []
        for quantity in ("I_XT", "I_TY"):
            _, values = table.curve(layer, quantity)
            if len(values):
                moves.append(f"{_COLUMNS[quantity]} went from {values[0]:.2f} to {values[-1]:.2f} bits")
        verdict = found.get(layer, "")
        judged = f" <span{'' if verdict == 'ok' else ' class=warn'}>{_VERDICTS[verdict]}</span>" if verdict else ""
        yield f"<li><b>{escape(layer)}</b>: {', '.join(moves)}.{judged}</li>\n"
    yield "</ul>\n"
    gaps = [row.value for row in of_probe(last, probe) if row.quantity == "DPI_XT"]
    if gaps:
        below = sum(gap < 0 for gap in gaps)
        yield (
            f"<p>Along {len(gaps)} pair{'s' * (len(gaps) > 1)} of layers, information about the input was lost in "
            f"{len(gaps) - below}; in {below} the loss is below zero (smallest: {min(gaps):.3f} bits).</p>\n"
        )


def _numbers(table: Table, last: Sequence[Row], probe: str) -> str:
    """One line a layer."""
    value = {(row.quantity, row.layer): row.value for row in of_probe(last, probe)}
    found = _verdicts(last, probe)
    columns = [key for key in _COLUMNS if any(quantity == key for quantity, _ in value)]
    head = "".join(f'<th scope="col">{_COLUMNS[key]}</th>' for key in columns)
    lines = []
    for layer in table.layers:
        cells = [f"{value[key, layer]:.3f}" if (key, layer) in value else "-" for key in columns]
        cells.append(found.get(layer, "-"))
        lines.append(f"<tr><td>{escape(layer)}</td>{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>\n")
    return (
        f'<div class="scroll"><table>\n<caption>All in bits</caption>\n<thead><tr><th scope="col">layer</th>{head}'
        f'<th scope="col">verdict</th></tr></thead>\n<tbody>\n{"".join(lines)}</tbody>\n</table></div>\n'
    )


def _pictures(rows: Sequence[Row], table: Table, probe: str, dpi: int) -> Iterator[str]:
    """Each with a caption, and with a description for those who do not see it."""
    for title, plot in panels(rows, probe).items():
        caption = _CAPTIONS[plot.func]
        described = f"{title}. {len(table.layers)} layers: {', '.join(table.layers)}. {caption}"
        yield (
            f'<figure>\n<figcaption><b>{title}.</b> {caption}</figcaption>\n<div class="scroll">'
            f'<img alt="{escape(described)}" src="data:image/png;base64,{_png(plot, dpi)}"></div>\n</figure>\n'
        )


_CAPTIONS: dict[Any, str] = {
    plot_plane: "Each layer walks from its hollow mark, the first measurement, to its filled one, the last. To the "
    "left: it forgets about the input. Upwards: the target becomes easier to read.",
    plot_curves: "One line a layer. Dotted lines of the same colour are the values for shuffled pairs; where a line is "
    "hatched the layer is saturated and the value means nothing.",
    plot_depth: "From the first layer to the last, pale lines early and dark lines late in training.",
    plot_gaps: "Each row is a pair of layers, each column a measurement. Purple: the second layer has less than the "
    "first. Orange: it has more. Outlined: clearly below zero.",
    plot_redundancy: "Above zero, two feature maps mostly say the same about the input (redundancy); below, they say "
    "more together than alone (synergy). Non-redundant is what is not said twice.",
}


def _settings(run: Run) -> str:
    """What is known of how it was measured, from the card and Lightning's hyperparameters."""
    parts = []
    for line in run.card.splitlines()[1:]:  # the first one explains what this page does at length
        if line.strip() and not line.startswith("|"):
            parts.append(f"<p>{escape(line.removeprefix('- ').replace('**', ''))}</p>\n")
    if run.hparams:
        parts.append(f"<h3>Hyperparameters</h3>\n<pre>{escape(run.hparams)}</pre>\n")
    return f"<h2>Settings</h2>\n{''.join(parts)}" if parts else ""


def _png(plot: partial[Axes], dpi: int) -> str:
    """A picture as text."""
    file = io.BytesIO()
    figure: Any = plot(ax=_axes()).figure
    figure.savefig(file, dpi=dpi, format="png")
    return b64encode(file.getvalue()).decode("ascii")


def _axes() -> Axes:
    from matplotlib.figure import Figure

    return Figure(figsize=(7.2, 4.6), layout="constrained").subplots()
