"""The first run from a YAML file, with Lightning's command line.

    python examples/cli.py fit --config examples/digits.yaml

The options of the callback, explained:

    python examples/cli.py fit --trainer.callbacks.help=lightning_infoplane.MatrixRenyiCallback
"""

import lightning as L
import torch
from digits_cnn import DigitsCNN, digits
from lightning.pytorch.cli import ArgsType, LightningCLI
from torch import Tensor
from torch.utils.data import DataLoader


class Digits(L.LightningDataModule):
    """Handwritten digits, 8×8 pixels.

    Args:
        batch_size: of training.
    """

    def __init__(self, batch_size: int = 64) -> None:
        super().__init__()
        self.batch_size = batch_size
        self.train, self.val = digits()

    def train_dataloader(self) -> DataLoader[tuple[Tensor, ...]]:
        """Shuffled."""
        return DataLoader(self.train, self.batch_size, shuffle=True, drop_last=True)

    def val_dataloader(self) -> DataLoader[tuple[Tensor, ...]]:
        """In order."""
        return DataLoader(self.val, 200)


def main(args: ArgsType = None) -> LightningCLI:
    """Run what the command line asks for."""
    torch.set_num_threads(1)  # two threads on a busy two-core machine are slower, by far
    return LightningCLI(DigitsCNN, Digits, args=args, seed_everything_default=0, save_config_callback=None)


if __name__ == "__main__":
    main()
