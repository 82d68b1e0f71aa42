"""What is kept of a layer's activation: its Gram matrix, its bandwidths, and what its feature maps share."""

from typing import NamedTuple

import torch
from torch import Tensor

from lightning_infoplane.estimator.redundancy import LayerRedundancy
from lightning_infoplane.estimator.solvers import Estimate
from lightning_infoplane.measurement.quantity import Quantity

__all__ = ["Reduced", "unfit", "without_rounding"]

# A kernel value that is as good as zero, and one at which samples are still alike.
_APART = 1e-12
_ALIKE = 1e-2
# Units of rounding by which a constant may vary from sample to sample: the last rows of a batch may be summed in
# another order than the others.
_ROUNDING = 8


class Reduced(NamedTuple):
    """A layer at one moment, as the functions in the table of quantities see it.

    Args:
        gram: ``(n, n)``, the joint of its feature maps.
        sigma: ``(C,)``, the bandwidth of each map.
        redundancy: among its maps, where it was asked for and there are two or more.
    """

    gram: Tensor
    sigma: Tensor
    redundancy: LayerRedundancy | None = None

    @property
    def bandwidth(self) -> Tensor:
        """Geometric mean over the maps that vary; zero where none does."""
        live = self.sigma > 0
        logs = torch.where(live, self.sigma, 1.0).log().sum() / live.sum().clamp_min(1)
        return torch.where(live.any(), logs.exp(), 0.0)

    @property
    def outlier(self) -> Tensor:
        """The sample that is like no other while half of the others have one that is like them; NaN for none."""
        n = len(self.gram)
        off = n * self.gram - torch.eye(n, dtype=self.gram.dtype, device=self.gram.device)
        nearest = off.amax(-1)
        farthest, which = nearest.min(-1)
        # The median by a count: a sort is slow, and median() is refused on CUDA under Trainer(deterministic=True).
        is_alone = (farthest < _APART) & ((nearest > _ALIKE).sum() * 2 > n)
        return torch.where(is_alone, which.to(torch.float64), torch.nan)

    def numbers(self, quantity: Quantity) -> dict[Quantity, Tensor]:
        """A function of a layer: its value and its own standard error; NaN where there is none, alike on all ranks."""
        nothing = self.gram.new_full((), torch.nan)
        result = quantity.formula(self) if callable(quantity.formula) else None
        found = result if isinstance(result, Estimate) else Estimate(nothing if result is None else result, nothing)
        return {quantity: found.bits, quantity.error: found.stderr} if quantity.stderr else {quantity: found.bits}


def unfit(activation: Tensor, n: int) -> str:
    """Why an activation cannot be measured, in a clause; empty where it can.

    Example:
        >>> unfit(torch.zeros(8, 0, 4), 8), unfit(torch.zeros(8, 4), 8)
        ('no values in an output (8, 0, 4)', '')
    """
    shape = tuple(activation.shape)
    if len(shape) < 1 or shape[0] != n:
        return f"expected one value a sample, ({n}, ...), got {shape}"
    if activation.numel() == 0:
        return f"no values in an output {shape}"
    if activation.is_complex():
        return f"complex numbers, {activation.dtype}, of which there is no bandwidth"
    return ""


def without_rounding(maps: Tensor, sigma: Tensor) -> Tensor:
    """Bandwidths ``(C,)`` of maps ``(n, C, d)``, zero where a map varies from sample to sample by rounding alone.

    The median of such distances is as good a bandwidth as any: a dead layer would have the entropy of its noise.

    Example:
        >>> constant = torch.full((4, 1, 1), 0.3)
        >>> constant[3] += 3e-8
        >>> without_rounding(torch.cat([constant, torch.randn(4, 1, 1)], 1), torch.ones(2))
        tensor([0., 1.])
    """
    low = maps.amin(0)  # aminmax() takes four times as long along the first axis
    high = maps.amax(0)
    largest = torch.maximum(low.abs(), high.abs()).amax(-1)
    spread = (high - low).amax(-1)
    return torch.where(spread <= _ROUNDING * torch.finfo(maps.dtype).eps * largest, 0.0, sigma)
