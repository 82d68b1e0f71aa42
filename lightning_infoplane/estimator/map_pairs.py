r"""What pairs of feature maps tell about an input, alone and together: beyond chance, and as the paper defines it.

Both forms take Gram matrices of maps that each have the bandwidth they would have alone. They differ in two things:

- **The kernel of a pair.** The paper's is the product of both, a narrower kernel: a pair of copies seems to know more
  than one of them. Beyond chance, a pair has the bandwidths that the rule gives to a pair, so that a copy adds nothing.
- **The zero.** The paper's information holds its chance level, that of shuffled samples. Beyond chance it is taken off.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from lightning_infoplane.arguments.checks import SEED, Number, Whole, check_tensors
from lightning_infoplane.estimator.dependence import cyclic_shuffles
from lightning_infoplane.estimator.entropy import check_alpha, check_grams, checked_entropy
from lightning_infoplane.estimator.grams import joint_gram, reordered
from lightning_infoplane.estimator.information import shared_bits
from lightning_infoplane.estimator.precision import full_float32
from lightning_infoplane.estimator.solvers import Eigenvalues, Solver, exact_unless, rounding_of

__all__ = ["PairInformation", "choose_map_pairs", "pair_excess", "pair_information"]


class PairInformation(NamedTuple):
    """What P pairs of feature maps Tⁱ, Tʲ tell about X, each map alone and both together, bits, ``(P,)`` each."""

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


def pair_excess(
    x: Tensor,
    maps: Tensor,
    alpha: float = 1.01,
    map_pairs: Tensor | None = None,
    *,
    widening: float = 2**0.5,
    shuffles: int = 2,
    seed: int = 0,
    solver: Solver | None = None,
) -> PairInformation:
    r"""What pairs of feature maps tell about x beyond chance, alone and together, in bits.

    .. math:: E(X; T) = \overline{S(\pi X, T)} - S(X, T), \qquad
        K_{\{i,j\}} = (K_i \circ K_j)^{1/w^2}

    with the mean over seeded shuffles :math:`\pi` of the samples, the same ones for all maps and pairs, and with w the
    widening of the bandwidths in a pair. At w = √2 the kernel of a pair is the geometric mean of both, so that a copy
    adds nothing. A map that does not vary adds nothing either: its partner stays as it is. At α = 2 no spectrum is
    needed: all pairs are one matrix product of the ``(C, n²)`` stack, for every shuffle.

    Args:
        x: Gram matrix ``(n, n)`` of the input.
        maps: Gram matrices ``(C, n, n)``, one a map, with the bandwidth that it has alone.
        alpha: the order.
        map_pairs: ``(P, 2)`` indices, see :func:`choose_map_pairs`; all pairs when left out.
        widening: how much wider a map's bandwidth is in a pair than alone, as ``rule.widening(2)`` says.
        shuffles: how many.
        seed: of the shuffles; the global RNG is not touched.
        solver: see :func:`~lightning_infoplane.renyi_entropy`.

    Returns:
        Three ``(P,)`` tensors, around 0 where a map has nothing to do with x; never clipped, differentiable.

    Raises:
        ValueError: for fewer than two maps, matrices that are not trace-one Gram matrices, or negative entries, of
            which there is no root.

    Source: the decomposition of arXiv 1804.06537 (v5); bandwidths of a pair and the chance level are this project's.

    Example:
        >>> bit = class_gram(torch.arange(64) % 2)
        >>> found = pair_excess(bit, torch.stack([bit, bit]))  # a copy
        >>> bool(found.both == found.first), round(float(found.both), 1)
        (True, 1.0)
    """
    widening = Number("a number of 1 or more", lambda _: True, example="2**0.5")("widening", widening)
    shuffles = Whole(example="2")("shuffles", shuffles)
    seed = SEED("seed", seed)
    if not 1 <= widening < float("inf") or shuffles < 1:
        raise ValueError(
            f"widening={widening}, shuffles={shuffles}: expected numbers of 1 or more. "
            "Write widening=2**0.5, shuffles=2."
        )
    alpha = check_alpha(alpha, stacklevel=4)
    index = _checked_pairs(x, maps, alpha, map_pairs)
    # √2 squared is not 2 in floating point, and a root takes a third of the time of any other power.
    exponent = round(widening**-2, 12)
    if exponent != 1 and float(maps.detach().amin()) < -rounding_of(maps.dtype):
        raise ValueError(
            "maps: negative entries have no root. Use a kernel without them, as gram(samples) does, or widening=1."
        )
    inputs = [x] + [reordered(x, order) for order in cyclic_shuffles(x.shape[-1], shuffles, seed)]
    alone, both = _joint_entropies(inputs, maps, alpha, index, exponent, exact_unless(solver))
    excess = alone[1:].mean(0) - alone[0]
    return PairInformation(excess[index[:, 0]], excess[index[:, 1]], both[1:].mean(0) - both[0])


def pair_information(x: Tensor, maps: Tensor, alpha: float = 1.01, map_pairs: Tensor | None = None) -> PairInformation:
    r"""The paper's I(X;Tⁱ), I(X;Tʲ) and I(X;{Tⁱ,Tʲ}) of pairs of feature maps, in bits that hold their chance level.

    .. math:: I(X; T) = S(X) + S(T) - S(X, T), \qquad K_{\{i,j\}} = K_i \circ K_j

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
    alpha = check_alpha(alpha, stacklevel=4)
    index = _checked_pairs(x, maps, alpha, map_pairs)
    solver = Eigenvalues()
    h_x = checked_entropy(solver, x, alpha)
    nothing = torch.full_like(x, 1 / len(x))  # its joint with a map is the map
    alone, both = _joint_entropies([nothing, x], maps, alpha, index, 1.0, solver)
    shared = shared_bits(h_x, alone[0], alone[1])
    return PairInformation(shared[index[:, 0]], shared[index[:, 1]], shared_bits(h_x, both[0], both[1]))


def _checked_pairs(x: Tensor, maps: Tensor, alpha: float, map_pairs: Tensor | None) -> Tensor:
    """The pairs ``(P, 2)`` that are meant, where the maps are; a ``ValueError`` for arguments that do not fit."""
    check_tensors("", "of Gram matrices, such as map_grams(maps)", x=x, maps=maps)
    if maps.ndim != 3 or x.shape != maps.shape[1:]:
        raise ValueError(
            f"expected Gram matrices x (n, n) and maps (C, n, n) over the same samples, got {tuple(x.shape)} "
            f"and {tuple(maps.shape)}. Make the stack with gram(maps.flatten(2).movedim(1, 0))."
        )
    check_grams(alpha, x=x, maps=maps)
    if map_pairs is None:
        map_pairs = choose_map_pairs(len(maps))
    check_tensors("", "(P, 2) of indices, or None for all pairs", map_pairs=map_pairs)
    paired = map_pairs.ndim == 2 and map_pairs.shape[-1] == 2 and len(map_pairs) > 0
    whole = not (map_pairs.is_floating_point() or map_pairs.is_complex() or map_pairs.dtype == torch.bool)
    least = int(map_pairs.min()) if paired and whole else -1
    largest = int(map_pairs.max()) if paired and whole else -1
    if least < 0 or largest >= len(maps):
        found = f", from {least} to {largest}" if paired and whole else ""
        raise ValueError(
            f"map_pairs: expected (P, 2) indices of the {len(maps)} maps, got {tuple(map_pairs.shape)} of "
            f"{map_pairs.dtype}{found}. "
            f"Call choose_map_pairs({len(maps)}, at_most=P)."
        )
    return map_pairs.to(maps.device)


def _joint_entropies(
    inputs: Sequence[Tensor], maps: Tensor, alpha: float, pairs: Tensor, exponent: float, solver: Solver
) -> tuple[Tensor, Tensor]:
    """Entropies of the joints of m inputs with every map, ``(m, C)``, and with the kernel of every pair, ``(m, P)``."""
    alone = torch.stack([checked_entropy(solver, joint_gram(one, maps), alpha) for one in inputs])
    first = pairs[:, 0]
    second = pairs[:, 1]
    if alpha == 2:
        both = _all_pairs_at_two(inputs, maps, exponent)[:, first, second]
    else:
        both = _pairs_by_spectrum(inputs, maps, alpha, pairs, exponent, solver)
    # A map whose samples are all alike is not live, and does not count for the bandwidths of a pair.
    entries = maps.detach().flatten(1)
    live = len(inputs[0]) * (entries.amax(1) - entries.amin(1)) > 100 * torch.finfo(maps.dtype).eps
    of_one = torch.where(live[first], alone[:, first], alone[:, second])
    return alone, torch.where(live[first] & live[second], both, of_one)


def _all_pairs_at_two(inputs: Sequence[Tensor], maps: Tensor, exponent: float) -> Tensor:
    r"""Entropies ``(m, C, C)`` at α = 2 of the joints of m inputs with the kernel of every pair of maps.

    .. math:: S_2 = -\log_2 \frac{\sum_{kl} X_{kl}^2 (A_i \circ A_j)_{kl}^{2/w^2}}
        {\bigl(\sum_k X_{kk} (A_i \circ A_j)_{kk}^{1/w^2}\bigr)^2}
    """
    n = maps.shape[-1]
    common = torch.promote_types(inputs[0].dtype, maps.dtype)
    maps = maps.to(common)
    squares = _raised(n * maps.flatten(1), 2 * exponent)  # at w = √2 the entries themselves
    diagonal = _raised(n * maps.diagonal(dim1=-2, dim2=-1), exponent)
    bits = []
    for one in inputs:
        x = n * one.to(common)
        with full_float32(maps.device):
            power = (squares * x.flatten().square()) @ squares.mT
            trace = (diagonal * x.diagonal()) @ diagonal.mT
        bits.append(2 * trace.log2() - power.log2())
    return torch.stack(bits)


def _pairs_by_spectrum(
    inputs: Sequence[Tensor], maps: Tensor, alpha: float, pairs: Tensor, exponent: float, solver: Solver
) -> Tensor:
    """Entropies ``(m, P)`` of the joints of m inputs with the kernels of pairs, a batch of pairs at a time."""
    step = max(1, 2**25 // inputs[0].numel() // 8)  # some 32 MB of matrices
    batches = []
    for part in torch.split(pairs, step):
        pair = joint_gram(maps[part[:, 0]], maps[part[:, 1]])
        kernel = joint_gram(_raised(pair, exponent))
        batches.append(torch.stack([checked_entropy(solver, joint_gram(one, kernel), alpha) for one in inputs]))
    return torch.cat(batches, 1)


def _raised(kernel: Tensor, exponent: float) -> Tensor:
    """A power of every entry; entries of zero stay zero, without the infinite gradient of their root."""
    if exponent in (1, 2):  # of any sign
        return kernel if exponent == 1 else kernel.square()
    positive = kernel > 0
    return torch.where(positive, torch.where(positive, kernel, 1.0).pow(exponent), 0.0)
