"""The bandwidth rules: what each does to the picture is said in its docstring, under *Saturation*."""

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

from lightning_infoplane.arguments.checks import (
    FLAG,
    POSITIVE,
    Instance,
    Maybe,
    Number,
    Whole,
    WrongKindError,
    checked,
    shown,
)
from lightning_infoplane.estimator.distances import median_distances, pairwise_squares
from lightning_infoplane.estimator.precision import (
    largest,
    map_slices,
    normal_scale,
    seeded_part,
    upcast,
    widest_float,
)

__all__ = [
    "BANDWIDTH",
    "Alignment",
    "Bandwidth",
    "Fixed",
    "MedianDistance",
    "NearestNeighbors",
    "Silverman",
    "StandardizedSilverman",
]

# Distances that nearest neighbours are looked for in at a time.
_MAX_DISTANCES = 2**23


@dataclass(frozen=True)
class Bandwidth(ABC):
    """A rule that gives every feature map its bandwidth: maps ``(..., n, C, d)`` to ``(..., C)``.

    A new rule is a frozen dataclass that implements :meth:`bandwidths`. A rule holds no state: whoever measures
    the same layer again passes the bandwidths of the time before as ``previous``.
    """

    #: Whether the rule looks at the target's Gram matrix.
    needs_target: ClassVar[bool] = False
    #: Whether another sample of the same data would have another bandwidth, so that its scatter is part of an error.
    follows_samples: ClassVar[bool] = True

    def widening(self, maps: int) -> float:
        """How much wider a map's bandwidth is among so many live maps than alone; 1 where it does not depend on them.

        Example:
            >>> MedianDistance().widening(4), Silverman().widening(4)
            (2.0, 1.0)
        """
        return 1.0

    @torch.no_grad()
    def __call__(self, maps: Tensor, target: Tensor | None = None, previous: Tensor | None = None) -> Tensor:
        """The bandwidths of ``maps``, or ``previous`` where the rule is frozen to its first value.

        In float64 where the device has it, for those of float32 maps can be larger than any of their numbers.
        A bandwidth is a choice, not a variable: gradients do not flow through it.
        """
        if not isinstance(maps, Tensor) or maps.ndim < 3:
            raise WrongKindError(
                f"{type(self).__name__}() takes maps (..., n, C, d), got {shown(maps)}. "
                "For a layer (n, C, *spatial), write feature_map_gram(maps, rule)."
            )
        frozen = getattr(self, "freeze", False)
        sigma = previous if frozen and previous is not None else self.bandwidths(upcast(maps), target, previous)
        return sigma.to(widest_float(maps.device))

    @abstractmethod
    def bandwidths(self, maps: Tensor, target: Tensor | None, previous: Tensor | None) -> Tensor:
        """Bandwidths ``(..., C)`` of maps ``(..., n, C, d)``; ``target`` is the target's Gram matrix."""


# Where a rule is asked for.
BANDWIDTH = Instance(
    "an instance of Bandwidth, such as {field}=MedianDistance()",
    kinds=(Bandwidth,),
    known=(
        *("Alignment()", "Fixed(1.0)", "MedianDistance()", "NearestNeighbors()", "Silverman()"),
        "StandardizedSilverman()",
    ),
    numbers="Fixed({})",
    example="MedianDistance()",
)


@dataclass(frozen=True)
@checked(
    scale=POSITIVE,
    freeze=FLAG,
    samples=Maybe(Whole(2, says="a median of distances needs 2 or more")),
)
class MedianDistance(Bandwidth):
    r"""The median distance between samples, per map, times the root of the number of live maps: the default.

    .. math:: \sigma_c = \text{scale}\cdot\sqrt{C}\cdot\operatorname{median}_{i<j}\lVert x_{ic}-x_{jc}\rVert

    The median is taken over pairs of samples that differ, so repeated samples change nothing, and maps
    without any spread get :math:`\sigma = 0` and count neither for the product nor for C.

    *Scale:* follows the activations, so multiplying a layer by a constant changes nothing; use ``freeze=True`` to see
    such a growth. One sample far from all others changes hardly anything. *Saturation:* none was seen from 6 to 512
    maps, before or after training: √C undoes the shrinking of the effective bandwidth by a product of C kernels.
    *Cost:* all pairs while ``C·n²`` is at most 2¹⁸ or n at most 64. Otherwise the samples, in a seeded order,
    form groups, and each is compared with those of one other group: 1,024 pairs a map or more, in which every
    sample has its turn, so that a map which differs for one sample only is seen. On trained LeNet and VGG
    layers at n = 512 that moved σ by 0.5 to 2 % and H(T) by 0.01 to 0.04 bits, the same way at every measurement.

    Args:
        scale: a factor on the bandwidth.
        freeze: keep the bandwidths of the first measurement.
        samples: take all pairs of a seeded part of so many samples; ``None`` applies the rule above.

    Source: the median heuristic, per map; √C is this project's.

    Example:
        >>> MedianDistance()(torch.tensor([0.0, 3.0]).reshape(2, 1, 1))
        tensor([3.], dtype=torch.float64)
        >>> MedianDistance()(torch.tensor([[0.0, 0.0], [3.0, 1.0]]).reshape(2, 2, 1))  # √2 · 3 and √2 · 1
        tensor([4.2426, 1.4142], dtype=torch.float64)
    """

    scale: float = 1.0
    freeze: bool = False
    samples: int | None = None

    def widening(self, maps: int) -> float:
        """Their root: a copy of a map then adds nothing to the joint kernel."""
        return float(maps**0.5)

    def bandwidths(self, maps: Tensor, target: Tensor | None, previous: Tensor | None) -> Tensor:
        """Bandwidths ``(..., C)``."""
        n = maps.shape[-3]
        if self.samples is not None and self.samples < n:
            maps = maps[..., seeded_part(n, self.samples, maps.device), :, :]
        median = median_distances(maps, every_pair=self.samples is not None)
        live = (median > 0).sum(-1, keepdim=True).to(median)
        # As in widening(), of all live maps.
        return live.sqrt().mul(self.scale).mul(median)


@dataclass(frozen=True)
@checked(k=Whole(1, says="expected a positive, finite number of neighbours"), freeze=FLAG)
class NearestNeighbors(Bandwidth):
    r"""The mean distance to the k nearest samples that differ, per map.

    .. math:: \sigma_c = \frac1{nk} \sum_i \sum_{j \in \mathrm{NN}_k(i)} \lVert x_{ic} - x_{jc}\rVert

    Copies of a sample are no neighbours: a map with few distinct values would otherwise have :math:`\sigma = 0`.

    *Scale:* follows the activations, and like every mean a single sample far from all others.
    *Saturation:* soon: the product over C maps divides the effective bandwidth by √C, so layers with many maps read
    log₂ n whatever they do.

    Args:
        k: how many neighbours, the sample itself and its copies not counted; all there are when they are fewer.
        freeze: keep the bandwidths of the first measurement.

    Source: the rule of the reference code of arXiv 1804.06537, here independent of the samples' order.

    Example:
        >>> NearestNeighbors(k=1)(torch.tensor([0.0, 1.0, 3.0, 4.0]).reshape(4, 1, 1))
        tensor([1.], dtype=torch.float64)
    """

    k: int = 10
    freeze: bool = False

    def bandwidths(self, maps: Tensor, target: Tensor | None, previous: Tensor | None) -> Tensor:
        """Bandwidths ``(..., C)``."""
        n, channels = maps.shape[-3:-1]
        if self.k >= n:
            raise ValueError(f"NearestNeighbors(k={self.k}) needs more than {self.k} samples, got {n}.")
        step = max(1, _MAX_DISTANCES // n**2)  # maps at a time: their distances are never all held at once
        parts = []
        for first in range(0, channels, step):
            each = maps[..., first : first + step, :].movedim(-2, -3).unsqueeze(-2)
            squares, unit = pairwise_squares(each)
            others = torch.where(squares > 0, squares, torch.inf)
            nearest = others.topk(self.k, largest=False).values.sqrt()
            exists = nearest.isfinite()
            mean = torch.where(exists, nearest, 0.0).sum((-2, -1)) / exists.sum((-2, -1)).clamp_min(1)
            parts.append(mean * unit)
        return torch.cat(parts, -1)


@dataclass(frozen=True)
@checked(gamma=POSITIVE)
class Silverman(Bandwidth):
    r"""The paper's rule, from the number of samples and the size of one map alone.

    .. math:: \sigma = \gamma\, n^{-1/(4+d)}

    *Scale:* blind to it: the numbers mean something only for activations of a known spread.
    *Saturation:* layers with many maps or large activations (batch norm, ReLU) read log₂ n from the first
    epochs on, small ones at initialisation read 0.

    Args:
        gamma: the paper's γ.

    Source: arXiv 1804.06537 and its reference code (γ = 5).

    Example:
        >>> Silverman(gamma=5.0)(torch.zeros(32, 1, 1, dtype=torch.float64))  # 5 · 32^(-1/5)
        tensor([2.5000], dtype=torch.float64)
    """

    follows_samples: ClassVar[bool] = False

    gamma: float = 5.0

    def bandwidths(self, maps: Tensor, target: Tensor | None, previous: Tensor | None) -> Tensor:
        """Bandwidths ``(..., C)``."""
        n, _, size = maps.shape[-3:]
        return _everywhere(self.gamma * n ** (-1 / (4 + size)), maps)


@dataclass(frozen=True)
@checked(gamma=POSITIVE, freeze=FLAG)
class StandardizedSilverman(Bandwidth):
    r"""Silverman's rule for standardised maps, with the root of the dimension.

    .. math:: \sigma_c = \gamma\, s_c \sqrt{d}\, n^{-1/(4+d)}

    with :math:`s_c` the root-mean-square standard deviation of the features of map c: the whole map is
    standardised by one number, which keeps its kernel isotropic.

    *Scale:* follows the activations, and a single sample far from all others. *Saturation:* as with every rule that
    ignores C, in layers of many maps.

    Args:
        gamma: the factor γ.
        freeze: keep the bandwidths of the first measurement.

    Source: Tapia and Estévez (2020).

    Example:
        >>> maps = torch.tensor([-1.0, 1.0], dtype=torch.float64).repeat(16).reshape(32, 1, 1)
        >>> StandardizedSilverman(gamma=2.0)(maps)  # 2 · 1 · 32^(-1/5)
        tensor([1.], dtype=torch.float64)
    """

    gamma: float = 1.0
    freeze: bool = False

    def bandwidths(self, maps: Tensor, target: Tensor | None, previous: Tensor | None) -> Tensor:
        """Bandwidths ``(..., C)``."""
        n, _, size = maps.shape[-3:]
        spread = torch.cat([_spread(maps[..., some, :]) for some in map_slices(maps)], -1)
        return spread.mul(self.gamma * size**0.5 * n ** (-1 / (4 + size)))


@dataclass(frozen=True)
@checked(momentum=Number("a number in [0, 1)", lambda number: 0 <= number < 1), freeze=FLAG)
class Alignment(Bandwidth):
    r"""The bandwidth whose Gram matrix points most in the direction of the target's, smoothed over measurements.

    .. math:: \sigma_t = m\,\sigma_{t-1} + (1-m)\,\arg\max_\sigma
        \frac{\langle K_\sigma, K_y\rangle_F}{\lVert K_\sigma\rVert_F \lVert K_y\rVert_F}

    over 75 values between 0.1 and 10 times the mean distance of the whole layer; every map gets the same σ.

    **The labels choose the kernel**, so I(T;Y) is no longer neutral: part of its growth is the rule's.
    *Scale:* follows the activations, with the lag of the smoothing, and a single sample far from all others.
    *Saturation:* not seen.

    Args:
        momentum: m, the weight of the value before.
        freeze: keep the bandwidths of the first measurement.

    Source: Wickstrøm et al., arXiv 1909.11396.

    Example:
        >>> labels = torch.tensor([0, 0, 1, 1])
        >>> apart = torch.tensor([0.0, 0.0, 6.0, 6.0], dtype=torch.float64).reshape(4, 1, 1)
        >>> bool(Alignment()(apart, target=class_gram(labels)) < 2)  # small enough to tell the classes apart
        True
    """

    needs_target: ClassVar[bool] = True

    momentum: float = 0.9
    freeze: bool = False

    def bandwidths(self, maps: Tensor, target: Tensor | None, previous: Tensor | None) -> Tensor:
        """Bandwidths ``(..., C)``."""
        if target is None:
            raise ValueError(
                "Alignment() chooses the bandwidth by the targets, and none were given. Pass targets to the "
                "measurement, or use a rule that needs none, such as MedianDistance()."
            )
        squares, unit = pairwise_squares(maps)
        mean = squares.sqrt().mean((-2, -1))
        best = torch.zeros_like(mean)
        score = torch.full_like(mean, -1)
        for factor in torch.logspace(-1, 1, 75, dtype=torch.float64).tolist():  # one n×n kernel at a time
            width = (factor * mean).clamp_min(torch.finfo(mean.dtype).tiny)
            kernel = (squares / (-2 * width.square())[..., None, None]).exp()
            alignment = (kernel * target).sum((-2, -1)) / kernel.square().sum((-2, -1)).sqrt()
            best = torch.where(alignment > score, width, best)
            score = torch.maximum(alignment, score)
        best = (torch.where(mean > 0, best, 0.0) * unit).unsqueeze(-1).expand(*maps.shape[:-3], maps.shape[-2])
        return best if previous is None else self.momentum * previous + (1 - self.momentum) * best


@dataclass(frozen=True)
@checked(sigma=replace(POSITIVE, example="1.0"))
class Fixed(Bandwidth):
    """The same bandwidth for every map, at every measurement.

    *Scale:* the user's business. *Saturation:* as soon as σ is small against the distances; C maps act as a
    bandwidth of σ/√C.

    Args:
        sigma: the bandwidth, in the units of the activations.

    Example:
        >>> Fixed(2.0)(torch.zeros(4, 3, 1))
        tensor([2., 2., 2.], dtype=torch.float64)
    """

    follows_samples: ClassVar[bool] = False

    sigma: float

    def bandwidths(self, maps: Tensor, target: Tensor | None, previous: Tensor | None) -> Tensor:
        """Bandwidths ``(..., C)``."""
        return _everywhere(self.sigma, maps)


def _everywhere(sigma: float, maps: Tensor) -> Tensor:
    """The same bandwidth ``(..., C)`` for every map."""
    return maps.new_full((*maps.shape[:-3], maps.shape[-2]), sigma, dtype=widest_float(maps.device))


def _spread(maps: Tensor) -> Tensor:
    """Root-mean-square standard deviation ``(..., C)`` of the features of each map ``(..., n, C, d)``."""
    scale = normal_scale(largest(maps, (-3, -1)))
    variance = (maps * scale.unsqueeze(-2).unsqueeze(-1)).var(-3, correction=0).mean(-1)
    return variance.sqrt() / scale.to(widest_float(scale.device))
