"""What only TensorBoard has: a layout of charts and a run a layer, where they are asked for."""

import re
from pathlib import Path
from typing import Any

import pytest
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from networks import callback, events, fit
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.custom_scalar import layout_pb2

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
    ("options", "prefix"), [({}, ""), ({"name": "a.b"}, "a.b/"), ({"log_prefix": "mine+"}, "mine_")]
)
def test_a_chart_has_all_layers_of_a_quantity_and_nothing_else(
    tmp_path: Path, options: dict[str, Any], prefix: str
) -> None:
    done = fit(tmp_path, callback(tensorboard_layout=True, **options), logger=TensorBoardLogger(tmp_path))
    (charts,) = layouts(done.log_dir).values()
    logged = set(events(done.log_dir))
    for quantity, words in (("I_XT", "I(X;T), information about the input"), ("H_T", "H(T), entropy")):
        (pattern,) = charts[f"{words} (bits)"]
        assert {tag for tag in logged if re.match(pattern, tag)} == {
            tag for tag in logged if tag.startswith(f"{prefix}{quantity}/")
        }
        assert any(tag.endswith("/conv1") for tag in logged if re.match(pattern, tag))


def test_probes_have_charts_of_their_own(tmp_path: Path) -> None:
    measured = callback(tensorboard_layout=True, probe=32, probe_from=("train", "val"))
    done = fit(tmp_path, measured, logger=TensorBoardLogger(tmp_path))
    (charts,) = layouts(done.log_dir).values()
    assert charts["H(T), entropy (bits), train samples"] == ["^train/H_T/"]


def test_the_layout_is_written_once_a_run(tmp_path: Path) -> None:
    measured = callback(tensorboard_layout=True)
    for _ in range(2):
        done = fit(tmp_path, measured, logger=TensorBoardLogger(tmp_path))
        assert layouts(done.log_dir)  # which reads exactly one


def test_every_layer_is_a_run_with_the_same_values_and_short_tags(tmp_path: Path) -> None:
    measured = callback(tensorboard_subruns=True)
    done = fit(tmp_path, measured, logger=TensorBoardLogger(tmp_path))
    whole = events(done.log_dir)
    assert not [path for path in Path(done.log_dir).iterdir() if "-to-" in path.name]
    for layer in {row.layer for row in measured.history if row.quantity == "H_T"}:
        alone = events(Path(done.log_dir) / layer)
        assert {"I_XT", "H_T", "bandwidth"} <= set(alone)
        assert {f"{tag}/{layer}" for tag in alone} <= set(whole)
        for tag, curve in alone.items():
            assert curve == whole[f"{tag}/{layer}"]


def test_other_loggers_go_without(tmp_path: Path) -> None:
    measured = callback(tensorboard_layout=True, tensorboard_subruns=True)
    fit(tmp_path, measured, logger=CSVLogger(tmp_path))
    assert not list(tmp_path.rglob("*tfevents*"))
