"""The callback in a real Trainer: what is logged, at which step, when, and what is said; and its arguments."""

import inspect
import re
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning.pytorch as lp
import pytest
import torch
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from networks import (
    LAYERS,
    TinyCNN,
    callback,
    drawing,
    estimator,
    events,
    fit,
    images,
    loader,
    moments,
    said,
    series,
    trainer,
)
from torch import Tensor, nn

import lightning_infoplane
from lightning_infoplane import (
    AtEpochs,
    Draw,
    ErrorSignals,
    Estimator,
    EveryNSteps,
    Fixed,
    History,
    Lanczos,
    LogSpacedEpochs,
    LogSpacedSteps,
    MatrixRenyiCallback,
    MedianDistance,
    Outputs,
    Probe,
    Redundancy,
    gram,
    renyi_entropy,
)
from lightning_infoplane.measurement.keys import log_key
from lightning_infoplane.measurement.rows import Pair

# Of a probe of 32 samples, too small for standard errors by blocks: with these come p-values of gaps, and counts.
LAYER_KEYS = (
    *("AMI_XT", "AMI_TY", "AMI_XT_p", "AMI_TY_p", "CKA_XT", "CKA_TY", "E_TT", "effective_rank"),
    *("I_XT", "I_TY", "H_T", "I_XT_chance", "I_TY_chance", "bandwidth"),
)
PAIR_KEYS = ("DPI_AMI_XT", "DPI_AMI_TY", "DPI_XT", "DPI_TY")
KEYS = (
    {f"{quantity}/{layer}" for quantity in LAYER_KEYS for layer in LAYERS}
    | {f"{quantity}/conv1-to-conv2" for quantity in PAIR_KEYS}
    | {"H_X", "H_Y", "E_XX", "E_YY"}
)
WITH_ERRORS = (
    {f"{quantity}_stderr/{layer}" for quantity in ("AMI_XT", "AMI_TY", "I_XT", "I_TY", "H_T") for layer in LAYERS}
    | {f"{quantity}_stderr/{layer}" for quantity in ("CKA_XT", "CKA_TY", "effective_rank") for layer in LAYERS}
    | {f"{quantity}{ending}/conv1-to-conv2" for quantity in PAIR_KEYS for ending in ("_stderr", "_p")}
    | {"DPI_increases", "DPI_decreases"}
)
MAIN_KEYS = (
    {f"{quantity}/{layer}" for quantity in ("AMI_XT", "AMI_TY", "I_XT", "I_TY", "H_T") for layer in LAYERS}
    | {f"{quantity}/conv1-to-conv2" for quantity in ("DPI_AMI_XT", "DPI_XT", "DPI_TY")}
    | {"H_X", "H_Y", "DPI_increases", "DPI_decreases"}
)
STEPS_PER_EPOCH = 4


def ours(scalars: dict[str, Any], prefix: str = "") -> set[str]:
    """The keys among a run's scalars that are not of Lightning or of TinyCNN."""
    return {key for key in scalars if key.startswith(prefix) and not re.match(r"train_|val_|epoch$|hp_metric$", key)}


# ------------------------------------------------------------------------------------------------ what is logged


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[lp.Trainer, MatrixRenyiCallback, dict[str, Any]]:
    """Three epochs with TensorBoard: the Trainer, the callback and the scalars in the event files."""
    root, measured = tmp_path_factory.mktemp("run"), callback()
    done = fit(root, measured, logger=TensorBoardLogger(root), max_epochs=3)
    return done, measured, events(done.log_dir)


def test_event_files_hold_every_key_at_step_0_and_after_every_epoch(run: Any) -> None:
    _, _, scalars = run
    assert ours(scalars) == KEYS
    for key in KEYS:
        assert [step for step, _ in scalars[key]] == [0, 3, 7, 11]


def test_steps_are_those_of_lightnings_own_epoch_curves(run: Any) -> None:
    _, _, scalars = run
    assert [step for step, _ in scalars["AMI_XT/conv1"]][1:] == [step for step, _ in scalars["train_loss_epoch"]]


def test_epoch_is_logged_beside_the_values_at_step_0(run: Any) -> None:
    _, _, scalars = run
    assert scalars["epoch"][0] == (0, 0.0)


def test_callback_metrics_hold_the_last_values_to_double_precision(run: Any) -> None:
    done, measured, _ = run
    last = {row for row in measured.history if row.epoch == 3}
    assert ours(done.callback_metrics) == KEYS
    for row in last - {row for row in last if row.quantity == "log2_n"}:
        key = f"{row.quantity}/{row.place}" if row.place else row.quantity
        assert done.callback_metrics[key].item() == row.value


def test_infoplane_csv_is_the_history(run: Any) -> None:
    done, measured, _ = run
    saved = History.load(Path(done.log_dir) / "infoplane.csv")
    assert saved == measured.history
    assert saved.facts == measured.history.facts


def test_values_differ_from_chance_and_stay_within_the_entropies(run: Any) -> None:
    _, measured, _ = run
    value = {(row.epoch, row.place, row.quantity): row.value for row in measured.history}
    for epoch in range(4):
        for layer in LAYERS:
            told = value[epoch, layer, "I_XT"]
            assert value[epoch, layer, "I_XT_chance"] + 0.05 < told
            assert told <= min(value[epoch, "", "H_X"], value[epoch, layer, "H_T"]) + 1e-9
            assert 0.1 < value[epoch, layer, "AMI_XT"] <= 1.0
            assert value[epoch, layer, "AMI_XT_p"] < 1e-6


def test_from_sixty_four_samples_on_there_are_standard_errors_and_counts_of_changes(tmp_path: Path) -> None:
    done = fit(tmp_path, callback(probe=64), max_epochs=1)
    assert ours(done.callback_metrics) == KEYS | WITH_ERRORS


def test_by_default_the_main_quantities_are_logged(tmp_path: Path) -> None:
    measured = callback(probe=64, outputs=Outputs(figures=False))
    done = fit(tmp_path, measured, logger=TensorBoardLogger(tmp_path), max_epochs=1)
    assert ours(events(done.log_dir)) == ours(done.callback_metrics) == MAIN_KEYS


def test_changes_in_the_log_are_those_of_the_rows(tmp_path: Path) -> None:
    """Of one pair there is nothing to correct for: larger than .01, and p below .05."""
    measured = callback(probe=64)
    fit(tmp_path, measured, max_epochs=3)
    value = {(row.epoch, row.quantity): row.value for row in measured.history if not isinstance(row.place, str)}
    counted = {(row.epoch, row.quantity): row.value for row in measured.history if row.place == ""}
    for epoch in range(4):
        gap, p = value[epoch, "DPI_AMI_XT"], value[epoch, "DPI_AMI_XT_p"]
        assert counted[epoch, "DPI_decreases"] == float(gap > 0.01 and p < 0.05)
        assert counted[epoch, "DPI_increases"] == float(gap < -0.01 and p < 0.05)


@pytest.mark.parametrize(("key", "mode"), [("AMI_TY/conv2", "max"), ("I_TY/conv2", "max"), ("H_T/conv1", "min")])
def test_model_checkpoint_monitors_a_key(tmp_path: Path, key: str, mode: str) -> None:
    keeper = ModelCheckpoint(tmp_path / "kept", monitor=key, mode=mode, filename="best")
    measured = callback()
    fit(tmp_path, keeper, measured, max_epochs=3)
    quantity, layer = key.split("/")
    after_training_began = [value for epoch, _, value in series(measured, layer, quantity) if epoch]
    assert keeper.best_model_score.item() == pytest.approx({"min": min, "max": max}[mode](after_training_began))


def test_early_stopping_monitors_a_key(tmp_path: Path) -> None:
    stopper = EarlyStopping("AMI_TY/conv2", mode="max", min_delta=100.0, patience=1)
    assert fit(tmp_path, callback(), stopper, max_epochs=6).current_epoch == 2


class OddNames(TinyCNN):
    """Layer names that a logger may not like."""

    def build(self) -> None:
        super().build()
        self.parts = nn.ModuleDict({"a layer (1)": self.conv1, "σ": self.conv2})
        del self.conv1, self.conv2

    def forward(self, x: Tensor) -> Tensor:
        for part in self.parts.values():
            x = part(x).relu()
        return self.head(x.flatten(1))


def test_keys_are_made_of_characters_every_logger_accepts(tmp_path: Path) -> None:
    done = fit(tmp_path, callback(), model=OddNames, max_epochs=1)
    found = ours(done.callback_metrics)
    first, second = (log_key(f"parts.{name}") for name in ("a layer (1)", "σ"))
    assert {f"AMI_XT/{first}", f"DPI_AMI_XT/{first}-to-{second}"} <= found
    assert all(re.fullmatch(r"[A-Za-z0-9_./-]+", key) for key in found)


@pytest.mark.parametrize(
    ("options", "prefix", "table"),
    [
        ({"log_prefix": "information/"}, "information/", "infoplane.csv"),
        ({"name": "mine"}, "mine/", "infoplane-mine.csv"),
        ({"name": "mine", "log_prefix": ""}, "", "infoplane-mine.csv"),
    ],
)
def test_prefix_and_name(tmp_path: Path, options: dict[str, Any], prefix: str, table: str) -> None:
    done = fit(tmp_path, callback(**options), max_epochs=1)
    assert ours(done.callback_metrics, prefix) == {prefix + key for key in KEYS}
    assert (tmp_path / table).exists()


def test_several_instances_side_by_side(tmp_path: Path) -> None:
    coarse, fine = callback(name="coarse", **estimator(bandwidth=MedianDistance(2))), callback(name="fine")
    done = fit(tmp_path, coarse, fine, max_epochs=1)
    assert ours(done.callback_metrics, "coarse/") == {f"coarse/{key}" for key in KEYS}
    assert done.callback_metrics["coarse/H_T/conv1"] < done.callback_metrics["fine/H_T/conv1"]


def test_what_is_beyond_chance_needs_two_shuffles(tmp_path: Path) -> None:
    """P-values are of CKA too, which needs none."""
    off = fit(tmp_path, callback(**estimator(shuffles=0)), max_epochs=1).callback_metrics
    one = fit(tmp_path, callback(**estimator(shuffles=1)), max_epochs=1).callback_metrics
    many = fit(tmp_path, callback(**estimator(shuffles=20)), max_epochs=1).callback_metrics
    beyond_chance = {key for key in KEYS if re.match(r"(DPI_)?AMI|E_", key)}
    assert ours(off) == {key for key in KEYS - beyond_chance if "chance" not in key}
    assert ours(one) == KEYS - beyond_chance
    assert ours(many) == KEYS


def test_p_values_need_no_shuffles_of_their_own(tmp_path: Path) -> None:
    """They are the same however many there are, and far below what so many permutations could show."""
    few = fit(tmp_path, callback(), max_epochs=1).callback_metrics
    many = fit(tmp_path, callback(**estimator(shuffles=20)), max_epochs=1).callback_metrics
    assert few["AMI_XT_p/conv1"] == many["AMI_XT_p/conv1"] < 1e-6


# ---------------------------------------------------------------------------------------------------------- when


@pytest.mark.parametrize(
    ("options", "epochs"),
    [
        ({}, [0, 1, 2, 3, 4, 5]),
        ({"measure_at_start": False}, [1, 2, 3, 4, 5]),
        ({"schedule": 2}, [0, 2, 4]),
        ({"schedule": AtEpochs([1, 4])}, [0, 1, 4]),
        ({"schedule": LogSpacedEpochs(3)}, [0, 1, 2, 5]),
    ],
)
def test_epochs_measured(tmp_path: Path, options: dict[str, Any], epochs: list[int]) -> None:
    measured = callback(**options)
    fit(tmp_path, measured, max_epochs=5)
    assert moments(measured) == [(epoch, max(0, epoch * STEPS_PER_EPOCH - 1)) for epoch in epochs]


def steps_of_curves(root: Path, done: lp.Trainer) -> tuple[list[int], list[int]]:
    """Steps of our curve and of the loss that the module logs at every step."""
    scalars = events(done.log_dir)
    return [step for step, _ in scalars["AMI_XT/conv1"]], [step for step, _ in scalars["train_loss"]]


@pytest.mark.parametrize(("accumulate", "measured_at"), [(1, [0, 2, 5, 8, 11]), (4, [0, 2]), (3, [0, 2, 5])])
def test_every_n_steps_counts_optimizer_steps(tmp_path: Path, accumulate: int, measured_at: list[int]) -> None:
    measured = callback(schedule=EveryNSteps(3))
    done = fit(tmp_path, measured, logger=TensorBoardLogger(tmp_path), max_epochs=3, accumulate_grad_batches=accumulate)
    ours, lightnings = steps_of_curves(tmp_path, done)
    assert ours == measured_at == [step for _, step in moments(measured)]
    assert set(ours) <= set(lightnings)


def test_a_value_after_a_step_stands_where_lightning_logs_that_step(tmp_path: Path) -> None:
    """The network at a step of EveryNSteps is the one of the epoch's end at the same step."""
    by_step, by_epoch = callback(schedule=EveryNSteps(STEPS_PER_EPOCH)), callback(name="epochs")
    fit(tmp_path, by_step, by_epoch)
    assert [(s, v) for _, s, v in series(by_step)] == [(s, v) for _, s, v in series(by_epoch)]


@pytest.mark.parametrize(
    ("options", "steps"),
    [
        ({"max_epochs": 3}, [0, 2, 11]),  # of 12
        ({"max_epochs": 3, "accumulate_grad_batches": 2}, [0, 1, 5]),  # of 6
        ({"max_epochs": -1, "max_steps": 9}, [0, 2, 8]),
    ],
)
def test_log_spaced_steps_end_with_the_last_step(tmp_path: Path, options: dict[str, Any], steps: list[int]) -> None:
    measured = callback(schedule=LogSpacedSteps(3), measure_at_start=False)
    fit(tmp_path, measured, **options)
    assert [step for _, step in moments(measured)] == steps


def test_values_between_epochs_are_logged_and_not_monitored(tmp_path: Path) -> None:
    done = fit(tmp_path, callback(schedule=EveryNSteps(3)), logger=TensorBoardLogger(tmp_path))
    assert ours(events(done.log_dir)) == KEYS
    assert ours(done.callback_metrics) == set()


class TwoOptimizers(TinyCNN):
    """Manual optimization; ``trainer.global_step`` counts both optimizers."""

    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False

    def training_step(self, batch: Any, batch_idx: int) -> None:
        for optimizer in self.optimizers():
            optimizer.zero_grad()
            self.manual_backward(super().training_step(batch, batch_idx))
            optimizer.step()

    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        return [torch.optim.SGD(part.parameters(), lr=0.05) for part in (self.conv1, self.head)]


@pytest.mark.parametrize("options", [{}, {"schedule": EveryNSteps(4)}])
def test_step_axis_under_manual_optimization(tmp_path: Path, options: dict[str, Any]) -> None:
    done = fit(tmp_path, callback(**options), model=TwoOptimizers, logger=TensorBoardLogger(tmp_path))
    ours, lightnings = steps_of_curves(tmp_path, done)
    assert ours == [0, 3, 7]
    assert lightnings == list(range(8))


def test_step_axis_under_accumulation(tmp_path: Path) -> None:
    done = fit(tmp_path, callback(), logger=TensorBoardLogger(tmp_path), accumulate_grad_batches=2, max_epochs=3)
    scalars = events(done.log_dir)
    assert [step for step, _ in scalars["AMI_XT/conv1"]] == [0, 1, 3, 5]
    assert [step for step, _ in scalars["train_loss_epoch"]] == [1, 3, 5]


def test_max_steps_within_an_epoch_measures_its_end(tmp_path: Path) -> None:
    measured = callback()
    fit(tmp_path, measured, max_epochs=-1, max_steps=6)
    assert moments(measured) == [(0, 0), (1, 3), (2, 5)]


# ------------------------------------------------------------------------------------------- Trainers of all kinds


class NoValidation(TinyCNN):
    """Trains only."""

    validation_step = lp.LightningModule.validation_step


def test_without_validation_data_the_probe_is_drawn_from_training_data(tmp_path: Path) -> None:
    asked, fallen_back = callback(probe=Draw(32, "train")), callback()
    fit(tmp_path, asked, model=NoValidation, val=None)
    with pytest.warns(UserWarning, match="there is no validation data: the probe is drawn from the training data"):
        fit(tmp_path, fallen_back, model=NoValidation, val=None)
    assert fallen_back.history == asked.history


def test_limit_val_batches_0_is_no_validation_data(tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="there is no validation data"):
        fit(tmp_path, measured := callback(), limit_val_batches=0)
    assert len(moments(measured)) == 3


def test_validation_that_comes_later_is_set_up_for_the_probe(tmp_path: Path) -> None:
    late, usual = callback(), callback()
    done = fit(tmp_path, late, check_val_every_n_epoch=2, num_sanity_val_steps=0)
    fit(tmp_path, usual)
    assert late.history == usual.history
    assert "val_loss" in done.callback_metrics


def test_fast_dev_run_measures_and_writes_nothing(tmp_path: Path) -> None:
    measured = callback(**drawing())
    fit(tmp_path, measured, fast_dev_run=True)
    assert len(moments(measured)) == 2
    assert list(tmp_path.iterdir()) == []


def test_without_a_logger_table_and_pictures_are_in_the_root_directory(tmp_path: Path) -> None:
    fit(tmp_path, callback(**drawing()))
    assert {path.name for path in tmp_path.iterdir()} == {
        "infoplane.csv",
        "infoplane-plane.png",
        "infoplane-depth.png",
    }


def test_with_a_logger_table_and_pictures_are_in_its_directory(tmp_path: Path) -> None:
    done = fit(tmp_path, callback(**drawing()), logger=CSVLogger(tmp_path))
    assert {"infoplane.csv", "infoplane-plane.png"} <= {path.name for path in Path(done.log_dir).iterdir()}


def test_barebones(tmp_path: Path) -> None:
    measured = callback()
    run = lp.Trainer(barebones=True, accelerator="cpu", callbacks=[measured], max_epochs=2, default_root_dir=tmp_path)
    with warnings.catch_warnings():
        # Lightning's own, once for every key that a barebones Trainer will not log.
        warnings.filterwarnings("ignore", message=".*You are calling `self.log|.*`Trainer\\(barebones=True\\)`")
        warnings.filterwarnings("ignore", message=".*there is no validation data")
        run.fit(TinyCNN(), loader(), loader())
    assert len(moments(measured)) == 3


def test_validate_test_and_predict_alone_measure_nothing(tmp_path: Path) -> None:
    measured = callback()
    run = trainer(tmp_path, measured)
    run.validate(TinyCNN(), loader(), verbose=False)
    assert measured.history == []


def test_figures_are_off_without_matplotlib_pyplot(tmp_path: Path) -> None:
    """Pictures are made without pyplot: no window, nothing to close."""
    from matplotlib import pyplot

    fit(tmp_path, callback(**drawing()))
    assert pyplot.get_fignums() == []


# ------------------------------------------------------------------------------------------------------- messages


def test_the_cost_is_told_at_the_end(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO"):
        fit(tmp_path, callback())
    assert re.search(r"3 measurements took [\d.]+ s,.* \d+% of the training time", caplog.text)


@pytest.mark.parametrize(
    ("sigma", "message"),
    [
        (1e-3, r"layer 'conv1': saturated\. H\(T\) is 100% of log2 n.*larger bandwidth"),
        (1e3, r"layer 'conv1': collapsed\. H\(T\) is 0\.0% of log2 n.*smaller bandwidth"),
    ],
)
def test_a_layer_that_means_nothing_is_told_once_with_the_remedy(tmp_path: Path, sigma: float, message: str) -> None:
    with said() as messages:
        fit(tmp_path, callback(layers="conv1", **estimator(bandwidth=Fixed(sigma))))
    assert len(messages) == 1
    assert re.search(message, messages[0])


def test_a_layer_at_chance_is_told(tmp_path: Path) -> None:
    class Amnesia(TinyCNN):
        """A layer whose output is noise, whatever comes in."""

        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x) + 0 * self.forget(torch.randn(len(x), 2)).sum()

        def build(self) -> None:
            super().build()
            self.forget = nn.Identity()

    with said() as messages:
        fit(tmp_path, callback(layers=["conv1", "forget"]), model=Amnesia)
    (message,) = (one for one in messages if "'forget'" in one)
    assert re.fullmatch(
        r"layer 'forget': at chance\. AMI\(X;T\) is -?0\.\d{3} \(p = 0\.\d+\) and AMI\(T;Y\) is -?0\.\d{3} "
        r"\(p = 0\.\d+\): no more than chance gives\. A larger probe shows smaller dependence\.",
        message,
    )


def test_a_single_layer_is_measured_without_a_word(tmp_path: Path) -> None:
    """It has no gaps; warnings are errors here."""
    measured = callback(layers="conv1", probe=64)
    with said() as messages:
        done = fit(tmp_path, measured, max_epochs=1)
    assert messages == []
    assert "AMI_XT_stderr/conv1" in done.callback_metrics
    assert not [key for key in ours(done.callback_metrics) if key.startswith("DPI")]


def test_a_probe_without_targets_leaves_out_the_target_and_says_so_once(tmp_path: Path) -> None:
    measured = callback(probe=(images(32).tensors[0], None), **drawing())
    with said() as messages:
        done = fit(tmp_path, measured)
    assert messages == ["the probe has no targets: what layers share with them is left out."]
    assert ours(done.callback_metrics) == {key for key in KEYS if "Y" not in key}


def test_continuous_targets_get_a_gaussian_kernel(tmp_path: Path) -> None:
    inputs = images(32).tensors[0]
    targets = inputs.flatten(1).norm(dim=1)
    done = fit(tmp_path, callback(probe=(inputs, targets)))
    expected = renyi_entropy(gram(targets[:, None])).item()  # as classes, log2 32 = 5 bits
    assert done.callback_metrics["H_Y"].item() == pytest.approx(expected, abs=1e-6)


# ------------------------------------------------------------------------------------------------------ bad input


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"probe": 1}, ValueError, "probe=1: a probe needs at least 2 samples"),
        ({"probe": "512"}, TypeError, r"probe='512': expected a number of samples, Draw\(size, source\), Probe\("),
        ({"probe": True}, TypeError, "probe=True: expected a number of samples"),
        ({"probe": 7.5}, TypeError, r"probe=7\.5: expected a number of samples"),
        ({"probe": torch.zeros(3, 2)}, TypeError, r"probe=tensor\(.*\): expected a number of samples"),
        ({"probe": [torch.zeros(3, 2), None]}, TypeError, r"probe=\[.*\]: expected .* a pair \(inputs, targets\)"),
        ({"probe": (torch.zeros(1, 2), None)}, ValueError, "a probe needs at least 2 samples, got 1"),
        ({"probe": (torch.zeros(3, 2), torch.zeros(4))}, ValueError, "3 inputs but 4 targets"),
        ({"schedule": 0}, ValueError, r"n=0\): expected a whole number of at least 1"),
        ({"schedule": [1, 2]}, TypeError, r"schedule=\[1, 2\]: expected a number of epochs or a Schedule.*AtEpochs"),
        ({"schedule": 1.5}, TypeError, r"schedule=1\.5: expected a number of epochs or a Schedule"),
        ({"schedule": True}, TypeError, "schedule=True: expected a number of epochs or a Schedule"),
        ({"estimator": MedianDistance()}, TypeError, r"estimator=MedianDistance\(.*\): expected Estimator\(\.\.\.\)\."),
        ({"estimator": 2}, TypeError, r"estimator=2: expected Estimator\(\.\.\.\)\."),
        ({"estimator": Estimator}, TypeError, r"estimator=.*: expected Estimator\(\.\.\.\)\."),
        ({"outputs": True}, TypeError, r"outputs=True: expected Outputs\(\.\.\.\)\."),
        ({"outputs": None}, TypeError, r"outputs=None: expected Outputs\(\.\.\.\)\."),
        (
            {"redundancy": {"map_pairs": 10}},
            TypeError,
            r"redundancy=\{'map_pairs': 10\}: expected True, False or Redundancy\(\.\.\.\)\.",
        ),
        ({"redundancy": None}, TypeError, r"redundancy=None: expected True, False or Redundancy\(\.\.\.\)\."),
        ({"error_signals": 3}, TypeError, r"error_signals=3: expected True, False or ErrorSignals\(\.\.\.\)\."),
        (
            {"error_signals": nn.functional.mse_loss},
            TypeError,
            r"error_signals=<function.*: expected True, False or ErrorSignals\(\.\.\.\)\.",
        ),
        ({"forward_fn": 3}, TypeError, r"forward_fn=3: expected a function \(module, inputs\) -> outputs\."),
        ({"probe_batch_size": 0}, ValueError, r"probe_batch_size=0: expected a whole number of at least 1\."),
        ({"probe_batch_size": 7.5}, ValueError, r"probe_batch_size=7\.5: expected a whole number of at least 1\."),
        ({"probe_batch_size": True}, ValueError, "probe_batch_size=True: expected a whole number of at least 1"),
        ({"on_change": "ignore"}, ValueError, "on_change='ignore': expected 'error' or 'warn'"),
        ({"dpi_pairs": "all"}, ValueError, "dpi_pairs='all': expected 'markov', 'consecutive' or None"),
    ],
    ids=str,
)
def test_wrong_arguments_fail_at_construction(options: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=f"(?s){message}"):  # tensors and functions are printed over several lines
        MatrixRenyiCallback(**options)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: Draw(1), ValueError, "probe=1: a probe needs at least 2 samples"),
        (lambda: Draw(32, "test"), ValueError, "source='test': expected 'val', 'train' or both"),
        (lambda: Draw(32, ()), ValueError, r"source=\(\): expected 'val', 'train' or both"),
        (lambda: Estimator(alpha=0), ValueError, "alpha=0"),
        (lambda: Estimator(alpha=-1.0), ValueError, "alpha=-1.0"),
        (lambda: Estimator(shuffles=-1), ValueError, "shuffles=-1: expected a whole number of at least 0; 0 turns"),
        (lambda: ErrorSignals(3), TypeError, r"ErrorSignals\(loss_fn=3\): expected a function \(outputs, targets\)"),
    ],
)
def test_what_arguments_are_made_of_fails_even_before(
    make: Callable[[], object], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        make()


def test_there_are_at_most_sixteen_arguments_and_all_but_two_are_named() -> None:
    """A seventeenth belongs into one of the choices; a third by position nobody could read."""
    arguments = inspect.signature(MatrixRenyiCallback).parameters
    assert len(arguments) <= 16
    assert [name for name, one in arguments.items() if one.kind is not one.KEYWORD_ONLY] == ["layers", "probe"]
    assert all(one.default is not one.empty for one in arguments.values())
    with pytest.raises(TypeError, match="positional argument"):
        MatrixRenyiCallback("conv", 32, 5)  # type: ignore[misc]


@pytest.mark.parametrize(
    ("measured", "text"),
    [
        (MatrixRenyiCallback(), "MatrixRenyiCallback()"),
        (MatrixRenyiCallback("conv", 512, schedule=1, estimator=Estimator()), "MatrixRenyiCallback()"),
        (
            MatrixRenyiCallback(["conv1", "head"], 64, schedule=EveryNSteps(100), measure_at_start=False),
            "MatrixRenyiCallback(layers=['conv1', 'head'], probe=64, schedule=EveryNSteps(n=100), "
            "measure_at_start=False)",
        ),
        (
            MatrixRenyiCallback(
                probe=Draw(64, ("train", "val")),
                estimator=Estimator(alpha=2, bandwidth=MedianDistance(2)),
                error_signals=True,
                redundancy=Redundancy(map_pairs=10),
                outputs=Outputs(figures=False),
                name="mine",
                on_change="warn",
            ),
            "MatrixRenyiCallback(probe=Draw(size=64, source=('train', 'val')), estimator=Estimator(alpha=2, "
            "bandwidth=MedianDistance(scale=2, freeze=False, samples=None)), error_signals=True, "
            "redundancy=Redundancy(map_pairs=10, samples=128, seed=0, shuffles=2, paper=False), "
            "outputs=Outputs(figures=False), name='mine', on_change='warn')",
        ),
    ],
    ids=["defaults", "defaults that were typed", "some", "choices"],
)
def test_printed_it_is_what_was_typed(measured: MatrixRenyiCallback, text: str) -> None:
    """What differs from the defaults, and nothing else; typed again, it is the same."""
    assert repr(measured) == text
    names = {name: getattr(lightning_infoplane, name) for name in lightning_infoplane.__all__}
    again = eval(repr(measured), names)
    arguments = inspect.signature(MatrixRenyiCallback).parameters
    assert {name: getattr(again, name) for name in arguments} == {name: getattr(measured, name) for name in arguments}
    assert repr(again) == text


def test_a_probe_of_tensors_can_be_printed() -> None:
    """Tensors compare element by element, and a probe is compared with its default."""
    pair, held = (
        MatrixRenyiCallback(probe=(torch.zeros(2, 1), None)),
        MatrixRenyiCallback(probe=Probe(torch.zeros(2, 1))),
    )
    assert repr(pair) == repr(held)
    assert repr(pair).startswith("MatrixRenyiCallback(probe=Probe(inputs=tensor(")


def test_a_run_changes_nothing_in_what_is_printed(tmp_path: Path) -> None:
    measured = callback()
    before = repr(measured)
    fit(tmp_path, measured, max_epochs=1)
    assert repr(measured) == before


class MustNotTrain(TinyCNN):
    """Fails at the first training step."""

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        raise AssertionError("training began")


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"layers": "conv9"}, ValueError, "layers='conv9' matches no module. Did you mean 'conv.'.*Convolutions here"),
        ({"layers": nn.LSTM}, ValueError, "LSTM.*Convolutions here: 'conv1', 'conv2'"),
        ({"layers": []}, ValueError, "layers is empty"),
        ({"layers": 3}, TypeError, "layers: expected a keyword .* got 3"),
        ({"probe": 500}, ValueError, "probe=500, but the data set has 64 samples. Pass probe=64 or fewer"),
    ],
)
@pytest.mark.parametrize("raise_on_error", [True, False])
def test_wrong_arguments_fail_before_training(
    tmp_path: Path, options: dict[str, Any], error: type[Exception], message: str, raise_on_error: bool
) -> None:
    with pytest.raises(error, match=message):
        fit(tmp_path, callback(**options, raise_on_error=raise_on_error), model=MustNotTrain)


class Poisoned(TinyCNN):
    """A layer beside the others that puts out what it is told to."""

    poison = torch.nan

    def build(self) -> None:
        super().build()
        self.side = nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        self.side(torch.full_like(x, self.poison))
        return super().forward(x)


@pytest.mark.parametrize("poison", [torch.nan, torch.inf])
def test_a_layer_that_is_not_finite_is_left_out_and_named(tmp_path: Path, poison: float) -> None:
    model, measured = Poisoned(), callback(layers=["conv", "side"])
    model.poison = poison
    with pytest.warns(UserWarning, match="layer 'side' is left out: NaN or infinite values"):
        fit(tmp_path, measured, model=model)
    assert {row.place for row in measured.history if row.quantity == "H_T"} == set(LAYERS)
    assert len(moments(measured)) == 3


def test_a_constant_layer_has_no_entropy(tmp_path: Path) -> None:
    model, measured = Poisoned(), callback(layers="side")
    model.poison = 1.0
    with pytest.warns(UserWarning, match=r"layer 'side': collapsed\. H\(T\) is 0\.0% of log2 n"):
        fit(tmp_path, measured, model=model)
    assert not [row for row in measured.history if row.quantity.startswith("AMI")]
    for quantity in ("H_T", "I_XT", "I_TY"):
        assert [value for *_, value in series(measured, "side", quantity)] == pytest.approx([0, 0, 0], abs=1e-9)


class FailsInEval(TinyCNN):
    """A module that cannot be measured, though it trains."""

    def forward(self, x: Tensor) -> Tensor:
        if not self.training and len(x) == 32:
            raise RuntimeError("no probe, please")
        return super().forward(x)


def test_a_failing_measurement_is_a_warning(tmp_path: Path) -> None:
    measured = callback(raise_on_error=False)
    with said() as messages:
        done = fit(tmp_path, measured, model=FailsInEval)
    assert done.state.finished
    assert done.current_epoch == 2
    assert measured.history == []
    assert messages == [
        "the measurement after epoch 0 failed and training goes on. RuntimeError: no probe, please "
        "(raise_on_error=True ends the run instead.)",
        "NOTHING WAS MEASURED in this run: no measurement succeeded.",
    ]


def test_a_failing_measurement_ends_the_run_if_wanted(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="no probe, please"):
        fit(tmp_path, callback(raise_on_error=True), model=FailsInEval)


def test_a_failure_is_not_fatal_to_later_measurements(tmp_path: Path) -> None:
    calls: list[int] = []

    def second_fails(network: nn.Module, inputs: Tensor) -> None:
        network(inputs)
        calls.append(len(inputs))
        if calls.count(32) == 2:
            raise RuntimeError("once")

    measured = callback(forward_fn=second_fails, raise_on_error=False)
    with said() as messages:
        fit(tmp_path, measured, max_epochs=3)
    assert messages[0].startswith("the measurement after epoch 1 failed")
    assert messages[1:] == ["1 of 4 measurements failed."]
    assert [epoch for epoch, _ in moments(measured)] == [0, 2, 3]


def test_chains_that_cannot_be_found_are_a_warning(tmp_path: Path) -> None:
    def no_few(network: nn.Module, inputs: Tensor) -> None:
        if len(inputs) < 32:
            raise RuntimeError("too few")
        network(inputs)

    measured = callback(forward_fn=no_few, raise_on_error=False)
    with pytest.warns(UserWarning, match="looking for Markov chains among the layers failed and training goes on"):
        done = fit(tmp_path, measured)
    assert len(moments(measured)) == 3
    assert "DPI_AMI_XT/conv1-to-conv2" in done.callback_metrics


def test_inputs_that_are_not_finite_are_named(tmp_path: Path) -> None:
    inputs = images(32).tensors[0].clone()
    inputs[0] = torch.nan
    with pytest.raises(ValueError, match="the inputs of the probe hold NaN or infinite values"):
        fit(tmp_path, callback(probe=(inputs, torch.arange(32) % 2)))


def test_an_unwritable_table_is_told_and_training_goes_on(tmp_path: Path) -> None:
    (tmp_path / "infoplane.csv").mkdir()
    with pytest.warns(UserWarning, match=r"writing failed and training goes on. \w+Error"):
        done = fit(tmp_path, measured := callback(raise_on_error=False))
    with pytest.raises(OSError, match=r"infoplane\.csv"):
        fit(tmp_path, callback(raise_on_error=True))
    assert done.current_epoch == 2
    assert len(moments(measured)) == 3


def test_a_probe_object_is_taken_as_it_is(tmp_path: Path) -> None:
    pair, held = callback(probe=images(32).tensors), callback(probe=Probe(*images(32).tensors))
    fit(tmp_path, pair)
    fit(tmp_path, held)
    assert pair.history == held.history


def test_error_signals_that_fail_leave_the_rest(tmp_path: Path) -> None:
    with said() as messages:
        fit(tmp_path, measured := callback(error_signals=ErrorSignals(lambda *_: None), raise_on_error=False))
    assert any("measurement of error signals after epoch 0 failed" in message for message in messages)
    assert moments(measured) == [(0, 0), (1, 3), (2, 7)]
    assert not [row for row in measured.history if "error" in row.quantity]


def test_gaps_of_an_approximate_solver_carry_its_error(tmp_path: Path) -> None:
    fit(tmp_path, measured := callback(**estimator(solver=Lanczos(steps=8, vectors=8))), max_epochs=1)
    value = {row.quantity: row.value for row in measured.history if row.place == Pair("conv1", "conv2")}
    assert value["DPI_XT_stderr"] > 0
    assert value["DPI_AMI_XT_stderr"] > 0
    # An error of the solver alone says nothing of other samples: no p-values, and nothing is counted.
    assert "DPI_AMI_XT_p" not in value
    assert not {row.quantity for row in measured.history} & {"DPI_increases", "DPI_decreases"}
