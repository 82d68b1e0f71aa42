"""What is kept of a layer's activation: its Gram matrix, its bandwidths, and what its feature maps share."""

from typing import NamedTuple

import torch
from torch import Tensor

from lightning_infoplane.estimator.redundancy import LayerRedundancy

__all__ = ["Reduced"]

# A kernel value that is as good as zero, and one at which samples are still alike.
_APART = 1e-12
_ALIKE = 1e-2


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
