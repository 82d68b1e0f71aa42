"""How batches are read, of every shape that people give them: what the network gets, what is X, what is Y."""

from collections import UserDict, namedtuple
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from properties import normal
from torch import Tensor

import lightning_infoplane
from lightning_infoplane import PerGraph
from lightning_infoplane.arguments.errors import NotMeasurableError, SetupError
from lightning_infoplane.network.batches import pick, read_batch, split
from lightning_infoplane.network.calls import Taken
from lightning_infoplane.network.readout import rows_by

N = 6
X = normal(N, 8, dtype=torch.float32)
MORE = normal(N, 3, seed=1, dtype=torch.float32)
Y = torch.arange(N) % 3
NUMBERS = torch.arange(N)
TOKENS = torch.arange(4 * N).reshape(N, 4) % 7
MASK = torch.ones(N, 4, dtype=torch.long)
EMPTY = torch.zeros(N, 0)
ONES = torch.ones(N, 8)
RATE = torch.full((N,), 16_000)
NAMES = [f"{i}.png" for i in range(N)]
TWO = Taken(("left", "right"), ("left", "right"), False, False)


@dataclass
class Data:
    """A batch as a dataclass."""

    label: Tensor
    image: Tensor


class Fields:
    """A batch as an object with tensors."""

    def __init__(self) -> None:
        self.size, self.targets, self.features = 6, Y, X


class ByKey:
    """Read and written by key, without being a mapping, as batches of graph libraries are."""

    def __init__(self, **held: Any) -> None:
        self.held = held

    def keys(self) -> list[str]:
        return list(self.held)

    def __getitem__(self, key: str) -> Any:
        return self.held[key]

    def __setitem__(self, key: str, value: Any) -> None:
        self.held[key] = value


Sample = namedtuple("Sample", ["image", "label"])
Odd = namedtuple("Odd", ["first", "second"])


@pytest.mark.parametrize(
    ("batch", "x", "y"),
    [
        (X, "batch", None),
        ((X, Y), "batch[0]", "batch[1]"),
        ([X, Y], "batch[0]", "batch[1]"),
        ((X,), "batch[0]", None),
        ((Y, X), "batch[1]", "batch[0]"),
        ((NAMES, X, Y), "batch[1]", "batch[2]"),
        ((NUMBERS, X, Y), "batch[1]", "batch[2]"),
        ((X, Y, NUMBERS), "batch[0]", "batch[1]"),
        ((X, RATE, Y), "batch[0]", "batch[2]"),
        ((X, Y, NAMES), "batch[0]", "batch[1]"),
        (([X, X + 1], Y), "batch[0].0", "batch[1]"),
        (((X, MORE), Y), "batch[0].0", "batch[1]"),
        (({"a": X, "b": MORE}, Y), "batch[0].a", "batch[1]"),
        ((X, (Y, None)), "batch[0]", "batch[1].0"),
        ((X, {"class": Y, "box": MORE}), "batch[0]", "batch[1].class"),
        (({"cat": EMPTY.long(), "cont": X, "decoder_target": MORE}, (Y, None)), "batch[0].cont", "batch[1].0"),
        ((X, MORE), "batch[0]", "batch[1]"),
        ((TOKENS, Y), "batch[0]", "batch[1]"),
        ({"labels": Y, "pixel_values": X}, "pixel_values", "labels"),
        ({"labels": Y, "input_values": X, "attention_mask": MASK}, "input_values", "labels"),
        ({"labels": TOKENS, "input_features": X}, "input_features", "labels"),
        ({"Y": Y, "spectrum": X}, "spectrum", "Y"),
        ({"outcome": Y, "spectrum": X}, "spectrum", None),
        ({"label": MORE, "mask": MASK.float(), "empty": EMPTY, "ones": ONES, "own": X}, "own", "label"),
        ({"decoder_target": MORE, "encoder_cont": X}, "encoder_cont", "decoder_target"),
        ({"label": Y, "input_ids": TOKENS, "attention_mask": MASK, "token_type_ids": MASK}, "input_ids", "label"),
        ({"input_ids": TOKENS, "pixel_values": X, "labels": Y}, "pixel_values", "labels"),
        ({"inputs": {"a": X, "b": MORE}, "labels": Y}, "inputs.a", "labels"),
        (UserDict({"label": Y, "image": X}), "image", "label"),
        (Data(Y, X), "image", "label"),
        (Sample(X, Y), "image", "label"),
        (Odd(X, Y), "first", "second"),
        (Fields(), "features", "targets"),
        (ByKey(y=Y, x=X), "x", "y"),
        ((X.to(torch.uint8), Y), "batch[0]", "batch[1]"),
    ],
)
def test_x_and_y_are_what_a_person_would_say(batch: Any, x: str, y: str | None) -> None:
    read = read_batch(batch, N)
    assert read.x_name == x
    assert (read.y_name if read.targets is not None else None) == y


def test_targets_are_never_x_wherever_they_stand() -> None:
    """Of names, by identity, and where nothing else has distances."""
    assert read_batch({"labels": MORE, "x": X, "again": MORE}, N).x is X
    with pytest.raises(NotMeasurableError, match="can stand for X"):
        read_batch({"labels": MORE, "words": NAMES}, N)


def test_what_is_all_alike_is_x_only_where_there_is_nothing_else() -> None:
    assert read_batch({"ones": ONES, "labels": Y}, N).x is ONES


@pytest.mark.parametrize(
    ("batch", "inputs", "targets"),
    [
        ((X, MORE, Y), {"left": X, "right": MORE}, Y),
        ((X, Y), {"left": X, "right": Y}, Y),
        ((X, MORE), {"left": X, "right": MORE}, None),
        (((X, MORE), Y), (X, MORE), Y),
    ],
)
def test_a_forward_of_two_is_given_two_by_name(batch: Any, inputs: Any, targets: Tensor | None) -> None:
    found, answer = split(batch, TWO)
    assert list(found) == list(inputs)
    assert answer is targets


def test_a_batch_that_collating_made_larger_is_read_whole() -> None:
    """Two views of each sample, one after the other."""
    read = read_batch((torch.cat([X, X]), torch.cat([Y, Y])), N)
    assert len(read.x) == 2 * N


@pytest.mark.parametrize(
    ("keys", "x", "y"),
    [
        ({"x": "more"}, MORE, Y),
        ({"x": lambda batch: batch["image"] * 2}, 2 * X, Y),
        ({"targets": "more"}, X, MORE),
        ({"inputs": ("more", "image")}, MORE, Y),
        ({"inputs": "image", "targets": lambda batch: batch["label"] + 1}, X, Y + 1),
    ],
)
def test_what_is_said_counts(keys: dict[str, Any], x: Tensor, y: Tensor) -> None:
    read = read_batch({"label": Y, "image": X, "more": MORE}, N, **keys)
    assert torch.equal(read.x, x)
    assert read.targets is not None
    assert torch.equal(read.targets, y)


@pytest.mark.parametrize(
    ("key", "sentence"),
    [
        ("pixels", r"x='pixels' of the probe cannot be read: there is no 'pixels' in the batch: it has 'image'\."),
        ("image.deep", "x='image.deep' of the probe cannot be read: there is no "),
        (3, "x=3 of the probe cannot be read: there is no 3 in the batch"),
        (lambda batch: batch.image, "x=a function of the probe cannot be read: AttributeError"),
    ],
)
def test_a_key_that_a_batch_lacks_is_an_error(key: Any, sentence: str) -> None:
    with pytest.raises(SetupError, match=sentence):
        pick({"image": X}, "x", key)


# --------------------------------------------------------------------------- what cannot be read, and the remedy

OWNER = torch.repeat_interleave(torch.arange(N), torch.tensor([2, 3, 2, 4, 2, 3]))
NODES = normal(len(OWNER), 8, seed=2, dtype=torch.float32)
EDGES = torch.stack([torch.arange(len(OWNER)), torch.arange(len(OWNER)).roll(1)])
RAGGED = tuple(normal(3, 8, 6 + i % 3, seed=i, dtype=torch.float32) for i in range(N))
SERIES = [normal(5 + i, 2, seed=i, dtype=torch.float32) for i in range(N)]


def remedy(batch: Any, argument: str) -> Any:
    """What the sentence says to pass, evaluated."""
    with pytest.raises(NotMeasurableError, match=rf"pass|Pass {argument}=") as told:
        read_batch(batch, N)
    code = str(told.value).rpartition(f"{argument}=")[2].removesuffix(".")
    return eval(code, {"torch": torch, **{name: getattr(lightning_infoplane, name) for name in ("Draw", "PerGraph")}})


@pytest.mark.parametrize(
    ("batch", "path"),
    [
        (ByKey(x=NODES, edge_index=EDGES, batch=OWNER, y=Y), "batch"),
        ({"graph": ByKey(V=NODES, batch=OWNER), "weights": torch.ones(N, 1), "Y": Y}, "graph.batch"),
    ],
)
def test_of_graphs_it_says_which_readout(batch: Any, path: str) -> None:
    readout = remedy(batch, "readout")
    assert readout == PerGraph(path)
    read = read_batch(batch, N, of_rows=rows_by(readout))
    assert read.x.shape == (N, 8)
    torch.testing.assert_close(read.x[0], NODES[OWNER == 0].mean(0))


@pytest.mark.parametrize("batch", [(RAGGED, Y), {"images": list(RAGGED), "labels": Y}, (SERIES, Y)])
def test_of_samples_of_many_sizes_it_says_how_to_make_them_one(batch: Any) -> None:
    draw = remedy(batch, "probe")
    read = read_batch(batch, N, x=draw.x)
    assert len(read.x) == N
    assert read.targets is Y or torch.equal(read.targets, Y)


def test_of_anything_else_it_says_what_there_is() -> None:
    with pytest.raises(NotMeasurableError, match=r"it holds words\.0 \(5,\).* Pass probe=Draw\(6, x=lambda batch: "):
        read_batch({"words": (torch.arange(5), torch.zeros(3))}, N)
