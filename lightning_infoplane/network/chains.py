r"""Which pairs of layers the data-processing inequality speaks of: X → T_a → T_b, found by intervention.

:math:`I(X;T_a) \ge I(X;T_b)` is implied only where a *screens* b: once T_a is known, X makes no difference to
T_b. A skip connection around a breaks that, and no list of module names shows it. So it is tried: all layers are held
at what they put out on some samples, one of them is changed, and those that hear of it are fed by it. If every way from
the inputs to b leads through a, everything b knows came through a.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import InitVar, dataclass, field
from itertools import product
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from lightning_infoplane.network.copies import half_and_half, rows_of
from lightning_infoplane.network.covering import all_pairs, covering, covering_pairs, pairs_of, screening
from lightning_infoplane.network.cuts import ForwardFunction, find_backward_pairs
from lightning_infoplane.network.gradients import ErrorSignals
from lightning_infoplane.network.hooks import intercept
from lightning_infoplane.network.interventions import Watcher, feeding, same, stand_ins
from lightning_infoplane.network.probe import Probe
from lightning_infoplane.network.reader import FIRST, Reader
from lightning_infoplane.network.structures import replace_tensors
from lightning_infoplane.network.undisturbed import undisturbed
from lightning_infoplane.network.untrained import opened, settle

__all__ = ["Chain", "Chains", "covering_pairs", "find_backward_pairs", "find_chain", "find_chains"]

# Samples on which chains are looked for: that layers tell a few from a few others is all that is needed. Even, for
# every second row of what a layer is held at is noise.
_FEW = 4
# The most samples in a pass, as many as a probe of the usual size.
_ROWS = 512
# One by one, so many layers take as little time: a pass of copies is longer, and one more is needed.
_FEW_LAYERS = 32
# Copies in a pass. A thousand layers are a thousand calls a pass, however few the samples: there few passes count. With
# a hundred the samples do.
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
    def alone(self) -> tuple[str, ...]:
        """The layers in no pair.

        Example:
            >>> Chain(("a", "b", "c"), {("a", "b")}).alone
            ('c',)
        """
        paired = {name for pair in self.pairs for name in pair}
        return tuple(name for name in self.layers if name not in paired)

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
        """The chain in words; nothing where there was none to look for."""
        if not self.layers:
            return ""
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
    reader: Reader = FIRST,
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
        reader: what of a layer's output is measured.
    """
    x, z = probe.halves(_FEW)
    at_most = min(batch_size or probe.size, _ROWS)
    few = min(_FEW, probe.size // 2)
    forward = find_chain(model, layers, x, z, forward_fn, at_most, reader, few) if activations else None
    if error_signals is None:
        return Chains(forward, None)
    loss = _loss_of_few(error_signals.loss_fn, probe.targets)
    backward = find_backward_pairs(
        model, layers, x, forward_fn, loss, lambda name, output: reader.tensor(name, output, x, few)
    )
    # A pooled error signal is not all that the earlier one is made of.
    return Chains(forward, [(b, a) for b, a in backward if not reader.leaves_out(b)])


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
    reader: Reader = FIRST,
    n: int | None = None,
) -> Chain:
    """Find the Markov chains among layers by small forward passes: one a layer, or a few dozen for many layers.

    Exact for deterministic networks, up to coincidence. A way along which every layer feeds the next is a way, also
    where what the first one says does not reach the last: fewer pairs, none of them wrong. Parameters that are zero so
    far count as gates that may open, and batch norms that have seen nothing normalise by these samples. The model is
    left as it was.

    Args:
        model: any network.
        layers: by name, as from :func:`~lightning_infoplane.select_layers`.
        x: a few samples, as the model takes them.
        z: as many other samples.
        forward_fn: called as ``forward_fn(model, inputs)`` instead of ``model(inputs)``.
        at_most: samples in a pass. Many layers are looked at in one, each on its own copy of the few samples.
        reader: what is measured of an output. What it leaves out is a way around.
        n: how many samples x is; as many as its first tensor has rows when left out.

    Returns:
        The chain.

    Example:
        >>> net = torch.nn.Sequential(torch.nn.Linear(3, 3), torch.nn.Tanh(), torch.nn.Linear(3, 2))
        >>> find_chain(net, {"0": net[0], "2": net[2]}, torch.eye(3), torch.ones(3, 3)).pairs
        [('0', '2')]
    """
    call = forward_fn or (lambda network, inputs: network(inputs))
    few = rows_of(x) if n is None else n

    def run(inputs: Any, visit: Callable[[str, Any], Any]) -> None:  # noqa: ANN401
        with intercept(layers, visit):
            call(model, replace_tensors(inputs, torch.clone))  # the first layer may overwrite its input

    watcher = Watcher(run, reader)
    with undisturbed(model), opened(model):
        with suppress(Exception):  # what is wrong with x and z on their own will be heard of next
            settle(model, lambda: run(half_and_half(x, z, few), lambda name, output: None))
        on_x = watcher.outputs_on(x, few)
        again = watcher.outputs_on(x, few)
        on_z = watcher.outputs_on(z, few)
        known = [name for name in on_x if name in on_z]
        random = tuple(name for name in known if not same(on_x[name], again.get(name)))
        del again
        steady = [name for name in known if name not in random and on_x[name].shape == on_z[name].shape]
        held = {name: on_x[name] for name in steady}
        fed = _feeding(model, watcher, x, z, few, at_most, held, on_z)
    return Chain(tuple(known), pairs_of(steady, covering(screening(fed))), random)


def _feeding(
    model: nn.Module,
    watcher: Watcher,
    x: Any,  # noqa: ANN401
    z: Any,  # noqa: ANN401
    n: int,
    at_most: int,
    on_x: Mapping[str, Tensor],
    on_z: Mapping[str, Tensor],
) -> Tensor:
    """Who feeds whom, as quickly as the network permits."""
    if not on_x:
        return torch.zeros(1, 0, dtype=torch.bool)
    wanted = max(_LEAST_COPIES, _COPIES_FOR_A_THOUSAND * len(on_x) ** 2 // 1000**2)
    count = min(at_most // n, wanted)
    counts = [count, 1] if len(on_x) > _FEW_LAYERS and count > 2 else [1]
    for copies, noise in product(counts, (True, False)):
        # Whatever goes wrong may be about the batch: its size is fixed, it cannot be repeated, there is no memory. Or
        # about the noise: a network may refuse a scale below zero.
        with suppress(Exception), undisturbed(model):
            return feeding(watcher, x, z, n, stand_ins(on_x, on_z, noise), copies)
    return feeding(watcher, x, z, n, stand_ins(on_x, on_z, noise=False), 1)
