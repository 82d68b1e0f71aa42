"""One moment of a network: its rows are the public functions' values, and bad numbers do not pass for good ones."""

import itertools
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import pytest
import torch
from properties import assert_bits, assert_leaves_random_state, normal
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef

from lightning_infoplane import (
    Alignment,
    Bandwidth,
    Eigenvalues,
    Fixed,
    InformationPlane,
    Lanczos,
    MedianDistance,
    Row,
    Silverman,
    Solver,
    class_gram,
    feature_map_gram,
    gram,
    mutual_information,
    renyi_entropy,
)
from lightning_infoplane.spectra import Share

N = 30
INPUTS, CLASSES = normal(N, 1, 4, 4), torch.arange(N) % 3
LAYERS = {
    "conv": normal(N, 3, 2, 2, seed=1) + CLASSES[:, None, None, None],
    "sequence": normal(N, 4, 5, seed=2),
    "linear": normal(N, 6, seed=3) + 2 * CLASSES[:, None],
}

Table = dict[tuple[str, str], float]


def table(rows: list[Row]) -> Table:
    """Values by (layer, quantity); no quantity twice."""
    found = {(row.layer, row.quantity): row.value for row in rows}
    assert len(found) == len(rows)
    return found


def measure(
    inputs: Tensor = INPUTS,
    targets: Tensor | None = CLASSES,
    layers: Mapping[str, Tensor] = LAYERS,
    **settings: object,
) -> Table:
    return table(InformationPlane(**settings).measure(inputs, targets, layers))


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


@pytest.mark.parametrize(("information", "gap"), [("I_XT", "DPI_XT"), ("I_TY", "DPI_YT")])
def test_gaps_are_differences_between_a_layer_and_the_next(information: str, gap: str) -> None:
    found = measure()
    for first, second in itertools.pairwise(LAYERS):
        assert_bits(found[f"{first}-to-{second}", gap], found[first, information] - found[second, information])
    assert sum(quantity == gap for _, quantity in found) == len(LAYERS) - 1


def test_gaps_can_be_asked_for_by_pairs() -> None:
    plane = InformationPlane()
    measurement = plane.start(INPUTS, CLASSES, pairs=[("conv", "linear")])
    for name, activation in LAYERS.items():
        measurement.add(name, activation)
    found = table(plane.finish(measurement))
    assert_bits(found["conv-to-linear", "DPI_XT"], found["conv", "I_XT"] - found["linear", "I_XT"])
    assert [layer for layer, quantity in found if quantity == "DPI_XT"] == ["conv-to-linear"]


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
    assert measure(layers={}).keys() == {("", "H_X"), ("", "H_Y"), ("", "log2_n")}


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
    found = measure(normal(n, 4, seed=99), None, layers, alpha=2, chance=0)
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
    assert measure(targets=targets) == pytest.approx(measure(), abs=1e-12)


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


def test_several_integers_a_sample_are_continuous() -> None:
    targets = torch.stack([CLASSES, torch.arange(N)], 1)
    assert_bits(measure(targets=targets)["", "H_Y"], renyi_entropy(gram(targets)), tolerance=1e-6)


def test_a_target_bandwidth_makes_classes_one_hot_vectors_as_in_the_paper() -> None:
    """Σ over λ₁ = ρ + (1-ρ)/C and C-1 times (1-ρ)/C, with N = 100, C = 10 and γ = 5."""
    found = measure(normal(100, 4), torch.arange(100) % 10 + 5, {}, target_bandwidth=Silverman(5.0))
    assert found["", "H_Y"] == pytest.approx(0.555869, abs=1e-6)


def test_a_target_bandwidth_applies_to_continuous_targets_too() -> None:
    targets = normal(N, 2, seed=5)
    assert_bits(
        measure(targets=targets, target_bandwidth=Fixed(0.3))["", "H_Y"], renyi_entropy(gram(targets, Fixed(0.3)))
    )


def test_without_targets_nothing_is_said_about_them() -> None:
    found, whole = measure(targets=None), measure()
    assert {quantity for _, quantity in found} >= {"H_X", "H_T", "I_XT", "I_XT_chance", "DPI_XT"}
    assert not any("Y" in quantity for _, quantity in found)
    assert all(value == whole[key] for key, value in found.items())


# ------------------------------------------------------------------------------------------------- chance level


def test_chance_is_the_information_with_shuffled_samples() -> None:
    """With five samples all shuffles can be tried: one of them explains both chance levels."""
    x, y, t = normal(5, 2), torch.tensor([0, 0, 1, 1, 2]), normal(5, 3, seed=1)
    found = measure(x, y, {"t": t}, chance=1)
    a, b, c = gram(x), class_gram(y), gram(t)
    explained = []
    for order in map(list, itertools.permutations(range(5))):
        shuffled = [mutual_information(g[order][:, order], c) for g in (a, b)]
        told = torch.tensor([found["t", "I_XT_chance"], found["t", "I_TY_chance"]], dtype=torch.float64)
        explained.append(torch.allclose(torch.stack(shuffled), told, rtol=0, atol=1e-9))
    assert any(explained)


def test_chance_of_independent_variables_is_their_information() -> None:
    found = measure(normal(200, 2), None, {"t": normal(200, 2, seed=1)}, chance=20)
    assert found["t", "I_XT"] == pytest.approx(found["t", "I_XT_chance"], abs=0.1)
    assert found["t", "I_XT_p"] > 0.05


def test_chance_is_the_same_for_the_same_seed_and_leaves_the_random_state() -> None:
    with assert_leaves_random_state():
        first = measure(seed=3)
    assert measure(seed=3) == first
    other = measure(seed=4)
    assert other["conv", "I_XT_chance"] != first["conv", "I_XT_chance"]
    assert other["conv", "I_XT"] == first["conv", "I_XT"]


def test_chance_is_the_mean_over_the_shuffles() -> None:
    """The k-th shuffle is the same however many there are, so means over 1 and 2 tell the second."""
    one, two, four = (measure(chance=count)["linear", "I_TY_chance"] for count in (1, 2, 4))
    assert len({one, two, four}) == 3
    ceiling = measure()["linear", "I_TY"]
    assert max(one, two, four) < ceiling


@pytest.mark.parametrize(("chance", "level", "p_value"), [(0, False, False), (19, True, False), (20, True, True)])
def test_what_a_number_of_shuffles_gives(chance: int, level: bool, p_value: bool) -> None:
    found = measure(chance=chance)
    for quantity in ("I_XT", "I_TY"):
        assert (("conv", f"{quantity}_chance") in found) is level
        assert (("conv", f"{quantity}_p") in found) is p_value


def test_a_p_value_counts_the_shuffles_that_tell_as_much() -> None:
    found = measure(chance=39)
    assert found["linear", "I_TY_p"] == pytest.approx(1 / 40)  # none of 39 does


# -------------------------------------------------------------------------------------------------- bad numbers


@pytest.mark.parametrize("shape", [(N, 4), (N, 3, 2, 2)], ids=str)
@pytest.mark.parametrize("alpha", [1.01, 2])
def test_a_constant_layer_has_no_entropy_and_is_no_nan(shape: tuple[int, ...], alpha: float) -> None:
    found = measure(layers={"dead": torch.full(shape, 7.0, dtype=torch.float64), "conv": LAYERS["conv"]}, alpha=alpha)
    for quantity in ("H_T", "I_XT", "I_TY", "I_XT_chance"):
        assert_bits(found["dead", quantity], 0.0)
    assert found["dead", "bandwidth"] == 0
    assert all(math.isfinite(value) for value in found.values())


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_layer_that_is_not_finite_is_left_out_and_named(bad: float) -> None:
    broken = LAYERS["sequence"].clone()
    broken[3, 1, 2] = bad
    with pytest.warns(UserWarning, match="layer 'sequence' has NaN or infinite activations: it is left out this time"):
        found = measure(layers={**LAYERS, "sequence": broken})
    whole = measure()
    assert not any(layer == "sequence" for layer, _ in found)
    for layer in ("", "conv", "linear"):
        of_layer = {key for key in whole if key[0] == layer}
        assert {key for key in found if key[0] == layer} == of_layer
        assert all(found[key] == whole[key] for key in of_layer if "violations" not in key[1])


def test_where_all_layers_are_broken_the_probe_remains() -> None:
    with pytest.warns(UserWarning, match="layer 'a' has NaN"):
        found = measure(layers={"a": torch.full((N, 2), math.nan)})
    assert found.keys() == measure(layers={}).keys()


@pytest.mark.parametrize(
    ("inputs", "targets", "message"),
    [
        (torch.full((N, 2), math.nan), CLASSES, "the inputs of the probe hold NaN or infinite values"),
        (INPUTS, torch.full((N,), math.inf), "the targets of the probe hold NaN or infinite values"),
        (INPUTS[:1], CLASSES[:1], r"at least 2 samples, got inputs of shape \(1, 1, 4, 4\)"),
        (torch.tensor(1.0), None, r"at least 2 samples, got inputs of shape \(\)"),
        (INPUTS, CLASSES[:-1], "got 30 inputs but 29 targets"),
        (INPUTS, torch.tensor(1), "got 30 inputs but a single number as targets"),
    ],
)
def test_a_probe_that_cannot_be_measured_gets_a_sentence(inputs: Tensor, targets: Tensor | None, message: str) -> None:
    plane = InformationPlane()
    with pytest.raises(ValueError, match=message):
        plane.measure(inputs, targets, LAYERS)
    assert plane.history == []


@pytest.mark.parametrize("activation", [torch.ones(N - 1, 2), torch.ones(2, N), torch.tensor(1.0)])
def test_an_activation_of_another_length_is_refused_by_name(activation: Tensor) -> None:
    with pytest.raises(ValueError, match=r"conv9: expected one value a sample, \(30, \.\.\.\), got \("):
        InformationPlane().start(INPUTS, CLASSES).add("conv9", activation)


def test_alignment_without_targets_says_what_it_needs() -> None:
    with pytest.raises(ValueError, match="Alignment\\(\\) chooses the bandwidth by the targets, and none were given"):
        measure(targets=None, bandwidth=Alignment())


# ------------------------------------------------------------------------------------------------ memory, processes


@pytest.mark.parametrize("rule", [MedianDistance(), Fixed(1.0), Alignment(), MedianDistance(freeze=True)], ids=repr)
@pytest.mark.parametrize("shape", [(N, 3, 2, 2), (N, 12)], ids=str)
def test_activations_are_not_kept_alive(shape: tuple[int, ...], rule: Bandwidth) -> None:
    measurement = InformationPlane(bandwidth=rule).start(INPUTS, CLASSES)
    activation = normal(*shape).requires_grad_()
    storage = StorageWeakRef(activation.untyped_storage())
    measurement.add("layer", activation)
    del activation
    assert storage.expired()


def shared_out(world: int, layers: Mapping[str, Tensor], **settings: object) -> list[Table]:
    """The tables of all ranks. Each does its part twice: first to hand it over, then with everybody's sum."""
    handed_over: list[list[Tensor]] = [[] for _ in range(world)]

    def run(rank: int, total: Callable[[Tensor], Tensor]) -> Table:
        plane = InformationPlane(**settings)
        measurement = plane.start(INPUTS, CLASSES)
        for name, activation in layers.items():
            measurement.add(name, activation)
        return table(plane.finish(measurement, share=Share(rank, world, total=total)))

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
    plane.finish(measurement, share=Share(first=first))
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
        measure(solver=Fails((0,)), chance=0)


def test_layers_without_a_spectrum_are_left_out() -> None:
    with pytest.warns(
        UserWarning, match="layer '(conv|sequence|linear)' is left out this time: its Gram matrix has no"
    ):
        found = measure(solver=Fails((1,)), chance=0)  # all layers together, the input was the first
    assert {layer for layer, _ in found} == {""}
    assert found["", "H_X"] > 0


def test_a_layer_that_float32_does_not_resolve_costs_the_others_nothing() -> None:
    """Two clusters far apart, each narrower than rounding of the distance between them, at a bandwidth to match."""
    clusters = (torch.where(CLASSES > 0, 1e4, -1e4)[:, None] + normal(N, 40, seed=8)).float()
    layers = {**LAYERS, "clusters": clusters}
    with pytest.warns(UserWarning, match="layer 'clusters' is left out this time: its Gram matrix has no spectrum"):
        found = measure(layers=layers, bandwidth=Fixed(1.0))
    assert found == measure(bandwidth=Fixed(1.0))


def test_a_failure_of_another_process_is_heard_here() -> None:
    def broken(part: Tensor) -> Tensor:
        return part + 1  # the last of the numbers counts the failures

    plane = InformationPlane()
    measurement = plane.start(INPUTS, CLASSES)
    measurement.add("conv", LAYERS["conv"])
    with pytest.raises(RuntimeError, match="the entropies could not be computed: see the other"):
        plane.finish(measurement, share=Share(0, 2, total=broken))
    assert plane.history == []


# ---------------------------------------------------------------------------------------------- standard errors


def test_an_exact_solver_has_no_error_to_show() -> None:
    assert not any("stderr" in quantity for _, quantity in measure())


def test_a_stochastic_solver_shows_its_error_and_keeps_to_it() -> None:
    exact, found = measure(), measure(solver=Lanczos(steps=20, probes=60))
    for name in LAYERS:
        for quantity in ("H_T", "I_XT", "I_TY"):
            error = found[name, f"{quantity}_stderr"]
            assert 0 < error < 0.5
            assert abs(found[name, quantity] - exact[name, quantity]) < 4 * error


def test_the_jackknife_gives_every_quantity_an_error_that_shrinks_with_the_probe() -> None:
    def errors(n: int) -> Table:
        x = normal(n, 2)
        return measure(x, None, {"t": x + normal(n, 2, seed=1)}, jackknife=8)

    small, large = errors(40), errors(640)
    assert 0 < large["t", "I_XT_stderr"] < small["t", "I_XT_stderr"] < 1


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"alpha": 0}, "alpha=0: expected a positive number"),
        ({"chance": -1}, "chance=-1: expected 0"),
        ({"jackknife": 1}, r"jackknife=1: expected 0 \(off\), or 2 groups"),
        ({"jackknife": -3}, r"jackknife=-3: expected 0 \(off\), or 2 groups"),
    ],
)
def test_impossible_settings_are_refused_before_any_measurement(settings: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        InformationPlane(**settings)
