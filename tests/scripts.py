"""Examples, run in the test's own process: their warnings are errors like all others, and torch is loaded already."""

import contextlib
import io
import logging
import runpy
import sys
from pathlib import Path

import pytest
from lightning_utilities.core import rank_zero

from lightning_infoplane import History

EXAMPLES = Path(__file__).parents[1] / "examples"


class Lines(logging.Handler):
    """Keeps what Lightning shows in the terminal."""

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())


def run_here(name: str, *arguments: str) -> tuple[str, list[str]]:
    """What an example prints, and what is logged."""
    printed, kept = io.StringIO(), Lines()
    rank_zero.log.addHandler(kept)
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(printed):
        patch.setattr(sys, "argv", [name, *arguments])
        patch.setenv("PL_GLOBAL_SEED", "0")  # seed_everything sets it for good
        patch.syspath_prepend(str(EXAMPLES))
        runpy.run_path(str(EXAMPLES / name), run_name="__main__")
    rank_zero.log.removeHandler(kept)
    return printed.getvalue(), kept.lines


def values_of(table: Path) -> dict[tuple[int, str, str], tuple[float, float]]:
    """Values and standard errors by epoch, layer and quantity."""
    value = {(row.epoch, str(row.place), row.quantity): row.value for row in History.load(table)}
    return {
        (epoch, layer, key): (value[epoch, layer, key], value[epoch, layer, f"{key}_stderr"])
        for epoch, layer, key in value
        if key in ("AMI_XT", "AMI_TY")
    }


def said(known: tuple[float, float], other: tuple[float, float]) -> str:
    """The sentence on a change, from the rows alone."""
    (before, error), (after, its_error) = known, other
    decided = (after - before) ** 2 > 4 * (error**2 + its_error**2)
    word = ("rises" if after > before else "falls") if decided else "goes"
    end = "" if decided else ", which is undecided"
    return f"{word} from {before:.3f} ± {error:.3f} to {after:.3f} ± {its_error:.3f}{end}"
