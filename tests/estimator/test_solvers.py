"""Gram matrices to bits, exactly: the contract of a solver, closed forms, the spectrum of class blocks."""

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass

import oracle
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from properties import (
    EXACT,
    assert_bits,
    assert_finite_gradient,
    assert_is_a_value,
    assert_leaves_random_state,
    equicorrelated,
    normal,
    with_spectrum,
)
from torch import Tensor

from lightning_infoplane import (
    Eigenvalues,
    Solver,
    class_gram,
    gram,
    joint_gram,
    mutual_information,
    renyi_entropy,
)
from lightning_infoplane.estimator.solvers import (
    CLOSED_FORMS,
    class_block_spectrum,
    rounding_of,
    spectral_entropy,
)

EYE = torch.eye(3) / 3


# What every solver has


@dataclass(frozen=True)
class Purity(Solver):
    """The least that a solver can be: collision entropy, whatever order is asked for."""

    def __call__(self, gram: Tensor, alpha: float) -> Tensor:
        return -gram.square().sum((-2, -1)).log2()


def test_a_solver_of_ones_own_is_taken_for_exact_and_serves_the_quantities() -> None:
    batch, labels = gram(normal(2, 12, 3)), torch.arange(12) % 3
    estimate = Purity().estimate(batch, 1.01)
    assert_bits(estimate.bits, renyi_entropy(batch, 2))
    assert_bits(estimate.stderr, torch.zeros(2), 0)
    assert_bits(
        Purity().with_classes(batch, labels, 1.01).bits, renyi_entropy(joint_gram(batch, class_gram(labels)), 2)
    )
    assert_bits(renyi_entropy(batch, solver=Purity()), renyi_entropy(batch, 2))
    assert_bits(mutual_information(*batch, solver=Purity()), mutual_information(*batch, alpha=2))


def test_a_solver_without_a_way_from_matrices_to_bits_is_none() -> None:
    with pytest.raises(TypeError, match=r"abstract method '?__call__"):
        Solver()  # type: ignore[abstract]


@pytest.mark.parametrize("alpha", [0.9, 1, 1.01, 2, 2.5, 3, 4, math.inf])
def test_the_exact_solver_has_no_error_and_knows_the_joint_with_classes(alpha: float) -> None:
    batch, labels = gram(normal(3, 15, 3)), torch.arange(15) % 4
    alone, joint = Eigenvalues().estimate(batch, alpha), Eigenvalues().with_classes(batch, labels, alpha)
    assert_bits(alone.bits, renyi_entropy(batch, alpha))
    assert_bits(joint.bits, renyi_entropy(joint_gram(batch, class_gram(labels)), alpha))
    for estimate in (alone, joint):
        assert estimate.bits.shape == estimate.stderr.shape == (3,)
        assert bool((estimate.stderr == 0).all())


@pytest.mark.parametrize("alpha", [0.9, 1, 1.01, 2.5, math.inf])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_what_is_no_spectrum_is_nan_and_costs_the_others_nothing(dtype: torch.dtype, alpha: float) -> None:
    """No error: to raise one, the host would have to wait for the device at every call."""
    indefinite = (2 * torch.eye(6, dtype=dtype) - 1) / 6
    fine = torch.eye(6, dtype=dtype) / 6
    bits = Eigenvalues()(torch.stack([fine, indefinite, fine]), alpha)
    assert bits.isnan().tolist() == [False, True, False]
    assert_bits(bits[[0, 2]], [math.log2(6)] * 2, 1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_rounding_is_forgiven_up_to_what_the_dtype_explains(dtype: torch.dtype) -> None:
    for times, forgiven in ((0.5, True), (2.0, False)):
        least = -times * rounding_of(dtype)
        matrix = with_spectrum(torch.tensor([0.6, 0.4 - least, least])).to(dtype)
        assert bool(Eigenvalues()(matrix, 1.01).isfinite()) == forgiven


# Spectra


@settings(max_examples=40, deadline=None)
@given(
    weights=st.lists(st.floats(0.01, 1.0), min_size=1, max_size=12),
    alpha=st.sampled_from([0.6, 0.95, 1, 1.01, 1.09, 1.11, 2, 5, math.inf]),
    scale=st.floats(1e-3, 1e3),
)
def test_a_spectrum_is_divided_by_its_sum(weights: list[float], alpha: float, scale: float) -> None:
    spectrum = torch.tensor(weights, dtype=torch.float64)
    expected = oracle.spectrum_entropy(spectrum.numpy(), alpha)
    assert_bits(spectral_entropy(scale * spectrum, alpha), expected)
    assert_bits(spectral_entropy(torch.stack([spectrum, scale * spectrum.flip(0)]), alpha), [expected] * 2)


@pytest.mark.parametrize("alpha", [0.9, 1.1])
def test_the_two_ways_to_the_same_order_meet(alpha: float) -> None:
    """Near one the sum is written with expm1, further off as it is: there must be no step in between."""
    spectrum = torch.tensor([0.5, 0.3, 0.15, 0.05], dtype=torch.float64)
    below, above = (spectral_entropy(spectrum, alpha + side) for side in (-1e-9, 1e-9))
    assert_bits(below, above, 1e-8)


# Closed forms


@pytest.mark.parametrize("alpha", [2, 3, 4])
def test_closed_forms_are_the_spectrums(alpha: int) -> None:
    """Chosen without being asked, for an integer and for the float that equals it; continuous around it."""
    matrix = gram(normal(40, 3))
    by_spectrum = spectral_entropy(torch.linalg.eigvalsh(matrix), alpha)
    assert_bits(renyi_entropy(matrix, alpha), by_spectrum)
    assert_bits(renyi_entropy(matrix, float(alpha)), by_spectrum)
    assert_bits(renyi_entropy(matrix, alpha + 1e-7), by_spectrum, 1e-5)


@pytest.mark.parametrize("alpha", [2, 3, 4])
def test_closed_forms_need_no_spectrum(alpha: int, monkeypatch: pytest.MonkeyPatch) -> None:
    matrix = gram(normal(20, 3))
    monkeypatch.setattr(torch.linalg, "eigvalsh", lambda _: pytest.fail("a spectrum was computed"))
    renyi_entropy(matrix, alpha)


def test_closed_forms_do_not_assume_a_constant_diagonal() -> None:
    """Dividing by n² instead of the trace is right for kernels with k(x, x) = 1 only."""
    samples = normal(20, 30)
    linear = joint_gram(samples @ samples.mT)
    for alpha in (2, 3, 4):
        assert_bits(renyi_entropy(linear, alpha), oracle.entropy(linear.numpy(), alpha))


def test_the_joint_with_classes_needs_no_spectrum_where_there_is_a_closed_form(monkeypatch: pytest.MonkeyPatch) -> None:
    matrix = gram(normal(20, 3))
    monkeypatch.setattr(torch.linalg, "eigvalsh", lambda _: pytest.fail("a spectrum was computed"))
    for alpha in CLOSED_FORMS:
        Eigenvalues().with_classes(matrix, torch.arange(20) % 3, alpha)


# Numeric traps


def test_eigenvalues_that_rounding_made_negative_are_zeros() -> None:
    """abs() instead costs 2e-4 bits: the label matrix of 1,024 samples and 10 classes in float32."""
    labels = torch.arange(1024) % 10
    counts = labels.bincount().double() / 1024
    single = class_gram(labels).float()
    assert float(torch.linalg.eigvalsh(single).min()) < 0
    expected = oracle.spectrum_entropy(counts.numpy(), 1.01)
    for solver in (Eigenvalues(), Eigenvalues(dtype=torch.float32)):
        assert_bits(renyi_entropy(single, solver=solver), expected, 2e-5)


@pytest.mark.parametrize("alpha", [0.5, 0.9, 1, 1.01, 1.5, 2, 2.5, math.inf])
def test_exact_zeros_in_the_spectrum_contribute_nothing(alpha: float) -> None:
    spectrum = torch.tensor([0.5, 0.5, 0.0, 0.0], dtype=torch.float64)
    assert_bits(spectral_entropy(spectrum, alpha), 1.0)
    assert_bits(spectral_entropy(spectrum - torch.tensor([0, 0, 0, 1e-17]), alpha), 1.0, 1e-8)  # the root of 1e-17


def test_a_float32_spectrum_of_a_float64_matrix_is_judged_as_float32() -> None:
    """Rank one: its float32 eigenvalues are negative by more than a float64 matrix may have."""
    rank_one = torch.full((300, 300), 1 / 300, dtype=torch.float64)
    assert_bits(renyi_entropy(rank_one, solver=Eigenvalues(dtype=torch.float32)), 0.0, 1e-3)


# The class kernel's blocks


@pytest.mark.parametrize(
    "labels",
    [
        [0, 1, 2] * 8,
        [0] * 20 + [1] * 3 + [2],
        list(range(24)),
        [7] * 24,
        [-5, 1000] * 12,
        list(range(12)) + [99] * 12,
        [True] * 5 + [False] * 19,
    ],
    ids=["balanced", "unbalanced", "singletons", "one class", "any integers", "a large one and singletons", "boolean"],
)
def test_class_blocks_have_the_spectrum_of_the_joint(labels: list[int]) -> None:
    target = torch.tensor(labels)
    linear = joint_gram(normal(24, 40) @ normal(24, 40).mT)
    for matrix in (gram(normal(24, 3)), gram(normal(24, 3, dtype=torch.float32)), linear):
        blocks = class_block_spectrum(matrix, target).sort(descending=True).values
        whole = torch.linalg.eigvalsh(joint_gram(matrix.double(), class_gram(target))).flip(-1)
        tolerance = 1e-6 if matrix.dtype == torch.float32 else 1e-12
        assert_bits(blocks[:24], whole, tolerance)
        assert_bits(blocks[24:], torch.zeros(len(blocks) - 24), 1e-12)
        assert_bits(blocks.sum(), 1.0, tolerance)
        exact = Eigenvalues().with_classes(matrix, target, 1.01)
        assert_bits(exact.bits, renyi_entropy(joint_gram(matrix.double(), class_gram(target))), max(tolerance, EXACT))
        assert float(exact.stderr) == 0


def test_class_blocks_of_a_batch() -> None:
    batch, labels = gram(normal(3, 12, 2)), torch.arange(12) % 5
    assert_bits(class_block_spectrum(batch, labels)[1], class_block_spectrum(batch[1], labels))


def test_one_large_class_among_singletons_does_not_pad_them() -> None:
    """Padding 700 singletons to a class of 1,400 would take 11 GB."""
    labels = torch.cat([torch.zeros(1400), torch.arange(1, 701)]).long()
    assert class_block_spectrum(equicorrelated(2100, 0.5), labels).shape == (2100,)


@pytest.mark.parametrize("labels", [torch.arange(12) % 5, torch.tensor([0] * 9 + [1, 2, 3])], ids=["blocks", "whole"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_spectrum_of_class_blocks_has_the_precision_that_is_asked_for(dtype: torch.dtype, labels: Tensor) -> None:
    matrix = gram(normal(12, 2))
    assert class_block_spectrum(matrix, labels).dtype == torch.float64
    spectrum = class_block_spectrum(matrix, labels, dtype)
    assert spectrum.dtype == dtype
    assert_bits(spectrum.sort().values, class_block_spectrum(matrix, labels).sort().values, 1e-6)
    assert Eigenvalues(dtype).with_classes(matrix, labels, 1.01).bits.dtype == dtype


def test_random_numbers_and_input_are_left_alone() -> None:
    matrix, labels = gram(normal(20, 3)), torch.arange(20) % 3
    before = matrix.clone(), labels.clone()
    with assert_leaves_random_state():
        for alpha in (1, 1.01, 2, 3, 4, math.inf):
            Eigenvalues().estimate(matrix, alpha)
            Eigenvalues().with_classes(matrix, labels, alpha)
        class_block_spectrum(matrix, labels)
    assert torch.equal(matrix, before[0])
    assert torch.equal(labels, before[1])


# Gradients


@pytest.mark.parametrize("alpha", [1, 1.01, 2.5, math.inf])
def test_gradients_are_finite_at_exact_zeros(alpha: float) -> None:
    spectrum = torch.tensor([0.5, 0.5, 0.0, 0.0], dtype=torch.float64)
    assert_finite_gradient(functools.partial(spectral_entropy, alpha=alpha), spectrum)


# Bad input


BAD_INPUT: list[tuple[Callable[[], object], str]] = [
    (
        lambda: class_block_spectrum(EYE, torch.tensor([0, 1])),
        r"labels: expected 3 integer classes, one a sample of the Gram matrix, got \(2,\) of torch\.int64",
    ),
    (
        lambda: class_block_spectrum(EYE, torch.zeros(3)),
        r"labels: expected 3 integer classes.*got \(3,\) of torch\.float32\. .* call joint_gram\(a, gram\(targets\)\)",
    ),
]


@pytest.mark.parametrize(("call", "message"), BAD_INPUT)
def test_bad_input(call: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize("solver", [Eigenvalues(), Eigenvalues(dtype=torch.float32)])
def test_solvers_are_values(solver: Eigenvalues) -> None:
    assert_is_a_value(solver)
    with pytest.raises(AttributeError, match="cannot assign to field 'dtype'"):
        solver.dtype = None  # type: ignore[misc]


@pytest.mark.parametrize("n", [128, 512, 1024])
def test_float32_spectra_are_good_to_five_hundred_thousandths_of_a_bit(n: int) -> None:
    """Also of constants and of codes of few values, most of whose eigenvalues are zero."""
    samples = normal(n, 60)
    matrices = {
        "constant": torch.full((n, n), 1 / n, dtype=torch.float64),
        "classes": class_gram(torch.arange(n) % 10),
        "detector": gram((torch.arange(n) % 10 == 0).double().unsqueeze(-1)),
        "joint": joint_gram(gram(samples), gram(samples)),
        **{f"{d} dimensions": gram(samples[:, :d]) for d in (1, 2, 10, 60)},
    }
    rough = Eigenvalues().rough()
    for name, matrix in matrices.items():
        for alpha in (1, 1.01):
            assert abs(float(rough(matrix, alpha) - Eigenvalues()(matrix, alpha))) < 5e-5, name


def test_a_dtype_that_was_asked_for_is_kept_where_rough_would_do() -> None:
    assert Eigenvalues(dtype=torch.float64).rough() == Eigenvalues(dtype=torch.float64)
    assert Eigenvalues().rough() == Eigenvalues(dtype=torch.float32)
