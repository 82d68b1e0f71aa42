"""Hooks: every output seen as it is made, replaced or held for a gradient, and gone when the context ends."""

import warnings
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any

import pytest
import torch
from networks import hooks_on
from properties import normal
from torch import Tensor, nn
from torch.nn.modules.module import (
    register_module_forward_hook,
    register_module_forward_pre_hook,
    register_module_full_backward_hook,
)
from torch.nn.utils import prune

from lightning_infoplane.network.activations import watch
from lightning_infoplane.network.hooks import GLOBAL_HOOKS, hold, intercept
from lightning_infoplane.network.layers import LayerSpec, select_layers
from lightning_infoplane.network.probe import Probe
from lightning_infoplane.network.structures import first_tensor
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
    with undisturbed(net), intercept(layers, lambda name, output: heard.append(name)):
        actual = net(x)
    assert heard == ["encoder.conv1", "encoder.conv2", "up"]
    torch.testing.assert_close(actual, expected)


def record(model: nn.Module, layers: LayerSpec, x: Tensor) -> dict[str, Tensor | None]:
    seen: dict[str, Tensor | None] = {}

    def keep(name: str, output: Any) -> None:
        first = first_tensor(output)
        seen[name] = None if first is None else first.clone()

    with torch.no_grad(), intercept(select_layers(model, layers), keep):
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


def test_outputs_are_handed_on_whole_tuples_and_words_too() -> None:
    class Odd(nn.Module):
        def forward(self, x: Tensor) -> object:
            return "text"

    net = nn.ModuleDict({"lstm": nn.LSTM(1, 2), "odd": Odd()})
    seen: dict[str, Any] = {}
    with intercept(select_layers(net, "all"), seen.__setitem__):
        net["lstm"](torch.ones(5, 3, 1))
        net["odd"](torch.ones(1))
    assert seen["lstm"][0].shape == (5, 3, 2)
    assert [state.shape for state in seen["lstm"][1]] == [(1, 3, 2), (1, 3, 2)]
    assert first_tensor(seen["lstm"]) is seen["lstm"][0]
    assert seen["odd"] == "text"
    assert first_tensor(seen["odd"]) is None


@pytest.mark.parametrize("failure", [None, ValueError("in the model"), KeyboardInterrupt()], ids=repr)
def test_hooks_live_as_long_as_the_context(failure: BaseException | None) -> None:
    net = Net()
    with suppress(ValueError, KeyboardInterrupt), intercept(select_layers(net, "all"), lambda name, output: None):
        assert all(module._forward_hooks for module in (net.head, net.up, net.relu))
        if failure is not None:
            raise failure
    assert not any(module._forward_hooks for module in net.modules())


@pytest.mark.parametrize("failure", [RuntimeError("no memory"), KeyboardInterrupt("by hand")], ids=repr)
def test_a_failing_consumer_ends_the_pass_and_leaves_no_hook(failure: BaseException) -> None:
    net = Net()

    def consumer(name: str, output: Tensor | None) -> None:
        raise failure

    with pytest.raises(type(failure), match=str(failure)), intercept(select_layers(net), consumer):
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


# ------------------------------------------------------------------------------------------------- hooks of others


CALLS: list[str] = []


class Outsider:
    """Notes calls where no network holds them."""

    def note(self, *call: object) -> None:
        CALLS.append("call")


def note(*call: object) -> None:
    CALLS.append("call")


REGISTERED: dict[str, Callable[[nn.Module], Any]] = {
    "function": lambda m: m.register_forward_hook(note),
    "closure": lambda m: m.register_forward_hook(lambda *call: CALLS.append(str(m))),
    "method": lambda m: m.register_forward_hook(Outsider().note),
    "partial": lambda m: m.register_forward_hook(partial(note, 1)),
    "with kwargs": lambda m: m.register_forward_hook(note, with_kwargs=True),
    "always": lambda m: m.register_forward_hook(note, always_call=True),
    "before": lambda m: m.register_forward_pre_hook(note),
    "before, with kwargs": lambda m: m.register_forward_pre_hook(note, with_kwargs=True),
    "before the others": lambda m: m.register_forward_pre_hook(note, prepend=True),
    "backward": lambda m: m.register_full_backward_hook(note),
    "before backward": lambda m: m.register_full_backward_pre_hook(note),
    "everywhere": lambda m: register_module_forward_hook(note),
    "everywhere, always": lambda m: register_module_forward_hook(note, always_call=True),
    "everywhere before": lambda m: register_module_forward_pre_hook(note),
    "everywhere backward": lambda m: register_module_full_backward_hook(note),
}


def all_hooks(net: nn.Module) -> list[list[Any]]:
    """In order, with their ids and options."""
    own = [hooks for module in net.modules() for name, hooks in vars(module).items() if "_hooks" in name]
    return [list(hooks.items()) for hooks in (*own, *GLOBAL_HOOKS)]


def forward_and_backward(net: nn.Module) -> None:
    with torch.enable_grad():
        x = torch.ones(1, 2, requires_grad=True)
        torch.autograd.grad(net(x).sum(), x)


@pytest.mark.parametrize("register", REGISTERED.values(), ids=REGISTERED)
@pytest.mark.parametrize("failure", [None, ValueError("in the model"), KeyboardInterrupt()], ids=repr)
def test_hooks_of_others_are_silent_and_then_as_before(
    register: Callable[[nn.Module], Any], failure: BaseException | None
) -> None:
    net, ours = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2)), []
    handle = register(net[0])
    before = all_hooks(net)
    try:
        CALLS.clear()
        with suppress(ValueError, KeyboardInterrupt), undisturbed(net):
            with intercept({"0": net[0]}, lambda name, output: ours.append(name)):
                forward_and_backward(net)
            if failure is not None:
                raise failure
        assert CALLS == []
        assert ours == ["0"]
        assert all_hooks(net) == before
        forward_and_backward(net)
        assert CALLS
    finally:
        handle.remove()
    assert all_hooks(net) != before


def test_a_hook_that_is_removed_after_a_measurement_is_gone() -> None:
    net = nn.Linear(2, 2)
    handle = net.register_forward_hook(note)
    with undisturbed(net):
        net(torch.ones(2))
    handle.remove()
    assert hooks_on(net) == 0


def old_weight_norm(layer: nn.Linear) -> nn.Module:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*weight_norm.* is deprecated")
        return nn.utils.weight_norm(layer)


def standardized(layer: nn.Linear, orig: str = "weight_orig", called: bool = False) -> nn.Module:
    """Weight standardization as people write it."""
    weight = layer.weight
    del layer._parameters["weight"]
    layer.register_parameter(orig, weight)

    def standardize(module: nn.Module, args: object) -> None:
        made = getattr(module, orig)
        module.weight = made - made.mean()

    layer.register_forward_pre_hook(standardize)
    if called:
        layer(torch.ones(2))
    return layer


MADE: dict[str, Callable[[nn.Linear], nn.Module]] = {
    "old weight norm": old_weight_norm,
    "old spectral norm": nn.utils.spectral_norm,
    "weight norm": nn.utils.parametrizations.weight_norm,
    "spectral norm": nn.utils.parametrizations.spectral_norm,
    "pruned": lambda layer: prune.l1_unstructured(layer, "weight", 0.5),
    "standardized": standardized,
    "standardized, called before": partial(standardized, called=True),
    "standardized, another name": partial(standardized, orig="raw_weight", called=True),
}


@pytest.mark.parametrize("make", MADE.values(), ids=MADE)
def test_hooks_that_make_parameters_are_called(make: Callable[[nn.Linear], nn.Module]) -> None:
    """What is made is that of the parameters as they are now, not of the last training step."""
    torch.manual_seed(0)
    net, x = make(nn.Linear(2, 2)).eval(), torch.ones(1, 2)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.mul_(3).add_(1)
    with undisturbed(net):
        found = net(x)
    with torch.no_grad():
        assert torch.equal(found, net(x))


def test_of_other_modules_with_plain_tensors_the_hooks_are_silent() -> None:
    """A hidden state is no parameter, and the weights of a recurrent layer are made of nothing."""
    net = nn.Sequential(nn.Linear(2, 2), nn.LSTM(2, 2))
    net[0].h = torch.zeros(2)
    for module in net:
        module.register_forward_pre_hook(note)
    CALLS.clear()
    with undisturbed(net):
        net(torch.ones(3, 2))
    assert CALLS == []


def test_lazy_layers_are_filled_in_by_their_hooks() -> None:
    net = nn.LazyLinear(3)
    with undisturbed(net):
        assert net(torch.ones(2, 5)).shape == (2, 3)


class Remembering(nn.Module):
    """A network that cannot do without hooks of its own: bound to itself, or to a helper that it holds."""

    def __init__(self, wrap: Callable[[Any], Any]) -> None:
        super().__init__()
        self.layer, self.helper = nn.Linear(2, 2), Helper()
        self.kept: list[Tensor] = []
        self.layer.register_forward_hook(wrap(self.keep))
        self.layer.register_forward_hook(wrap(self.helper.keep))

    def keep(self, module: nn.Module, args: object, output: Tensor) -> None:
        self.kept.append(output)

    def forward(self, x: Tensor) -> Tensor:
        self.layer(x)
        return self.kept[-1] + self.helper.kept[-1]


class Helper:
    def __init__(self) -> None:
        self.kept: list[Tensor] = []

    def keep(self, module: nn.Module, args: object, output: Tensor) -> None:
        self.kept.append(output)


@pytest.mark.parametrize("wrap", [lambda method: method, partial], ids=["method", "partial"])
def test_hooks_that_are_methods_of_the_network_are_a_part_of_it(wrap: Callable[[Any], Any]) -> None:
    net = Remembering(wrap)
    with undisturbed(net):
        assert torch.equal(net(torch.ones(1, 2)), 2 * net.layer(torch.ones(1, 2)))
    assert net.kept == net.helper.kept == []


# ------------------------------------------------------------------------------------------------------- TorchScript


@pytest.mark.filterwarnings("ignore:(?s).*torch.jit.* is (deprecated|not supported):DeprecationWarning")
def test_compiled_code_takes_no_hooks_and_the_other_layers_are_heard() -> None:
    scripted: nn.Module = torch.jit.script(nn.Sequential(nn.Linear(2, 2), nn.ReLU()))
    net = nn.Sequential(nn.Linear(2, 2), scripted, nn.Linear(2, 2))
    heard: list[str] = []
    with undisturbed(net), intercept(select_layers(net, "all"), lambda name, output: heard.append(name)):
        net(torch.ones(1, 2))
    assert heard == ["0", "2"]
    assert hooks_on(net) == 0


@pytest.mark.filterwarnings("ignore:(?s).*torch.jit.* is (deprecated|not supported):DeprecationWarning")
def test_of_compiled_layers_it_is_said_why_they_are_left_out() -> None:
    net = nn.Sequential(nn.Linear(2, 2), torch.jit.script(nn.Linear(2, 2)))
    told: list[tuple[str, str]] = []
    seen: list[str] = []
    watch(
        *(net, dict(net.named_children()), Probe(torch.eye(2)), lambda name, _: seen.append(name)),
        left_out=lambda *what: told.append(what),
    )
    assert seen == ["0"]
    assert told == [("1", "TorchScript, whose outputs cannot be seen")]


def test_a_layer_that_refuses_its_hook_leaves_none_on_those_before() -> None:
    class Refusing(nn.Linear):
        def register_forward_hook(self, *args: Any, **kwargs: Any) -> Any:
            raise RuntimeError("no hooks here")

    net = nn.Sequential(nn.Linear(2, 2), Refusing(2, 2))
    with pytest.raises(RuntimeError, match="no hooks here"), intercept(select_layers(net, "all"), lambda *_: None):
        pass
    assert hooks_on(net) == 0
