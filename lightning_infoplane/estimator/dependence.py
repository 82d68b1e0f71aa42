r"""Dependence from 0 to 1: adjusted mutual information, and debiased CKA as a check by another formula.

Mutual information in bits is mostly its own chance level: noise that never saw X can share as many bits with it as X
itself. What is left after the chance level is taken off, divided by what each variable shares with itself in the same
way, is 0 for independent variables and 1 for a copy.
"""

import math

import torch
from torch import Tensor

from lightning_infoplane.arguments.checks import FLAG, SEED, Whole, check_tensors
from lightning_infoplane.estimator.entropy import check_alpha, check_grams, checked_entropy
from lightning_infoplane.estimator.grams import broadcastable, joint_gram, reordered
from lightning_infoplane.estimator.limits import RESOLVED_BITS, RESOLVED_DEVIATIONS, SATURATED_SHARE
from lightning_infoplane.estimator.precision import for_spectra, spectrum_float, widest_float
from lightning_infoplane.estimator.solvers import Eigenvalues, Solver, exact_unless, spectral_entropy

__all__ = [
    "adjusted_mutual_information",
    "cyclic_shuffles",
    "debiased_cka",
    "effective_rank",
    "is_resolved",
    "ratio_of_excess",
    "shuffled_entropy",
]


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
        shuffles: how many; two are enough at some hundred samples. 0, at α = 2 alone, takes the mean over all of them
            in closed form: see :func:`shuffled_entropy`.
        seed: of the shuffles; the global RNG is not touched.
        solver: see :func:`~lightning_infoplane.renyi_entropy`.

    Returns:
        ``(...)``, differentiable. NaN where a variable is not resolved: where it shares less than 0.005 bits with
        itself beyond chance, or less than five standard deviations of its shuffles, as a constant does; or where it is
        saturated, its entropy above 95 % of log2 n.

    Raises:
        ValueError: for matrices that are not trace-one Gram matrices, or an impossible ``alpha`` or ``shuffles``.

    Source: the adjustment of Vinh, Epps and Bailey (2010), geometric mean, with the functional's own self-information.

    Example:
        >>> labels = class_gram(torch.arange(64) % 4)
        >>> adjusted_mutual_information(labels, labels)  # a copy
        tensor(1., dtype=torch.float64)
    """
    alpha = check_alpha(alpha)
    shuffles = Whole(example="2")("shuffles", shuffles)
    seed = SEED("seed", seed)
    solve = exact_unless(solver)
    check_grams(alpha, a=a, b=b)
    if shuffles < 2 and not (shuffles == 0 and alpha == 2):
        raise ValueError(
            f"shuffles={shuffles}: expected 2 or more, so that their scatter is known; or shuffles=0 with alpha=2, "
            f"whose mean over all shuffles has a closed form. Got alpha={alpha}."
        )
    orders = cyclic_shuffles(a.shape[-1], shuffles, seed).to(a.device)

    def is_fit(one: Tensor, excess: Tensor, scatter: Tensor) -> Tensor:
        share = checked_entropy(solve, one, alpha) / math.log2(one.shape[-1])
        return is_resolved(excess, scatter, share)

    def beyond_chance(one: Tensor, other: Tensor) -> tuple[Tensor, Tensor]:
        joint = checked_entropy(solve, joint_gram(one, other), alpha)
        if shuffles == 0:
            return shuffled_entropy(one, other) - joint, torch.zeros_like(joint)
        mixed = torch.stack(
            [checked_entropy(solve, joint_gram(one, reordered(other, order)), alpha) for order in orders]
        )
        return mixed.mean(0) - joint, mixed.std(0)

    shared, _ = beyond_chance(a, b)
    first, second = (beyond_chance(one, one) for one in (a, b))
    return ratio_of_excess(shared, first[0], second[0], is_fit(a, *first) & is_fit(b, *second))


def shuffled_entropy(a: Tensor, b: Tensor) -> Tensor:
    r"""Entropy of order two of two variables together once the samples of one are shuffled, without a shuffle: in bits.

    .. math:: S_2(A, \pi B) \approx -\log_2 n^2 \Bigl[\frac1n \sum_i A_{ii}^2 \sum_i B_{ii}^2
        + \frac{1}{n (n - 1)} \sum_{i \ne j} A_{ij}^2 \sum_{i \ne j} B_{ij}^2\Bigr]

    In the brackets is the mean over all permutations of the sum of squares of :math:`A \circ \pi B`, and :math:`1 / n`
    is the trace of that product where the diagonals are constant, as those of the kernels here are.

    Args:
        a: Gram matrices ``(..., n, n)``, trace one.
        b: Gram matrices ``(..., n, n)`` over the same samples; leading dimensions broadcast.

    Returns:
        ``(...)``, differentiable. It is the logarithm of a mean, within 0.002 bits of the mean of the entropies at 512
        samples.

    Example:
        >>> labels = class_gram(torch.arange(64) % 4)
        >>> shuffled_entropy(labels, torch.ones(64, 64) / 64)  # beside a constant it is the entropy of the other
        tensor(2., dtype=torch.float64)
    """
    n = a.shape[-1]
    own, off = _squares(a)
    other_own, other_off = _squares(b)
    mean = own * other_own / n + off * other_off / (n * (n - 1))
    return 0.0 - (n**2 * mean).log2()


def is_resolved(excess: Tensor, scatter: Tensor, share: Tensor) -> Tensor:
    """Whether a variable shares with itself, beyond chance, more than rounding and the scatter of its shuffles explain.

    And whether it is not saturated.

    Args:
        excess: bits ``(...)``.
        scatter: standard deviation of the shuffles behind them; zero where none was needed.
        share: of log2 n, the variable's entropy.

    Example:
        >>> share = torch.tensor([0.4, 0.4, 0.4, 0.97])
        >>> is_resolved(torch.tensor([0.5, 0.5, 1e-6, 0.2]), torch.tensor([0.01, 0.2, 0.0, 0.0]), share)
        tensor([ True, False, False, False])
    """
    return (excess >= RESOLVED_BITS) & (excess >= RESOLVED_DEVIATIONS * scatter) & (share <= SATURATED_SHARE)


def ratio_of_excess(shared: Tensor, first: Tensor, second: Tensor, resolved: Tensor) -> Tensor:
    """What two variables share beyond chance, as a part of what each shares with itself; NaN where not resolved.

    Args:
        shared: bits ``(...)`` of the one with the other.
        first: of the one with itself.
        second: of the other with itself.
        resolved: whether both are: see :func:`is_resolved`.

    Example:
        >>> ratio_of_excess(torch.tensor(1.0), torch.tensor(4.0), torch.tensor(1.0), torch.tensor(True))
        tensor(0.5000)
    """
    # Masked before the root: a gradient through the root of a negative number is NaN even where it is not taken.
    root = torch.where(resolved, first * second, 1.0).sqrt()
    return torch.where(resolved, shared / root, torch.nan)


def cyclic_shuffles(n: int, shuffles: int, seed: int = 0) -> Tensor:
    """Seeded permutations ``(shuffles, n)`` that leave no sample in place: one cycle through all of them.

    A sample that stays where it is shares with itself what it did before, and so lifts the chance level.

    Args:
        n: samples, two or more.
        shuffles: how many permutations.
        seed: of all of them.

    Raises:
        ValueError: for fewer than two samples.

    Example:
        >>> order = cyclic_shuffles(5, 1)[0]
        >>> bool((order == torch.arange(5)).any())
        False
    """
    if n < 2:
        raise ValueError(f"n={n}: expected 2 samples or more, for one alone cannot change its place.")
    generator = torch.Generator().manual_seed(seed)
    orders = torch.empty(shuffles, n, dtype=torch.long)
    for order in orders:
        cycle = torch.randperm(n, generator=generator)
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
    check_tensors("debiased_cka", "(..., n, n), a Gram matrix", a=a, b=b)
    square = min(a.ndim, b.ndim) > 1 and len({*a.shape[-2:], *b.shape[-2:]}) == 1 and broadcastable(a, b)
    n = a.shape[-1] if square else 0
    if a.is_complex() or b.is_complex():
        raise ValueError(f"debiased_cka() takes real Gram matrices, got {a.dtype} and {b.dtype}. Call gram(samples).")
    if n < 4:
        raise ValueError(
            f"debiased_cka() takes Gram matrices (..., n, n) of 4 samples or more, got {tuple(a.shape)} and "
            f"{tuple(b.shape)}. Make both with gram() from the same samples."
        )
    one, other = (_u_centred(matrix) for matrix in (a, b))
    shared, itself, others = ((x * y).sum((-2, -1)) for x, y in ((one, other), (one, one), (other, other)))
    # Rounding of a constant: entries of order 1/n leave squares of this order.
    varies = torch.minimum(itself, others) > (torch.finfo(itself.dtype).eps * n) ** 2
    root = torch.where(varies, itself * others, 1.0).sqrt()
    return torch.where(varies, shared / root, torch.nan)


def effective_rank(
    gram: Tensor, alpha: float = 1.0, solver: Solver | None = None, singular_values: bool = False
) -> Tensor:
    r"""How many directions a variable uses, counted by its entropy: between 1 and n.

    .. math:: \operatorname{erank}_\alpha(A) = 2^{S_\alpha(p)}, \qquad p_i = \lambda_i \quad\text{or}\quad
        p_i = \sqrt{\lambda_i} \Big/ \sum_j \sqrt{\lambda_j}

    Of the eigenvalues of the Gram matrix it is the exponential of matrix entropy, as Skean et al. compare the layers of
    a network. Of their roots it is the convention of RankMe: those of a linear Gram matrix :math:`Z Z^\top` are the
    singular values of the embeddings :math:`Z`. Roots are more alike, and so it is larger.

    Args:
        gram: ``(..., n, n)``, trace one.
        alpha: the order; 1 is Shannon's, as in the sources.
        solver: see :func:`~lightning_infoplane.renyi_entropy`.
        singular_values: count by the roots of the eigenvalues. It takes the whole spectrum, and drops what is below the
            rounding of the largest eigenvalue.

    Returns:
        ``(...)``, no unit, differentiable.

    Raises:
        ValueError: for a matrix that is not a trace-one Gram matrix, an impossible ``alpha``, or roots with a solver
            that has no spectrum.

    Source: Roy and Vetterli (2007); of eigenvalues Skean et al., arXiv 2502.02013; of singular values RankMe, Garrido,
    Balestriero, Najman and LeCun (2023).

    Example:
        >>> effective_rank(torch.eye(8, dtype=torch.float64) / 8)
        tensor(8., dtype=torch.float64)
    """
    alpha = check_alpha(alpha)
    solve = exact_unless(solver)
    FLAG("singular_values", singular_values)
    check_grams(alpha, gram=gram)
    if not singular_values:
        return checked_entropy(solve, gram, alpha).exp2()
    if not isinstance(solve, Eigenvalues):
        raise ValueError(f"singular_values=True takes the whole spectrum: expected solver=Eigenvalues(), got {solve}.")
    return spectral_entropy(_singular_values(gram, solve.dtype), alpha).exp2()


def _singular_values(gram: Tensor, dtype: torch.dtype | None) -> Tensor:
    """Roots ``(..., n)`` of the eigenvalues, zero where they are rounding, whose root would be far larger than it."""
    matrix = for_spectra(gram)
    eigenvalues: Tensor = torch.linalg.eigvalsh(matrix.to(dtype or spectrum_float(gram.device)))
    rounding = max(torch.finfo(matrix.dtype).eps, torch.finfo(eigenvalues.dtype).eps)
    live = eigenvalues > rounding * eigenvalues.amax(-1, keepdim=True)
    return torch.where(live, torch.where(live, eigenvalues, 1.0).sqrt(), 0.0)


def _squares(gram: Tensor) -> tuple[Tensor, Tensor]:
    """Sums ``(...)`` of the squares on the diagonal and off it."""
    squares = for_spectra(gram).to(widest_float(gram.device)).square()
    own = squares.diagonal(dim1=-2, dim2=-1).sum(-1)
    return own, squares.sum((-2, -1)) - own


def _u_centred(gram: Tensor) -> Tensor:
    """Zero on the diagonal, and every row and column with sum zero off it."""
    n = gram.shape[-1]
    off = gram.to(widest_float(gram.device)) * (1 - torch.eye(n, dtype=widest_float(gram.device), device=gram.device))
    rows = off.sum(-1, keepdim=True)
    total = rows.sum(-2, keepdim=True)
    centred = off - rows / (n - 2) - rows.mT / (n - 2) + total / ((n - 1) * (n - 2))
    return centred - torch.diag_embed(centred.diagonal(dim1=-2, dim2=-1))
