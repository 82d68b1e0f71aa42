"""The ``infoplane`` command: what it writes, and that whatever it cannot read is one line and exit code 2."""

import json
import math
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from histories import history
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from networks import TinyCNN, callback, drawing, fit

from lightning_infoplane import Estimator, History, Outputs, Row
from lightning_infoplane.__main__ import main
from lightning_infoplane.measurement.history import Facts
from lightning_infoplane.measurement.settings import as_data
from lightning_infoplane.views.runs import read_run

LAYERS = ["conv1", "conv2"]


def write(folder: Path, name: str = "infoplane.csv", rows: list[Row] | None = None) -> Path:
    """A run that left its table."""
    facts = Facts("0.1.0", as_data(Estimator()), {"": 512}, ("conv1 → conv2",))
    History(history(LAYERS, errors=False) if rows is None else rows, facts).save(folder / name)
    return folder / name


def refused(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    """The one line on stderr."""
    assert main([str(argument) for argument in arguments]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.count("\n") == 1
    assert said.err.startswith("infoplane: ")
    assert "Traceback" not in said.err
    return said.err


# ---------------------------------------------------------------------------------------------------- what it writes


@pytest.mark.parametrize(
    ("form", "begins"), [("png", b"\x89PNG"), ("pdf", b"%PDF"), ("svg", b"<?xml"), ("html", b"<!DOC")]
)
def test_a_report_in_every_format(tmp_path: Path, capsys: pytest.CaptureFixture[str], form: str, begins: bytes) -> None:
    write(tmp_path / "run")
    assert main(["report", str(tmp_path), "--format", form]) == 0
    path = tmp_path / "run" / f"infoplane-report.{form}"
    assert path.read_bytes().startswith(begins)
    assert capsys.readouterr().out == f"{path}\n"


def test_a_report_where_one_says(tmp_path: Path) -> None:
    table = write(tmp_path / "run")
    assert main(["report", str(table), "--out", str(tmp_path / "r.html")]) == 0
    assert "conv2" in (tmp_path / "r.html").read_text()
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["infoplane.csv"]


def test_of_two_probes_each_has_a_page(tmp_path: Path) -> None:
    write(tmp_path, rows=[row for probe in ("train", "val") for row in history(LAYERS, probe=probe, errors=False)])
    assert main(["report", str(tmp_path), "--format", "png"]) == 0
    assert {path.name for path in tmp_path.glob("*.png")} == {
        "infoplane-report-train.png",
        "infoplane-report-val.png",
    }


def test_a_film(tmp_path: Path) -> None:
    write(tmp_path, rows=history(LAYERS, epochs=range(3)))
    assert main(["animate", str(tmp_path), "--out", str(tmp_path / "plane.gif"), "--fps", "5"]) == 0
    assert (tmp_path / "plane.gif").read_bytes().startswith(b"GIF8")


def test_a_run_from_before_there_was_adjusted_information(tmp_path: Path) -> None:
    """Its bits are drawn, told and filmed."""
    write(tmp_path / "old", rows=history(LAYERS, epochs=range(2), errors=False, adjusted=False))
    assert main(["report", str(tmp_path / "old")]) == 0
    assert "Information plane in bits" in (tmp_path / "old" / "infoplane-report.html").read_text(encoding="utf-8")
    assert main(["report", str(tmp_path / "old"), "--format", "png"]) == 0
    assert main(["animate", str(tmp_path / "old")]) == 0
    assert (tmp_path / "old" / "infoplane.gif").read_bytes().startswith(b"GIF8")


def test_two_runs_side_by_side(tmp_path: Path) -> None:
    write(tmp_path / "a")
    write(tmp_path / "b")
    out = tmp_path / "both.pdf"
    assert main(["compare", str(tmp_path / "a"), str(tmp_path / "b"), "--out", str(out)]) == 0
    assert out.read_bytes().startswith(b"%PDF")


def checkpoints_of_a_run(folder: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Arguments that measure two checkpoints of a run on 64 samples."""
    done = fit(folder, callback(), logger=CSVLogger(folder), max_epochs=2)
    for epoch in (1, 2):
        done.save_checkpoint(folder / f"{epoch}.ckpt")
    (folder / "mine_of_the_test.py").write_text(
        "from networks import TinyCNN, images\ndef probe():\n    return images(64).tensors\n"
    )
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.delitem(sys.modules, "mine_of_the_test", raising=False)
    return [
        *("--model", "mine_of_the_test:TinyCNN", "--data", "mine_of_the_test:probe", "--layers", "conv1", "conv2"),
        *("--checkpoints", str(folder / "1.ckpt"), str(folder / "2.ckpt")),
    ]


def test_checkpoints_are_measured_and_the_table_is_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = checkpoints_of_a_run(tmp_path, monkeypatch)
    out = tmp_path / "measured" / "infoplane.csv"
    assert main(["measure", *arguments, "--out", str(out), "--shuffles", "0"]) == 0
    rows = read_run(out.parent).rows
    assert {row.place for row in rows if row.quantity == "I_XT"} == {"conv1", "conv2"}
    assert not any(row.quantity.endswith("_chance") for row in rows)
    assert rows.facts.n == {"": 64}
    assert rows.facts.estimator == as_data(Estimator(shuffles=0))
    assert sys.path[0] != ""


def test_unasked_checkpoints_are_measured_as_the_callback_measures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the estimator's own defaults: adjusted information, and its errors."""
    out = tmp_path / "measured" / "infoplane.csv"
    assert main(["measure", *checkpoints_of_a_run(tmp_path, monkeypatch), "--out", str(out)]) == 0
    rows = read_run(out.parent).rows
    assert rows.facts.estimator == as_data(Estimator())
    for key in ("AMI_XT", "AMI_TY", "AMI_XT_stderr", "AMI_TY_p"):
        assert {row.place for row in rows if row.quantity == key} == {"conv1", "conv2"}
    assert main(["report", str(out.parent)]) == 0
    assert "From layer to layer, AMI(X;T) " in (out.parent / "infoplane-report.html").read_text(encoding="utf-8")


# ----------------------------------------------------------------------------------------------- TensorBoard's files


@pytest.mark.parametrize("log", ["main", "all"])
def test_event_files_are_reported_where_there_is_no_table(tmp_path: Path, log: str) -> None:
    done = fit(tmp_path, callback(**drawing(log=log)), logger=TensorBoardLogger(tmp_path), max_epochs=3)
    (Path(done.log_dir) / "infoplane.csv").unlink()
    assert main(["report", str(tmp_path)]) == 0
    text = (Path(done.log_dir) / "infoplane-report.html").read_text()
    assert "A fixed probe of 32 samples" in text
    assert "alpha=1.01, bandwidth=MedianDistance(" in text


def test_event_files_without_us(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from torch.utils.tensorboard import SummaryWriter

    with SummaryWriter(str(tmp_path)) as writer:
        writer.add_scalar("loss", 1.0, 0)
    assert "no MatrixRenyiCallback wrote there" in refused(capsys, "report", tmp_path)


@pytest.mark.parametrize("content", [b"", b"garbage" * 100, b"\x00" * 1000])
def test_broken_event_files(tmp_path: Path, capsys: pytest.CaptureFixture[str], content: bytes) -> None:
    (tmp_path / "events.out.tfevents.1.host").write_bytes(content)
    refused(capsys, "report", tmp_path)


@pytest.mark.parametrize(
    "curves",
    [
        {"epoch": [math.nan, math.inf]},
        {"epoch": [1e30, -5.0]},
        {"DPI_XT/-to-": [1.0], "DPI_XT/a-to-": [1.0], "I_XT/": [1.0], "I_XT": [1.0]},
        {"log2_n": [math.inf], "I_TY/conv1": [math.nan]},
        {"H_X/conv1": [2.0], "a/b/c/I_XT/<b>": [1.0], "val/train/I_XT/x": [1.0]},
        {"I_XT/conv1": [math.inf, 1.0]},
    ],
)
def test_odd_event_files_are_reported_or_refused_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], curves: dict[str, list[float]]
) -> None:
    from torch.utils.tensorboard import SummaryWriter

    with SummaryWriter(str(tmp_path)) as writer:
        for tag, values in ({"I_XT/conv1": [1.0, 2.0], "H_T/conv1": [3.0, 3.0]} | curves).items():
            for step, value in enumerate(values):
                writer.add_scalar(tag, value, step)
    said = main(["report", str(tmp_path)])
    assert said in (0, 2)
    assert capsys.readouterr().err.count("\n") == (said == 2)


@pytest.mark.parametrize("step", [-5, 2**62])
def test_event_files_of_a_step_that_is_none(tmp_path: Path, capsys: pytest.CaptureFixture[str], step: int) -> None:
    from torch.utils.tensorboard import SummaryWriter

    with SummaryWriter(str(tmp_path)) as writer:
        writer.add_scalar("I_XT/conv1", 1.0, step)
    assert "expected whole numbers" in refused(capsys, "report", tmp_path)


# ------------------------------------------------------------------------------------------ what it does not write over

COMMANDS = {
    "report.html": ("report", "RUN"),
    "report.png": ("report", "RUN", "--format", "png"),
    "report.pdf": ("report", "RUN", "--format", "pdf"),
    "plane.gif": ("animate", "RUN"),
    "both.svg": ("compare", "RUN", "RUN"),
}
every_command = pytest.mark.parametrize("name", COMMANDS)


def arguments_of(folder: Path, name: str) -> list[str]:
    write(folder / "run", rows=history(LAYERS, epochs=range(2), errors=False))
    return [str(folder / "run") if one == "RUN" else one for one in COMMANDS[name]]


@every_command
def test_it_overwrites_its_own_files_and_no_others(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    arguments = arguments_of(tmp_path, name)
    out = tmp_path / name
    for _ in range(2):
        assert main([*arguments, "--out", str(out)]) == 0
    capsys.readouterr()
    written = out.read_bytes()
    out.write_bytes(b"precious")
    assert "--force" in refused(capsys, *arguments, "--out", out)
    assert out.read_bytes() == b"precious"
    assert main([*arguments, "--out", str(out), "--force"]) == 0
    assert out.read_bytes()[:4] == written[:4]
    assert sorted(one.name for one in tmp_path.iterdir()) == sorted(["run", name])


@every_command
def test_it_follows_no_link(tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str) -> None:
    arguments = arguments_of(tmp_path, name)
    (tmp_path / "theirs").write_bytes(b"precious")
    (tmp_path / name).symlink_to(tmp_path / "theirs")
    for force in ([], ["--force"]):
        assert "is a symbolic link" in refused(capsys, *arguments, "--out", tmp_path / name, *force)
    assert (tmp_path / "theirs").read_bytes() == b"precious"


@every_command
@pytest.mark.parametrize("is_there", [True, False])
def test_a_checkpoint_is_no_place_for_a_report(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, is_there: bool
) -> None:
    arguments = arguments_of(tmp_path, name)
    if is_there:
        (tmp_path / "good.ckpt").write_bytes(b"PK weights")
    assert "good.ckpt" in refused(capsys, *arguments, "--out", tmp_path / "good.ckpt")
    assert (tmp_path / "good.ckpt").exists() == is_there


def test_a_file_of_somebody_else_in_the_run_s_folder_stays(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path)
    (tmp_path / "infoplane-report.html").write_text("<html>mine</html>")
    assert "--force" in refused(capsys, "report", tmp_path)
    assert (tmp_path / "infoplane-report.html").read_text() == "<html>mine</html>"


def test_measured_checkpoints_replace_no_file_of_somebody_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = checkpoints_of_a_run(tmp_path, monkeypatch)
    for out in (tmp_path / "1.ckpt", tmp_path / "mine_of_the_test.py"):
        before = out.read_bytes()
        assert "--force" in refused(capsys, "measure", *arguments, "--out", out)
        assert out.read_bytes() == before


@pytest.mark.parametrize(
    "loops",
    [3, None, [], "x", {}, {"fit_loop": 3}, {"fit_loop": {"epoch_progress": {"current": {"ready": "x"}}}}],
    ids=repr,
)
def test_a_checkpoint_with_odd_loops(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], loops: object
) -> None:
    arguments = checkpoints_of_a_run(tmp_path, monkeypatch)
    torch.save(torch.load(tmp_path / "1.ckpt", weights_only=True) | {"loops": loops}, tmp_path / "1.ckpt")
    says = refused(capsys, "measure", *arguments, "--out", tmp_path / "infoplane.csv")
    assert "1.ckpt is no checkpoint of TinyCNN: it does not say its epoch and step as Lightning does" in says


# ---------------------------------------------------------------------------------------------------- what is refused

COLUMNS = "epoch,step,probe,layer,to,quantity,value\n"
HEADER = f"# {Facts('0.1.0').to_json()}\n{COLUMNS}"


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "expected a line of facts, and a table with the columns epoch, step"),
        (b"epoch,loss\n1,2\n", "expected a line of facts, and a table"),
        (COLUMNS.encode(), "expected a line of facts, and a table"),
        (f"# {{}}\n{COLUMNS}".encode(), "line 1: expected version, estimator, n and chain as JSON, got '{}'"),
        (f"# {{\n{COLUMNS}".encode(), "line 1: expected version"),
        (HEADER.replace("layer,to", "to,layer").encode(), "expected a line of facts, and a table"),
        (HEADER.encode(), "holds no measurement yet"),
        (f"{HEADER}0,0,,conv1,,I_XT,many\n".encode(), "line 3"),
        (f"{HEADER}0,0,,,,H_X,1.0\n".encode(), "holds no measurement yet"),
        (b"\xff\xfe\x00\x01", "expected a line of facts, and a table"),
        (HEADER.encode() + b"0,0,,\x00,,I_XT,1.0\n0,0,a\n", "line 4"),
        (f"{HEADER}0,0,,{'x' * 200_000},,I_XT,1.0\n".encode(), "line 3"),
        (f"{HEADER}0,0,,conv1,,I_XT,1.0\n0,0,,{'x' * 200_000},,I_XT,1.0\n".encode(), "line 4"),
    ],
)
def test_broken_tables(tmp_path: Path, capsys: pytest.CaptureFixture[str], content: bytes, says: str) -> None:
    (tmp_path / "infoplane.csv").write_bytes(content)
    for command in ("report", "animate"):
        assert says in refused(capsys, command, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["infoplane.csv"]  # nothing half-written beside it


def test_a_field_too_long_to_read_is_not_blamed_on_the_line_before(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "infoplane.csv").write_text(f"{HEADER}0,0,,conv1,,I_XT,1.0\n0,0,,{'x' * 200_000},,I_XT,1.0\n")
    assert "conv1" not in refused(capsys, "report", tmp_path)


GOOD = "".join(
    f"{epoch},{17 * epoch},,{layer},,{key},{value}\n"
    for epoch in range(2)
    for layer, key, value in (
        *(("", "log2_n", 9.0), ("conv1", "H_T", 3.0), ("conv1", "I_XT", 1.5), ("conv1", "I_TY", 1.0)),
        *(("conv1", "AMI_XT", 0.5), ("conv1", "AMI_XT_p", 0.01), ("conv1", "AMI_TY", 0.25)),
    )
)


def facts(**changed: object) -> str:
    """A first line that says something else."""
    return f"# {json.dumps({'version': '1', 'estimator': {}, 'n': {'': 4}, 'chain': []} | changed)}\n{COLUMNS}"


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (f"{HEADER}{GOOD}{10**20},0,,conv1,,I_XT,1.0\n", "line 17: expected epoch"),
        (f"{HEADER}{GOOD}0,{'9' * 5000},,conv1,,I_XT,1.0\n", "line 17: expected epoch"),
        (f"{HEADER}{GOOD}-1,0,,conv1,,I_XT,1.0\n", "line 17: expected epoch"),
        (f"{HEADER}{GOOD}0,-1,,conv1,,I_XT,1.0\n", "line 17: expected epoch"),
        (f"{HEADER}{GOOD}1e3,0,,conv1,,I_XT,1.0\n", "line 17: expected epoch"),
        (HEADER + GOOD.replace("9.0", "inf"), "log2_n at epoch 0, step 0 is inf"),
        (HEADER + GOOD.replace("9.0", "nan"), "log2_n at epoch 0, step 0 is nan"),
        (HEADER + GOOD.replace("9.0", "0"), "log2_n at epoch 0, step 0 is 0.0"),
        (HEADER + GOOD.replace("9.0", "1e9"), "log2_n at epoch 0, step 0 is 1000000000.0"),
        (HEADER + GOOD.replace("1.5", "-inf"), "I_XT of conv1 at epoch 0, step 0 is -inf"),
        (HEADER + GOOD.replace("0.25", "1e308"), "AMI_TY of conv1 at epoch 0, step 0 is 1e+308"),
        (f"{HEADER}{GOOD}0,0,,,,I_XT,1.0\n", "I_XT is of a layer"),
        (f"{HEADER}{GOOD}0,0,,a,b,H_T,1.0\n", "H_T is of a layer, and there is one of 'a-to-b'"),
        (f"{HEADER}{GOOD}0,0,,a,,DPI_XT,1.0\n", "DPI_XT is of a pair of layers, and there is one of 'a'"),
        (f"{HEADER}{GOOD}0,0,,,b,DPI_XT,1.0\n", "DPI_XT is of a pair of layers"),
        (f"{HEADER}{GOOD}0,0,,a,,H_X,1.0\n", "H_X is of the probe, and there is one of 'a'"),
        (f"{HEADER}0,0,,a,,verdict,1.0\n", "holds no measurement yet"),
        (f"# {'[' * 100_000}\n{COLUMNS}{GOOD}", "line 1: expected version"),
        (facts(n={"": float("inf")}) + GOOD, "line 1: expected version"),
        (facts(n={"": 0}) + GOOD, "line 1: expected n to be a number of samples, got 0"),
        ("junk\n" * 100_000, "expected a line of facts"),
        ("\0" * 100_000, "expected a line of facts"),
        (f"{HEADER}{GOOD}{'x' * 3_000_000}\n", "line 17"),
        (f"{HEADER}{GOOD}{'x' * 3_000_000}", "line 17"),
        ((HEADER + GOOD).encode("utf-16"), "expected a line of facts"),
        (f"{HEADER}{GOOD}0,0,,é,,I_XT,1.0\n".encode("latin-1"), "line 17"),
        (b"\xef\xbb\xbf" + HEADER.encode(), "expected a line of facts"),
        (f'{HEADER}0,0,,"a,,I_XT,1.0\n{GOOD}', "expected epoch"),
    ],
    ids=range(28),
)
def test_hostile_tables(tmp_path: Path, capsys: pytest.CaptureFixture[str], content: str | bytes, says: str) -> None:
    path = tmp_path / "infoplane.csv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    for command in (["report"], ["report", "--format", "png"], ["animate"]):
        assert says in refused(capsys, *command, tmp_path)
    assert says in refused(capsys, "compare", path, path, "--out", tmp_path / "both.png")
    assert [one.name for one in tmp_path.iterdir()] == ["infoplane.csv"]


@pytest.mark.parametrize(
    "content",
    [
        f"{HEADER}{GOOD}2,34,,co",
        f"{HEADER}{GOOD}2,34,,conv1,,I_XT,1.",
        f'{HEADER}{GOOD}2,34,,"a\nb',
        f"{HEADER}{GOOD}{10**15},{10**15},,conv1,,I_XT,1.0\n",
        f"{HEADER}{GOOD}2,34,,conv1,,AMI_XT,nan\n2,34,,conv1,,AMI_TY,nan\n",
        HEADER + GOOD.replace("conv1", "a\0b") + GOOD.replace("conv1", "$\\frac{") + GOOD.replace("conv1", "\t"),
        f"{HEADER}{GOOD}2,34,,conv1,,AMI_XT_p,7\n2,34,,a,b,DPI_AMI_XT,1\n2,34,,a,b,DPI_AMI_XT_p,-7\n",
        f"{HEADER}{GOOD}2,34,val,,,H_X,1.0\n",
        facts(estimator={"a": {"b": 1}}, chain={"x": 1}) + GOOD,
        HEADER + "".join(GOOD.replace(",,", f",{probe},", 1) for probe in ("../../x", "p" * 400)),
    ],
    ids=["torn", "torn value", "torn name", "late", "nan", "names", "p", "probe cut off", "facts", "probes"],
)
def test_odd_tables_are_drawn(tmp_path: Path, content: str) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "infoplane.csv").write_text(content)
    for command in (["report"], ["report", "--format", "svg"], ["animate"]):
        assert main([command[0], str(tmp_path), *command[1:]]) == 0
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


@pytest.mark.parametrize(
    "rows",
    [
        "0,0,,conv1,,I_XT,1.0\n1,17,,conv1,,I_XT,1.5\n",
        # of one layer only the entropy is known, so nothing says whether it means anything
        "0,0,,,,log2_n,9.0\n0,0,,conv1,,H_T,3.0\n0,0,,conv1,,I_XT,1.0\n0,0,,conv2,,H_T,3.0\n",
        "0,0,,,,log2_n,9.0\n0,0,,conv1,,I_XT,1.0\n0,0,,conv1,,of_a_later_version,1.0\n",
    ],
    ids=["one quantity", "entropy only", "unknown quantity"],
)
def test_a_table_with_part_of_the_quantities_is_drawn_as_far_as_it_goes(tmp_path: Path, rows: str) -> None:
    (tmp_path / "infoplane.csv").write_text(HEADER + rows)
    assert main(["report", str(tmp_path)]) == 0
    assert "conv1" in (tmp_path / "infoplane-report.html").read_text()


def test_no_such_place(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "does not exist" in refused(capsys, "report", tmp_path / "nowhere")
    assert "neither infoplane.csv nor TensorBoard event files" in refused(capsys, "report", tmp_path)
    write(tmp_path / "a")
    assert "does not exist" in refused(capsys, "compare", tmp_path / "a", tmp_path / "b")
    assert "No such file" in refused(capsys, "report", tmp_path, "--out", tmp_path / "no" / "r.html")


def test_a_film_of_a_run_without_targets(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path, rows=history(LAYERS, targets=False))
    assert "no AMI_TY, so there is no plane" in refused(capsys, "animate", tmp_path)
    write(tmp_path, rows=history(LAYERS, targets=False, adjusted=False))
    assert "no I_TY, so there is no plane" in refused(capsys, "animate", tmp_path)


def test_a_probe_that_the_run_has_not(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path)
    assert "--probe train: this run has only one" in refused(capsys, "animate", tmp_path, "--probe", "train")


@pytest.mark.parametrize(
    ("model", "data", "says"),
    [
        ("networks", "networks:images", "--model networks: expected module:name"),
        ("no_such_module:Net", "networks:images", "--model no_such_module:Net: ModuleNotFoundError"),
        ("networks:NoSuchClass", "networks:images", "--model networks:NoSuchClass: AttributeError"),
        ("networks:TinyCNN", "networks:images", "--data networks:images: expected (inputs, targets)"),
        ("networks:TinyCNN", "networks:events", "--data networks:events: TypeError"),
    ],
)
def test_measure_says_which_argument_is_wrong(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], model: str, data: str, says: str
) -> None:
    torch.save(TinyCNN().state_dict(), tmp_path / "net.pt")
    assert says in refused(
        capsys, "measure", "--model", model, "--data", data, "--checkpoints", tmp_path / "net.pt", "--layers", "conv"
    )


def test_measure_refuses_what_is_no_checkpoint(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "net.pt").write_bytes(b"garbage")
    (tmp_path / "mine_too.py").write_text("from networks import images\ndef probe():\n    return images(24).tensors\n")
    sys.path.insert(0, str(tmp_path))
    try:
        arguments = ("--model", "networks:TinyCNN", "--data", "mine_too:probe", "--out", tmp_path / "infoplane.csv")
        refused(capsys, "measure", *arguments, "--checkpoints", tmp_path / "net.pt")
        refused(capsys, "measure", *arguments, "--checkpoints", tmp_path / "nowhere.pt")
    finally:
        sys.path.remove(str(tmp_path))
    assert not (tmp_path / "infoplane.csv").exists()


@pytest.mark.parametrize(
    "arguments",
    [
        *(["animate", "x", "--fps", rate] for rate in ("0", "inf", "nan", "1e9", "-1", "1e-9", "many")),
        ["report"],
        [],
        ["report", "x", "--format", "doc"],
    ],
)
def test_arguments_that_cannot_be_meant(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match=r"^2$") as ended:
        main(arguments)
    assert ended.value.code == 2
    assert "usage: infoplane" in capsys.readouterr().err


def test_init_must_be_an_object(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match=r"^2$"):
        main(["measure", "--model", "a:b", "--data", "a:b", "--checkpoints", "x", "--init", "5"])
    assert 'expected a JSON object such as {"classes": 10}' in capsys.readouterr().err


# ------------------------------------------------------------------------------------------------ from the outside


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "lightning_infoplane", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_as_a_module_help_has_examples() -> None:
    done = run("--help")
    assert done.returncode == 0
    for command in ("report", "animate", "compare", "measure", "infoplane report lightning_logs"):
        assert command in done.stdout
    assert done.stderr == ""


def test_as_a_module_a_mistake_is_one_line(tmp_path: Path) -> None:
    done = run("report", tmp_path / "nowhere")
    assert done.returncode == 2
    assert done.stderr == f"infoplane: {tmp_path / 'nowhere'} does not exist.\n"


def test_as_a_module_on_event_files_it_says_where_the_report_is_and_nothing_else(tmp_path: Path) -> None:
    done = fit(tmp_path, callback(**drawing()), logger=TensorBoardLogger(tmp_path))
    (Path(done.log_dir) / "infoplane.csv").unlink()
    finished = run("report", tmp_path)
    assert finished.returncode == 0
    assert finished.stdout.strip() == str(Path(done.log_dir) / "infoplane-report.html")
    assert finished.stderr == ""
    size = Path(finished.stdout.strip()).stat().st_size
    assert 100_000 < size < 3_000_000


def loaded(*arguments: object) -> set[str]:
    """Which packages the command loads, by the one door that a script and ``python -m`` share."""
    code = (
        "import runpy, sys\n"
        f"sys.argv = ['infoplane', *{[str(argument) for argument in arguments]!r}]\n"
        "try:\n    runpy.run_module('lightning_infoplane', run_name='__main__')\n"
        "except SystemExit as ended:\n    assert not ended.code, ended.code\n"
        "print('loaded', *{name.partition('.')[0] for name in sys.modules})\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    first, *names = done.stdout.splitlines()[-1].split()
    assert first == "loaded"
    return set(names)


HEAVY = {"torch", "lightning", "pytorch_lightning", "lightning_fabric", "torchmetrics"}


def test_help_loads_neither_torch_nor_lightning_nor_matplotlib() -> None:
    assert loaded("--help") & (HEAVY | {"matplotlib", "tensorboard", "numpy"}) == set()
    assert loaded("report", "--help") & (HEAVY | {"matplotlib", "tensorboard", "numpy"}) == set()


@pytest.mark.parametrize("form", ["html", "png"])
def test_a_report_from_a_table_loads_neither_torch_nor_lightning(tmp_path: Path, form: str) -> None:
    write(tmp_path)
    names = loaded("report", tmp_path, "--format", form)
    assert names & (HEAVY | {"tensorboard"}) == set()
    assert "matplotlib" in names  # the check sees what is loaded
    assert (tmp_path / f"infoplane-report.{form}").stat().st_size > 20_000


def test_a_film_and_a_comparison_load_neither_torch_nor_lightning(tmp_path: Path) -> None:
    write(tmp_path, rows=history(LAYERS, epochs=range(2)))
    assert loaded("animate", tmp_path) & HEAVY == set()
    assert loaded("compare", tmp_path, tmp_path, "--out", tmp_path / "both.png") & HEAVY == set()


def test_a_report_from_event_files_loads_neither_torch_nor_lightning(tmp_path: Path) -> None:
    measured = callback(outputs=Outputs(figures=False))
    done = fit(tmp_path, measured, logger=TensorBoardLogger(tmp_path))
    (Path(done.log_dir) / "infoplane.csv").unlink()
    names = loaded("report", tmp_path)
    assert names & HEAVY == set()
    assert "tensorboard" in names
    assert (Path(done.log_dir) / "infoplane-report.html").stat().st_size > 20_000


def test_the_script_is_declared() -> None:
    import tomllib

    project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())["project"]
    assert project["scripts"] == {"infoplane": "lightning_infoplane.__main__:main"}
