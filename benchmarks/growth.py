"""How a measurement grows with the samples, the size of the layers and their number, beside the floor; and a history.

    python benchmarks/growth.py            # about five minutes
    python benchmarks/growth.py --large    # also n = 8,192 with Lanczos, some minutes more
    python benchmarks/growth.py --history  # only the history of 200 layers and 300 epochs, a million rows, two minutes

The floor is the bare products and float64 spectra of the same shapes, timed in turn with ours; medians of five, one
thread. Writes benchmarks/results/growth.json and growth.png, of the history benchmarks/results/history.json.
"""

import argparse
import io
import random
import statistics
import tempfile
from itertools import pairwise
from pathlib import Path

import torch
from common import RESULTS, floor, medians, peak_mb, seconds, write
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator
from torch import Tensor

from lightning_infoplane import Estimator, History, InformationPlane, Lanczos, Row
from lightning_infoplane.__main__ import main as infoplane
from lightning_infoplane.measurement.rows import Pair

# (n, maps, side, layers)
CASES = {
    "samples n": [(n, 64, 8, 2) for n in (128, 256, 512, 1024, 2048, 4096)],
    "features C·H·W": [(512, c, s, 2) for c, s in ((16, 4), (32, 8), (64, 16), (128, 16), (64, 32))],
    "layers": [(512, 64, 8, k) for k in (1, 2, 4, 8, 16)],
}
AXIS = {
    "samples n": lambda case: case[0],
    "features C·H·W": lambda case: case[1] * case[2] ** 2,
    "layers": lambda case: case[3],
}


def data(n: int, maps: int, side: int, layers: int) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
    """Inputs, labels and layers that depend on them."""
    torch.manual_seed(0)
    x = torch.randn(n, 3 * side * side)
    activations = {
        str(k): (x @ torch.randn(x.shape[1], maps * side**2)).reshape(n, maps, side, side) for k in range(layers)
    }
    return x, torch.arange(n) % 10, activations


def ours(x: Tensor, y: Tensor, layers: dict[str, Tensor]) -> None:
    """One measurement without chance level."""
    InformationPlane(Estimator(shuffles=0)).measure(x, y, layers)


def both(case: tuple[int, int, int, int]) -> dict[str, float]:
    """Median seconds of both, in turn."""
    x, y, layers = data(*case)
    return medians(
        {"ours": lambda: ours(x, y, layers), "floor": lambda: floor([x, *layers.values()], 1 + 2 * len(layers))},
        5 if case[0] < 2048 else 3,
    )


def large_probe() -> dict[str, float]:
    """One layer at n = 8,192: float32 matrices and the Lanczos solver, with its own error."""
    x, y, layers = data(8192, 16, 4, 1)
    plane = InformationPlane(Estimator(shuffles=0, solver=Lanczos()))
    before = peak_mb()
    took = seconds(lambda: plane.measure(x, y, layers))
    value = {row.quantity: row.value for row in plane.history}
    return {"seconds": took, "peak_extra_MB": peak_mb() - before} | {
        name: value[name] for name in ("H_T", "H_T_stderr", "I_XT", "I_XT_stderr", "I_TY", "I_TY_stderr")
    }


# What a run that logs everything has of a layer, and of a pair of layers.
OF_A_LAYER = (
    *("AMI_XT", "AMI_XT_p", "AMI_XT_stderr", "AMI_TY", "AMI_TY_p", "AMI_TY_stderr"),
    *("I_XT", "I_XT_chance", "I_TY", "I_TY_chance", "H_T", "E_TT", "bandwidth"),
)
OF_A_PAIR = ("DPI_AMI_XT", "DPI_AMI_XT_p", "DPI_XT", "DPI_TY")


def epoch_of(epoch: int, layers: list[str]) -> list[Row]:
    """The rows of a measurement."""
    value = random.Random(epoch).random
    places = [("", "log2_n", 9.0), ("", "H_X", 4.0), ("", "H_Y", 3.3)]
    rows = [Row(epoch, 100 * epoch, "", place, key, known) for place, key, known in places]
    rows += [Row(epoch, 100 * epoch, "", layer, key, value()) for layer in layers for key in OF_A_LAYER]
    pairs = [Pair(*pair) for pair in pairwise(layers)]
    return rows + [Row(epoch, 100 * epoch, "", pair, key, value() - 0.5) for pair in pairs for key in OF_A_PAIR]


def growing_history(epochs: int = 300, last: int = 5) -> dict[str, float]:
    """What a million rows take: to append the last ones, in a checkpoint, to read and to report."""
    layers = [f"features.{number}.conv" for number in range(200)]
    rows = History()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "infoplane.csv"
        appended = []
        for epoch in range(epochs):
            rows.extend(epoch_of(epoch, layers))
            if epoch >= epochs - last - 1:  # the first of these writes the whole file
                appended.append(seconds(lambda: rows.update(path)))
        file = io.BytesIO()
        saving = seconds(lambda: torch.save(rows.state_dict(), file))
        file.seek(0)
        loading = seconds(lambda: History.from_state(torch.load(file, weights_only=True)))
        return {
            "rows": len(rows),
            "table_MB": path.stat().st_size / 1e6,
            "write_table_s": appended[0],
            "append_epoch_s": statistics.median(appended[1:]),
            "checkpoint_MB": len(file.getvalue()) / 1e6,
            "checkpoint_bytes_a_row": len(file.getvalue()) / len(rows),
            "save_checkpoint_s": saving,
            "load_checkpoint_s": loading,
            "load_table_s": seconds(lambda: History.load(path)),
            "report_s": seconds(lambda: infoplane(["report", folder])),
        }


def draw(found: dict[str, list[dict[str, float]]]) -> None:
    """Seconds beside the floor, one panel a kind of growth."""
    figure = Figure(figsize=(12, 3.6), layout="constrained")
    for ax, (name, rows) in zip(figure.subplots(1, 3), found.items(), strict=True):
        sizes = [row["size"] for row in rows]
        for key, style in (("ours", "o-"), ("floor", "s--")):
            ax.loglog(sizes, [row[key] for row in rows], style, label=key)
        ax.set_xticks(sizes, [f"{size:,}" for size in sizes], fontsize="small", rotation=30)
        ax.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        ax.yaxis.set_major_formatter("{x:g}")
        ax.minorticks_off()
        ax.set(xlabel=name, ylabel="seconds a measurement")
        ax.legend()
    figure.savefig(RESULTS / "growth.png", dpi=110)


def main() -> None:
    """Measure, print, draw, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--large", action="store_true", help="also n = 8,192")
    parser.add_argument("--history", action="store_true", help="only the history")
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.history:
        found_of_history = growing_history()
        for key, value in found_of_history.items():
            print(f"{key:24}{value:14,.3f}")
        write("history", found_of_history)
        return
    report: dict[str, object] = (
        {"n = 8192, Lanczos": large_probe()} if options.large else {}
    )  # first: nothing was larger yet
    print(*report.values())
    found: dict[str, list[dict[str, float]]] = {}
    for name, cases in CASES.items():
        found[name] = [{"size": AXIS[name](case)} | both(case) for case in cases]
        for row in found[name]:
            print(f"{name:16}{row['size']:8.0f}{row['ours']:9.3f} s{row['ours'] / row['floor']:7.2f} times the floor")
    draw(found)
    write("growth", found | report)


if __name__ == "__main__":
    main()
