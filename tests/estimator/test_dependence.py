"""Adjusted information and debiased CKA: 0 for independent variables, 1 for a copy, no value if nothing is resolved."""

import itertools
import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from properties import assert_bits, assert_finite_gradient, assert_leaves_random_state, normal
from torch import Tensor

from lightning_infoplane import Eigenvalues, Fixed, Lanczos, class_gram, gram, mutual_information, renyi_entropy
from lightning_infoplane.estimator.dependence import (
    adjusted_mutual_information,
    cyclic_shuffles,
    debiased_cka,
    effective_rank,
    is_resolved,
    ratio_of_excess,
    shuffled_entropy,
)
from lightning_infoplane.estimator.grams import joint_gram, normalize_trace, reordered
from lightning_infoplane.estimator.limits import RESOLVED_BITS, RESOLVED_DEVIATIONS, SATURATED_SHARE

N = 512
INPUT = normal(N, 8, seed=1) @ normal(8, 60, seed=2)
Measure = Callable[[Tensor, Tensor], Tensor]
BOTH = pytest.mark.parametrize("measure", [adjusted_mutual_information, debiased_cka])


def noise(features: int, seed: int) -> Tensor:
    """A Gram matrix that has nothing to do with the input."""
    return gram(normal(N, features, seed=100 + seed))


def one_hot(labels: Tensor) -> Tensor:
    return torch.nn.functional.one_hot(labels).double()


# --------------------------------------------------------------------------------------------------- its fixed points


@BOTH
@pytest.mark.parametrize("features", [1, 2, 10, 100, 1000, 3072])
def test_noise_of_any_dimension_has_nothing(measure: Measure, features: int) -> None:
    """Over two draws: a single one has its share of luck in a hundred dimensions."""
    values = torch.stack([measure(gram(INPUT), noise(features, seed)) for seed in range(2)])
    assert abs(float(values.mean())) <= 0.02


def test_in_bits_noise_has_most_of_what_the_input_itself_has() -> None:
    itself = mutual_information(gram(INPUT), gram(INPUT))
    assert float(mutual_information(gram(INPUT), noise(60, 0))) > 0.6 * float(itself)


@BOTH
@pytest.mark.parametrize(
    "change",
    [
        lambda x: x,
        lambda x: 7 * x + 3,
        lambda x: x @ torch.linalg.qr(normal(60, 60, seed=3)).Q,
        lambda x: x.flip(1),
        lambda x: torch.cat([x, x], 1),
    ],
    ids=["copy", "scaled and shifted", "rotated", "features reordered", "doubled"],
)
def test_a_copy_has_all(measure: Measure, change: Callable[[Tensor], Tensor]) -> None:
    assert_bits(measure(gram(INPUT), gram(change(INPUT))), 1.0, 1e-6)


@pytest.mark.parametrize("classes", [2, 10, 100])
def test_a_perfect_code_of_a_label_has_nearly_all(classes: int) -> None:
    labels = torch.arange(N) % classes
    assert_bits(adjusted_mutual_information(gram(one_hot(labels)), class_gram(labels)), 1.0, 0.03)


def test_more_noise_leaves_less() -> None:
    """Where raw information may even rise."""
    levels = [0.0, 0.3, 1.0, 3.0, 10.0]
    noisy = [INPUT + level * INPUT.std() * normal(N, 60, seed=4) for level in levels]
    values = [float(adjusted_mutual_information(gram(INPUT), gram(one))) for one in noisy]
    assert values == sorted(values, reverse=True)
    assert values[0] == pytest.approx(1.0)
    assert abs(values[-1]) < 0.05


# ------------------------------------------------------------------------------------------------------ its definition


def test_it_is_the_excess_over_the_roots_of_the_excesses_of_each_with_itself() -> None:
    a, b, alpha = gram(normal(24, 3, seed=5)), gram(normal(24, 2, seed=6)), 1.5
    orders = cyclic_shuffles(24, 3, seed=7)

    def excess(one: Tensor, other: Tensor) -> Tensor:
        mixed = [mutual_information(one, other[order][:, order], alpha) for order in orders]
        return mutual_information(one, other, alpha) - torch.stack(mixed).mean()

    expected = excess(a, b) / (excess(a, a) * excess(b, b)).sqrt()
    assert_bits(adjusted_mutual_information(a, b, alpha, shuffles=3, seed=7), expected, 1e-9)


def test_it_is_symmetric_but_for_the_scatter_of_the_shuffles() -> None:
    a, b = gram(INPUT), gram(INPUT[:, :20] + normal(N, 20, seed=8))
    assert_bits(adjusted_mutual_information(a, b), adjusted_mutual_information(b, a), 0.01)
    assert_bits(debiased_cka(a, b), debiased_cka(b, a), 1e-12)


def test_cka_is_the_definition_of_song_et_al() -> None:
    """HSIC₁ in its first form: traces and sums over all ordered tuples of different samples."""
    a, b = gram(normal(7, 2, seed=9)), gram(normal(7, 2, seed=10))

    def hsic(one: Tensor, other: Tensor) -> float:
        k, l_ = (matrix.double().numpy() * (1 - np.eye(7)) for matrix in (one, other))
        ones, n = np.ones(7), 7
        first = np.trace(k @ l_)
        second = (ones @ k @ ones) * (ones @ l_ @ ones) / ((n - 1) * (n - 2))
        third = 2 / (n - 2) * (ones @ k @ l_ @ ones)
        return float(first + second - third) / (n * (n - 3))

    assert_bits(debiased_cka(a, b), hsic(a, b) / math.sqrt(hsic(a, a) * hsic(b, b)), 1e-12)


def test_effective_rank_counts_equal_directions() -> None:
    blocks = class_gram(torch.arange(60) % 5)
    assert_bits(effective_rank(blocks), 5.0)
    assert_bits(effective_rank(blocks, alpha=2), 5.0)


def test_effective_rank_is_the_exponential_of_the_entropy() -> None:
    matrix = gram(INPUT[:64])
    assert_bits(effective_rank(matrix, 1.01).log2(), renyi_entropy(matrix, 1.01))


def rankme(embeddings: Tensor, alpha: float = 1.0) -> float:
    """Naively: the exponential of the entropy of the singular values."""
    singular = torch.linalg.svdvals(embeddings)
    weights = singular / singular.sum()
    if alpha == 1:
        return float((-(weights * weights.log()).sum()).exp())
    return float(weights.pow(alpha).sum() ** (1 / (1 - alpha)))


@pytest.mark.parametrize("alpha", [1.0, 2.0])
@pytest.mark.parametrize(("samples", "features"), [(40, 6), (40, 40), (30, 200)])
def test_of_singular_values_it_is_rankme(samples: int, features: int, alpha: float) -> None:
    """Where samples are more than features, eigenvalues that are zero but for rounding count for nothing."""
    embeddings = normal(samples, features, seed=11) * torch.logspace(0, -2, features, dtype=torch.float64)
    linear = normalize_trace(embeddings @ embeddings.mT)
    assert_bits(effective_rank(linear, alpha, singular_values=True), rankme(embeddings, alpha), 1e-5)
    single = effective_rank(linear.float(), alpha, singular_values=True)
    assert float(single) == pytest.approx(rankme(embeddings, alpha), rel=5e-3)


def test_singular_values_count_more_than_eigenvalues() -> None:
    embeddings = normal(40, 6, seed=11) * torch.tensor([5.0, 3.0, 1.0, 1.0, 0.5, 0.1])
    linear = normalize_trace(embeddings @ embeddings.mT)
    assert float(effective_rank(linear)) < float(effective_rank(linear, singular_values=True)) < 6


# ------------------------------------------------------------------------------------------------------ no value


@BOTH
@pytest.mark.parametrize(
    "unresolved",
    [torch.full((N, N), 1 / N, dtype=torch.float64), torch.eye(N, dtype=torch.float64) / N],
    ids=["constant", "saturated"],
)
def test_what_is_not_resolved_has_no_value(measure: Measure, unresolved: Tensor) -> None:
    assert bool(measure(gram(INPUT), unresolved).isnan())
    assert bool(measure(unresolved, gram(INPUT)).isnan())


def test_a_saturated_layer_has_no_value() -> None:
    assert bool(adjusted_mutual_information(gram(INPUT), gram(INPUT, Fixed(1e-3))).isnan())


@pytest.mark.parametrize("narrower", [4.5, 5.0])
def test_a_nearly_saturated_layer_has_no_value(narrower: float) -> None:
    """All it shares with anything is a few pairs of near samples, and the ratio would be a tenth more than one."""
    samples = normal(N, 60, seed=17) + 1.5 * normal(10, 60, seed=18)[torch.arange(N) % 10]
    narrow = gram(samples, Fixed(float(torch.pdist(samples).median()) / narrower))
    assert bool(adjusted_mutual_information(gram(samples), narrow).isnan())


@pytest.mark.parametrize("features", [1000, 3072])
def test_spectra_in_float32_resolve_what_float64_does(features: int) -> None:
    a, b = gram(INPUT.float()), noise(features, 0).float()
    rough = adjusted_mutual_information(a, b, solver=Eigenvalues(torch.float32))
    assert abs(float(rough)) <= 0.02
    assert_bits(rough, adjusted_mutual_information(a, b), 2e-3)


def test_resolved_is_both_enough_bits_and_enough_deviations() -> None:
    bits = torch.tensor([2.0, 0.99, 2.0, 2.0, -2.0]) * RESOLVED_BITS
    scatter = torch.tensor([0.0, 0.0, 1.99, 2.01, 0.0]) * RESOLVED_BITS / RESOLVED_DEVIATIONS
    assert is_resolved(bits, scatter, torch.tensor(0.5)).tolist() == [True, False, True, False, False]
    shares = torch.tensor([0.0, SATURATED_SHARE - 1e-6, SATURATED_SHARE + 1e-6, 1.0])
    assert is_resolved(bits[:1], scatter[:1], shares).tolist() == [True, True, False, False]


def test_a_ratio_that_is_not_resolved_has_neither_value_nor_gradient() -> None:
    first = torch.tensor([4.0, -1.0], requires_grad=True)
    ratio = ratio_of_excess(torch.tensor([1.0, 1.0]), first, torch.ones(2), torch.tensor([True, False]))
    assert ratio.isnan().tolist() == [False, True]
    ratio[0].backward()
    assert first.grad is not None
    assert first.grad.tolist() == [-1 / 16, 0]


def test_one_that_is_not_resolved_costs_the_others_of_a_batch_nothing() -> None:
    stack = torch.stack([gram(INPUT), torch.full((N, N), 1 / N, dtype=torch.float64), gram(INPUT[:, :5])])
    values = adjusted_mutual_information(gram(INPUT), stack)
    assert values.isnan().tolist() == [False, True, False]
    assert_bits(values[2], adjusted_mutual_information(gram(INPUT), stack[2]), 1e-9)


# ------------------------------------------------------------------------------------------------------ the shuffles


@pytest.mark.parametrize("n", [2, 7, 64])
def test_a_shuffle_is_one_cycle_and_leaves_nobody_in_place(n: int) -> None:
    for order in cyclic_shuffles(n, 5, seed=3).tolist():
        at, seen = 0, []
        while at not in seen:
            seen.append(at)
            at = order[at]
        assert sorted(seen) == list(range(n))


def test_shuffles_are_seeded_and_leave_the_random_state() -> None:
    with assert_leaves_random_state():
        first = cyclic_shuffles(32, 3, seed=1)
    assert torch.equal(first, cyclic_shuffles(32, 3, seed=1))
    assert not torch.equal(first, cyclic_shuffles(32, 3, seed=2))


@pytest.mark.parametrize("shuffle_seed", range(3))
def test_the_seed_of_the_shuffles_hardly_matters(shuffle_seed: int) -> None:
    a, b = gram(INPUT), gram(INPUT[:, :10])
    assert_bits(adjusted_mutual_information(a, b, seed=shuffle_seed), adjusted_mutual_information(a, b, seed=99), 0.02)


# ------------------------------------------------------------------------------- all shuffles, at order two, at once


@pytest.mark.parametrize(
    ("a", "b"),
    [
        (gram(normal(5, 2, seed=15)), gram(normal(5, 3, seed=16))),
        (gram(normal(6, 2, seed=15)), class_gram(torch.arange(6) % 2)),
    ],
    ids=["Gaussian", "classes"],
)
def test_a_shuffled_entropy_is_that_of_the_mean_over_all_permutations(a: Tensor, b: Tensor) -> None:
    orders = torch.tensor(list(itertools.permutations(range(len(a)))))
    squares = torch.stack([joint_gram(a, reordered(b, order)).square().sum() for order in orders])
    assert_bits(shuffled_entropy(a, b), -squares.mean().log2(), 1e-12)


@pytest.mark.parametrize("features", [1, 10, 100])
@pytest.mark.parametrize("other", [gram(INPUT), class_gram(torch.arange(N) % 10)], ids=["Gaussian", "classes"])
def test_it_is_the_mean_of_many_shuffles(features: int, other: Tensor) -> None:
    a = noise(features, 3)
    many = [Eigenvalues()(joint_gram(a, reordered(other, order)), 2) for order in cyclic_shuffles(N, 100)]
    assert_bits(shuffled_entropy(a, other), torch.stack(many).mean(), 2e-3)


def test_without_shuffles_adjusted_information_is_that_of_many() -> None:
    a = gram(INPUT)
    for b in (gram(INPUT[:, :5]), class_gram(torch.arange(N) % 10), noise(2, 0)):
        at_once = adjusted_mutual_information(a, b, alpha=2, shuffles=0)
        assert_bits(at_once, adjusted_mutual_information(a, b, alpha=2, shuffles=40), 5e-3)


def test_without_shuffles_a_copy_has_all_and_noise_nothing() -> None:
    a = gram(INPUT)
    assert_bits(adjusted_mutual_information(a, a, alpha=2, shuffles=0), 1.0)
    stack = torch.stack([noise(100, seed) for seed in range(5)])
    values = adjusted_mutual_information(a, stack, alpha=2, shuffles=0)
    assert abs(float(values.mean())) <= 0.02
    assert_bits(values[1], adjusted_mutual_information(a, stack[1], alpha=2, shuffles=0))


def test_without_shuffles_what_is_not_resolved_has_no_value() -> None:
    for unresolved in (torch.full((N, N), 1 / N, dtype=torch.float64), gram(INPUT, Fixed(1e-3))):
        assert bool(adjusted_mutual_information(gram(INPUT), unresolved, alpha=2, shuffles=0).isnan())


# ---------------------------------------------------------------------------------------------------- the edges


def test_gradients() -> None:
    reference = gram(normal(24, 3, seed=12), Fixed(2.0))
    samples = normal(24, 3, seed=12) + 0.3 * normal(24, 3, seed=13)
    for measure in (adjusted_mutual_information, debiased_cka):
        gradient = assert_finite_gradient(lambda x, of=measure: of(gram(x, Fixed(2.0)), reference), samples)
        assert float(gradient.abs().max()) > 0
    exact = lambda x: adjusted_mutual_information(gram(x, Fixed(2.0)), reference, alpha=2, shuffles=0)  # noqa: E731
    assert float(assert_finite_gradient(exact, samples).abs().max()) > 0
    assert_finite_gradient(lambda x: effective_rank(gram(x, Fixed(2.0))), samples)
    # A linear matrix of 24 samples and 3 features has 21 eigenvalues of zero, whose root has no gradient.
    linear = lambda x: effective_rank(normalize_trace(x @ x.mT), singular_values=True)  # noqa: E731
    assert float(assert_finite_gradient(linear, samples).abs().max()) > 0


def test_a_gradient_beside_one_that_is_not_resolved_is_finite() -> None:
    constant = torch.full((24, 24), 1 / 24, dtype=torch.float64)
    for measure in (adjusted_mutual_information, debiased_cka):
        stack = lambda x: torch.stack([gram(x, Fixed(2.0)), constant])  # noqa: E731
        assert_finite_gradient(
            lambda x, of=measure, both=stack: of(gram(x, Fixed(2.0)), both(x)).nan_to_num(0), normal(24, 3, seed=14)
        )


def test_an_approximate_solver_comes_close() -> None:
    a, b = gram(INPUT[:128]), gram(INPUT[:128, :10])
    approximate = adjusted_mutual_information(a, b, solver=Lanczos(vectors=512))
    assert_bits(approximate, adjusted_mutual_information(a, b), 0.05)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda a: adjusted_mutual_information(a, a, shuffles=1), "shuffles=1: expected 2 or more"),
        (lambda a: adjusted_mutual_information(a, a, shuffles=0), r"shuffles=0 with alpha=2, .* Got alpha=1.01"),
        (lambda a: adjusted_mutual_information(a, a, alpha=2, shuffles=1), "shuffles=1: expected 2 or more"),
        (lambda a: adjusted_mutual_information(a, a, alpha=2, shuffles=-1), "shuffles=-1: expected 2 or more"),
        (lambda a: adjusted_mutual_information(a, a, alpha=0), "alpha=0"),
        (lambda a: adjusted_mutual_information(2 * a, a), "a: the trace is 2"),
        (lambda a: adjusted_mutual_information(a, normal(24, 3)), r"b: expected a floating-point Gram matrix"),
        (lambda a: debiased_cka(a[:3, :3], a[:3, :3]), "4 samples or more, got"),
        (lambda a: debiased_cka(a, a[:5, :5]), r"got \(24, 24\) and \(5, 5\)"),
        (lambda a: effective_rank(2 * a), "gram: the trace is 2"),
        (
            lambda a: effective_rank(a, solver=Lanczos(), singular_values=True),
            r"expected solver=Eigenvalues\(\), got Lanczos",
        ),
        (lambda a: cyclic_shuffles(1, 1), "n=1: expected 2 samples or more"),
    ],
)
def test_bad_input(call: Callable[[Tensor], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call(gram(normal(24, 3)))
