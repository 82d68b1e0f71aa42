"""What a row is logged under, and what a logged key says."""

import re
from collections.abc import Iterable
from typing import NamedTuple

from lightning_infoplane.measurement.quantities import by_key, known_keys
from lightning_infoplane.measurement.quantity import Logged, Of
from lightning_infoplane.measurement.rows import BETWEEN, Pair, Place, Row

__all__ = ["Key", "key_of", "log_key", "logged_rows", "read_key"]

# MLflow is the strictest: other characters would be dropped there, and two layers could become one.
_FORBIDDEN = re.compile(r"[^A-Za-z0-9_./-]")
_PROBES = ("train", "val")
_KEY = re.compile(rf"(?P<head>(?:[^/]+/)*?)(?P<quantity>{'|'.join(map(re.escape, known_keys()))})(?:/(?P<place>.+))?")


class Key(NamedTuple):
    """What a logged key says."""

    prefix: str
    probe: str
    place: Place
    quantity: str


def log_key(*parts: str) -> str:
    """Parts of a key, joined, in the characters that every logger accepts.

    Example:
        >>> log_key("train", "I_XT", "a layer (1)")
        'train/I_XT/a_layer__1_'
    """
    return _FORBIDDEN.sub("_", "/".join(part for part in parts if part))


def key_of(row: Row, prefix: str = "") -> str:
    """The key that a row is logged under: ``{prefix}{probe/}{quantity}/{place}``.

    Example:
        >>> key_of(Row(0, 0, "val", Pair("0", "2"), "DPI_XT", 0.5))
        'val/DPI_XT/0-to-2'
    """
    return log_key(prefix) + log_key(row.probe, row.quantity, str(row.place))


def logged_rows(rows: Iterable[Row], log: str = "main") -> list[Row]:
    """The rows that go to the loggers: the main ones, or ``"all"``.

    Example:
        >>> rows = [Row(0, 0, "", "conv", "I_XT", 1.5), Row(0, 0, "", "", "log2_n", 9.0)]
        >>> [row.quantity for row in logged_rows(rows)]
        ['I_XT']
    """
    wanted = (Logged.MAIN,) if log == Logged.MAIN.value else (Logged.MAIN, Logged.ALL)
    return [row for row in rows if by_key(row.quantity).logged in wanted]


def read_key(key: str) -> Key | None:
    """What a logged key says, or None for a key of others.

    Example:
        >>> read_key("mine/train/DPI_XT/0-to-2")
        Key(prefix='mine', probe='train', place=Pair(first='0', second='2'), quantity='DPI_XT')
    """
    match = _KEY.fullmatch(key)
    if match is None or (by_key(match["quantity"]).of is Of.PROBE) != (match["place"] is None):
        return None
    head = match["head"].split("/")[:-1]
    probe = head.pop() if head and head[-1] in _PROBES else ""
    place: Place = match["place"] or ""
    if by_key(match["quantity"]).of is Of.PAIR:
        first, between, second = str(place).partition(BETWEEN)
        if not between:
            return None
        place = Pair(first, second)
    return Key("/".join(head), probe, place, match["quantity"])
