"""Rows in order: what pictures and reports ask of a history, indexed once."""

import math
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from lightning_infoplane.estimator.limits import SATURATED_SHARE
from lightning_infoplane.measurement.evidence import Change, changes
from lightning_infoplane.measurement.history import History
from lightning_infoplane.measurement.quantities import LOG2_N, PLANES, SIGNS, Plane
from lightning_infoplane.measurement.quantity import Quantity, Subject
from lightning_infoplane.measurement.rows import Place, Row

__all__ = ["Series", "last_rows", "probes_of", "quantities_of"]

Moment = tuple[int, int]


def probes_of(rows: Iterable[Row]) -> list[str]:
    """The names of the probes in a history; ``[""]`` where there is a single one, without a name.

    Example:
        >>> probes_of([Row(0, 0, "train", "", "H_X", 1.0), Row(0, 0, "val", "", "H_X", 2.0)])
        ['train', 'val']
    """
    if isinstance(rows, History):
        return list(dict.fromkeys(probe for probe, _, _ in rows.table.keys))
    return list(dict.fromkeys(row.probe for row in rows))


def quantities_of(rows: Iterable[Row]) -> set[str]:
    """The keys of the quantities in a history.

    Example:
        >>> quantities_of([Row(0, 0, "train", "", "H_X", 1.0), Row(1, 8, "train", "", "H_X", 2.0)])
        {'H_X'}
    """
    if isinstance(rows, History):
        return {quantity for _, _, quantity in rows.table.keys}
    return {row.quantity for row in rows}


def last_rows(rows: Iterable[Row], probe: str) -> list[Row]:
    """The rows of a probe's last measurement."""
    if isinstance(rows, History):  # which knows where to look
        for moment in sorted(set(rows.table.moments), reverse=True):
            if found := [row for row in rows.table.rows_of(moment) if row.probe == probe]:
                return found
    of_probe = [row for row in rows if row.probe == probe]
    last = max((row.epoch, row.step) for row in of_probe)
    return [row for row in of_probe if (row.epoch, row.step) == last]


class Series:
    """Rows of one probe: by place and quantity a value at each moment, (epoch, step).

    Attributes:
        layers: in the order of their depth.
        moments: when anything was measured, in order.
        by_step: whether moments are told apart by their step alone.
    """

    def __init__(self, rows: Iterable[Row], probe: str) -> None:
        table = (rows if isinstance(rows, History) else History(rows)).table
        lengths = [end - start for _, start, end in table.runs()]
        # Rows of one key together, in the order in which they came; copies, for a history must be free to grow.
        codes = np.array(table.codes, dtype=np.int32)
        order = np.argsort(codes, kind="stable")
        self._values = np.array(table.values)[order]
        self._when = np.repeat(np.arange(len(lengths)), lengths)[order]
        self._moments = list(table.moments)
        ends = np.cumsum(np.bincount(codes, minlength=len(table.keys))).tolist()
        parts = zip(table.keys, [0, *ends], ends, strict=False)
        self._parts = {(place, key): slice(*ends) for (of, place, key), *ends in parts if of == probe}
        self._curves: dict[tuple[Place, str], dict[Moment, float]] = {}
        self._known: dict[str, list[Moment]] = {}
        # The order they were measured in is their depth; a layer that came late goes last.
        # By entropy first, which every layer has; one that is not resolved has no more.
        axes = {axis.key for plane in PLANES for axis in (plane.across, plane.up)}
        tellings = ({SIGNS[Subject.ACTIVATIONS].entropy.key}, axes)
        self.layers = list(
            dict.fromkeys(str(place) for telling in tellings for place, key in self._parts if place and key in telling)
        )
        ours = np.unique(np.concatenate([self._when[:0], *(self._when[part] for part in self._parts.values())]))
        self.moments = sorted({self._moments[number] for number in ours.tolist()})
        # Several measurements within an epoch have only the step to tell them apart.
        self.by_step = len({epoch for epoch, _ in self.moments}) < len({step for _, step in self.moments})

    def holds(self, quantity: Quantity) -> bool:
        """Whether there is any value of it."""
        return any(key == quantity.key for _, key in self._parts)

    def spans(self, plane: Plane) -> bool:
        """Whether any layer has both numbers of a plane at one time."""
        return any(len(self.path(layer, plane)) for layer in self.layers)

    def places_with(self, quantity: Quantity) -> list[Place]:
        """The layers or pairs that a quantity is known of, in the order of their first appearance.

        Raises:
            ValueError: if there are none.
        """
        places = [place for place, key in self._parts if key == quantity.key and place]
        if not places:
            known = ", ".join(sorted({key for place, key in self._parts if place}))
            raise ValueError(f"the rows hold no {quantity.key!r}. They hold {known or 'nothing of this probe'}.")
        return places

    def layers_with(self, quantity: Quantity) -> list[str]:
        """The layers that a quantity is known of, in depth order."""
        places = set(self.places_with(quantity))
        return [layer for layer in self.layers if layer in places]

    def moments_of(self, quantity: Quantity) -> list[Moment]:
        """When it was measured."""
        if quantity.key not in self._known:
            parts = [self._when[part] for (_, key), part in self._parts.items() if key == quantity.key]
            numbers = np.unique(np.concatenate([self._when[:0], *parts])).tolist()
            self._known[quantity.key] = sorted({self._moments[number] for number in numbers})
        return list(self._known[quantity.key])

    def values_of(self, quantity: Quantity) -> list[float]:
        """All finite values of all places."""
        places = [place for place, key in self._parts if key == quantity.key]
        values = [value for place in places for value in self._curve(place, quantity).values()]
        return [value for value in values if math.isfinite(value)]

    def at(self, place: Place, quantity: Quantity, moment: Moment, otherwise: float = np.nan) -> float:
        """The value at a moment."""
        return self._curve(place, quantity).get(moment, otherwise)

    def path(self, layer: str, plane: Plane) -> Any:  # noqa: ANN401 - numpy's annotations need a scalar type
        """Points of a plane in the order of time."""
        across, up = (self._curve(layer, axis) for axis in (plane.across, plane.up))
        return np.array([(across[moment], up[moment]) for moment in sorted(across) if moment in up]).reshape(-1, 2)

    def errors_along(self, layer: str, plane: Plane) -> Any:  # noqa: ANN401
        """Standard errors of these points; NaN where there are none."""
        across, up = (self._curve(layer, axis) for axis in (plane.across, plane.up))
        moments = [moment for moment in sorted(across) if moment in up]
        return np.array(
            [[self.at(layer, axis.error, moment) for axis in (plane.across, plane.up)] for moment in moments]
        ).reshape(-1, 2)

    def curve(self, place: Place, quantity: Quantity) -> tuple[Any, Any]:
        """Epochs, or steps, and values: NaN at moments when others have a value and this one has none."""
        moments = self.moments_of(quantity)
        values = [self.at(place, quantity, moment) for moment in moments]
        return np.array([moment[self.by_step] for moment in moments]), np.array(values)

    def first_and_last(self, place: Place, quantity: Quantity) -> list[tuple[float, float]]:
        """The first value and the last, each with its standard error or NaN; one where there is one, or none."""
        series = sorted(self._curve(place, quantity).items())
        return [
            (value, self.at(place, quantity.error, moment)) for moment, value in dict.fromkeys(series[:1] + series[-1:])
        ]

    def changes(self, quantity: Quantity, moment: Moment) -> dict[Place, Change]:
        """Which gaps of a moment are increases or decreases, of the pairs that have one."""
        pairs = [pair for pair in self.places_with(quantity) if np.isfinite(self.at(pair, quantity, moment))]
        gaps = [self.at(pair, quantity, moment) for pair in pairs]
        p_values = [self.at(pair, quantity.p_value, moment) for pair in pairs]
        return dict(zip(pairs, changes(gaps, p_values), strict=True))

    def saturated(self, layer: str) -> list[tuple[float, float]]:
        """Stretches of the epoch axis, each to half way to its neighbours, where the entropy is close to log2 n."""
        x, entropy = self.curve(layer, SIGNS[Subject.ACTIVATIONS].entropy)
        limit = SATURATED_SHARE * max(self.values_of(LOG2_N), default=np.inf)
        if len(x) < 2:
            return [(x[0] - 0.3, x[0] + 0.3)] if (entropy > limit).any() else []
        edges = np.concatenate([x[:1], (x[1:] + x[:-1]) / 2, x[-1:]])
        flat = np.pad(entropy > limit, 1)
        return list(zip(edges[:-1][flat[1:-1] & ~flat[:-2]], edges[1:][flat[1:-1] & ~flat[2:]], strict=True))

    def moment_label(self, moment: Moment) -> str:
        """In words."""
        if self.by_step:
            return f"step {moment[1]}"
        return f"after epoch {moment[0]}" if moment[0] else "before training"

    def _curve(self, place: Place, quantity: Quantity) -> Mapping[Moment, float]:
        """The value at each moment, the last one where there are two; made when somebody asks for it."""
        key = (place, quantity.key)
        if key not in self._curves:
            part = self._parts.get(key, slice(0))
            numbers = zip(self._when[part].tolist(), self._values[part].tolist(), strict=True)
            self._curves[key] = {self._moments[when]: value for when, value in numbers}
        return self._curves[key]
