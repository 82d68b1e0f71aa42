"""What is kept of a layer's activation: its Gram matrix, its bandwidths, and what its feature maps share."""

from typing import NamedTuple

import torch
from torch import Tensor

from lightning_infoplane.estimator.redundancy import LayerRedundancy

__all__ = ["Reduced"]


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
