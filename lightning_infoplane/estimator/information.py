r"""Signed sums of joint entropies, all in bits and all on one page.

With :math:`S(A, B)` the entropy of ``joint_gram(a, b)``. At α ≠ 1 the functional is not subadditive, so a
mutual information can be slightly negative (below 3e-4 bits at α = 1.01). It is returned as it is: a
clipped value could not be told from a true zero.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from lightning_infoplane.arguments.checks import FLAG, SEED, Function, Tensors, Whole, check_tensors
from lightning_infoplane.estimator.entropy import check_alpha, check_grams, checked_entropy
from lightning_infoplane.estimator.grams import joint_gram, reordered
from lightning_infoplane.estimator.solvers import Solver, exact_unless

__all__ = [
    "PermutationTest",
    "conditional_mutual_information",
    "dpi_gaps",
    "dual_total_correlation",
    "mutual_information",
    "o_information",
    "p_value",
    "permutation_test",
    "shared_bits",
    "total_correlation",
]


_PERMUTATIONS = Whole(1, says="expected 1 or more; 199 resolve p = 0.005", example="199")
_GIVEN = Tensors("(n, n), a Gram matrix; numbers go by name, such as permutations=199")


def shared_bits(first: Tensor, second: Tensor, joint: Tensor) -> Tensor:
    r"""Mutual information from entropies already known, :math:`S(A) + S(B) - S(A, B)`.

    Example:
        >>> shared_bits(torch.tensor(1.0), torch.tensor(1.0), torch.tensor(2.0))
        tensor(0.)
    """
    return first + second - joint


def mutual_information(a: Tensor, b: Tensor, alpha: float = 1.01, solver: Solver | None = None) -> Tensor:
    r"""Mutual information of two variables, in bits.

    .. math:: I_\alpha(A; B) = S_\alpha(A) + S_\alpha(B) - S_\alpha(A, B)

    Args:
        a: Gram matrices ``(..., n, n)``.
        b: Gram matrices ``(..., n, n)`` over the same samples; leading dimensions broadcast.
        alpha: the order.
        solver: see :func:`~lightning_infoplane.renyi_entropy`.

    Returns:
        ``(...)`` bits, differentiable, never clipped.

    Raises:
        ValueError: for matrices that are not trace-one Gram matrices, or an impossible ``alpha``.

    Source: Yu, Sanchez Giraldo, Jenssen and Príncipe, arXiv 1808.07912.

    Example:
        >>> labels = torch.tensor([0, 0, 1, 1])
        >>> mutual_information(class_gram(labels), class_gram(labels))  # a variable tells itself: log2 2
        tensor(1., dtype=torch.float64)
    """
    entropy = _entropies(alpha, solver, a=a, b=b)
    return shared_bits(entropy(a), entropy(b), entropy(a, b))


def conditional_mutual_information(
    a: Tensor, b: Tensor, given: Tensor, alpha: float = 1.01, solver: Solver | None = None
) -> Tensor:
    r"""What two variables share once a third is known, in bits.

    .. math:: I(A; B \mid C) = S(A, C) + S(B, C) - S(A, B, C) - S(C)

    Args:
        a: Gram matrices ``(..., n, n)``.
        b: Gram matrices ``(..., n, n)``.
        given: Gram matrices ``(..., n, n)`` of the condition.
        alpha: the order.
        solver: see :func:`~lightning_infoplane.renyi_entropy`.

    Returns:
        ``(...)`` bits.

    Raises:
        ValueError: for matrices that are not trace-one Gram matrices, or an impossible ``alpha``.

    Source: Yu et al., arXiv 1808.07912.

    Example:
        >>> a, b = torch.tensor([0, 0, 1, 1]), torch.tensor([0, 1, 0, 1])
        >>> conditional_mutual_information(class_gram(a), class_gram(b), class_gram(a ^ b))  # XOR: one bit
        tensor(1., dtype=torch.float64)
    """
    entropy = _entropies(alpha, solver, a=a, b=b, given=given)
    return entropy(a, given) + entropy(b, given) - entropy(a, b, given) - entropy(given)


def total_correlation(
    *grams: Tensor, alpha: float = 1.01, normalized: bool = False, solver: Solver | None = None
) -> Tensor:
    r"""Total correlation: what the parts hold more than the whole, in bits.

    .. math:: T = \sum_i S(A_i) - S(A_1, \dots, A_L),\qquad
        T^* = \frac{T}{\sum_i S(A_i) - \max_i S(A_i)}

    Args:
        grams: two Gram matrices ``(..., n, n)`` or more.
        alpha: the order.
        normalized: return T*, between 0 (independent) and 1 (one of them determines the others), without unit.
        solver: see :func:`~lightning_infoplane.renyi_entropy`.

    Returns:
        ``(...)``.

    Raises:
        ValueError: for fewer than two matrices, or matrices that are not trace-one Gram matrices.

    Source: Watanabe (1960); T* Yu et al., AAAI 2021.

    Example:
        >>> labels = class_gram(torch.tensor([0, 0, 1, 1]))
        >>> total_correlation(labels, labels, labels)  # three copies of one bit
        tensor(2., dtype=torch.float64)
    """
    FLAG("normalized", normalized, "total_correlation")
    parts, whole, _ = _parts_and_whole("total_correlation", grams, alpha, solver)
    correlation = parts.sum(0) - whole
    if not normalized:
        return correlation
    room = parts.sum(0) - parts.amax(0)
    dependent = room > 1e-6  # below, both are the rounding of constants
    return torch.where(dependent, correlation / torch.where(dependent, room, 1.0), 0.0)


def dual_total_correlation(*grams: Tensor, alpha: float = 1.01, solver: Solver | None = None) -> Tensor:
    r"""Dual total correlation: the part of the whole that no single variable holds alone, in bits.

    .. math:: D = S(A_1, \dots, A_L) - \sum_i \bigl[S(A_1, \dots, A_L) - S(A_{-i})\bigr]

    with :math:`A_{-i}` all variables but the i-th.

    Args:
        grams: two Gram matrices ``(..., n, n)`` or more.
        alpha: the order.
        solver: see :func:`~lightning_infoplane.renyi_entropy`.

    Returns:
        ``(...)`` bits.

    Raises:
        ValueError: for fewer than two matrices, or matrices that are not trace-one Gram matrices.

    Source: Han (1978).

    Example:
        >>> labels = class_gram(torch.tensor([0, 0, 1, 1]))
        >>> dual_total_correlation(labels, labels, labels)  # one bit, shared by all
        tensor(1., dtype=torch.float64)
    """
    _, whole, entropy = _parts_and_whole("dual_total_correlation", grams, alpha, solver)
    without = [entropy(*grams[:i], *grams[i + 1 :]).expand_as(whole) for i in range(len(grams))]
    return torch.stack(without).sum(0) - (len(grams) - 1) * whole


def o_information(*grams: Tensor, alpha: float = 1.01, solver: Solver | None = None) -> Tensor:
    r"""O-information: positive where redundancy dominates, negative where synergy does, in bits.

    .. math:: \Omega = T - D

    Args:
        grams: two Gram matrices ``(..., n, n)`` or more.
        alpha: the order.
        solver: see :func:`~lightning_infoplane.renyi_entropy`.

    Returns:
        ``(...)`` bits.

    Raises:
        ValueError: for fewer than two matrices, or matrices that are not trace-one Gram matrices.

    Source: Rosas, Mediano, Gastpar and Jensen (2019).

    Example:
        >>> a, b = torch.tensor([0, 0, 1, 1]), torch.tensor([0, 1, 0, 1])
        >>> o_information(class_gram(a), class_gram(b), class_gram(a ^ b))  # XOR: pure synergy
        tensor(-1., dtype=torch.float64)
    """
    dual = dual_total_correlation(*grams, alpha=alpha, solver=solver)
    return total_correlation(*grams, alpha=alpha, solver=solver) - dual


def dpi_gaps(values: Tensor) -> Tensor:
    r"""Data-processing-inequality gaps along a chain: ``(K,)`` to ``(K - 1,)``, bits.

    .. math:: g_k = I_k - I_{k+1}

    The inequality asks for gaps of at least zero along a Markov chain; the estimator has none built in.

    Raises:
        ValueError: if ``values`` is not a vector.

    Source: arXiv 1804.06537.

    Example:
        >>> dpi_gaps(torch.tensor([3.0, 2.5, 2.75]))
        tensor([ 0.5000, -0.2500])
    """
    check_tensors("dpi_gaps", "(K,), one value a layer", values=values)
    if values.ndim != 1:
        raise ValueError(
            f"dpi_gaps() takes one value a layer, (K,), got shape {tuple(values.shape)}. Pass one chain at a time."
        )
    return values[:-1] - values[1:]


class PermutationTest(NamedTuple):
    """A quantity, what chance gives, and how often chance gives as much."""

    value: Tensor
    chance: Tensor
    p_value: Tensor


def permutation_test(
    quantity: Callable[..., Tensor], *grams: Tensor, shuffled: int = 0, permutations: int = 199, seed: int = 0
) -> PermutationTest:
    r"""Is a quantity larger than it would be if one variable's samples were shuffled? A seeded p-value.

    .. math:: p = \frac{1 + \#\{\pi : q_\pi \ge q\}}{1 + \text{permutations}}

    Args:
        quantity: any function of Gram matrices on this page, or a ``functools.partial`` of one.
        grams: its arguments, ``(n, n)`` each.
        shuffled: which of them is shuffled.
        permutations: how many times.
        seed: of the permutations; the global RNG is not touched.

    Returns:
        The value, its mean under shuffling, and p, each a scalar tensor.

    Raises:
        ValueError: for fewer than one permutation.

    Source: Fisher's permutation test; the conditional form as in Yu et al., arXiv 1808.07912.

    Example:
        >>> labels = class_gram(torch.tensor([0] * 8 + [1] * 8))
        >>> permutation_test(mutual_information, labels, labels, permutations=99).p_value  # 1 / 100
        tensor(0.0100, dtype=torch.float64)
    """
    Function("of the grams", len(grams), "mutual_information")("quantity", quantity, "permutation_test")
    for position, one in enumerate(grams):
        _GIVEN(f"grams[{position}]", one, "permutation_test")
    permutations = _PERMUTATIONS("permutations", permutations)
    shuffled = Whole(example="0")("shuffled", shuffled)
    seed = SEED("seed", seed)
    if not 0 <= shuffled < len(grams):
        raise ValueError(f"shuffled={shuffled}: expected the position of one of the {len(grams)} grams, from 0.")
    generator = torch.Generator().manual_seed(seed)
    target = grams[shuffled]
    n = grams[shuffled].shape[-1]
    value = quantity(*grams)
    chance = []
    for _ in range(permutations):
        mixed = reordered(target, torch.randperm(n, generator=generator))
        chance.append(quantity(*grams[:shuffled], mixed, *grams[shuffled + 1 :]))
    null = torch.stack(chance)
    return PermutationTest(value, null.mean(0), p_value(value, null))


def p_value(value: Tensor, null: Tensor, rounding: float = 1e-9) -> Tensor:
    """How often chance ``(permutations, ...)`` gives as much as ``value (...)``, the value itself counted in.

    Values within ``rounding`` of each other are the same: a shuffle that changes nothing gives as much.

    Example:
        >>> p_value(torch.tensor(1.0), torch.zeros(99))
        tensor(0.0100)
    """
    as_large = (null >= value - rounding).sum(0)
    return (1 + as_large).to(value) / (1 + len(null))


def _entropies(alpha: float, solver: Solver | None, **grams: Tensor) -> Callable[..., Tensor]:
    """Check everything once, then entropies of joints without further checks."""
    order = check_alpha(alpha, stacklevel=4)
    solve = exact_unless(solver)
    check_grams(order, **grams)
    return lambda *factors: checked_entropy(solve, joint_gram(*factors), order)


def _parts_and_whole(
    name: str, grams: tuple[Tensor, ...], alpha: float, solver: Solver | None
) -> tuple[Tensor, Tensor, Callable[..., Tensor]]:
    """Entropies ``(L, ...)`` of the parts, ``(...)`` of the whole, and the function that found them."""
    if len(grams) < 2:
        raise ValueError(
            f"{name}() takes two Gram matrices or more, got {len(grams)}. For a stack, write {name}(*stack)."
        )
    entropy = _entropies(alpha, solver, **{f"grams[{i}]": gram for i, gram in enumerate(grams)})
    whole = entropy(*grams)
    return torch.stack([entropy(gram).expand_as(whole) for gram in grams]), whole, entropy
