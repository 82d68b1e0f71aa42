"""How a collated batch is read: what the network is called with, what is X, and what is Y.

Targets are never X: whatever a batch calls so stays out of it, wherever it stands.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from lightning_infoplane.arguments.errors import NotMeasurableError, SetupError
from lightning_infoplane.network.calls import ANYTHING, Taken
from lightning_infoplane.network.plain import plain
from lightning_infoplane.network.structures import fields_of, first_tensor, is_of_samples, look_up, paths_in, written

__all__ = ["Key", "Read", "has_distances", "is_constant", "is_target_name", "pick", "read_batch", "split"]

Key = str | int | Sequence[str | int] | Callable[[Any], Any]
# A row a sample, of what has rows of something else: ``(tensor, inputs, n)``.
Rows = Callable[[Tensor, Any, int], Tensor | None]

# Names of inputs, likely ones first. Token numbers come after whatever has distances.
_INPUT_NAMES = (
    *("pixel_values", "input_values", "input_features", "inputs", "input", "x", "images", "image", "img"),
    *("audio", "waveform", "signal", "video", "features", "data", "inputs_embeds"),
)
_ID_NAMES = ("input_ids", "ids", "tokens", "token_ids", "text")
_TARGET_NAMES = {
    *("targets", "target", "y", "labels", "label", "label_ids", "labels_ids", "class", "classes", "class_id"),
    *("class_labels", "class_label", "cls", "category", "decoder_target", "future_target", "future_values"),
}


# Tensors named in a message.
_SHOWN = 6


class Read(NamedTuple):
    """A batch, read.

    Args:
        inputs: what the network is called with.
        x: the tensor that stands for X.
        targets: what stands for Y, or None.
        x_name: where X was found.
        y_name: where the targets were.
    """

    inputs: Any
    x: Tensor
    targets: Tensor | None
    x_name: str = "inputs"
    y_name: str = "targets"


def read_batch(
    batch: Any,  # noqa: ANN401
    n: int,
    inputs: Key | None = None,
    x: Key | None = None,
    targets: Key | None = None,
    taken: Taken = ANYTHING,
    of_rows: Rows = lambda tensor, inputs, n: None,
) -> Read:
    """Read a batch as people write them, or as they say.

    A mapping, a dataclass, a named tuple or an object with tensors is read by name; ``(x, y, …)`` by place, where
    labels may come first and texts are skipped. X is the input of a known name, or else the first that has distances:
    floats, a row a sample, neither constant nor a mask.

    Args:
        batch: as the loader would give it.
        n: how many samples it was made of.
        inputs: what the network is called with: a key, or a function of the batch.
        x: what stands for X, likewise.
        targets: what stands for Y, likewise.
        taken: what the network's ``forward`` takes.
        of_rows: makes a row a sample of what has rows of nodes, say.

    Raises:
        SetupError: a ValueError, for a key that the batch has not.
        NotMeasurableError: if nothing can stand for X.

    Example:
        >>> read = read_batch({"label": torch.tensor([0, 1]), "image": torch.eye(2)}, 2)
        >>> read.x_name, read.y_name
        ('image', 'label')
    """
    n = _count(batch, n)
    whole, answer = split(batch, taken, n)
    if inputs is not None:
        whole = pick(batch, "inputs", inputs)
    y = answer if targets is None else pick(batch, "targets", targets)
    y_name = _name_in(batch, first_tensor(y), _key_name(targets, "targets"))
    answer = _as_targets(y, n)
    found = first_tensor(pick(batch, "x", x)) if x is not None else _input_in(whole, n, answer, of_rows)
    rows = None if found is None else found if found.shape[:1] == (n,) else of_rows(found, whole, n)
    if rows is None:
        raise NotMeasurableError(_what_to_pass(batch, whole, n))
    x_name = _name_in(batch, found, _key_name(x, "x"))
    return Read(whole, rows, answer, x_name, y_name)


def split(batch: Any, taken: Taken = ANYTHING, n: int | None = None) -> tuple[Any, Any]:  # noqa: ANN401
    """Inputs and targets of a batch, or of a single item of a data set, as they are there.

    Example:
        >>> split(("id-7", torch.zeros(3), 1))
        (tensor([0., 0., 0.]), 1)
        >>> split({"label": 1, "image": 2})
        ({'label': 1, 'image': 2}, 1)
    """
    named = fields_of(batch)
    known = {*_INPUT_NAMES, *_ID_NAMES, *taken.names}
    if named is not None and (not isinstance(batch, tuple) or any(is_target_name(k) or k in known for k in named)):
        inner = next((named[key] for key in _INPUT_NAMES if _is_structure(named.get(key))), batch)
        return inner, next((value for key, value in named.items() if is_target_name(key)), None)
    if not isinstance(batch, list | tuple) or (n is not None and is_of_samples(batch, n)):
        return batch, None
    parts = [part for part in batch if part is not None and not isinstance(part, str | bytes) and not _is_texts(part)]
    if not parts:
        return batch, None
    count = len(taken.required)
    is_whole = isinstance(parts[0], list | tuple) and len(parts[0]) == count  # ((left, right), y)
    if count > 1 and len(parts) >= count and not is_whole:
        last = parts[count - 1]
        inputs = dict(zip(taken.required, parts[:count], strict=True))  # by name, which tells what is a mask
        return inputs, parts[count] if len(parts) > count else last if _is_labels(last) else None
    start = next((place for place, part in enumerate(parts) if not _is_labels(part)), 0)
    others = parts[start + 1 :] or parts[:start]
    # What is the same for all samples, such as a sampling rate, is no answer to anything.
    varying = (part for part in others if not (isinstance(part, Tensor) and part.ndim and is_constant(part)))
    return parts[start], next(varying, others[0] if others else None)


def pick(batch: Any, argument: str, key: Key) -> Any:  # noqa: ANN401
    """What a key or a function finds in a batch.

    Raises:
        SetupError: a ValueError, naming the argument and what there is instead.
    """
    try:
        return key(batch) if callable(key) else look_up(batch, key)
    except Exception as error:  # a function of the user's may raise anything
        shown = "a function" if callable(key) else repr(key)
        reason = (
            error.args[0]
            if isinstance(error, LookupError) and not callable(key)
            else f"{type(error).__name__}: {error}"
        )
        raise SetupError(f"{argument}={shown} of the probe cannot be read: {reason}") from error


def is_target_name(name: str) -> bool:
    """Whether a batch calls targets so.

    Example:
        >>> is_target_name("Y"), is_target_name("yaw")
        (True, False)
    """
    return name.lower() in _TARGET_NAMES


def has_distances(tensor: Tensor) -> bool:
    """Whether it holds quantities, not names: floats, and the bytes that images are made of."""
    return tensor.is_floating_point() or tensor.is_complex() or tensor.dtype is torch.uint8


def _input_in(inputs: Any, n: int, targets: Tensor | None, of_rows: Rows) -> Tensor | None:  # noqa: ANN401
    """The tensor of the inputs that stands for X."""
    # A single sample of a list may have as many rows as there are samples.
    single = {id(one) for _, many in _lists_in(inputs) if is_of_samples(many, n) for one in many}
    named = [
        (path.rpartition(".")[2], tensor)
        for path, tensor in paths_in(inputs)
        if tensor is not targets
        and tensor.numel()
        and not is_target_name(path.rpartition(".")[2])
        and id(tensor) not in single
    ]
    rows = [(name, tensor) for name, tensor in named if tensor.shape[:1] == (n,) and "mask" not in name]
    real = [(name, tensor) for name, tensor in rows if has_distances(tensor)]
    varying = [(name, tensor) for name, tensor in real if not is_constant(tensor)]
    found = _likeliest(varying, _INPUT_NAMES)
    if found is None:
        found = _likeliest([(name, tensor) for name, tensor in rows if not has_distances(tensor)], _ID_NAMES)
    if found is None:
        others = (tensor for _, tensor in named if has_distances(tensor) and of_rows(tensor, inputs, n) is not None)
        found = next(others, None)
    # Weights that are all alike, beside the nodes of graphs: only where there is nothing else.
    if found is None and real and not any(_tells_graphs(tensor, n) for _, tensor in named):
        found = real[0][1]
    return found


def is_constant(tensor: Tensor) -> bool:
    """Whether all samples are alike.

    Example:
        >>> is_constant(torch.ones(3, 2)), is_constant(torch.eye(2))
        (True, False)
    """
    values = plain(tensor)
    return values is not None and bool((values == values[:1]).all())


def _likeliest(tensors: Sequence[tuple[str, Tensor]], names: Sequence[str]) -> Tensor | None:
    """The one of a known name, or else the first of more than a number a sample, or else the first."""
    known = {name.lower(): tensor for name, tensor in reversed(tensors)}
    found = next((known[name] for name in names if name in known), None)
    if found is None:
        found = next((tensor for _, tensor in tensors if tensor.ndim > 1), None)
    return tensors[0][1] if found is None and tensors else found


def _as_targets(value: Any, n: int) -> Tensor | None:  # noqa: ANN401
    """The first tensor with a row a sample; what is none (strings, boxes of each image) is no target."""
    found = first_tensor(value)
    if found is None or found.shape[:1] != (n,) or not found.numel():
        return None
    return plain(found)


def _count(batch: Any, n: int) -> int:  # noqa: ANN401
    """How many samples a batch of n items shows: some are collated into two views each, or left out."""
    if any(is_of_samples(many, n) for _, many in _lists_in(batch)):
        return n
    rows = {len(tensor) for _, tensor in paths_in(batch) if tensor.ndim}
    return rows.pop() if len(rows) == 1 else n


def _is_structure(value: object) -> bool:
    return not isinstance(value, Tensor) and (fields_of(value) is not None or isinstance(value, list | tuple))


def _is_texts(part: object) -> bool:
    """Whether these are names or paths of the samples."""
    return isinstance(part, list | tuple) and bool(part) and all(isinstance(one, str | bytes) for one in part)


def _is_labels(part: object) -> bool:
    """Whether this is a whole number, or one a sample: labels, where something else can be the input."""
    if isinstance(part, Tensor):
        return not has_distances(part) and part.numel() == (len(part) if part.ndim else 1)
    return isinstance(part, int)


def _key_name(key: Key | None, otherwise: str) -> str:
    return otherwise if key is None or callable(key) else str(key)


def _name_in(batch: Any, tensor: Tensor | None, otherwise: str) -> str:  # noqa: ANN401
    """Where a tensor stands in a batch, in words."""
    path = next((path for path, one in paths_in(batch) if one is tensor), None)
    if path is None:
        return otherwise
    head, *rest = path.split(".")
    words = [f"batch[{head}]" if head.isdigit() else head, *rest]
    return ".".join(words) if path else "batch"


# ---------------------------------------------------------------------------------------------- what cannot be read


def _what_to_pass(batch: Any, inputs: Any, n: int) -> str:  # noqa: ANN401
    """Why nothing stands for X, and the argument to paste."""
    held = [f"{path or 'batch'} {tuple(tensor.shape)}" for path, tensor in paths_in(batch)]
    shown = ", ".join(held[:_SHOWN]) + (", …" if len(held) > _SHOWN else "")
    what = f"no tensor of a batch of {n} samples has a row a sample and can stand for X: it holds {shown or 'none'}."
    owner = next((path for path, tensor in paths_in(inputs) if _tells_graphs(tensor, n)), None)
    if owner is not None:
        return f"{what} For a row a graph, the mean over its nodes, pass readout=PerGraph({owner!r})."
    found = next(((path, many) for path, many in _lists_in(batch) if is_of_samples(many, n)), None)
    if found is not None:
        path, many = found
        return f"{what} Pass probe=Draw({n}, x=lambda batch: {_of_one_size(written('batch', batch, path), many)})."
    return f"{what} Pass probe=Draw({n}, x=lambda batch: ...), a function that gives a tensor ({n}, ...)."


def _tells_graphs(tensor: Tensor, n: int) -> bool:
    """Whether it numbers the graph of each node: n of them, in order."""
    if tensor.ndim != 1 or tensor.is_floating_point() or len(tensor) <= n or tensor.is_complex():
        return False
    return bool((tensor.diff() >= 0).all()) and (int(tensor[0]), int(tensor[-1])) == (0, n - 1)


def _lists_in(part: Any, path: str = "") -> list[tuple[str, Any]]:  # noqa: ANN401
    """All lists of tensors alone, with their keys."""
    if isinstance(part, list | tuple) and part and all(isinstance(one, Tensor) for one in part):
        return [(path, part)]
    named = fields_of(part)
    if named is None and isinstance(part, list | tuple):
        named = {str(place): one for place, one in enumerate(part)}
    inner = ((f"{path}.{key}" if path else key, one) for key, one in (named or {}).items())
    return [found for key, one in inner for found in _lists_in(one, key)]


def _of_one_size(name: str, samples: Sequence[Tensor]) -> str:
    """Samples of different sizes as one tensor: images averaged over a grid, others over their first axis."""
    if samples[0].ndim == 3:
        return f"torch.stack([torch.nn.functional.adaptive_avg_pool2d(image.float(), 8) for image in {name}])"
    return f"torch.stack([sample.float().mean(0) for sample in {name}])"
