"""All entropies of one moment: each spectrum once, many in a call, shared out over the processes."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from lightning_infoplane.bandwidths import Bandwidth, MedianDistance
from lightning_infoplane.entropy import (
    Eigenvalues,
    Estimate,
    Solver,
    check_alpha,
    hadamard,
    normalize_trace,
    spectral_entropy,
)
from lightning_infoplane.pairs import Redundancy
from lightning_infoplane.precision import widest_float

__all__ = ["Grams", "Settings", "Share", "entropies", "own_entropies"]

# Bytes of float64 matrices whose spectra are asked for in one call. A GPU's solver makes the host wait at each.
_BATCH_BYTES = {"cpu": 2**24}
_LARGE_BATCH_BYTES = 2**26


@dataclass(frozen=True)
class Settings:
    """How to measure: the arguments of :class:`~lightning_infoplane.InformationPlane`."""

    alpha: float = 1.01
    bandwidth: Bandwidth = MedianDistance()
    target_bandwidth: Bandwidth | None = None
    solver: Solver = Eigenvalues()
    chance: int = 1
    seed: int = 0
    jackknife: int = 0
    redundancy: Redundancy | None = None

    def __post_init__(self) -> None:
        """Check the fields."""
        check_alpha(self.alpha)
        if self.chance < 0:
            raise ValueError(f"chance={self.chance}: expected 0 (off), 1, or more shuffles to average.")
        if self.jackknife < 0 or self.jackknife == 1:
            raise ValueError(f"jackknife={self.jackknife}: expected 0 (off), or 2 groups and more; 8 are usual.")


@dataclass(frozen=True)
class Share:
    """The part of the spectral work that is this process's; here, one process that does everything.

    Args:
        rank: of this process.
        world_size: how many there are.
        first: gives every process the tensor of rank 0.
        total: gives every process the sum over all.
    """

    rank: int = 0
    world_size: int = 1
    first: Callable[[Tensor], Tensor] = lambda tensor: tensor
    total: Callable[[Tensor], Tensor] = lambda tensor: tensor


class Grams(NamedTuple):
    """Gram matrices ``(n, n)`` of one moment; classes have labels instead, on the CPU, for their blocks."""

    input: Tensor
    labels: Tensor | None
    target: Tensor | None
    layers: Mapping[str, Tensor]

    @property
    def partners(self) -> list[str]:
        """What information is measured with: X, and Y where there are targets."""
        return ["X"] if self.labels is None and self.target is None else ["X", "Y"]

    def part(self, keep: Tensor) -> "Grams":
        """The same moment seen by some of the samples only."""

        def cut(gram: Tensor) -> Tensor:
            here = keep.to(gram.device)
            return normalize_trace(gram[here][:, here])

        return Grams(
            cut(self.input),
            None if self.labels is None else self.labels[keep],
            None if self.target is None else cut(self.target),
            {name: cut(gram) for name, gram in self.layers.items()},
        )


def entropies(
    grams: Grams,
    settings: Settings,
    share: Share,
    progress: Callable[[int], object] = lambda layers: None,
    own: Callable[[], dict[str, Estimate]] | None = None,
) -> dict[str, Estimate]:
    """Entropies, on the CPU, of the layers T, ``(layers,)`` each, by what they are joint with, and of X and Y.

    Keys: ``"T"``; ``"TX"``, ``"TY"``; ``"TX0"``, ``"TY0"``, ``"TX1"``, … with the samples of X or Y shuffled;
    ``"X"``, ``"Y"``, scalars, which ``own`` gives where they are known already.

    NaN stands for what the solver did not find.

    Raises:
        RuntimeError: on every process, if a spectrum fails on one.
    """
    shuffles = [f"T{partner}{k}" for k in range(settings.chance) for partner in grams.partners]
    terms = ["T", *(f"T{partner}" for partner in grams.partners), *shuffles]
    names, device = list(grams.layers), grams.input.device
    estimates = torch.zeros(2, len(names), len(terms), dtype=widest_float(device), device=device)
    mine, failure = slice(share.rank, None, share.world_size), None
    try:
        alone = own() if own is not None else own_entropies(grams, settings)
        for name, estimate in alone.items():
            if not bool(torch.stack(estimate).isfinite().all()):
                raise ValueError(f"the spectrum of {name} is not that of a Gram matrix")
        step = max(1, _BATCH_BYTES.get(device.type, _LARGE_BATCH_BYTES) // (8 * grams.input.numel()))
        for first in range(0, len(names[mine]), step):
            some = [grams.layers[name] for name in names[mine][first : first + step]]
            stack = torch.stack(some) if len(some) > 1 else some[0].unsqueeze(0)  # a large one is not copied
            columns = [torch.stack(_joint(stack, grams, term, settings)) for term in terms]
            estimates[:, mine][:, first : first + step] = torch.stack(columns, -1)
            progress(len(stack))
    except (RuntimeError, ValueError) as error:  # no memory, a kernel that is none: the others must hear of it
        failure = error
    # One exchange between the processes, one transfer to the host: nobody has looked at a number until here.
    failed = estimates.new_full((1,), float(failure is not None))
    numbers = share.total(torch.cat([estimates.flatten(), failed])).cpu()
    estimates = numbers[:-1].reshape(estimates.shape)
    if numbers[-1] > 0:
        raise RuntimeError(f"the entropies could not be computed: {failure or 'see the other processes'}.") from failure
    return {term: Estimate(*estimates[..., i]) for i, term in enumerate(terms)} | alone


def _joint(stack: Tensor, grams: Grams, term: str, settings: Settings) -> Estimate:
    """Entropies ``(layers,)`` of one term."""
    solver, alpha = settings.solver, settings.alpha
    if term == "T":
        return solver.estimate(stack, alpha)
    order = _shuffled(len(grams.input), settings.seed, int(term[2:])) if term[2:] else None
    if term[1] == "Y" and grams.labels is not None:
        return solver.with_classes(stack, grams.labels if order is None else grams.labels[order], alpha)
    partner = grams.input if term[1] == "X" else grams.target
    assert partner is not None, "a term with Y needs targets"
    if order is not None:
        order = order.to(partner.device)
        partner = partner[order][:, order]
    return solver.estimate(hadamard(stack, partner), alpha)


def own_entropies(grams: Grams, settings: Settings) -> dict[str, Estimate]:
    """Entropies of X, and of Y where there are targets: scalars, on the CPU."""
    solver, alpha = settings.solver, settings.alpha
    found = {"X": solver.estimate(grams.input, alpha)}
    if grams.labels is not None:
        _, counts = torch.unique(grams.labels, return_counts=True)  # the spectrum of the class kernel, times n
        bits = spectral_entropy(counts.double(), alpha)
        found["Y"] = Estimate(bits, torch.zeros_like(bits))
    elif grams.target is not None:
        found["Y"] = solver.estimate(grams.target, alpha)
    return {name: Estimate(estimate.bits.cpu(), estimate.stderr.cpu()) for name, estimate in found.items()}


def _shuffled(n: int, seed: int, shuffle: int) -> Tensor:
    """The k-th shuffle of the samples: a function of the seed alone, so epochs share their chance level's noise."""
    return torch.randperm(n, generator=torch.Generator().manual_seed(1_000_003 * seed + shuffle))
