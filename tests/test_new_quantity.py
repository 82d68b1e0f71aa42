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

# Collision entropy, α = 2 whatever the order of the others: a function of the layer. And what layer and target share
# beyond chance, in bits: a formula of numbers of Gram matrices, with its error, its p-value and its gaps.
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
EXCESS = Quantity(
    key="E_TY",
    symbol="E(T;Y)",
    unit="bits",
    name="information about the target beyond chance",
    meaning="What the layer tells of the target that noise does not.",
    of=Of.LAYER,
    formula=Excess(TY),
    independence=Independence("T", "Y"),
    stderr=True,
    panels=(Panel.DEPTH, Panel.TABLE),
)
EXCESS_LOST = Quantity(
    key="DPI_E_TY",
    symbol="E(T₁;Y) − E(T₂;Y)",
    unit="bits",
    name="information about the target beyond chance lost",
    meaning="What the second layer has less of it.",
    of=Of.PAIR,
    formula=Gap(EXCESS),
    stderr=True,
    panels=(Panel.GAPS,),
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
measured = callback(outputs=outputs, probe=64)
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
value = {(row.epoch, str(row.place), row.quantity): row.value for row in measured.history}
keys = {"E_TY", "E_TY_p", "E_TY_stderr", "DPI_E_TY", "DPI_E_TY_p", "DPI_E_TY_stderr"}
assert keys <= {row.quantity for row in measured.history}
for epoch, layer in ((0, "conv1"), (1, "conv2")):
    beyond = value[epoch, layer, "I_TY"] - value[epoch, layer, "I_TY_chance"]
    assert abs(value[epoch, layer, "E_TY"] - beyond) < 1e-9
    assert value[epoch, layer, "E_TY_p"] == value[epoch, layer, "AMI_TY_p"]
lost = value[1, "conv1", "E_TY"] - value[1, "conv2", "E_TY"]
assert abs(value[1, "conv1-to-conv2", "DPI_E_TY"] - lost) < 1e-9
assert done.callback_metrics["DPI_E_TY/conv1-to-conv2"].item() == value[1, "conv1-to-conv2", "DPI_E_TY"]
assert "| E(T;Y) |" in card(measured.history)
error = value[1, "conv1", "E_TY_stderr"]
assert f"{value[1, 'conv1', 'E_TY']:.3f} ± {error:.3f}" in page
titles = [picture.title for picture in pictures(measured.history)]
assert "E(T;Y) along the layers" in titles
assert "Information about the target beyond chance lost from layer to layer" in titles
assert "`E_TY`" in tables.readme_table().split("`…_p/…`")[1]
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
    more = "*(I_XT, I_TY, H_T, COLLISION, EXCESS, EXCESS_LOST,"
    table.write_text(text.replace("*(I_XT, I_TY, H_T,", more), encoding="utf-8")
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
