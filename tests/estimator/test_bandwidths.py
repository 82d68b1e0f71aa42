"""Bandwidth rules: formulas, scale behaviour, order-independence, dead maps, and what `previous` does."""

import math
from dataclasses import FrozenInstanceError
from typing import Any

import numpy as np
import oracle
import pytest
import torch
from properties import (
    FLOAT32_BITS,
    assert_bits,
    assert_is_a_value,
    assert_leaves_random_state,
    assert_order_independent,
    normal,
)
from torch import Tensor
from torch.overrides import TorchFunctionMode

from lightning_infoplane import (
    Alignment,
    Bandwidth,
    Fixed,
    MedianDistance,
    NearestNeighbors,
    Silverman,
    StandardizedSilverman,
    class_gram,
    feature_map_gram,
    gaussian_gram,
    gram,
    renyi_entropy,
)
from lightning_infoplane.estimator.distances import median_distances

FOLLOWING = [MedianDistance(), NearestNeighbors(), StandardizedSilverman(), Alignment()]
SCALES = [1e-38, 1e-30, 1e-20, 1e20, 1e30, 1e38]
RULES: list[Bandwidth] = [*FOLLOWING, Silverman(), Fixed(2.0)]


def clusters(n: int, channels: int, size: int) -> tuple[Tensor, Tensor]:
    """Float32 numbers between one and three, of either sign, in four classes."""
    label = torch.arange(n) % 4
    centres = normal(4, channels, size, seed=7).sign() * 2
    maps = centres[label] + normal(n, channels, size).erf()
    return maps.float(), class_gram(label)


def maps_and_target(n: int = 60, channels: int = 3, size: int = 5) -> tuple[Tensor, Tensor]:
    target = class_gram(torch.arange(n) % 3)
    return normal(n, channels, size, seed=3) + (torch.arange(n) % 3).reshape(n, 1, 1), target


def by_name(rule: object) -> str:
    return type(rule).__name__


@pytest.mark.parametrize("rule", RULES, ids=by_name)
class TestEveryRule:
    def test_gives_each_map_a_positive_bandwidth(self, rule: Bandwidth) -> None:
        maps, target = maps_and_target()
        sigma = rule(maps, target)
        assert sigma.shape == (3,)
        assert bool((sigma > 0).all())
        assert sigma.dtype == torch.float64
        assert rule(maps.float(), target).dtype == torch.float64  # a float32 distance can be beyond float32

    def test_does_not_depend_on_the_order_of_samples(self, rule: Bandwidth) -> None:
        assert_order_independent(rule, *maps_and_target())

    def test_ignores_where_the_data_lie(self, rule: Bandwidth) -> None:
        maps, target = maps_and_target()
        torch.testing.assert_close(rule(maps + 100, target), rule(maps, target))
        torch.testing.assert_close(rule((maps + 100).float(), target).double(), rule(maps, target), rtol=1e-4, atol=0)

    def test_treats_leading_axes_as_a_batch(self, rule: Bandwidth) -> None:
        maps, target = maps_and_target()
        batch = torch.stack([maps, 2 * maps.flip(0) + 1])
        separate = torch.stack([rule(part, target) for part in batch])
        torch.testing.assert_close(rule(batch, target), separate)

    def test_is_an_immutable_value(self, rule: Bandwidth) -> None:
        assert_is_a_value(rule)
        field = next(iter(rule.__dataclass_fields__))
        with pytest.raises(FrozenInstanceError, match=f"cannot assign to field '{field}'"):
            setattr(rule, field, 3.0)

    def test_leaves_random_numbers_and_samples_alone(self, rule: Bandwidth) -> None:
        maps, target = maps_and_target()
        before = maps.clone()
        with assert_leaves_random_state():
            rule(maps, target)
        assert torch.equal(maps, before)

    def test_is_a_choice_through_which_no_gradient_flows(self, rule: Bandwidth) -> None:
        maps, target = maps_and_target()
        assert not rule(maps.requires_grad_(), target).requires_grad

    @pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.int32])
    def test_upcasts(self, rule: Bandwidth, dtype: torch.dtype) -> None:
        maps, target = maps_and_target()
        maps = (4 * maps).to(dtype)
        torch.testing.assert_close(rule(maps, target), rule(maps.double(), target), rtol=1e-4, atol=0)

    def test_two_samples_are_enough(self, rule: Bandwidth) -> None:
        rule = NearestNeighbors(k=1) if isinstance(rule, NearestNeighbors) else rule
        sigma = rule(torch.tensor([0.0, 3.0]).reshape(2, 1, 1), class_gram(torch.tensor([0, 1])))
        assert float(sigma) > 0


@pytest.mark.parametrize("rule", FOLLOWING, ids=by_name)
class TestRulesThatFollowTheData:
    @pytest.mark.parametrize("factor", [1e-3, 0.5, 7.0, 1e4])
    def test_scale_with_the_activations(self, rule: Bandwidth, factor: float) -> None:
        maps, target = maps_and_target()
        torch.testing.assert_close(rule(factor * maps, target), factor * rule(maps, target))

    @pytest.mark.parametrize("scale", SCALES)
    def test_any_scale_that_float32_has_is_as_good_as_another(self, rule: Bandwidth, scale: float) -> None:
        """In bandwidths, which have the units of the maps, and in bits."""
        maps, target = clusters(60, 4, 5)
        scaled = (maps.double() * scale).float()
        assert bool(scaled.isfinite().all())
        sigma = rule(maps, target)
        found = rule(scaled, target)
        torch.testing.assert_close(found / scale, sigma, rtol=1e-4, atol=0)
        bits = renyi_entropy(gaussian_gram(maps, sigma))
        assert 1 < float(bits) < math.log2(60) - 0.05
        assert_bits(renyi_entropy(gaussian_gram(scaled, found)), bits, 1e-3)

    @pytest.mark.parametrize("factor", [1e3, 1e6, 1e20])
    def test_a_sample_far_from_all_others_is_for_float32_what_it_is_for_float64(
        self, rule: Bandwidth, factor: float
    ) -> None:
        maps, target = clusters(60, 4, 5)
        maps[7] *= factor
        torch.testing.assert_close(rule(maps, target), rule(maps.double(), target), rtol=1e-4, atol=0)

    @pytest.mark.parametrize("offset", [1e3, 1e4])
    def test_a_mean_of_many_spreads_takes_no_more_than_the_digits_of_the_numbers(
        self, rule: Bandwidth, offset: float
    ) -> None:
        maps, target = maps_and_target()
        there = (maps + offset).float()
        torch.testing.assert_close(rule(there, target), rule(there.double(), target), rtol=1e-4, atol=0)

    def test_give_a_dead_map_no_distance(self, rule: Bandwidth) -> None:
        """A constant map changes the joint Gram matrix by nothing, whatever its constant."""
        maps, target = maps_and_target(channels=1)
        for dtype in (torch.float64, torch.float32):
            for constant in (0.0, 0.1, 1e4):
                dead = torch.full_like(maps, constant)
                sigma = rule(torch.cat([maps, dead], 1).to(dtype), target)
                assert bool(sigma.isfinite().all())
                if not isinstance(rule, Alignment):
                    assert float(sigma[1]) == 0
                torch.testing.assert_close(sigma[:1].double(), rule(maps, target), rtol=1e-3, atol=0)

    def test_give_a_constant_layer_zero(self, rule: Bandwidth) -> None:
        assert bool((rule(torch.full((20, 2, 3), 0.1), class_gram(torch.arange(20) % 2)) == 0).all())

    def test_freeze_keeps_the_first_value(self, rule: Bandwidth) -> None:
        maps, target = maps_and_target()
        frozen = type(rule)(freeze=True)  # type: ignore[call-arg]
        first = frozen(maps, target)
        torch.testing.assert_close(first, rule(maps, target))
        assert torch.equal(frozen(10 * maps, target, previous=first), first)
        assert_is_a_value(frozen)


def test_freezing_shows_a_growth_that_the_rule_hides() -> None:
    maps = normal(50, 3, 4)
    first = MedianDistance(freeze=True)(maps)
    following = [float(renyi_entropy(feature_map_gram(scale * maps))) for scale in (1.0, 3.0)]
    assert_bits(following[0], following[1])
    frozen = [
        float(renyi_entropy(feature_map_gram(scale * maps / first.reshape(1, 3, 1), Fixed(1.0)))) for scale in (1, 3)
    ]
    assert frozen[1] > frozen[0] + 1


# One rule after another: formulas.


def test_median_distance_times_the_root_of_the_live_maps() -> None:
    points = torch.tensor([0.0, 1.0, 3.0], dtype=torch.float64)  # distances 1, 2, 3
    one = points.reshape(3, 1, 1)
    assert_bits(MedianDistance()(one), [2.0])
    assert_bits(MedianDistance(scale=0.5)(one), [1.0])
    four = torch.cat([one, 10 * one, torch.zeros_like(one), one], 1)
    assert_bits(MedianDistance()(four), torch.tensor([2.0, 20.0, 0.0, 2.0]).double() * 3**0.5)


def many_maps(n: int = 600, channels: int = 8) -> Tensor:
    """More than the median looks at pair by pair."""
    return normal(n, channels, 4, dtype=torch.float32)


@pytest.mark.parametrize(("n", "channels"), [(40, 3), (600, 8)])
def test_the_median_is_that_of_all_pairs_only_where_they_are_few_or_asked_for(n: int, channels: int) -> None:
    maps = many_maps(n, channels)
    torch.testing.assert_close(MedianDistance()(maps), channels**0.5 * median_distances(maps))
    asked = MedianDistance(samples=n)(maps)
    torch.testing.assert_close(asked, channels**0.5 * median_distances(maps, every_pair=True))
    assert torch.equal(asked, MedianDistance()(maps)) == (n == 40)
    assert torch.equal(asked, MedianDistance(samples=n + 1)(maps))


def test_probabilities_of_a_sure_network_are_measured() -> None:
    """A softmax with a margin of eight: most distances are those of tiny probabilities, near what float32 can tell."""
    scores = normal(512, 10, dtype=torch.float32) + 8 * torch.nn.functional.one_hot(torch.arange(512) % 10)
    bits, all_pairs = (
        renyi_entropy(feature_map_gram(scores.softmax(1), MedianDistance(samples=n))) for n in (None, 512)
    )
    assert_bits(bits, all_pairs, 0.3)


def test_the_median_of_a_part_of_the_samples_is_that_of_all_its_pairs() -> None:
    part = MedianDistance(samples=40)(many_maps())
    chosen = many_maps()[torch.randperm(600, generator=torch.Generator().manual_seed(600))[:40]]
    torch.testing.assert_close(part, MedianDistance()(chosen))


def test_a_map_that_differs_for_a_single_sample_counts_among_the_live_ones() -> None:
    maps = many_maps()
    maps[:, 3] = 0
    dead = MedianDistance()(maps)
    assert float(dead[3]) == 0
    maps[299, 3] = 5
    sigma = MedianDistance()(maps)
    assert_bits(sigma[3], 8**0.5 * 5 * 4**0.5, FLOAT32_BITS)  # √C times the only distance there is
    torch.testing.assert_close(sigma[:3], (8 / 7) ** 0.5 * dead[:3])


@pytest.mark.parametrize("rule", [MedianDistance(), MedianDistance(samples=300)], ids=repr)
@pytest.mark.parametrize("factor", [1e3, 1e6, 1e20])
def test_one_sample_far_from_all_others_changes_a_median_by_what_it_is(rule: Bandwidth, factor: float) -> None:
    """One of 512, whatever its distance, and wherever it stands."""
    layer = clusters(512, 6, 4)[0]
    bits = renyi_entropy(feature_map_gram(layer, rule))
    for sample in (0, 255, 400):
        far = layer.clone()
        far[sample] *= factor
        assert_bits(renyi_entropy(feature_map_gram(far, rule)), bits, 0.05)


@pytest.mark.parametrize("sigma", [1e-300, 1e-30, 1e300])
def test_a_bandwidth_is_not_held_to_the_range_of_the_maps(sigma: float) -> None:
    assert_bits(Fixed(sigma)(torch.zeros(4, 2, 1)), [sigma] * 2, 0)
    assert_bits(Silverman(gamma=sigma)(torch.zeros(4, 1, 1)), [sigma * 4 ** (-1 / 5)], 0)


def test_median_and_channel_order() -> None:
    maps = normal(40, 5, 3)
    order = torch.tensor([3, 1, 4, 0, 2])
    torch.testing.assert_close(MedianDistance()(maps[:, order]), MedianDistance()(maps)[order])


def test_nearest_neighbours_do_not_count_the_sample_itself() -> None:
    points = torch.tensor([0.0, 1.0, 3.0, 7.0], dtype=torch.float64).reshape(4, 1, 1)
    assert_bits(NearestNeighbors(k=1)(points), [(1 + 1 + 2 + 4) / 4])
    assert_bits(NearestNeighbors(k=2)(points), [(1 + 3 + 1 + 2 + 2 + 3 + 4 + 6) / 8])


def test_nearest_neighbours_do_not_count_copies() -> None:
    """With ten copies of each sample, σ = 0 would make a dead map of one that tells two classes apart."""
    two_values = torch.tensor([0.0, 3.0]).repeat(15).reshape(30, 1, 1)
    assert_bits(NearestNeighbors(k=10)(two_values), [3.0])
    overlap = math.exp(-1 / 2)
    expected = oracle.spectrum_entropy(np.array([1 + overlap, 1 - overlap]) / 2, 1.01)
    assert_bits(renyi_entropy(gram(two_values.squeeze(-1), NearestNeighbors())), expected, FLOAT32_BITS)


class Largest(TorchFunctionMode):
    """Notes the size of the largest tensor that is made."""

    def __init__(self) -> None:
        super().__init__()
        self.numbers = 0

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if isinstance(result, Tensor):
            self.numbers = max(self.numbers, result.numel())
        return result


def test_nearest_neighbours_in_slices_of_maps() -> None:
    """The distances of all maps are never held at once; one map after another gives the same."""
    maps = normal(1500, 7, 2, dtype=torch.float32)
    with Largest() as largest:
        sigma = NearestNeighbors(k=3)(maps)
    assert largest.numbers <= 2**23 < 7 * 1500**2
    torch.testing.assert_close(sigma, torch.cat([NearestNeighbors(k=3)(maps[:, [c]]) for c in range(7)]))


def test_nearest_neighbours_in_maps_that_are_larger_than_a_slice() -> None:
    """They come one at a time."""
    points = torch.arange(3000, dtype=torch.float64).reshape(-1, 1, 1)
    assert_bits(NearestNeighbors(k=1)(torch.cat([points, 7 * points], 1)), [1.0, 7.0])


def test_silverman_looks_at_sizes_alone() -> None:
    for n, channels, size in ((100, 1, 10), (32, 5, 1)):
        expected = 5 * n ** (-1 / (4 + size))
        assert_bits(Silverman()(normal(n, channels, size)), [expected] * channels)
        assert_bits(Silverman(gamma=2.5)(normal(n, channels, size) * 100), [expected / 2] * channels)


def test_standardized_silverman() -> None:
    maps = normal(50, 2, 6) * torch.tensor([1.0, 4.0]).reshape(1, 2, 1)
    spread = maps.var(0, correction=0).mean(-1).sqrt()
    assert_bits(StandardizedSilverman(gamma=3)(maps), 3 * spread * 6**0.5 * 50 ** (-1 / 10))


class TestAlignment:
    def test_maximises_the_alignment_with_the_target(self) -> None:
        maps, target = maps_and_target()
        sigma = float(Alignment()(maps, target)[0])
        squares = torch.cdist(maps.flatten(1), maps.flatten(1)).square()

        def alignment(width: float) -> float:
            kernel = (-squares / (2 * width**2)).exp()
            return float((kernel * target).sum() / (kernel.norm() * target.norm()))

        best = max(alignment(sigma * 10 ** (step / 10)) for step in range(-20, 21))
        assert alignment(sigma) > best - 1e-3

    def test_smooths_with_the_value_before(self) -> None:
        maps, target = maps_and_target()
        optimum = Alignment()(maps, target)
        previous = torch.full_like(optimum, 50.0)
        assert_bits(Alignment(momentum=0.9)(maps, target, previous), 0.9 * 50 + 0.1 * optimum)
        assert_bits(Alignment(momentum=0)(maps, target, previous), optimum)

    def test_the_labels_choose(self) -> None:
        """Another labelling, another bandwidth: I(T;Y) is not label-neutral."""
        maps, target = maps_and_target()
        other = class_gram(torch.arange(60) // 30)
        assert float((Alignment()(maps, other) - Alignment()(maps, target)).abs().max()) > 0.01

    def test_asks_for_a_target(self) -> None:
        with pytest.raises(ValueError, match=r"none were given\. Pass targets to the measurement.*MedianDistance\(\)"):
            gram(normal(5, 2), Alignment())


BAD_FIELDS = [
    (lambda: MedianDistance(scale=0), r"MedianDistance\(scale=0\): expected a positive, finite number"),
    (lambda: MedianDistance(samples=1), r"MedianDistance\(samples=1\): a median of distances needs 2 or more"),
    (lambda: NearestNeighbors(k=0), r"NearestNeighbors\(k=0\): expected a positive, finite number"),
    (lambda: Silverman(gamma=-1.0), r"Silverman\(gamma=-1\.0\): expected a positive, finite number"),
    (lambda: StandardizedSilverman(gamma=float("nan")), r"StandardizedSilverman\(gamma=nan\): expected a positive"),
    (lambda: Alignment(momentum=1.0), r"Alignment\(momentum=1\.0\): expected a number in \[0, 1\)"),
    (lambda: Fixed(float("inf")), r"Fixed\(sigma=inf\): expected a positive, finite number"),
    (lambda: NearestNeighbors(k=5)(torch.zeros(5, 1, 1)), r"NearestNeighbors\(k=5\) needs more than 5 samples, got 5"),
]


@pytest.mark.parametrize(("call", "message"), BAD_FIELDS)
def test_impossible_fields(call: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()  # type: ignore[operator]
