"""Distances between samples, for the bandwidth rules: all of them, or their median from a balanced part."""

import torch
from torch import Tensor

from lightning_infoplane.estimator.precision import map_slices, seeded_order, symmetric_product

__all__ = ["median_distances", "pairwise_squares"]

# Pairwise distances of a layer up to which a median looks at all of them; beyond, at least so many a map.
_ALL_PAIRS = 2**18
_SOME_PAIRS = 2**10


def median_distances(maps: Tensor, every_pair: bool = False) -> Tensor:
    """Medians ``(..., C)`` of the positive distances between samples of maps ``(..., n, C, d)``, per map.

    Of all pairs where they are few or ``every_pair`` is asked for; else between groups.

    Example:
        >>> median_distances(torch.tensor([0.0, 1.0, 3.0]).reshape(3, 1, 1))  # of 1, 2 and 3
        tensor([2.])
    """
    n, channels = maps.shape[-3:-1]
    if every_pair or channels * n**2 <= _ALL_PAIRS or n**2 <= 4 * _SOME_PAIRS:
        squares = pairwise_squares(maps.movedim(-2, -3))
        row, column = torch.triu_indices(n, n, offset=1, device=maps.device)
        return _median_of_positive(squares[..., row, column]).sqrt()
    return _median_between_groups(maps)


def pairwise_squares(points: Tensor) -> Tensor:
    """Squared distances ``(..., n, n)`` of points ``(..., n, d)``, exactly zero where two points are alike.

    Example:
        >>> pairwise_squares(torch.tensor([[0.0], [3.0]]))
        tensor([[0., 9.],
                [9., 0.]])
    """
    points = points - points.mean(-2, keepdim=True)
    product = symmetric_product(points)
    square = product.diagonal(dim1=-2, dim2=-1)
    scale = square.unsqueeze(-1) + square.unsqueeze(-2)
    squares = scale - 2 * product
    return torch.where(_seen(squares, scale), squares, 0.0)


def _seen(squares: Tensor, scale: Tensor) -> Tensor:
    """Whether squared distances are more than rounding to a Gram matrix, which takes them from ‖a‖² + ‖b‖² - 2 a·b.

    Without this a dead map would have a bandwidth of 1e-4, and a saturated one that of its last digits.
    """
    return squares > 16 * torch.finfo(squares.dtype).eps * scale


def _differences(a: Tensor, b: Tensor) -> Tensor:
    """Distances ``(..., n, m)`` of points ``(..., n, d)`` from ``(..., m, d)``."""
    return torch.cdist(a, b, compute_mode="donot_use_mm_for_euclid_dist")


def _median_between_groups(maps: Tensor) -> Tensor:
    """Medians ``(..., C)`` of the positive distances between the samples of two groups, over all pairs of groups."""
    n = maps.shape[-3]
    at_least = max(4, -(-2 * _SOME_PAIRS // n))  # samples in a group; fewer than four do not pay
    pairs = max(1, n // (2 * at_least))  # of groups
    size = -(-n // (2 * pairs))
    order = seeded_order(n, maps.device)
    order = torch.cat([order, order[: 2 * pairs * size - n]])  # a few samples come twice; none is left out
    medians = []
    for some in map_slices(maps):
        rows = maps[..., some, :].movedim(-2, -3)
        centre = rows.mean(-2, keepdim=True)
        halves = [rows.index_select(-2, half) for half in order.chunk(2)]
        lengths = [_differences(half, centre).square().unflatten(-2, (pairs, size)) for half in halves]
        left, right = (half.unflatten(-2, (pairs, size)) for half in halves)
        distances = _differences(left, right)  # not by a product: as fast for so few
        seen = _seen(distances.square(), lengths[0] + lengths[1].mT)
        medians.append(_median_of_positive(torch.where(seen, distances, 0.0).flatten(-3)))
    return torch.cat(medians, -1)


def _median_of_positive(values: Tensor) -> Tensor:
    """Lower median ``(...)`` of the positive among ``(..., p)`` values; zero where there are none."""
    if values.device.type == "cpu":  # four times faster than a sort
        return torch.where(values > 0, values, torch.nan).nanmedian(-1).values.nan_to_num(0.0)
    # On CUDA torch.median refuses to run under Trainer(deterministic=True); a sort does not.
    ordered = values.sort(-1).values
    zeros = (ordered <= 0).sum(-1, keepdim=True)
    middle = (zeros + (values.shape[-1] - zeros - 1).clamp_min(0) // 2).clamp_max(values.shape[-1] - 1)
    return ordered.gather(-1, middle).squeeze(-1)
