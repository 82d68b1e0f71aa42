"""The spectral work of a 13-layer measurement on one process and shared out over two.

    python benchmarks/ranks.py

One thread a process, gloo, n = 512; medians of seven, one process and two in turn (A B A B …). Prints the ratio and
writes benchmarks/results/ranks.json.
"""

import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from common import write
from torch.multiprocessing.spawn import spawn

from lightning_infoplane import Estimator, gram
from lightning_infoplane.measurement.columns import leaves_of
from lightning_infoplane.measurement.division import divide
from lightning_infoplane.measurement.entropies import Sides, numbers
from lightning_infoplane.measurement.quantity import Subject
from lightning_infoplane.measurement.ranks import Ranks, all_ranks

LAYERS, SAMPLES, ROUNDS = 13, 512, 7


def moment() -> Callable[[Ranks], object]:
    """The numbers of Gram matrices as a network would give them, with all that is measured by default."""
    torch.manual_seed(0)
    layers = {f"conv{i}": gram(torch.randn(SAMPLES, 32)) for i in range(LAYERS)}
    labels = torch.arange(SAMPLES) % 10
    sides = Sides(gram(torch.randn(SAMPLES, 32)), labels)
    whole, parts = divide(SAMPLES, labels, Estimator())
    views = [whole, *parts]
    leaves = [
        [leaf for leaf in leaves_of(Subject.ACTIVATIONS, ["X", "Y"], 2, tests=view is whole) if leaf.first == "T"]
        for view in views
    ]
    return lambda ranks: numbers(sides, layers, leaves, views, Estimator(), ranks)


def work(rank: int, folder: str) -> None:
    """One process: alone while the other waits, then both together."""
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    measure, times = moment(), {"one": [], "two": []}  # type: tuple[Callable[[Ranks], object], dict[str, list[float]]]
    for _ in range(ROUNDS + 1):
        for name, ranks in (("one", Ranks()), ("two", all_ranks())):
            torch.distributed.barrier()
            began = time.perf_counter()
            if name == "two" or rank == 0:
                measure(ranks)
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
