"""Whatever kind of tensor a network puts out: as numbers of torch's own class, or None where they are not all here."""

import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from lightning_infoplane.network.plain import as_floats, plain

VALUES = torch.tensor([[0.0, 2.0], [3.0, 0.0]])


class WithMetadata(Tensor):
    """A subclass that carries more than numbers, and loses them on every operation of its own."""

    spacing: float = 0.5

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        raise AssertionError("an operation of the library's own was called")


def jagged() -> Tensor:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a prototype, says torch
        return torch.nested.nested_tensor([torch.ones(2, 2), torch.ones(1, 2)], layout=torch.jagged)


def strided() -> Tensor:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.nested.nested_tensor([torch.ones(2, 2), torch.ones(1, 2)])


PADDED = torch.tensor([[[1.0, 1.0], [1.0, 1.0]], [[1.0, 1.0], [0.0, 0.0]]])


@pytest.mark.filterwarnings("ignore:.*(prototype|beta|deprecated).*")
@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (lambda: VALUES, VALUES),
        (lambda: torch.nn.Parameter(VALUES), VALUES),
        (lambda: VALUES.as_subclass(WithMetadata), VALUES),
        (lambda: VALUES.to_sparse(), VALUES),
        (lambda: VALUES.to_sparse_csr(), VALUES),
        (lambda: torch.quantize_per_tensor(VALUES, 1.0, 0, torch.qint8), VALUES),
        (strided, PADDED),
        (jagged, PADDED),
    ],
    ids=["tensor", "parameter", "subclass", "COO", "CSR", "quantised", "nested strided", "nested jagged"],
)
def test_an_odd_tensor_is_the_same_numbers_in_a_plain_one(make: Callable[[], Tensor], expected: Tensor) -> None:
    found = plain(make())
    assert type(found) is Tensor
    assert found.layout is torch.strided
    assert torch.equal(found, expected)


def test_numbers_that_are_nowhere_are_none() -> None:
    assert plain(torch.ones(2, device="meta")) is None
    assert as_floats(torch.ones(2, device="meta")) is None


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.float8_e4m3fn])
def test_floats_of_any_width_stay_floats(dtype: torch.dtype) -> None:
    found = as_floats(VALUES.to(dtype))
    assert found is not None
    assert torch.equal(found.float(), VALUES)


def test_complex_numbers_are_pairs_conjugated_ones_too() -> None:
    values = torch.tensor([1 + 2j, 3 - 4j])
    assert torch.equal(as_floats(values), torch.tensor([[1.0, 2.0], [3.0, -4.0]]))  # type: ignore[arg-type]
    assert torch.equal(as_floats(values.conj()), torch.tensor([[1.0, -2.0], [3.0, 4.0]]))  # type: ignore[arg-type]


def test_truth_values_are_0_and_1_and_integers_have_no_distances() -> None:
    assert torch.equal(as_floats(VALUES > 0), torch.tensor([[0.0, 1.0], [1.0, 0.0]]))  # type: ignore[arg-type]
    assert as_floats(VALUES.long()) is None


class Part:
    """A sharded tensor as its local part shows it."""

    def __init__(self, local: Tensor, *whole: bool) -> None:
        self._local_tensor = local
        self.placements = [type("Placement", (), {"is_replicate": lambda _, one=one: one})() for one in whole]


def test_a_sharded_tensor_is_there_only_where_it_is_whole() -> None:
    assert torch.equal(plain(Part(VALUES, True)), VALUES)  # type: ignore[arg-type]
    assert plain(Part(VALUES, True, False)) is None  # type: ignore[arg-type]
