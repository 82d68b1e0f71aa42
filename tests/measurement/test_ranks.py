"""Several processes that measure together: rank 0's numbers, and failures that all hear of."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from measurement.moments import Table, World, on_all_ranks, table
from properties import normal
from torch import Tensor

from lightning_infoplane import Estimator, InformationPlane, Jackknife
from lightning_infoplane.arguments.errors import SetupError
from lightning_infoplane.measurement.ranks import Ranks, all_ranks

CPU = torch.device("cpu")
# Layers are computed one or several at a time, in float32 where that is enough.
TOGETHER = 2e-5


def test_one_process_does_everything() -> None:
    alone, tensor, whole = Ranks(), torch.ones(2), object()
    assert (alone.rank, alone.world_size) == (0, 1)
    assert alone.first(tensor) is alone.total(tensor) is tensor
    assert alone.first_object(whole) is whole


@pytest.mark.parametrize("size", [2, 3])
@pytest.mark.parametrize(
    ("standard_errors", "n"),
    [(None, 24), (Jackknife(4), 24), ("blocks", 64)],
    ids=["without errors", "jackknife", "blocks"],
)
def test_rows_are_those_of_rank_0_on_every_process(standard_errors: Any, n: int, size: int) -> None:
    """Running statistics differ between processes until the next step: rank 0's activations are everybody's."""

    def measure(rank: int, ranks: Ranks) -> Table:
        plane = InformationPlane(Estimator(standard_errors=standard_errors))
        measurement = plane.start(normal(n, 3), torch.arange(n) % 3)
        for k in range(3):
            measurement.add(f"layer{k}", normal(n, 2, seed=k + 10 * rank))
        return table(plane.finish(measurement, ranks=ranks))

    expected = measure(0, Ranks())
    assert ("layer0", "AMI_XT") in expected
    assert (("", "DPI_increases") in expected) is (standard_errors is not None)
    for found in on_all_ranks(size, measure):
        assert found == pytest.approx(expected, abs=TOGETHER)


@pytest.mark.parametrize("size", [2, 3])
def test_classes_of_rank_0_are_everybodys(size: int) -> None:
    """Groups and shuffles follow them."""

    def measure(rank: int, ranks: Ranks) -> Table:
        plane = InformationPlane()
        measurement = plane.start(normal(64, 3, seed=rank), (torch.arange(64) + rank) % (3 + rank))
        measurement.add("a", normal(64, 2, seed=5 + rank))
        measurement.add("b", normal(64, 2, seed=15 + rank))
        return table(plane.finish(measurement, ranks=ranks))

    expected = measure(0, Ranks())
    for found in on_all_ranks(size, measure):
        assert found == pytest.approx(expected, abs=TOGETHER)


def test_error_signals_of_rank_0_are_what_the_others_are_compared_with() -> None:
    """The last error signal is the reference, and differs between processes as activations do."""

    def measure(rank: int, ranks: Ranks) -> Table:
        plane = InformationPlane(Estimator())
        signals = {name: normal(24, 2, seed=k + 10 * rank) for k, name in enumerate("abc")}
        return table(plane.finish(plane.start_error_signals(signals), ranks=ranks))

    expected = measure(0, Ranks())
    assert expected["", "H_error_last"] > 0
    for found in on_all_ranks(3, measure):
        assert found == pytest.approx(expected, abs=TOGETHER)


# ----------------------------------------------------------------------------------------------------- together


def fail() -> None:
    raise KeyError("conv1")


def test_together_one_process_gets_its_own_result() -> None:
    result = object()
    assert Ranks().together(lambda: result, CPU) is result


def test_together_one_process_gets_its_own_failure() -> None:
    """Unchanged: its traceback leads to where it failed."""
    with pytest.raises(KeyError, match=r"^'conv1'$") as caught:
        Ranks().together(fail, CPU)
    assert caught.traceback[-1].name == "fail"


def test_together_an_interrupt_is_no_failure_to_be_collected() -> None:
    def interrupt() -> None:
        raise KeyboardInterrupt

    def never(tensor: Tensor) -> Tensor:
        raise AssertionError("nothing is exchanged any more")

    with pytest.raises(KeyboardInterrupt, match=r"^$"):
        Ranks(total=never).together(interrupt, CPU)


@pytest.fixture
def gathered() -> World:
    """Three threads as three processes."""
    return World(3)


def attempted(world: World, attempt: Callable[[int], object]) -> list[Any]:
    return on_all_ranks(3, lambda rank, ranks: ranks.together(lambda: attempt(rank), CPU), world)


def test_together_each_process_gets_its_own_result(gathered: World) -> None:
    assert attempted(gathered, lambda rank: 10 * rank) == [0, 10, 20]


def test_together_a_failure_is_an_error_on_all_processes_in_the_same_words(gathered: World) -> None:
    results = attempted(gathered, lambda rank: fail() if rank == 1 else rank)
    assert [type(result) for result in results] == [RuntimeError] * 3
    assert [str(result) for result in results] == ["on rank 1: KeyError: 'conv1'"] * 3
    assert [type(result.__cause__) for result in results] == [type(None), KeyError, type(None)]


def test_together_a_mistake_stays_one_in_its_own_words(gathered: World) -> None:
    def attempt(rank: int) -> None:
        if rank == 2:
            raise SetupError("layers='conv9' matches no module.")

    results = attempted(gathered, attempt)
    assert [type(result) for result in results] == [SetupError] * 3
    assert {str(result) for result in results} == {"layers='conv9' matches no module."}


def test_together_of_several_failures_the_first_is_told(gathered: World) -> None:
    def attempt(rank: int) -> None:
        if rank > 0:
            raise ValueError(f"it is {rank}")

    assert [str(result) for result in attempted(gathered, attempt)] == ["on rank 1: ValueError: it is 1"] * 3


# --------------------------------------------------------------------------------------------- the process group


@pytest.fixture
def process_group(tmp_path: Path) -> Iterator[None]:
    """A real one, of this process."""
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path / 'store'}", rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()


def test_where_there_is_no_process_group_a_process_is_alone() -> None:
    assert all_ranks() == Ranks()
    assert all_ranks(4) == Ranks()


@pytest.mark.usefixtures("process_group")
def test_a_trainer_that_trains_alone_in_a_larger_group_shares_nothing() -> None:
    assert all_ranks(world_size=1) == Ranks()


@pytest.mark.usefixtures("process_group")
def test_in_a_process_group_tensors_and_objects_are_exchanged() -> None:
    ranks = all_ranks()
    assert (ranks.rank, ranks.world_size) == (0, 1)
    assert ranks != Ranks()
    columns = torch.arange(6.0).reshape(2, 3).mT  # not contiguous, as gloo would want it
    assert torch.equal(ranks.first(columns), columns)
    assert torch.equal(ranks.total(columns), columns)
    assert ranks.first_object({"epoch": [1, None]}) == {"epoch": [1, None]}
    assert ranks.together(lambda: 7, CPU) == 7
