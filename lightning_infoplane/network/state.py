"""What a network holds in Python: attributes, containers, generators, helpers; kept, and put back in place.

Everything that a module leads to is walked once, and each thing that can change is noted with its way back. It goes
back into the same object: a list that grew is cut, an attribute that came is taken away. Tensors go back by value.
"""

import sys
import types
import weakref
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from lightning_infoplane.network.containers import Note, note_of_contents, note_of_dict
from lightning_infoplane.network.tensors import Tensors

__all__ = ["State"]

_ABSENT = object()
# Nothing in these can change, or nothing that could be put back.
_ATOMS = frozenset(
    [
        *(type(None), bool, int, float, complex, str, bytes, range, slice, type, type(...), type(NotImplemented)),
        *(types.FunctionType, types.BuiltinFunctionType, types.ModuleType, types.GeneratorType),
        *(weakref.ref, weakref.ProxyType, weakref.CallableProxyType),
        *(torch.dtype, torch.device, torch.Size, torch.layout, torch.memory_format),
    ]
)
_OURS = __name__.partition(".")[0]
# Objects of these packages see to themselves: trainers, loggers, loaders, locks, threads, files.
_FOREIGN = {*sys.stdlib_module_names, "torch", "torchvision", "lightning", "pytorch_lightning", "lightning_fabric"}
_FOREIGN |= {_OURS, "torchmetrics", "numpy", "pandas", "wandb", "mlflow", "comet_ml", "neptune"}
_FOREIGN -= {"builtins", "abc", "typing", "types", "collections", "_collections_abc", "contextlib", "argparse"}
# Whoever holds one of these is at work in other threads or processes, and must not be turned back.
_BUSY = {"_thread", "threading", "_io", "socket", "subprocess", "multiprocessing", "concurrent", "queue", "asyncio"}
# Containers that are nothing else, as most are: the look at their classes would take longer than all the rest.
_BARE = frozenset([dict, OrderedDict, defaultdict, Counter, list, tuple, set, frozenset, deque])
# Beyond so many things (a replay buffer, a vocabulary) the elements of a container go back, not what is in them.
_MANY = 20_000
_LARGEST = 2**28  # bytes: a data set that a module holds is not copied


class State:
    """All that can be put back of a network and of what it holds.

    Args:
        network: any module.
        tables: dictionaries beside it; what is in them is not looked into.

    Example:
        >>> net = nn.Identity()
        >>> net.seen = [1]
        >>> state = State(net)
        >>> net.seen.append(2)
        >>> net.calls = 3
        >>> state.put_back()
        >>> net.seen, hasattr(net, "calls")
        ([1], False)
    """

    def __init__(self, network: nn.Module, *tables: dict[Any, Any]) -> None:
        self.modules: list[nn.Module] = []
        self.tensors = Tensors()
        self._undo: list[Callable[[], object]] = [note_of_dict(table).undo for table in tables]
        self._seen: dict[int, object] = {}  # kept alive: an id is that of a living object
        self._waiting: deque[object] = deque()
        self._room = 10 * _MANY  # in all, modules not counted
        self._enqueue([network])
        while self._waiting:
            self._keep(self._waiting.popleft())

    def holds(self, thing: object) -> bool:
        """Whether this is a part of the network."""
        return id(thing) in self._seen

    def put_back(self) -> None:
        """Undo all that happened since, as far as it can be.

        Raises:
            Exception: the first one met, after everything else has been put back.
        """
        failures = []
        for undo in (*self._undo, self.tensors.put_back):
            try:
                undo()
            except Exception as error:  # a user's class that refuses: the others still want to go back
                failures.append(error)
        if failures:
            raise failures[0]

    def _enqueue(self, things: Iterable[object]) -> int:
        """Those that can change and are not known yet; how many there are."""
        fresh = {id(thing): thing for thing in things if type(thing) not in _ATOMS and id(thing) not in self._seen}
        self._seen.update(fresh)
        self._waiting.extend(fresh.values())
        return len(fresh)

    def _keep(self, thing: Any) -> None:  # noqa: ANN401 - whatever people hold
        kind = type(thing)  # isinstance() would ask the thing itself, which may be a proxy of something else
        if issubclass(kind, Tensor):
            self.tensors.add(thing, _LARGEST)
        elif issubclass(kind, nn.Module):
            self._keep_module(thing)
        elif kind in _BARE or _package(kind) != _OURS:  # ours: a history grows while it is measured
            for note in self._notes_of(thing):
                self._undo.append(note.undo)
                if len(note.held) <= min(_MANY, self._room):
                    self._room -= self._enqueue(note.held)

    def _notes_of(self, thing: Any) -> list[Note]:  # noqa: ANN401
        """Of all but tensors and modules; of objects that answer no questions, none."""
        try:
            notes = [note_of_contents(thing)]
            if type(thing) not in _BARE:
                notes += _notes_of_attributes(thing)
                self._keep_class(type(thing))
        except Exception:  # a proxy of something that is gone, a generator in use: the measurement can do without
            return []
        return notes

    def _keep_class(self, kind: type) -> None:
        """Attributes that a class shares among its objects, where it is somebody's own."""
        for one in kind.__mro__:
            if not self.holds(one):
                self._seen[id(one)] = one
                if _is_plain(one) and _package(one) not in sys.stdlib_module_names:
                    note = _note_of_class(one)
                    self._undo.append(note.undo)
                    self._enqueue(note.held)

    def _keep_module(self, module: nn.Module) -> None:
        """Its class, which a lazy module changes, and its attributes; what is registered in it, however large."""
        self.modules.append(module)
        self._keep_class(type(module))
        attributes = vars(module)
        hooks = [table for name, table in attributes.items() if name.endswith("_hooks") and isinstance(table, dict)]
        self._undo += [note_of_dict(table).undo for table in hooks]  # others' objects may be in there
        self._seen.update((id(table), table) for table in hooks)
        for name in ("_parameters", "_buffers"):
            for tensor in attributes.get(name, {}).values():
                if tensor is not None and not self.holds(tensor):
                    self._seen[id(tensor)] = tensor
                    self.tensors.add(tensor)
        notes = [Note(partial(_put_back_class, module, type(module))), note_of_dict(attributes)]
        if isinstance(module, torch.jit.ScriptModule):
            notes.append(_note_of_script(module))
        for note in notes:
            self._undo.append(note.undo)
            self._enqueue(note.held)


def _put_back_class(module: nn.Module, kind: type[nn.Module]) -> None:
    if type(module) is not kind:
        module.__class__ = kind


def _note_of_class(kind: type) -> Note:
    def data() -> dict[str, object]:
        return {
            name: value
            for name, value in vars(kind).items()
            if not (name.startswith(("__", "_abc_")) or isinstance(value, type) or hasattr(type(value), "__get__"))
        }

    before = data()

    def undo() -> None:
        now = data()
        for name in now.keys() - before.keys():
            type.__delattr__(kind, name)
        for name, value in before.items():
            if now.get(name, _ABSENT) is not value:
                type.__setattr__(kind, name, value)

    return Note(undo, list(before.values()))


def _notes_of_attributes(thing: object) -> Iterator[Note]:
    """Of a plain object: of a class of somebody's own, that no other thread is at work with."""
    if isinstance(thing, type) or not all(_is_plain(kind) for kind in type(thing).__mro__):
        return
    attributes = getattr(thing, "__dict__", None)
    if type(attributes) is dict:
        if any(_package(type(value)) in _BUSY for value in attributes.values()):
            return
        yield note_of_dict(attributes)
    slots = {
        slot: slot.__get__(thing) if _is_filled(slot, thing) else _ABSENT
        for kind in type(thing).__mro__
        if "__slots__" in vars(kind)
        for slot in vars(kind).values()
        if isinstance(slot, types.MemberDescriptorType)
    }
    if slots:
        yield Note(partial(_put_back_slots, thing, slots), list(slots.values()))


def _is_plain(kind: type) -> bool:
    return _package(kind) not in _FOREIGN


def _package(kind: type) -> str:
    return str(kind.__module__).partition(".")[0]


def _is_filled(slot: types.MemberDescriptorType, thing: object) -> bool:
    try:
        slot.__get__(thing)
    except AttributeError:
        return False
    return True


def _put_back_slots(thing: object, slots: dict[types.MemberDescriptorType, object]) -> None:
    """Past the class's own ``__setattr__``: it may be frozen."""
    for slot, value in slots.items():
        if value is not _ABSENT:
            slot.__set__(thing, value)
        elif _is_filled(slot, thing):
            slot.__delete__(thing)


def _note_of_script(module: torch.jit.ScriptModule) -> Note:
    """Of TorchScript: what it holds is not in Python, and comes by name, containers as copies."""
    core = module._c
    names = torch._C.ConcreteModuleType.from_jit_type(core._type()).get_attributes()  # type: ignore[attr-defined]
    values = {name: core.getattr(name) for name in names}
    known = {
        name: value
        for name, value in values.items()
        if value is None or isinstance(value, Tensor | bool | int | float | str | list | tuple | dict)
    }

    def undo() -> None:
        for name, value in known.items():
            if core.getattr(name) is not value:
                core.setattr(name, value)

    return Note(undo, [*values.values(), *module.children()])
