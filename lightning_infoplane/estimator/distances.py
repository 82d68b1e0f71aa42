"""Distances between samples, for the bandwidth rules: all of them, or their median from a balanced part."""

import torch
from torch import Tensor

from lightning_infoplane.estimator.precision import (
    few,
    full_float32,
    inner_products,
    largest,
    looks_are_free,
    map_slices,
    middle,
    normal_scale,
    seeded_order,
    typical_sample,
    widest_float,
)

__all__ = ["median_distances", "median_of_positive", "pairwise_squares"]

# Pairwise distances of a layer up to which a median looks at all of them; beyond, at least so many a map.
_ALL_PAIRS = 2**18
_SOME_PAIRS = 2**10
# Between its inverse and this the largest square of a map is such that neither sums nor smaller ones lose a digit.
_USUAL = 2.0**60


def median_distances(maps: Tensor, every_pair: bool = False) -> Tensor:
    """Medians ``(..., C)`` of the positive distances between samples of maps ``(..., n, C, d)``, per map.

    Of all pairs where they are few or ``every_pair`` is asked for; else between groups. In float64 where there is any:
    a distance between float32 values can be larger than float32 holds.

    Example:
        >>> median_distances(torch.tensor([0.0, 1.0, 3.0]).reshape(3, 1, 1))  # of 1, 2 and 3
        tensor([2.], dtype=torch.float64)
    """
    n, channels = maps.shape[-3:-1]
    slices = [maps[..., some, :] for some in map_slices(maps)]
    if every_pair or channels * n**2 <= _ALL_PAIRS or n**2 <= 4 * _SOME_PAIRS:
        pairs = torch.triu_indices(n, n, offset=1, device=maps.device)
        return torch.cat([_median_of_pairs(part, pairs) for part in slices], -1)
    order = seeded_order(n, maps.device)
    with full_float32(maps.device):
        return torch.cat([_median_between_groups(part, order) for part in slices], -1)


def pairwise_squares(maps: Tensor) -> tuple[Tensor, Tensor]:
    """Squared distances ``(..., n, n)`` of samples ``(..., n, C, d)``, exactly zero where two samples are alike.

    In squares of a unit ``(...)``, a power of two in which they neither over- nor underflow; it is the second result.

    Example:
        >>> squares, unit = pairwise_squares(torch.tensor([0.0, 3e30]).reshape(2, 1, 1))
        >>> squares.sqrt().double() * unit
        tensor([[0.0000e+00, 3.0000e+30],
                [3.0000e+30, 0.0000e+00]], dtype=torch.float64)
    """
    scale = normal_scale(largest(maps, (-3, -2, -1)))
    product = inner_products(maps, scale.unsqueeze(-1).expand(*scale.shape, maps.shape[-2]))
    square = product.diagonal(dim1=-2, dim2=-1)
    squares = (square.unsqueeze(-1) + square.unsqueeze(-2)).sub_(product, alpha=2)
    spread = _spread(square.sqrt()[..., seeded_order(maps.shape[-3], maps.device)])
    square = torch.maximum(square, spread.square().unsqueeze(-1))
    seen = _seen(squares, square.unsqueeze(-1) + square.unsqueeze(-2))
    return torch.where(seen, squares, 0.0), _unit(scale)


def _spread(lengths: Tensor) -> Tensor:
    """Mean length ``(...)`` of samples ``(..., n)`` in random order, which a few outliers do not move.

    It stands in for the lengths of those samples that are alike by chance to the one that lengths are taken from.
    """
    usual = middle([part.mean(-1) for part in lengths.tensor_split(few(lengths.shape[-1]), -1)])
    return torch.minimum(lengths.mean(-1), 2 * usual)


def _unit(scale: Tensor) -> Tensor:
    """What a distance between values times this scale is to be multiplied by."""
    return 1 / scale.to(widest_float(scale.device))


def _seen(squares: Tensor, scale: Tensor) -> Tensor:
    """Whether squared distances are more than rounding to a Gram matrix, which takes them from ‖a‖² + ‖b‖² - 2 a·b.

    Without this a dead map would have a bandwidth of 1e-4, and a saturated one that of its last digits.
    """
    return squares > 16 * torch.finfo(squares.dtype).eps * scale


def _median_of_pairs(maps: Tensor, pairs: Tensor) -> Tensor:
    """Medians ``(..., C)`` of the positive distances between samples, whose indices are two rows ``(2, p)``."""
    squares, unit = pairwise_squares(maps.movedim(-2, -3).unsqueeze(-2))
    return median_of_positive(squares[..., pairs[0], pairs[1]]).sqrt() * unit


def _median_between_groups(maps: Tensor, order: Tensor) -> Tensor:
    """Medians ``(..., C)`` of the positive distances between the samples of two groups, over all pairs of groups."""
    n = len(order)
    at_least = max(4, -(-2 * _SOME_PAIRS // n))  # samples in a group; fewer than four do not pay
    pairs = max(1, n // (2 * at_least))  # of groups
    size = -(-n // (2 * pairs))
    order = torch.cat([order, order[: 2 * pairs * size - n]])  # a few samples come twice; none is left out
    if looks_are_free(maps.device):
        squares, most = _squares_between(maps, order, pairs, None)
        if bool(((most > 1 / _USUAL) & (most < _USUAL)).all()):
            return median_of_positive(squares).sqrt().to(widest_float(maps.device))
    scale = normal_scale(largest(maps, (-3, -1)))
    squares, _ = _squares_between(maps, order, pairs, scale)
    return median_of_positive(squares).sqrt() * _unit(scale)


def _squares_between(maps: Tensor, order: Tensor, pairs: int, scale: Tensor | None) -> tuple[Tensor, Tensor]:
    """Squared distances ``(..., C, p)`` within pairs of groups, and the largest from a typical sample ``(..., C)``.

    Of maps times a scale ``(..., C)``; None leaves them as they are.
    """
    halves = [_gathered(maps, half) for half in order.chunk(2)]
    centre = typical_sample(maps.movedim(-2, -3))
    if scale is not None:
        halves = [half.mul_(scale[..., None, None]) for half in halves]
        centre = centre * scale[..., None, None]
    halves = [half.sub_(centre) for half in halves]
    lengths = [torch.linalg.vecdot(half, half) for half in halves]
    spread = _spread(torch.cat(lengths, -1).sqrt())[..., None, None].square()
    left, right = (half.unflatten(-2, (pairs, -1)) for half in halves)
    own, others = (part.unflatten(-1, (pairs, -1)) for part in lengths)
    # A product is five times faster than differences, where a map has hundreds of numbers.
    squares = (own.unsqueeze(-1) + others.unsqueeze(-2)).sub_(left @ right.mT, alpha=2)
    seen = _seen(squares, torch.maximum(own, spread).unsqueeze(-1) + torch.maximum(others, spread).unsqueeze(-2))
    return torch.where(seen, squares, 0.0).flatten(-3), torch.maximum(*(part.amax(-1) for part in lengths))


def _gathered(maps: Tensor, index: Tensor) -> Tensor:
    """Some samples of maps ``(..., n, C, d)`` as ``(..., C, k, d)``, one map after another in memory."""
    found = maps.new_empty(*maps.shape[:-3], maps.shape[-2], len(index), maps.shape[-1])
    # Selecting from a transposed view, or transposing what was selected, takes two to ten times as long.
    torch.index_select(maps, -3, index, out=found.movedim(-2, -3))
    return found


def median_of_positive(values: Tensor) -> Tensor:
    """Lower median ``(...)`` of the positive among ``(..., p)`` values; zero where there are none."""
    if values.device.type == "cpu":  # four times faster than a sort
        return torch.where(values > 0, values, torch.nan).nanmedian(-1).values.nan_to_num(0.0)
    # On CUDA torch.median refuses to run under Trainer(deterministic=True); a sort does not.
    ordered = values.sort(-1).values
    zeros = (ordered <= 0).sum(-1, keepdim=True)
    index = (zeros + (values.shape[-1] - zeros - 1).clamp_min(0) // 2).clamp_max(values.shape[-1] - 1)
    return ordered.gather(-1, index).squeeze(-1)
