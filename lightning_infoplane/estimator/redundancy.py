r"""Redundancy and synergy among the feature maps of a layer: the partial information decomposition of pairs."""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from lightning_infoplane.arguments.checks import COUNT, FLAG, SEED, checked
from lightning_infoplane.estimator.bandwidths import Bandwidth
from lightning_infoplane.estimator.dependence import cyclic_shuffles
from lightning_infoplane.estimator.distances import pairwise_squares
from lightning_infoplane.estimator.grams import gaussian_gram, normalize_trace, reordered
from lightning_infoplane.estimator.information import total_correlation
from lightning_infoplane.estimator.map_pairs import choose_map_pairs, pair_excess, pair_information
from lightning_infoplane.estimator.precision import seeded_part, upcast
from lightning_infoplane.estimator.solvers import Eigenvalues, Estimate, Solver

__all__ = [
    "LayerRedundancy",
    "Redundancy",
    "adjusted_total_correlation",
    "layer_redundancy",
    "non_redundant_information",
    "redundancy_synergy",
]

# Bits beyond chance are differences of entropies, a hundredth at least: the 1e-5 that float32 costs do not show.
_SOLVER = Eigenvalues(torch.float32)
# Less room than this, in bits, between maps that are copies and maps that are independent is that of rounding.
_NO_ROOM = 1e-4


@dataclass(frozen=True)
@checked(map_pairs=COUNT, samples=COUNT, seed=SEED, shuffles=COUNT, paper=FLAG)
class Redundancy:
    """How the feature maps of a layer are compared: all pairs of 512 maps would take minutes.

    Bandwidths are those of the moment, also under a rule that freezes or smooths the layer's.

    Args:
        map_pairs: pairs of feature maps, at most; the same ones at every measurement.
        samples: of the probe, at most; a spectrum costs their cube.
        seed: of the choice of pairs, and of the shuffles.
        shuffles: that chance is the mean of.
        paper: as arXiv 1804.06537 defines it: kernels of pairs are products, and information holds its chance level.
    """

    map_pairs: int = 64
    samples: int = 128
    seed: int = 0
    shuffles: int = 2
    paper: bool = False

    def __post_init__(self) -> None:
        """Check the numbers together."""
        if self.map_pairs < 1 or self.samples < 2 or self.shuffles < 1:
            raise ValueError(f"{self}: expected map_pairs >= 1, samples >= 2 and shuffles >= 1.")


def redundancy_synergy(
    x: Tensor,
    maps: Tensor,
    alpha: float = 1.01,
    map_pairs: Tensor | None = None,
    *,
    paper: bool = False,
    widening: float = 2**0.5,
    shuffles: int = 2,
    seed: int = 0,
) -> Tensor:
    r"""Redundancy minus synergy of a layer's feature maps beyond chance: the mean over pairs, in bits.

    .. math:: \overline{E(X;T^i) + E(X;T^j) - E(X;\{T^i,T^j\})} = \text{redundancy} - \text{synergy}

    with :math:`E(X;T) = \overline{S(\pi X, T)} - S(X, T)` over shuffles :math:`\pi` of the samples, and the kernel
    :math:`(K_i \circ K_j)^{1/w^2}` of a pair: 0 for maps that have nothing to do with x, and for copies of a map what
    that map tells. ``paper=True`` is the paper's definition, I(X;T) in place of E(X;T) and the product
    :math:`K_i \circ K_j`: there noise has a value far from 0, and Gaussian copies seem to know more than one of them.

    Args:
        x: Gram matrix ``(n, n)`` of the input.
        maps: Gram matrices ``(C, n, n)``, one a map, with the bandwidth that it has alone.
        alpha: the order.
        map_pairs: ``(P, 2)`` indices; all pairs when left out.
        paper: the definition of arXiv 1804.06537; the arguments below then mean nothing.
        widening: w, how much wider a map's bandwidth is in a pair than alone, as ``rule.widening(2)`` says.
        shuffles: how many.
        seed: of the shuffles; the global RNG is not touched.

    Returns:
        A scalar, positive where redundancy dominates.

    Raises:
        ValueError: for fewer than two maps, matrices that are not trace-one Gram matrices, or, unless ``widening=1``,
            negative entries.

    Source: arXiv 1804.06537; bandwidths of a pair and the chance level are this project's.

    Example:
        >>> bit = class_gram(torch.arange(64) % 2)
        >>> redundancy_synergy(bit, torch.stack([bit, bit]))  # a copy: one bit of redundancy
        tensor(1.0, dtype=torch.float64)
        >>> redundancy_synergy(bit, torch.stack([bit, bit]), paper=True)
        tensor(1.0000, dtype=torch.float64)
    """
    FLAG("paper", paper)
    if paper:
        return pair_information(x, maps, alpha, map_pairs).redundancy_synergy().mean()
    found = pair_excess(x, maps, alpha, map_pairs, widening=widening, shuffles=shuffles, seed=seed)
    return found.redundancy_synergy().mean()


def non_redundant_information(
    x: Tensor,
    maps: Tensor,
    alpha: float = 1.01,
    map_pairs: Tensor | None = None,
    *,
    paper: bool = False,
    widening: float = 2**0.5,
    shuffles: int = 2,
    seed: int = 0,
) -> Tensor:
    r"""Weighted non-redundant information of a layer's feature maps beyond chance: the mean over pairs, in bits.

    .. math:: \overline{2 E(X;\{T^i,T^j\}) - E(X;T^i) - E(X;T^j)}
        = \text{unique}_i + \text{unique}_j + 2\,\text{synergy}

    with :math:`E(X;T) = \overline{S(\pi X, T)} - S(X, T)` over shuffles :math:`\pi` of the samples, and the kernel
    :math:`(K_i \circ K_j)^{1/w^2}` of a pair: 0 for maps that have nothing to do with x, and for copies.
    ``paper=True`` is the paper's definition, I(X;T) in place of E(X;T) and the product :math:`K_i \circ K_j`.

    Args:
        x: Gram matrix ``(n, n)`` of the input.
        maps: Gram matrices ``(C, n, n)``, one a map, with the bandwidth that it has alone.
        alpha: the order.
        map_pairs: ``(P, 2)`` indices; all pairs when left out.
        paper: the definition of arXiv 1804.06537; the arguments below then mean nothing.
        widening: w, how much wider a map's bandwidth is in a pair than alone, as ``rule.widening(2)`` says.
        shuffles: how many.
        seed: of the shuffles; the global RNG is not touched.

    Returns:
        A scalar.

    Raises:
        ValueError: for fewer than two maps, matrices that are not trace-one Gram matrices, or, unless ``widening=1``,
            negative entries.

    Source: arXiv 1804.06537; bandwidths of a pair and the chance level are this project's.

    Example:
        >>> a, b = torch.arange(256) % 2, torch.arange(256) // 2 % 2
        >>> maps = torch.stack([class_gram(a), class_gram(b)])
        >>> non_redundant_information(class_gram(a ^ b), maps)  # XOR: twice one bit of synergy
        tensor(2.0, dtype=torch.float64)
        >>> non_redundant_information(class_gram(a ^ b), maps, paper=True)
        tensor(2.0000, dtype=torch.float64)
    """
    FLAG("paper", paper)
    if paper:
        return pair_information(x, maps, alpha, map_pairs).non_redundant().mean()
    found = pair_excess(x, maps, alpha, map_pairs, widening=widening, shuffles=shuffles, seed=seed)
    return found.non_redundant().mean()


def adjusted_total_correlation(
    log_kernels: Tensor,
    bandwidth: Bandwidth,
    alpha: float = 1.01,
    shuffles: int = 2,
    seed: int = 0,
    solver: Solver | None = None,
) -> Tensor:
    r"""Total correlation of maps beyond chance, as a part of what copies would have: no unit.

    .. math:: T^* = \frac{\overline{S_\pi} - S}{\overline{S_\pi} - \overline{S_i}}, \qquad
        S = S\Bigl(\prod_i K_i^{1/w^2}\Bigr)

    with w the widening of bandwidths in the set of live maps, :math:`S_\pi` the joint entropy after the samples of
    every map were shuffled on their own, and :math:`S_i` the entropy of a live map with the bandwidth that it has
    alone. 0 for independent maps, 1 for copies, also for isometries and rescaled copies. At α = 2 and w the root of the
    number of maps, as under ``MedianDistance``, never above 1: there :math:`S(\prod_i K_i^{1/C})` is at least the mean
    of the :math:`S_i`, because the logarithm of a sum of exponentials is convex. It need not be the largest of them, as
    in the total correlation of products: a rich map in a joint of many poor ones counts in part.

    Args:
        log_kernels: ``(C, n, n)``, logarithms of kernels with ones on the diagonal, such as -d²/(2σ²).
        bandwidth: the rule that the bandwidths are of.
        alpha: the order.
        shuffles: how many of every map.
        seed: of the shuffles; the global RNG is not touched.
        solver: see :func:`~lightning_infoplane.renyi_entropy`.

    Returns:
        A scalar. NaN where copies and independent maps could not be told apart: where fewer than two maps vary, or
        all of them are saturated.

    Source: Watanabe (1960) and, normalised, Yu et al., AAAI 2021; the bandwidths and the chance level are this
    project's.

    Example:
        >>> kernel = 8 * gram(torch.arange(8.0).unsqueeze(-1))
        >>> adjusted_total_correlation(kernel.log().expand(3, -1, -1), MedianDistance())  # a map and two copies
        tensor(1., dtype=torch.float64)
    """
    solve = solver or Eigenvalues()
    n = log_kernels.shape[-1]
    live = log_kernels[log_kernels.flatten(1).amin(1) < 0]
    if len(live) < 2:
        return log_kernels.new_full((), torch.nan)
    orders = cyclic_shuffles(n, shuffles * len(live), seed).unflatten(0, (shuffles, -1)).to(live.device)
    sums = torch.stack([live.sum(0)] + [_shuffled_sum(live, of_all) for of_all in orders])
    bits = solve((sums / bandwidth.widening(len(live)) ** 2).exp() / n, alpha)
    independent = bits[1:].mean()
    room = independent - solve(live.exp() / n, alpha).mean()
    return torch.where(room > _NO_ROOM, (independent - bits[0]) / room.clamp_min(_NO_ROOM), torch.nan)


class LayerRedundancy(NamedTuple):
    """What the feature maps of one layer share: scalars, the first two with the standard error of sampling pairs."""

    redundancy_synergy: Estimate
    non_redundant: Estimate
    total_correlation: Estimate


def layer_redundancy(
    x: Tensor, maps: Tensor, bandwidth: Bandwidth, alpha: float, how: Redundancy, target: Tensor | None = None
) -> LayerRedundancy:
    """Redundancy, synergy and total correlation of a layer's maps, from a sample of pairs and of the probe.

    All are beyond chance, and every set of maps, one, a pair or all, has the bandwidths that the rule gives to that
    set. Under a rule that ignores the number of maps, such as ``Silverman``, a set is a product of kernels still. Maps
    that do not vary tell nothing: the bits of a layer of them are 0, and its total correlation is NaN, no value.

    As the paper defines it (``how.paper``) every map of a pair has the bandwidth it would have alone; in the total
    correlation, which compares maps with their joint, that of the joint. Maps that do not vary then count as
    independent.

    The total correlation is that of the maps that are in a sampled pair. Errors are those of the sampling of pairs,
    zero if all were taken.

    Args:
        x: Gram matrix ``(n, n)`` of the input.
        maps: ``(n, C, d)``, two maps or more.
        bandwidth: the rule.
        alpha: the order.
        how: the sampling, and which definition.
        target: Gram matrix ``(n, n)`` of the targets, for rules that need it.

    Returns:
        Redundancy minus synergy and non-redundant information in bits, and the total correlation, normalised.

    Example:
        >>> bit = 9.0 * (torch.arange(64) % 2)
        >>> maps = torch.stack([bit, bit], 1).unsqueeze(-1)  # a map and its copy
        >>> found = layer_redundancy(class_gram(bit.long()), maps, Fixed(0.1), 1.01, Redundancy())
        >>> [round(float(estimate.bits), 1) for estimate in found]
        [1.0, 0.0, 1.0]
    """
    n, channels = maps.shape[:2]
    part = seeded_part(n, min(n, how.samples), maps.device)
    map_pairs = choose_map_pairs(channels, how.map_pairs, how.seed).to(maps.device)
    used, index = torch.unique(map_pairs, return_inverse=True)
    seen = maps[part][:, used]
    x_part = normalize_trace(x[part][:, part])
    target_part = None if target is None else normalize_trace(target[part][:, part])
    alone = seen.movedim(1, 0).unsqueeze(-2)
    sigma = bandwidth(alone, target=target_part)
    if how.paper:
        told = pair_information(x_part, gaussian_gram(alone, sigma), alpha, index)
        together = gaussian_gram(alone, bandwidth(seen, target=target_part).unsqueeze(-1))
        correlation = total_correlation(*together, alpha=alpha, normalized=True)
    else:
        logs = _log_kernels(alone, sigma)
        grams = logs.exp() / len(part)
        pair = bandwidth.widening(2)
        told = pair_excess(
            x_part, grams, alpha, index, widening=pair, shuffles=how.shuffles, seed=how.seed, solver=_SOLVER
        )
        correlation = adjusted_total_correlation(logs, bandwidth, alpha, how.shuffles, how.seed, _SOLVER)
    every_pair = channels * (channels - 1) // 2
    return LayerRedundancy(
        _mean_of_sample(told.redundancy_synergy(), every_pair),
        _mean_of_sample(told.non_redundant(), every_pair),
        Estimate(correlation, torch.zeros_like(correlation)),
    )


def _log_kernels(maps: Tensor, sigma: Tensor) -> Tensor:
    """Logarithms ``(C, n, n)`` of the Gaussian kernels of maps ``(C, n, 1, d)``: zero where a bandwidth is zero.

    Sums of them are joints, in whatever order the samples of each map are, where a product of kernels would underflow.
    """
    squares, unit = pairwise_squares(upcast(maps))
    width = sigma.squeeze(-1) / unit
    factor = torch.where(width > 0, -0.5 / width.square().clamp_min(torch.finfo(width.dtype).tiny), 0.0)
    return (squares * factor[:, None, None]).to(squares.dtype)


def _shuffled_sum(logs: Tensor, orders: Tensor) -> Tensor:
    """Sum ``(n, n)`` of ``(C, n, n)``, the samples of each in its own order: the ``(C, n)`` indices."""
    total = torch.zeros_like(logs[0])
    for one, order in zip(logs, orders, strict=True):
        total += reordered(one, order)
    return total


def _mean_of_sample(values: Tensor, population: int) -> Estimate:
    """Mean and standard error of ``(P,)`` values drawn without repetition from so many."""
    drawn = len(values)
    scatter = values.var(correction=1) if drawn > 1 else torch.zeros_like(values[0])
    return Estimate(values.mean(), (scatter / drawn * (1 - drawn / population)).sqrt())
