"""A run that was killed and resumed is the run that was not."""

import copy
import pickle
import re
import warnings
from pathlib import Path
from typing import Any

import lightning.pytorch as lp
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning_utilities.core.imports import RequirementCache
from networks import (
    TinyCNN,
    assert_same,
    callback,
    drawing,
    estimator,
    fit,
    images,
    loader,
    moments,
    said,
    trainer,
)
from torch import Tensor
from torch.utils.data import Dataset

from lightning_infoplane import (
    Alignment,
    Bandwidth,
    Draw,
    Estimator,
    EveryNSteps,
    History,
    Jackknife,
    Lanczos,
    MatrixRenyiCallback,
    MedianDistance,
    Outputs,
    StandardizedSilverman,
)
from lightning_infoplane.measurement.facts import Facts
from lightning_infoplane.measurement.settings import as_data


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
    fit(tmp_path / "whole", whole := callback(**estimator(bandwidth=rule)), max_epochs=4)
    checkpoint = interrupted(tmp_path / "killed", steps, callback(**estimator(bandwidth=rule)))
    resumed(tmp_path / "killed", checkpoint, again := callback(**estimator(bandwidth=rule)))
    assert again.history == whole.history
    found, expected = (tmp_path / name / "infoplane.csv" for name in ("killed", "whole"))
    assert found.read_bytes() == expected.read_bytes()


# Before 2.6 Lightning itself goes on one step behind after a checkpoint from within an epoch, on all its curves.
ONE_BEHIND = pytest.mark.skipif(RequirementCache("lightning<2.6"), reason="Lightning counts a step twice itself")


@pytest.mark.parametrize(
    "options",
    [pytest.param({}, id="by epochs"), pytest.param({"schedule": EveryNSteps(2)}, id="by steps", marks=ONE_BEHIND)],
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
    assert History.from_state(states[key]["plane"]["history"])[0][:2] == (0, 0)
    resumed(tmp_path, checkpoint, again := callback(name="mine"))
    assert len(moments(again)) == 5


class Augmented(Dataset[tuple[Tensor, Tensor]]):
    """Images under random noise that is another one every time."""

    def __len__(self) -> int:
        return 64

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        x, y = images()[index]
        return x + 0.3 * torch.randn(x.shape), y


@pytest.mark.skipif(RequirementCache("lightning<2.6"), reason="Lightning repeats the last step, and ends the epoch")
def test_the_measurement_that_a_checkpoint_of_an_epochs_last_step_lacks_is_made_up_for(tmp_path: Path) -> None:
    """It is written before the epoch ends, and Lightning goes on with the next."""
    last_step = {"save_on_train_epoch_end": False, "every_n_train_steps": 4}
    fit(tmp_path / "whole", whole := callback(), max_epochs=4)
    checkpoint = interrupted(tmp_path / "killed", 8, callback(), when=last_step)
    resumed(tmp_path / "killed", checkpoint, again := callback(), when=last_step)
    assert moments(again) == moments(whole)
    assert again.history == whole.history


def test_random_augmentation_gives_the_same_probe_after_a_resume(tmp_path: Path) -> None:
    checkpoint = interrupted(tmp_path, 8, callback(), val=loader(Augmented()))
    torch.manual_seed(123)  # a new program is in any state
    resumed(tmp_path, checkpoint, again := callback(), val=loader(Augmented()))
    assert len(moments(again)) == 5


@pytest.mark.parametrize(
    "change",
    [estimator(seed=5), {"probe": 24}, {"probe": Draw(32, "train")}, {"probe": images(32).tensors}],
    ids=["seed", "size", "source", "own samples"],
)
def test_another_probe_is_refused(tmp_path: Path, change: dict[str, Any]) -> None:
    checkpoint = interrupted(tmp_path, 8, callback())
    with pytest.raises(ValueError, match=r"the probe is not the one this run was measured on .*on_change='warn'"):
        resumed(tmp_path, checkpoint, callback(**change))


def test_another_data_set_is_refused_even_where_failures_are_warnings(tmp_path: Path) -> None:
    checkpoint = interrupted(tmp_path, 8, callback())
    with pytest.raises(ValueError, match=r"another data set, probe size or seed .* Values before and after"):
        resumed(tmp_path, checkpoint, callback(raise_on_error=False), val=loader(images(seed=9)))


def test_another_data_set_is_accepted_when_asked_for(tmp_path: Path) -> None:
    checkpoint = interrupted(tmp_path, 8, callback())
    with said() as messages:
        resumed(tmp_path, checkpoint, again := callback(on_change="warn"), val=loader(images(seed=9)))
    assert len(messages) == 1
    assert re.match(
        r"the probe is not the one this run was measured on so far: another data set, probe size or seed "
        r"\(32 samples [0-9a-f]{16}; now 32 samples [0-9a-f]{16}\)\. Values before and after",
        messages[0],
    )
    assert [epoch for epoch, _ in moments(again)] == [0, 1, 2, 3, 4]


ESTIMATORS = {
    "alpha": {"alpha": 2},
    "bandwidth": {"bandwidth": MedianDistance(2)},
    "target bandwidth": {"target_bandwidth": MedianDistance()},
    "solver": {"solver": Lanczos(steps=8)},
    "shuffles": {"shuffles": 3},
    "standard errors": {"standard_errors": Jackknife(2)},
}
each_estimator = pytest.mark.parametrize("change", list(ESTIMATORS.values()), ids=list(ESTIMATORS))


@each_estimator
@pytest.mark.parametrize("raise_on_error", [True, False])
def test_another_estimator_is_refused(tmp_path: Path, change: dict[str, Any], raise_on_error: bool) -> None:
    """Both are named. No failure of a measurement, so that it ends the run in any case."""
    checkpoint = interrupted(tmp_path, 8, callback())
    message = r"the estimator is not that of this run so far, .*: it is now .*Restore it, or pass on_change='warn'"
    with pytest.raises(ValueError, match=message) as refused:
        resumed(tmp_path, checkpoint, callback(**estimator(**change), raise_on_error=raise_on_error))
    before, now = str(refused.value).split(": it is now ")
    assert str(as_data(Estimator())) in before
    assert str(as_data(Estimator(**change))) in now


@each_estimator
def test_another_estimator_is_accepted_when_asked_for_and_told_once(tmp_path: Path, change: dict[str, Any]) -> None:
    checkpoint = interrupted(tmp_path, 8, callback())
    with said() as messages:
        resumed(tmp_path, checkpoint, again := callback(on_change="warn", **estimator(**change)))
    assert len(messages) == 1
    assert re.search("the estimator is not that of this run so far.*Values before and after cannot be", messages[0])
    assert [epoch for epoch, _ in moments(again)] == [0, 1, 2, 3, 4]
    assert again.history.facts.estimator == as_data(Estimator(**change))


def test_another_probe_and_another_estimator_are_two_warnings(tmp_path: Path) -> None:
    checkpoint = interrupted(tmp_path, 8, callback())
    with said() as messages:
        resumed(tmp_path, checkpoint, callback(on_change="warn", probe=24, **estimator(alpha=2)))
    assert [re.match(r"the \w+ is not", message)[0] for message in messages] == [
        "the probe is not",
        "the estimator is not",
    ]


@pytest.mark.parametrize(
    "change",
    [
        {"outputs": Outputs(figures=True, log="main")},
        {"schedule": 2},
        {"log_prefix": "other/"},
        {"dpi_pairs": "consecutive"},
        {"probe_batch_size": 9},
        {"error_signals": True},
        {"redundancy": True},
    ],
    ids=lambda change: next(iter(change)),
)
def test_what_leaves_the_numbers_comparable_may_change(tmp_path: Path, change: dict[str, Any]) -> None:
    checkpoint = interrupted(tmp_path, 8, callback())
    with said() as messages:
        resumed(tmp_path, checkpoint, again := callback(**change))
    assert messages == []
    assert moments(again)[:3] == [(0, 0), (1, 3), (2, 7)]
    assert moments(again)[-1] == (4, 15)


def test_several_instances_keep_their_histories_apart(tmp_path: Path) -> None:
    def pair() -> tuple[MatrixRenyiCallback, MatrixRenyiCallback]:
        return callback(name="a"), callback(name="b", **estimator(bandwidth=MedianDistance(2)), layers="conv1")

    whole, again = pair(), pair()
    fit(tmp_path / "whole", *whole, max_epochs=4)
    resumed(tmp_path, interrupted(tmp_path, 8, *pair()), *again)
    assert [one.history for one in again] == [one.history for one in whole]


def test_two_instances_of_one_name_are_refused_by_lightning(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="more than one stateful callback of type `MatrixRenyiCallback`"):
        fit(tmp_path, callback(), callback(layers="conv1"))


def test_a_checkpoint_of_a_run_with_other_layers(tmp_path: Path) -> None:
    checkpoint = interrupted(tmp_path, 8, callback(layers="conv1"))
    message = "the layers are not those of this run so far, conv1: they are now conv2, head.*Restore it, or pass"
    with pytest.raises(ValueError, match=message):
        resumed(tmp_path, checkpoint, callback(layers=["conv2", "head"]))
    with said() as messages:
        resumed(tmp_path, checkpoint, again := callback(layers=["conv2", "head"], on_change="warn"))
    assert len(messages) == 1
    (change,) = again.history.facts.changes
    assert change.startswith("after epoch 2: the layers are not those of this run so far, conv1")
    assert Facts.from_json(again.history.facts.to_json()).changes == (change,)
    by_epoch = {epoch: {r.place for r in again.history if (r.epoch, r.quantity) == (epoch, "H_T")} for epoch in (2, 3)}
    assert by_epoch == {2: {"conv1"}, 3: {"conv2", "head"}}


def test_a_checkpoint_of_a_run_without_the_callback(tmp_path: Path) -> None:
    resumed(tmp_path, interrupted(tmp_path, 8), again := callback())
    assert [epoch for epoch, _ in moments(again)] == [3, 4]


def test_pictures_of_a_resumed_run_show_all_of_it(tmp_path: Path) -> None:
    """A picture over layers that come and go must not fail either."""
    checkpoint = interrupted(tmp_path, 8, callback(layers="conv1", **drawing()))
    with said():
        resumed(tmp_path, checkpoint, callback(layers="conv2", on_change="warn", **drawing()))
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


# ---------------------------------------------------------------------------------------- more than one call of it


def test_fit_called_twice_goes_on(tmp_path: Path) -> None:
    fit(tmp_path / "whole", whole := callback(), max_epochs=4)
    measured = callback()
    run = trainer(tmp_path / "parts", measured)
    torch.manual_seed(0)
    model = TinyCNN()
    for epochs in (2, 4):
        run.fit_loop.max_epochs = epochs
        run.fit(model, loader(), loader(images(seed=1)))
    assert moments(measured) == moments(whole) == [(0, 0), (1, 3), (2, 7), (3, 11), (4, 15)]
    begun = [row for row in whole.history if row.epoch <= 2]  # then the second call makes an optimizer of its own
    assert measured.history[: len(begun)] == begun
    assert measured.markov_pairs == whole.markov_pairs
    assert History.load(tmp_path / "parts" / "infoplane.csv") == measured.history


def test_fit_called_twice_with_a_frozen_bandwidth_keeps_it(tmp_path: Path) -> None:
    measured = callback(**estimator(bandwidth=MedianDistance(freeze=True)))
    run = trainer(tmp_path, measured, max_epochs=1)
    model = TinyCNN()
    run.fit(model, loader(), loader())
    run.fit_loop.max_epochs = 2
    run.fit(model, loader(), loader())
    for layer in ("conv1", "conv2"):
        sigmas = {row.value for row in measured.history if (row.place, row.quantity) == (layer, "bandwidth")}
        assert len(sigmas) == 1


class Finished(TinyCNN):
    """Can be tested and asked for predictions."""

    def test_step(self, batch: Any, batch_idx: int) -> None:
        self.validation_step(batch, batch_idx)

    def predict_step(self, batch: Any, batch_idx: int) -> Tensor:
        return self(batch[0])


@pytest.mark.parametrize("verb", ["test", "validate", "predict"])
def test_a_checkpoint_that_is_only_looked_at_does_not_replace_the_history(tmp_path: Path, verb: str) -> None:
    """The best checkpoint is tested after a run whose history goes further."""

    measured = callback()
    run = fit(tmp_path, measured, keeper(tmp_path), model=Finished, max_epochs=4)
    before, state, table = list(measured.history), measured.state_dict(), (tmp_path / "infoplane.csv").read_bytes()
    assert moments(measured)[-1] == (4, 15)
    quiet = {} if verb == "predict" else {"verbose": False}
    getattr(run, verb)(Finished(), loader(), ckpt_path=tmp_path / "kept" / "step=4.ckpt", **quiet)
    assert list(measured.history) == before
    assert_same(measured.state_dict(), state)
    assert (tmp_path / "infoplane.csv").read_bytes() == table


def test_after_a_test_of_a_checkpoint_the_run_goes_on_where_it_was(tmp_path: Path) -> None:
    measured, model = callback(), Finished()
    run = fit(tmp_path, measured, keeper(tmp_path), model=model, max_epochs=2)
    run.test(model, loader(), ckpt_path=tmp_path / "kept" / "step=4.ckpt", verbose=False)
    run.fit_loop.max_epochs = 3
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Checkpoint directory .* exists and is not empty")
        run.fit(model, loader(), loader(images(seed=1)))
    assert moments(measured) == [(0, 0), (1, 3), (2, 7), (3, 11)]


def test_a_checkpoint_that_is_only_tested_is_no_run_that_goes_on(tmp_path: Path) -> None:
    """A new program tests a checkpoint, then trains from scratch."""
    checkpoint = interrupted(tmp_path, 8, callback())

    measured = callback()
    run = trainer(tmp_path, measured, keeper(tmp_path))
    run.test(Finished(), loader(), ckpt_path=checkpoint, verbose=False)
    assert list(measured.history) == []
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Checkpoint directory .* exists and is not empty")
        run.fit(Finished(), loader(), loader(images(seed=1)))
    assert moments(measured) == [(0, 0), (1, 3), (2, 7)]


def test_the_history_is_there_before_a_resumed_run_begins(tmp_path: Path) -> None:
    """Between load_state_dict and on_train_start: for callbacks that look at it."""
    checkpoint = interrupted(tmp_path, 8, first := callback())
    found: list[list[Any]] = []

    class Looks(lp.Callback):
        def on_sanity_check_start(self, trainer: lp.Trainer, pl_module: lp.LightningModule) -> None:
            found.append(list(again.history))

    again = callback()
    resumed(tmp_path, checkpoint, Looks(), again)
    assert found == [[row for row in first.history if row.epoch <= 2]]


# ------------------------------------------------------------------------------------- runs that end, or are refused


def test_a_callback_can_be_pickled_after_a_fit_and_keeps_its_history(tmp_path: Path) -> None:
    measured = callback()
    fit(tmp_path, measured, max_epochs=1)
    assert pickle.loads(pickle.dumps(measured)).history == measured.history
    assert copy.deepcopy(measured).history == measured.history


def refused_resume(tmp_path: Path) -> MatrixRenyiCallback:
    """A callback that would not go on with another probe than its checkpoint's."""
    first = callback(probe=16)
    done = fit(tmp_path, first, max_epochs=1)
    done.save_checkpoint(tmp_path / "one.ckpt")
    other = callback(probe=20)
    with pytest.raises(ValueError, match="the probe is not the one this run was measured on so far"):
        fit(tmp_path, other, checkpoint=tmp_path / "one.ckpt")
    assert other.history == first.history
    return other


def test_a_refused_resume_keeps_the_history_of_the_checkpoint(tmp_path: Path) -> None:
    refused = refused_resume(tmp_path)
    assert len(History.from_state(refused.state_dict()["plane"]["history"])) == len(refused.history) > 0


def test_a_fresh_run_after_a_refused_resume_begins_anew(tmp_path: Path) -> None:
    refused = refused_resume(tmp_path)
    fit(tmp_path, refused, max_epochs=1)
    assert moments(refused) == [(0, 0), (1, 3)]


def test_a_fresh_run_after_a_second_fit_that_failed_begins_anew(tmp_path: Path) -> None:
    measured = callback()
    run = trainer(tmp_path, measured, max_epochs=1)
    run.fit(TinyCNN(), loader(), loader())
    run.fit_loop.max_epochs = 2
    with pytest.raises(ValueError, match="probe=32, but the data set has 16 samples"):
        run.fit(TinyCNN(), loader(), loader(images(16)))
    fit(tmp_path, measured, max_epochs=1)
    assert moments(measured) == [(0, 0), (1, 3)]


def test_a_state_loaded_by_hand_is_gone_on_from(tmp_path: Path) -> None:
    first = callback()
    fit(tmp_path, first, max_epochs=1)
    other = callback()
    trainer(tmp_path, other).validate(TinyCNN(), loader(), verbose=False)
    other.load_state_dict(first.state_dict())
    assert other.history == first.history
    other.load_state_dict({})  # of a run without measurements: nothing to go on from
    assert other.history == first.history
    fit(tmp_path, other, max_epochs=1)
    assert moments(other) == [(0, 0), (1, 3)] * 2
