r"""A p-value of independence as a permutation test gives it, without a permutation: from three moments and a curve.

Over all orders of one variable's samples, the sum of the products of two centred matrices has a mean, a variance and a
third moment that are known exactly. They are products of sums over each matrix alone. A variable's part,
:func:`centred`, is therefore computed once, however many others it is compared with.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from lightning_infoplane.estimator.precision import for_spectra, symmetric_product, upcast, widest_float

__all__ = ["Centred", "Chance", "alignment_of", "centred", "chance_of", "independence_p_value", "p_value_of"]

# Skewness that is taken as none. A Pearson curve of skewness 1e-6 is the normal one, to 4e-5 of a tail of five standard
# deviations. Torch's lower tail, which negative skewness takes, is wrong from about -6e-4 on: its series is cut off.
_SYMMETRIC = (-1e-3, 1e-6)


class Centred(NamedTuple):
    """A variable's part of the test, as :func:`centred` makes it.

    Args:
        matrix: ``(..., n, n)``, in the dtype of the Gram matrix.
        sums: ``(..., 7)``, what the moments need of it, in float64 where the device has it.
    """

    matrix: Tensor
    sums: Tensor


class Chance(NamedTuple):
    """Central moments of the statistic over all permutations, ``(...)`` each."""

    variance: Tensor
    third: Tensor


def independence_p_value(a: Tensor, b: Tensor) -> Tensor:
    r"""How often two variables would look as dependent as they do, if the samples of one were shuffled: a p-value.

    .. math:: p = P(H_\pi \ge H), \qquad H_\pi = \sum_{ij} \tilde A_{ij} \tilde B_{\pi(i)\pi(j)}

    with :math:`\tilde A` the Gram matrix centred so that rows and columns have sum zero. The statistic is the biased
    HSIC but for a factor, and as a test the same as the RV coefficient. In the place of counted permutations stands a
    Pearson curve of type III, a shifted gamma distribution, with their mean, variance and skewness, which are exact.

    For kernels with values between 0 and 1, p is what 10,000 permutations give, within their own scatter; at 1e-5 it is
    right within a factor of two. The curve has no steps. Chance has steps where both variables have two values: there p
    lies between how often it gives more and how often it gives as much. For linear kernels of samples with heavy tails
    the curve does not hold.

    Args:
        a: Gram matrices ``(..., n, n)``.
        b: Gram matrices ``(..., n, n)`` over the same samples; leading dimensions broadcast.

    Returns:
        ``(...)`` in float64, uniform between 0 and 1 for independent variables; NaN where a variable does not vary.
        No gradient. O(n³) once a variable and O(n²) a pair: no spectrum, no random number.

    Raises:
        ValueError: for fewer than six samples, or matrices of different shapes.

    Source: moments Kazi-Aoual, Hitier, Sabatier and Lebreton (1995), here in the form of :func:`chance_of`; Pearson
    curve Josse, Pagès and Husson (2008) and Minas and Montana (2014).

    Example:
        >>> labels = torch.arange(64) % 4
        >>> independence_p_value(class_gram(labels), class_gram(labels)) < 1e-12  # a copy
        tensor(True)
    """
    if min(a.ndim, b.ndim) < 2 or len({*a.shape[-2:], *b.shape[-2:]}) > 1:
        raise ValueError(
            f"independence_p_value() takes Gram matrices (..., n, n) over the same samples, got {tuple(a.shape)} and "
            f"{tuple(b.shape)}. Make them from samples with gram(samples) or from classes with class_gram(labels)."
        )
    return p_value_of(centred(a), centred(b))


def centred(gram: Tensor) -> Centred:
    r"""What the test needs of one variable: a matrix whose products with others have mean zero, and seven sums.

    .. math:: M = P + \operatorname{diag} D, \qquad D = \sqrt{\tfrac{n}{n - 2}}\; d

    :math:`P` is the U-centred matrix: zero on the diagonal, and rows with sum zero. :math:`d` is the diagonal of
    :math:`\tilde A` less its mean. Then

    .. math:: \sum_{ij} M_{ij} M'_{ij} = \sum_{ij} \tilde A_{ij} \tilde B_{ij} - \frac{\operatorname{tr} \tilde A
        \operatorname{tr} \tilde B}{n - 1}

    where what is taken off is the mean over all permutations. Adding a multiple of the centring matrix to
    :math:`\tilde A` changes every :math:`H_\pi` by the same amount, so that it can be taken off before anything is
    multiplied. Nothing large cancels later, and float32 is enough for the matrix.

    The sums are, in this order, :math:`\sum D_i^2`, :math:`\sum P_{ij}^2`, :math:`\sum D_i^3`,
    :math:`\sum D_i P_{ij} D_j`, :math:`\sum D_i P_{ij}^2`, :math:`\sum P_{ij}^3` and :math:`\operatorname{tr} P^3`.

    Args:
        gram: ``(..., n, n)`` with trace one; the entries are multiplied by n.

    Raises:
        ValueError: for fewer than six samples.

    Example:
        >>> bool(centred(torch.eye(8) / 8).sums.any())  # everything equally different: no order tells from another
        False
    """
    n = gram.shape[-1]
    if n < 6:
        raise ValueError(
            f"a Gram matrix of {n} samples: expected 6 or more, as the third moment takes six different ones. Count "
            "permutations instead: permutation_test(mutual_information, a, b)."
        )
    wide = widest_float(gram.device)
    matrix = upcast(gram.detach()) * n
    diagonal = matrix.diagonal(dim1=-2, dim2=-1)  # a view: what is written to it stands in the matrix
    own = diagonal.to(wide, copy=True)
    others = matrix.sum(-1, dtype=wide) - own
    level = others / (n - 2) - others.sum(-1, keepdim=True) / (2 * (n - 1) * (n - 2))
    narrow = level.to(matrix.dtype)
    matrix.sub_(narrow.unsqueeze(-1)).sub_(narrow.unsqueeze(-2))
    diagonal.zero_()
    deviation = own * (1 - 2 / n) - others * (2 / n)
    deviation = (deviation - deviation.mean(-1, keepdim=True)) * math.sqrt(n / (n - 2))
    sums = _sums(deviation, matrix)
    diagonal.copy_(deviation)
    return Centred(matrix, sums)


def _sums(diagonal: Tensor, off: Tensor) -> Tensor:
    """The seven sums ``(..., 7)`` of a vector and a matrix that is zero on its diagonal."""
    wide = diagonal.dtype
    squares = off.square()
    # Rows in the matrix's own dtype, their sums in float64: copies of matrices in float64 would take half of the time.
    rows = squares.sum(-1).to(wide)
    cubes = squares.mul_(off).sum(-1).to(wide)
    triangles = symmetric_product(off).mul_(off).sum(-1).to(wide)
    along = (off * diagonal.to(off.dtype).unsqueeze(-2)).sum(-1).to(wide)
    parts = [diagonal**2, rows, diagonal**3, diagonal * along, diagonal * rows, cubes, triangles]
    return torch.stack([part.sum(-1) for part in parts], -1)


def chance_of(a: Centred, b: Centred) -> Chance:
    r"""Variance and third moment of the statistic over all permutations, exactly, from the sums of each variable.

    With :math:`[\cdot]` a sum over the one variable times the same sum over the other, and with
    :math:`U = \sum P_{ij}^3` and :math:`T = \operatorname{tr} P^3`:

    .. math::
        \mu_2 &= \frac{[D^2]}{n - 1} + \frac{2\, [P^2]}{n (n - 3)} \\
        \mu_3 &= \frac{n\, [D^3]}{(n - 1)(n - 2)} + \frac{6\, [DPD]}{n (n - 3)}
        + \frac{12 (n - 2)\, [DP^2]}{(n - 1)(n - 3)(n - 4)} \\
        &+ \frac{4 (n^4 - 8n^3 + 19n^2 - 4n - 16)\, [U] + 8 (n^3 - 9n^2 + 26n - 22)\, [T]
        - 8 (3n^2 - 15n + 16) (U T' + T U')}{n (n - 1)(n - 2)(n - 3)(n - 4)(n - 5)}

    How they come about: a moment is a sum over the patterns in which its indices can coincide. Each is the sum over
    different indices of the one variable, times that of the other, divided by the number of such indices. Möbius
    inversion gives sums over different indices from sums over all. Of those only these seven are not zero.

    Example:
        >>> apart = centred(class_gram(torch.arange(10) == 0))  # one sample apart: the same one, or another
        >>> chance_of(apart, apart).variance  # 16 (1 - 2/n)² (1 - 1/n) / n
        tensor(0.9216, dtype=torch.float64)
    """
    n = a.matrix.shape[-1]
    d2, p2, d3, dpd, dp2, cubes, triangles = (a.sums * b.sums).unbind(-1)
    mixed = a.sums[..., 5] * b.sums[..., 6] + a.sums[..., 6] * b.sums[..., 5]
    variance = d2 / (n - 1) + 2 * p2 / (n * (n - 3))
    third = n * d3 / ((n - 1) * (n - 2)) + 6 * dpd / (n * (n - 3)) + 12 * (n - 2) * dp2 / ((n - 1) * (n - 3) * (n - 4))
    of_p = 4 * (n**4 - 8 * n**3 + 19 * n**2 - 4 * n - 16) * cubes + 8 * (n**3 - 9 * n**2 + 26 * n - 22) * triangles
    of_p = of_p - 8 * (3 * n**2 - 15 * n + 16) * mixed
    return Chance(variance, third + of_p / math.perm(n, 6))


def p_value_of(a: Centred, b: Centred) -> Tensor:
    """The p-values ``(...)`` of :func:`independence_p_value` from the parts of two variables.

    Example:
        >>> labels = class_gram(torch.arange(64) % 4)
        >>> p_value_of(centred(labels), centred(torch.ones(64, 64) / 64))  # a constant
        tensor(nan, dtype=torch.float64)
    """
    varies = _varies(a, a.sums[..., :2].sum(-1)) & _varies(b, b.sums[..., :2].sum(-1))
    chance = chance_of(a, b)
    deviation = torch.where(varies, chance.variance, 1.0).sqrt()
    skewness = chance.third / deviation**3
    # A few numbers: the incomplete gamma function is another that Apple's GPUs do not have.
    p = _pearson_tail(for_spectra(_statistic(a, b) / deviation).double(), for_spectra(skewness).double())
    return torch.where(for_spectra(varies), p, torch.nan)


def alignment_of(a: Centred, b: Centred) -> Tensor:
    r"""What :func:`~lightning_infoplane.debiased_cka` gives, ``(...)``, from the parts of two variables.

    .. math:: \mathrm{CKA} = \frac{\sum_{ij} P_{ij} P'_{ij}}{\sqrt{\sum_{ij} P_{ij}^2 \sum_{ij} P'^2_{ij}}}

    Example:
        >>> labels = centred(class_gram(torch.arange(8) % 2))
        >>> alignment_of(labels, labels)
        tensor(1., dtype=torch.float64)
    """
    squares = a.sums[..., 1] * b.sums[..., 1]
    varies = _varies(a, a.sums[..., 1]) & _varies(b, b.sums[..., 1])
    diagonals = [part.matrix.diagonal(dim1=-2, dim2=-1).to(squares.dtype) for part in (a, b)]
    shared = _statistic(a, b) - (diagonals[0] * diagonals[1]).sum(-1)
    return torch.where(varies, shared / torch.where(varies, squares, 1.0).sqrt(), torch.nan)


def _statistic(a: Centred, b: Centred) -> Tensor:
    """The sum of products of two matrices: rows in the narrower of their dtypes, and their sums in float64."""
    narrow = min((a.matrix.dtype, b.matrix.dtype), key=lambda dtype: torch.finfo(dtype).bits)
    return (a.matrix.to(narrow) * b.matrix.to(narrow)).sum(-1).to(a.sums.dtype).sum(-1)


def _pearson_tail(deviations: Tensor, skewness: Tensor) -> Tensor:
    """P(Z ≥ deviations) of a shifted gamma variable, mirrored for negative skewness, of mean zero and variance one."""
    low, high = _SYMMETRIC
    skewness = torch.where((skewness > low) & (skewness < high), high, skewness)
    shape = 4 / skewness**2
    at = (shape * (1 + deviations * skewness / 2)).clamp_min(0)
    upper: Tensor = torch.special.gammaincc(shape, at)
    return torch.where(skewness > 0, upper, torch.special.gammainc(shape, at))


def _varies(part: Centred, squares: Tensor) -> Tensor:
    """Whether a sum of squares is more than the rounding of kernel values, which are at most one."""
    return squares > (torch.finfo(part.matrix.dtype).eps * part.matrix.shape[-1]) ** 2
