"""Networks and data that are not ``(x, y)`` images, with a real Trainer: X is said, mistakes come with the remedy."""

import logging
import re
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import lightning.pytorch as lp
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning_utilities.core import rank_zero
from networks import assert_same, callback, fit, moments, said
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

import lightning_infoplane
from lightning_infoplane import Draw, MatrixRenyiCallback, PerGraph, Probe, Tokens
from lightning_infoplane.arguments.errors import NotMeasurableError, SetupError

N, CLASSES, WORDS, LENGTH = 64, 4, 20, 6
NAMES = {"torch": torch, **{name: getattr(lightning_infoplane, name) for name in lightning_infoplane.__all__}}
LABELS = torch.arange(N) % CLASSES
VECTORS = torch.randn(N, 8, generator=torch.Generator().manual_seed(0)) + LABELS[:, None]
PICTURES = VECTORS.reshape(N, 1, 2, 4).repeat(1, 1, 4, 2)


VERDICTS = r"at chance\.|not resolved\.|collapsed\.|saturated\."


class Samples(Dataset[Any]):
    """Items that a loader collates."""

    def __init__(self, items: list[Any]) -> None:
        self.items = items

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> Any:
        return self.items[index]


class Stepping(lp.LightningModule):
    """A module whose steps call its parts as they please: ``answer`` gives a batch's scores."""

    def answer(self, batch: Any) -> tuple[Tensor, Tensor]:
        raise NotImplementedError

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        return nn.functional.cross_entropy(*self.answer(batch))

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.answer(batch)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.05)


def mlp(inputs: int = 8) -> nn.Sequential:
    return nn.Sequential(nn.Linear(inputs, 8), nn.Tanh(), nn.Linear(8, CLASSES))


def train(
    path: Path, model: Callable[[], lp.LightningModule], data: DataLoader[Any], **options: Any
) -> tuple[MatrixRenyiCallback, list[str]]:
    """Two epochs, watched; and what was said of what is wrong, less what layers are worth on so few samples."""
    measured = callback(**{"probe": 32, "layers": "linear", "raise_on_error": False, **options})
    torch.manual_seed(0)
    with said() as messages:
        fit(path, measured, model=model, train=data, val=data)
    return measured, [message for message in messages if not re.search(VERDICTS, message)]


@contextmanager
def lines() -> Iterator[list[str]]:
    """What is said without being a warning."""
    found: list[str] = []

    class Kept(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            found.append(record.getMessage())

    handler = Kept(logging.INFO)
    rank_zero.log.addHandler(handler)
    try:
        yield found
    finally:
        rank_zero.log.removeHandler(handler)


def layers_of(measured: MatrixRenyiCallback, quantity: str = "AMI_XT") -> set[str]:
    return {str(row.place) for row in measured.history if row.quantity == quantity}


# ------------------------------------------------------------------------------- what X is, is chosen and said


class ByName(Stepping):
    """Called by keyword, as many libraries do it."""

    def __init__(self) -> None:
        super().__init__()
        self.net = mlp()

    def forward(self, signal: Tensor, scale: Tensor, labels: Tensor | None = None) -> Tensor:
        assert labels is None, "targets are no input"
        return self.net(signal * scale)

    def answer(self, batch: Any) -> tuple[Tensor, Tensor]:
        return self(batch["signal"], batch["scale"]), batch["labels"]


def named(**more: Tensor) -> DataLoader[Any]:
    items = {"labels": LABELS, "signal": VECTORS, "scale": torch.ones(N, 1), **more}
    return DataLoader(Samples([{key: value[i] for key, value in items.items()} for i in range(N)]), 16)


def test_the_line_at_the_start_says_x_y_and_the_call(tmp_path: Path) -> None:
    with lines() as told:
        measured, _ = train(tmp_path, ByName, named())
    assert [line for line in told if "X: " in line] == [
        "MatrixRenyiCallback: X: signal (32, 8); Y: labels (32,), 4 classes; model called as "
        "forward(signal=…, scale=…)."
    ]
    assert layers_of(measured) == {"net.0", "net.2"}


@pytest.mark.parametrize(
    ("draw", "line"),
    [
        (Draw(32, x="more"), "X: more (32, 3); Y: labels (32,), 4 classes;"),
        (Draw(32, x=lambda batch: batch["signal"][:, :2]), "X: x (32, 2); Y: labels (32,), 4 classes;"),
        (Draw(32, targets="more"), "X: signal (32, 8); Y: more (32, 3), continuous;"),
        (Draw(32, targets=lambda batch: batch["labels"] % 2), "X: signal (32, 8); Y: targets (32,), 2 classes;"),
    ],
)
def test_what_is_said_of_a_batch_counts(tmp_path: Path, draw: Draw, line: str) -> None:
    more = torch.randn(N, 3, generator=torch.Generator().manual_seed(1))
    with lines() as told:
        measured, _ = train(tmp_path, ByName, named(more=more), probe=draw)
    assert any(line in one for one in told)
    assert moments(measured) == [(0, 0), (1, 3), (2, 7)]


@pytest.mark.parametrize(
    ("draw", "sentence"),
    [
        (
            Draw(32, x="pixels"),
            r"x='pixels' of the probe cannot be read: there is no 'pixels' in the batch: it has 'lab",
        ),
        (Draw(32, targets=lambda batch: batch.y), "targets=a function of the probe cannot be read: AttributeError"),
        (Draw(32, x="empty"), r"X of the probe, empty \(32, 0\), holds no numbers\. Pass what stands for the input"),
        (
            Draw(32, x="scale"),
            r"X of the probe, scale \(32, 1\), is the same for all samples.*probe=Draw\(32, x=\.\.\.\)",
        ),
    ],
    ids=["no such key", "a function that raises", "empty", "constant"],
)
def test_an_x_that_cannot_be_ends_the_run_before_training(tmp_path: Path, draw: Draw, sentence: str) -> None:
    with pytest.raises(SetupError, match=sentence):
        train(tmp_path, ByName, named(empty=torch.zeros(N, 0)), probe=draw)


# --------------------------------------------------------------------------------------- token models, readouts


class Reader(Stepping):
    """A small transformer with padding."""

    batch_first = True

    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.positions = nn.Embedding(WORDS, 8), nn.Embedding(LENGTH, 8)
        layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=self.batch_first)
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.head = nn.Linear(8, CLASSES)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        tokens = self.embedding(input_ids) + self.positions(torch.arange(LENGTH))
        if self.batch_first:
            hidden = self.encoder(tokens, src_key_padding_mask=attention_mask == 0)[:, 0]
        else:
            hidden = self.encoder(tokens.movedim(1, 0), src_key_padding_mask=attention_mask == 0)[0]
        return self.head(hidden)

    def answer(self, batch: Any) -> tuple[Tensor, Tensor]:
        return self(batch["input_ids"], batch["attention_mask"]), batch["label"]


class TimeFirstReader(Reader):
    batch_first = False


def sentences() -> DataLoader[Any]:
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(1, WORDS, (N, LENGTH), generator=generator)
    mask = torch.arange(LENGTH) < torch.randint(2, LENGTH + 1, (N, 1), generator=generator)
    items = [{"label": ids[i, 0] % CLASSES, "input_ids": ids[i], "attention_mask": mask[i].long()} for i in range(N)]
    return DataLoader(Samples(items), 16)


BLOCKS = ["encoder.layers.?", "embedding", "head"]


def test_x_of_a_token_model_is_its_embedding_at_the_start(tmp_path: Path) -> None:
    with lines() as told:
        measured, _ = train(tmp_path, Reader, sentences(), layers=BLOCKS)
    assert any("X: output of the embedding layer 'embedding', as it is at the start, for input_ids (32, 6)" in line
               for line in told)  # fmt: skip
    values = {row.epoch: row.value for row in measured.history if (row.quantity, row.place) == ("AMI_XT", "embedding")}
    assert values[0] == pytest.approx(1, abs=1e-5)
    assert abs(values[2] - 1) > 5e-5, "the embedding was trained, X was not"
    entropies = [row.value for row in measured.history if row.quantity == "H_X"]
    assert len(set(entropies)) == 1


def test_a_resumed_token_model_keeps_its_x(tmp_path: Path) -> None:
    """The embedding layer has been trained since, and X is in the checkpoint."""

    def run(epochs: int, *others: lp.Callback, checkpoint: Path | None = None) -> MatrixRenyiCallback:
        measured = callback(probe=32, layers=BLOCKS)
        data = sentences()
        with said(), warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="The dirpath has changed")
            options = {"model": Reader, "train": data, "val": data, "checkpoint": checkpoint, "max_epochs": epochs}
            fit(tmp_path, measured, *others, **options)
        return measured

    run(1, ModelCheckpoint(tmp_path / "saved", save_last=True))
    checkpoint = tmp_path / "saved" / "last.ckpt"
    resumed = run(2, ModelCheckpoint(tmp_path / "again", save_last=True), checkpoint=checkpoint)
    whole = run(2)
    assert_same(list(resumed.history), list(whole.history))


@pytest.mark.parametrize("pool", ["mean", "first", "last", "each"])
def test_tokens_are_read_as_is_wanted_and_pooled_ones_screen_only_what_comes_from_them(
    tmp_path: Path, pool: Any
) -> None:
    measured, _ = train(tmp_path, Reader, sentences(), layers=BLOCKS, readout={"encoder.*": Tokens(pool)})
    pairs = {(pair.first, pair.second) for pair in measured.markov_pairs}
    chain = {("embedding", "encoder.layers.0"), ("encoder.layers.0", "encoder.layers.1"), ("encoder.layers.1", "head")}
    assert (
        pairs
        == {
            "each": chain,
            # The head sees the first token of the last block and nothing else.
            "first": {
                ("embedding", "encoder.layers.0"),
                ("embedding", "encoder.layers.1"),
                ("encoder.layers.1", "head"),
            },
            "mean": {("embedding", "encoder.layers.0"), ("embedding", "encoder.layers.1"), ("embedding", "head")},
            "last": {("embedding", "encoder.layers.0"), ("embedding", "encoder.layers.1"), ("embedding", "head")},
        }[pool]
    )


@pytest.mark.parametrize("probe", [32, LENGTH], ids=["n samples", "as many samples as there are times"])
def test_time_first_layers_are_measured_along_the_samples(tmp_path: Path, probe: int) -> None:
    """Also where both axes are of one length: a pass with fewer samples tells them apart."""
    with lines() as told:
        first, _ = train(tmp_path / "1", TimeFirstReader, sentences(), layers=BLOCKS, probe=probe)
    assert any("; samples on axis 1 of the output of encoder.layers.0, encoder.layers.1" in line for line in told)
    second, _ = train(tmp_path / "2", Reader, sentences(), layers=BLOCKS, probe=probe)
    assert [row.place for row in first.history] == [row.place for row in second.history]
    for ours, theirs in zip(first.history, second.history, strict=True):
        assert ours.value == pytest.approx(theirs.value, abs=1e-3), (ours, theirs)


# -------------------------------------------------------------------------------------------- one odd layer


class Nested(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.nested.nested_tensor(list(x), layout=torch.jagged)


class Sparse(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.to_sparse()


class Empty(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x[:, :0]


class Complex(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.fft.rfft(x)


class Odd(Stepping):
    """Layers of every kind of output beside two that are plain."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.head = nn.Linear(8, 8), nn.Linear(8, CLASSES)
        self.nested, self.sparse, self.empty, self.waves = Nested(), Sparse(), Empty(), Complex()
        self.never, self.unused = nn.Linear(2, 2), nn.ModuleList()

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.first(x)
        for aside in (self.nested, self.sparse, self.empty, self.waves):
            aside(hidden)
        return self.head(hidden.tanh())

    def answer(self, batch: Any) -> tuple[Tensor, Tensor]:
        return self(batch[0]), batch[1]


def pairs_of(*columns: Tensor) -> DataLoader[Any]:
    return DataLoader(torch.utils.data.TensorDataset(*columns), 16)


def test_one_odd_layer_costs_no_other(tmp_path: Path) -> None:
    """What can be made plain is; what cannot is named; what a keyword took along and is not called is not."""
    measured, messages = train(tmp_path, Odd, pairs_of(VECTORS, LABELS), layers="all")
    assert layers_of(measured, "H_T") == {"first", "head", "nested", "sparse", "waves"}
    assert len(messages) == 1
    assert messages[0].startswith("layer 'empty' is left out: ")


def test_a_layer_that_was_named_and_is_not_called_is_told(tmp_path: Path) -> None:
    _, messages = train(tmp_path, Odd, pairs_of(VECTORS, LABELS), layers=["first", "never"])
    assert messages == ["layer 'never' is left out: not called in the probe's forward pass."]


# --------------------------------------------------------------------------- chains: none, and once more


def test_without_pairs_nothing_is_looked_for_and_no_gap_is_logged(tmp_path: Path) -> None:
    measured, _ = train(tmp_path, Odd, pairs_of(VECTORS, LABELS), layers=["first", "head"], dpi_pairs=None)
    assert measured.markov_pairs == []
    assert not [row.quantity for row in measured.history if row.quantity.startswith("DPI")]
    assert layers_of(measured) == {"first", "head"}


class OpensLater(Stepping):
    """A layer that says the same of all samples until a step has been made."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.head = nn.Linear(8, 8), nn.Linear(8, CLASSES)
        self.register_buffer("gate", torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.first(x).tanh() * self.gate + 1)

    def answer(self, batch: Any) -> tuple[Tensor, Tensor]:
        return self(batch[0]), batch[1]

    def on_train_batch_end(self, *_: Any) -> None:
        self.gate.fill_(1.0)


def test_chains_are_looked_for_once_more_after_the_first_epoch(tmp_path: Path) -> None:
    measured, _ = train(tmp_path, OpensLater, pairs_of(VECTORS, LABELS), layers="linear")
    assert [(pair.first, pair.second) for pair in measured.markov_pairs] == [("first", "head")]
    assert {row.epoch for row in measured.history if row.quantity == "DPI_XT"} == {1, 2}


# ------------------------------------------------- ten wrong set-ups: the printed sentence, pasted, makes them work


class NoForward(Stepping):
    """Steps call a part of the module."""

    def __init__(self) -> None:
        super().__init__()
        self.net = mlp()

    def answer(self, batch: Any) -> tuple[Tensor, Tensor]:
        return self.net(batch[0]), batch[1]


class Adversaries(Stepping):
    """``forward`` makes pictures of noise; the layers to watch are the other network's too."""

    def __init__(self) -> None:
        super().__init__()
        self.generator, self.discriminator = mlp(3), mlp()

    def forward(self, noise: Tensor) -> Tensor:
        return self.generator(noise)

    def answer(self, batch: Any) -> tuple[Tensor, Tensor]:
        return self.discriminator(batch[0]), batch[1]


class InTime(Stepping):
    """A diffusion model: a picture and a time."""

    def __init__(self) -> None:
        super().__init__()
        self.net, self.times = mlp(), nn.Embedding(10, 8)

    def forward(self, sample: Tensor, timestep: Tensor) -> Tensor:
        return self.net(sample + self.times(timestep))

    def answer(self, batch: Any) -> tuple[Tensor, Tensor]:
        return self(batch[0], torch.zeros(len(batch[0]), dtype=torch.long)), LABELS[: len(batch[0])]


class WholeBatch(Stepping):
    """``forward`` takes the batch as it comes."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.head = nn.Linear(8, 8), nn.Linear(8, CLASSES)

    def forward(self, batch: Any) -> Tensor:
        x, _ = batch
        return self.head(self.first(x).tanh())

    def answer(self, batch: Any) -> tuple[Tensor, Tensor]:
        return self(batch), batch[1]


class TargetFirst(Stepping):
    """A regression whose batches begin with what is wanted."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 1))

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        return nn.functional.mse_loss(self(batch[1]).squeeze(1), batch[0])

    def answer(self, batch: Any) -> tuple[Tensor, Tensor]:
        return self(batch[1]), batch[0]


class PartByKey(Stepping):
    """A part of the module, called with a part of the batch."""

    def __init__(self) -> None:
        super().__init__()
        self.model = mlp()

    def answer(self, batch: Any) -> tuple[Tensor, Tensor]:
        return self.model(batch["spectrum"]), batch["label"]


class TwoTowers(Stepping):
    """Two inputs of three, by a ``forward`` that does not say how many it takes."""

    def __init__(self) -> None:
        super().__init__()
        self.left, self.right, self.head = nn.Linear(8, 8), nn.Linear(3, 8), nn.Linear(8, CLASSES)

    def forward(self, *parts: Tensor) -> Tensor:
        left, right = parts
        return self.head((self.left(left) + self.right(right)).tanh())

    def answer(self, batch: Any) -> tuple[Tensor, Tensor]:
        return self(batch[0], batch[1]), batch[2]


@dataclass
class Graphs:
    """Graphs of different sizes as one: rows of nodes, and the graph of each."""

    x: Tensor
    edge_index: Tensor
    batch: Tensor
    y: Tensor

    def to(self, device: Any, **options: Any) -> "Graphs":
        return self


class OnGraphs(Stepping):
    def __init__(self) -> None:
        super().__init__()
        self.nodes, self.head = nn.Linear(8, 8), nn.Linear(8, CLASSES)

    def forward(self, data: Graphs) -> Tensor:
        hidden = self.nodes(data.x)
        hidden = hidden.index_add(0, data.edge_index[1], hidden[data.edge_index[0]]).tanh()
        return self.head(hidden.new_zeros(len(data.y), 8).index_add(0, data.batch, hidden))

    def answer(self, batch: Any) -> tuple[Tensor, Tensor]:
        return self(batch), batch.y


def graphs() -> DataLoader[Any]:
    """Graph i has 2 to 4 nodes in a row."""

    def collate(items: list[int]) -> Graphs:
        sizes = torch.tensor([2 + i % 3 for i in items])
        owner = torch.repeat_interleave(torch.arange(len(items)), sizes)
        generator = torch.Generator().manual_seed(0)
        x = VECTORS[torch.tensor(items)[owner]] + 0.1 * torch.randn(len(owner), 8, generator=generator)
        within = (owner[1:] == owner[:-1]).nonzero().squeeze(1)
        return Graphs(x, torch.stack([within, within + 1]), owner, LABELS[items])

    return DataLoader(Samples(list(range(N))), 16, collate_fn=collate)


class Detector(Stepping):
    """Pictures of different sizes, in a list."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.head = nn.Conv2d(1, 4, 1), nn.Linear(4, CLASSES)

    def forward(self, images: Any) -> Tensor:
        return self.head(torch.stack([self.conv(image.unsqueeze(0)).mean((2, 3)).squeeze(0) for image in images]))

    def answer(self, batch: Any) -> tuple[Tensor, Tensor]:
        return self(batch[0]), torch.tensor([target["label"] for target in batch[1]])


def ragged() -> DataLoader[Any]:
    items = [(PICTURES[i][:, :, : 4 + i % 4], {"label": int(LABELS[i])}) for i in range(N)]
    return DataLoader(Samples(items), 16, collate_fn=lambda parts: tuple(zip(*parts, strict=True)))


@dataclass(frozen=True)
class WrongSetUp:
    """What somebody has, and what is true once the sentence was pasted."""

    model: Callable[[], lp.LightningModule]
    data: Callable[[], DataLoader[Any]]
    argument: str
    layers: set[str] = field(default_factory=lambda: {"net.0", "net.2"})
    x: str = "X: batch[0] (32, 8)"


def dicts() -> DataLoader[Any]:
    return DataLoader(Samples([{"label": LABELS[i], "spectrum": VECTORS[i]} for i in range(N)]), 16)


ANSWERS = torch.linspace(-1, 1, N)
WRONG = {
    "no forward": WrongSetUp(NoForward, lambda: pairs_of(VECTORS, LABELS), "forward_fn"),
    "two networks": WrongSetUp(
        Adversaries,
        lambda: pairs_of(VECTORS, LABELS),
        "forward_fn",
        {"discriminator.0", "discriminator.2"},
    ),
    "a time step": WrongSetUp(InTime, lambda: pairs_of(VECTORS), "forward_fn"),
    "the whole batch": WrongSetUp(WholeBatch, lambda: pairs_of(VECTORS, LABELS), "probe", {"first", "head"}),
    "target first": WrongSetUp(TargetFirst, lambda: pairs_of(ANSWERS, VECTORS), "probe", x="X: batch[1] (32, 8)"),
    "a part by key": WrongSetUp(PartByKey, dicts, "forward_fn", {"model.0", "model.2"}, "X: spectrum (32, 8)"),
    "two inputs of three": WrongSetUp(
        TwoTowers, lambda: pairs_of(VECTORS, VECTORS[:, :3], LABELS), "probe", {"left", "right", "head"}
    ),
    "graphs": WrongSetUp(OnGraphs, graphs, "readout", {"nodes", "head"}, "X: x (32, 8)"),
    "pictures of many sizes": WrongSetUp(Detector, ragged, "probe", {"head"}, "X: x (32, 1, 8, 8)"),
    "a time step and labels": WrongSetUp(InTime, lambda: pairs_of(VECTORS, LABELS + 20), "forward_fn"),
}


@pytest.mark.parametrize("case", WRONG.values(), ids=WRONG)
def test_the_printed_sentence_pasted_makes_it_work(tmp_path: Path, case: WrongSetUp) -> None:
    _, messages = train(tmp_path / "wrong", case.model, case.data())
    about = [message for message in messages if f"{case.argument}=" in message]
    assert len(about) == 1, messages
    assert "Linear(" not in about[0], "no repr of a model"
    code = about[0].partition("Training goes on")[0].rpartition(f"{case.argument}=")[2].strip().removesuffix(".")
    argument = eval(code, dict(NAMES))
    with lines() as told:
        measured, messages = train(tmp_path / "right", case.model, case.data(), **{case.argument: argument})
    assert [message for message in messages if "the probe has no targets" not in message] == []
    assert any(case.x in line for line in told), told
    assert layers_of(measured) == case.layers
    assert moments(measured) == [(0, 0), (1, 3), (2, 7)]


def test_the_hint_is_given_once_before_training_and_can_end_the_run(tmp_path: Path) -> None:
    measured, messages = train(tmp_path, NoForward, pairs_of(VECTORS, LABELS))
    assert len(messages) == 2
    assert re.match(
        r"the network cannot be called with the probe's inputs \(NotImplementedError: .*\)\. They are a tensor "
        r"\(32, 8\); its forward takes .*\. Pass forward_fn=lambda module, inputs: module\.net\(inputs\)\. Training",
        messages[0],
    )
    assert messages[1].startswith("NOTHING WAS MEASURED")
    assert len(measured.history) == 0
    with pytest.raises(NotMeasurableError, match="the network cannot be called with the probe's inputs"):
        train(tmp_path, NoForward, pairs_of(VECTORS, LABELS), raise_on_error=True)


def test_a_probe_of_graphs_of_ones_own(tmp_path: Path) -> None:
    batch = next(iter(DataLoader(graphs().dataset, N, collate_fn=graphs().collate_fn)))
    pooled = PerGraph().read(batch.x, batch, N)
    measured, _ = train(tmp_path, OnGraphs, graphs(), probe=Probe(batch, batch.y, pooled), readout=PerGraph())
    assert layers_of(measured) == {"nodes", "head"}
    assert measured.markov_pairs == []
