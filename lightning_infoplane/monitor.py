"""A network watched on its probes: the one place where samples, layers, chains and history come together."""

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from copy import deepcopy
from dataclasses import replace
from typing import Any, Literal, TypedDict, Unpack

import torch
from torch import Tensor, nn

from lightning_infoplane.arguments.checks import Instance
from lightning_infoplane.arguments.errors import SetupError
from lightning_infoplane.estimator.redundancy import Redundancy
from lightning_infoplane.measurement.facts import Facts
from lightning_infoplane.measurement.history import History
from lightning_infoplane.measurement.listener import Listener, Notices
from lightning_infoplane.measurement.measurement import Measurement
from lightning_infoplane.measurement.plane import InformationPlane
from lightning_infoplane.measurement.ranks import Ranks
from lightning_infoplane.measurement.rows import Pair, Row
from lightning_infoplane.measurement.settings import Estimator
from lightning_infoplane.measurement.table import as_moment
from lightning_infoplane.network.activations import call, watch
from lightning_infoplane.network.chains import Chains, find_chains
from lightning_infoplane.network.gradients import ErrorSignals, error_signals
from lightning_infoplane.network.layers import LayerSpec, select_layers
from lightning_infoplane.network.probe import Probe
from lightning_infoplane.network.structures import replace_tensors
from lightning_infoplane.options import MOMENT, NETWORK, check_options, files, probes_by_name

__all__ = ["Monitor", "choose_layers", "measure", "measure_checkpoints", "pairs_in"]

_NOT_COMPARABLE = "Values before and after cannot be compared."
# Layers of a list in a message.
_NAMES_SHOWN = 8

ForwardFunction = Callable[[nn.Module, Any], Any]


class Options(TypedDict, total=False):
    """Arguments of :class:`Monitor` that :func:`measure` hands on."""

    forward_fn: ForwardFunction | None
    batch_size: int | None
    dpi_pairs: Literal["markov", "consecutive"]
    error_signals: bool | ErrorSignals
    redundancy: bool | Redundancy


def _raise(what: str, error: Exception) -> None:
    raise error


class Monitor:
    """Measures a network on fixed probes, again and again, in any loop, and remembers.

    The network is left exactly as it was: parameters, buffers, flags, gradients, random numbers, and what its modules
    hold in Python. X and Y are made once, and the
    pairs of layers that form a Markov chain are found once, at the first measurement.

    Args:
        network: any module.
        probe: the samples, on the network's device; several by name.
        layers: see :func:`~lightning_infoplane.network.layers.select_layers`.
        estimator: how to measure.
        forward_fn: called as ``forward_fn(network, inputs)`` instead of ``network(inputs)``.
        batch_size: send the probe through in pieces of this size.
        dpi_pairs: between which layers there are gaps: ``"markov"``, those that intervention on the network finds to be
            chains, or ``"consecutive"``, each with the next.
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
        forward_fn: ForwardFunction | None = None,
        batch_size: int | None = None,
        dpi_pairs: Literal["markov", "consecutive"] = "markov",
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
        self._forward_fn = forward_fn
        self._batch_size: int | None = options["batch_size"]
        self._dpi_pairs = dpi_pairs
        self._ranks = ranks
        self._context = context
        self._notice = notice or Notices()
        self._on_failure = on_failure
        self._references = {name: self.plane.reference(one.x, one.targets) for name, one in self.probes.items()}
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
        self.find_chains()
        listener = Listener(self._notice, progress)
        rows = self._attempt(f"the measurement after epoch {epoch}", self._observe, listener, epoch, step)
        if self._signals is not None:
            # On their own: error signals may fail where the activations have much to tell.
            what = f"the measurement of error signals after epoch {epoch}"
            rows += self._attempt(what, self._observe_error_signals, Listener(self._notice), epoch, step)
        return rows

    @property
    def work(self) -> int:
        """What ``progress`` adds up to in a measurement: Gram matrices, then spectra."""
        return 2 * len(self.probes) * len(self.layers)

    def find_chains(self) -> None:
        """Try by intervention which gaps mean something, once; rank 0's findings count."""
        if self.chains is not None:
            return
        probe = next(iter(self.probes.values()))
        forward = self._dpi_pairs == "markov"
        try:
            chains = self._ranks.together(
                lambda: find_chains(
                    self.network, self.layers, probe, self._forward, forward, self._signals, self._batch_size
                ),
                probe.x.device,
            )
            self._know(self._ranks.first_object(chains))
        except Exception as error:  # the same on all ranks
            self._on_failure("looking for Markov chains among the layers", error)
            self.chains = Chains()  # who goes on without them has gaps between consecutive layers

    def release(self) -> None:
        """Let go of the network and of what is on its device; the history stays."""
        self.layers = {}
        self.probes = {}
        self._references = {}
        self.network = nn.Module()
        self._forward_fn = None
        self._context = nullcontext
        self._ranks = Ranks()  # of a process group that is about to end, and that cannot be pickled

    def state_dict(self) -> dict[str, Any]:
        """History, bandwidths, chains and the probes' fingerprints: tensors and plain Python."""
        return {
            "plane": self.plane.state_dict(),
            "probes": dict(self._fingerprints),
            "layers": self._names,
            "chains": None if self.chains is None else self.chains.to_lists(),
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

    def _differences(self, before: Facts, state: Mapping[str, Any]) -> Iterator[str]:
        """What is not as it was, with both values."""
        if dict(state["probes"]) != self._fingerprints:
            now = {name: probe.size for name, probe in self.probes.items()}
            yield (
                "the probe is not the one this run was measured on so far: another data set, probe size or seed "
                f"({_probes(before.n, state['probes'])}; now {_probes(now, self._fingerprints)})."
            )
        if state["layers"] != self._names:
            then = _few(state["layers"])
            yield f"the layers are not those of this run so far, {then}: they are now {_few(self._names)}."
        mine = self.history.facts.estimator
        if before.estimator != mine:
            yield f"the estimator is not that of this run so far, {before.estimator}: it is now {mine}."

    def _know(self, chains: Chains) -> None:
        """Keep what was found, and write it beside the rows."""
        self.chains = chains
        words = [] if chains.forward is None else chains.forward.describe().split("\n")
        self.history.facts = replace(self.history.facts, chain=tuple(words))

    # ------------------------------------------------------------------------------------------------ one measurement

    def _attempt(
        self, what: str, observe: Callable[[Listener], list[Measurement]], listener: Listener, epoch: int, step: int
    ) -> list[Row]:
        """One part of a measurement: on all ranks or on none."""
        rows: list[Row] = []
        try:
            begun = self._ranks.together(lambda: observe(listener), next(iter(self.probes.values())).x.device)
            for measurement in begun:
                rows += self.plane.finish(measurement, epoch, step, self._ranks)
        except Exception as error:
            self._on_failure(what, error)
        return rows

    def _observe(self, listener: Listener) -> list[Measurement]:
        """Every probe through the network."""
        forward_chain = None if self.chains is None else self.chains.forward
        pairs = None if forward_chain is None else forward_chain.pairs
        begun = []
        for name, probe in self.probes.items():
            one = self.plane.start(self._references[name], None, name, pairs, listener)
            watch(self.network, self.layers, probe, one.add, self._forward, self._batch_size, listener.notice)
            begun.append(one)
        return begun

    def _observe_error_signals(self, listener: Listener) -> list[Measurement]:
        """The gradients at every layer, probe by probe."""
        assert self._signals is not None, "asked for"
        backward = None if self.chains is None else self.chains.backward
        begun = []
        for name, probe in self.probes.items():
            signals = error_signals(
                self.network, self.layers, probe, self._signals.loss_fn, self._forward, self._batch_size
            )
            begun.append(self.plane.start_error_signals(signals, name, backward, probe.x.device, listener))
        return begun

    def _forward(self, network: nn.Module, inputs: Any) -> Any:  # noqa: ANN401 - the user's
        """How the network is called: as the user says, in the context it trains in."""
        # Copies: a network that works in place on its inputs would change the probe for all measurements to come.
        with self._context():
            return call(network, replace_tensors(inputs, Tensor.clone), self._forward_fn)


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
        options: ``forward_fn``, ``batch_size``, ``dpi_pairs``, ``error_signals``, ``redundancy``: see :class:`Monitor`.

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


def measure_checkpoints(
    paths: Iterable[str | os.PathLike[str]],
    network: nn.Module,
    probe: Probe,
    layers: LayerSpec | Sequence[LayerSpec] = "conv",
    estimator: Estimator = Estimator(),
    **options: Unpack[Options],
) -> History:
    """Measure the checkpoints of a finished run, one after the other.

    Args:
        paths: Lightning checkpoints, or files with a state dict. Lightning's say which epoch and step they are
            of, as the callback counts them; others are counted from 0.
        network: of the same architecture; a copy of it is loaded, it stays as it is.
        probe: the samples, on the network's device.
        layers: see :func:`~lightning_infoplane.network.layers.select_layers`.
        estimator: how to measure.
        options: ``forward_fn``, ``batch_size``, ``dpi_pairs``, ``error_signals``, ``redundancy``: see :class:`Monitor`.

    Returns:
        The rows of all checkpoints; Markov chains are looked for in the first.

    Raises:
        ValueError: if a file is no checkpoint of this network.
    """
    NETWORK("network", network)
    checkpoints = files(paths)
    monitor = Monitor(deepcopy(network), probe, layers, estimator, **options)
    for count, path in enumerate(checkpoints):
        try:
            saved = torch.load(path, map_location=probe.x.device, weights_only=True)
            monitor.network.load_state_dict(saved.get("state_dict", saved))
            epoch, step = _moment(saved) or (count, count)
        except OSError:  # names the file itself
            raise
        except Exception as error:  # what is no checkpoint fails anywhere in torch's reader, and in its own way
            raise ValueError(f"{path} is no checkpoint of {type(network).__name__}: {error}") from error
        monitor.measure(epoch, step)
    return monitor.history


_MONITOR = Instance("a Monitor or None", kinds=(Monitor,), constants=(None,), example="Monitor(network, probe)")


def _moment(saved: Mapping[str, Any]) -> tuple[int, int] | None:
    """Epoch and step of a Lightning checkpoint as they are in the history of its run.

    The history counts finished epochs, and steps from 0. Lightning's own ``epoch`` goes up only after the hooks
    in which checkpoints are written, and not at all between these.
    """
    if not saved.keys() >= {"state_dict", "global_step"}:
        return None
    try:
        step = max(0, saved["global_step"] - 1)
        if "loops" not in saved:  # weights only
            return as_moment(saved["epoch"] + 1, step)
        loop = saved["loops"]["fit_loop"]
        started = loop["epoch_progress"]["current"]["ready"]
        is_whole = loop["epoch_loop.batch_progress"]["is_last_batch"]
        return as_moment(started if is_whole else max(0, started - 1), step)
    except (LookupError, TypeError) as error:
        raise ValueError(f"it does not say its epoch and step as Lightning does ({error!r})") from error


def _probes(sizes: Mapping[str, int], fingerprints: Mapping[str, str]) -> str:
    """Probes by name: how many samples, and what tells them apart."""
    return ", ".join(f"{name} {sizes.get(name, '?')} samples {digest}".strip() for name, digest in fingerprints.items())


def _few(names: Sequence[str]) -> str:
    """Some of the layers, and how many there are."""
    shown = ", ".join(names[:_NAMES_SHOWN])
    return shown if len(names) <= _NAMES_SHOWN else f"{shown}, … ({len(names)})"


def _chosen(choice: Any, kind: Any) -> Any:  # noqa: ANN401 - a class and one of its instances
    """A choice that may be given as yes or no: its defaults, or None."""
    if choice is True:
        return kind()
    return choice or None
