"""The values of tensors, kept and put back: only what differs is written, and the host waits once."""

from contextlib import suppress
from typing import NamedTuple

import torch
from torch import Tensor

__all__ = ["Tensors", "is_sharded"]

_Place = tuple[object, ...]
_INTEGERS = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


class _Kept(NamedTuple):
    """A tensor as it was: its class, where its values lie, a copy of them, its gradient."""

    tensor: Tensor
    kind: type[Tensor]
    frame: Tensor  # the same memory, whatever becomes of the tensor
    values: Tensor  # of the frame, each once
    copy: Tensor
    requires_grad: bool
    grad: Tensor | None


class Tensors:
    """Tensors that will be what they were: values, memory, class, whether they want a gradient, and that gradient.

    Memory that several share is copied once. What cannot be compared, for want of values of its own (sparse,
    quantized, nested, on the meta device), is left alone; of a tensor that is spread over ranks, this rank's part is
    kept.

    Example:
        >>> kept, weight = Tensors(), torch.ones(2)
        >>> kept.add(weight)
        >>> weight.data.mul_(3)
        tensor([3., 3.])
        >>> kept.put_back()
        >>> weight
        tensor([1., 1.])
    """

    def __init__(self) -> None:
        self._kept: list[_Kept] = []
        self._copies: dict[_Place, Tensor] = {}

    def add(self, tensor: Tensor, largest: float = float("inf")) -> None:
        """Keep a tensor, unless it takes more than ``largest`` bytes."""
        with (
            suppress(RuntimeError),  # of kinds of tensors and of devices that have no memory to look at
            torch.inference_mode(False),
            torch.no_grad(),
            torch._C.DisableTorchFunctionSubclass(),
        ):
            local = _local(tensor)
            if not _has_values(local) or local.numel() * local.element_size() > largest:
                return
            values = _each_once(local.data)
            place = _place(values)
            if place not in self._copies:
                _bits(values)  # must be possible
                self._copies[place] = _copied(values)
            wanted = tensor.requires_grad
            grad = tensor.grad if wanted and _is_leaf(tensor) else None
            self._kept.append(_Kept(tensor, type(tensor), local.data, values, self._copies[place], wanted, grad))

    def hide_gradients(self) -> None:
        """Whatever runs backward from now on begins with gradients of its own."""
        for one in self._kept:
            if one.grad is not None:
                one.tensor.grad = None

    def put_back(self) -> None:
        """Undo whatever happened to them since."""
        with torch.inference_mode(False), torch.no_grad(), torch._C.DisableTorchFunctionSubclass():
            for one in self._kept:
                _put_back_frame(one)
            self._put_back_values()

    def _put_back_values(self) -> None:
        """Write what differs, and nothing else.

        By value: writes through .data leave no other trace. Through .data again: a write that is counted would break
        the backward pass of a graph that is still alive.
        """
        pairs = {id(one.copy): (one.values, one.copy) for one in self._kept if one.values.numel()}
        alive = [(values, copy) for values, copy in pairs.values() if _is_allocated(values)]
        if not alive:
            return
        place = alive[0][0].device
        differing = torch.stack([_bits(v).ne(_bits(c.to(v.device))).any().to(place) for v, c in alive])
        for (values, copy), differs in zip(alive, differing.tolist(), strict=True):
            if differs:
                with torch.inference_mode(values.is_inference()):
                    values.copy_(copy)


def is_sharded(value: object) -> bool:
    """Whether this is a tensor spread over ranks: a DTensor, which exists where torch.distributed does."""
    return isinstance(value, Tensor) and hasattr(value, "_local_tensor")


def _put_back_frame(one: _Kept) -> None:
    """All of a tensor but its values."""
    tensor = one.tensor
    if not is_sharded(tensor) and _place(tensor.data) != _place(one.frame):
        tensor.data = one.frame
    if type(tensor) is not one.kind:
        tensor.__class__ = one.kind  # a lazy parameter that was filled in
    if tensor.requires_grad != one.requires_grad and _is_leaf(tensor):
        tensor.requires_grad_(one.requires_grad)
    if tensor.requires_grad and _is_leaf(tensor) and tensor.grad is not one.grad:
        tensor.grad = one.grad


def _is_leaf(tensor: Tensor) -> bool:
    """Whether it may have a gradient. Views are not asked: their graph may be of a memory that is no longer theirs."""
    return not tensor._is_view() and tensor.is_leaf


def _local(tensor: Tensor) -> Tensor:
    return getattr(tensor, "_local_tensor", tensor)


def _has_values(tensor: Tensor) -> bool:
    """Whether its values lie in memory as plain numbers, so that they can be copied, compared and written."""
    plain = type(tensor).__torch_dispatch__ is Tensor.__torch_dispatch__
    odd = tensor.layout is not torch.strided or tensor.is_meta or tensor.is_quantized or tensor.is_nested
    return plain and not odd and _is_allocated(tensor)


def _is_allocated(tensor: Tensor) -> bool:
    """Whether the memory is there: sharded training frees that of gathered parameters, and leaves the tensors."""
    return not tensor.numel() or tensor.untyped_storage().nbytes() > 0


def _place(values: Tensor) -> _Place:
    return values.data_ptr(), values.shape, values.stride(), values.dtype, values.device


def _each_once(values: Tensor) -> Tensor:
    """Without the repetitions of an expanded tensor, which cannot be written to."""
    for dim, (size, stride) in enumerate(zip(values.shape, values.stride(), strict=True)):
        if size > 1 and stride == 0:
            values = values.narrow(dim, 0, 1)
    return values


def _copied(values: Tensor) -> Tensor:
    """A copy; in the host's memory where the device has none left."""
    try:
        return values.clone()
    except torch.OutOfMemoryError:
        return values.to("cpu", copy=True)


def _bits(values: Tensor) -> Tensor:
    """As integers: to the last bit, NaN equals itself and -0.0 is not 0.0."""
    if values.is_complex():
        values = torch.view_as_real(values.resolve_conj())
    return values.view(_INTEGERS[values.element_size()])
