"""Numerics shared by the kernels: dtypes, slices, full-precision products and a seeded order of the samples."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

__all__ = [
    "for_spectra",
    "full_float32",
    "map_slices",
    "seeded_order",
    "seeded_part",
    "spectrum_float",
    "symmetric_product",
    "upcast",
    "widest_float",
]

# Compute capabilities of NVIDIA's GPUs that are not slow at float64: P100, V100, A100, H100, B200. The others, B300
# among them, do 1/32 to 1/64 of their float32 (CUDA C++ programming guide, throughput of arithmetic instructions).
_FAST_AT_FLOAT64 = {(6, 0), (7, 0), (8, 0), (9, 0), (10, 0)}
# Bytes of float32 that are worked on at a time. On a CPU they should stay in the cache and below what malloc returns
# to the system at once: 4 MB is a fifth faster than 16. Accelerators want larger products.
_SLICE_BYTES = {"cpu": 2**22}
_LARGE_SLICE_BYTES = 2**27


def widest_float(device: torch.device) -> torch.dtype:
    """Float64, or float32 on the devices that have no float64."""
    return torch.float32 if device.type == "mps" else torch.float64


def spectrum_float(device: torch.device) -> torch.dtype:
    """What spectra are computed in: float64, but float32, which costs about 2e-5 bits, on GPUs slow at float64."""
    nvidia = device.type == "cuda" and torch.version.hip is None
    if nvidia and torch.cuda.get_device_capability(device) not in _FAST_AT_FLOAT64:
        return torch.float32
    return widest_float(device)


def for_spectra(matrix: Tensor) -> Tensor:
    """The matrix where spectra can be computed: Apple's GPUs have neither eigenvalues nor float64, the CPU has."""
    return matrix.cpu() if matrix.device.type == "mps" else matrix


def symmetric_product(rows: Tensor) -> Tensor:
    """``rows @ rows.mT``, computing only the blocks on and above the diagonal (a third less time)."""
    n = rows.shape[-2]
    blocks = 8
    with full_float32(rows.device):
        if rows.requires_grad or n < 16 * blocks:  # writing into blocks is not differentiable
            return rows @ rows.mT
        out = rows.new_empty(*rows.shape[:-2], n, n)
        edges = [n * i // blocks for i in range(blocks + 1)]
        for lo, hi in pairwise(edges):
            strip = rows[..., lo:hi, :] @ rows[..., lo:, :].mT
            out[..., lo:hi, lo:] = strip
            out[..., hi:, lo:hi] = strip[..., hi - lo :].mT
        return out


def upcast(values: Tensor) -> Tensor:
    """Keep float32 and float64, bring everything else (half, bfloat16, integers) to float32."""
    return values if values.dtype in (torch.float32, torch.float64) else values.float()


@contextmanager
def full_float32(device: torch.device) -> Iterator[None]:
    """Compute float32 matrix products in float32, whatever the user asked of the rest of the program.

    ``torch.set_float32_matmul_precision("medium")``, the TF32 flags and an enclosing autocast all turn
    distances into noise. The flags are process-wide: they are set back before anyone else can look.
    """
    flags = [torch.backends.cuda.matmul, getattr(torch.backends.mkldnn, "matmul", None)]
    with ExitStack() as undo:
        if all(hasattr(flag, "fp32_precision") for flag in flags):
            for flag in flags:
                undo.callback(_swap_precision, flag, _swap_precision(flag, "ieee"))
        else:  # torch before 2.9 has one switch for all backends
            undo.callback(torch.set_float32_matmul_precision, torch.get_float32_matmul_precision())
            torch.set_float32_matmul_precision("highest")
        if torch.amp.is_autocast_available(device.type):
            undo.enter_context(torch.autocast(device.type, enabled=False))
        yield


def _swap_precision(backend: Any, value: str) -> str:  # noqa: ANN401 - a module-like object without a type
    """Set a backend's float32 precision and return what it was: its own, or ``"none"`` if it follows the program's.

    One of its own that is the same as the program's cannot be told from following.
    """
    before: str = backend.fp32_precision  # as it takes effect, whoever set it
    backend.fp32_precision = "none"
    own = before if backend.fp32_precision != before else "none"
    backend.fp32_precision = value
    return own


def map_slices(maps: Tensor) -> Iterator[slice]:
    """The axis of maps of ``(..., n, C, d)`` cut into slices that are worked on fastest, one map at least."""
    channels = maps.shape[-2]
    bytes_a_map = 4 * maps.shape[:-2].numel() * maps.shape[-1]
    step = max(1, _SLICE_BYTES.get(maps.device.type, _LARGE_SLICE_BYTES) // max(1, bytes_a_map))
    return (slice(first, first + step) for first in range(0, channels, step))


def seeded_order(n: int, device: torch.device) -> Tensor:
    """Indices ``(n,)`` of samples in random order: the same at every call, whatever the global RNG does."""
    return torch.randperm(n, generator=torch.Generator().manual_seed(n)).to(device)


def seeded_part(n: int, size: int, device: torch.device) -> Tensor:
    """Indices ``(size,)`` of a part of n samples, ascending: the first of their seeded order."""
    return seeded_order(n, device)[:size].sort().values
