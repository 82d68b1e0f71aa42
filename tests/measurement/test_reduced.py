"""What is kept of a layer: its bandwidth is one number however many maps it has."""

import math

import pytest
import torch

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
