"""To whichever logger a run has: keys that every one accepts, values at a step of our choosing, pictures.

Loggers are told apart by what they can do, never by their class: each exists once in `lightning` and once in
`pytorch_lightning`, and users write their own.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torchmetrics import Metric

from lightning_infoplane.precision import widest_float

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["ModuleLog", "TensorBoardExtras", "keyed", "log_figure", "log_key", "log_scalars", "log_text", "run_folder"]

# In the history, for pictures that have nothing but the table; as charts they would be noise.
_NOT_LOGGED = ("log2_n", "verdict")
# MLflow is the strictest: other characters would be dropped there, and two layers could become one.
_FORBIDDEN = re.compile(r"[^A-Za-z0-9_./-]")


def log_key(prefix: str, quantity: str, layer: str) -> str:
    """The key of a number: ``{prefix}{quantity}/{layer}``, without a layer ``{prefix}{quantity}``.

    Example:
        >>> log_key("", "I_XT", "net.0"), log_key("mine/", "H_X", "")
        ('I_XT/net.0', 'mine/H_X')
    """
    return _FORBIDDEN.sub("_", prefix + (f"{quantity}/{layer}" if layer else quantity))


def keyed(prefix: str, rows: Iterable[Any]) -> dict[str, float]:
    """Rows (epoch, step, layer, quantity, value) by the key they are logged under, without those that are not.

    Example:
        >>> keyed("", [(0, 0, "conv", "I_XT", 1.5), (0, 0, "", "log2_n", 9.0)])
        {'I_XT/conv': 1.5}
    """
    return {log_key(prefix, quantity, layer): value for _, _, layer, quantity, value in _wanted(rows)}


def _wanted(rows: Iterable[Any]) -> list[Any]:
    return [row for row in rows if not row[3].endswith(_NOT_LOGGED)]


class _Latest(Metric):
    """The value given last, in its own dtype: torchmetrics' aggregators round to 32 bits."""

    full_state_update = False
    value: Tensor

    def __init__(self) -> None:
        super().__init__(sync_on_compute=False)
        self.add_state("value", torch.tensor(torch.nan), dist_reduce_fx=None)

    def update(self, value: Tensor) -> None:
        self.value = value

    def compute(self) -> Tensor:
        return self.value


class ModuleLog:
    """Logs values through a LightningModule at an epoch's end, each held in a torchmetrics metric of its own.

    That way they are in ``trainer.callback_metrics``, for ModelCheckpoint and EarlyStopping, and in every logger.
    """

    def __init__(self) -> None:
        self._metrics: dict[str, _Latest] = {}

    def __call__(self, pl_module: Any, values: Mapping[str, float]) -> None:  # noqa: ANN401 - of either package
        """Log ``values`` by key. All ranks log the same ones: there is nothing to synchronise."""
        device = pl_module.device
        for key, value in values.items():
            if key not in self._metrics or self._metrics[key].device != device:
                self._metrics[key] = _Latest().to(device)  # only then: it takes longer than to log one
            metric = self._metrics[key]
            metric.update(torch.tensor(value, dtype=widest_float(device), device=device))
            # Any string will do as metric_attribute: it spares Lightning the search in the user's module.
            pl_module.log(key, metric, on_step=False, on_epoch=True, metric_attribute=key)


_CHARTS = {
    "I_XT": "I(X;T), information about the input (bits)",
    "I_TY": "I(T;Y), information about the target (bits)",
    "H_T": "H(T), entropy (bits)",
    "DPI_XT": "I(X;T) lost from layer to layer (bits)",
    "DPI_YT": "I(T;Y) lost from layer to layer (bits)",
    "I_error": "information about the last error signal (bits)",
}


class TensorBoardExtras:
    """What only TensorBoard has, where it is asked for; other loggers go without.

    Args:
        layout: custom-scalars charts, one for each quantity, with all layers in them. A run has one layout: the
            last one written wins.
        subruns: a run of its own for each layer, below the run, so that a layer has its own colour in every chart.
    """

    def __init__(self, layout: bool = False, subruns: bool = False) -> None:
        self._layout, self._subruns = layout, subruns
        self._writers: dict[Path, Any] = {}
        self._laid_out = False

    def __call__(self, loggers: Iterable[Any], prefix: str, rows: Iterable[Any], step: int) -> None:
        """Write the rows (epoch, step, layer, quantity, value) of a measurement, the layout at the first."""
        rows = [row for row in _wanted(rows) if row[2]] if self._layout or self._subruns else []
        for logger in loggers if rows else ():
            experiment: Any = getattr(logger, "experiment", None)
            if self._layout and not self._laid_out and hasattr(experiment, "add_custom_scalars"):
                experiment.add_custom_scalars({f"{prefix}information plane": _charts(prefix, rows)})
            if self._subruns and hasattr(experiment, "add_scalar") and hasattr(experiment, "log_dir"):
                self._write(Path(experiment.log_dir), prefix, rows, step)
        self._laid_out = bool(rows)

    def _write(self, folder: Path, prefix: str, rows: Iterable[Any], step: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        for _, _, layer, quantity, value in rows:
            if quantity.rpartition("/")[2].startswith("DPI_"):
                continue  # of a pair of layers, which is no run
            below = folder / log_key("", layer, "").replace("/", "_")
            if below not in self._writers:
                self._writers[below] = SummaryWriter(str(below))
            self._writers[below].add_scalar(log_key(prefix, quantity, ""), value, step)
        for writer in self._writers.values():
            writer.flush()

    def close(self) -> None:
        """Close what was opened; the next run begins anew."""
        self._laid_out = False
        for writer in self._writers.values():
            writer.close()
        self._writers.clear()


def _charts(prefix: str, rows: Iterable[Any]) -> dict[str, list[Any]]:
    """Titles and the tags that belong there; a quantity's probe goes into the title."""
    charts: dict[str, list[Any]] = {}
    for quantity in dict.fromkeys(row[3] for row in rows):
        probe, _, name = quantity.rpartition("/")
        if name in _CHARTS:
            title = f"{_CHARTS[name]}, {probe} samples" if probe else _CHARTS[name]
            charts[title] = ["Multiline", [f"^{re.escape(log_key(prefix, quantity, ''))}/"]]
    return charts


def log_scalars(loggers: Iterable[Any], values: Mapping[str, float], step: int, epoch: int) -> None:
    """Write values at a step of their own, which ``LightningModule.log`` can do only at an epoch's end."""
    for logger in loggers if values else ():
        logger.log_metrics({**values, "epoch": epoch}, step=step)


def run_folder(loggers: Sequence[Any], default: str | os.PathLike[str]) -> Path:
    """Where a run's own files go: its first logger's directory of that run, whatever the logger calls it.

    Without any logger it is ``default``, which the next such run shares.
    """
    if not loggers:
        return Path(default)
    first = loggers[0]
    if isinstance(log_dir := getattr(first, "log_dir", None), str | os.PathLike):
        return Path(log_dir)
    version = first.version if isinstance(first.version, str) else f"version_{first.version}"
    return Path(first.save_dir or default) / str(first.name) / version


def log_figure(loggers: Iterable[Any], tag: str, figure: Figure, step: int, folder: Path) -> None:
    """Show a picture in every logger that has pictures; if one has none, save it as PNG in ``folder``.

    Call it on one rank only. The PNG holds the latest step.
    """
    shown = [_show(logger, tag, figure, step) for logger in loggers]
    if not shown or not all(shown):
        folder.mkdir(parents=True, exist_ok=True)
        figure.savefig(folder / f"{tag.replace('/', '-')}.png", dpi=120)


def log_text(loggers: Iterable[Any], tag: str, text: str, step: int) -> None:
    """Show Markdown in every logger that shows text; the others go without."""
    for logger in loggers:
        experiment: Any = getattr(logger, "experiment", None)
        if hasattr(experiment, "add_text"):  # TensorBoard
            experiment.add_text(tag, text, step)
        elif hasattr(logger, "log_text"):  # W&B, SwanLab
            logger.log_text(key=tag, columns=["text"], data=[[text]], step=step)
        elif hasattr(experiment, "log_text") and hasattr(logger, "run_id"):  # MLflow, which keeps files
            experiment.log_text(logger.run_id, text, f"{tag}_{step:06d}.md")
        elif hasattr(experiment, "log_text"):  # Comet
            experiment.log_text(text, step=step)


def _show(logger: Any, tag: str, figure: Figure, step: int) -> bool:  # noqa: ANN401 - any logger
    """Hand the picture to a logger in its own way; False if it has none."""
    experiment: Any = getattr(logger, "experiment", None)
    if hasattr(experiment, "add_figure"):  # TensorBoard. Closing it would break the next logger.
        experiment.add_figure(tag, figure, global_step=step, close=False)
    elif hasattr(logger, "log_image"):  # W&B, SwanLab
        logger.log_image(key=tag, images=[figure], step=step)
    elif hasattr(experiment, "log_figure") and hasattr(logger, "run_id"):  # MLflow, which keeps files
        experiment.log_figure(logger.run_id, figure, f"{tag}_{step:06d}.png")
    elif hasattr(experiment, "log_figure"):  # Comet
        experiment.log_figure(figure_name=tag, figure=figure, step=step)
    else:
        return False
    return True
