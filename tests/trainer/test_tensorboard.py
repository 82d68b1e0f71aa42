"""What only TensorBoard has: a layout of charts and a run a layer, where they are asked for."""

import re
from pathlib import Path
from typing import Any

import pytest
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from networks import callback, drawing, events, fit
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.custom_scalar import layout_pb2

from lightning_infoplane import Draw, Row
from lightning_infoplane.measurement.rows import Pair
from lightning_infoplane.trainer.tensorboard import TensorBoardExtras

CONFIG = "custom_scalars__config__"


def layouts(folder: str) -> dict[str, dict[str, list[str]]]:
    """Categories, charts and the tags' patterns; empty where there is none."""
    accumulator = EventAccumulator(folder, size_guidance={"tensors": 0})
    accumulator.Reload()
    if CONFIG not in accumulator.Tags()["tensors"]:
        return {}
    (event,) = accumulator.Tensors(CONFIG)
    layout = layout_pb2.Layout.FromString(event.tensor_proto.string_val[0])
    return {
        category.title: {chart.title: list(chart.multiline.tag) for chart in category.chart}
        for category in layout.category
    }


def test_neither_is_there_unless_asked_for(tmp_path: Path) -> None:
    done = fit(tmp_path, callback(), logger=TensorBoardLogger(tmp_path))
    assert layouts(done.log_dir) == {}
    assert not [path for path in Path(done.log_dir).iterdir() if path.is_dir() and path.name != "checkpoints"]


@pytest.mark.parametrize(
    ("options", "prefix"), [({}, ""), ({"name": "a.b"}, "a.b/"), ({"log_prefix": "mine"}, "mine/")]
)
def test_a_chart_has_all_layers_of_a_quantity_and_nothing_else(
    tmp_path: Path, options: dict[str, Any], prefix: str
) -> None:
    done = fit(
        tmp_path,
        callback(**drawing(figures=False, tensorboard_layout=True), **options),
        logger=TensorBoardLogger(tmp_path),
    )
    (charts,) = layouts(done.log_dir).values()
    logged = set(events(done.log_dir))
    for quantity, words in (
        ("AMI_XT", "adjusted information about the input, AMI(X;T)"),
        ("I_XT", "information about the input, I(X;T) (bits)"),
        ("H_T", "entropy, H(T) (bits)"),
    ):
        (pattern,) = charts[words]
        assert {tag for tag in logged if re.match(pattern, tag)} == {
            tag for tag in logged if tag.startswith(f"{prefix}{quantity}/")
        }
        assert any(tag.endswith("/conv1") for tag in logged if re.match(pattern, tag))


def test_probes_have_charts_of_their_own(tmp_path: Path) -> None:
    measured = callback(**drawing(figures=False, tensorboard_layout=True), probe=Draw(32, ("train", "val")))
    done = fit(tmp_path, measured, logger=TensorBoardLogger(tmp_path))
    (charts,) = layouts(done.log_dir).values()
    assert charts["entropy, H(T) (bits), train samples"] == ["^train/H_T/"]


def test_the_layout_is_written_once_a_run(tmp_path: Path) -> None:
    measured = callback(**drawing(figures=False, tensorboard_layout=True))
    for _ in range(2):
        done = fit(tmp_path, measured, logger=TensorBoardLogger(tmp_path))
        assert layouts(done.log_dir)  # which reads exactly one


@pytest.mark.parametrize(
    ("options", "prefix"), [({}, ""), ({"name": "a.b"}, "a.b/"), ({"log_prefix": "mine"}, "mine/")]
)
def test_every_layer_is_a_run_with_the_same_values_and_short_tags(
    tmp_path: Path, options: dict[str, Any], prefix: str
) -> None:
    measured = callback(**drawing(figures=False, tensorboard_subruns=True), **options)
    done = fit(tmp_path, measured, logger=TensorBoardLogger(tmp_path))
    whole = events(done.log_dir)
    assert not [path for path in Path(done.log_dir).iterdir() if "-to-" in path.name]
    for layer in {row.place for row in measured.history if row.quantity == "H_T"}:
        alone = events(Path(done.log_dir) / layer)
        assert {prefix + tag for tag in ("AMI_XT", "I_XT", "H_T", "bandwidth")} <= set(alone)
        assert {f"{tag}/{layer}" for tag in alone} <= set(whole)
        for tag, curve in alone.items():
            assert curve == whole[f"{tag}/{layer}"]


def test_other_loggers_go_without(tmp_path: Path) -> None:
    measured = callback(**drawing(figures=False, tensorboard_layout=True, tensorboard_subruns=True))
    fit(tmp_path, measured, logger=CSVLogger(tmp_path))
    assert not list(tmp_path.rglob("*tfevents*"))


# ------------------------------------------------------------------------------------------- without a Trainer

ROWS = [
    Row(1, 3, "", "", "H_X", 4.0),
    Row(1, 3, "", "blocks.0", "I_XT", 1.5),
    Row(1, 3, "", "blocks.0", "bandwidth", 3.0),
    Row(1, 3, "", "a layer (1)", "I_XT", 1.0),
    Row(1, 3, "", "a layer (1)", "AMI_XT", 0.5),
    Row(1, 3, "", "a layer (1)", "AMI_XT_p", 0.01),
    Row(1, 3, "", Pair("blocks.0", "a layer (1)"), "DPI_AMI_XT", 0.5),
    Row(1, 3, "", Pair("blocks.0", "a layer (1)"), "DPI_XT", 0.5),
]


def board(root: Path) -> tuple[TensorBoardLogger, str]:
    logger = TensorBoardLogger(root, "", "run")
    return logger, logger.log_dir


@pytest.mark.parametrize(("log", "tags"), [("main", {"mine/I_XT"}), ("all", {"mine/I_XT", "mine/bandwidth"})])
def test_a_layers_run_holds_what_is_logged_of_it(tmp_path: Path, log: str, tags: set[str]) -> None:
    logger, folder = board(tmp_path)
    extras = TensorBoardExtras(subruns=True)
    extras([logger], "mine/", ROWS, log, step=3)
    extras.close()
    below = {path.name for path in Path(folder).iterdir() if path.is_dir()}
    assert below == {"blocks.0", "a_layer__1_--a1cb6550"}  # not the probe, not the pair
    assert set(events(Path(folder) / "blocks.0")) == tags
    other = {"mine/I_XT": [(3, 1.0)], "mine/AMI_XT": [(3, 0.5)]}
    found = events(Path(folder) / "a_layer__1_--a1cb6550")
    assert {tag: curve for tag, curve in found.items() if "_p" not in tag} == other


@pytest.mark.parametrize("names", [("a:b", "a b", "a_b"), ("..", "../x", "/etc"), ("a\0b", "a\nb", 400 * "x")])
def test_every_name_of_a_layer_is_a_folder_of_its_own_in_the_run(tmp_path: Path, names: tuple[str, ...]) -> None:
    logger, folder = board(tmp_path / "logs")
    extras = TensorBoardExtras(subruns=True)
    extras([logger], "", [Row(1, 3, "", name, "I_XT", value) for value, name in enumerate(names)], "main", step=3)
    extras.close()
    below = [path for path in Path(folder).iterdir() if path.is_dir()]
    assert sorted(curve for path in below for curve in events(path)["I_XT"]) == [(3, 0), (3, 1), (3, 2)]
    assert [path.name for path in tmp_path.iterdir()] == ["logs"]


def test_charts_are_of_what_is_logged_and_drawn(tmp_path: Path) -> None:
    """A bandwidth or a gap in bits is drawn in no picture, so it has no chart either."""
    logger, folder = board(tmp_path)
    extras = TensorBoardExtras(layout=True)
    extras([logger], "", ROWS, "all", step=3)
    logger.experiment.flush()
    (charts,) = layouts(folder).values()
    assert charts == {
        "information about the input, I(X;T) (bits)": ["^I_XT/"],
        "adjusted information about the input, AMI(X;T)": ["^AMI_XT/"],
        "adjusted information about the input lost, AMI(X;T₁) − AMI(X;T₂)": ["^DPI_AMI_XT/"],
    }


def test_a_measurement_of_which_nothing_is_logged_does_not_use_up_the_layout(tmp_path: Path) -> None:
    logger, folder = board(tmp_path)
    extras = TensorBoardExtras(layout=True)
    extras([logger], "", [], "main", step=0)
    extras([logger], "", ROWS, "main", step=3)
    logger.experiment.flush()
    assert len(layouts(folder)) == 1


def test_values_come_on_while_the_run_goes_on(tmp_path: Path) -> None:
    """A run is watched in TensorBoard while it trains: nothing waits for the end."""
    logger, folder = board(tmp_path)
    extras = TensorBoardExtras(subruns=True)
    extras([logger], "", ROWS, "main", step=3)
    assert events(Path(folder) / "blocks.0") == {"I_XT": [(3, 1.5)]}
    extras.close()
