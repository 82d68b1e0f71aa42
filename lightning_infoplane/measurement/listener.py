"""How a measurement speaks: one channel for what the user should know, one for progress."""

import warnings
from collections.abc import Callable
from dataclasses import dataclass

__all__ = ["Listener", "Notices"]


@dataclass(frozen=True)
class Listener:
    """Who is told what.

    Args:
        notice: told (about, message) when something is left out or means nothing.
        progress: told how many layers were reduced, or had their spectra computed, since the last call.
    """

    notice: Callable[[str, str], None] = lambda about, message: None
    progress: Callable[[int], object] = lambda layers: None


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
