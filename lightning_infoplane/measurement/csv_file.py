"""The table of a run on disk: a line of facts, then a row a line. It grows by appending.

A cell of text that a spreadsheet would take for a formula stands behind an apostrophe.
"""

import csv
import io
import os
import re
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO, NamedTuple

from lightning_infoplane.measurement.facts import Facts
from lightning_infoplane.measurement.files import replacing
from lightning_infoplane.measurement.rows import Pair
from lightning_infoplane.measurement.table import Key, Table, as_moment

__all__ = ["FACTS_BEGIN", "CsvFile", "read", "write"]

_COLUMNS = ("epoch", "step", "probe", "layer", "to", "quantity", "value")
# How the first line begins.
FACTS_BEGIN = "# "
# Bytes of the longest line that is read: of facts, which name every layer of the chain, and of a row.
_LONGEST_FACTS = 2**26
_LONGEST_ROW = 2**20

_FORMULA = re.compile(r"'*[=+\-@\t\r]")
_QUOTED_FORMULA = re.compile(r"''*[=+\-@\t\r]")
# The facts are JSON, but a spreadsheet sees cells in them too: behind every comma, tab or semicolon.
_FORMULA_IN_FACTS = re.compile(r"(?<=[,;\t])[=+\-@]")


# Device, inode, size and time of the last change: with another of them it is another file, or was edited.
_Identity = tuple[int, int, int, int]


class _Written(NamedTuple):
    """What a file was when it was written last."""

    path: Path
    identity: _Identity
    rows: int
    facts: str


class CsvFile:
    """A file that follows a growing table: what is new is appended, and whatever else happened, it is written anew.

    It knows what it wrote last. Where that is not what is there, because the file is gone, was replaced or edited, or
    because this is a new run or one that goes on, the whole file is replaced at once.
    """

    def __init__(self) -> None:
        self._written: _Written | None = None

    def update(self, path: Path, table: Table, facts: Facts) -> None:
        """Bring the file up to date. It is on the disk when this returns; if it fails, what was there can be read.

        Raises:
            OSError: if it cannot be written.
        """
        written = self._written
        told = _facts_line(facts)
        self._written = None  # should it fail, the next time writes everything
        if written and (written.path, written.facts) == (path, told) and _is(path, written.identity):
            identity = _append(path, "".join(_lines(table, written.rows)).encode())
        else:
            identity = write(path, table, facts)
        self._written = _Written(path, identity, len(table), told)


def write(path: Path, table: Table, facts: Facts) -> _Identity:
    """The whole file at once or, should that fail, what was there before.

    Raises:
        OSError: if it cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as partial:
        with partial.open("x", newline="", encoding="utf-8") as file:
            file.write(f"{_facts_line(facts)}\n{','.join(_COLUMNS)}\r\n")
            file.writelines(_lines(table))
        return _identity(partial.lstat())


def read(path: Path) -> tuple[Facts, Table]:
    """Facts and rows of a file. Of a program that was killed while it wrote, the torn last line is left out.

    Raises:
        ValueError: if the file is not such a table.
    """
    with path.open("rb") as file:
        facts = _read_facts(path, file)
        lines = _Lines(file)
        reader = csv.reader(lines, strict=True)
        header: list[str] = []
        with suppress(ValueError, csv.Error):
            header = next(reader, [])
        if tuple(header) != _COLUMNS:
            raise _no_table(path)
        lines.record.clear()
        table = Table()
        try:
            _add_rows(table, reader, lines)
        except (ValueError, csv.Error) as error:  # the first is of a number, or of letters
            if not (isinstance(error, csv.Error) and lines.end_within_a_name):
                line = lines.count + 1  # after the line of facts
                found = _short(lines.record)
                raise ValueError(f"{path}, line {line}: expected {', '.join(_COLUMNS)}, got {found}.") from None
    return facts, table


# ------------------------------------------------------------------------------------------------------- writing


def _append(path: Path, text: bytes) -> _Identity:
    """At the end, all of it or nothing."""
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0))
    with open(descriptor, "ab", buffering=0) as file:
        size = os.fstat(descriptor).st_size
        try:
            left = memoryview(text)
            while left:  # a full disk takes a part, and fails at the next
                left = left[file.write(left) :]
            os.fsync(descriptor)
        except BaseException:
            with suppress(OSError):  # a torn line is left out on reading
                os.ftruncate(descriptor, size)
            raise
        return _identity(os.fstat(descriptor))


def _identity(found: os.stat_result) -> _Identity:
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns


def _is(path: Path, identity: _Identity) -> bool:
    """Whether a file is there, and the one that was left there."""
    try:
        return _identity(path.lstat()) == identity
    except OSError:
        return False


def _facts_line(facts: Facts) -> str:
    return FACTS_BEGIN + _FORMULA_IN_FACTS.sub(lambda found: f"\\u{ord(found[0]):04x}", facts.to_json())


def _lines(table: Table, start: int = 0) -> Iterator[str]:
    """The lines of the rows from a number on. What names a row is put into cells once for each key."""
    middles: dict[int, str] = {}
    for (epoch, step), begins, ends in table.runs(start):
        for code, value in zip(table.codes[begins:ends], table.values[begins:ends], strict=True):
            if code not in middles:
                middles[code] = _cells(table.keys[code])
            yield f"{epoch},{step},{middles[code]},{value!r}\r\n"


def _cells(key: Key) -> str:
    """Probe, layer, second layer of a pair, quantity."""
    probe, place, quantity = key
    first, second = place if isinstance(place, Pair) else (place, "")
    line = io.StringIO()
    texts = (probe, first, second, quantity)
    csv.writer(line).writerow(f"'{text}" if _FORMULA.match(text) else text for text in texts)
    return line.getvalue().removesuffix("\r\n")


# ------------------------------------------------------------------------------------------------------- reading


class _Lines:
    """Lines of a file as text, without a last one that has no end."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._is_over = False
        self.count = 0
        self.record: list[str] = []  # those that were read since it was cleared

    def __iter__(self) -> Iterator[str]:
        while line := self._file.readline(_LONGEST_ROW):
            if line[-1:] != b"\n" and len(line) < _LONGEST_ROW:
                break
            text = line.decode("utf-8", errors="surrogateescape")
            self.count += 1
            self.record.append(text)
            if line[-1:] != b"\n":
                raise ValueError("no row is so long")
            yield text
        self._is_over = True

    @property
    def end_within_a_name(self) -> bool:
        """Whether a name with a line break is cut off by the end of the file; no such name holds whole rows."""
        return self._is_over and not any(line.count(",") >= len(_COLUMNS) - 1 for line in self.record[1:])


def _read_facts(path: Path, file: BinaryIO) -> Facts:
    head = file.readline(_LONGEST_FACTS)
    if not head.startswith(FACTS_BEGIN.encode()):
        raise _no_table(path)
    try:
        return Facts.from_json(head.decode("utf-8").removeprefix(FACTS_BEGIN).rstrip("\r\n"))
    except UnicodeDecodeError:
        raise _no_table(path) from None
    except ValueError as error:
        raise ValueError(f"{path}, line 1: {error}") from error


def _no_table(path: Path) -> ValueError:
    return ValueError(f"{path}: expected a line of facts, and a table with the columns {', '.join(_COLUMNS)}.")


def _add_rows(table: Table, reader: Iterable[list[str]], lines: _Lines) -> None:
    """Every record as a row; what repeats from row to row is looked at once."""
    codes: dict[tuple[str, ...], int] = {}
    begun = ("", "")
    for cells in reader:
        epoch, step, probe, layer, to, quantity, text = cells
        value = float(text)
        if begun != (epoch, step):
            table.begin(as_moment(int(epoch), int(step)))
            begun = (epoch, step)
        names = (probe, layer, to, quantity)
        if names not in codes:
            codes[names] = table.code(_key(names))
        table.codes.append(codes[names])
        table.values.append(value)
        lines.record.clear()


def _key(cells: tuple[str, str, str, str]) -> Key:
    "".join(cells).encode()  # an error for what is no UTF-8; in numbers it is one already
    probe, layer, to, quantity = (cell[1:] if _QUOTED_FORMULA.match(cell) else cell for cell in cells)
    return probe, Pair(layer, to) if to else layer, quantity


def _short(record: list[str]) -> str:
    """Its cells, or what there is of them, no longer than one can read."""
    try:
        text = str(next(csv.reader(record), []))
    except csv.Error:
        text = "".join(record)
    return text if len(text) <= 200 else f"{text[:200]}…"
