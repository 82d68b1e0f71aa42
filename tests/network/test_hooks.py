"""Choosing layers, watching them, and leaving the model and the world as they were."""

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import numpy as np
import pytest
import torch
from properties import assert_leaves_random_state
from torch import Tensor, nn

from lightning_infoplane.capture import LayerSpec, capture, first_tensor, isolated_rng, select_layers, undisturbed


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


@pytest.mark.parametrize(
    ("layers", "expected"),
    [
        ("conv", CONVS),
        ("linear", ["head"]),
        ("all", ["head", *CONVS, "relu"]),
        ("encoder.conv2", ["encoder.conv2"]),
        ("encoder.*", CONVS[1:]),
        ("*.conv[12]", CONVS[1:]),
        (nn.Conv2d, CONVS[1:]),
        (lambda name, module: name.endswith("1"), ["encoder.conv1"]),
        (["encoder.conv1", "head"], ["head", "encoder.conv1"]),
        (("linear", nn.ConvTranspose1d, "encoder.*2"), ["head", "up", "encoder.conv2"]),
        (["conv", "encoder.conv1"], CONVS),
    ],
    ids=repr,
)
def test_layers_come_by_name_in_the_order_of_registration(layers: LayerSpec, expected: list[str]) -> None:
    net = Net()
    chosen = select_layers(net, layers)
    assert list(chosen) == expected
    assert all(net.get_submodule(name) is module for name, module in chosen.items())


def test_convolutions_are_the_default() -> None:
    assert list(select_layers(Net())) == CONVS


@pytest.mark.parametrize(
    "kind",
    [nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d],
    ids=lambda kind: kind.__name__,
)
def test_every_convolution_is_a_conv(kind: type[nn.Module]) -> None:
    assert list(select_layers(nn.Sequential(nn.ReLU(), kind(1, 1, 1)), "conv")) == ["1"]


def test_a_lazy_convolution_is_a_conv() -> None:
    assert list(select_layers(nn.Sequential(nn.LazyConv2d(4, 3)), "conv")) == ["0"]


def test_a_module_registered_twice_has_one_name() -> None:
    shared = nn.Conv2d(1, 1, 1)
    assert list(select_layers(nn.ModuleDict({"a": shared, "b": shared}))) == ["a"]


def test_a_misspelt_name_lists_the_closest_ones_and_the_convolutions() -> None:
    message = (
        r"layers='encoder.conv3' matches no module. Did you mean .*'encoder\.conv[12]'.*\? "
        r"Convolutions here: 'up', 'encoder\.conv1', 'encoder\.conv2'\."
    )
    with pytest.raises(ValueError, match=message):
        select_layers(Net(), "encoder.conv3")


def test_one_misspelt_name_among_several_is_named() -> None:
    with pytest.raises(ValueError, match=r"layers='nowhere' matches no module"):
        select_layers(Net(), ["conv", "nowhere"])


def test_a_long_list_of_convolutions_is_cut() -> None:
    with pytest.raises(ValueError, match=r"Convolutions here: '0', .*'19', …\."):
        select_layers(nn.Sequential(*(nn.Conv1d(1, 1, 1) for _ in range(25))), "linear")


def test_a_model_without_convolutions_is_told_what_to_try() -> None:
    with pytest.raises(ValueError, match="The model has no convolution; try 'linear'"):
        select_layers(nn.Sequential(nn.Linear(1, 1)))


def test_an_empty_choice_is_refused() -> None:
    with pytest.raises(ValueError, match="layers is empty: name at least one layer"):
        select_layers(Net(), [])


@pytest.mark.parametrize("wrong", [3, None, [3], ["conv", 2.5], nn.ReLU(), [nn.Conv2d(1, 1, 1)]], ids=repr)
def test_what_is_no_choice_of_layers_is_a_type_error(wrong: object) -> None:
    with pytest.raises(TypeError, match=r"layers: expected a keyword \(conv, linear, all\), a name, a glob"):
        select_layers(Net(), wrong)  # type: ignore[arg-type]


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


# ------------------------------------------------------------------------------------------------- undisturbed


@contextmanager
def ended_by(failure: BaseException | None) -> Iterator[None]:
    """Whatever the body does, the outside goes on."""
    with suppress(ValueError, KeyboardInterrupt):
        yield
    assert failure is None or isinstance(failure, ValueError | KeyboardInterrupt)


ENDINGS = pytest.mark.parametrize("failure", [None, ValueError("measurement"), KeyboardInterrupt()], ids=repr)


def end(failure: BaseException | None) -> None:
    if failure is not None:
        raise failure


@ENDINGS
def test_every_submodule_gets_its_own_train_flag_back(failure: BaseException | None) -> None:
    net = nn.Sequential(nn.Dropout(), nn.BatchNorm1d(2), nn.Sequential(nn.Dropout(), nn.BatchNorm1d(2)))
    net[1].eval()  # a frozen batch norm in a network that trains
    net[2][0].eval()
    before = [module.training for module in net.modules()]
    with ended_by(failure), undisturbed(net):
        assert not any(module.training for module in net.modules())
        end(failure)
    assert [module.training for module in net.modules()] == before


def test_an_overridden_train_method_is_not_called() -> None:
    class Frozen(nn.Module):
        def train(self, mode: bool = True) -> "Frozen":
            raise AssertionError("train() of the user has side effects")

    with undisturbed(Frozen()):
        pass


class Restless(nn.Module):
    """Changes its buffers in every forward pass, even in eval mode, in all the ways there are."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("counter", torch.zeros(()))
        self.register_buffer("replaced", torch.arange(3.0))
        self.register_buffer("data", torch.ones(2))
        self.register_buffer("hidden", torch.ones(2), persistent=False)
        self.register_buffer("later", None)
        self.register_buffer("poisoned", torch.tensor([torch.nan, 1.0]))

    def forward(self, x: Tensor) -> Tensor:
        self.counter += 1
        self.replaced = self.replaced * 2
        self.data.data.mul_(3)
        self.hidden.add_(x.mean())
        self.later = torch.ones(1)
        self.poisoned.zero_()
        return x


@ENDINGS
def test_buffers_that_a_forward_pass_changed_or_replaced_are_put_back(failure: BaseException | None) -> None:
    net = Restless()
    objects = dict(net.named_buffers())
    values = {name: buffer.clone() for name, buffer in objects.items()}
    with ended_by(failure), undisturbed(net):
        net(torch.ones(4))
        end(failure)
    assert net.later is None
    after = dict(net.named_buffers())
    assert after.keys() == values.keys()
    for name, buffer in after.items():
        assert buffer is objects[name], name
        torch.testing.assert_close(buffer, values[name], rtol=0, atol=0, equal_nan=True, msg=name)


def test_buffers_that_took_another_shape_are_put_back_and_so_are_the_others() -> None:
    model = nn.Module()
    model.register_buffer("mean", torch.zeros(3))
    model.register_buffer("seen", torch.ones(2))
    mean, seen = model.mean, model.seen
    with undisturbed(model):
        model.mean.add_(1)  # type: ignore[operator]
        model.seen.data = torch.ones(4, dtype=torch.float64)  # type: ignore[union-attr]
    assert model.mean is mean
    assert model.seen is seen
    assert torch.equal(model.mean, torch.zeros(3))  # type: ignore[arg-type]
    assert torch.equal(model.seen, torch.ones(2))  # type: ignore[arg-type]


def test_a_buffer_that_did_not_change_is_not_written_to() -> None:
    """A write would break the backward pass of a graph that is still alive."""
    net = nn.Sequential(nn.BatchNorm1d(2))
    versions = [buffer._version for buffer in net.buffers()]
    with undisturbed(net):
        net(torch.ones(4, 2))
    assert [buffer._version for buffer in net.buffers()] == versions


def draw_from_everything() -> None:
    torch.rand(3)
    np.random.rand(3)
    random.random()


@ENDINGS
def test_random_numbers_drawn_inside_are_not_missing_outside(failure: BaseException | None) -> None:
    with assert_leaves_random_state(), ended_by(failure), undisturbed(nn.Dropout()):
        draw_from_everything()
        end(failure)


@ENDINGS
def test_a_seeded_isolation_repeats_itself_and_leaves_no_trace(failure: BaseException | None) -> None:
    drawn = []
    for _ in range(2):
        with assert_leaves_random_state(), ended_by(failure), isolated_rng(5):
            drawn.append((float(torch.rand(1)), float(np.random.rand()), random.random()))
            end(failure)
    assert drawn[0] == drawn[1]


@ENDINGS
@pytest.mark.parametrize("outside", [torch.enable_grad, torch.no_grad, torch.inference_mode])
def test_gradients_are_off_inside_and_as_before_outside(
    outside: Callable[[], torch.autograd.grad_mode.no_grad], failure: BaseException | None
) -> None:
    with outside():
        before = torch.is_grad_enabled(), torch.is_inference_mode_enabled()
        with ended_by(failure), undisturbed(nn.Identity()):
            assert not torch.is_grad_enabled()
            assert not torch.is_inference_mode_enabled()
            end(failure)
        assert (torch.is_grad_enabled(), torch.is_inference_mode_enabled()) == before


def test_tensors_made_inside_can_be_saved_for_backward_later() -> None:
    with torch.inference_mode(), undisturbed(nn.Identity()):
        made = torch.ones(2)
    (made * torch.ones(2, requires_grad=True)).sum().backward()
