"""Error signals: the gradient of the probe's loss with respect to each layer's output."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from lightning_infoplane.capture import first_tensor, hold, undisturbed
from lightning_infoplane.precision import upcast, widest_float
from lightning_infoplane.probe import Probe

__all__ = ["default_loss", "error_signals"]

LossFunction = Callable[[Any, Tensor], Tensor]


def error_signals(
    model: nn.Module,
    layers: Mapping[str, nn.Module],
    probe: Probe,
    loss_fn: LossFunction | None = None,
    forward: Callable[[nn.Module, Any], Any] | None = None,
) -> dict[str, Tensor]:
    r"""The error signals :math:`\delta_k = \partial\,\text{loss} / \partial T_k` of a probe, in order of execution.

    By ``torch.autograd.grad``, so that no ``.grad`` of a parameter is touched, with the model in eval mode
    and left as it was. All activations are held until the backward pass is through.

    Args:
        model: any differentiable network.
        layers: by name, as from :func:`~lightning_infoplane.select_layers`.
        probe: with targets.
        loss_fn: ``(outputs, targets) -> scalar``; :func:`default_loss` when left out.
        forward: called as ``forward(model, inputs)`` instead of ``model(inputs)``.

    Returns:
        ``(n, ...)`` gradients by layer, in float64: squares of late errors underflow in float32. Layers that
        do not reach the loss are missing.

    Raises:
        ValueError: without targets, or if the loss is not one number or depends on none of the layers.

    Example:
        >>> layer = torch.nn.Linear(2, 1)
        >>> probe = Probe(torch.zeros(2, 2), layer.bias.detach() - torch.tensor([[1.0], [2.0]]))
        >>> error_signals(layer, {"": layer}, probe)[""].flatten()  # d mean(e²) / dT = 2 e / n
        tensor([1., 2.], dtype=torch.float64)
    """
    if probe.targets is None:
        raise ValueError("error signals need a loss, and the probe has no targets. Pass probe=(inputs, targets).")
    if any(parameter.is_inference() for parameter in model.parameters()):
        raise ValueError(
            "the model was made in inference mode: no gradient can be had. Make it under no_grad() instead."
        )
    with undisturbed(model), torch.enable_grad():
        with hold(layers) as held:
            outputs = model(probe.inputs) if forward is None else forward(model, probe.inputs)
            loss = _one_number((loss_fn or default_loss)(outputs, probe.targets))
        differentiable = held and loss.requires_grad
        found = torch.autograd.grad(loss, list(held.values()), allow_unused=True) if differentiable else ()
    errors = {
        name: error.to(widest_float(error.device))
        for name, error in zip(held, found, strict=False)
        if error is not None
    }
    if not errors:
        raise ValueError(
            f"the loss depends on none of the layers {', '.join(layers)}. Choose layers on the way to the loss, "
            "or a loss_fn without detach() and no_grad()."
        )
    return errors


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
