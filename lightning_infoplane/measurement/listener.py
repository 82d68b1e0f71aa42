"""How a measurement speaks: of what the user should know, of layers that are left out, and of its progress."""

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from lightning_infoplane.measurement.failures import without_numbers

__all__ = ["LeftOut", "Listener", "Notices", "few"]

# Layers of a list in a message.
_NAMES_SHOWN = 8


def few(names: Sequence[str]) -> str:
    """Some of the layers, and how many there are where those are not all.

    Example:
        >>> few("ab"), few("abcdefghijk")
        ('a, b', 'a, b, c, d, e, f, g, h, … (11)')
    """
    shown = ", ".join(names[:_NAMES_SHOWN])
    return shown if len(names) <= _NAMES_SHOWN else f"{shown}, … ({len(names)})"


def _at_once(notice: Callable[[str, str], None], layer: str, why: str) -> None:
    """Tell of one layer, where nobody gathers them."""
    notice(f"{layer}: {without_numbers(why)}", _sentence({layer: why}))


@dataclass(frozen=True)
class Listener:
    """Who is told what.

    Args:
        notice: told (about, message) when something means nothing.
        progress: told how many layers were reduced, or had their spectra computed, since the last call.
        left_out: told (layer, why) of each layer that is left out, a clause such as "NaN or infinite values": a
            :class:`LeftOut`, which gathers them. ``notice`` is told of each where it is left out.
    """

    notice: Callable[[str, str], None] = lambda about, message: None
    progress: Callable[[int], object] = lambda layers: None
    left_out: Callable[[str, str], None] = None  # type: ignore[assignment]

    def __post_init__(self) -> None:
        """Nothing that is left out goes unsaid for want of somebody who gathers."""
        if self.left_out is None:
            object.__setattr__(self, "left_out", partial(_at_once, self.notice))


class Notices:
    """Tells the user each thing once.

    Args:
        send: shows a message; ``warnings.warn`` when left out.

    Example:
        >>> told = []
        >>> notices = Notices(told.append)
        >>> notices("conv1", "layer 'conv1' is dead.")
        >>> notices("conv1", "layer 'conv1' is dead.")
        >>> told
        ["layer 'conv1' is dead."]
    """

    def __init__(self, send: Callable[[str], object] = warnings.warn) -> None:
        self._send = send
        self._told: set[str] = set()

    def __call__(self, about: str, message: str) -> None:
        """Show the message unless something was said of this before."""
        if about not in self._told:
            self._told.add(about)
            self._send(message)


class LeftOut:
    """Gathers the layers that measurements leave out, and tells of them: a sentence a reason, each layer once.

    Reasons that differ in their numbers alone, such as shapes, are one reason.

    Args:
        notice: told (about, message) when :meth:`tell` is called.

    Attributes:
        lines: all of them so far, a line each.

    Example:
        >>> left_out = LeftOut(lambda about, message: print(message))
        >>> for layer in ("conv1", "conv2"):
        ...     left_out(layer, "NaN or infinite values")
        >>> left_out.tell()
        2 layers are left out: NaN or infinite values: conv1, conv2.
        >>> left_out("conv1", "NaN or infinite values")  # at the next measurement
        >>> left_out.tell()
    """

    def __init__(self, notice: Callable[[str, str], None]) -> None:
        self._notice = notice
        self.lines: list[str] = []
        self._known: set[tuple[str, str]] = set()
        self._found: dict[str, dict[str, str]] = {}

    def __call__(self, layer: str, why: str) -> None:
        """Note that a layer is left out, unless it was told before that it is, for this reason."""
        reason = without_numbers(why)
        if (reason, layer) not in self._known:
            self._known.add((reason, layer))
            self._found.setdefault(reason, {})[layer] = why
            self.lines.append(f"{layer}: {why}")

    def tell(self) -> None:
        """Say what was noted since the last time: at the end of a measurement, also of one that failed."""
        found = self._found
        self._found = {}
        for layers in found.values():
            sentence = _sentence(layers)
            self._notice(sentence, sentence)


def _sentence(layers: Mapping[str, str]) -> str:
    """Of layers that are left out for one reason, each in its own words."""
    first, *others = layers
    why = layers[first].rstrip(".")
    if not others:
        return f"layer {first!r} is left out: {why}."
    if len(set(layers.values())) == 1:
        return f"{len(layers)} layers are left out: {why}: {few(list(layers))}."
    return f"{len(layers)} layers are left out: {why} in {first}, and the like in {few(others)}."
