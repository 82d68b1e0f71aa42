"""Nested outputs and batches: what they hold by name, and their tensors, found, replaced, cut to some samples."""

from collections.abc import Callable, Iterator, Mapping, MutableMapping, Sequence
from copy import copy
from dataclasses import fields, is_dataclass
from typing import Any

from torch import Tensor, nn

__all__ = [
    "fields_of",
    "first_tensor",
    "is_of_samples",
    "look_up",
    "only_rows",
    "paths_in",
    "replace_tensors",
    "tensors_in",
    "written",
]


def fields_of(part: Any) -> dict[str, Any] | None:  # noqa: ANN401
    """What a structure holds by name: a mapping, a dataclass, a named tuple, an object with tensors; None of others.

    Example:
        >>> fields_of({"x": 1}), fields_of([1])
        ({'x': 1}, None)
    """
    if isinstance(part, Tensor | nn.Module | type | str | bytes):
        return None
    if isinstance(part, Mapping):
        return {str(key): value for key, value in part.items()}
    if isinstance(part, tuple):
        return dict(zip(part._fields, part, strict=True)) if hasattr(part, "_fields") else None
    if _is_like_a_mapping(part):
        return {str(key): part[key] for key in part.keys()}  # noqa: SIM118 - it may not be iterable
    if is_dataclass(part):
        return {field.name: getattr(part, field.name) for field in fields(part) if hasattr(part, field.name)}
    attributes = getattr(part, "__dict__", {})
    return dict(attributes) if any(isinstance(value, Tensor) for value in attributes.values()) else None


def _is_like_a_mapping(part: Any) -> bool:  # noqa: ANN401
    """Whether it is read by key without being a mapping: the batches of graph libraries are."""
    return callable(getattr(part, "keys", None)) and hasattr(part, "__getitem__") and hasattr(part, "__setitem__")


def first_tensor(output: object) -> Tensor | None:
    """The tensor a layer or a batch is about: itself, or the first one in a tuple, list, mapping or dataclass."""
    if isinstance(output, Tensor):
        return output
    named = fields_of(output)
    parts: Any = output if named is None else list(named.values())
    if isinstance(parts, list | tuple):
        return next((first for part in parts if (first := first_tensor(part)) is not None), None)
    return None


def tensors_in(output: object) -> list[Tensor]:
    """All tensors of a structure, in the order in which :func:`replace_tensors` comes to them."""
    tensors: list[Tensor] = []
    replace_tensors(output, lambda tensor: tensors.append(tensor) or tensor)  # type: ignore[func-returns-value]
    return tensors


def paths_in(output: Any, path: str = "") -> Iterator[tuple[str, Tensor]]:  # noqa: ANN401
    """All tensors of a structure with the key that leads there: names with dots between, places in brackets.

    Example:
        >>> from torch import ones
        >>> [path for path, _ in paths_in({"views": [ones(1), ones(1)], "graph": {"x": ones(1)}})]
        ['views.0', 'views.1', 'graph.x']
    """
    if isinstance(output, Tensor):
        yield path, output
        return
    named = fields_of(output)
    if named is None and isinstance(output, list | tuple):
        named = {str(place): part for place, part in enumerate(output)}
    for key, part in (named or {}).items():
        yield from paths_in(part, f"{path}.{key}" if path else key)


def replace_tensors(output: Any, function: Callable[[Tensor], Tensor]) -> Any:  # noqa: ANN401
    """The same structure with ``function`` applied to its tensors.

    Example:
        >>> from torch import ones
        >>> replace_tensors((ones(2), "state", [ones(1)]), lambda t: 2 * t)
        (tensor([2., 2.]), 'state', [tensor([2.])])
    """
    if isinstance(output, Tensor):
        return function(output)
    return _rebuilt(output, lambda part: replace_tensors(part, function))


def only_rows(inputs: Any, part: slice, n: int) -> Any:  # noqa: ANN401
    """Inputs of n samples cut to some of them: tensors of n rows, and lists with an entry a sample.

    Example:
        >>> from torch import arange
        >>> only_rows({"x": arange(4), "mode": "text", "size": [1, 2]}, slice(1, 3), 4)
        {'x': tensor([1, 2]), 'mode': 'text', 'size': [1, 2]}
    """
    if isinstance(inputs, Tensor):
        return inputs[part] if inputs.ndim and len(inputs) == n else inputs
    if is_of_samples(inputs, n):
        return inputs[part]
    return _rebuilt(inputs, lambda inner: only_rows(inner, part, n))


def is_of_samples(inputs: object, n: int) -> bool:
    """Whether a list has an entry a sample, such as images of different sizes: not as many tensors of n rows each."""
    if not isinstance(inputs, list | tuple) or len(inputs) != n or hasattr(inputs, "_fields"):
        return False
    tensors = tensors_in(list(inputs))
    return not tensors or any(not tensor.ndim or len(tensor) != n for tensor in tensors)


def _rebuilt(part: Any, visit: Callable[[Any], Any]) -> Any:  # noqa: ANN401
    """The same structure, each of what it holds visited."""
    named = fields_of(part)
    if isinstance(part, Mapping):
        return _with_values(part, {key: visit(value) for key, value in part.items()})
    if named is not None and isinstance(part, tuple):
        return type(part)(*map(visit, part))
    if isinstance(part, list | tuple):
        return type(part)(map(visit, part))
    if named is None:
        return part
    changed = {name: new for name, value in named.items() if (new := visit(value)) is not value}
    return _with_items(part, changed) if _is_like_a_mapping(part) else _with_attributes(part, changed)


def _with_values(mapping: Any, values: dict[Any, Any]) -> Any:  # noqa: ANN401
    """A mapping of the same class: some are read by attribute."""
    if not isinstance(mapping, MutableMapping):
        return type(mapping)(values)
    copied = copy(mapping)
    for key, value in values.items():
        copied[key] = value
    return copied


def _with_items(instance: Any, changed: dict[str, Any]) -> Any:  # noqa: ANN401
    copied = copy(instance) if changed else instance
    for name, value in changed.items():
        copied[name] = value
    return copied


def _with_attributes(instance: Any, changed: dict[str, Any]) -> Any:  # noqa: ANN401
    """An object of the same class, frozen or not, without what its constructor would do once more."""
    copied = copy(instance) if changed else instance
    for name, value in changed.items():
        object.__setattr__(copied, name, value)
    return copied


def look_up(batch: Any, key: str | int | Sequence[str | int]) -> Any:  # noqa: ANN401
    """What lies under a key of a batch: a name, a place, names with dots between, or several of these as a tuple.

    Raises:
        LookupError: naming what there is.

    Example:
        >>> look_up({"graph": {"x": 7}, "y": 2}, "graph.x"), look_up((5, 6), 1), look_up({"a": 1, "b": 2}, ["a", "b"])
        (7, 6, (1, 2))
    """
    if isinstance(key, str | int):
        return _step_by_step(batch, key)
    return tuple(look_up(batch, one) for one in key)


def _step_by_step(batch: Any, key: str | int) -> Any:  # noqa: ANN401
    named = fields_of(batch)
    if named is None and isinstance(batch, list | tuple):
        named = {str(place): part for place, part in enumerate(batch)}
    known = named or {}
    if str(key) in known:
        return known[str(key)]
    head, dot, rest = str(key).partition(".")
    if dot and head in known:
        return _step_by_step(known[head], rest)
    there = ", ".join(map(repr, known)) or f"a {type(batch).__name__}"
    raise LookupError(f"there is no {key!r} in the batch: it has {there}.")


def written(name: str, batch: Any, path: str) -> str:  # noqa: ANN401
    """How one would write what lies under a key.

    Example:
        >>> written("batch", [{"image": 1}], "0.image")
        "batch[0]['image']"
    """
    if not path:
        return name
    named = fields_of(batch)
    key, _, rest = (path, "", "") if path in (named or {}) else path.partition(".")
    if named is None:
        return written(f"{name}[{key}]", batch[int(key)], rest)
    by_key = isinstance(batch, Mapping) or _is_like_a_mapping(batch)
    return written(f"{name}[{key!r}]" if by_key else f"{name}.{key}", named[key], rest)
