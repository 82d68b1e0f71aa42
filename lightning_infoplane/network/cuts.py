r"""Error signals that form a chain, :math:`\delta_b \to \delta_a`: every way from a to the output passes b.

The graph is cut at every layer at once, and gradients are taken from each cut to those before it: which layer
feeds which. What all ways from a layer to the output pass then follows from the output down.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from lightning_infoplane.network.covering import covering_pairs
from lightning_infoplane.network.hooks import hold, intercept, without_cudnn
from lightning_infoplane.network.structures import first_tensor, replace_tensors, tensors_in
from lightning_infoplane.network.undisturbed import undisturbed
from lightning_infoplane.network.untrained import opened

__all__ = ["cut_at_once", "cut_one_by_one", "find_backward_pairs"]

ForwardFunction = Callable[[nn.Module, Any], Any]
# A forward pass: those of its output tensors that have a gradient.
Ends = Callable[[], list[Tensor]]
# Which tensor of a layer's output is looked at, by name and output.
TensorOf = Callable[[str, Any], Tensor | None]


def _first(name: str, output: object) -> Tensor | None:
    return first_tensor(output)


def find_backward_pairs(
    model: nn.Module,
    layers: Mapping[str, nn.Module],
    x: Any,  # noqa: ANN401 - whatever the model takes
    forward_fn: ForwardFunction | None = None,
    loss: Callable[[Any], Tensor] | None = None,
    tensor_of: TensorOf = _first,
) -> list[tuple[str, str]]:
    r"""Pairs (b, a) whose error signals are a chain :math:`\delta_b \to \delta_a`: a reaches the output through b only.

    Pairs that two shorter ones imply are left out.

    Args:
        model: any differentiable network.
        layers: by name.
        x: a few samples, as the model takes them.
        forward_fn: called as ``forward_fn(model, inputs)`` instead of ``model(inputs)``.
        loss: of the outputs for x; errors come from the outputs that it looks at. From the first one if left out.
        tensor_of: which tensor of a layer's output, ``(name, output)``.

    Returns:
        Pairs, the deeper layer first, from the output down.

    Example:
        >>> net = torch.nn.Sequential(torch.nn.Linear(3, 3), torch.nn.Tanh(), torch.nn.Linear(3, 2))
        >>> find_backward_pairs(net, {"0": net[0], "2": net[2]}, torch.eye(3))
        [('2', '0')]
    """
    call = forward_fn or (lambda network, inputs: network(inputs))
    places = None if loss is None else _looked_at(model, x, call, loss)

    def ends() -> list[Tensor]:
        # On a copy of the samples: the first layer may overwrite them.
        return [end for end in _ends(call(model, replace_tensors(x, torch.clone)), places) if end.requires_grad]

    with undisturbed(model), opened(model):
        order = reached(model, layers, ends, None, tensor_of)
        try:
            passed = cut_at_once(model, layers, ends, tensor_of)
        except Exception:  # an operation that forgets what its backward pass needs once it has been gone through
            passed = cut_one_by_one(model, layers, ends, tensor_of)
    pairs = [(b, a) for a in order for b in passed.get(a, ())]
    return covering_pairs(order[::-1], pairs)


def reached(
    model: nn.Module,
    layers: Mapping[str, nn.Module],
    ends: Ends,
    cut: str | None = None,
    tensor_of: TensorOf = _first,
) -> list[str]:
    """Layers at which a gradient of the outputs arrives when the graph is cut at one of them, in order of execution."""
    with undisturbed(model), torch.enable_grad():
        with hold(layers, cut, tensor_of) as held:
            outputs = ends()
        gradients = _gradients(outputs, list(held.values()))
    return [name for name, grad in zip(held, gradients, strict=True) if grad is not None and bool(grad.any())]


def cut_one_by_one(
    model: nn.Module,
    layers: Mapping[str, nn.Module],
    ends: Ends,
    tensor_of: TensorOf = _first,
) -> dict[str, set[str]]:
    """For each layer the later ones that every way to the output passes, by a pass a layer."""
    order = reached(model, layers, ends, None, tensor_of)
    without = {b: set(reached(model, layers, ends, b, tensor_of)) for b in order}
    return {a: {b for b in order[i + 1 :] if a not in without[b]} for i, a in enumerate(order)}


def cut_at_once(
    model: nn.Module,
    layers: Mapping[str, nn.Module],
    ends: Ends,
    tensor_of: TensorOf = _first,
) -> dict[str, set[str]]:
    """As :func:`cut_one_by_one`, by one forward pass and a gradient from each layer back to those that feed it.

    Where each step of a way lets a gradient through, but on samples or units so different that all of it together
    does not, the way counts here: fewer pairs, none of them wrong.
    """
    with undisturbed(model), torch.enable_grad():
        with _cut_everywhere(layers, tensor_of) as cuts:
            outputs = ends()
        names = list(cuts)
        # Bit k: every way that is known passes layer k. With none known yet, all bits are set: -1.
        passed = dict.fromkeys(names, -1)
        for k in range(len(names), -1, -1):  # from the output, which passes none, to the first layer
            here = passed[names[k]] | 1 << k if k < len(names) else 0
            tensors = [cuts[names[k]].arriving] if k < len(names) else outputs
            if here != -1:  # a dead end is no way
                for name in _feeding(tensors, names[:k], cuts):
                    passed[name] &= here
    return {a: {b for k, b in enumerate(names) if ways >> k & 1} for a, ways in passed.items() if ways != -1}


class _Cut(NamedTuple):
    """An output as it arrives, and as the graph begins anew with it."""

    arriving: Tensor
    onward: Tensor


@contextmanager
def _cut_everywhere(layers: Mapping[str, nn.Module], tensor_of: TensorOf) -> Iterator[dict[str, _Cut]]:
    """Cut the graph at every layer; outputs that are not floating point are missing."""
    cuts: dict[str, _Cut] = {}

    def visit(name: str, output: object) -> object:
        tensor = tensor_of(name, output)
        if tensor is None or not tensor.is_floating_point():
            return None
        cuts[name] = _Cut(tensor.clone(), tensor.detach().clone().requires_grad_())
        # Copies: an in-place activation downstream must overwrite neither.
        return replace_tensors(output, lambda one: cuts[name].onward.clone() if one is tensor else one)

    with without_cudnn(), intercept(layers, visit):
        yield cuts


def _feeding(tensors: Sequence[Tensor], before: Sequence[str], cuts: Mapping[str, _Cut]) -> list[str]:
    """Layers from which something goes straight into these tensors."""
    gradients = _gradients(tensors, [cuts[name].onward for name in before])
    return [name for name, grad in zip(before, gradients, strict=True) if grad is not None and bool(grad.any())]


def _gradients(outputs: Sequence[Tensor], inputs: Sequence[Tensor]) -> Sequence[Tensor | None]:
    """What arrives at the inputs."""
    ends = [end for end in outputs if end.requires_grad]
    if not ends or not inputs:
        return [None] * len(inputs)
    # Random weights: a plain sum has no gradient through a softmax, a loss none where it is zero already.
    generator = torch.Generator().manual_seed(0)
    weights = [torch.rand(end.shape, generator=generator).to(end) for end in ends]
    # Two layers may read the same part of the graph.
    return torch.autograd.grad(ends, inputs, weights, retain_graph=True, allow_unused=True)


def _looked_at(model: nn.Module, x: Any, forward_fn: ForwardFunction, loss: Callable[[Any], Tensor]) -> tuple[int, ...]:  # noqa: ANN401
    """Places, among the tensors of the outputs, of those that the loss depends on; of all, where that cannot be told.

    From few samples it may not be: a loss can want all of them, or find no pair among these. More outputs than the
    loss looks at are more ways around, and so fewer pairs, none of them wrong.
    """
    leaves: list[Tensor] = []

    def leaf(tensor: Tensor) -> Tensor:
        leaves.append(tensor.detach().requires_grad_(tensor.is_floating_point() or tensor.is_complex()))
        return leaves[-1].clone()  # a loss may work in place

    with undisturbed(model):
        outputs = forward_fn(model, x)
        with torch.enable_grad():
            stand_in = replace_tensors(outputs, leaf)
            places = [i for i, tensor in enumerate(leaves) if tensor.requires_grad]
            try:
                gradients = torch.autograd.grad(loss(stand_in).sum(), [leaves[i] for i in places], allow_unused=True)
            except Exception:  # the user's loss: if it fails on the whole probe too, measuring the errors will say so
                return tuple(places)
    return tuple(i for i, grad in zip(places, gradients, strict=True) if grad is not None) or tuple(places)


def _ends(outputs: object, places: Sequence[int] | None) -> list[Tensor]:
    """The output tensors at these places; the first one where none are given."""
    if places is None:
        first = first_tensor(outputs)
        return [] if first is None else [first]
    tensors = tensors_in(outputs)
    return [tensors[i] for i in places]
