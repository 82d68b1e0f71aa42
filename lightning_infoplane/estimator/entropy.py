"""The matrix-based Rényi entropy, for matrices from outside: checked once, then handed to a solver."""

import math
import warnings

import torch
from torch import Tensor

from lightning_infoplane.arguments.checks import Number, Tensors
from lightning_infoplane.estimator.precision import for_spectra, widest_float
from lightning_infoplane.estimator.solvers import CLOSED_FORMS, Solver, exact_unless, rounding_of

__all__ = ["ALPHA", "check_alpha", "check_grams", "checked_entropy", "renyi_entropy"]

ALPHA = Number("a positive number, 1.01 being the paper's; math.inf is allowed", lambda order: order > 0, "1.01")
_GRAM = Tensors("(..., n, n), a Gram matrix", "gram(samples)")


def renyi_entropy(gram: Tensor, alpha: float = 1.01, solver: Solver | None = None) -> Tensor:
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
    alpha = check_alpha(alpha)
    solver = exact_unless(solver)
    check_grams(alpha, gram=gram)
    return checked_entropy(solver, gram, alpha)


def check_alpha(alpha: float, stacklevel: int = 3) -> float:
    """The order as Python's number, or a ``ValueError`` where it is none; warn where the value hangs on rounding."""
    order: float = ALPHA("alpha", alpha)
    if order < 0.5:
        warnings.warn(
            f"alpha={order}: well below one the entropy is decided by eigenvalues at the level of rounding. "
            "Use 1.01 unless you study the rank.",
            stacklevel=stacklevel,
        )
    return order


def check_grams(alpha: float, **grams: Tensor) -> None:
    """Raise an error that names the matrix, what it is and what to call instead. Costs one host sync each.

    Whether eigenvalues are negative shows in the spectrum; where α has a closed form, which needs none, a Cholesky
    factorization tells.
    """
    for name, given in grams.items():
        matrix = for_spectra(_GRAM(name, given))
        square = matrix.ndim >= 2 and matrix.shape[-1] == matrix.shape[-2] and matrix.numel() > 0
        if not square or not matrix.is_floating_point():
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
        tolerance = rounding_of(matrix.dtype)
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
        if alpha in CLOSED_FORMS:
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
    if smallest < -rounding_of(dtype):
        raise ValueError(
            f"the Gram matrix has an eigenvalue of {smallest:.3g}: its kernel is not positive semi-definite. "
            "Use gram(samples), feature_map_gram(maps) or class_gram(labels)."
        )
