"""The promise of the one table: a new quantity is an entry in it, and is everywhere. Tried on a copy of the package."""

import csv
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import lightning_infoplane

PACKAGE = Path(lightning_infoplane.__file__).parent
TABLE = "measurement/quantities.py"

# Collision entropy: α = 2, whatever the order of the others.
ENTRY = """
COLLISION = Quantity(
    key="H2_T",
    symbol="H₂(T)",
    unit="bits",
    name="collision entropy",
    meaning="How rarely two samples look alike to the layer.",
    of=Of.LAYER,
    formula=lambda layer: -layer.gram.double().square().sum().log2(),
    panels=(Panel.CURVES, Panel.TABLE),
    live=(Panel.CURVES,),
)

"""

USE = """
import sys
import torch
from pathlib import Path
from lightning.pytorch.loggers import TensorBoardLogger
from networks import callback, events, fit
from lightning_infoplane import InformationPlane, Outputs, feature_map_gram, renyi_entropy
from lightning_infoplane.__main__ import main
from lightning_infoplane.views.card import card
from lightning_infoplane.views.panels import pictures
from lightning_infoplane.views.runs import read_run
import tables

torch.set_num_threads(1)
root = Path(sys.argv[1])
outputs = Outputs(figures=True, tensorboard_layout=True)
measured = callback(outputs=outputs)
done = fit(root, measured, logger=TensorBoardLogger(root), max_epochs=1)
folder = Path(done.log_dir)

rows = [row for row in measured.history if row.quantity == "H2_T"]
assert [(row.epoch, row.place) for row in rows] == [(0, "conv1"), (0, "conv2"), (1, "conv1"), (1, "conv2")]
assert done.callback_metrics["H2_T/conv1"].item() == rows[2].value
(written,) = (path.read_bytes() for path in folder.glob("*tfevents*"))
assert "collision entropy, H₂(T) (bits)" in written.decode("utf-8", "ignore")  # a chart of the layout
assert set(events(folder)) >= {"H2_T/conv1", "H2_T/conv2"}
assert "| H₂(T) |" in card(measured.history)
assert "H₂(T) while training" in [picture.title for picture in pictures(measured.history)]
assert "`H2_T/{layer}`" in tables.readme_table()
assert "``H2_T/{layer}``" in tables.docstring_list()
assert main(["report", str(folder)]) == 0
page = (folder / "infoplane-report.html").read_text(encoding="utf-8")
assert "H₂(T), collision entropy" in page and "How rarely two samples look alike" in page
(folder / "infoplane.csv").rename(folder / "set-aside.txt")
again = {(row.epoch, row.place): row.value for row in read_run(folder).rows if row.quantity == "H2_T"}
assert again.keys() == {(row.epoch, row.place) for row in rows}
assert all(abs(again[row.epoch, row.place] - row.value) < 1e-6 for row in rows)
expected = renyi_entropy(feature_map_gram(torch.arange(6.0).reshape(3, 2)), alpha=2)
found = InformationPlane().measure(torch.eye(3), None, {"two maps": torch.arange(6.0).reshape(3, 2, 1)})
assert abs(next(row.value for row in found if row.quantity == "H2_T") - float(expected)) < 1e-6
"""


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """The package with one entry more."""
    shutil.copytree(PACKAGE, tmp_path / "copy" / "lightning_infoplane", ignore=shutil.ignore_patterns("__pycache__"))
    table = tmp_path / "copy" / "lightning_infoplane" / TABLE
    text = table.read_text(encoding="utf-8")
    before_the_order = "# The order of logged keys"
    assert text.count(before_the_order) == text.count("*(I_XT, I_TY, H_T,") == 1
    text = text.replace(before_the_order, ENTRY.lstrip() + before_the_order)
    table.write_text(text.replace("*(I_XT, I_TY, H_T,", "*(I_XT, I_TY, H_T, COLLISION,"), encoding="utf-8")
    return tmp_path / "copy"


def test_a_quantity_that_is_an_entry_in_the_table_is_everywhere(copy: Path, tmp_path: Path) -> None:
    paths = [str(copy), str(Path(__file__).parent)]
    done = subprocess.run(
        [sys.executable, "-c", USE, str(tmp_path)],
        cwd=copy,  # which is looked for modules first
        env=os.environ | {"PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    (table,) = tmp_path.rglob("set-aside.txt")
    with table.open(encoding="utf-8", newline="") as file:
        file.readline()
        assert {row["quantity"] for row in csv.DictReader(file)} >= {"H2_T", "H_T"}
