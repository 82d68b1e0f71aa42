"""Several processes, one measurement: sharing the spectra, failing together."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor

__all__ = ["Ranks", "all_ranks"]

Result = TypeVar("Result")


def _itself(value: Any) -> Any:  # noqa: ANN401
    """What a process gets from itself. A function of its own, so that it can be sent to other processes."""
    return value


@dataclass(frozen=True)
class Ranks:
    """This process among those that measure together; here, one process that does everything.

    Args:
        rank: of this process.
        world_size: how many there are.
        first: gives every process the tensor of rank 0.
        first_object: gives every process the object of rank 0.
        total: gives every process the sum over all.
    """

    rank: int = 0
    world_size: int = 1
    first: Callable[[Tensor], Tensor] = _itself
    first_object: Callable[[Any], Any] = _itself
    total: Callable[[Tensor], Tensor] = _itself

    def together(self, attempt: Callable[[], Result], device: torch.device) -> Result:
        """The result of ``attempt``, unless any rank failed: one that went on alone would wait for ever.

        Raises:
            Exception: the failure, where there is one process.
            RuntimeError: on every rank, naming the first that failed and why.
        """
        error: Exception | None = None
        try:
            result = attempt()
        except Exception as caught:  # collected, not swallowed: raised below, after the others have heard of it
            error = caught
        failures = self.total(torch.tensor([float(error is not None)], device=device))
        if failures > 0 and self.world_size > 1:
            reasons: list[str | None] = [None] * self.world_size
            torch.distributed.all_gather_object(reasons, error and f"{type(error).__name__}: {error}")
            told = next(f"on rank {rank}: {reason}" for rank, reason in enumerate(reasons) if reason)
            raise RuntimeError(told) from error  # one sentence on all ranks: only rank 0 may have a log
        if error is not None:
            raise error
        return result


def all_ranks(world_size: int | None = None) -> Ranks:
    """This process among all of the process group; alone where there is none.

    Args:
        world_size: of the Trainer. One that trains alone inside a larger process group shares nothing.
    """
    if world_size == 1 or not torch.distributed.is_available() or not torch.distributed.is_initialized():
        return Ranks()

    def first(tensor: Tensor) -> Tensor:
        tensor = tensor.contiguous()
        torch.distributed.broadcast(tensor, src=0)
        return tensor

    def first_object(whole: Any) -> Any:  # noqa: ANN401
        held = [whole]
        torch.distributed.broadcast_object_list(held, src=0)
        return held[0]

    def total(tensor: Tensor) -> Tensor:
        tensor = tensor.contiguous()
        torch.distributed.all_reduce(tensor)
        return tensor

    return Ranks(torch.distributed.get_rank(), torch.distributed.get_world_size(), first, first_object, total)
