"""A network watched on its probes: what is measured, what is made once, what is remembered, and what is told."""

import copy
import gc
import io
import json
import re
import warnings
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from networks import TinyCNN, assert_same, callback, fit, hooks_on, images, said, series
from properties import assert_leaves_random_state
from torch import Tensor, nn

from lightning_infoplane import (
    Bandwidth,
    ErrorSignals,
    Estimator,
    InformationPlane,
    MedianDistance,
    Monitor,
    Probe,
    Redundancy,
    Row,
    measure,
)
from lightning_infoplane.estimator.entropy import renyi_entropy
from lightning_infoplane.estimator.grams import class_gram
from lightning_infoplane.measurement.rows import Pair
from lightning_infoplane.network.activations import watch
from lightning_infoplane.network.layers import select_layers
from lightning_infoplane.network.probe import Origin


@pytest.fixture
def probe() -> Probe:
    return Probe(*images(33).tensors)


@pytest.fixture
def model() -> TinyCNN:
    torch.manual_seed(0)
    return TinyCNN()


def train(model: TinyCNN) -> None:
    """One large step, so that the next measurement finds other activations."""
    x, y = images(16, seed=7).tensors
    nn.functional.cross_entropy(model(x), y).backward()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.sub_(parameter.grad)
            parameter.grad = None


def places(rows: list[Row], quantity: str = "AMI_XT") -> list[object]:
    return [row.place for row in rows if row.quantity == quantity]


def what(row: Row) -> tuple[object, ...]:
    """All of a row but its value."""
    return tuple(row)[:-1]


# Passes of a few samples that tell how the network is called and where the samples lie, and those of a search but for
# one a layer.
PILOT, SEARCH = 2, 6


class Counted:
    """A network called the usual way, and how often."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, network: nn.Module, inputs: Any) -> Any:
        self.calls += 1
        return network(inputs)

    def since(self) -> int:
        """Calls since the last question."""
        calls, self.calls = self.calls, 0
        return calls


# ------------------------------------------------------------------------------------------- one measurement


@pytest.mark.parametrize("size", [1, 8, 16, 32, 33, 1000])
def test_pieces_give_the_numbers_of_the_whole(probe: Probe, size: int) -> None:
    """33 samples in pieces of 8 or 16 or 32: the last one has a single sample."""
    model = TinyCNN()
    whole, pieces = measure(model, probe), measure(model, probe, batch_size=size)
    assert list(map(what, pieces)) == list(map(what, whole))
    assert [row.value for row in pieces] == pytest.approx([row.value for row in whole], abs=1e-5)


def test_pieces_in_a_trainer(tmp_path: Path) -> None:
    whole, pieces = callback(), callback(probe_batch_size=7)
    fit(tmp_path, whole)
    fit(tmp_path, pieces)
    assert [v for *_, v in series(pieces)] == pytest.approx([v for *_, v in series(whole)], abs=1e-5)


class Odd(nn.Module):
    """Layers of every kind of output."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Linear(8, 6)
        self.rnn = nn.GRU(6, 5, batch_first=True)
        self.attend = nn.MultiheadAttention(6, 2, batch_first=True)
        self.twice = nn.Linear(6, 6)
        self.never = nn.Linear(2, 2)
        self.scalar = Scalar()
        self.index = Index()

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.embed(x.squeeze(1))
        self.rnn(tokens)
        self.attend(tokens, tokens, tokens)
        self.scalar(tokens)
        self.index(tokens)
        return self.twice(self.twice(tokens)).mean(1)


class Scalar(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.mean()


class Index(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.argmax(-1)


@pytest.mark.parametrize("size", [None, 10])
def test_tuples_tokens_and_repeated_calls_are_measured(probe: Probe, size: int | None) -> None:
    rows = measure(Odd(), probe, layers=["embed", "rnn", "attend", "twice"], batch_size=size)
    found = {row.place: row.value for row in rows if row.quantity == "AMI_XT"}
    assert list(found) == ["embed", "rnn", "attend", "twice", "twice.call2"]
    assert all(value > 0.1 for value in found.values())


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        ("scalar", r"layer 'scalar' is left out: expected floats \(33, ...\) as its output, got \(\) of torch.float32"),
        ("index", r"layer 'index' is left out: .* got \(33, 8\) of torch.int64"),
        ("never", r"layer 'never' is left out: not called in the probe's forward pass"),
    ],
)
def test_what_cannot_be_measured_is_left_out_and_named_once(probe: Probe, layer: str, message: str) -> None:
    monitor = Monitor(Odd(), probe, layers=["embed", layer])
    with pytest.warns(UserWarning, match=message) as told:
        rows = monitor.measure()
    assert len(told) == 1
    assert places(rows) == ["embed"]
    with warnings.catch_warnings(record=True) as again:
        warnings.simplefilter("always")
        monitor.measure()
    assert again == []


def test_in_a_trainer_it_is_said_once(tmp_path: Path) -> None:
    class WithNever(TinyCNN):
        def build(self) -> None:
            super().build()
            self.never = nn.Conv2d(1, 1, 1)

    with said() as messages:
        fit(tmp_path / "keyword", callback(), model=WithNever)
    assert messages == []  # a keyword took it along: nobody asked for it
    with said() as messages:
        fit(tmp_path / "named", callback(layers=["conv2", "never"]), model=WithNever)
    assert messages == ["layer 'never' is left out: not called in the probe's forward pass."]


def test_inputs_may_be_a_structure(probe: Probe) -> None:
    class Masked(TinyCNN):
        def forward(self, batch: Any) -> Tensor:
            assert len(batch["x"]) == len(batch["more"][0])
            return super().forward(batch["x"])

    torch.manual_seed(0)
    expected = measure(TinyCNN(), probe)
    torch.manual_seed(0)
    structure = Probe({"x": probe.inputs, "more": (torch.zeros(33), "words", torch.ones(2))}, probe.targets)
    found = measure(Masked(), structure, batch_size=10)
    assert [row.value for row in found] == pytest.approx([row.value for row in expected], abs=1e-5)


def tell(layer: nn.Module, told: Callable[[Tensor], object]) -> None:
    """Hand on what a layer puts out. Not by a hook: those of others are silent in a measurement."""
    forward = layer.forward

    def telling(x: Tensor) -> Tensor:
        output: Tensor = forward(x)
        told(output)
        return output

    layer.forward = telling  # type: ignore[method-assign]


def test_activations_are_not_kept(probe: Probe) -> None:
    """In one piece a layer is reduced in its hook: of its activation nothing is left at the end."""
    kept: list[weakref.ref[Tensor]] = []
    model = TinyCNN()
    tell(model.conv1, lambda output: kept.append(weakref.ref(output)))
    plane = InformationPlane()
    measurement = plane.start(probe.x, probe.targets)
    watch(model, select_layers(model), probe, measurement.add)
    gc.collect()
    assert kept
    assert all(reference() is None for reference in kept)
    assert plane.finish(measurement)


def test_the_network_is_left_bit_for_bit(model: TinyCNN, probe: Probe) -> None:
    model.conv1.eval()
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    state = copy.deepcopy(model.state_dict())
    with assert_leaves_random_state():
        monitor = Monitor(model, probe, error_signals=True, redundancy=True)
        monitor.measure()
    assert_same(model.state_dict(), state)
    assert all(torch.equal(parameter.grad, torch.ones_like(parameter)) for parameter in model.parameters())
    assert [module.training for module in (model, model.conv1, model.conv2)] == [True, False, True]
    assert hooks_on(model) == 0


def test_the_network_is_as_before_after_a_failure(probe: Probe) -> None:
    model = TinyCNN()
    model.head = nn.Linear(3, 3)
    with pytest.raises(RuntimeError, match="mat1 and mat2 shapes cannot be multiplied"):
        measure(model, probe, forward_fn=TinyCNN.forward)
    assert hooks_on(model) == 0
    assert model.training


def test_a_network_that_is_called_otherwise_is_told_how_to_say_so() -> None:
    class TwoInputs(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(3, 2)

        def forward(self, x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
            return self.layer(x * mask)

    net, probe = TwoInputs(), Probe(torch.eye(3))
    with pytest.raises(
        ValueError, match=r"missing 1 required positional argument: 'mask'.* Pass forward_fn=lambda "
    ) as told:
        measure(net, probe, "linear")
    assert isinstance(told.value.__cause__, TypeError)
    rows = measure(net, probe, "linear", forward_fn=lambda network, inputs: network(inputs, torch.ones(3)))
    assert "layer" in {row.place for row in rows}


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_a_probe_that_is_not_finite_is_refused_at_once(model: TinyCNN, probe: Probe, value: float) -> None:
    probe.inputs[3, 0, 2, 2] = value
    with pytest.raises(ValueError, match="the inputs of the probe hold NaN or infinite values"):
        Monitor(model, probe)


def test_layers_that_are_not_there_are_refused_at_once(model: TinyCNN, probe: Probe) -> None:
    with pytest.raises(ValueError, match=r"layers='conv3' matches no module\. Did you mean "):
        Monitor(model, probe, "conv3")


# ------------------------------------------------------------------------------------------------ several probes


def test_several_probes_are_told_apart_by_name_and_measured_alike(model: TinyCNN) -> None:
    probes = {"train": Probe(*images(32).tensors), "val": Probe(*images(24, seed=1).tensors)}
    rows = Monitor(model, probes).measure(epoch=2, step=9)
    for name, one in probes.items():
        alone = [row._replace(probe=name) for row in measure(model, one, epoch=2, step=9)]
        assert [row for row in rows if row.probe == name] == alone
    assert {row.probe for row in rows} == {"train", "val"}


def test_chains_are_looked_for_on_the_first_probe_alone(model: TinyCNN) -> None:
    sizes: list[int] = []

    def forward(network: nn.Module, inputs: Tensor) -> Any:
        sizes.append(len(inputs))
        return network(inputs)

    probes = {"train": Probe(*images(32).tensors), "val": Probe(*images(24, seed=1).tensors)}
    Monitor(model, probes, forward_fn=forward).measure()
    assert sizes[-2:] == [32, 24]
    assert sizes[:PILOT] == [4, 3]
    assert set(sizes[PILOT:-2]) == {4}


# -------------------------------------------------------------------------------------------------- Markov chains


class Skip(nn.Module):
    """A way around one layer."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.stem, self.inside, self.out = nn.Linear(64, 6), nn.Linear(6, 6), nn.Linear(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x.flatten(1))
        return self.out(x + self.inside(x.tanh()))


BETWEEN = [("stem", "inside"), ("stem", "out")]
CONSECUTIVE = [("stem", "inside"), ("inside", "out")]


def test_gaps_are_those_of_the_markov_chain(probe: Probe) -> None:
    monitor = Monitor(Skip(), probe, "linear")
    assert monitor.markov_pairs == []  # nobody has looked yet
    rows = monitor.measure()
    assert places(rows, "DPI_AMI_XT") == [Pair(*pair) for pair in BETWEEN]
    assert monitor.markov_pairs == BETWEEN
    assert monitor.history.facts.chain == ("stem → inside", "stem → out")


def test_gaps_of_error_signals_are_those_of_the_backward_chain(probe: Probe) -> None:
    """What inside and stem hear comes through out; between the two of them there is a way around."""
    net = nn.Sequential(Skip(), nn.Tanh(), nn.Linear(4, 4))
    rows = Monitor(net, probe, "linear", error_signals=True).measure()
    backward = [Pair("0.out", "0.inside"), Pair("0.out", "0.stem")]
    assert sorted(places(rows, "DPI_AMI_error")) == backward  # the last layer is what the others are compared with


def test_consecutive_gaps_are_those_of_each_layer_and_the_next(probe: Probe) -> None:
    count = Counted()
    monitor = Monitor(Skip(), probe, "linear", dpi_pairs="consecutive", forward_fn=count)
    rows = monitor.measure()
    assert places(rows, "DPI_AMI_XT") == [Pair(*pair) for pair in CONSECUTIVE]
    assert monitor.markov_pairs == []
    assert monitor.history.facts.chain == ()
    assert count.since() == PILOT + 1  # and no intervention was tried


def test_chains_are_found_once(probe: Probe) -> None:
    """A few samples, to see how it is called; the search, with a run for every layer; the measurement, each time."""
    count = Counted()
    monitor = Monitor(Skip(), probe, "linear", forward_fn=count)
    monitor.measure()
    assert count.since() == PILOT + SEARCH + 3 + 1
    monitor.measure(epoch=1)
    assert count.since() == 1
    monitor.prepare()
    assert count.since() == 0


def test_chains_can_be_found_before_anything_is_measured(probe: Probe) -> None:
    count = Counted()
    monitor = Monitor(Skip(), probe, "linear", forward_fn=count)
    monitor.prepare()
    assert count.since() == PILOT + SEARCH + 3
    assert monitor.markov_pairs == BETWEEN
    assert len(monitor.history) == 0
    monitor.measure()
    assert count.since() == 1


def test_error_signals_cost_a_pass_a_measurement_and_their_chain_is_found_once(probe: Probe) -> None:
    count = Counted()
    monitor = Monitor(Skip(), probe, "linear", forward_fn=count, error_signals=True)
    monitor.measure()
    assert count.since() > 2
    monitor.measure(epoch=1)
    assert count.since() == 2


@dataclass(frozen=True)
class Noting(Bandwidth):
    """The default rule, and a list that anyone may read of what it was asked about."""

    def bandwidths(self, maps: Tensor, target: Tensor | None, previous: Tensor | None) -> Tensor:
        NOTED.append(tuple(maps.shape))
        return MedianDistance().bandwidths(maps, target, previous)


NOTED: list[tuple[int, ...]] = []


def test_x_is_made_once_and_layers_at_every_measurement(model: TinyCNN, probe: Probe) -> None:
    NOTED.clear()
    monitor = Monitor(model, probe, estimator=Estimator(bandwidth=Noting()))
    assert NOTED == [(33, 1, 64)]
    NOTED.clear()
    for epoch in range(3):
        monitor.measure(epoch)
    assert NOTED == [(33, 4, 64)] * 6


# ------------------------------------------------------------------------------------------------------- choices


def without_error_signals(rows: list[Row]) -> list[Row]:
    return [row for row in rows if "error" not in row.quantity]


def test_error_signals_are_yes_no_or_how(model: TinyCNN, probe: Probe) -> None:
    plain, yes = measure(model, probe), measure(model, probe, error_signals=True)
    assert plain == measure(model, probe, error_signals=False) == without_error_signals(yes)
    assert places(plain, "AMI_error") == []
    assert places(yes, "AMI_error") == ["conv1"]
    assert measure(model, probe, error_signals=ErrorSignals()) == yes
    other = measure(model, probe, error_signals=ErrorSignals(lambda outputs, targets: outputs.square().mean()))
    assert list(map(what, other)) == list(map(what, yes))
    assert other != yes
    assert without_error_signals(other) == plain


@pytest.mark.parametrize("signals", [True, ErrorSignals(), ErrorSignals(nn.functional.cross_entropy)], ids=repr)
def test_error_signals_of_a_single_layer_are_refused(
    model: TinyCNN, probe: Probe, signals: bool | ErrorSignals
) -> None:
    message = r"error_signals=True compares layers, and layers='conv1' chose only one\."
    with pytest.raises(ValueError, match=message):
        Monitor(model, probe, "conv1", error_signals=signals)
    assert places(measure(model, probe, "conv1")) == ["conv1"]


def test_redundancy_is_yes_no_or_how(model: TinyCNN, probe: Probe) -> None:
    plain, yes = measure(model, probe), measure(model, probe, redundancy=True)
    assert plain == measure(model, probe, redundancy=False)
    assert places(plain, "redundancy_synergy") == []
    assert places(yes, "redundancy_synergy") == ["conv1", "conv2"]
    assert measure(model, probe, redundancy=Redundancy()) == yes
    few = measure(model, probe, redundancy=Redundancy(map_pairs=2, samples=8))
    assert places(few, "redundancy_synergy") == ["conv1", "conv2"]
    assert few != yes
    of_maps = {"redundancy_synergy", "non_redundant", "total_correlation"}
    for rows in (yes, few):
        assert [row for row in rows if row.quantity.removesuffix("_stderr") not in of_maps] == plain


def test_the_estimator_is_used_and_written_beside_the_rows(model: TinyCNN, probe: Probe) -> None:
    monitor = Monitor(model, probe, estimator=Estimator(alpha=2, shuffles=0))
    rows = monitor.measure()
    assert not any(row.quantity.endswith("_chance") for row in rows)
    (bits,) = [row.value for row in rows if row.quantity == "H_Y"]
    assert probe.targets is not None
    assert bits == pytest.approx(float(renyi_entropy(class_gram(probe.targets), 2)), abs=1e-9)
    assert monitor.history.facts.estimator["alpha"] == 2
    assert monitor.history.facts.estimator["shuffles"] == 0
    assert monitor.history.facts.n == {"": 33}


def test_the_network_is_always_called_in_the_context(probe: Probe) -> None:
    inside = False
    entered = 0

    @contextmanager
    def context() -> Iterator[None]:
        nonlocal inside, entered
        inside, entered = True, entered + 1
        yield
        inside = False

    called = 0

    def forward(network: nn.Module, inputs: Tensor) -> Any:
        nonlocal called
        assert inside
        called += 1
        return network(inputs)

    Monitor(Skip(), probe, "linear", forward_fn=forward, error_signals=True, context=context, batch_size=10).measure()
    assert called == entered > 8


def test_autocast_is_a_context(model: TinyCNN, probe: Probe) -> None:
    kinds: set[torch.dtype] = set()
    tell(model.conv1, lambda output: kinds.add(output.dtype))
    Monitor(model, probe, context=lambda: torch.autocast("cpu", torch.bfloat16)).measure()
    assert kinds == {torch.bfloat16}


@pytest.mark.parametrize(
    ("probes", "options"),
    [
        (1, {}),
        (1, {"batch_size": 10}),
        (2, {}),
        (1, {"dpi_pairs": "consecutive"}),
        (1, {"redundancy": True}),
        (1, {"estimator": Estimator(shuffles=20)}),
        (1, {"error_signals": True}),
        (2, {"error_signals": True}),
    ],
    ids=str,
)
def test_progress_adds_up_to_the_work(model: TinyCNN, probes: int, options: dict[str, Any]) -> None:
    samples = {str(seed): Probe(*images(16, seed=seed).tensors) for seed in range(probes)}
    monitor = Monitor(model, samples, **options)
    for epoch in range(2):
        steps: list[int] = []
        monitor.measure(epoch, progress=steps.append)
        assert all(step > 0 for step in steps)
        assert sum(steps) == monitor.work


def test_the_work_is_a_gram_matrix_and_a_spectrum_of_every_layer_for_every_probe(model: TinyCNN, probe: Probe) -> None:
    assert Monitor(model, probe).work == 4
    assert Monitor(model, {"train": probe, "val": probe}, "all").work == 12


# ----------------------------------------------------------------------------------------------------- going on


def test_every_measurement_is_appended_to_the_history(model: TinyCNN, probe: Probe) -> None:
    untrained, monitor = copy.deepcopy(model), Monitor(model, probe)
    first = monitor.measure(epoch=0, step=0)
    train(model)
    second = monitor.measure(epoch=1, step=4)
    assert monitor.history == first + second
    assert {(row.epoch, row.step) for row in first} == {(0, 0)}
    assert {(row.epoch, row.step) for row in second} == {(1, 4)}
    assert first == measure(untrained, probe)
    assert second == measure(model, probe, epoch=1, step=4)


def test_measure_goes_on_with_a_monitor(model: TinyCNN, probe: Probe) -> None:
    count = Counted()
    monitor = Monitor(model, probe, ["conv1", "conv2"], Estimator(alpha=2), forward_fn=count)
    first = monitor.measure()
    count.since()
    second = measure(model, probe, monitor=monitor, epoch=3, step=12)
    assert count.since() == 1
    assert monitor.history == first + second
    assert {(row.epoch, row.step) for row in second} == {(3, 12)}
    assert [tuple(row)[2:] for row in second] == [tuple(row)[2:] for row in first]  # its layers and its estimator


def test_a_single_layer_is_in_no_pair_and_nobody_looks_again(model: TinyCNN, probe: Probe) -> None:
    count = Counted()
    monitor = Monitor(model, probe, "conv2", forward_fn=count)
    monitor.measure()
    count.since()
    monitor.measure(epoch=1)
    assert count.since() == 1


def test_measure_refuses_a_monitor_of_something_else(model: TinyCNN, probe: Probe) -> None:
    monitor = Monitor(model, probe)
    refused = r"monitor: is of another network or probe\. Call its own measure\(epoch\), or leave it out\."
    with pytest.raises(ValueError, match=refused):
        measure(TinyCNN(), probe, monitor=monitor)
    with pytest.raises(ValueError, match=refused):
        measure(model, Probe(*images(33, seed=1).tensors), monitor=monitor)
    two = Monitor(model, {"train": probe, "val": Probe(*images(24).tensors)})
    with pytest.raises(ValueError, match=refused):
        measure(model, probe, monitor=two)
    assert len(monitor.history) == len(two.history) == 0


# ------------------------------------------------------------------------------------------------- a checkpoint


def reloaded(state: dict[str, Any]) -> dict[str, Any]:
    """Through a file, as torch.load(weights_only=True) gives it back: tensors and plain Python only."""
    buffer = io.BytesIO()
    torch.save(state, buffer)
    buffer.seek(0)
    loaded: dict[str, Any] = torch.load(buffer, weights_only=True)
    return loaded


def test_a_resumed_monitor_goes_on_as_if_nothing_had_happened(model: TinyCNN, probe: Probe) -> None:
    """Frozen bandwidths too: they are those of a network that no longer exists."""
    options: dict[str, Any] = {
        "estimator": Estimator(bandwidth=MedianDistance(freeze=True)),
        "error_signals": True,
    }
    straight = Monitor(model, probe, **options)
    straight.measure()
    state = reloaded(straight.state_dict())
    train(model)
    straight.measure(epoch=1, step=1)
    resumed = Monitor(model, probe, **options)
    resumed.resume(state)
    resumed.measure(epoch=1, step=1)
    assert resumed.history == straight.history
    assert resumed.history.facts == straight.history.facts
    assert resumed.chains == straight.chains
    fresh = Monitor(model, probe, **options)
    assert fresh.measure(epoch=1, step=1) != list(resumed.history)[len(resumed.history) // 2 :]
    assert_same(reloaded(resumed.state_dict()), reloaded(straight.state_dict()))


def test_chains_are_not_looked_for_again_after_resuming(probe: Probe) -> None:
    before, count = Monitor(Skip(), probe, "linear"), Counted()
    before.measure()
    resumed = Monitor(Skip(), probe, "linear", forward_fn=count)
    resumed.resume(before.state_dict())
    assert resumed.markov_pairs == BETWEEN
    resumed.measure(epoch=1)
    assert count.since() == PILOT + 1


def test_chains_among_other_layers_are_looked_for_anew(probe: Probe) -> None:
    before, count = Monitor(Skip(), probe, "linear"), Counted()
    before.measure()
    resumed = Monitor(Skip(), probe, ["stem", "out"], forward_fn=count)
    with pytest.warns(UserWarning, match="the layers are not those of this run so far, .*: they are now out, stem"):
        resumed.resume(before.state_dict(), on_change="warn")
    assert resumed.chains is None
    rows = resumed.measure(epoch=1)
    assert count.since() == PILOT + SEARCH + 2 + 1
    assert places(rows, "DPI_AMI_XT") == [Pair("stem", "out")]
    assert resumed.history.facts.chain == ("stem → out",)


def test_a_state_in_which_nobody_had_looked_for_chains_yet(probe: Probe) -> None:
    resumed = Monitor(Skip(), probe, "linear")
    resumed.resume(reloaded(Monitor(Skip(), probe, "linear").state_dict()))
    assert len(resumed.history) == 0
    resumed.measure()
    assert resumed.markov_pairs == BETWEEN


def test_the_version_that_goes_on_is_written_beside_the_rows(model: TinyCNN, probe: Probe) -> None:
    before = Monitor(model, probe)
    before.measure()
    ours = before.history.facts
    before.history.facts = replace(ours, version="0.0.1")
    resumed = Monitor(model, probe)
    resumed.resume(before.state_dict())
    assert resumed.history.facts == ours


OTHER_PROBE = (
    r"the probe is not the one this run was measured on so far: another data set, probe size or seed \(.*; now .*\)\."
)
OTHER_ESTIMATOR = r"the estimator is not that of this run so far, .*1\.01.*: it is now .*'alpha': 2.*\."
NO_CURVE = r" Values before and after cannot be compared\."
HOW = r" Restore it, or pass on_change='warn'\."

CHANGES: dict[str, tuple[dict[str, Any], str]] = {
    "other samples": ({"probe": Probe(*images(33, seed=1).tensors)}, OTHER_PROBE),
    "fewer samples": ({"probe": Probe(*images(32).tensors)}, OTHER_PROBE),
    "no targets": ({"probe": Probe(images(33).tensors[0])}, OTHER_PROBE),
    "another name": ({"probe": {"val": Probe(*images(33).tensors)}}, OTHER_PROBE),
    "another estimator": ({"estimator": Estimator(alpha=2)}, OTHER_ESTIMATOR),
}
EACH_CHANGE = pytest.mark.parametrize(("change", "message"), CHANGES.values(), ids=CHANGES)


@EACH_CHANGE
def test_a_change_that_makes_two_curves_of_one_is_refused(
    model: TinyCNN, probe: Probe, change: dict[str, Any], message: str
) -> None:
    before = Monitor(model, probe)
    before.measure()
    changed = Monitor(model, **{"probe": probe} | change)
    with pytest.raises(ValueError, match="^" + message + NO_CURVE + HOW + "$"):
        changed.resume(before.state_dict())


@EACH_CHANGE
def test_what_was_refused_leaves_no_trace(model: TinyCNN, probe: Probe, change: dict[str, Any], message: str) -> None:
    """Whoever catches the error and goes on would have two curves in one history after all."""
    before = Monitor(model, probe)
    before.measure()
    changed = Monitor(model, **{"probe": probe} | change)
    facts = changed.history.facts
    with pytest.raises(ValueError, match=message):
        changed.resume(before.state_dict())
    assert len(changed.history) == 0
    assert changed.history.facts == facts


@EACH_CHANGE
def test_a_change_may_be_made_knowingly(model: TinyCNN, probe: Probe, change: dict[str, Any], message: str) -> None:
    before = Monitor(model, probe)
    first = before.measure()
    told: list[tuple[str, str]] = []
    changed = Monitor(model, notice=lambda *one: told.append(one), **{"probe": probe} | change)
    mine = changed.history.facts.estimator
    changed.resume(before.state_dict(), on_change="warn")
    assert len(told) == 1
    about, sentence = told[0]
    assert sentence.startswith(about)
    assert re.fullmatch(message + NO_CURVE, sentence)
    assert changed.history.facts.changes == (f"after epoch 0: {about}",)
    second = changed.measure(epoch=1)
    assert changed.history == first + second
    assert changed.history.facts.estimator == mine


def test_both_changes_are_told(model: TinyCNN, probe: Probe) -> None:
    before, told = Monitor(model, probe), []
    other = Monitor(
        model, Probe(*images(16).tensors), estimator=Estimator(alpha=2), notice=lambda *one: told.append(one)
    )
    other.resume(before.state_dict(), on_change="warn")
    assert [about.split(" is not ")[0] for about, _ in told] == ["the probe", "the estimator"]


def test_a_plain_monitor_warns_of_a_change(model: TinyCNN, probe: Probe) -> None:
    before, other = Monitor(model, probe), Monitor(model, Probe(*images(16).tensors))
    with pytest.warns(UserWarning, match=OTHER_PROBE + NO_CURVE):
        other.resume(before.state_dict(), on_change="warn")


def test_the_state_is_one_moment(model: TinyCNN, probe: Probe) -> None:
    """What is measured later does not change what was handed out."""
    monitor = Monitor(model, probe)
    monitor.measure()
    state = monitor.state_dict()
    kept = reloaded(state)
    train(model)
    monitor.measure(epoch=1)
    assert_same(reloaded(state), kept)


# ---------------------------------------------------------------------------------------------------- letting go


def held_by_nobody_else(x: Tensor, y: Tensor | None) -> tuple[Monitor, list[weakref.ref[Any]]]:
    """A monitor that has measured, and what it should let go of, also where functions of the user's hold it."""
    model, samples = TinyCNN(), Probe(x.clone(), y)

    def forward(network: nn.Module, inputs: Tensor) -> Any:
        return model(inputs)

    def context() -> Any:
        return torch.autocast("cpu", enabled=model.training and samples.size > 1000)

    options: dict[str, Any] = {"error_signals": True, "redundancy": True, "forward_fn": forward, "context": context}
    monitor = Monitor(model, samples, **options)
    monitor.measure()
    return monitor, [weakref.ref(model), weakref.ref(model.conv1), weakref.ref(samples), weakref.ref(samples.x)]


def test_a_released_monitor_lets_go_of_the_network_and_keeps_what_it_knows(probe: Probe) -> None:
    monitor, held = held_by_nobody_else(probe.x, probe.targets)
    rows, state = list(monitor.history), reloaded(monitor.state_dict())
    chains, pairs = monitor.chains, monitor.markov_pairs
    gc.collect()
    assert all(reference() is not None for reference in held)
    monitor.release()
    gc.collect()
    assert [reference() for reference in held] == [None] * 4
    assert monitor.history == rows
    assert (monitor.chains, monitor.markov_pairs) == (chains, pairs)
    assert pairs == [("conv1", "conv2")]
    assert_same(reloaded(monitor.state_dict()), state)


def test_a_run_can_be_resumed_from_a_released_monitor(probe: Probe) -> None:
    before, count = Monitor(Skip(), probe, "linear"), Counted()
    first = before.measure()
    before.release()
    resumed = Monitor(Skip(), probe, "linear", forward_fn=count)
    resumed.resume(before.state_dict())
    assert resumed.history == first
    resumed.measure(epoch=1)
    assert count.since() == PILOT + 1


# ------------------------------------------------------------------------------------------------------ failures


class Failing:
    """A network that cannot be called at some of the times."""

    def __init__(self, *times: int) -> None:
        self.times, self.calls = times, 0

    def __call__(self, network: nn.Module, inputs: Any) -> Any:
        self.calls += 1
        if self.calls in self.times or not self.times:
            raise RuntimeError(f"no memory for call {self.calls}")
        return network(inputs)


def heard(failures: list[tuple[str, Exception]]) -> list[tuple[str, str]]:
    return [(what, str(error)) for what, error in failures]


def test_a_failure_is_told_and_nothing_is_measured(probe: Probe) -> None:
    failures: list[tuple[str, Exception]] = []
    monitor = Monitor(
        Skip(), probe, "linear", forward_fn=Failing(), error_signals=True, on_failure=lambda *one: failures.append(one)
    )
    assert monitor.measure(epoch=3) == []
    assert heard(failures) == [
        ("calling the network", "no memory for call 1"),
    ]
    assert monitor.measure(epoch=4) == []  # and asked once more
    assert heard(failures)[1:] == [("calling the network", "no memory for call 3")]
    assert all(isinstance(error, RuntimeError) for _, error in failures)
    assert len(monitor.history) == 0


def test_where_chains_cannot_be_found_gaps_are_between_consecutive_layers(probe: Probe) -> None:
    """And nobody looks again: a curve that begins later would be another one."""
    failures: list[tuple[str, Exception]] = []
    monitor = Monitor(
        Skip(), probe, "linear", forward_fn=Failing(PILOT + 1), on_failure=lambda *one: failures.append(one)
    )
    for epoch in range(2):
        assert places(monitor.measure(epoch), "DPI_AMI_XT") == [Pair(*pair) for pair in CONSECUTIVE]
    assert heard(failures) == [("looking for Markov chains among the layers", "no memory for call 3")]
    assert monitor.markov_pairs == []


def test_error_signals_that_fail_cost_the_activations_nothing(model: TinyCNN, probe: Probe) -> None:
    failures: list[tuple[str, Exception]] = []
    signals = ErrorSignals(lambda outputs, targets: outputs)
    monitor = Monitor(model, probe, error_signals=signals, on_failure=lambda *one: failures.append(one))
    rows = monitor.measure(epoch=1)
    assert rows == measure(model, probe, epoch=1)
    assert [about for about, _ in failures] == ["the measurement of error signals after epoch 1"]
    assert str(failures[0][1]).startswith("loss_fn must return a tensor with a single number, got ")


def test_a_measurement_that_fails_once_is_missing_and_the_next_is_not(model: TinyCNN, probe: Probe) -> None:
    failures: list[tuple[str, Exception]] = []
    monitor = Monitor(
        model,
        probe,
        dpi_pairs="consecutive",
        forward_fn=Failing(PILOT + 2),
        on_failure=lambda *one: failures.append(one),
    )
    rows = [monitor.measure(epoch) for epoch in range(3)]
    assert rows[1] == []
    assert [row.value for row in rows[2]] == [row.value for row in rows[0]]
    assert heard(failures) == [("the measurement after epoch 1", "no memory for call 4")]


def test_a_plain_monitor_raises_its_failures(probe: Probe) -> None:
    with pytest.raises(RuntimeError, match="no memory for call 1"):
        Monitor(Skip(), probe, "linear", forward_fn=Failing()).measure()


def test_notices_go_to_whoever_wants_them(probe: Probe) -> None:
    told: list[tuple[str, str]] = []
    monitor = Monitor(Odd(), probe, ["embed", "never"], notice=lambda *one: told.append(one))
    monitor.measure()
    assert told == [("layer 'never' is left out: not called in the probe's forward pass.",) * 2]


def test_facts_are_plain_data(model: TinyCNN, probe: Probe) -> None:
    monitor = Monitor(model, probe, error_signals=True)
    monitor.measure()
    assert json.loads(monitor.history.facts.to_json())["chain"] == ["conv1 → conv2"]


@pytest.mark.parametrize("failure", [RuntimeError, KeyboardInterrupt])
def test_a_search_for_chains_that_failed_is_made_again(failure: type[BaseException]) -> None:
    """Else the gaps of all later measurements would be between consecutive layers, without a word."""
    net = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 2))
    calls: list[int] = []

    def search_fails_once(network: nn.Module, inputs: Tensor) -> Tensor:
        calls.append(len(inputs))
        if len(calls) == PILOT + 1:
            raise failure("only this once")
        return network(inputs)

    monitor = Monitor(net, Probe(torch.randn(16, 4)), "linear", forward_fn=search_fails_once)
    with pytest.raises(failure, match="only this once"):
        monitor.measure()
    assert monitor.state_dict()["chains"] is None
    monitor.measure()
    assert monitor.markov_pairs == [("0", "2")]


def test_the_batch_of_a_probe_is_let_go_of_once_the_network_was_called(model: TinyCNN, probe: Probe) -> None:
    """It is there for suggestions where the network cannot be called."""
    with_batch = replace(probe, origin=Origin("image", "label", batch=(probe.inputs, probe.targets)))
    monitor = Monitor(model, with_batch)
    assert monitor.prepare()
    assert [one.origin for one in monitor.probes.values()] == [Origin("image", "label", None)]
    assert monitor.history.facts.described.startswith("X: image (")
