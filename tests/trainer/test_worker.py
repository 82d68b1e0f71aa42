"""A function in a forked process: its result, its failure, and nothing moved on here."""

import multiprocessing
import os
import random
import time
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch

from lightning_infoplane.trainer.worker import NotForkedError, in_a_fork

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no forks")


def test_the_result_is_that_of_the_function() -> None:
    batch = {"x": torch.arange(6.0).reshape(2, 3), "name": ["a", "b"], "nothing": None}
    found = in_a_fork(lambda: batch)
    assert found.keys() == batch.keys()
    assert torch.equal(found["x"], batch["x"])
    assert found["x"] is not batch["x"]


def test_it_is_another_process() -> None:
    assert in_a_fork(os.getpid) != os.getpid()


def test_what_it_moves_on_is_not_moved_on_here() -> None:
    generator, numbers, count = torch.Generator().manual_seed(3), iter(range(10)), [0]

    def work() -> tuple[float, int]:
        count[0] += 1
        return float(torch.rand((), generator=generator)), next(numbers)

    first = in_a_fork(work)
    assert in_a_fork(work) == first
    assert count == [0]
    assert work() == first


def test_its_random_numbers_are_not_missing_here() -> None:
    torch.manual_seed(0)
    random.seed(0)
    expected = (torch.rand(3), random.random())
    torch.manual_seed(0)
    random.seed(0)
    in_a_fork(lambda: (torch.rand(5), random.random()))
    assert torch.equal(torch.rand(3), expected[0])
    assert random.random() == expected[1]


def test_its_failure_is_a_failure_here() -> None:
    def fails() -> None:
        raise KeyError("label")

    with pytest.raises(KeyError, match="label"):
        in_a_fork(fails)


class UnreadableError(Exception):
    """Can be pickled, and not read back."""

    def __init__(self, one: int, other: int) -> None:
        super().__init__(f"{one} of {other}")


def unreadable() -> None:
    raise UnreadableError(1, 2)


@pytest.mark.parametrize(
    ("work", "reason"),
    [
        (lambda: lambda: 0, "pickle"),
        (unreadable, "UnreadableError: 1 of 2"),
        (lambda: os._exit(3), "ended without an answer"),
        (lambda: time.sleep(30), "had not come to an end after 0 seconds"),
    ],
    ids=["a result that cannot be sent", "a failure that cannot be sent", "it dies", "it hangs"],
)
def test_what_cannot_be_done_there_is_said(work: Callable[[], Any], reason: str) -> None:
    began = time.monotonic()
    with pytest.raises(NotForkedError, match=reason):
        in_a_fork(work, patience=0.4 if "hang" in reason or "0 seconds" in reason else 60)
    assert time.monotonic() - began < 20


def test_no_process_stays_behind() -> None:
    for _ in range(3):
        in_a_fork(lambda: 1)
    assert multiprocessing.active_children() == []


def test_where_a_process_may_have_no_children_that_is_said() -> None:
    """As in a pool of processes, which are daemonic."""

    def inner() -> str:
        try:
            return str(in_a_fork(lambda: 1))
        except NotForkedError as error:
            return str(error)

    assert "daemonic processes are not allowed to have children" in in_a_fork(inner)


def test_warnings_as_errors_do_not_stop_it() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert in_a_fork(lambda: 1) == 1
