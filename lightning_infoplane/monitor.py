"""A network watched on its probes: the one place where samples, layers, chains and history come together."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import Any, Literal, TypedDict, Unpack

from torch import Tensor, nn

from lightning_infoplane.arguments.checks import Instance
from lightning_infoplane.arguments.errors import SetupError
from lightning_infoplane.estimator.redundancy import Redundancy
from lightning_infoplane.measurement.facts import Facts
from lightning_infoplane.measurement.history import History
from lightning_infoplane.measurement.listener import LeftOut, Listener, Notices, few
from lightning_infoplane.measurement.measurement import Measurement
from lightning_infoplane.measurement.plane import InformationPlane
from lightning_infoplane.measurement.ranks import Ranks
from lightning_infoplane.measurement.rows import Pair, Row
from lightning_infoplane.measurement.settings import Estimator
from lightning_infoplane.network.chains import Chains
from lightning_infoplane.network.gradients import ErrorSignals
from lightning_infoplane.network.layers import LayerSpec, select_layers
from lightning_infoplane.network.observed import ForwardFunction, Observed, Readouts
from lightning_infoplane.network.probe import Probe, check_x
from lightning_infoplane.options import MOMENT, NETWORK, check_options, probes_by_name

__all__ = ["Monitor", "Options", "choose_layers", "measure", "pairs_in"]

_NOT_COMPARABLE = "Values before and after cannot be compared."


class Options(TypedDict, total=False):
    """Arguments of :class:`Monitor` that :func:`measure` hands on."""

    readout: Readouts
    forward_fn: ForwardFunction | None
    batch_size: int | None
    dpi_pairs: Literal["markov", "consecutive"] | None
    error_signals: bool | ErrorSignals
    redundancy: bool | Redundancy


def _raise(what: str, error: Exception) -> None:
    raise error


class Monitor:
    """Measures a network on fixed probes, again and again, in any loop, and remembers.

    The network is left exactly as it was: parameters, buffers, flags, gradients, random numbers, and what its modules
    hold in Python. X and Y are made once. The pairs of layers that form a Markov chain are found at the first
    measurement, and looked for once more after the first epoch where a layer is in none.

    Args:
        network: any module.
        probe: the samples, on the network's device; several by name.
        layers: see :func:`~lightning_infoplane.network.layers.select_layers`.
        estimator: how to measure.
        readout: how outputs become ``(n, ...)``: ``Maps``, ``Tokens``, ``TimeFirst``, ``PerGraph``, a function
            ``(name, output)``, or a mapping of layers to these. By the layer's type and its shape when left out.
        forward_fn: called as ``forward_fn(network, inputs)`` instead of ``network(inputs)``, or however its ``forward``
            takes what the inputs hold.
        batch_size: send the probe through in pieces of this size.
        dpi_pairs: between which layers there are gaps: ``"markov"``, those that intervention on the network finds to be
            chains, ``"consecutive"``, each with the next, or None, no gaps.
        error_signals: also measure the gradients of the loss with respect to the layers; an ``ErrorSignals`` says of
            which loss.
        redundancy: also compare feature maps with each other; a ``Redundancy`` says how they are sampled.
        ranks: the processes that measure together.
        context: entered around every call of the network, for autocast say.
        notice: told (about, message) when a layer is left out; a warning when left out.
        on_failure: told (what, error) when a part of a measurement fails; raises the error when left out.

    Raises:
        ValueError: if no layer matches, or if the probe holds values that are not finite.

    Example:
        >>> net = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Tanh(), torch.nn.Linear(8, 2))
        >>> monitor = Monitor(net, Probe(torch.eye(4)), layers="linear")
        >>> rows = monitor.measure(epoch=0)
        >>> {row.place for row in rows if row.quantity == "I_XT"} == {"0", "2"}
        True
    """

    def __init__(  # noqa: PLR0913 - the callback's, less what is Lightning's
        self,
        network: nn.Module,
        probe: Probe | Mapping[str, Probe],
        layers: LayerSpec | Sequence[LayerSpec] = "conv",
        estimator: Estimator = Estimator(),
        *,
        readout: Readouts = None,
        forward_fn: ForwardFunction | None = None,
        batch_size: int | None = None,
        dpi_pairs: Literal["markov", "consecutive"] | None = "markov",
        error_signals: bool | ErrorSignals = False,
        redundancy: bool | Redundancy = False,
        ranks: Ranks = Ranks(),
        context: Callable[[], AbstractContextManager[Any]] = nullcontext,
        notice: Callable[[str, str], None] | None = None,
        on_failure: Callable[[str, Exception], None] = _raise,
    ) -> None:
        self.network: nn.Module = NETWORK("network", network)
        self.probes = probes_by_name(probe)
        options = check_options(
            estimator=estimator,
            readout=readout,
            forward_fn=forward_fn,
            dpi_pairs=dpi_pairs,
            error_signals=error_signals,
            redundancy=redundancy,
            ranks=ranks,
            context=context,
            notice=notice,
            on_failure=on_failure,
            batch_size=batch_size,
        )
        self.layers = choose_layers(network, layers, bool(error_signals))
        self._names = sorted(self.layers)
        self.plane = InformationPlane(estimator, _chosen(redundancy, Redundancy))
        self.chains: Chains | None = None
        self._signals = _chosen(error_signals, ErrorSignals)
        self._dpi_pairs = dpi_pairs
        self._ranks = ranks
        self._notice = notice or Notices()
        self._left_out = LeftOut(self._notice)
        self._on_failure = on_failure
        self._observed = Observed(
            network, self.layers, layers, readout, forward_fn, context, batch_size=options["batch_size"]
        )
        for one in self.probes.values():
            check_x(one)
        self._references = {
            name: self.plane.reference(one.values(), one.targets)
            for name, one in self.probes.items()
            if not one.is_of_ids
        }
        self._known_x: dict[str, tuple[Tensor, Tensor]] = {}  # of token numbers: made once, and kept in checkpoints
        self._is_settled = False  # whether chains were looked for in the network as it is after some training
        self.seconds_of_search = 0.0
        self._fingerprints = {name: one.fingerprint() for name, one in self.probes.items()}

    @property
    def history(self) -> History:
        """Every number so far."""
        return self.plane.history

    @property
    def markov_pairs(self) -> list[Pair]:
        """Pairs of layers between which the data-processing inequality is implied, once they have been looked for."""
        return _pairs_of(self.chains)

    def measure(
        self, epoch: int = 0, step: int = 0, progress: Callable[[int], object] = lambda layers: None
    ) -> list[Row]:
        """Measure the network as it is now.

        Args:
            epoch: for the rows.
            step: for the rows.
            progress: told how many layers were reduced, or had their spectra computed; ``work`` of them in all.

        Returns:
            The new rows, which are also appended to ``history``.
        """
        epoch = MOMENT("epoch", epoch)
        step = MOMENT("step", step)
        if not self.prepare():
            return []
        self._look_again(epoch)
        try:
            listener = Listener(self._notice, progress, self._left_out)
            rows = self._attempt(f"the measurement after epoch {epoch}", self._observe, listener, epoch, step)
            if self._signals is not None:
                # On their own: error signals may fail where the activations have much to tell.
                what = f"the measurement of error signals after epoch {epoch}"
                listener = Listener(self._notice, left_out=self._left_out)
                rows += self._attempt(what, self._observe_error_signals, listener, epoch, step)
        finally:
            self._left_out.tell()
            self.history.facts = replace(self.history.facts, left_out=tuple(self._left_out.lines))
        return rows

    @property
    def work(self) -> int:
        """What ``progress`` adds up to in a measurement: Gram matrices, then spectra."""
        return 2 * len(self.probes) * len(self.layers)

    def prepare(self) -> bool:
        """Find out how the network is called, what stands for X of token numbers, and which gaps mean something: once.

        Returns:
            Whether that is known; if not, whoever is told of failures was told.
        """
        if not self._observed.is_tried:
            try:
                self._ranks.together(self._try_out, self._first_probe.x.device)
            except Exception as error:  # the same on all ranks
                self._on_failure("calling the network", error)
                return False
        if self.chains is None:
            self._know(self._search())
        return True

    def describe(self) -> str:
        """What is X, what is Y, and how the network is called, in a line; once :meth:`prepare` has found out."""
        return self._observed.describe(self._first_probe)

    def release(self) -> None:
        """Let go of the network and of what is on its device; the history stays."""
        self.layers = {}
        self.probes = {}
        self._references = {}
        self.network = nn.Module()
        self._observed = Observed(self.network, {})
        self._ranks = Ranks()  # of a process group that is about to end, and that cannot be pickled

    def state_dict(self) -> dict[str, Any]:
        """History, bandwidths, chains and the probes' fingerprints: tensors and plain Python."""
        return {
            "plane": self.plane.state_dict(),
            "probes": dict(self._fingerprints),
            "layers": self._names,
            "chains": None if self.chains is None else self.chains.to_lists(),
            "settled": self._is_settled,
            "x": {name: tuple(one.cpu() for one in known) for name, known in self._known_x.items()},
        }

    def resume(self, state: Mapping[str, Any], on_change: Literal["error", "warn"] = "error") -> None:
        """Continue from a :meth:`state_dict`: curves that go on with other samples or settings are not one curve.

        Raises:
            SetupError: if probe, layers or estimator are not those of before, unless ``on_change`` is ``"warn"``.
        """
        before = History.from_state(state["plane"]["history"])
        differences = list(self._differences(before.facts, state))
        if differences and on_change == "error":
            raise SetupError(f"{' '.join(differences)} {_NOT_COMPARABLE} Restore it, or pass on_change='warn'.")
        for what in differences:
            self._notice(what, f"{what} {_NOT_COMPARABLE}")
        last = before[-1].epoch if len(before) else 0
        changes = (*before.facts.changes, *(f"after epoch {last}: {what}" for what in differences))
        mine = self.history.facts
        self.plane.load_state_dict(state["plane"])  # only now: what was refused leaves no trace
        self.history.facts = replace(before.facts, version=mine.version, estimator=mine.estimator, changes=changes)
        if state["layers"] == self._names and state["chains"] is not None:
            self._know(Chains.from_lists(state["chains"]))  # a network found trained may have other dead ends
            self._is_settled = state["settled"]
        if not differences:
            self._known_x = dict(state["x"])  # the embedding layer has been trained since

    def _differences(self, before: Facts, state: Mapping[str, Any]) -> Iterator[str]:
        """What is not as it was, with both values."""
        if dict(state["probes"]) != self._fingerprints:
            now = {name: probe.size for name, probe in self.probes.items()}
            yield (
                "the probe is not the one this run was measured on so far: another data set, probe size or seed "
                f"({_probes(before.n, state['probes'])}; now {_probes(now, self._fingerprints)})."
            )
        if state["layers"] != self._names:
            then = few(state["layers"])
            yield f"the layers are not those of this run so far, {then}: they are now {few(self._names)}."
        mine = self.history.facts.estimator
        if before.estimator != mine:
            yield f"the estimator is not that of this run so far, {before.estimator}: it is now {mine}."

    def _know(self, chains: Chains) -> None:
        """Keep what was found, and write it beside the rows."""
        self.chains = chains
        words = [] if chains.forward is None else chains.forward.describe().splitlines()
        self.history.facts = replace(self.history.facts, chain=tuple(words))

    # ------------------------------------------------------------------------------------------------ before the first

    @property
    def _first_probe(self) -> Probe:
        """The one that the network is tried on."""
        return next(iter(self.probes.values()))

    def _try_out(self) -> None:
        """A few samples through the network; and X of token numbers, which have no distances."""
        self._observed.try_out(self._first_probe)
        self.probes = {name: probe.without_batch() for name, probe in self.probes.items()}
        # Once: it counts classes, for which the host waits.
        self.history.facts = replace(self.history.facts, described=self.describe())
        for name, probe in self.probes.items():
            if name not in self._references:
                known = self._known_x.get(name)
                x = probe.values() if known else self._observed.vectors(probe)
                self._references[name] = self.plane.reference(x, probe.targets, known)
                self._known_x[name] = (self._references[name].sides.input, self._references[name].sigma)

    def _search(self) -> Chains:
        """What intervention finds, as rank 0 does; none where it fails: there are gaps between consecutive layers."""
        if self._dpi_pairs is None:
            return Chains()
        began = time.monotonic()
        activations = self._dpi_pairs == "markov"
        device = self._first_probe.x.device
        found = Chains()
        try:
            found = self._ranks.together(
                lambda: self._observed.find_chains(self._first_probe, activations, self._signals), device
            )
            found = self._ranks.first_object(found)
        except Exception as error:  # the same on all ranks
            self._on_failure("looking for Markov chains among the layers", error)
        self.seconds_of_search += time.monotonic() - began
        return found

    def _look_again(self, epoch: int) -> None:
        """Look for chains once more after the first epoch, where layers are in no pair: some gates open in training."""
        forward = None if self.chains is None else self.chains.forward
        if epoch == 0 or self._is_settled or forward is None:
            return
        self._is_settled = True
        if len(forward.layers) < 2 or not forward.alone:
            return
        found = self._search()
        if found.forward is not None and len(found.forward.alone) < len(forward.alone):
            self._know(found)

    # ------------------------------------------------------------------------------------------------ one measurement

    def _attempt(
        self, what: str, observe: Callable[[Listener], list[Measurement]], listener: Listener, epoch: int, step: int
    ) -> list[Row]:
        """One part of a measurement: on all ranks or on none."""
        rows: list[Row] = []
        try:
            begun = self._ranks.together(lambda: observe(listener), self._first_probe.x.device)
            for measurement in begun:
                rows += self.plane.finish(measurement, epoch, step, self._ranks)
        except Exception as error:
            self._on_failure(what, error)
        return rows

    def _observe(self, listener: Listener) -> list[Measurement]:
        """Every probe through the network."""
        forward_chain = None if self.chains is None else self.chains.forward
        pairs = None if forward_chain is None else forward_chain.pairs
        if self._dpi_pairs is None:
            pairs = []
        begun = []
        for name, probe in self.probes.items():
            one = self.plane.start(self._references[name], None, name, pairs, listener)
            self._observed.watch(probe, one.add, listener.left_out)
            begun.append(one)
        return begun

    def _observe_error_signals(self, listener: Listener) -> list[Measurement]:
        """The gradients at every layer, probe by probe."""
        assert self._signals is not None, "asked for"
        backward = [] if self._dpi_pairs is None else None if self.chains is None else self.chains.backward
        begun = []
        for name, probe in self.probes.items():
            signals = self._observed.error_signals(probe, self._signals)
            begun.append(self.plane.start_error_signals(signals, name, backward, probe.x.device, listener))
        return begun


def pairs_in(state: Mapping[str, Any]) -> list[Pair]:
    """The pairs that :attr:`Monitor.markov_pairs` were when this state was made; none of an empty one."""
    return _pairs_of(Chains.from_lists(state["chains"]) if state.get("chains") else None)


def _pairs_of(chains: Chains | None) -> list[Pair]:
    forward = None if chains is None else chains.forward
    return [] if forward is None else [Pair(*pair) for pair in forward.pairs]


def choose_layers(network: nn.Module, layers: LayerSpec | Sequence[LayerSpec], compared: bool) -> dict[str, nn.Module]:
    """The modules that ``layers`` means; two or more where they are compared with each other.

    Raises:
        ValueError: if there are none, or too few.
    """
    chosen = select_layers(network, layers)
    if compared and len(chosen) < 2:
        raise SetupError(f"error_signals=True compares layers, and layers={layers!r} chose only one.")
    return chosen


def measure(
    network: nn.Module,
    probe: Probe,
    layers: LayerSpec | Sequence[LayerSpec] = "conv",
    estimator: Estimator = Estimator(),
    *,
    monitor: Monitor | None = None,
    epoch: int = 0,
    step: int = 0,
    **options: Unpack[Options],
) -> list[Row]:
    """Measure a network as it is now, without a Trainer.

    Args:
        network: left exactly as it was.
        probe: the samples, on the network's device.
        layers: see :func:`~lightning_infoplane.network.layers.select_layers`.
        estimator: how to measure.
        monitor: one that measured this network on this probe before: its settings, X, chains and history go on.
        epoch: for the rows.
        step: for the rows.
        options: ``readout``, ``forward_fn``, ``batch_size``, ``dpi_pairs``, ``error_signals``, ``redundancy``: see
            :class:`Monitor`.

    Returns:
        The new rows.

    Raises:
        ValueError: if no layer matches, if the inputs are not finite, or if ``monitor`` is of another network or probe.

    Example:
        >>> net = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Tanh(), torch.nn.Linear(8, 2))
        >>> rows = measure(net, Probe(torch.eye(4)), layers="linear")
        >>> {row.place for row in rows if row.quantity == "I_XT"} == {"0", "2"}
        True
    """
    _MONITOR("monitor", monitor)
    if monitor is None:
        monitor = Monitor(network, probe, layers, estimator, **options)
    elif options:
        raise ValueError(f"monitor: has its own {', '.join(options)}. Leave them out, or make another Monitor.")
    elif monitor.network is not network or [one.x is probe.x for one in monitor.probes.values()] != [True]:
        raise ValueError("monitor: is of another network or probe. Call its own measure(epoch), or leave it out.")
    return monitor.measure(epoch, step)


_MONITOR = Instance("a Monitor or None", kinds=(Monitor,), constants=(None,), example="Monitor(network, probe)")


def _probes(sizes: Mapping[str, int], fingerprints: Mapping[str, str]) -> str:
    """Probes by name: how many samples, and what tells them apart."""
    return ", ".join(f"{name} {sizes.get(name, '?')} samples {digest}".strip() for name, digest in fingerprints.items())


def _chosen(choice: Any, kind: Any) -> Any:  # noqa: ANN401 - a class and one of its instances
    """A choice that may be given as yes or no: its defaults, or None."""
    if choice is True:
        return kind()
    return choice or None
