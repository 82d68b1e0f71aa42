"""What an untrained network hides: gates still closed are opened, sums left alone, statistics those of data."""

import copy
from collections.abc import Callable
from itertools import pairwise

import pytest
import torch
from networks import assert_same, hooks_on
from properties import assert_leaves_random_state, normal
from torch import Tensor, nn

from lightning_infoplane.network.chains import find_chain
from lightning_infoplane.network.cuts import find_backward_pairs
from lightning_infoplane.network.layers import select_layers
from lightning_infoplane.network.undisturbed import undisturbed
from lightning_infoplane.network.untrained import opened, settle

X, Z = normal(2, 4, 3, 8, 8, seed=1, dtype=torch.float32)


class Named(nn.Module):
    """One parameter of a name and a shape, all of it zero."""

    def __init__(self, name: str, *shape: int, value: float = 0) -> None:
        super().__init__()
        self.register_parameter(name, nn.Parameter(torch.full(shape, float(value))))


ADDED: dict[str, nn.Module] = {
    "bias": Named("bias", 6),
    "a single bias": Named("bias"),
    "of attention": Named("in_proj_bias", 6),
    "of a recurrent layer": Named("bias_ih_l0", 6),
    "numbered": Named("bias1a", 1),
    "of a batch norm": nn.BatchNorm2d(3),
    "of a layer norm": nn.LayerNorm(3),
    "of a convolution": nn.Conv2d(3, 3, 3),
}
CLOSED = {
    "a weight": Named("weight", 6, 6),
    "a gain": Named("weight", 6),
    "a gain in front of a branch": Named("gamma", 6),
    "ReZero": Named("alpha"),
    "LayerScale": Named("gamma", 6, value=1e-6),
    "a token": Named("cls_token", 1, 1, 6),
    "a table": Named("relative_position_bias", 9, 2),
}


@pytest.mark.parametrize("module", ADDED.values(), ids=ADDED)
def test_what_is_added_closes_nothing_and_is_left_alone(module: nn.Module) -> None:
    for name, parameter in module.named_parameters():
        if "bias" in name:
            nn.init.zeros_(parameter)
    before = copy.deepcopy(module.state_dict())
    with opened(module):
        assert_same(module.state_dict(), before)


@pytest.mark.parametrize("module", CLOSED.values(), ids=CLOSED)
def test_what_is_multiplied_is_opened_and_closed_again(module: nn.Module) -> None:
    (parameter,) = module.parameters()
    before = parameter.detach().clone()
    with assert_leaves_random_state(), opened(module):
        assert bool((parameter.abs() > 1e-3).any())
    assert torch.equal(parameter, before)


# ---------------------------------------------------------------------------------- branches that begin as nothing


def zero(module: nn.Module) -> nn.Module:
    for parameter in module.parameters():
        nn.init.zeros_(parameter)
    return module


class ZeroGamma(nn.Module):
    """conv-BN-ReLU-conv-BN, the last gain zero."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(8, 8, 3, padding=1, bias=False), nn.Conv2d(8, 8, 3, padding=1, bias=False)
        self.bn1, self.bn2 = nn.BatchNorm2d(8), zero(nn.BatchNorm2d(8))

    def forward(self, x: Tensor) -> Tensor:
        return (x + self.bn2(self.second(self.bn1(self.first(x)).relu()))).relu()


class Scaled(nn.Module):
    """A branch times a parameter: a scalar of zero, or a tiny one a channel."""

    def __init__(self, scale: Tensor) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(8, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1)
        self.alpha = nn.Parameter(scale)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.alpha * self.second(self.first(x).relu())


class Adaptive(nn.Module):
    """Shift, scale and gate come from a layer of which weight and bias are zero."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(8, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1)
        self.condition = zero(nn.Linear(8, 24))

    def forward(self, x: Tensor) -> Tensor:
        shift, scale, gate = self.condition(x.mean((2, 3))).unflatten(1, (3, 8, 1, 1)).unbind(1)
        return x + gate * self.second((self.first(x) * (1 + scale) + shift).relu())


class ZeroLast(nn.Module):
    """The last convolution of a branch is zero, its bias too."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(8, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1)
        self.third = zero(nn.Conv2d(8, 8, 1))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.third(self.second(self.first(x).relu()))


BLOCKS: dict[str, Callable[[], nn.Module]] = {
    "zero gamma": ZeroGamma,
    "ReZero": lambda: Scaled(torch.zeros(1)),
    "LayerScale": lambda: Scaled(torch.full((8, 1, 1), 1e-6)),
    "adaLN-zero": Adaptive,
    "zero convolution": ZeroLast,
}


@pytest.mark.parametrize("block", BLOCKS.values(), ids=BLOCKS)
@pytest.mark.parametrize("depth", [2, 8])
def test_a_block_that_begins_as_the_identity_has_its_branch(block: Callable[[], nn.Module], depth: int) -> None:
    """What goes around a branch is no part of it: only within it a layer screens the next one."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), *(block() for _ in range(depth)))
    layers = {name: net.get_submodule(name) for k in range(1, depth + 1) for name in (f"{k}.first", f"{k}.second")}
    state = copy.deepcopy(net.state_dict())
    chain = find_chain(net, {"0": net[0], **layers}, X, Z)
    inside = [] if block is Adaptive else [(f"{k}.first", f"{k}.second") for k in range(1, depth + 1)]
    assert {pair for pair in chain.pairs if pair[0] != "0"} == set(inside)
    assert {b for a, b in chain.screened if a == "0"} == set(layers)
    backward = find_backward_pairs(net, layers, X)
    assert set(backward) == {(b, a) for a, b in ((f"{k}.first", f"{k}.second") for k in range(1, depth + 1))}
    assert_same(net.state_dict(), state)


# ------------------------------------------------------------------------------------------ networks of many layers


def blocks(depth: int, bias: bool, norm: Callable[[int], nn.Module] = nn.BatchNorm2d) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        *(
            nn.Sequential(nn.Conv2d(8 if k else 3, 8, 3, padding=1, bias=bias), norm(8), nn.ReLU(inplace=True))
            for k in range(depth)
        )
    )


@pytest.mark.parametrize("bias", [False, True], ids=["no bias", "bias"])
@pytest.mark.parametrize("depth", [30, 60])
def test_a_deep_network_of_batch_norms_is_a_chain_before_it_is_trained(depth: int, bias: bool) -> None:
    net = blocks(depth, bias)
    state = copy.deepcopy(net.state_dict())
    chain = find_chain(net, select_layers(net, "conv"), X, Z)
    assert chain.pairs == list(pairwise(f"{k}.0" for k in range(depth)))
    assert_same(net.state_dict(), state)
    assert hooks_on(net) == 0


def test_a_deep_network_is_the_same_chain_once_its_statistics_have_settled() -> None:
    net = blocks(30, bias=True)
    layers = select_layers(net, "conv")
    before = find_chain(net, layers, X, Z)
    for _ in range(20):
        net(normal(32, 3, 8, 8, seed=5, dtype=torch.float32))
    assert find_chain(net, layers, X, Z) == before


def test_batch_norms_that_have_seen_nothing_get_the_statistics_of_a_pass() -> None:
    net = blocks(2, bias=True)
    net[1][1].num_batches_tracked.fill_(1)  # type: ignore[index, union-attr, operator]
    fresh, seen = net[0][1], net[1][1]  # type: ignore[index]
    with undisturbed(net):
        settle(net, lambda: net(X))
        channels = net[0][0](X).transpose(0, 1).flatten(1)  # type: ignore[index]
        torch.testing.assert_close(fresh.running_mean, channels.mean(1))
        torch.testing.assert_close(fresh.running_var, channels.var(1, correction=0))
        assert torch.equal(seen.running_mean, torch.zeros(8))
    assert torch.equal(fresh.running_mean, torch.zeros(8))
    assert torch.equal(fresh.running_var, torch.ones(8))
    assert hooks_on(net) == 0


@pytest.mark.parametrize(
    "norm",
    [lambda c: nn.BatchNorm2d(c, track_running_stats=False), lambda c: nn.GroupNorm(2, c), nn.InstanceNorm2d],
    ids=["of the batch", "groups", "instances"],
)
def test_norms_without_statistics_of_their_own_need_no_pass(norm: Callable[[int], nn.Module]) -> None:
    settle(blocks(2, True, norm), lambda: pytest.fail("a pass for nothing"))


def test_a_channel_that_is_constant_is_not_enlarged() -> None:
    norm = nn.BatchNorm1d(2).eval()
    settle(norm, lambda: norm(torch.tensor([[1e4, 0.0], [1e4, 2.0]])))
    assert norm.running_var is not None
    assert norm.running_var.tolist() == [1, 1]
