"""A finished run on disk, read back: its rows from ``infoplane.csv`` or, where there is none, from event files."""

import csv
import logging
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lightning_infoplane.plane import InformationPlane, Row

__all__ = ["Run", "read_run"]

# What log_key makes of a row: "{prefix}{probe/}{quantity}/{layer}".
_TAG = re.compile(
    r"(?P<head>(?:[^/]+/)*?)"
    r"(?P<quantity>(?:H|I|DPI)_(?:XT|TY|YT|X|Y|T|error)\w*|(?:bandwidth|redundancy_synergy|non_redundant|total_corr)\w*)"
    r"(?:/(?P<layer>.+))?"
)
_PROBES = ("train", "val")


@dataclass(frozen=True)
class Run:
    """What is left of a run.

    Args:
        name: for titles.
        source: the file that the rows come from.
        rows: the history.
        card: the text card of its TensorBoard, in Markdown; empty where there is none.
        hparams: the hyperparameters that Lightning wrote beside it, in YAML; empty where there are none.
    """

    name: str
    source: Path
    rows: Sequence[Row]
    card: str = ""
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
        rows, card = _read_table(source), _card_beside(source)
    else:
        source, rows, card = _newest_events(path)
    if not any(row.quantity.rpartition("/")[2] == "I_XT" for row in rows):
        raise ValueError(f"{source} holds no measurement yet.")
    hparams = source.parent / "hparams.yaml"
    text = hparams.read_text(encoding="utf-8", errors="replace").strip() if hparams.is_file() else ""
    return Run(_name(source), source, rows, card, "" if text == "{}" else text)


def _name(source: Path) -> str:
    """Two folders are enough to recognise a run by; a name of the callback is part of the file's."""
    extra = source.stem.removeprefix("infoplane").lstrip("-") if source.suffix == ".csv" else ""
    where = "/".join(source.resolve().parent.parts[-3:]).replace("lightning_logs/", "")
    return f"{where} ({extra})" if extra else where


def _time(path: Path) -> float:
    return path.stat().st_mtime


def _read_table(path: Path) -> list[Row]:
    """The rows of a CSV file that is whole."""
    try:
        rows = InformationPlane.load(path).history
    except csv.Error as error:
        raise ValueError(f"{path}: no table: {error}.") from error
    with path.open("rb") as file:
        if rows and file.read()[-1:] != b"\n":
            raise ValueError(f"{path} ends in the middle of a line: it was cut off, or is being written just now.")
    return rows


# --------------------------------------------------------------------------------------------- TensorBoard's files


def _card_beside(table: Path) -> str:
    """The card of the callback that wrote the table, if its run has event files."""
    try:
        events = _events(table.parent) if any(table.parent.glob("*tfevents*")) else None
    except ValueError:  # the table is what counts
        return ""
    return "" if events is None else _card(events, f"{table.stem}/card")


def _newest_events(path: Path) -> tuple[Path, list[Row], str]:
    """The newest event files below a path with layers in them; sub-runs hold only one each."""
    folders: dict[Path, Path] = {}
    for file in sorted(path.rglob("*tfevents*"), key=_time):
        folders[file.parent] = file
    if not folders:
        raise ValueError(f"{path} holds neither infoplane.csv nor TensorBoard event files, at any depth.")
    for folder, file in sorted(folders.items(), key=lambda item: _time(item[1]), reverse=True):
        events = _events(folder)
        card = _card(events, "/card")
        if rows := _rows(events, card):
            return file, rows, card
    raise ValueError(f"the event files below {path} hold no I_XT/…: no MatrixRenyiCallback wrote there.")


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


def _card(events: Any, ending: str) -> str:  # noqa: ANN401
    """The last text card."""
    for tag in events.Tags()["tensors"]:
        if tag.removesuffix("/text_summary").endswith(ending):
            return str(b"".join(events.Tensors(tag)[-1].tensor_proto.string_val).decode("utf-8", errors="replace"))
    return ""


def _rows(events: Any, card: str) -> list[Row]:  # noqa: ANN401
    """Rows from tags; with several callbacks, of the one that wrote most."""
    epochs = {event.step: int(event.value) for event in events.Scalars("epoch")} if _has(events, "epoch") else {}
    found: dict[str, list[Row]] = {}
    for tag in events.Tags()["scalars"]:
        if not (match := _TAG.fullmatch(tag)):
            continue
        parts = match["head"].split("/")[:-1]
        probe = f"{parts.pop()}/" if parts and parts[-1] in _PROBES else ""
        rows = found.setdefault("/".join(parts), [])
        for event in events.Scalars(tag):
            # Lightning counts epochs from 0 and logs at their end; the history counts finished ones.
            epoch = epochs.get(event.step, -1) + 1 if event.step else 0
            rows.append(Row(epoch, event.step, match["layer"] or "", probe + match["quantity"], event.value))
    rows = max(found.values(), key=len, default=[])
    return [*rows, *_sizes(rows, card)] if any(row.layer for row in rows) else []


def _sizes(rows: Sequence[Row], card: str) -> Iterator[Row]:
    """log2 n is a constant, so it is in no chart; the card knows it."""
    at = {(row.epoch, row.step) for row in rows}
    for size, probe in re.findall(r"Probe of (\d+) samples(?: \((\w+)\))?", card):
        for epoch, step in sorted(at):
            yield Row(epoch, step, "", f"{probe}/log2_n" if probe else "log2_n", math.log2(int(size)))


def _has(events: Any, tag: str) -> bool:  # noqa: ANN401
    return tag in events.Tags()["scalars"]
