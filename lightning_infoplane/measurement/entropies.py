"""All entropies of one moment: each spectrum once, many in a call, shared out over the processes."""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from lightning_infoplane.estimator.grams import hadamard, normalize_trace, reordered
from lightning_infoplane.estimator.precision import widest_float
from lightning_infoplane.estimator.solvers import Estimate, spectral_entropy
from lightning_infoplane.measurement.formulas import Term, X, Y
from lightning_infoplane.measurement.ranks import Ranks
from lightning_infoplane.measurement.settings import Estimator

__all__ = ["Grams", "entropies", "own_entropies"]

# Bytes of float64 matrices whose spectra are asked for in one call. A GPU's solver makes the host wait at each.
_BATCH_BYTES = {"cpu": 2**24}
_LARGE_BATCH_BYTES = 2**26


class Grams(NamedTuple):
    """Gram matrices ``(n, n)`` of one moment; classes have labels instead, on the CPU, for their blocks."""

    input: Tensor
    labels: Tensor | None
    target: Tensor | None
    layers: Mapping[str, Tensor]

    @property
    def partners(self) -> list[str]:
        """What information is measured with: X, and Y where there are targets."""
        with_targets = self.labels is not None or self.target is not None
        return [X.partner, Y.partner] if with_targets else [X.partner]

    def part(self, keep: Tensor) -> "Grams":
        """The same moment seen by some of the samples only."""

        def cut(gram: Tensor) -> Tensor:
            return normalize_trace(reordered(gram, keep))

        return Grams(
            cut(self.input),
            None if self.labels is None else self.labels[keep],
            None if self.target is None else cut(self.target),
            {name: cut(gram) for name, gram in self.layers.items()},
        )


def entropies(
    grams: Grams,
    terms: Sequence[Term],
    estimator: Estimator,
    ranks: Ranks,
    progress: Callable[[int], object] = lambda layers: None,
    own: Callable[[], dict[Term, Estimate]] | None = None,
) -> dict[Term, Estimate]:
    """Entropies, on the CPU: of X and of Y, scalars, and of each term with the layers in it, ``(layers,)``.

    NaN stands for what the solver did not find.

    Args:
        grams: of one moment.
        terms: with layers in them.
        estimator: order, solver, and seed of the shuffles.
        ranks: among which the layers are shared out.
        progress: called with the number of layers whose spectra are known.
        own: gives the entropies of X and Y where they are known already.

    Raises:
        RuntimeError: on every process, if a spectrum fails on one.
    """
    names = list(grams.layers)
    device = grams.input.device
    estimates = torch.zeros(2, len(names), len(terms), dtype=widest_float(device), device=device)
    mine = slice(ranks.rank, None, ranks.world_size)
    failure = None
    try:
        alone = own() if own is not None else own_entropies(grams, estimator)
        for term, estimate in alone.items():
            if not bool(torch.stack(estimate).isfinite().all()):
                raise ValueError(f"the spectrum of {term.partner} is not that of a Gram matrix")
        step = max(1, _BATCH_BYTES.get(device.type, _LARGE_BATCH_BYTES) // (8 * grams.input.numel()))
        for first in range(0, len(names[mine]), step):
            some = [grams.layers[name] for name in names[mine][first : first + step]]
            stack = torch.stack(some) if len(some) > 1 else some[0].unsqueeze(0)  # a large one is not copied
            columns = [torch.stack(_joint(stack, grams, term, estimator)) for term in terms]
            estimates[:, mine][:, first : first + step] = torch.stack(columns, -1)
            progress(len(stack))
    except (RuntimeError, ValueError) as error:  # no memory, a kernel that is none: the others must hear of it
        failure = error
    # One exchange between the processes, one transfer to the host: nobody has looked at a number until here.
    failed = estimates.new_full((1,), float(failure is not None))
    numbers = ranks.total(torch.cat([estimates.flatten(), failed])).cpu()
    estimates = numbers[:-1].reshape(estimates.shape)
    if numbers[-1] > 0:
        raise RuntimeError(f"the entropies could not be computed: {failure or 'see the other processes'}.") from failure
    return {term: Estimate(*estimates[..., i]) for i, term in enumerate(terms)} | alone


def _joint(stack: Tensor, grams: Grams, term: Term, estimator: Estimator) -> Estimate:
    """Entropies ``(layers,)`` of one term."""
    solver = estimator.solver
    alpha = estimator.alpha
    if not term.partner:
        return solver.estimate(stack, alpha)
    order = None if term.shuffle is None else _shuffled(len(grams.input), estimator.seed, term.shuffle)
    if term.partner == Y.partner and grams.labels is not None:
        return solver.with_classes(stack, grams.labels if order is None else grams.labels[order], alpha)
    partner = grams.input if term.partner == X.partner else grams.target
    assert partner is not None, "a term with Y needs targets"
    if order is not None:
        partner = reordered(partner, order)
    return solver.estimate(hadamard(stack, partner), alpha)


def own_entropies(grams: Grams, estimator: Estimator) -> dict[Term, Estimate]:
    """Entropies of X, and of Y where there are targets: scalars, on the CPU."""
    solver = estimator.solver
    alpha = estimator.alpha
    own = {X: solver.estimate(grams.input, alpha)}
    if grams.labels is not None:
        _, counts = torch.unique(grams.labels, return_counts=True)  # the spectrum of the class kernel, times n
        bits = spectral_entropy(counts.double(), alpha)
        own[Y] = Estimate(bits, torch.zeros_like(bits))
    elif grams.target is not None:
        own[Y] = solver.estimate(grams.target, alpha)
    return {term: Estimate(estimate.bits.cpu(), estimate.stderr.cpu()) for term, estimate in own.items()}


def _shuffled(n: int, seed: int, shuffle: int) -> Tensor:
    """The k-th shuffle of the samples: a function of the seed alone, so epochs share their chance level's noise."""
    return torch.randperm(n, generator=torch.Generator().manual_seed(1_000_003 * seed + shuffle))
