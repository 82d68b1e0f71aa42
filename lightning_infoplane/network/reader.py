"""Reading layers: which tensor of an output is measured, on which of its axes the samples lie, and the readout."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from lightning_infoplane.network.plain import as_floats
from lightning_infoplane.network.readout import Maps, Readout, TimeFirst, Tokens
from lightning_infoplane.network.structures import replace_tensors, tensors_in

__all__ = ["FIRST", "Place", "Reader", "place_of"]

# Their outputs are maps, also where a map has as many places as there are tokens.
_MAPS = (_ConvNd, nn.modules.batchnorm._NormBase, nn.modules.pooling._MaxPoolNd, nn.modules.pooling._AvgPoolNd)

_WHOLE_MAPS = Maps()
_EVERY_TOKEN = Tokens("each")


class Place(NamedTuple):
    """Where a layer's samples are: in which tensor of its output, on which axis, in how many rows each.

    Windows and tokens are often rows of their own, those of a sample one after the other.
    """

    tensor: int
    axis: int
    rows: int = 1

    def samples_first(self, tensor: Tensor, n: int) -> Tensor | None:
        """The tensor with its samples on the first axis; None where it has not as many.

        Example:
            >>> [*Place(0, 1).samples_first(torch.zeros(5, 2, 3), 2).shape]
            [2, 5, 3]
            >>> [*Place(0, 0, rows=4).samples_first(torch.zeros(8), 2).shape]
            [2, 4]
        """
        if tensor.ndim <= self.axis:
            return None
        moved = tensor.movedim(self.axis, 0)
        if self.rows == 1:
            return moved
        return moved.unflatten(0, (n, self.rows)) if len(moved) == n * self.rows else None

    def as_it_lay(self, value: Tensor) -> Tensor:
        """The way back from :meth:`samples_first`."""
        return (value if self.rows == 1 else value.flatten(0, 1)).movedim(0, self.axis)


@dataclass(frozen=True)
class Reader:
    """A layer's output as what is measured, and back.

    Args:
        modules: the layers, whose types tell how they are read where nothing else does.
        readouts: by layer, as the user wants it.
        places: where the samples are, by layer and call: found by passes of different numbers of samples.
    """

    modules: Mapping[str, nn.Module] = field(default_factory=dict)
    readouts: Mapping[str, Any] = field(default_factory=dict)
    places: Mapping[str, Place] = field(default_factory=dict)

    def read(self, name: str, output: Any, inputs: Any, n: int) -> Tensor | None:  # noqa: ANN401
        """What is measured, ``(n, ...)`` real floats; None where nothing has a row a sample.

        Args:
            name: of the layer; ``"conv.call2"`` when it was called before.
            output: whatever it put out.
            inputs: what the network was called with.
            n: how many samples that were.
        """
        readout = self._readout(name)
        if not isinstance(readout, Readout):
            value = readout(name, output)
            return as_floats(value) if isinstance(value, Tensor) and value.ndim and len(value) == n else None
        found = self._find(name, output, inputs, n, readout)
        return None if found is None else found.value

    def write(self, name: str, output: Any, inputs: Any, n: int, value: Tensor) -> Any:  # noqa: ANN401
        """The output with what was read replaced by ``value``; None where that cannot be done."""
        readout = self._readout(name)
        found = self._find(name, output, inputs, n, readout) if isinstance(readout, Readout) else None
        if found is None or found.tensor.is_nested or found.tensor.layout is not torch.strided:
            return None
        written = readout.write(found.floats, inputs, n, value)
        if written is None or found.tensor.is_quantized:
            return None
        written = found.place.as_it_lay(written)
        if found.tensor.is_complex():
            written = torch.view_as_complex(written.contiguous())
        # A copy of the tensor with other numbers in it: subclasses keep what else they hold.
        stand_in = found.tensor.clone().copy_(written)
        return replace_tensors(output, lambda tensor: stand_in if tensor is found.tensor else tensor)

    def tensor(self, name: str, output: Any, inputs: Any, n: int) -> Tensor | None:  # noqa: ANN401
        """The layer's own tensor of which it is read; None where nothing is."""
        readout = self._readout(name)
        found = self._find(name, output, inputs, n, readout if isinstance(readout, Readout) else Maps())
        return None if found is None else found.tensor

    def read_gradient(self, name: str, gradient: Tensor, inputs: Any, n: int) -> Tensor | None:  # noqa: ANN401
        """The gradient with respect to :meth:`tensor`, read in the same way; of a user's function, as it is."""
        readout = self._readout(name)
        place = self.places.get(name)
        alone = Reader(self.modules, self.readouts, {} if place is None else {name: place._replace(tensor=0)})
        found = alone._find(name, gradient, inputs, n, readout if isinstance(readout, Readout) else Maps())
        return None if found is None else found.value

    def leaves_out(self, name: str) -> bool:
        """Whether something of the output is not read: then no layer's errors are known from this one's alone."""
        readout = self._readout(name)
        is_whole = isinstance(readout, Maps | TimeFirst) or (isinstance(readout, Tokens) and readout.pool == "each")
        return not is_whole

    def _readout(self, name: str) -> Any:  # noqa: ANN401 - a readout, or a function of the user's
        """How a layer is read: as the user wants it, or each token for itself, without padding."""
        layer = self._layer(name)
        wanted = self.readouts.get(layer)
        place = self.places.get(name)
        if isinstance(wanted, TimeFirst) and place is not None and place.axis:
            return _EVERY_TOKEN  # found to be so: turned once, it is not turned again where there are n times
        # The maps of a signal (n, C, places) look like tokens, and are none.
        if isinstance(self.modules.get(layer), _MAPS) and isinstance(wanted, Tokens | None):
            return _WHOLE_MAPS
        return _EVERY_TOKEN if wanted is None else wanted

    def _layer(self, name: str) -> str:
        """The layer of a call: of ``"rnn.call2"``, ``"rnn"``."""
        first = name.rpartition(".call")[0]
        return first if name not in self.modules and first in self.modules else name

    def _find(self, name: str, output: Any, inputs: Any, n: int, readout: Readout) -> "_Found | None":  # noqa: ANN401
        """The tensor that is read, with its samples first, and what was read of it."""
        known = self.places.get(name)
        for index, tensor in enumerate(tensors_in(output)):
            floats = as_floats(tensor) if known is None or index == known.tensor else None
            if floats is None:
                continue
            place = known or Place(index, self._axis(name, floats, n, readout))
            moved = place.samples_first(floats, n)
            value = None if moved is None else readout.read(moved, inputs, n)
            if moved is not None and value is not None:
                return _Found(tensor, moved, place, value)
        return None

    def _axis(self, name: str, floats: Tensor, n: int, readout: Readout) -> int:
        """The axis of the samples, where no pass has told: the first, unless the layer or the shape says otherwise."""
        if floats.ndim < 3 or isinstance(readout, TimeFirst) or floats.shape[1] != n:
            return 0
        layer = self.modules.get(self._layer(name))
        time_first = getattr(layer, "batch_first", getattr(getattr(layer, "self_attn", None), "batch_first", None))
        return 1 if time_first is False or len(floats) != n else 0


FIRST = Reader()


class _Found(NamedTuple):
    """What is read: the layer's own tensor, its floats with the samples first, where these lay, the value."""

    tensor: Tensor
    floats: Tensor
    place: Place
    value: Tensor


def place_of(output: object, other: object, n: int, m: int) -> Place | None:
    """Where the samples are, from what a layer put out for n samples and for m: what changed from n to m.

    Example:
        >>> place_of((torch.zeros(1), torch.zeros(4, 4, 8)), (torch.zeros(1), torch.zeros(4, 3, 8)), 4, 3)
        Place(tensor=1, axis=1, rows=1)
    """
    for index, (one, two) in enumerate(zip(tensors_in(output), tensors_in(other), strict=False)):
        first = as_floats(one)
        second = as_floats(two)
        if first is None or second is None or first.ndim != second.ndim:
            continue
        for axis, sizes in enumerate(zip(first.shape, second.shape, strict=True)):
            if sizes == (n, m):
                return Place(index, axis)
        if (rows := _rows_each(first, second, n, m)) > 1:
            return Place(index, 0, rows)
    return None


def _rows_each(first: Tensor, second: Tensor, n: int, m: int) -> int:
    """How many rows of the first axis each sample has, one after the other; 0 where that is not what the numbers say.

    The fewer samples are the first of the others, so their rows must be the same.
    """
    if m > n:
        return _rows_each(second, first, m, n)
    each = len(first) // n if first.ndim > 1 else 0
    if each < 2 or first.shape[1:] != second.shape[1:] or (len(first), len(second)) != (each * n, each * m):
        return 0
    alike = torch.allclose(first[: len(second)], second, rtol=1e-3, atol=1e-3 * float(second.abs().max()))
    return each if alike and not torch.allclose(first[:each], first[each : 2 * each]) else 0
