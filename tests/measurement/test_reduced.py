"""What is kept of a layer: its bandwidth is one number however many maps it has, and a lonely sample has a name."""

import math

import pytest
import torch
from properties import normal
from torch import Tensor

from lightning_infoplane import class_gram, gram
from lightning_infoplane.measurement.reduced import Reduced


@pytest.mark.parametrize(
    ("sigma", "expected"),
    [
        ([3.0], 3.0),
        ([1.0, 4.0], 2.0),
        ([1.0, 4.0, 0.0, 0.0], 2.0),  # maps that do not vary have none
        ([0.0, 0.0], 0.0),
        ([1e-200, 1e200], 1.0),  # their product would do, that of a hundred maps would not
        ([1e-200] * 100, 1e-200),
    ],
)
def test_the_bandwidth_is_the_geometric_mean_over_maps_that_vary(sigma: list[float], expected: float) -> None:
    layer = Reduced(torch.eye(2), torch.tensor(sigma, dtype=torch.float64))
    assert float(layer.bandwidth) == pytest.approx(expected, rel=1e-12)
    assert layer.redundancy is None


def test_a_bandwidth_that_is_not_finite_stays_so() -> None:
    layer = Reduced(torch.eye(2), torch.tensor([1.0, math.inf]))
    assert not math.isfinite(float(layer.bandwidth))


# ------------------------------------------------------------------------------------------------------- the outlier


def outlier_of(kernel: Tensor) -> float:
    return float(Reduced(kernel / len(kernel), torch.ones(1)).outlier)


def alone(kernel: Tensor, *samples: int) -> Tensor:
    """The same with samples that are like no other."""
    kernel = kernel.clone()
    for sample in samples:
        kernel[sample] = kernel[:, sample] = 0
        kernel[sample, sample] = 1
    return kernel


KERNEL = 40 * gram(normal(40, 3))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
@pytest.mark.parametrize("sample", [0, 17, 39])
def test_a_sample_that_is_like_no_other_is_told_by_its_number(sample: int, dtype: torch.dtype) -> None:
    assert outlier_of(alone(KERNEL, sample).to(dtype)) == sample


@pytest.mark.parametrize(
    "kernel",
    [KERNEL, torch.ones(40, 40), 40 * class_gram(torch.arange(40) % 4), torch.eye(2), torch.ones(2, 2)],
    ids=["spread", "constant", "classes", "two apart", "two alike"],
)
def test_where_every_sample_is_like_another_there_is_none(kernel: Tensor) -> None:
    assert math.isnan(outlier_of(kernel))


def test_where_all_samples_are_alone_none_is_an_outlier() -> None:
    """That is saturation, and has a verdict of its own."""
    assert math.isnan(outlier_of(torch.eye(40)))


@pytest.mark.parametrize(("apart", "is_told"), [(1, True), (19, True), (20, False), (39, False)])
def test_it_is_told_while_more_than_half_have_a_sample_that_is_like_them(apart: int, is_told: bool) -> None:
    assert math.isnan(outlier_of(alone(KERNEL, *range(apart)))) is not is_told


@pytest.mark.parametrize(("likeness", "is_told"), [(1e-13, True), (1e-11, False)])
def test_it_is_like_no_other_to_twelve_digits(likeness: float, is_told: bool) -> None:
    kernel = alone(KERNEL, 5)
    kernel[5, 7] = kernel[7, 5] = likeness
    assert math.isnan(outlier_of(kernel)) is not is_told


def test_half_a_likeness_is_enough_for_the_others() -> None:
    """A hundredth, here of pairs that are otherwise alone."""
    pairs = torch.eye(10, dtype=torch.float64)
    for k in range(0, 8, 2):
        pairs[k, k + 1] = pairs[k + 1, k] = 0.011
    assert outlier_of(pairs) == 8
    assert math.isnan(outlier_of(torch.where(pairs == 0.011, 0.009, pairs)))
