"""Both package names and both LightningCLIs: the same script, the same numbers; every argument from YAML."""

import inspect
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from textwrap import dedent, indent
from types import ModuleType
from typing import Any

import lightning.pytorch as lp
import pytest
import pytorch_lightning as pl
import torch
import yaml
from networks import QUIET, Steps, callback, drawing, events, images, loader, moments

from lightning_infoplane import (
    Alignment,
    AtEpochs,
    Draw,
    Eigenvalues,
    ErrorSignals,
    Estimator,
    EveryNSteps,
    Fixed,
    Jackknife,
    Lanczos,
    Leading,
    LogSpacedEpochs,
    LogSpacedSteps,
    MatrixRenyiCallback,
    MedianDistance,
    NearestNeighbors,
    Outputs,
    Redundancy,
    Silverman,
    StandardizedSilverman,
    Tokens,
)

# Lightning calls jsonargparse in ways that newer versions deprecate, at import already.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")
PACKAGES = pytest.mark.parametrize("package", [lp, pl], ids=["lightning", "pytorch_lightning"])
EXAMPLES = Path(__file__).parents[2] / "examples"


class LightningNetwork(Steps, lp.LightningModule):
    """For `import lightning`."""

    def __init__(self) -> None:
        super().__init__()
        self.build()


class PyTorchLightningNetwork(Steps, pl.LightningModule):
    """For `import pytorch_lightning`."""

    def __init__(self) -> None:
        super().__init__()
        self.build()


NETWORKS = {lp: LightningNetwork, pl: PyTorchLightningNetwork}


def script(package: ModuleType, root: Path) -> tuple[Any, MatrixRenyiCallback]:
    """What a user writes, with either package."""
    torch.manual_seed(0)
    measured = callback(**drawing())
    trainer = package.Trainer(
        **QUIET,
        callbacks=[measured, package.callbacks.ModelCheckpoint(root / "kept", monitor="AMI_TY/conv1", mode="max")],
        logger=package.loggers.TensorBoardLogger(root),
        max_epochs=2,
    )
    trainer.fit(NETWORKS[package](), loader(), loader(images(seed=1)))
    return trainer, measured


@PACKAGES
def test_the_same_script_in_either_package(tmp_path: Path, package: ModuleType) -> None:
    trainer, measured = script(package, tmp_path)
    assert isinstance(measured, package.Callback)
    assert moments(measured) == [(0, 0), (1, 3), (2, 7)]
    assert [step for step, _ in events(trainer.log_dir)["AMI_XT/conv1"]] == [0, 3, 7]
    assert trainer.checkpoint_callback.best_model_score > 0


def test_both_packages_give_the_same_numbers(tmp_path: Path) -> None:
    histories = [script(package, tmp_path / package.__name__)[1].history for package in (lp, pl)]
    assert histories[0] == histories[1]


def command_line(package: ModuleType, *args: str, **options: Any) -> Any:
    """The LightningCLI of a package, told on the spot what a shell would say."""
    cli = import_module(f"{package.__name__}.cli").LightningCLI
    defaults = {"run": False, "save_config_callback": None, "seed_everything_default": False}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["run.py"])
        return cli(NETWORKS[package], args=list(args), **defaults | options)


def read(package: ModuleType, *args: str) -> MatrixRenyiCallback:
    """The callback that a command line asks for."""
    (measured,) = [
        one for one in command_line(package, *args).trainer.callbacks if isinstance(one, MatrixRenyiCallback)
    ]
    return measured


def config(folder: Path, text: str) -> str:
    """A YAML file whose only callback has these arguments."""
    path = folder / "run.yaml"
    head = "trainer:\n  callbacks:\n    - class_path: lightning_infoplane.MatrixRenyiCallback\n      init_args:\n"
    path.write_text(head + indent(dedent(text).strip(), " " * 8) + "\n")
    return str(path)


EVERYTHING = """
layers: [conv1, "conv?"]
probe:
  class_path: lightning_infoplane.Draw
  init_args: {size: 48, source: [train, val], x: 0, targets: 1}
schedule: {class_path: lightning_infoplane.AtEpochs, init_args: {epochs: [1, 3]}}
measure_at_start: false
estimator:
  alpha: 2
  bandwidth: {class_path: lightning_infoplane.StandardizedSilverman, init_args: {gamma: 3.0, freeze: true}}
  target_bandwidth: {class_path: lightning_infoplane.Fixed, init_args: {sigma: 0.5}}
  solver: {class_path: lightning_infoplane.Lanczos, init_args: {steps: 20, vectors: 5}}
  shuffles: 0
  standard_errors: {groups: 4}
  seed: 7
readout: {class_path: lightning_infoplane.Tokens, init_args: {pool: first}}
forward_fn: torch.nn.functional.relu
error_signals:
  class_path: lightning_infoplane.ErrorSignals
  init_args: {loss_fn: torch.nn.functional.cross_entropy}
redundancy: {class_path: lightning_infoplane.Redundancy, init_args: {map_pairs: 5}}
dpi_pairs: consecutive
outputs: {figures: false, log: all, tensorboard_layout: true, tensorboard_subruns: true, prog_bar: false}
name: mine
log_prefix: other/
probe_batch_size: 16
on_change: warn
raise_on_error: true
"""


@PACKAGES
def test_every_argument_from_yaml(tmp_path: Path, package: ModuleType) -> None:
    measured = read(package, "--config", config(tmp_path, EVERYTHING))
    arguments = inspect.signature(MatrixRenyiCallback).parameters
    assert {name: getattr(measured, name) for name in arguments} == {
        "layers": ["conv1", "conv?"],
        "probe": Draw(48, ["train", "val"], x=0, targets=1),
        "schedule": AtEpochs([1, 3]),
        "measure_at_start": False,
        "estimator": Estimator(
            alpha=2.0,
            bandwidth=StandardizedSilverman(gamma=3.0, freeze=True),
            target_bandwidth=Fixed(0.5),
            solver=Lanczos(steps=20, vectors=5),
            shuffles=0,
            standard_errors=Jackknife(4),
            seed=7,
        ),
        "readout": Tokens("first"),
        "forward_fn": torch.nn.functional.relu,
        "error_signals": ErrorSignals(torch.nn.functional.cross_entropy),
        "redundancy": Redundancy(map_pairs=5),
        "dpi_pairs": "consecutive",
        "outputs": Outputs(figures=False, log="all", tensorboard_layout=True, tensorboard_subruns=True, prog_bar=False),
        "name": "mine",
        "log_prefix": "other/",
        "probe_batch_size": 16,
        "on_change": "warn",
        "raise_on_error": True,
    }


CHOICES = [
    ("probe: 48", {"probe": 48}),
    ("probe: {size: 48, source: train}", {"probe": Draw(48, "train")}),
    ("probe: {class_path: lightning_infoplane.Draw, init_args: {size: 48}}", {"probe": Draw(48)}),
    ("schedule: 3", {"schedule": 3}),
    ("schedule: {class_path: lightning_infoplane.LogSpacedEpochs}", {"schedule": LogSpacedEpochs()}),
    ("schedule: {class_path: lightning_infoplane.EveryNSteps, init_args: {n: 5}}", {"schedule": EveryNSteps(5)}),
    (
        "schedule: {class_path: lightning_infoplane.LogSpacedSteps, init_args: {count: 5}}",
        {"schedule": LogSpacedSteps(5)},
    ),
    ("estimator: {alpha: 2}", {"estimator": Estimator(alpha=2.0)}),
    (
        "estimator: {class_path: lightning_infoplane.Estimator, init_args: {shuffles: 20}}",
        {"estimator": Estimator(shuffles=20)},
    ),
    *(
        (
            f"estimator: {{bandwidth: {{class_path: lightning_infoplane.{type(rule).__name__}}}}}",
            {"estimator": Estimator(bandwidth=rule)},
        )
        for rule in (Alignment(), MedianDistance(), NearestNeighbors(), Silverman(), StandardizedSilverman())
    ),
    *(
        (
            f"estimator: {{solver: {{class_path: lightning_infoplane.{type(solver).__name__}}}}}",
            {"estimator": Estimator(solver=solver)},
        )
        for solver in (Eigenvalues(), Lanczos())
    ),
    (
        "estimator: {solver: {class_path: lightning_infoplane.Leading, init_args: {rank: 6}}}",
        {"estimator": Estimator(solver=Leading(6))},
    ),
    ("estimator: {standard_errors: null}", {"estimator": Estimator(standard_errors=None)}),
    ("estimator: {standard_errors: blocks}", {}),
    ("estimator: {standard_errors: {groups: 4}}", {"estimator": Estimator(standard_errors=Jackknife(4))}),
    ("outputs: {figures: auto}", {}),
    ("outputs: {figures: true}", {"outputs": Outputs(figures=True)}),
    ("outputs: {prog_bar: null, log: all}", {"outputs": Outputs(log="all")}),
    ("error_signals: true", {"error_signals": True}),
    ("redundancy: true", {"redundancy": True}),
    ("redundancy: {map_pairs: 5}", {"redundancy": Redundancy(map_pairs=5)}),
]


@PACKAGES
@pytest.mark.parametrize(("text", "arguments"), CHOICES, ids=[text for text, _ in CHOICES])
def test_every_way_to_write_a_choice(tmp_path: Path, package: ModuleType, text: str, arguments: dict[str, Any]) -> None:
    assert repr(read(package, "--config", config(tmp_path, text))) == repr(MatrixRenyiCallback(**arguments))


CALLBACK = "--trainer.callbacks=lightning_infoplane.MatrixRenyiCallback"
LINES: list[tuple[list[str], dict[str, Any]]] = [
    ([], {}),
    (
        ["estimator.alpha=2", "outputs.figures=false"],
        {"estimator": Estimator(alpha=2.0), "outputs": Outputs(figures=False)},
    ),
    (["probe=48", "layers=linear"], {"probe": 48, "layers": "linear"}),
    (["layers=[conv1,head]"], {"layers": ["conv1", "head"]}),
    (["probe.size=48", "probe.source=train"], {"probe": Draw(48, "train")}),
    (["schedule=5"], {"schedule": 5}),
    (["schedule=lightning_infoplane.EveryNSteps", "schedule.n=5"], {"schedule": EveryNSteps(5)}),
    (
        ["estimator.bandwidth=lightning_infoplane.MedianDistance", "estimator.bandwidth.scale=2"],
        {"estimator": Estimator(bandwidth=MedianDistance(2.0))},
    ),
    (
        ["estimator.solver=lightning_infoplane.Lanczos", "estimator.solver.steps=9", "estimator.seed=3"],
        {"estimator": Estimator(solver=Lanczos(steps=9), seed=3)},
    ),
    (["estimator.standard_errors.groups=4"], {"estimator": Estimator(standard_errors=Jackknife(4))}),
    (["estimator.standard_errors=Jackknife"], {"estimator": Estimator(standard_errors=Jackknife(10))}),
    (["estimator.standard_errors=blocks"], {}),
    (['estimator={"standard_errors":null}'], {"estimator": Estimator(standard_errors=None)}),
    (["error_signals=true", "redundancy.map_pairs=5"], {"error_signals": True, "redundancy": Redundancy(map_pairs=5)}),
    (["outputs.log=all", "outputs.prog_bar=true"], {"outputs": Outputs(log="all", prog_bar=True)}),
]


@PACKAGES
@pytest.mark.parametrize("append", [False, True], ids=["set", "append"])
@pytest.mark.parametrize(("options", "arguments"), LINES, ids=[" ".join(options) for options, _ in LINES])
def test_every_choice_from_the_command_line(
    package: ModuleType, options: list[str], arguments: dict[str, Any], append: bool
) -> None:
    first = CALLBACK.replace("callbacks=", "callbacks+=") if append else CALLBACK
    measured = read(package, first, *(f"--trainer.callbacks.{option}" for option in options))
    assert repr(measured) == repr(MatrixRenyiCallback(**arguments))


def complaint(package: ModuleType, capsys: pytest.CaptureFixture[str], *args: str) -> str:
    """What the command line says before it gives up."""
    with pytest.raises(SystemExit):
        command_line(package, *args)
    streams = capsys.readouterr()
    return streams.out + streams.err


@PACKAGES
def test_a_misspelt_option_gets_the_message_of_jsonargparse(
    package: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    said = complaint(package, capsys, CALLBACK, "--trainer.callbacks.layres=conv")
    assert "layres" in said
    # "not accepted" in current versions of jsonargparse; older ones have other words for it.
    assert "not accepted" in said or "does not validate" in said or "NestedArg" in said


@PACKAGES
@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("probe=1", "probe=1: a probe needs at least 2 samples"),
        ("estimator.alpha=-1", "alpha=-1.0"),
        ("estimator.shuffles=-1", "shuffles=-1: expected a whole number of at least 0"),
        ("schedule=0", r"n=0\): expected a whole number of at least 1"),
        ("probe_batch_size=0", "probe_batch_size=0: expected a whole number of at least 1"),
    ],
)
def test_a_value_that_cannot_be_meant_gets_our_sentence(package: ModuleType, option: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        command_line(package, CALLBACK, f"--trainer.callbacks.{option}")


@PACKAGES
@pytest.mark.parametrize(
    "option", ["outputs.figures=sometimes", "outputs.log=none", "dpi_pairs=all", "on_change=ignore"]
)
def test_a_word_that_is_no_choice_is_refused_with_those_there_are(
    package: ModuleType, option: str, capsys: pytest.CaptureFixture[str]
) -> None:
    said = complaint(package, capsys, CALLBACK, f"--trainer.callbacks.{option}")
    name, _, word = option.rpartition(".")[2].partition("=")
    assert word in said
    choices = {"figures": "auto", "log": "main", "dpi_pairs": "markov", "on_change": "error"}
    assert choices[name] in said


@PACKAGES
def test_help_shows_the_docstring(package: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    said = complaint(package, capsys, "--trainer.callbacks.help=lightning_infoplane.MatrixRenyiCallback")
    words = " ".join(said.split())
    assert "Logs what each layer keeps of its input and of its target while the network trains" in words
    assert "how many samples to draw from the validation data, stratified by class" in words
    for option in inspect.signature(MatrixRenyiCallback).parameters:
        assert f"{option} " in words or f"{option}." in words


# ------------------------------------------------------------------------------------------------- runs, for real


class LightningData(lp.LightningDataModule):
    """For `import lightning`."""

    def train_dataloader(self) -> Any:
        return loader()

    def val_dataloader(self) -> Any:
        return loader(images(seed=1))


class PyTorchLightningData(pl.LightningDataModule):
    """For `import pytorch_lightning`."""

    train_dataloader = LightningData.train_dataloader
    val_dataloader = LightningData.val_dataloader


DATA = {lp: LightningData, pl: PyTorchLightningData}


def ran(package: ModuleType, root: Path, *args: str) -> tuple[MatrixRenyiCallback, Path]:
    """Fit as a shell would ask for it; the callback and the run's directory."""
    quiet = [f"--trainer.{key}={str(value).lower()}" for key, value in QUIET.items()]
    saved = import_module(f"{package.__name__}.cli").SaveConfigCallback
    cli = command_line(
        package,
        *("fit", "--trainer.max_epochs=2", f"--trainer.default_root_dir={root}", *quiet, *args),
        datamodule_class=DATA[package],
        run=True,
        save_config_callback=saved,
        seed_everything_default=0,
    )
    (measured,) = [one for one in cli.trainer.callbacks if isinstance(one, MatrixRenyiCallback)]
    return measured, Path(cli.trainer.log_dir)


@PACKAGES
def test_a_run_from_the_command_line_and_again_from_the_file_that_it_saved(tmp_path: Path, package: ModuleType) -> None:
    """Lightning writes the whole configuration beside a run: every default in it must be readable again."""
    options = ["estimator.alpha=2", "outputs.figures=false", "probe=32", "schedule=2", "redundancy=true"]
    first, folder = ran(package, tmp_path / "first", CALLBACK, *(f"--trainer.callbacks.{one}" for one in options))
    assert moments(first) == [(0, 0), (2, 7)]
    assert first.estimator == Estimator(alpha=2.0)
    assert {key for key in events(folder) if "/conv1" in key} == {
        *("AMI_XT/conv1", "AMI_TY/conv1", "I_XT/conv1", "I_TY/conv1", "H_T/conv1"),
        *("DPI_AMI_XT/conv1-to-conv2", "DPI_XT/conv1-to-conv2", "DPI_TY/conv1-to-conv2"),
        *("redundancy_synergy/conv1", "non_redundant/conv1", "total_correlation/conv1"),
    }
    again, _ = ran(package, tmp_path / "again", "--config", str(folder / "config.yaml"))
    assert repr(again) == repr(first)
    assert again.history == first.history


@PACKAGES
def test_everything_saved_is_read_again(tmp_path: Path, package: ModuleType) -> None:
    text = EVERYTHING.replace("forward_fn: torch.nn.functional.relu\n", "").replace("epochs: [1, 3]", "epochs: [1, 2]")
    first, folder = ran(package, tmp_path / "first", "--config", config(tmp_path, text))
    again, _ = ran(package, tmp_path / "again", "--config", str(folder / "config.yaml"))
    assert repr(again) == repr(first)
    assert {row.probe for row in first.history} == {"train", "val"}
    assert again.history == first.history


def test_the_yaml_example_runs(tmp_path: Path) -> None:
    done = subprocess.run(
        [
            *(sys.executable, str(EXAMPLES / "cli.py"), "fit", "--config", str(EXAMPLES / "digits.yaml")),
            *(
                "--trainer.max_epochs=2",
                f"--trainer.default_root_dir={tmp_path}",
                "--trainer.enable_progress_bar=false",
            ),
        ],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    scalars = events(next(tmp_path.glob("lightning_logs/version_0")))
    assert {f"AMI_XT/conv{i}" for i in (1, 2, 3)} <= set(scalars)
    assert [step for step, _ in scalars["AMI_XT/conv1"]] == [0, 17, 35]


def test_the_yaml_example_says_what_the_defaults_are(tmp_path: Path) -> None:
    """Its rule and its solver are those a user without it has, so that it is a template to change."""
    whole = yaml.safe_load((EXAMPLES / "digits.yaml").read_text())
    (tmp_path / "run.yaml").write_text(yaml.safe_dump({"trainer": whole["trainer"]}))
    measured = read(lp, "--config", str(tmp_path / "run.yaml"))
    assert {"bandwidth", "solver"} <= set(whole["trainer"]["callbacks"][0]["init_args"]["estimator"])
    assert repr(measured) == repr(
        MatrixRenyiCallback(layers=["conv1", "conv2", "conv3"], probe=256, schedule=LogSpacedEpochs(count=5))
    )
