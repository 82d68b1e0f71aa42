"""What training will change within a few steps: gates that are still closed, and statistics of nothing.

Pairs of layers are looked for before training, and should be those that hold in it.
"""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parameter import is_lazy

from lightning_infoplane.network.undisturbed import isolated_rng

__all__ = ["opened", "settle"]

# Parameters below this are taken for gates that training has yet to open.
_CLOSED = 1e-3
# A channel that varies by less of its size is taken for constant: dividing by its variance would enlarge rounding.
_CONSTANT = 1e-3


@contextmanager
def opened(model: nn.Module) -> Iterator[None]:
    """Random numbers in place of the weights, gains and scales that are all but zero.

    Blocks often begin as the identity, their last gain zero. Whoever looks at such a network before training
    sees no branch, only what goes around it, and finds pairs that hold for no step after the first.
    """
    closed = [
        parameter.data  # writes through .data are seen by no graph that is still alive
        for name, parameter in model.named_parameters()
        if not _is_added(name, parameter) and _is_closed(parameter)
    ]
    before = [values.clone() for values in closed]
    try:
        with isolated_rng(0):
            for values in closed:
                values.normal_(std=math.prod(values.shape[1:]) ** -0.5)
        yield
    finally:
        for values, kept in zip(closed, before, strict=True):
            values.copy_(kept)


def _is_closed(parameter: Tensor) -> bool:
    """Whether no signal to speak of passes a factor like this."""
    if is_lazy(parameter) or not parameter.numel() or parameter.is_inference():
        return False
    return bool(parameter.detach().abs().max() < _CLOSED)


def _is_added(name: str, parameter: Tensor) -> bool:
    """Whether a parameter is added to the signal, by its name: ``bias``, ``in_proj_bias``, ``bias_ih_l0``, ``bias1``.

    Added, a zero closes nothing, and noise in its place would drown the signal of a deep network.
    """
    words = name.rpartition(".")[2].split("_")
    return parameter.ndim <= 1 and any(word.startswith("bias") for word in words)


def settle(model: nn.Module, run: Callable[[], object]) -> None:
    """Give batch norms that have seen no data yet the statistics of a forward pass.

    Until then they normalise nothing: from layer to layer the signal shrinks beside the biases, until a deep layer
    cannot tell one sample from another. The statistics are buffers: :func:`undisturbed` puts them back.

    Args:
        model: in eval mode, where batch norms use their running statistics.
        run: the forward pass; each batch norm sees what those before it make of it.
    """
    fresh = [module for module in model.modules() if isinstance(module, _BatchNorm) and _has_seen_nothing(module)]
    handles = [module.register_forward_pre_hook(_take_statistics) for module in fresh]
    try:
        if fresh:
            run()
    finally:
        for handle in handles:
            handle.remove()


def _has_seen_nothing(norm: _BatchNorm) -> bool:
    """Whether no batch has been counted."""
    count = norm.num_batches_tracked
    return count is not None and norm.running_mean is not None and not count.is_inference() and int(count) == 0


def _take_statistics(norm: _BatchNorm, args: tuple[Tensor, ...]) -> None:
    """Before it is called: mean and variance of each channel of its input."""
    channels = args[0].detach().movedim(1, 0).flatten(1).double()
    mean = channels.mean(1)
    variance = channels.var(1, correction=0)
    constant = variance.sqrt() <= _CONSTANT * mean.abs()
    assert norm.running_mean is not None, "seen when it was chosen"
    assert norm.running_var is not None, "it comes with the mean"
    norm.running_mean.copy_(mean)
    norm.running_var.copy_(variance.masked_fill(constant, 1))
