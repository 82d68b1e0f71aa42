"""A model in the midst of its training, evaluated and left exactly as it was."""

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import numpy as np
import pytest
import torch
from properties import assert_leaves_random_state
from torch import Tensor, nn

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
