"""Samples of a data set for a probe, drawn once by indexing it.

Never ``next(iter(loader))``: that advances the RNG of a shuffling loader, and with persistent workers it takes
over the running iterator, so that training would see other batches than without us.
"""

from collections.abc import Callable, Mapping, Sequence, Sized
from itertools import islice
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import ConcatDataset, Dataset, IterableDataset, Subset, TensorDataset

from lightning_infoplane.arguments.errors import SetupError
from lightning_infoplane.network.batches import split
from lightning_infoplane.network.structures import fields_of, first_tensor, only_rows

__all__ = ["draw_batch", "draw_indices", "first_of_batches"]

# Labels that no attribute of the data set offers are read item by item, from this many times the probe.
_CANDIDATES = 4


def _target_of(item: object) -> Any:  # noqa: ANN401
    """The target of an item of a data set, as people write them."""
    return split(item)[1]


def draw_batch(
    dataset: Dataset[Any],
    size: int,
    collate: Callable[[list[Any]], Any],
    seed: int = 0,
    read: Callable[[Any], Any] = _target_of,
) -> Any:  # noqa: ANN401
    """Draw samples from a data set and collate them as its loader would.

    An iterable data set gives its first ones, from an iterator of our own.

    Args:
        dataset: with ``len()`` and indexing, or iterable.
        size: how many samples.
        collate: list of items to batch, ``loader.collate_fn``.
        seed: of the draw. Random augmentations in the data set are the caller's to seed.
        read: the target of an item, for classes to have their share.

    Raises:
        SetupError: a ValueError, if the data set is too small.

    Example:
        >>> data = torch.utils.data.TensorDataset(torch.arange(4.0), torch.tensor([0, 0, 1, 1]))
        >>> draw_batch(data, 4, torch.utils.data.default_collate)
        [tensor([0., 1., 2., 3.]), tensor([0, 0, 1, 1])]
    """
    if isinstance(dataset, IterableDataset):
        items = list(islice(iter(dataset), size))
        _require_enough(size, len(items))
        return collate(items)
    return collate([dataset[i] for i in draw_indices(dataset, size, seed, read)])


def first_of_batches(batches: Dataset[Any], size: int, convert: Callable[[Any], Any] = lambda batch: batch) -> Any:  # noqa: ANN401
    """The first samples of a data set whose items are batches, from an iterator of our own.

    Args:
        batches: with ``len()`` and indexing, or iterable.
        size: how many samples.
        convert: a batch to tensors, ``loader.collate_fn``: arrays are usual there.

    Raises:
        SetupError: a ValueError, if there are too few.

    Example:
        >>> first_of_batches([torch.ones(2), torch.zeros(2), torch.ones(2)], 3)
        tensor([1., 1., 0.])
    """
    taken: list[Any] = []
    count = 0
    places = range(len(batches)) if isinstance(batches, Sized) and hasattr(batches, "__getitem__") else None
    for batch in iter(batches) if places is None else (batches[place] for place in places):
        converted = convert(batch)
        tensor = first_tensor(converted)
        taken.append(converted)
        count += len(tensor) if tensor is not None and tensor.ndim else 0
        if count >= size:
            break
    _require_enough(size, count)
    return only_rows(_joined(taken), slice(0, size), count)


def _joined(batches: list[Any]) -> Any:  # noqa: ANN401
    """Batches of one structure, end to end."""
    first = batches[0]
    if len(batches) == 1:
        return first
    if isinstance(first, Tensor):
        return torch.cat(batches)
    if isinstance(first, tuple) and hasattr(first, "_fields"):
        return type(first)(*map(_joined, map(list, zip(*batches, strict=True))))
    named = fields_of(first)
    if isinstance(first, Mapping) and named is not None:
        return {key: _joined([batch[key] for batch in batches]) for key in first}
    if isinstance(first, list | tuple):
        parts = list(zip(*batches, strict=True))
        whole = [one for batch in batches for one in batch]
        return whole if first_tensor(first) is None else type(first)(_joined(list(part)) for part in parts)
    return first


def draw_indices(dataset: Dataset[Any], size: int, seed: int = 0, read: Callable[[Any], Any] = _target_of) -> list[int]:
    """Indices of ``size`` samples without repetition, in ascending order, stratified by class where there are classes.

    Each class gets its share of the whole data set, to within one sample. Labels are taken from the data set
    (``targets``, ``labels``, ``TensorDataset``, through ``Subset`` and ``ConcatDataset``); where it has none
    to offer, they are read from four times as many items as needed, drawn at random.

    Raises:
        SetupError: a ValueError, if the data set is too small or cannot be indexed.

    Example:
        >>> data = torch.utils.data.TensorDataset(torch.zeros(10, 1), torch.tensor([0] * 5 + [1] * 5))
        >>> len([i for i in draw_indices(data, 4) if i < 5])
        2
    """
    if not isinstance(dataset, Sized):
        raise SetupError(
            f"cannot draw a probe from {type(dataset).__name__}, which has no length and no index. "
            "Pass samples of your own: probe=(inputs, targets)."
        )
    total = len(dataset)
    _require_enough(size, total)
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(total, generator=generator).tolist()
    labels = _labels(dataset)
    if labels is None:
        order = order[: _CANDIDATES * size]
        labels = _labels_by_item(dataset, order, read)
    if labels is None:
        return sorted(order[:size])
    return sorted(_stratified(order, labels, size))


def _require_enough(size: int, total: int) -> None:
    if size < 2:
        raise SetupError(f"probe={size}: a probe needs at least 2 samples. Some hundred give useful numbers.")
    if total < 2:
        raise SetupError(
            f"the data set has {total} samples, and a probe needs at least 2: pass probe=(inputs, targets)."
        )
    if size > total:
        raise SetupError(f"probe={size}, but the data set has {total} samples. Pass probe={total} or fewer.")


def _stratified(order: Sequence[int], labels: Mapping[int, int], size: int) -> list[int]:
    """The first samples of ``order`` of each class, as many as its share; remainders go to the largest fractions."""
    classes: dict[int, list[int]] = {}
    for index in order:
        classes.setdefault(labels[index], []).append(index)
    exact = {label: size * len(members) / len(order) for label, members in classes.items()}
    share = {label: int(value) for label, value in exact.items()}
    by_remainder = sorted(exact, key=lambda label: (share[label] - exact[label], label))
    for label in by_remainder[: size - sum(share.values())]:
        share[label] += 1
    return [index for label, members in classes.items() for index in members[: share[label]]]


def _labels(dataset: object) -> dict[int, int] | None:
    """Integer labels of the whole data set by index, where it offers them without loading its items."""
    if isinstance(dataset, Subset):
        inner = _labels(dataset.dataset)
        return None if inner is None else {i: inner[int(j)] for i, j in enumerate(dataset.indices)}
    if isinstance(dataset, ConcatDataset):
        parts = [_labels(part) for part in dataset.datasets]
        if any(part is None for part in parts):
            return None
        return dict(enumerate(label for part in parts if part is not None for label in part.values()))
    values: object = getattr(dataset, "targets", getattr(dataset, "labels", None))
    if isinstance(dataset, TensorDataset) and len(dataset.tensors) > 1:
        values = dataset.tensors[1]
    try:
        tensor = torch.as_tensor(values)
    except (TypeError, ValueError, RuntimeError):  # None, strings, ragged lists
        return None
    whole = isinstance(dataset, Sized) and tensor.shape == (len(dataset),) and not tensor.is_floating_point()
    return dict(enumerate(tensor.tolist())) if whole else None


def _labels_by_item(dataset: Dataset[Any], indices: Sequence[int], read: Callable[[Any], Any]) -> dict[int, int] | None:
    """Integer labels read from the items themselves, or None at the first item that has no such label."""
    labels: dict[int, int] = {}
    for index in indices:
        label = _label(read(dataset[index]))
        if label is None:
            return None
        labels[index] = label
    return labels


def _label(target: object) -> int | None:
    """The class that a single target names, if it does."""
    if isinstance(target, Tensor):
        return int(target) if target.numel() == 1 and not target.is_floating_point() else None
    return target if isinstance(target, int) else None
