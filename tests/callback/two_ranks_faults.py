"""Runs of two processes in which one fails, started by test_faults.py: ``python two_ranks_faults.py FOLDER KIND,...``.

Every kind of failure happens on rank 0, then on rank 1. Each rank writes how each run ended as JSON.
"""

import faulthandler
import json
import sys
import traceback
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import lightning.pytorch as lp
import torch
from lightning.pytorch.loggers import CSVLogger
from networks import QUIET, TinyCNN, callback, estimator, images, loader
from torch import Tensor, nn
from torch.utils.data import Dataset

from lightning_infoplane import (
    Bandwidth,
    Draw,
    Eigenvalues,
    ErrorSignals,
    MedianDistance,
    Outputs,
    Redundancy,
    Schedule,
    Solver,
)
from lightning_infoplane.measurement import measurement
from lightning_infoplane.trainer import outputs
from lightning_infoplane.views.panels import Picture

SECONDS = 60  # a run takes one or two; one that hangs ends here, with the line it hangs at
RANK = 0  # on which it fails; set for each run


def ill_here() -> bool:
    """Whether this process is the one that fails."""
    return torch.distributed.is_initialized() and torch.distributed.get_rank() == RANK


def ill(error: type[BaseException] = RuntimeError) -> None:
    if ill_here():
        raise error("ill on purpose")


def asked_by(name: str) -> bool:
    """Whether a function is being executed: what Lightning or the training asks for does not fail."""
    return any(frame.name == name for frame in traceback.extract_stack())


@dataclass(frozen=True)
class FailingSolver(Solver):
    """Raises what no solver should."""

    error: type[BaseException] = TypeError

    def __call__(self, gram: Tensor, alpha: float) -> Tensor:
        ill(self.error)
        return Eigenvalues()(gram, alpha)


@dataclass(frozen=True)
class FailingRule(Bandwidth):
    """Fails when layers are reduced: the input has one map."""

    def bandwidths(self, maps: Tensor, target: Tensor | None, previous: Tensor | None) -> Tensor:
        if maps.shape[-2] > 1:
            ill(ZeroDivisionError)
        return MedianDistance().bandwidths(maps, target, previous)


@dataclass(frozen=True)
class FailingSchedule(Schedule):
    def __call__(self, finished: int, last: int | None) -> bool:
        ill(KeyError)
        return True


@dataclass(frozen=True)
class FailingSteps(FailingSchedule):
    counts_steps = True


class FailsInForward(TinyCNN):
    def forward(self, x: Tensor) -> Tensor:
        if not self.training and len(x) == 32:
            ill(NotImplementedError)
        return super().forward(x)


class FailsForFew(TinyCNN):
    def forward(self, x: Tensor) -> Tensor:
        if not self.training and len(x) < 16:
            ill(IndexError)
        return super().forward(x)


class CallsOneMore(TinyCNN):
    """Layer drop: another layer on one of the ranks."""

    def build(self) -> None:
        super().build()
        self.extra = nn.Conv2d(4, 4, 1).requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        if not self.training and ill_here():
            self.extra(self.conv1(x))
        return super().forward(x)


class OtherWidth(TinyCNN):
    """A layer that puts out other shapes on one of the ranks, and another type of numbers."""

    def build(self) -> None:
        super().build()
        self.side = nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        self.side(x.flatten(1)[:, :3].double() if ill_here() else x)
        return super().forward(x)


class FailsInTransfer(TinyCNN):
    def on_before_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        if len(batch[0]) == 32:
            ill(AttributeError)
        return batch


class FailingImages(Dataset[Any]):
    """Fails where a probe is drawn, not where one trains."""

    def __len__(self) -> int:
        return 64

    def __getitem__(self, index: int) -> Any:
        if asked_by("draw_batch"):
            ill(OSError)
        return images()[index]


class FailingLogger(CSVLogger):
    def log_metrics(self, metrics: Any, step: int | None = None) -> None:
        if step == 0 and any("AMI" in key for key in metrics):  # later ones are Lightning's own calls
            ill(ConnectionError)
        super().log_metrics(metrics, step)


class NamelessLogger(CSVLogger):
    @property
    def log_dir(self) -> str:
        if asked_by("run_folder"):
            ill(PermissionError)
        return super().log_dir


def failing_loss(outputs: Tensor, targets: Tensor) -> Tensor:
    ill(AssertionError)
    return nn.functional.cross_entropy(outputs, targets)


def failing(*_: object, **__: object) -> Any:
    ill(MemoryError)


def with_failure(work: Callable[..., Any]) -> Callable[..., Any]:
    """The function, which fails before it does anything."""

    def fails(*given: Any, **named: Any) -> Any:
        failing()
        return work(*given, **named)

    return fails


# What a run is made of: the callback's options, the model, the logger, the validation data, what is patched.
Run = dict[str, Any]
KINDS: dict[str, Callable[[Path], Run]] = {
    "solver, TypeError": lambda root: {"options": estimator(solver=FailingSolver())},
    "solver, MemoryError": lambda root: {"options": estimator(solver=FailingSolver(MemoryError))},
    "solver, Warning": lambda root: {"options": estimator(solver=FailingSolver(UserWarning))},
    "reduction": lambda root: {"options": estimator(bandwidth=FailingRule())},
    "redundancy": lambda root: {
        "options": {"redundancy": Redundancy()},
        "patch": (measurement, "layer_redundancy", with_failure(measurement.layer_redundancy)),
    },
    "forward": lambda root: {"model": FailsInForward},
    "chains": lambda root: {"model": FailsForFew},
    "one layer more": lambda root: {"model": CallsOneMore},
    "a layer of another shape": lambda root: {"model": OtherWidth, "options": {"layers": ["conv", "side"]}},
    "transfer of the probe": lambda root: {"model": FailsInTransfer},
    "data set": lambda root: {"val": FailingImages(), "options": {"probe": Draw(32)}},
    "schedule": lambda root: {"options": {"schedule": FailingSchedule()}},
    "schedule of steps": lambda root: {"options": {"schedule": FailingSteps()}},
    "error signals": lambda root: {"options": {"error_signals": ErrorSignals(failing_loss)}},
    "columns": lambda root: {"patch": (measurement, "columns", with_failure(measurement.columns))},
    "table": lambda root: {"patch": (outputs.Writer, "write", with_failure(outputs.Writer.write))},
    "logger": lambda root: {"logger": FailingLogger(root)},
    "logger without a folder": lambda root: {"logger": NamelessLogger(root)},
    "picture": lambda root: {
        "options": {"outputs": Outputs(figures=True)},
        "patch": (Picture, "figure", with_failure(Picture.figure)),
    },
    "progress": lambda root: {
        "options": {"outputs": Outputs(figures=False, prog_bar=True)},
        "patch": (outputs, "tqdm", failing),
    },
}


def main(kind: str, rank: int, root: Path) -> None:
    """Train for two epochs, with one kind of failure on one rank."""
    global RANK
    RANK = rank
    run = KINDS[kind](root)
    target, name, substitute = run.get("patch", (sys, "_nothing", None))
    measured = callback(raise_on_error=False, **run.get("options", {}))
    trainer = lp.Trainer(
        **QUIET,
        callbacks=[measured],
        devices=2,
        strategy="ddp",
        max_epochs=2,
        default_root_dir=root,
        logger=run.get("logger", False),
        enable_checkpointing=False,
        num_sanity_val_steps=0,
        limit_val_batches=1,
    )
    torch.manual_seed(0)
    network = run.get("model", TinyCNN)()
    faulthandler.dump_traceback_later(SECONDS, exit=True)
    with warnings.catch_warnings(record=True) as caught, patch.object(target, name, substitute, create=True):
        warnings.simplefilter("always")
        trainer.fit(network, loader(), loader(run.get("val", images(seed=1))))
    faulthandler.cancel_dump_traceback_later()
    report = {
        "finished": trainer.state.finished,
        "epochs": trainer.current_epoch,
        "moments": sorted({(row.epoch, row.step) for row in measured.history}),
        "places": sorted({str(row.place) for row in measured.history if row.quantity == "H_T"}),
        "told": [str(one.message) for one in caught if "MatrixRenyiCallback" in str(one.message)],
        "weights": sum(float(p.detach().double().sum()) for p in network.parameters()),
    }
    (root / f"rank{trainer.global_rank}.json").write_text(json.dumps(report))


if __name__ == "__main__":
    torch.set_num_threads(1)
    for number, one in enumerate(KINDS if sys.argv[2] == "all" else sys.argv[2].split(";")):
        for ill_rank in (0, 1):
            folder = Path(sys.argv[1]) / f"{number}-{ill_rank}"
            folder.mkdir(exist_ok=True, parents=True)
            main(one, ill_rank, folder)
