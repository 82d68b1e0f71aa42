"""Which epochs are measured. Epochs are counted as finished ones: 1 is the end of the first."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["AtEpochs", "EveryNEpochs", "LogSpacedEpochs", "Schedule"]


@dataclass(frozen=True)
class Schedule(ABC):
    """A rule that says whether to measure now. A new one is a frozen dataclass with ``__call__``."""

    @abstractmethod
    def __call__(self, epoch: int, last: int | None) -> bool:
        """Whether to measure after ``epoch`` finished epochs of a run planned for ``last`` (None: unknown)."""


@dataclass(frozen=True)
class EveryNEpochs(Schedule):
    """Every n-th epoch.

    Args:
        n: the interval.

    Example:
        >>> [epoch for epoch in range(1, 8) if EveryNEpochs(3)(epoch, last=7)]
        [3, 6]
    """

    n: int = 1

    def __post_init__(self) -> None:
        """Check the field."""
        if self.n < 1:
            raise ValueError(f"EveryNEpochs(n={self.n}): expected 1 or more.")

    def __call__(self, epoch: int, last: int | None) -> bool:
        """Whether to measure."""
        return epoch % self.n == 0


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
        if not self.epochs or min(self.epochs) < 1:
            raise ValueError(
                f"AtEpochs({self.epochs!r}): expected epochs from 1 on. The state before training is "
                "measured by measure_at_start=True."
            )

    def __call__(self, epoch: int, last: int | None) -> bool:
        """Whether to measure."""
        return epoch in self.epochs


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
        if self.count < 2:
            raise ValueError(f"LogSpacedEpochs(count={self.count}): expected 2 or more, the first and the last epoch.")

    def __call__(self, epoch: int, last: int | None) -> bool:
        """Whether to measure."""
        if last is None:
            return epoch & (epoch - 1) == 0
        return epoch in {round(last ** (k / (self.count - 1))) for k in range(self.count)}
