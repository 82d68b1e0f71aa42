"""Nested outputs and batches: the tensors in them, found and replaced."""

from collections.abc import Callable, Mapping, MutableMapping
from copy import copy
from typing import Any

from torch import Tensor

__all__ = ["first_tensor", "replace_tensors", "tensors_in"]


def first_tensor(output: object) -> Tensor | None:
    """The tensor a layer or a batch is about: itself, or the first one in a tuple, list or mapping."""
    if isinstance(output, Tensor):
        return output
    if isinstance(output, Mapping):
        output = list(output.values())
    if isinstance(output, list | tuple):
        return next((first for part in output if (first := first_tensor(part)) is not None), None)
    return None


def tensors_in(output: object) -> list[Tensor]:
    """All tensors of a structure, in the order in which :func:`replace_tensors` comes to them."""
    tensors: list[Tensor] = []
    replace_tensors(output, lambda tensor: tensors.append(tensor) or tensor)  # type: ignore[func-returns-value]
    return tensors


def replace_tensors(output: Any, function: Callable[[Tensor], Tensor], first_only: bool = False) -> Any:  # noqa: ANN401
    """The same structure with ``function`` applied to its tensors, or to the first one only.

    Example:
        >>> replace_tensors((torch.ones(2), "state", [torch.ones(1)]), lambda t: 2 * t)
        (tensor([2., 2.]), 'state', [tensor([2.])])
    """
    done = False

    def visit(part: Any) -> Any:  # noqa: ANN401
        nonlocal done
        if isinstance(part, Tensor) and not (done and first_only):
            done = True
            return function(part)
        if isinstance(part, MutableMapping):
            copied = copy(part)  # of the same class: some are read by attribute
            for key, value in part.items():
                copied[key] = visit(value)
            return copied
        if isinstance(part, tuple) and hasattr(part, "_fields"):
            return type(part)(*map(visit, part))
        if isinstance(part, list | tuple):
            return type(part)(map(visit, part))
        return part

    return visit(output)
