"""Redundancy and synergy of feature maps: gates, the naive loop, what bandwidths do, sampling of pairs."""

import math
from collections.abc import Callable

import oracle
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from properties import FLOAT32_BITS, assert_bits, assert_finite_gradient, assert_leaves_random_state, normal
from torch import Tensor

from lightning_infoplane import (
    Fixed,
    class_gram,
    gram,
    joint_gram,
    map_grams,
    map_pairs,
    mutual_information,
    non_redundant_information,
    pair_information,
    redundancy_synergy,
)

A, B = torch.tensor([0, 0, 1, 1]), torch.tensor([0, 1, 0, 1])


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
    assert_bits(redundancy_synergy(x, maps, alpha), trade_off)
    assert_bits(non_redundant_information(x, maps, alpha), non_redundant)


@pytest.mark.parametrize(
    ("alpha", "table"),
    [
        (1, (0.311278, 0.311278, 0.811278, -0.188722, 1.0)),
        (1.01, (0.310515, 0.310515, 0.809649, -0.188618, 0.998267)),
        (2, None),
    ],
)
def test_the_and_gate(alpha: float, table: tuple[float, ...] | None) -> None:
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
    assert_bits(redundancy_synergy(x, maps, alpha), expected[0])
    assert_bits(non_redundant_information(x, maps, alpha), expected[1])


def test_the_product_of_all_pairs_does_not_assume_a_constant_diagonal() -> None:
    linear = torch.stack([joint_gram(f @ f.mT) for f in normal(4, 10, 12)])
    x = joint_gram(normal(10, 12, seed=1) @ normal(10, 12, seed=1).mT)
    expected = oracle.pair_means(x.numpy(), list(linear.numpy()), 2)
    assert_bits(redundancy_synergy(x, linear, 2), expected[0])
    assert_bits(non_redundant_information(x, linear, 2), expected[1])


@pytest.mark.parametrize("alpha", [1.01, 2])
def test_each_pair_is_three_mutual_informations(alpha: float) -> None:
    maps, x = map_grams(normal(20, 4, 2)), gram(normal(20, 3, seed=1))
    pairs = torch.tensor([[3, 1], [0, 2]])
    first, second, both = pair_information(x, maps, alpha, pairs)
    for row, (i, j) in enumerate(pairs.tolist()):
        assert_bits(first[row], mutual_information(x, maps[i], alpha))
        assert_bits(second[row], mutual_information(x, maps[j], alpha))
        assert_bits(both[row], mutual_information(x, joint_gram(maps[i], maps[j]), alpha))


@pytest.mark.parametrize("alpha", [1.01, 2])
def test_float32_matrices(alpha: float) -> None:
    maps, x = map_grams(normal(60, 5, 4)), gram(normal(60, 3, seed=1))
    for mean in (redundancy_synergy, non_redundant_information):
        assert_bits(mean(x.float(), maps.float(), alpha), mean(x, maps, alpha), FLOAT32_BITS)
        assert_bits(mean(x, maps.float(), alpha), mean(x, maps, alpha), FLOAT32_BITS)


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
    trade_off = redundancy_synergy(gaussian, torch.stack([gaussian, gaussian]), alpha)
    assert_bits(trade_off, 2 * alone - both)
    assert float(trade_off) < alone - 0.1
    if alpha == 1:
        assert (alone, both, float(trade_off)) == pytest.approx((0.668122, 0.777013, 0.559231), abs=1e-6)
    classes = class_gram(labels)
    assert_bits(redundancy_synergy(classes, torch.stack([classes, classes]), alpha), 1.0)


def test_the_trade_off_does_not_depend_on_the_order_of_maps_or_samples() -> None:
    maps, x = map_grams(normal(15, 4, 2)), gram(normal(15, 3, seed=1))
    maps_order, order = torch.tensor([2, 0, 3, 1]), torch.randperm(15, generator=torch.Generator().manual_seed(0))
    for alpha in (1.01, 2):
        value = redundancy_synergy(x, maps, alpha)
        assert_bits(redundancy_synergy(x, maps[maps_order], alpha), value)
        assert_bits(redundancy_synergy(x[order][:, order], maps[:, order][:, :, order], alpha), value)


def test_batches_of_pairs_do_not_change_the_values() -> None:
    """At n = 512 a batch holds sixteen pairs."""
    maps, x = map_grams(normal(512, 7, 2)), gram(normal(512, 2, seed=1))
    value = pair_information(x, maps, 1.01, torch.tensor([[5, 6]])).both
    assert_bits(pair_information(x, maps, 1.01).both[-1:], value)


# Which pairs


def test_all_pairs_once() -> None:
    pairs = map_pairs(6)
    assert pairs.shape == (15, 2)
    assert bool((pairs[:, 0] < pairs[:, 1]).all())
    assert len(pairs.unique(dim=0)) == 15
    assert torch.equal(map_pairs(6, at_most=15), pairs)
    assert torch.equal(map_pairs(6, at_most=99), pairs)


def test_a_sample_of_pairs_is_seeded_and_without_repetition() -> None:
    with assert_leaves_random_state():
        pairs = map_pairs(30, at_most=50, seed=1)
    assert torch.equal(pairs, map_pairs(30, at_most=50, seed=1))
    assert not torch.equal(pairs, map_pairs(30, at_most=50, seed=2))
    assert len(pairs.unique(dim=0)) == 50


def test_a_sample_of_pairs_estimates_the_mean() -> None:
    maps, x = map_grams(normal(30, 24, 2)), gram(normal(30, 3, seed=1))
    every = pair_information(x, maps, 2).redundancy_synergy()
    some = redundancy_synergy(x, maps, 2, map_pairs(24, at_most=100))
    assert abs(float(some - every.mean())) < 3 * float(every.std()) / 10


@pytest.mark.parametrize("alpha", [1, 1.01, 2])
def test_gradients(alpha: float) -> None:
    x = gram(normal(5, 2, seed=1), Fixed(1.0))

    def trade_off(layer: Tensor) -> Tensor:
        return redundancy_synergy(x, map_grams(layer, Fixed(1.0)), alpha)

    assert torch.autograd.gradcheck(trade_off, (normal(5, 3, 1).requires_grad_(),))
    assert_finite_gradient(trade_off, torch.zeros(5, 3, 1))


EYE = torch.eye(3) / 3
STACK = EYE.repeat(4, 1, 1)
BAD: list[tuple[Callable[[], object], str]] = [
    (lambda: map_pairs(1), r"pairs need at least two feature maps, got 1"),
    (lambda: map_pairs(3, at_most=0), r"at_most=0: expected at least one pair, or None for all of them"),
    (
        lambda: redundancy_synergy(EYE, EYE),
        r"expected Gram matrices x \(n, n\) and maps \(C, n, n\) over the same samples, got \(3, 3\) and \(3, 3\)\. "
        r"Make the stack with map_grams\(activations\)",
    ),
    (lambda: redundancy_synergy(torch.eye(4) / 4, STACK), r"over the same samples, got \(4, 4\) and \(4, 3, 3\)"),
    (lambda: redundancy_synergy(STACK, STACK), r"over the same samples, got \(4, 3, 3\) and \(4, 3, 3\)"),
    (lambda: redundancy_synergy(EYE, 2 * STACK), r"maps: the trace is 2, expected 1"),
    (lambda: redundancy_synergy(EYE, STACK[:1]), r"pairs need at least two feature maps, got 1"),
    (lambda: redundancy_synergy(EYE, STACK, alpha=-1), r"alpha=-1: expected a positive number"),
    (
        lambda: redundancy_synergy(EYE, STACK, pairs=torch.tensor([[0, 4]])),
        r"pairs: expected \(P, 2\) indices of the 4 maps, got .*Call map_pairs\(4, at_most=P\)",
    ),
    (lambda: redundancy_synergy(EYE, STACK, pairs=torch.tensor([0, 1])), r"indices of the 4 maps, got \(2,\)"),
    (
        lambda: redundancy_synergy(EYE, STACK, pairs=torch.empty(0, 2, dtype=torch.long)),
        r"indices of the 4 maps, got \(0, 2\)",
    ),
]


@pytest.mark.parametrize(("call", "message"), BAD)
def test_bad_input(call: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()
