"""A network with the layers that are looked at: called as it is meant to be, read as is wanted, left as it was."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from lightning_infoplane.arguments.errors import NotMeasurableError, SetupError
from lightning_infoplane.arguments.printing import shown
from lightning_infoplane.network.activations import NOT_CALLED, watch
from lightning_infoplane.network.calls import WHOLE, Way
from lightning_infoplane.network.chains import Chain, Chains, find_chains
from lightning_infoplane.network.gradients import ErrorSignals, error_signals
from lightning_infoplane.network.hints import how_to_call
from lightning_infoplane.network.hooks import intercept
from lightning_infoplane.network.layers import LayerSpec, means, named
from lightning_infoplane.network.pilot import Pilot, embedded, fly
from lightning_infoplane.network.probe import Probe
from lightning_infoplane.network.reader import Reader
from lightning_infoplane.network.readout import AnyReadout, readout_of
from lightning_infoplane.network.structures import replace_tensors
from lightning_infoplane.network.undisturbed import undisturbed

__all__ = ["ForwardFunction", "Observed", "Readouts"]

ForwardFunction = Callable[[nn.Module, Any], Any]
Readouts = AnyReadout | Mapping[Any, AnyReadout] | None

# Layers that are read in an unusual way, named in a message.
_SHOWN = 8


class Observed:
    """A network and its chosen layers.

    Args:
        network: any module.
        layers: by name, as from :func:`~lightning_infoplane.network.layers.select_layers`.
        spec: by which they were chosen.
        readout: how outputs become ``(n, ...)``.
        forward_fn: called as ``forward_fn(network, inputs)``.
        context: entered around every call.
        batch_size: send probes through in pieces of this size.

    Raises:
        SetupError: a ValueError, if a key of ``readout`` means none of the layers.

    Example:
        >>> net = torch.nn.Linear(2, 3)
        >>> observed = Observed(torch.nn.Sequential(net), {"0": net})
        >>> observed.try_out(Probe(torch.eye(2)))
        >>> observed.watch(Probe(torch.eye(2)), lambda name, value: print(name, value.shape))
        0 torch.Size([2, 3])
    """

    def __init__(
        self,
        network: nn.Module,
        layers: Mapping[str, nn.Module],
        spec: LayerSpec | Sequence[LayerSpec] = "all",
        readout: Readouts = None,
        forward_fn: ForwardFunction | None = None,
        context: Callable[[], AbstractContextManager[Any]] = nullcontext,
        batch_size: int | None = None,
    ) -> None:
        self.network = network
        self.layers = dict(layers)
        self._spec = spec
        self._forward_fn = forward_fn
        self._context = context
        self._batch_size = batch_size
        self._pilot: Pilot | None = None
        _check_keys(readout, layers)
        wanted = {name: readout_of(readout, name, layer, means) for name, layer in layers.items()}
        self.reader = Reader(self.layers, {name: one for name, one in wanted.items() if one is not None})

    @property
    def is_tried(self) -> bool:
        """Whether it is known how to call the network."""
        return self._pilot is not None

    def try_out(self, probe: Probe) -> None:
        """Send a few samples through, and find out how the network is called and where the samples are in its outputs.

        Raises:
            NotMeasurableError: with what to pass, if the network cannot be called with what the probe holds.
            Exception: whatever the user's ``forward_fn`` raises.
        """
        try:
            pilot = fly(self.network, self.layers, probe, self._call, [WHOLE] if self._forward_fn else None)
        except Exception as error:
            if self._forward_fn is not None or isinstance(error, torch.OutOfMemoryError):
                raise
            raise NotMeasurableError(how_to_call(self.network, probe, error, self._works)) from error
        self.reader = replace(self.reader, places=pilot.places)
        self._pilot = pilot

    def describe(self, probe: Probe) -> str:
        """What is X, what is Y, and how the network is called, in a line.

        Example:
            >>> net = torch.nn.Linear(2, 3)
            >>> Observed(net, {}).describe(Probe(torch.eye(2), torch.tensor([0, 1])))
            'X: inputs (2, 2); Y: targets (2,), 2 classes; model called as forward(inputs)'
        """
        x = f"{probe.origin.x} {tuple(probe.x.shape)}"
        if probe.is_of_ids and self._pilot is not None and self._pilot.embedding:
            x = f"output of the embedding layer {self._pilot.embedding!r}, as it is at the start, for {x}"
        called = "by forward_fn" if self._forward_fn else f"as {self._way.words(probe.inputs)}"
        turned = [name for name, place in self.reader.places.items() if place.axis and name in self.layers]
        more = ", …" if len(turned) > _SHOWN else ""
        where = f"; samples on axis 1 of the output of {', '.join(turned[:_SHOWN])}{more}" if turned else ""
        pairs = (
            "" if probe.can_be_divided else "; no pairs of layers, for no few samples can be taken out of the inputs"
        )
        return f"X: {x}; Y: {_of_targets(probe)}; model called {called}{where}{pairs}"

    def vectors(self, probe: Probe) -> Tensor:
        """X of token numbers: what the network's embedding layer makes of them now, or the numbers where it has none.

        Padding is zero, and all that does not tell samples apart is no embedding of them.
        """
        numbers = probe.values()
        if self._pilot is None or not self._pilot.embedding:
            return numbers
        found = embedded(self.network, self._pilot, probe, self._call, self._batch_size)
        return numbers if found is None or bool((found == found[:1]).all()) else found

    def watch(
        self,
        probe: Probe,
        consume: Callable[[str, Tensor], object],
        left_out: Callable[[str, str], None] = lambda layer, why: None,
    ) -> None:
        """Hand each layer's output to ``consume``, see :func:`~lightning_infoplane.network.activations.watch`."""

        def told(layer: str, why: str) -> None:
            # What a keyword took along, and is never called, was not asked for.
            if why != NOT_CALLED or named(self._spec, layer, self.layers[layer]):
                left_out(layer, why)

        watch(self.network, self.layers, probe, consume, self.forward, self._batch_size, told, self.reader)

    def error_signals(self, probe: Probe, signals: ErrorSignals) -> dict[str, Tensor]:
        """Gradients at each layer, see :func:`~lightning_infoplane.network.gradients.error_signals`."""
        return error_signals(
            self.network, self.layers, probe, signals.loss_fn, self.forward, self._batch_size, self.reader
        )

    def find_chains(self, probe: Probe, activations: bool, signals: ErrorSignals | None) -> Chains:
        """The chains among the layers; none where no few samples can be taken out of the probe."""
        if not probe.can_be_divided:
            return Chains(Chain((), ()) if activations else None, [])
        return find_chains(
            self.network,
            self.layers,
            probe,
            self.forward,
            activations,
            signals,
            self._batch_size,
            reader=self.reader,
        )

    def forward(self, network: nn.Module, inputs: Any) -> Any:  # noqa: ANN401 - the user's
        """A call in the way that was found."""
        return self._call(network, inputs, self._way)

    @property
    def _way(self) -> Way:
        return WHOLE if self._pilot is None else self._pilot.way

    def _call(self, network: nn.Module, inputs: Any, way: Way) -> Any:  # noqa: ANN401
        """A call in some way, or as the user says, in the context that the network trains in."""
        # Copies: a network that works in place on its inputs would change the probe for all measurements to come.
        copies = replace_tensors(inputs, Tensor.clone)
        with self._context():
            return way(network, copies) if self._forward_fn is None else self._forward_fn(network, copies)

    def _works(self, network: nn.Module, probe: Probe, call: ForwardFunction) -> int:
        """How many of the layers are called, if the network can be called so with a few samples."""
        # As many as nobody unpacks: ``x, y = batch`` takes a tensor of two rows apart.
        few = probe.rows(slice(0, 5)) if probe.can_be_divided else probe.inputs
        called: set[str] = set()
        watched = intercept(self.layers, lambda name, output: called.add(name))
        try:
            with undisturbed(network), watched, self._context():
                call(network, replace_tensors(few, Tensor.clone))
        except Exception:  # a suggestion that is not made
            return 0
        return len(called & self.layers.keys())


def _check_keys(readout: Readouts, layers: Mapping[str, nn.Module]) -> None:
    """Raise a sentence for a key that means no layer: its readout would be none of anything."""
    for key in readout if isinstance(readout, Mapping) else ():
        if not any(means(key, name, layer) for name, layer in layers.items()):
            more = ", …" if len(layers) > _SHOWN else ""
            raise SetupError(
                f"readout={{{shown(key)}: ...}}: expected a name, a glob or a type of the chosen layers, which are "
                f"{', '.join(list(layers)[:_SHOWN])}{more}. Leave it out, or add it to layers."
            )


def _of_targets(probe: Probe) -> str:
    """What is Y, in words."""
    targets = probe.targets
    if targets is None:
        return "none"
    name = f"{probe.origin.targets} {tuple(targets.shape)}"
    if targets.is_floating_point():
        return f"{name}, continuous"
    where = "" if targets.numel() == probe.size else f" in {targets[0].numel()} places"
    return f"{name}, {len(torch.unique(targets))} classes{where}"
