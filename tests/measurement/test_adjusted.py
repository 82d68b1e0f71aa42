"""Adjusted information end to end: one for copies, zero for noise of any dimension, and no value if nothing is seen."""

import math
from collections.abc import Callable, Mapping
from typing import Any

import pytest
import torch
from measurement.moments import Table, measure
from properties import assert_bits, normal
from torch import Tensor

from lightning_infoplane import (
    Estimator,
    Fixed,
    InformationPlane,
    Jackknife,
    adjusted_mutual_information,
    class_gram,
    debiased_cka,
    effective_rank,
    feature_map_gram,
    gram,
    joint_gram,
    renyi_entropy,
)
from lightning_infoplane.estimator.grams import reordered
from lightning_infoplane.estimator.permutations import independence_p_value
from lightning_infoplane.measurement.division import divide
from lightning_infoplane.measurement.rows import Pair
from lightning_infoplane.measurement.verdicts import Verdict, judge

N = 512
FLOAT32_SPECTRA = 1e-3  # of a ratio
INPUT = normal(N, 8, seed=1) @ normal(8, 60, seed=2)
TEN = torch.arange(N) % 10
DIMENSIONS = (1, 10, 100, 1000, 3072)
ROTATION = torch.linalg.qr(normal(60, 60, seed=3)).Q
HOWS = pytest.mark.parametrize("how", ["blocks", Jackknife(4), None], ids=["blocks", "jackknife", "without errors"])


def one_hot(labels: Tensor) -> Tensor:
    return torch.nn.functional.one_hot(labels).double()


@pytest.fixture(scope="module")
def found() -> Table:
    """One probe of 512 samples: copies of its input, and noise that never saw it."""
    layers = {
        "copy": INPUT,
        "rotated": INPUT @ ROTATION,
        "tenfold": 10 * INPUT + 3,
        **{f"noise {size}": normal(N, size, seed=100 + size) for size in DIMENSIONS},
    }
    return measure(INPUT, TEN, layers)


# ------------------------------------------------------------------------------------------------------ fixed points


@pytest.mark.parametrize("layer", ["copy", "rotated", "tenfold"])
def test_a_copy_has_all_of_the_input(found: Table, layer: str) -> None:
    assert found[layer, "AMI_XT"] == pytest.approx(1, abs=1e-3)
    assert found[layer, "AMI_XT_stderr"] < 1e-3
    assert found[layer, "AMI_XT_p"] < 1e-12
    assert found[layer, "CKA_XT"] == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("size", DIMENSIONS)
@pytest.mark.parametrize("quantity", ["AMI_XT", "AMI_TY"])
def test_noise_of_any_dimension_has_nothing(found: Table, size: int, quantity: str) -> None:
    layer = f"noise {size}"
    assert abs(found[layer, quantity]) <= 0.02
    assert abs(found[layer, quantity]) <= 4 * found[layer, f"{quantity}_stderr"]
    assert found[layer, f"{quantity}_p"] > 0.01


def test_in_bits_noise_of_high_dimension_has_nearly_all(found: Table) -> None:
    """Why there is a quantity beside the paper's."""
    assert found["noise 3072", "I_XT"] > 0.9 * found["copy", "I_XT"]
    assert found["noise 3072", "I_XT"] == pytest.approx(found["noise 3072", "I_XT_chance"], abs=0.02)


@pytest.mark.parametrize("seed", range(3))
def test_other_noise_has_nothing_either(seed: int) -> None:
    layers = {f"{size}": normal(N, size, seed=1000 * seed + size) for size in (3, 300, 3072)}
    found = measure(normal(N, 8, seed=seed) @ normal(8, 60, seed=2), None, layers)
    for layer in layers:
        assert abs(found[layer, "AMI_XT"]) <= min(0.02, 4 * found[layer, "AMI_XT_stderr"])


@pytest.mark.parametrize("classes", [2, 10, 100])
def test_a_perfect_code_has_all_of_the_target(classes: int) -> None:
    labels = torch.arange(N) % classes
    found = measure(INPUT, labels, {"code": one_hot(labels), "scores": 5 * one_hot(labels) @ normal(classes, classes)})
    assert found["code", "AMI_TY"] == pytest.approx(1, abs=0.03)
    assert found["scores", "AMI_TY"] > 0.8
    assert found["code", "AMI_TY_p"] < 1e-12


def test_more_noise_leaves_less() -> None:
    noisy = {f"{level}": INPUT + level * INPUT.std() * normal(N, 60, seed=4) for level in (0.0, 0.3, 1.0, 3.0, 10.0)}
    found = measure(INPUT, None, noisy)
    values = [found[layer, "AMI_XT"] for layer in noisy]
    assert values == sorted(values, reverse=True)
    assert found["", "DPI_decreases"] >= 3
    assert found["", "DPI_increases"] == 0


def test_convolutional_layers_are_variables_of_many_maps() -> None:
    images = normal(128, 3, 4, 4, seed=6)
    found = measure(images, None, {"same": images, "flipped": images.flip(3), "noise": normal(128, 8, 4, 4, seed=7)})
    for layer in ("same", "flipped"):
        assert found[layer, "AMI_XT"] == pytest.approx(1, abs=1e-3)
    assert abs(found["noise", "AMI_XT"]) < 0.1


# --------------------------------------------------------------------------------------------------- its definition

X, Y = normal(N, 5, seed=11), normal(N, 5, seed=11).argmax(1)
LAYERS = {"near": (X + 0.3 * normal(N, 5, seed=12)).tanh(), "far": X.mul(2).tanh() + normal(N, 5, seed=13)}


def by_definition(a: Tensor, b: Tensor, orders: Tensor) -> Tensor:
    """With given shuffles, and every spectrum in float64."""

    def excess(one: Tensor, other: Tensor) -> Tensor:
        mixed = [renyi_entropy(joint_gram(one, reordered(other, order))) for order in orders]
        return torch.stack(mixed).mean() - renyi_entropy(joint_gram(one, other))

    return excess(a, b) / (excess(a, a) * excess(b, b)).sqrt()


@HOWS
def test_it_is_its_definition_with_the_shuffles_of_the_division(how: Any) -> None:
    estimator = Estimator(standard_errors=how, seed=3)
    small = {name: layer[:200] for name, layer in LAYERS.items()}
    found = measure(X[:200], Y[:200], small, standard_errors=how, seed=3)
    orders = divide(200, Y[:200], estimator).whole.orders
    x, y = gram(X[:200]), class_gram(Y[:200])
    for name, layer in small.items():
        t = gram(layer)
        assert_bits(found[name, "AMI_XT"], by_definition(t, x, orders), FLOAT32_SPECTRA)
        assert_bits(found[name, "AMI_TY"], by_definition(t, y, orders), FLOAT32_SPECTRA)


def test_without_groups_it_is_the_public_function() -> None:
    """Whose shuffles are those of one group."""
    found = measure(X, Y, LAYERS, standard_errors=None)
    for name, layer in LAYERS.items():
        assert_bits(found[name, "AMI_XT"], adjusted_mutual_information(gram(layer), gram(X)), FLOAT32_SPECTRA)
        assert_bits(found[name, "AMI_TY"], adjusted_mutual_information(gram(layer), class_gram(Y)), FLOAT32_SPECTRA)


@pytest.mark.parametrize("alpha", [1, 1.5, 2, math.inf])
def test_of_any_order_it_is_the_public_function(alpha: float) -> None:
    found = measure(X[:200], None, {"near": LAYERS["near"][:200]}, [], alpha=alpha, standard_errors=None)
    expected = adjusted_mutual_information(gram(LAYERS["near"][:200]), gram(X[:200]), alpha)
    assert_bits(found["near", "AMI_XT"], expected, FLOAT32_SPECTRA)


def test_of_continuous_targets_it_is_that_of_their_matrix() -> None:
    targets = X[:, :1] + 0.1 * normal(N, 1, seed=14)
    found = measure(X, targets, LAYERS, standard_errors=None)
    expected = adjusted_mutual_information(gram(LAYERS["near"]), gram(targets))
    assert_bits(found["near", "AMI_TY"], expected, FLOAT32_SPECTRA)


def test_more_shuffles_scatter_less_about_the_same_value() -> None:
    half = {name: layer[:256] for name, layer in LAYERS.items()}
    two, twenty = (measure(X[:256], None, half, shuffles=shuffles, standard_errors=None) for shuffles in (2, 20))
    for name in LAYERS:
        assert two[name, "AMI_XT"] == pytest.approx(twenty[name, "AMI_XT"], abs=0.03)


def test_p_value_alignment_and_effective_rank_are_those_of_the_public_functions() -> None:
    found = measure(X, Y, LAYERS, standard_errors=None)
    for name, layer in LAYERS.items():
        t = gram(layer)
        for quantity, independence, other in (("CKA_XT", "AMI_XT_p", gram(X)), ("CKA_TY", "AMI_TY_p", class_gram(Y))):
            assert_bits(found[name, quantity], debiased_cka(t, other))
            assert found[name, independence] == pytest.approx(float(independence_p_value(t, other)), rel=1e-6)
        assert found[name, "effective_rank"] == pytest.approx(float(effective_rank(t, 1.01)), rel=1e-9)


@HOWS
def test_gaps_are_differences(how: Any) -> None:
    small = {name: layer[:128] for name, layer in LAYERS.items()}
    found = measure(X[:128], Y[:128], small, standard_errors=how)
    pair = Pair("near", "far")
    for quantity in ("AMI_XT", "AMI_TY"):
        assert_bits(found[pair, f"DPI_{quantity}"], found["near", quantity] - found["far", quantity], 1e-12)


def test_what_everything_shares_with_itself_is_told_in_bits() -> None:
    found = measure(X, Y, LAYERS | {"copy": X}, standard_errors=None)
    assert found["copy", "E_TT"] == pytest.approx(found["", "E_XX"], abs=1e-4)
    shared = found["near", "AMI_XT"] * math.sqrt(found["near", "E_TT"] * found["", "E_XX"])
    assert shared == pytest.approx(found["near", "I_XT"] - found["near", "I_XT_chance"], abs=1e-4)
    of_y = found["near", "AMI_TY"] * math.sqrt(found["near", "E_TT"] * found["", "E_YY"])
    assert of_y == pytest.approx(found["near", "I_TY"] - found["near", "I_TY_chance"], abs=1e-4)


# ------------------------------------------------------------------------------------------------------- no value


def quantities(found: Mapping[Any, float], place: object) -> set[str]:
    return {quantity for at, quantity in found if at == place}


@HOWS
@pytest.mark.parametrize(
    ("layer", "verdict"),
    [
        (torch.full((N, 4), 7.0), Verdict.COLLAPSED),
        (torch.zeros(N, 3, 2, 2), Verdict.COLLAPSED),
        (1e-4 * X, Verdict.COLLAPSED),
        (100 * X, Verdict.SATURATED),
    ],
    ids=["constant", "dead maps", "nearly constant", "saturated"],
)
def test_what_is_not_resolved_has_no_adjusted_information(layer: Tensor, verdict: Verdict, how: Any) -> None:
    plane = InformationPlane(Estimator(bandwidth=Fixed(1.5), standard_errors=how))
    rows = plane.measure(X[:96], Y[:96], {"layer": layer[:96], "fine": LAYERS["near"][:96]})
    found = {(row.place, row.quantity): row.value for row in rows}
    assert not {"AMI_XT", "AMI_TY", "AMI_XT_stderr", "AMI_TY_stderr"} & quantities(found, "layer")
    assert quantities(found, "layer") >= {"E_TT", "H_T", "I_XT", "I_XT_chance"}
    assert abs(found["layer", "E_TT"]) < 0.005
    assert not [one for one in quantities(found, Pair("layer", "fine")) if one.startswith("DPI_AMI")]
    assert judge(rows)["layer"].verdict is verdict
    assert judge(rows)["fine"].verdict is Verdict.OK


@pytest.mark.parametrize("shuffles", [0, 1])
def test_too_few_shuffles_give_no_adjusted_information(shuffles: int) -> None:
    found = measure(X[:96], Y[:96], {name: layer[:96] for name, layer in LAYERS.items()}, shuffles=shuffles)
    assert not [one for _, one in found if one.startswith(("AMI", "E_", "DPI_AMI", "DPI_in", "DPI_de"))]
    assert ("near", "I_XT_chance" if shuffles else "I_XT") in found
    assert found["near", "I_XT_stderr"] > 0


def test_without_errors_nothing_is_tested_but_independence() -> None:
    found = measure(X[:96], Y[:96], {name: layer[:96] for name, layer in LAYERS.items()}, standard_errors=None)
    assert not [one for _, one in found if one.endswith("_stderr")]
    assert {one for _, one in found if one.endswith("_p")} == {"AMI_XT_p", "AMI_TY_p"}
    assert not {"DPI_increases", "DPI_decreases"} & quantities(found, "")


@HOWS
def test_without_targets_nothing_is_said_about_them(how: Any) -> None:
    small = {name: layer[:96] for name, layer in LAYERS.items()}
    found = measure(X[:96], None, small, standard_errors=how)
    assert not [one for _, one in found if "Y" in one]
    assert {"AMI_XT", "AMI_XT_p", "CKA_XT", "E_TT"} <= quantities(found, "near")
    assert "E_XX" in quantities(found, "")


# ------------------------------------------------------------------------------------------------------- tiny probes

TARGETS: dict[str, Callable[[int], Tensor | None]] = {
    "two classes": lambda n: torch.arange(n) % 2,
    "one class": lambda n: torch.zeros(n).long(),
    "a class each": lambda n: torch.arange(n),
    "continuous": lambda n: normal(n, seed=5),
    "none": lambda n: None,
}


@pytest.mark.parametrize("how", ["blocks", Jackknife(10), Jackknife(2), None], ids=str)
@pytest.mark.parametrize("targets", TARGETS)
@pytest.mark.parametrize("n", [2, 3, 4, 5, 6])
def test_a_tiny_probe_is_measured(n: int, targets: str, how: Any) -> None:
    layers = {"a": normal(n, 2, seed=4), "dead": torch.ones(n, 2), "maps": normal(n, 2, 3, 3), "copy": normal(n, 3)}
    found = measure(normal(n, 3), TARGETS[targets](n), layers, standard_errors=how)
    assert all(math.isfinite(value) for value in found.values())
    assert quantities(found, "a") >= {"H_T", "I_XT", "I_XT_chance", "E_TT", "bandwidth"}
    assert ("CKA_XT" in quantities(found, "a")) is (n >= 6)
    for layer in layers:
        p = found.get((layer, "AMI_XT_p"), 0.5)
        assert 0 <= p <= 1


def test_of_two_samples_there_is_one_order_and_so_nothing_beyond_chance() -> None:
    found = measure(normal(2, 3), None, {"a": normal(2, 3)})
    assert found["a", "E_TT"] == pytest.approx(0, abs=1e-6)
    assert "AMI_XT" not in quantities(found, "a")


@pytest.mark.parametrize("how", ["blocks", Jackknife(10), None], ids=str)
@pytest.mark.parametrize("layers", [{}, {"only": X[:96]}], ids=["no layer", "one layer"])
def test_a_probe_without_pairs_is_measured(layers: dict[str, Tensor], how: Any) -> None:
    found = measure(X[:96], Y[:96], layers, standard_errors=how)
    assert {place for place, _ in found} == {"", *layers}
    assert not [one for _, one in found if one.startswith("DPI")]


def test_maps_are_joined_as_everywhere() -> None:
    maps = normal(96, 3, 2, 2, seed=8)
    found = measure(maps, None, {"maps": maps.tanh(), "other": maps}, standard_errors=None)
    expected = adjusted_mutual_information(feature_map_gram(maps.tanh()), feature_map_gram(maps))
    assert_bits(found["maps", "AMI_XT"], expected, FLOAT32_SPECTRA)
