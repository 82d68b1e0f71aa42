r"""Which pairs of layers the data-processing inequality speaks of: X → T_a → T_b, found by intervention.

:math:`I(X;T_a) \ge I(X;T_b)` is implied only where a *screens* b: once T_a is known, X makes no difference to
T_b. A skip connection around a breaks that, and no list of module names shows it. So it is tried: the network
runs on samples z while a's output is replaced by what it was on samples x. If b then puts out what it did on
x, everything b knows came through a.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import InitVar, dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from lightning_infoplane.network.copies import half_and_half, many_at_once, rows_of
from lightning_infoplane.network.covering import all_pairs, covering, covering_pairs, pairs_of
from lightning_infoplane.network.cuts import ForwardFunction, find_backward_pairs
from lightning_infoplane.network.gradients import ErrorSignals
from lightning_infoplane.network.hooks import intercept
from lightning_infoplane.network.interventions import Run, one_by_one, outputs_on, same
from lightning_infoplane.network.probe import Probe
from lightning_infoplane.network.structures import replace_tensors
from lightning_infoplane.network.undisturbed import undisturbed
from lightning_infoplane.network.untrained import opened, settle

__all__ = ["Chain", "Chains", "covering_pairs", "find_backward_pairs", "find_chain", "find_chains"]

# Samples on which chains are looked for: that layers tell a few from a few others is all that is needed.
_FEW = 4
# The most samples in a pass, as many as a probe of the usual size.
_ROWS = 512
# One by one, so many layers take as little time: a pass of copies is longer, and one more is needed.
_FEW_LAYERS = 32
# Copies in a pass. A thousand layers are a thousand calls a pass, however few the samples: there few passes count. With
# a hundred the samples do, and the more copies, the more go into the three passes that try the network.
_LEAST_COPIES = 6
_COPIES_FOR_A_THOUSAND = 125


@dataclass(frozen=True)
class Chain:
    """What the interventions found.

    "a screens b" is transitive: if all that c knows comes through b, and all that b knows through a, then all that
    c knows comes through a. So the pairs that no two shorter ones imply carry the whole relation, and are kept.

    Args:
        layers: in order of execution.
        relation: pairs (a, b) with X → T_a → T_b: all, or enough of them to imply the rest.
        random: layers whose output differs between two runs on the same samples; nothing is known of them.

    Attributes:
        pairs: those that no two shorter ones imply, in order of execution.

    Example:
        >>> Chain(("a", "b", "c"), {("a", "c"), ("a", "b"), ("b", "c")}).pairs
        [('a', 'b'), ('b', 'c')]
    """

    layers: tuple[str, ...]
    relation: InitVar[Iterable[tuple[str, str]]]
    random: tuple[str, ...] = ()
    pairs: list[tuple[str, str]] = field(init=False)

    def __post_init__(self, relation: Iterable[tuple[str, str]]) -> None:
        """Reduce the relation once: it is asked for at every measurement, and goes into every checkpoint."""
        object.__setattr__(self, "pairs", covering_pairs(self.layers, relation))

    @property
    def screened(self) -> frozenset[tuple[str, str]]:
        """All pairs (a, b) with X → T_a → T_b."""
        return all_pairs(self.layers, self.pairs)

    def to_lists(self) -> dict[str, list[Any]]:
        """As plain Python, for a checkpoint."""
        return {
            "layers": list(self.layers),
            "pairs": [list(pair) for pair in self.pairs],
            "random": list(self.random),
        }

    @classmethod
    def from_lists(cls, saved: Mapping[str, Sequence[Any]]) -> "Chain":
        """Back from :meth:`to_lists`."""
        return cls(tuple(saved["layers"]), [(a, b) for a, b in saved["pairs"]], tuple(saved["random"]))

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
    batch_size: int | None = None,
) -> Chains:
    """The chain of the activations and that of the error signals, from a few samples of a probe.

    Args:
        model: any network; it is left as it was.
        layers: by name.
        probe: whose first samples are used.
        forward_fn: called as ``forward_fn(model, inputs)`` instead of ``model(inputs)``.
        activations: whether to look for the forward chain.
        error_signals: how error signals are made, to look for the backward chain; None does not look for it.
        batch_size: the most samples that the network is sent at once; as many as the probe has when left out.
    """
    x, z = probe.halves(_FEW)
    at_most = min(batch_size or probe.size, _ROWS)
    forward = find_chain(model, layers, x, z, forward_fn, at_most) if activations else None
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
    at_most: int = _ROWS,
) -> Chain:
    """Find the Markov chains among layers by small forward passes: one a layer, or a few dozen for many layers.

    Exact for deterministic networks, up to coincidence: of the samples nothing is asked but that the layers
    tell x from z, so a handful is enough. Parameters that are zero so far count as gates that may open, and batch
    norms that have seen nothing normalise by these samples. The model is left as it was.

    Args:
        model: any network.
        layers: by name, as from :func:`~lightning_infoplane.select_layers`.
        x: a few samples, as the model takes them.
        z: as many other samples.
        forward_fn: called as ``forward_fn(model, inputs)`` instead of ``model(inputs)``.
        at_most: samples in a pass. Many layers are looked at in one, each on its own copy of the few samples.

    Returns:
        The chain.

    Example:
        >>> net = torch.nn.Sequential(torch.nn.Linear(3, 3), torch.nn.Tanh(), torch.nn.Linear(3, 2))
        >>> find_chain(net, {"0": net[0], "2": net[2]}, torch.eye(3), torch.ones(3, 3)).pairs
        [('0', '2')]
    """
    call = forward_fn or (lambda network, inputs: network(inputs))

    def run(inputs: Any, visit: Callable[[str, Any], Any]) -> None:  # noqa: ANN401
        with intercept(layers, visit):
            call(model, replace_tensors(inputs, torch.clone))  # the first layer may overwrite its input

    with undisturbed(model), opened(model):
        with suppress(Exception):  # what is wrong with x and z on their own will be heard of next
            settle(model, lambda: run(half_and_half(x, z), lambda name, output: None))
        on_x = outputs_on(run, x)
        again = outputs_on(run, x)
        on_z = outputs_on(run, z)
        known = [name for name in on_x if name in on_z]
        random = {name: None for name in known if not same(on_x[name], again.get(name))}
        # A layer that cannot tell x from z would seem to be screened by everything.
        telling = {name: on_x[name] for name in known if name not in random and not same(on_x[name], on_z[name])}
        del again, on_z  # of all layers at once
        relation = _screening(model, run, x, z, telling, at_most)
    return Chain(tuple(known), pairs_of(list(telling), covering(relation)), tuple(random))


def _screening(model: nn.Module, run: Run, x: Any, z: Any, on_x: Mapping[str, Tensor], at_most: int) -> Tensor:  # noqa: ANN401
    """Whether a screens b, for all layers a (rows) and b (columns) of ``on_x``: as quickly as the network permits."""
    wanted = max(_LEAST_COPIES, _COPIES_FOR_A_THOUSAND * len(on_x) ** 2 // 1000**2)
    count = min(at_most // rows_of(z), wanted)
    many = len(on_x) > _FEW_LAYERS and count > 2
    for exact in (False, True) if many else ():
        # Whatever goes wrong may be about the batch: its size is fixed, it cannot be repeated, there is no memory.
        with suppress(Exception), undisturbed(model):
            return many_at_once(run, x, z, on_x, count, exact)
    return one_by_one(run, z, on_x)
