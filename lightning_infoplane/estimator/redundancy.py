r"""Redundancy and synergy among the feature maps of a layer: the partial information decomposition of pairs."""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from lightning_infoplane.estimator.bandwidths import Bandwidth
from lightning_infoplane.estimator.entropy import check_alpha, check_grams, checked_entropy
from lightning_infoplane.estimator.grams import gaussian_gram, joint_gram, normalize_trace
from lightning_infoplane.estimator.information import shared_bits, total_correlation
from lightning_infoplane.estimator.precision import full_float32, seeded_part
from lightning_infoplane.estimator.solvers import Eigenvalues, Estimate

__all__ = [
    "LayerRedundancy",
    "PairInformation",
    "Redundancy",
    "choose_map_pairs",
    "layer_redundancy",
    "non_redundant_information",
    "pair_information",
    "redundancy_synergy",
]


@dataclass(frozen=True)
class Redundancy:
    """How redundancy and synergy are sampled: all pairs of 512 maps would take minutes.

    Bandwidths are those of the moment, also under a rule that freezes or smooths the layer's.

    Args:
        map_pairs: pairs of feature maps, at most; the same ones at every measurement.
        samples: of the probe, at most; a spectrum costs their cube.
        seed: of the choice of pairs.
    """

    map_pairs: int = 64
    samples: int = 128
    seed: int = 0

    def __post_init__(self) -> None:
        """Check the fields."""
        if self.map_pairs < 1 or self.samples < 2:
            raise ValueError(f"{self}: expected map_pairs >= 1 and samples >= 2.")


class PairInformation(NamedTuple):
    """I(X;Tⁱ), I(X;Tʲ) and I(X;{Tⁱ,Tʲ}) for P pairs of feature maps, bits, ``(P,)`` each."""

    first: Tensor
    second: Tensor
    both: Tensor

    def redundancy_synergy(self) -> Tensor:
        """Redundancy minus synergy of each pair, ``(P,)``."""
        return self.first + self.second - self.both

    def non_redundant(self) -> Tensor:
        """Unique information of both plus twice the synergy of each pair, ``(P,)``."""
        return 2 * self.both - self.first - self.second


def choose_map_pairs(maps: int, at_most: int | None = None, seed: int = 0) -> Tensor:
    """All pairs i < j of feature maps, or a seeded sample of them: ``(P, 2)`` indices.

    Raises:
        ValueError: for fewer than two maps.

    Example:
        >>> choose_map_pairs(3)
        tensor([[0, 1],
                [0, 2],
                [1, 2]])
    """
    if maps < 2:
        raise ValueError(f"pairs need at least two feature maps, got {maps}.")
    if at_most is not None and at_most < 1:
        raise ValueError(f"at_most={at_most}: expected at least one pair, or None for all of them.")
    pairs = torch.combinations(torch.arange(maps))
    if at_most is None or at_most >= len(pairs):
        return pairs
    chosen = torch.randperm(len(pairs), generator=torch.Generator().manual_seed(seed))[:at_most]
    return pairs[chosen.sort().values]


def pair_information(x: Tensor, maps: Tensor, alpha: float = 1.01, map_pairs: Tensor | None = None) -> PairInformation:
    r"""What pairs of feature maps tell about x, alone and together, in bits.

    At α = 2 no spectrum is needed: :math:`\operatorname{tr}(A_i \circ A_j)^2` of *all* pairs is one matrix
    product of the ``(C, n²)`` stack of squared entries with itself.

    Args:
        x: Gram matrix ``(n, n)`` of the input.
        maps: Gram matrices ``(C, n, n)``, one a map.
        alpha: the order.
        map_pairs: ``(P, 2)`` indices, see :func:`choose_map_pairs`; all pairs when left out.

    Returns:
        Three ``(P,)`` tensors.

    Raises:
        ValueError: for fewer than two maps, or matrices that are not trace-one Gram matrices.

    Source: the partial information decomposition of arXiv 1804.06537 (v5).

    Example:
        >>> a, b = torch.tensor([0, 0, 1, 1]), torch.tensor([0, 1, 0, 1])
        >>> maps = torch.stack([class_gram(a), class_gram(b)])
        >>> [float(value) for value in pair_information(class_gram(a ^ b), maps)]  # XOR: only together
        [0.0, 0.0, 1.0]
    """
    check_alpha(alpha)
    if maps.ndim != 3 or x.shape != maps.shape[1:]:
        raise ValueError(
            f"expected Gram matrices x (n, n) and maps (C, n, n) over the same samples, got {tuple(x.shape)} "
            f"and {tuple(maps.shape)}. Make the stack with map_grams(activations)."
        )
    check_grams(alpha, x=x, maps=maps)
    if map_pairs is None:
        map_pairs = choose_map_pairs(len(maps))
    _check_map_pairs(map_pairs, len(maps))
    solver = Eigenvalues()
    index = map_pairs.to(maps.device)
    h_x = checked_entropy(solver, x, alpha)
    alone = checked_entropy(solver, maps, alpha)
    with_x = shared_bits(h_x, alone, solver(joint_gram(x, maps), alpha))
    if alpha == 2:
        h_pair = _all_pairs_at_two(maps, torch.ones_like(x))[index[:, 0], index[:, 1]]
        h_with = _all_pairs_at_two(maps, x)[index[:, 0], index[:, 1]]
    else:
        h_pair, h_with = _pairs_by_spectrum(x, maps, alpha, index)
    return PairInformation(with_x[index[:, 0]], with_x[index[:, 1]], shared_bits(h_x, h_pair, h_with))


def redundancy_synergy(x: Tensor, maps: Tensor, alpha: float = 1.01, map_pairs: Tensor | None = None) -> Tensor:
    r"""Redundancy-synergy trade-off of a layer's feature maps: the mean over pairs, in bits.

    .. math:: \overline{I(X;T^i) + I(X;T^j) - I(X;\{T^i,T^j\})} = \text{redundancy} - \text{synergy}

    With Gaussian kernels of fixed width an exact duplicate of a map does not reach I(X;T): the product of
    the two kernels is a narrower kernel. That is an artefact of the bandwidth; class kernels do not have it.

    Args:
        x: Gram matrix ``(n, n)`` of the input.
        maps: Gram matrices ``(C, n, n)``, one a map.
        alpha: the order.
        map_pairs: ``(P, 2)`` indices, see :func:`choose_map_pairs`; all pairs when left out.

    Returns:
        A scalar, positive where redundancy dominates.

    Raises:
        ValueError: for fewer than two maps, or matrices that are not trace-one Gram matrices.

    Source: arXiv 1804.06537.

    Example:
        >>> bit = class_gram(torch.tensor([0, 0, 1, 1]))
        >>> redundancy_synergy(bit, torch.stack([bit, bit]))  # a copy: one bit of redundancy
        tensor(1., dtype=torch.float64)
    """
    return pair_information(x, maps, alpha, map_pairs).redundancy_synergy().mean()


def non_redundant_information(x: Tensor, maps: Tensor, alpha: float = 1.01, map_pairs: Tensor | None = None) -> Tensor:
    r"""Weighted non-redundant information of a layer's feature maps: the mean over pairs, in bits.

    .. math:: \overline{2 I(X;\{T^i,T^j\}) - I(X;T^i) - I(X;T^j)}
        = \text{unique}_i + \text{unique}_j + 2\,\text{synergy}

    Args:
        x: Gram matrix ``(n, n)`` of the input.
        maps: Gram matrices ``(C, n, n)``, one a map.
        alpha: the order.
        map_pairs: ``(P, 2)`` indices, see :func:`choose_map_pairs`; all pairs when left out.

    Returns:
        A scalar.

    Raises:
        ValueError: for fewer than two maps, or matrices that are not trace-one Gram matrices.

    Source: arXiv 1804.06537.

    Example:
        >>> a, b = torch.tensor([0, 0, 1, 1]), torch.tensor([0, 1, 0, 1])
        >>> maps = torch.stack([class_gram(a), class_gram(b)])
        >>> non_redundant_information(class_gram(a ^ b), maps)  # XOR: twice one bit of synergy
        tensor(2., dtype=torch.float64)
    """
    return pair_information(x, maps, alpha, map_pairs).non_redundant().mean()


class LayerRedundancy(NamedTuple):
    """What the feature maps of one layer share: scalars, the first two with the standard error of sampling pairs."""

    redundancy_synergy: Estimate
    non_redundant: Estimate
    total_correlation: Estimate


def layer_redundancy(
    x: Tensor, maps: Tensor, bandwidth: Bandwidth, alpha: float, how: Redundancy, target: Tensor | None = None
) -> LayerRedundancy:
    """Redundancy, synergy and total correlation of a layer's maps, from a sample of pairs and of the probe.

    In pairs every map has the bandwidth it would have alone; in the total correlation, which compares maps
    with their joint, that of the joint. Errors are those of the sampling of pairs, zero if all were taken.

    Args:
        x: Gram matrix ``(n, n)`` of the input.
        maps: ``(n, C, d)``, two maps or more.
        bandwidth: the rule.
        alpha: the order.
        how: the sampling.
        target: Gram matrix ``(n, n)`` of the targets, for rules that need it.

    Returns:
        Redundancy minus synergy and non-redundant information in bits, and the total correlation, normalised.

    Example:
        >>> bit = torch.tensor([0.0, 0.0, 9.0, 9.0], dtype=torch.float64)
        >>> maps = torch.stack([bit, bit], 1).unsqueeze(-1)  # a map and its copy
        >>> found = layer_redundancy(class_gram(bit.long()), maps, Fixed(0.1), 1.01, Redundancy())
        >>> round(float(found.redundancy_synergy.bits), 6), round(float(found.total_correlation.bits), 6)
        (1.0, 1.0)
    """
    n, channels = maps.shape[:2]
    part = seeded_part(n, min(n, how.samples), maps.device)
    map_pairs = choose_map_pairs(channels, how.map_pairs, how.seed).to(maps.device)
    used, index = torch.unique(map_pairs, return_inverse=True)
    seen = maps[part][:, used]
    target_part = None if target is None else normalize_trace(target[part][:, part])
    alone = seen.movedim(1, 0).unsqueeze(-2)
    grams = gaussian_gram(alone, bandwidth(alone, target=target_part))
    told = pair_information(normalize_trace(x[part][:, part]), grams, alpha, index)
    together = gaussian_gram(alone, bandwidth(seen, target=target_part).unsqueeze(-1))
    correlation = total_correlation(*together, alpha=alpha, normalized=True)
    every_pair = channels * (channels - 1) // 2
    return LayerRedundancy(
        _mean_of_sample(told.redundancy_synergy(), every_pair),
        _mean_of_sample(told.non_redundant(), every_pair),
        Estimate(correlation, torch.zeros_like(correlation)),
    )


def _mean_of_sample(values: Tensor, population: int) -> Estimate:
    """Mean and standard error of ``(P,)`` values drawn without repetition from so many."""
    drawn = len(values)
    scatter = values.var(correction=1) if drawn > 1 else torch.zeros_like(values[0])
    return Estimate(values.mean(), (scatter / drawn * (1 - drawn / population)).sqrt())


def _check_map_pairs(map_pairs: Tensor, maps: int) -> None:
    """Raise a ``ValueError`` for indices that are not pairs of these maps."""
    paired = map_pairs.ndim == 2 and map_pairs.shape[-1] == 2 and len(map_pairs) > 0
    if not paired or int(map_pairs.min()) < 0 or int(map_pairs.max()) >= maps:
        raise ValueError(
            f"map_pairs: expected (P, 2) indices of the {maps} maps, got {tuple(map_pairs.shape)}. "
            f"Call choose_map_pairs({maps}, at_most=P)."
        )


def _all_pairs_at_two(maps: Tensor, x: Tensor) -> Tensor:
    r"""Entropies ``(C, C)`` at α = 2 of the joint of x with every pair of maps.

    .. math:: S_2 = -\log_2 \frac{\sum_{kl} (X \circ A_i \circ A_j)_{kl}^2}{\operatorname{tr}(X \circ A_i \circ A_j)^2}
    """
    n = x.shape[-1]
    common = torch.promote_types(x.dtype, maps.dtype)
    x = x.to(common)
    maps = maps.to(common)
    squares = (n * maps.flatten(1)).square()
    weight = (n * x.flatten()).square()
    diagonal = n * maps.diagonal(dim1=-2, dim2=-1)
    with full_float32(maps.device):
        power = (squares * weight) @ squares.mT
        trace = (diagonal * (n * x.diagonal())) @ diagonal.mT
    return 2 * trace.log2() - power.log2()


def _pairs_by_spectrum(x: Tensor, maps: Tensor, alpha: float, pairs: Tensor) -> tuple[Tensor, Tensor]:
    """Entropies ``(P,)`` of pairs of maps, alone and joint with x, a batch of pairs at a time."""
    step = max(1, 2**25 // x.numel() // 8)  # some 32 MB of matrices
    alone = []
    with_x = []
    for part in torch.split(pairs, step):
        pair = joint_gram(maps[part[:, 0]], maps[part[:, 1]])
        alone.append(Eigenvalues()(pair, alpha))
        with_x.append(Eigenvalues()(joint_gram(x, pair), alpha))
    return torch.cat(alone), torch.cat(with_x)
