"""Two networks in one module, with manual optimisation: what the critic of a GAN knows of real digits while it learns.

    python examples/gan.py

Half a minute on a CPU. The module's ``forward`` makes images of noise, so it cannot be called with the probe, images;
without ``forward_fn`` the callback says so before training, and what to paste. It is told here: the probe, real digits
from the validation data, goes to the discriminator alone. Y is which digit it is, which neither network is ever told.
"""

import argparse

import lightning as L
import torch
from digits_cnn import digits
from reading import change, read
from torch import Tensor, nn
from torch.utils.data import DataLoader

from lightning_infoplane import History, LogSpacedEpochs, MatrixRenyiCallback

NOISE = 16
LAYERS = ("conv1", "conv2", "conv3", "score")


class Discriminator(nn.Module):
    """Images to one number each: above zero for a real one."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 16, 3, padding=1)
        self.conv2 = nn.Conv2d(16, 32, 3, stride=2, padding=1)
        self.conv3 = nn.Conv2d(32, 32, 3, stride=2, padding=1)
        self.score = nn.Linear(32 * 2 * 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        """How real it looks."""
        for conv in (self.conv1, self.conv2, self.conv3):
            x = nn.functional.leaky_relu(conv(x), 0.2)
        score: Tensor = self.score(x.flatten(1))
        return score


class GAN(L.LightningModule):
    """Each network has an optimizer of its own, and the training step takes a step of both."""

    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.discriminator = Discriminator()
        self.generator = nn.Sequential(
            *(nn.Linear(NOISE, 32 * 2 * 2), nn.ReLU(), nn.Unflatten(1, (32, 2, 2))),
            *(nn.ConvTranspose2d(32, 16, 4, stride=2, padding=1), nn.BatchNorm2d(16), nn.ReLU()),
            *(nn.ConvTranspose2d(16, 1, 4, stride=2, padding=1), nn.Sigmoid()),
        )

    def forward(self, noise: Tensor) -> Tensor:
        """Noise to images."""
        images: Tensor = self.generator(noise)
        return images

    def made(self, count: int) -> Tensor:
        """So many images."""
        images: Tensor = self(torch.randn(count, NOISE, device=self.device))
        return images

    def training_step(self, batch: list[Tensor], batch_idx: int) -> None:
        """The discriminator tells real images from made ones, then the generator learns to pass for real."""
        real, _ = batch
        of_discriminator, of_generator = self.optimizers()  # type: ignore[attr-defined]  # a list: there are two
        made = self.made(len(real))
        loss = self.loss(real, 1) + self.loss(made.detach(), 0)
        of_discriminator.zero_grad()
        self.manual_backward(loss)
        of_discriminator.step()
        fooled = self.loss(made, 1)
        of_generator.zero_grad()
        self.manual_backward(fooled)
        of_generator.step()
        self.log_dict({"discriminator_loss": loss, "generator_loss": fooled})

    def loss(self, images: Tensor, is_real: float) -> Tensor:
        """How far the discriminator is from saying so."""
        scores = self.discriminator(images)
        return nn.functional.binary_cross_entropy_with_logits(scores, torch.full_like(scores, is_real))

    def validation_step(self, batch: list[Tensor], batch_idx: int) -> None:
        """How often the discriminator is right."""
        real, _ = batch
        right = [self.discriminator(real) > 0, self.discriminator(self.made(len(real))) <= 0]
        self.log("val_accuracy", torch.cat(right).float().mean(), prog_bar=True)

    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        """As is usual for GANs."""
        return [
            torch.optim.Adam(self.discriminator.parameters(), lr=5e-4, betas=(0.5, 0.999)),
            torch.optim.Adam(self.generator.parameters(), lr=2e-3, betas=(0.5, 0.999)),
        ]


def say(history: History, right: float) -> None:
    """What each layer of the discriminator shares with real digits and with their labels, from epoch to epoch."""
    last = max(history.epochs)
    for quantity, what in (("AMI_XT", "real images"), ("AMI_TY", "their labels, which it was never told")):
        known = read(history, quantity)
        print(f"\nadjusted information of the discriminator with {what}, ± one standard error")
        print("epoch" + "".join(f"{layer:>18}" for layer in LAYERS))
        for epoch in sorted(history.epochs):
            print(f"{epoch:5}" + "".join(f"{known[epoch, f'discriminator.{layer}']!s:>18}" for layer in LAYERS))
        for layer in LAYERS:
            print(f"{layer}: {change(*(known[epoch, f'discriminator.{layer}'] for epoch in (0, last)))}.")
    print(f"\nAt the end it takes {right:.0%} of images for what they are, real or made; 50% would be guessing.")


def main() -> None:
    """Train, then say what the discriminator knows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--root", default="runs/gan", help="where the logs go")
    options = parser.parse_args()
    torch.set_num_threads(1)
    L.seed_everything(0)
    train, val = digits()
    callback = MatrixRenyiCallback(
        "discriminator.*",
        schedule=LogSpacedEpochs(6),
        forward_fn=lambda module, inputs: module.discriminator(inputs),  # type: ignore[operator]
    )
    trainer = L.Trainer(
        callbacks=[callback],
        max_epochs=options.epochs,
        default_root_dir=options.root,
        accelerator="cpu",
        log_every_n_steps=10,
    )
    trainer.fit(GAN(), DataLoader(train, 64, shuffle=True, drop_last=True), DataLoader(val, 200))
    say(callback.history, float(trainer.callback_metrics["val_accuracy"]))


if __name__ == "__main__":
    main()
