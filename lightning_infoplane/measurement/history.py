"""Everything measured so far: rows, the facts that are needed to read them, their CSV file and their state."""

import csv
import io
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, overload

from lightning_infoplane import __version__
from lightning_infoplane.measurement.rows import Pair, Row

__all__ = ["Facts", "History"]

_COLUMNS = ("epoch", "step", "probe", "layer", "to", "quantity", "value")


@dataclass(frozen=True)
class Facts:
    """What is needed to read the rows.

    Args:
        version: of this package.
        estimator: its class and fields, the seed among them, as plain data.
        n: samples by probe; the empty name where there is one.
        chain: the Markov chain that was found among the layers, a line each.

    Example:
        >>> Facts.from_json(Facts("0.1.0", {"alpha": 2}, {"": 512}).to_json()).n
        {'': 512}
    """

    version: str = __version__
    estimator: Mapping[str, Any] = field(default_factory=dict)
    n: Mapping[str, int] = field(default_factory=dict)
    chain: Sequence[str] = ()

    def to_json(self) -> str:
        """In one line."""
        return json.dumps(vars(self), ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str) -> "Facts":
        """Back from :meth:`to_json`.

        Raises:
            ValueError: for anything else.
        """
        try:
            data = json.loads(text)
            n = {str(probe): int(size) for probe, size in data["n"].items()}
            return cls(str(data["version"]), dict(data["estimator"]), n, tuple(map(str, data["chain"])))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"expected version, estimator, n and chain as JSON, got {text[:80]!r}.") from error


class History(Sequence[Row]):
    """The rows of a run, in the order in which they were measured.

    Example:
        >>> history = History([Row(0, 0, "", "", "H_X", 1.5)])
        >>> len(history), history[-1].value
        (1, 1.5)
    """

    def __init__(self, rows: Iterable[Row] = (), facts: Facts | None = None) -> None:
        self._rows = list(rows)
        self.facts = facts or Facts()

    def __len__(self) -> int:
        """How many rows."""
        return len(self._rows)

    @overload
    def __getitem__(self, place: int) -> Row: ...
    @overload
    def __getitem__(self, place: slice) -> list[Row]: ...
    def __getitem__(self, place: int | slice) -> Row | list[Row]:
        """One row, or some of them."""
        return self._rows[place]

    def __iter__(self) -> Iterator[Row]:
        """Row by row."""
        return iter(self._rows)

    def __eq__(self, other: object) -> bool:
        """Whether the rows are the same."""
        return isinstance(other, Sequence) and self._rows == list(other)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        """How much there is."""
        return f"<History of {len(self)} rows>"

    def extend(self, rows: Iterable[Row]) -> None:
        """Add the rows of a measurement."""
        self._rows.extend(rows)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write a CSV file, all of it or, should the program die, what was there before.

        Its first line, after ``#``, holds the facts as JSON; ``pandas.read_csv(path, skiprows=1)`` reads the table.
        """
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(".partial")
        with partial.open("w", newline="", encoding="utf-8") as file:
            file.write(f"# {self.facts.to_json()}\n")
            writer = csv.writer(file)
            writer.writerow(_COLUMNS)
            writer.writerows(_cells(row) for row in self._rows)
        os.replace(partial, path)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> "History":
        """The history in a CSV file.

        Raises:
            ValueError: if the file is not such a table.
        """
        try:
            text = Path(path).read_bytes().decode("utf-8")
        except UnicodeDecodeError:
            text = ""  # no text is no table
        head, _, table = text.partition("\n")
        reader = csv.reader(io.StringIO(table, newline=""))
        if not head.startswith("# ") or tuple(next(reader, ())) != _COLUMNS:
            raise ValueError(f"{path}: expected a line of facts, and a table with the columns {', '.join(_COLUMNS)}.")
        try:
            history = cls(facts=Facts.from_json(head.removeprefix("# ")))
        except ValueError as error:
            raise ValueError(f"{path}, line 1: {error}") from error
        cells: list[str] = []
        try:
            for cells in reader:
                history._rows.append(_row(cells))
                cells = []
        except (ValueError, csv.Error):
            line = reader.line_num + 1  # after the line of facts
            raise ValueError(f"{path}, line {line}: expected {', '.join(_COLUMNS)}, got {cells}.") from None
        return history

    def state_dict(self) -> dict[str, Any]:
        """As plain Python."""
        return {"facts": self.facts.to_json(), "rows": [_cells(row) for row in self._rows]}

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> "History":
        """Back from :meth:`state_dict`."""
        return cls([_row(cells) for cells in state["rows"]], Facts.from_json(state["facts"]))


def _cells(row: Row) -> tuple[int, int, str, str, str, str, float]:
    """A row as one of a table: the second layer of a pair has a column of its own."""
    first, second = row.place if isinstance(row.place, Pair) else (row.place, "")
    return row.epoch, row.step, row.probe, first, second, row.quantity, row.value


def _row(cells: Sequence[Any]) -> Row:
    epoch, step, probe, layer, to, quantity, value = cells
    return Row(int(epoch), int(step), probe, Pair(layer, to) if to else layer, quantity, float(value))
