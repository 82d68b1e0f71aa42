"""The fixed probe: the same samples at every measurement, and how to have them drawn."""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from lightning_infoplane.arguments.checks import Maybe, Tensors, Whole, WrongKindError, checked, shown
from lightning_infoplane.network.structures import first_tensor, replace_tensors

__all__ = ["Draw", "Probe"]

Source = Literal["val", "train"]


_INPUTS = Tensors("(n, ...)")
_TARGETS = Tensors("(n,) of integer classes or (n, ...) of continuous values, or None")


@dataclass(frozen=True)
@checked(size=Whole())
class Draw:
    """How a probe is drawn from the Trainer's data, stratified by class.

    Args:
        size: how many samples.
        source: ``"val"``, ``"train"``, or both, ``("train", "val")``: two probes, two sets of curves.

    Raises:
        ValueError: for fewer than two samples, or another source.

    Example:
        >>> Draw(256, ("train", "val")).sources
        ('train', 'val')
    """

    size: int = 512
    source: Source | Sequence[Source] = "val"

    def __post_init__(self) -> None:
        """Check what the types do not say."""
        if self.size < 2:
            raise ValueError(f"probe={self.size}: a probe needs at least 2 samples. Some hundred give useful numbers.")
        _check_source(self.source)

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


@dataclass(frozen=True)
@checked(targets=Maybe(_TARGETS))
class Probe:
    """Samples to measure on.

    Args:
        inputs: what the model is called with: a tensor ``(n, ...)``, or anything with a tensor in it.
        targets: ``(n,)`` integer classes, ``(n, ...)`` continuous values, or None.

    Raises:
        ValueError: for fewer than two samples, or targets of another length.

    Example:
        >>> Probe(torch.zeros(16, 1, 8, 8), torch.arange(16) % 4).size
        16
    """

    inputs: Any
    targets: Tensor | None = None

    def __post_init__(self) -> None:
        """Check that there are samples."""
        x = first_tensor(self.inputs)
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
        if self.size < 2:
            raise ValueError(f"a probe needs at least 2 samples, got {self.size}. Some hundred give useful numbers.")
        if self.targets is not None and self.targets.shape[:1] != (self.size,):
            what = f"{len(self.targets)} targets" if self.targets.ndim else "a single number as targets"
            raise ValueError(f"the probe has {self.size} inputs but {what}. Pass one for each input, or None.")

    @property
    def x(self) -> Tensor:
        """The tensor ``(n, ...)`` that stands for X."""
        tensor = first_tensor(self.inputs)
        assert tensor is not None, "checked when the probe was made"
        return tensor

    @property
    def size(self) -> int:
        """The number of samples n."""
        return len(self.x)

    def pieces(self, size: int | None = None) -> Iterator[tuple[Any, int]]:
        """The inputs in pieces of at most ``size`` samples, every tensor of n rows in them sliced alike."""
        step = size or self.size
        for first in range(0, self.size, step):
            yield self.rows(slice(first, first + step)), min(step, self.size - first)

    def rows(self, part: slice) -> Any:  # noqa: ANN401 - of the structure of the inputs
        """The inputs of some of the samples."""
        return replace_tensors(self.inputs, lambda t: t[part] if t.ndim and len(t) == self.size else t)

    def halves(self, at_most: int) -> tuple[Any, Any]:
        """The inputs of a few samples, and of as many others."""
        few = min(at_most, self.size // 2)
        return self.rows(slice(0, few)), self.rows(slice(few, 2 * few))

    def fingerprint(self) -> str:
        """A digest of inputs and targets that tells two probes apart."""
        digest = hashlib.sha256()

        def add(tensor: Tensor) -> Tensor:
            digest.update(f"{tuple(tensor.shape)} {tensor.dtype}".encode())
            digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
            return tensor

        replace_tensors((self.inputs, self.targets), add)
        return digest.hexdigest()[:16]


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
