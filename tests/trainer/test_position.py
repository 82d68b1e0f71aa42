"""Where a Trainer stands, asked in the hooks in which the callback asks, of real Trainers of every kind."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lightning.pytorch as lp
import pytest
import pytorch_lightning as pl
import torch
from lightning.pytorch.loggers import CSVLogger
from networks import QUIET, Steps, TinyCNN, fit, images, loader
from torch.utils.data import IterableDataset

from lightning_infoplane.measurement.ranks import Ranks
from lightning_infoplane.trainer.position import (
    epoch_end_step,
    finished_epochs,
    last_epoch,
    last_step,
    ranks_of,
    stepped,
)

BATCHES = 4  # an epoch


class Asks(lp.Callback, pl.Callback):
    """Asks in each hook what may be asked there."""

    def __init__(self, stop_after: int | None = None) -> None:
        self.stop_after = stop_after
        self.planned: list[tuple[int | None, int | None]] = []
        self.steps: list[int | None] = []
        self.ends: list[tuple[int, int]] = []
        self.ranks: list[Ranks] = []

    def on_train_start(self, trainer: lp.Trainer, pl_module: lp.LightningModule) -> None:
        self.planned.append((last_epoch(trainer), last_step(trainer)))
        self.ranks.append(ranks_of(trainer))

    def on_train_batch_end(
        self, trainer: lp.Trainer, pl_module: lp.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self.steps.append(stepped(trainer))
        if self.stop_after is not None and len(self.steps) >= self.stop_after:
            trainer.should_stop = True

    def on_train_epoch_end(self, trainer: lp.Trainer, pl_module: lp.LightningModule) -> None:
        self.ends.append((finished_epochs(trainer), epoch_end_step(trainer)))


def asked(root: Path, asking: Asks | None = None, **options: Any) -> Asks:
    asking = asking or Asks()
    fit(root, asking, **options)
    return asking


# ----------------------------------------------------------------------------------------------- steps and epochs


@pytest.mark.parametrize(
    ("accumulate", "steps", "ends"),
    [
        (1, [0, 1, 2, 3, 4, 5, 6, 7], [(1, 3), (2, 7)]),
        (2, [None, 0, None, 1, None, 2, None, 3], [(1, 1), (2, 3)]),
        # The last batch of an epoch steps whatever is accumulated by then.
        (3, [None, None, 0, 1, None, None, 2, 3], [(1, 1), (2, 3)]),
        (4, [None, None, None, 0, None, None, None, 1], [(1, 0), (2, 1)]),
        (9, [None, None, None, 0, None, None, None, 1], [(1, 0), (2, 1)]),
    ],
)
def test_a_step_is_that_of_the_optimizer(
    tmp_path: Path, accumulate: int, steps: list[int | None], ends: list[tuple[int, int]]
) -> None:
    asking = asked(tmp_path, accumulate_grad_batches=accumulate)
    assert asking.steps == steps
    assert asking.ends == ends


class TwoOptimizers(TinyCNN):
    """Manual optimization; ``trainer.global_step`` counts both optimizers."""

    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False

    def training_step(self, batch: Any, batch_idx: int) -> None:
        for optimizer in self.optimizers():
            optimizer.zero_grad()
            self.manual_backward(super().training_step(batch, batch_idx))
            optimizer.step()

    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        return [torch.optim.SGD(part.parameters(), lr=0.05) for part in (self.conv1, self.head)]


def test_two_optimizers_make_one_step_together(tmp_path: Path) -> None:
    asking = asked(tmp_path, model=TwoOptimizers)
    assert asking.steps == list(range(8))
    assert asking.ends == [(1, 3), (2, 7)]


@pytest.mark.parametrize(("model", "accumulate"), [(TinyCNN, 1), (TinyCNN, 3), (TwoOptimizers, 1)])
def test_steps_are_those_at_which_lightning_itself_logs(
    tmp_path: Path, model: type[lp.LightningModule], accumulate: int
) -> None:
    asking = Asks()
    done = fit(
        tmp_path, asking, model=model, logger=CSVLogger(tmp_path), accumulate_grad_batches=accumulate, max_epochs=3
    )
    lines = (Path(done.log_dir) / "metrics.csv").read_text().splitlines()
    columns = lines[0].split(",")
    rows = [dict(zip(columns, line.split(","), strict=True)) for line in lines[1:]]
    by_step = [int(row["step"]) for row in rows if row["train_loss"]]
    by_epoch = [int(row["step"]) for row in rows if row["train_loss_epoch"]]
    assert sorted({step for step in asking.steps if step is not None}) == sorted(set(by_step))
    assert [step for _, step in asking.ends] == by_epoch


def test_a_run_that_ends_within_an_epoch_has_finished_it(tmp_path: Path) -> None:
    asking = asked(tmp_path, max_epochs=-1, max_steps=6)
    assert asking.steps == list(range(6))
    assert asking.ends == [(1, 3), (2, 5)]


def test_a_resumed_run_goes_on_counting(tmp_path: Path) -> None:
    first = fit(tmp_path, Asks())
    first.save_checkpoint(tmp_path / "saved.ckpt")
    asking = asked(tmp_path, checkpoint=tmp_path / "saved.ckpt", max_epochs=3)
    assert asking.steps == [8, 9, 10, 11]
    assert asking.ends == [(3, 11)]


# ------------------------------------------------------------------------------------------------- the planned end


class Stream(IterableDataset[Any]):
    """Images without a length."""

    def __iter__(self) -> Iterator[Any]:
        return iter([images()[i] for i in range(64)])


@pytest.mark.parametrize(
    ("options", "epoch", "step"),
    [
        ({"max_epochs": 3}, 3, 12),
        ({"max_epochs": 3, "accumulate_grad_batches": 3}, 3, 6),
        ({"max_epochs": 3, "limit_train_batches": 2}, 3, 6),
        ({"max_epochs": 3, "max_steps": 5}, 3, 5),
        ({"max_epochs": -1, "max_steps": 6}, None, 6),
        ({"max_epochs": -1}, None, None),
        ({"max_epochs": 3, "train": "stream"}, 3, None),
        ({"max_epochs": 3, "max_steps": 5, "train": "stream"}, 3, 5),
    ],
    ids=str,
)
def test_the_planned_end_is_known_where_there_is_one(
    tmp_path: Path, options: dict[str, Any], epoch: int | None, step: int | None
) -> None:
    if options.get("train") == "stream":
        options = options | {"train": loader(Stream())}
    asking = asked(tmp_path, Asks(stop_after=2), **options)
    assert asking.planned == [(epoch, step)]


def test_the_planned_end_is_reached(tmp_path: Path) -> None:
    asking = asked(tmp_path, max_epochs=3, accumulate_grad_batches=3)
    ((epoch, step),) = asking.planned
    assert asking.ends[-1] == (epoch, step - 1)  # steps are counted from 0


# --------------------------------------------------------------------------------------------------------- ranks


def test_a_process_that_trains_alone_does_everything(tmp_path: Path) -> None:
    (ranks,) = asked(tmp_path, max_epochs=1).ranks
    assert (ranks.rank, ranks.world_size) == (0, 1)
    assert ranks.first(torch.tensor(2.0)) == ranks.total(torch.tensor(2.0)) == 2


class OtherPackage(Steps, pl.LightningModule):
    """For `import pytorch_lightning`, which has private attributes of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.build()


def test_the_other_package_stands_at_the_same_place(tmp_path: Path) -> None:
    here, there = Asks(), Asks()
    options: dict[str, Any] = {"max_epochs": 2, "accumulate_grad_batches": 3}
    fit(tmp_path, here, **options)
    run = pl.Trainer(
        **QUIET,
        **options,
        callbacks=[there],
        logger=False,
        enable_checkpointing=False,
        default_root_dir=tmp_path,
    )
    run.fit(OtherPackage(), loader(), loader(images(seed=1)))
    assert (there.planned, there.steps, there.ends) == (here.planned, here.steps, here.ends)
