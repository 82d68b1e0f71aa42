"""Redundancy and synergy live: a layer's maps, a sample of pairs, its standard error, and the rows they become.

A Gaussian kernel far narrower than the distance of two values is a class kernel, so that bits are bits.
"""

import math
import pickle

import pytest
import torch
from properties import EXACT, assert_bits, assert_leaves_random_state, normal
from torch import Tensor

from lightning_infoplane import (
    Alignment,
    Fixed,
    InformationPlane,
    MatrixRenyiCallback,
    MedianDistance,
    Probe,
    Redundancy,
    class_gram,
    gram,
    map_pairs,
    measure,
    pair_information,
    renyi_entropy,
    total_correlation,
)
from lightning_infoplane.kernels import gaussian_gram
from lightning_infoplane.pairs import layer_redundancy
from lightning_infoplane.plane import Row

CLASSES = Fixed(0.05)
A, B = torch.tensor([0, 0, 1, 1]).repeat(8), torch.tensor([0, 1, 0, 1]).repeat(8)
C = torch.arange(32) // 16
ALPHAS = pytest.mark.parametrize("alpha", [1, 1.01, 2])


def as_layer(*maps: Tensor) -> Tensor:
    """Maps ``(n, C, 1)``, one number a sample each."""
    return torch.stack(maps, 1).double().unsqueeze(-1)


def found(x: Tensor, *maps: Tensor, alpha: float = 1.01, how: Redundancy | None = None) -> dict[str, float]:
    values = layer_redundancy(class_gram(x), as_layer(*maps), CLASSES, alpha, how or Redundancy())
    return {name: float(value) for name, value in values.items()}


def assert_values(values: dict[str, float], trade_off: float, non_redundant: float, correlation: float) -> None:
    expected = {
        "redundancy_synergy": trade_off,
        "non_redundant": non_redundant,
        "total_correlation": correlation,
        "redundancy_synergy_stderr": 0.0,
        "non_redundant_stderr": 0.0,
    }
    assert values == pytest.approx(expected, abs=EXACT)


# ------------------------------------------------------------------------------------------------- known layers


@ALPHAS
@pytest.mark.parametrize("copies", [2, 5])
def test_exact_duplicates_are_nothing_but_redundant(alpha: float, copies: int) -> None:
    assert_values(found(A, *[A] * copies, alpha=alpha), trade_off=1, non_redundant=0, correlation=1)


@ALPHAS
def test_independent_maps_of_an_input_made_of_them_are_unique(alpha: float) -> None:
    assert_values(found(2 * A + B, A, B, alpha=alpha), trade_off=0, non_redundant=2, correlation=0)


@ALPHAS
def test_maps_that_have_nothing_to_do_with_the_input_have_neither(alpha: float) -> None:
    assert_values(found(C, A, B, alpha=alpha), trade_off=0, non_redundant=0, correlation=0)


@ALPHAS
def test_xor_is_nothing_but_synergy(alpha: float) -> None:
    assert_values(found(A ^ B, A, B, alpha=alpha), trade_off=-1, non_redundant=2, correlation=0)


@pytest.mark.parametrize(("alpha", "trade_off", "non_redundant"), [(1, -0.188722, 1.0), (1.01, -0.188618, 0.998267)])
def test_the_and_gate(alpha: float, trade_off: float, non_redundant: float) -> None:
    values = found(A & B, A, B, alpha=alpha)
    assert values["redundancy_synergy"] == pytest.approx(trade_off, abs=1e-6)
    assert values["non_redundant"] == pytest.approx(non_redundant, abs=1e-6)


@ALPHAS
def test_a_layer_of_bits_and_their_xor(alpha: float) -> None:
    """Of the input A, only A itself tells alone: pairs (A,B) 0 and 1, (A,A^B) the same, (B,A^B) −1 and 2."""
    values = found(A, A, B, A ^ B, alpha=alpha)
    assert values["redundancy_synergy"] == pytest.approx(-1 / 3, abs=EXACT)
    assert values["non_redundant"] == pytest.approx(4 / 3, abs=EXACT)
    # Three bits, two of them free: T = 3 - 2, of at most 3 - 1.
    assert values["total_correlation"] == pytest.approx(1 / 2, abs=EXACT)


def test_a_gaussian_kernel_of_fixed_width_makes_a_duplicate_seem_to_know_more() -> None:
    """Two balanced classes of overlap 1/2: see the closed form in test_pairs. An artefact of the bandwidth."""
    sigma = Fixed(1 / math.sqrt(2 * math.log(2)))
    bit = A.double().unsqueeze(-1)
    values = layer_redundancy(gram(bit, sigma), as_layer(A, A), sigma, 1, Redundancy())
    assert_bits(values["redundancy_synergy"], 0.559231, 1e-6)


@pytest.mark.parametrize("alpha", [1.01, 2])
def test_dead_maps_are_maps_that_tell_nothing(alpha: float) -> None:
    dead = torch.full_like(A, 3)
    values = layer_redundancy(class_gram(A), as_layer(A, dead), MedianDistance(scale=0.05), alpha, Redundancy())
    assert_bits(values["redundancy_synergy"], 0.0)
    assert_bits(values["non_redundant"], 1.0)
    assert_bits(values["total_correlation"], 0.0)


@ALPHAS
def test_in_pairs_a_map_has_the_bandwidth_it_has_alone(alpha: float) -> None:
    layer, x = normal(30, 5, 4), gram(normal(30, 3, seed=1))
    alone = torch.stack([gram(layer[:, c]) for c in range(5)])
    pairs = pair_information(x, alone, alpha)
    values = layer_redundancy(x, layer, MedianDistance(), alpha, Redundancy())
    assert_bits(values["redundancy_synergy"], pairs.redundancy_synergy().mean())
    assert_bits(values["non_redundant"], pairs.non_redundant().mean())


@ALPHAS
def test_in_the_total_correlation_maps_have_the_bandwidth_of_their_joint(alpha: float) -> None:
    """Otherwise the parts would not be parts of H(T): the joint of wide kernels is the layer's own Gram matrix."""
    layer, x = normal(30, 5, 4), gram(normal(30, 3, seed=1))
    sigmas = MedianDistance()(layer)
    parts = [gaussian_gram(layer[:, [c]], sigmas[[c]]) for c in range(5)]
    values = layer_redundancy(x, layer, MedianDistance(), alpha, Redundancy())
    assert_bits(values["total_correlation"], total_correlation(*parts, alpha=alpha, normalized=True))
    whole = renyi_entropy(gaussian_gram(layer, sigmas), alpha)
    entropies = [renyi_entropy(part, alpha) for part in parts]
    normalised = (sum(entropies) - whole) / (sum(entropies) - max(entropies))
    assert_bits(values["total_correlation"], normalised)


@pytest.mark.parametrize("alpha", [1.01, 2])
def test_multiplying_a_layer_by_a_constant_changes_nothing(alpha: float) -> None:
    layer, x = normal(30, 4, 4), gram(normal(30, 3, seed=1))
    values = layer_redundancy(x, layer, MedianDistance(), alpha, Redundancy())
    scaled = layer_redundancy(x, 1e-6 * layer, MedianDistance(), alpha, Redundancy())
    for name, value in values.items():
        assert_bits(scaled[name], value)


def test_a_rule_that_looks_at_the_targets_is_given_those_of_the_same_samples() -> None:
    layer, x, y = normal(60, 3, 4), gram(normal(60, 3, seed=1)), class_gram(torch.arange(60) % 3)
    rule, how = Alignment(), Redundancy(samples=20)
    kept = layer_redundancy(x, layer, rule, 1.01, how, target=y)
    assert all(bool(value.isfinite()) for value in kept.values())
    everything = layer_redundancy(x, layer, rule, 1.01, Redundancy(samples=60), target=y)
    assert not torch.equal(kept["redundancy_synergy"], everything["redundancy_synergy"])


# --------------------------------------------------------------------------------------------- sampling of pairs


def test_settings_are_values() -> None:
    how = Redundancy(pairs=8, samples=16, seed=3)
    assert Redundancy() == Redundancy(pairs=64, samples=128, seed=0)
    assert pickle.loads(pickle.dumps(how)) == how
    assert eval(repr(how)) == how
    assert hash(how) == hash(Redundancy(8, 16, 3))


@pytest.mark.parametrize("wrong", [{"pairs": 0}, {"pairs": -1}, {"samples": 1}, {"samples": 0}])
def test_no_pairs_and_one_sample_are_refused(wrong: dict[str, int]) -> None:
    ((field, value),) = wrong.items()
    with pytest.raises(ValueError, match=rf"Redundancy\(.*{field}={value}.*\): expected pairs >= 1 and samples >= 2\."):
        Redundancy(**wrong)


MANY, INPUT = normal(40, 24, 3), gram(normal(40, 3, seed=1))
EVERY_PAIR = 24 * 23 // 2


def sampled(pairs: int, seed: int = 0, alpha: float = 2, samples: int = 40) -> dict[str, float]:
    values = layer_redundancy(INPUT, MANY, MedianDistance(), alpha, Redundancy(pairs, samples, seed))
    return {name: float(value) for name, value in values.items()}


@pytest.mark.parametrize("alpha", [1.01, 2])
def test_a_sample_is_the_same_at_every_call(alpha: float) -> None:
    torch.manual_seed(5)
    with assert_leaves_random_state():
        first = sampled(30, alpha=alpha, samples=20)
    torch.manual_seed(6)
    assert sampled(30, alpha=alpha, samples=20) == first


def test_another_seed_is_another_sample_of_pairs() -> None:
    assert sampled(30, seed=1) != sampled(30, seed=2)


def test_a_sample_of_pairs_is_the_mean_over_these_pairs() -> None:
    pairs = map_pairs(24, 30, seed=7)
    alone = torch.stack([gram(MANY[:, c]) for c in range(24)])
    expected = pair_information(INPUT, alone, 2, pairs)
    values = sampled(30, seed=7)
    assert_bits(values["redundancy_synergy"], expected.redundancy_synergy().mean())
    assert_bits(values["non_redundant"], expected.non_redundant().mean())


@pytest.mark.parametrize("pairs", [EVERY_PAIR, EVERY_PAIR + 100])
def test_all_pairs_have_no_sampling_error(pairs: int) -> None:
    values = sampled(pairs)
    assert values["redundancy_synergy_stderr"] == 0
    assert values["non_redundant_stderr"] == 0
    assert values == sampled(pairs, seed=1)


def test_one_pair_of_many_has_no_error_that_could_be_told() -> None:
    assert math.isfinite(sampled(1)["redundancy_synergy"])
    assert sampled(1)["redundancy_synergy_stderr"] == 0


@pytest.mark.parametrize("quantity", ["redundancy_synergy", "non_redundant"])
@pytest.mark.parametrize("pairs", [20, 200])
def test_the_standard_error_covers_the_mean_over_all_pairs(quantity: str, pairs: int) -> None:
    """Also where most pairs were taken, and the error is smaller than that of draws with repetition."""
    whole = sampled(EVERY_PAIR)[quantity]
    draws = [sampled(pairs, seed) for seed in range(40)]
    scores = torch.tensor([(draw[quantity] - whole) / draw[f"{quantity}_stderr"] for draw in draws])
    assert float(scores.abs().max()) < 4
    assert 0.7 < float(scores.square().mean().sqrt()) < 1.4


# ----------------------------------------------------------------------------------------------------------- live


def rows_of(rows: list[Row]) -> dict[tuple[str, str], float]:
    return {(row.layer, row.quantity): row.value for row in rows}


LIVE = {"redundancy_synergy", "non_redundant", "total_correlation"}


@pytest.mark.parametrize("alpha", [1.01, 2])
def test_in_the_plane_they_are_rows_of_each_layer_with_maps(alpha: float) -> None:
    plane = InformationPlane(alpha, CLASSES, chance=0, redundancy=Redundancy())
    layers = {
        "xor": as_layer(A, B),
        "copies": as_layer(A ^ B, A ^ B),
        "one map": as_layer(A),
        "vectors": as_layer(A, B).squeeze(-1),  # (n, d) is one variable
    }
    rows = rows_of(plane.measure((A ^ B).double(), A, layers))
    assert rows["xor", "redundancy_synergy"] == pytest.approx(-1, abs=EXACT)
    assert rows["xor", "non_redundant"] == pytest.approx(2, abs=EXACT)
    assert rows["xor", "total_correlation"] == pytest.approx(0, abs=EXACT)
    assert rows["copies", "redundancy_synergy"] == pytest.approx(1, abs=EXACT)
    assert rows["copies", "non_redundant"] == pytest.approx(0, abs=EXACT)
    assert rows["copies", "total_correlation"] == pytest.approx(1, abs=EXACT)
    assert {layer for layer, quantity in rows if quantity in LIVE} == {"xor", "copies"}
    assert {layer for layer, quantity in rows if quantity == "I_XT"} == set(layers)


@pytest.mark.parametrize(
    ("asked", "settings"), [(False, None), (True, Redundancy()), (Redundancy(pairs=8), Redundancy(pairs=8))]
)
def test_the_callback_takes_yes_no_or_how(asked: bool | Redundancy, settings: Redundancy | None) -> None:
    assert MatrixRenyiCallback(redundancy=asked).plane.settings.redundancy == settings


def test_they_are_off_unless_asked_for() -> None:
    rows = rows_of(InformationPlane(chance=0).measure(A.double(), B, {"layer": as_layer(A, B)}))
    assert not LIVE & {quantity for _, quantity in rows}


def test_images_as_maps() -> None:
    layer = normal(20, 3, 4, 4)
    plane = InformationPlane(2, chance=0, redundancy=Redundancy())
    rows = rows_of(plane.measure(normal(20, 2, seed=1), None, {"conv": layer}))
    maps = torch.stack([gram(layer[:, c].flatten(1)) for c in range(3)])
    expected = pair_information(gram(normal(20, 2, seed=1)), maps, 2).redundancy_synergy().mean()
    assert rows["conv", "redundancy_synergy"] == pytest.approx(float(expected), abs=EXACT)


def test_a_layer_that_is_not_finite_is_left_out_with_a_warning() -> None:
    plane = InformationPlane(chance=0, redundancy=Redundancy())
    broken = as_layer(A, B)
    broken[3, 1] = torch.nan
    with pytest.warns(UserWarning, match="layer 'broken' has NaN or infinite activations"):
        rows = rows_of(plane.measure(A.double(), B, {"broken": broken, "fine": as_layer(A, B)}))
    assert {layer for layer, quantity in rows if quantity in LIVE} == {"fine"}


def test_the_same_pairs_and_samples_at_every_epoch() -> None:
    plane = InformationPlane(chance=0, redundancy=Redundancy(pairs=10, samples=16))
    for epoch in range(2):
        plane.measure(normal(40, 2), None, {"conv": MANY}, epoch)
    first, second = ([row.value for row in plane.history if row.epoch == epoch] for epoch in range(2))
    assert first == second


def test_a_layer_of_one_map_is_left_out_with_a_sentence() -> None:
    net = torch.nn.Sequential(torch.nn.Conv2d(1, 1, 3), torch.nn.ReLU(), torch.nn.Conv2d(1, 2, 3))
    plane = InformationPlane(redundancy=Redundancy(pairs=1, samples=16))
    probe = Probe(torch.randn(16, 1, 8, 8, generator=torch.Generator().manual_seed(0)))
    with pytest.warns(UserWarning, match="layer '0' has one feature map and so no pairs"):
        rows = measure(net, probe, plane=plane)
    assert {row.layer for row in rows if row.quantity == "redundancy_synergy"} == {"2"}
