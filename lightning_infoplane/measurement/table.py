"""Rows held by column: twelve bytes a row, which is made again when somebody looks at it."""

from array import array
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from operator import index

from lightning_infoplane.measurement.rows import Place, Row

__all__ = ["Key", "Moment", "Table", "as_moment"]

# Epoch and step.
Moment = tuple[int, int]
# Probe, place and quantity: whose numbers make a curve.
Key = tuple[str, Place, str]

# No run counts further; what does is damaged, and would overflow in checkpoints and pictures.
_LATEST = 10**15


class Table:
    """The columns of a history. They only ever grow.

    Attributes:
        keys: what was measured, in the order of its first appearance.
        codes: of each row, the place of its key among the keys.
        values: of each row.
        moments: when it was measured; rows of one moment stand together.
        starts: how many rows there were before each moment.

    Example:
        >>> table = Table([Row(0, 0, "", "", "H_X", 1.5), Row(1, 8, "", "", "H_X", 1.25)])
        >>> table.keys, list(table.values), table.moments, table.starts
        ([('', '', 'H_X')], [1.5, 1.25], [(0, 0), (1, 8)], [0, 1])
    """

    def __init__(self, rows: Iterable[Row] = ()) -> None:
        self.keys: list[Key] = []
        self.codes = array("i")
        self.values = array("d")
        self.moments: list[Moment] = []
        self.starts: list[int] = []
        self._known: dict[Key, int] = {}
        self.extend(rows)

    def __len__(self) -> int:
        """How many rows."""
        return len(self.values)

    def code(self, key: Key) -> int:
        """The number of a key, a new one if it has none."""
        if key not in self._known:
            self._known[key] = len(self.keys)
            self.keys.append(key)
        return self._known[key]

    def begin(self, moment: Moment) -> None:
        """What is added next is of this moment."""
        if self.starts and self.starts[-1] == len(self):  # of the one before there is nothing
            self.starts.pop()
            self.moments.pop()
        if not self.moments or self.moments[-1] != moment:
            self.moments.append(moment)
            self.starts.append(len(self))

    def extend(self, rows: Iterable[Row]) -> None:
        """Add rows; all of them or, should one be none, nothing.

        Raises:
            ValueError: for an epoch or a step that is none.
        """
        rows = list(rows)
        values = array("d", [row.value for row in rows])
        moments = {(row.epoch, row.step): as_moment(row.epoch, row.step) for row in rows}
        for row, value in zip(rows, values, strict=True):
            self.begin(moments[row.epoch, row.step])
            self.codes.append(self.code((row.probe, row.place, row.quantity)))
            self.values.append(value)

    def runs(self, start: int = 0) -> Iterator[tuple[Moment, int, int]]:
        """Each moment with the number of its first row and that after its last, from row ``start`` on."""
        first = max(0, bisect_right(self.starts, start) - 1)
        ends = [*self.starts[first + 1 :], len(self)]
        for moment, begins, end in zip(self.moments[first:], self.starts[first:], ends, strict=False):
            yield moment, max(start, begins), end

    def rows(self, start: int = 0, stop: int | None = None) -> Iterator[Row]:
        """Rows from one number to another."""
        stop = len(self) if stop is None else stop
        for (epoch, step), begins, ends in self.runs(start):
            if begins >= stop:
                return
            part = slice(begins, min(ends, stop))
            for code, value in zip(self.codes[part], self.values[part], strict=True):
                probe, place, quantity = self.keys[code]
                yield Row(epoch, step, probe, place, quantity, value)

    def rows_of(self, moment: Moment) -> list[Row]:
        """All rows of a moment."""
        runs = [(start, end) for when, start, end in self.runs() if when == moment]
        return [row for start, end in runs for row in self.rows(start, end)]

    def row(self, number: int) -> Row:
        """One row, counted from 0."""
        epoch, step = self.moments[bisect_right(self.starts, number) - 1]
        return Row(epoch, step, *self.keys[self.codes[number]], self.values[number])


def as_moment(epoch: int, step: int) -> Moment:
    """Epoch and step, if they can be such.

    Raises:
        ValueError: if they cannot.
    """
    moment = (index(epoch), index(step))
    if not all(0 <= number <= _LATEST for number in moment):
        raise ValueError(f"epoch {epoch} and step {step}: expected whole numbers from 0 to 10**15.")
    return moment
