"""A function run in a forked process, so that whatever it moves on there is not moved on here."""

import io
import multiprocessing
import sys
import warnings
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

import torch

__all__ = ["NotForkedError", "in_a_fork"]

# Seconds after which a process that has not answered is taken for one that never will: a lock that another thread held
# when it was forked is held for ever.
_PATIENCE = 300.0


class NotForkedError(Exception):
    """The function cannot be run elsewhere, or its result cannot be sent; it may work here."""


def in_a_fork(work: Callable[[], Any], patience: float = _PATIENCE) -> Any:  # noqa: ANN401
    """What ``work`` returns in a copy of this process: its generators, iterators and counters stay as they are here.

    Args:
        work: called without arguments. It must not use a GPU.
        patience: seconds to wait for it.

    Raises:
        NotForkedError: where there is no such process, or it did not come to an end, or its result cannot be sent.
        Exception: what ``work`` raised; one that cannot be sent as a ``NotForkedError``.

    Example:
        >>> numbers = iter(range(10))
        >>> in_a_fork(lambda: next(numbers)), next(numbers)
        (0, 0)
    """
    # macOS has forks, and its system libraries do not survive them.
    if sys.platform == "darwin" or "fork" not in multiprocessing.get_all_start_methods():
        raise NotForkedError("this system has no processes that begin as a copy of another")
    context = multiprocessing.get_context("fork")
    receiving, sending = context.Pipe(duplex=False)
    process = context.Process(target=_answer, args=(work, sending), daemon=True)
    try:
        _start(process)
        sending.close()  # here, so that its end there is the end
        answer = receiving.recv_bytes() if receiving.poll(patience) else b""
    except (EOFError, OSError, AssertionError) as error:  # a process that is daemonic itself has no children
        raise NotForkedError(str(error) or "it ended without an answer") from error
    finally:
        receiving.close()
        if process.pid is not None:
            process.kill()
            process.join()
    if not answer:
        raise NotForkedError(f"it had not come to an end after {patience:.0f} seconds")
    kind, result = torch.load(io.BytesIO(answer), weights_only=False)  # written by ourselves
    if kind == "raised":
        raise result
    if kind == "lost":
        raise NotForkedError(result)
    return result


def _start(process: "multiprocessing.context.ForkProcess") -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a fork beside threads, as every loader with workers is
        process.start()


def _answer(work: Callable[[], Any], sending: Connection) -> None:
    """In the child."""
    torch.set_num_threads(1)  # the parent's other threads were not copied, and would be waited for
    try:
        outcome = ("returned", work())
    except Exception as error:
        outcome = ("raised", error)
    sending.send_bytes(_pickled(outcome))
    sending.close()


def _pickled(outcome: tuple[str, Any]) -> bytes:
    """By value: shared memory would have to outlive the child."""
    buffer = io.BytesIO()
    try:
        torch.save(outcome, buffer)
        torch.load(io.BytesIO(buffer.getvalue()), weights_only=False)  # some exceptions can be written and not read
    except Exception as error:
        what = f"{type(outcome[1]).__name__}: {outcome[1]}" if outcome[0] == "raised" else str(error)
        buffer = io.BytesIO()
        torch.save(("lost", what), buffer)
    return buffer.getvalue()
