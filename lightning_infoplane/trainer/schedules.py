"""When to measure. Epochs and steps are counted as finished ones: 1 is the end of the first."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

__all__ = ["AtEpochs", "EveryNEpochs", "EveryNSteps", "LogSpacedEpochs", "LogSpacedSteps", "Schedule", "as_schedule"]


@dataclass(frozen=True)
class Schedule(ABC):
    """A rule that says whether to measure now. A new one is a frozen dataclass with ``__call__``."""

    #: Whether optimizer steps are counted instead of epochs. Values measured between epochs cannot be monitored.
    counts_steps: ClassVar[bool] = False

    @abstractmethod
    def __call__(self, finished: int, last: int | None) -> bool:
        """Whether to measure after so many finished epochs, of a run planned for ``last`` (None: unknown)."""


@dataclass(frozen=True)
class EveryNEpochs(Schedule):
    """Every n-th epoch; ``schedule=n`` is short for it.

    Args:
        n: the interval.

    Example:
        >>> [epoch for epoch in range(1, 8) if EveryNEpochs(3)(epoch, last=7)]
        [3, 6]
    """

    n: int = 1

    def __post_init__(self) -> None:
        """Check the field."""
        _check_count(self, "n", self.n, at_least=1)

    def __call__(self, finished: int, last: int | None) -> bool:
        """Whether to measure."""
        return finished % self.n == 0


@dataclass(frozen=True)
class EveryNSteps(EveryNEpochs):
    """Every n-th step of the optimizer; a batch that only accumulates gradients is none.

    Args:
        n: the interval.

    Example:
        >>> [step for step in range(1, 8) if EveryNSteps(3)(step, last=None)]
        [3, 6]
    """

    counts_steps: ClassVar[bool] = True


@dataclass(frozen=True)
class AtEpochs(Schedule):
    """The epochs listed.

    Args:
        epochs: counted as finished ones, from 1.

    Example:
        >>> [epoch for epoch in range(1, 8) if AtEpochs([1, 2, 5])(epoch, last=7)]
        [1, 2, 5]
    """

    epochs: Sequence[int]

    def __post_init__(self) -> None:
        """Check the field."""
        listed = isinstance(self.epochs, Sequence) and len(self.epochs) > 0
        if not listed or any(not isinstance(epoch, int) or epoch < 1 for epoch in self.epochs):
            raise ValueError(
                f"AtEpochs({self.epochs!r}): expected epochs from 1 on. The state before training is "
                "measured by measure_at_start=True."
            )

    def __call__(self, finished: int, last: int | None) -> bool:
        """Whether to measure."""
        return finished in self.epochs


@dataclass(frozen=True)
class LogSpacedEpochs(Schedule):
    """About ``count`` epochs, close together at first and ever wider apart, the last one included.

    Where the run has no planned end, the powers of two.

    Args:
        count: how many, at most; epochs that coincide after rounding are measured once.

    Example:
        >>> [epoch for epoch in range(1, 101) if LogSpacedEpochs(5)(epoch, last=100)]
        [1, 3, 10, 32, 100]
    """

    count: int = 20

    def __post_init__(self) -> None:
        """Check the field."""
        _check_count(self, "count", self.count, at_least=2)

    def __call__(self, finished: int, last: int | None) -> bool:
        """Whether to measure."""
        if last is None:
            return finished & (finished - 1) == 0
        return finished in {round(last ** (k / (self.count - 1))) for k in range(self.count)}


@dataclass(frozen=True)
class LogSpacedSteps(LogSpacedEpochs):
    """About ``count`` steps of the optimizer, close together at first and ever wider apart, the last one included.

    Where the run has no planned end, the powers of two.

    Args:
        count: how many, at most; steps that coincide after rounding are measured once.

    Example:
        >>> [step for step in range(1, 101) if LogSpacedSteps(5)(step, last=100)]
        [1, 3, 10, 32, 100]
    """

    counts_steps: ClassVar[bool] = True


def as_schedule(schedule: int | Schedule) -> Schedule:
    """A schedule, or a number of epochs.

    Raises:
        TypeError: for anything else.

    Example:
        >>> as_schedule(5)
        EveryNEpochs(n=5)
    """
    if isinstance(schedule, Schedule):
        return schedule
    if isinstance(schedule, bool) or not isinstance(schedule, int):
        raise TypeError(
            f"schedule={schedule!r}: expected a number of epochs or a Schedule, such as schedule=5, "
            "schedule=AtEpochs([1, 2, 5]) or schedule=EveryNSteps(100)."
        )
    return EveryNEpochs(schedule)


def _check_count(schedule: Schedule, field: str, value: object, at_least: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < at_least:
        name = type(schedule).__name__
        raise ValueError(f"{name}({field}={value!r}): expected a whole number of at least {at_least}.")
