"""A VGG-style net with everything switched on: error signals, redundancy of the maps, standard errors, p-values.

    python examples/vgg_errors.py

About two minutes on a CPU. New keys beside those of the first run: ``I_error/…`` and ``DPI_error/…``, the backward
inequality; ``redundancy_synergy/…``, ``non_redundant/…`` and ``total_correlation/…``. Standard errors and p-values,
``…_stderr`` and ``…_p``, are in the history and in infoplane.csv; ``outputs=Outputs(log="all")`` logs them too.
"""

import argparse

import lightning as L
import torch
from digits_cnn import DigitsCNN, digits
from torch import Tensor, nn
from torch.utils.data import DataLoader

from lightning_infoplane import Estimator, Jackknife, LogSpacedEpochs, MatrixRenyiCallback


class SmallVGG(DigitsCNN):
    """Six convolutions in three blocks, batch norm, in-place ReLU."""

    def __init__(self) -> None:
        L.LightningModule.__init__(self)  # the training of DigitsCNN, with other layers
        layers: list[nn.Module] = []
        for before, after, pool in ((1, 16, 0), (16, 16, 1), (16, 32, 0), (32, 32, 1), (32, 64, 0), (64, 64, 1)):
            layers += [nn.Conv2d(before, after, 3, padding=1), nn.BatchNorm2d(after), nn.ReLU(inplace=True)]
            layers += [nn.MaxPool2d(2)] * pool
        self.features, self.head = nn.Sequential(*layers), nn.Sequential(nn.Flatten(), nn.Linear(64, 10))

    def forward(self, x: Tensor) -> Tensor:
        """Images to class scores."""
        scores: Tensor = self.head(self.features(x))
        return scores


def main() -> None:
    """Train, then say which chains were found and how the inequalities fared."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=15)
    parser.add_argument("--root", default="runs/vgg", help="where the logs go")
    options = parser.parse_args()
    torch.set_num_threads(1)
    L.seed_everything(0)
    train, val = digits()
    callback = MatrixRenyiCallback(
        probe=256,
        schedule=LogSpacedEpochs(6),
        estimator=Estimator(
            standard_errors=Jackknife(10),  # groups of samples left out in turn; closer than blocks, for publication
        ),
        error_signals=True,  # ErrorSignals(loss_fn) is for a loss that cannot be guessed from the targets
        redundancy=True,  # Redundancy(map_pairs, samples) says how many pairs of feature maps are compared
    )
    trainer = L.Trainer(
        callbacks=[callback],
        max_epochs=options.epochs,
        default_root_dir=options.root,
        accelerator="cpu",
        log_every_n_steps=10,
    )
    trainer.fit(SmallVGG(), DataLoader(train, 64, shuffle=True, drop_last=True), DataLoader(val, 200))

    print("\nchains found:", ", ".join(f"{a} → {b}" for a, b in callback.markov_pairs))
    last = {(row.quantity, row.place): row.value for row in callback.history if row.epoch == options.epochs}
    for pair in callback.markov_pairs:
        gap, error = (last[name, pair] for name in ("DPI_AMI_XT", "DPI_AMI_XT_stderr"))
        print(f"AMI(X;T) from {pair.first} to {pair.second}: falls by {gap:+.3f} ± {error:.3f}")
    for what, kind in (("activations", "DPI"), ("error signals", "DPI_error")):
        changes = [f"{last[f'{kind}_{change}', '']:.0f} {change}" for change in ("decreases", "increases")]
        print(f"{what}: {' and '.join(changes)}, the rest undecided")


if __name__ == "__main__":
    main()
