"""The search for Markov chains beside one measurement, on networks as people build them, untrained.

    python benchmarks/chains.py

Takes the networks of ``tests/architectures.py``, 32×32 images, n = 512; prints seconds of the search for chains,
seconds of one measurement without it, and their ratio, and writes ``benchmarks/results/chains.json``.
"""

import importlib
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from common import write
from torch import nn

from lightning_infoplane import Monitor, Probe

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
nets: Any = importlib.import_module("architectures")  # the same networks on which the pairs are tested

SAMPLES = 512
NETWORKS: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "EfficientNet-B0": (lambda: nets.efficientnet(1.0), "conv"),
    "MobileNetV2, half width": (lambda: nets.mobilenet_v2(0.5), "conv"),
    "MobileNetV3, half width": (lambda: nets.mobilenet_v3(0.5), "conv"),
    "DenseNet-40, growth 12": (lambda: nets.densenet40(12), "conv"),
    "DenseNet-121, growth 8": (lambda: nets.densenet121(8), "conv"),
    "ViT, width 64": (lambda: nets.ViT(64), "all"),
    "ConvNeXt, width 16": (lambda: nets.convnext(16), "all"),
}


def main() -> None:
    """Time each network, print and write."""
    torch.set_num_threads(1)
    found = {name: timed(make, layers) for name, (make, layers) in NETWORKS.items()}
    for name, one in found.items():
        print(
            f"{name}: {one['layers']} layers, search {one['search']:.1f} s, measurement {one['measurement']:.1f} s, "
            f"ratio {one['ratio']:.2f}"
        )
    write("chains", {"networks": found}, samples=SAMPLES)


def timed(make: Callable[[], nn.Module], layers: str) -> dict[str, Any]:
    """Seconds of the search, and of a measurement that need not search."""
    torch.manual_seed(0)
    images = torch.randn(SAMPLES, 3, 32, 32)
    monitor = Monitor(make(), Probe(images, torch.arange(SAMPLES) % 10), layers, notice=lambda about, message: None)
    monitor.prepare()
    began = time.perf_counter()
    monitor.measure()
    measurement = time.perf_counter() - began
    return {
        "layers": len(monitor.layers),
        "pairs": len(monitor.markov_pairs),
        "search": monitor.seconds_of_search,
        "measurement": measurement,
        "ratio": monitor.seconds_of_search / measurement,
    }


if __name__ == "__main__":
    main()
