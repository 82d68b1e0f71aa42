"""A few samples through the network before anything else: how it is called, and what its layers put out."""

from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from lightning_infoplane.network.batches import is_target_name
from lightning_infoplane.network.calls import WHOLE, Way, ways_to_call
from lightning_infoplane.network.hooks import intercept
from lightning_infoplane.network.plain import as_floats
from lightning_infoplane.network.probe import Probe
from lightning_infoplane.network.reader import Place, Reader, place_of
from lightning_infoplane.network.structures import fields_of
from lightning_infoplane.network.undisturbed import undisturbed

__all__ = ["Pilot", "embedded", "fly"]

# Calls a network with inputs in one way, in the context it trains in.
Run = Callable[[nn.Module, Any, Way], Any]

# So many samples, and one less: what changes with their number is the axis on which they lie.
_FEW = 4
_EMBEDDINGS = (nn.Embedding, nn.EmbeddingBag)


@dataclass(frozen=True)
class Pilot:
    """What a small forward pass told.

    Args:
        way: how the network is called.
        places: where the samples of each layer are, by layer and call.
        embedding: the layer that made vectors of whole numbers, if one did.
    """

    way: Way = WHOLE
    places: Mapping[str, Place] = field(default_factory=dict)
    embedding: str = ""


def fly(
    network: nn.Module,
    layers: Mapping[str, nn.Module],
    probe: Probe,
    run: Run,
    ways: Iterable[Way] | None = None,
) -> Pilot:
    """Send a few samples through the network, in the first way in which that can be done.

    Args:
        network: left as it was.
        layers: to be measured.
        probe: whose first samples are sent; all of them where a part cannot be, or will not do.
        run: a forward pass.
        ways: in which the network may be called; those that its ``forward`` suggests when left out.

    Raises:
        Exception: whatever the likeliest way raised, if none will do.
    """
    if ways is None:
        targets = [name for name in fields_of(probe.inputs) or {} if is_target_name(name)]
        ways = ways_to_call(network, probe.inputs, probe.x, targets)
    ways = list(ways)
    few = min(_FEW, probe.size // 2)
    sizes = [few, probe.size] if probe.can_be_divided else [probe.size]
    embeddings = _embeddings_of(network)
    failure: Exception | None = None
    for size in sizes:
        # Of the whole probe the layers' outputs, all of them together, are too large to keep, and tell nothing.
        watched = {**embeddings, **layers} if size < probe.size else embeddings
        for way in ways:
            try:
                outputs = _outputs(network, watched, probe.rows(slice(0, size)), way, run)
            except Exception as error:  # the network's own: anything
                failure = failure or error
                continue
            return _told(network, watched, probe, way, run, outputs, size)
    assert failure is not None, "there is a way at least"
    raise failure


def embedded(network: nn.Module, pilot: Pilot, probe: Probe, run: Run, batch_size: int | None = None) -> Tensor | None:
    """The output of the embedding layer for the whole probe, ``(n, tokens, d)``, padding as zeros."""
    name = pilot.embedding
    module = dict(network.named_modules())[name]
    places = {name: pilot.places[name]} if name in pilot.places else {}
    reader = Reader({name: module}, {}, places)
    seen: list[Tensor] = []
    with undisturbed(network):
        for inputs, n in probe.pieces(batch_size):
            found: list[Tensor | None] = []

            def visit(called: str, output: Any, inputs: Any = inputs, n: int = n, found: Any = found) -> None:  # noqa: ANN401
                if called == name:
                    value = reader.read(name, output, inputs, n)
                    found.append(None if value is None else value.clone())

            with intercept({name: module}, visit):
                run(network, inputs, pilot.way)
            if not found or found[0] is None:
                return None
            seen.append(found[0])
    return torch.cat(seen)


def _told(
    network: nn.Module,
    watched: Mapping[str, nn.Module],
    probe: Probe,
    way: Way,
    run: Run,
    outputs: Mapping[str, Any],
    size: int,
) -> Pilot:
    """What the outputs say, and those for one sample less, where there can be."""
    places: dict[str, Place] = {}
    other = size - 1 if size > 1 else size + 1
    if size < probe.size:
        with suppress(Exception):  # a network that takes one number of samples only
            fewer = _outputs(network, watched, probe.rows(slice(0, other)), way, run)
            found = {name: place_of(outputs[name], fewer[name], size, other) for name in outputs if name in fewer}
            places = {name: place for name, place in found.items() if place is not None}
    return Pilot(way, places, _embedding_in(watched, outputs, size))


def _outputs(network: nn.Module, watched: Mapping[str, nn.Module], inputs: Any, way: Way, run: Run) -> dict[str, Any]:  # noqa: ANN401
    """What the layers put out, in order of execution."""
    outputs: dict[str, Any] = {}
    # Kept as they are: of a few samples, and shapes are all that is asked of most. Those that an in-place operation
    # overwrites later keep their shape.
    with undisturbed(network), intercept(watched, lambda name, output: outputs.update({name: output})):
        run(network, inputs, way)
    return outputs


def _embeddings_of(network: nn.Module) -> dict[str, nn.Module]:
    return {name: module for name, module in network.named_modules() if name and isinstance(module, _EMBEDDINGS)}


def _embedding_in(watched: Mapping[str, nn.Module], outputs: Mapping[str, Any], n: int) -> str:
    """The first embedding layer that tells samples apart: positions are the same for all of them."""
    for name, output in outputs.items():
        if isinstance(watched.get(name), _EMBEDDINGS) and isinstance(output, Tensor):
            values = as_floats(output)
            axis = 1 if values is not None and values.ndim > 2 and len(values) != n else 0
            if values is None or values.ndim <= axis or values.shape[axis] != n:
                continue
            rows = values.movedim(axis, 0)
            if not bool((rows == rows[:1]).all()):
                return name
    return ""
