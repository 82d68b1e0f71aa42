"""A run with the callback is, bit for bit, the run without it: one table of runs, one comparison."""

import copy
import random
import re
import signal
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import lightning.pytorch as lp
import numpy as np
import pytest
import torch
from lightning.pytorch import callbacks
from lightning.pytorch.callbacks import StochasticWeightAveraging
from networks import CLASSES, QUIET, TinyCNN, assert_same, callback, drawing, hooks_on, images, loader, moments, said
from torch import Tensor, nn
from torchmetrics import Accuracy

from lightning_infoplane import Draw, EveryNSteps, MatrixRenyiCallback

# ----------------------------------------------------------------------------------------------------- the networks


class Recorded(TinyCNN):
    """Keeps every batch it was trained on."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[Tensor] = []

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        self.seen.append(batch[0].clone())
        return super().training_step(batch, batch_idx)


class Noisy(Recorded):
    """Dropout and batch norm."""

    def build(self) -> None:
        super().build()
        self.conv1 = nn.Sequential(self.conv1, nn.BatchNorm2d(4), nn.Dropout(0.5))


class FrozenNorm(Noisy):
    """A batch norm that stays in eval mode, as in fine-tuning."""

    def on_train_epoch_start(self) -> None:
        self.conv1[1].eval()


class InPlace(Recorded):
    """An activation that overwrites the output of the layer before it."""

    def build(self) -> None:
        super().build()
        self.body = nn.Sequential(self.conv1, nn.ReLU(inplace=True), self.conv2, nn.ReLU(inplace=True), nn.Flatten())

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(x))


class Shared(Recorded):
    """One convolution, called three times."""

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv1(x).relu()
        for _ in range(3):
            x = self.conv2(x).relu()
        return self.head(x.flatten(1))


class Manual(Recorded):
    """Manual optimization with two optimizers."""

    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False

    def training_step(self, batch: Any, batch_idx: int) -> None:
        loss = super().training_step(batch, batch_idx)
        for optimizer in self.optimizers():
            optimizer.zero_grad()
        self.manual_backward(loss)
        for optimizer in self.optimizers():
            optimizer.step()

    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        return [torch.optim.Adam(self.conv1.parameters()), torch.optim.SGD(self.head.parameters(), lr=0.1)]


class WithMetrics(Recorded):
    """torchmetrics of its own, which a forward pass updates too."""

    def build(self) -> None:
        super().build()
        self.accuracy = Accuracy("multiclass", num_classes=CLASSES)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        self.accuracy(self(batch[0]), batch[1])
        self.log("train_accuracy", self.accuracy, on_step=False, on_epoch=True)
        return super().training_step(batch, batch_idx)


class Silent(Recorded):
    """Logs nothing: ``self.log`` in a compiled module fails in Lightning 2.6.6 with torch 2.12 and later."""

    logs = False

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        return TinyCNN.training_step(self, batch, batch_idx)


class CompiledBody(Noisy):
    """A compiled submodule, with the backend that counts."""

    def build(self) -> None:
        super().build()
        self.conv1 = torch.compile(self.conv1, backend=counting)


compiled: list[int] = []


def counting(graph: torch.fx.GraphModule, example: list[Tensor]) -> Callable[..., Any]:
    """A compiler that only counts how often it is asked."""
    compiled.append(len(example))
    return graph.forward


def compile_in_place(model: nn.Module) -> nn.Module:
    model.compile(backend=counting)
    return model


def compile_wrapped(model: nn.Module) -> nn.Module:
    return torch.compile(model, backend=counting)


# --------------------------------------------------------------------------------------------- two runs, one trace


@dataclass(frozen=True)
class Case:
    """One kind of run."""

    name: str
    model: type[Recorded] = Recorded
    trainer: dict[str, Any] = field(default_factory=dict)
    loader: dict[str, Any] = field(default_factory=dict)
    measure: dict[str, Any] = field(default_factory=dict)
    beside: Callable[[], list[lp.Callback]] = list
    prepare: Callable[[nn.Module], nn.Module] = lambda model: model


CASES = [
    Case("plain"),
    Case("dropout, batch norm and shuffling", Noisy, loader={"shuffle": True}),
    Case("frozen batch norm", FrozenNorm, loader={"shuffle": True}),
    Case("in-place activations", InPlace),
    Case("in-place activations, error signals", InPlace, measure={"error_signals": True}),
    Case("dropout, error signals, redundancy", Noisy, measure={"error_signals": True, "redundancy": True}),
    Case("accumulated gradients", Noisy, {"accumulate_grad_batches": 4}),
    Case("measured within accumulation", Noisy, {"accumulate_grad_batches": 2}, measure={"schedule": EveryNSteps(1)}),
    Case("manual optimization", Manual),
    *(  # since Lightning 2.6
        [Case("averaged weights (EMA)", Noisy, beside=lambda: [callbacks.EMAWeightAveraging(decay=0.9)])]
        if hasattr(callbacks, "EMAWeightAveraging")
        else []
    ),
    Case("averaged weights (SWA)", Recorded, beside=lambda: [StochasticWeightAveraging(0.01, swa_epoch_start=1)]),
    Case("bf16-mixed", Noisy, {"precision": "bf16-mixed"}),
    Case("64-true", Noisy, {"precision": "64-true"}),
    Case("bf16-true", Noisy, {"precision": "bf16-true"}),
    Case("module.compile()", Silent, prepare=compile_in_place),
    Case("torch.compile(module)", Silent, prepare=compile_wrapped),
    Case("compiled submodule", CompiledBody),
    Case("persistent workers", Noisy, loader={"num_workers": 1, "persistent_workers": True, "shuffle": True}),
    Case("probe of training data", Noisy, loader={"shuffle": True}, measure={"probe": Draw(32, ("train", "val"))}),
    Case("probe in pieces", Noisy, measure={"probe_batch_size": 9}),
    Case("shared weights", Shared),
    Case("the module's own metrics", WithMetrics),
    Case("no validation before the second epoch", Noisy, {"check_val_every_n_epoch": 2, "num_sanity_val_steps": 0}),
    Case("clipped gradients", Noisy, {"gradient_clip_val": 0.1}),
]


class Witness(lp.Callback):
    """Notes, before every training step, whatever a guest could have touched."""

    def __init__(self) -> None:
        self.notes: list[dict[str, Any]] = []

    def on_train_batch_start(
        self, trainer: lp.Trainer, pl_module: lp.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        self.notes.append(traces(pl_module))

    def on_train_end(self, trainer: lp.Trainer, pl_module: lp.LightningModule) -> None:
        self.notes.append(traces(pl_module))


def traces(model: nn.Module) -> dict[str, Any]:
    """Train flags, hooks, gradients and random number generators."""
    return {
        "flags": {name: module.training for name, module in model.named_modules()},
        "hooks": hooks_on(model),
        "gradients": {name: copy.deepcopy(p.grad) for name, p in model.named_parameters()},
        "python": random.getstate(),
        "numpy": np.random.get_state()[1].tolist(),
        "torch": torch.get_rng_state(),
    }


def seed() -> None:
    torch.manual_seed(0)
    random.seed(0)
    np.random.seed(0)


def run(root: Path, case: Case, *guests: lp.Callback) -> dict[str, Any]:
    """Train, and return all that can be compared."""
    torch._dynamo.reset()
    compiled.clear()
    seed()
    witness = Witness()
    trainer = lp.Trainer(
        **QUIET
        | {"default_root_dir": root, "logger": False, "enable_checkpointing": False, "max_epochs": 2}
        | {"callbacks": [*guests, witness, *case.beside()]}
        | case.trainer
    )
    model = case.model()
    workers = {key: value for key, value in case.loader.items() if key != "shuffle"}
    with warnings.catch_warnings():
        # What these Trainers say for themselves.
        warnings.filterwarnings("ignore", message="Swapping scheduler|.*lr_scheduler.step|`isinstance.treespec")
        trainer.fit(case.prepare(model), loader(**case.loader), loader(images(seed=1), **workers))
    return {
        "state": model.state_dict(),
        "optimizers": [optimizer.state_dict() for optimizer in trainer.optimizers],
        "batches": model.seen,
        "metrics": dict(trainer.callback_metrics),
        "before each step": witness.notes,
        "afterwards": traces(model),
        "compilations": list(compiled),
    }


def assert_undisturbed(found: dict[str, Any], expected: dict[str, Any]) -> None:
    """The same trace, but for the metrics that are ours."""
    found = found | {"metrics": {key: found["metrics"][key] for key in expected["metrics"]}}
    assert_same(found, expected)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_run_is_the_same_with_and_without_the_callback(tmp_path: Path, case: Case) -> None:
    measured = callback(**drawing(), **case.measure)
    alone, with_guest = run(tmp_path, case), run(tmp_path, case, measured)
    assert len(moments(measured)) >= 3
    assert with_guest["afterwards"]["hooks"] == 0
    assert_undisturbed(with_guest, alone)


@pytest.mark.parametrize("case", [case for case in CASES if "compile" in case.name], ids=lambda case: case.name)
def test_layers_in_compiled_code_are_measured_under_their_own_names(tmp_path: Path, case: Case) -> None:
    measured, eager = callback(), callback()
    trace = run(tmp_path, case, measured)
    assert trace["compilations"]
    plain = {Silent: Silent, CompiledBody: Noisy}[case.model]
    run(tmp_path, Case("eager", plain), eager)
    assert [row[:-1] for row in measured.history] == [row[:-1] for row in eager.history]
    assert [row.value for row in measured.history] == pytest.approx([row.value for row in eager.history], abs=1e-5)


@pytest.mark.parametrize("precision", ["bf16-mixed", "bf16-true", "64-true"])
def test_values_hardly_depend_on_the_precision_of_training(tmp_path: Path, precision: str) -> None:
    """The network runs in its own precision; the estimator never does."""
    reduced, full = callback(layers="conv1"), callback(layers="conv1")
    run(tmp_path, Case(precision, trainer={"precision": precision, "max_epochs": 1}), reduced)
    run(tmp_path, Case("32-true", trainer={"max_epochs": 1}), full)
    first = [row.value for row in full.history if row.epoch == 0]
    assert [row.value for row in reduced.history if row.epoch == 0] == pytest.approx(first, abs=0.03)


# ------------------------------------------------------------------------------------- a measurement that is cut off


def cut_off(error: type[BaseException]) -> MatrixRenyiCallback:
    """A callback whose second measurement stops within the forward pass, after doing what damage it can."""
    calls: list[int] = []

    def forward(network: TinyCNN, inputs: Tensor) -> None:
        network.conv1(inputs + torch.rand(1) + random.random() + np.random.rand())
        if len(inputs) == 32:
            calls.append(1)
            if len(calls) == 2:
                raise error("in the middle")
        network(inputs)

    return callback(forward_fn=forward, raise_on_error=False, dpi_pairs="consecutive")


class Stopper(lp.Callback):
    """Stops a run where the measurement of :func:`cut_off` would, in its stead."""

    def on_train_epoch_end(self, trainer: lp.Trainer, pl_module: lp.LightningModule) -> None:
        raise KeyboardInterrupt


@pytest.fixture
def interrupt_handler() -> Iterator[None]:
    """Lightning ignores Ctrl-C from the first one on, for the rest of the program."""
    handler = signal.getsignal(signal.SIGINT)
    yield
    signal.signal(signal.SIGINT, handler)


def test_an_exception_in_a_measurement_leaves_no_trace(tmp_path: Path) -> None:
    case = Case("dropout, batch norm and shuffling", Noisy, loader={"shuffle": True})
    alone = run(tmp_path, case)
    with said() as warned:
        with_guest = run(tmp_path, case, cut_off(RuntimeError))
    assert any(re.search("measurement after epoch 1 failed .* RuntimeError: in the middle", one) for one in warned)
    assert_undisturbed(with_guest, alone)


@pytest.mark.usefixtures("interrupt_handler")
def test_an_interrupt_in_a_measurement_leaves_no_trace(tmp_path: Path) -> None:
    def interrupted(*guests: lp.Callback) -> dict[str, Any]:
        seed()
        model = Noisy()
        trainer = lp.Trainer(
            **QUIET,
            max_epochs=2,
            logger=False,
            enable_checkpointing=False,
            callbacks=[*guests],
            default_root_dir=tmp_path,
        )
        with pytest.raises(SystemExit):
            trainer.fit(model, loader(shuffle=True), loader(images(seed=1)))
        assert trainer.interrupted
        return {"state": model.state_dict(), "batches": model.seen, "metrics": {}, "afterwards": traces(model)}

    alone, with_guest = interrupted(Stopper()), interrupted(cut_off(KeyboardInterrupt))
    assert len(alone["batches"]) == 4
    assert_undisturbed(with_guest, alone)
