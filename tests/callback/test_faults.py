"""Whatever fails, on whatever process: the measurement ends on all of them, and the training goes on.

Twenty kinds of failure, on each of two processes. One that waited for the other would end at its time-out.
"""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from networks import in_processes

SCRIPT = Path(__file__).with_name("two_ranks_faults.py")
SECONDS = 400  # all runs together take about thirty

WEIGHTS = "weights"
ALL = [[0, 0], [1, 1], [2, 3]]
START = [[0, 0]]
NOTHING = "NOTHING WAS MEASURED in this run: "

# By kind: what is measured in spite of it where it is on rank 0, and on rank 1; what rank 0 says.
KINDS: dict[str, tuple[Any, Any, str]] = {
    "solver, TypeError": ([], [], "the entropies could not be computed: on rank {}: TypeError: ill on purpose"),
    "solver, MemoryError": ([], [], "the entropies could not be computed: on rank {}: MemoryError: ill on purpose"),
    "solver, Warning": ([], [], "the entropies could not be computed: on rank {}: UserWarning: ill on purpose"),
    "reduction": ([], [], "the measurement after epoch 0 failed .* on rank {}: ZeroDivisionError"),
    "redundancy": ([], [], "the measurement after epoch 0 failed .* on rank {}: MemoryError"),
    "forward": ([], [], "the measurement after epoch 0 failed .* on rank {}: NotImplementedError"),
    "chains": (ALL, ALL, "looking for Markov chains among the layers failed .* on rank {}: IndexError"),
    "one layer more": (ALL, ALL, "2 layers are left out: not called by all processes, .*: extra, conv1.call2"),
    "a layer of another shape": (ALL, ALL, "layer 'side' is left out: not called by all processes"),
    "transfer of the probe": ([], [], "making ready to measure failed .* on rank {}: AttributeError"),
    "data set": ([], ALL, "making ready to measure failed .* on rank {}: OSError"),
    "schedule": (START, START, "the schedule failed .* on rank {}: KeyError"),
    "schedule of steps": (START, START, "the schedule failed .* on rank {}: KeyError"),
    "error signals": (ALL, ALL, "measurement of error signals after epoch 0 failed .* on rank {}: AssertionError"),
    "columns": ([], [], "the measurement after epoch 0 failed .* on rank {}: MemoryError"),
    "table": (ALL, ALL, "writing failed and training goes on. MemoryError"),
    "logger": (ALL, ALL, "logging failed and training goes on. ConnectionError"),
    "logger without a folder": (ALL, ALL, "writing failed and training goes on. PermissionError"),
    "picture": (ALL, ALL, "writing failed and training goes on. MemoryError"),
    "progress": (ALL, ALL, ""),
}
# What only rank 0 does, and what costs nothing: there is nothing to tell.
SILENT_ON_RANK_1 = {"data set", "table", "logger", "logger without a folder", "picture", "progress"}


@pytest.fixture(scope="module")
def reports(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of all runs: to start two processes takes longer than to train."""
    folder = tmp_path_factory.mktemp("faults")
    in_processes(SCRIPT, str(folder), ";".join(KINDS), seconds=SECONDS)
    return folder


@pytest.mark.parametrize("ill", [0, 1], ids=["on rank 0", "on rank 1"])
@pytest.mark.parametrize("kind", list(KINDS))
def test_a_failure_on_one_rank_ends_the_measurement_on_all_and_no_run(reports: Path, kind: str, ill: int) -> None:
    folder = reports / f"{list(KINDS).index(kind)}-{ill}"
    first, second = (json.loads((folder / f"rank{rank}.json").read_text()) for rank in (0, 1))
    for report in (first, second):
        assert report["finished"]
        assert report["epochs"] == 2
    assert first["moments"] == second["moments"] == KINDS[kind][ill]
    assert first["places"] == second["places"]
    assert first[WEIGHTS] == second[WEIGHTS]
    assert second["told"] == []


@pytest.mark.parametrize("ill", [0, 1], ids=["on rank 0", "on rank 1"])
@pytest.mark.parametrize("kind", list(KINDS))
def test_it_is_told_once_with_its_remedy(reports: Path, kind: str, ill: int) -> None:
    told = json.loads((reports / f"{list(KINDS).index(kind)}-{ill}" / "rank0.json").read_text())["told"]
    *_, sentence = KINDS[kind]
    if not sentence or (ill == 1 and kind in SILENT_ON_RANK_1):
        assert told == []
        return
    said = [one for one in told if re.search(sentence.format(ill), one)]
    assert len(said) == 1
    if "failed" in said[0]:
        assert said[0].endswith("(raise_on_error=True ends the run instead.)")
    assert (NOTHING in told[-1]) is (KINDS[kind][ill] == [])
