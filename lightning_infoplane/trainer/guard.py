"""Nothing of ours ends a run unasked: whatever fails is told once, and training goes on."""

import logging
from collections.abc import Callable
from typing import TypeVar

import lightning.pytorch as lp
from lightning.pytorch.utilities import rank_zero_warn

from lightning_infoplane.arguments.errors import NotMeasurableError, SetupError, reason_of
from lightning_infoplane.measurement.failures import without_numbers
from lightning_infoplane.measurement.listener import Notices
from lightning_infoplane.measurement.ranks import Ranks
from lightning_infoplane.trainer.position import ranks_of

__all__ = ["Guard", "warn"]

Result = TypeVar("Result")

_log = logging.getLogger(__name__)
# Letters of a failure's own words: some hold a whole model.
_LONGEST_REASON = 400


class Guard:
    """Attempts what may fail, for one run.

    Args:
        raise_on_error: raise what fails instead.
        notice: told (about, message) of each failure.
    """

    def __init__(self, raise_on_error: bool, notice: Notices) -> None:
        self._raise_on_error = raise_on_error
        self._notice = notice

    def attempt(self, what: str, work: Callable[[], Result]) -> Result | None:
        """What ``work`` returns, or None where it failed.

        Raises:
            SetupError: of what is told before a run begins, and ends it.
        """
        try:
            return work()
        except SetupError:
            raise
        except Exception as error:
            self.fail(what, error)
            return None

    def put_out(self, trainer: lp.Trainer, what: str, work: Callable[[], None]) -> None:
        """A full disk or a logger's server. Where that is to end the run, it ends on all ranks."""
        ranks = ranks_of(trainer) if self._raise_on_error else Ranks()
        self.attempt(what, lambda: ranks.together(work, trainer.strategy.root_device))

    def fail(self, what: str, error: Exception) -> None:
        """Each failure is told once, whatever the epoch is."""
        if self._raise_on_error:
            raise error
        if isinstance(error, NotMeasurableError):  # it says what to pass: nothing of it may be missing
            self._notice(str(error), f"{error} Training goes on without being measured.")
            return
        reason = reason_of(error, _LONGEST_REASON)
        self._notice(
            without_numbers(f"{what} {reason}"),
            f"{what} failed and training goes on. {reason} (raise_on_error=True ends the run instead.)",
        )


def warn(message: str) -> None:
    """On rank 0, and never an error. A function, so that who holds it can be sent to other processes."""
    try:
        rank_zero_warn(f"MatrixRenyiCallback: {message}")
    except Warning:  # the user makes errors of them, and this run is not to end
        _log.warning("MatrixRenyiCallback: %s", message)
