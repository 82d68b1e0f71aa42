"""What grows over a long run: memory, hooks, open files, tensors that are alive; pictures and checkpoints included.

    python benchmarks/endurance.py           # 300 epochs with pictures at each, about five minutes
    python benchmarks/endurance.py 50        # of so many epochs

One line every tenth of the run. Writes benchmarks/results/endurance.json.
"""

import gc
import os
import sys
import tempfile
from pathlib import Path

import lightning.pytorch as lp
import torch
from common import write
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import TensorBoardLogger
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from lightning_infoplane import MatrixRenyiCallback, Outputs


class Net(lp.LightningModule):
    """Two convolutions, batch norm and a head."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            *(nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(inplace=True)),
            *(nn.Conv2d(8, 8, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(512, 4)),
        )

    def training_step(self, batch: list[torch.Tensor], batch_idx: int) -> torch.Tensor:
        """Cross entropy."""
        return nn.functional.cross_entropy(self.layers(batch[0]), batch[1])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Scores."""
        scores: torch.Tensor = self.layers(x)
        return scores

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Plain gradient descent."""
        return torch.optim.SGD(self.parameters(), lr=0.01)


class Watch(lp.Callback):
    """Notes what there is, every few epochs."""

    def __init__(self, every: int) -> None:
        self.every = every
        self.seen: list[dict[str, float]] = []

    def on_train_epoch_start(self, trainer: lp.Trainer, pl_module: lp.LightningModule) -> None:
        """After what the epoch before has left."""
        if trainer.current_epoch % self.every:
            return
        gc.collect()
        now = {
            "epoch": trainer.current_epoch,
            "resident_MB": resident_mb(),
            "hooks": sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in pl_module.modules()),
            "open_files": len(os.listdir("/proc/self/fd")),
            "tensors": sum(isinstance(one, torch.Tensor) for one in gc.get_objects()),
        }
        self.seen.append(now)
        print("  ".join(f"{name} {value:g}" for name, value in now.items()), flush=True)


def resident_mb() -> float:
    """Of this process, now."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return round(pages * os.sysconf("SC_PAGE_SIZE") / 1e6, 1)


def main(epochs: int) -> None:
    """A run with everything on."""
    torch.set_num_threads(1)
    labels = torch.arange(256) % 4
    images = torch.randn(4, 1, 8, 8, generator=torch.Generator().manual_seed(0))[labels] + 0.5 * torch.randn(
        256, 1, 8, 8
    )
    data = DataLoader(TensorDataset(images, labels), 64)
    watch = Watch(max(1, epochs // 10))
    measured = MatrixRenyiCallback(probe=128, outputs=Outputs(figures=True, log="all"), raise_on_error=True)
    with tempfile.TemporaryDirectory() as folder:
        trainer = lp.Trainer(
            accelerator="cpu",
            max_epochs=epochs,
            logger=TensorBoardLogger(folder),
            callbacks=[measured, ModelCheckpoint(folder, save_last=True), watch],
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        trainer.fit(Net(), data, data)
    write("endurance", {"rows": len(measured.history), "seen": watch.seen}, epochs=epochs)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 300)
