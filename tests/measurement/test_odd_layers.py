"""Layers that cannot be reduced, or hold nothing but rounding: they are named, and cost the others nothing."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from measurement.moments import Table, on_all_ranks, table
from measurement.moments import measure as measure_moment
from properties import FLOAT32_BITS, normal
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef

from lightning_infoplane import Estimator, Fixed, InformationPlane, MedianDistance
from lightning_infoplane.measurement.listener import Listener
from lightning_infoplane.measurement.ranks import Ranks

N = 30
INPUTS, CLASSES = normal(N, 1, 4, 4), torch.arange(N) % 3
LAYERS = {
    "conv": normal(N, 3, 2, 2, seed=1) + CLASSES[:, None, None, None],
    "sequence": normal(N, 4, 5, seed=2),
    "linear": normal(N, 6, seed=3) + 2 * CLASSES[:, None],
}


def measure(layers: Mapping[str, Tensor] = LAYERS, **options: Any) -> Table:
    return measure_moment(INPUTS, CLASSES, layers, **options)


@dataclass(frozen=True)
class Picky(MedianDistance):
    """A rule of the user's that fails for layers of five maps, and says so at length."""

    error: Exception = field(default_factory=lambda: ZeroDivisionError("five " * 100))

    def bandwidths(self, maps: Tensor, target: Tensor | None, previous: Tensor | None) -> Tensor:
        if maps.shape[-2] == 5:
            raise type(self.error)(*self.error.args)
        return super().bandwidths(maps, target, previous)


# By kind: an activation that cannot be reduced, and why it is left out.
ODD: dict[str, tuple[Tensor, str]] = {
    "too short": (torch.ones(N - 1, 2), rf"expected one value a sample, \({N}, \.\.\.\), got \(29, 2\)"),
    "transposed": (torch.ones(2, N), rf"expected one value a sample, \({N}, \.\.\.\), got \(2, 30\)"),
    "a number": (torch.tensor(1.0), rf"expected one value a sample, \({N}, \.\.\.\), got \(\)"),
    "no channels": (torch.ones(N, 0, 4, 4), r"no values in an output \(30, 0, 4, 4\)"),
    "no width": (torch.ones(N, 3, 0), r"no values in an output \(30, 3, 0\)"),
    "no features": (torch.ones(N, 0), r"no values in an output \(30, 0\)"),
    "complex": (torch.ones(N, 3, dtype=torch.complex64), "complex numbers, torch.complex64"),
    "sparse": (torch.ones(N, 3, 4).to_sparse(), "NotImplementedError: .*"),
    "a rule that fails": (torch.ones(N, 5, 2), r"ZeroDivisionError: five five .* …"),
}


@pytest.mark.filterwarnings("ignore:Sparse:UserWarning")
@pytest.mark.parametrize(("odd", "why"), ODD.values(), ids=ODD)
@pytest.mark.parametrize("place", [0, 1, 3])
def test_a_layer_that_cannot_be_reduced_costs_the_others_nothing(odd: Tensor, why: str, place: int) -> None:
    layers: list[tuple[str, Tensor]] = list(LAYERS.items())
    layers.insert(place, ("odd", odd))
    told: list[str] = []
    found = measure(layers=dict(layers), bandwidth=Picky(), told=told)
    assert len(told) == 1
    assert re.fullmatch(rf"layer 'odd' is left out: {why}.*\.", told[0])
    assert len(told[0]) < 300
    assert found == measure(bandwidth=Picky())


@pytest.mark.filterwarnings("ignore:Sparse:UserWarning")
@pytest.mark.parametrize(("odd", "why"), ODD.values(), ids=ODD)
def test_where_no_layer_can_be_reduced_the_measurement_has_failed(odd: Tensor, why: str) -> None:
    plane = InformationPlane(Estimator(bandwidth=Picky()))
    measurement = plane.start(INPUTS, CLASSES)
    measurement.add("odd", odd)
    measurement.add("late", torch.ones(N, 0))
    with pytest.raises(
        (ValueError, ArithmeticError, NotImplementedError), match=why.split(":")[-1].rstrip("…").strip()
    ):
        plane.finish(measurement)
    assert plane.history == []


@pytest.mark.parametrize(
    "error",
    [
        MemoryError("no more"),
        torch.OutOfMemoryError("no more"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_where_there_is_no_memory_no_layer_is_to_blame(error: Exception) -> None:
    with pytest.raises(type(error), match=re.escape(str(error))):
        measure(layers={**LAYERS, "large": torch.ones(N, 5, 2)}, bandwidth=Picky(error=error))


def test_a_layer_that_fails_in_parts_leaves_no_part_behind() -> None:
    """Its bandwidth would be frozen, and its numbers exchanged."""
    plane = InformationPlane(Estimator(bandwidth=Picky(freeze=True)))
    measurement = plane.start(INPUTS, CLASSES, listener=Listener())
    measurement.add("conv", LAYERS["conv"])
    measurement.add("odd", torch.ones(N, 5, 2))
    rows = plane.finish(measurement)
    assert set(measurement.sigmas) == {"", "conv"}
    assert {row.place for row in rows} == {"", "conv"}


def test_an_activation_that_failed_is_not_kept_alive() -> None:
    measurement = InformationPlane(Estimator(bandwidth=Picky())).start(INPUTS, CLASSES)
    measurement.add("conv", LAYERS["conv"])
    activation = torch.ones(N, 5, 2)
    storage = StorageWeakRef(activation.untyped_storage())
    measurement.add("odd", activation)
    del activation
    assert storage.expired()


@pytest.mark.parametrize("ill", [0, 1])
def test_a_layer_that_cannot_be_reduced_on_one_process_is_left_out_on_all(ill: int) -> None:
    told: list[list[str]] = [[], []]

    def work(rank: int, ranks: Ranks) -> Table:
        plane = InformationPlane(Estimator(bandwidth=Picky()))
        listener = Listener(lambda about, message: told[rank].append(message))
        measurement = plane.start(INPUTS, CLASSES, listener=listener)
        for name, activation in LAYERS.items():
            measurement.add(name, activation)
        measurement.add("odd", normal(N, 5, 2) if rank == ill else normal(N, 4, 2))
        return table(plane.finish(measurement, ranks=ranks))

    alone = measure(bandwidth=Picky())
    for found in on_all_ranks(2, work):
        assert found.keys() == alone.keys()
    (message,) = told[0]
    assert message.startswith("layer 'odd' is left out: ZeroDivisionError: five")
    assert message.endswith(f"(on rank {ill}).")
    assert told[1] == told[0]


def test_where_one_process_can_reduce_nothing_the_measurement_fails_on_all() -> None:
    def work(rank: int, ranks: Ranks) -> Table:
        plane = InformationPlane(Estimator(bandwidth=Picky()))
        measurement = plane.start(INPUTS, CLASSES)
        measurement.add("odd", normal(N, 5, 2) if rank == 1 else normal(N, 4, 2))
        return table(plane.finish(measurement, ranks=ranks))

    for error in on_all_ranks(2, work):
        assert isinstance(error, RuntimeError)
        assert str(error).startswith("on rank 1: ZeroDivisionError: five")


def test_a_layer_that_varies_by_rounding_alone_is_constant() -> None:
    """A batched product sums the last rows in another order than the first ones."""
    base = normal(40, seed=3).float()
    noisy = base.repeat(N, 1)
    noisy[N // 2 :] = torch.nextafter(noisy[N // 2 :], torch.full((), torch.inf))
    maps = noisy.reshape(N, 4, 10)
    found = measure(layers={"noisy": noisy, "maps": maps, "conv": LAYERS["conv"]})
    for layer in ("noisy", "maps"):
        assert found[layer, "bandwidth"] == 0
        assert found[layer, "H_T"] == pytest.approx(0, abs=FLOAT32_BITS)
    assert found["conv", "bandwidth"] > 0


@pytest.mark.parametrize("scale", [1e-30, 1.0, 1e30])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_layer_that_varies_by_little_but_more_than_rounding_says_what_it_says_at_any_scale(
    scale: float, dtype: torch.dtype
) -> None:
    layer = normal(N, 6, seed=2).to(dtype)
    far = layer * 1e-5 + 1 if dtype == torch.float64 else (layer * 2**-10 + 1).to(dtype)
    found, expected = measure(layers={"far": far * scale}), measure(layers={"far": far - 1})
    assert found["far", "H_T"] == pytest.approx(expected["far", "H_T"], abs=0.01)
    assert found["far", "H_T"] > 1


def test_a_dead_map_with_rounding_adds_no_distance_to_the_live_ones() -> None:
    live = normal(N, 2, 5, seed=6)
    dead = torch.full((N, 2, 5), 0.7, dtype=live.dtype)
    dead[::3] += 1e-16
    both = torch.cat([live, dead], 1)
    assert both[:, 2:].unique().numel() == 2
    found = measure(layers={"noisy": both}, bandwidth=Fixed(2.0))
    expected = measure(layers={"noisy": live}, bandwidth=Fixed(2.0))
    assert found["noisy", "H_T"] == pytest.approx(expected["noisy", "H_T"], abs=FLOAT32_BITS)
