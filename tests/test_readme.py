"""The README's Python blocks run as they stand, one after the other, and its tables are complete."""

import inspect
import re
from pathlib import Path

import lightning as L
import pytest
import torch
from networks import QUIET, TinyCNN, images, loader
from tables import CALLBACK, with_docstring_list, with_readme_table

from lightning_infoplane import Estimator, MatrixRenyiCallback

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
BLOCKS = [block for block in re.findall(r"```python\n(.*?)```", README, re.DOTALL) if ">>>" not in block]


def test_the_code_runs_as_it_stands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    data, quiet = images(512), {**QUIET, "default_root_dir": tmp_path}
    pixels, labels = data.tensors

    class QuietTrainer(L.Trainer):
        def __init__(self, **options: object) -> None:
            super().__init__(**{**quiet, **options})

    names = {
        "L": type("L", (), {"Trainer": QuietTrainer}),
        "torch": torch,
        "model": TinyCNN(),
        "network": TinyCNN(),
        "images": pixels,
        "labels": labels,
        "train_loader": loader(data, 64),
        "val_loader": loader(data, 64),
    }
    assert len(BLOCKS) >= 3
    for block in BLOCKS:
        exec(compile(block, "README.md", "exec"), names)
    assert (tmp_path / "infoplane.csv").exists()


@pytest.mark.parametrize("kind", [MatrixRenyiCallback, Estimator], ids=lambda kind: kind.__name__)
def test_every_argument_is_in_a_table(kind: type) -> None:
    rows = [line.split(" | ")[0] + " |" for line in README.splitlines() if line.startswith("| `")]
    assert [name for name in inspect.signature(kind).parameters if not any(f"`{name}`" in row for row in rows)] == []


def test_the_table_of_quantities_is_that_of_the_code() -> None:
    """If this fails: ``make tables`` writes it anew."""
    assert with_readme_table(README) == README


def test_the_list_of_quantities_in_the_docstring_is_that_of_the_code() -> None:
    """If this fails: ``make tables`` writes it anew."""
    source = CALLBACK.read_text(encoding="utf-8")
    assert with_docstring_list(source) == source


def test_the_tables_are_looked_for_where_they_are() -> None:
    assert with_readme_table(README.replace("| `I_XT/{layer}`", "| `I_XY/{layer}`")) == README
    source = CALLBACK.read_text(encoding="utf-8")
    assert with_docstring_list(source.replace("- ``I_XT/{layer}``", "- ``I_XY/{layer}``")) == source
