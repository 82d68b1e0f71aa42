"""How a network is called with a probe's inputs: what its ``forward`` takes, and the ways that may be meant."""

import inspect
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from torch import Tensor, nn

from lightning_infoplane.network.structures import fields_of, first_tensor, look_up, paths_in, written

__all__ = ["ANYTHING", "WHOLE", "Taken", "Way", "taken_by", "ways_to_call"]


class Taken(NamedTuple):
    """What a network's ``forward`` takes.

    Args:
        names: of its parameters, in order.
        required: those of them that have no default.
        any_name: whether it takes keywords of any name.
        any_count: whether it takes any number of values.
    """

    names: tuple[str, ...] = ()
    required: tuple[str, ...] = ()
    any_name: bool = True
    any_count: bool = True

    def __str__(self) -> str:
        """As one would write its signature.

        Example:
            >>> str(Taken(("x", "mask"), ("x",), False, False))
            '(x, mask=…)'
        """
        words = [name if name in self.required else f"{name}=…" for name in self.names]
        words += ["*args"] * self.any_count + ["**kwargs"] * self.any_name
        return f"({', '.join(words)})"


ANYTHING = Taken()


def taken_by(network: nn.Module) -> Taken:
    """What the ``forward`` of a network takes; anything, where it does not tell.

    Example:
        >>> taken_by(nn.Conv2d(1, 1, 1)).required
        ('input',)
    """
    inner = getattr(network, "_orig_mod", network)  # torch.compile's own takes anything
    try:
        parameters = list(inspect.signature(inner.forward).parameters.values())
    except (TypeError, ValueError):  # TorchScript
        return ANYTHING
    named = [one for one in parameters if one.kind not in (one.VAR_POSITIONAL, one.VAR_KEYWORD)]
    return Taken(
        tuple(one.name for one in named),
        tuple(one.name for one in named if one.default is one.empty),
        any(one.kind is one.VAR_KEYWORD for one in parameters),
        any(one.kind is one.VAR_POSITIONAL for one in parameters),
    )


@dataclass(frozen=True)
class Way:
    """One way to call a network with what a batch holds.

    Args:
        names: fields of the inputs that are keywords of ``forward``.
        unpacked: whether the inputs are its arguments, one by one.
        path: of the one tensor that is passed.
    """

    names: tuple[str, ...] = ()
    unpacked: bool = False
    path: str = ""

    def __call__(self, network: nn.Module, inputs: Any) -> Any:  # noqa: ANN401
        """What the network puts out."""
        if self.names:
            named = fields_of(inputs) or {}
            return network(**{name: named[name] for name in self.names})
        if self.unpacked:
            return network(*inputs)
        return network(look_up(inputs, self.path) if self.path else inputs)

    def words(self, inputs: object) -> str:
        """As one would write the call.

        Example:
            >>> Way(("pixels", "mask")).words({}), Way(unpacked=True).words([1, 2])
            ('forward(pixels=…, mask=…)', 'forward(inputs[0], inputs[1])')
            >>> Way(path="image").words({"image": torch.ones(1)})
            "forward(inputs['image'])"
        """
        if self.names:
            return f"forward({', '.join(f'{name}=…' for name in self.names)})"
        if self.unpacked and isinstance(inputs, Sequence):
            return f"forward({', '.join(f'inputs[{place}]' for place in range(len(inputs)))})"
        return f"forward({written('inputs', inputs, self.path)})"


WHOLE = Way()


def ways_to_call(network: nn.Module, inputs: Any, x: Tensor, targets: Sequence[str] = ()) -> Iterator[Way]:  # noqa: ANN401
    """The ways in which a network may be meant to be called, likely ones first; each of them once.

    Args:
        network: whose ``forward`` tells.
        inputs: a tensor, or a structure.
        x: the tensor that stands for X: the last resort is to pass it alone.
        targets: names in the inputs that are targets, passed only where ``forward`` cannot do without.
    """
    yield from dict.fromkeys(_ways(taken_by(network), inputs, x, targets))


def _ways(taken: Taken, inputs: Any, x: Tensor, targets: Sequence[str]) -> Iterator[Way]:  # noqa: ANN401
    if isinstance(inputs, Tensor):
        yield WHOLE
        return
    named = fields_of(inputs)
    if named is not None:
        yield from _by_name(taken, named, targets)
    elif isinstance(inputs, list | tuple) and _takes(taken, len(inputs)):
        yield Way(unpacked=True)
    yield WHOLE
    path = next((path for path, tensor in paths_in(inputs) if tensor is x), "")
    if path:
        yield Way(path=path)
    if named is not None:
        yield from _by_name(taken, named, ())  # some compute their loss, or shift their targets, within


def _by_name(taken: Taken, named: dict[str, Any], targets: Sequence[str]) -> Iterator[Way]:
    """By keyword, if all that ``forward`` requires is there."""
    own = [name for name in taken.names if name in named and (name not in targets or name in taken.required)]
    if set(taken.required) <= set(own) and own:
        yield Way(tuple(own))
    if taken.any_name and set(taken.required) <= named.keys():
        holding = [name for name, value in named.items() if first_tensor(value) is not None]
        yield Way(tuple(name for name in holding if name not in targets or name in taken.required))


def _takes(taken: Taken, count: int) -> bool:
    """Whether ``forward`` takes so many values, more than one."""
    return count > 1 and len(taken.required) <= count and (taken.any_count or count <= len(taken.names))
