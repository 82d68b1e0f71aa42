"""Several processes, one measurement: sharing the spectra, failing together."""

from collections.abc import Callable
from typing import TypeVar

import torch
from torch import Tensor

from lightning_infoplane.spectra import Share

__all__ = ["agree", "share_over_ranks"]

Result = TypeVar("Result")


def share_over_ranks(world_size: int | None = None) -> Share:
    """This process's part of the spectral work; everything where there is one process.

    Args:
        world_size: of the Trainer. One that trains alone inside a larger process group shares nothing.
    """
    if world_size == 1 or not torch.distributed.is_available() or not torch.distributed.is_initialized():
        return Share()

    def first(tensor: Tensor) -> Tensor:
        tensor = tensor.contiguous()
        torch.distributed.broadcast(tensor, src=0)
        return tensor

    def total(tensor: Tensor) -> Tensor:
        tensor = tensor.contiguous()
        torch.distributed.all_reduce(tensor)
        return tensor

    return Share(torch.distributed.get_rank(), torch.distributed.get_world_size(), first, total)


def agree(share: Share, attempt: Callable[[], Result], device: torch.device) -> Result:
    """The result of ``attempt``, unless any rank failed: one that went on alone would wait for the others for ever.

    Raises:
        Exception: the failure, where there is one process.
        RuntimeError: on every rank, naming the first that failed and why.
    """
    error: Exception | None = None
    try:
        result = attempt()
    except Exception as caught:  # collected, not swallowed: raised below, after the others have heard of it
        error = caught
    failures = share.total(torch.tensor([float(error is not None)], device=device))
    if failures > 0 and share.world_size > 1:
        reasons: list[str | None] = [None] * share.world_size
        torch.distributed.all_gather_object(reasons, error and f"{type(error).__name__}: {error}")
        told = next(f"on rank {rank}: {reason}" for rank, reason in enumerate(reasons) if reason)
        raise RuntimeError(told) from error  # one sentence on all ranks: only rank 0 may have a log
    if error is not None:
        raise error
    return result
