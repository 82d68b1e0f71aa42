"""Schedules: which of the finished epochs are measured."""

import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lightning_infoplane import AtEpochs, EveryNEpochs, LogSpacedEpochs, Schedule


def measured(schedule: Schedule, last: int, planned: bool = True) -> list[int]:
    return [epoch for epoch in range(1, last + 1) if schedule(epoch, last if planned else None)]


@pytest.mark.parametrize(
    ("schedule", "last", "expected"),
    [
        (EveryNEpochs(), 4, [1, 2, 3, 4]),
        (EveryNEpochs(3), 10, [3, 6, 9]),
        (EveryNEpochs(5), 4, []),
        (AtEpochs([1, 2, 5]), 7, [1, 2, 5]),
        (AtEpochs((7,)), 3, []),
        (LogSpacedEpochs(5), 100, [1, 3, 10, 32, 100]),
        (LogSpacedEpochs(2), 50, [1, 50]),
        (LogSpacedEpochs(20), 3, [1, 2, 3]),
        (LogSpacedEpochs(4), 1, [1]),
    ],
)
def test_epochs_measured(schedule: Schedule, last: int, expected: list[int]) -> None:
    assert measured(schedule, last) == expected


def test_a_run_without_planned_end_is_measured_at_powers_of_two() -> None:
    assert measured(LogSpacedEpochs(3), 70, planned=False) == [1, 2, 4, 8, 16, 32, 64]


def test_the_other_schedules_do_not_look_at_the_end() -> None:
    for schedule in (EveryNEpochs(2), AtEpochs([3, 4])):
        assert measured(schedule, 9) == measured(schedule, 9, planned=False)


@given(count=st.integers(2, 40), last=st.integers(1, 300))
def test_log_spacing_starts_at_the_first_and_ends_at_the_last_epoch(count: int, last: int) -> None:
    epochs = measured(LogSpacedEpochs(count), last)
    assert epochs[0] == 1
    assert epochs[-1] == last
    assert len(epochs) <= count


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: EveryNEpochs(0), r"EveryNEpochs\(n=0\): expected 1 or more"),
        (lambda: EveryNEpochs(-2), r"EveryNEpochs\(n=-2\): expected 1 or more"),
        (lambda: AtEpochs([]), r"AtEpochs\(\[\]\): expected epochs from 1 on"),
        (lambda: AtEpochs([3, 0]), r"expected epochs from 1 on.*measure_at_start=True"),
        (lambda: LogSpacedEpochs(1), r"LogSpacedEpochs\(count=1\): expected 2 or more"),
    ],
)
def test_impossible_schedules_are_refused(make: object, message: str) -> None:
    assert callable(make)
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize("schedule", [EveryNEpochs(3), AtEpochs([1, 4]), LogSpacedEpochs(7)], ids=repr)
def test_a_schedule_is_a_value(schedule: Schedule) -> None:
    assert pickle.loads(pickle.dumps(schedule)) == schedule
    assert eval(repr(schedule)) == schedule


def test_a_schedule_of_ones_own_needs_only_to_say_when() -> None:
    with pytest.raises(TypeError, match="abstract"):
        Schedule()  # type: ignore[abstract]
