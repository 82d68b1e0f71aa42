"""Outputs too many to keep, told from others: what a layer puts out in one pass, and whether it is so in the next."""

from typing import NamedTuple

import torch
from torch import Tensor

from lightning_infoplane.estimator.precision import full_float32, widest_float

__all__ = ["TOLERANCE", "Digest", "weights_for"]

# Kernels that sum in another order must not look like a dependence.
TOLERANCE = 1e-5


class Digest(NamedTuple):
    """Two random sums of each row: the same for the same numbers, and hardly for others.

    Args:
        sums: of each row ``(rows, 2)``.
        sizes: its length as a vector ``(rows, 1)``.
        finite: whether all numbers are.
        tolerance: how far from the same may still be, as a part of the length.

    Example:
        >>> before = Digest.of(torch.eye(2), weights := torch.tensor([[1.0, 2.0], [3.0, 4.0]]).double())
        >>> before.differences(torch.tensor([[1.0, 0.0], [1e-6, 1.0]]), weights).tolist()  # at all, and noticeably
        [[False, True], [False, False]]
    """

    sums: Tensor
    sizes: Tensor
    finite: bool
    tolerance: float

    @classmethod
    def of(cls, values: Tensor, weights: Tensor) -> "Digest":
        """The digest of values ``(rows, ...)``, from the numbers that :func:`weights_for` gives."""
        rows = _rows(values)
        sums = _sums(rows, weights)
        finite = bool(sums.isfinite().all())
        if not finite:
            rows = _bounded(rows)
            sums = _sums(rows, weights)
        sizes = torch.linalg.vector_norm(rows, dim=1, keepdim=True)
        return cls(sums, sizes, finite, max(TOLERANCE, torch.finfo(values.dtype).eps))

    def differences(self, values: Tensor, weights: Tensor) -> Tensor:
        """Rows that differ at all, and by more than the tolerance ``(2, rows)``."""
        rows = _rows(values)
        apart = (_sums(rows if self.finite else _bounded(rows), weights) - self.sums).abs()
        # What has become infinite or NaN is not the same: so asked, neither is a difference of NaN.
        return torch.stack([~(apart == 0).all(1), ~(apart <= self.tolerance * self.sizes).all(1)])


def _rows(values: Tensor) -> Tensor:
    # A copy in any case: products may be rounded according to where in memory their factors begin.
    return values.flatten(1).to(widest_float(values.device), copy=True)


def _bounded(rows: Tensor) -> Tensor:
    """Scores of masked places are infinite."""
    return rows.nan_to_num(0.5, 1e3, -1e3)


def _sums(rows: Tensor, weights: Tensor) -> Tensor:
    if rows.dtype is torch.float64:
        return rows @ weights
    with full_float32(rows.device):  # autocast, which leaves float64 alone, would round them
        return rows @ weights


def weights_for(size: int, device: torch.device) -> Tensor:
    """Normal numbers ``(size, 2)``, always the same: of squares none would see a sign, of ones an exchange."""
    drawn = torch.randn(size, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return drawn.to(device, widest_float(device))
