"""What the callback costs a training run: LeNet-5 on 60,000 images of 28×28, VGG-16 on 50,000 of 32×32.

    python benchmarks/overhead.py

Batch 64, probe of 512, one measurement an epoch with the default arguments, with and without figures; one thread. The
images are noise: only the time matters. LeNet-5 trains whole epochs twice over: as people do, with Adam, loss and
accuracy logged and 10,000 validation images, and in a bare loop, SGD and nothing else, the fastest that Lightning has.
An epoch of VGG-16, bare too, is extrapolated from the time of 20 batches, as it takes a CPU a quarter of an hour.
Writes benchmarks/results/overhead.json.
"""

import statistics
import tempfile

import lightning as L
import torch
from common import seconds, write
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from lightning_infoplane import Draw, MatrixRenyiCallback, Outputs

EPOCHS, BATCH, TIMED_BATCHES = 3, 64, 20


class Bare(L.LightningModule):
    """Any network, cross-entropy, SGD."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor) -> Tensor:
        """Images to class scores."""
        scores: Tensor = self.net(x)
        return scores

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        """Cross-entropy."""
        return nn.functional.cross_entropy(self(batch[0]), batch[1])

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Plain SGD."""
        return torch.optim.SGD(self.parameters(), lr=0.01)


class Usual(Bare):
    """With what a run is watched by, and Adam."""

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        """Cross-entropy, logged."""
        loss = super().training_step(batch, batch_idx)
        self.log("train_loss", loss)
        return loss

    def validation_step(self, batch: list[Tensor], batch_idx: int) -> None:
        """Cross-entropy and accuracy, logged."""
        scores = self(batch[0])
        self.log("val_loss", nn.functional.cross_entropy(scores, batch[1]))
        self.log("val_accuracy", (scores.argmax(1) == batch[1]).float().mean())

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Adam."""
        return torch.optim.Adam(self.parameters(), lr=1e-3)


def lenet5() -> nn.Module:
    """Two convolutions, three linear layers."""
    return nn.Sequential(
        *(nn.Conv2d(1, 6, 5, padding=2), nn.Tanh(), nn.AvgPool2d(2), nn.Conv2d(6, 16, 5), nn.Tanh(), nn.AvgPool2d(2)),
        *(nn.Flatten(), nn.Linear(400, 120), nn.Tanh(), nn.Linear(120, 84), nn.Tanh(), nn.Linear(84, 10)),
    )


def vgg16() -> nn.Module:
    """Thirteen convolutions with batch norm."""
    layers: list[nn.Module] = []
    before = 3
    for widths in ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512)):
        for width in widths:
            layers += [nn.Conv2d(before, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU(inplace=True)]
            before = width
        layers.append(nn.MaxPool2d(2))
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(512, 10))


def train(
    module: L.LightningModule, data: TensorDataset, validation: TensorDataset | None, epochs: int, figures: bool
) -> tuple[float, float]:
    """Seconds of training an epoch, and of a measurement, the first of which warms up."""
    spent: list[float] = []

    class Timed(MatrixRenyiCallback):
        def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
            spent.append(seconds(lambda: MatrixRenyiCallback.on_train_epoch_end(self, trainer, pl_module)))

    probe = Draw(source="train" if validation is None else "val")
    with tempfile.TemporaryDirectory() as folder:
        trainer = L.Trainer(
            max_epochs=epochs,
            callbacks=[Timed(probe=probe, outputs=Outputs(figures=figures))],
            default_root_dir=folder,
            accelerator="cpu",
            enable_progress_bar=False,
            enable_model_summary=False,
            enable_checkpointing=False,
        )
        loader = DataLoader(data, BATCH, shuffle=True, drop_last=True)
        held_out = None if validation is None else DataLoader(validation, BATCH)
        total = seconds(lambda: trainer.fit(module, loader, held_out))
    return (total - sum(spent)) / epochs, statistics.median(spent)


def noise(images: int, *shape: int) -> TensorDataset:
    """Images and labels."""
    return TensorDataset(torch.randn(images, *shape), torch.arange(images) % 10)


def main() -> None:
    """Run, print and write."""
    torch.set_num_threads(1)
    L.seed_everything(0, verbose=False)
    found: dict[str, object] = {}
    fashion, validation = noise(60_000, 1, 28, 28), noise(10_000, 1, 28, 28)
    cifar, scale_up = noise(BATCH * TIMED_BATCHES, 3, 32, 32), 50_000 / (BATCH * TIMED_BATCHES)
    cases = {
        "LeNet-5": (Usual, lenet5, fashion, validation, EPOCHS, 1.0),
        "LeNet-5, bare loop": (Bare, lenet5, fashion, None, EPOCHS, 1.0),
        "VGG-16, bare loop": (Bare, vgg16, cifar, None, 2, scale_up),
    }
    for name, (module, net, data, held_out, epochs, scale) in cases.items():
        for figures in (False, True):
            epoch, measurement = train(module(net()), data, held_out, epochs, figures)
            share = measurement / (epoch * scale)
            what = f"{name}, {'with' if figures else 'without'} figures"
            print(f"{what:36} epoch {epoch * scale:8.1f} s, measurement {measurement:6.3f} s: {share:.2%}")
            found[what] = {"epoch_s": epoch * scale, "measurement_s": measurement, "share": share}
    write("overhead", found)


if __name__ == "__main__":
    main()
