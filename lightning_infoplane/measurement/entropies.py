"""All numbers of one moment that need Gram matrices: each once, many in a call, shared out over the processes."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from lightning_infoplane.estimator.grams import class_gram, hadamard, reordered
from lightning_infoplane.estimator.permutations import Centred, alignment_of, centred, p_value_of
from lightning_infoplane.estimator.precision import widest_float
from lightning_infoplane.estimator.solvers import Estimate, Solver, spectral_entropy
from lightning_infoplane.measurement.division import Part, seen_by, width
from lightning_infoplane.measurement.formulas import Alignment, Leaf, Term
from lightning_infoplane.measurement.ranks import Ranks
from lightning_infoplane.measurement.settings import Estimator

__all__ = ["Known", "Sides", "numbers", "own_entropies"]

# Bytes of float64 matrices whose spectra are asked for in one call. A GPU's solver makes the host wait at each.
_BATCH_BYTES = {"cpu": 2**24}
_LARGE_BATCH_BYTES = 2**26

# Samples below which dependence says nothing: its third moment under permutation needs six.
_FEWEST = 6

# Of X and Y scalars, of what has the layers in it ``(layers,)``; on the CPU.
Known = dict[Leaf, Estimate]


@dataclass(frozen=True)
class Sides:
    """What layers are compared with, as Gram matrices ``(n, n)``; classes have labels instead, on the CPU.

    Args:
        input: of X.
        labels: of Y, ``(n,)``, for classes under the class kernel.
        target: of Y otherwise.
        input_width: where the bandwidth of X and of the layers follows the samples, see
            :func:`~lightning_infoplane.measurement.division.width`.
        target_width: the same of Y.
    """

    input: Tensor
    labels: Tensor | None = None
    target: Tensor | None = None
    input_width: Tensor | None = None
    target_width: Tensor | None = None

    @property
    def variables(self) -> list[str]:
        """X, and Y where there are targets."""
        return ["X"] if self.labels is None and self.target is None else ["X", "Y"]

    @cached_property
    def centred(self) -> dict[str, Centred]:
        """X and Y as tests of independence need them: made once, for they are the same at every measurement."""
        return {variable: centred(self.matrix(variable)) for variable in self.variables}

    def matrix(self, variable: str) -> Tensor:
        """The Gram matrix of X or Y."""
        if variable == "X":
            return self.input
        if self.target is not None:
            return self.target
        assert self.labels is not None, "a number with Y needs targets"
        return class_gram(self.labels.to(self.input.device)).to(self.input)

    def seen_by(self, part: Part) -> "Sides":
        """The same for some of the samples."""
        if part.keep is None:
            return self
        return Sides(
            seen_by(part, self.input, self.input_width),
            None if self.labels is None else self.labels[part.keep],
            None if self.target is None else seen_by(part, self.target, self.target_width),
        )


class _Moment:
    """A stack of layers ``(layers, n, n)`` beside X and Y, all of the same samples."""

    def __init__(self, stack: Tensor, sides: Sides, part: Part, estimator: Estimator) -> None:
        self.stack = stack
        self.sides = sides
        self.part = part
        self.estimator = estimator

    @cached_property
    def centred(self) -> Centred:
        """The layers as tests of independence need them."""
        return centred(self.stack)

    def number(self, leaf: Leaf) -> Estimate:
        """One number of each layer; NaN where there is none."""
        if isinstance(leaf, Term):
            # What is only compared with others of its kind may be 5e-5 bits off: its error is a hundred times that.
            is_rough = self.part.keep is not None or leaf.shuffle is not None or leaf.first == leaf.second
            solver = self.estimator.solver.rough() if is_rough else self.estimator.solver
            estimate = self._entropy(leaf, solver)
            return Estimate(*(value.to(widest_float(value.device)) for value in estimate))
        if self.stack.shape[-1] < _FEWEST:
            value = self.stack.new_full(self.stack.shape[:1], torch.nan)
        else:
            compare = alignment_of if isinstance(leaf, Alignment) else p_value_of
            value = compare(self.centred, self.sides.centred[leaf.second])
        return Estimate(value, torch.zeros_like(value))

    def _entropy(self, term: Term, solver: Solver) -> Estimate:
        """Entropies ``(layers,)`` of a term with the layers in it."""
        alpha = self.estimator.alpha
        if not term.second:
            return solver.estimate(self.stack, alpha)
        order = None if term.shuffle is None else self.part.orders[term.shuffle]
        labels = self.sides.labels
        if term.second == "Y" and labels is not None:
            return solver.with_classes(self.stack, labels if order is None else labels[order], alpha)
        other = self.stack if term.second == "T" else self.sides.matrix(term.second)
        return solver.estimate(hadamard(self.stack, other if order is None else reordered(other, order)), alpha)


def numbers(
    sides: Sides,
    layers: Mapping[str, Tensor],
    leaves: Sequence[Sequence[Leaf]],
    parts: Sequence[Part],
    estimator: Estimator,
    ranks: Ranks,
    progress: Callable[[int], object] = lambda layers: None,
    own: Callable[[], list[Known]] = list,
) -> list[Known]:
    """What was asked for of each part of the samples. NaN stands for what was not found.

    Args:
        sides: X and Y.
        layers: Gram matrices ``(n, n)`` by name.
        leaves: for each part, numbers with the layers in them.
        parts: of the samples.
        estimator: order and solver.
        ranks: among which the layers are shared out.
        progress: called with the number of layers whose numbers are known.
        own: gives the entropies of X and Y for each part, which are added; none are where it is left out.

    Raises:
        RuntimeError: on every process, if a spectrum fails on one.
    """
    names = list(layers)
    device = sides.input.device
    asked = [(part, leaf) for part, wanted in zip(parts, leaves, strict=True) for leaf in wanted]
    found = torch.zeros(2, len(names), len(asked), dtype=widest_float(device), device=device)
    mine = slice(ranks.rank, None, ranks.world_size)
    failure = None
    try:
        alone = own() or [{} for _ in parts]
        seen = [sides.seen_by(part) for part in parts]
        step = max(1, _BATCH_BYTES.get(device.type, _LARGE_BATCH_BYTES) // (8 * sides.input.numel()))
        for first in range(0, len(names[mine]), step):
            some = [layers[name] for name in names[mine][first : first + step]]
            stack = torch.stack(some) if len(some) > 1 else some[0].unsqueeze(0)  # a large one is not copied
            whole_width = None if sides.input_width is None else width(stack, roughly=True)
            columns = []
            for part, side, wanted in zip(parts, seen, leaves, strict=True):
                moment = _Moment(seen_by(part, stack, whole_width), side, part, estimator)
                columns += [torch.stack(moment.number(leaf)) for leaf in wanted]
            found[:, mine][:, first : first + step] = torch.stack(columns, -1)
            progress(len(stack))
    except Exception as error:  # no memory, a user's solver: the others must hear of it, whatever it is
        failure = error
    # One exchange between the processes, one transfer to the host: nobody has looked at a number until here.
    failed = found.new_full((1,), float(failure is not None))
    together = ranks.total(torch.cat([found.flatten(), failed])).cpu()
    found = together[:-1].reshape(found.shape)
    if together[-1] > 0:
        raise RuntimeError(f"the entropies could not be computed: {ranks.reason(failure)}.") from failure
    column = iter(range(len(asked)))
    return [
        {leaf: Estimate(*found[..., next(column)]) for leaf in wanted} | known
        for wanted, known in zip(leaves, alone, strict=True)
    ]


def own_entropies(sides: Sides, terms: Sequence[Leaf], parts: Sequence[Part], estimator: Estimator) -> list[Known]:
    """Entropies of X and Y without any layer, for each part: scalars, on the CPU.

    Raises:
        ValueError: if X or Y has no spectrum.
    """
    seen = [(part, sides.seen_by(part)) for part in parts]
    found = [_own_entropy(side, term, part, estimator) for part, side in seen for term in terms]
    numbers = iter(torch.stack(found).cpu()) if found else iter(())  # one transfer to the host
    known: list[Known] = [{term: Estimate(*next(numbers)) for term in terms} for _ in parts]
    for term, estimate in known[0].items():
        if not bool(torch.stack(estimate).isfinite().all()):
            raise ValueError(f"the spectrum of {term.first} is not that of a Gram matrix")
    return known


def _own_entropy(seen: Sides, term: Leaf, part: Part, estimator: Estimator) -> Tensor:
    """Value and standard error, ``(2,)``, where the matrices are."""
    assert isinstance(term, Term), "of X and Y alone only entropies are asked for"
    if term.first == "Y" and seen.labels is not None:
        bits = _class_entropy(seen.labels, term, part.orders, estimator.alpha).to(seen.input.device)
        return torch.stack([bits, torch.zeros_like(bits)])
    # The variable takes the place of the layer.
    place = term._replace(first="T", second="T" if term.second else "")
    moment = _Moment(seen.matrix(term.first).unsqueeze(0), seen, part, estimator)
    return torch.stack(moment.number(place)).squeeze(-1)


def _class_entropy(labels: Tensor, term: Term, orders: Tensor, alpha: float) -> Tensor:
    """Of classes alone or joint with their own shuffle: the spectrum of the class kernel is the counts, over n."""
    both = labels if term.shuffle is None else torch.stack([labels, labels[orders[term.shuffle]]], -1)
    _, counts = torch.unique(both, dim=0, return_counts=True)
    return spectral_entropy(counts.to(torch.float64), alpha)
