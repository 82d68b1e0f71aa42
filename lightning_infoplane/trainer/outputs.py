"""What a run writes beside its numbers, as one choice."""

from dataclasses import dataclass
from typing import Literal

from lightning_infoplane.measurement.settings import Choice

__all__ = ["Outputs"]


@dataclass(frozen=True, repr=False)
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

    def __post_init__(self) -> None:
        """Check the fields."""
        if self.figures not in (True, False, "auto"):
            raise ValueError(f"figures={self.figures!r}: expected True, False or 'auto'.")
        if self.log not in ("main", "all"):
            raise ValueError(f"log={self.log!r}: expected 'main' or 'all'.")
