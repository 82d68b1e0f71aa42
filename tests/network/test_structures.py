"""Nested outputs and batches: which tensor stands for them, and the same structure with others in it."""

from collections import OrderedDict, namedtuple

import pytest
import torch
from networks import assert_same

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
def test_only_the_first_tensor_is_replaced_where_that_is_asked_for(structure: object, values: list[float]) -> None:
    replaced = replace_tensors(structure, lambda tensor: 10 * tensor, first_only=True)
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
