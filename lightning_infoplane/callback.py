"""The Lightning callback: when to measure, on which ranks, where the numbers go, what a checkpoint keeps."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import lightning.pytorch as lp
import pytorch_lightning as pl
import torch
from lightning_utilities.core.rank_zero import rank_zero_warn
from torch import Tensor, nn
from torchmetrics import MeanMetric

from lightning_infoplane.bandwidths import Bandwidth, MedianDistance
from lightning_infoplane.capture import LayerSpec, capture, isolated_rng, select_layers, undisturbed
from lightning_infoplane.entropy import Eigenvalues, Solver
from lightning_infoplane.loggers import log_key, log_scalars
from lightning_infoplane.measurement import Measurement, Share
from lightning_infoplane.plane import InformationPlane, Row, verdicts
from lightning_infoplane.probe import Probe, draw_probe
from lightning_infoplane.schedules import EveryNEpochs, Schedule

__all__ = ["MatrixRenyiCallback"]

if TYPE_CHECKING:
    _Callback = lp.Callback
else:

    class _Callback(lp.Callback, pl.Callback):
        """A callback for both Trainers: `lightning` and `pytorch_lightning` each accept their own class only."""


# In the history, for pictures that have nothing but the table; a chart of a constant would be noise in a logger.
_NOT_LOGGED = {"log2_n"}

_REMEDIES = {
    "saturated": "H(T) is {share:.0%} of log2 n, so I(X;T) equals H(X) whatever the layer does. "
    "Use a larger bandwidth, such as MedianDistance(scale=2), or a larger probe.",
    "collapsed": "H(T) is {share:.0%} of log2 n: to the kernel all samples look alike (a dead layer?). "
    "Use a smaller bandwidth, such as MedianDistance(scale=0.5), if its activations do vary.",
    "at chance": "I(X;T) is no larger than for shuffled pairs: the curve says nothing about the input. "
    "Use a larger probe or another bandwidth.",
}


class MatrixRenyiCallback(_Callback):
    """Logs what each layer keeps of its input and of its target while the network trains.

    On a fixed probe, before training and at the end of the chosen epochs, it evaluates the matrix-based Rényi
    entropies of arXiv 1804.06537 and logs them, in bits, to every logger of the Trainer: ``I_XT/{layer}``,
    ``I_TY/{layer}``, ``H_T/{layer}``, their values for shuffled pairs (``I_XT_chance/…``, ``I_TY_chance/…``),
    the gaps of the data-processing inequality (``DPI_XT/{a}-to-{b}``, ``DPI_YT/…``), ``bandwidth/{layer}``
    (in activation units) and ``H_X``, ``H_Y``. They are in ``trainer.callback_metrics``, for ModelCheckpoint
    and EarlyStopping, in ``callback.history``, and in ``infoplane.csv`` in the run's log directory.

    Args:
        layers: ``"conv"``, ``"linear"``, ``"all"`` (every module without children), a name, a glob, a module
            type, a callable ``(name, module) -> bool``, or a sequence of these.
        probe: how many samples to draw, stratified by class; a ``Probe``; or a pair ``(inputs, targets)``.
        probe_from: which data to draw from, ``"val"`` or ``"train"``.
        every_n_epochs: how often to measure.
        schedule: which epochs to measure, instead of ``every_n_epochs``.
        alpha: the order of the entropy.
        bandwidth: the kernel's bandwidth rule for inputs and layers.
        target_bandwidth: a Gaussian for the targets instead of the class kernel.
        solver: how entropies are computed; exact by default.
        measure_at_start: also measure the untrained network, at step 0.
        chance: shuffles averaged for the chance level; 0 turns it off, 20 or more give p-values.
        forward_fn: called as ``forward_fn(module, inputs)`` instead of ``module(inputs)``.
        log_prefix: put before every key, such as ``"infoplane/"``; tells several callbacks apart.
        seed: of the probe and the shuffles.
        on_probe_change: what to do on resuming with a probe of other samples: ``"error"`` or ``"warn"``.
        raise_on_error: end the training when a measurement fails, instead of going on with a warning.

    Raises:
        ValueError: for arguments that cannot be meant; before any training.

    Example:
        >>> MatrixRenyiCallback(layers="conv", probe=256, every_n_epochs=5).schedule
        EveryNEpochs(n=5)
    """

    def __init__(
        self,
        layers: LayerSpec | Sequence[LayerSpec] = "conv",
        probe: int | Probe | tuple[Tensor, Tensor | None] = 512,
        probe_from: Literal["val", "train"] = "val",
        every_n_epochs: int = 1,
        schedule: Schedule | None = None,
        alpha: float = 1.01,
        bandwidth: Bandwidth = MedianDistance(),
        target_bandwidth: Bandwidth | None = None,
        solver: Solver = Eigenvalues(),
        measure_at_start: bool = True,
        chance: int = 1,
        forward_fn: Callable[[nn.Module, Any], Any] | None = None,
        log_prefix: str = "",
        seed: int = 0,
        on_probe_change: Literal["error", "warn"] = "error",
        raise_on_error: bool = False,
    ) -> None:
        super().__init__()
        if probe_from not in ("val", "train"):
            raise ValueError(f"probe_from={probe_from!r}: expected 'val' or 'train'.")
        if isinstance(probe, int) and probe < 2:
            raise ValueError(f"probe={probe}: a probe needs at least 2 samples. Some hundred give useful numbers.")
        self.layers, self.probe_from, self.forward_fn = layers, probe_from, forward_fn
        self.schedule = schedule or EveryNEpochs(every_n_epochs)
        self.measure_at_start, self.log_prefix = measure_at_start, log_prefix
        self.seed, self.on_probe_change, self.raise_on_error = seed, on_probe_change, raise_on_error
        self.plane = InformationPlane(alpha, bandwidth, target_bandwidth, solver, chance, seed)
        self._wanted = Probe(*probe) if isinstance(probe, tuple) else probe
        self._probe: Probe | None = None
        self._fingerprint: str | None = None  # of the probe of the run, also the one a checkpoint was made in
        self._modules: dict[str, nn.Module] = {}
        self._metrics: dict[str, MeanMetric] = {}
        self._said: set[str] = set()

    @property
    def history(self) -> list[Row]:
        """Every number so far: (epoch, step, layer, quantity, value), epochs counted as finished ones."""
        return self.plane.history

    @property
    def state_key(self) -> str:
        """Two callbacks with different prefixes keep their states apart."""
        return self._generate_state_key(log_prefix=self.log_prefix)

    # ----------------------------------------------------------------------------------------- Lightning's hooks

    def on_fit_start(self, trainer: lp.Trainer, pl_module: lp.LightningModule) -> None:
        """Find the layers, so that a misspelt name ends the run here."""
        self._modules = select_layers(pl_module, self.layers)

    def on_train_start(self, trainer: lp.Trainer, pl_module: lp.LightningModule) -> None:
        """Draw the probe and measure the untrained network; a resumed run has done so already."""
        self._probe = self._make_probe(trainer)
        self._check_fingerprint(self._probe.fingerprint())
        if self._probe.targets is None:
            self._say_once("targets", "the probe has no targets: I(T;Y) is left out.")
        if self.measure_at_start and trainer.global_step == 0:
            values = self._measure(trainer, pl_module, epoch=0, step=0)
            # pl_module.log would write these at the end of the first epoch.
            log_scalars(trainer.loggers, values, step=0, epoch=0)

    def on_train_epoch_end(self, trainer: lp.Trainer, pl_module: lp.LightningModule) -> None:
        """Measure if the schedule says so, and log through the module."""
        epoch = trainer.current_epoch + 1
        last = trainer.max_epochs if trainer.max_epochs is not None and trainer.max_epochs > 0 else None
        if not self.schedule(epoch, last):
            return
        # The step at which Lightning itself writes epoch-end values; global_step is one larger, and counts
        # twice with two optimizers.
        step = trainer.fit_loop.epoch_loop._batches_that_stepped - 1
        for key, value in self._measure(trainer, pl_module, epoch, step).items():
            if key not in self._metrics:
                self._metrics[key] = MeanMetric(nan_strategy="disable", sync_on_compute=False)
                if pl_module.device.type != "mps":
                    self._metrics[key].set_dtype(torch.float64)
            metric = self._metrics[key].to(pl_module.device)
            metric.update(value)
            # Any string will do as metric_attribute: it spares Lightning the search in the user's module.
            pl_module.log(key, metric, on_step=False, on_epoch=True, metric_attribute=key)

    def on_train_end(self, trainer: lp.Trainer, pl_module: lp.LightningModule) -> None:
        """Let go of the model and of the probe on the device."""
        self._modules, self._probe = {}, None

    def state_dict(self) -> dict[str, Any]:
        """History, bandwidths and the probe's fingerprint: tensors and plain Python, for ``weights_only=True``."""
        return {"plane": self.plane.state_dict(), "probe": self._fingerprint}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue the history of a checkpoint."""
        self.plane.load_state_dict(state_dict["plane"])
        self._fingerprint = state_dict["probe"]

    # ------------------------------------------------------------------------------------------------- the probe

    def _make_probe(self, trainer: lp.Trainer) -> Probe:
        """The user's probe, or one drawn from the run's data; the same for the same seed, augmentations included."""
        with isolated_rng(self.seed):
            if isinstance(self._wanted, Probe):
                return self._wanted.map(lambda batch: _to_device(trainer, batch))
            loader = self._loader(trainer)
            return draw_probe(
                loader.dataset, self._wanted, loader.collate_fn, self.seed, lambda batch: _to_device(trainer, batch)
            )

    def _loader(self, trainer: lp.Trainer) -> Any:  # noqa: ANN401 - any loader with a dataset
        """The first loader of the data the probe comes from."""
        found = trainer.train_dataloader
        if self.probe_from == "val":
            if trainer.val_dataloaders is None and trainer.enable_validation:  # no sanity check, no early epoch
                trainer.validating = True
                trainer.fit_loop.epoch_loop.val_loop.setup_data()
                trainer.training = True
            found = trainer.val_dataloaders or found
            if not trainer.val_dataloaders:
                self._say_once("val", "there is no validation data: the probe is drawn from the training data.")
        while isinstance(found, list | tuple | dict):
            found = next(iter(found.values() if isinstance(found, dict) else found))
        if not hasattr(found, "dataset"):
            raise ValueError(
                f"cannot draw a probe from a {type(found).__name__}, which has no dataset. "
                "Pass samples of your own: probe=(inputs, targets)."
            )
        return found

    def _check_fingerprint(self, fingerprint: str) -> None:
        """Curves that go on with other samples are not one curve."""
        if self._fingerprint not in (None, fingerprint):
            message = (
                "the probe is not the one this run was measured on so far: another data set, probe size or seed. "
                "Values before and after cannot be compared."
            )
            if self.on_probe_change == "error":
                raise ValueError(f"{message} Restore them, or pass on_probe_change='warn'.")
            rank_zero_warn(f"MatrixRenyiCallback: {message}")
        self._fingerprint = fingerprint

    # ------------------------------------------------------------------------------------------- the measurement

    def _measure(self, trainer: lp.Trainer, pl_module: lp.LightningModule, epoch: int, step: int) -> dict[str, float]:
        """Measure now and return what to log; a failure is a warning unless the user wants it otherwise."""
        try:
            share = _share_of(trainer)
            measurement = _agreed(share, lambda: self._observe(trainer, pl_module), pl_module.device)
            rows = self.plane.finish(measurement, epoch, step, share)
        except Exception as error:
            if self.raise_on_error:
                raise
            rank_zero_warn(
                f"MatrixRenyiCallback: the measurement after epoch {epoch} failed and training goes on. "
                f"{type(error).__name__}: {error} (raise_on_error=True ends the run instead.)"
            )
            return {}
        self._warn_of(rows)
        self._save(trainer)
        return {log_key(self.log_prefix, r.quantity, r.layer): r.value for r in rows if r.quantity not in _NOT_LOGGED}

    def _observe(self, trainer: lp.Trainer, pl_module: lp.LightningModule) -> Measurement:
        """One forward pass of the probe; every layer is reduced to its Gram matrix in its hook."""
        probe = self._probe
        assert probe is not None, "made in on_train_start"
        measurement = self.plane.start(probe.x, probe.targets)
        seen: set[str] = set()

        def consume(name: str, output: Tensor | None) -> None:
            seen.add(name)
            if output is None or not output.is_floating_point() or output.ndim < 1 or len(output) != probe.size:
                what = "no tensor" if output is None else f"{tuple(output.shape)} of {output.dtype}"
                self._say_once(
                    name, f"layer {name!r} is left out: expected floats ({probe.size}, ...) as its output, got {what}."
                )
                return
            measurement.add(name, output)

        precision: AbstractContextManager[Any] = trainer.precision_plugin.forward_context()
        with undisturbed(pl_module), capture(self._modules, consume), precision:
            if self.forward_fn is None:
                pl_module(probe.inputs)
            else:
                self.forward_fn(pl_module, probe.inputs)
        for name in self._modules.keys() - seen:
            self._say_once(name, f"layer {name!r} was not called in the probe's forward pass and is left out.")
        return measurement

    def _warn_of(self, rows: Sequence[Row]) -> None:
        """Say once a layer that a curve means nothing, and what to do."""
        table = {(row.layer, row.quantity): row.value for row in rows}
        for layer, verdict in verdicts(rows).items():
            if verdict != "ok":
                share = table[layer, "H_T"] / table["", "log2_n"]
                self._say_once(f"{layer} {verdict}", f"layer {layer!r}: " + _REMEDIES[verdict].format(share=share))

    def _say_once(self, about: str, message: str) -> None:
        if about not in self._said:
            self._said.add(about)
            rank_zero_warn(f"MatrixRenyiCallback: {message}")

    def _save(self, trainer: lp.Trainer) -> None:
        """Write the history beside the run's own logs. The log directory is agreed upon by all ranks."""
        folder = trainer.log_dir
        if getattr(trainer, "fast_dev_run", False) or not trainer.is_global_zero:
            return
        name = "-".join(["infoplane", *self.log_prefix.replace("/", " ").split()])
        self.plane.save(Path(folder or trainer.default_root_dir) / f"{name}.csv")


def _to_device(trainer: lp.Trainer, batch: Any) -> Any:  # noqa: ANN401 - batches are the user's
    """What the Trainer does to a batch before the module sees it."""
    return trainer.strategy.batch_to_device(trainer.precision_plugin.convert_input(batch))


def _share_of(trainer: lp.Trainer) -> Share:
    """This rank's part of the spectral work."""
    if trainer.world_size == 1 or not torch.distributed.is_initialized():
        return Share()

    def first(tensor: Tensor) -> Tensor:
        tensor = tensor.contiguous()
        torch.distributed.broadcast(tensor, src=0)
        return tensor

    def total(tensor: Tensor) -> Tensor:
        torch.distributed.all_reduce(tensor)
        return tensor

    return Share(trainer.global_rank, trainer.world_size, first, total)


def _agreed(share: Share, observe: Callable[[], Measurement], device: torch.device) -> Measurement:
    """The measurement, unless any rank failed: one that went on alone would wait for the others for ever."""
    error: Exception | None = None
    try:
        measurement = observe()
    except Exception as caught:
        error = caught
    failures = share.total(torch.tensor(float(error is not None), device=device))
    if error is not None:
        raise error
    if failures > 0:
        raise RuntimeError("the measurement failed on another rank.")
    return measurement
