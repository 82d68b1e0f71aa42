"""Several processes, one measurement: sharing the spectra, failing together."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn, TypeVar

import torch
from torch import Tensor

from lightning_infoplane.arguments.errors import SetupError

__all__ = ["Ranks", "all_ranks", "disagreement", "shape_of"]

Result = TypeVar("Result")


def _itself(value: Any) -> Any:  # noqa: ANN401
    """What a process gets from itself. A function of its own, so that it can be sent to other processes."""
    return value


def _alone(value: Any) -> list[Any]:  # noqa: ANN401
    """The objects of all processes, where there is one."""
    return [value]


@dataclass(frozen=True)
class Ranks:
    """This process among those that measure together; here, one process that does everything.

    What may fail happens in :meth:`together`, and between two of these nothing but exchanges of tensors whose shapes
    all have agreed on: so no process waits for one that has given up.

    Args:
        rank: of this process.
        world_size: how many there are.
        first: gives every process the tensor of rank 0.
        objects: gives every process the objects of all, in the order of their ranks.
        total: gives every process the sum over all.
    """

    rank: int = 0
    world_size: int = 1
    first: Callable[[Tensor], Tensor] = _itself
    objects: Callable[[Any], list[Any]] = _alone
    total: Callable[[Tensor], Tensor] = _itself

    def first_object(self, one: Any) -> Any:  # noqa: ANN401
        """The object of rank 0."""
        return self.objects(one)[0]

    def together(self, attempt: Callable[[], Result], device: torch.device) -> Result:
        """The result of ``attempt``, unless any rank failed: one that went on alone would wait for ever.

        Raises:
            SetupError: on every rank, if that is what the first rank that failed raised.
            Exception: the failure, where there is one process.
            RuntimeError: on every rank, naming the first that failed and why.
        """
        error: Exception | None = None
        try:
            result = attempt()
        except Exception as caught:  # collected, not swallowed: raised below, after the others have heard of it
            if self.world_size == 1:
                raise
            error = caught
        if self.world_size > 1 and self.total(torch.tensor([float(error is not None)], device=device)) > 0:
            self._raise_the_first(error)
        return result

    def reason(self, error: Exception | None) -> str:
        """Why it failed on the first rank on which it did; asked on all of them."""
        if self.world_size == 1:
            return str(error)
        reasons = self.objects(error and f"{type(error).__name__}: {error}")
        return next((f"on rank {rank}: {one}" for rank, one in enumerate(reasons) if one), "see the other processes")

    def _raise_the_first(self, error: Exception | None) -> NoReturn:
        """One sentence on all ranks: only rank 0 may have a log."""
        # Text and a flag: an exception of the user's need not be of a kind that can be sent.
        mine = error and (isinstance(error, SetupError), f"{type(error).__name__}: {error}", str(error))
        outcomes = self.objects(mine)
        rank, (is_mistake, told, sentence) = next((rank, one) for rank, one in enumerate(outcomes) if one)
        if is_mistake:
            raise SetupError(sentence) from error
        raise RuntimeError(f"on rank {rank}: {told}") from error


def shape_of(tensor: Tensor | None) -> tuple[str, tuple[int, ...]] | None:
    """What the processes must agree on before they exchange it: dtype and shape."""
    return None if tensor is None else (str(tensor.dtype), tuple(tensor.shape))


def disagreement(told: Sequence[object]) -> str:
    """Why a layer cannot be measured, by what each process has of it: a string is why it has nothing.

    Example:
        >>> disagreement([(3, 3), "ValueError: too odd"]), disagreement([(3, 3), (3, 3)])
        ('ValueError: too odd (on rank 1)', '')
    """
    failed = [(rank, why) for rank, why in enumerate(told) if isinstance(why, str)]
    if failed:
        rank, why = failed[0]
        return why if len(failed) == len(told) else f"{why} (on rank {rank})"
    if all(one == told[0] for one in told):
        return ""
    return "not called by all processes, or not with an output of the same shape"


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

    def objects(one: Any) -> list[Any]:  # noqa: ANN401
        held: list[Any] = [None] * torch.distributed.get_world_size()
        torch.distributed.all_gather_object(held, one)
        return held

    def total(tensor: Tensor) -> Tensor:
        tensor = tensor.contiguous()
        torch.distributed.all_reduce(tensor)
        return tensor

    return Ranks(torch.distributed.get_rank(), torch.distributed.get_world_size(), first, objects, total)
