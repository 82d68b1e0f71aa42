"""The Lightning callback: when to measure, where the numbers go, what a checkpoint keeps. No formula."""

import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

import lightning.pytorch as lp
import pytorch_lightning as pl
from lightning.pytorch.utilities import rank_zero_info, rank_zero_warn
from torch import Tensor, nn
from tqdm.auto import tqdm

from lightning_infoplane.arguments import check_arguments, check_choice
from lightning_infoplane.bandwidths import Bandwidth, MedianDistance
from lightning_infoplane.capture import LayerSpec, select_layers
from lightning_infoplane.entropy import Eigenvalues, Solver
from lightning_infoplane.errors import error_signals
from lightning_infoplane.loaders import check_fingerprints, make_probes
from lightning_infoplane.loggers import ModuleLog, TensorBoardExtras, keyed, log_scalars, log_text, run_folder
from lightning_infoplane.markov import Chain, find_chains
from lightning_infoplane.measurement import Measurement, Reference
from lightning_infoplane.observe import call, observe
from lightning_infoplane.outputs import bill, card, draw, remedies
from lightning_infoplane.pairs import Redundancy
from lightning_infoplane.plane import InformationPlane, Row
from lightning_infoplane.probe import Probe
from lightning_infoplane.ranks import agree, share_over_ranks
from lightning_infoplane.schedules import EveryNEpochs, Schedule

__all__ = ["MatrixRenyiCallback"]

if TYPE_CHECKING:
    _Callback = lp.Callback
else:

    class _Callback(lp.Callback, pl.Callback):
        """A callback for both Trainers: `lightning` and `pytorch_lightning` each accept their own class only."""


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
        probe_from: ``"val"``, ``"train"`` or both; with both, keys start with ``train/`` or ``val/``.
        every_n_epochs: how often to measure.
        schedule: which epochs to measure, instead of ``every_n_epochs``.
        every_n_train_steps: measure every so many optimizer steps, instead of at epochs. Such values go straight
            to the loggers, so they cannot be monitored.
        alpha: the order of the entropy.
        bandwidth: the kernel's bandwidth rule for inputs and layers.
        target_bandwidth: a Gaussian for the targets instead of the class kernel.
        solver: how entropies are computed; exact by default.
        measure_at_start: also measure the untrained network, at step 0.
        chance: shuffles averaged for the chance level; 0 turns it off, 20 or more give p-values.
        forward_fn: called as ``forward_fn(module, inputs)`` instead of ``module(inputs)``.
        figures: also draw the information plane and the depth profile, into loggers or as PNG.
        name: tells several callbacks on one Trainer apart: in keys, file names and checkpoints.
        log_prefix: put before every key; ``"{name}/"`` when left out.
        prog_bar: show progress during a measurement.
        probe_batch_size: send the probe through the network in pieces of this size. Its activations are then
            held on the CPU until the last piece is through. Error signals take a forward pass more, and outputs
            that can be put together: tensors ``(n, ...)``.
        seed: of the probe and the shuffles.
        on_probe_change: what to do on resuming with a probe of other samples: ``"error"`` or ``"warn"``.
        dpi_pairs: between which layers gaps are logged: ``"markov"``, those that intervention on the network finds
            to be chains, or ``"consecutive"``, each with the next.
        error_signals: also measure the gradients of the loss with respect to the layers: ``I_error/…``,
            ``DPI_error/…``, the backward inequality.
        loss_fn: ``(outputs, targets) -> scalar`` for them; cross-entropy or mean squared error where that fits.
        redundancy: also log redundancy-synergy trade-off, non-redundant information and total correlation of the
            feature maps; pass a ``Redundancy`` to choose their sampling.
        jackknife: groups of samples left out in turn, for standard errors of everything; 8 are usual, 0 is off.
        raise_on_error: end the training when a measurement fails, instead of going on with a warning.
        tensorboard_layout: also write a custom-scalars layout, with all layers in one chart. It replaces another one.
        tensorboard_subruns: also write each layer as a TensorBoard run of its own, which gives it its own colour.

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
        probe_from: Literal["val", "train"] | Sequence[Literal["val", "train"]] = "val",
        every_n_epochs: int = 1,
        schedule: Schedule | None = None,
        every_n_train_steps: int | None = None,
        alpha: float = 1.01,
        bandwidth: Bandwidth = MedianDistance(),
        target_bandwidth: Bandwidth | None = None,
        solver: Solver = Eigenvalues(),
        measure_at_start: bool = True,
        chance: int = 1,
        forward_fn: Callable[[nn.Module, Any], Any] | None = None,
        figures: bool = True,
        name: str = "",
        log_prefix: str | None = None,
        prog_bar: bool = False,
        probe_batch_size: int | None = None,
        seed: int = 0,
        on_probe_change: Literal["error", "warn"] = "error",
        dpi_pairs: Literal["markov", "consecutive"] = "markov",
        error_signals: bool = False,
        loss_fn: Callable[[Any, Tensor], Tensor] | None = None,
        redundancy: bool | Redundancy = False,
        jackknife: int = 0,
        raise_on_error: bool = False,
        tensorboard_layout: bool = False,
        tensorboard_subruns: bool = False,
    ) -> None:
        super().__init__()
        self.sources = [probe_from] if isinstance(probe_from, str) else list(probe_from)
        check_arguments(self.sources, probe, every_n_epochs, schedule, every_n_train_steps, probe_batch_size)
        check_choice(on_probe_change=(on_probe_change, "error", "warn"), dpi_pairs=(dpi_pairs, "markov", "consecutive"))
        self.layers, self.forward_fn, self.measure_at_start = layers, forward_fn, measure_at_start
        self.schedule, self.every_n_train_steps = schedule or EveryNEpochs(every_n_epochs), every_n_train_steps
        self.figures, self.prog_bar, self.probe_batch_size = figures, prog_bar, probe_batch_size
        self.name, self.log_prefix = name, (f"{name}/" if name else "") if log_prefix is None else log_prefix
        self.seed, self.on_probe_change, self.raise_on_error = seed, on_probe_change, raise_on_error
        self.dpi_pairs, self.error_signals, self.loss_fn = dpi_pairs, error_signals, loss_fn
        sampling = Redundancy() if redundancy is True else redundancy or None
        self.plane = InformationPlane(alpha, bandwidth, target_bandwidth, solver, chance, seed, jackknife, sampling)
        self._wanted = Probe(*probe) if isinstance(probe, tuple) else probe
        self._start_empty(TensorBoardExtras(tensorboard_layout, tensorboard_subruns))

    def _start_empty(self, tensorboard: TensorBoardExtras) -> None:
        """What a run fills in."""
        self._tensorboard = tensorboard
        self._probes: dict[str, Probe] = {}
        self._references: dict[str, Reference] = {}
        self._chain: Chain | None = None
        self._backward: list[tuple[str, str]] | None = None
        self._chains_before: dict[str, Any] = {}  # of the run a checkpoint was made in
        self._fingerprints: dict[str, str] = {}  # also those of the run a checkpoint was made in
        self._modules: dict[str, nn.Module] = {}
        self._restored = False
        self._log = ModuleLog()
        self._said: set[str] = set()
        self._started, self._seconds, self._count = 0.0, 0.0, 0

    @property
    def history(self) -> list[Row]:
        """Every number so far: (epoch, step, layer, quantity, value), epochs counted as finished ones."""
        return self.plane.history

    @property
    def markov_pairs(self) -> list[tuple[str, str]]:
        """Pairs of layers between which the data-processing inequality is implied, once training has begun."""
        return [] if self._chain is None else self._chain.pairs

    @property
    def state_key(self) -> str:
        """Callbacks with different names keep their states apart."""
        return self._generate_state_key(name=self.name)

    # ---------------------------------------------------------------------------------------- Lightning's hooks

    def on_fit_start(self, trainer: lp.Trainer, pl_module: lp.LightningModule) -> None:
        """Find the layers, so that a misspelt name ends the run here; a run from scratch has no past."""
        if trainer.global_step == 0 and not self._restored:
            self._start_empty(self._tensorboard)
            self.plane.forget()
        self._modules = select_layers(pl_module, self.layers)
        if self.error_signals and len(self._modules) < 2:
            raise ValueError(f"error_signals=True compares layers, and layers={self.layers!r} chose only one.")

    def on_train_start(self, trainer: lp.Trainer, pl_module: lp.LightningModule) -> None:
        """Draw the probe and measure the untrained network; a resumed run has done so already."""
        self._started, self._seconds, self._count = time.monotonic(), 0.0, 0
        self._probes = make_probes(trainer, pl_module, self._wanted, self.sources, self.seed, self._say_once)
        self._fingerprints = check_fingerprints(self._fingerprints, self._probes, self.on_probe_change)
        self._references = {name: self.plane.reference(probe.x, probe.targets) for name, probe in self._probes.items()}
        if any(probe.targets is None for probe in self._probes.values()):
            self._say_once("targets", "the probe has no targets: I(T;Y) is left out.")
        self._find_chains(trainer, pl_module)
        if self.measure_at_start and trainer.global_step == 0:
            # pl_module.log would write these at the end of the first epoch.
            log_scalars(trainer.loggers, self._measure(trainer, pl_module, epoch=0, step=0), step=0, epoch=0)
        self._restored = False

    def on_train_batch_end(
        self, trainer: lp.Trainer, pl_module: lp.LightningModule, outputs: object, batch: object, batch_idx: int
    ) -> None:
        """Measure every n optimizer steps; a batch that only accumulates gradients is none."""
        if self.every_n_train_steps is None or trainer.fit_loop._should_accumulate():
            return
        step = trainer.fit_loop.epoch_loop._batches_that_stepped  # counts this one only after this hook
        if (step + 1) % self.every_n_train_steps == 0:
            values = self._measure(trainer, pl_module, trainer.current_epoch, step)
            log_scalars(trainer.loggers, values, step, trainer.current_epoch)

    def on_train_epoch_end(self, trainer: lp.Trainer, pl_module: lp.LightningModule) -> None:
        """Measure if the schedule says so, and log through the module."""
        epoch = trainer.current_epoch + 1
        last = trainer.max_epochs if trainer.max_epochs is not None and trainer.max_epochs > 0 else None
        if self.every_n_train_steps is not None or not self.schedule(epoch, last):
            return
        # The step at which Lightning itself writes epoch-end values; global_step is one larger, and counts
        # twice with two optimizers.
        step = trainer.fit_loop.epoch_loop._batches_that_stepped - 1
        self._log(pl_module, self._measure(trainer, pl_module, epoch, step))

    def on_train_end(self, trainer: lp.Trainer, pl_module: lp.LightningModule) -> None:
        """Say what it cost; let go of the model and of the probe on the device."""
        spent = bill(self._count, self._seconds, time.monotonic() - self._started)
        rank_zero_info(f"MatrixRenyiCallback: {spent}")
        self._modules, self._probes, self._references = {}, {}, {}
        self._tensorboard.close()

    def state_dict(self) -> dict[str, Any]:
        """History, bandwidths and the probes' fingerprints: tensors and plain Python, for ``weights_only=True``."""
        chains = None if self._chain is None else self._chain.to_lists()
        return {
            "plane": self.plane.state_dict(),
            "probes": dict(self._fingerprints),
            "chains": {"layers": sorted(self._modules), "forward": chains, "backward": self._backward},
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue the history of a checkpoint."""
        self.plane.load_state_dict(state_dict["plane"])
        self._fingerprints, self._chains_before = dict(state_dict["probes"]), dict(state_dict["chains"])
        self._restored = True

    # ------------------------------------------------------------------------------------------------ the probe

    def _find_chains(self, trainer: lp.Trainer, pl_module: lp.LightningModule) -> None:
        """Try by intervention which gaps mean something, once a run; rank 0's findings count."""
        before = self._chains_before
        if before and before["layers"] == sorted(self._modules):  # a network found trained may have other dead ends
            self._chain = None if before["forward"] is None else Chain.from_lists(before["forward"])
            self._backward = None if before["backward"] is None else [(b, a) for b, a in before["backward"]]
            return
        probe, markov = next(iter(self._probes.values())), self.dpi_pairs == "markov"
        forward = self._forward(trainer)
        try:
            found = agree(
                share_over_ranks(trainer.world_size),
                lambda: find_chains(pl_module, self._modules, probe, forward, markov, self.error_signals, self.loss_fn),
                pl_module.device,
            )
            self._chain, self._backward = trainer.strategy.broadcast(found)
        except Exception as error:  # the same on all ranks; the gaps are then between consecutive layers
            self._fail("looking for Markov chains among the layers", error)

    # ------------------------------------------------------------------------------------------ the measurement

    def _measure(self, trainer: lp.Trainer, pl_module: lp.LightningModule, epoch: int, step: int) -> dict[str, float]:
        """Measure now and return what to log; a failure is a warning unless the user wants it otherwise."""
        began, rows = time.monotonic(), list[Row]()
        share = share_over_ranks(trainer.world_size)
        work = 2 * len(self._probes) * len(self._modules)  # Gram matrices, then spectra
        with tqdm(total=work, disable=not self.prog_bar, leave=False, desc="information plane") as bar:
            # Error signals on their own: they may fail where the activations have much to tell.
            for what, wanted, observe_all in (
                ("measurement", True, self._observe),
                ("measurement of error signals", self.error_signals, self._observe_errors),
            ):
                attempt = partial(observe_all, trainer, pl_module, bar.update)
                try:
                    for one in agree(share, attempt, pl_module.device) if wanted else []:
                        rows += self.plane.finish(one, epoch, step, share)
                except Exception as error:
                    self._fail(f"the {what} after epoch {epoch}", error)
        if not rows:
            return {}
        for about, message in remedies(rows, self._probes):
            self._say_once(about, message)
        self._write(trainer, rows, step)
        self._seconds, self._count = self._seconds + time.monotonic() - began, self._count + 1
        return keyed(self.log_prefix, rows)

    def _fail(self, what: str, error: Exception) -> None:
        if self.raise_on_error:
            raise error
        rank_zero_warn(
            f"MatrixRenyiCallback: {what} failed and training goes on. {type(error).__name__}: {error} "
            "(raise_on_error=True ends the run instead.)"
        )

    def _observe(
        self, trainer: lp.Trainer, pl_module: lp.LightningModule, progress: Callable[[int], object]
    ) -> list[Measurement]:
        """Every probe through the network."""
        pairs = None if self._chain is None else self._chain.pairs
        forward, observed = self._forward(trainer), []
        for name, probe in self._probes.items():
            one = self.plane.start(self._references[name], None, name, pairs, progress=progress)
            observe(one, pl_module, self._modules, probe, forward, self.probe_batch_size, self._say_once)
            observed.append(one)
        return observed

    def _observe_errors(
        self, trainer: lp.Trainer, pl_module: lp.LightningModule, progress: Callable[[int], object]
    ) -> list[Measurement]:
        """The gradients at every layer, probe by probe."""
        forward, observed = self._forward(trainer), []
        for name, probe in self._probes.items():
            errors = error_signals(pl_module, self._modules, probe, self.loss_fn, forward, self.probe_batch_size)
            observed.append(self.plane.start_errors(errors, name, self._backward, probe.x.device))
        return observed

    def _forward(self, trainer: lp.Trainer) -> Callable[[nn.Module, Any], Any]:
        """How the network is called: as the user says, in the precision it trains in."""

        def forward(module: nn.Module, inputs: Any) -> Any:  # noqa: ANN401 - the user's
            with trainer.precision_plugin.forward_context():
                return call(module, inputs, self.forward_fn)

        return forward

    def _say_once(self, about: str, message: str) -> None:
        if about not in self._said:
            self._said.add(about)
            rank_zero_warn(f"MatrixRenyiCallback: {message}")

    # --------------------------------------------------------------------------------------------------- output

    def _write(self, trainer: lp.Trainer, rows: Sequence[Row], step: int) -> None:
        """Table, pictures and card beside the run's own logs, on rank 0."""
        if not trainer.is_global_zero or getattr(trainer, "fast_dev_run", False):
            return
        folder = run_folder(trainer.loggers, trainer.default_root_dir)
        stem = f"infoplane-{self.name}" if self.name else "infoplane"
        try:
            self.plane.save(folder / f"{stem}.csv")
            self._tensorboard(trainer.loggers, self.log_prefix, rows, step)
            if self.figures:
                draw(trainer.loggers, folder, stem, self.history, self._probes, step)
                log_text(trainer.loggers, f"{stem}/card", card(self.plane, rows, self._probes, self._chain), step)
        except Exception as error:  # a full disk or a logger's server must not end the run
            self._say_once("output", f"could not write {stem}.csv or its pictures: {type(error).__name__}: {error}")
