"""What a run in spawned or forked processes leaves for the process that launched it."""

import os
import tempfile
import uuid
import weakref
from pathlib import Path
from typing import Any

import torch

__all__ = ["Mailbox"]


class Mailbox:
    """A file by which a state comes back from the processes of a run, into which this object was copied.

    Lightning brings back the weights and the logged values, and nothing of a callback.
    """

    def __init__(self) -> None:
        self._owner = os.getpid()
        # A name that nobody can guess: what is read from it is a checkpoint of our own.
        self._path = Path(tempfile.gettempdir()) / f"infoplane-{uuid.uuid4().hex}.pt"
        self._state: dict[str, Any] = {}
        weakref.finalize(self, _remove, self._path, self._owner)

    def send(self, state: dict[str, Any]) -> None:
        """Leave a state for the launching process; nothing where this is that process."""
        if os.getpid() == self._owner:
            return
        descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            torch.save(state, file)

    def receive(self) -> dict[str, Any]:
        """What the processes of the last run have left; empty if nothing."""
        if os.getpid() == self._owner and self._path.exists():
            self._state = torch.load(self._path, weights_only=True, map_location="cpu")
            self._path.unlink()
        return self._state

    def clear(self) -> None:
        """A run begins."""
        self.receive()
        self._state = {}


def _remove(path: Path, owner: int) -> None:
    """Of a run whose result nobody asked for; not when a copy in another process ends."""
    if os.getpid() == owner:
        path.unlink(missing_ok=True)
