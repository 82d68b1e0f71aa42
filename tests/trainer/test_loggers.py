"""Numbers, pictures and text in every logger: each is run for real, offline, and read back."""

import json
import re
import struct
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import lightning.pytorch as lp
import pytest
import pytorch_lightning as pl
import torch
from lightning.pytorch.loggers import CSVLogger, Logger, TensorBoardLogger
from matplotlib.figure import Figure
from networks import LAYERS, callback, drawing, estimator, events, fit
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from lightning_infoplane import Draw, Jackknife, MatrixRenyiCallback, Row
from lightning_infoplane.measurement.history import Facts
from lightning_infoplane.measurement.keys import log_key
from lightning_infoplane.measurement.quantities import QUANTITIES
from lightning_infoplane.measurement.quantity import Logged
from lightning_infoplane.measurement.rows import Pair
from lightning_infoplane.trainer.loggers import ModuleLog, log_figure, log_scalars, log_text, run_folder

STEPS = [0, 3, 7]
PNG = b"\x89PNG\r\n"

# What a vendor's package says about itself, its threads and its files is none of our concern.
vendor = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::ResourceWarning")


def values(measured: Any, key: str) -> list[float]:
    """A curve of the history, by its logged key."""
    quantity, _, place = key.partition("/")
    return [row.value for row in measured.history if (row.quantity, str(row.place)) == (quantity, place)]


# ------------------------------------------------------------------------------------- the loggers of Lightning


def test_tensorboard_has_curves_pictures_and_the_card(tmp_path: Path) -> None:
    measured = callback(**drawing())
    done = fit(tmp_path, measured, logger=TensorBoardLogger(tmp_path))
    scalars = events(done.log_dir)
    for key in ("AMI_XT/conv1", "H_X"):
        assert scalars[key] == [
            (s, pytest.approx(v, rel=1e-6)) for s, v in zip(STEPS, values(measured, key), strict=True)
        ]
    accumulator = EventAccumulator(done.log_dir, size_guidance={"images": 0, "tensors": 0})
    accumulator.Reload()
    for picture in ("infoplane/plane", "infoplane/depth"):
        assert [image.step for image in accumulator.Images(picture)] == STEPS
        assert accumulator.Images(picture)[0].encoded_image_string.startswith(PNG)
    card = accumulator.Tensors("infoplane/card/text_summary")[0].tensor_proto.string_val[0].decode()
    assert "| conv1 |" in card
    (facts,) = accumulator.Tensors("infoplane/facts/text_summary")  # once a run
    assert facts.step == 0
    assert Facts.from_json(facts.tensor_proto.string_val[0].decode().strip()) == measured.history.facts
    assert not list(Path(done.log_dir).glob("*.png"))


def test_csv_has_curves_and_pictures_are_files(tmp_path: Path) -> None:
    import csv

    measured = callback(**drawing())
    done = fit(tmp_path, measured, logger=CSVLogger(tmp_path))
    with (Path(done.log_dir) / "metrics.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["AMI_XT/conv1"]]
    assert [int(row["step"]) for row in rows] == STEPS
    assert [float(row["AMI_XT/conv1"]) for row in rows] == values(measured, "AMI_XT/conv1")
    assert (Path(done.log_dir) / "infoplane-plane.png").read_bytes().startswith(PNG)


def test_two_probes_have_curves_and_pictures_of_their_own(tmp_path: Path) -> None:
    measured = callback(**drawing(), probe=Draw(32, ("train", "val")), name="mine", log_prefix="")
    done = fit(tmp_path, measured, logger=TensorBoardLogger(tmp_path))
    assert {f"{probe}/AMI_XT/{layer}" for probe in ("train", "val") for layer in LAYERS} <= set(events(done.log_dir))
    accumulator = EventAccumulator(done.log_dir)
    accumulator.Reload()
    assert {"infoplane-mine/train/plane", "infoplane-mine/val/depth"} <= set(accumulator.Tags()["images"])


@vendor
def test_mlflow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mlflow = pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    logger = lp.loggers.MLFlowLogger("infoplane", tracking_uri=(tmp_path / "mlruns").as_uri(), synchronous=True)
    measured = callback(**drawing())
    fit(tmp_path, measured, logger=logger)
    client = mlflow.tracking.MlflowClient((tmp_path / "mlruns").as_uri())
    for key in ("AMI_XT/conv1", "DPI_AMI_XT/conv1-to-conv2", "H_X"):
        history = client.get_metric_history(logger.run_id, key)
        assert [(one.step, one.value) for one in history] == list(zip(STEPS, values(measured, key), strict=True))
    pictures = client.list_artifacts(logger.run_id, "infoplane")
    assert {f"infoplane/plane_{step:06d}.png" for step in STEPS} <= {one.path for one in pictures}
    assert Path(client.download_artifacts(logger.run_id, "infoplane/plane_000007.png")).read_bytes().startswith(PNG)


def wandb_records(path: Path) -> Iterator[Any]:
    """The records of an offline run: a LevelDB log (blocks of 32 KiB, each piece after a header of 7 bytes)."""
    from wandb.proto.wandb_internal_pb2 import Record

    data, place, whole = path.read_bytes(), 7, b""
    while place + 7 < len(data):
        if 2**15 - place % 2**15 < 7:  # no room for a header: padding
            place += 2**15 - place % 2**15
            continue
        length, kind = struct.unpack("<HB", data[place + 4 : place + 7])
        whole += data[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (1, 4):  # all of it, or the last of several pieces
            yield Record.FromString(whole)
            whole = b""


def wandb_curve(path: Path, key: str) -> dict[int, float]:
    """Values by step."""
    curve = {}
    for record in wandb_records(path):
        line = {item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in record.history.item}
        if key in line:
            curve[line["trainer/global_step"]] = line[key]
    return curve


@vendor
def test_wandb_offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wandb = pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_SILENT", "true")
    logger = lp.loggers.WandbLogger("run", save_dir=tmp_path, offline=True, project="infoplane")
    measured = callback(**drawing())
    fit(tmp_path, measured, logger=logger)
    wandb.finish()
    written = next(tmp_path.glob("wandb/offline-run-*/run-*.wandb"))
    deadline = time.monotonic() + 60  # a process of W&B's own writes the file; on a busy machine it may come late
    while not (found := wandb_curve(written, "AMI_XT/conv1")) and time.monotonic() < deadline:
        time.sleep(0.5)
    assert found == dict(zip(STEPS, values(measured, "AMI_XT/conv1"), strict=True))
    for kind in ("plane", "depth"):
        pictures = list(tmp_path.glob(f"wandb/offline-run-*/files/media/images/infoplane/{kind}_*.png"))
        assert len(pictures) == 3
        assert pictures[0].read_bytes().startswith(PNG)


@vendor
def test_comet_offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("comet_ml")
    monkeypatch.setenv("COMET_START_ONLINE", "false")  # Lightning takes online=False for: not at all
    monkeypatch.setenv("COMET_DISABLE_AUTO_LOGGING", "1")  # set by Lightning; taken back here
    quick = {
        "disabled": False,
        "display_summary_level": 0,
        "log_code": False,
        "log_git_patch": False,
        "log_env_details": False,
    }
    logger = lp.loggers.CometLogger(api_key="none", project="infoplane", offline_directory=str(tmp_path), **quick)
    measured = callback(**drawing())
    fit(tmp_path, measured, logger=logger)
    logger.experiment.end()
    with zipfile.ZipFile(next(tmp_path.glob("*.zip"))) as archive:
        lines = [json.loads(line) for line in archive.read("messages.json").splitlines()]
        pictures = [name for name in archive.namelist() if name.endswith(".svg")]
    metrics = [line["payload"]["metric"] for line in lines if line["type"] == "metric_msg"]
    found = {one["step"]: one["metricValue"] for one in metrics if one["metricName"] == "AMI_XT/conv1"}
    assert found == dict(zip(STEPS, values(measured, "AMI_XT/conv1"), strict=True))
    assert len(pictures) == 6  # the plane and the profile, three times


# -------------------------------------------------------------------------------------------- others, and several


class Diary(Logger):
    """A user's own logger: the least that Lightning asks for."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[tuple[int | None, dict[str, float]]] = []

    @property
    def name(self) -> str:
        return "diary"

    @property
    def version(self) -> int:
        return 0

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        self.lines.append((step, metrics))

    def log_hyperparams(self, *args: Any, **kwargs: Any) -> None:
        pass


def test_a_logger_of_the_users_own(tmp_path: Path) -> None:
    diary, measured = Diary(), callback(**drawing())
    fit(tmp_path, measured, logger=diary)
    found = [(step, metrics["AMI_XT/conv1"]) for step, metrics in diary.lines if "AMI_XT/conv1" in metrics]
    assert found == list(zip(STEPS, values(measured, "AMI_XT/conv1"), strict=True))
    assert list(tmp_path.rglob("infoplane-plane.png"))


def test_several_loggers_at_once(tmp_path: Path) -> None:
    """Of both packages: a logger of the one works in the Trainer of the other."""
    diary, board = Diary(), TensorBoardLogger(tmp_path, "board")
    fit(tmp_path, callback(**drawing()), logger=[board, CSVLogger(tmp_path, "csv"), diary])
    scalars = events(board.log_dir)
    assert [step for step, _ in scalars["AMI_XT/conv1"]] == STEPS
    assert sum("AMI_XT/conv1" in metrics for _, metrics in diary.lines) == 3
    accumulator = EventAccumulator(board.log_dir)
    accumulator.Reload()
    assert "infoplane/plane" in accumulator.Tags()["images"]
    assert (Path(board.log_dir) / "infoplane-plane.png").exists()  # for those that have no pictures


def test_loggers_of_the_other_package(tmp_path: Path) -> None:
    board = pl.loggers.TensorBoardLogger(tmp_path)
    fit(tmp_path, callback(**drawing()), logger=board)
    accumulator = EventAccumulator(board.log_dir)
    accumulator.Reload()
    assert "infoplane/plane" in accumulator.Tags()["images"]


class Refusing(Diary):
    """A logger whose server is gone when a picture comes."""

    def log_image(self, key: str, images: list[Any], step: int | None = None) -> None:
        raise ConnectionError("the server is gone")


def test_a_logger_that_fails_on_a_picture_does_not_end_training(tmp_path: Path) -> None:
    measured = callback(**drawing(), raise_on_error=False)
    with pytest.warns(UserWarning, match=r"writing failed and training goes on. ConnectionError: the server is gone"):
        done = fit(tmp_path, measured, logger=Refusing())
    assert done.current_epoch == 2
    assert len(values(measured, "H_X")) == 3
    assert list(tmp_path.rglob("infoplane.csv"))


# ---------------------------------------------------------------------------------------------- one function each


def test_mlflow_changes_no_key() -> None:
    """Its rule, read from the package: letters, digits and ``_ - . / : space``."""
    validation = pytest.importorskip("mlflow.utils.validation")
    validation._validate_metric_name(log_key("", "AMI_XT", "layer (1): σ"))


def recorder(**methods: Callable[..., Any]) -> tuple[Any, list[tuple[str, Any]]]:
    """An object with the named methods, and the calls they got."""
    calls: list[tuple[str, Any]] = []

    def record(name: str) -> Callable[..., None]:
        return lambda *args, **kwargs: calls.append((name, kwargs or args))

    return SimpleNamespace(**{name: record(name) for name in methods}), calls


FIGURE_APIS = {
    "like TensorBoard": ("experiment", "add_figure"),
    "like W&B and SwanLab": ("logger", "log_image"),
    "like MLflow": ("client", "log_figure"),
    "like Comet": ("experiment", "log_figure"),
}


@pytest.mark.parametrize("api", FIGURE_APIS)
def test_pictures_go_to_whatever_can_show_them(tmp_path: Path, api: str) -> None:
    place, method = FIGURE_APIS[api]
    thing, calls = recorder(**{method: print})
    logger = thing if place == "logger" else SimpleNamespace(experiment=thing)
    if place == "client":
        logger.run_id = "run"
    log_figure([logger], "tag", Figure(), 3, tmp_path)
    assert [name for name, _ in calls] == [method]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("loggers", [[], [SimpleNamespace()], [SimpleNamespace(experiment=None)]])
def test_pictures_nobody_shows_are_files(tmp_path: Path, loggers: list[Any]) -> None:
    log_figure(loggers, "infoplane/train/plane", Figure(), 0, tmp_path / "new")
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["infoplane-train-plane.png"]


@pytest.mark.parametrize("tag", ["infoplane-x/../../y/plane", "infoplane-a\nb\0c/plane", 400 * "x" + "/plane"])
def test_a_picture_stays_in_its_folder_whatever_its_tag(tmp_path: Path, tag: str) -> None:
    log_figure([], tag, Figure(), 0, tmp_path / "run" / "new")
    (path,) = tmp_path.rglob("*.png")
    assert path.parent == tmp_path / "run" / "new"
    assert re.fullmatch(r"[\w.-]{1,204}\.png", path.name)


TEXT_APIS = {
    "like TensorBoard": ("experiment", "add_text", ("infoplane/card", "**bold**", 3)),
    "like W&B and SwanLab": (
        "logger",
        "log_text",
        {"key": "infoplane/card", "columns": ["text"], "data": [["**bold**"]], "step": 3},
    ),
    "like MLflow": ("client", "log_text", ("run", "**bold**", "infoplane/card_000003.md")),
    "like Comet": ("experiment", "log_text", {"step": 3}),
}


@pytest.mark.parametrize("api", TEXT_APIS)
def test_text_goes_to_whatever_can_show_it(api: str) -> None:
    place, method, arguments = TEXT_APIS[api]
    thing, calls = recorder(**{method: print})
    logger = thing if place == "logger" else SimpleNamespace(experiment=thing)
    if place == "client":
        logger.run_id = "run"
    log_text([SimpleNamespace(), logger, SimpleNamespace(experiment=None)], "infoplane/card", "**bold**", 3)
    assert calls == [(method, arguments)]


ROWS = [
    Row(2, 4, "", "", "log2_n", 5.0),
    Row(2, 4, "", "", "DPI_increases", 1.0),
    Row(2, 4, "", "conv1", "AMI_XT", 0.75),
    Row(2, 4, "", "conv1", "I_XT", 1.5),
    Row(2, 4, "val", Pair("conv1", "conv2"), "DPI_AMI_XT", 0.25),
    Row(2, 4, "", "conv1", "AMI_XT_p", 0.01),
    Row(2, 4, "", "conv1", "CKA_XT", 0.5),
    Row(2, 4, "", "conv1", "I_XT_chance", 0.5),
    Row(2, 4, "", "conv1", "bandwidth", 3.0),
]
MAIN = {
    "mine/DPI_increases": 1.0,
    "mine/AMI_XT/conv1": 0.75,
    "mine/I_XT/conv1": 1.5,
    "mine/val/DPI_AMI_XT/conv1-to-conv2": 0.25,
}
ALL = MAIN | {
    "mine/AMI_XT_p/conv1": 0.01,
    "mine/CKA_XT/conv1": 0.5,
    "mine/I_XT_chance/conv1": 0.5,
    "mine/bandwidth/conv1": 3.0,
}


@pytest.mark.parametrize(("log", "expected"), [("main", MAIN), ("all", ALL)], ids=["main", "all"])
def test_scalars_are_written_by_their_keys_with_their_epoch(log: str, expected: dict[str, float]) -> None:
    diaries = [Diary(), Diary()]
    log_scalars(diaries, ROWS, "mine/", log, step=4, epoch=2)
    for diary in diaries:
        assert diary.lines == [(4, expected | {"epoch": 2})]


def test_where_nothing_is_logged_there_is_no_line() -> None:
    """A step with an epoch and nothing else would be a point on a curve of Lightning's own."""
    diary = Diary()
    log_scalars([diary], ROWS[:1], "", "all", step=4, epoch=2)
    assert diary.lines == []


class Module:
    """What is needed of a LightningModule: its metrics are asked for at the end, as Lightning does."""

    def __init__(self, device: str = "cpu") -> None:
        self.device = torch.device(device)
        self.logged: dict[str, tuple[Any, dict[str, Any]]] = {}

    def log(self, key: str, metric: Any, **options: Any) -> None:
        self.logged[key] = metric, options


@pytest.mark.parametrize(("log", "expected"), [("main", MAIN), ("all", ALL)], ids=["main", "all"])
def test_a_module_logs_the_same_keys_at_an_epochs_end_to_the_last_bit(log: str, expected: dict[str, float]) -> None:
    module, to_module = Module(), ModuleLog()
    third = [row._replace(value=row.value / 3) for row in ROWS]  # no number of 32 bits
    to_module(module, third, "mine/", log)
    assert {key: metric.compute().item() for key, (metric, _) in module.logged.items()} == {
        key: value / 3 for key, value in expected.items()
    }
    assert all(metric.compute().dtype == torch.float64 for metric, _ in module.logged.values())
    assert all(options["on_epoch"] and not options["on_step"] for _, options in module.logged.values())


def test_a_key_keeps_its_metric_and_its_latest_value() -> None:
    module, to_module = Module(), ModuleLog()
    to_module(module, ROWS, "mine/", "main")
    first = {key: metric for key, (metric, _) in module.logged.items()}
    to_module(module, [row._replace(value=7.0) for row in ROWS], "mine/", "main")
    assert all(metric is first[key] for key, (metric, _) in module.logged.items())
    assert {metric.compute().item() for metric in first.values()} == {7.0}


def test_a_module_that_moved_gets_metrics_where_it_is() -> None:
    module, to_module = Module(), ModuleLog()
    to_module(module, ROWS, "mine/", "main")
    module.device = torch.device("meta")
    to_module(module, ROWS, "mine/", "main")
    assert {metric.device.type for metric, _ in module.logged.values()} == {"meta"}


def test_a_runs_files_are_in_the_directory_that_its_first_logger_names(tmp_path: Path) -> None:
    board, table = TensorBoardLogger(tmp_path, "board", "seven"), CSVLogger(tmp_path, "table", 3)
    assert run_folder([board, table], "elsewhere") == Path(board.log_dir) == tmp_path / "board" / "seven"
    assert run_folder([table, board], "elsewhere") == tmp_path / "table" / "version_3"


@pytest.mark.parametrize(
    ("logger", "folder"),
    [
        (SimpleNamespace(save_dir="saved", name="run", version=4), "saved/run/version_4"),
        (SimpleNamespace(save_dir="saved", name="run", version="x7"), "saved/run/x7"),
        (SimpleNamespace(save_dir=None, name="run", version="x7"), "default/run/x7"),
        (SimpleNamespace(log_dir=None, save_dir="saved", name="run", version=0), "saved/run/version_0"),
        (SimpleNamespace(save_dir="saved", name="", version=1), "saved/version_1"),
        (SimpleNamespace(save_dir="saved", name="../x", version="7"), "saved/.._x--d6b96a97_7--22f44af9"),
        (SimpleNamespace(save_dir=None, name="/etc", version="7"), "default/_etc--2824684d_7--92fa5903"),
    ],
)
def test_a_logger_without_a_directory_of_the_run_gets_one_by_name_and_version(logger: Any, folder: str) -> None:
    assert run_folder([logger], "default") == Path(folder)


def test_without_a_logger_files_are_where_the_trainer_puts_its_own() -> None:
    assert run_folder([], "default") == Path("default")


def test_by_default_only_the_main_quantities_are_logged_and_all_are_in_the_table(tmp_path: Path) -> None:
    diary, measured = Diary(), MatrixRenyiCallback(probe=32, **estimator(standard_errors=Jackknife(2)))
    done = fit(tmp_path, measured, logger=diary)
    main = {quantity.key for quantity in QUANTITIES if quantity.logged is Logged.MAIN}
    logged = {key for _, metrics in diary.lines for key in metrics if not key.startswith(("train_", "val_", "epoch"))}
    assert logged >= {"AMI_XT/conv1", "AMI_TY/conv2", "I_XT/conv1", "DPI_AMI_XT/conv1-to-conv2", "DPI_increases"}
    monitored = {key for key in done.callback_metrics if not key.startswith(("train_", "val_"))}
    assert monitored == logged
    assert {key.partition("/")[0] for key in logged} <= main
    assert {row.quantity for row in measured.history} >= {
        *("AMI_XT_p", "AMI_XT_stderr", "DPI_AMI_XT_p", "DPI_AMI_XT_stderr", "CKA_XT", "E_TT", "effective_rank"),
        *("I_XT_chance", "I_XT_stderr", "DPI_XT_stderr", "bandwidth", "log2_n"),
    }


def test_nothing_of_the_loggers_holds_on_to_the_graph(tmp_path: Path) -> None:
    diary = Diary()
    fit(tmp_path, callback(), logger=diary)
    assert not any(isinstance(value, torch.Tensor) for _, metrics in diary.lines for value in metrics.values())
