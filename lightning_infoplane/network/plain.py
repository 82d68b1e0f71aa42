"""Whatever kind of tensor a network puts out, as one that a kernel can be made of."""

import torch
from torch import Tensor

__all__ = ["as_floats", "plain"]


def plain(tensor: Tensor) -> Tensor | None:
    """The same numbers in a tensor of torch's own class, dense and in the open; None where they are not all here.

    Libraries hand out subclasses with metadata, padded batches as nested tensors, and parts of a sharded one: what
    they do on slicing or in ``new_empty`` is theirs.

    Example:
        >>> plain(torch.ones(2).to_sparse())
        tensor([1., 1.])
    """
    if hasattr(tensor, "_local_tensor"):  # a DTensor: whole on every rank, or in parts that only an exchange would join
        placements = getattr(tensor, "placements", ())
        if not all(placement.is_replicate() for placement in placements):
            return None
        return plain(tensor._local_tensor)
    with torch._C.DisableTorchFunctionSubclass():
        if tensor.is_meta:
            return None
        if tensor.is_nested:
            tensor = tensor.to_padded_tensor(0.0)
        elif tensor.layout is not torch.strided:
            tensor = tensor.to_dense()
        elif tensor.is_quantized:
            tensor = tensor.dequantize()
        return tensor if type(tensor) is Tensor else tensor.as_subclass(Tensor)


def as_floats(tensor: Tensor) -> Tensor | None:
    """A plain tensor of real floats: complex numbers as pairs of them, truth values as 0 and 1; None of integers.

    Integers name things (tokens, classes, positions): they have no distances.

    Example:
        >>> as_floats(torch.tensor([True, False])), as_floats(torch.tensor([1j]))
        (tensor([1., 0.]), tensor([[0., 1.]]))
    """
    values = plain(tensor)
    if values is None:
        return None
    if values.is_complex():
        return torch.view_as_real(values.resolve_conj())
    if values.dtype is torch.bool:
        return values.float()
    return values if values.is_floating_point() else None
