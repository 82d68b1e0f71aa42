"""Readouts: closed forms, masks by their names, and what is read can be written back."""

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from lightning_infoplane import Maps, PerGraph, TimeFirst, Tokens
from lightning_infoplane.network.readout import Readout, mask_of, readout_of, rows_by

H = torch.tensor([[[1.0], [3.0], [9.0]], [[2.0], [7.0], [5.0]]])
KEPT = torch.tensor([[1, 1, 0], [1, 0, 0]])
MASKED = {"attention_mask": KEPT}


@pytest.mark.parametrize(
    ("readout", "plain", "masked"),
    [
        (Tokens("mean"), [[13 / 3], [14 / 3]], [[2.0], [2.0]]),
        (Tokens("first"), [[1.0], [2.0]], [[1.0], [2.0]]),
        (Tokens("last"), [[9.0], [5.0]], [[3.0], [2.0]]),
        (Tokens("each"), H.tolist(), [[[1.0], [3.0], [0.0]], [[2.0], [0.0], [0.0]]]),
    ],
    ids=str,
)
def test_tokens_in_closed_form(readout: Tokens, plain: Any, masked: Any) -> None:
    torch.testing.assert_close(readout.read(H, H, 2), torch.tensor(plain))
    torch.testing.assert_close(readout.read(H, MASKED, 2), torch.tensor(masked))


@pytest.mark.parametrize(
    "inputs",
    [
        {"attention_mask": KEPT},
        {"attention_mask": KEPT.bool()},
        {"attention_mask": KEPT.float()},
        {"encoder": {"mask": KEPT}},
        {"src_key_padding_mask": KEPT == 0},
        {"padding_mask": (KEPT == 0).float()},
        {"attention_mask": torch.ones(2, 9), "mask": KEPT},
    ],
    ids=lambda inputs: ", ".join(inputs),
)
def test_a_mask_is_known_by_its_name_and_shape(inputs: dict[str, Any]) -> None:
    mask = mask_of(inputs, torch.Size([2, 3]))
    assert mask is not None
    assert torch.equal(mask, KEPT.bool())


def test_other_tensors_of_that_shape_are_no_masks() -> None:
    assert mask_of({"token_type_ids": KEPT, "labels": KEPT}, torch.Size([2, 3])) is None
    assert mask_of(KEPT, torch.Size([2, 3])) is None


def test_a_mask_may_be_named_or_made() -> None:
    assert float(Tokens(mask="keep").read(H, {"keep": KEPT}, 2)[0]) == 2.0  # type: ignore[index]
    assert float(Tokens(mask=lambda inputs: inputs["x"] > 0).read(H, {"x": KEPT}, 2)[0]) == 2.0  # type: ignore[index]
    with pytest.raises(LookupError, match="there is no 'kept' in the batch: it has 'keep'"):
        Tokens(mask="kept").read(H, {"keep": KEPT}, 2)


@pytest.mark.parametrize("pool", ["mean", "first", "last", "each"])
def test_padding_may_be_nan(pool: Any) -> None:
    dirty = torch.where(KEPT.bool().unsqueeze(-1), H, torch.nan)
    found = Tokens(pool).read(dirty, MASKED, 2)
    assert found is not None
    assert bool(found.isfinite().all())
    assert torch.equal(found, Tokens(pool).read(H, MASKED, 2))  # type: ignore[arg-type]


def test_a_sample_without_any_token_is_zero() -> None:
    none = {"attention_mask": torch.zeros(2, 3)}
    assert torch.equal(Tokens().read(H, none, 2), torch.zeros(2, 1))  # type: ignore[arg-type]


@pytest.mark.parametrize("readout", [Maps(), Tokens("mean"), TimeFirst()], ids=str)
def test_vectors_and_images_are_read_as_they_are(readout: Readout) -> None:
    for tensor in (torch.rand(4, 5), torch.rand(4, 3, 2, 2)):
        assert readout.read(tensor, None, 4) is tensor
    assert readout.read(torch.rand(7, 5), None, 4) is None


# ---------------------------------------------------------------------------------------------------------- graphs

NODES = torch.tensor([[1.0], [3.0], [5.0]])
GRAPHS = {"batch": torch.tensor([0, 0, 1]), "edge_index": torch.tensor([[0, 1, 2, 2], [1, 0, 2, 2]])}


def test_nodes_edges_and_graphs() -> None:
    edges = torch.tensor([[1.0], [2.0], [3.0], [5.0]])
    assert torch.equal(PerGraph().read(NODES, GRAPHS, 2), torch.tensor([[2.0], [5.0]]))  # type: ignore[arg-type]
    assert torch.equal(PerGraph(pool="sum").read(edges, GRAPHS, 2), torch.tensor([[3.0], [8.0]]))  # type: ignore[arg-type]
    graphs = torch.rand(2, 7)
    assert PerGraph().read(graphs, GRAPHS, 2) is graphs
    assert PerGraph().read(torch.rand(6, 7), GRAPHS, 2) is None


def test_a_graph_without_nodes_is_zero() -> None:
    owner = {"batch": torch.tensor([0, 0, 2])}
    assert PerGraph().read(NODES, owner, 3).flatten().tolist() == [2.0, 0.0, 5.0]  # type: ignore[union-attr]


def test_the_owner_of_nodes_may_lie_deeper() -> None:
    nested = {"bmg": GRAPHS}
    assert PerGraph("bmg.batch").read(NODES, nested, 2).flatten().tolist() == [2.0, 5.0]  # type: ignore[union-attr]
    assert rows_by({"*": Maps(), "gcn": PerGraph("bmg.batch")})(NODES, nested, 2) is not None
    assert rows_by(Maps())(NODES, nested, 2) is None


# --------------------------------------------------------------------------------------------------- there and back

CASES: list[tuple[Readout, Any, tuple[int, ...]]] = [
    (Maps(), None, (2, 3, 4)),
    (TimeFirst(), None, (3, 2, 4)),
    *((Tokens(pool), inputs, (2, 3, 4)) for pool in ("mean", "first", "last", "each") for inputs in (None, MASKED)),  # type: ignore[arg-type]
    *((PerGraph(pool=pool), GRAPHS, (rows, 4)) for pool in ("mean", "sum") for rows in (2, 3, 4)),  # type: ignore[arg-type]
]


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 2**31))
@pytest.mark.parametrize(("readout", "inputs", "shape"), CASES, ids=str)
def test_what_was_written_is_read_and_what_was_read_changes_nothing(
    readout: Readout, inputs: Any, shape: tuple[int, ...], seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    tensor = torch.randn(shape, generator=generator, dtype=torch.float64)
    read = readout.read(tensor, inputs, 2)
    assert read is not None
    again = readout.write(tensor, inputs, 2, read)
    torch.testing.assert_close(again, tensor)
    other = torch.randn(shape, generator=generator, dtype=torch.float64)
    value = readout.read(other, inputs, 2)
    assert value is not None
    written = readout.write(tensor, inputs, 2, value)
    assert written is not None
    assert written.shape == tensor.shape
    torch.testing.assert_close(readout.read(written, inputs, 2), value)


# ---------------------------------------------------------------------------------------------------------- choice


def test_the_first_key_that_means_a_layer_counts() -> None:
    def matches(key: Any, name: str, module: nn.Module) -> bool:
        return key == name or (isinstance(key, type) and isinstance(module, key))

    wanted = {"a": Maps(), nn.Linear: Tokens()}
    layer = nn.Linear(1, 1)
    assert readout_of(wanted, "a", layer, matches) == Maps()
    assert readout_of(wanted, "b", layer, matches) == Tokens()
    assert readout_of(wanted, "b", nn.Tanh(), matches) is None
    assert readout_of(None, "b", layer, matches) is None
