"""One moment of a network: its rows are the public functions' values, and bad numbers do not pass for good ones."""

import itertools
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from measurement.moments import THREE, Table, between, gaps, measured, refuse, table
from measurement.moments import measure as measure_moment
from properties import FLOAT32_BITS, assert_bits, assert_leaves_random_state, normal
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef

from lightning_infoplane import (
    Alignment,
    Bandwidth,
    Eigenvalues,
    Estimator,
    Fixed,
    InformationPlane,
    Jackknife,
    Lanczos,
    MedianDistance,
    Redundancy,
    Silverman,
    Solver,
    class_gram,
    debiased_cka,
    feature_map_gram,
    gram,
    mutual_information,
    renyi_entropy,
)
from lightning_infoplane.estimator.permutations import independence_p_value
from lightning_infoplane.measurement.listener import Listener
from lightning_infoplane.measurement.quantities import by_key
from lightning_infoplane.measurement.quantity import Of, Subject
from lightning_infoplane.measurement.ranks import Ranks
from lightning_infoplane.measurement.rows import Pair

N = 30
INPUTS, CLASSES = normal(N, 1, 4, 4), torch.arange(N) % 3
LAYERS = {
    "conv": normal(N, 3, 2, 2, seed=1) + CLASSES[:, None, None, None],
    "sequence": normal(N, 4, 5, seed=2),
    "linear": normal(N, 6, seed=3) + 2 * CLASSES[:, None],
}


def measure(
    inputs: Tensor = INPUTS,
    targets: Tensor | None = CLASSES,
    layers: Mapping[str, Tensor] = LAYERS,
    **options: Any,
) -> Table:
    return measure_moment(inputs, targets, layers, **options)


def gram_of(activation: Tensor, rule: Bandwidth) -> Tensor:
    return gram(activation, rule) if activation.ndim == 2 else feature_map_gram(activation, rule)


# ------------------------------------------------------------------------------------------------------- values


@pytest.mark.parametrize("rule", [MedianDistance(), Fixed(2.0), Silverman()], ids=repr)
@pytest.mark.parametrize("alpha", [1, 1.01, 2, math.inf])
def test_rows_are_the_values_of_the_public_functions(alpha: float, rule: Bandwidth) -> None:
    found = measure(alpha=alpha, bandwidth=rule)
    x, y = feature_map_gram(INPUTS, rule), class_gram(CLASSES)
    assert_bits(found["", "H_X"], renyi_entropy(x, alpha))
    assert_bits(found["", "H_Y"], renyi_entropy(y, alpha))
    assert_bits(found["", "log2_n"], math.log2(N))
    for name, activation in LAYERS.items():
        t = gram_of(activation, rule)
        assert_bits(found[name, "H_T"], renyi_entropy(t, alpha))
        assert_bits(found[name, "I_XT"], mutual_information(x, t, alpha))
        assert_bits(found[name, "I_TY"], mutual_information(t, y, alpha))
        assert_bits(found[name, "effective_rank"], renyi_entropy(t, alpha).exp2())


def test_dependence_is_that_of_the_public_functions() -> None:
    found = measure()
    x, y = feature_map_gram(INPUTS), class_gram(CLASSES)
    for name, activation in LAYERS.items():
        t = gram_of(activation, MedianDistance())
        for information, alignment, other in (("AMI_XT", "CKA_XT", x), ("AMI_TY", "CKA_TY", y)):
            assert_bits(found[name, alignment], debiased_cka(t, other))
            assert_bits(found[name, f"{information}_p"], independence_p_value(t, other))


@pytest.mark.parametrize(
    ("information", "gap"),
    [("AMI_XT", "DPI_AMI_XT"), ("AMI_TY", "DPI_AMI_TY"), ("I_XT", "DPI_XT"), ("I_TY", "DPI_TY")],
)
def test_gaps_are_differences_between_a_layer_and_the_next(information: str, gap: str) -> None:
    found = measure()
    for first, second in itertools.pairwise(LAYERS):
        assert_bits(found[Pair(first, second), gap], found[first, information] - found[second, information])
    assert sum(quantity == gap for _, quantity in found) == len(LAYERS) - 1


def test_gaps_can_be_asked_for_by_pairs() -> None:
    found = measure(pairs=[("conv", "linear")])
    pair = Pair("conv", "linear")
    assert_bits(found[pair, "DPI_XT"], found["conv", "I_XT"] - found["linear", "I_XT"])
    assert [place for place, quantity in found if quantity == "DPI_XT"] == [pair]


@pytest.mark.parametrize("sigma", [0.5, 3.0])
def test_the_bandwidth_row_is_the_sigma_used(sigma: float) -> None:
    found = measure(bandwidth=Fixed(sigma))
    assert {name: found[name, "bandwidth"] for name in LAYERS} == pytest.approx(dict.fromkeys(LAYERS, sigma))


def test_the_bandwidth_row_is_the_geometric_mean_over_maps_that_vary() -> None:
    maps = torch.stack([torch.tensor([0.0, 1.0]), torch.tensor([0.0, 4.0]), torch.zeros(2)], 1)[..., None]
    found = measure(maps[:, 0], None, {"maps": maps}, bandwidth=MedianDistance())
    assert found["maps", "bandwidth"] == pytest.approx(math.sqrt(2) * math.sqrt(1 * 4))


def test_layers_keep_the_order_in_which_they_were_given() -> None:
    assert [layer for layer, quantity in measure() if quantity == "H_T"] == list(LAYERS)


def test_a_measurement_without_layers_is_about_the_probe() -> None:
    of_the_probe = {"H_X", "H_Y", "log2_n", "E_XX", "E_YY"}
    assert measure(layers={}).keys() == {("", quantity) for quantity in of_the_probe}
    assert measure(layers={}, shuffles=0).keys() == {("", "H_X"), ("", "H_Y"), ("", "log2_n")}


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32], ids=str)
def test_lower_precision_changes_the_bits_little(dtype: torch.dtype) -> None:
    exact = measure()
    found = measure(INPUTS.to(dtype), CLASSES, {name: values.to(dtype) for name, values in LAYERS.items()})
    for key in exact:
        assert found[key] == pytest.approx(exact[key], abs=1e-4 if dtype == torch.float32 else 0.05), key


def test_many_layers_are_evaluated_in_batches_of_the_same_value() -> None:
    """Enough samples that the spectra of one measurement do not fit into one call."""
    n = 512
    layers = {str(k): normal(n, 3, seed=k) for k in range(10)}
    found = measure(normal(n, 4, seed=99), None, layers, alpha=2, shuffles=0, standard_errors=None)
    for name, activation in layers.items():
        assert_bits(found[name, "H_T"], renyi_entropy(gram(activation), 2))


# ------------------------------------------------------------------------------------------------------ targets


@pytest.mark.parametrize(
    "targets",
    [
        CLASSES,
        CLASSES.unsqueeze(1),
        CLASSES.to(torch.uint8),
        CLASSES.to(torch.int16),
        10 - 7 * CLASSES,
    ],
    ids=lambda targets: f"{tuple(targets.shape)} {targets.dtype}",
)
def test_integer_targets_are_classes_however_they_are_written(targets: Tensor) -> None:
    assert measure(targets=targets) == pytest.approx(measure(), abs=1e-5)  # blocks of classes in another order


def test_boolean_targets_are_two_classes() -> None:
    found = measure(targets=CLASSES == 0)
    assert_bits(found["conv", "I_TY"], mutual_information(feature_map_gram(LAYERS["conv"]), class_gram(CLASSES == 0)))


@pytest.mark.parametrize(
    "targets",
    [normal(N, seed=5), normal(N, 1, seed=5), normal(N, 3, seed=5), normal(N, 2, 3, seed=5)],
    ids=lambda targets: str(tuple(targets.shape)),
)
def test_continuous_targets_are_one_gaussian_variable(targets: Tensor) -> None:
    found = measure(targets=targets)
    y = gram(targets.reshape(N, -1))
    assert_bits(found["", "H_Y"], renyi_entropy(y))
    for name, activation in LAYERS.items():
        assert_bits(found[name, "I_TY"], mutual_information(gram_of(activation, MedianDistance()), y))


def test_several_integers_a_sample_are_classes_in_several_places() -> None:
    """Their numbers have no distances: it counts in how many places two samples differ."""
    targets = torch.stack([CLASSES, torch.arange(N) % 5], 1)
    vectors = torch.nn.functional.one_hot(targets).flatten(1).float()
    assert_bits(measure(targets=targets)["", "H_Y"], renyi_entropy(gram(vectors)), tolerance=1e-6)
    floats = measure(targets=targets.float())["", "H_Y"]
    assert_bits(floats, renyi_entropy(gram(targets.float())), tolerance=1e-6)


def test_a_target_bandwidth_makes_classes_one_hot_vectors_as_in_the_paper() -> None:
    """Σ over λ₁ = ρ + (1-ρ)/C and C-1 times (1-ρ)/C, with N = 100, C = 10 and γ = 5."""
    targets = torch.arange(100) % 10 + 5
    found = measure(normal(100, 4), targets, {}, target_bandwidth=Silverman(5.0), standard_errors=None)
    assert found["", "H_Y"] == pytest.approx(0.555869, abs=1e-6)


def test_a_target_bandwidth_applies_to_continuous_targets_too() -> None:
    targets = normal(N, 2, seed=5)
    assert_bits(
        measure(targets=targets, target_bandwidth=Fixed(0.3))["", "H_Y"], renyi_entropy(gram(targets, Fixed(0.3)))
    )


def test_without_targets_nothing_is_said_about_them() -> None:
    found, whole = measure(targets=None), measure()
    assert {quantity for _, quantity in found} >= {"H_X", "H_T", "AMI_XT", "AMI_XT_p", "I_XT", "I_XT_chance", "DPI_XT"}
    assert not any("Y" in quantity for _, quantity in found)
    assert all(value == whole[key] for key, value in found.items())


# ------------------------------------------------------------------------------------------------- chance level


def test_chance_is_the_information_with_shuffled_samples() -> None:
    """With five samples all shuffles can be tried: one of them explains both chance levels, and moves every sample."""
    x, y, t = normal(5, 2), torch.tensor([0, 0, 1, 1, 2]), normal(5, 3, seed=1)
    found = measure(x, y, {"t": t}, shuffles=1)
    a, b, c = gram(x), class_gram(y), gram(t)
    explained = []
    for order in map(list, itertools.permutations(range(5))):
        shuffled = [mutual_information(g[order][:, order], c) for g in (a, b)]
        told = torch.tensor([found["t", "I_XT_chance"], found["t", "I_TY_chance"]], dtype=torch.float64)
        if torch.allclose(torch.stack(shuffled), told, rtol=0, atol=1e-5):  # spectra of shuffled joints are float32
            explained.append(order)
    assert explained
    assert all(order[k] != k for order in explained for k in range(5))


def test_chance_of_independent_variables_is_their_information() -> None:
    layers = {"t": normal(200, 2, seed=1), "u": normal(200, 2, seed=2)}
    found = measure(normal(200, 2), None, layers, shuffles=20)
    for layer in layers:
        assert found[layer, "I_XT"] == pytest.approx(found[layer, "I_XT_chance"], abs=0.1)
        assert found[layer, "AMI_XT_p"] > 0.05


def test_chance_is_the_same_for_the_same_seed_and_leaves_the_random_state() -> None:
    with assert_leaves_random_state():
        first = measure(seed=3)
    assert measure(seed=3) == first
    other = measure(seed=4)
    assert other["conv", "I_XT_chance"] != first["conv", "I_XT_chance"]
    assert other["conv", "I_XT"] == first["conv", "I_XT"]
    assert other["conv", "AMI_XT_p"] == first["conv", "AMI_XT_p"]  # of all shuffles, and so of no seed


def test_chance_is_the_mean_over_the_shuffles() -> None:
    """The k-th shuffle is the same however many there are, so means over 1 and 2 tell the second."""
    one, two, four = (measure(shuffles=count)["linear", "I_TY_chance"] for count in (1, 2, 4))
    assert len({one, two, four}) == 3
    ceiling = measure()["linear", "I_TY"]
    assert max(one, two, four) < ceiling


@pytest.mark.parametrize(("shuffles", "level", "adjusted"), [(0, False, False), (1, True, False), (2, True, True)])
def test_what_a_number_of_shuffles_gives(shuffles: int, level: bool, adjusted: bool) -> None:
    found = measure(shuffles=shuffles)
    for pair in ("XT", "TY"):
        assert (("conv", f"I_{pair}_chance") in found) is level
        assert (("conv", f"AMI_{pair}") in found) is adjusted
        assert (("conv", f"AMI_{pair}_p") in found) is adjusted


# -------------------------------------------------------------------------------------------------- bad numbers


@pytest.mark.parametrize("shape", [(N, 4), (N, 3, 2, 2)], ids=str)
@pytest.mark.parametrize("alpha", [1.01, 2])
def test_a_constant_layer_has_no_entropy_and_is_no_nan(shape: tuple[int, ...], alpha: float) -> None:
    found = measure(layers={"dead": torch.full(shape, 7.0, dtype=torch.float64), "conv": LAYERS["conv"]}, alpha=alpha)
    for quantity in ("H_T", "I_XT", "I_TY"):
        assert_bits(found["dead", quantity], 0.0)
    for quantity in ("I_XT_chance", "I_TY_chance", "E_TT"):
        assert_bits(found["dead", quantity], 0.0, FLOAT32_BITS)
    assert found["dead", "bandwidth"] == 0
    assert not [one for layer, one in found if layer == "dead" and one.startswith(("AMI", "CKA", "outlier"))]
    assert all(math.isfinite(value) for value in found.values())


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_layer_that_is_not_finite_is_left_out_and_named(bad: float) -> None:
    broken = LAYERS["sequence"].clone()
    broken[3, 1, 2] = bad
    told: list[str] = []
    found, whole = measure(layers={**LAYERS, "sequence": broken}, told=told), measure()
    assert told == ["layer 'sequence' is left out: NaN or infinite values."]
    assert not any(layer == "sequence" for layer, _ in found)
    for layer in ("", "conv", "linear"):
        of_layer = {key for key in whole if key[0] == layer}
        assert {key for key in found if key[0] == layer} == of_layer
        assert all(found[key] == whole[key] for key in of_layer)


def test_where_all_layers_are_broken_the_probe_remains() -> None:
    told: list[str] = []
    found = measure(layers={"a": torch.full((N, 2), math.nan)}, told=told)
    assert told == ["layer 'a' is left out: NaN or infinite values."]
    assert found.keys() == measure(layers={}).keys()


def test_alignment_without_targets_says_what_it_needs() -> None:
    with pytest.raises(ValueError, match="Alignment\\(\\) chooses the bandwidth by the targets, and none were given"):
        measure(targets=None, bandwidth=Alignment())


# ------------------------------------------------------------------------------------------------ memory, processes


@pytest.mark.parametrize("rule", [MedianDistance(), Fixed(1.0), Alignment(), MedianDistance(freeze=True)], ids=repr)
@pytest.mark.parametrize("shape", [(N, 3, 2, 2), (N, 12)], ids=str)
def test_activations_are_not_kept_alive(shape: tuple[int, ...], rule: Bandwidth) -> None:
    measurement = InformationPlane(Estimator(bandwidth=rule)).start(INPUTS, CLASSES)
    activation = normal(*shape).requires_grad_()
    storage = StorageWeakRef(activation.untyped_storage())
    measurement.add("layer", activation)
    del activation
    assert storage.expired()


def shared_out(world: int, layers: Mapping[str, Tensor], **fields: Any) -> list[Table]:
    """The tables of all ranks. Each does its part twice: first to hand it over, then with everybody's sum."""
    handed_over: list[list[Tensor]] = [[] for _ in range(world)]

    def run(rank: int, total: Callable[[Tensor], Tensor]) -> Table:
        plane = InformationPlane(Estimator(**fields))
        measurement = plane.start(INPUTS, CLASSES)
        for name, activation in layers.items():
            measurement.add(name, activation)
        return table(plane.finish(measurement, ranks=Ranks(rank, world, total=total)))

    for rank in range(world):
        mine = handed_over[rank]

        def hand_over(part: Tensor, mine: list[Tensor] = mine) -> Tensor:
            mine.append(part.clone())
            return part

        run(rank, hand_over)

    def everybody() -> Callable[[Tensor], Tensor]:
        calls = iter(zip(*handed_over, strict=True))
        return lambda part: torch.stack(next(calls)).sum(0)

    return [run(rank, everybody()) for rank in range(world)]


@pytest.mark.parametrize("world", [2, 3, 5])  # five: two ranks have nothing to do
def test_processes_that_share_the_work_find_what_one_finds(world: int) -> None:
    alone = measure()
    for found in shared_out(world, LAYERS):
        assert found.keys() == alone.keys()
        for key in alone:
            assert_bits(found[key], alone[key])


def test_every_process_takes_the_matrices_of_the_first() -> None:
    asked: list[tuple[int, ...]] = []

    def first(tensor: Tensor) -> Tensor:
        asked.append(tuple(tensor.shape))
        return tensor

    plane = InformationPlane()
    measurement = plane.start(INPUTS, normal(N, seed=4))
    measurement.add("conv", LAYERS["conv"])
    plane.finish(measurement, ranks=Ranks(first=first))
    assert asked.count((N, N)) == 3  # X, Y and T
    assert asked.count((3,)) == 1  # the bandwidths of three maps


@dataclass(frozen=True)
class Fails(Solver):
    """NaN for matrices of which it is told, by their place among those it sees."""

    calls: tuple[int, ...]
    seen: list[int] = field(default_factory=list, compare=False)

    def __call__(self, gram: Tensor, alpha: float) -> Tensor:
        self.seen.append(len(self.seen))
        bits = Eigenvalues()(gram, alpha)
        return bits * torch.nan if self.seen[-1] in self.calls else bits


def test_an_input_without_a_spectrum_ends_in_a_sentence() -> None:
    with pytest.raises(RuntimeError, match="could not be computed: the spectrum of X is not that of a Gram matrix"):
        measure(solver=Fails((0,)), shuffles=0)


NO_SPECTRUM = (
    "layer {!r} is left out: a Gram matrix without a spectrum, which float32 does not resolve at this bandwidth, or "
    "the solver failed; MedianDistance(scale=2) is a larger bandwidth."
)


def test_layers_without_a_spectrum_are_left_out() -> None:
    told: list[str] = []
    found = measure(solver=Fails((1,)), shuffles=0, told=told)  # all layers together, the input was the first
    assert told == [NO_SPECTRUM.format(layer) for layer in LAYERS]
    assert {place for place, _ in found} == {""}
    assert found["", "H_X"] > 0


def test_a_layer_that_float32_does_not_resolve_costs_the_others_nothing() -> None:
    """Two clusters far apart, each narrower than rounding of the distance between them, at a bandwidth to match."""
    clusters = (torch.where(CLASSES > 0, 1e4, -1e4)[:, None] + normal(N, 40, seed=8)).float()
    told: list[str] = []
    found = measure(layers={**LAYERS, "clusters": clusters}, bandwidth=Fixed(1.0), told=told)
    assert told == [NO_SPECTRUM.format("clusters")]
    assert found == measure(bandwidth=Fixed(1.0))


def test_what_is_said_of_a_layer_has_a_topic_of_its_own() -> None:
    """So that each thing is told once: a layer that broke in one way may break in another."""
    about: list[str] = []
    plane = InformationPlane(Estimator(solver=Fails((1,)), shuffles=0), Redundancy(map_pairs=1, samples=16))
    listener = Listener(notice=lambda topic, message: about.append(topic))
    measurement = plane.start(INPUTS, CLASSES, listener=listener)
    measurement.add("linear", LAYERS["linear"])
    measurement.add("broken", LAYERS["linear"] * math.nan)
    plane.finish(measurement)
    assert about[:2] == ["pairs of linear, broken", "broken: NaN or infinite values"]
    assert about[2].startswith("linear: a Gram matrix without a spectrum")
    assert len(about) == 3


def test_a_failure_of_another_process_is_heard_here() -> None:
    def broken(part: Tensor) -> Tensor:
        return part + (part.numel() > 1)  # the last of many numbers counts the failures

    plane = InformationPlane()
    measurement = plane.start(INPUTS, CLASSES)
    measurement.add("conv", LAYERS["conv"])
    with pytest.raises(RuntimeError, match="the entropies could not be computed: see the other"):
        plane.finish(measurement, ranks=Ranks(0, 2, total=broken))
    assert plane.history == []


# ---------------------------------------------------------------------------------------------- standard errors


def test_an_exact_solver_has_no_error_to_show_where_the_probe_is_not_divided() -> None:
    assert not any("stderr" in quantity for _, quantity in measure())


def test_a_stochastic_solver_shows_its_error_and_keeps_to_it() -> None:
    exact, found = measure(), measure(solver=Lanczos(steps=20, vectors=60))
    for name in LAYERS:
        for quantity in ("H_T", "I_XT", "I_TY", "AMI_TY"):
            if (name, quantity) in found:  # noise of the solver may hide what a layer shares with itself
                error = found[name, f"{quantity}_stderr"]
                assert 0 < error < 0.5
                assert abs(found[name, quantity] - exact[name, quantity]) < 4 * error
    assert ("linear", "AMI_TY") in found


def test_an_error_of_the_solver_alone_is_no_evidence_of_the_probe() -> None:
    found = measure(solver=Lanczos(steps=20, vectors=60))
    assert found[Pair("conv", "sequence"), "DPI_XT_stderr"] > 0
    assert not [quantity for _, quantity in found if quantity.startswith("DPI") and quantity.endswith("_p")]
    assert not {("", "DPI_increases"), ("", "DPI_decreases")} & set(found)


# ----------------------------------------------------------------------------------------------- chosen pairs


def test_gaps_are_between_the_layers_asked_for() -> None:
    found = measured(THREE, [("a", "c"), ("c", "b")], shuffles=2)
    assert list(gaps(found)) == list(gaps(found, "DPI_TY")) == between("ac", "cb")
    for quantity, shared in (("DPI_XT", "I_XT"), ("DPI_TY", "I_TY"), ("DPI_AMI_XT", "AMI_XT")):
        for first, second in ("ac", "cb"):
            gap = found[first, shared] - found[second, shared]
            assert gaps(found, quantity)[Pair(first, second)] == pytest.approx(gap, abs=1e-12)


def test_where_none_were_asked_for_each_layer_is_compared_with_the_next() -> None:
    assert list(gaps(measured(THREE))) == between("ab", "bc")


def test_where_no_pair_means_anything_there_is_no_gap_and_no_count() -> None:
    found = measured(THREE, [])
    assert not [quantity for _, quantity in found if quantity.startswith("DPI")]
    assert ("a", "I_XT") in found


def test_pairs_with_layers_that_did_not_run_are_left_out() -> None:
    assert list(gaps(measured(THREE, [("a", "absent"), ("a", "b")]))) == between("ab")


def test_pairs_with_layers_that_are_not_finite_are_left_out() -> None:
    told: list[str] = []
    found = measured(THREE | {"b": THREE["b"].log()}, [("a", "b"), ("a", "c")], told=told)
    assert told == ["layer 'b' is left out: NaN or infinite values."]
    assert list(gaps(found)) == between("ac")


def test_every_number_is_of_the_kind_of_place_its_quantity_belongs_to() -> None:
    for place, key in measure(standard_errors=Jackknife(3)):
        quantity = by_key(key)
        assert quantity.of is (Of.PAIR if isinstance(place, Pair) else Of.LAYER if place else Of.PROBE), key
        assert quantity.subject is Subject.ACTIVATIONS


# ------------------------------------------------------------------------------------------------ error signals


def errors(signals: Mapping[str, Tensor], pairs: list[tuple[str, str]] | None = None, **fields: Any) -> Table:
    plane = InformationPlane(Estimator(**{"shuffles": 0} | fields), Redundancy(map_pairs=1, samples=16))
    measurement = plane.start_error_signals(signals, pairs=pairs, listener=Listener(refuse))
    return table(plane.finish(measurement))


def test_error_signals_are_compared_with_the_last_one_alone() -> None:
    found = errors(THREE, [("b", "a")])
    last = gram(THREE["c"])
    assert_bits(found["", "H_error_last"], renyi_entropy(last))
    for layer in "ab":
        assert_bits(found[layer, "I_error"], mutual_information(last, gram(THREE[layer])))
        assert_bits(found[layer, "H_error"], renyi_entropy(gram(THREE[layer])))
        assert found[layer, "bandwidth_error"] == pytest.approx(float(MedianDistance()(THREE[layer].unsqueeze(1))))
    assert list(gaps(found, "DPI_error")) == between("ba")
    assert_bits(found[Pair("b", "a"), "DPI_error"], found["b", "I_error"] - found["a", "I_error"])
    assert {place for place, _ in found} == {"", "a", "b", Pair("b", "a")}  # the last one is what it is compared with


def test_of_error_signals_nothing_is_measured_that_belongs_to_activations() -> None:
    """No H_X, no number of samples, no feature maps: those are known already."""
    signals = {name: normal(24, 3, 2, 2, seed=k) for k, name in enumerate("abc")}
    found = errors(signals, shuffles=2, standard_errors=Jackknife(4))
    tested = ("AMI_error", "I_error", "H_error", "DPI_AMI_error", "DPI_error")
    assert {quantity for _, quantity in found} == {
        *("I_error_chance", "AMI_error_p", "E_error", "bandwidth_error", "H_error_last"),
        *tested,
        *(f"{quantity}_stderr" for quantity in tested),
        *("DPI_AMI_error_p", "DPI_error_p", "DPI_error_increases", "DPI_error_decreases"),
    }
    assert all(by_key(quantity).subject is Subject.ERROR_SIGNALS for _, quantity in found)


def test_error_signals_have_standard_errors() -> None:
    found = errors(THREE, [("b", "a")], standard_errors=Jackknife(4), shuffles=2)
    for quantity in ("I_error_stderr", "H_error_stderr", "AMI_error_stderr"):
        assert found["a", quantity] > 0
    assert found[Pair("b", "a"), "DPI_error_stderr"] > 0
    assert found["", "DPI_error_increases"] + found["", "DPI_error_decreases"] in (0, 1)


def test_an_error_signal_that_is_a_copy_of_the_last_one_has_all_of_it() -> None:
    last = normal(128, 4)
    found = errors({"noise": normal(128, 4, seed=1), "copy": 0.01 * last, "last": last}, shuffles=2)
    assert found["copy", "AMI_error"] == pytest.approx(1, abs=1e-3)
    assert abs(found["noise", "AMI_error"]) < 0.1
    assert found[Pair("noise", "copy"), "DPI_AMI_error"] < -0.9
    assert (found["", "DPI_error_increases"], found["", "DPI_error_decreases"]) == (1, 0)


def test_error_signals_have_no_targets_that_a_bandwidth_could_follow() -> None:
    assert errors(THREE, bandwidth=Alignment()) == errors(THREE)


@pytest.mark.parametrize(("signals", "only"), [({"a": THREE["a"]}, "a"), ({}, "")])
def test_one_error_signal_is_compared_with_nothing(signals: dict[str, Tensor], only: str) -> None:
    message = f"error signals are compared with each other, and there is only {only}\\."
    with pytest.raises(ValueError, match=message):
        errors(signals)


def test_a_last_error_signal_that_is_not_finite_is_named() -> None:
    with pytest.raises(ValueError, match="the error signal of layer 'c' has NaN or infinite values"):
        errors(THREE | {"c": THREE["c"] / 0})


# ------------------------------------------------------------------------------------------- increases and decreases


def steps(*noise: float, n: int = 256) -> dict[str, Tensor]:
    """Layers that are the input with so much noise of their own."""
    return {f"{k}": normal(n, 3) + level * normal(n, 3, seed=7 + k) for k, level in enumerate(noise)}


def counted(layers: dict[str, Tensor], **options: Any) -> tuple[float, float]:
    """Increases and decreases of adjusted information about the input, which the helper has no hand in."""
    found = measured(layers, **{"shuffles": 2} | options)
    return found["", "DPI_increases"], found["", "DPI_decreases"]


HOWS = pytest.mark.parametrize("how", ["blocks", Jackknife(8)], ids=["blocks", "jackknife"])


@HOWS
def test_information_that_rises_or_falls_by_far_is_counted(how: Any) -> None:
    assert counted(steps(0, 0.5, 4), standard_errors=how, alpha=2) == (0, 2)
    assert counted(steps(4, 0.5, 0), standard_errors=how, alpha=2) == (2, 0)
    assert counted(steps(0, 4, 0.5), standard_errors=how, alpha=2) == (1, 1)


@pytest.mark.parametrize("options", [{"standard_errors": None}, {"shuffles": 1}, {"shuffles": 0}], ids=str)
def test_without_evidence_nothing_is_counted(options: dict[str, Any]) -> None:
    found = measured(steps(0, 4, n=64), **{"shuffles": 2} | options)
    assert not [quantity for _, quantity in found if quantity in ("DPI_increases", "DPI_decreases")]


def test_gaps_that_are_counted_are_those_of_the_pairs_asked_for() -> None:
    layers = steps(0, 0.5, 4)
    assert counted(layers, pairs=[("2", "0")]) == (1, 0)
    assert counted(layers, pairs=[("2", "0"), ("0", "2")]) == (1, 1)


def test_between_layers_that_know_the_same_a_change_is_rarely_counted() -> None:
    """Two layers with as much noise of their own."""
    x, n = normal(64, 3), 60
    pairs = [{name: x + normal(64, 3, seed=2 * k + i + 1) for i, name in enumerate("ab")} for k in range(n)]
    changed = sum(sum(counted_of(x, layers)) for layers in pairs)
    assert changed <= 0.15 * n


def counted_of(x: Tensor, layers: dict[str, Tensor]) -> tuple[float, float]:
    found = measure_moment(x, None, layers, alpha=2)
    return found["", "DPI_increases"], found["", "DPI_decreases"]


@HOWS
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-6), (torch.float32, 1e-4)])
def test_rounding_is_no_change(dtype: torch.dtype, tolerance: float, how: Any) -> None:
    """A layer that only rearranges, mirrors, turns or scales its input keeps every distance, and all information."""
    base, rotation = normal(64, 6, seed=3, dtype=dtype), torch.linalg.qr(normal(6, 6)).Q.to(dtype)
    same = [base, base.flip(1), -base, 3 * base, base @ rotation, 0.1 * base + 1]
    layers = {f"{k}": layer for k, layer in enumerate(same)}
    forth = measured(layers, standard_errors=how, shuffles=2)
    assert max(map(abs, gaps(forth).values())) < tolerance
    assert max(map(abs, gaps(forth, "DPI_AMI_XT").values())) < 1e-3
    assert (forth["", "DPI_increases"], forth["", "DPI_decreases"]) == (0, 0)
    assert counted(dict(reversed(layers.items())), standard_errors=how) == (0, 0)
