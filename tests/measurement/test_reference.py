"""X and Y of a probe: how targets are read, what is refused, and that they are made once."""

import math
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from properties import assert_bits, assert_same_gram, normal
from torch import Tensor

from lightning_infoplane import (
    Alignment,
    Eigenvalues,
    Estimator,
    Fixed,
    InformationPlane,
    MedianDistance,
    Solver,
    class_gram,
    feature_map_gram,
    gram,
    renyi_entropy,
)
from lightning_infoplane.estimator.solvers import Estimate
from lightning_infoplane.measurement.formulas import X, Y
from lightning_infoplane.measurement.ranks import Ranks
from lightning_infoplane.measurement.reference import Reference

N = 30
INPUTS, CLASSES = normal(N, 2, 4, 4), torch.arange(N) % 3
LAYERS = {"conv": normal(N, 3, 2, 2, seed=1), "linear": normal(N, 6, seed=2)}


def reference(inputs: Tensor = INPUTS, targets: Tensor | None = CLASSES, **fields: Any) -> Reference:
    return Reference(Estimator(**fields), inputs, targets)


def test_x_is_the_gram_matrix_of_the_inputs_at_the_rules_bandwidth() -> None:
    made = reference(bandwidth=Fixed(3.0))
    assert made.n == N
    assert made.sigma.tolist() == [3.0, 3.0]  # the input's channels are its variables
    assert_same_gram(made.grams.input, feature_map_gram(INPUTS, Fixed(3.0)))
    assert made.grams.layers == {}


def test_classes_are_labels_on_the_cpu() -> None:
    made = reference(targets=CLASSES.to(torch.uint8))
    assert made.grams.target is None
    assert made.grams.labels is not None
    assert made.grams.labels.dtype == torch.long
    assert torch.equal(made.grams.labels, CLASSES)
    assert_bits(made.entropies[Y].bits, renyi_entropy(class_gram(CLASSES)))


def test_classes_with_a_bandwidth_are_one_hot_vectors() -> None:
    made = reference(targets=5 + 2 * CLASSES, target_bandwidth=Fixed(1.0))
    assert made.grams.labels is None
    assert made.grams.target is not None
    assert_same_gram(made.grams.target, gram(torch.nn.functional.one_hot(CLASSES), Fixed(1.0)), 1e-6)


def test_continuous_targets_are_one_variable() -> None:
    targets = normal(N, 2, 3, seed=4)
    made = reference(targets=targets)
    assert made.grams.target is not None
    assert_same_gram(made.grams.target, gram(targets.reshape(N, 6)))
    assert_bits(made.entropies[Y].bits, renyi_entropy(gram(targets.reshape(N, 6))))


def test_without_targets_there_is_no_y() -> None:
    made = reference(targets=None)
    assert made.grams.partners == ["X"]
    assert list(made.entropies) == [X]


@pytest.mark.parametrize("targets", [CLASSES, normal(N, seed=3)], ids=["classes", "continuous"])
def test_a_guide_is_made_only_for_rules_that_look_at_the_target(targets: Tensor) -> None:
    """It is as large as any other matrix."""
    assert reference(targets=targets).guide is None
    guide = reference(targets=targets, bandwidth=Alignment()).guide
    assert guide is not None
    assert_same_gram(guide, gram(targets.unsqueeze(1)) if targets.is_floating_point() else class_gram(targets))


def test_gradients_of_targets_are_no_part_of_it() -> None:
    made = reference(targets=normal(N, seed=3).requires_grad_())
    assert made.grams.target is not None
    assert not made.grams.target.requires_grad


def test_a_bandwidth_of_before_is_handed_to_the_rule() -> None:
    before = torch.tensor([2.0, 4.0], dtype=torch.float64)
    frozen = Reference(Estimator(bandwidth=MedianDistance(freeze=True)), INPUTS, CLASSES, previous=before)
    assert torch.equal(frozen.sigma, before)


@pytest.mark.parametrize(
    ("inputs", "targets", "message"),
    [
        (torch.full((N, 2), math.nan), CLASSES, "the inputs of the probe hold NaN or infinite values"),
        (INPUTS, torch.full((N,), math.inf), "the targets of the probe hold NaN or infinite values"),
        (INPUTS[:1], CLASSES[:1], r"at least 2 samples, got inputs of shape \(1, 2, 4, 4\)"),
        (torch.tensor(1.0), None, r"at least 2 samples, got inputs of shape \(\)"),
        (INPUTS, CLASSES[:-1], "got 30 inputs but 29 targets"),
        (INPUTS, torch.tensor(1), "got 30 inputs but a single number as targets"),
    ],
)
def test_a_probe_that_cannot_be_measured_gets_a_sentence(inputs: Tensor, targets: Tensor | None, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        reference(inputs, targets)
    plane = InformationPlane()
    with pytest.raises(ValueError, match=message):
        plane.measure(inputs, targets, LAYERS)
    assert plane.history == []


# ----------------------------------------------------------------------------------------- made once, used often


@dataclass(frozen=True)
class Counting(Solver):
    """Remembers the matrices that it was given."""

    seen: list[Tensor] = field(default_factory=list, compare=False)

    def __call__(self, gram: Tensor, alpha: float) -> Tensor:
        self.seen.append(gram)
        return Eigenvalues()(gram, alpha)

    def with_classes(self, gram: Tensor, labels: Tensor, alpha: float) -> Estimate:
        return Eigenvalues().with_classes(gram, labels, alpha)


def test_measured_twice_its_own_spectrum_is_computed_once() -> None:
    solver = Counting()
    plane = InformationPlane(Estimator(solver=solver, shuffles=0))
    once = plane.reference(INPUTS, CLASSES)
    for epoch in range(3):
        measurement = plane.start(once)
        measurement.add("conv", LAYERS["conv"])
        plane.finish(measurement, epoch)
    alone = [seen for seen in solver.seen if seen.shape == (N, N)]
    assert len(alone) == 1
    assert_same_gram(alone[0], feature_map_gram(INPUTS))


def test_measured_twice_its_rows_are_those_of_inputs_and_targets() -> None:
    plane, plain = InformationPlane(), InformationPlane()
    once = plane.reference(INPUTS, CLASSES)
    for epoch in range(2):
        measurement = plane.start(once)
        for name, activation in LAYERS.items():
            measurement.add(name, activation)
        assert plane.finish(measurement, epoch) == plain.measure(INPUTS, CLASSES, LAYERS, epoch)


def test_rank_0s_matrices_are_taken_at_the_first_use_alone() -> None:
    asked: list[Tensor] = []

    def first(tensor: Tensor) -> Tensor:
        asked.append(tensor)
        return tensor + 0

    made = reference(targets=normal(N, seed=3))
    made.synchronize(Ranks(first=first))
    assert sorted(tuple(tensor.shape) for tensor in asked) == [(2,), (N, N), (N, N)]
    grams, sigma = made.grams, made.sigma
    made.synchronize(Ranks(first=first))
    assert len(asked) == 3
    assert made.grams is grams
    assert made.sigma is sigma


def test_labels_are_those_of_rank_0_too() -> None:
    made = reference()
    made.synchronize(Ranks(first=lambda tensor: torch.zeros_like(tensor)))
    assert made.grams.labels is not None
    assert not bool(made.grams.labels.any())
    assert made.grams.labels.device.type == "cpu"
