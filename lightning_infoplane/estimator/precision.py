"""Numerics shared by the kernels: dtypes, scales, slices, full-precision products, a seeded order of the samples."""

import math
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from functools import lru_cache
from itertools import pairwise
from random import Random
from typing import Any

import torch
from torch import Tensor

__all__ = [
    "few",
    "for_spectra",
    "full_float32",
    "inner_products",
    "largest",
    "looks_are_free",
    "map_slices",
    "middle",
    "normal_scale",
    "seeded_order",
    "seeded_part",
    "spectrum_float",
    "symmetric_product",
    "typical_sample",
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
# Into so many rows of blocks a large symmetric product is cut.
_BLOCKS = 8
# Where the largest number of a map is put before it is squared. Float32 has squares up to 2^128, so that 2^40 leaves
# room for 2^40 features; and squares down to 2^-126, so that one number 10^30 times as large as the others hides none.
_LARGEST = 2.0**40


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


def looks_are_free(device: torch.device) -> bool:
    """Whether asking for a number makes nobody wait. Anywhere else the host would wait for the device."""
    return device.type == "cpu"


def symmetric_product(rows: Tensor) -> Tensor:
    """``rows @ rows.mT``, computing only the blocks on and above the diagonal (a third less time)."""
    with full_float32(rows.device):
        return _sum_of_products([rows])


def _sum_of_products(slices: Iterable[Tensor]) -> Tensor:
    """Sum of ``rows @ rows.mT`` where precision has been seen to: 0.2 ms are much for a slice."""
    total: Tensor | None = None
    edges: list[int] = []
    for rows in slices:
        n = rows.shape[-2]
        if rows.requires_grad or n < 16 * _BLOCKS:  # writing into blocks is not differentiable
            product = rows @ rows.mT
            total = product if total is None else total.add_(product)
            continue
        if total is None:
            total = rows.new_zeros(*rows.shape[:-2], n, n)
            edges = [n * i // _BLOCKS for i in range(_BLOCKS + 1)]
        for one, whole in zip(rows.reshape(-1, *rows.shape[-2:]), total.view(-1, n, n), strict=True):
            for lo, hi in pairwise(edges):
                whole[lo:hi, lo:].addmm_(one[lo:hi], one[lo:].mT)
    assert total is not None, "maps have at least one channel"
    for lo, hi in pairwise(edges):
        total[..., hi:, lo:hi] = total[..., lo:hi, hi:].mT
    return total


def inner_products(maps: Tensor, weight: Tensor, centred: bool = True) -> Tensor:
    """Inner products ``(..., n, n)`` of samples ``(..., n, C, d)``, each map times its weight ``(..., C)``.

    Accumulated over slices of the maps. Centring first is what keeps float32 alive: distances are differences of these
    products, and a mean a hundred times the spread would cancel every digit. A sample far from all others is brought
    to where its square is finite, and a number that is not finite makes all of them NaN.

    Example:
        >>> inner_products(torch.tensor([[[1.0, 0.0]], [[1.0, 2.0]]]), torch.tensor([3.0]), centred=False)
        tensor([[ 9.,  9.],
                [ 9., 45.]])
    """
    with full_float32(maps.device):
        if looks_are_free(maps.device):
            product = _sum_of_products(_plain(*some, centred) for some in _weighted_slices(maps, weight))
            if bool((product.detach().diagonal(dim1=-2, dim2=-1) < _farthest(product.dtype) ** 2).all()):
                return product
        return _sum_of_products(_within_bounds(*some, centred) for some in _weighted_slices(maps, weight))


def _weighted_slices(maps: Tensor, weight: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Some maps at a time as rows ``(..., n, d)``, and the scale ``(..., 1, d)`` of their columns."""
    for some in map_slices(maps):
        part = maps[..., some, :]
        scale = weight[..., some].unsqueeze(-1).expand(*part.shape[:-3], -1, part.shape[-1])
        rows = upcast(part.flatten(-2))
        top = torch.finfo(rows.dtype).max
        yield rows, scale.flatten(-2).unsqueeze(-2).to(rows.dtype).clamp_max(top)


def _farthest(dtype: torch.dtype) -> float:
    """The largest distance to a typical row: the sum of 2^32 squares of it is finite."""
    return math.sqrt(torch.finfo(dtype).max) / 2**16


def _plain(rows: Tensor, scale: Tensor, centred: bool) -> Tensor:
    """Rows ``(..., n, d)`` times a scale ``(..., 1, d)``, about a typical row."""
    scaled = rows * scale
    return scaled.sub_(typical_sample(rows.detach()) * scale) if centred else scaled


def _within_bounds(rows: Tensor, scale: Tensor, centred: bool) -> Tensor:
    """The same with nothing beyond the farthest; all NaN if a number is not finite. Takes twice the time."""
    base = 0 * largest(rows.detach(), (-1, -2))[..., None, None]  # zero or NaN, which the clamp would hide
    if centred:
        centre = typical_sample(rows.detach())  # distances do not depend on it, nor do gradients
        # Numbers 2^100 bandwidths apart are far beyond any kernel; a larger scale would make of them inf - inf.
        scale = torch.minimum(scale, torch.finfo(rows.dtype).max / 2**28 / centre.abs())
        base = base - centre * scale
    # One pass over the slice, x·w - c·w: two numbers near the largest there is have no finite difference before.
    farthest = _farthest(rows.dtype)
    return torch.addcmul(base, rows, scale).clamp_(-farthest, farthest)


def typical_sample(rows: Tensor) -> Tensor:
    """A point ``(..., 1, d)`` amid rows ``(..., n, d)``: the elementwise middle of a few seeded ones.

    As near to the mean as a sample is, or nearer; but one outlier makes the mean a point far from all samples.
    Each of its numbers is one of the rows', so that it is finite and, where all are alike, exactly what they are.

    Example:
        >>> typical_sample(torch.tensor([[1.0], [2.0], [1e30]]))
        tensor([[2.]])
    """
    return middle([rows.narrow(-2, index, 1) for index in _some_of(rows.shape[-2])])


@lru_cache
def _some_of(n: int) -> list[int]:
    """A few of n samples, chosen on the host, which would have to wait for a device's numbers."""
    return Random(n).sample(range(n), few(n))


def few(n: int) -> int:
    """How many of n things to take a :func:`middle` of: nine, which three outliers do not move, or three, or one.

    Example:
        >>> few(100), few(8), few(2)
        (9, 3, 1)
    """
    return max(count for count in (1, 3, 9) if count <= n)


def middle(values: list[Tensor]) -> Tensor:
    """Elementwise median of three tensors, or median of medians of nine; NaN where one of them is.

    Example:
        >>> middle([torch.tensor([1.0, 9.0]), torch.tensor([8.0, 2.0]), torch.tensor([3.0, 4.0])])
        tensor([3., 4.])
    """
    while len(values) > 1:
        values = [_median_of_three(*values[first : first + 3]) for first in range(0, len(values), 3)]
    return values[0]


def _median_of_three(a: Tensor, b: Tensor, c: Tensor) -> Tensor:
    return torch.maximum(torch.minimum(a, b), torch.minimum(torch.maximum(a, b), c))


def largest(values: Tensor, axes: tuple[int, ...]) -> Tensor:
    """Largest absolute value over some axes: NaN or infinite where one of them is, zero where there are none.

    Example:
        >>> largest(torch.tensor([[1, -3], [0, 2]]), (-1,))
        tensor([3., 2.])
    """
    if values.numel() == 0:
        return upcast(values.sum(axes))
    # Twenty times faster than torch's norm, and without a copy. Of two axes at once that do not adjoin it is not.
    high = values
    low = values
    for axis in axes:
        high = high.amax(axis, keepdim=True)
        low = low.amin(axis, keepdim=True)
    return torch.maximum(upcast(high), -upcast(low)).squeeze(axes)


def normal_scale(most: Tensor) -> Tensor:
    """Powers of two, which change no digit, by which numbers up to ``most`` become such as have finite squares.

    Example:
        >>> normal_scale(torch.tensor([1.5, 0.0])).log2()  # to 1.5 · 2^40; nothing is nothing whatever its scale
        tensor([ 40., 126.])
    """
    tiny = torch.finfo(most.dtype).tiny
    # A float's exponent without its digits is a power of two; infinity is all bits of the exponent and no others.
    bits = torch.int32 if most.dtype == torch.float32 else torch.int64
    exponent = most.clamp_min(tiny).view(bits) & torch.full_like(most, torch.inf).view(bits)
    return (_LARGEST / exponent.view(most.dtype)).clamp(tiny, 1 / tiny)


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
    return torch.randperm(n, generator=torch.Generator().manual_seed(n)).to(device, non_blocking=device.type == "cuda")


def seeded_part(n: int, size: int, device: torch.device) -> Tensor:
    """Indices ``(size,)`` of a part of n samples, ascending: the first of their seeded order."""
    return seeded_order(n, device)[:size].sort().values
