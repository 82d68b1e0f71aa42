"""What happens on an accelerator, told without one.

A tensor on PyTorch's meta device has a shape and no numbers: whoever asks for one, as a host that waits for its GPU
does, gets an error, and so does whoever mixes it with a tensor on the CPU.
"""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from lightning_infoplane import (
    Alignment,
    Bandwidth,
    Eigenvalues,
    Estimator,
    Fixed,
    InformationPlane,
    Lanczos,
    Leading,
    MedianDistance,
    NearestNeighbors,
    Silverman,
    Solver,
    StandardizedSilverman,
    class_gram,
    gaussian_gram,
    gram,
)
from lightning_infoplane.estimator import distances, precision
from lightning_infoplane.estimator.grams import hadamard
from lightning_infoplane.estimator.precision import spectrum_float
from lightning_infoplane.estimator.solvers import Estimate, class_block_spectrum
from lightning_infoplane.measurement.columns import leaves_of
from lightning_infoplane.measurement.division import divide
from lightning_infoplane.measurement.entropies import Sides, numbers
from lightning_infoplane.measurement.formulas import X, Y
from lightning_infoplane.measurement.quantity import Subject
from lightning_infoplane.measurement.ranks import Ranks
from lightning_infoplane.network.undisturbed import undisturbed

N = 600
LABELS = torch.arange(N) % 10
RULES = [MedianDistance(), NearestNeighbors(), Silverman(), StandardizedSilverman(), Alignment(), Fixed(1.0)]
SOLVERS = [Eigenvalues(), Lanczos(steps=4, vectors=8), Leading(rank=5, iterations=2)]


def somewhere(*shape: int) -> Tensor:
    return torch.empty(shape, device="meta")


def by_name(value: object) -> str:
    return type(value).__name__


def test_the_meta_device_does_tell() -> None:
    """The tests below could not fail otherwise."""
    with pytest.raises(RuntimeError, match="meta"):
        float(somewhere(3).sum())
    with pytest.raises(RuntimeError, match="meta"):
        somewhere(3) + torch.ones(3)


@pytest.mark.parametrize("channels", [1, 3, 64])
@pytest.mark.parametrize("rule", RULES, ids=by_name)
def test_activations_become_gram_matrices_unseen(rule: Bandwidth, channels: int) -> None:
    maps = somewhere(N, channels, 49)
    sigma = rule(maps, target=class_gram(LABELS.to("meta")))
    assert sigma.shape == (channels,)
    assert gaussian_gram(maps, sigma).device.type == "meta"


@pytest.mark.parametrize("alpha", [1.01, 2])
@pytest.mark.parametrize("solver", SOLVERS, ids=by_name)
def test_gram_matrices_become_entropies_unseen(solver: Solver, alpha: float) -> None:
    """Of layers alone, with X, and with classes, whose labels are on the CPU."""
    stack = somewhere(2, N, N)
    joint = hadamard(stack, somewhere(N, N))
    for found in (
        solver.estimate(stack, alpha),
        solver.estimate(joint, alpha),
        solver.with_classes(stack, LABELS, alpha),
    ):
        assert found.bits.shape == found.stderr.shape == (2,)
        assert found.bits.device.type == found.stderr.device.type == "meta"


@pytest.mark.parametrize("alpha", [1.01, 2])
@pytest.mark.parametrize("labels", [LABELS, None], ids=["classes", "continuous targets"])
@pytest.mark.parametrize("solver", SOLVERS, ids=by_name)
def test_all_numbers_of_a_moment_are_looked_at_once_when_they_are_known(
    solver: Solver, labels: Tensor | None, alpha: float
) -> None:
    """Shuffles, p-values and parts of the probe too, with bandwidths of their own.

    The exchange between processes comes right before that look: what it is given has no numbers.
    """
    square = somewhere(N, N)
    layers = {f"layer{k}": somewhere(N, N) for k in range(3)}
    sides = Sides(square, labels, square if labels is None else None, input_width=somewhere())
    how = Estimator(alpha, solver=solver)
    division = divide(N, LABELS, how)
    assert len(division.parts) == 8
    given: list[Tensor] = []
    done: list[int] = []

    def exchange(numbers: Tensor) -> Tensor:
        given.append(numbers)
        return torch.zeros(numbers.shape, dtype=numbers.dtype)

    leaves, of_parts = (
        [leaf for leaf in leaves_of(Subject.ACTIVATIONS, ["X", "Y"], 2, tests) if leaf.first == "T"]
        for tests in (True, False)
    )
    assert len(leaves) > len(of_parts) > 10
    own = {term: Estimate(torch.tensor(1.0), torch.tensor(0.0)) for term in (X, Y)}  # known from the time before
    whole, *parts = numbers(
        sides,
        layers,
        [leaves, *(of_parts for _ in division.parts)],
        [division.whole, *division.parts],
        how,
        Ranks(total=exchange),
        done.append,
        own=lambda: [own] * 9,
    )
    assert sum(done) == len(layers)  # every layer got there: a failure would have ended the loop
    assert [numbers.device.type for numbers in given] == ["meta"]
    assert set(whole) == {*leaves, X, Y}
    assert [set(part) for part in parts] == [{*of_parts, X, Y}] * 8
    assert all(number.shape == (3,) for part in (whole, *parts) for leaf in of_parts for number in part[leaf])


def test_uneven_classes_become_spectra_unseen() -> None:
    """One class so large that the whole matrix is taken instead of its blocks."""
    uneven = torch.cat([torch.zeros(N - 5, dtype=torch.long), torch.arange(1, 6)])
    assert class_block_spectrum(somewhere(N, N), uneven).shape == (N,)


class Looks(TorchFunctionMode):
    """Counts how often a number of a tensor, or all of them, are asked for."""

    _ASKING = (
        *(Tensor.item, Tensor.tolist, Tensor.cpu, Tensor.numpy, Tensor.nonzero, torch.nonzero, torch.unique),
        *(Tensor.__bool__, Tensor.__int__, Tensor.__float__, torch.equal, Tensor.equal, torch.allclose),
    )

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        self.count += func in self._ASKING
        return func(*args, **(kwargs or {}))


def test_a_model_is_put_back_with_one_look() -> None:
    """However many buffers it has: what differs is gathered on the device first."""
    model = torch.nn.Module()
    for k in range(5):
        model.register_buffer(f"mean{k}", torch.ones(3))
    with Looks() as looks, undisturbed(model):
        model.mean3.add_(1)  # type: ignore[operator]
    assert looks.count == 1
    assert all(bool((buffer == 1).all()) for buffer in model.buffers())


def looks_of_a_measurement(layers: int) -> int:
    plane = InformationPlane()
    reference = plane.reference(torch.randn(40, 3), LABELS[:40])
    activations = [torch.randn(40, 4, 9) for _ in range(layers)]
    for _ in range(2):  # the first computes the entropies of X and Y too
        with Looks() as looks:
            measurement = plane.start(reference)
            for k, activation in enumerate(activations):
                measurement.add(f"layer{k}", activation)
            plane.finish(measurement)
    return looks.count


@pytest.fixture
def looks_that_cost(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a GPU: on the CPU some are for nothing, and save work."""
    for room in (precision, distances):
        monkeypatch.setattr(room, "looks_are_free", lambda device: False)


@pytest.mark.usefixtures("looks_that_cost")
def test_a_measurement_looks_as_often_for_many_layers_as_for_two() -> None:
    """Twice at tensors of the device, before and after the spectra; what else is counted is on the CPU by then."""
    assert looks_of_a_measurement(2) == looks_of_a_measurement(6)


@pytest.mark.parametrize(
    ("capability", "expected"),
    [
        ((6, 0), torch.float64),
        ((7, 0), torch.float64),
        ((7, 5), torch.float32),
        ((8, 0), torch.float64),
        ((8, 6), torch.float32),
        ((8, 9), torch.float32),
        ((9, 0), torch.float64),
        ((10, 0), torch.float64),
        ((10, 3), torch.float32),
        ((12, 0), torch.float32),
    ],
)
def test_spectra_are_float64_where_that_is_not_slow(
    capability: tuple[int, int], expected: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    assert spectrum_float(torch.device("cuda", 1)) == expected


def test_spectra_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    assert spectrum_float(torch.device("cpu")) == torch.float64
    assert spectrum_float(torch.device("mps")) == torch.float32
    monkeypatch.setattr(torch.version, "hip", "6.4")  # AMD's: no such gap
    assert spectrum_float(torch.device("cuda")) == torch.float64


def test_a_solver_can_be_told_its_precision() -> None:
    matrix = gram(torch.randn(20, 3, generator=torch.Generator().manual_seed(0)))
    assert Eigenvalues(dtype=torch.float32)(matrix, 1.01).dtype == torch.float32
    assert Eigenvalues()(matrix, 1.01).dtype == torch.float64
