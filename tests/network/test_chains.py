"""Which pairs of layers the inequality speaks of: found by intervention, held to each architecture's own graph.

Every network comes with its data-flow graph, written by hand: each node with what it reads. From that graph alone
an oracle that walks every path says which layers screen which.
"""

import copy
import io
import json
import pickle
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields
from itertools import pairwise
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from networks import assert_same, hooks_on
from properties import assert_leaves_random_state, normal
from torch import Tensor, nn
from torch.nn import functional as F

from lightning_infoplane.network.chains import (
    Chain,
    Chains,
    covering_pairs,
    find_backward_pairs,
    find_chain,
    find_chains,
)
from lightning_infoplane.network.covering import screening
from lightning_infoplane.network.gradients import ErrorSignals
from lightning_infoplane.network.layers import LayerSpec, select_layers
from lightning_infoplane.network.probe import Probe

Graph = Mapping[str, tuple[str, ...]]
Pairs = list[tuple[str, str]]


def paths(graph: Graph, start: str, end: str) -> Iterator[tuple[str, ...]]:
    """Every path of the data, from a node to another one, both included."""
    if start == end:
        yield (end,)
    for source in graph[end]:
        for path in paths(graph, start, source) if start != end else ():
            yield (*path, end)


def screened_in(graph: Graph, layers: tuple[str, ...]) -> set[tuple[str, str]]:
    """(a, b) where every path from the input to b passes a."""
    return {(a, b) for b in layers for a in layers if a != b and all(a in path for path in paths(graph, "x", b))}


def backward_in(graph: Graph, layers: tuple[str, ...], output: str) -> set[tuple[str, str]]:
    """(b, a) where every path from a to the output passes b."""
    return {(b, a) for a in layers for b in layers if a != b and all(b in path for path in paths(graph, a, output))}


def closure(pairs: Pairs) -> set[tuple[str, str]]:
    """Everything that follows by transitivity."""
    found = set(pairs)
    while new := {(a, d) for a, b in found for c, d in found if b == c} - found:
        found |= new
    return found


# --------------------------------------------------------------------------------------------------- architectures


class Block(nn.Module):
    """Two convolutions and a way around them, straight or through a convolution."""

    def __init__(self, channels: int, skip: bool) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(4, channels, 3, padding=1), nn.BatchNorm2d(channels)
        self.conv2, self.bn2 = nn.Conv2d(channels, channels, 3, padding=1), nn.BatchNorm2d(channels)
        self.skip = nn.Conv2d(4, channels, 1) if skip else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        inside = self.bn2(self.conv2(self.bn1(self.conv1(x)).relu()))
        return (inside + self.skip(x)).relu_()


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, 4, 3, padding=1)
        self.block1, self.block2 = Block(4, skip=False), Block(6, skip=True)
        self.head = nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.block2(self.block1(self.stem(x).relu())).mean((2, 3)))


RESIDUAL: Graph = {
    "x": (),
    "stem": ("x",),
    "block1.conv1": ("stem",),
    "block1.conv2": ("block1.conv1",),
    "block1": ("block1.conv2", "stem"),
    "block2.conv1": ("block1",),
    "block2.conv2": ("block2.conv1",),
    "block2.skip": ("block1",),
    "block2": ("block2.conv2", "block2.skip"),
    "head": ("block2",),
}


def vgg() -> nn.Sequential:
    """Batch norm, ReLU that overwrites its input, and pooling."""

    def stage(inside: int, outside: int) -> list[nn.Module]:
        return [nn.Conv2d(inside, outside, 3, padding=1), nn.BatchNorm2d(outside), nn.ReLU(inplace=True)]

    pool = nn.MaxPool2d(2)
    return nn.Sequential(*stage(1, 4), *stage(4, 4), pool, *stage(4, 6), nn.Flatten(), nn.Linear(6 * 16, 3))


VGG: Graph = {"x": (), "0": ("x",)} | {str(k): (str(k - 1),) for k in range(1, 12)}


class Inception(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, 4, 3, padding=1)
        self.one = nn.Conv2d(4, 2, 1)
        self.three = nn.Sequential(nn.Conv2d(4, 2, 1), nn.ReLU(inplace=True), nn.Conv2d(2, 2, 3, padding=1))
        self.pooled = nn.Sequential(nn.MaxPool2d(3, 1, 1), nn.Conv2d(4, 2, 1))
        self.mix, self.head = nn.Conv2d(6, 4, 1), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x).relu()
        x = torch.cat([self.one(x), self.three(x), self.pooled(x)], 1).relu()
        return self.head(self.mix(x).mean((2, 3)))


INCEPTION: Graph = {
    "x": (),
    "stem": ("x",),
    "one": ("stem",),
    "three.0": ("stem",),
    "three.2": ("three.0",),
    "pooled.1": ("stem",),
    "mix": ("one", "three.2", "pooled.1"),
    "head": ("mix",),
}


class UNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.enc1, self.enc2 = nn.Conv2d(1, 3, 3, padding=1), nn.Conv2d(3, 4, 3, padding=1)
        self.mid = nn.Conv2d(4, 5, 3, padding=1)
        self.up2, self.dec2 = nn.ConvTranspose2d(5, 4, 2, 2), nn.Conv2d(8, 4, 3, padding=1)
        self.up1, self.dec1 = nn.ConvTranspose2d(4, 3, 2, 2), nn.Conv2d(6, 3, 3, padding=1)
        self.out = nn.Conv2d(3, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        pool = nn.functional.avg_pool2d
        wide = self.enc1(x).relu()
        narrow = self.enc2(pool(wide, 2)).relu()
        middle = self.mid(pool(narrow, 2)).relu()
        narrow = self.dec2(torch.cat([self.up2(middle), narrow], 1)).relu()
        return self.out(self.dec1(torch.cat([self.up1(narrow), wide], 1)).relu())


UNET: Graph = {
    "x": (),
    "enc1": ("x",),
    "enc2": ("enc1",),
    "mid": ("enc2",),
    "up2": ("mid",),
    "dec2": ("up2", "enc2"),
    "up1": ("dec2",),
    "dec1": ("up1", "enc1"),
    "out": ("dec1",),
}


class Transformer(nn.Module):
    """Tokens in, classes out: two encoder layers, normalised after the addition."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(11, 8)
        layer = nn.TransformerEncoderLayer(8, 2, dim_feedforward=12, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.head = nn.Linear(8, 3)
        for parameter in self.parameters():  # the two layers are copies of one another
            nn.init.normal_(parameter, std=0.5)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.head(self.encoder(self.embed(tokens)).mean(1))


def encoder_layer(name: str, source: str) -> Graph:
    return {
        f"{name}.self_attn": (source,),
        f"{name}.norm1": (source, f"{name}.self_attn"),
        f"{name}.linear1": (f"{name}.norm1",),
        f"{name}.linear2": (f"{name}.linear1",),
        f"{name}.norm2": (f"{name}.norm1", f"{name}.linear2"),
    }


FIRST, SECOND = "encoder.layers.0", "encoder.layers.1"
TRANSFORMER: Graph = {
    "x": (),
    "embed": ("x",),
    **encoder_layer(FIRST, "embed"),
    **encoder_layer(SECOND, f"{FIRST}.norm2"),
    "head": (f"{SECOND}.norm2",),
}


@dataclass(frozen=True)
class Case:
    """A network, its graph, and the pairs that a reader of the graph would write down."""

    network: Callable[[], nn.Module]
    graph: Graph
    pairs: Pairs
    backward: Pairs
    output: str
    tokens: bool = False

    @property
    def layers(self) -> tuple[str, ...]:
        """Every node is a layer."""
        return tuple(name for name in self.graph if name != "x")

    def build(self) -> tuple[nn.Module, dict[str, nn.Module], Tensor, Tensor]:
        """A network in training mode, what is watched, and two batches."""
        torch.manual_seed(0)
        net = self.network()
        if self.tokens:
            x, z = torch.randint(11, (2, 4, 5), generator=torch.Generator().manual_seed(1))
        else:
            x, z = normal(2, 4, 1, 8, 8, seed=1, dtype=torch.float32)
        return net, select_layers(net, self.layers), x, z


CASES = {
    "residual": Case(
        Residual,
        RESIDUAL,
        [
            ("stem", "block1.conv1"),
            ("stem", "block1"),
            ("block1.conv1", "block1.conv2"),
            ("block1", "block2.conv1"),
            ("block1", "block2.skip"),
            ("block1", "block2"),
            ("block2.conv1", "block2.conv2"),
            ("block2", "head"),
        ],
        [
            ("head", "block2"),
            ("block2", "block2.skip"),
            ("block2", "block2.conv2"),
            ("block2", "block1"),
            ("block2.conv2", "block2.conv1"),
            ("block1", "block1.conv2"),
            ("block1", "stem"),
            ("block1.conv2", "block1.conv1"),
        ],
        "head",
    ),
    "vgg": Case(
        vgg,
        VGG,
        [(str(k), str(k + 1)) for k in range(11)],
        [(str(k + 1), str(k)) for k in reversed(range(11))],
        "11",
    ),
    "inception": Case(
        Inception,
        INCEPTION,
        [
            ("stem", "one"),
            ("stem", "three.0"),
            ("stem", "pooled.1"),
            ("stem", "mix"),
            ("three.0", "three.2"),
            ("mix", "head"),
        ],
        [
            ("head", "mix"),
            ("mix", "pooled.1"),
            ("mix", "three.2"),
            ("mix", "one"),
            ("mix", "stem"),
            ("three.2", "three.0"),
        ],
        "head",
    ),
    "unet": Case(
        UNet,
        UNET,
        [
            ("enc1", "enc2"),
            ("enc1", "dec1"),
            ("enc2", "mid"),
            ("enc2", "dec2"),
            ("mid", "up2"),
            ("dec2", "up1"),
            ("dec1", "out"),
        ],
        [
            ("out", "dec1"),
            ("dec1", "up1"),
            ("dec1", "enc1"),
            ("up1", "dec2"),
            ("dec2", "up2"),
            ("dec2", "enc2"),
            ("up2", "mid"),
        ],
        "out",
    ),
    "transformer": Case(
        Transformer,
        TRANSFORMER,
        [
            ("embed", f"{FIRST}.self_attn"),
            ("embed", f"{FIRST}.norm1"),
            (f"{FIRST}.norm1", f"{FIRST}.linear1"),
            (f"{FIRST}.norm1", f"{FIRST}.norm2"),
            (f"{FIRST}.linear1", f"{FIRST}.linear2"),
            (f"{FIRST}.norm2", f"{SECOND}.self_attn"),
            (f"{FIRST}.norm2", f"{SECOND}.norm1"),
            (f"{SECOND}.norm1", f"{SECOND}.linear1"),
            (f"{SECOND}.norm1", f"{SECOND}.norm2"),
            (f"{SECOND}.linear1", f"{SECOND}.linear2"),
            (f"{SECOND}.norm2", "head"),
        ],
        [
            ("head", f"{SECOND}.norm2"),
            (f"{SECOND}.norm2", f"{SECOND}.linear2"),
            (f"{SECOND}.norm2", f"{SECOND}.norm1"),
            (f"{SECOND}.linear2", f"{SECOND}.linear1"),
            (f"{SECOND}.norm1", f"{SECOND}.self_attn"),
            (f"{SECOND}.norm1", f"{FIRST}.norm2"),
            (f"{FIRST}.norm2", f"{FIRST}.linear2"),
            (f"{FIRST}.norm2", f"{FIRST}.norm1"),
            (f"{FIRST}.linear2", f"{FIRST}.linear1"),
            (f"{FIRST}.norm1", f"{FIRST}.self_attn"),
            (f"{FIRST}.norm1", "embed"),
        ],
        "head",
        tokens=True,
    ),
}
EACH = pytest.mark.parametrize("case", CASES.values(), ids=CASES)


@EACH
def test_a_layer_screens_another_if_every_path_from_the_input_passes_it(case: Case) -> None:
    chain = find_chain(*case.build())
    assert set(chain.layers) == set(case.layers)
    assert chain.random == ()
    assert chain.screened == screened_in(case.graph, case.layers)


@EACH
def test_pairs_are_those_that_no_two_shorter_ones_imply(case: Case) -> None:
    chain = find_chain(*case.build())
    assert sorted(chain.pairs) == sorted(case.pairs)
    assert closure(chain.pairs) == chain.screened


@EACH
def test_pairs_come_in_the_order_of_execution(case: Case) -> None:
    chain = find_chain(*case.build())
    ends = [(chain.layers.index(a), chain.layers.index(b)) for a, b in chain.pairs]
    assert ends == sorted(ends)
    assert all(a < b for a, b in ends)


@EACH
def test_errors_form_a_chain_if_every_path_to_the_output_passes_the_deeper_layer(case: Case) -> None:
    net, layers, x, _ = case.build()
    pairs = find_backward_pairs(net, layers, x)
    assert sorted(pairs) == sorted(case.backward)
    assert closure(pairs) == backward_in(case.graph, case.layers, case.output)


@EACH
def test_a_choice_of_layers_gets_the_relation_among_the_chosen(case: Case) -> None:
    net, layers, x, z = case.build()
    chosen = case.layers[::2]
    layers = {name: layers[name] for name in layers if name in chosen}
    assert find_chain(net, layers, x, z).screened == screened_in(case.graph, chosen)
    assert closure(find_backward_pairs(net, layers, x)) == backward_in(case.graph, chosen, case.output)


@EACH
def test_frozen_parameters_change_nothing(case: Case) -> None:
    net, layers, x, _ = case.build()
    net.requires_grad_(False)
    assert sorted(find_backward_pairs(net, layers, x)) == sorted(case.backward)


@EACH
def test_the_model_is_left_bit_for_bit(case: Case) -> None:
    net, layers, x, z = case.build()
    net.get_submodule(case.layers[0]).eval()
    for parameter in net.parameters():
        parameter.grad = torch.ones_like(parameter)
    state, inputs = copy.deepcopy(net.state_dict()), (x.clone(), z.clone())
    flags = [module.training for module in net.modules()]
    with assert_leaves_random_state():
        find_chain(net, layers, x, z)
        find_backward_pairs(net, layers, x)
    assert_same(net.state_dict(), state)
    assert_same((x, z), inputs)
    assert [module.training for module in net.modules()] == flags
    assert all(torch.equal(parameter.grad, torch.ones_like(parameter)) for parameter in net.parameters())
    assert all(parameter.requires_grad for parameter in net.parameters())
    assert hooks_on(net) == 0


def test_the_model_is_left_bit_for_bit_when_its_forward_pass_fails() -> None:
    net, layers, x, _ = CASES["residual"].build()
    state = copy.deepcopy(net.state_dict())
    wrong = x[:, :, :, :0]
    for find in (lambda: find_chain(net, layers, wrong, wrong), lambda: find_backward_pairs(net, layers, wrong)):
        with assert_leaves_random_state(), pytest.raises(RuntimeError, match="size"):
            find()
    assert_same(net.state_dict(), state)
    assert all(module.training for module in net.modules())
    assert all(parameter.requires_grad for parameter in net.parameters())
    assert hooks_on(net) == 0


# ------------------------------------------------------------------------------------------------- layers of all kinds


class Wired(nn.Module):
    """Linear layers a, b and c, read as a subclass says."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.a, self.b, self.c = (nn.Linear(4, 4) for _ in range(3))


X, Z = normal(2, 3, 4, seed=1, dtype=torch.float32)


def chain_of(net: nn.Module, layers: LayerSpec | list[LayerSpec] = "linear") -> Chain:
    return find_chain(net, select_layers(net, layers), X, Z)


def backward_of(net: nn.Module, layers: LayerSpec | list[LayerSpec] = "linear") -> Pairs:
    return find_backward_pairs(net, select_layers(net, layers), X)


class Twice(Wired):
    def forward(self, x: Tensor) -> Tensor:
        return self.c(self.b(self.a(x).tanh()) + self.a(x.sin()))


def test_a_module_called_twice_is_two_layers() -> None:
    chain = chain_of(Twice())
    assert chain.layers == ("a", "b", "a.call2", "c")
    assert chain.pairs == [("a", "b")]
    assert backward_of(Twice()) == [("c", "a.call2"), ("c", "b"), ("b", "a")]


class Recurrent(Wired):
    def forward(self, x: Tensor) -> Tensor:
        return self.b(self.a(self.a(self.a(x).tanh()).tanh()))


def test_a_module_applied_to_its_own_output_is_a_chain() -> None:
    names = ["a", "a.call2", "a.call3", "b"]
    assert chain_of(Recurrent()).pairs == list(pairwise(names))
    assert backward_of(Recurrent()) == list(pairwise(reversed(names)))


class AttributeDict(dict[str, Tensor]):
    """A dictionary read by attribute."""

    __getattr__ = dict.__getitem__


@dataclass
class ModelOutput(OrderedDict[str, Any]):
    """A dataclass that is a dictionary too, keys and fields kept equal, as language models put them out."""

    hidden: Tensor | None = None
    other: Tensor | None = None

    def __post_init__(self) -> None:
        for field in fields(self):
            super().__setitem__(field.name, getattr(self, field.name))

    def __setitem__(self, key: str, value: object) -> None:
        super().__setitem__(key, value)
        super().__setattr__(key, value)


class Structured(Wired):
    """Layer ``parts`` puts out b(a(x)) first, and something else; c reads one of them or both."""

    def __init__(self, kind: str, reads: tuple[str, ...] = ("hidden",)) -> None:
        super().__init__()
        self.kind, self.reads, self.parts = kind, reads, nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        hidden, other = self.b(self.a(x)).relu(), x.cos()
        made = {
            "tuple": lambda: (hidden, other),
            "list": lambda: [hidden, other],
            "nested": lambda: ((hidden,), {"other": [other]}),
            "dict": lambda: {"hidden": hidden, "other": other},
            "dict subclass": lambda: AttributeDict(hidden=hidden, other=other),
            "dataclass": lambda: ModelOutput(hidden, other),
        }
        out = self.parts(made[self.kind]())
        if self.kind in ("tuple", "list"):
            read = dict(zip(("hidden", "other"), out, strict=True))
        elif self.kind == "nested":
            read = {"hidden": out[0][0], "other": out[1]["other"][0]}
        elif self.kind == "dict":
            read = out
        else:
            read = {"hidden": out.hidden, "other": out.other}
        return self.c(sum(read[name] for name in self.reads))


KINDS = pytest.mark.parametrize("kind", ["tuple", "list", "nested", "dict", "dict subclass", "dataclass"])
STRUCTURED = ["linear", "parts"]


@KINDS
def test_a_structure_stands_for_its_first_tensor(kind: str) -> None:
    names = ["a", "b", "parts", "c"]
    assert chain_of(Structured(kind), STRUCTURED).pairs == list(pairwise(names))
    assert backward_of(Structured(kind), STRUCTURED) == list(pairwise(reversed(names)))


@KINDS
@pytest.mark.parametrize("reads", [("other",), ("hidden", "other")], ids="+".join)
def test_what_goes_past_the_first_tensor_is_not_screened(kind: str, reads: tuple[str, ...]) -> None:
    """The information that is measured is that of the first tensor: the others are ways around it."""
    assert chain_of(Structured(kind, reads), STRUCTURED).pairs == [("a", "b"), ("b", "parts")]


class Noisy(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x + torch.randn_like(x)


class WithNoise(Wired):
    def __init__(self) -> None:
        super().__init__()
        self.noise = Noisy()

    def forward(self, x: Tensor) -> Tensor:
        return self.b(self.a(x)) + self.c(self.noise(self.a(x)))


def test_layers_that_are_random_in_eval_mode_are_named_and_left_out() -> None:
    chain = chain_of(WithNoise(), ["linear", "noise"])
    assert chain.random == ("noise", "c")
    assert chain.pairs == [("a", "b")]
    assert chain.describe() == "a → b\nnoise: random, left out\nc: random, left out"


class WithDropout(Wired):
    def forward(self, x: Tensor) -> Tensor:
        return self.c(nn.functional.dropout(self.b(self.a(x)), training=self.training))


def test_dropout_is_not_random_for_the_network_is_in_eval_mode() -> None:
    assert chain_of(WithDropout()).pairs == [("a", "b"), ("b", "c")]
    assert chain_of(WithDropout()).random == ()


class Dead(Wired):
    def __init__(self) -> None:
        super().__init__()
        self.dead, self.unused = nn.ReLU(), nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.b(self.a(x)) + self.c(self.dead(-self.a(x).abs()))


def test_a_constant_layer_is_in_no_pair() -> None:
    """Everything would seem to screen it; and what reads it alone is as constant."""
    chain = chain_of(Dead(), ["a", "b", "c", "dead"])
    assert chain.pairs == [("a", "b")]
    assert chain.layers == ("a", "b", "a.call2", "dead", "c")


def test_a_layer_that_never_runs_is_in_no_pair() -> None:
    assert "unused" not in chain_of(Dead(), ["a", "b", "unused"]).layers
    assert "unused" not in [name for pair in backward_of(Dead(), ["a", "b", "unused"]) for name in pair]


class Odd(Wired):
    """Layers whose outputs are text, truth values and integers."""

    def __init__(self) -> None:
        super().__init__()
        self.said, self.mask, self.index = nn.Identity(), nn.Identity(), nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.a(x)
        self.said("text")
        return self.c(self.b(hidden) * self.mask(hidden > 0)) + self.index((100 * hidden).long())


def test_truth_values_are_screened_too_and_text_and_numbers_of_things_only_carry_on_what_they_hear() -> None:
    layers: list[LayerSpec] = ["linear", "said", "mask", "index"]
    chain = chain_of(Odd(), layers)
    assert chain.layers == ("a", "b", "mask", "c")
    assert set(chain.pairs) == {("a", "b"), ("a", "mask"), ("a", "c")}
    assert backward_of(Odd(), layers) == [("c", "b"), ("b", "a")]


class Masked(Wired):
    """Scores of which some are infinite, as before a softmax."""

    def __init__(self) -> None:
        super().__init__()
        self.scores = nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.b(self.a(x))
        return self.c(self.scores(hidden.masked_fill(hidden < hidden.median(), -torch.inf)).softmax(-1))


def test_infinite_scores_are_neither_random_nor_all_the_same() -> None:
    chain = chain_of(Masked(), ["linear", "scores"])
    assert chain.random == ()
    assert chain.pairs == [("a", "b"), ("b", "scores"), ("scores", "c")]


class Gated(nn.Module):
    """A shortcut and a branch that does nothing until a parameter has left zero."""

    def __init__(self, gain: float) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.stem, self.branch, self.shortcut, self.head = (nn.Linear(4, 4) for _ in range(4))
        self.gain = nn.Parameter(torch.full((4,), gain))

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        return self.head(self.shortcut(x) + self.gain * self.branch(x))


@pytest.mark.parametrize("gain", [0.0, 1e-6, 1.0])
def test_a_branch_that_training_has_yet_to_open_is_a_branch(gain: float) -> None:
    """Blocks often begin as the identity, their last gain zero or tiny."""
    net = Gated(gain)
    assert set(chain_of(net).pairs) == {("stem", "branch"), ("stem", "shortcut"), ("stem", "head")}
    assert set(backward_of(net)) == {("head", "branch"), ("head", "shortcut"), ("head", "stem")}
    assert torch.equal(net.gain, torch.full((4,), gain))


@pytest.mark.parametrize("part", ["net", "b"])
def test_compiled_parts(part: str) -> None:
    net: Any = WithDropout()
    if part == "net":
        net = torch.compile(net, backend="eager")
    else:
        net.b = torch.compile(net.b, backend="eager")
    with torch.no_grad():
        net(X)  # compiled before any hook exists
    assert chain_of(net).pairs == [("a", "b"), ("b", "c")]
    assert backward_of(net) == [("c", "b"), ("b", "a")]


def test_forward_says_how_the_network_is_called() -> None:
    net = WithDropout()
    layers = select_layers(net, "linear")

    def by_name(network: nn.Module, inputs: Mapping[str, Tensor]) -> Tensor:
        return network(inputs["pixels"])

    assert find_chain(net, layers, {"pixels": X}, {"pixels": Z}, by_name).pairs == [("a", "b"), ("b", "c")]
    assert find_backward_pairs(net, layers, {"pixels": X}, by_name) == [("c", "b"), ("b", "a")]


class WithAuxiliaryHead(nn.Module):
    """Two layers and their head, and a head of its own on the first, as Inception has it."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.head, self.aside = (nn.Linear(4, 4) for _ in range(4))

    def forward(self, x: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        early = self.first(x).tanh()
        return self.head(self.second(early).tanh()), {"aside": self.aside(early)}


AUXILIARY: dict[str, tuple[Callable[[Any, Tensor], Tensor] | None, list[tuple[str, str]]]] = {
    "no loss given: the first output": (None, [("head", "second"), ("second", "first")]),
    "the head alone": (lambda out, y: F.mse_loss(out[0], y), [("head", "second"), ("second", "first")]),
    "both heads": (
        lambda out, y: F.mse_loss(out[0], y) + F.mse_loss(out[1]["aside"], y),
        [("head", "second")],  # what first hears does not all come through second
    ),
    "the auxiliary head alone": (lambda out, y: F.mse_loss(out[1]["aside"], y), [("aside", "first")]),
    "nothing, so that all are taken": (lambda out, y: y.sum(), [("head", "second")]),
    "all samples at once, so that all are taken": (lambda out, y: out[0][100].sum(), [("head", "second")]),
    "the head alone, in place": (
        lambda out, y: F.mse_loss(out[0].sub_(out[0].mean()), y),
        [("head", "second"), ("second", "first")],
    ),
}


@pytest.mark.parametrize(("loss_fn", "expected"), AUXILIARY.values(), ids=AUXILIARY)
def test_errors_come_from_the_outputs_that_the_loss_looks_at(
    loss_fn: Callable[[Any, Tensor], Tensor] | None, expected: list[tuple[str, str]]
) -> None:
    net = WithAuxiliaryHead()
    probe = Probe(torch.cat([X, Z]), torch.zeros(len(X) + len(Z), 4))
    layers = select_layers(net, "linear")
    assert find_chains(net, layers, probe, error_signals=ErrorSignals(loss_fn)).backward == expected


def test_nested_layers_are_apart_though_they_put_out_the_same() -> None:
    net = nn.Sequential(nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4)), nn.Linear(4, 4))
    names = ["0.0", "0.1", "0", "1"]
    assert chain_of(net, ["0", "linear"]).pairs == list(pairwise(names))
    assert backward_of(net, ["0", "linear"]) == list(pairwise(reversed(names)))


def test_a_normalised_output_still_has_gradients() -> None:
    """The sum of a softmax has none: the search must not take that for a cut."""
    net = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4), nn.Softmax(-1))
    assert backward_of(net) == [("1", "0")]


# ------------------------------------------------------------------------------------- both, from a probe


def probe_of(case: Case) -> tuple[nn.Module, dict[str, nn.Module], Probe]:
    """The two batches of a case one after the other, and targets that no loss looks at."""
    net, layers, x, z = case.build()
    return net, layers, Probe(torch.cat([x, z]), torch.zeros(len(x) + len(z)))


@EACH
def test_chains_of_a_probe_are_those_of_its_halves(case: Case) -> None:
    found = find_chains(*probe_of(case), error_signals=ErrorSignals())
    assert found.forward == find_chain(*case.build())
    assert found.backward == find_backward_pairs(*case.build()[:3])
    assert Chains.from_lists(found.to_lists()) == found


def test_only_the_chains_that_are_asked_for_are_looked_for() -> None:
    case, calls = CASES["vgg"], []

    def forward(net: nn.Module, inputs: Tensor) -> Tensor:
        calls.append(len(inputs))
        scores: Tensor = net(inputs)
        return scores

    parts = probe_of(case)
    assert find_chains(*parts, forward, activations=False) == Chains(None, None)
    assert calls == []
    assert find_chains(*parts, forward).backward is None
    assert find_chains(*parts, activations=False, error_signals=ErrorSignals()).forward is None


def test_a_few_samples_of_a_large_probe_are_enough() -> None:
    sizes: set[int] = set()

    def forward(net: nn.Module, inputs: Tensor) -> Tensor:
        sizes.add(len(inputs))
        scores: Tensor = net(inputs)
        return scores

    net, layers, _, _ = CASES["vgg"].build()
    probe = Probe(normal(100, 1, 8, 8, dtype=torch.float32), torch.arange(100) % 3)
    found = find_chains(net, layers, probe, forward, error_signals=ErrorSignals(F.cross_entropy))
    assert sizes == {4}
    assert found.forward is not None
    assert found.forward.pairs == CASES["vgg"].pairs
    assert found.backward == CASES["vgg"].backward


@pytest.mark.parametrize(
    "chains",
    [
        Chains(),
        Chains(Chain(("a", "b", "c"), frozenset({("a", "b"), ("b", "c"), ("a", "c")}), ("c",)), None),
        Chains(None, [("b", "a"), ("c", "b")]),
        Chains(Chain(("a",), frozenset(), ()), []),
    ],
    ids=["not looked for", "forward", "backward", "none found"],
)
def test_chains_survive_a_checkpoint(chains: Chains) -> None:
    """As plain Python, for JSON and for torch.load(weights_only=True), both of which know no sets and no classes."""
    saved = chains.to_lists()
    assert Chains.from_lists(saved) == chains
    assert Chains.from_lists(json.loads(json.dumps(saved))) == chains
    buffer = io.BytesIO()
    torch.save(saved, buffer)
    buffer.seek(0)
    assert Chains.from_lists(torch.load(buffer, weights_only=True)) == chains


# ------------------------------------------------------------------------------------------------- a thousand layers


@pytest.fixture(scope="module")
def thousand() -> tuple[Chains, float, list[int]]:
    """The chains of a thousand orthogonal layers, the seconds of work they took, and the samples in each pass."""
    torch.manual_seed(0)
    net = nn.Sequential(*(nn.Linear(16, 16, bias=False) for _ in range(1000)))
    for layer in net:
        nn.init.orthogonal_(layer.weight)  # type: ignore[arg-type]
    sizes: list[int] = []

    def forward(network: nn.Module, inputs: Tensor) -> Tensor:
        sizes.append(len(inputs))
        scores: Tensor = network(inputs)
        return scores

    probe = Probe(normal(512, 16, dtype=torch.float32))
    start = time.process_time()
    found = find_chains(net, select_layers(net, "linear"), probe, forward)
    return found, time.process_time() - start, sizes


def test_a_thousand_layers_take_seconds(thousand: tuple[Chains, float, list[int]]) -> None:
    """Two to three where this was measured, and 50 by a pass a layer."""
    found, seconds, sizes = thousand
    assert found.forward is not None
    assert found.forward.pairs == list(pairwise(map(str, range(1000))))
    assert seconds < 10
    assert len(sizes) < 20
    assert max(sizes) <= 512


def test_pairs_are_reduced_once(thousand: tuple[Chains, float, list[int]]) -> None:
    chain = thousand[0].forward
    assert chain is not None
    start = time.process_time()
    for _ in range(100):
        assert len(chain.pairs) == 999
    assert time.process_time() - start < 1


def test_what_a_checkpoint_holds_grows_with_the_layers_alone(thousand: tuple[Chains, float, list[int]]) -> None:
    found = thousand[0]
    backward = [(b, a) for a, b in pairwise(map(str, range(1000)))]
    saved = found._replace(backward=backward).to_lists()
    buffer = io.BytesIO()
    torch.save(saved, buffer)
    assert len(buffer.getvalue()) < 100_000
    assert len(pickle.dumps(saved)) < 100_000
    assert Chains.from_lists(saved).forward == found.forward


def test_a_probe_or_a_batch_size_limits_how_many_samples_are_in_a_pass() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(*(nn.Linear(4, 4) for _ in range(80)))
    for layer in net:
        nn.init.orthogonal_(layer.weight)  # type: ignore[arg-type]
    layers, sizes = select_layers(net, "linear"), set()

    def forward(network: nn.Module, inputs: Tensor) -> Tensor:
        sizes.add(len(inputs))
        scores: Tensor = network(inputs)
        return scores

    chains = set()
    for size, batch_size, most in ((20, None, 20), (512, 12, 12), (512, None, 24), (512, 4, 4)):
        sizes.clear()
        found = find_chains(net, layers, Probe(normal(size, 4, dtype=torch.float32)), forward, batch_size=batch_size)
        assert max(sizes) == most
        assert found.forward is not None
        chains.add(tuple(found.forward.pairs))
    assert chains == {tuple(pairwise(map(str, range(80))))}


# ---------------------------------------------------------------------------------------------------- what is kept


@settings(max_examples=30, deadline=None)
@given(st.data())
def test_a_chain_is_the_same_made_from_all_its_pairs_or_from_few(data: st.DataObject) -> None:
    names, relation = data.draw(partial_orders())
    chain = Chain(tuple(names), relation, ())
    assert chain.screened == relation
    assert Chain(tuple(names), chain.pairs, ()) == chain


# -------------------------------------------------------------------------------------------------- in words


def test_a_chain_in_words() -> None:
    chain = Chain(("a", "b", "c"), frozenset({("a", "b"), ("b", "c"), ("a", "c")}), ())
    assert chain.describe() == "a → b\nb → c"


def test_no_pairs_in_words() -> None:
    assert Chain(("a", "b"), frozenset(), ("c",)).describe() == (
        "no layer screens another: the inequality implies nothing\nc: random, left out"
    )


# ------------------------------------------------------------------------------------------ the covering relation


@st.composite
def partial_orders(draw: st.DrawFn) -> tuple[list[str], frozenset[tuple[str, str]]]:
    """Elements in an order that the relation respects, and a transitive relation among them."""
    names = [f"layer{k}" for k in range(draw(st.integers(1, 8)))]
    forward = [(a, b) for k, a in enumerate(names) for b in names[k + 1 :]]
    edges = draw(st.lists(st.sampled_from(forward), unique=True)) if forward else []
    return names, frozenset(closure(edges))


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_who_screens_whom_follows_from_who_feeds_whom(data: st.DataObject) -> None:
    """Every way from the inputs, walked one by one; what no way leads to is screened by nobody and carries nothing."""
    names = [f"layer{k}" for k in range(data.draw(st.integers(1, 7)))]
    graph = {"x": ()} | {
        name: tuple(data.draw(st.lists(st.sampled_from(["x", *names[:k]]), unique=True, max_size=3)))
        for k, name in enumerate(names)
    }
    fed = torch.tensor([[source in graph[name] for name in names] for source in ("x", *names)])
    reached = tuple(name for name in names if any(paths(graph, "x", name)))
    found = {(names[a], names[b]) for a, b in screening(fed).nonzero().tolist()}
    assert found == screened_in(graph, reached)


def transitive_reduction(relation: frozenset[tuple[str, str]]) -> set[tuple[str, str]]:
    """The pairs without which the closure is another one, tried one by one."""
    return {pair for pair in relation if pair not in closure(list(relation - {pair}))}


@settings(max_examples=60, deadline=None)
@given(partial_orders())
def test_covering_pairs_are_the_transitive_reduction(order: tuple[list[str], frozenset[tuple[str, str]]]) -> None:
    names, relation = order
    pairs = covering_pairs(names, relation)
    assert len(pairs) == len(set(pairs))
    assert set(pairs) == transitive_reduction(relation)
    assert closure(pairs) == relation


@settings(max_examples=20, deadline=None)
@given(partial_orders(), st.randoms(use_true_random=False))
def test_the_order_of_layers_only_sorts_the_pairs(
    order: tuple[list[str], frozenset[tuple[str, str]]], random: Any
) -> None:
    names, relation = order
    shuffled = random.sample(names, len(names))
    assert set(covering_pairs(shuffled, relation)) == set(covering_pairs(names, relation))
