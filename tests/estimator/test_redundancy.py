"""Redundancy and synergy: gates, the naive loop, what bandwidths do, a layer's sampled pairs, and the rows they become.

The paper's definition has its exact numbers; beyond chance, numbers are exact up to the chance of a finite sample. A
Gaussian kernel far narrower than the distance of two values is a class kernel, so that bits are bits.
"""

import math
import pickle
from collections.abc import Callable

import oracle
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from networks import callback, fit
from properties import (
    EXACT,
    FLOAT32_BITS,
    assert_bits,
    assert_finite_gradient,
    assert_leaves_random_state,
    normal,
)
from torch import Tensor

from lightning_infoplane import (
    Alignment,
    Bandwidth,
    Estimator,
    Fixed,
    InformationPlane,
    MedianDistance,
    Probe,
    Redundancy,
    Row,
    Silverman,
    class_gram,
    gaussian_gram,
    gram,
    joint_gram,
    map_grams,
    measure,
    mutual_information,
    non_redundant_information,
    redundancy_synergy,
    renyi_entropy,
    total_correlation,
)
from lightning_infoplane.estimator.dependence import cyclic_shuffles
from lightning_infoplane.estimator.map_pairs import (
    PairInformation,
    choose_map_pairs,
    pair_excess,
    pair_information,
)
from lightning_infoplane.estimator.redundancy import LayerRedundancy, adjusted_total_correlation, layer_redundancy

CLASSES = Fixed(0.05)
A, B = torch.tensor([0, 0, 1, 1]).repeat(64), torch.tensor([0, 1, 0, 1]).repeat(64)
C = torch.arange(256) // 128
CHANCE = 0.1  # what 256 samples leave of it in bits of classes
SINGLE = 2e-5  # spectra in float32
ALPHAS = pytest.mark.parametrize("alpha", [1, 1.01, 2])


# ------------------------------------------------------------------------------------------- functions of matrices


def gate(target: Tensor, *inputs: Tensor) -> tuple[Tensor, Tensor]:
    return class_gram(target), torch.stack([class_gram(bit) for bit in inputs])


@pytest.mark.parametrize("alpha", [1, 1.01, 2])
@pytest.mark.parametrize(
    ("target", "first", "second", "trade_off", "non_redundant"),
    [(A ^ B, A, B, -1, 2), (A, A, A, 1, 0), (2 * A + B, A, B, 0, 2)],
    ids=["XOR", "COPY", "UNQ"],
)
def test_gates(target: Tensor, first: Tensor, second: Tensor, trade_off: int, non_redundant: int, alpha: float) -> None:
    x, maps = gate(target, first, second)
    assert_bits(redundancy_synergy(x, maps, alpha, paper=True), trade_off)
    assert_bits(non_redundant_information(x, maps, alpha, paper=True), non_redundant)
    assert_bits(redundancy_synergy(x, maps, alpha), trade_off, CHANCE)
    assert_bits(non_redundant_information(x, maps, alpha), non_redundant, CHANCE)


@pytest.mark.parametrize(
    ("alpha", "table"),
    [
        (1, (0.311278, 0.311278, 0.811278, -0.188722, 1.0)),
        (1.01, (0.310515, 0.310515, 0.809649, -0.188618, 0.998267)),
        (2, None),
    ],
)
def test_the_and_gate_of_class_kernels(alpha: float, table: tuple[float, ...] | None) -> None:
    x, maps = gate(A & B, A, B)
    shares = pair_information(x, maps, alpha)
    row = torch.cat([*shares, shares.redundancy_synergy(), shares.non_redundant()])
    if table is not None:
        assert_bits(row, table, 1e-6)
    one, both = shares.first, shares.both
    expected = oracle.pair_means(x.numpy(), list(maps.numpy()), alpha)
    assert_bits(row[3:], expected)
    assert_bits(torch.cat([2 * one - both, 2 * both - 2 * one]), expected)


@settings(max_examples=15, deadline=None)
@given(
    channels=st.integers(2, 5),
    n=st.integers(3, 12),
    seed=st.integers(0, 2**16),
    alpha=st.sampled_from([1, 1.01, 2, 2.5, 3, math.inf]),
)
def test_pairs_are_the_naive_loop(channels: int, n: int, seed: int, alpha: float) -> None:
    layer, x = normal(n, channels, 3, seed=seed), gram(normal(n, 2, seed=seed + 1))
    maps = map_grams(layer)
    expected = oracle.pair_means(x.numpy(), list(maps.numpy()), alpha)
    assert_bits(redundancy_synergy(x, maps, alpha, paper=True), expected[0])
    assert_bits(non_redundant_information(x, maps, alpha, paper=True), expected[1])


def test_the_product_of_all_pairs_does_not_assume_a_constant_diagonal() -> None:
    linear = torch.stack([joint_gram(f @ f.mT) for f in normal(4, 10, 12)])
    x = joint_gram(normal(10, 12, seed=1) @ normal(10, 12, seed=1).mT)
    expected = oracle.pair_means(x.numpy(), list(linear.numpy()), 2)
    assert_bits(redundancy_synergy(x, linear, 2, paper=True), expected[0])
    assert_bits(non_redundant_information(x, linear, 2, paper=True), expected[1])


@pytest.mark.parametrize("alpha", [1.01, 2])
def test_each_pair_is_three_mutual_informations(alpha: float) -> None:
    maps, x = map_grams(normal(20, 4, 2)), gram(normal(20, 3, seed=1))
    pairs = torch.tensor([[3, 1], [0, 2]])
    first, second, both = pair_information(x, maps, alpha, pairs)
    for row, (i, j) in enumerate(pairs.tolist()):
        assert_bits(first[row], mutual_information(x, maps[i], alpha))
        assert_bits(second[row], mutual_information(x, maps[j], alpha))
        assert_bits(both[row], mutual_information(x, joint_gram(maps[i], maps[j]), alpha))


@pytest.mark.parametrize("paper", [False, True])
@pytest.mark.parametrize("alpha", [1.01, 2])
def test_float32_matrices(alpha: float, paper: bool) -> None:
    maps, x = map_grams(normal(60, 5, 4)), gram(normal(60, 3, seed=1))
    for mean in (redundancy_synergy, non_redundant_information):
        value = mean(x, maps, alpha, paper=paper)
        assert_bits(mean(x.float(), maps.float(), alpha, paper=paper), value, FLOAT32_BITS)
        assert_bits(mean(x, maps.float(), alpha, paper=paper), value, FLOAT32_BITS)


@pytest.mark.parametrize("alpha", [1, 1.01, 2])
def test_a_duplicate_is_fully_redundant_with_class_kernels_only(alpha: float) -> None:
    """Two balanced classes, overlap 1/2: the product of two Gaussians is a narrower one, and seems to know more.

    At α = 1 each map shares 0.668 bits with x and its duplicate makes that 0.777, so the trade-off is 0.559.
    """
    labels = torch.arange(20) % 2
    sigma = 1 / math.sqrt(2 * math.log(2))  # exp(-1 / (2σ²)) = 1/2
    gaussian = gram(labels.double().unsqueeze(-1), Fixed(sigma))

    def bits(overlap: float) -> float:
        weights = torch.tensor([1 + overlap, 1 - overlap], dtype=torch.float64) / 2
        return oracle.spectrum_entropy(weights.numpy(), alpha)

    alone = 2 * bits(1 / 2) - bits(1 / 4)
    both = bits(1 / 2) + bits(1 / 4) - bits(1 / 8)
    assert_bits(mutual_information(gaussian, gaussian, alpha), alone)
    trade_off = redundancy_synergy(gaussian, torch.stack([gaussian, gaussian]), alpha, paper=True)
    assert_bits(trade_off, 2 * alone - both)
    assert float(trade_off) < alone - 0.1
    if alpha == 1:
        assert (alone, both, float(trade_off)) == pytest.approx((0.668122, 0.777013, 0.559231), abs=1e-6)
    classes = class_gram(labels)
    assert_bits(redundancy_synergy(classes, torch.stack([classes, classes]), alpha, paper=True), 1.0)


def test_the_trade_off_does_not_depend_on_the_order_of_maps_or_samples() -> None:
    maps, x = map_grams(normal(15, 4, 2)), gram(normal(15, 3, seed=1))
    maps_order, order = torch.tensor([2, 0, 3, 1]), torch.randperm(15, generator=torch.Generator().manual_seed(0))
    for alpha in (1.01, 2):
        value = redundancy_synergy(x, maps, alpha, paper=True)
        assert_bits(redundancy_synergy(x, maps[maps_order], alpha, paper=True), value)
        assert_bits(redundancy_synergy(x[order][:, order], maps[:, order][:, :, order], alpha, paper=True), value)
        assert_bits(redundancy_synergy(x, maps[maps_order], alpha), redundancy_synergy(x, maps, alpha))


def test_batches_of_pairs_do_not_change_the_values() -> None:
    """At n = 512 a batch holds sixteen pairs."""
    maps, x = map_grams(normal(512, 7, 2)), gram(normal(512, 2, seed=1))
    value = pair_information(x, maps, 1.01, torch.tensor([[5, 6]])).both
    assert_bits(pair_information(x, maps, 1.01).both[-1:], value)


# --------------------------------------------------------------------------------------------------- beyond chance


def joint_bits(alpha: float, *grams: Tensor, power: float = 1) -> float:
    """Entropy of the first with a power of the product of the others, by the transcribed definitions."""
    x, *maps = (one.numpy() for one in grams)
    product = oracle.joint(*maps) * len(x)
    return oracle.entropy(oracle.joint(x, product**power / len(x)), alpha)


def excess_bits(alpha: float, x: Tensor, *maps: Tensor, power: float = 1) -> float:
    mixed = [x[order][:, order] for order in cyclic_shuffles(len(x), 2, seed=3)]
    chance = sum(joint_bits(alpha, one, *maps, power=power) for one in mixed) / 2
    return chance - joint_bits(alpha, x, *maps, power=power)


@settings(max_examples=12, deadline=None)
@given(
    n=st.integers(4, 10),
    seed=st.integers(0, 2**16),
    alpha=st.sampled_from([1, 1.01, 2, 2.5, math.inf]),
    widening=st.sampled_from([2**0.5, 1, 1.25]),
)
def test_pairs_beyond_chance_are_the_naive_loop(n: int, seed: int, alpha: float, widening: float) -> None:
    """A dead map among them adds nothing, and takes no width from its partner."""
    x, maps = gram(normal(n, 2, seed=seed + 1)), gram(normal(3, n, 2, seed=seed))
    dead = torch.full_like(x, 1 / n)
    pairs = pair_excess(x, torch.stack([*maps, dead]), alpha, widening=widening, seed=3)
    alone = [excess_bits(alpha, x, one) for one in maps]
    power = 1 / widening**2
    both = [excess_bits(alpha, x, maps[i], maps[j], power=power) for i, j in ((0, 1), (0, 2), (1, 2))]
    table = [[alone[0], alone[0], alone[0], alone[1], alone[1], alone[2]], [alone[1], alone[2], 0, alone[2], 0, 0]]
    expected = [*table, [both[0], both[1], alone[0], both[2], alone[1], alone[2]]]
    assert_bits(torch.stack([*pairs]), torch.tensor(expected, dtype=torch.float64), 1e-8)


@pytest.mark.parametrize("widening", [2**0.5, 1.0])
def test_all_pairs_in_one_product_are_the_loop_over_pairs(widening: float) -> None:
    maps, x = gram(normal(6, 40, 3)), gram(normal(40, 3, seed=1))
    maps[2] = maps[4] = 1 / 40
    first, second, both = pair_excess(x, maps, 2, widening=widening)
    inputs = [x] + [x[order][:, order] for order in cyclic_shuffles(40, 2)]
    for row, (i, j) in enumerate(choose_map_pairs(6).tolist()):
        live = sum(c not in (2, 4) for c in (i, j))
        kernel = joint_gram(maps[i], maps[j])
        kernel = joint_gram(kernel ** (1 / widening**2)) if live == 2 else kernel
        for found, of_whom in ((first, maps[i]), (second, maps[j]), (both, kernel)):
            bits = torch.stack([renyi_entropy(joint_gram(one, of_whom), 2) for one in inputs])
            assert_bits(found[row], bits[1:].mean() - bits[0])


@ALPHAS
def test_a_pair_of_copies_is_the_map_itself(alpha: float) -> None:
    x = gram(normal(64, 2))
    first, second, both = pair_excess(x, torch.stack([x, x]), alpha)
    assert_bits(both, first)
    assert_bits(second, first)
    assert float(first) > 0.2


def test_more_shuffles_are_another_mean_and_seeds_other_shuffles() -> None:
    maps, x = gram(normal(3, 30, 2)), gram(normal(30, 2, seed=1))
    values = {
        float(redundancy_synergy(x, maps, 2, shuffles=shuffles, seed=seed)) for shuffles in (1, 4) for seed in (0, 1)
    }
    assert len(values) == 4
    with assert_leaves_random_state():
        assert float(redundancy_synergy(x, maps, 2, shuffles=4, seed=1)) in values


# ----------------------------------------------------------------------------------------------------- which pairs


def test_all_pairs_once() -> None:
    pairs = choose_map_pairs(6)
    assert pairs.shape == (15, 2)
    assert bool((pairs[:, 0] < pairs[:, 1]).all())
    assert len(pairs.unique(dim=0)) == 15
    assert torch.equal(choose_map_pairs(6, at_most=15), pairs)
    assert torch.equal(choose_map_pairs(6, at_most=99), pairs)


def test_a_sample_of_pairs_is_seeded_and_without_repetition() -> None:
    with assert_leaves_random_state():
        pairs = choose_map_pairs(30, at_most=50, seed=1)
    assert torch.equal(pairs, choose_map_pairs(30, at_most=50, seed=1))
    assert not torch.equal(pairs, choose_map_pairs(30, at_most=50, seed=2))
    assert len(pairs.unique(dim=0)) == 50


def test_a_sample_of_pairs_estimates_the_mean() -> None:
    maps, x = map_grams(normal(30, 24, 2)), gram(normal(30, 3, seed=1))
    every = pair_excess(x, maps, 2).redundancy_synergy()
    some = redundancy_synergy(x, maps, 2, choose_map_pairs(24, at_most=100))
    assert abs(float(some - every.mean())) < 3 * float(every.std()) / 10


@pytest.mark.parametrize("paper", [False, True])
@pytest.mark.parametrize("alpha", [1, 1.01, 2])
def test_gradients(alpha: float, paper: bool) -> None:
    x = gram(normal(5, 2, seed=1), Fixed(1.0))

    def trade_off(layer: Tensor) -> Tensor:
        return redundancy_synergy(x, map_grams(layer, Fixed(1.0)), alpha, paper=paper)

    assert torch.autograd.gradcheck(trade_off, (normal(5, 3, 1).requires_grad_(),))
    assert_finite_gradient(trade_off, torch.zeros(5, 3, 1))
    assert_finite_gradient(trade_off, 100 * normal(5, 3, 1))  # kernels of zeros and ones


def as_layer(*maps: Tensor) -> Tensor:
    """Maps ``(n, C, 1)``, one number a sample each."""
    return torch.stack(maps, 1).double().unsqueeze(-1)


def numbers(values: LayerRedundancy) -> dict[str, float]:
    """Every value and every standard error by name."""
    named = values._asdict().items()
    bits = {name: float(estimate.bits) for name, estimate in named}
    return bits | {f"{name}_stderr": float(estimate.stderr) for name, estimate in named}


PAPER = Redundancy(samples=256, paper=True)
BEYOND = Redundancy(samples=256)


def found(x: Tensor, *maps: Tensor, alpha: float = 1.01, how: Redundancy = PAPER) -> dict[str, float]:
    return numbers(layer_redundancy(class_gram(x), as_layer(*maps), CLASSES, alpha, how))


def assert_values(values: dict[str, float], trade_off: float, non_redundant: float, correlation: float) -> None:
    expected = {
        "redundancy_synergy": trade_off,
        "non_redundant": non_redundant,
        "total_correlation": correlation,
        "redundancy_synergy_stderr": 0.0,
        "non_redundant_stderr": 0.0,
        "total_correlation_stderr": 0.0,
    }
    assert values == pytest.approx(expected, abs=EXACT)


def assert_both(
    x: Tensor, *maps: Tensor, alpha: float, trade_off: float, non_redundant: float, correlation: float
) -> None:
    """The paper's values exactly, those beyond chance up to what a finite sample leaves of it."""
    assert_values(found(x, *maps, alpha=alpha, how=PAPER), trade_off, non_redundant, correlation)
    values = found(x, *maps, alpha=alpha, how=BEYOND)
    beyond = [values[name] for name in LayerRedundancy._fields]
    assert beyond == pytest.approx([trade_off, non_redundant, correlation], abs=CHANCE)


# ------------------------------------------------------------------------------------------------- known layers


@ALPHAS
@pytest.mark.parametrize("copies", [2, 5])
def test_exact_duplicates_are_nothing_but_redundant(alpha: float, copies: int) -> None:
    assert_both(A, *[A] * copies, alpha=alpha, trade_off=1, non_redundant=0, correlation=1)


@ALPHAS
def test_independent_maps_of_an_input_made_of_them_are_unique(alpha: float) -> None:
    assert_both(2 * A + B, A, B, alpha=alpha, trade_off=0, non_redundant=2, correlation=0)


@ALPHAS
def test_maps_that_have_nothing_to_do_with_the_input_have_neither(alpha: float) -> None:
    assert_both(C, A, B, alpha=alpha, trade_off=0, non_redundant=0, correlation=0)


@ALPHAS
def test_xor_is_nothing_but_synergy(alpha: float) -> None:
    assert_both(A ^ B, A, B, alpha=alpha, trade_off=-1, non_redundant=2, correlation=0)


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
    """Two balanced classes of overlap 1/2: see the closed form above. An artefact of the bandwidth."""
    sigma = Fixed(1 / math.sqrt(2 * math.log(2)))
    bit = A.double().unsqueeze(-1)
    values = layer_redundancy(gram(bit, sigma), as_layer(A, A), sigma, 1, PAPER)
    assert_bits(values.redundancy_synergy.bits, 0.559231, 1e-6)


@pytest.mark.parametrize("alpha", [1.01, 2])
def test_to_the_paper_dead_maps_are_maps_that_tell_nothing(alpha: float) -> None:
    dead = torch.full_like(A, 3)
    values = layer_redundancy(class_gram(A), as_layer(A, dead), MedianDistance(scale=0.05), alpha, PAPER)
    assert_bits(values.redundancy_synergy.bits, 0.0)
    assert_bits(values.non_redundant.bits, 1.0)
    assert_bits(values.total_correlation.bits, 0.0)


@ALPHAS
@pytest.mark.parametrize(("how", "of_pairs"), [(PAPER, pair_information), (BEYOND, pair_excess)])
def test_pairs_are_made_of_maps_with_the_bandwidth_they_have_alone(
    alpha: float, how: Redundancy, of_pairs: Callable[..., PairInformation]
) -> None:
    layer, x = normal(30, 5, 4), gram(normal(30, 3, seed=1))
    alone = torch.stack([gram(layer[:, c]) for c in range(5)])
    pairs = of_pairs(x, alone, alpha)
    values = layer_redundancy(x, layer, MedianDistance(), alpha, how)
    tolerance = EXACT if how.paper else SINGLE
    assert_bits(values.redundancy_synergy.bits, pairs.redundancy_synergy().mean(), tolerance)
    assert_bits(values.non_redundant.bits, pairs.non_redundant().mean(), tolerance)


@ALPHAS
def test_in_the_papers_total_correlation_maps_have_the_bandwidth_of_their_joint(alpha: float) -> None:
    """Otherwise the parts would not be parts of H(T): the joint of wide kernels is the layer's own Gram matrix."""
    layer, x = normal(30, 5, 4), gram(normal(30, 3, seed=1))
    sigmas = MedianDistance()(layer)
    parts = [gaussian_gram(layer[:, [c]], sigmas[[c]]) for c in range(5)]
    values = layer_redundancy(x, layer, MedianDistance(), alpha, PAPER)
    assert_bits(values.total_correlation.bits, total_correlation(*parts, alpha=alpha, normalized=True))
    whole = renyi_entropy(gaussian_gram(layer, sigmas), alpha)
    entropies = [renyi_entropy(part, alpha) for part in parts]
    normalised = (sum(entropies) - whole) / (sum(entropies) - max(entropies))
    assert_bits(values.total_correlation.bits, normalised)


@pytest.mark.parametrize(("how", "tolerance"), [(PAPER, EXACT), (BEYOND, SINGLE)])
@pytest.mark.parametrize("alpha", [1.01, 2])
def test_multiplying_a_layer_by_a_constant_changes_nothing(alpha: float, how: Redundancy, tolerance: float) -> None:
    layer, x = normal(30, 4, 4), gram(normal(30, 3, seed=1))
    values = layer_redundancy(x, layer, MedianDistance(), alpha, how)
    for factor in (1e-6, 1e15):
        scaled = layer_redundancy(x, factor * layer, MedianDistance(), alpha, how)
        for name, value in numbers(values).items():
            assert_bits(numbers(scaled)[name], value, tolerance)


@pytest.mark.parametrize("paper", [False, True])
def test_a_rule_that_looks_at_the_targets_is_given_those_of_the_same_samples(paper: bool) -> None:
    layer, x, y = normal(60, 3, 4), gram(normal(60, 3, seed=1)), class_gram(torch.arange(60) % 3)
    rule, how = Alignment(), Redundancy(samples=20, paper=paper)
    kept = layer_redundancy(x, layer, rule, 1.01, how, target=y)
    assert all(math.isfinite(value) for value in numbers(kept).values())
    everything = layer_redundancy(x, layer, rule, 1.01, Redundancy(samples=60, paper=paper), target=y)
    assert not torch.equal(kept.redundancy_synergy.bits, everything.redundancy_synergy.bits)


# ------------------------------------------------------------------------- beyond chance: noise, copies, and between

SIZES = pytest.mark.parametrize("channels", [2, 8, 64])
ORDERS = pytest.mark.parametrize("alpha", [1.01, 2])


def beyond(x: Tensor, maps: Tensor, alpha: float, rule: Bandwidth | None = None, pairs: int = 64) -> Tensor:
    """The three values of a layer ``(n, C, d)`` beyond chance, by the defaults but for the pairs."""
    values = layer_redundancy(x, maps, rule or MedianDistance(), alpha, Redundancy(pairs))
    return torch.stack([estimate.bits for estimate in values]).double()


@ORDERS
@SIZES
def test_independent_maps_share_nothing(channels: int, alpha: float) -> None:
    """On average over layers: the scatter of one layer of two maps is 0.01 bits, and 0.05 of its total correlation."""
    layers = 16 if channels < 64 else 2
    values = [
        beyond(gram(normal(128, 10, seed=1000 + seed)), normal(128, channels, 4, seed=seed), alpha)
        for seed in range(layers)
    ]
    trade_off, non_redundant, correlation = torch.stack(values).mean(0)
    assert_bits(trade_off, 0, 0.01)
    assert_bits(non_redundant, 0, 0.01)
    assert_bits(correlation, 0, 0.02)


@ORDERS
@SIZES
def test_copies_share_all_that_one_of_them_tells(channels: int, alpha: float) -> None:
    """Rescaled and turned ones are copies too."""
    samples = normal(128, 4)
    turn = torch.linalg.qr(normal(4, 4, seed=1)).Q
    copies = torch.stack([(1 + c) * samples @ torch.matrix_power(turn, c) for c in range(channels)], 1)
    trade_off, non_redundant, correlation = beyond(gram(samples), copies, alpha)
    kernel = gram(samples)
    inputs = [kernel] + [kernel[order][:, order] for order in cyclic_shuffles(128, 2)]
    bits = torch.stack([renyi_entropy(joint_gram(one, kernel), alpha) for one in inputs])
    assert_bits(trade_off, bits[1:].mean() - bits[0], 1e-4)
    assert float(trade_off) > 0.2
    assert_bits(non_redundant, 0, 1e-4)
    assert_bits(correlation, 1, 1e-3)


@ORDERS
def test_of_512_independent_maps_too(alpha: float) -> None:
    logs = gram(normal(512, 128, 4)).mul(128).log()
    assert_bits(adjusted_total_correlation(logs, MedianDistance(), alpha), 0, 0.02)
    assert_bits(adjusted_total_correlation(logs[:1].expand_as(logs), MedianDistance(), alpha), 1, 1e-9)


@ORDERS
def test_noise_is_below_maps_of_one_input_and_these_below_copies(alpha: float) -> None:
    inputs = normal(128, 6)
    maps = torch.stack([(inputs @ normal(6, 4, seed=seed)).relu() for seed in range(8)], 1)
    noise, between, copies = (
        beyond(gram(inputs), layer, alpha) for layer in (normal(128, 8, 4, seed=9), maps, maps[:, :1].expand_as(maps))
    )
    assert float(noise[0].abs()) < 0.01
    assert float(between[0]) > 0.1
    assert float(noise[2].abs()) < 0.05
    assert 0.2 < float(between[2]) < 0.9
    assert_bits(copies[2], 1, 1e-3)
    assert float(between[1]) > 0.05
    assert_bits(copies[1], 0, 1e-4)


@ORDERS
def test_dead_maps_neither_tell_nor_dilute(alpha: float) -> None:
    """Of the six pairs among A, B and two dead maps, four are a single map, one is nothing, one is the pair itself."""
    inputs = normal(128, 4)
    live = torch.stack([inputs[:, :2], inputs[:, 2:]], 1)
    some_dead = torch.cat([live, torch.full_like(live, 3)], 1)
    x = gram(inputs)
    first, second, both = (float(value) for value in pair_excess(x, gram(live.movedim(1, 0)), alpha))
    trade_off, non_redundant, correlation = beyond(x, some_dead, alpha)
    assert_bits(trade_off, (first + second - both) / 6, SINGLE)
    assert_bits(non_redundant, (2 * both - first - second + 2 * (first + second)) / 6, SINGLE)
    assert_bits(
        correlation, adjusted_total_correlation(gram(live.movedim(1, 0)).mul(128).log(), MedianDistance(), alpha), 1e-3
    )


@ORDERS
@pytest.mark.parametrize("live", [0, 1])
def test_without_two_live_maps_there_is_no_total_correlation(alpha: float, live: int) -> None:
    layer = torch.zeros(64, 3, 4, dtype=torch.float64)
    layer[:, :live] = normal(64, live, 4)
    trade_off, non_redundant, correlation = beyond(gram(normal(64, 2, seed=1)), layer, alpha)
    assert_bits(trade_off, 0, SINGLE)
    assert bool(correlation.isnan())
    if live == 0:
        assert_bits(non_redundant, 0, SINGLE)


def test_saturated_maps_cannot_be_told_from_copies() -> None:
    """All samples are equally far from each other in every map, whatever the order."""
    layer = torch.eye(32, dtype=torch.float64).unsqueeze(1).expand(-1, 3, -1)
    assert bool(beyond(gram(normal(32, 2)), layer, 1.01)[2].isnan())


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**16), channels=st.integers(2, 6), n=st.integers(8, 40))
def test_at_two_no_total_correlation_is_above_that_of_copies(seed: int, channels: int, n: int) -> None:
    """Also of maps of which some are much richer than others: rectified, of one number or of many."""
    layer = normal(n, channels, 5, seed=seed) + normal(n, 1, 5, seed=seed + 1)
    layer = (layer - normal(channels, 1, seed=seed + 2)).relu()
    correlation = beyond(gram(normal(n, 2)), layer, 2)[2]
    assert bool(correlation.isnan()) or float(correlation) < 1 + 1e-5


@ORDERS
def test_a_number_and_its_sign_depend_on_each_other_in_part(alpha: float) -> None:
    """Measured against the larger entropy of the two it would be 3.1 at α = 1.01, and -1.9 at α = 2."""
    number = normal(128, 1, 1)
    correlation = beyond(gram(number.flatten(1)), torch.cat([number, number.sign()], 1), alpha)[2]
    assert 0.3 < float(correlation) < 0.7


@ORDERS
def test_the_set_has_the_bandwidths_that_the_rule_gives_to_it(alpha: float) -> None:
    """Shuffled or not, the joint of a total correlation is the Gram matrix of the layer."""
    layer = normal(40, 5, 3)
    orders = cyclic_shuffles(40, 10).reshape(2, 5, 40)
    mixed = [torch.stack([layer[order[c], c] for c in range(5)], 1) for order in orders]
    sigma = MedianDistance()(layer)
    joint, *chance = (renyi_entropy(gaussian_gram(maps, sigma), alpha) for maps in (layer, *mixed))
    alone = renyi_entropy(gram(layer.movedim(1, 0)), alpha).mean()
    independent = torch.stack(chance).mean()
    correlation = beyond(gram(normal(40, 2, seed=1)), layer, alpha)[2]
    assert_bits(correlation, (independent - joint) / (independent - alone), 1e-3)


@ORDERS
def test_a_rule_that_ignores_the_number_of_maps_keeps_the_plain_product(alpha: float) -> None:
    layer, x = normal(40, 4, 3), gram(normal(40, 2, seed=1))
    maps = gram(layer.movedim(1, 0), Silverman())
    values = beyond(x, layer, alpha, Silverman())
    assert_bits(values[0], redundancy_synergy(x, maps, alpha, widening=1), SINGLE)
    assert_bits(values[1], non_redundant_information(x, maps, alpha, widening=1), SINGLE)


@ORDERS
def test_float32_layers_with_an_outlier(alpha: float) -> None:
    """Of a thousand times the distance of the others: its kernel with them is below all float32."""
    layer, x = normal(60, 6, 3), gram(normal(60, 2, seed=1))
    layer[0, 0] = 1000
    assert_bits(beyond(x, layer.float(), alpha), beyond(x, layer, alpha), 1e-3)


# --------------------------------------------------------------------------------------------- sampling of pairs


def test_settings_are_values() -> None:
    how = Redundancy(map_pairs=8, samples=16, seed=3)
    assert Redundancy() == Redundancy(map_pairs=64, samples=128, seed=0, shuffles=2, paper=False)
    assert pickle.loads(pickle.dumps(how)) == how
    assert eval(repr(how)) == how
    assert hash(how) == hash(Redundancy(8, 16, 3))


@pytest.mark.parametrize(("field", "value"), [("map_pairs", 0), ("map_pairs", -1), ("samples", 1), ("shuffles", 0)])
def test_no_pairs_one_sample_and_no_shuffle_are_refused(field: str, value: int) -> None:
    expected = r"expected map_pairs >= 1, samples >= 2 and shuffles >= 1\."
    with pytest.raises(ValueError, match=rf"Redundancy\(.*{field}={value}.*\): {expected}"):
        Redundancy(**{field: value})


MANY, INPUT = normal(40, 24, 3), gram(normal(40, 3, seed=1))
EVERY_PAIR = 24 * 23 // 2


def sampled(pairs: int, seed: int = 0, alpha: float = 2, samples: int = 40, paper: bool = True) -> dict[str, float]:
    how = Redundancy(pairs, samples, seed, paper=paper)
    return numbers(layer_redundancy(INPUT, MANY, MedianDistance(), alpha, how))


@pytest.mark.parametrize("paper", [False, True])
@pytest.mark.parametrize("alpha", [1.01, 2])
def test_a_sample_is_the_same_at_every_call(alpha: float, paper: bool) -> None:
    torch.manual_seed(5)
    with assert_leaves_random_state():
        first = sampled(30, alpha=alpha, samples=20, paper=paper)
    torch.manual_seed(6)
    assert sampled(30, alpha=alpha, samples=20, paper=paper) == first


@pytest.mark.parametrize("paper", [False, True])
def test_another_seed_is_another_sample_of_pairs(paper: bool) -> None:
    assert sampled(30, seed=1, paper=paper) != sampled(30, seed=2, paper=paper)


@pytest.mark.parametrize(
    ("rule", "alpha", "values"),
    [
        (MedianDistance(), 1.01, (0.01326884595, 1.106841019177, 0.425720667076, 0.00682837673, 0.009089709699)),
        (MedianDistance(), 2, (-0.098261781843, 0.395714879441, 0.048406226968, 0.004612316107, 0.005879088915)),
        (Silverman(), 1.01, (-0.038944837012, 0.710115093828, 0.877155463365, 0.003221356345, 0.010228978326)),
        (Silverman(), 2, (-0.021000540466, 0.118531290833, 0.734388541315, 0.001069413856, 0.006611114542)),
    ],
)
def test_the_papers_definition_gives_what_it_always_gave(
    rule: Bandwidth, alpha: float, values: tuple[float, ...]
) -> None:
    how = Redundancy(map_pairs=30, samples=20, paper=True)
    found = numbers(layer_redundancy(INPUT, MANY, rule, alpha, how))
    assert list(found.values())[:5] == pytest.approx(values, abs=EXACT)


def test_a_sample_of_pairs_is_the_mean_over_these_pairs() -> None:
    pairs = choose_map_pairs(24, 30, seed=7)
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
    return {(str(row.place), row.quantity): row.value for row in rows}


LIVE = {"redundancy_synergy", "non_redundant", "total_correlation"}


@pytest.mark.parametrize("alpha", [1.01, 2])
def test_in_the_plane_they_are_rows_of_each_layer_with_maps(alpha: float) -> None:
    plane = InformationPlane(Estimator(alpha, CLASSES, shuffles=0), PAPER)
    layers = {
        "xor": as_layer(A, B),
        "copies": as_layer(A ^ B, A ^ B),
        "one map": as_layer(A),
        "vectors": as_layer(A, B).squeeze(-1),  # (n, d) is one variable
    }
    sentence = "2 layers have one feature map each and so no pairs: their redundancy is left out: one map, vectors."
    with pytest.warns(UserWarning, match=sentence) as caught:
        rows = rows_of(plane.measure((A ^ B).double(), A, layers))
    assert len(caught) == 1
    assert rows["xor", "redundancy_synergy"] == pytest.approx(-1, abs=EXACT)
    assert rows["xor", "non_redundant"] == pytest.approx(2, abs=EXACT)
    assert rows["xor", "total_correlation"] == pytest.approx(0, abs=EXACT)
    assert rows["copies", "redundancy_synergy"] == pytest.approx(1, abs=EXACT)
    assert rows["copies", "non_redundant"] == pytest.approx(0, abs=EXACT)
    assert rows["copies", "total_correlation"] == pytest.approx(1, abs=EXACT)
    assert {layer for layer, quantity in rows if quantity in LIVE} == {"xor", "copies"}
    assert {layer for layer, quantity in rows if quantity == "I_XT"} == set(layers)


@pytest.fixture(scope="module")
def asked_for(tmp_path_factory: pytest.TempPathFactory) -> dict[object, dict[tuple[str, str], float]]:
    """What a callback measures of the same network when asked for redundancy in different ways."""
    rows: dict[object, dict[tuple[str, str], float]] = {}
    for asked in (False, True, Redundancy(), Redundancy(map_pairs=2, samples=8)):
        measured = callback(redundancy=asked, estimator=Estimator(shuffles=0))
        fit(tmp_path_factory.mktemp("asked"), measured, max_epochs=1)
        rows[asked] = {key: value for key, value in rows_of(list(measured.history)).items() if key[1] in LIVE}
    return rows


def test_the_callback_takes_yes_no_or_how(asked_for: dict[object, dict[tuple[str, str], float]]) -> None:
    assert asked_for[False] == {}
    assert set(asked_for[True]) == {(layer, quantity) for layer in ("conv1", "conv2") for quantity in LIVE}
    assert asked_for[True] == asked_for[Redundancy()]
    few = asked_for[Redundancy(map_pairs=2, samples=8)]
    assert set(few) == set(asked_for[True])
    assert all(few[key] != value for key, value in asked_for[True].items())


def test_they_are_off_unless_asked_for() -> None:
    rows = rows_of(InformationPlane(Estimator(shuffles=0)).measure(A.double(), B, {"layer": as_layer(A, B)}))
    assert not LIVE & {quantity for _, quantity in rows}


@pytest.mark.parametrize("paper", [False, True])
def test_images_as_maps(paper: bool) -> None:
    layer = normal(20, 3, 4, 4)
    plane = InformationPlane(Estimator(2, shuffles=0), Redundancy(paper=paper))
    rows = rows_of(plane.measure(normal(20, 2, seed=1), None, {"conv": layer}))
    expected = redundancy_synergy(gram(normal(20, 2, seed=1)), gram(layer.flatten(2).movedim(1, 0)), 2, paper=paper)
    assert rows["conv", "redundancy_synergy"] == pytest.approx(float(expected), abs=SINGLE)


def test_a_layer_without_live_maps_has_no_total_correlation() -> None:
    plane = InformationPlane(Estimator(shuffles=0), Redundancy())
    rows = rows_of(plane.measure(normal(20, 2), None, {"dead": torch.zeros(20, 3, 4)}))
    assert rows["dead", "redundancy_synergy"] == pytest.approx(0, abs=SINGLE)
    assert rows["dead", "non_redundant"] == pytest.approx(0, abs=SINGLE)
    assert ("dead", "total_correlation") not in rows


def test_a_layer_that_is_not_finite_is_left_out_with_a_warning() -> None:
    plane = InformationPlane(Estimator(shuffles=0), Redundancy())
    broken = as_layer(A, B)
    broken[3, 1] = torch.nan
    with pytest.warns(UserWarning, match="layer 'broken' is left out: NaN or infinite values") as caught:
        rows = rows_of(plane.measure(A.double(), B, {"broken": broken, "fine": as_layer(A, B)}))
    assert len(caught) == 1
    assert {layer for layer, quantity in rows if quantity in LIVE} == {"fine"}


def test_the_same_pairs_and_samples_at_every_epoch() -> None:
    plane = InformationPlane(Estimator(shuffles=0), Redundancy(map_pairs=10, samples=16))
    for epoch in range(2):
        plane.measure(normal(40, 2), None, {"conv": MANY}, epoch)
    first, second = ([row.value for row in plane.history if row.epoch == epoch] for epoch in range(2))
    assert first == second


def test_a_layer_of_one_map_is_left_out_with_a_sentence() -> None:
    net = torch.nn.Sequential(torch.nn.Conv2d(1, 1, 3), torch.nn.ReLU(), torch.nn.Conv2d(1, 2, 3))
    probe = Probe(torch.randn(16, 1, 8, 8, generator=torch.Generator().manual_seed(0)))
    with pytest.warns(UserWarning, match="layer '0' has one feature map and so no pairs"):
        rows = measure(net, probe, redundancy=Redundancy(map_pairs=1, samples=16))
    assert {row.place for row in rows if row.quantity == "redundancy_synergy"} == {"2"}


# ------------------------------------------------------------------------------------------------------ bad input

EYE = torch.eye(3) / 3
STACK = EYE.repeat(4, 1, 1)
NEGATIVE = torch.tensor([[2.0, -1.0, 0.0], [-1.0, 2.0, 0.0], [0.0, 0.0, 2.0]]) / 6
BAD: list[tuple[Callable[[], object], str]] = [
    (lambda: choose_map_pairs(1), r"pairs need at least two feature maps, got 1"),
    (lambda: choose_map_pairs(3, at_most=0), r"at_most=0: expected at least one pair, or None for all of them"),
    (
        lambda: redundancy_synergy(EYE, EYE),
        r"expected Gram matrices x \(n, n\) and maps \(C, n, n\) over the same samples, got \(3, 3\) and \(3, 3\)\. "
        r"Make the stack with gram\(maps\.flatten\(2\)\.movedim\(1, 0\)\)",
    ),
    (lambda: redundancy_synergy(torch.eye(4) / 4, STACK), r"over the same samples, got \(4, 4\) and \(4, 3, 3\)"),
    (lambda: redundancy_synergy(STACK, STACK), r"over the same samples, got \(4, 3, 3\) and \(4, 3, 3\)"),
    (lambda: redundancy_synergy(EYE, 2 * STACK), r"maps: the trace is 2, expected 1"),
    (lambda: redundancy_synergy(EYE, STACK[:1], paper=True), r"pairs need at least two feature maps, got 1"),
    (lambda: redundancy_synergy(EYE, STACK, widening=0.5), r"widening=0\.5, shuffles=2: expected numbers of 1 or more"),
    (lambda: non_redundant_information(EYE, STACK, shuffles=0), r"shuffles=0: expected numbers of 1 or more"),
    (
        lambda: non_redundant_information(EYE, torch.stack([NEGATIVE, NEGATIVE])),
        r"maps: negative entries have no root\. Use a kernel without them, as gram\(samples\) does, or widening=1",
    ),
    (lambda: redundancy_synergy(EYE, STACK[:1]), r"pairs need at least two feature maps, got 1"),
    (lambda: redundancy_synergy(EYE, STACK, alpha=-1), r"alpha=-1: expected a positive number"),
    (
        lambda: redundancy_synergy(EYE, STACK, map_pairs=torch.tensor([[0, 4]])),
        r"map_pairs: expected \(P, 2\) indices of the 4 maps, got .*Call choose_map_pairs\(4, at_most=P\)",
    ),
    (lambda: redundancy_synergy(EYE, STACK, map_pairs=torch.tensor([0, 1])), r"indices of the 4 maps, got \(2,\)"),
    (
        lambda: redundancy_synergy(EYE, STACK, map_pairs=torch.empty(0, 2, dtype=torch.long)),
        r"indices of the 4 maps, got \(0, 2\)",
    ),
]


@pytest.mark.parametrize(("call", "message"), BAD)
def test_bad_input(call: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()
