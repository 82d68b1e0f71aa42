"""What a scenario of somebody else's software is, and what several of them share."""

import importlib
import os
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import lightning as L
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

# As many samples as there are in the validation data: the probe is all of them, in their order.
PROBE = 48
SAMPLES = 64
BATCH = 16
CLASSES = 4


@dataclass(frozen=True)
class Scenario:
    """A network and its data as the users of a library write them, and what is true of them.

    Args:
        module: makes the module, its weights from the global generator.
        data: makes the loaders: training, validation.
        layers: the ``layers`` argument, names in full.
        x: of the untrained module and the collated samples of the probe: what a person would call X.
        y: of the collated samples: what a person would call Y; None where there is none.
        says: what the line at the start calls X.
        collated: the samples of the probe, collated, from the validation loader.
        told: the one argument that has to be told; None where nothing has to be.
        names: of the collated samples: what a message calls by a name, and a person has.
        of_tokens: whether the batch has numbers of tokens, and X is what the network's embedding layer makes of them.
        exact: whether X is bit for bit so; means may be taken in another order.
        trainer: options of the Trainer.
    """

    module: Callable[[], L.LightningModule]
    data: Callable[[], tuple[Any, Any]]
    layers: Sequence[str]
    x: Callable[[L.LightningModule, Any], Tensor]
    y: Callable[[Any], Tensor] | None
    says: str
    collated: Callable[[Any], Any] = lambda loader: loader.collate_fn([loader.dataset[i] for i in range(PROBE)])
    told: str | None = None
    names: Callable[[Any], dict[str, Any]] = lambda batch: {}
    of_tokens: bool = False
    exact: bool = True
    trainer: Mapping[str, Any] = field(default_factory=dict)


def library(name: str) -> Any:
    """A module of somebody else, or a skipped test; what it says on being imported is no concern of ours."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if os.environ.get("THIRDPARTY") == "required":  # where they were installed for it, none is to be skipped
            return importlib.import_module(name)
        return pytest.importorskip(name, reason=f"no {name.partition('.')[0]}: it is in the extra [thirdparty]")


def labels(n: int) -> Tensor:
    """As many of each class, in no order."""
    return torch.randperm(n, generator=torch.Generator().manual_seed(n)) % CLASSES


def images(n: int, channels: int = 3, size: int = 16) -> Tensor:
    """Noise, and in it one of a few patterns: the class."""
    generator = torch.Generator().manual_seed(n)
    patterns = torch.randn(CLASSES, channels, size, size, generator=generator)
    return patterns[labels(n)] + 0.7 * torch.randn(n, channels, size, size, generator=generator)


def tokens(n: int, length: int, vocabulary: int) -> list[Tensor]:
    """Sentences of different lengths; words are frequent in one class and rare in the others."""
    generator = torch.Generator().manual_seed(n)
    lengths = torch.randint(length // 2, length + 1, (n,), generator=generator).tolist()
    words = torch.randint(4, vocabulary, (n, length), generator=generator)
    own = 4 + labels(n)[:, None] + CLASSES * torch.randint(0, 2, (n, length), generator=generator)
    chosen = torch.where(torch.rand(n, length, generator=generator) < 0.8, own, words)
    return [row[:end] for row, end in zip(chosen, lengths, strict=True)]


def loaders(make: Callable[[int], Any], loader: Callable[..., Any] = DataLoader, **options: Any) -> tuple[Any, Any]:
    """Loaders of training and of validation data: a data set of so many samples each."""
    return (
        loader(make(SAMPLES), batch_size=BATCH, shuffle=True, **options),
        loader(make(PROBE), batch_size=BATCH, **options),
    )


class Classifier(L.LightningModule):
    """The first page of every tutorial."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Any) -> Any:
        return self.net(x)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        x, y = batch
        loss = nn.functional.cross_entropy(self(x), y)
        self.log("train_loss", loss)
        return loss

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        x, y = batch
        self.log("val_loss", nn.functional.cross_entropy(self(x), y))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters(), lr=1e-3)


class HuggingFace(L.LightningModule):
    """Lightning's own example for transformers: the batch is the model's keyword arguments, labels among them."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, **inputs: Any) -> Any:
        return self.model(**inputs)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        loss: Tensor = self(**batch).loss
        self.log("train_loss", loss)
        return loss

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.log("val_loss", self(**batch).loss)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.AdamW(self.parameters(), lr=1e-3)
