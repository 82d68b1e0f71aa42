"""How the samples of a probe are divided: into groups, inside which they are shuffled, and whose scatter is the error.

A shuffle is a cycle inside each group. So what is left of a probe without one group, or one group alone, takes the same
samples from the joint matrix and from the shuffled one.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from lightning_infoplane.estimator.dependence import cyclic_shuffles
from lightning_infoplane.estimator.distances import median_of_positive
from lightning_infoplane.estimator.grams import normalize_trace, reordered
from lightning_infoplane.measurement.settings import Estimator, Jackknife

__all__ = ["Division", "Part", "divide", "seen_by", "width"]

# Width of a matrix of ones: n times 1/n is not always one.
_ROUNDING = 1e-6
# Rows that are enough for the median of a matrix.
_ROWS = 128
# Blocks of a probe of so many samples or more, by size: below the last one a block would hold too few to measure.
_BLOCKS = ((256, 8), (64, 4))


class Part(NamedTuple):
    """Some samples of a probe, or all.

    Args:
        keep: which, ascending; None for all of them.
        orders: ``(shuffles, m)``, each a permutation of the samples of this part.
    """

    keep: Tensor | None
    orders: Tensor


class Division(NamedTuple):
    """A probe as a whole, and the parts of it that are measured for standard errors.

    Args:
        whole: every sample.
        parts: blocks that share no sample, or the probe without one group after the other; none without errors.
    """

    whole: Part
    parts: list[Part]

    @property
    def degrees(self) -> int:
        """Of freedom of a standard error."""
        return len(self.parts) - 1


def divide(n: int, labels: Tensor | None, estimator: Estimator) -> Division:
    """Groups that hold every class in its share, shuffles inside them, and parts: functions of the seed alone.

    Args:
        n: samples.
        labels: ``(n,)`` classes, where there are some.
        estimator: how many shuffles, which errors, and the seed.

    Example:
        >>> found = divide(512, torch.arange(512) % 10, Estimator())
        >>> len(found.parts), found.whole.orders.shape
        (8, torch.Size([2, 512]))
    """
    how = estimator.standard_errors
    count = _blocks(n) if how == "blocks" else how.groups if isinstance(how, Jackknife) else 1
    groups = _groups(n, labels, min(count, n // 2), estimator.seed)
    orders = torch.empty(estimator.shuffles, n, dtype=torch.long)
    for position, group in enumerate(groups):
        # Seeds of their own, for groups of one size would be shuffled alike; far from those of the next seed.
        seed = (1_000_003 * estimator.seed + position) % 2**64
        orders[:, group] = group[cyclic_shuffles(len(group), estimator.shuffles, seed)]
    whole = Part(None, orders)
    if len(groups) == 1:
        return Division(whole, [])
    everything = torch.arange(n)
    kept = groups if how == "blocks" else [everything[~torch.isin(everything, group)] for group in groups]
    return Division(whole, [_part(orders, keep) for keep in kept])


def _blocks(n: int) -> int:
    return next((blocks for samples, blocks in _BLOCKS if n >= samples), 1)


def _groups(n: int, labels: Tensor | None, count: int, seed: int) -> list[Tensor]:
    """Groups of samples, ascending: dealt out class by class, in random order inside each class."""
    order = torch.randperm(n, generator=torch.Generator().manual_seed(seed))
    if labels is not None:
        order = order[labels[order].argsort(stable=True)]
    return [order[first::count].sort().values for first in range(max(1, count))]


def _part(orders: Tensor, keep: Tensor) -> Part:
    """Some samples with the shuffles of the whole, in their own numbers."""
    place = torch.empty(orders.shape[1], dtype=torch.long)
    place[keep] = torch.arange(len(keep))
    return Part(keep, place[orders[:, keep]])


def width(gram: Tensor, roughly: bool = False) -> Tensor:
    """How far apart samples that differ are, ``(..., n, n)`` to ``(...)``: the median of minus the kernel's logarithm.

    Roughly, of some rows, it is good enough for a whole, which all parts are seen as wide as. Of a part all pairs are
    looked at, or what differs from part to part would be noise of the median's own.

    Example:
        >>> width(gaussian_gram(torch.tensor([0.0, 2.0]).reshape(2, 1, 1), torch.ones(1)))  # 2² / 2
        tensor(2.)
    """
    n = gram.shape[-1]
    rows = n * gram[..., :: -(-n // _ROWS) if roughly else 1, :]
    apart = -rows.flatten(-2).log()
    return median_of_positive(torch.where(apart > _ROUNDING, apart, 0.0))


def seen_by(part: Part, gram: Tensor, whole_width: Tensor | None = None) -> Tensor:
    """The Gram matrix of a part of the samples, ``(..., n, n)`` to ``(..., m, m)``.

    Where the bandwidth follows the samples, so does it here: a kernel to the power p has 1/p times the squared
    bandwidth, and p is such that the part is as wide to it as the whole is. An error at the whole's bandwidth would be
    several times too large, for it counts a scatter that the rule takes back.

    Args:
        part: which samples.
        gram: of all of them.
        whole_width: its :func:`width`; None keeps the bandwidth.
    """
    if part.keep is None:
        return gram
    seen = normalize_trace(reordered(gram, part.keep))
    if whole_width is None:
        return seen
    own_width = width(seen)
    # Matrices of which more than half is 0 or 1, saturated or constant ones, have no width but rounding.
    has_width = (torch.minimum(whole_width, own_width) > _ROUNDING) & torch.maximum(whole_width, own_width).isfinite()
    power = torch.where(has_width, whole_width / own_width, 1.0)
    m = seen.shape[-1]
    return (m * seen).pow(power[..., None, None]) / m
