"""To whichever logger a run has: values at a step of our choosing, pictures, text.

Loggers are told apart by what they can do, never by their class: each exists once in `lightning` and once in
`pytorch_lightning`, and users write their own.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torchmetrics import Metric

from lightning_infoplane.measurement.keys import file_name, key_of, log_key, logged_rows
from lightning_infoplane.measurement.rows import Row

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["ModuleLog", "log_figure", "log_scalars", "log_text", "run_folder"]


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

    def __call__(self, pl_module: Any, rows: Iterable[Row], prefix: str, log: str) -> None:  # noqa: ANN401 - of either package
        """Log rows by their keys. All ranks log the same ones: there is nothing to synchronise."""
        device = pl_module.device
        dtype = torch.float32 if device.type == "mps" else torch.float64  # Apple's GPUs have no float64
        for row in logged_rows(rows, log):
            key = key_of(row, prefix)
            if key not in self._metrics or self._metrics[key].device != device:
                self._metrics[key] = _Latest().to(device)  # only then: it takes longer than to log one
            metric = self._metrics[key]
            metric.update(torch.tensor(row.value, dtype=dtype, device=device))
            # Any string will do as metric_attribute: it spares Lightning the search in the user's module.
            pl_module.log(key, metric, on_step=False, on_epoch=True, metric_attribute=key)


def log_scalars(loggers: Iterable[Any], rows: Iterable[Row], prefix: str, log: str, step: int, epoch: int) -> None:
    """Write rows at a step of their own, which ``LightningModule.log`` can do only at an epoch's end."""
    values = {key_of(row, prefix): row.value for row in logged_rows(rows, log)}
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
    below = Path(first.save_dir or default)
    folder = below / str(first.name) / version
    return folder if _is_inside(folder, below) else below / file_name(log_key(str(first.name), version))


def log_figure(loggers: Iterable[Any], tag: str, figure: Figure, step: int, folder: Path) -> None:
    """Show a picture in every logger that has pictures; if one has none, save it as PNG in ``folder``.

    Call it on one rank only. The PNG holds the latest step.
    """
    shown = [_show(logger, tag, figure, step) for logger in loggers]
    if not shown or not all(shown):
        folder.mkdir(parents=True, exist_ok=True)
        figure.savefig(folder / f"{file_name(log_key(tag.replace('/', '-')))}.png", dpi=120)


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


def _is_inside(folder: Path, below: Path) -> bool:
    """Whether a folder is really below another one, whatever dots and slashes its names hold."""
    return Path(os.path.abspath(folder)).is_relative_to(os.path.abspath(below)) and "\0" not in str(folder)


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
