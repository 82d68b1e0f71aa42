"""First run: a small CNN on handwritten digits, with the callback added in one line.

    python examples/digits_cnn.py

The images are scikit-learn's ``load_digits`` (1797 real ones, inside the package): nothing is downloaded.
"""

import argparse
from pathlib import Path

import lightning as L
import torch
from matplotlib.figure import Figure
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset, random_split

from lightning_infoplane import MatrixRenyiCallback, plot_curves, plot_plane


class DigitsCNN(L.LightningModule):
    """Three convolutions, batch norm, dropout: as ordinary as it gets."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.norm1 = nn.Conv2d(1, 16, 3, padding=1), nn.BatchNorm2d(16)
        self.conv2, self.norm2 = nn.Conv2d(16, 32, 3, padding=1), nn.BatchNorm2d(32)
        self.conv3, self.norm3 = nn.Conv2d(32, 32, 3, padding=1), nn.BatchNorm2d(32)
        self.pool = nn.MaxPool2d(2)
        self.head = nn.Sequential(nn.Flatten(), nn.Dropout(0.3), nn.Linear(32 * 2 * 2, 10))

    def forward(self, x: Tensor) -> Tensor:
        """Images to class scores."""
        x = self.norm1(self.conv1(x)).relu()
        x = self.pool(self.norm2(self.conv2(x)).relu())
        x = self.pool(self.norm3(self.conv3(x)).relu())
        scores: Tensor = self.head(x)
        return scores

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        """Cross-entropy."""
        x, y = batch
        loss = nn.functional.cross_entropy(self(x), y)
        self.log("train_loss", loss)
        return loss

    def validation_step(self, batch: list[Tensor], batch_idx: int) -> None:
        """Accuracy."""
        x, y = batch
        self.log("val_accuracy", (self(x).argmax(1) == y).float().mean(), prog_bar=True)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """SGD, slow enough to watch."""
        return torch.optim.SGD(self.parameters(), lr=0.005, momentum=0.9)


def digits() -> tuple[TensorDataset, TensorDataset]:
    """Training and validation images, 8×8 pixels in [0, 1]."""
    images, labels = load_digits(return_X_y=True)
    data = TensorDataset(torch.tensor(images, dtype=torch.float32).reshape(-1, 1, 8, 8) / 16, torch.tensor(labels))
    train, val = random_split(data, [1197, 600], torch.Generator().manual_seed(0))
    return TensorDataset(*data[train.indices]), TensorDataset(*data[val.indices])


def main() -> None:
    """Train, then say what was seen and where to look."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--root", default="runs/digits", help="where the logs go")
    options = parser.parse_args()
    torch.set_num_threads(1)  # two threads on a busy two-core machine are slower, by far
    L.seed_everything(0)
    train, val = digits()

    callback = MatrixRenyiCallback(layers="conv", probe=512)
    trainer = L.Trainer(
        callbacks=[callback],
        max_epochs=options.epochs,
        default_root_dir=options.root,
        accelerator="cpu",
        log_every_n_steps=10,
    )
    trainer.fit(
        DigitsCNN(), DataLoader(train, batch_size=64, shuffle=True, drop_last=True), DataLoader(val, batch_size=200)
    )

    folder = Path(trainer.log_dir or options.root)
    figure = Figure(figsize=(11, 4.5), layout="constrained")
    left, right = figure.subplots(1, 2)
    plot_plane(callback.history, left)
    plot_curves(callback.history, "AMI_TY", right)
    figure.savefig(folder / "plane.png", dpi=120)
    value = {(row.epoch, row.place, row.quantity): row.value for row in callback.history}
    print("\nadjusted information, 0: chance, 1: a copy, ± one standard error, before training → at the end")
    print(f"{'layer':8}{'with the input':>34}{'with the label':>34}")
    for layer in ("conv1", "conv2", "conv3"):
        cells = [
            " → ".join(
                f"{value[epoch, layer, key]:.3f} ± {value[epoch, layer, f'{key}_stderr']:.3f}"
                for epoch in (0, options.epochs)
            )
            for key in ("AMI_XT", "AMI_TY")
        ]
        print(f"{layer:8}{cells[0]:>34}{cells[1]:>34}")
    print(f"\nEvent files, infoplane.csv and plane.png are in {folder}. To see the curves, type\n")
    print(f"    tensorboard --logdir {options.root}\n")


if __name__ == "__main__":
    main()
