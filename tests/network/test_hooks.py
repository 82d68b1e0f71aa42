"""Hooks: every output seen as it is made, replaced or held for a gradient, and gone when the context ends."""

from contextlib import suppress

import pytest
import torch
from networks import hooks_on
from properties import normal
from torch import Tensor, nn

from lightning_infoplane.network.hooks import capture, hold, intercept
from lightning_infoplane.network.layers import LayerSpec, select_layers
from lightning_infoplane.network.undisturbed import undisturbed


class Encoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 2, 3, padding=1)
        self.conv2 = nn.Conv2d(2, 2, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv2(self.conv1(x))


class Net(nn.Module):
    """Every kind of layer, registered in an order in which it is not executed."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(8, 3)
        self.up = nn.ConvTranspose1d(1, 1, 1)
        self.encoder = Encoder()
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.relu(self.encoder(x)).flatten(1)[:, :8]
        return self.head(self.up(hidden.unsqueeze(1)).squeeze(1))


CONVS = ["up", "encoder.conv1", "encoder.conv2"]


def compiled(net: Net, part: str) -> nn.Module:
    """The net, or its encoder, or its first convolution, compiled."""
    if part == "net":
        return torch.compile(net, backend="eager")  # type: ignore[return-value]
    if part == "encoder":
        net.encoder = torch.compile(net.encoder, backend="eager")  # type: ignore[assignment]
    else:
        net.encoder.conv1 = torch.compile(net.encoder.conv1, backend="eager")  # type: ignore[assignment]
    return net


@pytest.mark.parametrize("part", ["net", "encoder", "encoder.conv1"])
def test_compiled_parts_keep_their_names_and_are_heard(part: str) -> None:
    net, x = compiled(Net(), part), torch.ones(2, 1, 4, 4)
    expected = net(x)  # compiled before any hook exists
    layers = select_layers(net, "conv")
    assert list(layers) == CONVS
    heard: list[str] = []
    with undisturbed(net), capture(layers, lambda name, output: heard.append(name)):
        actual = net(x)
    assert heard == ["encoder.conv1", "encoder.conv2", "up"]
    torch.testing.assert_close(actual, expected)


def record(model: nn.Module, layers: LayerSpec, x: Tensor) -> dict[str, Tensor | None]:
    seen: dict[str, Tensor | None] = {}

    def keep(name: str, output: Tensor | None) -> None:
        seen[name] = None if output is None else output.clone()

    with torch.no_grad(), capture(select_layers(model, layers), keep):
        model(x)
    return seen


def test_outputs_come_in_order_of_execution() -> None:
    x = torch.ones(2, 1, 4, 4)
    assert list(record(Net(), "all", x)) == ["encoder.conv1", "encoder.conv2", "relu", "up", "head"]


def test_an_output_is_seen_before_an_in_place_operation_overwrites_it() -> None:
    net = nn.Sequential(nn.Linear(1, 1, bias=False), nn.ReLU(inplace=True))
    nn.init.constant_(net[0].weight, -2.0)
    seen = record(net, "all", torch.ones(1, 1))
    assert seen == {"0": torch.tensor([[-2.0]]), "1": torch.tensor([[0.0]])}


def test_a_layer_called_again_is_numbered() -> None:
    layer = nn.Linear(1, 1, bias=False)
    nn.init.constant_(layer.weight, 2.0)

    class Recurrent(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.step = layer

        def forward(self, x: Tensor) -> Tensor:
            return self.step(self.step(self.step(x)))

    seen = record(Recurrent(), "linear", torch.ones(1, 1))
    assert {name: float(value) for name, value in seen.items() if value is not None} == {
        "step": 2.0,
        "step.call2": 4.0,
        "step.call3": 8.0,
    }


def test_counting_starts_anew_in_every_context() -> None:
    net = nn.Sequential(nn.Linear(1, 1))
    assert list(record(net, "linear", torch.ones(1, 1))) == list(record(net, "linear", torch.ones(1, 1))) == ["0"]


def test_tuples_are_handed_on_as_their_first_tensor_and_no_tensor_as_none() -> None:
    class Odd(nn.Module):
        def forward(self, x: Tensor) -> object:
            return "text"

    net = nn.ModuleDict({"lstm": nn.LSTM(1, 2), "odd": Odd()})
    seen: dict[str, Tensor | None] = {}
    with capture(select_layers(net, "all"), seen.__setitem__):
        net["lstm"](torch.ones(5, 3, 1))
        net["odd"](torch.ones(1))
    assert seen["lstm"] is not None
    assert seen["lstm"].shape == (5, 3, 2)
    assert seen["odd"] is None


@pytest.mark.parametrize("failure", [None, ValueError("in the model"), KeyboardInterrupt()], ids=repr)
def test_hooks_live_as_long_as_the_context(failure: BaseException | None) -> None:
    net = Net()
    with suppress(ValueError, KeyboardInterrupt), capture(select_layers(net, "all"), lambda name, output: None):
        assert all(module._forward_hooks for module in (net.head, net.up, net.relu))
        if failure is not None:
            raise failure
    assert not any(module._forward_hooks for module in net.modules())


@pytest.mark.parametrize("failure", [RuntimeError("no memory"), KeyboardInterrupt("by hand")], ids=repr)
def test_a_failing_consumer_ends_the_pass_and_leaves_no_hook(failure: BaseException) -> None:
    net = Net()

    def consumer(name: str, output: Tensor | None) -> None:
        raise failure

    with pytest.raises(type(failure), match=str(failure)), capture(select_layers(net), consumer):
        net(torch.ones(2, 1, 4, 4))
    assert not any(module._forward_hooks for module in net.modules())


# ---------------------------------------------------------------------------------------------------- intercept


class Doubled(nn.Module):
    """Two linear layers that double what they get."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = (nn.Linear(1, 1, bias=False) for _ in range(2))
        nn.init.constant_(self.a.weight, 2.0)
        nn.init.constant_(self.b.weight, 2.0)

    def forward(self, x: Tensor) -> Tensor:
        return self.b(self.a(x))


def test_what_the_visitor_returns_replaces_the_output_and_none_leaves_it() -> None:
    net, x = Doubled(), torch.ones(1, 1)
    seen: list[tuple[str, float]] = []

    def visit(name: str, output: Tensor) -> Tensor | None:
        seen.append((name, float(output)))
        return torch.full((1, 1), 10.0) if name == "a" else None

    with torch.no_grad(), intercept(select_layers(net, "linear"), visit):
        assert float(net(x)) == 20
    assert seen == [("a", 2.0), ("b", 20.0)]
    with torch.no_grad():
        assert float(net(x)) == 4


def test_the_visitor_is_handed_the_output_as_it_is() -> None:
    net, seen = nn.LSTM(1, 2), []
    with torch.no_grad(), intercept({"lstm": net}, lambda name, output: seen.append(output)):
        returned = net(torch.ones(3, 1))
    assert seen[0] is returned


# --------------------------------------------------------------------------------------------------------- hold


def test_held_outputs_are_in_the_graph_though_they_are_overwritten_downstream() -> None:
    """d sum(relu(t)) / dt is 1 where t > 0: t is what the layer put out, not what ReLU made of it."""
    net = nn.Sequential(nn.Linear(3, 3), nn.ReLU(inplace=True))
    x = normal(4, 3, dtype=torch.float32)
    with hold({"0": net[0]}) as held:
        loss = net(x).sum()
    assert list(held) == ["0"]
    torch.testing.assert_close(held["0"], net[0](x))
    (gradient,) = torch.autograd.grad(loss, held["0"])
    assert torch.equal(gradient, (held["0"] > 0).float())


def test_an_output_that_nothing_before_wants_a_gradient_of_wants_one_itself() -> None:
    net = Doubled().requires_grad_(False)
    with hold(select_layers(net, "linear")) as held:
        loss = net(torch.ones(1, 1)).sum()
    assert [float(gradient) for gradient in torch.autograd.grad(loss, list(held.values()))] == [2.0, 1.0]


def test_beyond_a_cut_the_graph_begins_anew() -> None:
    net = Doubled()
    with hold(select_layers(net, "linear"), cut="b") as held:
        loss = net(torch.ones(1, 1)).sum()
    assert list(held) == ["a", "b"]
    assert float(loss) == 4  # the values are the same
    assert not loss.requires_grad
    with hold(select_layers(net, "linear"), cut="a") as held:
        loss = net(torch.ones(1, 1)).sum()
    found = torch.autograd.grad(loss, list(held.values()), allow_unused=True)
    assert found[0] is None
    assert float(found[1]) == 1


def test_outputs_that_are_no_floats_are_not_held_and_go_on_as_they_are() -> None:
    class Odd(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.index, self.said = nn.Identity(), nn.Identity()

        def forward(self, x: Tensor) -> tuple[Tensor, str]:
            return self.index(x.long()), self.said("text")

    net = Odd()
    with hold(select_layers(net, "all")) as held:
        index, said = net(torch.ones(2))
    assert held == {}
    assert index.tolist() == [1, 1]
    assert said == "text"


@pytest.mark.parametrize("enabled", [True, False])
@pytest.mark.parametrize("failure", [None, ValueError("in the model")], ids=repr)
def test_cudnn_is_off_while_outputs_are_held_and_then_as_before(
    monkeypatch: pytest.MonkeyPatch, enabled: bool, failure: ValueError | None
) -> None:
    """It has no backward pass of a recurrent network in eval mode."""
    monkeypatch.setattr(torch.backends.cudnn, "enabled", enabled)
    net = Doubled()
    with suppress(ValueError), hold(select_layers(net, "linear")):
        assert not torch.backends.cudnn.enabled
        if failure is not None:
            raise failure
    assert torch.backends.cudnn.enabled == enabled
    assert hooks_on(net) == 0
