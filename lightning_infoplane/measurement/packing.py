"""The rows of a history as a few tensors for a checkpoint: hardly more than the eight bytes of a value."""

import zlib
from array import array
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from lightning_infoplane.measurement.rows import Pair, Place
from lightning_infoplane.measurement.table import Key, Table, as_moment

__all__ = ["pack", "unpack"]


def pack(table: Table) -> dict[str, Any]:
    """Tensors and plain Python, which are copies: values bit for bit, a code a row, a moment for all of its rows.

    Example:
        >>> from lightning_infoplane.measurement.rows import Row
        >>> table = Table([Row(0, 0, "", "conv", "H_T", 1.5), Row(4, 32, "", "conv", "H_T", 2.5)])
        >>> packed = pack(table)
        >>> packed["names"], packed["keys"].tolist(), packed["moments"].tolist()
        (['', 'conv', 'H_T'], [[0, 1, -1, 2]], [[0, 0, 0], [4, 32, 1]])
        >>> list(unpack(packed).rows()) == list(table.rows())
        True
    """
    numbers: dict[str, int] = {}
    keys = [[_number(text, numbers) for text in _texts(key)] for key in table.keys]
    moments = [(epoch, step, start) for (epoch, step), start in zip(table.moments, table.starts, strict=True)]
    return {
        "values": _as_tensor(table.values, torch.float64),
        "codes": _pack_codes(table.codes),
        "moments": torch.tensor(moments, dtype=torch.int64, device="cpu").reshape(-1, 3),
        "keys": torch.tensor(keys, dtype=torch.int32, device="cpu").reshape(-1, 4),
        "names": list(numbers),
    }


def unpack(packed: Mapping[str, Any]) -> Table:
    """Back from :func:`pack`.

    Raises:
        ValueError: for what cannot come from there.
    """
    table = Table()
    try:
        names = [*map(str, packed["names"])]
        for numbers in packed["keys"].tolist():
            table.code(_key([None if number < 0 else names[number] for number in numbers]))
        values = packed["values"]
        table.values = array("d", bytes(8 * len(values)))
        _copy(values, table.values, torch.float64)
        table.codes = _unpack_codes(packed["codes"], len(values), len(table.keys))
        for epoch, step, start in packed["moments"].tolist():
            table.moments.append(as_moment(epoch, step))
            table.starts.append(start)
    except (KeyError, IndexError, TypeError, AttributeError, RuntimeError, zlib.error) as error:
        raise _damaged(f"{type(error).__name__}: {error}") from error
    starts = [*table.starts, len(table)]
    if starts[0] != 0 or starts != sorted(starts):
        raise _damaged("moments without rows")
    return table


def _pack_codes(codes: "array[int]") -> Tensor:
    """Keys are numbered as they come, so a code is mostly one more than the one before: differences are mostly 0."""
    steps = array("i", bytes(4 * len(codes)))
    if codes:
        _copy(torch.diff(_as_tensor(codes, torch.int32), prepend=torch.tensor([-1], device="cpu")) - 1, steps)
    return _as_tensor(bytearray(zlib.compress(steps, 1)), torch.uint8)


def _unpack_codes(packed: Tensor, rows: int, keys: int) -> "array[int]":
    compressed = bytearray(len(packed))
    _copy(packed, compressed, torch.uint8)
    # No longer than it must be, whatever the checkpoint says.
    steps = zlib.decompressobj().decompress(compressed, 4 * rows + 1)
    if len(steps) != 4 * rows:
        raise _damaged(f"{rows} values and {len(steps) // 4} codes")
    codes = array("i", steps)
    if rows:
        found = torch.cumsum(_as_tensor(codes, torch.int32) + 1, 0) - 1
        if not 0 <= int(found.min()) <= int(found.max()) < keys:
            raise _damaged("codes without a key")
        _copy(found, codes)
    return codes


def _as_tensor(numbers: Any, dtype: torch.dtype) -> Tensor:  # noqa: ANN401 - an array or bytes
    """A copy: an array that lends its memory could not grow."""
    return torch.frombuffer(numbers, dtype=dtype).clone() if numbers else torch.empty(0, dtype=dtype, device="cpu")


def _copy(source: Tensor, into: Any, dtype: torch.dtype = torch.int32) -> None:  # noqa: ANN401
    if into:
        torch.frombuffer(into, dtype=dtype).copy_(source)


def _number(text: str | None, numbers: dict[str, int]) -> int:
    return -1 if text is None else numbers.setdefault(text, len(numbers))


def _texts(key: Key) -> tuple[str | None, ...]:
    """Probe, layer, second layer of a pair, quantity."""
    probe, place, quantity = key
    return (probe, *place, quantity) if isinstance(place, Pair) else (probe, place, None, quantity)


def _key(texts: list[str | None]) -> Key:
    probe, layer, to, quantity = map(str, [text or "" for text in texts])
    place: Place = layer if texts[2] is None else Pair(layer, to)
    return probe, place, quantity


def _damaged(how: str) -> ValueError:
    return ValueError(f"expected the rows of a history as packed by this version, got {how}.")
