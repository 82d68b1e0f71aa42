r"""From Gram matrices to bits, exactly: the solver's contract, and the spectrum or the closed form that needs none.

.. math:: S_\alpha(A) = \frac{1}{1-\alpha} \log_2 \sum_i \lambda_i(A)^\alpha, \qquad \operatorname{tr} A = 1

What is given here has been checked: see :mod:`lightning_infoplane.estimator.entropy`.
"""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor

from lightning_infoplane.arguments.checks import Instance, checked
from lightning_infoplane.estimator.grams import hadamard
from lightning_infoplane.estimator.precision import for_spectra, full_float32, spectrum_float

__all__ = [
    "CLOSED_FORMS",
    "SOLVER",
    "Eigenvalues",
    "Estimate",
    "Solver",
    "class_block_spectrum",
    "exact_unless",
    "rounding_of",
    "spectral_entropy",
]

# |α - 1| below which log2(Σλ^α)/(1-α) is written with expm1 and log1p: the plain form divides a difference
# of nearly equal numbers by α - 1. Far from one it is the other way round: log1p(-1 + tiny) loses digits.
_NEAR_ONE = 0.1
# Orders whose Σλ^α is a sum over entries of the matrix or of its square: one product instead of a spectrum.
CLOSED_FORMS = (2, 3, 4)


class Estimate(NamedTuple):
    """An entropy in bits and the standard error of the method that found it (not of the sample)."""

    bits: Tensor
    stderr: Tensor


def spectral_entropy(eigenvalues: Tensor, alpha: float) -> Tensor:
    r"""Rényi entropy ``(...)`` in bits of a spectrum ``(..., n)``, divided by its sum.

    .. math:: \frac{1}{1-\alpha} \log_2 \sum_i \operatorname{sign}(\lambda_i) |\lambda_i|^\alpha

    Where an eigenvalue is zero, rounding makes it positive as often as negative, and with their signs these cancel.
    Clipped at zero, as positive ones alone, they cost 1.4e-4 bits in float32; so, 4e-5 at most.

    Example:
        >>> spectral_entropy(torch.tensor([0.25, 0.25, 0.5], dtype=torch.float64), alpha=1.0)
        tensor(1.5000, dtype=torch.float64)
    """
    weights = eigenvalues / eigenvalues.sum(-1, keepdim=True)
    if math.isinf(alpha):
        return -weights.amax(-1).log2() + 0.0
    # Zeros contribute nothing, but their logarithm would make gradients infinite: they are masked twice.
    sizes = weights.abs()
    live = sizes > 0
    log = torch.where(live, sizes, 1.0).log()
    if alpha == 1:
        return -(weights * log).sum(-1) / math.log(2) + 0.0
    if abs(alpha - 1) < _NEAR_ONE:  # Σλ^α = 1 + Σλ (λ^(α-1) - 1), because Σλ = 1
        return (weights * torch.expm1((alpha - 1) * log)).sum(-1).log1p() / ((1 - alpha) * math.log(2)) + 0.0
    # Relative to the largest: powers of small numbers vanish in floating point.
    largest = torch.where(live, log, -torch.inf).amax(-1, keepdim=True)
    powers = (weights.sign() * torch.where(live, alpha * (log - largest), -torch.inf).exp()).sum(-1).log()
    return (powers + alpha * largest.squeeze(-1)) / ((1 - alpha) * math.log(2)) + 0.0  # no "-0." for a constant


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
    gram = for_spectra(gram)
    labels = labels.cpu()
    dtype = dtype or spectrum_float(gram.device)
    _, member, counts = torch.unique(labels, return_inverse=True, return_counts=True)
    classes = counts.shape[0]
    largest = int(counts.max())
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

    def check_order(self, alpha: float) -> None:  # noqa: B027 - most can be asked for any
        """Raise a ``ValueError`` for an order that this solver has no way to, where it is chosen."""

    def rough(self) -> "Solver":
        """The same for where 5e-5 bits do not matter; faster if it can be."""
        return self

    def with_classes(self, gram: Tensor, labels: Tensor, alpha: float) -> Estimate:
        """Entropies of the joint with the class kernel of ``labels (n,)``, which are on the CPU."""
        same = (labels.unsqueeze(-1) == labels).to(gram.device)
        return self.estimate(hadamard(gram, same), alpha)


# Where a solver is asked for.
SOLVER = Instance(
    "an instance of Solver, such as {field}=Eigenvalues()",
    kinds=(Solver,),
    known=("Eigenvalues()", "Lanczos()", "Leading(rank=64)"),
    example="Eigenvalues()",
)
_DTYPE = Instance(
    "torch.float64, torch.float32 or None",
    constants=(torch.float64, torch.float32, None),
    known=("torch.float64", "torch.float32"),
)


@dataclass(frozen=True)
@checked(dtype=_DTYPE)
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
        if alpha not in CLOSED_FORMS:
            eigenvalues = torch.linalg.eigvalsh(matrix)
            tolerance = max(rounding_of(gram.dtype), rounding_of(matrix.dtype))
            return spectral_entropy(eigenvalues, alpha).masked_fill(eigenvalues.amin(-1) < -tolerance, torch.nan)
        with full_float32(gram.device):
            power = matrix if alpha == 2 else matrix @ matrix
            trace = (power * (matrix if alpha == 3 else power)).sum((-2, -1))
        return trace.log2() / (1 - alpha) + 0.0

    def rough(self) -> Solver:
        """Spectra in float32, unless a dtype was asked for: 1.7 times faster on a CPU."""
        return replace(self, dtype=torch.float32) if self.dtype is None else self

    def with_classes(self, gram: Tensor, labels: Tensor, alpha: float) -> Estimate:
        """Entropies of the joint with the class kernel, from the spectra of its diagonal blocks."""
        if alpha in CLOSED_FORMS:
            return super().with_classes(gram, labels, alpha)
        bits = spectral_entropy(class_block_spectrum(gram, labels, self.dtype), alpha)
        return Estimate(bits, torch.zeros_like(bits))


def exact_unless(solver: Solver | None) -> Solver:
    """The solver that was asked for; the exact one where none was.

    Example:
        >>> exact_unless(None)
        Eigenvalues(dtype=None)
    """
    return Eigenvalues() if solver is None else SOLVER("solver", solver)


def rounding_of(dtype: torch.dtype) -> float:
    """How negative an eigenvalue of a Gram matrix may be by rounding alone."""
    return 1e-8 if dtype == torch.float64 else 1e-4
