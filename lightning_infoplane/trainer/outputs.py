"""What a run leaves beside its numbers: what is wanted, as one choice, and who puts it down."""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import lightning.pytorch as lp
from tqdm.auto import tqdm

from lightning_infoplane.arguments.checks import FLAG, Instance, checked
from lightning_infoplane.measurement.history import History
from lightning_infoplane.measurement.keys import file_name, log_key
from lightning_infoplane.measurement.rows import Row
from lightning_infoplane.measurement.settings import Choice
from lightning_infoplane.trainer.loggers import ModuleLog, log_figure, log_scalars, log_text, run_folder
from lightning_infoplane.trainer.tensorboard import TensorBoardExtras

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["Outputs", "Writer"]

# Seconds from which on a measurement shows its progress unasked.
_LONG = 10.0
# Part of the training time that pictures may take before some are left out.
_CHEAP = 0.05

# Makes the pictures of a run when it is called, each with its tag.
MakePictures = Callable[[], Iterable[tuple[str, "Figure"]]]


@dataclass(frozen=True, repr=False)
@checked(
    False,
    figures=Instance("True, False or 'auto'", constants=(True, False, "auto")),
    log=Instance("'main' or 'all'", constants=("main", "all")),
    tensorboard_layout=FLAG,
    tensorboard_subruns=FLAG,
    prog_bar=Instance("True, False or None", constants=(True, False, None)),
)
class Outputs(Choice):
    """What is logged, drawn and shown.

    Args:
        figures: draw the information plane and the depth profile, into loggers or as PNG: True at every measurement,
            False never. ``"auto"`` leaves pictures out while they have taken more than a twentieth of the training
            time, and always draws the first and the last.
        log: ``"main"`` logs the main quantities, ``"all"`` also chance levels, standard errors and bandwidths. All of
            them are in the history in any case.
        tensorboard_layout: also write a custom-scalars layout, with all layers in one chart. It replaces another one.
        tensorboard_subruns: also write each layer as a TensorBoard run of its own, which gives it its own colour.
        prog_bar: show progress during a measurement. None shows it where one takes longer than ten seconds and the
            Trainer shows progress too.

    Raises:
        ValueError: for another ``figures`` or ``log``.

    Example:
        >>> Outputs(log="all")
        Outputs(log='all')
    """

    figures: bool | Literal["auto"] = "auto"
    log: Literal["main", "all"] = "main"
    tensorboard_layout: bool = False
    tensorboard_subruns: bool = False
    prog_bar: bool | None = None


class Writer:
    """Puts down rows, texts and pictures of a run; files and pictures on rank 0.

    Args:
        outputs: what is wanted.
        name: of the callback, where there are several; file names and tags begin with ``infoplane-{name}``.
        prefix: what keys begin with.
    """

    def __init__(self, outputs: Outputs, name: str, prefix: str) -> None:
        self._outputs = outputs
        self._stem = f"infoplane-{file_name(log_key(name))}" if name else "infoplane"  # never out of the run's folder
        self._prefix = prefix
        self._tensorboard = TensorBoardExtras(outputs.tensorboard_layout, outputs.tensorboard_subruns)
        self.begin()

    def begin(self) -> None:
        """A run begins."""
        self._log = ModuleLog()
        self._began = time.monotonic()
        self._drawing_seconds = 0.0
        self._undrawn: int | None = None  # the step of a measurement whose pictures were left out

    def log_at_epoch_end(self, pl_module: lp.LightningModule, rows: Iterable[Row]) -> None:
        """Through the module, so that the values can be monitored."""
        self._log(pl_module, rows, self._prefix, self._outputs.log)

    def log_at_step(self, trainer: lp.Trainer, rows: Iterable[Row], step: int, epoch: int) -> None:
        """Straight to the loggers: the module would log them at the epoch's end."""
        log_scalars(trainer.loggers, rows, self._prefix, self._outputs.log, step, epoch)

    def write(
        self,
        trainer: lp.Trainer,
        history: History,
        rows: Iterable[Row],
        step: int,
        *,
        texts: Mapping[str, str],
        draw: MakePictures,
    ) -> None:
        """After a measurement: the table, the texts by the last part of their tag, and pictures where they are due."""
        if not _may_write(trainer):
            return
        history.update(run_folder(trainer.loggers, trainer.default_root_dir) / f"{self._stem}.csv")
        self._tensorboard(trainer.loggers, self._prefix, rows, self._outputs.log, step)
        for kind, text in texts.items():
            log_text(trainer.loggers, f"{self._stem}/{kind}", text, step)
        if self._is_due():
            self._draw(trainer, step, draw)
        elif self._outputs.figures:
            self._undrawn = step

    def end(self, trainer: lp.Trainer, draw: MakePictures) -> None:
        """The run is over: draw what was left out of the last measurement."""
        if self._undrawn is not None and _may_write(trainer):
            self._draw(trainer, self._undrawn, draw)
        self._tensorboard.close()

    @contextmanager
    def progress_bar(self, trainer: lp.Trainer, work: int) -> Iterator[Callable[[int], object]]:
        """What to call with progress. A bar that cannot be shown, in a terminal that is gone, costs no measurement."""
        bar: tqdm[Any] | None = None

        def advance(layers: int) -> None:
            with suppress(Exception):
                if bar is not None:
                    bar.update(layers)

        with suppress(Exception):
            bar = self._bar(trainer, work)
        try:
            yield advance
        finally:
            with suppress(Exception):
                if bar is not None:
                    bar.close()

    def _bar(self, trainer: lp.Trainer, work: int) -> "tqdm[Any]":
        """Shown when asked for; unasked where the Trainer shows one too and a measurement takes long."""
        wanted = self._outputs.prog_bar
        delay = 0.0
        if wanted is None:
            wanted = trainer.progress_bar_callback is not None
            delay = _LONG
        hidden = not wanted or not trainer.is_global_zero
        return tqdm(total=work, disable=hidden, delay=delay, leave=False, desc="information plane")

    def _is_due(self) -> bool:
        """Whether pictures are wanted, and cheap enough where that is left to us."""
        if self._outputs.figures == "auto":
            return self._drawing_seconds <= _CHEAP * (time.monotonic() - self._began)
        return self._outputs.figures

    def _draw(self, trainer: lp.Trainer, step: int, draw: MakePictures) -> None:
        """To loggers that show pictures, or as PNG."""
        began = time.monotonic()
        folder = run_folder(trainer.loggers, trainer.default_root_dir)
        for tag, figure in draw():
            log_figure(trainer.loggers, f"{self._stem}/{tag}", figure, step, folder)
        self._undrawn = None
        self._drawing_seconds += time.monotonic() - began


def _may_write(trainer: lp.Trainer) -> bool:
    """One rank writes, and a run of one batch leaves nothing."""
    return trainer.is_global_zero and not getattr(trainer, "fast_dev_run", False)
