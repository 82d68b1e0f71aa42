"""A probe through a network: whole or in pieces, every layer's output handed on, and the network never notices."""

import gc
from typing import Any

import pytest
import torch
from networks import assert_same, hooks_on
from properties import assert_leaves_random_state, normal
from torch import Tensor, nn
from torch.multiprocessing.reductions import StorageWeakRef

from lightning_infoplane.network.activations import NOT_CALLED, watch
from lightning_infoplane.network.layers import LayerSpec, select_layers
from lightning_infoplane.network.probe import Probe
from lightning_infoplane.network.reader import Reader
from lightning_infoplane.network.readout import Tokens

PROBE = Probe(normal(7, 5, 8, dtype=torch.float32))


class Odd(nn.Module):
    """Layers of every kind of output, registered in an order in which they are not executed."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.rnn = nn.GRU(6, 5, batch_first=True)
        self.embed = nn.Linear(8, 6)
        self.twice = nn.Linear(6, 6)
        self.never = nn.Linear(2, 2)
        self.scalar, self.index, self.words, self.short = Scalar(), Index(), Words(), Short()

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.embed(x)
        self.rnn(tokens)
        for aside in (self.scalar, self.index, self.words, self.short):
            aside(tokens)
        return self.twice(self.twice(tokens).relu_()).mean(1)


class Scalar(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.mean()


class Index(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.argmax(-1)


class Words(nn.Module):
    def forward(self, x: Tensor) -> str:
        return "no tensor"


class Short(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x[1:]


FLOATS: list[LayerSpec] = ["embed", "rnn", "twice"]


def by_hand(net: Any, x: Tensor) -> dict[str, Tensor]:
    """What the layers put out, and in which order."""
    with torch.no_grad():
        embed = net.embed(x)
        first = net.twice(embed)
        return {
            "embed": embed,
            "rnn": net.rnn(embed)[0],
            "twice": first,
            "twice.call2": net.twice(first.relu()),
        }


def watched(
    net: nn.Module, probe: Probe = PROBE, layers: LayerSpec | list[LayerSpec] = FLOATS, **options: Any
) -> dict[str, Tensor]:
    """Copies of everything that is handed on, none of it twice."""
    found: dict[str, Tensor] = {}

    def consume(name: str, activation: Tensor) -> None:
        assert name not in found
        found[name] = activation.clone()

    watch(net, select_layers(net, layers), probe, consume, **options)
    return found


@pytest.mark.parametrize("size", [None, 1, 2, 6, 7, 100])
def test_outputs_are_handed_on_in_order_of_execution(size: int | None) -> None:
    """Seven samples in pieces of 2 or 6: the last one has a single sample."""
    net = Odd()
    found, expected = watched(net, batch_size=size), by_hand(net, PROBE.x)
    assert list(found) == list(expected)
    for name, activation in found.items():
        torch.testing.assert_close(activation, expected[name], msg=name)


@pytest.mark.parametrize(("size", "sizes"), [(None, [7]), (7, [7]), (3, [3, 3, 1]), (1, [1] * 7)])
def test_the_network_sees_pieces_of_the_size_that_was_asked_for(size: int | None, sizes: list[int]) -> None:
    seen: list[int] = []

    def forward(net: nn.Module, inputs: Tensor) -> Any:
        seen.append(len(inputs))
        return net(inputs)

    watched(Odd(), run=forward, batch_size=size)
    assert seen == sizes


@pytest.mark.parametrize("size", [None, 3])
def test_inputs_may_be_a_structure(size: int | None) -> None:
    def forward(net: nn.Module, batch: Any) -> Any:
        assert len(batch["x"]) == len(batch["more"][0])
        assert len(batch["more"][2]) == 2
        return net(batch["x"])

    net = Odd()
    structure = Probe({"x": PROBE.x, "more": (torch.zeros(7), "words", torch.ones(2))})
    found = watched(net, structure, run=forward, batch_size=size)
    assert_same(found, watched(net, batch_size=size))


@pytest.mark.parametrize("size", [None, 3])
@pytest.mark.parametrize(
    ("layer", "message"),
    [
        ("scalar", "expected floats ({n}, ...) as its output, got () of torch.float32"),
        ("index", "expected floats ({n}, ...) as its output, got ({n}, 5) of torch.int64"),
        ("words", "expected floats ({n}, ...) as its output, got no tensor (str)"),
        ("short", "expected floats ({n}, ...) as its output, got ({less}, 5, 6) of torch.float32"),
        ("never", NOT_CALLED),
    ],
)
def test_what_cannot_be_measured_is_left_out_and_named(layer: str, message: str, size: int | None) -> None:
    told: list[tuple[str, str]] = []
    found = watched(Odd(), layers=["embed", layer], batch_size=size, left_out=lambda *what: told.append(what))
    assert list(found) == ["embed"]
    n = size or 7
    assert told[0] == (layer, message.format(n=n, less=n - 1))
    assert {about for about, _ in told} == {layer}


def test_without_anyone_to_tell_it_is_left_out_in_silence() -> None:
    assert list(watched(Odd(), layers=["embed", "never", "scalar"])) == ["embed"]


def test_activations_are_not_kept() -> None:
    """In one piece a layer is reduced in its hook: of its activation nothing is left when the next one is called."""
    kept: list[StorageWeakRef] = []
    alive: list[int] = []
    net = nn.Sequential(*(nn.Linear(8, 8) for _ in range(4)))

    def consume(name: str, activation: Tensor) -> None:
        gc.collect()
        alive.append(sum(not memory.expired() for memory in kept))
        kept.append(StorageWeakRef(activation.untyped_storage()))  # what is handed on may be a view

    watch(net, select_layers(net, "linear"), Probe(torch.eye(8)), consume)
    gc.collect()
    # The network itself holds the input of the layer that runs.
    assert alive == [0, 1, 1, 1]
    assert all(memory.expired() for memory in kept)


def test_pieces_wait_as_copies_that_nobody_overwrites() -> None:
    """An in-place activation downstream, and a network that writes into the same memory again and again."""

    class Buffered(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer, self.memory = nn.Identity(), torch.zeros(2, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.layer(self.memory.copy_(x)).mul_(-1)

    net, x = Buffered(), torch.arange(12.0).reshape(4, 3)
    assert_same(watched(net, Probe(x), "layer", batch_size=2), {"layer": x})


def test_the_network_is_watched_in_eval_mode_and_left_as_it_was() -> None:
    net = nn.Sequential(nn.Linear(8, 8), nn.BatchNorm1d(5), nn.Dropout(0.5)).train()
    net[1].eval()
    state = {name: value.clone() for name, value in net.state_dict().items()}
    with assert_leaves_random_state():
        found = watched(net, layers="all")
    assert_same(found["2"], found["1"])  # no dropout
    assert_same(net.state_dict(), state)
    assert [module.training for module in net] == [True, False, True]
    assert hooks_on(net) == 0
    assert not found["0"].requires_grad


@pytest.mark.parametrize("size", [None, 3])
def test_the_network_is_as_before_when_the_consumer_fails(size: int | None) -> None:
    net = Odd().train()

    def consume(name: str, activation: Tensor) -> None:
        raise RuntimeError("no memory")

    with assert_leaves_random_state(), pytest.raises(RuntimeError, match="no memory"):
        watch(net, select_layers(net, FLOATS), PROBE, consume, batch_size=size)
    assert all(module.training for module in net.modules())
    assert hooks_on(net) == 0


def test_the_network_is_as_before_when_it_fails_itself() -> None:
    net = nn.Sequential(nn.Linear(8, 4), nn.Linear(3, 3)).train()
    with assert_leaves_random_state(), pytest.raises(RuntimeError, match="mat1 and mat2 shapes cannot be multiplied"):
        watched(net, layers="linear")
    assert all(module.training for module in net.modules())
    assert hooks_on(net) == 0


# ------------------------------------------------------------------------------------------------ how it is called


def test_a_network_is_called_with_the_inputs_or_as_the_user_says() -> None:
    net, x = nn.Sequential(nn.Identity()), torch.eye(3)
    assert_same(watched(net, Probe(x), "0"), {"0": x})
    assert_same(watched(net, Probe({"x": x}), "0", run=lambda network, inputs: network(inputs["x"] + 1)), {"0": x + 1})


@pytest.mark.parametrize("error", [RuntimeError("of the network"), ValueError("of the network")], ids=repr)
def test_other_failures_are_the_networks_own(error: Exception) -> None:
    class Failing(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            raise error

    with pytest.raises(type(error), match=r"^of the network$"):
        watch(Failing(), {}, Probe(torch.eye(3)), lambda name, value: None)


def test_a_mistake_in_a_function_of_the_users_is_their_own() -> None:
    with pytest.raises(TypeError, match=r"^unsupported operand type\(s\) for \+: 'Tensor' and 'str'$"):
        watched(
            nn.Sequential(nn.Identity()), Probe(torch.eye(3)), "0", run=lambda network, inputs: network(inputs) + "text"
        )


# ------------------------------------------------------------------------------------------------ how it is read


@pytest.mark.parametrize("size", [None, 3])
def test_a_readout_that_fails_costs_its_own_layer_alone(size: int | None) -> None:
    def fails(name: str, output: Tensor) -> Tensor:
        raise KeyError("no such\n  part" + "!" * 500)

    net, told = Odd(), []
    reader = Reader({"embed": net.embed, "twice": net.twice}, {"embed": fails})
    found = watched(
        *(net, PROBE, ["embed", "twice"]), batch_size=size, reader=reader, left_out=lambda *what: told.append(what)
    )
    assert list(found) == ["twice", "twice.call2"]
    assert {layer for layer, _ in told} == {"embed"}
    assert told[0][1].startswith("its readout failed, KeyError: 'no such")
    assert "\n" not in told[0][1]
    assert len(told[0][1]) < 230


@pytest.mark.parametrize("size", [None, 3])
def test_each_piece_is_read_with_its_own_inputs(size: int | None) -> None:
    """A mask is cut as the inputs are: the mean over the tokens of each sample is its own."""
    mask = torch.arange(5) < torch.tensor([[1], [2], [3], [4], [5], [1], [2]])
    probe = Probe({"x": PROBE.x, "attention_mask": mask.long()})
    net = Odd()
    found = watched(
        *(net, probe, "embed"),
        batch_size=size,
        run=lambda network, inputs: network(inputs["x"]),
        reader=Reader({"embed": net.embed}, {"embed": Tokens()}),
    )
    expected = [net.embed(x)[kept].mean(0) for x, kept in zip(PROBE.x, mask, strict=True)]
    torch.testing.assert_close(found["embed"], torch.stack(expected).detach())
