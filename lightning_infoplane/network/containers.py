"""Containers, generators and counters that a network holds: how each is put back, and what it holds itself."""

import array
import itertools
import random
import sys
import warnings
from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from copy import copy
from functools import partial
from operator import is_
from types import MethodType
from typing import Any, NamedTuple

import torch

from lightning_infoplane.network.tensors import is_sharded

__all__ = ["Note", "note_of_contents", "note_of_dict"]

_LARGEST = 2**28  # bytes: an array that large is a data set, and is not copied
_COUNTERS = {itertools.count, itertools.cycle, *map(type, (iter([]), iter(()), iter(range(0)), iter(""), iter({})))}


class Note(NamedTuple):
    """How a thing is put back, and what it holds."""

    undo: Callable[[], object]
    held: Sequence[object] = ()


_NOTHING = Note(lambda: None)


def note_of_contents(thing: Any) -> Note:  # noqa: ANN401 - whatever people hold
    """Of a container or a generator; of anything else there is nothing to put back.

    Example:
        >>> held = {"seen": 1}
        >>> note = note_of_contents(held)
        >>> held |= {"seen": 2, "new": 3}
        >>> note.undo()
        >>> held
        {'seen': 1}
    """
    for kind, note_of in _KINDS.items():
        if isinstance(thing, kind):
            return note_of(thing)
    numpy = sys.modules.get("numpy")  # never imported: nobody holds anything of it
    return _note_of_numpy(thing, numpy) if numpy else _NOTHING


def note_of_dict(held: dict[Any, Any]) -> Note:
    """By the methods of the base class: a user's own may do more. Order counts."""
    base: Any = OrderedDict if isinstance(held, OrderedDict) else dict
    if not base.__len__(held):
        return Note(partial(base.clear, held))
    keys = list(base.keys(held))
    values = list(base.values(held))
    for key, value in zip(keys, values, strict=True):
        if type(value) in _COUNTERS:
            base.__setitem__(held, key, _stand_in(value))
    return Note(partial(_put_back_dict, base, held, keys, values), values)


def _put_back_dict(base: Any, held: dict[Any, Any], keys: list[Any], values: list[Any]) -> None:  # noqa: ANN401
    if _same(list(base.values(held)), values) and _same(list(base.keys(held)), keys):
        return
    if not _same(list(base.keys(held)), keys):
        base.clear(held)
        for key, value in zip(keys, values, strict=True):
            base.__setitem__(held, key, value)
        return
    for key, value, now in zip(keys, values, list(base.values(held)), strict=True):
        # Sharded training swaps a parameter for the gathered one, and knows itself when to swap back.
        if now is not value and not (is_sharded(now) or is_sharded(value)):
            base.__setitem__(held, key, value)


def _same(now: Sequence[object], before: Sequence[object]) -> bool:
    """The very same things in the same order."""
    return len(now) == len(before) and all(map(is_, now, before))


def _note_of_list(held: list[Any]) -> Note:
    before = list(held)
    for place, value in enumerate(before):
        if type(value) in _COUNTERS:
            list.__setitem__(held, place, _stand_in(value))

    def undo() -> None:
        if not _same(held, before):
            list.__setitem__(held, slice(None), before)

    return Note(undo, before)


def _note_of_deque(held: deque[Any]) -> Note:
    before = list(held)

    def undo() -> None:
        if not _same(list(held), before):
            deque.clear(held)
            deque.extend(held, before)

    return Note(undo, before)


def _note_of_set(held: set[Any]) -> Note:
    before = set.copy(held)

    def undo() -> None:
        if set(map(id, held)) != set(map(id, before)):
            set.clear(held)
            set.update(held, before)

    return Note(undo, list(before))


def _note_of_numbers(held: Any) -> Note:  # noqa: ANN401 - a bytearray or an array
    before = held[:]

    def undo() -> None:
        if held != before:
            held[:] = before

    return Note(undo)


def _note_of_random(held: random.Random) -> Note:
    if isinstance(held, random.SystemRandom):
        return _NOTHING  # has no state
    return Note(partial(held.setstate, held.getstate()))


def _note_of_torch_generator(held: torch.Generator) -> Note:
    return Note(partial(held.set_state, held.get_state()))


def _note_of_numpy(thing: Any, numpy: Any) -> Note:  # noqa: ANN401
    """Of an array, or of a generator of either kind."""
    if isinstance(thing, numpy.random.Generator):
        return Note(lambda: None, [thing.bit_generator])
    if isinstance(thing, numpy.random.BitGenerator):
        return Note(partial(setattr, thing, "state", thing.state))
    if isinstance(thing, numpy.random.RandomState):
        return Note(partial(thing.set_state, thing.get_state(legacy=False)))
    ours = isinstance(thing, numpy.ndarray) and not isinstance(thing, numpy.memmap)  # that is a file
    if not ours or not thing.flags.writeable or thing.nbytes > _LARGEST:
        return _NOTHING
    return Note(partial(numpy.copyto, thing, thing.copy()))


def _stand_in(counter: Any) -> Any:  # noqa: ANN401 - an iterator
    """A copy that is used up in place of the counter, which cannot be turned back."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # itertools, from Python 3.12 on
            if not isinstance(counter, itertools.cycle):
                return copy(counter)
            reduced: Any = counter.__reduce__()
            _, (rest,), (gathered, repeated) = reduced
            twin = itertools.cycle(copy(rest))
            twin.__setstate__((list(gathered), repeated))  # type: ignore[attr-defined]
            return twin
    except (TypeError, AttributeError, ValueError):  # from Python 3.14 on there are no copies of itertools
        return counter


_KINDS: dict[type, Callable[[Any], Note]] = {
    dict: note_of_dict,
    list: _note_of_list,
    tuple: lambda held: Note(lambda: None, held),
    set: _note_of_set,
    frozenset: lambda held: Note(lambda: None, list(held)),
    deque: _note_of_deque,
    bytearray: _note_of_numbers,
    array.array: _note_of_numbers,
    MethodType: lambda held: Note(lambda: None, [held.__self__]),
    partial: lambda held: Note(lambda: None, [held.func, *held.args, *held.keywords.values()]),
    random.Random: _note_of_random,
    torch.Generator: _note_of_torch_generator,
}
