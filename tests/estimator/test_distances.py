"""Distances between samples: exact zeros, and medians from balanced groups that are those of all pairs."""

from typing import Any

import pytest
import torch
from properties import FLOAT32_BITS, assert_bits, assert_leaves_random_state, normal
from torch import Tensor
from torch.overrides import TorchFunctionMode

from lightning_infoplane.estimator.distances import median_distances, pairwise_squares
from lightning_infoplane.estimator.precision import map_slices

ALL_PAIRS, SOME_PAIRS = 2**18, 2**10  # as the docstring of MedianDistance says


def many_maps(n: int = 600, channels: int = 8) -> Tensor:
    """More than the median looks at pair by pair."""
    return normal(n, channels, 4, dtype=torch.float32)


def lower_median_of_positive(maps: Tensor) -> Tensor:
    """The definition, one map after another."""
    medians = []
    for c in range(maps.shape[-2]):
        row, column = torch.triu_indices(len(maps), len(maps), offset=1)
        distances = (maps[row, c] - maps[column, c]).norm(dim=-1)
        positive = distances[distances > 0]
        medians.append(positive.sort().values[(len(positive) - 1) // 2] if len(positive) else torch.tensor(0.0))
    return torch.stack(medians).to(maps)


class Compared(TorchFunctionMode):
    """Notes how many distances each call of ``cdist`` computes."""

    def __init__(self) -> None:
        super().__init__()
        self.counts: list[int] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if func is torch.cdist:
            self.counts.append(result.numel())
        return result


# Squared distances


@pytest.mark.parametrize("n", [2, 5, 127, 128, 200])
def test_squares_are_the_definition(n: int) -> None:
    points = normal(2, n, 4) + 3
    expected = (points.unsqueeze(-2) - points.unsqueeze(-3)).square().sum(-1)
    torch.testing.assert_close(pairwise_squares(points), expected, atol=1e-12, rtol=1e-12)


@pytest.mark.parametrize("offset", [0.0, 0.1, 1e4])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_copies_of_a_sample_are_exactly_at_zero(dtype: torch.dtype, offset: float) -> None:
    points = (normal(30, 3) + offset).to(dtype).repeat(3, 1)
    squares = pairwise_squares(points)
    alike = (points.unsqueeze(0) == points.unsqueeze(1)).all(-1)
    assert bool((squares[alike] == 0).all())
    assert bool((squares[~alike] > 0).all())


def test_squares_are_never_negative_and_alike_both_ways() -> None:
    squares = pairwise_squares((normal(150, 3, seed=5) * 1e-4 + 100).float())
    assert float(squares.min()) >= 0
    assert torch.equal(squares, squares.mT)


def test_squares_below_what_rounding_leaves_are_zeros() -> None:
    """A Gram matrix takes them from ‖a‖² + ‖b‖² - 2 a·b, which says nothing of points so close together."""
    points = torch.tensor([[1.0], [1.0 + 1e-5], [-1.0]], dtype=torch.float32)
    squares = pairwise_squares(points)
    assert float(squares[0, 1]) == 0
    torch.testing.assert_close(squares[0, 2], torch.tensor(4.0))
    assert float(pairwise_squares(points.double())[0, 1]) > 0


# Medians of all pairs


@pytest.mark.parametrize("shape", [(2, 3, 1), (5, 3, 4), (60, 2, 5), (64, 100, 2), (181, 8, 3)])
def test_few_samples_are_compared_in_all_pairs(shape: tuple[int, int, int]) -> None:
    torch.testing.assert_close(median_distances(normal(*shape)), lower_median_of_positive(normal(*shape)))


def test_every_pair_is_compared_where_that_is_asked_for() -> None:
    maps = normal(300, 4, 3)
    torch.testing.assert_close(median_distances(maps, every_pair=True), lower_median_of_positive(maps))
    assert not torch.equal(median_distances(maps), median_distances(maps, every_pair=True))


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([0.0, 1.0, 3.0], 2.0),  # of 1, 2 and 3
        ([0.0, 1.0, 3.0, 7.0], 3.0),  # of 1, 2, 3, 4, 6 and 7: the lower of two in the middle
        ([0.0, 0.0, 3.0], 3.0),  # a copy of a sample is at no distance from it
        ([0.0, 0.0, 0.0, 1.0, 3.0], 2.0),  # of 1, 1, 1, 2, 3, 3 and 3
        ([5.0, 5.0], 0.0),
    ],
)
def test_the_median_is_the_lower_one_of_the_positive_distances(values: list[float], expected: float) -> None:
    for dtype in (torch.float32, torch.float64):
        assert_bits(median_distances(torch.tensor(values, dtype=dtype).reshape(-1, 1, 1)), [expected], 1e-6)


@pytest.mark.parametrize("times", [2, 3, 5])
def test_repeated_samples_do_not_move_the_median(times: int) -> None:
    maps = normal(12, 2, 3)
    torch.testing.assert_close(median_distances(maps.repeat(times, 1, 1)), median_distances(maps))


# Medians between groups


@pytest.mark.parametrize(("n", "channels"), [(75, 64), (130, 32), (300, 4), (513, 4), (600, 8), (1500, 2)])
def test_the_median_between_groups_is_close_to_that_of_all_pairs_and_always_the_same(n: int, channels: int) -> None:
    maps = many_maps(n, channels)
    with assert_leaves_random_state():
        some = median_distances(maps)
    whole = median_distances(maps, every_pair=True)
    assert torch.equal(some, median_distances(maps))
    assert not torch.equal(some, whole)
    torch.testing.assert_close(some, whole, rtol=0.12, atol=0)  # of a single map: four standard errors
    assert float((some / whole - 1).square().mean().sqrt()) < 0.03


@pytest.mark.parametrize("n", range(65, 700, 7))
def test_groups_have_as_many_pairs_as_is_said(n: int) -> None:
    channels = ALL_PAIRS // n**2 + 1
    with Compared() as compared:
        median_distances(normal(n, channels, 1))
    pairs = max(compared.counts) // channels  # the other calls compare samples with their mean
    assert SOME_PAIRS <= pairs < n * (n - 1) // 2


def test_all_pairs_up_to_the_number_that_is_said_and_no_further() -> None:
    """At n = 512 one map is compared in all pairs, two are not; 64 samples always are."""
    for n, channels, groups in [(512, 1, False), (512, 2, True), (64, 1000, False), (65, 1000, True)]:
        with Compared() as compared:
            median_distances(normal(n, channels, 1, dtype=torch.float32))
        assert bool(compared.counts) == groups


@pytest.mark.parametrize("n", [181, 182, 512])
def test_saturated_maps_have_the_distances_between_their_values_not_those_of_their_last_digits(n: int) -> None:
    """Eight maps of ±1 with rounding about it: at n = 182 the median turns from all pairs to groups."""
    signs = torch.where(normal(n, 8, 1, seed=2) > 0, 1.0, -1.0).float()
    maps = signs * (1 - 2e-5 * normal(n, 8, 1, seed=3).abs().float())
    torch.testing.assert_close(median_distances(maps), torch.full((8,), 2.0), rtol=1e-3, atol=0)


def test_a_map_that_differs_for_a_single_sample_is_not_dead() -> None:
    maps = many_maps()
    maps[:, 3] = 0
    assert float(median_distances(maps)[3]) == 0
    for sample in (0, 1, 299, 599):
        once = maps.clone()
        once[sample, 3] = 5
        assert_bits(median_distances(once)[3], 5 * 4**0.5, FLOAT32_BITS)  # the only distance there is


def test_every_sample_has_its_turn() -> None:
    """In whichever group it is: also where n is no multiple of the groups, and a few samples come twice."""
    for n in (513, 607):
        maps = torch.zeros(n, n, 1)
        maps[torch.arange(n), torch.arange(n)] = 5  # map i differs for sample i alone
        torch.testing.assert_close(median_distances(maps), torch.full((n,), 5.0))


def test_the_median_between_groups_ignores_where_the_data_lie_and_follows_their_scale() -> None:
    maps = many_maps()
    median = median_distances(maps)
    torch.testing.assert_close(median_distances(maps + 100), median, rtol=1e-4, atol=0)
    torch.testing.assert_close(median_distances(3 * maps), 3 * median)


def test_the_median_between_groups_of_several_networks_at_once() -> None:
    maps = torch.stack([many_maps(), 2 * many_maps() + 1])
    torch.testing.assert_close(median_distances(maps), torch.stack([median_distances(each) for each in maps]))


def test_the_median_between_groups_in_slices_of_maps() -> None:
    """Two maps are worked on at a time; one map after another gives the same."""
    maps = normal(600, 7, 700, dtype=torch.float32)
    assert len(list(map_slices(maps))) == 4
    alone = torch.cat([median_distances(maps[:, [c]]) for c in range(7)])
    torch.testing.assert_close(median_distances(maps), alone)
