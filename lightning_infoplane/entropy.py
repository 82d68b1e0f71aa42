r"""Gram matrices to bits: the matrix-based Rényi entropy, the joint Gram matrix, and the exact solver.

.. math:: S_\alpha(A) = \frac{1}{1-\alpha} \log_2 \sum_i \lambda_i(A)^\alpha, \qquad \operatorname{tr} A = 1

The public functions check their matrices once; :func:`spectral_entropy` and the solvers assume checked ones.
"""

import math
import warnings
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from lightning_infoplane.precision import for_spectra, full_float32, spectrum_float, widest_float

__all__ = [
    "Eigenvalues",
    "Estimate",
    "Solver",
    "check_alpha",
    "check_grams",
    "checked_entropy",
    "class_block_spectrum",
    "hadamard",
    "joint_gram",
    "normalize_trace",
    "renyi_entropy",
    "spectral_entropy",
]

# |α - 1| below which log2(Σλ^α)/(1-α) is written with expm1 and log1p: the plain form divides a difference
# of nearly equal numbers by α - 1. Far from one it is the other way round: log1p(-1 + tiny) loses digits.
_NEAR_ONE = 0.1
# Orders whose Σλ^α is a sum over entries of the matrix or of its square: one product instead of a spectrum.
_CLOSED_FORMS = (2, 3, 4)


class Estimate(NamedTuple):
    """An entropy in bits and the standard error of the method that found it (not of the sample)."""

    bits: Tensor
    stderr: Tensor


def renyi_entropy(gram: Tensor, alpha: float = 1.01, solver: "Solver | None" = None) -> Tensor:
    r"""Matrix-based Rényi entropy of a trace-one Gram matrix, in bits.

    .. math:: S_\alpha(A) = \frac{1}{1-\alpha} \log_2 \sum_i \lambda_i^\alpha,\qquad
        S_1 = -\sum_i \lambda_i \log_2 \lambda_i,\qquad S_\infty = -\log_2 \max_i \lambda_i

    Between 0 (all samples alike) and log₂ n (all different), and not increasing in α. For α well below one
    the value hangs on eigenvalues at the level of rounding; a warning says so below 1/2.

    Args:
        gram: ``(..., n, n)``, symmetric, positive semi-definite, trace one.
        alpha: the order, positive; 1 and ``math.inf`` are the limits.
        solver: how to get there; ``Eigenvalues()``, which is exact, when left out.

    Returns:
        ``(...)`` bits, differentiable.

    Raises:
        ValueError: for a matrix that is not a trace-one Gram matrix, or an impossible ``alpha``.

    Source: Sanchez Giraldo, Rao and Príncipe (2015); arXiv 1804.06537.

    Example:
        >>> renyi_entropy(torch.eye(8) / 8, alpha=1.01)  # eight samples, all different: log2 8
        tensor(3., dtype=torch.float64)
    """
    check_alpha(alpha)
    check_grams(alpha, gram=gram)
    return checked_entropy(solver or Eigenvalues(), gram, alpha)


def joint_gram(*grams: Tensor) -> Tensor:
    r"""Gram matrix of several variables together: the Hadamard product with trace one.

    .. math:: A = \frac{A_1 \circ \dots \circ A_L}{\operatorname{tr}(A_1 \circ \dots \circ A_L)}

    The trace is restored after every factor: a product of L unit-trace matrices has entries of order
    n⁻ᴸ, which underflows at about 20 factors in float32 and 120 in float64.

    Args:
        grams: ``(..., n, n)`` each, with leading dimensions that broadcast.

    Returns:
        ``(..., n, n)`` with trace one.

    Raises:
        ValueError: without any matrix, or with matrices of different n.

    Source: Yu, Sanchez Giraldo, Jenssen and Príncipe, arXiv 1808.07912.

    Example:
        >>> a = torch.eye(2, dtype=torch.float64) / 2
        >>> joint_gram(a, torch.full((2, 2), 0.5, dtype=torch.float64))  # a constant adds nothing
        tensor([[0.5000, 0.0000],
                [0.0000, 0.5000]], dtype=torch.float64)
    """
    if not grams:
        raise ValueError("joint_gram() takes one Gram matrix or more, got none.")
    sizes = {size for gram in grams for size in gram.shape[-2:]}
    if len(sizes) > 1 or min(gram.ndim for gram in grams) < 2:
        shapes = ", ".join(str(tuple(gram.shape)) for gram in grams)
        raise ValueError(f"joint_gram() takes Gram matrices (..., n, n) over the same samples, got shapes {shapes}.")
    joint = normalize_trace(grams[0])
    for factor in grams[1:]:
        joint = normalize_trace(joint * factor)
    return joint


def hadamard(gram: Tensor, other: Tensor) -> Tensor:
    """``joint_gram`` of two matrices known to be fit, in one piece of memory: with large probes, most there is."""
    joint = gram * other
    return joint.div_(joint.diagonal(dim1=-2, dim2=-1).sum(-1)[..., None, None])


def normalize_trace(matrix: Tensor) -> Tensor:
    """``(..., n, n)`` divided by its trace."""
    return matrix / matrix.diagonal(dim1=-2, dim2=-1).sum(-1)[..., None, None]


def spectral_entropy(eigenvalues: Tensor, alpha: float) -> Tensor:
    r"""Rényi entropy ``(...)`` in bits of a spectrum ``(..., n)``, clipped at zero and divided by its sum.

    Eigenvalues that rounding made slightly negative are zeros; taking their absolute value instead, and not
    dividing by the sum, costs up to 2e-4 bits in float32.

    Example:
        >>> spectral_entropy(torch.tensor([0.25, 0.25, 0.5], dtype=torch.float64), alpha=1.0)
        tensor(1.5000, dtype=torch.float64)
    """
    positive = eigenvalues.clamp_min(0)
    weights = positive / positive.sum(-1, keepdim=True)
    if math.isinf(alpha):
        return -weights.amax(-1).log2() + 0.0
    # Zeros contribute nothing, but their logarithm would make gradients infinite: they are masked twice.
    live = weights > 0
    log = torch.where(live, weights, 1.0).log()
    if alpha == 1:
        return -(weights * log).sum(-1) / math.log(2) + 0.0
    if abs(alpha - 1) < _NEAR_ONE:  # Σλ^α = 1 + Σλ (λ^(α-1) - 1), because Σλ = 1
        return (weights * torch.expm1((alpha - 1) * log)).sum(-1).log1p() / ((1 - alpha) * math.log(2)) + 0.0
    powers = torch.where(live, alpha * log, -torch.inf).logsumexp(-1)
    return powers / ((1 - alpha) * math.log(2)) + 0.0  # + 0.0: no "-0." for a constant variable


def class_block_spectrum(gram: Tensor, labels: Tensor, dtype: torch.dtype | None = None) -> Tensor:
    r"""Spectrum of the joint of Gram matrices with a class kernel, from one small matrix a class.

    Once samples are sorted by class, :math:`A \circ Y` is block diagonal, so its spectrum is that of its
    blocks: exact, and with C balanced classes C² times cheaper. Where one class is so large that padding the
    others to its size would take more room than the whole matrix, the whole matrix is taken.

    Args:
        gram: ``(..., n, n)``, trace one.
        labels: ``(n,)`` integer classes.
        dtype: of the spectrum; ``None`` takes float64, float32 on GPUs that are slow at it.

    Returns:
        ``(..., m)`` eigenvalues with sum one: the n of the joint and, where blocks are padded, further zeros.

    Raises:
        ValueError: for labels that are not one integer a sample.

    Source: linear algebra.

    Example:
        >>> everything_alike = torch.full((4, 4), 0.25, dtype=torch.float64)
        >>> class_block_spectrum(everything_alike, torch.tensor([0, 0, 0, 1])).sort().values[-2:]
        tensor([0.2500, 0.7500], dtype=torch.float64)
    """
    if labels.is_floating_point() or labels.shape != gram.shape[-1:]:
        raise ValueError(
            f"labels: expected {gram.shape[-1]} integer classes, one a sample of the Gram matrix, got "
            f"{tuple(labels.shape)} of {labels.dtype}. For continuous targets call joint_gram(a, gram(targets))."
        )
    # The layout of the blocks is worked out on the CPU, where asking for the largest class makes nobody wait.
    gram, labels = for_spectra(gram), labels.cpu()
    dtype = dtype or spectrum_float(gram.device)
    _, member, counts = torch.unique(labels, return_inverse=True, return_counts=True)
    classes, largest = counts.shape[0], int(counts.max())
    if classes * largest**2 > len(labels) ** 2:
        same = (labels.unsqueeze(-1) == labels).to(gram.device)
        whole: Tensor = torch.linalg.eigvalsh((gram * same).to(dtype))
        return whole
    order = member.argsort(stable=True)
    within = torch.arange(len(labels)) - (counts.cumsum(0) - counts)[member[order]]
    # Row b holds the samples of class b; the padding points at sample 0 and is zeroed below.
    index = labels.new_zeros((classes, largest), dtype=torch.long)
    index[member[order], within] = order
    real = (torch.arange(largest) < counts.unsqueeze(-1)).to(gram.device)
    index = index.to(gram.device)
    blocks = gram[..., index.unsqueeze(-1), index.unsqueeze(-2)]
    blocks = blocks * (real.unsqueeze(-1) & real.unsqueeze(-2))
    eigenvalues: Tensor = torch.linalg.eigvalsh(blocks.to(dtype))
    return eigenvalues.flatten(-2)


@dataclass(frozen=True)
class Solver(ABC):
    """A way from trace-one Gram matrices ``(..., n, n)`` and an order α to bits ``(...)``.

    A new solver is a frozen dataclass with ``__call__``; one that is not exact says how far off it is by
    overriding :meth:`estimate`. What it cannot compute is NaN: to raise an error it would have to look at the
    numbers, and the host to wait for the device at every call.
    """

    @abstractmethod
    def __call__(self, gram: Tensor, alpha: float) -> Tensor:
        """Entropies in bits."""

    def estimate(self, gram: Tensor, alpha: float) -> Estimate:
        """Entropies in bits with their standard errors: zero for an exact solver."""
        bits = self(gram, alpha)
        return Estimate(bits, torch.zeros_like(bits))

    def with_classes(self, gram: Tensor, labels: Tensor, alpha: float) -> Estimate:
        """Entropies of the joint with the class kernel of ``labels (n,)``, which are on the CPU."""
        same = (labels.unsqueeze(-1) == labels).to(gram.device)
        return self.estimate(hadamard(gram, same), alpha)


@dataclass(frozen=True)
class Eigenvalues(Solver):
    r"""Exact: the whole spectrum, or for α = 2, 3 and 4 a closed form that needs none.

    .. math:: \operatorname{tr} A^2 = \lVert A\rVert_F^2,\quad \operatorname{tr} A^3 = \langle A^2, A\rangle_F,
        \quad \operatorname{tr} A^4 = \lVert A^2\rVert_F^2

    Args:
        dtype: of the spectrum. ``None`` takes float64, but float32 on NVIDIA's GPUs that are slow at float64 (all
            but P100, V100, A100, H100 and B200). Float32 costs about 2e-5 bits.

    Source: the definition.

    Example:
        >>> Eigenvalues()(torch.eye(4) / 4, alpha=2)
        tensor(2., dtype=torch.float64)
    """

    dtype: torch.dtype | None = None

    def __call__(self, gram: Tensor, alpha: float) -> Tensor:
        """Entropies in bits; NaN where an eigenvalue is more negative than rounding explains."""
        gram = for_spectra(gram)
        matrix = gram.to(self.dtype or spectrum_float(gram.device))
        if alpha not in _CLOSED_FORMS:
            eigenvalues = torch.linalg.eigvalsh(matrix)
            tolerance = max(_tolerance(gram.dtype), _tolerance(matrix.dtype))
            return spectral_entropy(eigenvalues, alpha).masked_fill(eigenvalues.amin(-1) < -tolerance, torch.nan)
        with full_float32(gram.device):
            power = matrix if alpha == 2 else matrix @ matrix
            trace = (power * (matrix if alpha == 3 else power)).sum((-2, -1))
        return trace.log2() / (1 - alpha) + 0.0

    def with_classes(self, gram: Tensor, labels: Tensor, alpha: float) -> Estimate:
        """Entropies of the joint with the class kernel, from the spectra of its diagonal blocks."""
        if alpha in _CLOSED_FORMS:
            return super().with_classes(gram, labels, alpha)
        bits = spectral_entropy(class_block_spectrum(gram, labels, self.dtype), alpha)
        return Estimate(bits, torch.zeros_like(bits))


def check_alpha(alpha: float) -> None:
    """Raise a ``ValueError`` for an order that is not one; warn where the value hangs on rounding."""
    if isinstance(alpha, bool) or not isinstance(alpha, int | float) or not alpha > 0:
        raise ValueError(f"alpha={alpha!r}: expected a positive number, 1.01 being the paper's; math.inf is allowed.")
    if alpha < 0.5:
        warnings.warn(
            f"alpha={alpha}: well below one the entropy is decided by eigenvalues at the level of rounding. "
            "Use 1.01 unless you study the rank.",
            stacklevel=3,
        )


def check_grams(alpha: float, **grams: Tensor) -> None:
    """Raise a ``ValueError`` that names the matrix, what it is and what to call instead. Costs one host sync each.

    Whether eigenvalues are negative shows in the spectrum; where α has a closed form, which needs none, a Cholesky
    factorization tells.
    """
    for name, given in grams.items():
        matrix = for_spectra(given)
        if matrix.ndim < 2 or matrix.shape[-1] != matrix.shape[-2] or not matrix.is_floating_point():
            raise ValueError(
                f"{name}: expected a floating-point Gram matrix (..., n, n), got {tuple(matrix.shape)} of "
                f"{matrix.dtype}. Make one from samples with gram(samples) or from classes with class_gram(labels)."
            )
        fine = matrix.detach().to(widest_float(matrix.device))
        asymmetry = (fine - fine.mT).abs().amax()
        trace = fine.diagonal(dim1=-2, dim2=-1).sum(-1)
        off = (trace - 1).abs().amax()
        smallest = fine.diagonal(dim1=-2, dim2=-1).amin()
        bad, uneven, offset, negative = torch.stack([fine.sum().abs(), asymmetry, off, -smallest]).tolist()
        tolerance = _tolerance(matrix.dtype)
        if not math.isfinite(bad):
            raise ValueError(f"{name}: contains NaN or infinite values. Check the samples with torch.isfinite first.")
        if uneven > tolerance:
            raise ValueError(
                f"{name}: not symmetric (largest difference {uneven:.3g}). Pass samples through gram(samples) first."
            )
        if offset > tolerance:
            raise ValueError(
                f"{name}: the trace is {float(trace.flatten()[(trace - 1).abs().argmax()]):.6g}, expected 1. "
                "Divide it by its trace: joint_gram(matrix) does."
            )
        if negative > tolerance:
            raise ValueError(f"{name}: a negative diagonal entry ({-negative:.3g}); a Gram matrix has none.")
        if alpha in _CLOSED_FORMS:
            shift = tolerance * torch.eye(matrix.shape[-1], dtype=fine.dtype, device=fine.device)
            if bool(torch.linalg.cholesky_ex(fine + shift).info.any()):
                _check_spectrum(torch.linalg.eigvalsh(fine), matrix.dtype)


def checked_entropy(solver: Solver, gram: Tensor, alpha: float) -> Tensor:
    """Entropies ``(...)`` of matrices from outside: a ``ValueError`` where their spectrum is none. A host sync."""
    bits = solver(gram, alpha)
    if bool(bits.detach().isnan().any()):
        matrix = for_spectra(gram.detach())
        _check_spectrum(torch.linalg.eigvalsh(matrix.to(widest_float(matrix.device))), gram.dtype)
    return bits


def _check_spectrum(eigenvalues: Tensor, dtype: torch.dtype) -> None:
    """Negative eigenvalues are rounding down to the tolerance, and a wrong kernel below it."""
    smallest = float(eigenvalues.detach().amin())
    if smallest < -_tolerance(dtype):
        raise ValueError(
            f"the Gram matrix has an eigenvalue of {smallest:.3g}: its kernel is not positive semi-definite. "
            "Use gram(samples), feature_map_gram(maps) or class_gram(labels)."
        )


def _tolerance(dtype: torch.dtype) -> float:
    return 1e-8 if dtype == torch.float64 else 1e-4
