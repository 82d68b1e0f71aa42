r"""Which pairs of layers the data-processing inequality speaks of: X → T_a → T_b, found by intervention.

:math:`I(X;T_a) \ge I(X;T_b)` is implied only where a *screens* b: once T_a is known, X makes no difference to
T_b. A skip connection around a breaks that, and no list of module names shows it. So it is tried: the network
runs on samples z while a's output is replaced by what it was on samples x. If b then puts out what it did on
x, everything b knows came through a.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from lightning_infoplane.network.gradients import ErrorSignals
from lightning_infoplane.network.hooks import hold, intercept
from lightning_infoplane.network.probe import Probe
from lightning_infoplane.network.structures import first_tensor, replace_tensors, tensors_in
from lightning_infoplane.network.undisturbed import isolated_rng, undisturbed

__all__ = ["Chain", "Chains", "covering_pairs", "find_backward_pairs", "find_chain", "find_chains"]

ForwardFunction = Callable[[nn.Module, Any], Any]

# Relative to the largest value: kernels that sum in another order must not look like a dependence.
_TOLERANCE = 1e-5
# Parameters below this are taken for gates that training has yet to open.
_CLOSED = 1e-3
# Samples on which chains are looked for: that layers tell a few from a few others is all that is needed.
_FEW = 4


class Chain(NamedTuple):
    """What the interventions found.

    Args:
        layers: in order of execution.
        screened: pairs (a, b) with X → T_a → T_b.
        random: layers whose output differs between two runs on the same samples; nothing is known of them.
    """

    layers: tuple[str, ...]
    screened: frozenset[tuple[str, str]]
    random: tuple[str, ...]

    @property
    def pairs(self) -> list[tuple[str, str]]:
        """The pairs that no two shorter ones imply, in order of execution."""
        return covering_pairs(self.layers, self.screened)

    def to_lists(self) -> dict[str, list[Any]]:
        """As plain Python, for a checkpoint."""
        return {
            "layers": list(self.layers),
            "screened": sorted([a, b] for a, b in self.screened),
            "random": list(self.random),
        }

    @classmethod
    def from_lists(cls, saved: Mapping[str, Sequence[Any]]) -> "Chain":
        """Back from :meth:`to_lists`."""
        return cls(tuple(saved["layers"]), frozenset((a, b) for a, b in saved["screened"]), tuple(saved["random"]))

    def describe(self) -> str:
        """The chain in words."""
        lines = [f"{a} → {b}" for a, b in self.pairs] or ["no layer screens another: the inequality implies nothing"]
        lines += [f"{name}: random, left out" for name in self.random]
        return "\n".join(lines)


class Chains(NamedTuple):
    """What is known of a network's Markov chains.

    Args:
        forward: of the activations; None if it was not looked for.
        backward: pairs of layers whose error signals form a chain, the deeper one first; None likewise.
    """

    forward: Chain | None = None
    backward: list[tuple[str, str]] | None = None

    def to_lists(self) -> dict[str, Any]:
        """As plain Python, for a checkpoint."""
        return {
            "forward": None if self.forward is None else self.forward.to_lists(),
            "backward": None if self.backward is None else [list(pair) for pair in self.backward],
        }

    @classmethod
    def from_lists(cls, saved: Mapping[str, Any]) -> "Chains":
        """Back from :meth:`to_lists`."""
        forward = saved["forward"]
        backward = saved["backward"]
        return cls(
            None if forward is None else Chain.from_lists(forward),
            None if backward is None else [(b, a) for b, a in backward],
        )


def find_chains(
    model: nn.Module,
    layers: Mapping[str, nn.Module],
    probe: Probe,
    forward_fn: ForwardFunction | None = None,
    activations: bool = True,
    error_signals: ErrorSignals | None = None,
) -> Chains:
    """The chain of the activations and that of the error signals, from a few samples of a probe.

    Args:
        model: any network; it is left as it was.
        layers: by name.
        probe: whose first samples are used.
        forward_fn: called as ``forward_fn(model, inputs)`` instead of ``model(inputs)``.
        activations: whether to look for the forward chain.
        error_signals: how error signals are made, to look for the backward chain; None does not look for it.
    """
    x, z = probe.halves(_FEW)
    forward = find_chain(model, layers, x, z, forward_fn) if activations else None
    if error_signals is None:
        return Chains(forward, None)
    return Chains(
        forward, find_backward_pairs(model, layers, x, forward_fn, _loss_of_few(error_signals.loss_fn, probe.targets))
    )


def _loss_of_few(
    loss_fn: Callable[[Any, Tensor], Tensor] | None, targets: Tensor | None
) -> Callable[[Any], Tensor] | None:
    """The user's loss as a function of the outputs for the first half of :meth:`Probe.halves`."""
    if loss_fn is None or targets is None:
        return None
    few = targets[: min(_FEW, len(targets) // 2)]
    return lambda outputs: loss_fn(outputs, few)


def find_chain(
    model: nn.Module,
    layers: Mapping[str, nn.Module],
    x: Any,  # noqa: ANN401 - whatever the model takes
    z: Any,  # noqa: ANN401
    forward_fn: ForwardFunction | None = None,
) -> Chain:
    """Find the Markov chains among layers by one small forward pass a layer.

    Exact for deterministic networks, up to coincidence: of the samples nothing is asked but that the layers
    tell x from z, so a handful is enough. Parameters that are zero so far count as gates that may open. The
    model is left as it was.

    Args:
        model: any network.
        layers: by name, as from :func:`~lightning_infoplane.select_layers`.
        x: a few samples, as the model takes them.
        z: as many other samples.
        forward_fn: called as ``forward_fn(model, inputs)`` instead of ``model(inputs)``.

    Returns:
        The chain.

    Example:
        >>> net = torch.nn.Sequential(torch.nn.Linear(3, 3), torch.nn.Tanh(), torch.nn.Linear(3, 2))
        >>> find_chain(net, {"0": net[0], "2": net[2]}, torch.eye(3), torch.ones(3, 3)).pairs
        [('0', '2')]
    """
    call = forward_fn or (lambda network, inputs: network(inputs))

    def run(inputs: Any, replace: Mapping[str, Tensor]) -> dict[str, Tensor]:  # noqa: ANN401
        seen: dict[str, Tensor] = {}

        def visit(name: str, output: object) -> object:
            tensor = replace.get(name, first_tensor(output))
            if tensor is None:
                return None
            # Clones both ways: an in-place activation downstream must spoil neither the note nor the stand-in.
            seen[name] = tensor.clone()
            # Only the tensor that is measured: whatever else a layer puts out is a way around it.
            return replace_tensors(output, lambda _: tensor.clone(), first_only=True) if name in replace else None

        with intercept(layers, visit):
            call(model, inputs)
        return seen

    with undisturbed(model), _opened(model):
        on_x = run(x, {})
        again = run(x, {})
        on_z = run(z, {})
        known = [name for name in on_x if name in on_z]
        random = tuple(name for name in known if not _same(on_x[name], again.get(name)))
        # A layer that cannot tell x from z would seem to be screened by everything.
        telling = [name for name in known if name not in random and not _same(on_x[name], on_z[name])]
        screened = set()
        for a in telling:
            seen = run(z, {a: on_x[a]})
            screened |= {(a, b) for b in telling if b != a and _same(on_x[b], seen.get(b))}
    return Chain(tuple(known), frozenset(screened), random)


def find_backward_pairs(
    model: nn.Module,
    layers: Mapping[str, nn.Module],
    x: Any,  # noqa: ANN401
    forward_fn: ForwardFunction | None = None,
    loss: Callable[[Any], Tensor] | None = None,
) -> list[tuple[str, str]]:
    r"""Pairs (b, a) whose error signals are a chain :math:`\delta_b \to \delta_a`: a reaches the output through b only.

    The graph is cut at b; if no gradient arrives at a then, all of it had come through b. Pairs that two
    shorter ones imply are left out.

    Args:
        model: any differentiable network.
        layers: by name.
        x: a few samples, as the model takes them.
        forward_fn: called as ``forward_fn(model, inputs)`` instead of ``model(inputs)``.
        loss: of the outputs for x; errors come from the outputs that it looks at. From the first one if left out.

    Returns:
        Pairs, the deeper layer first, from the output down.

    Example:
        >>> net = torch.nn.Sequential(torch.nn.Linear(3, 3), torch.nn.Tanh(), torch.nn.Linear(3, 2))
        >>> find_backward_pairs(net, {"0": net[0], "2": net[2]}, torch.eye(3))
        [('2', '0')]
    """
    call = forward_fn or (lambda network, inputs: network(inputs))
    places = None if loss is None else _looked_at(model, x, call, loss)
    reached = _reached(model, layers, x, None, call, places)
    through = {b: reached - _reached(model, layers, x, b, call, places) - {b} for b in reached}
    order = [name for name in _execution_order(model, layers, x, call) if name in reached]
    chains = frozenset(
        (b, a) for b, reached_through in through.items() for a in reached_through if order.index(a) < order.index(b)
    )
    return covering_pairs(order[::-1], chains)


def _reached(
    model: nn.Module,
    layers: Mapping[str, nn.Module],
    x: Any,  # noqa: ANN401
    cut: str | None,
    forward_fn: ForwardFunction,
    places: Sequence[int] | None,
) -> set[str]:
    """Layers at which a gradient of the outputs arrives when the graph is cut at one of them."""
    with undisturbed(model), _opened(model), torch.enable_grad():
        with hold(layers, cut) as held:
            outputs = forward_fn(model, x)
        ends = [end for end in _ends(outputs, places) if end.requires_grad]
        if not ends or not held:
            return set()
        # Random weights: a plain sum has no gradient through a softmax, a loss none where it is zero already.
        generator = torch.Generator().manual_seed(0)
        weights = [torch.rand(end.shape, generator=generator).to(end) for end in ends]
        gradients = torch.autograd.grad(ends, list(held.values()), weights, allow_unused=True)
    return {name for name, grad in zip(held, gradients, strict=True) if grad is not None and bool(grad.any())}


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


@contextmanager
def _opened(model: nn.Module) -> Iterator[None]:
    """Random numbers in place of parameters that are all but zero.

    Blocks often begin as the identity, their last gain zero. Whoever looks at such a network before training
    sees no branch, only what goes around it, and finds pairs that hold for no step after the first.
    """
    closed = [
        parameter.data  # writes through .data are seen by no graph that is still alive
        for parameter in model.parameters()
        if parameter.numel() and not parameter.is_inference() and bool(parameter.detach().abs().max() < _CLOSED)
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


def _execution_order(
    model: nn.Module,
    layers: Mapping[str, nn.Module],
    x: Any,  # noqa: ANN401
    forward_fn: ForwardFunction,
) -> list[str]:
    """Names in the order of their calls."""
    called: list[str] = []
    with undisturbed(model), intercept(layers, lambda name, output: called.append(name)):
        forward_fn(model, x)
    return called


def covering_pairs(layers: Sequence[str], screened: frozenset[tuple[str, str]]) -> list[tuple[str, str]]:
    """Pairs of a transitive relation that are not implied by two others, in the order of ``layers``.

    Example:
        >>> covering_pairs("abc", frozenset({("a", "b"), ("b", "c"), ("a", "c")}))
        [('a', 'b'), ('b', 'c')]
    """
    return [
        (a, b)
        for a in layers
        for b in layers
        if (a, b) in screened and not any((a, c) in screened and (c, b) in screened for c in layers)
    ]


def _same(a: Tensor, b: Tensor | None) -> bool:
    """Whether two outputs agree."""
    if b is None or a.shape != b.shape:
        return False
    if torch.equal(a, b) or not a.is_floating_point():
        return torch.equal(a, b)
    scale = a.nan_to_num(0, 0, 0).abs().max()  # masked scores are infinite
    return torch.allclose(a, b, rtol=0, atol=_TOLERANCE * float(scale), equal_nan=True)
