"""A vision transformer on handwritten digits, read in two ways: by its class token, and by the mean of its tokens.

    python examples/vit_digits.py

Half a minute on a CPU. Two callbacks stand side by side, told apart by their names: each with its readout, its keys
(``cls/AMI_TY/blocks.0``), its table (infoplane-cls.csv) and its pictures. The mean is of all tokens, the class token
among them; before the first block it is that of the patches, wherever they are, and has little of the image. Neither
reading is a chain of layers, and no gaps are logged: a block hands on all of its tokens, and what a readout leaves out
goes around it. ``Tokens("each")``, the default, leaves nothing out.
"""

import argparse
from pathlib import Path

import lightning as L
import torch
from digits_cnn import DigitsCNN, digits
from matplotlib.figure import Figure
from reading import change, read
from torch import Tensor, nn
from torch.utils.data import DataLoader

from lightning_infoplane import History, LogSpacedEpochs, MatrixRenyiCallback, Tokens, plot_plane


class Patches(nn.Module):
    """Images to tokens: a vector for each patch and where it is, and before them one of no patch, the class token."""

    def __init__(self, size: int, patch: int, width: int) -> None:
        super().__init__()
        self.project = nn.Conv2d(1, width, patch, stride=patch)
        self.cls = nn.Parameter(torch.zeros(1, 1, width))
        self.position = nn.Parameter(torch.randn(1, 1 + (size // patch) ** 2, width) * 0.02)

    def forward(self, x: Tensor) -> Tensor:
        """``(n, 1, size, size)`` to ``(n, 1 + patches, width)``."""
        patches = self.project(x).flatten(2).transpose(1, 2)
        return torch.cat([self.cls.expand(len(x), -1, -1), patches], dim=1) + self.position


class Block(nn.Module):
    """Attention and a small network for each token, both beside a skip connection, norms first."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = nn.MultiheadAttention(width, heads, batch_first=True)
        self.mlp = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))

    def forward(self, x: Tensor) -> Tensor:
        """Tokens to tokens."""
        seen = self.norm1(x)
        x = x + self.attention(seen, seen, seen, need_weights=False)[0]
        out: Tensor = x + self.mlp(self.norm2(x))
        return out


class SmallViT(DigitsCNN):
    """Four blocks; the answer is read from the class token."""

    def __init__(self, width: int = 32) -> None:
        L.LightningModule.__init__(self)  # the training of DigitsCNN, with other layers
        self.patches = Patches(8, 2, width)
        self.blocks = nn.Sequential(*(Block(width, heads=4) for _ in range(4)))
        self.head = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, 10))

    def forward(self, x: Tensor) -> Tensor:
        """Images to class scores."""
        scores: Tensor = self.head(self.blocks(self.patches(x))[:, 0])
        return scores

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """What transformers like."""
        return torch.optim.AdamW(self.parameters(), lr=2e-3)


BLOCKS = tuple(f"blocks.{place}" for place in range(4))


def say(cls: History, mean: History, epochs: int) -> None:
    """The numbers at the end, and after which blocks one reading has clearly more of the label than the other."""
    of_cls, of_mean = read(cls, "AMI_TY"), read(mean, "AMI_TY")
    print(f"\nadjusted information with the label, ± one standard error, after epoch {epochs}")
    print(f"{'':10}{'class token':>18}{'mean of tokens':>18}")
    for layer in ("patches", *BLOCKS):
        cells = [str(one.get((epochs, layer), "no value")) for one in (of_cls, of_mean)]
        print(f"{layer:10}{cells[0]:>18}{cells[1]:>18}")
    print("\nBefore the first block the class token is the same for every image: it shares nothing with anything.")
    for when, epoch in (("Before training", 0), ("At the end", epochs)):
        for name, one, other in (("class token", of_cls, of_mean), ("mean", of_mean, of_cls)):
            ahead = [block for block in BLOCKS if one[epoch, block].exceeds(other[epoch, block])]
            print(f"{when} the {name} shares clearly more with the label after {', '.join(ahead) or 'no block'}.")
    before, after = (of_cls[epoch, BLOCKS[-1]] for epoch in (0, epochs))
    print(f"After the last block AMI(T;Y) of the class token {change(before, after)}.")


def main() -> None:
    """Train, then say in which block the class token begins to know more of the label than the mean does."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--root", default="runs/vit", help="where the logs go")
    options = parser.parse_args()
    torch.set_num_threads(1)
    L.seed_everything(0)
    train, val = digits()
    schedule = LogSpacedEpochs(6)
    # Before the first block the class token has seen nothing: to measure a constant would be a warning.
    cls = MatrixRenyiCallback(Block, schedule=schedule, readout=Tokens("first"), name="cls")
    mean = MatrixRenyiCallback([Patches, Block], schedule=schedule, readout=Tokens("mean"), name="mean")
    trainer = L.Trainer(
        callbacks=[cls, mean],
        max_epochs=options.epochs,
        default_root_dir=options.root,
        accelerator="cpu",
        log_every_n_steps=10,
    )
    trainer.fit(SmallViT(), DataLoader(train, 64, shuffle=True, drop_last=True), DataLoader(val, 200))

    folder = Path(trainer.log_dir or options.root)
    figure = Figure(figsize=(11, 4.5), layout="constrained")
    readings = {"class token": cls.history, "mean of tokens": mean.history}
    for (name, history), ax in zip(readings.items(), figure.subplots(1, 2), strict=True):
        plot_plane([row for row in history if row.place in BLOCKS], ax)  # the same layers, for the same colours
        ax.set_title(name, loc="left")
    figure.savefig(folder / "planes.png", dpi=120)
    say(cls.history, mean.history, options.epochs)
    print(f"\nEvent files, tables and planes.png are in {folder}.")


if __name__ == "__main__":
    main()
