"""The Lightning callback: when to measure, where the numbers go, what a checkpoint keeps. No formula."""

import inspect
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

import lightning.pytorch as lp
import pytorch_lightning as pl
from lightning.pytorch.utilities import rank_zero_info
from torch import Tensor, nn

from lightning_infoplane.estimator.redundancy import Redundancy
from lightning_infoplane.measurement.history import History
from lightning_infoplane.measurement.listener import Notices
from lightning_infoplane.measurement.rows import Pair, Row
from lightning_infoplane.measurement.settings import Choice, Estimator
from lightning_infoplane.monitor import Monitor, choose_layers, pairs_in
from lightning_infoplane.network.gradients import ErrorSignals
from lightning_infoplane.network.layers import LayerSpec
from lightning_infoplane.network.observed import Readouts
from lightning_infoplane.network.probe import Draw, Probe
from lightning_infoplane.options import OPTIONS, check_layers
from lightning_infoplane.trainer import position
from lightning_infoplane.trainer.data import make_probes
from lightning_infoplane.trainer.guard import Guard, warn
from lightning_infoplane.trainer.mailbox import Mailbox
from lightning_infoplane.trainer.outputs import Outputs, Writer
from lightning_infoplane.trainer.schedules import Schedule, as_schedule, is_ours
from lightning_infoplane.trainer.silence import forward_context
from lightning_infoplane.trainer.wanted import OWN, as_wanted, pair_as_probe
from lightning_infoplane.views.card import bill, card, remarks
from lightning_infoplane.views.panels import live_pictures
from lightning_infoplane.views.runs import FACTS_TAG
from lightning_infoplane.views.series import probes_of

__all__ = ["MatrixRenyiCallback"]

# From so many layers on a search for chains is announced: it can take as long as a measurement.
_MANY_LAYERS = 32

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    _Callback = lp.Callback
else:

    class _Callback(lp.Callback, pl.Callback):
        """A callback for both Trainers: `lightning` and `pytorch_lightning` each accept their own class only."""


class MatrixRenyiCallback(Choice, _Callback):
    """Logs what each layer keeps of its input and of its target while the network trains.

    On a fixed probe, before training and at the end of the chosen epochs, it evaluates the matrix-based Rényi entropies
    of arXiv 1804.06537 and logs what follows from them to every logger of the Trainer:

    - ``AMI_XT/{layer}``: adjusted information about the input, AMI(X;T)
    - ``AMI_TY/{layer}``: adjusted information about the target, AMI(T;Y)
    - ``DPI_AMI_XT/{a}-to-{b}``: adjusted information about the input lost, AMI(X;T₁) − AMI(X;T₂)
    - ``DPI_increases``: pairs of layers with an increase
    - ``DPI_decreases``: pairs of layers with a decrease
    - ``I_XT/{layer}``: information about the input, I(X;T) (bits)
    - ``I_TY/{layer}``: information about the target, I(T;Y) (bits)
    - ``H_T/{layer}``: entropy, H(T) (bits)
    - ``DPI_XT/{a}-to-{b}``: information about the input lost, I(X;T₁) − I(X;T₂) (bits)
    - ``DPI_TY/{a}-to-{b}``: information about the target lost, I(T₁;Y) − I(T₂;Y) (bits)
    - ``AMI_error/{layer}``: adjusted information about the last error signal, AMI(δₖ;δ), with ``error_signals``
    - ``DPI_AMI_error/{a}-to-{b}``: adjusted information about the last error lost, AMI(δₖ;δ₂) − AMI(δₖ;δ₁), with
      ``error_signals``
    - ``DPI_error_increases``: pairs of error signals with an increase, with ``error_signals``
    - ``DPI_error_decreases``: pairs of error signals with a decrease, with ``error_signals``
    - ``I_error/{layer}``: information about the last error signal, I(δₖ;δ) (bits), with ``error_signals``
    - ``H_error/{layer}``: entropy of the error signal, H(δ) (bits), with ``error_signals``
    - ``DPI_error/{a}-to-{b}``: information about the last error lost, I(δₖ;δ₂) − I(δₖ;δ₁) (bits), with
      ``error_signals``
    - ``redundancy_synergy/{layer}``: redundancy minus synergy (bits), with ``redundancy``
    - ``non_redundant/{layer}``: non-redundant (bits), with ``redundancy``
    - ``total_correlation/{layer}``: total correlation of the feature maps, T*, with ``redundancy``
    - ``H_X``: entropy of the input, H(X) (bits)
    - ``H_Y``: entropy of the target, H(Y) (bits)
    - ``H_error_last``: entropy of the last error signal, H(δₖ) (bits), with ``error_signals``
    - ``CKA_XT/{layer}``: alignment with the input, CKA(X;T); with ``Outputs(log="all")``
    - ``CKA_TY/{layer}``: alignment with the target, CKA(T;Y); with ``Outputs(log="all")``
    - ``DPI_AMI_TY/{a}-to-{b}``: adjusted information about the target lost, AMI(T₁;Y) − AMI(T₂;Y); with
      ``Outputs(log="all")``
    - ``E_TT/{layer}``: information about itself, E(T;T) (bits); with ``Outputs(log="all")``
    - ``E_XX``: information of the input about itself, E(X;X) (bits); with ``Outputs(log="all")``
    - ``E_YY``: information of the target about itself, E(Y;Y) (bits); with ``Outputs(log="all")``
    - ``E_error/{layer}``: information of the error signal about itself, E(δ;δ) (bits), with ``error_signals``; with
      ``Outputs(log="all")``
    - ``effective_rank/{layer}``: effective rank, 2^H(T); with ``Outputs(log="all")``
    - ``bandwidth/{layer}``: bandwidth, σ (activation units); with ``Outputs(log="all")``
    - ``outlier/{layer}``: number of the sample that is like no other; with ``Outputs(log="all")``
    - ``bandwidth_error/{layer}``: bandwidth of the error signal, σ(δ) (gradient units), with ``error_signals``; with
      ``Outputs(log="all")``
    - ``…_chance``, ``…_p`` and ``…_stderr`` of some of them, with ``Outputs(log="all")``

    They are in ``trainer.callback_metrics``, for ModelCheckpoint and EarlyStopping, in ``callback.history``, and in
    ``infoplane.csv`` in the run's log directory.

    Args:
        layers: ``"conv"``, ``"linear"``, ``"all"`` (every module with parameters of its own or without children), a
            name, a glob, a module type, a callable ``(name, module) -> bool``, or a sequence of these.
        probe: how many samples to draw from the validation data, stratified by class; a ``Draw``, which says from
            where, and how a batch is read; a ``Probe``; or a pair ``(inputs, targets)``.
        schedule: a number n, to measure every n epochs, or a ``Schedule``: ``AtEpochs``, ``LogSpacedEpochs``,
            ``EveryNSteps``, ``LogSpacedSteps``. Values measured between epochs go straight to the loggers, so they
            cannot be monitored.
        measure_at_start: also measure the untrained network, at step 0.
        estimator: order of the entropy, bandwidth rules, solver, shuffles, standard errors, seed.
        readout: how a layer's output becomes ``(n, ...)``: ``Maps``, ``Tokens``, ``TimeFirst``, ``PerGraph``, a
            function ``(name, output)``, or a mapping of layers to these. By the layer's type and its shape when left
            out.
        forward_fn: called as ``forward_fn(module, inputs)`` instead of ``module(inputs)``, or however its ``forward``
            takes what a batch holds.
        error_signals: also measure the gradients of the loss with respect to the layers, the backward inequality; an
            ``ErrorSignals`` says of which loss.
        redundancy: also compare feature maps with each other; a ``Redundancy`` says how they are sampled.
        dpi_pairs: between which layers gaps are logged: ``"markov"``, those that intervention on the network finds
            to be chains, ``"consecutive"``, each with the next, or None, no gaps.
        outputs: what is logged, drawn and shown.
        name: tells several callbacks on one Trainer apart: in keys, file names and checkpoints.
        log_prefix: put before every key, and a slash after it; the name when left out.
        probe_batch_size: send the probe through the network in pieces of this size. Its activations are then
            held on the CPU until the last piece is through. Error signals take a forward pass more, and outputs
            that can be put together: tensors ``(n, ...)``.
        on_change: what to do on resuming with a probe of other samples, other layers or another estimator: ``"error"``
            or ``"warn"``, which goes on and marks the change in the history.
        raise_on_error: end the training when a measurement, a picture or a logger fails, instead of going on with a
            warning.

    Raises:
        ValueError: for arguments that cannot be meant; before any training.
        TypeError: for arguments of another kind.

    Example:
        >>> MatrixRenyiCallback(layers="conv", probe=256, schedule=AtEpochs([1, 5]))
        MatrixRenyiCallback(probe=256, schedule=AtEpochs(epochs=[1, 5]))
    """

    def __init__(  # noqa: PLR0913 - what a person may want to say, in the order in which it is needed
        self,
        layers: LayerSpec | Sequence[LayerSpec] = "conv",
        probe: int | Draw | Probe | tuple[Tensor, Tensor | None] = 512,
        *,
        schedule: int | Schedule = 1,
        measure_at_start: bool = True,
        estimator: Estimator = Estimator(),
        readout: Readouts = None,
        forward_fn: Callable[[nn.Module, Any], Any] | None = None,
        error_signals: bool | ErrorSignals = False,
        redundancy: bool | Redundancy = False,
        dpi_pairs: Literal["markov", "consecutive"] | None = "markov",
        outputs: Outputs = Outputs(),
        name: str = "",
        log_prefix: str | None = None,
        probe_batch_size: int | None = None,
        on_change: Literal["error", "warn"] = "error",
        raise_on_error: bool = False,
    ) -> None:
        super().__init__()
        self.layers = layers
        self.probe = pair_as_probe(probe)
        self.schedule = schedule
        self.measure_at_start = measure_at_start
        self.estimator = estimator
        self.readout = readout
        self.forward_fn = forward_fn
        self.error_signals = error_signals
        self.redundancy = redundancy
        self.dpi_pairs = dpi_pairs
        self.outputs = outputs
        self.name = name
        self.log_prefix = log_prefix
        self.probe_batch_size = probe_batch_size
        self.on_change = on_change
        self.raise_on_error = raise_on_error
        self._check()
        self._wanted = as_wanted(self.probe)
        self._schedule = as_schedule(schedule)
        prefix = (f"{name}/" if name else "") if log_prefix is None else log_prefix
        self._writer = Writer(outputs, name, prefix)
        self._mailbox = Mailbox()
        self._monitor: Monitor | None = None
        self._saved: dict[str, Any] = {}  # what a run goes on from
        self._by_hand = False  # whether that was given outside of a run
        self._stage: str | None = None  # of the Trainer, from setup to teardown
        self._start_empty()

    def _check(self) -> None:
        """Every argument, by type and by value."""
        check_layers(self.layers)
        defaults = inspect.signature(MatrixRenyiCallback).parameters
        for argument, rule in {**OPTIONS, **OWN}.items():
            value = rule(argument, getattr(self, argument), default=defaults[argument].default)
            setattr(self, argument, value)

    def _start_empty(self) -> None:
        """What a run fills in."""
        self._writer.begin()
        self._notice = Notices(warn)
        self._guard = Guard(self.raise_on_error, self._notice)
        self._started = time.monotonic()
        self._remarked: set[tuple[str, str]] = set()
        self._seconds = 0.0
        self._tried = 0
        self._count = 0
        self._last_step: int | None = None

    @property
    def history(self) -> History:
        """Every number so far, row by row, epochs counted as finished ones."""
        if self._monitor is not None:
            return self._monitor.history
        saved = self._saved or self._mailbox.receive()
        return History.from_state(saved["plane"]["history"]) if saved else History()

    @property
    def markov_pairs(self) -> list[Pair]:
        """Pairs of layers between which the data-processing inequality is implied, once training has begun."""
        if self._monitor is not None:
            return self._monitor.markov_pairs
        return pairs_in(self._saved or self._mailbox.receive())

    @property
    def state_key(self) -> str:
        """Callbacks with different names keep their states apart."""
        return self._generate_state_key(name=self.name)

    # ---------------------------------------------------------------------------------------- Lightning's hooks

    def setup(self, trainer: lp.Trainer, pl_module: lp.LightningModule, stage: str) -> None:
        """Note what is about to begin. What an earlier run was refused is not what this one goes on from."""
        self._stage = stage
        if stage == "fit" and not self._by_hand:
            self._saved = {}

    def teardown(self, trainer: lp.Trainer, pl_module: lp.LightningModule, stage: str) -> None:
        """Note that it is over."""
        self._stage = None

    def on_exception(self, trainer: lp.Trainer, pl_module: lp.LightningModule, exception: BaseException) -> None:
        """Likewise: Lightning does not come to teardown."""
        self._stage = None
        self._guard.attempt("handing over the history", self._hand_over)

    def on_fit_start(self, trainer: lp.Trainer, pl_module: lp.LightningModule) -> None:
        """Find the layers, so that a misspelt name ends the run here."""
        self._guard.attempt("choosing layers", lambda: choose_layers(pl_module, self.layers, bool(self.error_signals)))

    def on_train_start(self, trainer: lp.Trainer, pl_module: lp.LightningModule) -> None:
        """Draw the probe and measure the untrained network; a resumed run has done so already."""
        before = self._saved
        if self._monitor is not None and trainer.global_step > 0:
            before = self._monitor.state_dict()  # fit() once more
        self._start_empty()
        # A resume that is refused ends here, and must not cost the history.
        monitor = self._guard.attempt("making ready to measure", lambda: self._watch(trainer, pl_module, before))
        self._monitor = monitor
        self._saved = dict(before) if monitor is None else {}
        self._by_hand = False
        self._guard.attempt("forgetting an earlier run", self._mailbox.clear)
        if monitor is None:
            return
        if any(probe.targets is None for probe in monitor.probes.values()):
            self._notice("targets", "the probe has no targets: what layers share with them is left out.")
        began = time.monotonic()
        if self.dpi_pairs == "markov" and len(monitor.layers) > _MANY_LAYERS:
            rank_zero_info(f"MatrixRenyiCallback: looking for Markov chains among {len(monitor.layers)} layers.")
        if monitor.prepare():
            rank_zero_info(f"MatrixRenyiCallback: {monitor.describe()}.")
        self._seconds += time.monotonic() - began
        if self.measure_at_start and trainer.global_step == 0:
            # pl_module.log would write these at the end of the first epoch.
            self._measure_and_log(trainer, epoch=0, step=0)
        elif before:
            self._make_up(trainer)

    def on_train_batch_end(
        self, trainer: lp.Trainer, pl_module: lp.LightningModule, outputs: object, batch: object, batch_idx: int
    ) -> None:
        """Measure between epochs, where the schedule counts steps."""
        if self._monitor is None or not self._schedule.counts_steps:
            return
        step = self._guard.attempt("asking for the step", lambda: position.stepped(trainer))
        if step is not None and self._is_due(trainer, step + 1):
            self._measure_and_log(trainer, trainer.current_epoch, step)

    def on_train_epoch_end(self, trainer: lp.Trainer, pl_module: lp.LightningModule) -> None:
        """Measure if the schedule says so, and log through the module."""
        epoch = position.finished_epochs(trainer)
        if self._monitor is None or self._schedule.counts_steps or not self._is_due(trainer, epoch):
            return
        rows = self._measure(trainer, epoch, position.epoch_end_step(trainer))
        self._guard.put_out(trainer, "logging", lambda: self._writer.log_at_epoch_end(pl_module, rows))

    def on_train_end(self, trainer: lp.Trainer, pl_module: lp.LightningModule) -> None:
        """Draw what was left out, say what it cost, let go of the model and of the probe on the device."""
        self._guard.put_out(trainer, "drawing", lambda: self._writer.end(trainer, self._pictures))
        self._guard.attempt("handing over the history", self._hand_over)
        if self._count:
            search = 0.0 if self._monitor is None else self._monitor.seconds_of_search
            spent = bill(self._count, self._seconds, time.monotonic() - self._started, search)
            rank_zero_info(f"MatrixRenyiCallback: {spent}")
        self._say_what_is_missing()
        if self._monitor is not None:
            self._monitor.release()

    def state_dict(self) -> dict[str, Any]:
        """History, bandwidths and the probes' fingerprints: tensors and plain Python, for ``weights_only=True``."""
        return dict(self._saved) if self._monitor is None else self._monitor.state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue the history of a checkpoint."""
        if state_dict and self._stage in (None, "fit"):  # a checkpoint that is tested is no run that goes on
            self._saved = dict(state_dict)
            self._by_hand = self._stage is None
            self._monitor = None

    # ------------------------------------------------------------------------------------------ the measurement

    def _watch(self, trainer: lp.Trainer, pl_module: lp.LightningModule, before: dict[str, Any]) -> Monitor:
        """The monitor of this run: on its probes, in the precision that the network trains in."""
        self._last_step = position.last_step(trainer) if self._schedule.counts_steps else None
        ranks = position.ranks_of(trainer)
        probes = make_probes(trainer, pl_module, self._wanted, self.estimator.seed, self._notice, ranks, self.readout)

        def made() -> Monitor:
            monitor = Monitor(
                pl_module,
                probes,
                self.layers,
                self.estimator,
                readout=self.readout,
                forward_fn=self.forward_fn,
                batch_size=self.probe_batch_size,
                dpi_pairs=self.dpi_pairs,
                error_signals=self.error_signals,
                redundancy=self.redundancy,
                ranks=ranks,
                context=partial(forward_context, trainer, pl_module),
                notice=self._notice,
                on_failure=self._guard.fail,
            )
            if before:
                monitor.resume(before, self.on_change)
            return monitor

        return ranks.together(made, pl_module.device)

    def _is_due(self, trainer: lp.Trainer, finished: int) -> bool:
        """Whether to measure, as rank 0's schedule has it: one rank that measured alone would wait for ever."""
        last = self._last_step if self._schedule.counts_steps else position.last_epoch(trainer)
        if self._schedule.counts_steps and is_ours(self._schedule):  # an exchange at every step would cost time
            return bool(self._guard.attempt("the schedule", lambda: self._schedule(finished, last)))
        ranks = position.ranks_of(trainer)
        device = trainer.strategy.root_device
        due = self._guard.attempt(
            "the schedule", lambda: ranks.together(lambda: self._schedule(finished, last), device)
        )
        return bool(ranks.first_object(due))

    def _make_up(self, trainer: lp.Trainer) -> None:
        """Measure what a checkpoint from an epoch's last step has not: Lightning goes on with the next epoch."""
        end = None if self._schedule.counts_steps else position.unfinished_end(trainer)
        if end is None or end[0] in self.history.epochs:
            return
        if self._is_due(trainer, end[0]):
            self._measure_and_log(trainer, *end)

    def _measure_and_log(self, trainer: lp.Trainer, epoch: int, step: int) -> None:
        """At a step of our own."""
        rows = self._measure(trainer, epoch, step)
        self._guard.put_out(trainer, "logging", lambda: self._writer.log_at_step(trainer, rows, step, epoch))

    def _measure(self, trainer: lp.Trainer, epoch: int, step: int) -> list[Row]:
        """Measure now; a failure is a warning unless the user wants it otherwise."""
        assert self._monitor is not None, "asked before"
        began = time.monotonic()
        self._tried += 1
        with self._writer.progress_bar(trainer, self._monitor.work) as advance:
            rows = self._monitor.measure(epoch, step, advance)
        if not rows:
            return []
        self._guard.put_out(trainer, "writing", lambda: self._write(trainer, rows, step))
        self._seconds += time.monotonic() - began
        self._count += 1
        return rows

    # ------------------------------------------------------------------------------------------------- failures

    def _say_what_is_missing(self) -> None:
        """At the end, where it is seen."""
        if self._count == 0:
            reason = "no measurement succeeded" if self._tried else f"schedule={self.schedule!r} chose no moment of it"
            warn(f"NOTHING WAS MEASURED in this run: {reason if self._monitor else 'it could not be made ready'}.")
        elif self._tried > self._count:
            warn(f"{self._tried - self._count} of {self._tried} measurements failed.")

    # --------------------------------------------------------------------------------------------------- output

    def _hand_over(self) -> None:
        """To the process that launched this one."""
        if self._monitor is not None:
            self._mailbox.send(self._monitor.state_dict())

    def _write(self, trainer: lp.Trainer, rows: Sequence[Row], step: int) -> None:
        """Hand over what the views make of the history."""
        for about, message in remarks(rows, self._remarked):
            self._notice(about, message)
        texts = {"card": card(self.history)}
        if self._count == 0:  # of the run, so once; indented, it is code in Markdown
            texts[FACTS_TAG] = f"    {self.history.facts.to_json()}"
        self._writer.write(trainer, self.history, rows, step, texts=texts, draw=self._pictures)

    def _pictures(self) -> "Iterator[tuple[str, Figure]]":
        """The pictures of each probe, with their tags."""
        rows = self.history
        for probe in probes_of(rows):
            for kind, picture in live_pictures(rows, probe):
                yield f"{probe}/{kind}" if probe else kind, picture.figure(rows, probe)
