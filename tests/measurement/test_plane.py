"""The measuring core's memory: history, facts, and bandwidths that go on."""

import io
import math

import pytest
import torch
from measurement.moments import refuse
from properties import assert_bits, normal

from lightning_infoplane import (
    Alignment,
    Bandwidth,
    Estimator,
    Fixed,
    History,
    InformationPlane,
    MedianDistance,
    Redundancy,
    Row,
    class_gram,
    feature_map_gram,
    renyi_entropy,
)
from lightning_infoplane.measurement.history import Facts
from lightning_infoplane.measurement.listener import Listener
from lightning_infoplane.measurement.ranks import Ranks
from lightning_infoplane.measurement.rows import Pair
from lightning_infoplane.measurement.settings import as_data

N = 20
INPUTS, CLASSES = normal(N, 4), torch.arange(N) % 2
LAYERS = {"conv": normal(N, 3, 2, 2, seed=1), "linear": normal(N, 5, seed=2)}


def plane_with(rule: Bandwidth) -> InformationPlane:
    return InformationPlane(Estimator(bandwidth=rule))


def value(rows: list[Row], place: str, quantity: str) -> float:
    (found,) = [row.value for row in rows if (row.place, row.quantity) == (place, quantity)]
    return found


# ------------------------------------------------------------------------------------------------------ history


def test_a_measurement_returns_its_rows_and_appends_them_to_the_history() -> None:
    plane = InformationPlane()
    first = plane.measure(INPUTS, CLASSES, LAYERS, epoch=0, step=0)
    second = plane.measure(INPUTS, CLASSES, LAYERS, epoch=3, step=120)
    assert plane.history == first + second
    assert {(row.epoch, row.step) for row in first} == {(0, 0)}
    assert {(row.epoch, row.step) for row in second} == {(3, 120)}
    assert [row.value for row in first] == [row.value for row in second]


def test_rows_are_plain_python() -> None:
    rows = InformationPlane().measure(INPUTS, CLASSES, LAYERS)
    for row in rows:
        assert type(row) is Row
        assert [type(cell) for cell in (row.epoch, row.step, row.probe)] == [int, int, str]
        assert type(row.place) is (Pair if row.quantity.startswith("DPI") and row.place else str)
        assert [type(cell) for cell in (row.quantity, row.value)] == [str, float]
    assert {row.place for row in rows} == {"", "conv", "linear", Pair("conv", "linear")}


def test_adding_layers_one_by_one_gives_the_rows_of_adding_them_together() -> None:
    plane = InformationPlane()
    measurement = plane.start(INPUTS, CLASSES)
    for name, activation in LAYERS.items():
        measurement.add(name, activation)
    assert plane.finish(measurement, 1, 2) == InformationPlane().measure(INPUTS, CLASSES, LAYERS, 1, 2)


def test_a_named_probe_marks_its_rows_and_nothing_else() -> None:
    plane = InformationPlane()
    measurement = plane.start(INPUTS, CLASSES, probe="train")
    measurement.add("conv", LAYERS["conv"])
    rows = plane.finish(measurement)
    plain = InformationPlane().measure(INPUTS, CLASSES, {"conv": LAYERS["conv"]})
    assert rows == [row._replace(probe="train") for row in plain]


def test_progress_is_told_of_every_layer_twice() -> None:
    told: list[int] = []
    plane = InformationPlane()
    measurement = plane.start(INPUTS, CLASSES, listener=Listener(progress=told.append))
    for name, activation in LAYERS.items():
        measurement.add(name, activation)
    assert told == [1, 1]
    plane.finish(measurement)
    assert sum(told) == 2 * len(LAYERS)


def test_a_plane_prints_how_it_measures() -> None:
    plane = InformationPlane(Estimator(alpha=2), Redundancy(map_pairs=8))
    assert repr(plane) == f"InformationPlane(Estimator(alpha=2), {Redundancy(map_pairs=8)!r})"


def test_a_layer_that_is_left_out_is_told_to_whoever_listens() -> None:
    plane, told = InformationPlane(), []
    measurement = plane.start(INPUTS, CLASSES, listener=Listener(notice=lambda *what: told.append(what)))
    measurement.add("conv", LAYERS["conv"] * math.nan)
    plane.finish(measurement)
    assert told == [("conv: NaN or infinite values", "layer 'conv' is left out: NaN or infinite values.")]


def test_a_layer_that_is_left_out_is_a_warning_once_and_has_no_rows() -> None:
    plane = InformationPlane()
    broken = {"conv": LAYERS["conv"] * math.nan}
    with pytest.warns(UserWarning, match="layer 'conv' is left out: NaN or infinite values.") as warned:
        rows = [*plane.measure(INPUTS, CLASSES, broken), *plane.measure(INPUTS, CLASSES, broken, epoch=1)]
    assert len(warned) == 1
    assert {row.place for row in rows} == {""}


def test_a_measurement_that_fails_leaves_history_and_facts_as_they_were() -> None:
    plane = InformationPlane()
    measurement = plane.start(INPUTS, CLASSES, probe="train")
    measurement.add("conv", LAYERS["conv"])
    with pytest.raises(RuntimeError, match="the entropies could not be computed: see the other processes"):
        plane.finish(measurement, ranks=Ranks(0, 2, total=lambda part: part + (part.numel() > 1)))
    assert plane.history == []
    assert plane.history.facts.n == {}


# -------------------------------------------------------------------------------------------------------- facts


def test_facts_are_the_estimator_and_the_size_of_each_probe() -> None:
    estimator = Estimator(alpha=2, bandwidth=Fixed(1.0), seed=4)
    plane = InformationPlane(estimator)
    assert plane.history.facts == Facts(estimator=as_data(estimator))
    for probe, size in (("train", N), ("val", N - 4)):
        measurement = plane.start(INPUTS[:size], CLASSES[:size], probe=probe)
        plane.finish(measurement)
    assert plane.history.facts == Facts(estimator=as_data(estimator), n={"train": N, "val": N - 4})


def test_a_plane_that_forgets_is_as_new() -> None:
    plane = plane_with(MedianDistance(freeze=True))
    sigma_of_maps(plane, 1.0)
    before = plane.history
    plane.forget()
    assert plane.history == []
    assert plane.history.facts == plane_with(MedianDistance(freeze=True)).history.facts
    assert len(before) > 0  # whoever holds it keeps it
    assert sigma_of_maps(plane, 4.0) == sigma_of_maps(plane_with(MedianDistance()), 4.0)


# -------------------------------------------------------------------------------------- bandwidths that go on


def sigma_of_maps(plane: InformationPlane, factor: float, probe: str = "") -> float:
    """The bandwidth when the activations have grown by a factor."""
    measurement = plane.start(INPUTS, CLASSES, probe=probe)
    measurement.add("conv", factor * LAYERS["conv"])
    return value(plane.finish(measurement), "conv", "bandwidth")


def restored(plane: InformationPlane, rule: Bandwidth) -> InformationPlane:
    """A plane that continues from a checkpoint of the other, read the safe way."""
    file = io.BytesIO()
    torch.save(plane.state_dict(), file)
    file.seek(0)
    other = plane_with(rule)
    other.load_state_dict(torch.load(file, weights_only=True))
    return other


@pytest.mark.parametrize("resume", [False, True])
def test_a_frozen_bandwidth_is_that_of_the_first_measurement(resume: bool) -> None:
    rule = MedianDistance(freeze=True)
    plane = plane_with(rule)
    first = sigma_of_maps(plane, 1.0)
    if resume:
        plane = restored(plane, rule)
    assert sigma_of_maps(plane, 4.0) == sigma_of_maps(plane, 9.0) == first


@pytest.mark.parametrize("resume", [False, True])
def test_a_free_bandwidth_follows_the_activations(resume: bool) -> None:
    plane = InformationPlane()
    first = sigma_of_maps(plane, 1.0)
    if resume:
        plane = restored(plane, MedianDistance())
    assert sigma_of_maps(plane, 4.0) == pytest.approx(4 * first)


@pytest.mark.parametrize("resume", [False, True])
def test_alignment_is_smoothed_over_measurements(resume: bool) -> None:
    rule = Alignment(momentum=0.75)
    plane = plane_with(rule)
    first = sigma_of_maps(plane, 1.0)  # its optimum grows with the activations
    if resume:
        plane = restored(plane, rule)
    second = sigma_of_maps(plane, 5.0)
    assert second == pytest.approx(0.75 * first + 0.25 * 5 * first)
    assert sigma_of_maps(plane, 5.0) == pytest.approx(0.75 * second + 0.25 * 5 * first)


def test_probes_have_bandwidths_of_their_own() -> None:
    plane = plane_with(MedianDistance(freeze=True))
    train, val = sigma_of_maps(plane, 1.0, "train"), sigma_of_maps(plane, 2.0, "val")
    assert val == pytest.approx(2 * train)
    assert sigma_of_maps(plane, 7.0, "train") == train
    assert sigma_of_maps(plane, 7.0, "val") == val


@pytest.mark.filterwarnings("ignore:layer .* is left out. NaN or infinite values")
def test_a_broken_layer_does_not_spoil_the_bandwidth_that_is_remembered() -> None:
    plane = plane_with(MedianDistance(freeze=True))
    first = sigma_of_maps(plane, 1.0)
    rows = plane.measure(INPUTS, CLASSES, {"conv": LAYERS["conv"] * math.nan})
    assert "conv" not in {row.place for row in rows}
    assert sigma_of_maps(plane, 3.0) == first


def test_error_signals_have_bandwidths_of_their_own() -> None:
    """A layer's activations and its error signals have one name and nothing else in common."""
    plane = plane_with(MedianDistance(freeze=True))

    def sigma_of_errors(factor: float) -> float:
        signals = {"conv": factor * LAYERS["conv"], "linear": factor * LAYERS["linear"]}
        measurement = plane.start_error_signals(signals, listener=Listener(refuse))
        return value(plane.finish(measurement), "conv", "bandwidth_error")

    activations, errors = sigma_of_maps(plane, 1.0), sigma_of_errors(3.0)
    assert errors == pytest.approx(3 * activations)
    assert sigma_of_errors(7.0) == errors
    assert sigma_of_maps(plane, 7.0) == activations


def test_the_inputs_bandwidth_goes_on_too() -> None:
    plane = plane_with(MedianDistance(freeze=True))
    sigma = float(MedianDistance()(INPUTS.unsqueeze(1)))
    plane.measure(INPUTS, CLASSES, {})
    found = value(plane.measure(5 * INPUTS, CLASSES, {}), "", "H_X")
    assert found == value(plane_with(Fixed(sigma)).measure(5 * INPUTS, CLASSES, {}), "", "H_X")


def test_a_checkpoint_holds_the_history() -> None:
    plane = InformationPlane()
    plane.measure(INPUTS, CLASSES, LAYERS, epoch=2, step=7)
    other = restored(plane, MedianDistance())
    assert isinstance(other.history, History)
    assert other.history == plane.history
    assert other.history.facts == plane.history.facts
    assert all(isinstance(row, Row) for row in other.history)
    rows = other.measure(INPUTS, CLASSES, LAYERS, epoch=3, step=9)
    assert other.history == [*plane.history, *rows]


def test_a_state_is_a_copy() -> None:
    plane = InformationPlane()
    first = plane.measure(INPUTS, CLASSES, LAYERS)
    state = plane.state_dict()
    sigmas = list(state["bandwidths"])
    plane.measure(INPUTS, CLASSES, LAYERS | {"late": LAYERS["linear"]})
    assert History.from_state(state["history"]) == first
    assert list(state["bandwidths"]) == sigmas


def test_a_plane_that_continues_leaves_the_state_alone() -> None:
    plane, other = InformationPlane(), InformationPlane()
    plane.measure(INPUTS, CLASSES, LAYERS)
    state = plane.state_dict()
    other.load_state_dict(state)
    other.measure(INPUTS, CLASSES, LAYERS | {"late": LAYERS["linear"]})
    assert History.from_state(state["history"]) == plane.history
    assert list(state["bandwidths"]) == list(plane.state_dict()["bandwidths"])


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_bandwidths_of_a_checkpoint_move_to_the_device_of_the_probe() -> None:
    rule = MedianDistance(freeze=True)
    plane = plane_with(rule)
    plane.measure(INPUTS, CLASSES, LAYERS)
    rows = restored(plane, rule).measure(INPUTS.cuda(), CLASSES.cuda(), {k: v.cuda() for k, v in LAYERS.items()})
    assert_bits(torch.tensor([r.value for r in rows]), torch.tensor([r.value for r in plane.history]), tolerance=1e-6)


def test_the_core_is_of_use_without_a_framework() -> None:
    """The example of the documentation, checked against the functions."""
    rows = InformationPlane().measure(INPUTS, CLASSES, LAYERS)
    assert_bits(value(rows, "conv", "H_T"), renyi_entropy(feature_map_gram(LAYERS["conv"])))
    assert_bits(value(rows, "", "H_Y"), renyi_entropy(class_gram(CLASSES)))
