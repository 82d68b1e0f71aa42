"""Signed sums of entropies: gates, the counter-example to subadditivity, chance, gradients."""

import functools
import math
from collections.abc import Callable

import oracle
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
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
    Fixed,
    class_gram,
    conditional_mutual_information,
    dpi_gaps,
    dual_total_correlation,
    feature_map_gram,
    gram,
    joint_gram,
    mutual_information,
    o_information,
    permutation_test,
    renyi_entropy,
    total_correlation,
)
from lightning_infoplane.estimator.information import p_value, shared_bits

A, B = torch.tensor([0, 0, 1, 1]), torch.tensor([0, 1, 0, 1])
AND = {1: (0.311278, 0.811278), 1.01: (0.310515, 0.809649)}  # I(X;A) and I(X;A,B)


def bits_of(*labels: Tensor) -> list[Tensor]:
    return [class_gram(label) for label in labels]


# Exact values


@pytest.mark.parametrize("alpha", [1, 1.01, 2])
@pytest.mark.parametrize(
    ("target", "first", "second", "alone", "both"),
    [
        (A ^ B, A, B, (0, 0), 1),
        (A, A, A, (1, 1), 1),
        (2 * A + B, A, B, (1, 1), 2),
    ],
    ids=["XOR", "COPY", "UNQ"],
)
def test_gates(target: Tensor, first: Tensor, second: Tensor, alone: tuple[int, int], both: int, alpha: float) -> None:
    x, one, two = bits_of(target, first, second)
    assert_bits(mutual_information(x, one, alpha), alone[0])
    assert_bits(mutual_information(x, two, alpha), alone[1])
    assert_bits(mutual_information(x, joint_gram(one, two), alpha), both)


@pytest.mark.parametrize("alpha", [1, 1.01, 2])
def test_the_and_gate(alpha: float) -> None:
    """Four equal inputs, of which one reads 1: entropies of (1/4, 3/4), (1/4, 1/2, 1/4) and (1/2, 1/2)."""
    x, one, two = bits_of(A & B, A, B)

    def plug_in(*weights: float) -> float:
        return oracle.spectrum_entropy(torch.tensor(weights, dtype=torch.float64).numpy(), alpha)

    alone = plug_in(0.75, 0.25) + 1 - plug_in(0.5, 0.25, 0.25)
    both = plug_in(0.75, 0.25) + 2 - 2
    if alpha in AND:
        assert (alone, both) == pytest.approx(AND[alpha], abs=1e-6)
    assert_bits(mutual_information(x, one, alpha), alone)
    assert_bits(mutual_information(x, two, alpha), alone)
    assert_bits(mutual_information(x, joint_gram(one, two), alpha), both)


@pytest.mark.parametrize(("alpha", "bits"), [(1, 0.122556), (2, -0.058894), (5, -0.193503)])
def test_the_functional_is_not_subadditive_and_nothing_is_clipped(alpha: float, bits: float) -> None:
    x, y = bits_of(torch.tensor([0, 0, 0, 1]), torch.tensor([0, 0, 1, 0]))
    value = mutual_information(x, y, alpha)
    assert_bits(value, bits, 1e-6)
    assert_bits(value, oracle.mutual(x.numpy(), y.numpy(), alpha))


@settings(max_examples=40, deadline=None)
@given(labels=st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=2, max_size=20))
def test_negative_values_stay_small_at_the_papers_order(labels: list[tuple[int, int]]) -> None:
    x, y = bits_of(*torch.tensor(labels).T)
    assert float(mutual_information(x, y, 1)) >= -EXACT
    assert float(mutual_information(x, y, 1.01)) >= -1e-4


def test_three_variables() -> None:
    a, b, xor = bits_of(A, B, A ^ B)
    for alpha in (1, 1.01, 2):
        assert_bits(total_correlation(a, b, xor, alpha=alpha), 1)
        assert_bits(dual_total_correlation(a, b, xor, alpha=alpha), 2)
        assert_bits(o_information(a, b, xor, alpha=alpha), -1)
        assert_bits(o_information(a, a, a, alpha=alpha), 1)
        assert_bits(conditional_mutual_information(a, b, xor, alpha), 1)
        assert_bits(conditional_mutual_information(a, a, a, alpha), 0)
        assert_bits(total_correlation(a, a, a, alpha=alpha, normalized=True), 1)
        assert_bits(total_correlation(a, b, alpha=alpha, normalized=True), 0)


def test_normalised_total_correlation_of_constants_is_zero() -> None:
    constant = torch.full((4, 4), 0.25, dtype=torch.float64)
    assert_bits(total_correlation(constant, constant, normalized=True), 0)


# Identities


def four_variables(n: int = 16) -> list[Tensor]:
    source = normal(n, 2)
    return [gram(source + normal(n, 2, seed=seed) * seed / 2) for seed in range(3)] + [class_gram(torch.arange(n) % 3)]


@pytest.mark.parametrize("alpha", [1, 1.01, 2, 2.5, math.inf])
def test_quantities_are_the_signed_sums_they_say(alpha: float) -> None:
    def s(*grams: Tensor) -> Tensor:
        return torch.tensor(oracle.entropy(oracle.joint(*(g.numpy() for g in grams)), alpha), dtype=torch.float64)

    a, b, c, _ = grams = four_variables()
    assert_bits(mutual_information(a, b, alpha), s(a) + s(b) - s(a, b))
    assert_bits(conditional_mutual_information(a, b, c, alpha), s(a, c) + s(b, c) - s(a, b, c) - s(c))
    whole, parts = s(*grams), torch.stack([s(g) for g in grams])
    assert_bits(total_correlation(*grams, alpha=alpha), parts.sum() - whole)
    normalized = (parts.sum() - whole) / (parts.sum() - parts.max())
    assert_bits(total_correlation(*grams, alpha=alpha, normalized=True), normalized)
    without = torch.stack([s(*grams[:i], *grams[i + 1 :]) for i in range(4)])
    assert_bits(dual_total_correlation(*grams, alpha=alpha), whole - (whole - without).sum())
    o = total_correlation(*grams, alpha=alpha) - dual_total_correlation(*grams, alpha=alpha)
    assert_bits(o_information(*grams, alpha=alpha), o)


def test_shared_bits_are_those_of_entropies_already_known() -> None:
    a, batch = gram(normal(10, 2)), gram(normal(3, 10, 2, seed=1))
    known = renyi_entropy(a), renyi_entropy(batch), renyi_entropy(joint_gram(a, batch))
    assert_bits(shared_bits(*known), mutual_information(a, batch), 0)


@pytest.mark.parametrize("alpha", [1, 1.01, 2, 2.5])
def test_chain_rule_and_two_variables(alpha: float) -> None:
    a, b, c, d = four_variables()
    chain = mutual_information(a, c, alpha) + conditional_mutual_information(a, b, c, alpha)
    assert_bits(mutual_information(a, joint_gram(b, c), alpha), chain)
    for pair in (total_correlation, dual_total_correlation):
        assert_bits(pair(a, d, alpha=alpha), mutual_information(a, d, alpha))
    assert_bits(o_information(a, d, alpha=alpha), 0)


@pytest.mark.parametrize("quantity", [total_correlation, dual_total_correlation, o_information])
def test_the_order_of_variables_does_not_matter(quantity: Callable[..., Tensor]) -> None:
    a, b, c, d = four_variables()
    assert_bits(quantity(c, a, d, b), quantity(a, b, c, d))


def test_symmetry_and_bounds() -> None:
    a, b, c, _ = four_variables()
    for alpha in (1, 1.01, 2, 5):
        assert_bits(mutual_information(a, b, alpha), mutual_information(b, a, alpha))
        assert_bits(conditional_mutual_information(a, b, c, alpha), conditional_mutual_information(b, a, c, alpha))
        least = min(renyi_entropy(a, alpha), renyi_entropy(b, alpha))
        assert float(mutual_information(a, b, alpha)) <= float(least) + EXACT


def test_leading_axes_broadcast() -> None:
    a, batch = gram(normal(10, 2)), gram(normal(3, 10, 2, seed=1))
    single = [(a, layer) for layer in batch]
    assert_bits(mutual_information(a, batch), torch.stack([mutual_information(*pair) for pair in single]))
    for quantity in (total_correlation, dual_total_correlation, o_information):
        assert_bits(quantity(a, batch), torch.stack([quantity(*pair) for pair in single]))
    normalized = functools.partial(total_correlation, normalized=True)
    assert_bits(normalized(batch, a), torch.stack([normalized(layer, a) for layer in batch]))


def test_float32_matrices() -> None:
    doubles = four_variables(100)
    singles = [matrix.float() for matrix in doubles]
    for alpha in (1, 1.01, 2):
        assert_bits(mutual_information(*singles[:2], alpha), mutual_information(*doubles[:2], alpha), FLOAT32_BITS)
        assert_bits(total_correlation(*singles, alpha=alpha), total_correlation(*doubles, alpha=alpha), FLOAT32_BITS)


def test_bandwidth_makes_and_breaks_the_inequality() -> None:
    """T2 = maxpool(T1) loses information by a rule that knows the spread, and gains it by a narrow fixed one."""
    inputs = torch.rand(100, 1, 16, 16, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    first = torch.nn.functional.conv2d(inputs, normal(4, 1, 3, 3)).relu()
    x, chain = gram(inputs.flatten(1), Fixed(2.0)), [first, torch.nn.functional.max_pool2d(first, 2)]

    def gap(*sigmas: float) -> float:
        layers = [feature_map_gram(maps, Fixed(sigma)) for maps, sigma in zip(chain, sigmas, strict=True)]
        return float(dpi_gaps(torch.stack([mutual_information(x, layer) for layer in layers])))

    assert gap(20.0, 20.0) > 0 > gap(20.0, 2.0)


def test_dpi_gaps() -> None:
    assert_bits(dpi_gaps(torch.tensor([3.0, 2.5, 2.75], dtype=torch.float64)), [0.5, -0.25])
    assert dpi_gaps(torch.tensor([1.0])).shape == (0,)


# Chance


def p_values(dependence: float, count: int = 60) -> Tensor:
    values = []
    for case in range(count):
        x, noise = normal(24, 2, seed=2 * case), normal(24, 2, seed=2 * case + 1)
        y = dependence * x + noise
        quantity = functools.partial(mutual_information, alpha=2)
        values.append(permutation_test(quantity, gram(x), gram(y), permutations=39, seed=case).p_value)
    return torch.stack(values)


def test_p_values_are_uniform_under_independence() -> None:
    """The Kolmogorov-Smirnov distance of 60 values stays below its 1 per cent point, 0.21."""
    values = p_values(0.0).sort().values
    assert float(values.min()) >= 1 / 40
    assert float((values - torch.arange(1, 61) / 60).abs().max()) < 0.21
    assert float((values <= 0.05).double().mean()) < 0.15


def test_p_values_are_small_under_dependence() -> None:
    values = p_values(2.0, count=20)
    assert bool((values <= 0.05).all())


def test_a_p_value_counts_what_chance_gives_as_much_and_the_value_itself() -> None:
    null = torch.tensor([0.0, 1.0, 2.0, 3.0], dtype=torch.float64)
    for value, expected in ((4.0, 1 / 5), (2.5, 2 / 5), (2.0, 3 / 5), (0.0, 1.0), (-1.0, 1.0)):
        assert_bits(p_value(torch.tensor(value, dtype=torch.float64), null), expected)
    columns = torch.stack([null, null + 2], 1)  # one a layer
    assert_bits(p_value(torch.tensor([2.5, 2.5], dtype=torch.float64), columns), [2 / 5, 4 / 5])


def test_a_p_value_takes_what_differs_by_rounding_for_the_same() -> None:
    value, null = torch.tensor(1.0, dtype=torch.float64), torch.tensor([1 - 1e-12, 1 - 1e-6], dtype=torch.float64)
    assert_bits(p_value(value, null), 2 / 3)
    assert_bits(p_value(value, null, rounding=1e-5), 1.0)
    assert_bits(p_value(value, null, rounding=0.0), 1 / 3)


def test_a_shuffle_that_changes_nothing_counts_against() -> None:
    constant, other = torch.full((6, 6), 1 / 6, dtype=torch.float64), gram(normal(6, 1))
    test = permutation_test(mutual_information, constant, other, permutations=19)
    assert float(test.p_value) == 1
    assert_bits(test.chance, test.value)


def test_permutations_are_seeded_and_shuffle_what_is_asked() -> None:
    a, b, c, _ = four_variables()
    quantity = functools.partial(conditional_mutual_information, alpha=2)
    with assert_leaves_random_state():
        first = permutation_test(quantity, a, b, c, shuffled=1, permutations=9, seed=3)
    again = permutation_test(quantity, a, b, c, shuffled=1, permutations=9, seed=3)
    other = permutation_test(quantity, a, b, c, shuffled=1, permutations=9, seed=4)
    assert torch.equal(first.chance, again.chance)
    assert not torch.equal(first.chance, other.chance)
    assert_bits(first.value, quantity(a, b, c))
    # By hand: one seeded shuffle of b.
    order = torch.randperm(16, generator=torch.Generator().manual_seed(3))
    assert_bits(
        permutation_test(quantity, a, b, c, shuffled=1, permutations=1, seed=3).chance,
        quantity(a, b[order][:, order], c),
    )


def test_independent_variables_share_a_lot_by_chance() -> None:
    """Why a chance level stands beside every value: 100 dimensions, γ = 5, no dependence, nearly log2 100 bits."""
    x, y = (gram(normal(100, 100, seed=seed), Fixed(5 * 100 ** (-1 / 104))) for seed in (1, 2))
    test = permutation_test(mutual_information, x, y, permutations=19)
    assert float(test.value) > 6.5
    assert float(test.chance) > 6.5
    assert float(test.p_value) > 0.05


# Gradients

QUANTITIES: list[tuple[str, Callable[..., Tensor]]] = [
    ("mutual", lambda a, b, c, alpha: mutual_information(a, b, alpha)),
    ("conditional", conditional_mutual_information),
    ("total", lambda *grams: total_correlation(*grams[:3], alpha=grams[3])),
    ("normalised", lambda *grams: total_correlation(*grams[:3], alpha=grams[3], normalized=True)),
    ("dual", lambda *grams: dual_total_correlation(*grams[:3], alpha=grams[3])),
    ("o", lambda *grams: o_information(*grams[:3], alpha=grams[3])),
]


@pytest.mark.parametrize("alpha", [1, 1.01, 2])
@pytest.mark.parametrize(("name", "quantity"), QUANTITIES)
class TestGradients:
    def test_match_finite_differences(self, name: str, quantity: Callable[..., Tensor], alpha: float) -> None:
        samples = normal(6, 2).requires_grad_()
        b, c = gram(normal(6, 1, seed=1), Fixed(1.0)), class_gram(torch.arange(6) % 2)
        assert torch.autograd.gradcheck(lambda x: quantity(gram(x, Fixed(1.0)), b, c, alpha), (samples,))

    def test_are_finite_at_repeated_eigenvalues(self, name: str, quantity: Callable[..., Tensor], alpha: float) -> None:
        labels = class_gram(torch.arange(12) % 2)  # two halves and ten exact zeros
        duplicated = normal(4, 2).repeat(3, 1)
        for samples in (duplicated, duplicated.float(), torch.zeros(12, 2), torch.eye(12)):
            assert_finite_gradient(lambda x: quantity(gram(x, Fixed(1.0)), labels, gram(x + 1), alpha), samples)
            assert_finite_gradient(lambda x: quantity(labels, gram(x), labels, alpha), samples)


# Bad input

EYE = torch.eye(3) / 3
BAD: list[tuple[Callable[[], object], str]] = [
    (lambda: mutual_information(EYE, 2 * EYE), r"b: the trace is 2, expected 1\. Divide it by its trace"),
    (lambda: mutual_information(torch.zeros(3, 2), EYE), r"a: expected a floating-point Gram matrix .* got \(3, 2\)"),
    (lambda: mutual_information(EYE, torch.eye(4) / 4), r"over the same samples, got shapes \(3, 3\), \(4, 4\)"),
    (lambda: mutual_information(EYE, EYE, alpha=0), r"alpha=0: expected a positive number"),
    (lambda: conditional_mutual_information(EYE, EYE, EYE.triu() + 1), r"given: .*(symmetric|trace)"),
    (
        lambda: total_correlation(EYE),
        r"total_correlation\(\) takes two Gram matrices or more, got 1\. For a stack, write total_corr",
    ),
    (lambda: dual_total_correlation(EYE), r"dual_total_correlation\(\) takes two Gram matrices or more, got 1"),
    (lambda: o_information(), r"dual_total_correlation\(\) takes two Gram matrices or more, got 0"),
    (lambda: total_correlation(EYE, torch.eye(3)), r"grams\[1\]: the trace is 3, expected 1"),
    (lambda: dpi_gaps(torch.zeros(2, 2)), r"one value a layer, \(K,\), got shape \(2, 2\)"),
    (lambda: permutation_test(mutual_information, EYE, EYE, permutations=0), r"permutations=0: expected 1 or more"),
    (
        lambda: permutation_test(mutual_information, EYE, EYE, shuffled=2),
        r"shuffled=2: expected the position of one of the 2 grams, from 0",
    ),
]


@pytest.mark.parametrize(("call", "message"), BAD)
def test_bad_input(call: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()


def test_an_independent_implementation_agrees() -> None:
    """repitl: the same functional with natural logarithms, by another group (pip install it from its repository)."""
    other = pytest.importorskip("repitl.matrix_itl", reason="repitl is not on the package index")
    a, b, c, _ = four_variables()
    for alpha in (1.01, 2.5):
        theirs = other.matrixAlphaEntropy(joint_gram(a, b, c), alpha) / math.log(2)
        assert_bits(renyi_entropy(joint_gram(a, b, c), alpha), theirs, 1e-6)
