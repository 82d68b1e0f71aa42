"""Which layers feed which, by intervention: every layer is held, a few are changed, and who hears of it is seen.

No signal has to come through a deep network for that: from one layer that is held to the next is all the way it goes.
So nothing is too faint to be heard, no rounding adds up, and numbers of any size can stand in for what layers put out.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor

from lightning_infoplane.network.copies import MixedSamplesError, side_by_side
from lightning_infoplane.network.digests import TOLERANCE, Digest, weights_for
from lightning_infoplane.network.reader import Reader

__all__ = ["INPUTS", "Run", "StandIns", "Watcher", "feeding", "same", "stand_ins"]

# A forward pass on some inputs that shows ``visit(name, output)`` what each layer puts out; what it returns, unless
# None, goes on in its place.
Run = Callable[[Any, Callable[[str, Any], Any]], object]

# What is changed in a copy: a layer, by its number, the inputs, or nothing.
INPUTS = -1
_NOTHING = -2


@dataclass(frozen=True)
class Watcher:
    """Forward passes in which what a reader reads of the layers is seen and replaced."""

    run: Run
    reader: Reader

    def read(self, name: str, output: Any, inputs: Any, n: int) -> Tensor | None:  # noqa: ANN401
        """What is measured of an output; an odd one costs none but its own layer."""
        try:
            value = self.reader.read(name, output, inputs, n)
        except Exception:  # the measurement will say what is wrong with it
            return None
        is_sound = value is not None and value.ndim and len(value) == n and value.numel() and value.is_floating_point()
        return value if is_sound else None

    def write(self, name: str, output: Any, inputs: Any, n: int, value: Tensor) -> Any:  # noqa: ANN401
        """The output with that replaced; None where it cannot be."""
        try:
            return self.reader.write(name, output, inputs, n, value)
        except Exception:
            return None

    def outputs_on(self, inputs: Any, n: int) -> dict[str, Tensor]:  # noqa: ANN401
        """What layers put out, in order of execution."""
        seen: dict[str, Tensor] = {}

        def visit(name: str, output: object) -> None:
            value = self.read(name, output, inputs, n)
            if value is not None:
                seen[name] = value.clone()  # an in-place activation downstream must not spoil the note

        self.run(inputs, visit)
        return seen


class StandIns(NamedTuple):
    """What a layer is held at, on a few samples, and what is put there to see who hears of it."""

    held: Tensor
    changed: Tensor


def stand_ins(on_x: Mapping[str, Tensor], on_z: Mapping[str, Tensor], noise: bool) -> dict[str, StandIns]:
    """What layers put out on some samples, and on others.

    Args:
        on_x: by layer, a few samples.
        on_z: as many others.
        noise: random numbers of unit size in every second row of both. What layers put out before training may be too
            small to be heard beside the biases, shut a gate, leave all rectifiers dead. Noise does not.
    """
    generator = torch.Generator().manual_seed(0)

    def stand_in(one: Tensor, other: Tensor) -> StandIns:
        if not noise:
            return StandIns(one, other)
        held = one.clone()
        changed = other.clone()
        drawn, again = torch.randn(2, *held[1::2].shape, generator=generator).to(held)
        # A unit that is below zero is above it once it is changed: of a few rectifiers none is dead both times.
        again[::2] = -1.5 * drawn[::2]
        held[1::2] = drawn
        changed[1::2] = again
        return StandIns(held, changed)

    return {name: stand_in(value, on_z[name]) for name, value in on_x.items()}


def feeding(
    watcher: Watcher,
    x: Any,  # noqa: ANN401
    z: Any,  # noqa: ANN401
    n: int,
    layers: Mapping[str, StandIns],
    count: int,
) -> Tensor:
    """Who feeds whom: a way leads from one to the other on which no other layer is.

    All layers are held in all passes. Each pass is of ``count`` copies of the samples side by side, each with a layer
    changed, and the last with none. Compared is with the same place in a batch of the same size in which nothing was
    changed, bit for bit: at another place, or in a batch of another size, kernels round in another way. Where a layer
    is not the same twice, or is not held bit for bit, tolerance is needed.

    Args:
        watcher: of forward passes.
        x: a few samples.
        z: as many others.
        n: how many.
        layers: what they are held at and changed to, in order of execution.
        count: copies in a pass. With one there is a pass for each layer.

    Returns:
        Truth values ``(1 + layers, layers)``: who is fed by the inputs, and by each layer.

    Raises:
        MixedSamplesError: if what happens to one copy is seen in another, or copies cannot be told apart.
    """
    held = _Held(watcher, list(layers), list(layers.values()), n, count)
    held.see_nothing_changed(side_by_side(x, z, [True] * count, n))
    alone = count == 1
    if not alone:
        held.try_both(x, z)
    # In random order: what spreads to the copies beside it must not look like what comes later in the network.
    order = torch.randperm(len(layers), generator=torch.Generator().manual_seed(0)).tolist()
    changes = [INPUTS, *(i for i in order if held.names[i] not in held.refused)]
    step = max(count - 1, 1)
    parts = [changes[start : start + step] for start in range(0, len(changes), step)]
    found: list[Tensor] = []
    whom: list[int] = []
    for part in ([[_NOTHING]] if alone else []) + parts:
        full = part + [_NOTHING] * (count - len(part))
        heard = held.see(side_by_side(x, z, [one != INPUTS for one in full], n), full)
        nothing = torch.tensor([one == _NOTHING for one in full])
        _check(alone or not bool(heard[:, 1, nothing].any()))
        found.append(heard)
        whom += full
    return _fed(torch.cat(found, 2), whom, held.is_exact, alone)


def _fed(heard: Tensor, whom: Sequence[int], exact: bool, alone: bool) -> Tensor:
    """From who heard what ``(layers, 2, copies)``, bit for bit and with tolerance, to who feeds whom."""
    nothing = torch.tensor([one == _NOTHING for one in whom])
    steady = exact & ~heard[:, 0, nothing].any(1, keepdim=True)
    differs = torch.where(steady, heard[:, 0], heard[:, 1])
    fed = torch.zeros(1 + len(heard), len(heard), dtype=torch.bool)
    fed[0] = heard[:, 1, nothing].any(1)  # by something that changes by itself: all ways lead there
    for copy, one in enumerate(whom):
        if one == INPUTS:
            fed[0] |= differs[:, copy]
        elif one != _NOTHING:
            before = differs[: one + 1, copy]
            _check(alone or not bool(before.any()))
            fed[0, : one + 1] |= before  # the order of calls depends on the samples
            fed[1 + one, one + 1 :] = differs[one + 1 :, copy]
    return fed


def _check(apart: bool) -> None:
    if not apart:
        raise MixedSamplesError("the network mixes the samples of a batch.")


@dataclass
class _Held:
    """A network with its layers held."""

    watcher: Watcher
    names: list[str]
    layers: list[StandIns]
    n: int
    count: int
    refused: set[str] = field(default_factory=set)
    is_exact: bool = True
    _before: dict[str, Digest] = field(default_factory=dict)
    _weights: dict[torch.device, Tensor] = field(default_factory=dict)

    def see_nothing_changed(self, inputs: Any) -> None:  # noqa: ANN401
        """The pass that all others are compared with."""

        def visit(name: str, output: object, value: Tensor, place: int) -> object:
            self._before[name] = self._digest(value)
            instead = self._stand_in(place, [])
            written = self.watcher.write(name, output, inputs, self.size, instead)
            if written is None:
                self.refused.add(name)
            else:
                self.is_exact &= self._is_exact(name, written, inputs, instead)
            return written

        self._pass(inputs, visit)
        if self.count > 1 and len(self._before) < len(self.names):
            raise MixedSamplesError("copies of the samples cannot be told apart in what layers put out.")

    def try_both(self, x: Any, z: Any) -> None:  # noqa: ANN401
        """Copies of which all is changed must be beside others what they are among themselves, and so must the others.

        Raises:
            MixedSamplesError: if they are not.
        """
        after: dict[str, Digest] = {}
        everywhere = range(self.count)

        def visit(name: str, output: object, value: Tensor, place: int) -> object:
            after[name] = self._digest(value)
            return self._write(name, output, inputs, place, everywhere)

        inputs = side_by_side(x, z, [False] * self.count, self.n)
        self._pass(inputs, visit)
        # In no order: what mixes samples, even two by two, shows in one that is unlike its like.
        generator = torch.Generator().manual_seed(0)
        some = (torch.rand(self.count - 2, generator=generator) < 0.5).tolist()
        is_changed = torch.tensor([True, *some, False])
        copies = is_changed.nonzero().flatten().tolist()
        unlike: dict[str, Tensor] = {}

        def compare(name: str, output: object, value: Tensor, place: int) -> object:
            like_changed = self._differences(after.get(name), value)
            like_held = self._differences(self._before.get(name), value)
            unlike[name] = torch.where(is_changed.to(value.device), like_changed, like_held)
            return self._write(name, output, inputs, place, copies)

        inputs = side_by_side(x, z, (~is_changed).tolist(), self.n)
        self._pass(inputs, compare)
        _check(not bool(self._gathered(unlike)[:, 1].any()))

    def see(self, inputs: Any, whom: Sequence[int]) -> Tensor:  # noqa: ANN401
        """Which copies of each layer are not what they were, bit for bit and beyond the tolerance.

        Truth values ``(layers, 2, count)``. Who is not called has heard.
        """
        heard: dict[str, Tensor] = {}

        def visit(name: str, output: object, value: Tensor, place: int) -> object:
            heard[name] = self._differences(self._before.get(name), value)
            copies = [copy for copy, one in enumerate(whom) if one == place]
            return self._write(name, output, inputs, place, copies)

        self._pass(inputs, visit)
        return self._gathered(heard)

    def _gathered(self, found: Mapping[str, Tensor]) -> Tensor:
        """Of all layers ``(layers, 2, count)``, on the host, which waits for a device once; true of who is missing."""
        missing = torch.ones(2, self.count, dtype=torch.bool)
        device = next((one.device for one in found.values()), missing.device)
        return torch.stack([found.get(name, missing).to(device) for name in self.names]).cpu()

    @property
    def size(self) -> int:
        """Samples in a pass."""
        return self.count * self.n

    def _pass(self, inputs: Any, visit: Callable[[str, object, Tensor, int], object]) -> None:  # noqa: ANN401
        places = {name: place for place, name in enumerate(self.names)}

        def look(name: str, output: object) -> object:
            place = places.get(name)
            value = None if place is None else self.watcher.read(name, output, inputs, self.size)
            if place is None or value is None or value.shape[1:] != self.layers[place].held.shape[1:]:
                return None
            return visit(name, output, value, place)

        self.watcher.run(inputs, look)

    def _stand_in(self, place: int, copies: Iterable[int]) -> Tensor:
        """What a layer is held at, in some copies what it is changed to."""
        held, changed = self.layers[place]
        value = held.repeat(self.count, *[1] * (held.ndim - 1))
        for copy in copies:
            value[copy * self.n : (copy + 1) * self.n] = changed
        return value

    def _write(self, name: str, output: object, inputs: Any, place: int, copies: Iterable[int]) -> object:  # noqa: ANN401
        """The output of a layer that is held, and changed in some copies; None where it cannot be held."""
        if name in self.refused:
            return None
        return self.watcher.write(name, output, inputs, self.size, self._stand_in(place, copies))

    def _is_exact(self, name: str, written: object, inputs: Any, value: Tensor) -> bool:  # noqa: ANN401
        """Whether what is read again depends on nothing but what was written: a mean that is moved is rounded."""
        again = self.watcher.read(name, written, inputs, self.size)
        if again is None or _equal(again, value):
            return again is not None
        other = self.watcher.write(name, written, inputs, self.size, value.flip(0) + 1)
        both = self.watcher.write(name, other, inputs, self.size, value)
        from_other = self.watcher.read(name, both, inputs, self.size)
        return from_other is not None and _equal(again, from_other)

    def _digest(self, value: Tensor) -> Digest:
        return Digest.of(value, self._weights_for(value))

    def _differences(self, before: Digest | None, value: Tensor) -> Tensor:
        """Copies that are not what they were ``(2, count)``: at all, and beyond the tolerance."""
        if before is None:  # nothing is known
            return torch.ones(2, self.count, dtype=torch.bool, device=value.device)
        return before.differences(value, self._weights_for(value)).view(2, self.count, -1).any(2)

    def _weights_for(self, value: Tensor) -> Tensor:
        known = self._weights.get(value.device)
        if known is None:  # drawn once: for large layers that takes as long as the layer
            largest = max(layer.held[0].numel() for layer in self.layers)
            known = self._weights[value.device] = weights_for(largest, value.device)
        return known[: value[0].numel()]


def _equal(a: Tensor, b: Tensor) -> bool:
    return a.shape == b.shape and bool(torch.isclose(a, b, rtol=0, atol=0, equal_nan=True).all())


def same(a: Tensor, b: Tensor | None) -> bool:
    """Whether two outputs agree.

    Example:
        >>> same(torch.tensor([1.0, torch.inf]), torch.tensor([1.0 + 1e-6, torch.inf]))
        True
    """
    if b is None or a.shape != b.shape:
        return False
    if torch.equal(a, b) or not a.is_floating_point():
        return torch.equal(a, b)
    # Masked scores are infinite.
    within = TOLERANCE * float(a.nan_to_num(0, 0, 0).abs().max())
    return torch.allclose(a, b, rtol=0, atol=within, equal_nan=True)
