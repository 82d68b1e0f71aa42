"""The measuring core's memory: history, files, bandwidths that go on, and the verdicts on its numbers."""

import io
import math
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from properties import assert_bits, normal
from torch import Tensor

from lightning_infoplane import (
    Alignment,
    Bandwidth,
    Fixed,
    InformationPlane,
    MedianDistance,
    Row,
    class_gram,
    feature_map_gram,
    renyi_entropy,
)
from lightning_infoplane.plane import of_probe, verdicts

N = 20
INPUTS, CLASSES = normal(N, 4), torch.arange(N) % 2
LAYERS = {"conv": normal(N, 3, 2, 2, seed=1), "linear": normal(N, 5, seed=2)}


def value(rows: list[Row], layer: str, quantity: str) -> float:
    (found,) = [row.value for row in rows if (row.layer, row.quantity) == (layer, quantity)]
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
    for row in InformationPlane().measure(INPUTS, CLASSES, LAYERS):
        assert [type(cell) for cell in row] == [int, int, str, str, float]


def test_adding_layers_one_by_one_gives_the_rows_of_adding_them_together() -> None:
    plane = InformationPlane()
    measurement = plane.start(INPUTS, CLASSES)
    for name, activation in LAYERS.items():
        measurement.add(name, activation)
    assert plane.finish(measurement, 1, 2) == InformationPlane().measure(INPUTS, CLASSES, LAYERS, 1, 2)


def test_a_named_probe_marks_its_quantities_and_nothing_else() -> None:
    plane = InformationPlane()
    measurement = plane.start(INPUTS, CLASSES, probe="train")
    measurement.add("conv", LAYERS["conv"])
    rows = plane.finish(measurement)
    plain = InformationPlane().measure(INPUTS, CLASSES, {"conv": LAYERS["conv"]})
    assert rows == [row._replace(quantity=f"train/{row.quantity}") for row in plain]


def test_progress_is_told_of_every_layer_twice() -> None:
    told: list[int] = []
    plane = InformationPlane()
    measurement = plane.start(INPUTS, CLASSES, progress=told.append)
    for name, activation in LAYERS.items():
        measurement.add(name, activation)
    assert told == [1, 1]
    plane.finish(measurement)
    assert sum(told) == 2 * len(LAYERS)


def test_a_plane_prints_its_settings() -> None:
    assert "alpha=2" in repr(InformationPlane(alpha=2))


# -------------------------------------------------------------------------------------- bandwidths that go on


def sigma_of_maps(plane: InformationPlane, factor: float, probe: str = "") -> float:
    """The bandwidth when the activations have grown by a factor."""
    measurement = plane.start(INPUTS, CLASSES, probe=probe)
    measurement.add("conv", factor * LAYERS["conv"])
    return value(plane.finish(measurement), "conv", f"{probe}/bandwidth" if probe else "bandwidth")


def restored(plane: InformationPlane, rule: Bandwidth) -> InformationPlane:
    """A plane that continues from a checkpoint of the other, read the safe way."""
    file = io.BytesIO()
    torch.save(plane.state_dict(), file)
    file.seek(0)
    other = InformationPlane(bandwidth=rule)
    other.load_state_dict(torch.load(file, weights_only=True))
    return other


@pytest.mark.parametrize("resume", [False, True])
def test_a_frozen_bandwidth_is_that_of_the_first_measurement(resume: bool) -> None:
    rule = MedianDistance(freeze=True)
    plane = InformationPlane(bandwidth=rule)
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
    plane = InformationPlane(bandwidth=rule)
    first = sigma_of_maps(plane, 1.0)  # its optimum grows with the activations
    if resume:
        plane = restored(plane, rule)
    second = sigma_of_maps(plane, 5.0)
    assert second == pytest.approx(0.75 * first + 0.25 * 5 * first)
    assert sigma_of_maps(plane, 5.0) == pytest.approx(0.75 * second + 0.25 * 5 * first)


def test_probes_have_bandwidths_of_their_own() -> None:
    plane = InformationPlane(bandwidth=MedianDistance(freeze=True))
    train, val = sigma_of_maps(plane, 1.0, "train"), sigma_of_maps(plane, 2.0, "val")
    assert val == pytest.approx(2 * train)
    assert sigma_of_maps(plane, 7.0, "train") == train
    assert sigma_of_maps(plane, 7.0, "val") == val


def test_a_broken_layer_does_not_spoil_the_bandwidth_that_is_remembered() -> None:
    plane = InformationPlane(bandwidth=MedianDistance(freeze=True))
    first = sigma_of_maps(plane, 1.0)
    with pytest.warns(UserWarning, match="layer 'conv' has NaN or infinite activations"):
        plane.measure(INPUTS, CLASSES, {"conv": LAYERS["conv"] * math.nan})
    assert sigma_of_maps(plane, 3.0) == first


def test_a_checkpoint_holds_the_history() -> None:
    plane = InformationPlane()
    plane.measure(INPUTS, CLASSES, LAYERS, epoch=2, step=7)
    other = restored(plane, MedianDistance())
    assert other.history == plane.history
    assert all(isinstance(row, Row) for row in other.history)


def test_a_state_is_a_copy() -> None:
    plane = InformationPlane()
    plane.measure(INPUTS, CLASSES, LAYERS)
    state = plane.state_dict()
    count = len(state["history"])
    plane.measure(INPUTS, CLASSES, LAYERS)
    assert len(state["history"]) == count


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_bandwidths_of_a_checkpoint_move_to_the_device_of_the_probe() -> None:
    rule = MedianDistance(freeze=True)
    plane = InformationPlane(bandwidth=rule)
    plane.measure(INPUTS, CLASSES, LAYERS)
    rows = restored(plane, rule).measure(INPUTS.cuda(), CLASSES.cuda(), {k: v.cuda() for k, v in LAYERS.items()})
    assert_bits(torch.tensor([r.value for r in rows]), torch.tensor([r.value for r in plane.history]), tolerance=1e-6)


# --------------------------------------------------------------------------------------------------------- files

ROWS = st.builds(
    Row,
    st.integers(0, 10**6),
    st.integers(0, 10**9),
    st.text(st.characters(codec="utf-8", exclude_characters="\r\n\0"), max_size=12),
    st.sampled_from(["H_T", "I_XT", "train/I_TY"]),
    st.floats(allow_nan=False),
)


@settings(max_examples=50, deadline=None)
@given(st.lists(ROWS, max_size=8))
def test_a_file_read_and_written_again_is_the_same_byte_for_byte(
    tmp_path_factory: pytest.TempPathFactory, rows: list[Row]
) -> None:
    folder = tmp_path_factory.mktemp("history")
    plane = InformationPlane()
    plane.history = rows
    plane.save(folder / "first.csv")
    read = InformationPlane.load(folder / "first.csv")
    assert read.history == rows
    read.save(folder / "second.csv")
    assert (folder / "first.csv").read_bytes() == (folder / "second.csv").read_bytes()


def test_a_measured_history_survives_with_every_digit(tmp_path: Path) -> None:
    plane = InformationPlane()
    plane.measure(INPUTS, CLASSES, LAYERS, epoch=4, step=11)
    plane.save(tmp_path / "infoplane.csv")
    assert InformationPlane.load(tmp_path / "infoplane.csv").history == plane.history
    assert (tmp_path / "infoplane.csv").read_text().splitlines()[0] == "epoch,step,layer,quantity,value"


def test_folders_are_made_and_nothing_else_is_left_in_them(tmp_path: Path) -> None:
    InformationPlane().save(tmp_path / "logs" / "version_0" / "infoplane.csv")
    assert [path.name for path in (tmp_path / "logs" / "version_0").iterdir()] == ["infoplane.csv"]


def test_a_write_that_fails_leaves_the_file_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "infoplane.csv"
    plane = InformationPlane()
    plane.measure(INPUTS, CLASSES, LAYERS)
    plane.save(path)
    before = path.read_bytes()
    plane.history.append(Row(0, 0, "\ud800", "H_T", 1.0))  # a lone surrogate is not UTF-8
    with pytest.raises(UnicodeEncodeError, match="surrogates not allowed"):
        plane.save(path)
    assert path.read_bytes() == before


def test_settings_of_a_loaded_plane_are_those_of_the_constructor(tmp_path: Path) -> None:
    InformationPlane().save(tmp_path / "a.csv")
    assert InformationPlane.load(tmp_path / "a.csv", alpha=2, chance=0).settings.alpha == 2


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"broken\.csv: expected a table with the columns epoch, step, layer, quantity, value"),
        ("step,loss\n1,0.5\n", r"broken\.csv: expected a table with the columns epoch, step"),
        ("0,0,a,H_T,1.0\n", r"broken\.csv: expected a table with the columns epoch, step"),
        ("0,0,a,H_T\n", r"broken\.csv, line 3: expected epoch, step, layer, quantity, value, got \['0', '0', 'a'"),
        ("0,0,a,H_T,1.0,2\n", r"broken\.csv, line 3: expected"),
        ("0,0,a,H_T,many\n", r"broken\.csv, line 3: expected .*'many'"),
        ("0.5,0,a,H_T,1.0\n", r"broken\.csv, line 3: expected .*'0\.5'"),
        ("\n", r"broken\.csv, line 3: expected .*, got \[\]"),
    ],
)
def test_a_file_that_is_no_history_is_named_with_its_line(tmp_path: Path, text: str, message: str) -> None:
    good = "epoch,step,layer,quantity,value\n0,0,a,H_T,1.0\n" if "line 3" in message else ""
    (tmp_path / "broken.csv").write_text(good + text)
    with pytest.raises(ValueError, match=message):
        InformationPlane.load(tmp_path / "broken.csv")


def test_a_file_that_is_no_text_is_named(tmp_path: Path) -> None:
    (tmp_path / "picture.csv").write_bytes(b"\x89PNG\xff\xfe")
    with pytest.raises(ValueError, match=r"picture\.csv: expected a table with the columns epoch, step"):
        InformationPlane.load(tmp_path / "picture.csv")


# ------------------------------------------------------------------------------------------------------ verdicts


def rows_of(entropy: float, told: float, chance: float | None, prefix: str = "") -> list[Row]:
    """One layer of a probe of 1024 samples: log2 n = 10."""
    cells = [("", "log2_n", 10.0), ("conv", "H_T", entropy), ("conv", "I_XT", told)]
    if chance is not None:
        cells.append(("conv", "I_XT_chance", chance))
    return [Row(0, 0, layer, prefix + quantity, number) for layer, quantity, number in cells]


@pytest.mark.parametrize(
    ("entropy", "told", "chance", "verdict"),
    [
        (9.51, 4.0, 3.0, "saturated"),
        (9.5, 4.0, 3.0, "ok"),
        (0.5, 0.4, 0.1, "ok"),
        (0.49, 0.4, 0.1, "collapsed"),
        (5.0, 3.04, 3.0, "at chance"),
        (5.0, 3.06, 3.0, "ok"),
        (5.0, 2.0, 3.0, "at chance"),
        (5.0, 0.0, None, "ok"),
        (9.9, 3.0, 3.0, "saturated"),
        (0.0, 0.0, 0.0, "collapsed"),
    ],
)
def test_verdicts(entropy: float, told: float, chance: float | None, verdict: str) -> None:
    assert verdicts(rows_of(entropy, told, chance)) == {"conv": verdict}


def test_verdicts_are_about_one_probe() -> None:
    rows = rows_of(9.9, 4.0, 3.0, "train/") + rows_of(5.0, 4.0, 3.0, "val/")
    assert verdicts(rows, "train") == {"conv": "saturated"}
    assert verdicts(rows, "val") == {"conv": "ok"}
    assert verdicts(rows) == {}


def test_the_rows_of_one_probe_come_without_its_name() -> None:
    rows = rows_of(9.9, 4.0, 3.0, "train/") + rows_of(5.0, 4.0, 3.0)
    assert of_probe(rows, "train") == rows_of(9.9, 4.0, 3.0)
    assert of_probe(rows) == rows_of(5.0, 4.0, 3.0)
    assert of_probe(rows, "val") == []


def spread(scale: float) -> Tensor:
    return scale * normal(64, 8)


@pytest.mark.parametrize(
    ("layer", "verdict"),
    [(spread(1e3), "saturated"), (spread(1e-3), "collapsed"), (spread(0.4).flip(0), "at chance"), (spread(0.4), "ok")],
    ids=["saturated", "collapsed", "at chance", "ok"],
)
def test_verdicts_on_measured_layers(layer: Tensor, verdict: str) -> None:
    rows = InformationPlane(bandwidth=Fixed(1.0), chance=20).measure(spread(0.4), None, {"layer": layer})
    assert verdicts(rows) == {"layer": verdict}


def test_a_probe_without_layers_has_no_verdict() -> None:
    assert verdicts(InformationPlane().measure(INPUTS, CLASSES, {})) == {}


def test_the_core_is_of_use_without_a_framework() -> None:
    """The example of the documentation, checked against the functions."""
    rows = InformationPlane().measure(INPUTS, CLASSES, LAYERS)
    assert_bits(value(rows, "conv", "H_T"), renyi_entropy(feature_map_gram(LAYERS["conv"])))
    assert_bits(value(rows, "", "H_Y"), renyi_entropy(class_gram(CLASSES)))
