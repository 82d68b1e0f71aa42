"""Schedules: which of the finished epochs or steps are measured."""

import pickle
from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from properties import assert_is_a_value

from lightning_infoplane import AtEpochs, EveryNSteps, LogSpacedEpochs, LogSpacedSteps, Schedule
from lightning_infoplane.trainer.schedules import EveryNEpochs, as_schedule


def measured(schedule: Schedule, last: int, planned: bool = True) -> list[int]:
    return [finished for finished in range(1, last + 1) if schedule(finished, last if planned else None)]


@pytest.mark.parametrize(
    ("schedule", "last", "expected"),
    [
        (EveryNEpochs(), 4, [1, 2, 3, 4]),
        (EveryNEpochs(3), 10, [3, 6, 9]),
        (EveryNEpochs(5), 4, []),
        (EveryNSteps(), 3, [1, 2, 3]),
        (EveryNSteps(4), 13, [4, 8, 12]),
        (AtEpochs([1, 2, 5]), 7, [1, 2, 5]),
        (AtEpochs((7,)), 3, []),
        (LogSpacedEpochs(5), 100, [1, 3, 10, 32, 100]),
        (LogSpacedEpochs(2), 50, [1, 50]),
        (LogSpacedEpochs(20), 3, [1, 2, 3]),
        (LogSpacedEpochs(4), 1, [1]),
        (LogSpacedSteps(5), 10_000, [1, 10, 100, 1000, 10_000]),
        (LogSpacedSteps(2), 7, [1, 7]),
    ],
    ids=repr,
)
def test_when_is_measured(schedule: Schedule, last: int, expected: list[int]) -> None:
    assert measured(schedule, last) == expected


@pytest.mark.parametrize("schedule", [LogSpacedEpochs(3), LogSpacedSteps(3)], ids=repr)
def test_a_run_without_planned_end_is_measured_at_powers_of_two(schedule: Schedule) -> None:
    assert measured(schedule, 70, planned=False) == [1, 2, 4, 8, 16, 32, 64]


@pytest.mark.parametrize("schedule", [EveryNEpochs(2), AtEpochs([3, 4]), EveryNSteps(3)], ids=repr)
def test_the_other_schedules_do_not_look_at_the_end(schedule: Schedule) -> None:
    assert measured(schedule, 9) == measured(schedule, 9, planned=False)


@given(count=st.integers(2, 40), last=st.integers(1, 300))
def test_log_spacing_starts_at_the_first_and_ends_at_the_last(count: int, last: int) -> None:
    epochs = measured(LogSpacedEpochs(count), last)
    assert epochs[0] == 1
    assert epochs[-1] == last
    assert len(epochs) <= count
    assert measured(LogSpacedSteps(count), last) == epochs


@pytest.mark.parametrize(
    ("schedule", "steps"),
    [
        (EveryNEpochs(), False),
        (AtEpochs([1]), False),
        (LogSpacedEpochs(), False),
        (EveryNSteps(), True),
        (LogSpacedSteps(), True),
    ],
    ids=repr,
)
def test_a_schedule_says_whether_it_counts_steps(schedule: Schedule, steps: bool) -> None:
    assert schedule.counts_steps is steps


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: EveryNEpochs(0), r"EveryNEpochs\(n=0\): expected a whole number of at least 1\."),
        (lambda: EveryNEpochs(-2), r"EveryNEpochs\(n=-2\): expected a whole number of at least 1\."),
        (lambda: EveryNEpochs(True), r"EveryNEpochs\(n=True\): expected a whole number of at least 1\."),
        (lambda: EveryNSteps(0), r"EveryNSteps\(n=0\): expected a whole number of at least 1\."),
        (lambda: EveryNSteps(2.5), r"EveryNSteps\(n=2\.5\): expected a whole number of at least 1\."),
        (lambda: AtEpochs([]), r"AtEpochs\(\[\]\): expected epochs from 1 on"),
        (lambda: AtEpochs([3, 0]), r"expected epochs from 1 on.*measure_at_start=True"),
        (lambda: AtEpochs(5), r"AtEpochs\(5\): expected epochs from 1 on"),
        (lambda: AtEpochs("12"), r"AtEpochs\('12'\): expected epochs from 1 on"),
        (lambda: AtEpochs([1, 2.5]), r"AtEpochs\(\[1, 2\.5\]\): expected epochs from 1 on"),
        (lambda: LogSpacedEpochs(1), r"LogSpacedEpochs\(count=1\): expected a whole number of at least 2\."),
        (lambda: LogSpacedSteps(1), r"LogSpacedSteps\(count=1\): expected a whole number of at least 2\."),
    ],
)
def test_impossible_schedules_are_refused(make: Callable[[], Schedule], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


# A list, as YAML gives it, has no hash; everything else about a schedule is that of a value.
@pytest.mark.parametrize(
    "schedule", [AtEpochs((1, 4)), LogSpacedEpochs(7), EveryNSteps(50), LogSpacedSteps(9)], ids=repr
)
def test_a_schedule_is_a_value(schedule: Schedule) -> None:
    assert_is_a_value(schedule)


def test_a_list_of_epochs_is_pickled_and_printed_too() -> None:
    schedule = AtEpochs([1, 4])
    assert pickle.loads(pickle.dumps(schedule)) == schedule
    assert eval(repr(schedule)) == schedule


def test_schedules_of_epochs_and_of_steps_are_never_equal() -> None:
    assert EveryNSteps(3) != EveryNEpochs(3)
    assert LogSpacedSteps(3) != LogSpacedEpochs(3)


# ---------------------------------------------------------------------------------------------------- as_schedule


def test_a_number_is_so_many_epochs() -> None:
    assert as_schedule(5) == EveryNEpochs(5)


@pytest.mark.parametrize("schedule", [AtEpochs([1, 4]), EveryNSteps(50)], ids=repr)
def test_a_schedule_stays_what_it_is(schedule: Schedule) -> None:
    assert as_schedule(schedule) is schedule


@pytest.mark.parametrize("wrong", [[1, 2], 1.5, "5", True, None, torch.tensor(3), AtEpochs], ids=repr)
def test_anything_else_is_told_what_to_pass(wrong: object) -> None:
    with pytest.raises(TypeError, match=r"schedule=.*: expected a number of epochs or a Schedule, such as schedule=5"):
        as_schedule(wrong)  # type: ignore[arg-type]


def test_a_number_of_epochs_that_cannot_be_meant_is_refused() -> None:
    with pytest.raises(ValueError, match=r"n=0\): expected a whole number of at least 1"):
        as_schedule(0)


# ----------------------------------------------------------------------------------------------- one of one's own


def test_a_schedule_of_ones_own_has_to_say_when() -> None:
    with pytest.raises(TypeError, match="abstract"):
        Schedule()  # type: ignore[abstract]


def test_a_schedule_of_ones_own_needs_nothing_else() -> None:
    @dataclass(frozen=True)
    class OnlyTheLast(Schedule):
        def __call__(self, finished: int, last: int | None) -> bool:
            return finished == last

    assert measured(as_schedule(OnlyTheLast()), 7) == [7]
    assert not OnlyTheLast().counts_steps
