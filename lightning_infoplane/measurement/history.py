"""Everything measured so far: rows, the facts that are needed to read them, their CSV file and their state."""

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from math import isnan
from pathlib import Path
from typing import Any, overload

from lightning_infoplane.measurement import csv_file
from lightning_infoplane.measurement.facts import Facts
from lightning_infoplane.measurement.rows import Row
from lightning_infoplane.measurement.table import Table

__all__ = ["Facts", "History"]


class History(Sequence[Row]):
    """The rows of a run, in the order in which they were measured. It only ever grows.

    Attributes:
        facts: what is needed to read them.
        table: the same rows by column.

    Example:
        >>> history = History([Row(0, 0, "", "", "H_X", 1.5)])
        >>> len(history), history[-1].value
        (1, 1.5)
    """

    def __init__(self, rows: Iterable[Row] = (), facts: Facts | None = None) -> None:
        self.table = Table(rows)
        self.facts = facts or Facts()
        self._file = csv_file.CsvFile()

    @classmethod
    def of(cls, table: Table, facts: Facts) -> "History":
        """The history with these columns."""
        history = cls(facts=facts)
        history.table = table
        return history

    def __len__(self) -> int:
        """How many rows."""
        return len(self.table)

    @overload
    def __getitem__(self, place: int) -> Row: ...
    @overload
    def __getitem__(self, place: slice) -> list[Row]: ...
    def __getitem__(self, place: int | slice) -> Row | list[Row]:
        """One row, or some of them."""
        if not isinstance(place, slice):
            if not -len(self) <= place < len(self):
                raise IndexError(f"list index out of range: row {place} of {len(self)}")
            return self.table.row(place % len(self))
        numbers = range(len(self))[place]
        if numbers.step == 1:
            return list(self.table.rows(numbers.start, numbers.stop))
        return [self.table.row(number) for number in numbers]

    def __iter__(self) -> Iterator[Row]:
        """Row by row."""
        return self.table.rows()

    @property
    def epochs(self) -> set[int]:
        """Those that were measured; no row is made for it."""
        return {epoch for epoch, _ in self.table.moments}

    def __eq__(self, other: object) -> bool:
        """Whether the rows are the same; a value that is no number is the same as another such one."""
        return isinstance(other, Sequence) and len(self) == len(other) and all(map(_are_same, self, other))

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        """How much there is."""
        return f"<History of {len(self)} rows>"

    def extend(self, rows: Iterable[Row]) -> None:
        """Add the rows of a measurement.

        Raises:
            ValueError: for an epoch or a step that is none.
        """
        self.table.extend(rows)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write a CSV file, all of it or, should the program die, what was there before.

        Its first line, after ``#``, holds the facts as JSON; ``pandas.read_csv(path, skiprows=1)`` reads the table.
        Text that a spreadsheet would take for a formula stands behind an apostrophe.
        """
        csv_file.write(Path(path), self.table, self.facts)

    def update(self, path: str | os.PathLike[str]) -> None:
        """Bring a CSV file up to date after each measurement: what is new is appended.

        The first time, and where the file or the facts are not those that were written last, it is :meth:`save`.
        """
        self._file.update(Path(path), self.table, self.facts)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> "History":
        """The history in a CSV file; the last line of a program that was killed while it wrote is left out.

        Raises:
            ValueError: if the file is not such a table.
        """
        facts, table = csv_file.read(Path(path))
        return cls.of(table, facts)

    def state_dict(self) -> dict[str, Any]:
        """As tensors and plain Python, with about eight bytes a row."""
        from lightning_infoplane.measurement.packing import pack  # here, for reports read tables without torch

        return {"facts": self.facts.to_json(), "rows": pack(self.table)}

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> "History":
        """Back from :meth:`state_dict`.

        Raises:
            ValueError: for what cannot come from there.
        """
        from lightning_infoplane.measurement.packing import unpack

        return cls.of(unpack(state["rows"]), Facts.from_json(state["facts"]))


def _are_same(row: object, other: object) -> bool:
    """Rows with equal fields, or with a value that is no number in both."""
    if row == other or not (isinstance(row, Row) and isinstance(other, Row)):
        return row == other
    return row[:-1] == other[:-1] and isnan(row.value) and isnan(other.value)
