"""How a network is called: what its ``forward`` takes, and the ways that may be meant, likely ones first."""

import warnings
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from lightning_infoplane.network.calls import ANYTHING, WHOLE, Taken, Way, taken_by, ways_to_call

X, MASK, LABELS = torch.eye(4), torch.ones(4), torch.arange(4)


class Masked(nn.Module):
    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        return x


class Keyword(nn.Module):
    def forward(self, *, x: Tensor) -> Tensor:
        return x


class Free(nn.Module):
    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return args


class Supervised(nn.Module):
    def forward(self, x: Tensor, labels: Tensor) -> Tensor:
        return x


class Optional(nn.Module):
    def forward(self, x: Tensor, labels: Tensor | None = None) -> Tensor:
        return x


@dataclass
class Fields:
    x: Tensor
    labels: Tensor


def test_what_a_forward_takes() -> None:
    assert taken_by(Masked()) == Taken(("x", "mask"), ("x",), False, False)
    assert taken_by(Keyword()) == Taken(("x",), ("x",), False, False)
    assert taken_by(Free()) == ANYTHING
    assert str(ANYTHING) == "(*args, **kwargs)"


def test_a_compiled_network_takes_what_it_was_made_of_takes() -> None:
    compiled: Any = torch.compile(Masked(), backend="eager")
    assert taken_by(compiled) == taken_by(Masked())


def test_traced_torchscript_does_not_tell_and_scripted_does() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        traced: nn.Module = torch.jit.trace(nn.Linear(4, 2), X)
        scripted: nn.Module = torch.jit.script(nn.Linear(4, 2))
    assert taken_by(traced) == ANYTHING
    assert taken_by(scripted).required == ("input",)


def test_a_tensor_is_passed() -> None:
    assert list(ways_to_call(Masked(), X, X)) == [WHOLE]


def test_a_mapping_is_passed_by_name_then_whole_then_x_alone() -> None:
    ways = list(ways_to_call(Masked(), {"mask": MASK, "other": X, "x": X}, X))
    assert ways == [Way(("x", "mask")), WHOLE, Way(path="other")]


def test_any_names_take_all_tensors_less_targets_unless_nothing_else_works() -> None:
    ways = list(ways_to_call(Free(), {"x": X, "mode": "text", "labels": LABELS}, X, ["labels"]))
    assert ways == [Way(("x",)), WHOLE, Way(path="x"), Way(("x", "labels"))]


def test_targets_are_passed_where_forward_requires_them() -> None:
    assert next(ways_to_call(Supervised(), Fields(X, LABELS), X, ["labels"])) == Way(("x", "labels"))
    ways = list(ways_to_call(Optional(), Fields(X, LABELS), X, ["labels"]))
    assert ways == [Way(("x",)), WHOLE, Way(path="x"), Way(("x", "labels"))]


def test_a_tuple_is_unpacked_where_forward_takes_so_many() -> None:
    assert list(ways_to_call(Masked(), (X, MASK), X)) == [Way(unpacked=True), WHOLE, Way(path="0")]
    assert list(ways_to_call(Masked(), (X, MASK, X), X)) == [WHOLE, Way(path="0")]
    assert list(ways_to_call(Masked(), (X,), X)) == [WHOLE, Way(path="0")]
    assert next(ways_to_call(Free(), (X, MASK, X), X)) == Way(unpacked=True)


def test_each_way_calls_as_it_says() -> None:
    inputs = {"x": X, "mask": MASK}
    assert Way(("x",))(Keyword(), inputs) is X
    assert Way(path="mask")(Masked(), inputs) is MASK
    assert WHOLE(Free(), inputs) == (inputs,)
    assert Way(unpacked=True)(Masked(), (X, MASK)) is X
