"""Nested outputs and batches: the tensors in them, found and replaced."""

from collections.abc import Callable, Mapping, MutableMapping
from copy import copy
from dataclasses import fields, is_dataclass
from typing import Any

from torch import Tensor

__all__ = ["first_tensor", "replace_tensors", "tensors_in"]


def first_tensor(output: object) -> Tensor | None:
    """The tensor a layer or a batch is about: itself, or the first one in a tuple, list, mapping or dataclass."""
    if isinstance(output, Tensor):
        return output
    if isinstance(output, Mapping):
        output = list(output.values())
    elif is_dataclass(output) and not isinstance(output, type):
        output = [getattr(output, field.name) for field in fields(output)]
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
        if isinstance(part, Mapping):
            return _with_values(part, {key: visit(value) for key, value in part.items()})
        if isinstance(part, tuple) and hasattr(part, "_fields"):
            return type(part)(*map(visit, part))
        if isinstance(part, list | tuple):
            return type(part)(map(visit, part))
        if is_dataclass(part) and not isinstance(part, type):
            return _with_fields(part, {field.name: visit(getattr(part, field.name)) for field in fields(part)})
        return part

    return visit(output)


def _with_values(mapping: Any, values: dict[Any, Any]) -> Any:  # noqa: ANN401
    """A mapping of the same class: some are read by attribute."""
    if not isinstance(mapping, MutableMapping):
        return type(mapping)(values)
    copied = copy(mapping)
    for key, value in values.items():
        copied[key] = value
    return copied


def _with_fields(instance: Any, values: dict[str, Any]) -> Any:  # noqa: ANN401
    """A dataclass of the same class, frozen or not, without what its constructor would do once more."""
    changed = {name: value for name, value in values.items() if value is not getattr(instance, name)}
    copied = copy(instance) if changed else instance
    for name, value in changed.items():
        object.__setattr__(copied, name, value)
    return copied
