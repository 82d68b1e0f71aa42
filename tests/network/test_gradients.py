"""Error signals: the gradients of a backward pass written by hand, without a trace in the model."""

import copy
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from networks import assert_same, callback, fit, hooks_on
from networks import images as labelled_images
from properties import assert_is_a_value, assert_leaves_random_state, normal
from torch import Tensor, nn
from torch.nn import functional as F

from lightning_infoplane import ErrorSignals, Estimator, InformationPlane, Probe
from lightning_infoplane.network.gradients import default_loss, error_signals
from lightning_infoplane.network.layers import select_layers

Held = dict[str, Tensor]
ForwardPass = Callable[[Any, Any, Held], Tensor]


@dataclass
class Case:
    """A network, what is watched in it, and the same network once more as plain functions, its outputs noted."""

    network: nn.Module
    layers: list[str]
    written: ForwardPass
    inputs: Any
    targets: Tensor

    @property
    def probe(self) -> Probe:
        return Probe(self.inputs, self.targets)

    def signals(self, **options: Any) -> Held:
        return error_signals(self.network, select_layers(self.network, self.layers), self.probe, **options)

    def by_hand(self) -> Held:
        """Gradients at every noted output, from ``.backward()`` on a copy that nobody froze."""
        held: Held = {}
        net = copy.deepcopy(self.network).eval().requires_grad_()
        outputs = self.written(net, self.inputs, held)
        for tensor in held.values():
            tensor.retain_grad()
        if self.targets.is_floating_point():
            (outputs - self.targets).square().mean().backward()
        else:
            chosen = outputs.log_softmax(-1).gather(1, self.targets.unsqueeze(1))
            (-chosen.mean()).backward()
        return {name: tensor.grad for name, tensor in held.items() if tensor.grad is not None}


IMAGES, CLASSES = normal(6, 1, 8, 8, seed=3, dtype=torch.float32), torch.arange(6) % 3


def convolutions(activation: Callable[[], nn.Module]) -> nn.Sequential:
    """Two convolutions with batch norm, pooling and a linear layer."""
    torch.manual_seed(0)
    stem = [nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), activation(), nn.MaxPool2d(2)]
    return nn.Sequential(*stem, nn.Conv2d(4, 3, 3, padding=1), activation(), nn.Flatten(), nn.Linear(48, 3))


def convolutions_by_hand(activation: Callable[[Tensor], Tensor]) -> ForwardPass:
    def written(net: Any, x: Tensor, held: Held) -> Tensor:
        held["0"] = F.conv2d(x, net[0].weight, net[0].bias, padding=1)
        norm = net[1]
        held["1"] = F.batch_norm(held["0"], norm.running_mean, norm.running_var, norm.weight, norm.bias, eps=norm.eps)
        held["2"] = activation(held["1"])
        held["4"] = F.conv2d(F.max_pool2d(held["2"], 2), net[4].weight, net[4].bias, padding=1)
        held["5"] = activation(held["4"])
        held["7"] = F.linear(held["5"].flatten(1), net[7].weight, net[7].bias)
        return held["7"]

    return written


def convolution_case(activation: Callable[[], nn.Module], function: Callable[[Tensor], Tensor]) -> Case:
    written = convolutions_by_hand(function)
    return Case(convolutions(activation), ["0", "1", "2", "4", "5", "7"], written, IMAGES, CLASSES)


def frozen(*layers: int) -> Case:
    case = convolution_case(lambda: nn.ReLU(inplace=True), torch.relu)
    for index in layers:
        case.network[index].requires_grad_(False)  # type: ignore[index]
    return case


class Shared(nn.Module):
    """One layer applied three times, to its own output, with in-place activations between."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.step, self.head = nn.Linear(5, 5), nn.Linear(5, 2)

    def forward(self, x: Tensor) -> Tensor:
        for _ in range(3):
            x = self.step(x).relu_()
        return self.head(x)


def shared_by_hand(net: Any, x: Tensor, held: Held) -> Tensor:
    held["step"] = F.linear(x, net.step.weight, net.step.bias)
    held["step.call2"] = F.linear(held["step"].relu(), net.step.weight, net.step.bias)
    held["step.call3"] = F.linear(held["step.call2"].relu(), net.step.weight, net.step.bias)
    held["head"] = F.linear(held["step.call3"].relu(), net.head.weight, net.head.bias)
    return held["head"]


def shared() -> Case:
    return Case(Shared(), ["step", "head"], shared_by_hand, normal(6, 5, dtype=torch.float32), normal(6, 2).float())


class Nested(nn.Module):
    """A block whose output is that of its last layer, and a way around the block."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.stem = nn.Conv2d(1, 3, 3, padding=1)
        self.block = nn.Sequential(nn.Conv2d(3, 3, 3, padding=1), nn.ReLU(inplace=True), nn.Conv2d(3, 3, 1))
        self.head = nn.Linear(3, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        inside = self.block(x)
        inside += x
        return self.head(inside.relu_().mean((2, 3)))


def nested_by_hand(net: Any, x: Tensor, held: Held) -> Tensor:
    held["stem"] = F.conv2d(x, net.stem.weight, net.stem.bias, padding=1)
    held["block.0"] = F.conv2d(held["stem"], net.block[0].weight, net.block[0].bias, padding=1)
    held["block.2"] = F.conv2d(held["block.0"].relu(), net.block[2].weight, net.block[2].bias)
    held["block"] = held["block.2"].clone()  # another tensor with the same value and the same gradient
    held["head"] = F.linear((held["block"] + held["stem"]).relu().mean((2, 3)), net.head.weight, net.head.bias)
    return held["head"]


def nested() -> Case:
    return Case(Nested(), ["stem", "block", "block.0", "block.2", "head"], nested_by_hand, IMAGES, CLASSES)


class Pair(nn.Module):
    """Two tensors in a tuple."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Linear(5, 4), nn.Linear(5, 4)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.one(x), self.two(x)


class Tuples(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.pair, self.head = Pair(), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> tuple[Tensor, None]:
        one, two = self.pair(x)
        return self.head(one.relu_() * two), None


def tuples_by_hand(net: Any, x: Tensor, held: Held) -> Tensor:
    held["pair.one"] = F.linear(x, net.pair.one.weight, net.pair.one.bias)
    held["pair.two"] = F.linear(x, net.pair.two.weight, net.pair.two.bias)
    held["pair"] = held["pair.one"].clone()
    held["head"] = F.linear(held["pair"].relu() * held["pair.two"], net.head.weight, net.head.bias)
    return held["head"]


def tuples() -> Case:
    return Case(Tuples(), ["pair", "linear"], tuples_by_hand, normal(6, 5, dtype=torch.float32), CLASSES)


class Tokens(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embed, self.mix, self.head = nn.Embedding(7, 4), nn.Linear(4, 4), nn.Linear(4, 3)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.head(self.mix(self.embed(tokens)).tanh().mean(1))


def tokens_by_hand(net: Any, x: Tensor, held: Held) -> Tensor:
    held["embed"] = net.embed.weight[x]
    held["mix"] = held["embed"] @ net.mix.weight.mT + net.mix.bias
    held["head"] = held["mix"].tanh().mean(1) @ net.head.weight.mT + net.head.bias
    return held["head"]


def tokens() -> Case:
    drawn = torch.randint(7, (6, 5), generator=torch.Generator().manual_seed(0))
    return Case(Tokens(), ["embed", "mix", "head"], tokens_by_hand, drawn, CLASSES)


CASES: dict[str, Callable[[], Case]] = {
    "tanh": lambda: convolution_case(nn.Tanh, torch.tanh),
    "in-place ReLU": lambda: convolution_case(lambda: nn.ReLU(inplace=True), torch.relu),
    "in-place leaky ReLU": lambda: convolution_case(
        lambda: nn.LeakyReLU(0.3, inplace=True), lambda t: F.leaky_relu(t, 0.3)
    ),
    "all frozen": lambda: frozen(*range(8)),
    "first frozen": lambda: frozen(0, 1),
    "last frozen": lambda: frozen(4, 7),
    "weight sharing": shared,
    "nested": nested,
    "tuples": tuples,
    "tokens": tokens,
}
EACH = pytest.mark.parametrize("make", CASES.values(), ids=CASES)


@EACH
def test_they_are_the_gradients_of_a_backward_pass_written_by_hand(make: Callable[[], Case]) -> None:
    case = make()
    found, expected = case.signals(), case.by_hand()
    assert found.keys() == expected.keys()
    for name, error in found.items():
        assert error.dtype == torch.float64
        torch.testing.assert_close(error, expected[name].double(), rtol=0, atol=1e-6, msg=name)
        assert float(error.abs().max()) > 1e-4  # nothing was compared with nothing


@pytest.mark.parametrize(
    ("make", "order"),
    [
        (nested, ["stem", "block.0", "block.2", "block", "head"]),
        (shared, ["step", "step.call2", "step.call3", "head"]),
        (tuples, ["pair.one", "pair.two", "pair", "head"]),
    ],
)
def test_layers_come_in_order_of_execution(make: Callable[[], Case], order: list[str]) -> None:
    assert list(make().signals()) == order


@EACH
@pytest.mark.parametrize("size", [1, 2, 4, 5])
def test_pieces_of_the_probe_give_the_same_errors(make: Callable[[], Case], size: int) -> None:
    """Of a mean loss too: the loss sees all samples at once, whatever the size of the last piece."""
    case = make()
    whole, pieces = case.signals(), case.signals(batch_size=size)
    assert list(pieces) == list(whole)
    for name, error in whole.items():
        torch.testing.assert_close(pieces[name], error, rtol=1e-4, atol=1e-7)


@EACH
@pytest.mark.parametrize("grads", ["none", "existing"])
def test_the_model_is_left_bit_for_bit(make: Callable[[], Case], grads: str) -> None:
    case = make()
    net = case.network.train()
    if grads == "existing":
        for parameter in net.parameters():
            parameter.grad = torch.randn_like(parameter)
    before = [None if p.grad is None else p.grad.clone() for p in net.parameters()]
    wanting = [p.requires_grad for p in net.parameters()]
    state, inputs = copy.deepcopy(net.state_dict()), case.probe.x.clone()
    with assert_leaves_random_state():
        case.signals()
    assert_same([p.grad for p in net.parameters()], before)
    assert [p.requires_grad for p in net.parameters()] == wanting
    assert_same(net.state_dict(), state)
    assert_same(case.probe.x, inputs)
    assert not case.probe.x.requires_grad
    assert all(module.training for module in net.modules())
    assert hooks_on(net) == 0


def test_a_graph_that_is_still_alive_can_be_run_backward_afterwards() -> None:
    case = CASES["in-place ReLU"]()
    loss = F.cross_entropy(case.network.train()(IMAGES), CLASSES)
    case.signals()
    loss.backward()
    assert all(parameter.grad is not None for parameter in case.network.parameters())


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_gradients_are_had_also_where_they_are_switched_off(mode: Callable[[], Any]) -> None:
    case = CASES["nested"]()
    expected = case.signals()
    with mode():
        found = case.signals()
    assert_same(found, expected)


def test_a_loss_of_ones_own() -> None:
    """The gradient of Σ outputs · targets at the output is the targets."""
    layer, targets = nn.Linear(3, 2), normal(5, 2)
    probe = Probe(normal(5, 3, dtype=torch.float32), targets)
    found = error_signals(layer, {"layer": layer}, probe, loss_fn=lambda out, y: (out.double() * y).sum())
    torch.testing.assert_close(found["layer"], targets)


def test_forward_says_how_the_network_is_called() -> None:
    case = CASES["tanh"]()
    expected = case.signals()
    case.inputs = {"pixels": IMAGES}
    assert_same(case.signals(forward_fn=lambda net, inputs: net(inputs["pixels"])), expected)


def test_mixed_precision_gives_errors_in_double_precision() -> None:
    case = CASES["tokens"]()  # smooth: where rounding may move a maximum, errors jump
    exact = case.signals()

    def forward(net: nn.Module, inputs: Tensor) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            return net(inputs)

    rough = case.signals(forward_fn=forward)
    for name, error in rough.items():
        assert error.dtype == torch.float64
        torch.testing.assert_close(error, exact[name], rtol=0, atol=0.05 * float(exact[name].abs().max()))


def test_layers_that_do_not_reach_the_loss_are_missing() -> None:
    class Idle(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.used, self.idle, self.never = nn.Linear(3, 2), nn.Linear(3, 2), nn.Linear(3, 2)
            self.index = nn.Identity()

        def forward(self, x: Tensor) -> Tensor:
            self.idle(x)
            self.index(x.long())
            return self.used(x)

    net = Idle()
    layers = select_layers(net, ["linear", "index"])
    assert list(error_signals(net, layers, Probe(torch.ones(4, 3), torch.zeros(4, 2)))) == ["used"]


# ----------------------------------------------------------------------------------------------- vanishing errors


@pytest.mark.parametrize("scale", [1e-25, 1e-12, 1e20])
def test_vanishing_and_exploding_errors_have_the_same_entropies(scale: float) -> None:
    """Late in training errors are tiny: a kernel that sees them collapse would report a fall of information."""

    def table(scale: float) -> dict[tuple[str, str], float]:
        torch.manual_seed(0)
        net, n = convolutions(lambda: nn.ReLU(inplace=True)), 32
        probe = Probe(normal(n, 1, 8, 8, seed=3, dtype=torch.float32), torch.arange(n) % 3)
        layers = select_layers(net, ["0", "4", "7"])
        errors = error_signals(net, layers, probe, lambda out, y: scale * default_loss(out, y))
        plane = InformationPlane(Estimator(shuffles=0))
        rows = plane.finish(plane.start_error_signals(errors, pairs=[("4", "0")]))
        return {(row.place, row.quantity): row.value for row in rows}

    expected, found = table(1.0), table(scale)
    assert expected.keys() == found.keys()
    assert {quantity for _, quantity in found} == {
        *("H_error_last", "H_error", "I_error", "DPI_error", "bandwidth_error")
    }
    for (layer, quantity), value in expected.items():
        factor = scale if quantity == "bandwidth_error" else 1.0
        assert found[layer, quantity] == pytest.approx(factor * value, rel=1e-5, abs=1e-6 * factor), (layer, quantity)
        if quantity.startswith("H_"):
            assert 0.5 < found[layer, quantity] < 4.9  # neither collapsed nor log2 n = 5


# -------------------------------------------------------------------------------------------------- which loss


def test_integer_targets_get_the_cross_entropy() -> None:
    scores, labels = normal(5, 3), torch.tensor([0, 2, 1, 1, 0])
    expected = -sum(float(scores[i].log_softmax(0)[label]) for i, label in enumerate(labels.tolist())) / 5
    assert float(default_loss(scores, labels)) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("kind", [torch.uint8, torch.int16, torch.int32, torch.int64, torch.bool])
def test_integers_of_every_kind_are_labels(kind: torch.dtype) -> None:
    scores, labels = normal(4, 2), torch.tensor([0, 1, 1, 0])
    assert torch.equal(default_loss(scores, labels.to(kind)), default_loss(scores, labels))


def test_labels_of_every_pixel_get_the_cross_entropy_over_pixels() -> None:
    scores, labels = normal(2, 3, 4, 4), torch.randint(3, (2, 4, 4), generator=torch.Generator().manual_seed(0))
    flat = default_loss(scores.movedim(1, -1).flatten(0, 2), labels.flatten())
    torch.testing.assert_close(default_loss(scores, labels), flat)


@pytest.mark.parametrize("shape", [(5,), (5, 1), (5, 2, 3)])
def test_matching_floats_get_the_mean_squared_error(shape: tuple[int, ...]) -> None:
    outputs, targets = normal(*shape), normal(*shape, seed=1)
    torch.testing.assert_close(default_loss(outputs, targets), ((outputs - targets) ** 2).sum() / outputs.numel())


@pytest.mark.parametrize("wrap", [lambda t: (t, None), lambda t: {"logits": t}, lambda t: [None, t]])
def test_the_first_tensor_of_a_structure_is_the_output(wrap: Callable[[Tensor], object]) -> None:
    scores, labels = normal(4, 2), torch.tensor([0, 1, 1, 0])
    assert torch.equal(default_loss(wrap(scores), labels), default_loss(scores, labels))


@pytest.mark.parametrize(
    ("outputs", "targets", "message"),
    [
        (torch.zeros(4), torch.zeros(4).long(), r"outputs of \(4,\) and targets \(4,\) of torch\.int64"),
        (torch.zeros(4, 1), torch.zeros(4), r"outputs of \(4, 1\) and targets \(4,\) of torch\.float32"),
        (torch.zeros(4, 3), torch.zeros(4, 3).long(), r"outputs of \(4, 3\) and targets \(4, 3\) of torch\.int64"),
        ("text", torch.zeros(4), r"outputs of no tensor and targets \(4,\)"),
    ],
)
def test_other_outputs_and_targets_need_a_loss_of_the_users(outputs: object, targets: Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=rf"no loss is known for {message}.*Pass loss_fn=lambda outputs, targets: "):
        default_loss(outputs, targets)


# ------------------------------------------------------------------------------------------- how they are made


def test_how_they_are_made_is_a_value() -> None:
    assert_is_a_value(ErrorSignals())
    assert ErrorSignals() == ErrorSignals(None)
    assert ErrorSignals(F.mse_loss) == ErrorSignals(F.mse_loss) != ErrorSignals(F.l1_loss)


@pytest.mark.parametrize("loss_fn", [F.cross_entropy, nn.MSELoss(), lambda outputs, targets: outputs.sum()])
def test_a_loss_is_anything_that_can_be_called(loss_fn: Callable[[Any, Tensor], Tensor]) -> None:
    assert ErrorSignals(loss_fn).loss_fn is loss_fn


@pytest.mark.parametrize(
    ("wrong", "shown"),
    [("mse", "'mse'"), (3, "3"), (True, "True"), (False, "False"), (torch.zeros(()), r"tensor\(0\.\)")],
)
def test_a_loss_that_cannot_be_called_is_refused(wrong: Any, shown: str) -> None:
    message = rf"ErrorSignals\(loss_fn={shown}\): expected a function \(outputs, targets\) -> scalar tensor, such as "
    with pytest.raises(TypeError, match=message):
        ErrorSignals(wrong)


# ------------------------------------------------------------------------------------------------------ bad input


def small(**options: Any) -> Held:
    net = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 2))
    defaults = {
        "model": net,
        "layers": select_layers(net, "linear"),
        "probe": Probe(torch.ones(4, 3), torch.ones(4, 2)),
    }
    return error_signals(**defaults | options)


NO_WAY = r"the loss depends on none of the layers 0, 1\. Choose layers on the way to the loss, or a loss_fn without "


@pytest.mark.parametrize(
    "loss_fn",
    [
        lambda outputs, targets: targets.sum(),
        lambda outputs, targets: outputs.detach().sum(),
        lambda outputs, targets: torch.ones((), requires_grad=True) * 2,
    ],
    ids=["targets only", "detached", "another graph"],
)
def test_a_loss_that_does_not_depend_on_the_layers(loss_fn: Callable[[Tensor, Tensor], Tensor]) -> None:
    with pytest.raises(ValueError, match=NO_WAY):
        small(loss_fn=loss_fn)


def test_a_forward_pass_without_gradients() -> None:
    with pytest.raises(ValueError, match=NO_WAY):
        small(forward_fn=lambda net, x: torch.no_grad()(net)(x), loss_fn=lambda outputs, targets: outputs.sum())


def test_layers_that_put_out_no_floats() -> None:
    class Index(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.long()

    net = nn.Sequential(Index(), nn.Embedding(3, 2))
    with pytest.raises(ValueError, match=r"the loss depends on none of the layers 0\. Choose layers on the way"):
        error_signals(net, {"0": net[0]}, Probe(torch.ones(4), torch.ones(4, 2)))


@pytest.mark.parametrize(
    ("loss_fn", "got"),
    [
        (lambda outputs, targets: outputs.sum(1), r"a tensor of shape \(4,\)"),
        (lambda outputs, targets: outputs - targets, r"a tensor of shape \(4, 2\)"),
        (lambda outputs, targets: outputs.sum().item(), r"-?\d+\.\d+"),
        (lambda outputs, targets: {"loss": outputs.sum()}, r"\{'loss': tensor"),
        (lambda outputs, targets: None, "None"),
    ],
    ids=["a loss a sample", "differences", "a float", "a dictionary", "nothing"],
)
def test_a_loss_that_is_not_one_number(loss_fn: Callable[[Tensor, Tensor], Any], got: str) -> None:
    with pytest.raises(ValueError, match=rf"loss_fn must return a tensor with a single number, got {got}"):
        small(loss_fn=loss_fn)


def test_no_targets() -> None:
    with pytest.raises(ValueError, match=r"the probe has no targets\. Pass probe=\(inputs, targets\)\."):
        small(probe=Probe(torch.ones(4, 3)))


def test_targets_that_no_loss_is_known_for() -> None:
    with pytest.raises(ValueError, match=r"no loss is known for outputs of \(4, 2\) and targets \(4,\) of torch.float"):
        small(probe=Probe(torch.ones(4, 3), torch.ones(4)))


def test_a_model_made_in_inference_mode() -> None:
    with torch.inference_mode():
        net = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 2))
    with pytest.raises(ValueError, match=r"made in inference mode: no gradient can be had\. Make it under no_grad\(\)"):
        small(model=net, layers=select_layers(net, "linear"))


def test_the_model_is_left_as_it_was_after_a_mistake() -> None:
    case = CASES["nested"]()
    net = case.network.train()
    with assert_leaves_random_state(), pytest.raises(ValueError, match="must return"):
        case.signals(loss_fn=lambda outputs, targets: outputs)
    assert all(module.training for module in net.modules())
    assert all(parameter.grad is None for parameter in net.parameters())
    assert hooks_on(net) == 0


# ----------------------------------------------------------------------------------------------- in the callback


def test_one_chosen_layer_cannot_be_compared(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"error_signals=True compares layers, and layers='conv1' chose only one\."):
        fit(tmp_path, callback(layers="conv1", error_signals=True))


def test_a_probe_without_targets_ends_in_a_sentence(tmp_path: Path) -> None:
    probe = Probe(labelled_images(16).tensors[0])
    measured = callback(probe=probe, error_signals=True)
    with pytest.warns(UserWarning, match="the probe has no targets"), pytest.raises(ValueError, match="need a loss"):
        fit(tmp_path, measured)


def test_without_raise_on_error_training_goes_on_with_that_sentence(tmp_path: Path) -> None:
    measured = callback(error_signals=ErrorSignals(lambda outputs, targets: outputs), raise_on_error=False)
    with pytest.warns(UserWarning, match="failed and training goes on. ValueError: loss_fn must return"):
        done = fit(tmp_path, measured)
    assert done.current_epoch == 2


# --------------------------------------------------------------------------------------------------- in pieces


class TwoHeads(nn.Module):
    """Scores and a second head in a dictionary, as auxiliary losses want them; labels go through untouched."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.head, self.aside = nn.Linear(3, 4), nn.Linear(4, 3), nn.Linear(4, 1)

    def forward(self, x: Tensor) -> dict[str, Any]:
        hidden = self.body(x).tanh()
        return {"scores": self.head(hidden), "aside": [self.aside(hidden)], "kind": x.argmax(1)}


def two_losses(outputs: dict[str, Any], targets: Tensor) -> Tensor:
    """Neither a sum nor a mean over the samples."""
    scores = nn.functional.cross_entropy(outputs["scores"], targets, reduction="sum")
    return scores / outputs["kind"].sum() + outputs["aside"][0].logsumexp(0).sum()


def test_pieces_go_through_any_loss_and_any_structure_of_outputs() -> None:
    net = TwoHeads()
    layers, probe = select_layers(net, "linear"), Probe(normal(7, 3, dtype=torch.float32), torch.arange(7) % 3)
    whole = error_signals(net, layers, probe, two_losses)
    pieces = error_signals(net, layers, probe, two_losses, batch_size=3)
    assert list(pieces) == list(whole) == ["body", "head", "aside"]
    for name, error in whole.items():
        torch.testing.assert_close(pieces[name], error, rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize(
    ("forward", "got"),
    [(lambda net, x: (net(x), net(x).sum()), r"an output of shape \(\)"), (lambda net, x: {net(x)}, "set")],
    ids=["a scalar", "no structure we know"],
)
def test_outputs_that_cannot_be_put_together(forward: Callable[[nn.Module, Tensor], Any], got: str) -> None:
    with pytest.raises(ValueError, match=f"in pieces of 3, and {got} cannot be put together.*Leave probe_batch_size"):
        small(forward_fn=forward, loss_fn=lambda out, y: out[0].sum(), batch_size=3)


def test_the_default_loss_needs_only_the_first_output_of_a_piece() -> None:
    """An LSTM hands out its state too, which is not one row a sample."""
    net = nn.LSTM(3, 4, batch_first=True)
    probe = Probe(normal(5, 6, 3, dtype=torch.float32), normal(5, 6, 4, dtype=torch.float32))
    for signals in (error_signals(net, {"": net}, probe), error_signals(net, {"": net}, probe, batch_size=2)):
        torch.testing.assert_close(signals[""], error_signals(net, {"": net}, probe)[""])


def test_both_passes_of_a_network_that_is_random_draw_the_same_numbers() -> None:
    class Noisy(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(3, 4), nn.Linear(4, 2)

        def forward(self, x: Tensor) -> Tensor:
            return torch.exp(self.b(F.dropout(self.a(x), 0.5, training=True)))  # in eval mode as well

    net, half = Noisy(), normal(4, 3, dtype=torch.float32)
    probe = Probe(torch.cat([half, half]), torch.ones(8, 2))
    torch.manual_seed(3)
    with torch.random.fork_rng():
        expected = error_signals(net, {"b": net.b}, probe, lambda out, y: out.sum(), batch_size=4)["b"]
    with torch.random.fork_rng():
        outputs = torch.cat([net(part) for part in (half, half)])
    torch.testing.assert_close(expected, outputs.detach().double())  # d exp(b) / db


def test_a_loss_in_place_works_in_pieces_too() -> None:
    def centred(outputs: Tensor, targets: Tensor) -> Tensor:
        outputs.sub_(outputs.mean(0, keepdim=True))
        return outputs.square().mean()

    whole, pieces = small(loss_fn=centred), small(loss_fn=centred, batch_size=3)
    for name, error in whole.items():
        torch.testing.assert_close(pieces[name], error, rtol=1e-4, atol=1e-7)


def test_the_probe_batch_size_of_the_callback_is_for_error_signals_too(tmp_path: Path) -> None:
    sizes: list[int] = []

    def forward(module: nn.Module, inputs: Tensor) -> Tensor:
        sizes.append(len(inputs))
        scores: Tensor = module(inputs)
        return scores

    fit(tmp_path / "a", pieces := callback(error_signals=True, forward_fn=forward, probe_batch_size=10))
    assert max(sizes) <= 10
    fit(tmp_path / "b", whole := callback(error_signals=True))
    compared = {
        (row.epoch, row.place, row.quantity): row.value for row in whole.history if row.quantity.startswith("I_error")
    }
    assert compared
    for row in pieces.history:
        if row.quantity.startswith("I_error"):
            assert row.value == pytest.approx(compared[row.epoch, row.place, row.quantity], abs=1e-3)
