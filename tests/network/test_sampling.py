"""Samples of a data set: which are drawn, and how a batch of them is read."""

from collections import Counter, namedtuple
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from properties import assert_leaves_random_state
from torch import Tensor
from torch.utils.data import ConcatDataset, Dataset, IterableDataset, Subset, TensorDataset, default_collate

from lightning_infoplane.network.batches import read_batch, split
from lightning_infoplane.network.sampling import draw_batch, draw_indices, first_of_batches

# Three classes of very different size, shuffled.
LABELS = torch.tensor([0] * 60 + [1] * 30 + [2] * 10)[torch.randperm(100, generator=torch.Generator().manual_seed(1))]
IMAGES = torch.arange(100.0).reshape(100, 1)


class WithAttribute(Dataset[Tensor]):
    """Offers its labels without loading an item, as torchvision's data sets do; loading one is an error."""

    def __init__(self, name: str, labels: object) -> None:
        setattr(self, name, labels)

    def __len__(self) -> int:
        return len(LABELS)

    def __getitem__(self, index: int) -> Tensor:
        raise AssertionError("labels were on offer, yet an item was loaded")


class Items(Dataset[object]):
    """Nothing but items."""

    def __init__(self, items: Sequence[object]) -> None:
        self.items = items

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> object:
        return self.items[index]


class Stream(IterableDataset[tuple[Tensor, int]]):
    def __init__(self, length: int) -> None:
        self.length = length

    def __iter__(self) -> Iterator[tuple[Tensor, int]]:
        return ((torch.tensor([float(i)]), i % 2) for i in range(self.length))


def assert_stratified(indices: Sequence[int], labels: Tensor) -> None:
    """Each class has its share of the whole, to within one sample."""
    drawn, whole = Counter(labels[list(indices)].tolist()), Counter(labels.tolist())
    for label, count in whole.items():
        assert abs(drawn[label] - Fraction(len(indices) * count, len(labels))) < 1


def assert_drawn(indices: Sequence[int], size: int, total: int) -> None:
    """As many as wanted, ascending, without repetition, within the data set."""
    assert len(indices) == size
    assert list(indices) == sorted(set(indices))
    assert all(0 <= index < total for index in indices)


REVERSED = list(reversed(range(100)))
HALF = TensorDataset(IMAGES[:40], LABELS[:40]), TensorDataset(IMAGES[40:], LABELS[40:])


@pytest.mark.parametrize(
    ("dataset", "labels"),
    [
        (TensorDataset(IMAGES, LABELS), LABELS),
        (TensorDataset(IMAGES, LABELS, IMAGES), LABELS),
        (WithAttribute("targets", LABELS), LABELS),
        (WithAttribute("targets", LABELS.tolist()), LABELS),
        (WithAttribute("targets", LABELS.numpy()), LABELS),
        (WithAttribute("labels", LABELS.tolist()), LABELS),
        (Subset(TensorDataset(IMAGES, LABELS), REVERSED), LABELS.flip(0)),
        (Subset(TensorDataset(IMAGES, LABELS), range(50)), LABELS[:50]),
        (Subset(Subset(TensorDataset(IMAGES, LABELS), REVERSED), REVERSED[:70]), LABELS[:70]),
        (ConcatDataset(HALF), LABELS),
        (ConcatDataset([Subset(HALF[0], range(10, 40)), HALF[1]]), LABELS[10:]),
        (ConcatDataset([Items([(0.0, int(y)) for y in LABELS[:40]]), HALF[1]]), LABELS),
        (Items([(0.0, int(label)) for label in LABELS]), LABELS),
        (Items([(0.0, label) for label in LABELS]), LABELS),
        (Items([{"image": 0.0, "label": label.reshape(1)} for label in LABELS]), LABELS),
        (TensorDataset(IMAGES, LABELS.unsqueeze(1)), LABELS),
        (TensorDataset(IMAGES, LABELS == 0), (LABELS == 0).long()),
    ],
)
@pytest.mark.parametrize("size", [27, 32])
def test_each_class_has_its_share_however_the_data_set_keeps_its_labels(
    dataset: Dataset[object], labels: Tensor, size: int
) -> None:
    indices = draw_indices(dataset, size)
    assert_drawn(indices, size, len(labels))
    assert_stratified(indices, labels)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 5), min_size=2, max_size=60), st.data(), st.integers(0, 2**31))
def test_any_size_of_any_labels_is_stratified(labels: list[int], data: st.DataObject, seed: int) -> None:
    size = data.draw(st.integers(2, len(labels)))
    classes = torch.tensor(labels)
    indices = draw_indices(TensorDataset(torch.zeros(len(labels)), classes), size, seed)
    assert_drawn(indices, size, len(labels))
    assert_stratified(indices, classes)


def test_where_items_must_be_loaded_four_times_the_probe_is_enough() -> None:
    loaded: set[int] = set()

    class Slow(Items):
        def __getitem__(self, index: int) -> object:
            loaded.add(index)
            return super().__getitem__(index)

    indices = draw_indices(Slow([(0.0, int(label)) for label in LABELS]), 10)
    assert_drawn(indices, 10, 100)
    assert len(loaded) == 40
    assert set(indices) <= loaded


@pytest.mark.parametrize(
    "dataset",
    [
        TensorDataset(IMAGES),
        TensorDataset(IMAGES, IMAGES),
        TensorDataset(IMAGES, LABELS.float()),
        Items(list(IMAGES)),
        Items([(x, "a word") for x in IMAGES]),
        Items([(x, x.expand(3)) for x in IMAGES]),
        Items([(x, None) for x in IMAGES]),
        Items([{"image": x} for x in IMAGES]),
    ],
)
def test_without_classes_the_draw_is_uniform(dataset: Dataset[object]) -> None:
    assert_drawn(draw_indices(dataset, 20), 20, 100)
    generator = torch.Generator().manual_seed(0)
    assert draw_indices(dataset, 20) == sorted(torch.randperm(100, generator=generator)[:20].tolist())


@pytest.mark.parametrize("dataset", [TensorDataset(IMAGES, LABELS), TensorDataset(IMAGES)])
def test_the_seed_alone_decides(dataset: Dataset[object]) -> None:
    with assert_leaves_random_state():
        first = draw_indices(dataset, 20, seed=3)
    torch.rand(5)
    assert draw_indices(dataset, 20, seed=3) == first
    assert draw_indices(dataset, 20, seed=4) != first


def test_the_whole_data_set_can_be_the_probe() -> None:
    assert draw_indices(TensorDataset(IMAGES, LABELS), 100) == list(range(100))


class Endless(Dataset[object]):
    def __getitem__(self, index: int) -> object:
        return index


@pytest.mark.parametrize(
    ("dataset", "size", "message"),
    [
        (TensorDataset(IMAGES), 101, r"probe=101, but the data set has 100 samples\. Pass probe=100 or fewer"),
        (TensorDataset(IMAGES), 1, r"probe=1: a probe needs at least 2 samples"),
        (TensorDataset(IMAGES), 0, r"probe=0: a probe needs at least 2 samples"),
        (Endless(), 4, r"cannot draw a probe from Endless, .* Pass samples of your own: probe=\(inputs, targets\)"),
        (Stream(3), 4, r"probe=4, but the data set has 3 samples"),
        (Stream(3), 1, r"probe=1: a probe needs at least 2 samples"),
    ],
)
def test_a_draw_that_cannot_be_made_gets_a_sentence(dataset: Dataset[object], size: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        draw_batch(dataset, size, default_collate)


def test_a_batch_is_collated_as_the_loader_would() -> None:
    dataset = TensorDataset(IMAGES, LABELS)
    images, labels = draw_batch(dataset, 10, default_collate, seed=2)
    indices = draw_indices(dataset, 10, seed=2)
    assert torch.equal(images, IMAGES[indices])
    assert torch.equal(labels, LABELS[indices])
    assert draw_batch(dataset, 10, len, seed=2) == 10


def test_an_iterable_data_set_gives_its_first_samples() -> None:
    images, labels = draw_batch(Stream(10), 4, default_collate)
    assert images.flatten().tolist() == [0.0, 1.0, 2.0, 3.0]
    assert labels.tolist() == [0, 1, 0, 1]


# ----------------------------------------------------------------------------------------------- reading a batch

X, Y = torch.arange(6.0).reshape(2, 3), torch.tensor([0, 1])


@dataclass
class Sample:
    image: Tensor
    label: Tensor


@dataclass
class Unusual:
    pixels: Tensor


Pair = namedtuple("Pair", ["left", "right"])


@pytest.mark.parametrize(
    "batch",
    [
        (X, Y),
        [X, Y],
        (X, Y, "file names"),
        Pair(X, Y),
        {"x": X, "y": Y},
        {"label": Y, "image": X},
        {"pixel_values": X, "labels": Y, "index": Y},
        {"input": X, "target": Y},
        Sample(X, Y),
    ],
    ids=lambda batch: type(batch).__name__,
)
def test_inputs_and_targets_are_found(batch: object) -> None:
    """By name the inputs stay what they are, for the network may want the rest; X is the tensor."""
    read = read_batch(batch, 2)
    assert read.x is X
    assert split(batch)[0] is (X if isinstance(batch, list | tuple) and not isinstance(batch, Pair) else read.inputs)
    assert split(batch)[1] is Y
    assert torch.equal(read.targets, Y)  # type: ignore[arg-type]  # there are some


@pytest.mark.parametrize(
    "batch", [X, (X,), [X], {"x": X}, (X, None), (X, "words"), (X, [Y[:1], Y[:1]]), {"x": X, "y": {}}]
)
def test_a_batch_without_targets_has_none(batch: object) -> None:
    read = read_batch(batch, 2)
    assert read.x is X
    assert read.targets is None


@pytest.mark.parametrize("batch", [{"left": X, "right": Y}, Unusual(X)])
def test_without_a_usual_name_the_whole_batch_is_the_input(batch: object) -> None:
    read = read_batch(batch, 2)
    assert read.inputs is batch
    assert read.x is X
    assert read.targets is None


@pytest.mark.parametrize("value", [3, True, 0.5])
def test_a_number_is_a_target(value: float) -> None:
    """Of an item: draws are stratified by it."""
    targets = split((X, value))[1]
    assert targets is value


# ------------------------------------------------------------------------------------------------ ready-made batches


def test_ready_made_batches_are_joined_and_cut() -> None:
    batches = [{"x": IMAGES[start : start + 3], "y": LABELS[start : start + 3]} for start in range(0, 9, 3)]
    found = first_of_batches(batches, 7)  # type: ignore[arg-type]  # a list is one
    assert torch.equal(found["x"], IMAGES[:7])
    assert torch.equal(found["y"], LABELS[:7])


def test_a_stream_of_batches_is_read_no_further_than_needed() -> None:
    def stream() -> Iterator[tuple[Tensor, Tensor]]:
        yield IMAGES[:4], LABELS[:4]
        yield IMAGES[4:8], LABELS[4:8]
        raise AssertionError("one batch too many")

    images, labels = first_of_batches(stream(), 5)  # type: ignore[arg-type]
    assert torch.equal(images, IMAGES[:5])
    assert torch.equal(labels, LABELS[:5])


def test_too_few_ready_made_samples_are_refused() -> None:
    with pytest.raises(ValueError, match="probe=9, but the data set has 4 samples"):
        first_of_batches([(IMAGES[:4], LABELS[:4])], 9)  # type: ignore[arg-type]
