"""A finished run on disk, read back: its rows from ``infoplane.csv`` or, where there is none, from event files."""

import logging
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from lightning_infoplane.arguments.checks import Instance
from lightning_infoplane.measurement.history import Facts, History
from lightning_infoplane.measurement.keys import file_name, read_key
from lightning_infoplane.measurement.quantities import LOG2_N, SIGNS, by_key, known_keys
from lightning_infoplane.measurement.quantity import Of, Subject
from lightning_infoplane.measurement.rows import Pair, Place, Row
from lightning_infoplane.views.series import quantities_of

__all__ = ["FACTS_TAG", "Run", "read_run"]

# Under which the facts of a run are logged as text, for event files without a table.
FACTS_TAG = "facts"
# Larger numbers come from damage alone, and matplotlib's arithmetic overflows on them.
_LARGEST = 1e100
# Of a number of samples.
_MOST_BITS = 53
_LONGEST_HPARAMS = 2**20
_WORDS = {Of.PROBE: "the probe", Of.LAYER: "a layer", Of.PAIR: "a pair of layers"}
# A run without it has no measurement.
_TELLING = SIGNS[Subject.ACTIVATIONS].bits.key

_PATH = Instance("a file or a folder", kinds=(str, PathLike), example="'lightning_logs'")


@dataclass(frozen=True)
class Run:
    """What is left of a run.

    Args:
        name: for titles.
        source: the file that the rows come from.
        rows: the history.
        hparams: the hyperparameters that Lightning wrote beside it, in YAML; empty where there are none.
    """

    name: str
    source: Path
    rows: History
    hparams: str = ""

    @property
    def folder(self) -> Path:
        """Where the run is."""
        return self.source.parent

    @property
    def probes(self) -> list[str]:
        """The probes that were measured; of a run that was killed, the last one may be known by name alone."""
        return list(dict.fromkeys(probe for probe, _, quantity in self.rows.table.keys if quantity == _TELLING))


def read_run(path: str | Path) -> Run:
    """The newest run at or below a path, which may also be a CSV file.

    Raises:
        ValueError: in one line, for a path without a run or with one that cannot be read.
    """
    path = Path(_PATH("path", path, "read_run"))
    if not path.exists():
        raise ValueError(f"{path} does not exist.")
    tables = [path] if path.is_file() else [*path.rglob("infoplane.csv"), *path.rglob("infoplane-*.csv")]
    if tables:
        source = max(tables, key=_time)
        rows = History.load(source)
    else:
        source, rows = _newest_events(path)
    if _TELLING not in quantities_of(rows):
        raise ValueError(f"{source} holds no measurement yet.")
    _check(source, rows)
    text = _hyperparameters(source.parent / "hparams.yaml")
    return Run(_name(source), source, rows, "" if text == "{}" else text)


def _check(source: Path, rows: History) -> None:
    """Whether every number is of something it can be of, and can be drawn.

    Raises:
        ValueError: if one is not.
    """
    table = rows.table
    known = set(known_keys())
    # Of a later version there may be more than we know of, which is not drawn.
    ours = {code for code, (_, _, quantity) in enumerate(table.keys) if quantity in known}
    for code in ours:
        _, place, key = table.keys[code]
        of = by_key(key).of
        if of is not _of(place):
            raise ValueError(f"{source}: {key} is of {_WORDS[of]}, and there is one of {str(place) or 'none'!r}.")
    limits = {code for code in ours if table.keys[code][2] == LOG2_N.key}
    values = np.array(table.values)
    codes = np.array(table.codes)
    wrong = ~(np.abs(values) <= _LARGEST) & ~np.isnan(values) & np.isin(codes, list(ours))
    wrong |= ~((values > 0) & (values <= _MOST_BITS)) & np.isin(codes, list(limits))
    if wrong.any():
        row = rows[int(np.argmax(wrong))]
        where = f"{row.quantity}{f' of {row.place}' if row.place else ''} at epoch {row.epoch}, step {row.step}"
        raise ValueError(f"{source}: {where} is {row.value}, which it cannot be.")


def _of(place: Place) -> Of | None:
    """What a place is, if it is one."""
    if isinstance(place, Pair):
        return Of.PAIR if all(place) else None
    return Of.LAYER if place else Of.PROBE


def _hyperparameters(path: Path) -> str:
    """As they are written, the first of them if somebody put a whole data set there."""
    if not path.is_file():
        return ""
    with path.open("rb") as file:
        return file.read(_LONGEST_HPARAMS).decode("utf-8", errors="replace").strip()


def _name(source: Path) -> str:
    """Two folders are enough to recognise a run by; a name of the callback is part of the file's."""
    extra = source.stem.removeprefix("infoplane").lstrip("-") if source.suffix == ".csv" else ""
    where = "/".join(source.resolve().parent.parts[-3:]).replace("lightning_logs/", "")
    return f"{where} ({extra})" if extra else where


def _time(path: Path) -> float:
    return path.stat().st_mtime


# --------------------------------------------------------------------------------------------- TensorBoard's files


def _newest_events(path: Path) -> tuple[Path, History]:
    """The newest event files below a path with layers in them; sub-runs hold only one each."""
    folders: dict[Path, Path] = {}
    for file in sorted(path.rglob("*tfevents*"), key=_time):
        folders[file.parent] = file
    if not folders:
        raise ValueError(f"{path} holds neither infoplane.csv nor TensorBoard event files, at any depth.")
    for folder, file in sorted(folders.items(), key=lambda item: _time(item[1]), reverse=True):
        if rows := _history(_events(folder)):
            return file, rows
    raise ValueError(f"the event files below {path} hold no {_TELLING}/…: no MatrixRenyiCallback wrote there.")


def _events(folder: Path) -> Any:  # noqa: ANN401 - TensorBoard has no types
    """Event files, loaded."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    logging.getLogger("tensorboard").setLevel(logging.ERROR)  # it talks about files it finds
    events = EventAccumulator(str(folder), size_guidance={"scalars": 0, "tensors": 1, "images": 1})
    try:
        events.Reload()
    except Exception as error:  # many kinds, by what is broken
        raise ValueError(f"the event files in {folder} cannot be read: {type(error).__name__}: {error}") from error
    return events


def _history(events: Any) -> History:  # noqa: ANN401
    """Rows from tags; with several callbacks, of the one that wrote most."""
    told = events.Scalars("epoch") if _has(events, "epoch") else []
    epochs = {event.step: int(event.value) for event in told if math.isfinite(event.value)}
    by_prefix: dict[str, list[Row]] = {}
    for tag in events.Tags()["scalars"]:
        key = read_key(tag)
        if key is None:
            continue
        rows = by_prefix.setdefault(key.prefix, [])
        for event in events.Scalars(tag):
            # Lightning counts epochs from 0 and logs at their end; the history counts finished ones.
            epoch = epochs.get(event.step, -1) + 1 if event.step else 0
            rows.append(Row(epoch, event.step, key.probe, key.place, key.quantity, event.value))
    prefix, rows = max(by_prefix.items(), key=lambda item: len(item[1]), default=("", []))
    if not any(row.place for row in rows):
        return History()
    facts = _facts(events, prefix)
    return History([*rows, *_sizes(rows, facts)], facts)


def _facts(events: Any, prefix: str) -> Facts:  # noqa: ANN401
    """The facts that the callback with these keys logged last; without them, the defaults."""
    texts = [tag for tag in events.Tags()["tensors"] if tag.startswith("infoplane")]
    tags = [tag for tag in texts if tag.removesuffix("/text_summary").endswith(f"/{FACTS_TAG}")]
    stem = f"infoplane-{file_name(prefix)}/" if prefix else "infoplane/"
    own = [tag for tag in tags if tag.startswith(stem)]
    if not own and len(tags) != 1:  # of several callbacks with prefixes of their own nobody can tell
        return Facts(version="")
    tag = (own or tags)[0]
    text = b"".join(events.Tensors(tag)[-1].tensor_proto.string_val).decode("utf-8", errors="replace")
    return Facts.from_json(text.strip())


def _sizes(rows: Sequence[Row], facts: Facts) -> Iterator[Row]:
    """The limit that n samples set is a constant, so it is in no chart."""
    moments = sorted({(row.epoch, row.step) for row in rows})
    for probe, size in facts.n.items():
        for epoch, step in moments:
            yield Row(epoch, step, probe, "", LOG2_N.key, math.log2(size))


def _has(events: Any, tag: str) -> bool:  # noqa: ANN401
    return tag in events.Tags()["scalars"]
