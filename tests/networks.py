"""Small real networks, data and Trainers for the tests of the Lightning side. Everything takes milliseconds."""

import os
import subprocess
import sys
import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import EllipsisType
from typing import Any

import lightning.pytorch as lp
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, TensorDataset

from lightning_infoplane import Estimator, MatrixRenyiCallback, Outputs

CLASSES = 4
LAYERS = ("conv1", "conv2")

# Without these three a run of two epochs takes seconds and writes to the terminal.
QUIET: dict[str, Any] = {
    "accelerator": "cpu",
    "enable_progress_bar": False,
    "enable_model_summary": False,
    "log_every_n_steps": 1,
}


def images(n: int = 64, seed: int = 0, labels: bool = True) -> TensorDataset:
    """Four classes of noisy 8×8 images."""
    generator = torch.Generator().manual_seed(seed)
    prototypes = torch.randn(CLASSES, 1, 8, 8, generator=torch.Generator().manual_seed(99))
    classes = torch.arange(n) % CLASSES
    pictures = prototypes[classes] + 0.5 * torch.randn(n, 1, 8, 8, generator=generator)
    return TensorDataset(pictures, classes) if labels else TensorDataset(pictures)


def loader(data: Dataset[Any] | None = None, batch_size: int = 16, **options: Any) -> DataLoader[Any]:
    """Batches of :func:`images`, in order unless told otherwise."""
    return DataLoader(images() if data is None else data, batch_size, **options)


class Steps:
    """What a LightningModule does, without the class: it exists in `lightning` and in `pytorch_lightning`."""

    logs = True

    def build(self) -> None:
        self.conv1, self.conv2 = nn.Conv2d(1, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)
        self.head = nn.Linear(4 * 8 * 8, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.conv2(self.conv1(x).relu()).relu().flatten(1))

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        x, y = batch
        loss = nn.functional.cross_entropy(self(x), y)
        if self.logs:
            self.log("train_loss", loss)
            self.log("train_loss_epoch", loss, on_step=False, on_epoch=True)
        return loss

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        x, y = batch
        if self.logs:
            self.log("val_loss", nn.functional.cross_entropy(self(x), y))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.05, momentum=0.9)


class TinyCNN(Steps, lp.LightningModule):
    """Two convolutions and a linear head."""

    def __init__(self) -> None:
        super().__init__()
        self.build()


class TinyData(lp.LightningDataModule):
    """The same images for training and validation loops."""

    def train_dataloader(self) -> DataLoader[Any]:
        return loader()

    def val_dataloader(self) -> DataLoader[Any]:
        return loader(images(seed=1))


def callback(**options: Any) -> MatrixRenyiCallback:
    """The callback with a small probe, everything logged, without pictures, and with an error for every failure."""
    defaults = {"probe": 32, "outputs": Outputs(figures=False, log="all"), "raise_on_error": True}
    return MatrixRenyiCallback(**defaults | options)


def estimator(**options: Any) -> dict[str, Estimator]:
    """The callback's argument of that name: ``callback(**estimator(alpha=2))``."""
    return {"estimator": Estimator(**options)}


def drawing(**options: Any) -> dict[str, Outputs]:
    """The callback's outputs with a picture at every measurement: ``callback(**drawing())``."""
    return {"outputs": Outputs(**{"figures": True, "log": "all"} | options)}


def trainer(root: Path, *callbacks: lp.Callback, **options: Any) -> lp.Trainer:
    """A quiet Trainer of two epochs that writes nothing but what a test asks for."""
    return lp.Trainer(
        **QUIET
        | {"default_root_dir": root, "callbacks": list(callbacks), "max_epochs": 2, "logger": False}
        | {"enable_checkpointing": any(isinstance(one, lp.callbacks.ModelCheckpoint) for one in callbacks)}
        | options
    )


def fit(
    root: Path,
    *callbacks: lp.Callback,
    model: lp.LightningModule | type[lp.LightningModule] = TinyCNN,
    train: Iterable[Any] | None = None,
    val: Iterable[Any] | EllipsisType | None = ...,
    checkpoint: Path | None = None,
    **options: Any,
) -> lp.Trainer:
    """Train a seeded network on images of its own; the Trainer afterwards."""
    run = trainer(root, *callbacks, **options)
    torch.manual_seed(0)
    network = model() if isinstance(model, type) else model
    run.fit(
        network,
        loader() if train is None else train,
        loader(images(seed=1)) if val is ... else val,
        ckpt_path=checkpoint,
    )
    return run


def events(folder: Path | str | None) -> dict[str, list[tuple[int, float]]]:
    """Scalars of a run's TensorBoard event files: (step, value) by key."""
    accumulator = EventAccumulator(str(folder), size_guidance={"scalars": 0})
    accumulator.Reload()
    return {key: [(e.step, e.value) for e in accumulator.Scalars(key)] for key in accumulator.Tags()["scalars"]}


def series(measured: MatrixRenyiCallback, layer: str = "conv1", quantity: str = "I_XT") -> list[tuple[int, int, float]]:
    """(epoch, step, value) of one curve of the history."""
    return [(r.epoch, r.step, r.value) for r in measured.history if (r.place, r.quantity) == (layer, quantity)]


def moments(measured: MatrixRenyiCallback) -> list[tuple[int, int]]:
    """(epoch, step) of every measurement, repetitions included."""
    return [(row.epoch, row.step) for row in measured.history if row.quantity == "log2_n"]


@contextmanager
def said() -> Iterator[list[str]]:
    """Collect what the callback warns of, filled on leaving; warnings of others stay what they are."""
    messages: list[str] = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.filterwarnings("always", message="MatrixRenyiCallback: ")
        yield messages
    messages += [str(one.message).removeprefix("MatrixRenyiCallback: ") for one in caught]


def hooks_on(model: nn.Module) -> int:
    """Forward and backward hooks of all modules together."""
    return sum(len(hooks) for module in model.modules() for name, hooks in vars(module).items() if "_hooks" in name)


def assert_same(found: object, expected: object, what: str = "") -> None:
    """Equal to the last bit, tensors, arrays and NaN included."""
    if isinstance(expected, Mapping):
        assert isinstance(found, Mapping), what
        assert list(found) == list(expected), f"{what}: other keys"
        for key in expected:
            assert_same(found[key], expected[key], f"{what}[{key!r}]")
    elif isinstance(expected, list | tuple):
        assert isinstance(found, list | tuple), what
        assert len(found) == len(expected), f"{what}: {len(found)} instead of {len(expected)}"
        for index, (one, other) in enumerate(zip(found, expected, strict=True)):
            assert_same(one, other, f"{what}[{index}]")
    elif isinstance(expected, Tensor):
        assert isinstance(found, Tensor), what
        assert found.dtype == expected.dtype, what
        assert torch.equal(found, expected), f"{what}: other values"
    else:
        assert found == expected, f"{what}: {found!r} instead of {expected!r}"


def in_processes(script: Path, *arguments: str, seconds: float) -> str:
    """What a script that trains in processes of its own writes to the terminal; an error if it fails or hangs."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PL_")}
    done = subprocess.run(
        [sys.executable, str(script), *arguments],
        env=environment | {"PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1", "MASTER_ADDR": "127.0.0.1"},
        capture_output=True,
        text=True,
        timeout=seconds,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr
