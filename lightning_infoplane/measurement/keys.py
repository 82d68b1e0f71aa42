"""What a row is logged under, and what a logged key says."""

import posixpath
import re
from collections.abc import Iterable
from hashlib import sha256
from typing import NamedTuple

from lightning_infoplane.measurement.quantities import by_key, known_keys
from lightning_infoplane.measurement.quantity import Logged, Of
from lightning_infoplane.measurement.rows import BETWEEN, Pair, Place, Row

__all__ = ["Key", "file_name", "key_of", "key_prefix", "log_key", "logged_rows", "read_key"]

# MLflow is the strictest: other characters would be dropped there, and two layers could become one.
_FORBIDDEN = re.compile(r"[^A-Za-z0-9_./-]")
# How a name ends that was changed, and so no other one may.
_CHANGED = re.compile(r"--[0-9a-f]{8}$")
# Letters of a file's name: with what we put before and behind them they stay below the 255 that a name may have.
_LONGEST_FILE_NAME = 200
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

    A part in other characters, or which is no path below the one before, is changed, and ends in a number that is its
    own: no two parts become one.

    Example:
        >>> log_key("train", "I_XT", "layer.1"), log_key("a layer (1)"), log_key("a_layer__1_")
        ('train/I_XT/layer.1', 'a_layer__1_--a1cb6550', 'a_layer__1_')
    """
    return "/".join(_clean(part) for part in parts if part)


def key_prefix(prefix: str) -> str:
    """What keys begin with; where it says something, with a slash at the end, so that a key can be taken apart.

    Example:
        >>> key_prefix("mine"), key_prefix("a/b/"), key_prefix("")
        ('mine/', 'a/b/', '')
    """
    cleaned = log_key(prefix.removesuffix("/"))
    return f"{cleaned}/" if cleaned else ""


def key_of(row: Row, prefix: str = "") -> str:
    """The key that a row is logged under: ``{prefix}{probe/}{quantity}/{place}``.

    Example:
        >>> key_of(Row(0, 0, "val", Pair("0", "2"), "DPI_XT", 0.5))
        'val/DPI_XT/0-to-2'
    """
    layers = row.place if isinstance(row.place, Pair) else (row.place,)
    # Within a pair, a layer whose name has the word in it would be taken for two.
    place = BETWEEN.join(_clean(layer, len(layers) > 1 and BETWEEN in layer) for layer in layers if layer)
    parts = (log_key(row.probe), log_key(row.quantity), place)
    return key_prefix(prefix) + "/".join(part for part in parts if part)


def file_name(key: str) -> str:
    """A key as the name of one file or folder, without ending: no path, and not too long.

    Example:
        >>> file_name(log_key("features.0")), file_name(log_key("a/b")), len(file_name(1000 * "a"))
        ('features.0', 'a_b--c14cddc0', 200)
    """
    name = key.replace("/", "_")
    if name == key and len(name) <= _LONGEST_FILE_NAME:
        return name
    mark = _mark(key)
    return name[: _LONGEST_FILE_NAME - len(mark)] + mark


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
        if not (first and between and second):
            return None
        place = Pair(first, second)
    return Key("/".join(head), probe, place, match["quantity"])


def _clean(name: str, is_ambiguous: bool = False) -> str:
    """A name as part of a key: as it is, or changed."""
    kept = _FORBIDDEN.sub("_", name)
    # Loggers that keep files refuse what leads out of their folder, or what could be written shorter.
    if kept.startswith(("/", "..")) or posixpath.normpath(kept) != kept or kept == ".":
        kept = kept.replace("/", "_")
    if kept == name and not is_ambiguous and kept.strip(".") and not _CHANGED.search(name):
        return name
    return kept + _mark(name)


def _mark(name: str) -> str:
    """By which names that look the same after a change are told apart."""
    return f"--{sha256(name.encode('utf-8', 'surrogatepass')).hexdigest()[:8]}"
