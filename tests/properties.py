"""Properties of Gram matrices, entropies and random state, as assertions with a name; and matrices to try them on."""

import copy
import math
import pickle
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor

import lightning_infoplane
from lightning_infoplane import Bandwidth, joint_gram, mutual_information, renyi_entropy

EXACT = 1e-9
FLOAT32_BITS = 2e-4


def normal(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    """Standard normal numbers, the same for the same seed."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def with_spectrum(eigenvalues: Tensor, seed: int = 0) -> Tensor:
    """A symmetric matrix with these eigenvalues and random eigenvectors."""
    n = len(eigenvalues)
    vectors = torch.linalg.qr(normal(n, n, seed=seed)).Q
    matrix = vectors @ torch.diag(eigenvalues.double()) @ vectors.mT
    return (matrix + matrix.mT) / 2


def equicorrelated(n: int, correlation: float) -> Tensor:
    """Unit-trace matrix with the same correlation between all samples."""
    ones = torch.ones(n, n, dtype=torch.float64)
    return (correlation * ones + (1 - correlation) * torch.eye(n, dtype=torch.float64)) / n


def assert_bits(actual: Tensor | float, expected: Tensor | float, tolerance: float = EXACT) -> None:
    torch.testing.assert_close(
        torch.as_tensor(actual, dtype=torch.float64),
        torch.as_tensor(expected, dtype=torch.float64),
        atol=tolerance,
        rtol=0,
    )


def assert_same_gram(actual: Tensor, expected: Tensor, tolerance: float = 1e-12) -> None:
    """Entries, times n so that they are kernel values, agree."""
    n = actual.shape[-1]
    torch.testing.assert_close(actual.double() * n, expected.double() * n, atol=tolerance, rtol=0)


def assert_is_gram(gram: Tensor, tolerance: float = 1e-6) -> None:
    """Symmetric, trace one, positive semi-definite, and finite."""
    assert bool(gram.isfinite().all())
    assert_same_gram(gram, gram.mT, tolerance)
    assert_bits(gram.double().diagonal(dim1=-2, dim2=-1).sum(-1), torch.ones(gram.shape[:-2]), tolerance)
    assert float(torch.linalg.eigvalsh(gram.double()).min()) > -tolerance


def assert_bounded_by_log_n(gram: Tensor, alpha: float, tolerance: float = EXACT) -> None:
    bits = renyi_entropy(gram, alpha)
    assert float(bits.min()) >= -tolerance
    assert float(bits.max()) <= math.log2(gram.shape[-1]) + tolerance


def assert_joint_exceeds_marginals(a: Tensor, b: Tensor, alpha: float, tolerance: float = EXACT) -> None:
    """S(A, B) ≥ max(S(A), S(B)), and hence I ≤ min(S(A), S(B))."""
    marginals = renyi_entropy(a, alpha), renyi_entropy(b, alpha)
    assert float(renyi_entropy(joint_gram(a, b), alpha)) >= float(max(marginals)) - tolerance
    assert float(mutual_information(a, b, alpha)) <= float(min(marginals)) + tolerance


def assert_not_increasing_in_alpha(gram: Tensor, tolerance: float = EXACT) -> None:
    orders = [0.5, 0.9, 0.99, 1, 1.01, 1.1, 1.5, 2, 2.5, 3, 4, 5, 20, math.inf]
    bits = torch.stack([renyi_entropy(gram, alpha) for alpha in orders])
    assert bool((bits.diff(dim=0) <= tolerance).all()), dict(zip(orders, bits.tolist(), strict=True))


def assert_order_independent(rule: Bandwidth, maps: Tensor, target: Tensor | None = None, seed: int = 0) -> None:
    """Shuffling the samples leaves the bandwidths alone."""
    order = torch.randperm(maps.shape[-3], generator=torch.Generator().manual_seed(seed))
    shuffled = None if target is None else target[order][:, order]
    torch.testing.assert_close(rule(maps[..., order, :, :], shuffled), rule(maps, target))


def assert_is_a_value(choice: object) -> None:
    """A frozen dataclass that survives pickling, copying and printing."""
    assert pickle.loads(pickle.dumps(choice)) == choice
    assert copy.deepcopy(choice) == choice
    assert hash(choice) == hash(copy.deepcopy(choice))
    names = {name: getattr(lightning_infoplane, name) for name in lightning_infoplane.__all__} | {"torch": torch}
    assert eval(repr(choice), names) == choice


@contextmanager
def assert_leaves_random_state() -> Iterator[None]:
    """Nobody's random numbers change: torch's, numpy's, Python's."""
    before = torch.get_rng_state(), np.random.get_state(), random.getstate()
    yield
    after = torch.get_rng_state(), np.random.get_state(), random.getstate()
    assert torch.equal(before[0], after[0])
    assert all(np.array_equal(a, b) for a, b in zip(before[1], after[1], strict=True))
    assert before[2] == after[2]


def assert_finite_gradient(quantity: Callable[[Tensor], Tensor], samples: Tensor) -> Tensor:
    """The gradient exists and is finite; it is returned."""
    leaf = samples.detach().clone().requires_grad_()
    (gradient,) = torch.autograd.grad(quantity(leaf).sum(), leaf)
    assert bool(gradient.isfinite().all())
    return gradient
