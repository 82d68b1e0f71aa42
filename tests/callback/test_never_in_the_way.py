"""Nothing of ours ends a run, or changes what it logs; what was measured is where the user looks for it."""

import gc
import logging
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning.pytorch as lp
import pytest
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger
from matplotlib.figure import Figure
from networks import TinyCNN, callback, drawing, fit, hooks_on, images, loader, moments, said, trainer
from torch import Tensor, nn

from lightning_infoplane import AtEpochs, Draw, Probe, Schedule
from lightning_infoplane.views.panels import Picture

NOTHING = "NOTHING WAS MEASURED in this run: "


# ------------------------------------------------------------------------------------------ every other place fails


@dataclass(frozen=True)
class Raises(Schedule):
    """A rule with a mistake in it."""

    def __call__(self, finished: int, last: int | None) -> bool:
        raise IndexError(f"no entry for epoch {finished}")


@dataclass(frozen=True)
class RaisesAtSteps(Raises):
    counts_steps = True


@pytest.mark.parametrize("schedule", [Raises(), RaisesAtSteps()], ids=["epochs", "steps"])
def test_a_schedule_that_raises_is_a_warning_told_once(tmp_path: Path, schedule: Schedule) -> None:
    with said() as messages:
        done = fit(tmp_path, measured := callback(schedule=schedule, raise_on_error=False))
    assert done.current_epoch == 2
    assert len(messages) == 1
    assert messages[0].startswith("the schedule failed and training goes on. IndexError: no entry for epoch 1")
    assert moments(measured) == [(0, 0)]


def test_a_schedule_that_raises_ends_the_run_if_wanted(tmp_path: Path) -> None:
    with pytest.raises(IndexError, match="no entry for epoch 1"):
        fit(tmp_path, callback(schedule=Raises(), raise_on_error=True))


class Gone(CSVLogger):
    """A server that answers Lightning, and nobody else."""

    gone: str = ""

    def _ours(self, what: str) -> None:
        if what == self.gone:
            raise ConnectionError("the server is gone")

    @property
    def log_dir(self) -> str:
        import traceback

        if any(frame.name == "run_folder" for frame in traceback.extract_stack()):
            self._ours("log_dir")
        return super().log_dir

    def log_metrics(self, metrics: Any, step: int | None = None) -> None:
        if step == 0 and "H_X" in metrics:
            self._ours("log_metrics")
        super().log_metrics(metrics, step)


@pytest.mark.parametrize(("gone", "what"), [("log_dir", "writing"), ("log_metrics", "logging")])
def test_a_logger_that_raises_is_a_warning(tmp_path: Path, gone: str, what: str) -> None:
    logger = Gone(tmp_path)
    logger.gone = gone
    with said() as messages:
        done = fit(tmp_path, measured := callback(raise_on_error=False), logger=logger)
    assert done.current_epoch == 2
    assert len(moments(measured)) == 3
    assert messages == [
        f"{what} failed and training goes on. ConnectionError: the server is gone "
        "(raise_on_error=True ends the run instead.)"
    ]


def test_a_picture_that_fails_is_a_warning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object, **__: object) -> None:
        raise MemoryError("no room for a picture")

    monkeypatch.setattr(Picture, "figure", fails)
    with said() as messages:
        fit(tmp_path, measured := callback(**drawing(), raise_on_error=False))
    assert [message.split(" (")[0] for message in messages] == [
        "writing failed and training goes on. MemoryError: no room for a picture"
    ]
    assert len(moments(measured)) == 3
    assert (tmp_path / "infoplane.csv").exists()


class SharedTransfer(TinyCNN):
    """A transfer hook that knows batches of sixteen only."""

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        if len(batch[0]) != 16:
            raise KeyError("weights")
        return batch


def test_a_probe_that_cannot_be_moved_is_a_warning_and_said_loudly_at_the_end(tmp_path: Path) -> None:
    with said() as messages:
        done = fit(tmp_path, measured := callback(raise_on_error=False), model=SharedTransfer)
    assert done.current_epoch == 2
    assert messages == [
        "making ready to measure failed and training goes on. KeyError: 'weights' "
        "(raise_on_error=True ends the run instead.)",
        f"{NOTHING}it could not be made ready.",
    ]
    assert measured.history == []
    assert measured.markov_pairs == []


def test_a_network_of_another_signature_is_a_warning(tmp_path: Path) -> None:
    class Pair(TinyCNN):
        def forward(self, x: Tensor, mask: Tensor) -> Tensor:
            return super().forward(x * mask)

        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            return nn.functional.cross_entropy(self(batch[0], batch[0].new_ones(())), batch[1])

        def validation_step(self, batch: Any, batch_idx: int) -> None:
            pass

    with said() as messages:
        done = fit(tmp_path, callback(raise_on_error=False), model=Pair)
    assert done.current_epoch == 2
    assert "Pass forward_fn=lambda module, inputs: module(inputs['x'], inputs['x'].new_ones(()))." in messages[0]
    assert messages[-1] == f"{NOTHING}no measurement succeeded."
    assert len(messages) == 2


def test_a_run_of_which_no_moment_was_to_be_measured_says_so(tmp_path: Path) -> None:
    with said() as messages:
        fit(tmp_path, callback(schedule=AtEpochs([50]), measure_at_start=False))
    assert messages == [f"{NOTHING}schedule=AtEpochs(epochs=[50]) chose no moment of it."]


def test_a_long_reason_is_cut(tmp_path: Path) -> None:
    def fails(network: nn.Module, inputs: Tensor) -> None:
        raise RuntimeError(f"{network} {'many words ' * 500}")

    with said() as messages:
        fit(tmp_path, callback(forward_fn=fails, raise_on_error=False))
    assert all(len(message) < 600 for message in messages)


@pytest.mark.warnings_in_the_log
def test_warnings_that_the_user_makes_errors_end_no_run(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """They are told all the same."""
    run = trainer(tmp_path, measured := callback(schedule=Raises(), raise_on_error=False))
    with warnings.catch_warnings(), caplog.at_level(logging.WARNING):
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", module="lightning")
        warnings.filterwarnings("ignore", module="torch")
        warnings.filterwarnings("error", message="MatrixRenyiCallback")
        run.fit(TinyCNN(), loader(), loader(images(seed=1)))
    assert run.current_epoch == 2
    assert moments(measured) == [(0, 0)]
    assert "the schedule failed and training goes on. IndexError: no entry for epoch 1" in caplog.text


# ---------------------------------------------------------------------------------------------- what a run logs


class LogsInForward(TinyCNN):
    """Logs a norm of its activations whenever it is called."""

    def forward(self, x: Tensor) -> Tensor:
        out = super().forward(x)
        self.log("norm", out.norm(), on_step=False, on_epoch=True)
        self.log_dict({"mean": out.mean()}, on_step=False, on_epoch=True)
        return out


def test_what_a_network_logs_in_forward_is_not_logged_of_the_probe(tmp_path: Path) -> None:
    alone = fit(tmp_path / "alone", model=LogsInForward, logger=CSVLogger(tmp_path / "alone"))
    done = fit(tmp_path / "with", callback(), model=LogsInForward, logger=CSVLogger(tmp_path / "with"))
    for key in ("norm", "mean"):
        assert done.callback_metrics[key] == alone.callback_metrics[key]
    assert not {"log", "log_dict"} & set(done.lightning_module.__dict__)


# ------------------------------------------------------------------------------------------------ what grows


class Watch(lp.Callback):
    """What there is at the beginning of each epoch."""

    def __init__(self) -> None:
        self.seen: list[tuple[int, int, int]] = []

    def on_train_epoch_start(self, trainer: lp.Trainer, pl_module: lp.LightningModule) -> None:
        gc.collect()
        tensors = sum(issubclass(type(one), Tensor) for one in gc.get_objects())
        figures = sum(issubclass(type(one), Figure) for one in gc.get_objects())
        self.seen.append((hooks_on(pl_module), tensors, figures))


def test_hooks_tensors_and_figures_are_as_many_after_every_epoch(tmp_path: Path) -> None:
    """With pictures and a checkpoint at each; the first ones fill caches."""
    watch = Watch()
    keeper = ModelCheckpoint(tmp_path / "kept", save_last=True)
    fit(tmp_path, callback(**drawing()), keeper, watch, max_epochs=12, logger=CSVLogger(tmp_path))
    hooks, _, _ = watch.seen[0]
    assert {seen[0] for seen in watch.seen} == {hooks}
    assert len(set(watch.seen[4:])) == 1


# ------------------------------------------------------------------------------------- the history where one looks


class LogsNothing(TinyCNN):
    logs = False


@pytest.mark.parametrize("strategy", ["ddp_fork", "ddp_spawn"])
def test_the_history_of_launched_processes_is_in_the_launching_one(tmp_path: Path, strategy: str) -> None:
    probe = Probe(*images(32).tensors)
    fit(tmp_path, alone := callback(probe=probe), model=LogsNothing)
    measured = callback(probe=probe)
    assert measured.history == []
    launch = {"model": LogsNothing, "strategy": strategy, "devices": 1, "use_distributed_sampler": False}
    fit(tmp_path, measured, **launch)
    assert [row[:-1] for row in measured.history] == [row[:-1] for row in alone.history]
    for found, expected in zip(measured.history, alone.history, strict=True):  # DDP adds gradients in another order
        assert found.value == pytest.approx(expected.value, abs=1e-3)
    assert measured.history.facts == alone.history.facts
    assert measured.markov_pairs == alone.markov_pairs
    fit(tmp_path, measured, **launch, max_epochs=1)
    assert moments(measured) == [(0, 0), (1, 3)]


def test_two_trainers_with_one_callback_have_the_rows_of_the_last(tmp_path: Path) -> None:
    measured = callback(probe=Draw(32))
    fit(tmp_path / "a", measured)
    fit(tmp_path / "b", measured, max_epochs=1)
    assert moments(measured) == [(0, 0), (1, 3)]
