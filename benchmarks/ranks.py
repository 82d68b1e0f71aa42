"""The spectral work of a 13-layer measurement on one process and shared out over two.

    python benchmarks/ranks.py

One thread a process, gloo, n = 512; medians of seven, one process and two in turn (A B A B …). Prints the ratio and
writes benchmarks/results/ranks.json.
"""

import json
import statistics
import tempfile
import time
from pathlib import Path

import torch
from common import write
from torch.multiprocessing.spawn import spawn

from lightning_infoplane import Estimator, gram
from lightning_infoplane.measurement.entropies import Grams, entropies
from lightning_infoplane.measurement.formulas import TX, TY, T
from lightning_infoplane.measurement.ranks import Ranks, all_ranks

LAYERS, SAMPLES, ROUNDS = 13, 512, 7
# With one shuffle, as by default.
TERMS = (T, TX, TY, TX.shuffled(0), TY.shuffled(0))


def moment() -> Grams:
    """Gram matrices as a network would give them."""
    torch.manual_seed(0)
    layers = {f"conv{i}": gram(torch.randn(SAMPLES, 32)) for i in range(LAYERS)}
    return Grams(gram(torch.randn(SAMPLES, 32)), torch.arange(SAMPLES) % 10, None, layers)


def work(rank: int, folder: str) -> None:
    """One process: alone while the other waits, then both together."""
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    grams, times = moment(), {"one": [], "two": []}  # type: tuple[Grams, dict[str, list[float]]]
    for _ in range(ROUNDS + 1):
        for name, ranks in (("one", Ranks()), ("two", all_ranks())):
            torch.distributed.barrier()
            began = time.perf_counter()
            if name == "two" or rank == 0:
                entropies(grams, TERMS, Estimator(), ranks)
            times[name].append(time.perf_counter() - began)
    if rank == 0:
        medians = {name: statistics.median(values[1:]) for name, values in times.items()}  # the first one warms up
        Path(folder, "medians.json").write_text(json.dumps(medians))
    torch.distributed.destroy_process_group()


def main() -> None:
    """Run both, print and write."""
    with tempfile.TemporaryDirectory() as folder:
        spawn(work, (folder,), nprocs=2)
        medians = json.loads(Path(folder, "medians.json").read_text())
    ratio = medians["two"] / medians["one"]
    print(f"one process {medians['one']:.3f} s, two {medians['two']:.3f} s: ratio {ratio:.2f}")
    torch.set_num_threads(1)
    write("ranks", {"seconds": medians, "ratio": ratio}, layers=LAYERS, n=SAMPLES)


if __name__ == "__main__":
    main()
