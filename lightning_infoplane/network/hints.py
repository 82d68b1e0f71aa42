"""What to paste where a network cannot be called: suggestions that were tried before they are made."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice, permutations
from typing import Any

import torch
from torch import Tensor, nn

from lightning_infoplane.network.batches import pick
from lightning_infoplane.network.calls import Way, taken_by, ways_to_call
from lightning_infoplane.network.probe import Probe
from lightning_infoplane.network.structures import fields_of, first_tensor, look_up, paths_in, written

__all__ = ["how_to_call"]

# How many of the layers are called so; none where the network cannot be. It is left as it was.
Try = Callable[[nn.Module, Probe, Callable[[nn.Module, Any], Any]], int]

# What torch says of a module that has none.
_NO_FORWARD = ("_forward_unimplemented", 'missing the required "forward" function')
# Suggestions that are tried, each on a few samples, and parts of a network that are looked at.
_TRIED = 60
_PARTS = 8
# For an argument that is missing: a time step or a class, a noise level; a mask that masks nothing, for zeros in its
# place could wipe out the input.
_ZEROS: dict[str, Callable[[Tensor], Any]] = {
    "{x}.new_zeros(len({x}), dtype=torch.long)": lambda x: x.new_zeros(len(x), dtype=torch.long),
    "{x}.new_zeros(len({x}))": lambda x: x.new_zeros(len(x)),
}
_ONES: dict[str, Callable[[Tensor], Any]] = {
    "None": lambda x: None,
    "{x}.new_ones(len({x}))": lambda x: x.new_ones(len(x)),
    "{x}.new_ones(())": lambda x: x.new_ones(()),
}
# Letters of the failure's own words, and tensors named.
_LONGEST_REASON = 200
_SHOWN = 6


def how_to_call(network: nn.Module, probe: Probe, error: Exception, works: Try) -> str:
    """What a network was called with, what it takes, and the argument to paste.

    Args:
        network: that failed.
        probe: whose inputs it was called with.
        error: how it failed.
        works: tries a suggestion: the one that calls the most layers is made.
    """
    reason = str(error).strip().split("\n")[0][:_LONGEST_REASON] or "no reason given"
    named = [
        f"{written('inputs', probe.inputs, path) if path else 'a tensor'} {tuple(tensor.shape)}"
        for path, tensor in paths_in(probe.inputs)
    ]
    held = ", ".join(named[:_SHOWN]) + (", …" if len(named) > _SHOWN else "")
    taken = str(taken_by(network))
    has_forward = not any(words in str(error) for words in _NO_FORWARD)
    if not has_forward:
        reason = "it has no forward of its own"
    what = (
        f"the network cannot be called with the probe's inputs ({type(error).__name__}: {reason}). They are {held}; "
        f"its forward takes {taken}."
    )
    tried = islice(_suggestions(network, probe, has_forward), _TRIED)
    called, found = max(((works(network, one.probe, one.call), one.text) for one in tried), key=_first, default=(0, ""))
    if called:
        return f"{what} Pass {found}."
    return f"{what} Pass forward_fn=lambda module, inputs: module(...), with the call that your training_step makes."


def _first(pair: tuple[int, str]) -> int:
    """The likeliest of several as good is the one that comes first, not in the alphabet."""
    return pair[0]


@dataclass(frozen=True)
class _Suggestion:
    """An argument as text, and what it would do."""

    text: str
    probe: Probe
    call: Callable[[nn.Module, Any], Any]


def _suggestions(network: nn.Module, probe: Probe, has_forward: bool) -> Iterator[_Suggestion]:
    """Likely ones first: the network's own forward by keyword, with another part of the batch, with what is missing.

    Then a part of it, which goes around whatever else its forward does.
    """
    parts = list(islice(_parts(network), _PARTS))
    if has_forward:
        yield from _by_keyword(network, probe)
        yield from _with_fillers(network, probe, "module")
        yield from _of_the_batch(network, probe)
    yield from _of_parts(parts, probe)
    for name, part in parts:
        for one in _with_fillers(part, probe, f"module.{name}"):
            yield replace(one, call=_of_part(name, one.call))


def _parts(network: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """The networks that a module is made of; a single layer is none."""
    for name, child in network.named_children():
        if any(True for _ in child.children()) and not name.isdigit():
            yield name, child


def _of_part(name: str, call: Callable[[nn.Module, Any], Any]) -> Callable[[nn.Module, Any], Any]:
    return lambda module, inputs: call(module.get_submodule(name), inputs)


def _of_parts(parts: Sequence[tuple[str, nn.Module]], probe: Probe) -> Iterator[_Suggestion]:
    """Called in place of the whole, as a training step calls it."""
    for name, part in parts:
        for way in ways_to_call(part, probe.inputs, probe.x):
            text = f"forward_fn=lambda module, inputs: module.{name}({_arguments(way, probe.inputs)})"
            yield _Suggestion(text, probe, _of_part(name, way))


def _arguments(way: Way, inputs: Any) -> str:  # noqa: ANN401
    """The arguments of a call, as one would write them."""
    if way.names:
        return ", ".join(f"{name}={written('inputs', inputs, name)}" for name in way.names)
    return "*inputs" if way.unpacked else written("inputs", inputs, way.path)


def _of_the_batch(network: nn.Module, probe: Probe) -> Iterator[_Suggestion]:
    """Other parts of the batch as inputs and targets."""
    batch = probe.origin.batch
    if batch is None or isinstance(batch, Tensor):
        return
    keys: list[Any] = list(range(len(batch))) if isinstance(batch, list | tuple) else list(fields_of(batch) or {})
    several = isinstance(batch, list | tuple)
    orders = [*permutations(keys, 1), *(permutations(keys, 2) if several else ())]
    for order in orders:
        rest = next((key for key in keys if key not in order), None)
        inputs = order[0] if len(order) == 1 else order
        told = f"inputs={inputs!r}" + ("" if rest is None else f", targets={rest!r}")
        yield from _read_so(network, probe, inputs, told)
    yield from _read_so(network, probe, lambda whole: whole, "inputs=lambda batch: batch")


def _read_so(network: nn.Module, probe: Probe, inputs: Any, told: str) -> Iterator[_Suggestion]:  # noqa: ANN401
    """The batch read in another way."""
    found = pick(probe.origin.batch, "inputs", inputs)
    x = first_tensor(found)
    if x is None or x.shape[:1] != (probe.size,):
        return
    other = Probe(found, None, probe.x) if callable(inputs) else Probe(found)
    for way in ways_to_call(network, found, other.x):
        yield _Suggestion(f"probe=Draw({probe.size}, {told})", other, way)


def _by_keyword(network: nn.Module, probe: Probe) -> Iterator[_Suggestion]:
    """A tensor for a ``forward`` that takes keywords only."""
    required = taken_by(network).required
    if len(required) == 1 and isinstance(probe.inputs, Tensor):
        text = f"forward_fn=lambda module, inputs: module({required[0]}=inputs)"
        yield _Suggestion(text, probe, lambda module, inputs: module(**{required[0]: inputs}))


def _with_fillers(network: nn.Module, probe: Probe, name: str) -> Iterator[_Suggestion]:
    """What is passed, and something that says nothing for one argument that is missing."""
    missing = taken_by(network).required[1:]
    path = next((path for path, tensor in paths_in(probe.inputs) if tensor is probe.x), None)
    if len(missing) != 1 or path is None:
        return
    x = written("inputs", probe.inputs, path)
    fillers = _ONES if "mask" in missing[0] else _ZEROS | _ONES
    for filler, made in fillers.items():

        def call(module: nn.Module, inputs: Any, made: Callable[[Tensor], Any] = made) -> Any:  # noqa: ANN401
            value = look_up(inputs, path) if path else inputs
            return module(value, made(value))

        yield _Suggestion(f"forward_fn=lambda module, inputs: {name}({x}, {filler.format(x=x)})", probe, call)
