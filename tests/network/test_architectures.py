"""Networks as people build them, before training: every layer that has a chain in truth is in a pair, and no other."""

from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import pytest
import torch
from architectures import (
    Basic,
    Bottleneck,
    Encoder,
    Perceptron,
    ViT,
    convnext,
    densenet40,
    densenet121,
    efficientnet,
    frozen_biases,
    mobilenet_v2,
    mobilenet_v3,
    resnet,
    screened_in,
    timm_init,
    zero_last,
)
from properties import normal
from torch import Tensor, nn

from lightning_infoplane.network.chains import Chain, find_chain
from lightning_infoplane.network.copies import rows_of
from lightning_infoplane.network.covering import covering_pairs
from lightning_infoplane.network.layers import LayerSpec, select_layers
from lightning_infoplane.network.reader import Reader
from lightning_infoplane.network.readout import Tokens

X, Z = normal(2, 4, 3, 32, 32, seed=1, dtype=torch.float32)
NETS: dict[str, tuple[Callable[[], nn.Module], LayerSpec]] = {
    "EfficientNet": (lambda: efficientnet(0.125), "conv"),
    "EfficientNet, fan out": (lambda: timm_init(efficientnet(0.125)), "all"),
    "EfficientNet, zero gains": (lambda: zero_last(efficientnet(0.125)), "conv"),
    "EfficientNet, zero gains and zero biases for ever": (
        lambda: frozen_biases(zero_last(efficientnet(0.125))),
        "conv",
    ),
    "MobileNetV2": (lambda: mobilenet_v2(0.125), "conv"),
    "MobileNetV2, zero gains": (lambda: zero_last(mobilenet_v2(0.125)), "all"),
    "MobileNetV3, of which rectifiers are dead": (mobilenet_v3, "all"),
    "DenseNet-40": (lambda: densenet40(2), "conv"),
    "DenseNet-121": (lambda: densenet121(2), "conv"),
    "ResNet-18": (lambda: resnet(Basic, (2, 2, 2, 2), 8), "all"),
    "ResNet-50, zero gains": (lambda: zero_last(resnet(Bottleneck, (3, 4, 6, 3), 8)), "conv"),
    "ResNet-56": (lambda: resnet(Basic, (9, 9, 9), 2), "conv"),
    "ConvNeXt": (convnext, "conv"),
    "ConvNeXt, its linear layers": (convnext, "linear"),
    "ViT": (ViT, "all"),
    "ViT, its linear layers": (ViT, "linear"),
    "ViT of nn.MultiheadAttention": (lambda: ViT(plain=False), "all"),
    "ViT with LayerScale": (lambda: ViT(scale=1e-6), "linear"),
    "ViT, projections zero": (lambda: ViT(zero=True), "linear"),
    "nn.TransformerEncoder": (Encoder, "all"),
    "nn.TransformerEncoder, norms first": (lambda: Encoder(norm_first=True), "linear"),
    "sigmoids, through which no signal comes": (Perceptron, "all"),
    "hyperbolic tangents, forty deep": (lambda: Perceptron(40, nn.Tanh), "linear"),
}


def built(name: str) -> tuple[nn.Module, dict[str, nn.Module]]:
    """A network at initialisation, in training mode, and the layers that are looked at."""
    torch.manual_seed(0)
    make, layers = NETS[name]
    net = make()
    return net, select_layers(net, layers)


def expected(net: nn.Module, layers: dict[str, nn.Module], order: tuple[str, ...]) -> list[tuple[str, str]]:
    return covering_pairs(order, screened_in(net, layers, X[:1]))


@pytest.mark.parametrize("name", NETS)
def test_pairs_are_those_of_the_flow_of_data(name: str) -> None:
    net, layers = built(name)
    chain = find_chain(net, layers, X, Z)
    assert chain.pairs == expected(net, layers, chain.layers)
    assert chain.random == ()


def in_bfloat16(net: nn.Module, x: Tensor) -> Any:
    with torch.autocast("cpu", torch.bfloat16):
        return net(x)


HALF = ["EfficientNet, zero gains", "MobileNetV2", "ViT with LayerScale", "nn.TransformerEncoder, norms first"]


@pytest.mark.parametrize("name", HALF)
def test_half_precision_finds_the_same(name: str) -> None:
    net, layers = built(name)
    chain = find_chain(net, layers, X, Z, in_bfloat16)
    assert chain.pairs == expected(net, layers, chain.layers)


@pytest.mark.parametrize("name", ["MobileNetV2", "ViT, its linear layers"])
def test_samples_that_hardly_differ_are_enough(name: str) -> None:
    net, layers = built(name)
    chain = find_chain(net, layers, 1 + 1e-3 * X, 1 + 1e-3 * Z)
    assert chain.pairs == expected(net, layers, chain.layers)


@pytest.mark.parametrize("name", ["EfficientNet", "DenseNet-40", "DenseNet-121"])
def test_the_search_sends_fewer_samples_through_than_two_measurements(name: str) -> None:
    """Of the usual 512; a measurement has Gram matrices and spectra to compute beside."""
    net, layers = built(name)
    rows: list[int] = []

    def forward(network: nn.Module, x: Tensor) -> object:
        rows.append(rows_of(x))
        return network(x)

    find_chain(net, layers, X, Z, forward)
    assert sum(rows) < 2 * 512


def test_the_flow_of_data_is_that_of_a_graph_on_paper() -> None:
    """The oracle's own test: a block's convolutions are passed by what goes around them."""
    torch.manual_seed(0)
    net = resnet(Basic, (1, 1), 4)
    layers = select_layers(net, "conv")
    assert list(layers) == ["0.0", "1.conv1", "1.conv2", "2.conv1", "2.conv2", "2.down.0"]
    inside = {("1.conv1", "1.conv2"), ("2.conv1", "2.conv2")}
    assert screened_in(net, layers, X) == inside | {("0.0", name) for name in list(layers)[1:]}


# -------------------------------------------------------------------------------------------------------- readers


@dataclass(frozen=True)
class Refusing(Reader):
    """Reads as ever, and cannot write some layers."""

    refused: tuple[str, ...] = field(default=())
    fails: bool = False

    def write(self, name: str, output: Any, inputs: Any, n: int, value: Tensor) -> Any:
        if name in self.refused:
            if self.fails:
                raise ValueError("no")
            return None
        return super().write(name, output, inputs, n, value)


def stack(depth: int = 4) -> tuple[nn.Sequential, dict[str, nn.Module]]:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Flatten(), nn.Linear(3072, 8), *(nn.Linear(8, 8) for _ in range(depth - 1)))
    return net, select_layers(net, "linear")


@pytest.mark.parametrize("fails", [False, True], ids=["None", "an error"])
@pytest.mark.parametrize("depth", [4, 40], ids=["few", "many"])
def test_a_layer_that_cannot_be_written_screens_nothing_and_is_screened(depth: int, fails: bool) -> None:
    net, layers = stack(depth)
    chain = find_chain(net, layers, X, Z, reader=Refusing(refused=("2",), fails=fails))
    assert chain.layers == tuple(map(str, range(1, depth + 1)))
    rest = [(str(i), str(i + 1)) for i in range(3, depth)]
    assert chain.pairs == [("1", "2"), ("1", "3"), *rest]


def vit_of(pool: Any, layers: list[LayerSpec]) -> Chain:
    torch.manual_seed(0)
    net = ViT(depth=3)
    chosen = select_layers(net, layers)
    return find_chain(net, chosen, X, Z, reader=Reader(chosen, dict.fromkeys(chosen, Tokens(pool))))


def test_what_other_tokens_carry_is_a_way_around_the_one_that_is_read() -> None:
    """Attention reads all of them; after the last block the head reads the first."""
    blocks: list[LayerSpec] = ["blocks.?", "norm", "head"]
    assert vit_of("first", blocks).pairs == [("blocks.2", "norm"), ("norm", "head")]
    assert vit_of("mean", blocks).pairs == [("norm", "head")]
    every = ["blocks.0", "blocks.1", "blocks.2", "norm", "head"]
    assert vit_of("each", blocks).pairs == list(pairwise(every))


class Averaged(nn.Module):
    """Tokens of which the mean is all that goes on."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.mix, self.head = nn.Linear(96, 8), nn.Linear(8, 8), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.mix(self.embed(x.transpose(1, 2).flatten(2)).relu()).mean(1))


def test_a_mean_that_is_all_that_goes_on_screens_though_it_is_rounded() -> None:
    torch.manual_seed(0)
    net = Averaged()
    layers = select_layers(net, "linear")
    chain = find_chain(net, layers, X, Z, reader=Reader(layers, dict.fromkeys(layers, Tokens("mean"))))
    assert chain.pairs == [("mix", "head")]


class Odd(nn.Module):
    """Beside a chain, layers that put out nothing, whole numbers, an empty tensor, or as much as the samples say."""

    def __init__(self, depth: int) -> None:
        super().__init__()
        self.chain = nn.Sequential(*(nn.Linear(8, 8) for _ in range(depth)))
        self.first = nn.Linear(3072, 8)
        self.odd = nn.ModuleDict({name: Told() for name in ("nothing", "ids", "empty", "ragged", "scalar", "summed")})

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x.flatten(1))
        self.odd["nothing"](None)
        self.odd["ids"](x.argmax(1))
        self.odd["empty"](x[:, :0])
        self.odd["ragged"](x[:, : 2 + int(x[0, 0] > 0)])
        self.odd["scalar"](x.mean())
        self.odd["summed"](x.sum(0))
        return self.chain(x)


class Told(nn.Module):
    def forward(self, value: Any) -> Any:
        return value


@pytest.mark.parametrize("depth", [3, 40], ids=["few", "many"])
def test_an_odd_layer_costs_none_but_itself(depth: int) -> None:
    torch.manual_seed(0)
    net = Odd(depth)
    layers = select_layers(net, ["linear", "odd.*"])
    chain = find_chain(net, layers, X, Z)
    names = ["first", *(f"chain.{i}" for i in range(depth))]
    pairs = [pair for pair in chain.pairs if "odd" not in pair[1]]
    assert pairs == list(pairwise(names))


def failing(name: str, output: Tensor) -> Tensor:
    raise KeyError(name)


def test_a_readout_that_fails_costs_none_but_its_own_layer() -> None:
    net, layers = stack()
    chain = find_chain(net, layers, X, Z, reader=Reader(layers, {"2": failing}))
    assert chain.layers == ("1", "3", "4")
    assert chain.pairs == [("1", "3"), ("3", "4")]


class Strict(nn.Module):
    """Refuses numbers that a scale cannot be."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.scale, self.last = nn.Linear(3072, 8), nn.Softplus(), nn.Linear(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        scale = self.scale(self.first(x.flatten(1)))
        if bool((scale <= 0).any()):
            raise ValueError("a scale must be positive")
        return self.last(scale.log())


def test_a_network_that_refuses_noise_is_looked_at_with_samples_alone() -> None:
    torch.manual_seed(0)
    net = Strict()
    layers = select_layers(net, ["linear", "scale"])
    assert find_chain(net, layers, X, Z).pairs == [("first", "scale"), ("scale", "last")]
