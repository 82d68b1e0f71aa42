"""Readouts: a layer's output as what is measured, ``(n, ...)``, and back.

A readout that keeps less than the layer put out leaves a way around it: what was left out goes on to later layers. So
``write`` replaces what was read and nothing else, and the search for chains sees that way.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from lightning_infoplane.arguments.checks import (
    Function,
    Instance,
    Key,
    Maybe,
    Rule,
    WrongKindError,
    call_of,
    checked,
    shown,
)
from lightning_infoplane.arguments.rules import Argument
from lightning_infoplane.network.plain import plain
from lightning_infoplane.network.structures import look_up, paths_in

__all__ = [
    "READOUT",
    "AnyReadout",
    "Maps",
    "PerGraph",
    "Readout",
    "TimeFirst",
    "Tokens",
    "mask_of",
    "readout_of",
    "rows_by",
]

Source = str | Callable[[Any], Tensor]
_POOLS = ("mean", "first", "last", "each")
# Names under which models take a mask of tokens; where the word "padding" is in it, True is for padding.
_MASKS = ("attention_mask", "mask", "input_mask", "token_mask", "padding_mask")


class Readout:
    """How a tensor with n rows, or of n samples in another way, is read: the base of all readouts."""

    def read(self, tensor: Tensor, inputs: Any, n: int) -> Tensor | None:  # noqa: ANN401 - of any structure
        """What is measured of it, ``(n, ...)``; None where this readout cannot tell."""
        return tensor if tensor.ndim and len(tensor) == n else None

    def write(self, tensor: Tensor, inputs: Any, n: int, value: Tensor) -> Tensor | None:  # noqa: ANN401
        """The tensor with what was read replaced by ``value``; None where that cannot be done."""
        return value


# What reads a layer: one of ours, or a function of its name and its output.
AnyReadout = Readout | Callable[[str, Any], Tensor]


@dataclass(frozen=True)
class Maps(Readout):
    """Outputs ``(n, C, ...)`` as C variables, one a feature map, and ``(n, d)`` as one: nothing is left out.

    Example:
        >>> Maps().read(torch.zeros(4, 3, 8, 8), None, 4).shape
        torch.Size([4, 3, 8, 8])
    """


@dataclass(frozen=True)
class TimeFirst(Readout):
    """Outputs ``(time, n, d)``, as of recurrent layers with ``batch_first=False``, as ``(n, time, d)``.

    Example:
        >>> TimeFirst().read(torch.zeros(9, 4, 8), None, 4).shape
        torch.Size([4, 9, 8])
    """

    def read(self, tensor: Tensor, inputs: Any, n: int) -> Tensor | None:  # noqa: ANN401
        """With the samples first; an output that has no time as it is."""
        if tensor.ndim > 2 and tensor.shape[1] == n:
            return tensor.movedim(1, 0)
        return super().read(tensor, inputs, n)

    def write(self, tensor: Tensor, inputs: Any, n: int, value: Tensor) -> Tensor | None:  # noqa: ANN401
        """With the samples where they were."""
        return value.movedim(0, 1) if tensor.ndim > 2 and tensor.shape[1] == n else value


@dataclass(frozen=True)
@checked(
    pool=Instance("'mean', 'first', 'last' or 'each'", constants=_POOLS), mask=Maybe(Key("inputs", "'attention_mask'"))
)
class Tokens(Readout):
    r"""Outputs ``(n, tokens, d)`` of a transformer: their mean, one of them, or each as a variable of its own.

    .. math:: \text{mean}_i = \frac{\sum_t m_{it}\, h_{it}}{\sum_t m_{it}}

    with the mask m, 1 where there is a token. What is no such output, and the maps of convolutions,
    are read as they are.

    *Which one:* the first token carries a classifier's answer and can carry massive activations (arXiv 2510.06477), the
    last one a language model's, the mean is what layer-by-layer studies take (arXiv 2502.02013). ``"each"`` leaves
    nothing out, so it alone keeps the chains of the data-processing inequality.

    Args:
        pool: ``"mean"``, ``"first"``, ``"last"`` (the last token that is no padding) or ``"each"`` (padding as zeros).
        mask: of the tokens, ``(n, tokens)``: a key of the inputs, or a function of them. When left out it is found by
            name: ``attention_mask``, ``mask``; ``src_key_padding_mask``, with True for padding.

    Raises:
        ValueError: for another pool.

    Example:
        >>> h = torch.tensor([[[1.0], [3.0], [9.0]]])
        >>> float(Tokens().read(h, {"attention_mask": torch.tensor([[1, 1, 0]])}, 1))
        2.0
    """

    pool: Literal["mean", "first", "last", "each"] = "mean"
    mask: Source | None = None

    def read(self, tensor: Tensor, inputs: Any, n: int) -> Tensor | None:  # noqa: ANN401
        """Pooled, of tokens."""
        if tensor.ndim != 3 or len(tensor) != n:
            return super().read(tensor, inputs, n)
        if self.pool == "first":
            return tensor[:, 0]
        weights = self._weights(tensor, inputs)
        if self.pool == "each":
            return tensor if weights is None else _without_padding(tensor, weights)
        if self.pool == "last":
            return tensor.gather(1, _last(tensor, weights)).squeeze(1)
        return _mean(tensor, weights)

    def write(self, tensor: Tensor, inputs: Any, n: int, value: Tensor) -> Tensor | None:  # noqa: ANN401
        """The token replaced, all of them, or all moved until their mean is the new one."""
        if tensor.ndim != 3 or len(tensor) != n:
            return super().write(tensor, inputs, n, value)
        weights = self._weights(tensor, inputs)
        if self.pool == "each":
            return value if weights is None else torch.where(weights > 0, value, tensor)
        if self.pool == "mean":
            return tensor + (value - _mean(tensor, weights)).unsqueeze(1)
        place = torch.zeros_like(tensor[:, :1], dtype=torch.long) if self.pool == "first" else _last(tensor, weights)
        return tensor.scatter(1, place, value.unsqueeze(1))

    def _weights(self, tensor: Tensor, inputs: Any) -> Tensor | None:  # noqa: ANN401
        """1 for a token and 0 for padding, ``(n, tokens, 1)``; None where nothing tells them apart."""
        mask = mask_of(inputs, tensor.shape[:2]) if self.mask is None else _from(inputs, self.mask)
        if mask is None or mask.shape != tensor.shape[:2]:
            return None
        return mask.to(tensor).unsqueeze(-1)


@dataclass(frozen=True)
@checked(batch=Key("inputs", "'batch'"), pool=Instance("'mean' or 'sum'", constants=("mean", "sum")))
class PerGraph(Readout):
    """Outputs with a row a node, or a row an edge, pooled to one row a graph.

    Args:
        batch: which graph each node is in, ``(nodes,)``: a key of the inputs, or a function of them.
        pool: ``"mean"`` or ``"sum"``.

    Raises:
        ValueError: for another pool.

    Example:
        >>> PerGraph().read(torch.tensor([[1.0], [3.0], [5.0]]), {"batch": torch.tensor([0, 0, 1])}, 2)
        tensor([[2.],
                [5.]])
    """

    batch: Source = "batch"
    pool: Literal["mean", "sum"] = "mean"

    def read(self, tensor: Tensor, inputs: Any, n: int) -> Tensor | None:  # noqa: ANN401
        """Pooled, unless there is a row a graph already."""
        owner = self._owner(tensor, inputs)
        return super().read(tensor, inputs, n) if owner is None else self._pooled(tensor, owner, n)

    def write(self, tensor: Tensor, inputs: Any, n: int, value: Tensor) -> Tensor | None:  # noqa: ANN401
        """All rows of a graph moved until they pool to the new value."""
        owner = self._owner(tensor, inputs)
        if owner is None:
            return super().write(tensor, inputs, n, value)
        moved = value - self._pooled(tensor, owner, n)
        return tensor + (moved / _per_row(owner, n, moved) if self.pool == "sum" else moved)[owner]

    def _owner(self, tensor: Tensor, inputs: Any) -> Tensor | None:  # noqa: ANN401
        """The graph of each row: of a node, or of an edge by the node that it leaves."""
        of_nodes = _from(inputs, self.batch)
        if of_nodes is None or not tensor.ndim:
            return None
        if len(tensor) == len(of_nodes):
            return of_nodes.to(tensor.device)
        edges = [found for path, found in paths_in(inputs) if path.rpartition(".")[2] == "edge_index"]
        if edges and edges[0].ndim == 2 and edges[0].shape == (2, len(tensor)):
            return of_nodes.to(tensor.device)[edges[0][0].to(tensor.device)]
        return None

    def _pooled(self, tensor: Tensor, owner: Tensor, n: int) -> Tensor:
        total = tensor.new_zeros(n, *tensor.shape[1:]).index_add(0, owner, tensor)
        return total if self.pool == "sum" else total / _per_row(owner, n, tensor)


_FUNCTION = Function("(name, output) -> tensor (n, ...)", 2, write="lambda name, output: output[0]")


@dataclass(frozen=True)
class _ReadoutRule(Rule):
    """A readout, a function, or a mapping of layers to these."""

    def check(self, argument: Argument) -> Any:  # noqa: ANN401
        """The value, or an error."""
        value = argument.value
        if isinstance(value, Mapping) and value:
            for key, one in value.items():
                self._check_one(argument, one, shown(key))
            return value
        return self._check_one(argument, value)

    def _check_one(self, argument: Argument, value: Any, key: str = "") -> Any:  # noqa: ANN401
        """A readout at its place in what was passed."""
        if isinstance(value, Readout):
            return value
        if callable(value) and not isinstance(value, type | nn.Module):
            return _FUNCTION.check(argument._replace(value=value))
        meant = self._meant(value)
        expected = (
            "expected a readout such as Tokens('mean'), a function (name, output) -> tensor, or a mapping of layers to "
            "these"
        )
        raise argument.error(WrongKindError, expected, argument.written(f"{{{key}: {meant}}}" if key else meant))

    def _meant(self, value: object) -> str:
        """What to type instead."""
        if isinstance(value, type) and issubclass(value, Readout):
            return f"{call_of(value)}, an object, not the class"
        kinds = {kind.__name__.lower(): f"{kind.__name__}()" for kind in (Maps, Tokens, TimeFirst, PerGraph)}
        word = str(value).lower().rstrip("()") if isinstance(value, str) else ""
        return kinds.get(word) or f"Tokens({word if word in _POOLS else 'mean'!r})"


READOUT = Maybe(_ReadoutRule())


def readout_of(
    readout: object, name: str, module: nn.Module, matches: Callable[[Any, str, nn.Module], bool]
) -> AnyReadout | None:
    """What is to read a layer, of a readout for all layers or of several by layer; None where nothing was said of it.

    Args:
        readout: one, or a mapping of names, globs and types to readouts; or None.
        name: of the layer.
        module: the layer.
        matches: whether a key of the mapping means this layer.
    """
    if isinstance(readout, Mapping):
        return next((one for key, one in readout.items() if matches(key, name, module)), None)
    return readout  # type: ignore[return-value]  # checked where it was given


def rows_by(readout: Any) -> Callable[[Tensor, Any, int], Tensor | None]:  # noqa: ANN401
    """How X gets a row a sample where a batch has rows of nodes: by the readout for graphs, where there is one."""
    several = list(readout.values()) if isinstance(readout, Mapping) else [readout]
    per_graph = next((one for one in several if isinstance(one, PerGraph)), None)

    def rows(tensor: Tensor, inputs: Any, n: int) -> Tensor | None:  # noqa: ANN401
        return None if per_graph is None else per_graph.read(tensor, inputs, n)

    return rows


def mask_of(inputs: Any, shape: torch.Size) -> Tensor | None:  # noqa: ANN401
    """The mask of the tokens among the inputs, 1 for a token, by its usual names; None where there is none.

    Example:
        >>> inputs = {"src_key_padding_mask": torch.tensor([[False, True]])}
        >>> mask_of(inputs, torch.Size([1, 2]))
        tensor([[ True, False]])
    """
    for path, tensor in paths_in(inputs):
        name = path.rpartition(".")[2]
        if name.endswith(_MASKS) and tensor.shape == shape:
            mask = plain(tensor)
            return None if mask is None else mask == 0 if "padding" in name else mask != 0
    return None


def _from(inputs: Any, source: Source) -> Tensor | None:  # noqa: ANN401
    """A tensor by its key among the inputs, or made of them.

    Raises:
        LookupError: naming what there is, if there is no such key.
    """
    found = look_up(inputs, source) if isinstance(source, str) else source(inputs)
    return plain(found) if isinstance(found, Tensor) else None


def _without_padding(tensor: Tensor, weights: Tensor) -> Tensor:
    """Padding as zeros, whatever it was: what attention makes of it may be NaN."""
    return torch.where(weights > 0, tensor, 0)


def _mean(tensor: Tensor, weights: Tensor | None) -> Tensor:
    """Of all tokens, or of those that are no padding; of a sample without any token zero."""
    if weights is None:
        return tensor.mean(1)
    return _without_padding(tensor, weights).sum(1) / weights.sum(1).clamp(min=1)


def _last(tensor: Tensor, weights: Tensor | None) -> Tensor:
    """The place of the last token that is no padding, repeated for every dimension: ``(n, 1, d)``."""
    n, tokens, dimensions = tensor.shape
    places = torch.arange(tokens, device=tensor.device).expand(n, tokens)
    if weights is not None:
        places = places * (weights.squeeze(-1) > 0)
    return places.amax(1).reshape(n, 1, 1).expand(n, 1, dimensions)


def _per_row(owner: Tensor, n: int, like: Tensor) -> Tensor:
    """How many rows each graph has, to divide by."""
    return torch.bincount(owner, minlength=n).clamp(min=1).to(like).reshape(-1, *[1] * (like.ndim - 1))
