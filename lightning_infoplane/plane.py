"""The measuring core: tensors in, rows of bits out, in any loop.

Each activation becomes its Gram matrix at once and is forgotten; when all are in, every spectrum is computed
once, many in a call, and the quantities are sums of them.
"""

import csv
import io
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from lightning_infoplane.bandwidths import Bandwidth, MedianDistance
from lightning_infoplane.entropy import Eigenvalues, Solver
from lightning_infoplane.measurement import ERRORS, FORWARD, Measurement, Names, Reference
from lightning_infoplane.pairs import Redundancy
from lightning_infoplane.spectra import Settings, Share

__all__ = ["InformationPlane", "Row", "of_probe", "verdicts"]

# Fractions of log2 n beyond which H(T) says more about the kernel than about the layer.
SATURATED, COLLAPSED = 0.95, 0.05
# In the history a verdict is its place in this list.
VERDICTS = ("ok", "at chance", "collapsed", "saturated")
# Bits by which I(X;T) must exceed what shuffled pairs give.
CHANCE_MARGIN = 0.05


class Row(NamedTuple):
    """One number: at which epoch and step, of which layer (empty for the probe itself), which quantity."""

    epoch: int
    step: int
    layer: str
    quantity: str
    value: float


class InformationPlane:
    """Measures what layers keep of their input and their target, and remembers.

    Args:
        alpha: the order of the entropy; 1.01 is the paper's.
        bandwidth: the rule for inputs and layers; ``MedianDistance()`` when left out.
        target_bandwidth: the rule for targets. Left out, integer targets get the class kernel, so that H(Y)
            is the entropy of the classes, and continuous ones ``MedianDistance()``; given, integer targets
            are one-hot vectors under a Gaussian, as in the paper.
        solver: how entropies are computed; ``Eigenvalues()``, exact, when left out.
        chance: shuffles averaged for the chance level; 0 turns it off, 20 or more give p-values too.
        seed: of the shuffles, which are the same at every measurement.
        jackknife: groups of samples left out in turn, for standard errors over the probe; 0 turns it off. Costs
            as many measurements without chance level; 8 are usual.
        redundancy: also measure redundancy, synergy and total correlation of the feature maps.

    Example:
        >>> x, y = torch.eye(8), torch.arange(8) % 2
        >>> plane = InformationPlane(chance=0)
        >>> rows = plane.measure(x, y, {"copy": 3 * x})
        >>> [round(row.value, 6) for row in rows if row.quantity == "H_Y"]  # two equal classes
        [1.0]
    """

    def __init__(
        self,
        alpha: float = 1.01,
        bandwidth: Bandwidth | None = None,
        target_bandwidth: Bandwidth | None = None,
        solver: Solver | None = None,
        chance: int = 1,
        seed: int = 0,
        jackknife: int = 0,
        redundancy: Redundancy | None = None,
    ) -> None:
        self.settings = Settings(
            alpha,
            bandwidth or MedianDistance(),
            target_bandwidth,
            solver or Eigenvalues(),
            chance,
            seed,
            jackknife,
            redundancy,
        )
        self.history: list[Row] = []
        # Bandwidths of the last measurement by layer: for rules that freeze or smooth theirs.
        self._sigmas: dict[str, Tensor] = {}

    def __repr__(self) -> str:
        """The settings."""
        return f"InformationPlane({self.settings})"

    def measure(
        self, inputs: Tensor, targets: Tensor | None, layers: Mapping[str, Tensor], epoch: int = 0, step: int = 0
    ) -> list[Row]:
        """Measure activations that are all at hand.

        Args:
            inputs: ``(n, ...)``.
            targets: ``(n,)`` integer classes, ``(n, ...)`` continuous values, or None to leave out I(T;Y).
            layers: activations ``(n, C, *spatial)`` (C variables) or ``(n, d)`` (one) by name, in order.
            epoch: for the rows.
            step: for the rows.

        Returns:
            The new rows, which are also appended to ``history``.

        Raises:
            ValueError: for inputs that are not finite, or fewer than two, or targets of another length.
        """
        measurement = self.start(inputs, targets)
        for name, activation in layers.items():
            measurement.add(name, activation)
        return self.finish(measurement, epoch, step)

    def reference(self, inputs: Tensor, targets: Tensor | None) -> Reference:
        """X and Y of a probe that is measured again and again: pass it to :meth:`start` in place of the inputs."""
        return Reference(self.settings, inputs, targets)

    def start(
        self,
        inputs: Tensor | Reference,
        targets: Tensor | None = None,
        probe: str = "",
        pairs: Sequence[tuple[str, str]] | None = None,
        names: Names = FORWARD,
        progress: Callable[[int], object] = lambda layers: None,
    ) -> Measurement:
        """Begin a measurement to which activations are added one by one, as a hook produces them.

        Args:
            inputs: ``(n, ...)``, or a :meth:`reference` made of inputs and targets before.
            targets: as for :meth:`measure`.
            probe: its name where there are several, such as ``"train"``: quantities are ``"train/I_XT"`` then.
            pairs: layers between which gaps are wanted; where none are given, each layer and the next.
            names: what the quantities are called; ``ERRORS`` for error signals.
            progress: called with 1 for each layer reduced, and with how many for each batch of spectra.
        """
        prefix, settings = f"{probe}/" if probe else "", self.settings
        if names is not FORWARD:  # gradients have no targets to align with and no maps to compare
            rule = MedianDistance() if settings.bandwidth.needs_target else settings.bandwidth
            settings = replace(settings, bandwidth=rule, redundancy=None)
        key = f"{prefix}{names.bandwidth}/"
        previous = {k.removeprefix(key): v for k, v in self._sigmas.items() if k.startswith(key)}
        if not isinstance(inputs, Reference):
            previous = {name: sigma.to(inputs.device) for name, sigma in previous.items()}
            inputs = Reference(settings, inputs, targets, previous.get(""))
        previous = {name: sigma.to(inputs.sigma.device) for name, sigma in previous.items()}
        return Measurement(settings, inputs, previous, prefix, pairs, names, progress)

    def start_errors(
        self,
        errors: Mapping[str, Tensor],
        probe: str = "",
        pairs: Sequence[tuple[str, str]] | None = None,
        device: torch.device | None = None,
    ) -> Measurement:
        """Begin a measurement of error signals ``(n, ...)``, in order of execution: each against the last one.

        On ``device``, to which they are moved one by one, or where they are.

        Raises:
            ValueError: for fewer than two.
        """
        if len(errors) < 2:
            raise ValueError(f"error signals are compared with each other, and there is only {', '.join(errors)}.")
        *others, last = errors
        if not bool(errors[last].isfinite().all()):
            raise ValueError(f"the error signal of layer {last!r} has NaN or infinite values.")
        measurement = self.start(errors[last].to(device), None, probe, pairs, ERRORS)
        for layer in others:
            measurement.add(layer, errors[layer].to(device))
        return measurement

    def finish(self, measurement: Measurement, epoch: int = 0, step: int = 0, share: Share | None = None) -> list[Row]:
        """Evaluate a measurement, append its rows to ``history`` and return them."""
        values, prefix = measurement.evaluate(share or Share()), measurement.prefix
        key = f"{prefix}{measurement.names.bandwidth}/"
        self._sigmas.update({key + name: sigma for name, sigma in measurement.sigmas.items()})
        rows = [Row(epoch, step, layer, prefix + quantity, value) for (layer, quantity), value in values.items()]
        if measurement.names is FORWARD:
            judged = verdicts(rows, prefix.rstrip("/")).items()
            rows += [
                Row(epoch, step, layer, f"{prefix}verdict", float(VERDICTS.index(verdict))) for layer, verdict in judged
            ]
        self.history.extend(rows)
        return rows

    def forget(self) -> None:
        """Drop history and bandwidths, for a run from scratch."""
        self.history, self._sigmas = [], {}

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the history as CSV, all of it or, should the program die, what was there before."""
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(".partial")
        with partial.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(Row._fields)
            writer.writerows(self.history)
        os.replace(partial, path)

    @classmethod
    def load(cls, path: str | os.PathLike[str], **settings: Any) -> "InformationPlane":  # noqa: ANN401
        """A plane with the history of a CSV file; ``settings`` are those of the constructor.

        Raises:
            ValueError: if the file is not such a table.
        """
        plane = cls(**settings)
        try:
            text = Path(path).read_bytes().decode("utf-8")
        except UnicodeDecodeError:
            text = ""  # no text is no table
        reader = csv.reader(io.StringIO(text, newline=""))
        if tuple(next(reader, ())) != Row._fields:
            raise ValueError(f"{path}: expected a table with the columns {', '.join(Row._fields)}.")
        for line, cells in enumerate(reader, start=2):
            try:
                epoch, step, layer, quantity, value = cells
                plane.history.append(Row(int(epoch), int(step), layer, quantity, float(value)))
            except ValueError:
                raise ValueError(f"{path}, line {line}: expected {', '.join(Row._fields)}, got {cells}.") from None
        return plane

    def state_dict(self) -> dict[str, Any]:
        """History and bandwidths, as plain Python and tensors."""
        return {"history": [tuple(row) for row in self.history], "bandwidths": dict(self._sigmas)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from a :meth:`state_dict`."""
        self.history = [Row(*row) for row in state["history"]]
        self._sigmas = dict(state["bandwidths"])


def of_probe(rows: Sequence[Row], probe: str = "") -> list[Row]:
    """The rows of one probe, without its name.

    Example:
        >>> of_probe([Row(0, 0, "", "train/H_X", 1.0), Row(0, 0, "", "val/H_X", 2.0)], "val")
        [Row(epoch=0, step=0, layer='', quantity='H_X', value=2.0)]
    """
    prefix = f"{probe}/" if probe else ""
    found = [row for row in rows if row.quantity.startswith(prefix)]
    found = [row._replace(quantity=row.quantity.removeprefix(prefix)) for row in found]
    return [row for row in found if "/" not in row.quantity]


def verdicts(rows: Sequence[Row], probe: str = "", names: Names = FORWARD) -> dict[str, str]:
    """What the numbers of one measurement are worth, by layer; of error signals with ``names=ERRORS``.

    ``"saturated"``: H(T) above 95 % of log₂ n, so that I(X;T) = H(X) whatever the layer does.
    ``"collapsed"``: H(T) below 5 % of log₂ n, all samples look alike to the kernel. ``"at chance"``: I(X;T)
    within 0.05 bits of its value for shuffled pairs. Otherwise ``"ok"``.

    Example:
        >>> rows = [Row(0, 0, "", "log2_n", 9.0), Row(0, 0, "conv", "H_T", 8.9), Row(0, 0, "conv", "I_XT", 4.0)]
        >>> verdicts(rows)
        {'conv': 'saturated'}
    """
    table = {(row.layer, row.quantity): row.value for row in of_probe(rows, probe)}
    told, found = names.shared["X"], {}
    for layer, quantity in table:
        if quantity != names.entropy:
            continue
        limit = table["", "log2_n"]
        margin = table[layer, told] - table.get((layer, f"{told}_chance"), -float("inf"))
        if table[layer, quantity] > SATURATED * limit:
            found[layer] = "saturated"
        elif table[layer, quantity] < COLLAPSED * limit:
            found[layer] = "collapsed"
        else:
            found[layer] = "ok" if margin >= CHANCE_MARGIN else "at chance"
    return found
