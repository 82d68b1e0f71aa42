"""When to measure. Epochs and steps are counted as finished ones: 1 is the end of the first."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from numbers import Integral
from typing import ClassVar

from lightning_infoplane.arguments.checks import Instance, Whole, WrongKindError, checked, shown

__all__ = [
    "AtEpochs",
    "EveryNEpochs",
    "EveryNSteps",
    "LogSpacedEpochs",
    "LogSpacedSteps",
    "Schedule",
    "as_schedule",
    "is_ours",
]


@dataclass(frozen=True)
class Schedule(ABC):
    """A rule that says whether to measure now. A new one is a frozen dataclass with ``__call__``."""

    #: Whether optimizer steps are counted instead of epochs. Values measured between epochs cannot be monitored.
    counts_steps: ClassVar[bool] = False

    @abstractmethod
    def __call__(self, finished: int, last: int | None) -> bool:
        """Whether to measure after so many finished epochs, of a run planned for ``last`` (None: unknown)."""


@dataclass(frozen=True)
@checked(n=Whole(1))
class EveryNEpochs(Schedule):
    """Every n-th epoch; ``schedule=n`` is short for it.

    Args:
        n: the interval.

    Example:
        >>> [epoch for epoch in range(1, 8) if EveryNEpochs(3)(epoch, last=7)]
        [3, 6]
    """

    n: int = 1

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


_EPOCH = Whole(1)


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
        listed = isinstance(self.epochs, Sequence) and not isinstance(self.epochs, str | bytes)
        if not listed or not self.epochs or not all(map(_EPOCH.accepts, self.epochs)):
            meant = _epochs_in(self.epochs)
            raise (ValueError if listed else WrongKindError)(
                f"AtEpochs({shown(self.epochs)}): expected epochs from 1 on. "
                + f"Write AtEpochs({meant or '[1, 2, 5]'}). "
                + "The state before training is measured by measure_at_start=True."
            )
        if any(type(epoch) is not int for epoch in self.epochs):  # numpy's, which no JSON can hold
            object.__setattr__(self, "epochs", [int(epoch) for epoch in self.epochs])

    def __call__(self, finished: int, last: int | None) -> bool:
        """Whether to measure."""
        return finished in self.epochs


@dataclass(frozen=True)
@checked(count=Whole(2))
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
    if isinstance(schedule, Integral) and not isinstance(schedule, bool):
        return EveryNEpochs(int(schedule))
    chosen: Schedule = _SCHEDULE("schedule", schedule)
    return chosen


def is_ours(schedule: Schedule) -> bool:
    """Whether it is a function of epoch or step alone, as those of this module are: the same on every process."""
    return type(schedule).__module__ == __name__


def _epochs_in(values: object) -> str:
    """The epochs in a collection, a text or a number, as a list; empty where there are none."""
    if hasattr(values, "tolist"):
        values = values.tolist()
    several = isinstance(values, Iterable) and not isinstance(values, str | bytes | dict)
    try:
        epochs = sorted({int(one) for one in values} if several else {int(values)})  # type: ignore[attr-defined, call-overload]
    except (TypeError, ValueError, OverflowError):
        return ""
    epochs = [epoch for epoch in epochs if _EPOCH.accepts(epoch)]
    return shown(epochs) if epochs and len(epochs) <= 4 else ""


def _meant_by(schedule: object) -> str:
    """What to type in place of a schedule that is none."""
    if isinstance(schedule, str | float) or getattr(schedule, "ndim", 1) == 0:
        try:
            number = round(float(schedule))  # type: ignore[arg-type]
        except (ValueError, OverflowError):
            return ""
        return str(number) if _EPOCH.accepts(number) else ""
    several = isinstance(schedule, Iterable) and not isinstance(schedule, dict)
    return f"AtEpochs({_epochs_in(schedule) or '[1, 2, 5]'})" if several else ""


_SCHEDULE = Instance(
    "a number of epochs or a Schedule, such as {field}=5, {field}=AtEpochs([1, 2, 5]) or {field}=EveryNSteps(100)",
    kinds=(Schedule,),
    known=("AtEpochs([1, 2, 5])", "EveryNSteps(100)", "LogSpacedEpochs()", "LogSpacedSteps()"),
    remedies=_meant_by,
)
