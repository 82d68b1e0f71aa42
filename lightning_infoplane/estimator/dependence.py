r"""Dependence from 0 to 1: adjusted mutual information, and debiased CKA as a check by another formula.

Mutual information in bits is mostly its own chance level: noise that never saw X can share as many bits with it as X
itself. What is left after the chance level is taken off, divided by what each variable shares with itself in the same
way, is 0 for independent variables and 1 for a copy.
"""

import torch
from torch import Tensor

from lightning_infoplane.estimator.entropy import check_alpha, check_grams, checked_entropy
from lightning_infoplane.estimator.grams import joint_gram, reordered
from lightning_infoplane.estimator.precision import widest_float
from lightning_infoplane.estimator.solvers import Eigenvalues, Solver

__all__ = ["adjusted_mutual_information", "cyclic_shuffles", "debiased_cka", "effective_rank"]

# What a variable shares with itself beyond chance must be at least so many bits, and so many standard deviations of its
# shuffles: below, the ratio would be that of two rounding errors or of two chance levels.
_RESOLVED_BITS = 0.02
_RESOLVED_DEVIATIONS = 5.0


def adjusted_mutual_information(
    a: Tensor, b: Tensor, alpha: float = 1.01, shuffles: int = 2, seed: int = 0, solver: Solver | None = None
) -> Tensor:
    r"""Mutual information beyond chance, as a part of what both variables share with themselves: no unit.

    .. math:: \mathrm{AMI}(A; B) = \frac{E(A; B)}{\sqrt{E(A; A)\, E(B; B)}}, \qquad
        E(A; B) = I(A; B) - \overline{I(A; \pi B)} = \overline{S(A, \pi B)} - S(A, B)

    with the mean over seeded shuffles :math:`\pi` of the samples, the same ones for all three. 0 for independent
    variables, 1 for a copy, an isometry or a rescaled copy. It is never clipped, and obeys no data-processing
    inequality by construction. Its level depends on the number of samples, on α and on the bandwidth, and it is not the
    fraction of the label that is known.

    Args:
        a: Gram matrices ``(..., n, n)``.
        b: Gram matrices ``(..., n, n)`` over the same samples; leading dimensions broadcast.
        alpha: the order.
        shuffles: how many; two are enough at some hundred samples.
        seed: of the shuffles; the global RNG is not touched.
        solver: see :func:`~lightning_infoplane.renyi_entropy`.

    Returns:
        ``(...)``, differentiable. NaN where a variable is not resolved: where it shares less than 0.02 bits with itself
        beyond chance, or less than five standard deviations of its shuffles, as a constant or a saturated one does.

    Raises:
        ValueError: for matrices that are not trace-one Gram matrices, or an impossible ``alpha`` or ``shuffles``.

    Source: the adjustment of Vinh, Epps and Bailey (2010), geometric mean, with the functional's own self-information.

    Example:
        >>> labels = class_gram(torch.arange(64) % 4)
        >>> adjusted_mutual_information(labels, labels)  # a copy
        tensor(1., dtype=torch.float64)
    """
    check_alpha(alpha)
    check_grams(alpha, a=a, b=b)
    if shuffles < 2:
        raise ValueError(f"shuffles={shuffles}: expected 2 or more, so that their scatter is known.")
    orders = cyclic_shuffles(a.shape[-1], shuffles, seed).to(a.device)
    solve = solver or Eigenvalues()

    def beyond_chance(one: Tensor, other: Tensor) -> tuple[Tensor, Tensor]:
        joint = checked_entropy(solve, joint_gram(one, other), alpha)
        mixed = torch.stack(
            [checked_entropy(solve, joint_gram(one, reordered(other, order)), alpha) for order in orders]
        )
        return mixed.mean(0) - joint, mixed.std(0)

    shared, _ = beyond_chance(a, b)
    itself = [beyond_chance(one, one) for one in (a, b)]
    resolved = torch.ones_like(shared, dtype=torch.bool)
    for excess, scatter in itself:
        resolved = resolved & (excess >= _RESOLVED_BITS) & (excess >= _RESOLVED_DEVIATIONS * scatter)
    scale = itself[0][0] * itself[1][0]
    # Masked before the root: a gradient through the root of a negative number is NaN even where it is not taken.
    root = torch.where(resolved, scale, 1.0).sqrt()
    return torch.where(resolved, shared / root, torch.nan)


def cyclic_shuffles(n: int, shuffles: int, seed: int = 0, groups: int = 1) -> Tensor:
    """Seeded permutations ``(shuffles, n)`` that leave no sample in place: one cycle inside each group of samples.

    A sample that stays where it is shares with itself what it did before, and so lifts the chance level. Cycles inside
    groups let a group be left out of the joint and of the shuffled matrix alike.

    Args:
        n: samples.
        shuffles: how many permutations.
        seed: of all of them.
        groups: how many groups, of two samples or more; which sample is in which is part of the draw.

    Raises:
        ValueError: for groups of fewer than two samples.

    Example:
        >>> order = cyclic_shuffles(5, 1)[0]
        >>> bool((order == torch.arange(5)).any())
        False
    """
    if groups < 1 or n < 2 * groups:
        raise ValueError(f"groups={groups}: expected 1 or more, of at least 2 of the {n} samples each.")
    generator = torch.Generator().manual_seed(seed)
    members = torch.randperm(n, generator=generator).tensor_split(groups)
    orders = torch.empty(shuffles, n, dtype=torch.long)
    for order in orders:
        for group in members:
            cycle = group[torch.randperm(len(group), generator=generator)]
            order[cycle] = cycle.roll(1)
    return orders


def debiased_cka(a: Tensor, b: Tensor) -> Tensor:
    r"""Centred kernel alignment with the unbiased estimate of HSIC: 0 for independent variables, 1 for a copy.

    .. math:: \mathrm{CKA} = \frac{\mathrm{HSIC}(A, B)}{\sqrt{\mathrm{HSIC}(A, A)\, \mathrm{HSIC}(B, B)}}, \qquad
        \mathrm{HSIC}(A, B) = \frac{1}{n (n - 3)} \sum_{i \ne j} \tilde A_{ij} \tilde B_{ij}

    with :math:`\tilde A` the U-centred matrix: its diagonal is zero, and its rows sum to zero. Its expectation for
    independent variables is zero; the biased one grows with the dimension.

    Args:
        a: Gram matrices ``(..., n, n)``.
        b: Gram matrices ``(..., n, n)`` over the same samples; leading dimensions broadcast.

    Returns:
        ``(...)``, differentiable; NaN where a variable does not vary. O(n²), no spectrum.

    Raises:
        ValueError: for fewer than four samples, or matrices of different shapes.

    Source: HSIC Song, Smola, Gretton, Bedo and Borgwardt (2012); U-centring Székely and Rizzo (2014); CKA Kornblith,
    Norouzi, Lee and Hinton (2019).

    Example:
        >>> labels = class_gram(torch.arange(8) % 2)
        >>> debiased_cka(labels, labels)
        tensor(1., dtype=torch.float64)
    """
    n = a.shape[-1]
    if n < 4 or a.shape[-2:] != b.shape[-2:]:
        raise ValueError(
            f"debiased_cka() takes Gram matrices (..., n, n) of 4 samples or more, got {tuple(a.shape)} and "
            f"{tuple(b.shape)}."
        )
    one, other = (_u_centred(matrix) for matrix in (a, b))
    shared, itself, others = ((x * y).sum((-2, -1)) for x, y in ((one, other), (one, one), (other, other)))
    # Rounding of a constant: entries of order 1/n leave squares of this order.
    varies = torch.minimum(itself, others) > (torch.finfo(itself.dtype).eps * n) ** 2
    root = torch.where(varies, itself * others, 1.0).sqrt()
    return torch.where(varies, shared / root, torch.nan)


def effective_rank(gram: Tensor, alpha: float = 1.0, solver: Solver | None = None) -> Tensor:
    r"""How many directions a variable uses, counted by its entropy: between 1 and n.

    .. math:: \operatorname{erank}_\alpha(A) = 2^{S_\alpha(A)}

    Of the *eigenvalues* of the Gram matrix, as matrix entropy takes them. RankMe takes the *singular values* of the
    embeddings, which are the roots of those of their linear Gram matrix, and so is larger.

    Args:
        gram: ``(..., n, n)``, trace one.
        alpha: the order; 1 is Shannon's, as in the source.
        solver: see :func:`~lightning_infoplane.renyi_entropy`.

    Returns:
        ``(...)``, no unit, differentiable.

    Raises:
        ValueError: for a matrix that is not a trace-one Gram matrix, or an impossible ``alpha``.

    Source: Roy and Vetterli (2007).

    Example:
        >>> effective_rank(torch.eye(8, dtype=torch.float64) / 8)
        tensor(8., dtype=torch.float64)
    """
    check_alpha(alpha)
    check_grams(alpha, gram=gram)
    return checked_entropy(solver or Eigenvalues(), gram, alpha).exp2()


def _u_centred(gram: Tensor) -> Tensor:
    """Zero on the diagonal, and every row and column with sum zero off it."""
    n = gram.shape[-1]
    off = gram.to(widest_float(gram.device)) * (1 - torch.eye(n, dtype=widest_float(gram.device), device=gram.device))
    rows = off.sum(-1, keepdim=True)
    total = rows.sum(-2, keepdim=True)
    centred = off - rows / (n - 2) - rows.mT / (n - 2) + total / ((n - 1) * (n - 2))
    return centred - torch.diag_embed(centred.diagonal(dim1=-2, dim2=-1))
