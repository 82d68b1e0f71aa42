"""Both package names and both LightningCLIs: the same script, the same numbers; every argument from YAML."""

import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import lightning.pytorch as lp
import pytest
import pytorch_lightning as pl
import torch
from lightning.pytorch.cli import LightningCLI
from networks import QUIET, Steps, callback, events, images, loader, moments
from pytorch_lightning.cli import LightningCLI as PyTorchLightningCLI

from lightning_infoplane import Eigenvalues, LogSpacedEpochs, MatrixRenyiCallback, MedianDistance

# Lightning 2.6 calls jsonargparse 4.53 in a way that it deprecates.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")
PACKAGES = pytest.mark.parametrize("package", [lp, pl], ids=["lightning", "pytorch_lightning"])
EXAMPLES = Path(__file__).parents[1] / "examples"


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


COMMAND_LINES = {lp: LightningCLI, pl: PyTorchLightningCLI}
NETWORKS = {lp: LightningNetwork, pl: PyTorchLightningNetwork}


def script(package: ModuleType, root: Path) -> tuple[Any, MatrixRenyiCallback]:
    """What a user writes, with either package."""
    torch.manual_seed(0)
    measured = callback(figures=True)
    trainer = package.Trainer(
        **QUIET,
        callbacks=[measured, package.callbacks.ModelCheckpoint(root / "kept", monitor="I_TY/conv1", mode="max")],
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
    assert [step for step, _ in events(trainer.log_dir)["I_XT/conv1"]] == [0, 3, 7]
    assert trainer.checkpoint_callback.best_model_score > 0


def test_both_packages_give_the_same_numbers(tmp_path: Path) -> None:
    histories = [script(package, tmp_path / package.__name__)[1].history for package in (lp, pl)]
    assert histories[0] == histories[1]


def command_line(package: ModuleType, *args: str) -> Any:
    """The LightningCLI of a package, told on the spot what a shell would say."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["run.py"])
        return COMMAND_LINES[package](
            NETWORKS[package], args=list(args), run=False, save_config_callback=None, seed_everything_default=False
        )


YAML = """
trainer:
  callbacks:
    - class_path: lightning_infoplane.MatrixRenyiCallback
      init_args:
        layers: [conv1, "conv?"]
        probe: 48
        probe_from: [train, val]
        bandwidth: {class_path: lightning_infoplane.StandardizedSilverman, init_args: {gamma: 3.0, freeze: true}}
        target_bandwidth: {class_path: lightning_infoplane.Fixed, init_args: {sigma: 0.5}}
        solver: {class_path: lightning_infoplane.Lanczos, init_args: {steps: 20}}
        schedule: {class_path: lightning_infoplane.AtEpochs, init_args: {epochs: [1, 3]}}
        alpha: 2
        chance: 0
        name: mine
        on_probe_change: warn
        probe_batch_size: 16
"""


@PACKAGES
def test_every_kind_of_argument_from_yaml(tmp_path: Path, package: ModuleType) -> None:
    (tmp_path / "run.yaml").write_text(YAML)
    cli = command_line(package, "--config", str(tmp_path / "run.yaml"))
    (measured,) = [one for one in cli.trainer.callbacks if isinstance(one, MatrixRenyiCallback)]
    assert measured.layers == ["conv1", "conv?"]
    assert measured.sources == ["train", "val"]
    assert repr(measured.schedule) == "AtEpochs(epochs=[1, 3])"
    settings = measured.plane.settings
    assert "StandardizedSilverman(gamma=3.0, freeze=True" in repr(settings.bandwidth)
    assert "Lanczos(steps=20" in repr(settings.solver)
    assert (settings.alpha, settings.chance, measured.name) == (2, 0, "mine")


def complaint(package: ModuleType, capsys: pytest.CaptureFixture[str], *args: str) -> str:
    """What the command line says before it gives up."""
    with pytest.raises(SystemExit):
        command_line(package, *args)
    streams = capsys.readouterr()
    return streams.out + streams.err


CALLBACK = "--trainer.callbacks+=lightning_infoplane.MatrixRenyiCallback"


@PACKAGES
def test_a_misspelt_option_gets_the_message_of_jsonargparse(
    package: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    said = complaint(package, capsys, CALLBACK, "--trainer.callbacks.layres=conv")
    assert "layres" in said
    # "not accepted" in current versions of jsonargparse, "Given value: NestedArg(key='layres', …)" in 4.35.
    assert "not accepted" in said or "does not validate" in said or "NestedArg" in said


@PACKAGES
def test_a_value_that_cannot_be_meant_gets_our_sentence(
    package: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(ValueError, match="probe=1: a probe needs at least 2 samples"):
        command_line(package, CALLBACK, "--trainer.callbacks.probe=1")


@PACKAGES
def test_help_shows_the_docstring(package: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    said = complaint(package, capsys, "--trainer.callbacks.help=lightning_infoplane.MatrixRenyiCallback")
    words = " ".join(said.split())
    assert "Logs what each layer keeps of its input and of its target while the network trains" in words
    assert "how many samples to draw, stratified by class" in words
    for option in ("layers", "bandwidth", "solver", "schedule", "every_n_train_steps", "on_probe_change"):
        assert f"{option} " in words or f"{option}." in words


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
    assert {f"I_XT/conv{i}" for i in (1, 2, 3)} <= set(scalars)
    assert [step for step, _ in scalars["I_XT/conv1"]] == [0, 17, 35]


def test_the_yaml_example_says_what_the_defaults_are() -> None:
    """Its choices are those a user without it has, so that it is a template to change."""
    measured = MatrixRenyiCallback()
    assert measured.plane.settings.bandwidth == MedianDistance(scale=1.0)
    assert measured.plane.settings.solver == Eigenvalues()
    assert LogSpacedEpochs(count=5)(10, 10)
