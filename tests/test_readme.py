"""The README's Python blocks run as they stand, one after the other, and its tables are complete."""

import inspect
import re
from pathlib import Path

import lightning as L
import pytest
import torch
from networks import QUIET, TinyCNN, images, loader

from lightning_infoplane import MatrixRenyiCallback

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


@pytest.mark.parametrize("argument", list(inspect.signature(MatrixRenyiCallback).parameters))
def test_every_argument_is_in_the_table(argument: str) -> None:
    rows = [line for line in README.splitlines() if line.startswith("| `")]
    assert any(f"`{argument}`" in row.split(" | ")[0] + " |" for row in rows)
