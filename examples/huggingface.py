"""Models of ``transformers`` as their users write them, one for images and one for text, each with the callback added.

    pip install transformers
    python examples/huggingface.py

A minute on a CPU. Weights are random, from a config: nothing is downloaded. A batch is the dictionary of the model's
keyword arguments, labels and mask among them, and nothing has to be said of it: before training each callback logs one
line that begins with ``X:``, what it takes for X and Y, and how it calls the model. Numbers of words have no distances,
so for text X is what the model's embedding layer, as it is at the start, makes of them. Each token is a variable of its
own; padding, which the attention mask tells, is left out.
"""

from argparse import ArgumentParser, Namespace, RawDescriptionHelpFormatter
from pathlib import Path
from typing import Any

import lightning as L
import torch
from digits_cnn import digits
from reading import change, read
from torch import Tensor, nn
from torch.utils.data import DataLoader
from transformers import BertConfig, BertForSequenceClassification, ConvNextConfig, ConvNextForImageClassification

from lightning_infoplane import History, LogSpacedEpochs, MatrixRenyiCallback

LENGTH, TOPICS, OWN = 16, 4, 14
PADDING, START, FIRST = 0, 1, 2
WORDS = FIRST + TOPICS * OWN
# What the model is called with, by name.
Item = dict[str, Tensor]


class HuggingFace(L.LightningModule):
    """Any model that computes its loss itself."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, **inputs: Any) -> Any:  # noqa: ANN401 - whatever the model takes and gives
        """As the model is called."""
        return self.model(**inputs)

    def training_step(self, batch: Item, batch_idx: int) -> Tensor:
        """The model's own loss."""
        loss: Tensor = self(**batch).loss
        self.log("train_loss", loss)
        return loss

    def validation_step(self, batch: Item, batch_idx: int) -> None:
        """Accuracy."""
        right = self(**batch).logits.argmax(1) == batch["labels"]
        self.log("val_accuracy", right.float().mean(), prog_bar=True)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """What transformers like."""
        return torch.optim.AdamW(self.parameters(), lr=1e-3)


def pictures() -> tuple[list[Item], list[Item]]:
    """Digits by name; training and validation."""
    train, val = (
        [{"pixel_values": image, "labels": label} for image, label in zip(*part.tensors, strict=True)]
        for part in digits()
    )
    return train, val


def sentences(count: int, generator: torch.Generator) -> list[Item]:
    """Of 7 to 15 words, some of them on the sentence's topic, all others on any; a first token, and padding."""
    made = []
    for label in torch.arange(count) % TOPICS:
        length = int(torch.randint(LENGTH // 2, LENGTH + 1, (), generator=generator))
        of_any = torch.randint(FIRST, WORDS, (LENGTH,), generator=generator)
        of_topic = FIRST + label * OWN + torch.randint(OWN, (LENGTH,), generator=generator)
        words = torch.where(torch.rand(LENGTH, generator=generator) < 0.4, of_topic, of_any)
        words[0], words[length:] = START, PADDING
        made.append({"input_ids": words, "attention_mask": (words != PADDING).long(), "labels": label})
    return made


def picture_model() -> nn.Module:
    """A small ConvNeXt."""
    config = ConvNextConfig(
        num_channels=1, num_stages=2, hidden_sizes=[16, 32], depths=[2, 2], patch_size=2, num_labels=10
    )
    model: nn.Module = ConvNextForImageClassification(config)
    return model


def text_model() -> nn.Module:
    """A small BERT."""
    config = BertConfig(
        vocab_size=WORDS,
        pad_token_id=PADDING,
        hidden_size=32,
        num_hidden_layers=3,
        num_attention_heads=4,
        intermediate_size=64,
        max_position_embeddings=LENGTH,
        num_labels=TOPICS,
    )
    model: nn.Module = BertForSequenceClassification(config)
    return model


def watch(
    name: str, model: nn.Module, data: tuple[Any, Any], callback: MatrixRenyiCallback, options: Namespace
) -> None:
    """Train, and say what was found."""
    trainer = L.Trainer(
        callbacks=[callback],
        max_epochs=options.epochs,
        default_root_dir=Path(options.root) / name,
        accelerator="cpu",
        log_every_n_steps=10,
    )
    train, val = data
    trainer.fit(HuggingFace(model), DataLoader(train, 64, shuffle=True), DataLoader(val, 256))
    say(name, callback.history, options.epochs)


def say(name: str, history: History, epochs: int) -> None:
    """What each layer shares with the input and with the label, and what became of it along the chain."""
    of_input, of_label = read(history, "AMI_XT"), read(history, "AMI_TY")
    layers = [layer for epoch, layer in of_label if epoch == epochs]
    width = max(map(len, layers))
    print(f"\n{name}: adjusted information, ± one standard error, after epoch {epochs}")
    print(f"{'':{width}}{'with the input':>18}{'with the label':>18}")
    for layer in layers:
        print(f"{layer:{width}}{of_input[epochs, layer]!s:>18}{of_label[epochs, layer]!s:>18}")
    first, last = layers[0], layers[-1]
    for what, known in (("input", of_input), ("label", of_label)):
        print(f"{name}: what is shared with the {what} {change(known[epochs, first], known[epochs, last])} along them.")
    print(f"{name}: in the last one the label's part {change(of_label[0, last], of_label[epochs, last])} by training.")


def main() -> None:
    """Train both, and say what was found."""
    parser = ArgumentParser(description=__doc__, formatter_class=RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=15)
    parser.add_argument("--root", default="runs/huggingface", help="where the logs go")
    options = parser.parse_args()
    torch.set_num_threads(1)
    schedule = LogSpacedEpochs(6)

    L.seed_everything(0)
    watch("pictures", picture_model(), pictures(), MatrixRenyiCallback(schedule=schedule), options)

    L.seed_everything(0)
    generator = torch.Generator().manual_seed(0)
    data = sentences(1200, generator), sentences(512, generator)
    layers = ["*.embeddings", "*.layer.?", "*.pooler", "*.classifier"]
    watch("text", text_model(), data, MatrixRenyiCallback(layers, schedule=schedule), options)


if __name__ == "__main__":
    main()
