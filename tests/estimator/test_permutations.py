"""The p-value without permutations: its moments are those of all of them, and its tail is that of many."""

import itertools
import math
from collections.abc import Callable

import pytest
import torch
from properties import assert_bits, assert_leaves_random_state, normal
from torch import Tensor

from lightning_infoplane import Fixed, class_gram, debiased_cka, gram
from lightning_infoplane.estimator.grams import reordered
from lightning_infoplane.estimator.permutations import (
    alignment_of,
    centred,
    chance_of,
    independence_p_value,
    p_value_of,
)

N = 64
PERMUTATIONS = 10_000
Kernel = Callable[[Tensor], Tensor]

# --------------------------------------------------------------------------------------------------- kinds of data


def linear(samples: Tensor) -> Tensor:
    """A kernel whose values are not bounded."""
    return samples @ samples.mT / samples.shape[-2]


def classes(count: int) -> Kernel:
    """Classes of equal frequency, along the first feature."""

    def kernel(samples: Tensor) -> Tensor:
        ranks = samples[..., 0].argsort(-1).argsort(-1)
        return class_gram(ranks * count // samples.shape[-2])

    return kernel


def rare_class(samples: Tensor) -> Tensor:
    """One sample in twenty is of the other class."""
    ranks = samples[..., 0].argsort(-1).argsort(-1)
    return class_gram(ranks < samples.shape[-2] // 20)


def detector(samples: Tensor) -> Tensor:
    """A unit that fires for about one sample in six."""
    return gram((samples[..., :1] > 1).double())


def heavy_tailed(samples: Tensor) -> Tensor:
    """Cauchy: a ratio of two normal numbers."""
    return gram(samples / normal(*samples.shape[:-1], 1, seed=77))


def with_outlier(samples: Tensor) -> Tensor:
    far = torch.zeros(samples.shape[-2], 1)
    far[0] = 100
    return gram(samples + far)


def sparse(samples: Tensor) -> Tensor:
    """Features of a ReLU layer that are zero for most samples."""
    return gram((samples - 1.5).relu())


KINDS: dict[str, tuple[int, Kernel, Kernel]] = {
    "Gaussian, 2 dimensions": (2, gram, gram),
    "Gaussian, 50 dimensions": (50, gram, gram),
    "one dimension": (1, gram, gram),
    "2 classes": (2, gram, classes(2)),
    "10 classes": (2, gram, classes(10)),
    "a rare class": (2, gram, rare_class),
    "heavy tails": (2, heavy_tailed, heavy_tailed),
    "one outlier": (2, with_outlier, gram),
    "a detector": (2, detector, classes(10)),
    "sparse features": (20, sparse, sparse),
}
of_all_kinds = pytest.mark.parametrize("kind", KINDS)


def pair(kind: str, dependence: float, seed: int = 0, n: int = N, draws: tuple[int, ...] = ()) -> tuple[Tensor, Tensor]:
    """Gram matrices of two variables of which the second is the first, so many times, and noise."""
    features, one, other = KINDS[kind]
    first = normal(*draws, n, features, seed=2 * seed)
    second = dependence * first + normal(*draws, n, features, seed=2 * seed + 1)
    return one(first), other(second)


def counted(a: Tensor, b: Tensor) -> tuple[float, float]:
    """How often permutations give more than there is, and how often they give as much."""
    one, other = centred(a).matrix, centred(b).matrix
    observed = (one * other).sum()
    generator = torch.Generator().manual_seed(0)
    orders = torch.rand(PERMUTATIONS, len(a), generator=generator).argsort(-1)
    chance = torch.cat([(other[part[:, :, None], part[:, None, :]] * one).sum((-2, -1)) for part in orders.split(500)])
    more = float((chance > observed + 1e-9).double().mean())
    as_much = float((chance > observed - 1e-9).double().mean())
    return more, as_much


def scatter(p: float) -> float:
    """The standard error of a p-value that was counted."""
    p = min(max(p, 1 / PERMUTATIONS), 1 - 1 / PERMUTATIONS)
    return math.sqrt(p * (1 - p) / PERMUTATIONS)


# ------------------------------------------------------------------------------------------------- the moments


@pytest.mark.parametrize("n", [6, 7, 8])
@pytest.mark.parametrize(
    ("one", "other"),
    [(gram, linear), (gram, classes(2)), (rare_class, classes(3)), (classes(2), classes(2)), (linear, linear)],
    ids=["Gaussian, linear", "Gaussian, classes", "rare, classes", "classes", "linear"],
)
def test_the_moments_are_those_of_all_permutations(n: int, one: Kernel, other: Kernel) -> None:
    """Of the sum of products of the doubly centred kernels, one order after the other."""
    a, b = one(normal(n, 2, seed=1)), other(normal(n, 3, seed=2))
    centring = torch.eye(n, dtype=torch.float64) - 1 / n
    first, second = (centring @ (n * matrix) @ centring for matrix in (a, b))
    orders = torch.tensor(list(itertools.permutations(range(n))))
    values = (second[orders[:, :, None], orders[:, None, :]] * first).sum((-2, -1))

    mean = first.trace() * second.trace() / (n - 1)
    part, other_part = centred(a), centred(b)
    chance = chance_of(part, other_part)
    assert_bits(values.mean(), mean, 1e-10)
    assert_bits((part.matrix * other_part.matrix).sum(), values[0] - mean, 1e-10)
    assert_bits(chance.variance, (values - mean).pow(2).mean(), 1e-10)
    assert_bits(chance.third, (values - mean).pow(3).mean(), 1e-10)


def test_the_variance_is_that_of_the_literature() -> None:
    """In the invariants of the centred matrices of Kazi-Aoual et al.: their traces, squares and squared diagonals."""
    n = N
    a, b = pair("Gaussian, 2 dimensions", 0.5)
    centring = torch.eye(n, dtype=torch.float64) - 1 / n
    first, second = (centring @ (n * matrix) @ centring for matrix in (a, b))

    def products(of: Callable[[Tensor, Tensor, Tensor], Tensor]) -> Tensor:
        one, other = (of(m.trace(), m.square().sum(), m.diagonal().square().sum()) for m in (first, second))
        return one * other

    whole = products(lambda trace, squares, _: (n - 1) * squares - trace**2)
    diagonal = products(lambda trace, squares, own: n * (n + 1) * own - (n - 1) * (trace**2 + 2 * squares))
    expected = 2 * whole / ((n - 1) ** 2 * (n + 1) * (n - 2)) + diagonal / ((n + 1) * n * (n - 1) * (n - 2) * (n - 3))
    torch.testing.assert_close(chance_of(centred(a), centred(b)).variance, expected)


# ----------------------------------------------------------------------------------------------- against counting


@of_all_kinds
@pytest.mark.parametrize("dependence", [0.0, 0.4, 0.6])
def test_it_is_what_ten_thousand_permutations_give(kind: str, dependence: float) -> None:
    """Within four standard errors of counting and a fiftieth of p; ties count half, as a smooth curve has none."""
    a, b = pair(kind, dependence)
    more, as_much = counted(a, b)
    expected = (more + as_much) / 2
    assert abs(float(independence_p_value(a, b)) - expected) <= 4 * scatter(expected) + 0.02 * expected


@pytest.mark.parametrize(
    ("kind", "dependence", "seed"),
    [
        ("Gaussian, 2 dimensions", 0.4, 1),
        ("Gaussian, 50 dimensions", 0.2, 2),
        ("one dimension", 0.3, 0),
        ("2 classes", 0.8, 0),
        ("10 classes", 0.6, 2),
        ("one outlier", 0.4, 0),
        ("a detector", 0.8, 1),
        ("sparse features", 0.7, 1),
    ],
)
def test_one_in_a_thousand_is_one_in_a_thousand(kind: str, dependence: float, seed: int) -> None:
    a, b = pair(kind, dependence, seed)
    p = float(independence_p_value(a, b))
    more, _ = counted(a, b)
    assert 1e-3 < p < 3e-3
    assert abs(p - more) <= 4 * scatter(more)


@pytest.mark.parametrize("dependence", [0.0, 0.4, 0.7])
def test_of_two_binary_variables_it_passes_through_the_steps(dependence: float) -> None:
    first = normal(N, 1, seed=1)
    a, b = detector(first), classes(2)(dependence * first + normal(N, 1, seed=2))
    more, as_much = counted(a, b)
    p = float(independence_p_value(a, b))
    assert as_much - more > 0.01
    assert more - 4 * scatter(more) <= p <= as_much + 4 * scatter(as_much)


@pytest.mark.parametrize(
    "kind", ["Gaussian, 2 dimensions", "Gaussian, 50 dimensions", "one dimension", "10 classes", "sparse features"]
)
def test_it_is_uniform_under_independence(kind: str) -> None:
    """A thousand pairs; the largest distance between the two distribution functions."""
    batches = [independence_p_value(*pair(kind, 0.0, seed, n=128, draws=(50,))) for seed in range(20)]
    ordered = torch.cat(batches).sort().values
    steps = torch.arange(1001) / 1000
    assert float(torch.maximum((ordered - steps[:-1]).abs(), (ordered - steps[1:]).abs()).max()) <= 0.06


def test_more_dependence_makes_it_smaller() -> None:
    values = [float(independence_p_value(*pair("Gaussian, 2 dimensions", level))) for level in (0, 0.5, 1, 2)]
    assert values == sorted(values, reverse=True)
    assert values[-1] < 1e-12


# -------------------------------------------------------------------------------------------- what leaves it alone


@of_all_kinds
def test_a_common_order_of_the_samples_changes_nothing(kind: str) -> None:
    a, b = pair(kind, 0.3)
    order = torch.randperm(N, generator=torch.Generator().manual_seed(1))
    assert_bits(independence_p_value(reordered(a, order), reordered(b, order)), independence_p_value(a, b))


@of_all_kinds
def test_it_is_symmetric(kind: str) -> None:
    a, b = pair(kind, 0.3)
    assert_bits(independence_p_value(b, a), independence_p_value(a, b))


@pytest.mark.parametrize(
    "change",
    [lambda a: 3 * a, lambda a: a + 0.1, lambda a: a + 0.1 * torch.eye(N, dtype=a.dtype)],
    ids=["scale", "level", "diagonal"],
)
def test_what_no_order_can_tell_changes_nothing(change: Kernel) -> None:
    a, b = pair("Gaussian, 2 dimensions", 0.3)
    assert_bits(independence_p_value(change(a), b), independence_p_value(a, b))


@of_all_kinds
def test_the_lower_tail_is_the_rest(kind: str) -> None:
    """A kernel with its sign changed has a statistic with its sign changed: the curve is mirrored."""
    a, b = pair(kind, 0.3)
    assert_bits(independence_p_value(a, -b), 1 - independence_p_value(a, b), 1e-9)


def test_the_tails_of_a_curve_that_is_as_good_as_symmetric() -> None:
    a, b = gram(normal(N, 8000, seed=1)), gram(normal(N, 8000, seed=2) + 0.2 * normal(N, 8000, seed=1))
    chance = chance_of(centred(a), centred(b))
    assert float(chance.third / chance.variance**1.5) < 1e-3
    deviation = (centred(a).matrix * centred(b).matrix).sum() / chance.variance.sqrt()
    normal_tail = torch.special.erfc(deviation / math.sqrt(2)) / 2
    p = independence_p_value(a, b)
    assert 1e-6 < float(p) < 0.05
    torch.testing.assert_close(p, normal_tail, rtol=0.01, atol=0)
    assert_bits(independence_p_value(a, -b), 1 - p, 1e-4)


@of_all_kinds
@pytest.mark.parametrize("dependence", [0.0, 0.2, 0.3])
def test_float32_is_enough(kind: str, dependence: float) -> None:
    a, b = pair(kind, dependence, n=512)
    exact = independence_p_value(a, b)
    for one, other in ((a.float(), b.float()), (a.float(), b), (a, b.float())):
        torch.testing.assert_close(independence_p_value(one, other), exact, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("features", [100, 3072])
def test_float32_is_enough_where_all_samples_are_nearly_equally_far(features: int) -> None:
    first = normal(512, features, seed=1)
    second = 0.08 * first + normal(512, features, seed=2)
    exact = independence_p_value(gram(first), gram(second))
    assert 1e-6 < float(exact) < 0.1
    torch.testing.assert_close(
        independence_p_value(gram(first.float()), gram(second.float())), exact, rtol=1e-3, atol=0
    )


# ----------------------------------------------------------------------------------- the alignment of the same parts


@of_all_kinds
def test_the_parts_have_debiased_cka_in_them(kind: str) -> None:
    a, b = pair(kind, 0.5, draws=(2,))
    assert_bits(alignment_of(centred(a), centred(b)), debiased_cka(a, b))
    assert_bits(alignment_of(centred(a.float()), centred(b[0])), debiased_cka(a, b[0]), 1e-6)


# ------------------------------------------------------------------------------------------------------ the edges


def test_a_batch_is_a_loop() -> None:
    a, b = pair("Gaussian, 2 dimensions", 0.3, n=160, draws=(3,))
    together = independence_p_value(a, b)
    assert_bits(together, torch.stack([independence_p_value(*both) for both in zip(a, b, strict=True)]))
    crossed = independence_p_value(a.unsqueeze(1), b)
    assert crossed.shape == (3, 3)
    assert_bits(crossed.diagonal(), together)
    assert_bits(p_value_of(centred(a), centred(b[0])), crossed[:, 0])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(
    "unvarying",
    [torch.full((500, 500), 1 / 500), torch.eye(500) / 500, gram(normal(500, 5, seed=3), Fixed(1e-3))],
    ids=["constant", "all different", "saturated"],
)
def test_what_does_not_vary_has_no_value(unvarying: Tensor, dtype: torch.dtype) -> None:
    varying = gram(normal(500, 2, seed=1)).to(dtype)
    values = independence_p_value(torch.stack([unvarying.to(dtype), varying]), varying)
    assert values.isnan().tolist() == [True, False]
    assert bool(independence_p_value(varying, unvarying.to(dtype)).isnan())
    assert bool(alignment_of(centred(varying), centred(unvarying.to(dtype))).isnan())


def test_it_leaves_its_arguments_and_the_random_state_and_has_no_gradient() -> None:
    a, b = pair("Gaussian, 2 dimensions", 0.3)
    before = a.clone(), b.clone()
    a.requires_grad_()
    with assert_leaves_random_state():
        p = independence_p_value(a, b)
    assert torch.equal(a, before[0])
    assert torch.equal(b, before[1])
    assert not p.requires_grad


def test_it_never_looks_at_the_numbers() -> None:
    """Tensors on the meta device have none: whoever asks for one, as a host does that waits for its GPU, fails."""
    layers, target = torch.empty(3, 256, 256, device="meta"), torch.empty(256, 256, device="meta")
    p = independence_p_value(layers, target.double())
    assert p.shape == (3,)
    assert p.device.type == "meta"


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda a: independence_p_value(a[:5, :5], a[:5, :5]), "of 5 samples: expected 6 or more"),
        (lambda a: centred(a[:5, :5]), r"Count permutations instead: permutation_test\(mutual_information, a, b\)"),
        (lambda a: independence_p_value(a, a[:7, :7]), r"got \(8, 8\) and \(7, 7\)"),
        (lambda a: independence_p_value(a[0], a), r"got \(8,\) and \(8, 8\)"),
        (lambda a: independence_p_value(a, a[:, :7]), r"Make them from samples with gram\(samples\)"),
    ],
)
def test_bad_input(call: Callable[[Tensor], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call(gram(normal(8, 3)))
