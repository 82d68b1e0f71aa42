"""The probe through a network: every chosen layer's output is handed on, and the network never notices."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from lightning_infoplane.arguments.errors import reason_of
from lightning_infoplane.network.hooks import intercept
from lightning_infoplane.network.probe import Probe
from lightning_infoplane.network.reader import FIRST, Reader
from lightning_infoplane.network.structures import first_tensor
from lightning_infoplane.network.undisturbed import undisturbed

__all__ = ["NOT_CALLED", "watch"]

# Why a layer is left out that the network did not call.
NOT_CALLED = "not called in the probe's forward pass"


def watch(
    model: nn.Module,
    layers: Mapping[str, nn.Module],
    probe: Probe,
    consume: Callable[[str, Tensor], object],
    run: Callable[[nn.Module, Any], object] = lambda model, inputs: model(inputs),
    batch_size: int | None = None,
    left_out: Callable[[str, str], None] = lambda layer, why: None,
    reader: Reader = FIRST,
) -> None:
    """Send the probe through the model in eval mode and hand each layer's output to ``consume(name, activation)``.

    In one piece, a layer is handed on in its hook, where it must be reduced: its activation is free at once. In
    pieces of ``batch_size``, activations wait on the CPU for the last piece.

    Args:
        model: called as ``run(model, inputs)``.
        layers: what to watch, by name.
        probe: the samples.
        consume: is given ``(n, ...)`` floats on the model's device, in order of execution.
        run: how to call the model.
        batch_size: of the pieces.
        left_out: told (layer, why) when a layer is left out.
        reader: what of a layer's output is measured.
    """
    waiting: dict[str, list[Tensor]] = {}
    whole = batch_size is None or batch_size >= probe.size

    def take(inputs: Any, size: int, layer: str, output: Any) -> None:  # noqa: ANN401
        held = waiting.setdefault(layer, [])
        try:
            value = reader.read(layer, output, inputs, size)
        except Exception as error:  # a readout of the user's, or one that does not fit
            left_out(layer, f"its readout failed, {reason_of(error)}")
            return
        if value is None:
            left_out(layer, f"expected floats ({size}, ...) as its output, got {_described(output)}")
        elif whole:
            consume(layer, value)
        else:
            held.append(value.to("cpu", copy=True))

    with undisturbed(model):
        for piece, size in probe.pieces(batch_size):
            with intercept(layers, partial(take, piece, size)):
                run(model, piece)
    for layer, held in waiting.items():
        if held:
            consume(layer, torch.cat(held).to(probe.x.device))
            held.clear()
    for layer in layers.keys() - waiting.keys():
        compiled = isinstance(layers[layer], torch.jit.ScriptModule)
        left_out(layer, "TorchScript, whose outputs cannot be seen" if compiled else NOT_CALLED)


def _described(output: object) -> str:
    """An output that cannot be read, by its kind: it may be large."""
    tensor = first_tensor(output)
    return f"no tensor ({type(output).__name__})" if tensor is None else f"{tuple(tensor.shape)} of {tensor.dtype}"
