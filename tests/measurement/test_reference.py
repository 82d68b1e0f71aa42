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
    Bandwidth,
    Eigenvalues,
    Estimator,
    Fixed,
    InformationPlane,
    Jackknife,
    MedianDistance,
    Silverman,
    Solver,
    class_gram,
    feature_map_gram,
    gram,
    joint_gram,
    renyi_entropy,
)
from lightning_infoplane.estimator.grams import reordered
from lightning_infoplane.estimator.solvers import Estimate
from lightning_infoplane.measurement.division import divide, width
from lightning_infoplane.measurement.formulas import Leaf, Term, X, Y
from lightning_infoplane.measurement.ranks import Ranks
from lightning_infoplane.measurement.reference import Reference

N = 30
INPUTS, CLASSES = normal(N, 2, 4, 4), torch.arange(N) % 3
LAYERS = {"conv": normal(N, 3, 2, 2, seed=1), "linear": normal(N, 6, seed=2)}


def reference(inputs: Tensor = INPUTS, targets: Tensor | None = CLASSES, **fields: Any) -> Reference:
    return Reference(Estimator(**fields), inputs, targets)


def bits(made: Reference, term: Term) -> Tensor:
    """An entropy of the whole probe."""
    made.synchronize(Ranks())
    return made.entropies([term])[0][term].bits


def test_x_is_the_gram_matrix_of_the_inputs_at_the_rules_bandwidth() -> None:
    made = reference(bandwidth=Fixed(3.0))
    assert made.n == N
    assert made.sigma.tolist() == [3.0, 3.0]  # the input's channels are its variables
    assert_same_gram(made.sides.input, feature_map_gram(INPUTS, Fixed(3.0)))
    assert_bits(bits(made, X), renyi_entropy(feature_map_gram(INPUTS, Fixed(3.0))))


def test_classes_are_labels_on_the_cpu() -> None:
    made = reference(targets=CLASSES.to(torch.uint8))
    assert made.sides.target is None
    assert made.sides.labels is not None
    assert made.sides.labels.dtype == torch.long
    assert torch.equal(made.sides.labels, CLASSES)
    assert_bits(bits(made, Y), renyi_entropy(class_gram(CLASSES)))


def test_classes_with_a_bandwidth_are_one_hot_vectors() -> None:
    made = reference(targets=5 + 2 * CLASSES, target_bandwidth=Fixed(1.0))
    assert made.sides.labels is None
    assert made.sides.target is not None
    assert_same_gram(made.sides.target, gram(torch.nn.functional.one_hot(CLASSES), Fixed(1.0)), 1e-6)


def test_continuous_targets_are_one_variable() -> None:
    targets = normal(N, 2, 3, seed=4)
    made = reference(targets=targets)
    assert made.sides.target is not None
    assert_same_gram(made.sides.target, gram(targets.reshape(N, 6)))
    assert_bits(bits(made, Y), renyi_entropy(gram(targets.reshape(N, 6))))


def test_without_targets_there_is_no_y() -> None:
    made = reference(targets=None)
    assert made.sides.variables == ["X"]
    assert (made.sides.labels, made.sides.target) == (None, None)


@pytest.mark.parametrize("targets", [CLASSES, normal(N, seed=3)], ids=["classes", "continuous"])
def test_a_guide_is_made_only_for_rules_that_look_at_the_target(targets: Tensor) -> None:
    """It is as large as any other matrix."""
    assert reference(targets=targets).guide is None
    guide = reference(targets=targets, bandwidth=Alignment()).guide
    assert guide is not None
    assert_same_gram(guide, gram(targets.unsqueeze(1)) if targets.is_floating_point() else class_gram(targets))


def test_gradients_of_targets_are_no_part_of_it() -> None:
    made = reference(targets=normal(N, seed=3).requires_grad_())
    assert made.sides.target is not None
    assert not made.sides.target.requires_grad


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


def test_measured_twice_its_own_spectra_are_computed_once() -> None:
    """Of X alone, with itself, and with itself after each shuffle: for the whole probe."""
    solver = Counting()
    plane = InformationPlane(Estimator(solver=solver))
    once = plane.reference(INPUTS, CLASSES)
    for epoch in range(3):
        measurement = plane.start(once)
        measurement.add("conv", LAYERS["conv"])
        plane.finish(measurement, epoch)
    x, t = feature_map_gram(INPUTS), feature_map_gram(LAYERS["conv"])
    of_x = [joint_gram(x), joint_gram(x, x), *(joint_gram(x, reordered(x, order)) for order in orders_of(once))]
    of_t = [joint_gram(t), joint_gram(t, t), *(joint_gram(t, reordered(t, order)) for order in orders_of(once))]
    assert [times_seen(solver, matrix) for matrix in of_x] == [1] * 4
    assert [times_seen(solver, matrix) for matrix in of_t] == [3] * 4


def orders_of(made: Reference) -> Tensor:
    return made.division.whole.orders


def times_seen(solver: Counting, matrix: Tensor) -> int:
    return sum(torch.allclose(seen.squeeze(), matrix, rtol=0, atol=1e-12) for seen in solver.seen)


def test_its_entropies_are_those_of_the_whole_and_of_every_part() -> None:
    made = reference(normal(80, 3), torch.arange(80) % 3, bandwidth=Fixed(1.0))
    made.synchronize(Ranks())
    terms: list[Leaf] = [X, Y, Term("X", "X"), Term("X", "X", 0), Term("Y", "Y", 1)]
    whole, *parts = made.entropies(terms)
    assert len(parts) == 4
    assert all(list(known) == terms for known in (whole, *parts))
    for part, known in zip(made.division.parts, parts, strict=True):
        x = gram(normal(80, 3)[part.keep], Fixed(1.0))
        assert_bits(known[X].bits, renyi_entropy(x), 1e-4)  # spectra of parts are in float32
        assert_bits(known[terms[3]].bits, renyi_entropy(joint_gram(x, reordered(x, part.orders[0]))), 1e-4)
    assert made.entropies(terms) is made.entropies(terms)


def test_measured_twice_its_rows_are_those_of_inputs_and_targets() -> None:
    plane, plain = InformationPlane(), InformationPlane()
    once = plane.reference(INPUTS, CLASSES)
    for epoch in range(2):
        measurement = plane.start(once)
        for name, activation in LAYERS.items():
            measurement.add(name, activation)
        assert plane.finish(measurement, epoch) == plain.measure(INPUTS, CLASSES, LAYERS, epoch)


# ------------------------------------------------------------------------------------------------ division and widths


@pytest.mark.parametrize("fields", [{}, {"standard_errors": Jackknife(4)}, {"standard_errors": None}, {"seed": 3}])
def test_it_is_divided_by_its_classes(fields: dict[str, Any]) -> None:
    labels = torch.arange(80) % 3
    made = reference(normal(80, 3), labels, **fields)
    made.synchronize(Ranks())
    expected = divide(80, labels, Estimator(**fields))
    assert torch.equal(made.division.whole.orders, expected.whole.orders)
    assert len(made.division.parts) == len(expected.parts)
    for part, same in zip(made.division.parts, expected.parts, strict=True):
        assert part.keep is not None
        assert same.keep is not None
        assert torch.equal(part.keep, same.keep)


@pytest.mark.parametrize(
    ("rule", "follows"), [(MedianDistance(), True), (Alignment(), True), (Fixed(1.0), False), (Silverman(), False)]
)
def test_parts_have_the_width_of_the_whole_where_the_bandwidth_follows_the_samples(
    rule: Bandwidth, follows: bool
) -> None:
    made = reference(bandwidth=rule)
    made.synchronize(Ranks())
    assert made.sides.target_width is None  # classes have no bandwidth
    if not follows:
        assert made.sides.input_width is None
        return
    assert made.sides.input_width is not None
    assert float(made.sides.input_width) == float(width(made.sides.input))


@pytest.mark.parametrize(("rule", "follows"), [(None, True), (MedianDistance(), True), (Fixed(1.0), False)])
def test_targets_have_a_width_of_their_own(rule: Bandwidth | None, follows: bool) -> None:
    made = reference(targets=normal(N, seed=3), bandwidth=Fixed(1.0), target_bandwidth=rule)
    made.synchronize(Ranks())
    assert made.sides.input_width is None
    assert (made.sides.target_width is not None) is follows


# ----------------------------------------------------------------------------------------------------- on all ranks


def test_rank_0s_matrices_are_taken_at_the_first_use_alone() -> None:
    asked: list[Tensor] = []

    def first(tensor: Tensor) -> Tensor:
        asked.append(tensor)
        return tensor + 0

    made = reference(targets=normal(N, seed=3))
    made.synchronize(Ranks(first=first))
    assert sorted(tuple(tensor.shape) for tensor in asked) == [(2,), (N, N), (N, N)]
    sides, sigma = made.sides, made.sigma
    made.synchronize(Ranks(first=first))
    assert len(asked) == 3
    assert made.sides is sides
    assert made.sigma is sigma


def test_labels_are_those_of_rank_0_too() -> None:
    made = reference()
    made.synchronize(Ranks(first=lambda tensor: torch.zeros_like(tensor)))
    assert made.sides.labels is not None
    assert not bool(made.sides.labels.any())
    assert made.sides.labels.device.type == "cpu"


def test_the_division_is_by_the_labels_of_rank_0() -> None:
    """Or two processes would measure parts that are not the same."""
    theirs, mine = torch.arange(80) % 3, (torch.arange(80) > 40).long()
    made = reference(normal(80, 3), mine)
    made.synchronize(Ranks(first=lambda tensor: theirs if tensor.dtype == torch.long else tensor))
    expected = divide(80, theirs, Estimator())
    assert torch.equal(made.division.whole.orders, expected.whole.orders)
    assert not torch.equal(made.division.whole.orders, divide(80, mine, Estimator()).whole.orders)


# ----------------------------------------------------------------------------------- classes in several places


def of_places(classes: Tensor) -> Tensor:
    gram = Reference(Estimator(), normal(len(classes), 3), classes).sides.target
    assert gram is not None
    return gram


def test_classes_in_several_places_count_where_they_differ() -> None:
    """A Gaussian of the number of places, whatever numbers the classes have: their numbers have no distances."""
    classes = torch.randint(0, 3, (24, 5), generator=torch.Generator().manual_seed(0))
    gram = of_places(classes) * 24
    differ = (classes[:, None] != classes[None]).sum(-1)
    for count in differ.unique():
        assert gram[differ == count].std(correction=0) < 1e-6
    means = [float(gram[differ == count].mean()) for count in differ.unique()]
    assert means == sorted(means, reverse=True)
    renumbered = torch.tensor([7, -100, 2])[classes]
    torch.testing.assert_close(of_places(renumbered), of_places(classes))


def test_of_thousands_of_classes_and_places_distances_are_nearly_those() -> None:
    classes = torch.randint(0, 5000, (40, 300), generator=torch.Generator().manual_seed(0))
    classes[1, :150] = classes[0, :150]
    gram = of_places(classes) * 40
    others = gram[2:, 2:][~torch.eye(38, dtype=torch.bool)]
    assert float(gram[0, 1]) > float(others.max()) + 5 * float(others.std())
    assert float(others.std()) < 0.02
