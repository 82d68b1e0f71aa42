"""A probe through a network: every chosen layer becomes its Gram matrix, and the network never notices."""

import os
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from copy import deepcopy
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from lightning_infoplane.capture import LayerSpec, capture, select_layers, undisturbed
from lightning_infoplane.errors import error_signals
from lightning_infoplane.markov import find_chains
from lightning_infoplane.measurement import Measurement
from lightning_infoplane.plane import InformationPlane, Row
from lightning_infoplane.probe import Probe

__all__ = ["call", "measure", "measure_checkpoints", "observe"]

_FORWARD_HINT = "If the network is not called as network(inputs), pass forward_fn=lambda network, inputs: network(...)."


def measure(
    model: nn.Module,
    probe: Probe,
    layers: LayerSpec | Sequence[LayerSpec] = "conv",
    plane: InformationPlane | None = None,
    epoch: int = 0,
    step: int = 0,
    forward_fn: Callable[[nn.Module, Any], Any] | None = None,
    batch_size: int | None = None,
    errors: bool = False,
    loss_fn: Callable[[Any, Tensor], Tensor] | None = None,
) -> list[Row]:
    """Measure a network as it is now, in any loop, without a Trainer.

    Gaps are those between layers that form a Markov chain, as in training: see :func:`find_chain`.

    Args:
        model: left exactly as it was: flags, buffers, gradients, random numbers.
        probe: the samples, on the model's device.
        layers: see :func:`~lightning_infoplane.select_layers`.
        plane: settings and history; a new one with the defaults when left out.
        epoch: for the rows.
        step: for the rows.
        forward_fn: called as ``forward_fn(model, inputs)`` instead of ``model(inputs)``.
        batch_size: send the probe through in pieces of this size.
        errors: also measure the error signals, see :func:`~lightning_infoplane.error_signals`.
        loss_fn: for them.

    Returns:
        The new rows, which are also appended to the plane's history.

    Raises:
        ValueError: if no layer matches, or the inputs are not finite.

    Example:
        >>> net = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Tanh(), torch.nn.Linear(8, 2))
        >>> rows = measure(net, Probe(torch.eye(4)), layers="linear")
        >>> {row.layer for row in rows if row.quantity == "I_XT"} == {"0", "2"}
        True
    """
    plane, chosen = plane or InformationPlane(), select_layers(model, layers)

    def forward(network: nn.Module, inputs: Any) -> Any:  # noqa: ANN401 - the user's
        return call(network, inputs, forward_fn)

    chain, backward = find_chains(model, chosen, probe, forward, errors=errors, loss_fn=loss_fn)
    measurement = observe(
        plane.start(probe.x, probe.targets, pairs=chain and chain.pairs),
        model,
        chosen,
        probe,
        forward_fn,
        batch_size,
        notice=lambda layer, message: warnings.warn(message, stacklevel=2),
    )
    rows = plane.finish(measurement, epoch, step)
    if errors:
        signals = error_signals(model, chosen, probe, loss_fn, forward, batch_size)
        rows += plane.finish(plane.start_errors(signals, "", backward, probe.x.device), epoch, step)
    return rows


def measure_checkpoints(
    paths: Iterable[str | os.PathLike[str]],
    model: nn.Module,
    probe: Probe,
    layers: LayerSpec | Sequence[LayerSpec] = "conv",
    plane: InformationPlane | None = None,
    forward_fn: Callable[[nn.Module, Any], Any] | None = None,
    batch_size: int | None = None,
) -> list[Row]:
    """Measure the checkpoints of a finished run, one after the other.

    Args:
        paths: Lightning checkpoints, or files with a state dict. Lightning's say which epoch and step they are
            of, as the callback counts them; others are counted from 0.
        model: of the same architecture; a copy of it is loaded, it stays as it is.
        probe: the samples, on the model's device.
        layers: see :func:`~lightning_infoplane.select_layers`.
        plane: settings and history; a new one with the defaults when left out.
        forward_fn: called as ``forward_fn(model, inputs)`` instead of ``model(inputs)``.
        batch_size: send the probe through in pieces of this size.

    Returns:
        The new rows, which are also appended to the plane's history.

    Raises:
        ValueError: if a file is no checkpoint of this model.
    """
    model, plane, rows = deepcopy(model), plane or InformationPlane(), []
    for count, path in enumerate(paths):
        try:
            saved = torch.load(path, map_location=probe.x.device, weights_only=True)
            model.load_state_dict(saved.get("state_dict", saved))
        except OSError:  # names the file itself
            raise
        except Exception as error:  # what is no checkpoint fails anywhere in torch's reader, and in its own way
            raise ValueError(f"{path} is no checkpoint of {type(model).__name__}: {error}") from error
        epoch, step = _moment(saved) or (count, count)
        rows += measure(model, probe, layers, plane, epoch, step, forward_fn, batch_size)
    return rows


def _moment(saved: Mapping[str, Any]) -> tuple[int, int] | None:
    """Epoch and step of a Lightning checkpoint as they are in the history of its run.

    The history counts finished epochs, and steps from 0. Lightning's own ``epoch`` goes up only after the hooks
    in which checkpoints are written, and not at all between these.
    """
    if "global_step" not in saved:
        return None
    step = max(0, saved["global_step"] - 1)
    if "loops" not in saved:  # weights only
        return saved["epoch"] + 1, step
    loop = saved["loops"]["fit_loop"]
    started: int = loop["epoch_progress"]["current"]["ready"]
    return (started if loop["epoch_loop.batch_progress"]["is_last_batch"] else max(0, started - 1)), step


def observe(
    measurement: Measurement,
    model: nn.Module,
    layers: Mapping[str, nn.Module],
    probe: Probe,
    forward: Callable[[nn.Module, Any], Any] | None = None,
    batch_size: int | None = None,
    notice: Callable[[str, str], None] = lambda layer, message: None,
) -> Measurement:
    """Send the probe through the model in eval mode and add the layers' outputs to a measurement.

    In one piece, a layer is reduced in its hook and its activation is free at once. In pieces of
    ``batch_size``, activations wait on the CPU for the last piece.

    Args:
        measurement: begun on the same probe.
        model: called as ``model(inputs)``, or as ``forward(model, inputs)``.
        layers: what to watch, by name.
        probe: the samples.
        forward: how to call the model, under autocast say.
        batch_size: of the pieces.
        notice: told (layer, message) when a layer is left out.

    Returns:
        The measurement.
    """
    waiting: dict[str, list[Tensor]] = {}
    whole = batch_size is None or batch_size >= probe.size

    def consume(size: int, layer: str, output: Tensor | None) -> None:
        held = waiting.setdefault(layer, [])
        if output is None or not output.is_floating_point() or output.ndim < 1 or len(output) != size:
            what = "no tensor" if output is None else f"{tuple(output.shape)} of {output.dtype}"
            notice(layer, f"layer {layer!r} is left out: expected floats ({size}, ...) as its output, got {what}.")
        elif whole:
            measurement.add(layer, output)
        else:
            held.append(output.to("cpu", copy=True))

    with undisturbed(model):
        for piece, size in probe.pieces(batch_size):
            with capture(layers, partial(consume, size)):
                call(model, piece, forward)
    for layer, held in waiting.items():
        if held:
            measurement.add(layer, torch.cat(held).to(probe.x.device))
            held.clear()
    for layer in measurement.without_pairs:
        notice(f"{layer} pairs", f"layer {layer!r} has one feature map and so no pairs: its redundancy is left out.")
    for layer in layers.keys() - waiting.keys():
        notice(layer, f"layer {layer!r} was not called in the probe's forward pass and is left out.")
    return measurement


def call(model: nn.Module, inputs: object, forward: Callable[[nn.Module, Any], Any] | None = None) -> Any:  # noqa: ANN401
    """Call a network the user's way, or as ``model(inputs)``; if that is not how, say what to pass."""
    if forward is not None:
        return forward(model, inputs)
    try:
        return model(inputs)
    except (TypeError, NotImplementedError) as error:
        raise type(error)(f"{error} {_FORWARD_HINT}") from error
