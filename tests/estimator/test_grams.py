"""Samples to Gram matrices: the fused product, the joint of several, shapes, dead maps, and the float32 traps."""

import math
import resource
from collections.abc import Callable
from functools import partial

import numpy as np
import oracle
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from properties import (
    assert_bits,
    assert_finite_gradient,
    assert_is_a_value,
    assert_is_gram,
    assert_leaves_random_state,
    assert_same_gram,
    equicorrelated,
    normal,
)
from torch import Tensor

from lightning_infoplane import (
    Bandwidth,
    Estimator,
    Fixed,
    Linear,
    MedianDistance,
    NearestNeighbors,
    Silverman,
    StandardizedSilverman,
    class_gram,
    feature_map_gram,
    gaussian_gram,
    gram,
    joint_gram,
    map_grams,
    renyi_entropy,
)
from lightning_infoplane.estimator.grams import as_maps, as_variables, hadamard, normalize_trace
from lightning_infoplane.estimator.precision import map_slices

SHAPES = st.tuples(st.integers(2, 12), st.integers(1, 6), st.integers(1, 5))


@settings(max_examples=40, deadline=None)
@given(shape=SHAPES, seed=st.integers(0, 2**16), sigma=st.floats(0.3, 5.0))
def test_fused_gram_is_the_explicit_hadamard_product(shape: tuple[int, int, int], seed: int, sigma: float) -> None:
    maps = normal(*shape, seed=seed)
    sigmas = sigma * (1 + torch.arange(shape[1]).double())
    explicit = oracle.feature_maps(maps.numpy(), sigmas.tolist())
    assert_same_gram(gaussian_gram(maps, sigmas), torch.from_numpy(explicit))
    assert_same_gram(
        joint_gram(*(gram(maps[:, c], Fixed(float(s))) for c, s in enumerate(sigmas))), torch.from_numpy(explicit)
    )


@pytest.mark.parametrize(
    "rule", [MedianDistance(), NearestNeighbors(3), Silverman(), StandardizedSilverman(), Fixed(3.0)]
)
def test_feature_map_gram_is_the_joint_of_its_maps(rule: MedianDistance) -> None:
    layer = normal(30, 5, 3, 4)
    assert_same_gram(feature_map_gram(layer, rule), joint_gram(*map_grams(layer, rule)))


@settings(max_examples=25, deadline=None)
@given(n=st.integers(2, 15), d=st.integers(1, 6), seed=st.integers(0, 2**16), sigma=st.floats(0.3, 5.0))
def test_gram_is_the_definition(n: int, d: int, seed: int, sigma: float) -> None:
    samples = normal(n, d, seed=seed)
    assert_same_gram(gram(samples, Fixed(sigma)), torch.from_numpy(oracle.gaussian(samples.numpy(), sigma)))


@pytest.mark.parametrize("channels", [154, 400])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_no_underflow_with_many_channels(channels: int, dtype: torch.dtype) -> None:
    """A product of trace-one matrices without the factor n is exactly zero at 154 maps in float64, 22 in float32."""
    layer = normal(128, channels, 2, dtype=dtype)
    fused, product = feature_map_gram(layer), joint_gram(*map_grams(layer))
    assert_is_gram(fused)
    assert_same_gram(product, fused, 1e-4 if dtype == torch.float32 else 1e-12)
    assert 1 < float(renyi_entropy(product)) < 7


@pytest.mark.parametrize("offset", [0.0, 10.0, 100.0])
def test_float32_survives_a_mean_of_a_hundred_spreads(offset: float) -> None:
    layer = (normal(256, 8, 5, seed=4) + offset).float()
    expected = renyi_entropy(feature_map_gram(layer.double()))
    assert_bits(renyi_entropy(feature_map_gram(layer)), expected, 2e-4)
    assert_bits(renyi_entropy(gram(layer.flatten(1))), renyi_entropy(gram(layer.double().flatten(1))), 2e-4)


@pytest.mark.parametrize("offset", [1e3, 1e4])
def test_float32_survives_a_mean_of_thousands_of_spreads(offset: float) -> None:
    """But for the digits that the numbers themselves have lost."""
    layer = (normal(256, 8, 5, seed=4) + offset).float()
    for rule in (MedianDistance(), NearestNeighbors(), StandardizedSilverman(), Fixed(2.0)):
        expected = renyi_entropy(feature_map_gram(layer.double(), rule))
        assert_bits(renyi_entropy(feature_map_gram(layer, rule)), expected, 2e-4)


@pytest.mark.parametrize("rule", [MedianDistance(), Silverman(), Fixed(2.0)], ids=repr)
@pytest.mark.parametrize("factor", [1e6, 1e20, 1e38])
def test_one_sample_far_from_all_others_leaves_their_kernel_alone(rule: Bandwidth, factor: float) -> None:
    """It has no neighbour, not even where the square of its distance is beyond float32."""
    layer = normal(200, 6, 4, dtype=torch.float32)
    layer[5].clamp_(-3, 3)
    sigma = rule(layer)
    kernel = gaussian_gram(layer, sigma) * 200
    layer[5] *= factor
    far = gaussian_gram(layer, sigma) * 200
    others = torch.arange(200) != 5
    torch.testing.assert_close(far[others][:, others], kernel[others][:, others], rtol=0, atol=1e-5)
    assert torch.equal(far[5], (~others).float())
    assert torch.equal(far[:, 5], far[5])


@pytest.mark.parametrize(
    "rule", [Silverman(), Silverman(gamma=1e-3), Fixed(2.0), Fixed(1e-300), Fixed(1e300)], ids=repr
)
@pytest.mark.parametrize("scale", [1e-38, 1e-20, 1e20, 1e38])
@pytest.mark.parametrize("offset", [0.0, 2.0])
def test_bandwidths_in_the_wrong_units_give_kernels_all_the_same(rule: Bandwidth, scale: float, offset: float) -> None:
    """Where all samples are alike to them or none are, and no number overflows."""
    layer = ((normal(50, 3, 4).erf() + offset) * scale).float()
    kernel = feature_map_gram(layer, rule) * 50
    expected = feature_map_gram(layer.double(), rule) * 50
    assert bool(kernel.isfinite().all())
    if scale > 1 or rule != Fixed(1e-300):  # beyond float32 are one over such a bandwidth and such numbers times it
        assert_same_gram(kernel / 50, expected / 50, 1e-5)


@pytest.mark.parametrize("scale", [1e-30, 1e30])
def test_gradients_flow_at_any_scale_and_beside_any_sample(scale: float) -> None:
    """Those of entropy are one over the scale."""
    samples = normal(20, 3, dtype=torch.float32)

    def bits(values: Tensor) -> Tensor:
        return renyi_entropy(gram(values), 2)

    expected = assert_finite_gradient(bits, samples)
    assert float(expected.abs().max()) > 1e-3
    found = assert_finite_gradient(bits, samples * scale).double() * scale
    torch.testing.assert_close(found, expected.double(), rtol=1e-3, atol=1e-6)
    samples[4] *= 1e20
    assert float(assert_finite_gradient(bits, samples)[:4].abs().max()) > 1e-3


@pytest.mark.parametrize("build", [gram, feature_map_gram])
def test_gradients_are_those_of_the_definition(build: Callable[..., Tensor]) -> None:
    """Which knows no centre."""
    samples = normal(12, 4).requires_grad_()
    weight = normal(12, 12, seed=1)
    sigma = Fixed(1.5)

    def definition(values: Tensor) -> Tensor:
        squares = (values.unsqueeze(0) - values.unsqueeze(1)).square().sum(-1)
        return (-squares / (2 * 1.5**2)).exp() / 12

    (found,) = torch.autograd.grad((build(samples, sigma) * weight).sum(), samples)
    (expected,) = torch.autograd.grad((definition(samples) * weight).sum(), samples)
    torch.testing.assert_close(found, expected)


def test_gradients_flow_to_bandwidths() -> None:
    samples = normal(10, 2, 3)
    sigma = torch.tensor([1.0, 2.0], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda width: gaussian_gram(samples, width), (sigma,))


@pytest.mark.parametrize("maps", [torch.float32, torch.float64])
@pytest.mark.parametrize("sigma", [torch.float32, torch.float64])
def test_a_gram_matrix_has_the_precision_of_its_samples(maps: torch.dtype, sigma: torch.dtype) -> None:
    layer = normal(30, 3, 2)
    matrix = gaussian_gram(layer.to(maps), torch.full((3,), 2.0, dtype=sigma))
    assert matrix.dtype == maps
    assert_same_gram(matrix, feature_map_gram(layer, Fixed(2.0)), 1e-6)


def test_distances_are_never_negative() -> None:
    samples = (normal(50, 3, seed=5) * 1e-4 + 100).float().repeat(3, 1)
    kernel = gram(samples, Fixed(1e-4)) * 150
    assert float(kernel.max()) <= 1
    assert_bits(kernel.diagonal(), torch.ones(150), 0)


def test_memory_stays_at_n_squared() -> None:
    """All pairwise differences of this layer would be 27 GB; it is measured in some tens of MB."""
    layer = torch.zeros(1300, 64, 1, 63)
    layer[torch.arange(1300), torch.arange(1300) % 64] = 1.0
    pairs_bytes = 4 * 1300**2 * 64 * 63
    assert pairs_bytes > 20e9
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    matrix = feature_map_gram(layer)
    peak = 1024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
    assert peak < 0.5e9
    assert matrix.shape == (1300, 1300)


def test_slices_of_maps_add_up() -> None:
    """A layer too large for the cache is worked on two maps at a time, and is the product of its maps all the same."""
    layer = normal(20, 7, 20_000)
    assert len(list(map_slices(layer))) == 4
    rule = MedianDistance(scale=3)  # so many features: distances are nearly alike, and a wide kernel tells them apart
    assert_same_gram(feature_map_gram(layer, rule), joint_gram(*map_grams(layer, rule)))
    assert_same_gram(gaussian_gram(layer, rule(layer)), gaussian_gram(layer.flip(1), rule(layer).flip(0)))


# The joint of several variables


@pytest.mark.parametrize(("copies", "dtype"), [(400, torch.float64), (60, torch.float32)])
def test_products_of_many_matrices_do_not_underflow(copies: int, dtype: torch.dtype) -> None:
    """n^-L is zero at 120 factors of n = 512 in float64, at 17 in float32."""
    factor = equicorrelated(512, 0.999).to(dtype)
    expected = equicorrelated(512, 0.999**copies)
    assert_bits(renyi_entropy(joint_gram(*[factor] * copies)), renyi_entropy(expected), 1e-3)


def test_the_joint_of_one_matrix_is_the_matrix_with_trace_one() -> None:
    samples = normal(8, 20)
    linear = samples @ samples.mT
    assert_same_gram(joint_gram(linear), linear / linear.trace())
    assert_same_gram(normalize_trace(linear), linear / linear.trace())
    batch = torch.stack([linear, 3 * linear.flip(0, 1)])
    assert_bits(normalize_trace(batch).diagonal(dim1=-2, dim2=-1).sum(-1), torch.ones(2))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_hadamard_is_the_joint_of_two_known_to_be_fit(dtype: torch.dtype) -> None:
    """Of batches, of mixed precision and of a class kernel of truth values too; what it is given is left alone."""
    samples = normal(10, 30, dtype=dtype)
    linear = joint_gram(samples @ samples.mT)
    batch, same = gram(normal(3, 10, 2, dtype=dtype)), torch.arange(10) % 3
    before = linear.clone(), batch.clone()
    tolerance = 1e-6 if dtype == torch.float32 else 1e-12
    assert_same_gram(hadamard(batch, linear), joint_gram(batch, linear), tolerance)
    assert_same_gram(hadamard(linear, batch.double()), joint_gram(linear, batch.double()), tolerance)
    classes = same.unsqueeze(-1) == same
    assert_same_gram(hadamard(batch, classes), joint_gram(batch, class_gram(same)), tolerance)
    assert torch.equal(linear, before[0])
    assert torch.equal(batch, before[1])


@pytest.mark.parametrize(
    ("shape", "maps"),
    [((6,), (6, 1, 1)), ((6, 4), (6, 1, 4)), ((6, 3, 5), (6, 3, 5)), ((6, 3, 2, 4), (6, 3, 8)), ((6, 0), (6, 1, 0))],
    ids=["numbers", "vectors", "conv1d", "conv2d", "nothing"],
)
def test_numbers_and_vectors_are_one_variable_and_feature_maps_are_many(
    shape: tuple[int, ...], maps: tuple[int, int, int]
) -> None:
    values = torch.arange(float(math.prod(shape))).reshape(shape)
    variables = as_variables(values.requires_grad_())
    assert variables.shape == maps
    assert not variables.requires_grad
    assert torch.equal(variables.flatten(), values.detach().flatten())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.uint8, torch.bool])
def test_variables_are_in_a_precision_that_distances_bear(dtype: torch.dtype) -> None:
    assert as_variables(torch.ones(4, 3, 2, dtype=dtype)).dtype == torch.float32
    assert as_variables(torch.ones(4, 3, 2, dtype=torch.float64)).dtype == torch.float64


def test_without_spatial_axes_each_column_is_a_map_or_all_are_one_variable() -> None:
    """What `feature_map_gram` is asked for on purpose, a measurement takes for a vector."""
    layer = normal(6, 4)
    assert torch.equal(as_maps(layer), layer.unsqueeze(-1))
    assert_same_gram(gaussian_gram(as_variables(layer), MedianDistance()(as_variables(layer))), gram(layer))
    assert_same_gram(gaussian_gram(as_maps(layer), MedianDistance()(as_maps(layer))), feature_map_gram(layer))


# The linear kernel


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("centre", [False, True])
def test_the_linear_kernel_is_the_definition(centre: bool, dtype: torch.dtype) -> None:
    samples = normal(30, 5) + 2
    rows = samples - centre * samples.mean(0)
    expected = normalize_trace(rows @ rows.mT)
    tolerance = 1e-12 if dtype == torch.float64 else 1e-5
    for matrix in (gram(samples.to(dtype), Linear(centre)), feature_map_gram(samples.to(dtype), Linear(centre))):
        assert matrix.dtype == dtype
        assert_same_gram(matrix, expected, tolerance)
    assert_is_gram(gram(samples, Linear(centre)))


@pytest.mark.parametrize("centre", [False, True])
def test_the_linear_kernel_takes_all_maps_as_one_vector(centre: bool) -> None:
    """In slices too, where they are large."""
    for layer in (normal(20, 3, 4, 5), normal(20, 7, 20_000)):
        assert_same_gram(feature_map_gram(layer, Linear(centre)), gram(layer.flatten(1), Linear(centre)), 1e-12)


def test_the_linear_kernel_has_the_spectrum_of_the_singular_values() -> None:
    samples = normal(20, 6)
    expected = torch.linalg.svdvals(samples).square()
    eigenvalues = torch.linalg.eigvalsh(gram(samples, Linear())).flip(0)
    assert_bits(eigenvalues[:6], expected / expected.sum())
    assert_bits(eigenvalues[6:], torch.zeros(14))


@pytest.mark.parametrize("alpha", [1, 1.01, 2])
def test_orthonormal_samples_have_the_bits_of_their_number(alpha: float) -> None:
    rows = torch.linalg.qr(normal(20, 20)).Q[:8]
    assert_bits(renyi_entropy(gram(rows, Linear()), alpha), 3.0)
    assert_bits(renyi_entropy(gram(rows, Linear(centre=True)), alpha), math.log2(7))  # one direction is the mean's


@pytest.mark.parametrize(
    ("samples", "rule"),
    [
        (torch.zeros(5, 3), Linear()),
        (torch.zeros(5, 3), Linear(centre=True)),
        (torch.full((5, 3), 0.1), Linear()),
        (torch.full((5, 3), 0.1), Linear(centre=True)),
        (torch.zeros(5, 0), Linear()),
        (torch.full((5, 3), 1e-40), Linear(centre=True)),
    ],
)
def test_constant_samples_have_no_entropy_under_the_linear_kernel(samples: Tensor, rule: Linear) -> None:
    assert_same_gram(gram(samples, rule), torch.full((5, 5), 0.2), 1e-6)
    assert_bits(renyi_entropy(gram(samples, rule)), 0.0, 1e-5)


@pytest.mark.parametrize("centre", [False, True])
@pytest.mark.parametrize("scale", [1e-38, 1e-30, 1e-20, 1e20, 1e30, 1e38])
def test_the_linear_kernel_knows_no_scale(centre: bool, scale: float) -> None:
    samples = (normal(40, 5).erf() + 1).float()
    scaled = (samples.double() * scale).float()
    assert_same_gram(gram(scaled, Linear(centre)), gram(samples, Linear(centre)), 1e-4)


def test_the_linear_kernel_of_batches_of_integers_and_of_gradients() -> None:
    batch = normal(2, 10, 4)
    assert_same_gram(gram(batch, Linear())[1], gram(batch[1], Linear()))
    whole = torch.arange(12).reshape(6, 2)
    assert_same_gram(gram(whole, Linear()), gram(whole.double(), Linear()), 1e-6)
    for centre in (False, True):
        samples = normal(6, 3).requires_grad_()
        assert torch.autograd.gradcheck(partial(gram, bandwidth=Linear(centre)), (samples,))
        assert_finite_gradient(partial(gram, bandwidth=Linear(centre)), torch.zeros(4, 2))


def test_the_linear_kernel_is_a_choice_but_no_bandwidth() -> None:
    assert_is_a_value(Linear())
    assert not isinstance(Linear(), Bandwidth)
    with pytest.raises(TypeError, match="bandwidth"):
        Estimator(bandwidth=Linear())  # type: ignore[arg-type]
    with pytest.raises(
        TypeError, match=r"got Linear\(\).*no product of those of its maps\. Use MedianDistance\(\), or"
    ):
        map_grams(normal(5, 2), Linear())  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"at least 2 samples and one map, got 1 samples"):
        gram(torch.zeros(1, 5), Linear())


# Invariances


@pytest.mark.parametrize("build", [gram, lambda s, rule: feature_map_gram(s.unsqueeze(1), rule)], ids=["gram", "maps"])
class TestInvariance:
    def test_permuting_samples_permutes_the_matrix(self, build: Callable[..., Tensor]) -> None:
        samples, order = normal(25, 4), torch.randperm(25, generator=torch.Generator().manual_seed(1))
        rule = MedianDistance()
        assert_same_gram(build(samples[order], rule), build(samples, rule)[order][:, order])

    def test_rotation_and_shift_of_features(self, build: Callable[..., Tensor]) -> None:
        samples = normal(25, 4)
        turned = samples @ torch.linalg.qr(normal(4, 4, seed=9)).Q + normal(4, seed=8)
        for rule in (MedianDistance(), NearestNeighbors(5), Fixed(1.5), StandardizedSilverman()):
            assert_same_gram(build(turned, rule), build(samples, rule))

    def test_units(self, build: Callable[..., Tensor]) -> None:
        """(x, σ) → (cx, cσ), which rules that follow the data do by themselves."""
        samples = normal(25, 4)
        for factor in (1e-3, 1000.0):
            assert_same_gram(build(factor * samples, Fixed(2 * factor)), build(samples, Fixed(2.0)))
            assert_same_gram(build(factor * samples, MedianDistance()), build(samples, MedianDistance()))

    @pytest.mark.parametrize("rule", [MedianDistance(), Fixed(2.0)])
    @pytest.mark.parametrize("times", [2, 5])
    @pytest.mark.parametrize("alpha", [1, 1.01, 2, 2.5])
    def test_repeating_every_sample(
        self, build: Callable[..., Tensor], rule: MedianDistance, times: int, alpha: float
    ) -> None:
        samples = normal(11, 4)
        repeated = build(samples.repeat_interleave(times, 0), rule)
        assert_bits(renyi_entropy(repeated, alpha), renyi_entropy(build(samples, rule), alpha))


# What real layers look like


@pytest.mark.parametrize(
    "shape",
    [(17, 4), (17, 3, 9), (17, 3, 5, 7), (17, 2, 3, 4, 5), (2, 3, 4, 4), (3, 1, 1, 1)],
    ids=["linear", "conv1d", "conv2d", "conv3d", "two samples", "one number a sample"],
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_layers_of_any_rank(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    layer = normal(*shape, dtype=dtype)
    matrix = feature_map_gram(layer)
    assert_is_gram(matrix)
    n, channels = shape[:2]
    flat = layer.reshape(n, channels, -1)
    explicit = oracle.feature_maps(flat.numpy(), MedianDistance()(flat).tolist())
    assert_same_gram(matrix, torch.from_numpy(explicit), 1e-5 if dtype == torch.float32 else 1e-12)


def test_tokens_are_maps() -> None:
    tokens = normal(20, 6, 8)  # (n, tokens, d): each token position is one variable
    assert_same_gram(feature_map_gram(tokens), joint_gram(*map_grams(tokens)))


def test_memory_layout_does_not_matter() -> None:
    layer = normal(16, 4, 6, 6, dtype=torch.float32)
    expected = feature_map_gram(layer)
    strided = torch.empty(16, 8, 6, 12)[:, ::2, :, ::2].copy_(layer)
    assert not strided.is_contiguous()
    for same in (layer.to(memory_format=torch.channels_last), strided, layer.mT.contiguous().mT):
        assert_same_gram(feature_map_gram(same), expected, 1e-5)
        assert_same_gram(gram(same.flatten(1).T.contiguous().T), gram(layer.flatten(1)), 1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("constant", [0.0, 0.1, 1e4])
def test_dead_maps_change_nothing(dtype: torch.dtype, constant: float) -> None:
    layer = normal(30, 3, 5, dtype=dtype)
    dead = torch.full((30, 40, 5), constant, dtype=dtype)
    for rule in (MedianDistance(), NearestNeighbors(4), StandardizedSilverman(), Fixed(2.0)):
        assert_same_gram(feature_map_gram(torch.cat([layer, dead], 1), rule), feature_map_gram(layer, rule), 2e-5)


@pytest.mark.parametrize(
    "rule", [MedianDistance(), NearestNeighbors(4), Silverman(), StandardizedSilverman(), Fixed(1.0)]
)
@pytest.mark.parametrize("constant", [0.0, 0.1, 1e4])
def test_a_constant_layer_has_no_entropy(rule: MedianDistance, constant: float) -> None:
    matrix = feature_map_gram(torch.full((20, 3, 4), constant), rule)
    assert_same_gram(matrix, torch.full((20, 20), 1 / 20), 1e-6)
    for alpha in (1, 1.01, 2, 2.5, float("inf")):
        assert_bits(renyi_entropy(matrix, alpha), 0.0, 1e-5)


def test_leading_axes_are_batches() -> None:
    batch = normal(2, 3, 10, 4)
    matrices = gram(batch)
    assert matrices.shape == (2, 3, 10, 10)
    assert_same_gram(matrices[1, 2], gram(batch[1, 2]))
    labels = torch.arange(12).reshape(2, 6) % 4
    assert_same_gram(class_gram(labels)[1], class_gram(labels[1]))


def test_samples_without_features_are_all_alike() -> None:
    assert_same_gram(gram(torch.zeros(4, 0), Fixed(1.0)), torch.full((4, 4), 0.25))


@pytest.mark.parametrize("labels", [[3, 3, -1, 7], [0, 0, 0, 0], [0, 1, 2, 3], [True, False, True, True]])
def test_class_gram_is_the_definition(labels: list[int]) -> None:
    assert_same_gram(class_gram(torch.tensor(labels)), torch.from_numpy(oracle.classes(labels)), 0)


def test_one_hot_labels_and_a_narrow_gaussian_are_the_class_kernel() -> None:
    labels = torch.tensor([0, 1, 2, 1, 1])
    assert_same_gram(gram(torch.nn.functional.one_hot(labels).double(), Fixed(0.01)), class_gram(labels))


def test_random_numbers_and_inputs_are_left_alone() -> None:
    layer = normal(30, 4, 3)
    before = layer.clone()
    with assert_leaves_random_state():
        feature_map_gram(layer)
        map_grams(layer)
        gram(layer.flatten(1), NearestNeighbors())
        class_gram(torch.arange(4))
    assert torch.equal(layer, before)


BAD_INPUT: list[tuple[Callable[[], Tensor], str]] = [
    (lambda: gram(torch.zeros(5)), r"samples of shape \(\.\.\., n, d\), got \(5,\).*pass samples\.unsqueeze\(-1\)"),
    (lambda: gram(torch.zeros(1, 5)), r"at least 2 samples and one map, got 1 samples of 1 maps"),
    (lambda: feature_map_gram(torch.zeros(5)), r"maps of shape \(n, C, \*spatial\), got \(5,\)"),
    (lambda: feature_map_gram(torch.zeros(1, 3, 2)), r"at least 2 samples and one map, got 1 samples of 3 maps"),
    (lambda: feature_map_gram(torch.zeros(4, 0, 2)), r"at least 2 samples and one map, got 4 samples of 0 maps"),
    (lambda: map_grams(torch.zeros(5)), r"maps of shape \(n, C, \*spatial\), got \(5,\)"),
    (lambda: map_grams(torch.zeros(1, 3, 2)), r"at least 2 samples and one map, got 1 samples of 3 maps"),
    (
        lambda: gram(torch.zeros(4, 2, dtype=torch.complex64)),
        r"expected real samples, got torch\.complex64\. Pass torch\.view_as_real\(samples\)\.flatten\(-2\)",
    ),
    (
        lambda: class_gram(torch.tensor([0.0, 1.0])),
        r"integer classes, got torch\.float32\. Convert them with labels\.long\(\), or .* gram\(labels\.unsqueeze",
    ),
    (lambda: class_gram(torch.tensor(3)), r"labels of shape \(\.\.\., n\), got a single number"),
    (lambda: joint_gram(), r"joint_gram\(\) takes one Gram matrix or more, got none"),
    (lambda: joint_gram(torch.eye(3) / 3, torch.eye(4)), r"over the same samples, got shapes \(3, 3\), \(4, 4\)"),
    (
        lambda: joint_gram(torch.zeros(3, 4)),
        r"Gram matrices \(\.\.\., n, n\) over the same samples, got shapes \(3, 4\)",
    ),
]


@pytest.mark.parametrize(("call", "message"), BAD_INPUT)
def test_bad_input(call: Callable[[], Tensor], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
@pytest.mark.parametrize("sample", range(0, 30, 7))
def test_bad_numbers_are_found_before_they_become_bits(bad: float, dtype: torch.dtype, sample: int) -> None:
    """Wherever they stand, in a dead map too, and whatever the kernel."""
    samples = normal(30, 3).to(dtype)
    samples[:, 1] = 0
    samples[sample, 1] = bad
    rules = [MedianDistance(), NearestNeighbors(), StandardizedSilverman(), Fixed(1.0), Linear(), Linear(centre=True)]
    matrices = [build(samples, rule) for rule in rules for build in (gram, feature_map_gram)]
    matrices.append(gaussian_gram(samples.unsqueeze(-1), torch.tensor([1.0, 0.0, 1.0])))
    for matrix in matrices:
        with pytest.raises(
            ValueError, match=r"gram: contains NaN or infinite values\. Check the samples with torch\.isfin"
        ):
            renyi_entropy(matrix)


def test_the_oracle_agrees_with_itself() -> None:
    """Its entropy of a known spectrum, so that it may judge others."""
    assert oracle.entropy(np.eye(8) / 8, 2) == pytest.approx(3)
    assert oracle.spectrum_entropy(np.array([0.5, 0.25, 0.25, 0.0]), 1) == pytest.approx(1.5)
