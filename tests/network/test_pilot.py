"""A few samples through the network: the way it is called, where its samples are, and what embeds token numbers."""

from copy import deepcopy
from typing import Any

import pytest
import torch
from networks import assert_same, hooks_on
from properties import assert_leaves_random_state, normal
from torch import Tensor, nn

from lightning_infoplane.network.calls import WHOLE, Way
from lightning_infoplane.network.pilot import Pilot, embedded, fly
from lightning_infoplane.network.probe import Probe
from lightning_infoplane.network.reader import Place

X = normal(8, 6, dtype=torch.float32)
IDS = torch.arange(24).reshape(8, 3) % 7


def run(network: nn.Module, inputs: Any, way: Way) -> Any:
    return way(network, inputs)


class Odd(nn.Module):
    """Time first, windows as rows of their own, and what changes with each call."""

    def __init__(self, only: int = 0) -> None:
        super().__init__()
        self.only = only
        self.time, self.window = nn.Linear(2, 5), nn.Linear(3, 4)
        self.norm, self.drop = nn.BatchNorm1d(6), nn.Dropout()

    def forward(self, x: Tensor) -> Tensor:
        if self.only and len(x) != self.only:
            raise ValueError(f"{self.only} samples only")
        torch.rand(1)
        self.time(x.reshape(len(x), 3, 2).movedim(1, 0))
        self.window(x.reshape(2 * len(x), 3))
        return self.drop(self.norm(x))


class Words(nn.Module):
    """Positions come first."""

    def __init__(self, time_first: bool = False) -> None:
        super().__init__()
        self.time_first = time_first
        self.positions, self.words, self.more = nn.Embedding(3, 4), nn.Embedding(7, 4), nn.Embedding(7, 4)

    def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> Tensor:
        where = self.positions(torch.arange(3).expand(len(input_ids), 3))
        ids = input_ids.T if self.time_first else input_ids
        words = self.words(ids) + self.more(ids)
        return where + (words.movedim(1, 0) if self.time_first else words)


def test_the_first_way_that_runs_is_taken() -> None:
    ways = [Way(("no",)), Way(path="x"), Way(("input",))]
    net = nn.Linear(6, 2)
    pilot = fly(net, {"": net}, Probe({"x": X, "input": X}, x=X), run, ways)
    assert pilot.way == Way(path="x")


def test_places_are_found_by_passes_of_different_sizes() -> None:
    net = Odd()
    layers = {"time": net.time, "window": net.window, "norm": net.norm}
    pilot = fly(net, layers, Probe(X), run)
    assert pilot == Pilot(WHOLE, {"time": Place(0, 1), "window": Place(0, 0, 2), "norm": Place(0, 0)})


def test_a_network_of_one_batch_size_is_sent_the_whole_probe() -> None:
    net = Odd(only=8)
    assert fly(net, {"time": net.time}, Probe(X), run) == Pilot()


def test_the_likeliest_ways_failure_is_raised() -> None:
    net = Odd(only=5)
    with pytest.raises(KeyError, match="no"):
        fly(net, {}, Probe(X), run, [Way(("no",)), WHOLE])
    with pytest.raises(ValueError, match="5 samples only"):
        fly(net, {}, Probe(X), run)


def test_nothing_of_the_network_or_of_the_random_state_is_changed() -> None:
    net = Odd()
    net.norm.eval()
    state, flags, hooks = deepcopy(net.state_dict()), [part.training for part in net.modules()], hooks_on(net)
    with assert_leaves_random_state():
        fly(net, {"time": net.time, "norm": net.norm}, Probe(X), run)
    assert_same(dict(net.state_dict()), dict(state))
    assert [part.training for part in net.modules()] == flags
    assert hooks_on(net) == hooks
    assert all(parameter.grad is None for parameter in net.parameters())


@pytest.mark.parametrize("time_first", [False, True])
@pytest.mark.parametrize("batch_size", [None, 3])
def test_the_embedding_is_the_first_that_tells_samples_apart(time_first: bool, batch_size: int | None) -> None:
    net, probe = Words(time_first), Probe(IDS)
    pilot = fly(net, {}, probe, run)
    assert pilot.embedding == "words"
    found = embedded(net, pilot, probe, run, batch_size)
    assert found is not None
    assert torch.equal(found, net.words.weight[IDS])


def test_padding_is_zero_in_what_is_embedded() -> None:
    mask = torch.tensor([1, 1, 0]).repeat(8, 1)
    net, probe = Words(), Probe({"input_ids": IDS, "attention_mask": mask}, x=IDS)
    found = embedded(net, fly(net, {}, probe, run), probe, run)
    assert found is not None
    assert torch.equal(found, net.words.weight[IDS] * mask[:, :, None])


def test_what_is_not_called_embeds_nothing() -> None:
    net = nn.ModuleDict({"words": nn.Embedding(7, 4)})
    assert embedded(net, Pilot(embedding="words"), Probe(IDS), lambda network, inputs, way: None) is None
