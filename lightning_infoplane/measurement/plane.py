"""Tensors in, rows out, in any loop: what layers keep of their input and their target, measured and remembered.

Each activation becomes its Gram matrix at once and is forgotten; when all are in, every spectrum is computed
once, many in a call, and the quantities are sums of them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from lightning_infoplane.arguments.checks import Instance, Maybe, Tensors, Whole, WrongKindError, check_tensors, shown
from lightning_infoplane.estimator.bandwidths import MedianDistance
from lightning_infoplane.estimator.redundancy import Redundancy
from lightning_infoplane.measurement.history import Facts, History
from lightning_infoplane.measurement.listener import LeftOut, Listener, Notices
from lightning_infoplane.measurement.measurement import Measurement
from lightning_infoplane.measurement.quantity import Subject
from lightning_infoplane.measurement.ranks import Ranks
from lightning_infoplane.measurement.reference import Reference
from lightning_infoplane.measurement.rows import Row
from lightning_infoplane.measurement.settings import Estimator, as_data

__all__ = ["InformationPlane"]

# Whose bandwidth: of which probe, of activations or error signals, of which layer (empty for the input).
_Key = tuple[str, str, str]


_ESTIMATOR = Instance.of(Estimator)
_REDUNDANCY = replace(Instance.of(Redundancy, None), expected="Redundancy(...) or None")
_TARGETS = Maybe(Tensors("(n,) of integer classes or (n, ...) of continuous values, or None"))
_ACTIVATION = Tensors("(n, C, *spatial) or (n, d)")
_MOMENT = Whole(0, example="0")


class InformationPlane:
    """Measures what layers keep of their input and their target, and remembers.

    Args:
        estimator: how to measure.
        redundancy: also measure redundancy, synergy and total correlation of the feature maps.

    Example:
        >>> x, y = torch.eye(8), torch.arange(8) % 2
        >>> plane = InformationPlane(Estimator(shuffles=0))
        >>> rows = plane.measure(x, y, {"copy": 3 * x})
        >>> [round(row.value, 6) for row in rows if row.quantity == "H_Y"]  # two equal classes
        [1.0]
    """

    def __init__(self, estimator: Estimator = Estimator(), redundancy: Redundancy | None = None) -> None:
        self.estimator: Estimator = _ESTIMATOR("estimator", estimator)
        self.redundancy: Redundancy | None = _REDUNDANCY("redundancy", redundancy)
        self._notice = Notices()
        self._left_out = LeftOut(self._notice)
        self.history = History(facts=Facts(estimator=as_data(estimator)))
        # Bandwidths of the last measurement: for rules that freeze or smooth theirs.
        self._sigmas: dict[_Key, Tensor] = {}

    def __repr__(self) -> str:
        """How it measures."""
        return f"InformationPlane({self.estimator!r}, {self.redundancy!r})"

    def measure(
        self, inputs: Tensor, targets: Tensor | None, layers: Mapping[str, Tensor], epoch: int = 0, step: int = 0
    ) -> list[Row]:
        """Measure activations that are all at hand.

        Args:
            inputs: ``(n, ...)``.
            targets: ``(n,)`` integer classes, ``(n, ...)`` continuous values, or None to leave them out.
            layers: activations ``(n, C, *spatial)`` (C variables) or ``(n, d)`` (one) by name, in order.
            epoch: for the rows.
            step: for the rows.

        Returns:
            The new rows, which are also appended to ``history``. A layer that is left out is a warning.

        Raises:
            ValueError: for inputs that are not finite, or fewer than two, or targets or layers of another length.
        """
        check_tensors("measure", "(n, ...)", inputs=inputs)
        _TARGETS("targets", targets, "measure")
        _check_activations(layers)
        epoch = _MOMENT("epoch", epoch)
        step = _MOMENT("step", step)
        measurement = self.start(inputs, targets, listener=Listener(self._notice, left_out=self._left_out))
        _check_lengths(layers, measurement.n)
        try:
            for name, activation in layers.items():
                measurement.add(name, activation)
            return self.finish(measurement, epoch, step)
        finally:
            self._left_out.tell()

    def reference(
        self, inputs: Tensor, targets: Tensor | None, known: tuple[Tensor, Tensor] | None = None
    ) -> Reference:
        """X and Y of a probe that is measured again and again: pass it to :meth:`start` in place of the inputs.

        ``known`` is X's Gram matrix and bandwidth where they were made at an earlier time.
        """
        return Reference(self.estimator, inputs, targets, known=known)

    def start(
        self,
        inputs: Tensor | Reference,
        targets: Tensor | None = None,
        probe: str = "",
        pairs: Sequence[tuple[str, str]] | None = None,
        listener: Listener = Listener(),
    ) -> Measurement:
        """Begin a measurement to which activations are added one by one, as a hook produces them.

        Args:
            inputs: ``(n, ...)``, or a :meth:`reference` made of inputs and targets before.
            targets: as for :meth:`measure`.
            probe: its name where there are several, such as ``"train"``.
            pairs: layers between which gaps are wanted; where none are given, each layer and the next.
            listener: told of progress, and of layers that are left out.
        """
        return self._begin(Subject.ACTIVATIONS, self.estimator, inputs, targets, probe, pairs, listener)

    def start_error_signals(
        self,
        signals: Mapping[str, Tensor],
        probe: str = "",
        pairs: Sequence[tuple[str, str]] | None = None,
        device: torch.device | None = None,
        listener: Listener = Listener(),
    ) -> Measurement:
        """Begin a measurement of error signals ``(n, ...)``, in order of execution: each against the last one.

        On ``device``, to which they are moved one by one, or where they are.

        Raises:
            ValueError: for fewer than two.
        """
        if len(signals) < 2:
            raise ValueError(f"error signals are compared with each other, and there is only {', '.join(signals)}.")
        *others, last = signals
        if not bool(signals[last].isfinite().all()):
            raise ValueError(f"the error signal of layer {last!r} has NaN or infinite values.")
        estimator = self.estimator
        if estimator.bandwidth.needs_target:  # gradients have no targets to align with
            estimator = replace(estimator, bandwidth=MedianDistance())
        reference = signals[last].to(device)
        measurement = self._begin(Subject.ERROR_SIGNALS, estimator, reference, None, probe, pairs, listener)
        for layer in others:
            measurement.add(layer, signals[layer].to(device))
        return measurement

    def finish(self, measurement: Measurement, epoch: int = 0, step: int = 0, ranks: Ranks | None = None) -> list[Row]:
        """Evaluate a measurement, append its rows to ``history`` and return them."""
        probe = measurement.probe
        values = measurement.evaluate(ranks or Ranks())
        rows = [Row(epoch, step, probe, place, quantity.key, value) for place, quantity, value in values]
        for layer, sigma in measurement.sigmas.items():
            self._sigmas[probe, measurement.subject.value, layer] = sigma
        facts = self.history.facts
        self.history.facts = replace(facts, n={**facts.n, probe: measurement.n})
        self.history.extend(rows)
        return rows

    def forget(self) -> None:
        """Drop history and bandwidths, for a run from scratch."""
        self.history = History(facts=Facts(estimator=as_data(self.estimator)))
        self._sigmas = {}

    def state_dict(self) -> dict[str, Any]:
        """History and bandwidths, as plain Python and tensors."""
        return {"history": self.history.state_dict(), "bandwidths": dict(self._sigmas)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from a :meth:`state_dict`."""
        self.history = History.from_state(state["history"])
        self._sigmas = dict(state["bandwidths"])

    def _begin(
        self,
        subject: Subject,
        estimator: Estimator,
        inputs: Tensor | Reference,
        targets: Tensor | None,
        probe: str,
        pairs: Sequence[tuple[str, str]] | None,
        listener: Listener,
    ) -> Measurement:
        """A measurement that knows the bandwidths of the one before."""
        previous = {
            layer: sigma
            for (which, what, layer), sigma in self._sigmas.items()
            if (which, what) == (probe, subject.value)
        }
        if not isinstance(inputs, Reference):
            before = previous.get("")
            inputs = Reference(estimator, inputs, targets, None if before is None else before.to(inputs.device))
        return Measurement(
            estimator,
            inputs,
            probe=probe,
            subject=subject,
            previous={layer: sigma.to(inputs.sigma.device) for layer, sigma in previous.items()},
            pairs=pairs,
            redundancy=self.redundancy if subject is Subject.ACTIVATIONS else None,
            listener=listener,
        )


def _check_activations(layers: object) -> None:
    """Raise a sentence for what is no mapping of names to tensors."""
    if not isinstance(layers, Mapping):
        raise WrongKindError(
            f"measure(layers={shown(layers)}): expected activations by name. Write layers={{'conv1': activation}}."
        )
    for name, activation in layers.items():
        if not isinstance(name, str):
            raise WrongKindError(f"layers: expected names, got {shown(name)}. Write layers={{'{name}': activation}}.")
        _ACTIVATION(f"layers[{name!r}]", activation)


def _check_lengths(layers: Mapping[str, Tensor], n: int) -> None:
    """Raise a sentence for activations of other samples than the inputs."""
    for name, activation in layers.items():
        if activation.shape[:1] != (n,):
            raise ValueError(
                f"layers[{name!r}]: expected one value a sample, ({n}, ...), got {tuple(activation.shape)}. "
                "Pass inputs, targets and activations of the same samples."
            )
