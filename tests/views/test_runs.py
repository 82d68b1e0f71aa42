"""A finished run, read back from its table or from TensorBoard's event files, facts included."""

import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from histories import history
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from networks import TinyCNN, callback, drawing, fit, images, said
from torch import Tensor, nn
from torch.utils.tensorboard import SummaryWriter

from lightning_infoplane import Draw, Estimator, History, Outputs, Row
from lightning_infoplane.measurement.history import Facts
from lightning_infoplane.measurement.quantities import by_key
from lightning_infoplane.measurement.quantity import Logged
from lightning_infoplane.measurement.rows import Pair
from lightning_infoplane.measurement.settings import as_data
from lightning_infoplane.measurement.verdicts import Verdict, judge, judge_gaps
from lightning_infoplane.views.page import html_report
from lightning_infoplane.views.runs import FACTS_TAG, read_run
from lightning_infoplane.views.series import last_rows

LAYERS = ["conv1", "conv2"]
FACTS = Facts("0.0.9", as_data(Estimator(alpha=2)), {"": 512}, ("conv1 → conv2",))


class Dead(TinyCNN):
    """Its second layer puts out nothing."""

    def __init__(self) -> None:
        super().__init__()
        for parameter in self.conv2.parameters():
            nn.init.zeros_(parameter)
            parameter.requires_grad_(False)


def write(folder: Path, name: str = "infoplane.csv", rows: Sequence[Row] | None = None) -> Path:
    """A run that left its table."""
    History(history(LAYERS, errors=False) if rows is None else rows, FACTS).save(folder / name)
    return folder / name


def trained(root: Path, *measured: Any, **options: Any) -> Path:
    """The folder of a run of which only the event files are left."""
    done = fit(root, *measured, logger=TensorBoardLogger(root), **options)
    for table in Path(done.log_dir).glob("infoplane*.csv"):
        table.unlink()
    return Path(done.log_dir)


def by_place(rows: Sequence[Row]) -> dict[tuple[object, ...], float]:
    return {row[:5]: row.value for row in rows}


# ------------------------------------------------------------------------------------------------------------ tables


def test_a_table_is_read_back_with_rows_and_facts(tmp_path: Path) -> None:
    run = read_run(write(tmp_path / "runs" / "a").parent)
    assert run.rows == history(LAYERS, errors=False)
    assert run.rows.facts == FACTS
    assert run.source == tmp_path / "runs" / "a" / "infoplane.csv"
    assert run.folder == tmp_path / "runs" / "a"
    assert run.hparams == ""


def test_a_table_may_be_named_itself(tmp_path: Path) -> None:
    write(tmp_path, "infoplane.csv")
    other = write(tmp_path, "mine.csv", history(["conv9"], errors=False))
    assert {row.place for row in read_run(other).rows if row.quantity == "I_XT"} == {"conv9"}


def test_the_newest_table_counts_and_a_name_is_known(tmp_path: Path) -> None:
    old, new = write(tmp_path / "old"), write(tmp_path / "new" / "deep", "infoplane-wide.csv")
    os.utime(old, (0, 0))
    run = read_run(tmp_path)
    assert run.source == new
    assert run.name.endswith("new/deep (wide)")
    os.utime(new, (0, 0))
    os.utime(old, (time.time(), time.time()))
    assert read_run(tmp_path).source == old


def test_a_table_counts_more_than_newer_event_files(tmp_path: Path) -> None:
    table = write(tmp_path)
    with SummaryWriter(str(tmp_path)) as writer:
        writer.add_scalar("I_XT/conv9", 1.0, 0)
    assert read_run(tmp_path).source == table


@pytest.mark.parametrize(("content", "known"), [("lr: 0.1\nwidth: 3\n", "lr: 0.1\nwidth: 3"), ("{}\n", "")])
def test_hyperparameters_beside_the_rows_are_read(tmp_path: Path, content: str, known: str) -> None:
    write(tmp_path)
    (tmp_path / "hparams.yaml").write_text(content)
    assert read_run(tmp_path).hparams == known


def test_the_table_of_a_real_run_is_the_callback_s_history(tmp_path: Path) -> None:
    measured = callback(error_signals=True)
    fit(tmp_path, measured, logger=CSVLogger(tmp_path))
    rows = read_run(tmp_path).rows
    assert rows == measured.history
    assert rows.facts == measured.history.facts
    assert rows.facts.n == {"": 32}
    assert rows.facts.estimator == as_data(Estimator())
    assert rows.facts.chain == ("conv1 → conv2",)


def test_a_path_without_a_run_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"^[^\n]*nowhere does not exist\.$"):
        read_run(tmp_path / "nowhere")
    with pytest.raises(ValueError, match=r"^[^\n]* holds neither infoplane\.csv nor TensorBoard event files, at any"):
        read_run(tmp_path)
    write(tmp_path, rows=[Row(0, 0, "", "", "H_X", 1.0)])
    with pytest.raises(ValueError, match=r"^[^\n]*infoplane\.csv holds no measurement yet\.$"):
        read_run(tmp_path)


# ----------------------------------------------------------------------------------------------- TensorBoard's files


def test_event_files_are_read_where_there_is_no_table(tmp_path: Path) -> None:
    measured = callback(**drawing())
    folder = trained(tmp_path, measured, max_epochs=3)
    run = read_run(tmp_path)
    known, found = by_place(measured.history), by_place(run.rows)
    assert found.keys() == known.keys()
    assert all(found[key] == pytest.approx(known[key], rel=1e-6) for key in known)
    assert run.folder == folder
    assert run.rows.facts == measured.history.facts


def test_a_run_that_logs_the_main_quantities_is_read_back_with_its_facts_and_so_has_verdicts(tmp_path: Path) -> None:
    measured = callback(outputs=Outputs(figures=False))
    with pytest.warns(UserWarning, match="layer 'conv2': collapsed"):
        trained(tmp_path, measured, model=Dead)
    run = read_run(tmp_path)
    main = [row for row in measured.history if by_key(row.quantity).logged is Logged.MAIN]
    limits = [row for row in measured.history if row.quantity == "log2_n"]
    known, found = by_place([*main, *limits]), by_place(run.rows)
    assert found.keys() == known.keys()
    assert all(found[key] == pytest.approx(known[key], rel=1e-6, abs=1e-6) for key in known)
    assert run.rows.facts == measured.history.facts
    assert run.rows.facts.n == {"": 32}
    assert run.rows.facts.estimator == as_data(Estimator())
    verdicts = {layer: told.verdict for layer, told in judge(last_rows(run.rows, "")).items()}
    assert verdicts == {layer: told.verdict for layer, told in judge(last_rows(measured.history, "")).items()}
    assert verdicts["conv2"] is Verdict.COLLAPSED
    text = html_report(run)
    assert "<td>collapsed</td>" in text
    assert "A fixed probe of 32 samples" in text
    assert "alpha=1.01, bandwidth=MedianDistance(" in text


def test_both_probes_have_their_sizes_from_the_facts(tmp_path: Path) -> None:
    measured = callback(probe=Draw(24, ("train", "val")), outputs=Outputs(figures=False))
    trained(tmp_path, measured)
    run = read_run(tmp_path)
    assert run.rows.facts.n == {"train": 24, "val": 24}
    for probe in ("train", "val"):
        assert set(judge(last_rows(run.rows, probe), probe)) == set(LAYERS)
    assert [row for row in run.rows if not row.probe] == []


def test_prefixes_probes_and_sub_runs_are_told_apart(tmp_path: Path) -> None:
    outputs = Outputs(figures=False, log="all", tensorboard_subruns=True)
    measured = callback(probe=Draw(32, ("train", "val")), log_prefix="mine/", outputs=outputs)
    folder = trained(tmp_path, measured)
    assert len(list(folder.rglob("*tfevents*"))) > 2
    rows = read_run(tmp_path).rows
    assert {(row.probe, row.quantity) for row in rows if row.place == "conv1"} >= {("train", "I_XT"), ("val", "I_XT")}
    assert {row.place for row in rows if (row.probe, row.quantity) == ("train", "I_XT")} == {
        row.place for row in measured.history if (row.probe, row.quantity) == ("train", "I_XT")
    }
    assert by_place(rows).keys() == by_place(measured.history).keys()


@pytest.mark.parametrize(
    "options",
    [
        {"log_prefix": "mine"},
        {"log_prefix": "my run: "},
        {"name": "my run"},
        {"name": "a/b"},
        {"name": "x/../../y"},
        {"name": 400 * "x"},
        {"name": "a\nb\0c"},
        {"name": "σ", "log_prefix": "other/"},
    ],
    ids=range(8),
)
def test_whatever_a_run_is_called_it_is_read_back_and_stays_in_its_folder(
    tmp_path: Path, options: dict[str, Any]
) -> None:
    measured = callback(outputs=Outputs(figures=True, log="all"), **options)
    done = fit(tmp_path / "logs", measured, logger=[TensorBoardLogger(tmp_path / "logs"), CSVLogger(tmp_path / "logs")])
    assert [path.name for path in tmp_path.iterdir()] == ["logs"]
    found = list((tmp_path / "logs").rglob("infoplane*"))
    assert {path.parent for path in found} == {Path(done.log_dir)}
    (table,) = [path for path in found if path.suffix == ".csv"]
    assert read_run(tmp_path).rows == measured.history
    assert len([path for path in found if path.suffix == ".png"]) == 2
    table.unlink()
    run = read_run(tmp_path)
    assert by_place(run.rows).keys() == by_place(measured.history).keys()
    assert run.rows.facts == measured.history.facts


def test_layers_with_names_that_look_alike_have_curves_and_runs_of_their_own(tmp_path: Path) -> None:
    class Alike(TinyCNN):
        def __init__(self) -> None:
            super().__init__()
            for name in ("a:b", "a b", "a_b", "/", "x\n"):
                self.add_module(name, nn.Conv2d(1, 2, 3))

        def forward(self, x: Tensor) -> Tensor:
            seen = [
                module(x).mean() for name, module in self.named_children() if name not in ("conv1", "conv2", "head")
            ]
            return super().forward(x) + 0 * sum(seen)

    measured = callback(layers="conv", outputs=Outputs(figures=False, tensorboard_subruns=True))
    folder = trained(tmp_path, measured, model=Alike)
    known = {(row.place, row.step): row.value for row in measured.history if row.quantity == "H_T"}
    assert len({place for place, _ in known}) == 7
    found = [row for row in read_run(tmp_path).rows if row.quantity == "H_T"]
    assert sorted(row.value for row in found) == pytest.approx(sorted(known.values()), rel=1e-6)
    assert len([path for path in folder.iterdir() if path.is_dir() and path.name != "checkpoints"]) == 7


def test_of_several_callbacks_rows_and_facts_are_of_the_same_one(tmp_path: Path) -> None:
    """Of the one that wrote most; another's number of samples would make other verdicts."""
    small = callback(name="small", layers="conv1", probe=16, **{"estimator": Estimator(alpha=2)})
    large = callback(name="wide", layers="conv", probe=48)
    trained(tmp_path, small, large)
    rows = read_run(tmp_path).rows
    assert by_place(rows).keys() == by_place(large.history).keys()
    assert rows.facts == large.history.facts
    assert {row.value for row in rows if row.quantity == "log2_n"} == {
        row.value for row in large.history if row.quantity == "log2_n"
    }


def test_event_files_without_facts_have_no_limits_and_no_verdicts(tmp_path: Path) -> None:
    with SummaryWriter(str(tmp_path)) as writer:
        for step in range(2):
            writer.add_scalar("I_XT/conv1", 1.0, step)
            writer.add_scalar("H_T/conv1", 2.0, step)
            writer.add_scalar("DPI_XT/conv1-to-conv2", 0.5, step)
    rows = read_run(tmp_path).rows
    assert {row.quantity for row in rows} == {"I_XT", "H_T", "DPI_XT"}
    assert {row.place for row in rows} == {"conv1", Pair("conv1", "conv2")}
    assert rows.facts == Facts(version="")
    assert judge(rows) == {}


def test_facts_are_read_from_where_the_callback_writes_them(tmp_path: Path) -> None:
    with SummaryWriter(str(tmp_path)) as writer:
        writer.add_scalar("I_XT/conv1", 1.0, 0)
        writer.add_text(f"infoplane/{FACTS_TAG}", f"    {FACTS.to_json()}", 0)
    rows = read_run(tmp_path).rows
    assert rows.facts == FACTS
    assert [row for row in rows if row.quantity == "log2_n"] == [Row(0, 0, "", "", "log2_n", 9.0)]


def test_facts_that_are_broken_are_one_line(tmp_path: Path) -> None:
    with SummaryWriter(str(tmp_path)) as writer:
        writer.add_scalar("I_XT/conv1", 1.0, 0)
        writer.add_text(f"infoplane/{FACTS_TAG}", "    {n: 5", 0)
    with pytest.raises(ValueError, match=r"^expected version, estimator, n and chain as JSON, got '\{n: 5'\.$"):
        read_run(tmp_path)


def test_a_resumed_run_has_the_facts_that_were_logged_last(tmp_path: Path) -> None:
    with SummaryWriter(str(tmp_path)) as writer:
        writer.add_scalar("I_XT/conv1", 1.0, 0)
        for step, version in enumerate(("0.0.1", "0.0.2")):
            facts = Facts(version, FACTS.estimator, {"": 64}, ())
            writer.add_text(f"infoplane/{FACTS_TAG}", f"    {facts.to_json()}", step)
    assert read_run(tmp_path).rows.facts.version == "0.0.2"


def test_the_newest_event_files_with_layers_in_them_count(tmp_path: Path) -> None:
    for number, (name, tag) in enumerate([("old", "I_XT/conv1"), ("new", "I_XT/conv2"), ("other", "loss")]):
        with SummaryWriter(str(tmp_path / name)) as writer:
            writer.add_scalar(tag, 1.0, 0)
        (file,) = (tmp_path / name).iterdir()
        os.utime(file, (number, number))
    run = read_run(tmp_path)
    assert {row.place for row in run.rows} == {"conv2"}
    assert run.folder == tmp_path / "new"


def test_epochs_are_counted_as_finished_ones(tmp_path: Path) -> None:
    """Lightning logs its own count, from 0, at the end of an epoch."""
    measured = callback()
    trained(tmp_path, measured, max_epochs=3)
    assert sorted({(row.epoch, row.step) for row in read_run(tmp_path).rows}) == [(0, 0), (1, 3), (2, 7), (3, 11)]


def test_what_the_verdicts_rest_on_is_read_back_from_a_run_that_logs_everything(tmp_path: Path) -> None:
    """P-values and what a layer shares with itself, of noise too: at chance is a verdict of the event files as well."""

    class Noisy(TinyCNN):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(torch.randn(x.shape) + 0 * x)

    measured = callback(probe=images(64).tensors, dpi_pairs="consecutive")
    with said() as messages:
        trained(tmp_path, measured, model=Noisy)
    assert [message.split(". ")[0] for message in messages] == ["2 layers: at chance"]
    judged = judge(last_rows(read_run(tmp_path).rows, ""))
    assert {layer: told.word for layer, told in judged.items()} == {
        layer: told.word for layer, told in judge(last_rows(measured.history, "")).items()
    }
    assert {told.word for told in judged.values()} == {"at chance"}
    assert judge_gaps(last_rows(read_run(tmp_path).rows, "")) == judge_gaps(last_rows(measured.history, ""))


def test_event_files_without_us(tmp_path: Path) -> None:
    with SummaryWriter(str(tmp_path)) as writer:
        writer.add_scalar("loss", 1.0, 0)
    with pytest.raises(ValueError, match="hold no I_XT/…: no MatrixRenyiCallback wrote there"):
        read_run(tmp_path)


def test_a_cut_event_file_gives_what_is_whole(tmp_path: Path) -> None:
    folder = trained(tmp_path, callback(**drawing()))
    whole = by_place(read_run(tmp_path).rows)
    (events,) = folder.glob("*tfevents*")
    events.write_bytes(events.read_bytes()[:-100])
    rows = by_place(read_run(tmp_path).rows)
    assert rows
    assert rows.items() <= whole.items()
