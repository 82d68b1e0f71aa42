"""Redundancy and synergy of every pair of 512 feature maps at α = 2: time, peak memory, and a check.

    python benchmarks/pairs.py

Measures all 130,816 pairs of 512 maps at n = 256 in a process of its own, for float32 and float64 Gram
matrices, beyond chance and as the paper defines it; compares 16 maps with the loop over pairs; prints and writes
``benchmarks/results/pairs.json``.
"""

import json
import subprocess
import sys
import time
from itertools import combinations, product
from typing import Any

import torch
from common import peak_mb, write
from torch import Tensor

from lightning_infoplane import gram, joint_gram, mutual_information, renyi_entropy
from lightning_infoplane.estimator.dependence import cyclic_shuffles
from lightning_infoplane.estimator.map_pairs import pair_excess, pair_information

SAMPLES, MAPS, CHECKED = 256, 512, 16
DEFINITIONS = {"beyond chance": pair_excess, "paper": pair_information}


def main() -> None:
    """Check, measure each dtype in a fresh process, print and write."""
    torch.set_num_threads(1)
    difference, runs = check(), []
    print(f"largest difference from the loop on {CHECKED} maps: {difference:.1e} bits")
    for definition, dtype in product(DEFINITIONS, ("float32", "float64")):
        command = [sys.executable, __file__, definition, dtype]
        run = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
        runs.append(run)
        print(
            f"{definition}, {dtype}: {run['pairs']:,} pairs in {run['seconds']:.2f} s, peak {run['peak_mb']:.0f} MB of "
            f"the whole process, the maps' {run['stack_mb']:.0f} MB and making them included"
        )
    found = {"largest_difference_from_the_loop": difference, "runs": runs}
    write("pairs", found, samples=SAMPLES, maps=MAPS, alpha=2)


def layer(maps: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Gram matrices of an input, and of maps that each see a part of it with noise."""
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(SAMPLES, 16, generator=generator, dtype=dtype)
    weights = torch.randn(maps, 16, 9, generator=generator, dtype=dtype)
    activations = torch.einsum("ni,cid->ncd", inputs, weights).relu()
    return gram(inputs), gram(activations.movedim(1, 0))


def measure(definition: str, dtype: torch.dtype) -> dict[str, Any]:
    """Time and memory of all pairs, in this process."""
    torch.set_num_threads(1)
    pairs = DEFINITIONS[definition]
    pairs(*layer(4, dtype), alpha=2)  # what the first call costs is not the question
    x, maps = layer(MAPS, dtype)
    start = time.perf_counter()
    shares = pairs(x, maps, alpha=2)
    elapsed = time.perf_counter() - start
    return {
        "definition": definition,
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
    pairs = list(combinations(range(CHECKED), 2))
    loop = [mutual_information(x, joint_gram(maps[i], maps[j]), alpha=2) for i, j in pairs]
    excess = [beyond_chance(x, joint_gram((maps[i] * maps[j]).sqrt())) for i, j in pairs]
    found = torch.stack([pair_information(x, maps, alpha=2).both, pair_excess(x, maps, alpha=2).both])
    difference = float((found - torch.stack([torch.stack(loop), torch.stack(excess)])).abs().max())
    if difference > 1e-9:
        raise SystemExit(f"all pairs at once are {difference} bits from the loop")
    return difference


def beyond_chance(x: Tensor, pair: Tensor) -> Tensor:
    """What shuffled inputs hold more together with a pair of maps than the input itself, in bits."""
    orders = [torch.arange(SAMPLES), *cyclic_shuffles(SAMPLES, 2)]
    joint, *chance = (renyi_entropy(joint_gram(x[order][:, order], pair), 2) for order in orders)
    return torch.stack(chance).mean() - joint


if __name__ == "__main__":
    if len(sys.argv) > 1:
        print(json.dumps(measure(sys.argv[1], getattr(torch, sys.argv[2]))))
    else:
        main()
