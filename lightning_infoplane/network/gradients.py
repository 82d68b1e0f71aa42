"""Error signals: the gradient of the probe's loss with respect to each layer's output."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from lightning_infoplane.arguments.checks import Function, Maybe, checked
from lightning_infoplane.estimator.precision import upcast, widest_float
from lightning_infoplane.network.hooks import hold
from lightning_infoplane.network.probe import Probe
from lightning_infoplane.network.reader import FIRST, Reader
from lightning_infoplane.network.structures import first_tensor, replace_tensors, tensors_in
from lightning_infoplane.network.undisturbed import undisturbed

__all__ = ["ErrorSignals", "default_loss", "error_signals"]

LossFunction = Callable[[Any, Tensor], Tensor]
Forward = Callable[[Any], Any]
Name = TypeVar("Name")


_LOSS = Function("(outputs, targets) -> scalar tensor", 2, "torch.nn.functional.cross_entropy")


@dataclass(frozen=True)
@checked(loss_fn=Maybe(_LOSS))
class ErrorSignals:
    """How error signals are made.

    Args:
        loss_fn: ``(outputs, targets) -> scalar``; cross-entropy or mean squared error, where they fit, when left out.

    Raises:
        TypeError: for a loss that cannot be called.
    """

    loss_fn: LossFunction | None = None


def error_signals(
    model: nn.Module,
    layers: Mapping[str, nn.Module],
    probe: Probe,
    loss_fn: LossFunction | None = None,
    forward_fn: Callable[[nn.Module, Any], Any] | None = None,
    batch_size: int | None = None,
    reader: Reader = FIRST,
) -> dict[str, Tensor]:
    r"""The error signals :math:`\delta_k = \partial\,\text{loss} / \partial T_k` of a probe, in order of execution.

    By ``torch.autograd.grad``, so that no ``.grad`` of a parameter is touched, with the model in eval mode
    and left as it was. All activations are held until the backward pass is through: of the whole probe, or of
    one piece of it at a time, with a second forward pass. The loss sees the outputs of all samples either way.

    Args:
        model: any differentiable network.
        layers: by name, as from :func:`~lightning_infoplane.select_layers`.
        probe: with targets.
        loss_fn: ``(outputs, targets) -> scalar``; :func:`default_loss` when left out.
        forward_fn: called as ``forward_fn(model, inputs)`` instead of ``model(inputs)``.
        batch_size: send the probe through in pieces of this size.
        reader: what of a layer's output is measured: its gradient is read in the same way.

    Returns:
        ``(n, ...)`` gradients by layer, in float64: squares of late errors underflow in float32. Layers that
        do not reach the loss are missing. Made in pieces, they are on the CPU.

    Raises:
        ValueError: without targets, if the loss is not one number or depends on none of the layers, or if the
            outputs cannot be put together from pieces.

    Example:
        >>> layer = torch.nn.Linear(2, 1)
        >>> probe = Probe(torch.zeros(2, 2), layer.bias.detach() - torch.tensor([[1.0], [2.0]]))
        >>> error_signals(layer, {"": layer}, probe)[""].flatten()  # d mean(e²) / dT = 2 e / n
        tensor([1., 2.], dtype=torch.float64)
    """
    if probe.targets is None:
        raise ValueError("error signals need a loss, and the probe has no targets. Pass probe=(inputs, targets).")
    if any(parameter.is_inference() for parameter in model.parameters() if not is_lazy(parameter)):
        raise ValueError(
            "the model was made in inference mode: no gradient can be had. Make it under no_grad() instead."
        )
    call: Forward = model if forward_fn is None else partial(forward_fn, model)
    with undisturbed(model):
        if batch_size is None or batch_size >= probe.size:
            gradients = _at_once(call, layers, probe, loss_fn or default_loss, reader)
        else:
            gradients = _in_pieces(model, call, layers, probe, loss_fn, batch_size, reader)
    if not gradients:
        raise ValueError(
            f"the loss depends on none of the layers {', '.join(layers)}. Choose layers on the way to the loss, "
            "or a loss_fn without detach() and no_grad()."
        )
    return gradients


def _at_once(
    call: Forward, layers: Mapping[str, nn.Module], probe: Probe, loss_fn: LossFunction, reader: Reader
) -> dict[str, Tensor]:
    """One forward pass, one backward pass."""
    assert probe.targets is not None, "checked at the edge"
    inputs = probe.inputs
    n = probe.size
    with torch.enable_grad(), hold(layers, None, partial(_tensor_of, reader, inputs, n)) as held:
        loss = _one_number(loss_fn(call(inputs), probe.targets))
    return _read(reader, inputs, n, _gradients([loss], held, [None]))


def _tensor_of(reader: Reader, inputs: object, n: int, name: str, output: object) -> Tensor | None:
    return reader.tensor(name, output, inputs, n)


def _read(reader: Reader, inputs: object, n: int, gradients: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Gradients as the activations are read."""
    read = {name: reader.read_gradient(name, gradient, inputs, n) for name, gradient in gradients.items()}
    return {name: gradient for name, gradient in read.items() if gradient is not None}


def _in_pieces(
    model: nn.Module,
    call: Forward,
    layers: Mapping[str, nn.Module],
    probe: Probe,
    loss_fn: LossFunction | None,
    size: int,
    reader: Reader,
) -> dict[str, Tensor]:
    """Backward through the loss for all samples together, then through the network piece by piece."""
    assert probe.targets is not None, "checked at the edge"

    def outputs_of(piece: object) -> object:
        return call(piece) if loss_fn is not None else first_tensor(call(piece))  # all that the default looks at

    with undisturbed(model):  # on its own: both passes draw the same random numbers
        outputs = [(outputs_of(piece), length) for piece, length in probe.pieces(size)]
    leaves = [_joined(parts) for parts in zip(*(_tensors(*output) for output in outputs), strict=True)]
    following = iter(leaves)
    with torch.enable_grad():  # clones: a loss may work in place
        whole = replace_tensors(outputs[0][0], lambda _: next(following).clone())
        loss = _one_number((loss_fn or default_loss)(whole, probe.targets))
    arriving = _gradients([loss], {i: leaf for i, leaf in enumerate(leaves) if leaf.requires_grad}, [None])
    pieces: dict[str, list[Tensor]] = {}
    for start, (piece, length) in zip(range(0, probe.size, size), probe.pieces(size), strict=True):
        with torch.enable_grad(), hold(layers, None, partial(_tensor_of, reader, piece, length)) as held:
            ends = _tensors(outputs_of(piece), length)
        here = {i: gradient[start : start + length].to(ends[i]) for i, gradient in arriving.items()}
        gradients = _gradients([ends[i] for i in here], held, list(here.values()))
        for name, gradient in _read(reader, piece, length, gradients).items():
            pieces.setdefault(name, []).append(gradient.cpu())
    return {name: torch.cat(parts) for name, parts in pieces.items()}


def _gradients(
    ends: Sequence[Tensor], held: Mapping[Name, Tensor], arriving: Sequence[Tensor | None]
) -> dict[Name, Tensor]:
    """What arrives at the held outputs from the ends of the graph, by name, where anything does."""
    kept = [(end, grad) for end, grad in zip(ends, arriving, strict=True) if end.requires_grad]
    if not held or not kept:
        return {}
    gradients = torch.autograd.grad(
        [end for end, _ in kept], list(held.values()), [grad for _, grad in kept], allow_unused=True
    )
    return {
        name: gradient.to(widest_float(gradient.device)) if gradient.is_floating_point() else gradient
        for name, gradient in zip(held, gradients, strict=True)
        if gradient is not None
    }


def _tensors(outputs: object, samples: int) -> list[Tensor]:
    """All tensors of a piece's outputs, if each has a row a sample."""
    tensors = tensors_in(outputs)
    odd = next((tensor for tensor in tensors if tensor.ndim == 0 or len(tensor) != samples), None)
    if odd is not None or not tensors:
        got = type(outputs).__name__ if odd is None else f"an output of shape {tuple(odd.shape)}"
        raise ValueError(
            f"the probe goes through in pieces of {samples}, and {got} cannot be put together from them. Leave "
            "probe_batch_size out, or pass a forward_fn that returns only what the loss needs: tensors (n, ...)."
        )
    return tensors


def _joined(parts: Sequence[Tensor]) -> Tensor:
    """A new leaf of all samples."""
    joined = torch.cat(tuple(parts)).detach()
    return joined.requires_grad_(joined.is_floating_point() or joined.is_complex())


def _one_number(loss: object) -> Tensor:
    """The loss, if it is one."""
    if isinstance(loss, Tensor) and loss.numel() == 1:
        return loss
    got = f"a tensor of shape {tuple(loss.shape)}: average over it" if isinstance(loss, Tensor) else repr(loss)
    raise ValueError(f"loss_fn must return a tensor with a single number, got {got}.")


def default_loss(outputs: Any, targets: Tensor) -> Tensor:  # noqa: ANN401 - whatever the model returns
    """Cross-entropy for ``(n, classes, ...)`` scores and integer targets, mean squared error for matching floats.

    Raises:
        ValueError: for anything else.

    Example:
        >>> default_loss(torch.zeros(3, 4, dtype=torch.float64), torch.tensor([0, 1, 2]))  # ln 4
        tensor(1.3863, dtype=torch.float64)
    """
    scores = first_tensor(outputs)
    scores = None if scores is None else upcast(scores)  # of half-precision networks, as autocast does
    if scores is not None and not targets.is_floating_point() and scores.ndim == targets.ndim + 1:
        return nn.functional.cross_entropy(scores, targets.long())
    if scores is not None and targets.is_floating_point() and scores.shape == targets.shape:
        return nn.functional.mse_loss(scores, targets)
    shape = "no tensor" if scores is None else tuple(scores.shape)
    raise ValueError(
        f"no loss is known for outputs of {shape} and targets {tuple(targets.shape)} of {targets.dtype}. "
        "Pass loss_fn=lambda outputs, targets: ..."
    )
