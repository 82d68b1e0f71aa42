"""Samples of a data set for a probe, drawn once by indexing it.

Never ``next(iter(loader))``: that advances the RNG of a shuffling loader, and with persistent workers it takes
over the running iterator, so that training would see other batches than without us.
"""

from collections.abc import Callable, Mapping, Sequence, Sized
from dataclasses import fields, is_dataclass
from itertools import islice
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import ConcatDataset, Dataset, IterableDataset, Subset, TensorDataset

from lightning_infoplane.arguments.errors import SetupError

__all__ = ["draw_batch", "draw_indices", "split_batch"]

_INPUT_KEYS = ("inputs", "input", "x", "images", "image", "img", "pixel_values", "input_ids", "data", "features")
_TARGET_KEYS = ("targets", "target", "y", "labels", "label")
# Labels that no attribute of the data set offers are read item by item, from this many times the probe.
_CANDIDATES = 4


def draw_batch(dataset: Dataset[Any], size: int, collate: Callable[[list[Any]], Any], seed: int = 0) -> Any:  # noqa: ANN401
    """Draw samples from a data set and collate them as its loader would.

    An iterable data set gives its first ones, from an iterator of our own.

    Args:
        dataset: with ``len()`` and indexing, or iterable.
        size: how many samples.
        collate: list of items to batch, ``loader.collate_fn``.
        seed: of the draw. Random augmentations in the data set are the caller's to seed.

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
    return collate([dataset[i] for i in draw_indices(dataset, size, seed)])


def draw_indices(dataset: Dataset[Any], size: int, seed: int = 0) -> list[int]:
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
        labels = _labels_by_item(dataset, order)
    if labels is None:
        return sorted(order[:size])
    return sorted(_stratified(order, labels, size))


def split_batch(batch: object) -> tuple[Any, Tensor | None]:
    """Inputs and targets of a batch as people write them: ``x``, ``(x, y, …)``, a mapping, a dataclass.

    Mappings and dataclasses are read by the usual names (``x``, ``image``, ``pixel_values``, …; ``y``,
    ``label``, ``target``, …); without one, the whole batch is the input.

    Example:
        >>> split_batch({"image": torch.zeros(2, 3), "label": torch.tensor([0, 1])})[1]
        tensor([0, 1])
    """
    if is_dataclass(batch) and not isinstance(batch, type):
        batch = {field.name: getattr(batch, field.name) for field in fields(batch)}
    if isinstance(batch, Mapping):
        inputs = next((batch[key] for key in _INPUT_KEYS if key in batch), None)
        targets = next((batch[key] for key in _TARGET_KEYS if key in batch), None)
        return (batch if inputs is None else inputs), _as_targets(targets)
    if isinstance(batch, tuple | list):
        return batch[0], _as_targets(batch[1]) if len(batch) > 1 else None
    return batch, None


def _require_enough(size: int, total: int) -> None:
    if size < 2:
        raise SetupError(f"probe={size}: a probe needs at least 2 samples. Some hundred give useful numbers.")
    if total < 2:
        raise SetupError(
            f"the data set has {total} samples, and a probe needs at least 2: pass probe=(inputs, targets)."
        )
    if size > total:
        raise SetupError(f"probe={size}, but the data set has {total} samples. Pass probe={total} or fewer.")


def _as_targets(value: object) -> Tensor | None:
    """Targets as a tensor; what is none (strings, nested structures) is no target."""
    if isinstance(value, Tensor):
        return value
    return torch.tensor(value) if isinstance(value, bool | int | float) else None


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


def _labels_by_item(dataset: Dataset[Any], indices: Sequence[int]) -> dict[int, int] | None:
    """Integer labels read from the items themselves, or None at the first item that has no such label."""
    labels: dict[int, int] = {}
    for index in indices:
        target = split_batch(dataset[index])[1]
        if target is None or target.numel() != 1 or target.is_floating_point():
            return None
        labels[index] = int(target)
    return labels
