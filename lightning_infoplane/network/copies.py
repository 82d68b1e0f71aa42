"""Copies of a few samples side by side in a batch, each for an intervention of its own.

The samples of a batch must know nothing of each other.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from lightning_infoplane.network.structures import first_tensor, is_of_samples, replace_tensors, tensors_in

__all__ = ["MixedSamplesError", "half_and_half", "rows_of", "side_by_side"]


class MixedSamplesError(ValueError):
    """Copies of the same samples, side by side in a batch, did not come out alike."""


def side_by_side(x: Any, z: Any, are_x: Sequence[bool], n: int) -> Any:  # noqa: ANN401
    """Inputs of copies of x and of z: every tensor with a row a sample is repeated, and so is a list of samples.

    Example:
        >>> side_by_side((torch.ones(2), "mode"), (torch.zeros(2), "mode"), [False, True], 2)
        (tensor([0., 0., 1., 1.]), 'mode')
    """
    if len(are_x) == 1:
        return x if are_x[0] else z
    if is_of_samples(z, n):
        return [sample for is_x in are_x for sample in (x if is_x else z)]
    return _joined(x, z, n, lambda of_x, of_z: torch.cat([of_x if is_x else of_z for is_x in are_x]))


def half_and_half(x: Any, z: Any, n: int) -> Any:  # noqa: ANN401
    """As many samples as x has, and z has: some of both.

    Example:
        >>> half_and_half(torch.ones(4), torch.zeros(4), 4)
        tensor([1., 1., 0., 0.])
    """
    half = n // 2
    if is_of_samples(z, n):
        return [*x[: n - half], *z[:half]]
    return _joined(x, z, n, lambda of_x, of_z: torch.cat([of_x[: n - half], of_z[:half]]))


def _joined(x: Any, z: Any, n: int, join: Callable[[Tensor, Tensor], Tensor]) -> Any:  # noqa: ANN401
    """The structure of z with every tensor that has a row a sample joined with that of x."""
    of_x = iter(tensors_in(x))

    def visit(of_z: Tensor) -> Tensor:
        other = next(of_x, of_z)
        return join(other, of_z) if of_z.ndim and len(of_z) == n else of_z

    return replace_tensors(z, visit)


def rows_of(inputs: object) -> int:
    """How many samples there are.

    Example:
        >>> rows_of({"mode": "text", "pixels": torch.zeros(4, 3)})
        4
    """
    tensor = first_tensor(inputs)
    return 1 if tensor is None or not tensor.ndim else max(len(tensor), 1)
