"""Reading layers: which tensor of an output is measured, where its samples lie, and the way back into the output."""

import warnings
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from properties import normal
from torch import Tensor, nn

from lightning_infoplane import Maps, PerGraph, TimeFirst, Tokens
from lightning_infoplane.network.reader import FIRST, Place, Reader, place_of
from lightning_infoplane.network.readout import Readout
from lightning_infoplane.network.structures import tensors_in

N = 4
H = normal(N, 3, 5, dtype=torch.float32)
COUNT = torch.arange(7)


def read(reader: Reader, output: Any, name: str = "layer", inputs: Any = None, n: int = N) -> Tensor:
    """What is measured, where there is something."""
    found = reader.read(name, output, inputs, n)
    assert found is not None
    return found


# --------------------------------------------------------------------------------------------------- which tensor


@pytest.mark.parametrize(
    "output",
    [
        H,
        (H, torch.zeros(N, 9)),
        (None, "words", H),
        {"size": COUNT, "hidden": H},
        (torch.zeros(7, 2), H),
        (torch.arange(N), [H]),
        (torch.tensor(0.5), H),
        (torch.ones(N, 2, device="meta"), H),
    ],
    ids=["itself", "the first", "no tensor", "integers", "other rows", "classes", "a number", "no numbers"],
)
def test_the_first_floats_with_a_row_a_sample_are_read(output: Any) -> None:
    assert torch.equal(read(FIRST, output), H)
    assert FIRST.tensor("layer", output, None, N) is H


@pytest.mark.parametrize(
    "output", [None, "words", COUNT, torch.zeros(7, 2), torch.tensor(1.0), (), torch.arange(N)], ids=repr
)
def test_where_nothing_has_a_row_a_sample_nothing_is_read_nor_written(output: Any) -> None:
    assert FIRST.read("layer", output, None, N) is None
    assert FIRST.write("layer", output, None, N, H) is None
    assert FIRST.tensor("layer", output, None, N) is None


def test_truth_values_and_complex_numbers_are_read_as_floats() -> None:
    assert torch.equal(read(FIRST, H > 0), (H > 0).float())
    assert torch.equal(read(FIRST, torch.complex(H, -H)), torch.stack([H, -H], -1))


def test_the_tensor_of_a_places_index_is_read_and_no_other() -> None:
    places = {"lstm": Place(2, 1)}
    output, (h, c) = nn.LSTM(5, 6, batch_first=True)(H)
    assert torch.equal(read(Reader(places=places), (output, (h, c)), "lstm"), c.movedim(1, 0))
    assert Reader(places=places).tensor("lstm", (output, (h, c)), None, N) is c


# ---------------------------------------------------------------------------------------------- where samples lie


@pytest.mark.parametrize("kind", [nn.RNN, nn.GRU, nn.LSTM])
@pytest.mark.parametrize("steps", [3, N], ids=["T < n", "T == n"])
def test_recurrent_layers_are_read_by_sample_on_whichever_axis_these_lie(kind: type[nn.Module], steps: int) -> None:
    x = normal(N, steps, 5, dtype=torch.float32)
    torch.manual_seed(0)
    first: Any = kind(5, 6, batch_first=True)
    time: Any = kind(5, 6)
    time.load_state_dict(first.state_dict())
    by_sample, by_time = first(x), time(x.movedim(0, 1))
    torch.testing.assert_close(read(Reader({"rnn": first}), by_sample, "rnn"), by_sample[0])
    torch.testing.assert_close(read(Reader({"rnn": time}), by_time, "rnn"), by_sample[0])


def test_as_many_steps_as_samples_are_told_apart_by_a_place() -> None:
    """Nothing in the shape (4, 4, 6) says which axis is time; a pass of three samples does."""
    layer = nn.Sequential(nn.Linear(5, 6))
    x = normal(N, N, 5, dtype=torch.float32)
    with torch.no_grad():
        output, fewer = layer(x), layer(x[:, :3])
    place = place_of(output, fewer, N, 3)
    assert place == Place(0, 1)
    assert torch.equal(read(Reader({"layer": layer}, {}, {"layer": place}), output), output.movedim(1, 0))
    assert torch.equal(read(Reader({"layer": layer}), output), output)


@pytest.mark.parametrize("batch_first", [True, False])
def test_a_transformer_layer_tells_by_its_attention(batch_first: bool) -> None:
    layer = nn.TransformerEncoderLayer(6, 2, 8, batch_first=batch_first)
    square = normal(N, N, 6, dtype=torch.float32)
    expected = square if batch_first else square.movedim(1, 0)
    assert torch.equal(read(Reader({"block": layer}), square, "block"), expected)


def test_time_first_is_a_readout_too() -> None:
    wanted = Reader({}, {"layer": TimeFirst()})
    square = normal(N, N, 6, dtype=torch.float32)
    assert torch.equal(read(wanted, square), square.movedim(1, 0))


@pytest.mark.parametrize(
    ("output", "other", "place"),
    [
        (torch.zeros(4, 8), torch.zeros(3, 8), Place(0, 0)),
        (torch.zeros(9, 4, 8), torch.zeros(9, 3, 8), Place(0, 1)),
        ((COUNT, torch.zeros(4, 8)), (COUNT, torch.zeros(3, 8)), Place(1, 0)),
        (torch.zeros(9, 8), torch.zeros(9, 8), None),
        (torch.zeros(4, 8), torch.zeros(3, 2, 8), None),
        ("words", "words", None),
        (torch.arange(4), torch.arange(3), None),
        (torch.zeros(8, 5), torch.zeros(6, 5), None),
    ],
)
def test_the_place_is_what_changes_with_the_number_of_samples(output: Any, other: Any, place: Place | None) -> None:
    assert place_of(output, other, 4, 3) == place
    assert place_of(other, output, 3, 4) == place


# ---------------------------------------------------------------------------------------------- rows of windows

WINDOWS = normal(N * 6, 5, dtype=torch.float32)


def test_windows_of_a_sample_are_rows_one_after_the_other() -> None:
    place = place_of(WINDOWS, WINDOWS[:18], N, 3)
    assert place == Place(0, 0, rows=6)
    reader = Reader(places={"layer": place})
    assert torch.equal(read(reader, WINDOWS), WINDOWS.reshape(N, 6, 5))
    value = normal(N, 6, 5, seed=1, dtype=torch.float32)
    assert torch.equal(reader.write("layer", WINDOWS, None, N, value), value.reshape(24, 5))


def test_rows_of_samples_that_alternate_are_none_of_a_sample_each() -> None:
    by_sample = WINDOWS.reshape(N, 6, 5)
    mixed, fewer = by_sample.movedim(1, 0).reshape(24, 5), by_sample[:3].movedim(1, 0).reshape(18, 5)
    assert place_of(mixed, fewer, N, 3) is None


def test_a_place_that_no_longer_holds_reads_nothing() -> None:
    reader = Reader(places={"layer": Place(0, 0, rows=6), "time": Place(0, 1)})
    assert reader.read("layer", WINDOWS[:-1], None, N) is None
    assert reader.read("time", torch.zeros(N), None, N) is None


# --------------------------------------------------------------------------------------------------- how it is read


def test_a_later_call_is_read_as_the_layer_is_and_a_layer_may_have_such_a_name_itself() -> None:
    modules = {"block": nn.Identity(), "odd.call2": nn.Identity()}
    reader = Reader(modules, {"block": Tokens("first"), "odd.call2": Tokens("last")})
    for name in ("block", "block.call2", "block.call13"):
        assert torch.equal(read(reader, H, name), H[:, 0])
    assert torch.equal(read(reader, H, "odd.call2"), H[:, -1])


@pytest.mark.parametrize("batch_first", [True, False])
def test_a_later_call_of_a_recurrent_layer_has_the_same_axis(batch_first: bool) -> None:
    reader = Reader({"rnn": nn.GRU(5, 6, batch_first=batch_first)})
    square = normal(N, N, 6, dtype=torch.float32)
    assert torch.equal(read(reader, square, "rnn.call2"), read(reader, square, "rnn"))


@pytest.mark.parametrize("layer", [nn.Conv1d(3, 3, 1), nn.BatchNorm1d(3), nn.MaxPool1d(1), nn.AvgPool1d(1)])
def test_padding_of_tokens_is_zero_but_not_that_of_maps(layer: nn.Module) -> None:
    """Three channels are no three tokens."""
    inputs = {"attention_mask": torch.tensor([[1, 1, 0]] * N)}
    reader = Reader({"maps": layer, "tokens": nn.Linear(1, 1)})
    assert torch.equal(read(reader, H, "maps", inputs), H)
    tokens = read(reader, H, "tokens", inputs)
    assert torch.equal(tokens[:, :2], H[:, :2])
    assert torch.equal(tokens[:, 2], torch.zeros(N, 5))


def test_a_function_of_the_users_reads_and_does_not_write() -> None:
    def second(name: str, output: Any) -> Any:
        return output[1] if name == "layer" else None

    reader = Reader({"layer": nn.Identity()}, {"layer": second})
    assert torch.equal(read(reader, (COUNT, H)), H)
    assert reader.write("layer", (COUNT, H), None, N, H) is None
    assert reader.tensor("layer", (COUNT, H), None, N) is H


@pytest.mark.parametrize("value", ["words", None, COUNT, torch.tensor(1.0), H[1:], torch.arange(N)], ids=repr)
def test_a_function_that_gives_no_floats_with_a_row_a_sample_reads_nothing(value: Any) -> None:
    reader = Reader({"layer": nn.Identity()}, {"layer": lambda name, output: value})
    assert reader.read("layer", H, None, N) is None


def test_each_layer_has_the_readout_that_it_was_given() -> None:
    reader = Reader(dict.fromkeys("abc", nn.Identity()), {"a": Tokens("mean"), "b": lambda name, output: output * 2})
    assert torch.equal(read(reader, H, "a"), H.mean(1))
    assert torch.equal(read(reader, H, "b"), 2 * H)
    assert torch.equal(read(reader, H, "c"), H)


@pytest.mark.parametrize(
    ("readout", "leaves_out"),
    [
        (None, False),
        (Maps(), False),
        (TimeFirst(), False),
        (Tokens("each"), False),
        (Tokens("mean"), True),
        (Tokens("first"), True),
        (Tokens("last"), True),
        (PerGraph(), True),
        (lambda name, output: output, True),
    ],
)
def test_what_pools_leaves_something_out(readout: Any, leaves_out: bool) -> None:
    reader = Reader({"layer": nn.Identity()}, {} if readout is None else {"layer": readout})
    assert reader.leaves_out("layer") is leaves_out
    assert reader.leaves_out("layer.call2") is leaves_out


# --------------------------------------------------------------------------------------------------- and back again

WHOLE: list[tuple[Readout, tuple[int, ...], Place | None]] = [
    (Maps(), (N, 3, 2), None),
    (Tokens("each"), (N, 3, 2), None),
    (TimeFirst(), (3, N, 2), None),
    (Tokens("each"), (3, N, 2), Place(0, 1)),
    (Tokens("each"), (N * 3, 2), Place(0, 0, rows=3)),
    (Tokens("mean"), (3, N, 2), Place(0, 1)),
    (Tokens("last"), (N * 3, 2), Place(0, 0, rows=3)),
]


@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 2**31))
@pytest.mark.parametrize(("readout", "shape", "place"), WHOLE, ids=str)
def test_what_was_written_is_read_and_what_was_read_changes_nothing(
    readout: Readout, shape: tuple[int, ...], place: Place | None, seed: int
) -> None:
    reader = Reader({"layer": nn.Identity()}, {"layer": readout}, {} if place is None else {"layer": place})
    output, other = (normal(*shape, seed=one) for one in (seed, seed + 1))
    value = read(reader, other)
    torch.testing.assert_close(reader.write("layer", output, None, N, read(reader, output)), output)
    torch.testing.assert_close(read(reader, reader.write("layer", output, None, N, value)), value)


def test_only_the_tensor_that_is_read_is_replaced_and_the_output_itself_is_left_alone() -> None:
    state = torch.ones(2, N, 6)
    output = {"words": "text", "hidden": (H, state)}
    before = H.clone()
    written = FIRST.write("layer", output, None, N, H + 1)
    assert written["words"] == "text"
    assert torch.equal(written["hidden"][0], H + 1)
    assert written["hidden"][1] is state
    assert torch.equal(H, before)
    assert output["hidden"][0] is H


def test_a_tensor_that_is_twice_in_an_output_is_replaced_twice() -> None:
    again = tensors_in(FIRST.write("layer", (H, {"last": H}), None, N, H + 1))
    assert [torch.equal(one, H + 1) for one in again] == [True, True]


class Image(Tensor):
    """A subclass, as libraries hand them out."""


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64, torch.complex64, torch.bool], ids=str)
def test_what_is_written_has_the_dtype_that_was_there(dtype: torch.dtype) -> None:
    output = (H > 0).to(dtype)
    written = FIRST.write("layer", output, None, N, 1 - read(FIRST, output))
    assert written.dtype is dtype
    assert torch.equal(read(FIRST, written), 1 - read(FIRST, output))


def test_a_subclass_is_read_as_a_plain_tensor_and_stays_one_of_its_own() -> None:
    output = H.clone().as_subclass(Image)
    assert type(read(FIRST, output)) is Tensor
    written = FIRST.write("layer", output, None, N, H + 1)
    assert type(written) is Image
    assert torch.equal(written.as_subclass(Tensor), H + 1)


def ragged(layout: torch.layout) -> Tensor:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*nested tensors is in prototype stage", UserWarning)
        return torch.nested.nested_tensor([torch.ones(length, 5) for length in (3, 2, 1, 3)], layout=layout)


@pytest.mark.filterwarnings("ignore:.*quantiz.*:DeprecationWarning", "ignore:.*quantiz.*:UserWarning")
@pytest.mark.parametrize(
    "make",
    [
        lambda: torch.quantize_per_tensor(H, 0.1, 0, torch.qint8),
        lambda: ragged(torch.strided),
        lambda: ragged(torch.jagged),
        lambda: H.to_sparse(),
    ],
    ids=["quantised", "nested strided", "nested jagged", "sparse"],
)
def test_quantised_nested_and_sparse_outputs_are_read_but_cannot_be_written(make: Any) -> None:
    output = make()
    value = read(FIRST, output)
    assert value.shape == (N, 3, 5)
    assert FIRST.write("layer", output, None, N, value) is None


# ------------------------------------------------------------------------------------------------------- gradients


@pytest.mark.parametrize(
    ("readout", "place", "expected"),
    [
        (None, None, lambda g: g),
        (Tokens("mean"), None, lambda g: g.mean(1)),
        (Tokens("first"), Place(1, 0), lambda g: g[:, 0]),
        (lambda name, output: output[0], None, lambda g: g),
    ],
    ids=["by default", "pooled", "of a second tensor", "a function"],
)
def test_a_gradient_is_read_as_the_tensor_is(readout: Any, place: Place | None, expected: Any) -> None:
    """It is one tensor, whichever of the output's it belongs to."""
    readouts, places = {} if readout is None else {"layer": readout}, {} if place is None else {"layer": place}
    reader = Reader({"layer": nn.Identity()}, readouts, places)
    found = reader.read_gradient("layer", H, None, N)
    assert found is not None
    assert torch.equal(found, expected(H))


def test_the_gradient_of_a_time_first_layer_is_read_by_sample() -> None:
    gru = nn.GRU(5, 6)
    square = normal(N, N, 6, dtype=torch.float32)
    for reader in (Reader({"rnn": gru}), Reader({"rnn": gru}, {}, {"rnn": Place(0, 1)})):
        found = reader.read_gradient("rnn", square, None, N)
        assert found is not None
        assert torch.equal(found, square.movedim(1, 0))
    assert FIRST.read_gradient("layer", torch.zeros(7, 2), None, N) is None
