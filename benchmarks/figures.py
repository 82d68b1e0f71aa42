"""Drawing all figures of one epoch for 13 layers, into TensorBoard: seconds, and that no figure stays open.

    python benchmarks/figures.py

A VGG's history of 100 epochs with error signals and redundancy; what the callback draws at the last one (plane,
depth, error signals, redundancy), and the page of everything. Prints and writes ``benchmarks/results/figures.json``.
"""

import itertools
import json
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

import matplotlib
import torch
from common import seconds, write
from lightning.pytorch.loggers import TensorBoardLogger
from matplotlib import pyplot

from lightning_infoplane import Row, plot_summary
from lightning_infoplane.measurement.rows import Pair, Place
from lightning_infoplane.trainer.loggers import log_figure
from lightning_infoplane.views.panels import live_pictures

EPOCHS, REPEATS, TARGET = 100, 5, 1.5
LAYERS = [f"features.{i}" for i in (0, 3, 7, 10, 14, 17, 20, 24, 27, 30, 34, 37, 40)]


def main() -> None:
    """Draw, print and write."""
    torch.set_num_threads(1)
    rows = history()
    first, epoch = draw_in_tensorboard(rows)
    with tempfile.TemporaryDirectory() as folder:
        page = seconds(lambda: plot_summary(rows).savefig(f"{folder}/page.png", dpi=130))
    still_open = pyplot.get_fignums()
    result: dict[str, Any] = {
        "rows": len(rows),
        "seconds_of_an_epoch": round(epoch, 3),
        "seconds_of_the_first_epoch_with_imports": round(first, 3),
        "seconds_of_the_page_of_everything": round(page, 3),
        "target_seconds": TARGET,
        "figures_left_open": len(still_open),
    }
    print(json.dumps(result, indent=1))
    if still_open or epoch > TARGET:
        sys.exit(f"expected under {TARGET} s and no open figure")
    write("figures", result, matplotlib=matplotlib.__version__, layers=len(LAYERS), epochs=EPOCHS, repeats=REPEATS)


def draw_in_tensorboard(rows: list[Row]) -> tuple[float, float]:
    """Seconds of the first time and the median of the others."""
    times = []
    with tempfile.TemporaryDirectory() as folder:
        logger = TensorBoardLogger(folder)
        for step in range(1 + REPEATS):
            times.append(seconds(lambda at=step: draw(logger, Path(folder), rows, at)))  # type: ignore[misc]
        logger.finalize("success")
    return times[0], statistics.median(times[1:])


def draw(logger: TensorBoardLogger, folder: Path, rows: list[Row], step: int) -> None:
    """The pictures that the callback draws while training."""
    for tag, picture in live_pictures(rows):
        log_figure([logger], f"infoplane/{tag}", picture.figure(rows), step, folder)


def history() -> list[Row]:
    """Thirteen layers with every quantity that is drawn."""
    rows = []
    for epoch in range(EPOCHS + 1):
        table: dict[tuple[Place, str], float] = {("", "H_X"): 4.2, ("", "H_Y"): 3.3, ("", "log2_n"): 9.0}
        for depth, layer in enumerate(LAYERS):
            told = 4.0 - 0.1 * depth - 0.01 * epoch
            table |= {(layer, "H_T"): told + 1, (layer, "bandwidth"): 1.0}
            table |= {(layer, "I_XT"): told, (layer, "I_XT_chance"): 0.8}
            table |= {(layer, "I_TY"): 0.5 + 0.1 * depth + 0.01 * epoch, (layer, "I_TY_chance"): 0.4}
            table |= {(layer, name): 0.1 * depth for name in ("redundancy_synergy", "non_redundant", "I_error")}
            table |= {(layer, f"{name}_stderr"): 0.05 for name in ("redundancy_synergy", "non_redundant")}
        table |= {(Pair(a, b), "DPI_XT"): 0.1 for a, b in itertools.pairwise(LAYERS)}
        rows += [Row(epoch, 17 * epoch, "", place, quantity, value) for (place, quantity), value in table.items()]
    return rows


if __name__ == "__main__":
    main()
