"""Many interventions in one pass find what one by one finds; who mixes the samples of a batch is found out."""

from collections.abc import Callable, Mapping
from typing import Any

import pytest
import torch
from properties import assert_leaves_random_state
from torch import Tensor, nn
from wirings import ALIKE, MIXED, Layers, Rows, Wiring, X, Z, linear, residual

from lightning_infoplane.network.chains import find_chain
from lightning_infoplane.network.copies import MixedSamplesError, half_and_half, rows_of, side_by_side
from lightning_infoplane.network.covering import screening
from lightning_infoplane.network.hooks import intercept
from lightning_infoplane.network.interventions import Watcher, feeding, same, stand_ins
from lightning_infoplane.network.layers import select_layers
from lightning_infoplane.network.reader import FIRST
from lightning_infoplane.network.structures import replace_tensors
from lightning_infoplane.network.undisturbed import undisturbed

NOISE = pytest.mark.parametrize("noise", [False, True], ids=["samples", "noise"])


def watched(net: nn.Module) -> Watcher:
    """A forward pass that can be watched."""
    layers = {name: module for name, module in net.named_modules() if name}

    def run(batch: Any, visit: Callable[[str, Any], Any]) -> None:
        with intercept(layers, visit):
            net(replace_tensors(batch, torch.clone))

    return Watcher(run, FIRST)


def screened_one_by_one(watcher: Watcher, x: Any, z: Any, n: int) -> set[tuple[str, str]]:
    """The definition: a screens b if b puts out on z what it does on x once a is made to do so."""
    on_x, on_z = watcher.outputs_on(x, n), watcher.outputs_on(z, n)
    telling = [name for name, value in on_x.items() if not same(value, on_z[name])]
    found: set[tuple[str, str]] = set()
    for a in telling:
        seen: dict[str, Tensor] = {}

        def visit(name: str, output: object, a: str = a, seen: dict[str, Tensor] = seen) -> object:
            value = FIRST.read(name, output, z, n)
            if value is not None:
                seen[name] = value.clone()
            return FIRST.write(name, output, z, n, on_x[a]) if name == a else None

        watcher.run(z, visit)
        found |= {(a, b) for b in telling if a != b and same(on_x[b], seen.get(b))}
    return found


def screened_by_feeding(watcher: Watcher, x: Any, z: Any, n: int, count: int, noise: bool) -> set[tuple[str, str]]:
    """The same from who feeds whom."""
    layers = stand_ins(watcher.outputs_on(x, n), watcher.outputs_on(z, n), noise)
    names = list(layers)
    found = screening(feeding(watcher, x, z, n, layers, count))
    return {(names[a], names[b]) for a, b in found.nonzero().tolist()}


@NOISE
@pytest.mark.parametrize("count", [1, 2, 3, 5, 16])
@pytest.mark.parametrize("case", ALIKE.values(), ids=ALIKE)
def test_who_feeds_whom_tells_who_screens_whom(case: tuple[Wiring, Rows], count: int, noise: bool) -> None:
    wire, (x, z) = case
    net = Layers(wire)
    with undisturbed(net):
        watcher = watched(net)
        expected = screened_one_by_one(watcher, x, z, 4)
        assert screened_by_feeding(watcher, x, z, 4, count, noise) == expected


# What the batch was made one of has no row a sample, and is not measured.
UNSEEN = ("averaged over the batch", "tokens in another order")
SEEN = {name: case for name, case in MIXED.items() if name not in UNSEEN}


@NOISE
@pytest.mark.parametrize("case", SEEN.values(), ids=SEEN)
def test_who_mixes_the_samples_of_a_batch_is_found_out(case: tuple[Wiring, Rows], noise: bool) -> None:
    wire, (x, z) = case
    net = Layers(wire)
    with (
        undisturbed(net),
        pytest.raises((MixedSamplesError, RuntimeError), match=r"mixes the samples|told apart|size|shape"),
    ):
        screened_by_feeding(watched(net), x, z, 4, 7, noise)


@pytest.mark.parametrize("case", MIXED.values(), ids=MIXED)
def test_who_mixes_the_samples_of_a_batch_is_looked_at_batch_by_batch(case: tuple[Wiring, Rows]) -> None:
    """No false pair, and all that there are: within a batch samples may know of each other."""
    wire, (x, z) = case
    net = Layers(wire)
    with undisturbed(net):
        watcher = watched(net)
        assert screened_by_feeding(watcher, x, z, 4, 1, True) <= screened_one_by_one(watcher, x, z, 4)


# ------------------------------------------------------------------------------------------ networks of many layers


class Deep(nn.Module):
    """Many layers, and something before them."""

    def __init__(self, first: Wiring, depth: int) -> None:
        super().__init__()
        self.first = Layers(first)
        self.rest = nn.ModuleList(nn.Linear(6, 6) for _ in range(depth))
        for layer in self.rest:
            nn.init.orthogonal_(layer.weight)

    def forward(self, x: Any) -> Tensor:
        x = self.first(x)
        for i, layer in enumerate(self.rest):
            x = layer(x) if i % 5 else x + layer(x)
        return x


def calls_of(net: nn.Module, rows: Rows, at_most: int) -> tuple[Any, list[int]]:
    """The chain, and how many samples each pass had."""
    sizes: list[int] = []

    def forward(network: nn.Module, batch: Any) -> object:
        sizes.append(rows_of(batch))
        return network(batch)

    layers = select_layers(net, "linear")
    return find_chain(net, layers, *rows, forward, at_most), sizes


BEFORE: Mapping[str, tuple[Wiring, Rows, bool]] = {
    **{name: (*ALIKE[name], True) for name in ("a chain", "residual", "in place", "a dictionary", "a dataclass")},
    **{name: (*MIXED[name], False) for name in ("centred over the batch", "neighbours", "scaled by the largest")},
    "of one size": (*MIXED["of one size"], False),
}


@pytest.mark.parametrize("case", BEFORE.values(), ids=BEFORE)
def test_a_deep_network_has_the_same_chain_by_few_passes_as_by_many(
    case: tuple[Wiring, Rows, bool],
) -> None:
    wire, rows, quick = case
    net = Deep(wire, 48)
    with assert_leaves_random_state():
        found, sizes = calls_of(net, rows, 512)
        expected, slow_sizes = calls_of(net, rows, 4)
    assert found == expected
    assert found.screened == expected.screened
    assert max(slow_sizes) == 4
    assert len(slow_sizes) > 48
    assert (len(sizes) < 30) == quick


@pytest.mark.parametrize("at_most", [16, 20, 24])
def test_no_pass_has_more_samples_than_asked_for(at_most: int) -> None:
    found, sizes = calls_of(Deep(linear, 48), (X, Z), at_most)
    assert 12 < max(sizes) <= at_most
    assert found == calls_of(Deep(linear, 48), (X, Z), 512)[0]


def test_rounding_that_a_deep_network_enlarges_hides_no_pair() -> None:
    """Each layer makes differences half as large again, as batch norms of many layers do: 10¹⁴ of them in the end."""
    net = nn.Sequential(*(nn.Sequential(nn.Linear(6, 6), Wave()) for _ in range(80)))
    torch.manual_seed(0)
    for part in net:
        nn.init.orthogonal_(part[0].weight, gain=4)  # type: ignore[index]
    found, sizes = calls_of(net, (X, Z), 512)
    assert found.pairs == [(f"{i}.0", f"{i + 1}.0") for i in range(79)]
    assert len(sizes) < 30


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_other_precisions_need_no_more_passes(dtype: torch.dtype) -> None:
    net = Deep(residual, 48).to(dtype)
    found, sizes = calls_of(net, (X.to(dtype), Z.to(dtype)), 512)
    assert len(sizes) < 30
    assert found == calls_of(net, (X.to(dtype), Z.to(dtype)), 4)[0]


class Wave(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.sin()


class Counting(nn.Module):
    """Remembers how many samples it saw last, and refuses others in the next pass of a run of passes."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("before", torch.zeros(4, 6))
        self.layers = nn.Sequential(*(nn.Linear(6, 6) for _ in range(40)))
        for layer in self.layers:
            nn.init.orthogonal_(layer.weight)

    def forward(self, x: Tensor) -> Tensor:
        x = x + 0 * self.before
        self.before = x.detach()
        return self.layers(x)


def test_what_a_pass_of_copies_leaves_behind_is_gone_before_the_next_way_is_tried() -> None:
    torch.manual_seed(0)
    found, sizes = calls_of(Counting(), (X, Z), 512)
    assert max(sizes) > 4
    assert len(found.pairs) == 39


# ------------------------------------------------------------------------------------------------- batches of copies


def test_copies_lie_side_by_side_and_what_has_no_row_a_sample_is_left() -> None:
    scale = torch.ones(3)
    joined = side_by_side({"x": X, "scale": scale}, {"x": Z, "scale": scale}, [False, True, False], 4)
    assert torch.equal(joined["x"], torch.cat([Z, X, Z]))
    assert joined["scale"] is scale


def test_lists_of_samples_of_different_sizes_are_joined_too() -> None:
    x, z = ([torch.full((size, 2), float(value)) for size in (1, 3)] for value in (0, 1))
    assert [tuple(t.shape) for t in side_by_side(x, z, [True, False], 2)] == [(1, 2), (3, 2), (1, 2), (3, 2)]
    assert [float(t[0, 0]) for t in half_and_half(x, z, 2)] == [0, 1]


def test_one_copy_is_the_samples_themselves() -> None:
    assert side_by_side(X, Z, [True], 4) is X
    assert side_by_side(X, Z, [False], 4) is Z


@pytest.mark.parametrize("rows", [1, 2, 3, 4])
def test_half_and_half_has_as_many_samples(rows: int) -> None:
    joined = half_and_half(X[:rows], Z[:rows], rows)
    assert torch.equal(joined, torch.cat([X[: rows - rows // 2], Z[: rows // 2]]))
