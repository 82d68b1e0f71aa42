"""Redundancy and synergy of every pair of 512 feature maps at α = 2: time, peak memory, and a check.

    python benchmarks/pairs.py

Measures all 130,816 pairs of 512 maps at n = 256 in a process of its own, for float32 and float64 Gram
matrices; compares 16 maps with the loop over pairs; prints and writes ``benchmarks/results/pairs.json``.
"""

import json
import subprocess
import sys
import time
from itertools import combinations
from typing import Any

import torch
from common import peak_mb, write
from torch import Tensor

from lightning_infoplane import gram, joint_gram, map_grams, mutual_information
from lightning_infoplane.estimator.redundancy import pair_information

SAMPLES, MAPS, CHECKED = 256, 512, 16


def main() -> None:
    """Check, measure each dtype in a fresh process, print and write."""
    torch.set_num_threads(1)
    difference, runs = check(), []
    print(f"largest difference from the loop on {CHECKED} maps: {difference:.1e} bits")
    for dtype in ("float32", "float64"):
        done = subprocess.run([sys.executable, __file__, dtype], capture_output=True, text=True, check=True)
        run = json.loads(done.stdout)
        runs.append(run)
        print(
            f"{dtype}: {run['pairs']:,} pairs in {run['seconds']:.2f} s, peak {run['peak_mb']:.0f} MB of the whole "
            f"process, the maps' {run['stack_mb']:.0f} MB and making them included"
        )
    found = {"largest_difference_from_the_loop": difference, "runs": runs}
    write("pairs", found, samples=SAMPLES, maps=MAPS, alpha=2)


def layer(maps: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Gram matrices of an input, and of maps that each see a part of it with noise."""
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(SAMPLES, 16, generator=generator, dtype=dtype)
    weights = torch.randn(maps, 16, 9, generator=generator, dtype=dtype)
    activations = torch.einsum("ni,cid->ncd", inputs, weights).relu()
    return gram(inputs), map_grams(activations)


def measure(dtype: torch.dtype) -> dict[str, Any]:
    """Time and memory of all pairs, in this process."""
    torch.set_num_threads(1)
    pair_information(*layer(4, dtype), alpha=2)  # what the first call costs is not the question
    x, maps = layer(MAPS, dtype)
    start = time.perf_counter()
    shares = pair_information(x, maps, alpha=2)
    elapsed = time.perf_counter() - start
    return {
        "dtype": str(dtype).removeprefix("torch."),
        "pairs": len(shares.both),
        "seconds": elapsed,
        "peak_mb": peak_mb(),
        "stack_mb": maps.numel() * maps.element_size() / 1e6,
        "redundancy_synergy": float(shares.redundancy_synergy().mean()),
        "non_redundant": float(shares.non_redundant().mean()),
    }


def check() -> float:
    """Largest difference in bits between all pairs at once and one pair after another."""
    x, maps = layer(CHECKED, torch.float64)
    both = pair_information(x, maps, alpha=2).both
    loop = [mutual_information(x, joint_gram(maps[i], maps[j]), alpha=2) for i, j in combinations(range(CHECKED), 2)]
    difference = float((both - torch.stack(loop)).abs().max())
    if difference > 1e-9:
        raise SystemExit(f"all pairs at once are {difference} bits from the loop")
    return difference


if __name__ == "__main__":
    if len(sys.argv) > 1:
        print(json.dumps(measure(getattr(torch, sys.argv[1]))))
    else:
        main()
