"""Relations among layers as matrices of truth values: the pairs that carry one, and all that follow from them."""

from collections.abc import Iterable, Sequence
from functools import reduce
from operator import and_

import torch
from torch import Tensor

__all__ = ["all_pairs", "covering", "covering_pairs", "pairs_of", "screening"]


def covering_pairs(layers: Sequence[str], relation: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """Pairs of a transitive relation that are not implied by two others, in the order of ``layers``.

    Example:
        >>> covering_pairs("abc", frozenset({("a", "b"), ("b", "c"), ("a", "c")}))
        [('a', 'b'), ('b', 'c')]
    """
    return pairs_of(layers, covering(_matrix(layers, relation)))


def covering(relation: Tensor) -> Tensor:
    """Of a transitive relation, as a square matrix of truth values, the pairs that are not implied by two others."""
    return relation & ~_product(relation, relation)


def all_pairs(layers: Sequence[str], pairs: Iterable[tuple[str, str]]) -> frozenset[tuple[str, str]]:
    """Everything that follows by transitivity.

    Example:
        >>> sorted(all_pairs("abc", [("a", "b"), ("b", "c")]))
        [('a', 'b'), ('a', 'c'), ('b', 'c')]
    """
    matrix = _matrix(layers, pairs)
    while not torch.equal(longer := matrix | _product(matrix, matrix), matrix):
        matrix = longer
    return frozenset(pairs_of(layers, matrix))


def screening(fed: Tensor) -> Tensor:
    """Whether every way from the inputs to b passes a: truth values ``(layers, layers)``, row a, column b.

    Args:
        fed: ``(1 + layers, layers)``: who is fed by the inputs, and by each layer, in order of execution.

    Example:
        >>> screening(torch.tensor([[1, 0, 0], [0, 1, 1], [0, 0, 1], [0, 0, 0]]) > 0).nonzero().tolist()
        [[0, 1], [0, 2]]
    """
    from_inputs = fed[0].tolist()
    by = fed[1:].T.tolist()
    # Bit a: every way passes layer a. What no way leads to is the same for all samples, and feeds nobody.
    passed: list[int | None] = []
    for is_fed, feeders in zip(from_inputs, by, strict=True):
        ways = [known | 1 << a for a, known in enumerate(passed) if feeders[a] and known is not None]
        passed.append(reduce(and_, ways, 0 if is_fed else -1) if is_fed or ways else None)
    rows = [[bool(known and known >> a & 1) for known in passed] for a in range(len(passed))]
    return torch.tensor(rows, dtype=torch.bool).view(fed.shape[1], fed.shape[1])


def pairs_of(layers: Sequence[str], matrix: Tensor) -> list[tuple[str, str]]:
    """The pairs that a matrix ``(layers, layers)`` of truth values holds, row by row."""
    return [(layers[i], layers[j]) for i, j in matrix.nonzero().tolist()]


def _matrix(layers: Sequence[str], relation: Iterable[tuple[str, str]]) -> Tensor:
    """Row a, column b: whether (a, b) is in the relation."""
    place = {name: i for i, name in enumerate(layers)}
    matrix = torch.zeros(len(layers), len(layers), dtype=torch.bool)
    known = [(place[a], place[b]) for a, b in relation if a in place and b in place]
    if known:
        matrix[tuple(torch.tensor(known).T)] = True
    return matrix


def _product(left: Tensor, right: Tensor) -> Tensor:
    """Whether there is a way of two steps."""
    # In floating point, which has fast kernels: sums of zeros and ones are above zero however they are rounded.
    return left.float() @ right.float() > 0
