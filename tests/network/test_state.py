"""What a network holds goes back into the same objects, whatever was done to it, and who is at work is left alone."""

import io
import itertools
import logging
import math
import random
import threading
import weakref
from array import array
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from functools import partial
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from lightning_infoplane.measurement.history import History
from lightning_infoplane.measurement.rows import Row
from lightning_infoplane.network.state import State
from lightning_infoplane.network.tensors import Tensors


def holding(**attributes: Any) -> nn.Module:
    """A module with plain attributes."""
    module = nn.Module()
    vars(module).update(attributes)
    return module


# --------------------------------------------------------------------------------------------------------- attributes


def test_attributes_that_came_left_or_changed_are_as_before_and_in_order() -> None:
    module = holding(first=1, second=None, third="x")
    before = list(vars(module).items())
    state = State(module)
    module.first, module.fourth = 2, 3
    del module.second
    module.second = 5
    del module.third
    state.put_back()
    assert list(vars(module).items()) == before


def test_submodules_buffers_and_parameters_that_came_are_taken_away() -> None:
    module = nn.Linear(2, 2)
    state = State(module)
    module.late = nn.Linear(2, 2)
    module.register_buffer("seen", torch.ones(1))
    module.scale = nn.Parameter(torch.ones(1))
    del module.bias
    state.put_back()
    assert [name for name, _ in module.named_parameters()] == ["weight", "bias"]
    assert list(module.buffers()) == []
    assert list(module.children()) == []


def test_a_parameter_that_was_replaced_is_the_very_same_again() -> None:
    module = nn.Linear(2, 2)
    weight = module.weight
    state = State(module)
    module.weight = nn.Parameter(torch.zeros(2, 2))
    state.put_back()
    assert module.weight is weight


# --------------------------------------------------------------------------------------------------------- containers


class Shouting(dict[str, int]):
    """A mapping that does more when it is written to."""

    def __setitem__(self, key: str, value: int) -> None:
        raise AssertionError("written to by its own method")


CONTAINERS: dict[str, tuple[Any, Callable[[Any], object]]] = {
    "list that grew": ([1, 2], lambda held: held.extend([3, 4])),
    "list in another order": ([1, 2, 3], lambda held: held.reverse()),
    "list with another element": ([1, 2, 3], lambda held: held.__setitem__(1, 7)),
    "list that was emptied": ([1, 2, 3], lambda held: held.clear()),
    "dict": ({"a": 1, "b": 2}, lambda held: held.update(a=2, c=3)),
    "dict in another order": ({"a": 1, "b": 2}, lambda held: held.update(a=held.pop("a"))),
    "ordered dict": (OrderedDict(a=1, b=2), lambda held: held.move_to_end("a")),
    "counter": (Counter("aab"), lambda held: held.update("bc")),
    "default dict": (defaultdict(list, a=[1]), lambda held: held["b"]),
    "dict with methods of its own": (Shouting(a=1), lambda held: dict.update(held, b=2)),
    "set": ({1, 2}, lambda held: held.add(3)),
    "deque": (deque([1, 2], maxlen=2), lambda held: held.append(3)),
    "bytes": (bytearray(b"ab"), lambda held: held.extend(b"c")),
    "numbers": (array("i", [1, 2]), lambda held: held.append(3)),
    "list in a tuple": (([1], "x"), lambda held: held[0].append(2)),
    "deep": ({"a": [{"b": deque([{1}])}]}, lambda held: held["a"][0]["b"][0].add(2)),
}


@pytest.mark.parametrize(("held", "change"), CONTAINERS.values(), ids=CONTAINERS)
def test_a_container_is_the_same_object_with_the_same_content(held: Any, change: Callable[[Any], object]) -> None:
    before = repr(held)
    module = holding(held=held)
    state = State(module)
    change(held)
    assert repr(held) != before
    state.put_back()
    assert repr(held) == before
    assert module.held is held


def test_a_container_that_was_replaced_and_changed_before_is_put_back_too() -> None:
    held = [1]
    module = holding(held=held)
    state = State(module)
    held.append(2)
    module.held = []
    state.put_back()
    assert module.held is held
    assert held == [1]


def test_circles_end() -> None:
    module = holding(ring=[1])
    module.ring.append(module.ring)  # type: ignore[union-attr, operator]
    module.itself = [module]
    state = State(module)
    module.ring.append(2)  # type: ignore[union-attr, operator]
    state.put_back()
    assert len(module.ring) == 2  # type: ignore[arg-type]


def test_of_a_very_long_container_the_elements_go_back() -> None:
    """A replay buffer: what is in its million elements is not walked."""
    inside = [0]
    module = holding(buffer=deque([inside] + [[number] for number in range(1, 30_000)]))
    state = State(module)
    module.buffer.append([7])  # type: ignore[union-attr, operator]
    inside.append(1)
    state.put_back()
    assert len(module.buffer) == 30_000  # type: ignore[arg-type]
    assert inside == [0, 1]


def test_after_a_long_container_the_others_are_walked_as_before() -> None:
    inside = [0]
    module = holding(buffer=[[number] for number in range(15_000)], more=[[n] for n in range(15_000)], last=[inside])
    state = State(module)
    inside.append(1)
    state.put_back()
    assert inside == [0]


@pytest.mark.parametrize(
    "make",
    [lambda: itertools.count(3), lambda: itertools.cycle("abc"), lambda: iter([1, 2, 3]), lambda: iter(range(9))],
    ids=["count", "cycle", "list", "range"],
)
@pytest.mark.parametrize("beforehand", [0, 2])
def test_what_counts_goes_on_where_it_was(make: Callable[[], Any], beforehand: int) -> None:
    counter, expected = make(), make()
    for _ in range(beforehand):
        next(counter)
        next(expected)
    module = holding(counter=counter, more=[counter])
    state = State(module)
    next(module.counter)  # type: ignore[call-overload]
    next(module.more[0])  # type: ignore[index]
    state.put_back()
    assert module.counter is counter
    assert list(itertools.islice(counter, 7)) == list(itertools.islice(expected, 7))


# --------------------------------------------------------------------------------------------------------- generators

DRAWS: dict[str, tuple[Callable[[], Any], Callable[[Any], float]]] = {
    "torch": (lambda: torch.Generator().manual_seed(1), lambda held: float(torch.rand(1, generator=held))),
    "python": (lambda: random.Random(1), lambda held: held.gauss(0, 1)),
    "numpy generator": (lambda: np.random.default_rng(1), lambda held: held.random()),
    "numpy bits": (lambda: np.random.PCG64(1), lambda held: held.random_raw()),
    "numpy random state": (lambda: np.random.RandomState(1), lambda held: held.normal()),
}


@pytest.mark.parametrize("where", ["attribute", "list", "helper"])
@pytest.mark.parametrize(("make", "draw"), DRAWS.values(), ids=DRAWS)
def test_numbers_drawn_inside_are_drawn_again(
    make: Callable[[], Any], draw: Callable[[Any], float], where: str
) -> None:
    held, twin = make(), make()
    assert draw(held) == draw(twin)
    places: dict[str, object] = {"attribute": held, "list": [held], "helper": SimpleNamespace(generator=held)}
    state = State(holding(held=places[where]))
    for _ in range(3):
        draw(held)
    state.put_back()
    assert [draw(held) for _ in range(3)] == [draw(twin) for _ in range(3)]


def test_a_generator_without_state_is_left_alone() -> None:
    State(holding(system=random.SystemRandom())).put_back()


def test_arrays_are_put_back_by_value() -> None:
    numbers, fixed = np.array([1.0, np.nan]), np.zeros(2)
    fixed.flags.writeable = False
    state = State(holding(numbers=numbers, fixed=fixed))
    numbers[:] = 7
    state.put_back()
    assert numbers[0] == 1
    assert math.isnan(numbers[1])


# ------------------------------------------------------------------------------------------------------------- helpers


class Running:
    """A helper such as everybody writes."""

    def __init__(self) -> None:
        self.total = 0.0
        self.seen: list[float] = []


@dataclass(frozen=True, slots=True)
class Frozen:
    values: list[int]


class HalfFilled:
    __slots__ = ("a", "b")
    a: int
    b: int


def test_helpers_are_put_back_and_so_is_what_they_hold() -> None:
    running, frozen, half = Running(), Frozen([1]), HalfFilled()
    half.a = 1
    module = holding(one=running, nested={"x": [frozen]}, half=half)
    state = State(module)
    running.total = 3.0
    running.seen.append(1.0)
    running.extra = 1  # type: ignore[attr-defined]
    frozen.values.append(2)
    object.__setattr__(frozen, "values", [])
    half.b = 2
    del half.a
    state.put_back()
    assert vars(running) == {"total": 0.0, "seen": []}
    assert frozen == Frozen([1])
    assert half.a == 1
    assert not hasattr(half, "b")


class Shared(nn.Module):
    """Keeps state with its class, by design or by mistake."""

    calls = 0
    seen: ClassVar[list[int]] = []
    late: int


class SharedToo(Shared):
    pass


def test_what_a_class_of_somebodys_own_shares_among_its_objects_is_put_back() -> None:
    module = SharedToo()
    state = State(module)
    Shared.calls += 1
    SharedToo.calls = 7
    Shared.late = 1
    module.seen.append(1)
    state.put_back()
    assert (Shared.calls, SharedToo.calls, module.seen) == (0, 0, [])
    assert "calls" not in vars(SharedToo)
    assert not hasattr(module, "late")


@pytest.mark.parametrize("wrap", [lambda method: method, partial], ids=["method", "partial"])
def test_a_helper_is_found_through_its_methods(wrap: Callable[[Any], Any]) -> None:
    class Counting:
        count = 0

        def next(self) -> int:
            self.count += 1
            return self.count

    helper = Counting()
    state = State(holding(next=wrap(helper.next)))
    assert helper.next() == 1
    state.put_back()
    assert helper.next() == 1


class Color(Enum):
    RED = 1


class Prefetcher(Running):
    """Another thread is at work with it."""

    def __init__(self) -> None:
        super().__init__()
        self.lock = threading.Lock()


class ThreadOfMine(threading.Thread):
    seen = 0


class DataOfMine(torch.utils.data.Dataset[int]):
    reads = 0


@pytest.mark.parametrize(
    "thing",
    [Prefetcher(), ThreadOfMine(), DataOfMine(), io.StringIO(), logging.getLogger("x"), Color.RED, Running],
    ids=lambda thing: type(thing).__name__,
)
def test_whoever_sees_to_themselves_is_not_turned_back(thing: Any) -> None:
    module = holding(thing=thing, weak=weakref.ref(module_of_mine), proxy=weakref.proxy(module_of_mine))
    state = State(module)
    if not isinstance(thing, type | io.StringIO):
        thing.marked = 1
    state.put_back()
    assert isinstance(thing, type | io.StringIO) or thing.marked == 1
    assert module.thing is thing


module_of_mine = nn.Identity()


def test_a_history_that_the_network_holds_may_grow() -> None:
    """Who measures in a loop of their own may keep the curves with the network."""
    history = History()
    module = holding(history=history, all=[history])
    state = State(module)
    history.extend([Row(0, 0, "", "layer", "I_XT", 1.0)])
    state.put_back()
    assert len(history) == 1


class Silent:
    """A proxy of something that is gone."""

    def __getattribute__(self, name: str) -> Any:
        raise ConnectionError("gone")


def test_objects_that_answer_no_questions_stand_in_nobodys_way() -> None:
    module = holding(seen=[1], silent=Silent())
    state = State(module)
    module.seen.append(2)  # type: ignore[union-attr, operator]
    state.put_back()
    assert module.seen == [1]


def test_a_network_out_of_sight_is_a_part_of_it() -> None:
    """A teacher in a list, so that its parameters are not trained."""
    teacher = nn.BatchNorm1d(2)
    module = holding(teacher=[teacher])
    state = State(module)
    teacher.weight.data.zero_()
    teacher(torch.ones(3, 2))
    state.put_back()
    assert teacher.weight.tolist() == [1, 1]
    assert int(teacher.num_batches_tracked) == 0  # type: ignore[arg-type]
    assert state.modules == [module, teacher]
    assert state.holds(teacher)
    assert not state.holds(nn.Identity())


def test_if_one_cannot_be_put_back_the_others_are_and_it_is_said() -> None:
    class Stubborn(random.Random):
        def setstate(self, state: Any) -> None:
            raise RuntimeError("not with me")

    module = holding(stubborn=Stubborn(), seen=[1])
    weight = torch.ones(1)
    module.weight = weight
    state = State(module)
    module.seen.append(2)  # type: ignore[union-attr, operator]
    weight.zero_()
    with pytest.raises(RuntimeError, match="not with me"):
        state.put_back()
    assert module.seen == [1]
    assert float(weight) == 1


# ------------------------------------------------------------------------------------------------------------- tensors


def kept(*tensors: Tensor) -> Tensors:
    made = Tensors()
    for tensor in tensors:
        made.add(tensor)
    return made


def expanded() -> Tensor:
    return torch.zeros(1, 2).expand(3, 2)


TENSORS: dict[str, Callable[[], Tensor]] = {
    "plain": lambda: torch.arange(4.0),
    "parameter": lambda: nn.Parameter(torch.arange(4.0)),
    "numbers that are none": lambda: torch.tensor([torch.nan, torch.inf, 1.0]),
    "zeros below": lambda: torch.zeros(2),
    "half": lambda: torch.ones(2, dtype=torch.bfloat16),
    "eighth": lambda: torch.ones(2).to(torch.float8_e4m3fn),
    "complex": lambda: torch.ones(2, dtype=torch.complex64),
    "integers": lambda: torch.arange(3),
    "bytes": lambda: torch.arange(3).to(torch.uint8),
    "integers without sign": lambda: torch.arange(3).to(torch.uint32),
    "yes or no": lambda: torch.ones(2, dtype=torch.bool),
    "a number": lambda: torch.tensor(2.0),
    "transposed": lambda: torch.arange(6.0).view(2, 3).mT,
    "every other": lambda: torch.arange(6.0)[::2],
    "none": lambda: torch.empty(0),
    "with a graph": lambda: torch.ones(2, requires_grad=True) * 2,
    "expanded": expanded,
}


def bits(tensor: Tensor) -> list[int]:
    return list(tensor.detach().clone().contiguous().flatten().view(torch.uint8).tolist())


@pytest.mark.parametrize("make", TENSORS.values(), ids=TENSORS)
@pytest.mark.parametrize("how", ["in place", "negated", "another memory", "another shape", "nothing"])
def test_a_tensor_is_to_the_last_bit_and_in_its_memory_what_it_was(make: Callable[[], Tensor], how: str) -> None:
    tensor = make()
    before = (bits(tensor), tensor.data_ptr(), tensor.shape, tensor.stride(), tensor._version)
    state = kept(tensor)
    memory = tensor.data if tensor.stride()[:1] != (0,) else tensor.data[:1]
    if how == "in place" and tensor.dtype is not torch.float8_e4m3fn:
        memory.copy_(memory == 0)
    elif how == "negated" and tensor.is_floating_point() and tensor.dtype is not torch.float8_e4m3fn:
        memory.neg_()
    elif how == "another memory":
        tensor.data = tensor.data.clone()
    elif how == "another shape":
        tensor.data = torch.ones(7, dtype=tensor.dtype)
    state.put_back()
    assert (bits(tensor), tensor.data_ptr(), tensor.shape, tensor.stride(), tensor._version) == before


def test_a_graph_that_is_alive_can_still_be_run_backward() -> None:
    weight = nn.Parameter(torch.ones(2))
    loss = (weight * weight).sum()
    state = kept(weight)
    weight.data.mul_(5)
    state.put_back()
    loss.backward()
    assert weight.grad is not None
    assert weight.grad.tolist() == [2, 2]


@pytest.mark.parametrize(
    "make",
    [
        lambda: torch.eye(2).to_sparse(),
        lambda: torch.eye(2, device="meta"),
        lambda: torch.quantize_per_tensor(torch.ones(2), 0.1, 0, torch.qint8),
        lambda: torch.nested.nested_tensor([torch.ones(1), torch.ones(2)], layout=torch.jagged),
    ],
    ids=["sparse", "meta", "quantized", "nested"],
)
@pytest.mark.filterwarnings("ignore:.*quantize:UserWarning", "ignore:.*quantiz:DeprecationWarning")
def test_tensors_that_cannot_be_compared_stand_in_nobodys_way(make: Callable[[], Tensor]) -> None:
    odd, plain = make(), torch.ones(2)
    state = kept(odd, plain)
    plain.zero_()
    state.put_back()
    assert plain.tolist() == [1, 1]


def test_tensors_made_in_inference_mode_are_put_back() -> None:
    with torch.inference_mode():
        tensor = torch.ones(2)
    state = kept(tensor)
    with torch.inference_mode():
        tensor.zero_()
    state.put_back()
    assert tensor.tolist() == [1, 1]


def test_subclasses_of_tensors_are_put_back() -> None:
    class Named(Tensor):
        pass

    tensor = torch.ones(2).as_subclass(Named)
    state = kept(tensor)
    tensor.zero_()
    state.put_back()
    assert tensor.tolist() == [1, 1]
    assert type(tensor) is Named


def test_memory_that_is_shared_is_copied_once(monkeypatch: pytest.MonkeyPatch) -> None:
    copies: list[int] = []
    clone = Tensor.clone
    monkeypatch.setattr(Tensor, "clone", lambda tensor: copies.append(tensor.data_ptr()) or clone(tensor))
    first = nn.Linear(3, 3, bias=False)
    second = nn.Linear(3, 3, bias=False)
    second.weight = first.weight
    alias = nn.Parameter(first.weight.data)
    State(nn.ModuleList([first, second, holding(alias=alias, again=[first.weight])]))
    assert copies == [first.weight.data_ptr()]


def test_memory_that_was_freed_in_between_is_not_read() -> None:
    tensor, other = torch.ones(1000), torch.ones(1)
    state = kept(tensor, other)
    tensor.untyped_storage().resize_(0)
    other.zero_()
    state.put_back()
    assert float(other) == 1


def test_gradients_are_out_of_reach_and_then_as_before() -> None:
    layer = nn.Linear(2, 2)
    layer(torch.ones(1, 2)).sum().backward()
    layer.bias.grad = None
    gradient = layer.weight.grad
    assert gradient is not None
    state = State(layer)
    state.tensors.hide_gradients()
    layer(torch.ones(1, 2)).sum().backward()
    state.put_back()
    assert layer.weight.grad is gradient
    assert gradient.tolist() == [[1, 1], [1, 1]]
    assert layer.bias.grad is None


def test_a_parameter_wants_a_gradient_as_before() -> None:
    layer = nn.Linear(2, 2)
    layer.bias.requires_grad_(False)
    state = State(layer)
    layer.requires_grad_(False)
    layer.bias.requires_grad_(True)
    state.put_back()
    assert layer.weight.requires_grad
    assert not layer.bias.requires_grad


def test_lazy_layers_are_lazy_again() -> None:
    layer = nn.LazyBatchNorm1d()
    state = State(layer)
    layer(torch.ones(3, 2))
    assert type(layer) is nn.BatchNorm1d
    state.put_back()
    assert type(layer) is nn.LazyBatchNorm1d
    assert nn.parameter.is_lazy(layer.weight)
    assert layer.has_uninitialized_params()
    torch.manual_seed(0)
    layer(torch.ones(3, 5))
    assert layer.weight.shape == (5,)


def test_a_tensor_that_is_too_large_is_left_alone() -> None:
    small, large = torch.ones(10), torch.ones(1000)
    state = Tensors()
    for tensor in (small, large):
        state.add(tensor, largest=100)
        tensor.zero_()
    state.put_back()
    assert [float(small.sum()), float(large.sum())] == [10, 0]
