"""A model in the midst of its training, evaluated and left exactly as it was."""

import copy
import operator
import random
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import numpy as np
import pytest
import torch
from properties import assert_leaves_random_state
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard

from lightning_infoplane.network.hooks import intercept
from lightning_infoplane.network.undisturbed import isolated_rng, undisturbed


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


class Forgetful(nn.Module):
    """State of every kind beside its buffers, all of it changed in a forward pass."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(2, 2)
        self.calls, self.seen, self.generator = 0, [torch.zeros(1)], torch.Generator()
        self.hidden: Tensor | None = torch.zeros(2)

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        self.seen[0].add_(1)
        self.seen.append(x)
        self.hidden = x + torch.rand(2, generator=self.generator)
        self.layer.weight.data.clamp_(0, 0.1)
        self.layer.bias = nn.Parameter(torch.zeros(2))
        self.late = nn.Linear(2, 2)
        return self.layer(x)


@ENDINGS
def test_state_of_every_kind_is_put_back(failure: BaseException | None) -> None:
    net = Forgetful()
    objects, values = dict(net.named_parameters()), copy.deepcopy(net.state_dict())
    hidden, generator = net.hidden, net.generator.get_state()
    with ended_by(failure), undisturbed(net):
        net(torch.ones(2))
        assert net.calls == 1
        end(failure)
    assert {name: id(p) for name, p in net.named_parameters()} == {name: id(p) for name, p in objects.items()}
    assert all(torch.equal(value, values[name]) for name, value in net.state_dict().items())
    assert (net.calls, net.seen) == (0, [torch.zeros(1)])
    assert net.hidden is hidden
    assert torch.equal(net.generator.get_state(), generator)
    assert not hasattr(net, "late")


def test_a_measurement_within_another_one_leaves_the_outer_as_it_was() -> None:
    net = Forgetful()
    with undisturbed(net):
        net(torch.ones(2))
        with undisturbed(net):
            net(torch.ones(2))
            assert net.calls == 2
        assert net.calls == 1
        assert not net.training
    assert net.calls == 0
    assert net.training


# -------------------------------------------------------------------------------------------------- what torch brings


class Scripted(nn.Module):
    """Counts in a buffer, in a number and in a list."""

    count: int
    seen: list[Tensor]

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("added", torch.zeros(()))
        self.register_buffer("replaced", torch.zeros(()))
        self.count, self.seen = 0, []

    def forward(self, x: Tensor) -> Tensor:
        self.added += 1
        self.replaced = self.replaced + 1
        self.count += 1
        self.seen.append(x)
        return x


@pytest.mark.filterwarnings("ignore:(?s).*torch.jit.* is (deprecated|not supported):DeprecationWarning")
class TestTorchScript:
    """Its state is not in Python."""

    def script(self, net: nn.Module) -> torch.jit.ScriptModule:
        scripted: torch.jit.ScriptModule = torch.jit.script(net)
        return scripted

    @ENDINGS
    def test_of_a_scripted_module_everything_is_put_back(self, failure: BaseException | None) -> None:
        net = nn.Sequential(self.script(Scripted()), nn.BatchNorm1d(2))
        part: Any = net[0]
        part(torch.ones(1, 2))
        with ended_by(failure), undisturbed(net):
            assert not part.training
            net(torch.ones(3, 2))
            assert part.count == 2
            end(failure)
        assert [float(part.added), float(part.replaced), part.count, len(part.seen)] == [1, 1, 1, 1]
        assert part.training

    def test_of_a_traced_module_everything_is_put_back(self) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", torch.jit.TracerWarning)
            net = torch.jit.trace(nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2)), torch.ones(3, 2))
        before = copy.deepcopy(net.state_dict())
        with undisturbed(net):
            net.train()
            net(torch.ones(3, 2))
            assert not torch.equal(net.state_dict()["1.running_mean"], before["1.running_mean"])
        assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
        assert all(module.training for module in net.modules())

    def test_frozen_code_without_a_train_flag_is_evaluated_all_the_same(self) -> None:
        frozen = torch.jit.freeze(self.script(Scripted().eval()))
        with undisturbed(frozen):
            frozen(torch.ones(2))
        assert float(frozen.added) == 0


@ENDINGS
def test_attention_makes_no_nested_tensors(failure: BaseException | None) -> None:
    """Of its fast path in eval mode, taken where there is a padding mask."""
    layer = nn.TransformerEncoderLayer(4, 2, 8, batch_first=True)
    net = nn.TransformerEncoder(layer, 1)
    seen: list[bool] = []
    enabled = torch.backends.mha.get_fastpath_enabled()
    padding = torch.tensor([[False, True]] * 3)
    with (
        ended_by(failure),
        undisturbed(net),
        intercept({"0": net.layers[0]}, lambda _, out: seen.append(out.is_nested)),
    ):
        net(torch.ones(3, 2, 4), src_key_padding_mask=padding)
        end(failure)
    assert seen == [False]
    assert torch.backends.mha.get_fastpath_enabled() == enabled


@pytest.fixture
def one_rank() -> Iterator[None]:
    """A process group of one, with which parameters are sharded as with many."""
    torch.distributed.init_process_group("gloo", store=torch.distributed.HashStore(), rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()


@pytest.mark.usefixtures("one_rank")
@pytest.mark.parametrize("whole", [True, False], ids=["whole", "layer by layer"])
def test_sharded_training_goes_on_as_if_nobody_had_asked(whole: bool) -> None:
    """FSDP gathers parameters in a forward pass, and those of the root stay gathered until a backward pass."""

    def train(asked: bool) -> list[Tensor]:
        torch.manual_seed(0)
        net = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))
        mesh = init_device_mesh("cpu", (1,))
        for part in (net,) if whole else (net[0], net[2], net):
            fully_shard(part, mesh=mesh)
        optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
        for _ in range(3):
            if asked:
                before = list(net.parameters())
                with undisturbed(net):
                    net(torch.ones(3, 4))
                    net[0].weight.data.mul_(2)
                assert all(map(operator.is_, net.parameters(), before))
            optimizer.zero_grad()
            net(torch.arange(12.0).view(3, 4)).sum().backward()
            optimizer.step()
        return [parameter.full_tensor() for parameter in net.parameters()]  # type: ignore[attr-defined]

    assert all(map(torch.equal, train(asked=True), train(asked=False)))


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
