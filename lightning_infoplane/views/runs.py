"""A finished run on disk, read back: its rows from ``infoplane.csv`` or, where there is none, from event files."""

import logging
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lightning_infoplane.measurement.history import Facts, History
from lightning_infoplane.measurement.keys import read_key
from lightning_infoplane.measurement.quantities import LOG2_N, SIGNS
from lightning_infoplane.measurement.quantity import Subject
from lightning_infoplane.measurement.rows import Row

__all__ = ["FACTS_TAG", "Run", "read_run"]

# Under which the facts of a run are logged as text, for event files without a table.
FACTS_TAG = "facts"
# A run without it has no measurement.
_TELLING = SIGNS[Subject.ACTIVATIONS].bits.key


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


def read_run(path: str | Path) -> Run:
    """The newest run at or below a path, which may also be a CSV file.

    Raises:
        ValueError: in one line, for a path without a run or with one that cannot be read.
    """
    path = Path(path)
    if not path.exists():
        raise ValueError(f"{path} does not exist.")
    tables = [path] if path.is_file() else [*path.rglob("infoplane.csv"), *path.rglob("infoplane-*.csv")]
    if tables:
        source = max(tables, key=_time)
        rows = _read_table(source)
    else:
        source, rows = _newest_events(path)
    if not any(row.quantity == _TELLING for row in rows):
        raise ValueError(f"{source} holds no measurement yet.")
    hparams = source.parent / "hparams.yaml"
    text = hparams.read_text(encoding="utf-8", errors="replace").strip() if hparams.is_file() else ""
    return Run(_name(source), source, rows, "" if text == "{}" else text)


def _name(source: Path) -> str:
    """Two folders are enough to recognise a run by; a name of the callback is part of the file's."""
    extra = source.stem.removeprefix("infoplane").lstrip("-") if source.suffix == ".csv" else ""
    where = "/".join(source.resolve().parent.parts[-3:]).replace("lightning_logs/", "")
    return f"{where} ({extra})" if extra else where


def _time(path: Path) -> float:
    return path.stat().st_mtime


def _read_table(path: Path) -> History:
    """The rows of a CSV file that is whole."""
    rows = History.load(path)
    with path.open("rb") as file:
        if rows and file.read()[-1:] != b"\n":
            raise ValueError(f"{path} ends in the middle of a line: it was cut off, or is being written just now.")
    return rows


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
    epochs = {event.step: int(event.value) for event in events.Scalars("epoch")} if _has(events, "epoch") else {}
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
    stem = f"infoplane-{prefix}/" if prefix else "infoplane/"
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
