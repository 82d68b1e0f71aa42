"""The probe through a network: every chosen layer's output is handed on, and the network never notices."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from lightning_infoplane.network.hooks import capture
from lightning_infoplane.network.probe import Probe
from lightning_infoplane.network.undisturbed import undisturbed

__all__ = ["call", "watch"]

_FORWARD_HINT = "If the network is not called as network(inputs), pass forward_fn=lambda network, inputs: network(...)."


def watch(
    model: nn.Module,
    layers: Mapping[str, nn.Module],
    probe: Probe,
    consume: Callable[[str, Tensor], object],
    forward_fn: Callable[[nn.Module, Any], Any] | None = None,
    batch_size: int | None = None,
    notice: Callable[[str, str], None] = lambda about, message: None,
) -> None:
    """Send the probe through the model in eval mode and hand each layer's output to ``consume(name, activation)``.

    In one piece, a layer is handed on in its hook, where it must be reduced: its activation is free at once. In
    pieces of ``batch_size``, activations wait on the CPU for the last piece.

    Args:
        model: called as ``model(inputs)``, or as ``forward_fn(model, inputs)``.
        layers: what to watch, by name.
        probe: the samples.
        consume: is given ``(n, ...)`` floats on the model's device, in order of execution.
        forward_fn: how to call the model, under autocast say.
        batch_size: of the pieces.
        notice: told (about, message) when a layer is left out.
    """
    waiting: dict[str, list[Tensor]] = {}
    whole = batch_size is None or batch_size >= probe.size

    def take(size: int, layer: str, output: Tensor | None) -> None:
        held = waiting.setdefault(layer, [])
        if output is None or not output.is_floating_point() or output.ndim < 1 or len(output) != size:
            what = "no tensor" if output is None else f"{tuple(output.shape)} of {output.dtype}"
            notice(layer, f"layer {layer!r} is left out: expected floats ({size}, ...) as its output, got {what}.")
        elif whole:
            consume(layer, output)
        else:
            held.append(output.to("cpu", copy=True))

    with undisturbed(model):
        for piece, size in probe.pieces(batch_size):
            with capture(layers, partial(take, size)):
                call(model, piece, forward_fn)
    for layer, held in waiting.items():
        if held:
            consume(layer, torch.cat(held).to(probe.x.device))
            held.clear()
    for layer in layers.keys() - waiting.keys():
        compiled = isinstance(layers[layer], torch.jit.ScriptModule)
        why = (
            "is TorchScript, whose outputs cannot be seen,"
            if compiled
            else "was not called in the probe's forward pass"
        )
        notice(layer, f"layer {layer!r} {why} and is left out.")


def call(model: nn.Module, inputs: object, forward_fn: Callable[[nn.Module, Any], Any] | None = None) -> Any:  # noqa: ANN401
    """Call a network the user's way, or as ``model(inputs)``; if that is not how, say what to pass."""
    if forward_fn is not None:
        return forward_fn(model, inputs)
    try:
        return model(inputs)
    except (TypeError, NotImplementedError) as error:
        raise type(error)(f"{error} {_FORWARD_HINT}") from error
