"""Runs that are already finished: the checkpoints on disk give the rows the callback logged while training."""

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from networks import TinyCNN, assert_same, callback, fit, hooks_on, images
from properties import assert_leaves_random_state

from lightning_infoplane import (
    Estimator,
    EveryNSteps,
    History,
    MatrixRenyiCallback,
    Probe,
    Row,
    measure,
    measure_checkpoints,
)

PROBE = Probe(*images(32, seed=5).tensors)


class Run:
    """Two epochs of four steps, saved at the end of epochs, after validation, every three steps, and at the end."""

    def __init__(self, root: Path) -> None:
        self.every_epoch, self.every_third = (
            callback(probe=PROBE),
            callback(probe=PROBE, schedule=EveryNSteps(3), name="steps", measure_at_start=False),
        )
        keepers = {
            "epoch": ModelCheckpoint(root / "epoch", save_top_k=-1, save_on_train_epoch_end=True),
            "weights": ModelCheckpoint(root / "weights", save_top_k=-1, save_weights_only=True, mode="max"),
            "validation": ModelCheckpoint(root / "validation", save_top_k=-1, monitor="val_loss"),
            "steps": ModelCheckpoint(root / "steps", save_top_k=-1, every_n_train_steps=3),
        }
        self.model = TinyCNN()
        done = fit(root, self.every_epoch, self.every_third, *keepers.values(), model=self.model)
        done.save_checkpoint(root / "end.ckpt")
        self.root = root

    def files(self, kind: str) -> list[Path]:
        found = sorted((self.root / kind).glob("*.ckpt")) or [self.root / f"{kind}.ckpt"]
        assert found[0].exists()
        return found


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return Run(tmp_path_factory.mktemp("run"))


def logged(measured: MatrixRenyiCallback, *epochs: int) -> list[Row]:
    return [row for row in measured.history if row.epoch in epochs]


@pytest.mark.parametrize("kind", ["epoch", "weights", "validation"])
def test_rows_are_those_logged_in_the_run(run: Run, kind: str) -> None:
    expected = logged(run.every_epoch, 1, 2)
    assert {(row.epoch, row.step) for row in expected} == {(1, 3), (2, 7)}
    assert measure_checkpoints(run.files(kind), TinyCNN(), PROBE) == expected


def test_checkpoints_between_epochs_are_of_the_epoch_that_was_finished_before(run: Run) -> None:
    expected = run.every_third.history
    assert {(row.epoch, row.step) for row in expected} == {(0, 2), (1, 5)}
    assert measure_checkpoints(run.files("steps"), TinyCNN(), PROBE) == expected


def test_a_checkpoint_saved_after_the_run_is_of_its_last_epoch(run: Run) -> None:
    assert measure_checkpoints(run.files("end"), TinyCNN(), PROBE) == logged(run.every_epoch, 2)


def test_rows_are_those_of_the_layers_and_the_estimator_asked_for(run: Run) -> None:
    found = measure_checkpoints(map(str, run.files("epoch")), TinyCNN(), PROBE, "conv2", Estimator(alpha=2, shuffles=0))
    expected: list[Row] = []
    for count, path in enumerate(run.files("epoch")):
        model = TinyCNN()
        model.load_state_dict(torch.load(path, weights_only=True)["state_dict"])
        how = Estimator(alpha=2, shuffles=0)
        expected += measure(model, PROBE, "conv2", how, epoch=count + 1, step=4 * count + 3)
    assert found == expected
    assert {row.place for row in found} == {"", "conv2"}
    assert not {"I_XT_chance", "AMI_XT", "E_TT"} & {row.quantity for row in found}


def test_the_history_says_how_it_was_measured_and_can_be_saved(run: Run, tmp_path: Path) -> None:
    found = measure_checkpoints(run.files("epoch"), TinyCNN(), PROBE, estimator=Estimator(alpha=2))
    assert found.facts.estimator["alpha"] == 2
    assert found.facts.n == {"": 32}
    assert found.facts.chain == ("conv1 → conv2",)
    found.save(tmp_path / "rows.csv")
    loaded = History.load(tmp_path / "rows.csv")
    assert loaded == found
    assert loaded.facts == found.facts


def test_chains_are_looked_for_in_the_first_checkpoint_alone(run: Run) -> None:
    sizes: list[int] = []

    def forward(net: torch.nn.Module, inputs: torch.Tensor) -> Any:
        sizes.append(len(inputs))
        return net(inputs)

    measure_checkpoints(run.files("epoch"), TinyCNN(), PROBE, forward_fn=forward)
    assert sizes == [4, 3] + [4] * (6 + 2) + [32] * 2  # how it is called, the search, and a pass a checkpoint


def test_options_are_those_of_measure(run: Run) -> None:
    model: Any = TinyCNN()
    model.load_state_dict(torch.load(run.files("end")[0], weights_only=True)["state_dict"])
    named = Probe({"pixels": PROBE.x}, PROBE.targets)
    found = measure_checkpoints(
        run.files("end"), TinyCNN(), named, forward_fn=lambda net, inputs: net(inputs["pixels"]), batch_size=10
    )
    expected = measure(model, PROBE, epoch=2, step=7)
    assert [row[:-1] for row in found] == [row[:-1] for row in expected]
    # Pieces of another size sum in another order.
    assert [row.value for row in found] == pytest.approx([row.value for row in expected], abs=1e-4)


def test_the_model_passed_is_left_as_it_is(run: Run) -> None:
    model = TinyCNN().train()
    model.conv1.eval()
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    state = copy.deepcopy(model.state_dict())
    with assert_leaves_random_state():
        measure_checkpoints(run.files("epoch"), model, PROBE)
    assert_same(model.state_dict(), state)
    assert all(torch.equal(parameter.grad, torch.ones_like(parameter)) for parameter in model.parameters())
    assert model.training
    assert not model.conv1.training
    assert hooks_on(model) == 0


def test_a_model_that_has_been_trained_by_a_trainer_may_be_passed(run: Run) -> None:
    assert measure_checkpoints(run.files("epoch"), run.model, PROBE) == logged(run.every_epoch, 1, 2)


def test_plain_state_dicts_are_counted(tmp_path: Path) -> None:
    paths, models = [tmp_path / name for name in ("b.pt", "a.pt")], []
    for seed, path in enumerate(paths):
        torch.manual_seed(seed)
        models.append(TinyCNN())
        torch.save(models[-1].state_dict(), path)
    expected = [row for count, model in enumerate(models) for row in measure(model, PROBE, epoch=count, step=count)]
    assert measure_checkpoints(paths, TinyCNN(), PROBE) == expected


def test_no_checkpoints_no_rows() -> None:
    assert measure_checkpoints([], TinyCNN(), PROBE) == []


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"epoch,loss\n0,1.0\n",
        {"weight": torch.ones(2)},
        {"state_dict": {"weight": torch.ones(2)}, "epoch": 0, "global_step": 1},
        {"state_dict": {"weight": torch.ones(2)}},
        {"state_dict": 3},
        torch.ones(3),
        [torch.ones(3)],
    ],
    ids=[
        "empty",
        "text",
        "another model",
        "another model's run",
        "another model's weights",
        "no state",
        "a tensor",
        "a list",
    ],
)
def test_a_file_that_is_no_checkpoint_of_this_model_is_named(tmp_path: Path, content: object) -> None:
    path = tmp_path / "wrong.ckpt"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        torch.save(content, path)
    with pytest.raises(ValueError, match=r"wrong\.ckpt is no checkpoint of TinyCNN: "):
        measure_checkpoints([path], TinyCNN(), PROBE)


def test_a_file_that_does_not_exist_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"absent\.ckpt"):
        measure_checkpoints([tmp_path / "absent.ckpt"], TinyCNN(), PROBE)
