"""The matrix-based Rényi entropy: exact values, properties, gradients, and sentences for bad input."""

import math
import warnings
from collections.abc import Callable

import numpy as np
import oracle
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from properties import (
    EXACT,
    FLOAT32_BITS,
    assert_bits,
    assert_bounded_by_log_n,
    assert_finite_gradient,
    assert_joint_exceeds_marginals,
    assert_leaves_random_state,
    assert_not_increasing_in_alpha,
    equicorrelated,
    normal,
    with_spectrum,
)
from torch import Tensor

from lightning_infoplane import (
    Eigenvalues,
    Fixed,
    Leading,
    MedianDistance,
    Silverman,
    class_gram,
    feature_map_gram,
    gram,
    joint_gram,
    renyi_entropy,
)

ORDERS = [0.5, 0.9, 0.99, 1, 1.001, 1.01, 1.1, 1.5, 2, 2.5, 3, 4, 5, 20, math.inf]
BOTH = pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, EXACT), (torch.float32, FLOAT32_BITS)])


# Exact values


@BOTH
@pytest.mark.parametrize("alpha", ORDERS)
class TestBlocks:
    def test_all_samples_different(self, dtype: torch.dtype, tolerance: float, alpha: float) -> None:
        for n in (2, 7, 100):
            assert_bits(renyi_entropy(torch.eye(n, dtype=dtype) / n, alpha), math.log2(n), tolerance)

    def test_all_samples_alike(self, dtype: torch.dtype, tolerance: float, alpha: float) -> None:
        for n in (2, 7, 100):
            ones = torch.full((n, n), 1 / n, dtype=dtype)
            if alpha == 0.5:  # hangs on eigenvalues at the level of rounding
                tolerance = 1e-6 if dtype == torch.float64 else 1e-2
            assert_bits(renyi_entropy(ones, alpha), 0.0, tolerance)

    def test_equal_blocks_of_samples(self, dtype: torch.dtype, tolerance: float, alpha: float) -> None:
        for blocks in (2, 3, 8):
            matrix = class_gram(torch.arange(24) % blocks).to(dtype)
            if alpha == 0.5:
                tolerance = 1e-6 if dtype == torch.float64 else 1e-2
            assert_bits(renyi_entropy(matrix, alpha), math.log2(blocks), tolerance)


@BOTH
@pytest.mark.parametrize(("alpha", "bits"), [(1.01, 1.484517), (2, 1.395929), (math.inf, 1.0)])
def test_class_kernel_is_the_entropy_of_the_frequencies(
    alpha: float, bits: float, dtype: torch.dtype, tolerance: float
) -> None:
    labels = torch.tensor([0] * 50 + [1] * 30 + [2] * 20)
    plug_in = oracle.spectrum_entropy(np.array([0.5, 0.3, 0.2]), alpha)
    assert plug_in == pytest.approx(bits, abs=1e-6)
    assert_bits(renyi_entropy(class_gram(labels).to(dtype), alpha), plug_in, tolerance)


@BOTH
@pytest.mark.parametrize(
    ("alpha", "correlation", "bits"),
    [
        (1.01, 0.1, 6.399263),
        (1.01, 0.5, 4.243062),
        (1.01, 0.9, 1.092877),
        (2, 0.1, 5.651088),
        (2, 0.5, 1.957356),
        (2, 0.9, 0.300626),
    ],
)
def test_equicorrelated_samples(
    alpha: float, correlation: float, bits: float, dtype: torch.dtype, tolerance: float
) -> None:
    small = (1 - correlation) / 100
    closed_form = oracle.spectrum_entropy(np.array([correlation + small] + [small] * 99), alpha)
    assert closed_form == pytest.approx(bits, abs=1e-6)
    assert_bits(renyi_entropy(equicorrelated(100, correlation).to(dtype), alpha), closed_form, tolerance)


@BOTH
@pytest.mark.parametrize(("alpha", "bits"), [(1, 0.811278), (1.01, 0.809649), (2, 0.678072)])
def test_two_samples_half_alike(alpha: float, bits: float, dtype: torch.dtype, tolerance: float) -> None:
    closed_form = oracle.spectrum_entropy(np.array([0.75, 0.25]), alpha)
    assert closed_form == pytest.approx(bits, abs=1e-6)
    assert_bits(renyi_entropy(equicorrelated(2, 0.5).to(dtype), alpha), closed_form, tolerance)
    samples = torch.tensor([[0.0], [math.sqrt(2 * math.log(2))]], dtype=dtype)
    assert_bits(renyi_entropy(gram(samples, Fixed(1.0)), alpha), closed_form, tolerance)


@BOTH
def test_the_papers_labels_cap_the_target_entropy(dtype: torch.dtype, tolerance: float) -> None:
    """One-hot labels with γ = 5: 0.556 bits for ten balanced classes, where their entropy is 3.322."""
    one_hot = torch.nn.functional.one_hot(torch.arange(100) % 10).to(dtype)
    overlap = math.exp(-1 / (5 * 100 ** (-1 / 14)) ** 2)
    small = (1 - overlap) / 10
    closed_form = oracle.spectrum_entropy(np.array([overlap + small] + [small] * 9), 1.01)
    assert closed_form == pytest.approx(0.555869, abs=1e-6)
    assert_bits(renyi_entropy(gram(one_hot, Silverman(gamma=5.0))), closed_form, tolerance)


def test_noise_saturates_with_few_maps() -> None:
    """The product over pure noise maps reaches log2 n: a picture of saturation is no picture of learning."""
    noise = torch.rand(100, 32, 24, 24, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 0.3
    bits = [renyi_entropy(feature_map_gram(noise[:, :maps], Silverman(gamma=5.0))) for maps in (1, 6, 16, 32)]
    assert_bits(torch.stack(bits), [1.63, 5.18, 6.53, 6.643], 0.01)


# The order α


def test_slope_at_one_is_the_variance_of_the_surprise() -> None:
    """dS/dα = -(ln 2 / 2) Var_λ[log2 λ], and the values at 1 ± ε follow it down to ε = 1e-6."""
    weights = torch.tensor([0.4, 0.3, 0.2, 0.1], dtype=torch.float64)
    matrix = with_spectrum(weights)
    surprise = weights.log2()
    variance = (weights * surprise.square()).sum() - (weights * surprise).sum().square()
    slope = -math.log(2) / 2 * variance
    for step in (1e-2, 1e-3, 1e-4, 1e-6):
        difference = renyi_entropy(matrix, 1 + step) - renyi_entropy(matrix, 1 - step)
        assert_bits(difference / (2 * step), slope, 2e-9 / step if step < 1e-3 else 1e-4)
        assert_bits(renyi_entropy(matrix, 1 + step), renyi_entropy(matrix, 1) + step * slope, step**2 + EXACT)


@pytest.mark.parametrize("n", [2, 3, 50])
def test_infinite_order_is_the_largest_eigenvalue(n: int) -> None:
    matrix = gram(normal(n, 3))
    assert_bits(renyi_entropy(matrix, math.inf), -torch.linalg.eigvalsh(matrix).max().log2())
    assert_bits(renyi_entropy(matrix, 1e4), renyi_entropy(matrix, math.inf), 1e-3)


@pytest.mark.parametrize("n", [2, 5, 40])
@pytest.mark.parametrize("sigma", [0.2, 1.0, 5.0])
def test_entropy_does_not_increase_in_alpha(n: int, sigma: float) -> None:
    assert_not_increasing_in_alpha(gram(normal(n, 3), Fixed(sigma)))


# Against the literal transcription


@settings(max_examples=40, deadline=None)
@given(
    n=st.integers(2, 14),
    channels=st.integers(1, 4),
    seed=st.integers(0, 2**16),
    sigma=st.floats(0.5, 4.0),
    alpha=st.sampled_from([1, 1.01, 1.5, 2, 3, 4, 6.5, math.inf]),
)
def test_entropy_is_the_definition(n: int, channels: int, seed: int, sigma: float, alpha: float) -> None:
    maps = normal(n, channels, 3, seed=seed)
    explicit = oracle.entropy(oracle.feature_maps(maps.numpy(), [sigma] * channels), alpha)
    assert_bits(renyi_entropy(feature_map_gram(maps, Fixed(sigma)), alpha), explicit)


@settings(max_examples=40, deadline=None)
@given(
    n=st.integers(2, 20),
    seed=st.integers(0, 2**16),
    scale=st.floats(0.05, 20.0),
    alpha=st.sampled_from([0.5, 1, 1.01, 2, 2.5, 5, math.inf]),
)
def test_bounds(n: int, seed: int, scale: float, alpha: float) -> None:
    a, b = gram(normal(n, 3, seed=seed), MedianDistance(scale)), class_gram(torch.arange(n) * seed % 3)
    assert_bounded_by_log_n(a, alpha, 1e-6 if alpha == 0.5 else EXACT)
    assert_joint_exceeds_marginals(a, b, alpha, 1e-6 if alpha == 0.5 else EXACT)


@settings(max_examples=25, deadline=None)
@given(weights=st.lists(st.floats(0.01, 1.0), min_size=2, max_size=12), alpha=st.floats(0.6, 8.0))
def test_entropy_of_a_prescribed_spectrum(weights: list[float], alpha: float) -> None:
    spectrum = torch.tensor(weights, dtype=torch.float64)
    spectrum = spectrum / spectrum.sum()
    bits = renyi_entropy(with_spectrum(spectrum), alpha)
    if abs(alpha - 1) < 1e-6:  # the literal formula divides rounding by α - 1 there; the limit is its value to 1e-5
        assert_bits(bits, oracle.spectrum_entropy(spectrum.numpy(), 1), 1e-5)
    else:
        assert_bits(bits, oracle.spectrum_entropy(spectrum.numpy(), alpha))


@pytest.mark.parametrize("distance", [1e-16, 1e-12, 1e-8])
def test_orders_next_to_one_keep_every_digit(distance: float) -> None:
    assert_bits(renyi_entropy(torch.eye(8) / 8, 1 - distance), 3.0)
    assert_bits(renyi_entropy(torch.eye(8) / 8, 1 + 2 * distance), 3.0)


@pytest.mark.parametrize("alpha", [1, 1.01, 2, 2.5, math.inf])
def test_order_of_samples_and_of_variables(alpha: float) -> None:
    a, b, c = gram(normal(20, 2)), gram(normal(20, 3, seed=1)), class_gram(torch.arange(20) % 4)
    bits, order = (
        renyi_entropy(joint_gram(a, b, c), alpha),
        torch.randperm(20, generator=torch.Generator().manual_seed(0)),
    )
    assert_bits(renyi_entropy(joint_gram(c, a, b), alpha), bits)
    assert_bits(renyi_entropy(joint_gram(a, b, c)[order][:, order], alpha), bits)


@pytest.mark.parametrize("alpha", [1, 1.01, 2, 2.5, math.inf])
def test_leading_axes_are_batches(alpha: float) -> None:
    batch = gram(normal(2, 3, 8, 4))
    bits = renyi_entropy(batch, alpha)
    assert bits.shape == (2, 3)
    assert_bits(bits[1, 2], renyi_entropy(batch[1, 2], alpha))


# Numeric traps


def test_a_constant_variable_has_no_negative_zero() -> None:
    for alpha in ORDERS[3:]:
        assert math.copysign(1, float(renyi_entropy(torch.ones(1, 1), alpha))) == 1


def test_random_numbers_and_input_are_left_alone() -> None:
    matrix = gram(normal(20, 3))
    before = matrix.clone()
    with assert_leaves_random_state():
        for alpha in ORDERS:
            renyi_entropy(matrix, alpha)
    assert torch.equal(matrix, before)


# Gradients


@pytest.mark.parametrize("alpha", [0.9, 1, 1.01, 2, 2.5, 3, 4, math.inf])
def test_gradient_of_the_entropy(alpha: float) -> None:
    samples = normal(6, 2).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: renyi_entropy(gram(x, Fixed(1.0)), alpha), (samples,))
    assert torch.autograd.gradcheck(
        lambda x: renyi_entropy(feature_map_gram(x.unsqueeze(-1), Fixed(1.0)), alpha), samples
    )


@pytest.mark.parametrize("alpha", [0.9, 1, 1.01, 2, 2.5, 3, 4, math.inf])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_gradients_are_finite_where_eigenvalues_meet(alpha: float, dtype: torch.dtype) -> None:
    duplicated = normal(5, 2, dtype=dtype).repeat(3, 1)  # ten eigenvalues of zero
    corners = torch.eye(6, dtype=dtype)  # equicorrelated: five alike
    constant = torch.ones(7, 2, dtype=dtype)
    for samples in (duplicated, corners, constant):
        assert_finite_gradient(lambda x: renyi_entropy(gram(x, Fixed(1.0)), alpha), samples)
        assert_finite_gradient(lambda x: renyi_entropy(gram(x), alpha), samples)


def test_entropy_can_be_trained_away() -> None:
    samples = normal(20, 2).requires_grad_()
    start = renyi_entropy(gram(samples, Fixed(1.0)))
    for _ in range(20):
        (gradient,) = torch.autograd.grad(renyi_entropy(gram(samples, Fixed(1.0))), samples)
        samples = (samples - 2 * gradient).detach().requires_grad_()
    assert renyi_entropy(gram(samples, Fixed(1.0))) < start - 0.5


# Bad input


def indefinite(n: int = 6) -> Tensor:
    """Kernel values within [-1, 1] and a unit diagonal, and still no kernel."""
    return (2 * torch.eye(n, dtype=torch.float64) - 1) / n


def with_nan() -> Tensor:
    matrix = torch.eye(3) / 3
    matrix[0, 1] = matrix[1, 0] = torch.nan
    return matrix


EYE = torch.eye(3) / 3
BAD_INPUT: list[tuple[Callable[[], object], str]] = [
    (
        lambda: renyi_entropy(torch.zeros(3, 4)),
        r"gram: expected a floating-point Gram matrix \(\.\.\., n, n\), got \(3, 4\) of torch\.float32\. "
        r"Make one from samples with gram\(samples\) or from classes with class_gram\(labels\)",
    ),
    (lambda: renyi_entropy(torch.zeros(3)), r"got \(3,\) of torch\.float32\. Make one"),
    (lambda: renyi_entropy(torch.eye(3).long()), r"floating-point Gram matrix .* got \(3, 3\) of torch\.int64"),
    (
        lambda: renyi_entropy(EYE + torch.ones(3, 3).triu(1)),
        r"gram: not symmetric \(largest difference 1\)\. Pass samples through gram\(samples\) first",
    ),
    (
        lambda: renyi_entropy(torch.eye(3)),
        r"gram: the trace is 3, expected 1\. Divide it by its trace: joint_gram\(matrix\) does",
    ),
    (lambda: renyi_entropy(torch.stack([EYE, 2 * EYE])), r"gram: the trace is 2, expected 1"),
    (lambda: renyi_entropy(with_nan()), r"gram: contains NaN or infinite values\. Check the samples"),
    (lambda: renyi_entropy(torch.diag(torch.tensor([1.5, -0.5]))), r"gram: a negative diagonal entry \(-0\.5\)"),
    *[
        (
            lambda alpha=alpha: renyi_entropy(indefinite(), alpha),  # type: ignore[misc]
            r"an eigenvalue of -0\.667: its kernel is not positive semi-definite\. Use gram\(samples\), feature_map_g",
        )
        for alpha in (1, 1.01, 2, 2.5, 3, 4, math.inf)
    ],
]


@pytest.mark.parametrize(("call", "message"), BAD_INPUT)
def test_bad_input(call: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize("alpha", [0, -1.0, float("nan"), "2", None, True, torch.tensor(2.0)])
def test_impossible_orders(alpha: float) -> None:
    with pytest.raises(ValueError, match=r"alpha=.*: expected a positive number, 1\.01 being the paper's; math\.inf"):
        renyi_entropy(EYE, alpha)


def test_an_order_well_below_one_warns_of_rounding() -> None:
    with pytest.warns(
        UserWarning, match=r"alpha=0\.1: well below one the entropy is decided by eigenvalues at"
    ) as caught:
        renyi_entropy(EYE, 0.1)
    assert caught[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        renyi_entropy(EYE, 0.5)


@pytest.mark.parametrize("alpha", [1, 1.01, 2, 2.5, 3, 4, math.inf])
@pytest.mark.parametrize(("dtype", "rounding"), [(torch.float32, 1e-4), (torch.float64, 1e-8)])
def test_an_eigenvalue_that_rounding_made_negative_is_no_error_and_one_below_is(
    dtype: torch.dtype, rounding: float, alpha: float
) -> None:
    """Also where the order has a closed form and nobody computes a spectrum."""

    def matrix(least: float) -> Tensor:
        return with_spectrum(torch.tensor([0.6, 0.4 - least, least], dtype=torch.float64)).to(dtype)

    plug_in = oracle.spectrum_entropy(np.array([0.6, 0.4]), alpha)
    assert_bits(renyi_entropy(matrix(-rounding / 2), alpha), plug_in, 30 * rounding)  # times its logarithm
    with pytest.raises(ValueError, match=r"has an eigenvalue of -.*: its kernel is not positive semi-definite"):
        renyi_entropy(matrix(-2 * rounding), alpha)


def test_one_matrix_of_a_batch_that_is_none_is_found() -> None:
    batch = torch.stack([torch.eye(6, dtype=torch.float64) / 6, indefinite()])
    for alpha in (1.01, 2):
        with pytest.raises(ValueError, match=r"an eigenvalue of -0\.667"):
            renyi_entropy(batch, alpha)


def test_the_entropy_is_computed_by_the_solver_that_is_given() -> None:
    matrix = gram(normal(30, 3))
    assert renyi_entropy(matrix).dtype == torch.float64
    assert renyi_entropy(matrix, solver=Eigenvalues(dtype=torch.float32)).dtype == torch.float32
    assert_bits(renyi_entropy(matrix, solver=Leading(rank=30)), renyi_entropy(matrix))
    assert float(renyi_entropy(matrix, solver=Leading(rank=1))) > float(renyi_entropy(matrix))
