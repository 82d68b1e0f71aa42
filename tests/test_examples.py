"""The first run, as a stranger types it."""

import math
import re
import subprocess
import sys
from pathlib import Path

import pytest
from networks import events

from lightning_infoplane import History

EXAMPLES = Path(__file__).parents[1] / "examples"
LAYERS = ("conv1", "conv2", "conv3")
LOGGED = ("I_XT", "I_TY", "H_T")
IN_THE_TABLE = ("I_XT_chance", "I_TY_chance", "bandwidth")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """Two epochs: the run's directory and what was printed."""
    root = tmp_path_factory.mktemp("digits")
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / "digits_cnn.py"), "--epochs", "2", "--root", str(root)],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return root, done.stdout


def table_of(root: Path) -> History:
    return History.load(root / "lightning_logs" / "version_0" / "infoplane.csv")


def test_event_files_hold_every_main_key_at_step_0_and_at_every_epoch(run: tuple[Path, str]) -> None:
    root, _ = run
    scalars = events(root / "lightning_logs" / "version_0")
    keys = {f"{quantity}/{layer}" for quantity in LOGGED for layer in LAYERS}
    gaps = {f"{gap}/{pair}" for gap in ("DPI_XT", "DPI_TY") for pair in ("conv1-to-conv2", "conv2-to-conv3")}
    for key in keys | gaps | {"H_X", "H_Y"}:
        assert [step for step, _ in scalars[key]] == [0, 17, 35], key
    assert not [key for key in scalars if key.partition("/")[0] in IN_THE_TABLE]


def test_the_table_holds_what_is_not_logged_too(run: tuple[Path, str]) -> None:
    root, _ = run
    rows = table_of(root)
    for quantity in LOGGED + IN_THE_TABLE:
        for layer in LAYERS:
            steps = [row.step for row in rows if (row.place, row.quantity) == (layer, quantity)]
            assert steps == [0, 17, 35], (layer, quantity)


def test_no_layer_is_saturated_or_collapsed(run: tuple[Path, str]) -> None:
    root, _ = run
    shares = [row.value / math.log2(512) for row in table_of(root) if row.quantity == "H_T"]
    assert len(shares) == 9
    assert min(shares) > 0.05
    assert max(shares) < 0.95


def test_it_ends_with_a_table_and_the_line_to_type(run: tuple[Path, str]) -> None:
    root, printed = run
    assert f"tensorboard --logdir {root}" in printed
    for layer in LAYERS:
        assert re.search(rf"^{layer} +[\d.]+ → [\d.]+ +[\d.-]+ → [\d.-]+ +[\d.]+ → [\d.]+$", printed, re.MULTILINE)
    assert (root / "lightning_logs" / "version_0" / "plane.png").exists()


def run_example(name: str, *arguments: str) -> str:
    """What an example prints in its small form."""
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / name), *arguments], capture_output=True, text=True, timeout=240
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_vgg_prints_its_chain_and_how_the_inequalities_fared(tmp_path: Path) -> None:
    printed = run_example("vgg_errors.py", "--epochs", "2", "--root", str(tmp_path))
    assert "chains found: features.0 → features.3, features.3 → features.7" in printed
    assert re.search(r"violations beyond two standard errors: \d forward, \d backward", printed)


def test_checkpoints_give_the_numbers_of_the_loop_that_wrote_them(tmp_path: Path) -> None:
    printed = run_example("plain_loop.py", "--epochs", "2", "--root", str(tmp_path))
    assert "the checkpoints give the same numbers" in printed
    assert {row.epoch for row in History.load(tmp_path / "infoplane.csv")} == {0, 1, 2}


def test_the_papers_study_in_its_quick_form(tmp_path: Path) -> None:
    pytest.importorskip("mlxtend")
    run_example("paper_study.py", "--quick", "--out", str(tmp_path))
    assert "| paper | **all** |" in (tmp_path / "paper_study.md").read_text(encoding="utf-8")
    assert len(list(tmp_path.glob("paper_*.png"))) == 5
