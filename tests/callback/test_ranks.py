"""Two processes on gloo: the same numbers on both, nobody waits for ever, the probe is rank 0's."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from networks import in_processes

SCRIPT = Path(__file__).with_name("two_ranks.py")
SECONDS = 240  # all runs together take about twenty; one that hangs is ended
# To start two processes takes longer than to train: all scenarios are run in one go, one after the other.
SCENARIOS = ("plain", "steps", "differing", "norm", "absent", "both", "monitors", "failure")

Reports = list[dict[str, Any]]


def run(folder: Path, scenarios: Sequence[str], strategy: str, ranks: int = 2) -> tuple[dict[str, Reports], str]:
    """What each rank reported of each scenario, and what all wrote to the terminal."""
    written = in_processes(SCRIPT, ",".join(scenarios), strategy, str(folder), seconds=SECONDS)
    reports = {
        scenario: [json.loads((folder / scenario / f"rank{rank}.json").read_text()) for rank in range(ranks)]
        for scenario in scenarios
    }
    return reports, written


@pytest.fixture(scope="module")
def single(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The first measurement of one process is that of every number of processes: it is of the same network."""
    reports, _ = run(tmp_path_factory.mktemp("single"), ["plain"], "auto", ranks=1)
    return reports["plain"][0]


@pytest.fixture(scope="module")
def ddp(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Reports], str]:
    """Every scenario on two processes."""
    return run(tmp_path_factory.mktemp("ddp"), SCENARIOS, "ddp")


@pytest.fixture
def reports(ddp: tuple[dict[str, Reports], str]) -> dict[str, Reports]:
    """By scenario, of each rank."""
    return ddp[0]


def assert_those_of_one_process(found: Reports, single: dict[str, Any]) -> None:
    first, second = found
    assert first["history"] == second["history"]
    assert first["metrics"] == second["metrics"]
    assert {key for key in first["metrics"] if key.startswith("AMI_TY")} >= {"AMI_TY/conv1", "AMI_TY/conv2"}
    for (*what, value), (*same, expected) in zip(first["history"], single["history"], strict=False):
        if what[0] == 0:
            assert what == same
            assert value == pytest.approx(expected, abs=1e-9)


def test_ranks_hold_equal_values_which_are_those_of_one_process(
    reports: dict[str, Reports], single: dict[str, Any]
) -> None:
    assert_those_of_one_process(reports["plain"], single)


def test_processes_that_are_spawned_do_so_too(tmp_path: Path, single: dict[str, Any]) -> None:
    spawned, _ = run(tmp_path, ["plain"], "ddp_spawn")
    assert_those_of_one_process(spawned["plain"], single)


def test_the_probe_is_that_of_rank_0(reports: dict[str, Reports], single: dict[str, Any]) -> None:
    """Each rank has a shard of its own; alone, rank 0 has the same shard."""
    first, second = reports["steps"]
    assert first["probe"] == second["probe"] == single["probe"]
    assert first["history"] == second["history"]
    assert sorted({row[1] for row in first["history"]}) == [0, 2, 5]


def test_ranks_that_differ_in_everything_report_rank_0(reports: dict[str, Reports]) -> None:
    """Probes drawn apart, running statistics apart: also what is not a spectrum is rank 0's."""
    first, second = reports["differing"]
    assert first["probe"] == second["probe"]
    assert first["history"] == second["history"]
    assert first["metrics"] == second["metrics"]
    assert {key.split("/")[0] for key in first["metrics"]} >= {
        *("redundancy_synergy", "AMI_error", "DPI_AMI_XT_stderr", "DPI_AMI_XT_p", "AMI_XT_p", "DPI_increases")
    }


def test_batch_norm_differs_between_ranks_and_values_do_not(reports: dict[str, Reports]) -> None:
    first, second = reports["norm"]
    assert first["history"] == second["history"]
    assert first["weights"] == second["weights"] == reports["absent"][0]["weights"]


def test_two_probes_and_error_signals(reports: dict[str, Reports]) -> None:
    first, second = reports["both"]
    assert first["history"] == second["history"]
    assert {"train/AMI_XT/conv1", "val/AMI_TY/conv2", "train/AMI_error/conv1"} <= set(first["metrics"])


def test_early_stopping_and_checkpoints_monitor_a_key(reports: dict[str, Reports]) -> None:
    first, second = reports["monitors"]
    assert first["epochs"] == second["epochs"] == 2
    assert first["best"] == second["best"]
    assert Path(first["best"]).exists()


def test_a_failure_on_one_rank_is_a_warning_on_all(ddp: tuple[dict[str, Reports], str]) -> None:
    reports, said = ddp
    first, second = reports["failure"]
    assert {row[0] for row in first["history"]} == {row[0] for row in second["history"]} == {0}
    assert (
        "measurement after epoch 1 failed and training goes on. RuntimeError: on rank 1: RuntimeError: rank 1" in said
    )
    assert first["weights"] == second["weights"]
