"""What only TensorBoard has, where it is asked for; other loggers go without."""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from lightning_infoplane.measurement.keys import file_name, key_prefix, log_key, logged_rows
from lightning_infoplane.measurement.quantities import by_key
from lightning_infoplane.measurement.rows import Pair, Row

__all__ = ["TensorBoardExtras"]


class TensorBoardExtras:
    """Charts with all layers in one, and a run for each layer.

    Args:
        layout: custom-scalars charts, one for each quantity, with all layers in them. A run has one layout: the
            last one written wins.
        subruns: a run of its own for each layer, below the run, so that a layer has its own colour in every chart.
    """

    def __init__(self, layout: bool = False, subruns: bool = False) -> None:
        self._layout = layout
        self._subruns = subruns
        self._writers: dict[Path, Any] = {}
        self._laid_out = False

    def __call__(self, loggers: Iterable[Any], prefix: str, rows: Iterable[Row], log: str, step: int) -> None:
        """Write the rows of a measurement that are logged, the layout at the first."""
        rows = logged_rows(rows, log)
        if not rows or not (self._layout or self._subruns):
            return
        for logger in loggers:
            experiment: Any = getattr(logger, "experiment", None)
            if self._layout and not self._laid_out and hasattr(experiment, "add_custom_scalars"):
                experiment.add_custom_scalars({f"{key_prefix(prefix)}information plane": _charts(prefix, rows)})
            if self._subruns and hasattr(experiment, "add_scalar") and hasattr(experiment, "log_dir"):
                self._write(Path(experiment.log_dir), prefix, rows, step)
        self._laid_out = True

    def _write(self, folder: Path, prefix: str, rows: Iterable[Row], step: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        for row in rows:
            if not row.place or isinstance(row.place, Pair):
                continue  # the probe and a pair of layers are no layer, and so no run
            below = folder / file_name(log_key(row.place))
            if below not in self._writers:
                self._writers[below] = SummaryWriter(str(below))
            self._writers[below].add_scalar(key_prefix(prefix) + log_key(row.probe, row.quantity), row.value, step)
        for writer in self._writers.values():
            writer.flush()

    def close(self) -> None:
        """Close what was opened; the next run begins anew."""
        self._laid_out = False
        for writer in self._writers.values():
            writer.close()
        self._writers.clear()


def _charts(prefix: str, rows: Iterable[Row]) -> dict[str, list[Any]]:
    """Titles and the tags that belong there, for what is drawn of layers; a probe's name goes into the title."""
    charts: dict[str, list[Any]] = {}
    for probe, key in dict.fromkeys((row.probe, row.quantity) for row in rows if row.place):
        quantity = by_key(key)
        if quantity.panels:
            title = f"{quantity.label}, {probe} samples" if probe else quantity.label
            tag = key_prefix(prefix) + log_key(probe, key)
            charts[title] = ["Multiline", [f"^{re.escape(tag)}/"]]
    return charts
