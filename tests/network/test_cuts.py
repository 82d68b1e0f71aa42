"""Error signals that form a chain: a graph cut everywhere at once tells what cuts one by one tell."""

import time
from collections.abc import Callable
from typing import Any

import pytest
import torch
from networks import hooks_on
from torch import Tensor, nn
from torch.nn import functional as F
from wirings import ALIKE, Layers, Rows, Wiring, X

from lightning_infoplane.network.cuts import cut_at_once, cut_one_by_one, find_backward_pairs, reached
from lightning_infoplane.network.layers import select_layers
from lightning_infoplane.network.structures import first_tensor


def clipped(net: Layers, x: Tensor) -> Tensor:
    """Of b nothing comes back: all of it is below zero."""
    x = net.a(x)
    return net.c(x) + net.d((net.b(x) - 100).relu())


def stopped(net: Layers, x: Tensor) -> Tensor:
    """Neither through a detached tensor nor through one made without a graph."""
    x = net.a(x)
    with torch.no_grad():
        aside = net.e(x)
    return net.f(net.b(x) + net.c(x).detach() + aside)


def shared(net: Layers, x: Tensor) -> Tensor:
    """Two layers read the same part of the graph."""
    x = net.a(x).exp().tanh()
    return net.d(net.b(x) * net.c(x))


def overwritten(net: Layers, x: Tensor) -> Tensor:
    """A layer puts out what it was given, and that is overwritten afterwards."""
    x = net.a(x)
    y = net.own(x)
    x.add_(1)
    return net.b(x) + net.c(y)


def checkpointed(net: Layers, x: Tensor) -> Tensor:
    x = net.a(x)
    inside: Tensor = torch.utils.checkpoint.checkpoint(lambda t: net.c(net.b(t).tanh()), x, use_reentrant=False)
    return net.d(x + inside)


class Once(torch.autograd.Function):
    """Its backward pass can be gone through once."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.left = [x]
        return x.sin()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:  # type: ignore[override]
        return grad * ctx.left.pop().cos()


def once(net: Layers, x: Tensor) -> Tensor:
    x = Once.apply(net.a(x))  # type: ignore[no-untyped-call]
    return net.d(net.b(x) + net.c(x))


WAYS: dict[str, tuple[Wiring, Rows]] = {
    **ALIKE,
    "nothing comes back": (clipped, (X, X)),
    "stopped": (stopped, (X, X)),
    "a part that two share": (shared, (X, X)),
    "a softmax": (lambda net, x: net.b(net.a(x)).softmax(-1), (X, X)),
    "two ends": (lambda net, x: (net.b(net.a(x)), net.c(net.a(x))), (X, X)),
}


def ends_of(net: nn.Module, x: Any) -> Callable[[], list[Tensor]]:
    def ends() -> list[Tensor]:
        first = first_tensor(net(x))
        assert first is not None
        return [first] if first.requires_grad else []

    return ends


def layers_of(net: nn.Module) -> dict[str, nn.Module]:
    return {name: module for name, module in net.named_modules() if name}


@pytest.mark.parametrize("frozen", [False, True], ids=["trained", "frozen"])
@pytest.mark.parametrize("case", WAYS.values(), ids=WAYS)
def test_all_cuts_at_once_tell_what_one_by_one_tells(case: tuple[Wiring, Rows], frozen: bool) -> None:
    wire, (x, _) = case
    net = Layers(wire).requires_grad_(not frozen)
    found = cut_at_once(net, layers_of(net), ends_of(net, x.clone() if isinstance(x, Tensor) else x))
    expected = cut_one_by_one(net, layers_of(net), ends_of(net, x.clone() if isinstance(x, Tensor) else x))
    assert {name: found[name] & expected.keys() for name in expected} == expected
    assert hooks_on(net) == 0


def test_a_layer_that_puts_out_what_it_was_given_is_cut_where_it_stands() -> None:
    """What it was given is overwritten after it: that is no part of what it puts out."""
    net = Layers(overwritten)
    assert cut_at_once(net, layers_of(net), ends_of(net, X)) == {"a": set(), "own": {"c"}, "b": set(), "c": set()}


@pytest.mark.parametrize("frozen", [False, True])
def test_what_is_computed_again_on_the_way_back_has_the_pairs_of_what_is_kept(frozen: bool) -> None:
    net = Layers(checkpointed).requires_grad_(not frozen)
    assert find_backward_pairs(net, layers_of(net), X) == [("d", "c"), ("d", "a"), ("c", "b")]


def test_a_backward_pass_that_can_be_gone_through_once_is_cut_one_by_one() -> None:
    net = Layers(once)
    layers = layers_of(net)
    with pytest.raises(IndexError, match="pop from empty list"):
        cut_at_once(net, layers, ends_of(net, X))
    assert find_backward_pairs(net, layers, X) == [("d", "c"), ("d", "b"), ("d", "a")]


def test_a_way_of_which_each_step_lets_a_gradient_through_is_a_way() -> None:
    """All of it lets none through here: what b puts out is cut off in one half, and what goes on in the other."""
    half = torch.tensor([1.0, 1, 1, 0, 0, 0])
    net = Layers(lambda net, x: net.c(net.a(x)) + net.d(net.own(net.a(x) * half) * (1 - half)))
    assert "own" in reached(net, layers_of(net), ends_of(net, X))
    assert "a.call2" not in reached(net, layers_of(net), ends_of(net, X))
    assert ("own", "a.call2") not in find_backward_pairs(net, layers_of(net), X)


def test_layers_at_which_no_gradient_arrives_are_in_no_pair() -> None:
    pairs = find_backward_pairs(net := Layers(clipped), layers_of(net), X)
    assert pairs == [("c", "a")]


def test_the_errors_of_a_thousand_layers_take_seconds() -> None:
    """Three seconds where this was measured; a pass a layer took twenty for three hundred of them, and the square."""
    torch.manual_seed(0)
    net = nn.Sequential(*(nn.Linear(6, 6) for _ in range(1000)))
    for layer in net:
        nn.init.orthogonal_(layer.weight)  # type: ignore[arg-type]
    calls: list[int] = []

    def forward(network: nn.Module, inputs: Tensor) -> Tensor:
        calls.append(len(inputs))
        return F.tanh(network(inputs))

    start = time.process_time()
    pairs = find_backward_pairs(net, select_layers(net, "linear"), X, forward)
    assert time.process_time() - start < 30
    assert pairs == [(str(i + 1), str(i)) for i in reversed(range(999))]
    assert calls == [4, 4]
