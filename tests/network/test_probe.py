"""The fixed probe: what it holds, how it goes in pieces, what tells two of them apart, and how to have it drawn."""

from collections import namedtuple
from collections.abc import Callable, Sequence

import pytest
import torch
from properties import assert_is_a_value

from lightning_infoplane.network.probe import Draw, Probe

X, Y = torch.zeros(2, 3), torch.tensor([0, 1])
Pair = namedtuple("Pair", ["left", "right"])


def test_a_probe_knows_its_tensor_and_its_size() -> None:
    probe = Probe({"mask": X, "text": "words"}, Y)
    assert probe.x is X
    assert probe.size == 2


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Probe(X[:1]), r"a probe needs at least 2 samples, got 1"),
        (lambda: Probe(X[:0]), r"a probe needs at least 2 samples, got 0"),
        (lambda: Probe("words"), r"must be or hold a tensor \(n, \.\.\.\), got str"),
        (lambda: Probe({"a": 1}), r"must be or hold a tensor \(n, \.\.\.\), got dict"),
        (lambda: Probe(torch.tensor(1.0)), r"must be or hold a tensor \(n, \.\.\.\), got a single number"),
        (lambda: Probe(X, torch.arange(3)), r"the probe has 2 inputs but 3 targets"),
        (lambda: Probe(X, torch.tensor(1)), r"the probe has 2 inputs but a single number as targets"),
    ],
)
def test_a_probe_that_cannot_be_measured_on_gets_a_sentence(make: Callable[[], Probe], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize("size", [1, 3, 7, 10, None])
def test_pieces_put_together_are_the_inputs(size: int | None) -> None:
    x, mask = torch.arange(14.0).reshape(7, 2), torch.arange(7)
    probe = Probe(Pair({"x": x, "mask": [mask, "words"]}, torch.ones(3)))
    pieces = list(probe.pieces(size))
    assert sum(count for _, count in pieces) == 7
    assert all(len(piece.left["x"]) == count for piece, count in pieces)
    assert torch.equal(torch.cat([piece.left["x"] for piece, _ in pieces]), x)
    assert torch.equal(torch.cat([piece.left["mask"][0] for piece, _ in pieces]), mask)
    assert all(piece.left["mask"][1] == "words" and len(piece.right) == 3 for piece, _ in pieces)


def test_a_fingerprint_is_a_function_of_the_content() -> None:
    probe = Probe(torch.arange(6.0).reshape(2, 3), Y)
    assert probe.fingerprint() == Probe(torch.arange(6.0).reshape(2, 3).clone(), Y.clone()).fingerprint()


@pytest.mark.parametrize(
    "other",
    [
        Probe(torch.arange(1.0, 7.0).reshape(2, 3), Y),
        Probe(torch.arange(6.0).reshape(3, 2), torch.tensor([0, 1, 1])),
        Probe(torch.arange(6.0).reshape(2, 1, 3), Y),
        Probe(torch.arange(6.0, dtype=torch.float64).reshape(2, 3), Y),
        Probe(torch.arange(6.0).reshape(2, 3), Y.flip(0)),
        Probe(torch.arange(6.0).reshape(2, 3), Y.int()),
        Probe(torch.arange(6.0).reshape(2, 3), None),
        Probe(torch.arange(6.0).reshape(2, 3).flip(0), Y),
    ],
)
def test_another_content_shape_or_dtype_has_another_fingerprint(other: Probe) -> None:
    assert Probe(torch.arange(6.0).reshape(2, 3), Y).fingerprint() != other.fingerprint()


@pytest.mark.parametrize(
    "dtype", [torch.bfloat16, torch.float16, torch.float64, torch.uint8, torch.bool, torch.complex64], ids=str
)
def test_every_dtype_has_a_fingerprint(dtype: torch.dtype) -> None:
    x = torch.tensor([[0, 1], [1, 1]]).to(dtype)
    assert Probe(x).fingerprint() == Probe(x.clone()).fingerprint() != Probe(x.flip(0)).fingerprint()


def test_strides_gradients_and_empty_samples_do_not_matter_to_it() -> None:
    x = torch.arange(6.0).reshape(2, 3)
    strided = x.mT.contiguous().mT
    assert not strided.is_contiguous()
    assert Probe(strided).fingerprint() == Probe(x).fingerprint()
    assert Probe(x.clone().requires_grad_()).fingerprint() == Probe(x).fingerprint()
    assert Probe(torch.zeros(2, 0)).fingerprint() != Probe(torch.zeros(3, 0)).fingerprint()


def test_graphs_go_through_whole() -> None:
    """Their nodes are in one tensor, which cannot be cut where the samples end."""
    graphs = {"nodes": torch.zeros(5, 2), "batch": torch.tensor([0, 0, 1, 1, 2])}
    ((inputs, n),) = Probe(graphs, x=torch.eye(3)).pieces(2)
    assert n == 3
    assert len(inputs["nodes"]) == len(inputs["batch"]) == 5


@pytest.mark.parametrize(("n", "at_most", "few"), [(7, 4, 3), (8, 4, 4), (20, 4, 4), (2, 4, 1), (3, 4, 1)])
def test_halves_are_the_first_samples_and_as_many_others(n: int, at_most: int, few: int) -> None:
    x, mask = torch.arange(2.0 * n).reshape(n, 2), torch.arange(n)
    one, other = Probe({"x": x, "mask": (mask, "words")}).halves(at_most)
    assert torch.equal(one["x"], x[:few])
    assert torch.equal(other["x"], x[few : 2 * few])
    assert one["mask"][0].tolist() == list(range(few))
    assert other["mask"][0].tolist() == list(range(few, 2 * few))
    assert one["mask"][1] == other["mask"][1] == "words"


def test_rows_are_those_samples_of_every_tensor_that_has_them() -> None:
    probe = Probe((torch.arange(4.0), torch.ones(3), torch.tensor(5.0)))
    samples, other, number = probe.rows(slice(1, 3))
    assert samples.tolist() == [1.0, 2.0]
    assert len(other) == 3
    assert float(number) == 5


# ------------------------------------------------------------------------------------------------------- a draw


def test_a_draw_is_of_512_validation_samples_unless_told_otherwise() -> None:
    assert Draw() == Draw(512, "val")


@pytest.mark.parametrize(
    ("source", "sources"),
    [
        ("val", ("val",)),
        ("train", ("train",)),
        (("train",), ("train",)),
        (("train", "val"), ("train", "val")),
        (["val", "train"], ("val", "train")),
    ],
)
def test_sources_are_a_tuple_also_where_there_is_one(source: str | Sequence[str], sources: tuple[str, ...]) -> None:
    assert Draw(16, source).sources == sources  # type: ignore[arg-type]


@pytest.mark.parametrize("draw", [Draw(), Draw(2), Draw(64, "train"), Draw(64, ("train", "val"))], ids=repr)
def test_a_draw_is_a_value(draw: Draw) -> None:
    assert_is_a_value(draw)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Draw(1), r"probe=1: a probe needs at least 2 samples\. Some hundred give useful numbers"),
        (lambda: Draw(0), r"probe=0: a probe needs at least 2 samples"),
        (lambda: Draw(-5), r"probe=-5: a probe needs at least 2 samples"),
        (lambda: Draw(8, "test"), r"source='test': expected 'val', 'train' or both, \('train', 'val'\)"),
        (lambda: Draw(8, ()), r"source=\(\): expected 'val', 'train' or both"),
        (lambda: Draw(8, ("train", "test")), r"source=\('train', 'test'\): expected 'val', 'train' or both"),
        (lambda: Draw(8, ""), r"source='': expected 'val', 'train' or both"),
    ],
)
def test_a_draw_that_means_nothing_gets_a_sentence(make: Callable[[], Draw], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()
