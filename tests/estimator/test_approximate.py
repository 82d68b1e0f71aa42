"""Approximate solvers: their own error bars hold, and they are exact where they say so."""

import math
from collections.abc import Callable

import pytest
import torch
from properties import (
    assert_bits,
    assert_is_a_value,
    assert_leaves_random_state,
    equicorrelated,
    normal,
    with_spectrum,
)
from torch import Tensor

from lightning_infoplane import (
    Eigenvalues,
    Fixed,
    Lanczos,
    Leading,
    MedianDistance,
    Solver,
    class_gram,
    feature_map_gram,
    gram,
    joint_gram,
    mutual_information,
    renyi_entropy,
)


def seeded_case(case: int) -> Tensor:
    """One of 100 Gram matrices: other data, size, dimension and bandwidth in each, from smooth to nearly diagonal."""
    size, features, scale = (100, 200, 300)[case % 3], (1, 2, 5, 20, 100)[case % 5], (0.1, 0.3, 1.0, 3.0)[case % 4]
    return gram(normal(size, features, seed=1000 + case), MedianDistance(scale))


# Lanczos


@pytest.mark.parametrize("alpha", [0.7, 1, 1.01, 2, 5])
def test_lanczos_is_within_three_standard_errors(alpha: float) -> None:
    """In 99 of 100 cases that differ in the data and in the seed; and its errors have the size it says."""
    deviations = []
    for case in range(100):
        matrix = seeded_case(case)
        bits, stderr = Lanczos(seed=case).estimate(matrix, alpha)
        deviations.append(float((bits - renyi_entropy(matrix, alpha)) / stderr))
    z = torch.tensor(deviations)
    assert int((z.abs() <= 3).sum()) >= 99, z.sort().values
    assert 0.8 < float(z.square().mean().sqrt()) < 1.2
    assert abs(float(z.mean())) < 0.3


@pytest.mark.parametrize("alpha", [1.01, 2])
def test_the_standard_error_holds_for_one_matrix_over_seeds(alpha: float) -> None:
    """The textbook error of a regression is 12 per cent too small on this one: its scatter grows with the control."""
    matrix = gram(normal(300, 5, seed=1002))
    exact = renyi_entropy(matrix, alpha)
    estimates = [Lanczos(seed=seed).estimate(matrix, alpha) for seed in range(100)]
    z = torch.stack([(estimate.bits - exact) / estimate.stderr for estimate in estimates])
    assert 0.85 < float(z.square().mean().sqrt()) < 1.15
    assert abs(float(z.mean())) < 0.3


def test_lanczos_standard_error_falls_with_the_root_of_the_vectors() -> None:
    matrix = gram(normal(300, 5))
    few, many = (float(Lanczos(vectors=vectors).estimate(matrix, 1.01).stderr) for vectors in (30, 480))
    assert 2.5 < few / many < 6


def test_the_control_variate_saves_the_papers_order() -> None:
    """Without it, 64 vectors at α = 1.01 are off by whole bits."""
    matrix = gram(normal(300, 5))
    assert float(Lanczos().estimate(matrix, 1.01).stderr) < 0.15


@pytest.mark.parametrize("alpha", [0.7, 1, 1.01, 2, 5])
def test_lanczos_is_exact_where_all_vectors_agree(alpha: float) -> None:
    for n in (5, 64, 1000):
        bits, stderr = Lanczos(vectors=4).estimate(torch.eye(n, dtype=torch.float64) / n, alpha)
        assert_bits(bits, math.log2(n))
        assert 0 < float(stderr) < 1e-10  # rounding is an error too


def test_lanczos_of_few_distinct_eigenvalues_needs_few_steps() -> None:
    """Two distinct eigenvalues: two steps are the whole Krylov space, and more change nothing."""
    matrix = equicorrelated(100, 0.3)
    two, many = (Lanczos(steps=steps).estimate(matrix, 1.01) for steps in (2, 50))
    assert_bits(two.bits, many.bits)
    assert_bits(two.stderr, many.stderr)


def test_lanczos_does_not_see_converged_eigenvalues_twice() -> None:
    """Without reorthogonalisation, ghosts of the large eigenvalue appear after some thirty steps."""
    matrix = with_spectrum(torch.cat([torch.tensor([0.9]), torch.full((99,), 0.1 / 99) * torch.linspace(0.5, 1.5, 99)]))
    matrix = matrix / matrix.trace()
    assert_bits(Lanczos(steps=100).estimate(matrix, 1.01).bits, Lanczos(steps=40).estimate(matrix, 1.01).bits, 1e-8)


def test_lanczos_in_float32() -> None:
    for case in range(8):
        matrix = seeded_case(case)
        single, double = Lanczos()(matrix.float(), 1.01), Lanczos()(matrix, 1.01)
        assert_bits(single, double, 2e-4)


def test_lanczos_batches_and_repeats() -> None:
    batch = torch.stack([seeded_case(0), seeded_case(15)[:100, :100] * 3])
    batch = batch / batch.diagonal(dim1=-2, dim2=-1).sum(-1)[:, None, None]
    bits, stderr = Lanczos().estimate(batch, 1.01)
    assert bits.shape == stderr.shape == (2,)
    for index in range(2):
        assert_bits(bits[index], Lanczos()(batch[index], 1.01))
    assert torch.equal(Lanczos()(batch, 1.01), bits)
    assert not torch.equal(Lanczos(seed=1)(batch, 1.01), bits)


def test_lanczos_serves_the_quantities() -> None:
    a, b = gram(normal(200, 3)), gram(normal(200, 3) + normal(200, 3, seed=1) / 2)
    exact = mutual_information(a, b)
    assert_bits(mutual_information(a, b, solver=Lanczos(vectors=256)), exact, 0.15)


# Leading


@pytest.mark.parametrize("alpha", [0.7, 1, 1.01, 2, 2.5, math.inf])
@pytest.mark.parametrize("rank", [1, 5, 30])
def test_leading_bounds_hold_the_exact_value(alpha: float, rank: int) -> None:
    """The upper one always; the lower one where the leading eigenvalues have converged, not among hundreds alike."""
    for case in range(12):
        matrix = seeded_case(case)
        lower, upper = Leading(rank, iterations=60).bounds(matrix, alpha)
        exact = Eigenvalues()(matrix, alpha)
        assert float(exact) <= float(upper) + 1e-9
        assert_bits(Leading(rank, iterations=60)(matrix, alpha), upper)
        if case % 4 >= 2:  # the wider kernels
            assert float(lower) - 1e-9 <= float(exact)


@pytest.mark.parametrize("alpha", [0.7, 1, 1.01, 2, 2.5, math.inf])
def test_leading_of_full_rank_is_exact(alpha: float) -> None:
    matrix = gram(normal(20, 3))
    for rank in (20, 35):
        lower, upper = Leading(rank).bounds(matrix, alpha)
        assert_bits(lower, renyi_entropy(matrix, alpha))
        assert_bits(upper, renyi_entropy(matrix, alpha))


def test_leading_is_exact_where_the_others_are_equal() -> None:
    for alpha in (1, 1.01, 2, 2.5, math.inf):
        assert_bits(Leading(1)(equicorrelated(100, 0.3), alpha), renyi_entropy(equicorrelated(100, 0.3), alpha))


def test_leading_tightens_with_the_rank() -> None:
    matrix = gram(normal(200, 5))
    widths = []
    for rank in (2, 8, 32, 128):
        lower, upper = Leading(rank, iterations=40).bounds(matrix, 1.01)
        widths.append(float(upper - lower))
    assert widths == sorted(widths, reverse=True)
    assert widths[-1] < 0.15 * widths[0]


def test_leading_batches_in_float32() -> None:
    batch = gram(normal(3, 50, 4, dtype=torch.float32))
    bits = Leading(10)(batch, 1.01)
    assert bits.shape == (3,)
    assert_bits(bits[1], Leading(10)(batch[1].double(), 1.01), 1e-4)


def test_leading_says_how_wide_its_bracket_is() -> None:
    matrix = gram(normal(50, 5))
    lower, upper = Leading(4).bounds(matrix, 1.01)
    bits, width = Leading(4).estimate(matrix, 1.01)
    assert_bits(bits, upper, 0)
    assert_bits(width, upper - lower, 0)
    assert float(width) > 0.1


# Both


@pytest.mark.parametrize("solver", [Lanczos(vectors=256), Leading(60)], ids=["Lanczos", "Leading"])
def test_the_joint_with_classes_is_estimated_too(solver: Solver) -> None:
    batch, labels = gram(normal(2, 60, 3)), torch.arange(60) % 4
    joint = joint_gram(batch, class_gram(labels))
    found = solver.with_classes(batch, labels, 1.01)
    assert_bits(found.bits, solver.estimate(joint, 1.01).bits)
    assert_bits(found.stderr, solver.estimate(joint, 1.01).stderr)
    assert bool(((found.bits - renyi_entropy(joint)).abs() <= 3 * found.stderr + 1e-9).all())


def test_random_numbers_are_left_alone() -> None:
    with assert_leaves_random_state():
        Lanczos().estimate(equicorrelated(20, 0.5), 1.01)
        Leading(3).bounds(equicorrelated(20, 0.5), 1.01)


@pytest.mark.parametrize("solver", [Lanczos(), Lanczos(steps=5, vectors=9, seed=3), Leading(4), Leading(4, 2, 1)])
def test_solvers_are_values(solver: Lanczos | Leading) -> None:
    assert_is_a_value(solver)
    with pytest.raises(AttributeError, match="cannot assign to field 'seed'"):
        solver.seed = 3  # type: ignore[misc]


@pytest.mark.parametrize("solver", [Lanczos(), Leading(3)])
def test_degenerate_matrices(solver: Lanczos | Leading) -> None:
    """Two samples, all alike, repeated: values stay finite and within bounds."""
    alike = torch.full((30, 30), 1 / 30)
    duplicates = gram(normal(10, 2, dtype=torch.float32).repeat(3, 1))
    constant = feature_map_gram(torch.full((30, 3, 4), 0.1))
    for matrix in (equicorrelated(2, 0.5), alike, duplicates, constant, gram(normal(3, 1), Fixed(1e-3))):
        for alpha in (1, 1.01, 2):
            bits = solver(matrix, alpha)
            assert -1e-3 <= float(bits) <= math.log2(len(matrix)) + 0.2
    assert_bits(solver(alike, 1.01), 0.0, 1e-3)


BAD: list[tuple[Callable[[], object], str]] = [
    (
        lambda: Lanczos(steps=0),
        r"Lanczos\(steps=0, vectors=64, seed=0\): expected steps >= 1, and vectors >= 3 for a standard error",
    ),
    (
        lambda: Lanczos(vectors=2),
        r"Lanczos\(steps=24, vectors=2, seed=0\): expected steps >= 1, and vectors >= 3 for a standard error",
    ),
    (lambda: Leading(rank=0), r"Leading\(rank=0, iterations=8, seed=0\): expected rank >= 1 and iterations >= 1"),
    (lambda: Leading(2, iterations=0), r"Leading\(rank=2, iterations=0, seed=0\): expected rank >= 1"),
    (
        lambda: renyi_entropy(torch.eye(3) / 3, math.inf, Lanczos()),
        r"Lanczos\(\) estimates traces, and alpha=inf is not one\. Use Leading\(rank=1\)",
    ),
]


@pytest.mark.parametrize(("call", "message"), BAD)
def test_bad_input(call: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()
