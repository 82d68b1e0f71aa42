"""The fixed probe: the same samples at every measurement, and how to have them drawn."""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from lightning_infoplane.arguments.checks import Key, Maybe, Tensors, Whole, WrongKindError, checked, shown
from lightning_infoplane.arguments.errors import SetupError
from lightning_infoplane.network.batches import Key as AnyKey
from lightning_infoplane.network.batches import has_distances, is_constant
from lightning_infoplane.network.plain import as_floats, plain
from lightning_infoplane.network.structures import (
    first_tensor,
    is_of_samples,
    only_rows,
    paths_in,
    replace_tensors,
    tensors_in,
)

__all__ = ["Draw", "Origin", "Probe", "check_x"]

Source = Literal["val", "train"]


_INPUTS = Tensors("(n, ...)")
_KEY = Maybe(Key("batch", "'image'", places=True))
_TARGETS = Tensors("(n,) of integer classes or (n, ...) of continuous values, or None")


@dataclass(frozen=True, repr=False)
@checked(size=Whole(), inputs=_KEY, x=_KEY, targets=Maybe(Key("batch", "'label'", places=True)))
class Draw:
    """How a probe is drawn from the Trainer's data, stratified by class, and how its batch is read.

    What is not said of ``inputs``, ``x`` and ``targets`` is found by the usual names and places. Each is a key of the
    collated batch (``"image"``, a place ``0``, ``"graph.x"`` for what lies deeper, or several of these), or a function
    of it.

    Args:
        size: how many samples.
        source: ``"val"``, ``"train"``, or both, ``("train", "val")``: two probes, two sets of curves.
        inputs: what the network is called with.
        x: the tensor ``(n, ...)`` that stands for X.
        targets: what stands for Y.

    Raises:
        ValueError: for fewer than two samples, or another source.

    Example:
        >>> Draw(256, ("train", "val")).sources
        ('train', 'val')
    """

    size: int = 512
    source: Source | Sequence[Source] = "val"
    inputs: AnyKey | None = None
    x: AnyKey | None = None
    targets: AnyKey | None = None

    def __post_init__(self) -> None:
        """Check what the types do not say."""
        if self.size < 2:
            raise ValueError(f"probe={self.size}: a probe needs at least 2 samples. Some hundred give useful numbers.")
        _check_source(self.source)

    def __repr__(self) -> str:
        """What was said, and where it is drawn from."""
        named = {one.name: getattr(self, one.name) for one in fields(self)}
        return f"Draw({', '.join(f'{name}={value!r}' for name, value in named.items() if value is not None)})"

    @property
    def sources(self) -> tuple[Source, ...]:
        """The sources, also where there is one."""
        return (self.source,) if isinstance(self.source, str) else tuple(self.source)


def _check_source(source: object) -> None:
    """Raise a sentence for what is neither one source nor two different ones."""
    expected = f"source={shown(source)}: expected 'val', 'train' or both, ('train', 'val')."
    named = [source] if isinstance(source, str) else source
    if not isinstance(named, list | tuple) or not all(isinstance(one, str) for one in named):
        raise WrongKindError(f"{expected} Write source='val'.")
    if not named or set(named) - {"val", "train"}:
        close = next((one for one in ("val", "train") if named and one in named[0].lower()), "val")
        raise ValueError(f"{expected} Write source={close!r}.")
    if len(set(named)) < len(named):
        raise ValueError(f"{expected} Name each of them once.")


class Origin(NamedTuple):
    """Where a probe comes from, for messages.

    Args:
        x: the name of X.
        targets: the name of the targets.
        batch: that it was read from, as long as the network has not been called.
    """

    x: str = "inputs"
    targets: str = "targets"
    batch: Any = None


@dataclass(frozen=True)
@checked(targets=Maybe(_TARGETS), x=Maybe(_INPUTS))
class Probe:
    """Samples to measure on.

    Args:
        inputs: what the model is called with: a tensor ``(n, ...)``, or anything with a tensor in it.
        targets: ``(n,)`` integer classes, ``(n, ...)`` continuous values, or None. Integers ``(n, ...)`` are classes in
            several places, such as tokens or pixels.
        x: the tensor ``(n, ...)`` that stands for X; the first one in ``inputs`` that holds quantities when left out,
            or the output of the network's embedding layer where there are only token numbers.

    Raises:
        ValueError: for fewer than two samples, or targets of another length.

    Example:
        >>> Probe(torch.zeros(16, 1, 8, 8), torch.arange(16) % 4).size
        16
    """

    inputs: Any
    targets: Tensor | None = None
    x: Tensor = None  # type: ignore[assignment]  # a Tensor | None that is passed, and a Tensor from then on
    origin: Origin = field(default=Origin(), repr=False, compare=False, kw_only=True)

    def __post_init__(self) -> None:
        """Check that there are samples."""
        x = _likely_x(self.inputs) if self.x is None else self.x
        if x is None:
            what = "" if self.inputs is None else f"{type(self.inputs).__name__}, "
            raise WrongKindError(
                f"a probe's inputs must be or hold a tensor (n, ...), got {what}{shown(self.inputs)}. "
                f"{_instead(self.inputs)}"
            )
        if x.ndim == 0:
            raise ValueError(
                "a probe's inputs must be or hold a tensor (n, ...), got a single number. "
                "Write Probe(torch.stack(samples), targets)."
            )
        _INPUTS("inputs", x, "Probe")
        object.__setattr__(self, "x", x)
        if self.size < 2:
            raise ValueError(f"a probe needs at least 2 samples, got {self.size}. Some hundred give useful numbers.")
        if self.targets is not None and self.targets.shape[:1] != (self.size,):
            what = f"{len(self.targets)} targets" if self.targets.ndim else "a single number as targets"
            own = "" if isinstance(self.inputs, Tensor) else " X of your own is Probe(inputs, targets, x=...)."
            raise ValueError(f"the probe has {self.size} inputs but {what}. Pass one for each input, or None.{own}")

    @property
    def size(self) -> int:
        """The number of samples n."""
        return len(self.x)

    @property
    def is_of_ids(self) -> bool:
        """Whether X is whole numbers, such as those of tokens, between which there are no distances."""
        return not has_distances(self.x) and self.x.dtype is not torch.bool

    @property
    def can_be_divided(self) -> bool:
        """Whether some of the samples make inputs of their own: not of graphs, whose nodes are in one tensor."""
        tensors = tensors_in(self.inputs)
        if any(tensor is self.x for tensor in tensors) or is_of_samples(self.inputs, self.size):
            return True
        return all(tensor.ndim == 0 or len(tensor) in (1, self.size) for tensor in tensors)

    def without_batch(self) -> "Probe":
        """The same probe, which no longer holds what it was read from."""
        return replace(self, origin=self.origin._replace(batch=None))

    def values(self) -> Tensor:
        """X as real floats, whatever kind of tensor it is."""
        values = as_floats(self.x)
        if values is None:
            values = plain(self.x)
        assert values is not None, "a dense tensor: checked when the probe was made"
        return values if values.is_floating_point() else values.float()

    def pieces(self, size: int | None = None) -> Iterator[tuple[Any, int]]:
        """The inputs in pieces of at most ``size`` samples, every tensor of n rows in them sliced alike; or whole."""
        step = size if size and self.can_be_divided else self.size
        for first in range(0, self.size, step):
            yield self.rows(slice(first, first + step)), min(step, self.size - first)

    def rows(self, part: slice) -> Any:  # noqa: ANN401 - of the structure of the inputs
        """The inputs of some of the samples."""
        return only_rows(self.inputs, part, self.size)

    def halves(self, at_most: int) -> tuple[Any, Any]:
        """The inputs of a few samples, and of as many others, masked alike: for every layer reads the mask."""
        few = min(at_most, self.size // 2)
        first = self.rows(slice(0, few))
        # Labels among the inputs come sorted or in turn: others of the same labels would hide that a layer sees them.
        starts = dict.fromkeys((few, self.size // 2, self.size // 2 + 1, self.size - few - 1, self.size - few))
        others = (self.rows(slice(start, start + few)) for start in starts if few <= start <= self.size - few)
        return first, _masked_like(max(others, key=lambda one: _differing(first, one)), first)

    def fingerprint(self) -> str:
        """A digest of inputs, targets and X that tells two probes apart."""
        digest = hashlib.sha256()

        def add(tensor: Tensor) -> Tensor:
            digest.update(f"{tuple(tensor.shape)} {tensor.dtype}".encode())
            values = plain(tensor)
            if values is not None:
                digest.update(values.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
            return tensor

        of_x = () if any(tensor is self.x for tensor in tensors_in(self.inputs)) else (self.x,)
        replace_tensors((self.inputs, self.targets, *of_x), add)
        return digest.hexdigest()[:16]


def check_x(probe: Probe) -> None:
    """Raise a sentence where X can tell no sample from another.

    Raises:
        SetupError: a ValueError, for an X without numbers, or of samples that are all alike.
    """
    shape = tuple(probe.x.shape)
    if not probe.x.numel():
        raise SetupError(
            f"X of the probe, {probe.origin.x} {shape}, holds no numbers. Pass what stands for the input: "
            f"probe=Draw({probe.size}, x=...), a key of the batch or a function of it."
        )
    if is_constant(probe.x):
        raise SetupError(
            f"X of the probe, {probe.origin.x} {shape}, is the same for all samples: there is nothing to know of it. "
            f"Pass what stands for the input: probe=Draw({probe.size}, x=...), a key of the batch or a function of it."
        )


def _differing(inputs: Any, others: Any) -> int:  # noqa: ANN401
    """In how many of their tensors they differ."""
    both = zip(tensors_in(inputs), tensors_in(others), strict=True)
    return sum(one.shape != other.shape or not torch.equal(one, other) for one, other in both)


def _masked_like(inputs: Any, others: Any) -> Any:  # noqa: ANN401
    """The inputs with the masks of others: every layer that reads a mask would else be a way around all before it."""
    names = iter([path.rpartition(".")[2] for path, _ in paths_in(inputs)])
    of_others = iter(tensors_in(others))

    def visit(tensor: Tensor) -> Tensor:
        other = next(of_others)
        is_mask = "mask" in next(names)
        return other if is_mask and not tensor.is_floating_point() and other.shape == tensor.shape else tensor

    return replace_tensors(inputs, visit)


def _likely_x(inputs: object) -> Tensor | None:
    """The first tensor that holds quantities and has as many rows as the first of all, or that first one."""
    first = first_tensor(inputs)
    if first is None or first.ndim == 0:
        return first
    with_rows = [tensor for tensor in tensors_in(inputs) if tensor.shape[:1] == first.shape[:1]]
    return next((tensor for tensor in with_rows if has_distances(tensor) and tensor.numel()), first)


def _instead(inputs: object) -> str:
    """What to type in place of inputs without a tensor."""
    if hasattr(inputs, "collate_fn"):
        return "Write Probe(*next(iter(loader))), its first batch."
    if hasattr(inputs, "to_numpy"):
        return "Write Probe(torch.as_tensor(inputs.to_numpy()), targets)."
    if hasattr(inputs, "__array__"):
        return "Write Probe(torch.as_tensor(inputs), targets)."
    if isinstance(inputs, list | tuple):
        return "Write Probe(torch.tensor(inputs), targets)."
    return "Write Probe(inputs, targets) with the tensors that the network is called with."
