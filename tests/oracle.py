"""The definitions, transcribed literally in numpy: slow, obvious, and without a line of the package."""

import math
from collections.abc import Sequence
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[np.float64]


def gaussian(samples: NDArray[np.floating], sigma: float) -> Matrix:
    """A_ij = K_ij / (N sqrt(K_ii K_jj)) with K_ij = exp(-|x_i - x_j|² / (2σ²))."""
    n = len(samples)
    kernel = np.empty((n, n))
    for i in range(n):
        for j in range(n):
            difference = samples[i].astype(np.float64).ravel() - samples[j].astype(np.float64).ravel()
            kernel[i, j] = np.exp(-np.dot(difference, difference) / (2 * sigma**2))
    return unit_trace(kernel)


def unit_trace(kernel: Matrix) -> Matrix:
    n = len(kernel)
    diagonal = np.diag(kernel)
    return kernel / (n * np.sqrt(np.outer(diagonal, diagonal)))


def classes(labels: Sequence[int]) -> Matrix:
    return np.array([[float(a == b) for b in labels] for a in labels]) / len(labels)


def joint(*grams: Matrix) -> Matrix:
    """A_1 ∘ … ∘ A_L / tr(A_1 ∘ … ∘ A_L)."""
    product = np.ones_like(grams[0])
    for gram in grams:
        product = product * gram * len(gram)
    return product / np.trace(product)


def feature_maps(maps: NDArray[np.floating], sigmas: Sequence[float]) -> Matrix:
    """C Gram matrices and their Hadamard product, for maps of shape (N, C, ...)."""
    return joint(*(gaussian(maps[:, c], sigma) for c, sigma in enumerate(sigmas)))


def entropy(gram: Matrix, alpha: float) -> float:
    """S_α(A) = log2(Σ λ_i^α) / (1-α), from the eigenvalues of a general matrix."""
    return spectrum_entropy(np.linalg.eigvals(gram).real, alpha)


def spectrum_entropy(eigenvalues: NDArray[np.floating], alpha: float) -> float:
    positive = [float(value) for value in eigenvalues if value > 0]
    weights = [value / math.fsum(positive) for value in positive]
    if alpha == 1:
        return -math.fsum(value * math.log2(value) for value in weights)
    if math.isinf(alpha):
        return -math.log2(max(weights))
    return math.log2(math.fsum(value**alpha for value in weights)) / (1 - alpha)


def mutual(a: Matrix, b: Matrix, alpha: float) -> float:
    return entropy(a, alpha) + entropy(b, alpha) - entropy(joint(a, b), alpha)


def pair_means(x: Matrix, maps: Sequence[Matrix], alpha: float) -> tuple[float, float]:
    """Redundancy-synergy trade-off and weighted non-redundant information, one pair after another."""
    trade_off, non_redundant = [], []
    for first, second in combinations(maps, 2):
        one, two, both = mutual(x, first, alpha), mutual(x, second, alpha), mutual(x, joint(first, second), alpha)
        trade_off.append(one + two - both)
        non_redundant.append(2 * both - one - two)
    return float(np.mean(trade_off)), float(np.mean(non_redundant))
