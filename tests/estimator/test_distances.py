"""Distances between samples: exact zeros, and medians from balanced groups that are those of all pairs."""

from typing import Any

import pytest
import torch
from properties import FLOAT32_BITS, assert_bits, assert_leaves_random_state, normal
from torch import Tensor
from torch.overrides import TorchFunctionMode

from lightning_infoplane.estimator.distances import median_distances, pairwise_squares
from lightning_infoplane.estimator.precision import map_slices, seeded_order

SCALES = [1e-38, 1e-30, 1e-20, 1e20, 1e30, 1e38]
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
    return torch.stack(medians).double()


def of_order_one(*shape: int) -> Tensor:
    """Between one and three, of either sign: times 1e38 finite in float32, and times 1e-38 normal numbers mostly."""
    numbers = normal(*shape)
    return (numbers.sign() * (1 + 2 * numbers.abs().erf())).float()


def squares_of(points: Tensor) -> Tensor:
    """Of points ``(..., n, d)``, in their own units: exactly what was found, for the unit is a power of two."""
    squares, unit = pairwise_squares(points.unsqueeze(-2))
    return squares.double() * unit.square()[..., None, None]


class Compared(TorchFunctionMode):
    """Notes how many distances between groups, which are far smaller than a probe, each product is made for."""

    def __init__(self) -> None:
        super().__init__()
        self.counts: list[int] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if func in (torch.Tensor.matmul, torch.Tensor.__matmul__, torch.matmul) and result.shape[-1] < 60:
            self.counts.append(result.numel())
        return result


# Squared distances


@pytest.mark.parametrize("n", [2, 5, 127, 128, 200])
def test_squares_are_the_definition(n: int) -> None:
    points = normal(2, n, 4) + 3
    expected = (points.unsqueeze(-2) - points.unsqueeze(-3)).square().sum(-1)
    torch.testing.assert_close(squares_of(points), expected, atol=1e-12, rtol=1e-12)
    assert pairwise_squares(points.float().unsqueeze(-2))[0].dtype == torch.float32


def test_squares_of_several_maps_together() -> None:
    maps = normal(30, 4, 5)
    squares, unit = pairwise_squares(maps)
    assert_bits(squares * unit**2, squares_of(maps.flatten(1)), 1e-12)


@pytest.mark.parametrize("offset", [0.0, 0.1, 1e4])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_copies_of_a_sample_are_exactly_at_zero(dtype: torch.dtype, offset: float) -> None:
    points = (normal(30, 3) + offset).to(dtype).repeat(3, 1)
    squares = squares_of(points)
    alike = (points.unsqueeze(0) == points.unsqueeze(1)).all(-1)
    assert bool((squares[alike] == 0).all())
    assert bool((squares[~alike] > 0).all())


def test_squares_are_never_negative_and_alike_both_ways() -> None:
    squares = squares_of((normal(150, 3, seed=5) * 1e-4 + 100).float())
    assert float(squares.min()) >= 0
    assert torch.equal(squares, squares.mT)


def test_squares_below_what_rounding_leaves_are_zeros() -> None:
    """A Gram matrix takes them from ‖a‖² + ‖b‖² - 2 a·b, which says nothing of points so close together."""
    points = torch.tensor([[1.0], [1.0 + 1e-5], [-1.0]], dtype=torch.float32).repeat(10, 1)
    squares = squares_of(points)
    assert float(squares[0, 1]) == 0
    assert_bits(squares[0, 2], 4.0, 1e-6)
    assert float(squares_of(points.double())[0, 1]) > 0


@pytest.mark.parametrize("scale", SCALES)
def test_squares_of_any_numbers_that_float32_has(scale: float) -> None:
    """Their squares would be zero, or infinite."""
    points = of_order_one(30, 5)
    squares, unit = pairwise_squares((points.double() * scale).float().unsqueeze(-2))
    assert unit.dtype == torch.float64
    distances = squares.double().sqrt() * unit / scale
    torch.testing.assert_close(distances, torch.cdist(points.double(), points.double()), rtol=1e-5, atol=1e-5)


def test_one_sample_far_from_all_others_hides_none_of_their_distances() -> None:
    points = normal(40, 5, dtype=torch.float32)
    expected = squares_of(points)[1:, 1:]
    for factor in (1e6, 1e20):
        points[0] = factor
        torch.testing.assert_close(squares_of(points)[1:, 1:], expected, rtol=1e-5, atol=0)


def test_a_number_that_is_not_finite_is_no_distance() -> None:
    """Of a bandwidth, which stays a number; the Gram matrix is NaN."""
    for bad in (float("nan"), float("inf"), -float("inf")):
        points = normal(40, 5)
        points[3, 2] = bad
        squares, unit = pairwise_squares(points.unsqueeze(-2))
        assert not squares.any()
        assert bool(unit.isfinite())


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
    pairs = sum(compared.counts) // channels
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
    assert_bits(median_distances(maps), [2.0] * 8, 2e-3)


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
        assert_bits(median_distances(maps), [5.0] * n, 1e-5)


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


@pytest.mark.parametrize("n", [60, 600])
@pytest.mark.parametrize("scale", SCALES)
def test_medians_are_in_the_units_of_the_maps_whatever_these_are(n: int, scale: float) -> None:
    """From all pairs and between groups; a power of two changes no digit."""
    maps = of_order_one(n, 8, 4)
    median = median_distances(maps)
    assert median.dtype == torch.float64
    torch.testing.assert_close(median_distances((maps.double() * scale).float()) / scale, median, rtol=1e-6, atol=0)
    for power in (-100.0, 120.0):
        assert torch.equal(median_distances(maps * 2**power), median * 2**power)


@pytest.mark.parametrize("n", [60, 600])
@pytest.mark.parametrize("factor", [1e6, 1e20])
def test_one_sample_far_from_all_others_moves_no_median(n: int, factor: float) -> None:
    maps = many_maps(n)
    far = maps.clone()
    far[int(seeded_order(n, maps.device)[0])] *= factor
    torch.testing.assert_close(median_distances(far), median_distances(maps), rtol=0.05, atol=0)


@pytest.mark.parametrize("n", [60, 600])
def test_a_map_that_differs_for_a_single_sample_is_not_dead_whatever_its_scale(n: int) -> None:
    for value in (1e-38, 1e-25, 1.0, 1e25, 1e38):
        maps = torch.zeros(n, 8, 1)
        maps[7, 3] = value
        median = median_distances(maps)
        assert float(median[3]) == float(maps[7, 3])
        assert int((median > 0).sum()) == 1
