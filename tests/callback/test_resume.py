"""A run that was killed and resumed is the run that was not."""

import re
import warnings
from pathlib import Path
from typing import Any

import lightning.pytorch as lp
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning_utilities.core.imports import RequirementCache
from networks import TinyCNN, callback, fit, images, loader, moments, said
from torch import Tensor
from torch.utils.data import Dataset

from lightning_infoplane import Alignment, Bandwidth, MatrixRenyiCallback, MedianDistance, StandardizedSilverman


class KilledError(Exception):
    """The machine is gone."""


class Killer(lp.Callback):
    """Ends a run without any clean-up, after the checkpoints of a step are written."""

    def __init__(self, steps: int) -> None:
        self.steps = steps

    def on_train_batch_start(
        self, trainer: lp.Trainer, pl_module: lp.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        if trainer.global_step == self.steps:
            raise KilledError


AT_EPOCHS = {"save_on_train_epoch_end": True}
WITHIN_EPOCHS = {"save_on_train_epoch_end": False, "every_n_train_steps": 6}


def keeper(root: Path, when: dict[str, Any] = AT_EPOCHS) -> ModelCheckpoint:
    """Keeps every checkpoint, named by its step."""
    return ModelCheckpoint(root / "kept", filename="{step}", save_top_k=-1, **when)


def interrupted(
    root: Path, steps: int, *measured: lp.Callback, when: dict[str, Any] = AT_EPOCHS, **options: Any
) -> Path:
    """Train for four epochs, but kill the run before step ``steps``; its last checkpoint."""
    with pytest.raises(KilledError):
        fit(root, *measured, keeper(root, when), Killer(steps), **{"max_epochs": 4} | options)
    return max((root / "kept").glob("*.ckpt"), key=lambda path: int(re.findall(r"\d+", path.stem)[0]))


def resumed(
    root: Path, checkpoint: Path, *measured: lp.Callback, when: dict[str, Any] = AT_EPOCHS, **options: Any
) -> lp.Trainer:
    """Go on from a checkpoint to the fourth epoch, with a new Trainer and a new network."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Checkpoint directory .* exists and is not empty")
        return fit(root, *measured, keeper(root, when), checkpoint=checkpoint, **{"max_epochs": 4} | options)


RULES = [MedianDistance(), MedianDistance(freeze=True), Alignment(), StandardizedSilverman(5.0, freeze=True)]


@pytest.mark.filterwarnings("ignore:MatrixRenyiCallback. layer")  # a frozen bandwidth is soon too small
@pytest.mark.parametrize("rule", RULES, ids=repr)
@pytest.mark.parametrize("steps", [4, 6, 8, 12], ids=lambda steps: f"killed at step {steps}")
def test_table_of_a_resumed_run_is_that_of_an_uninterrupted_one_byte_for_byte(
    tmp_path: Path, rule: Bandwidth, steps: int
) -> None:
    fit(tmp_path / "whole", whole := callback(bandwidth=rule), max_epochs=4)
    checkpoint = interrupted(tmp_path / "killed", steps, callback(bandwidth=rule))
    resumed(tmp_path / "killed", checkpoint, again := callback(bandwidth=rule))
    assert again.history == whole.history
    found, expected = (tmp_path / name / "infoplane.csv" for name in ("killed", "whole"))
    assert found.read_bytes() == expected.read_bytes()


# Before 2.6 Lightning itself goes on one step behind after a checkpoint from within an epoch, on all its curves.
ONE_BEHIND = pytest.mark.skipif(RequirementCache("lightning<2.6"), reason="Lightning counts a step twice itself")


@pytest.mark.parametrize(
    "options",
    [pytest.param({}, id="by epochs"), pytest.param({"every_n_train_steps": 2}, id="by steps", marks=ONE_BEHIND)],
)
def test_a_checkpoint_from_within_an_epoch(tmp_path: Path, options: dict[str, Any]) -> None:
    fit(tmp_path / "whole", whole := callback(**options), max_epochs=4)
    checkpoint = interrupted(tmp_path / "killed", 7, callback(**options), when=WITHIN_EPOCHS)
    with pytest.warns(UserWarning, match="resuming from a checkpoint that ended before the epoch ended"):
        resumed(tmp_path / "killed", checkpoint, again := callback(**options), when=WITHIN_EPOCHS)
    assert moments(again) == moments(whole)
    # Lightning starts the loader anew: the batches of that epoch are others, so the values cannot be the same.
    before = [row for row in whole.history if row.step < 6]
    assert again.history[: len(before)] == before


def test_a_checkpoint_is_plain_python_and_tensors(tmp_path: Path) -> None:
    checkpoint = interrupted(tmp_path, 8, callback(name="mine"))
    states = torch.load(checkpoint, weights_only=True)["callbacks"]
    (key,) = [key for key in states if "MatrixRenyi" in key]
    assert "mine" in key
    assert states[key]["plane"]["history"][0][:2] in ((0, 0), [0, 0])
    resumed(tmp_path, checkpoint, again := callback(name="mine"))
    assert len(moments(again)) == 5


class Augmented(Dataset[tuple[Tensor, Tensor]]):
    """Images under random noise that is another one every time."""

    def __len__(self) -> int:
        return 64

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        x, y = images()[index]
        return x + 0.3 * torch.randn(x.shape), y


def test_random_augmentation_gives_the_same_probe_after_a_resume(tmp_path: Path) -> None:
    checkpoint = interrupted(tmp_path, 8, callback(), val=loader(Augmented()))
    torch.manual_seed(123)  # a new program is in any state
    resumed(tmp_path, checkpoint, again := callback(), val=loader(Augmented()))
    assert len(moments(again)) == 5


@pytest.mark.parametrize(
    "change", [{"seed": 5}, {"probe": 24}, {"probe_from": "train"}], ids=["seed", "size", "source"]
)
def test_another_probe_is_refused(tmp_path: Path, change: dict[str, Any]) -> None:
    checkpoint = interrupted(tmp_path, 8, callback())
    with pytest.raises(ValueError, match=r"the probe is not the one this run was measured on .*on_probe_change='warn'"):
        resumed(tmp_path, checkpoint, callback(**change))


def test_another_data_set_is_refused_even_where_failures_are_warnings(tmp_path: Path) -> None:
    checkpoint = interrupted(tmp_path, 8, callback())
    with pytest.raises(ValueError, match=r"another data set, probe size or seed. Values before and after"):
        resumed(tmp_path, checkpoint, callback(raise_on_error=False), val=loader(images(seed=9)))


def test_another_data_set_is_accepted_when_asked_for(tmp_path: Path) -> None:
    checkpoint = interrupted(tmp_path, 8, callback())
    with said() as messages:
        resumed(tmp_path, checkpoint, again := callback(on_probe_change="warn"), val=loader(images(seed=9)))
    assert len(messages) == 1
    assert messages[0].startswith("the probe is not the one this run was measured on so far")
    assert [epoch for epoch, _ in moments(again)] == [0, 1, 2, 3, 4]


def test_several_instances_keep_their_histories_apart(tmp_path: Path) -> None:
    def pair() -> tuple[MatrixRenyiCallback, MatrixRenyiCallback]:
        return callback(name="a"), callback(name="b", bandwidth=MedianDistance(2), layers="conv1")

    whole, again = pair(), pair()
    fit(tmp_path / "whole", *whole, max_epochs=4)
    resumed(tmp_path, interrupted(tmp_path, 8, *pair()), *again)
    assert [one.history for one in again] == [one.history for one in whole]


def test_two_instances_of_one_name_are_refused_by_lightning(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="more than one stateful callback of type `MatrixRenyiCallback`"):
        fit(tmp_path, callback(), callback(layers="conv1"))


def test_a_checkpoint_of_a_run_with_other_layers(tmp_path: Path) -> None:
    checkpoint = interrupted(tmp_path, 8, callback(layers="conv1"))
    resumed(tmp_path, checkpoint, again := callback(layers=["conv2", "head"]))
    by_epoch = {epoch: {r.layer for r in again.history if (r.epoch, r.quantity) == (epoch, "H_T")} for epoch in (2, 3)}
    assert by_epoch == {2: {"conv1"}, 3: {"conv2", "head"}}


def test_a_checkpoint_of_a_run_without_the_callback(tmp_path: Path) -> None:
    resumed(tmp_path, interrupted(tmp_path, 8), again := callback())
    assert [epoch for epoch, _ in moments(again)] == [3, 4]


def test_pictures_of_a_resumed_run_show_all_of_it(tmp_path: Path) -> None:
    """A picture over layers that come and go must not fail either."""
    checkpoint = interrupted(tmp_path, 8, callback(layers="conv1", figures=True))
    resumed(tmp_path, checkpoint, callback(layers="conv2", figures=True))
    assert (tmp_path / "infoplane-plane.png").exists()


def test_the_chain_of_a_resumed_run_is_the_one_it_began_with(tmp_path: Path) -> None:
    class Killing(TinyCNN):
        """Its second layer dies in the first epoch: a search on the trained network would find nothing there."""

        def on_train_epoch_end(self) -> None:
            with torch.no_grad():
                self.conv2.weight.zero_()
                self.conv2.bias.zero_()

    fit(tmp_path / "whole", whole := callback(), model=Killing, max_epochs=4)
    checkpoint = interrupted(tmp_path / "killed", 8, callback(), model=Killing)
    resumed(tmp_path / "killed", checkpoint, again := callback(), model=Killing)
    assert again.markov_pairs == whole.markov_pairs == [("conv1", "conv2")]
    assert again.history == whole.history


def test_a_second_run_from_scratch_has_no_past(tmp_path: Path) -> None:
    fit(tmp_path / "first", measured := callback(), max_epochs=2)
    fit(tmp_path / "second", measured, train=loader(images(96, seed=3)), val=loader(images(80, seed=4)), max_epochs=1)
    assert moments(measured) == [(0, 0), (1, 5)]
