"""Nested outputs and batches: which tensor stands for them, and the same structure with others in it."""

from collections import OrderedDict, namedtuple
from dataclasses import dataclass, field
from types import MappingProxyType

import pytest
import torch
from networks import assert_same
from torch import Tensor

from lightning_infoplane.network.structures import first_tensor, replace_tensors, tensors_in


@pytest.mark.parametrize(
    ("output", "expected"),
    [
        (torch.tensor(1.0), 1.0),
        ((torch.tensor(1.0), torch.tensor(2.0)), 1.0),
        ([None, torch.tensor(2.0)], 2.0),
        ({"a": "text", "b": (None, torch.tensor(3.0))}, 3.0),
        (((), {"deep": [torch.tensor(4.0)]}), 4.0),
        ("text", None),
        (None, None),
        ({"a": 1}, None),
    ],
)
def test_the_first_tensor_stands_for_an_output(output: object, expected: float | None) -> None:
    found = first_tensor(output)
    assert (None if found is None else float(found)) == expected


Pair = namedtuple("Pair", ["left", "right"])


class AttributeDict(dict[str, object]):
    """A dictionary read by attribute."""

    __getattr__ = dict.__getitem__


ONE, TWO, THREE = torch.tensor(1.0), torch.tensor(2.0), torch.tensor(3.0)
STRUCTURES = {
    "a tensor": (ONE, [1.0]),
    "a tuple": ((ONE, "text", TWO), [1.0, 2.0]),
    "a list": ([None, ONE, TWO], [1.0, 2.0]),
    "a named tuple": (Pair(ONE, [TWO, THREE]), [1.0, 2.0, 3.0]),
    "a dictionary": ({"b": ONE, "a": (TWO, 3)}, [1.0, 2.0]),
    "an ordered dictionary": (OrderedDict(b=ONE, a=TWO), [1.0, 2.0]),
    "a dictionary read by attribute": (AttributeDict(b=ONE, a=[TWO]), [1.0, 2.0]),
    "deep": (((), {"deep": [Pair({"x": ONE}, None)]}, TWO), [1.0, 2.0]),
    "no tensor": (("text", None, {"a": 1}), []),
}
EACH = pytest.mark.parametrize(("structure", "values"), STRUCTURES.values(), ids=STRUCTURES)


@EACH
def test_all_tensors_of_a_structure_are_found_in_order(structure: object, values: list[float]) -> None:
    assert [float(tensor) for tensor in tensors_in(structure)] == values


@EACH
def test_replaced_tensors_stand_where_the_others_stood(structure: object, values: list[float]) -> None:
    replaced = replace_tensors(structure, lambda tensor: 10 * tensor)
    assert type(replaced) is type(structure)
    assert [float(tensor) for tensor in tensors_in(replaced)] == [10 * value for value in values]
    assert_same(replace_tensors(replaced, lambda tensor: tensor / 10), structure)


@EACH
def test_one_tensor_is_replaced_where_it_is_told_from_the_others(structure: object, values: list[float]) -> None:
    first = first_tensor(structure)
    replaced = replace_tensors(structure, lambda tensor: 10 * tensor if tensor is first else tensor)
    assert [float(tensor) for tensor in tensors_in(replaced)] == [10 * value for value in values[:1]] + values[1:]


@EACH
def test_the_structure_itself_is_left_as_it_is(structure: object, values: list[float]) -> None:
    replace_tensors(structure, lambda tensor: tensor + 1)
    assert [float(tensor) for tensor in tensors_in(structure)] == values


def test_a_dictionary_keeps_its_class_and_what_else_is_in_it_is_the_same_object() -> None:
    words = object()
    replaced = replace_tensors(AttributeDict(hidden=ONE, words=words), lambda tensor: tensor + 1)
    assert float(replaced.hidden) == 2
    assert replaced.words is words


@dataclass(frozen=True)
class Frozen:
    """A batch that nothing can be assigned to."""

    pixels: Tensor
    words: object
    parts: list[Tensor] = field(default_factory=list)


@dataclass
class Counted:
    """A batch that computes something when it is made."""

    pixels: Tensor
    sum: Tensor = field(init=False)

    def __post_init__(self) -> None:
        self.sum = self.pixels.sum()


def test_a_dataclass_keeps_its_class_and_what_else_is_in_it_is_the_same_object() -> None:
    words = object()
    batch = Frozen(ONE, words, [TWO])
    replaced = replace_tensors(batch, lambda tensor: tensor + 1)
    assert [float(tensor) for tensor in tensors_in(replaced)] == [2, 3]
    assert isinstance(replaced, Frozen)
    assert replaced.words is words
    assert float(batch.pixels) == 1
    first = first_tensor(batch)
    assert first is ONE


def test_a_dataclass_is_not_made_anew_when_its_tensors_are_replaced() -> None:
    replaced = replace_tensors(Counted(TWO), lambda tensor: tensor + 1)
    assert (float(replaced.pixels), float(replaced.sum)) == (3, 3)


def test_a_dataclass_without_tensors_is_the_same_object_and_a_class_is_no_instance() -> None:
    settings = Frozen(None, "words")  # type: ignore[arg-type]
    assert replace_tensors((ONE, Frozen), lambda tensor: tensor)[1] is Frozen
    assert first_tensor(settings) is None
    assert first_tensor(Frozen) is None


def test_a_mapping_that_cannot_be_changed_is_made_anew() -> None:
    replaced = replace_tensors(MappingProxyType({"x": ONE, "words": "text"}), lambda tensor: tensor + 1)
    assert isinstance(replaced, MappingProxyType)
    assert float(replaced["x"]) == 2
    assert replaced["words"] == "text"
