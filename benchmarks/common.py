"""What the benchmarks share: a clock that waits for the device, rivals in turn, what the figures hold for, a file."""

import json
import platform
import resource
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import lightning
import torch
from torch import Tensor

__all__ = ["RESULTS", "floor", "medians", "peak_mb", "seconds", "setting", "write"]

RESULTS = Path(__file__).parent / "results"


def setting(device: str = "cpu", **more: object) -> dict[str, Any]:
    """What the figures hold for: versions, threads, device, and what else is said."""
    machine = torch.cuda.get_device_name() if device == "cuda" else platform.machine()
    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "lightning": lightning.__version__,
        "threads": torch.get_num_threads(),
        "device": f"{device} ({machine})",
        **more,
    }


def seconds(work: Callable[[], object], device: str = "cpu") -> float:
    """Time of one call; on a GPU between two events of its own, for it works on after the call has returned."""
    if device == "cuda":
        began, ended = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        began.record()
        work()
        ended.record()
        torch.cuda.synchronize()
        return float(began.elapsed_time(ended)) / 1000
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def medians(rivals: Mapping[str, Callable[[], object]], rounds: int = 5, device: str = "cpu") -> dict[str, float]:
    """Median seconds of each, taken in turn, A B C A B C …, so that a busy moment falls on all of them."""
    times: dict[str, list[float]] = {name: [] for name in rivals}
    for _ in range(rounds):
        for name, work in rivals.items():
            times[name].append(seconds(work, device))
    return {name: statistics.median(values) for name, values in times.items()}


def floor(variables: Sequence[Tensor], spectra: int) -> None:
    """What the definition needs and nothing else: a float32 product a variable, and so many float64 spectra."""
    for values in variables:
        flat = values.flatten(1)
        product = flat @ flat.T
    matrix = product.double()
    for _ in range(spectra):
        torch.linalg.eigvalsh(matrix)


def peak_mb() -> float:
    """Peak resident memory of this process; Linux counts in kB, macOS in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1e6 if sys.platform == "darwin" else 1e3)


def write(name: str, found: Mapping[str, object], device: str = "cpu", **more: object) -> None:
    """``benchmarks/results/<name>.json``: the setting first."""
    RESULTS.mkdir(exist_ok=True)
    text = json.dumps({"setting": setting(device, **more), **found}, indent=1)
    (RESULTS / f"{name}.json").write_text(text + "\n", encoding="utf-8")
