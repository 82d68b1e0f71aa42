"""Rows in order: what pictures and reports ask of a history, indexed once."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from lightning_infoplane.plane import SATURATED, Row, of_probe

__all__ = ["Table", "probes_of"]


def probes_of(rows: Sequence[Row]) -> list[str]:
    """The names of the probes in a history; ``[""]`` where there is a single one, without a name.

    Example:
        >>> probes_of([Row(0, 0, "", "train/H_X", 1.0), Row(0, 0, "", "val/H_X", 2.0)])
        ['train', 'val']
    """
    return list(dict.fromkeys(row.quantity.rpartition("/")[0] for row in rows))


class Table:
    """Rows of one probe: a series by (layer, quantity), each a value by (epoch, step)."""

    def __init__(self, rows: Sequence[Row], probe: str) -> None:
        self.series: dict[tuple[str, str], dict[tuple[int, int], float]] = {}
        for row in of_probe(rows, probe):
            self.series.setdefault((row.layer, row.quantity), {})[row.epoch, row.step] = row.value
        # The order they were measured in is their depth; a layer that came late goes last.
        self.layers = list(dict.fromkeys(layer for layer, quantity in self.series if quantity in ("H_T", "I_XT")))
        moments = {moment for series in self.series.values() for moment in series}
        # Several measurements within an epoch have only the step to tell them apart.
        self.by_step = len({epoch for epoch, _ in moments}) < len({step for _, step in moments})

    def names_with(self, quantity: str) -> list[str]:
        """The layers or pairs that a quantity is known of, in the order of their first appearance.

        Raises:
            ValueError: if there are none.
        """
        names = [name for name, known in self.series if known == quantity and name]
        if not names:
            known = ", ".join(sorted({known for name, known in self.series if name}))
            raise ValueError(f"the rows hold no {quantity!r}. They hold {known or 'nothing of this probe'}.")
        return names

    def layers_with(self, quantity: str) -> list[str]:
        """The layers that a quantity is known of, in depth order."""
        found = self.names_with(quantity)
        return [layer for layer in self.layers if layer in found]

    def moments_of(self, quantity: str) -> list[tuple[int, int]]:
        """When it was measured."""
        return sorted({moment for (_, known), series in self.series.items() if known == quantity for moment in series})

    def values_of(self, quantity: str) -> list[float]:
        """All finite values of all layers."""
        values = [v for (_, known), series in self.series.items() if known == quantity for v in series.values()]
        return [value for value in values if np.isfinite(value)]

    def path(self, layer: str) -> Any:  # noqa: ANN401 - numpy's annotations need a scalar type
        """Points (I_XT, I_TY) in the order of time."""
        x, y = (self.series.get((layer, name), {}) for name in ("I_XT", "I_TY"))
        return np.array([(x[moment], y[moment]) for moment in sorted(x) if moment in y]).reshape(-1, 2)

    def curve(self, layer: str, quantity: str) -> tuple[Any, Any]:
        """Epochs, or steps, and values."""
        series = sorted(self.series.get((layer, quantity), {}).items())
        return np.array([moment[self.by_step] for moment, _ in series]), np.array([value for _, value in series])

    def saturated(self, layer: str) -> list[tuple[float, float]]:
        """Stretches of the epoch axis, each to half way to its neighbours, where H(T) is close to log2 n."""
        x, entropy = self.curve(layer, "H_T")
        limit = max(self.values_of("log2_n"), default=np.inf)
        if len(x) < 2:
            return [(x[0] - 0.3, x[0] + 0.3)] if (entropy > SATURATED * limit).any() else []
        edges = np.concatenate([x[:1], (x[1:] + x[:-1]) / 2, x[-1:]])
        flat = np.pad(entropy > SATURATED * limit, 1)
        return list(zip(edges[:-1][flat[1:-1] & ~flat[:-2]], edges[1:][flat[1:-1] & ~flat[2:]], strict=True))

    def moment_label(self, moment: tuple[int, int]) -> str:
        """In words."""
        if self.by_step:
            return f"step {moment[1]}"
        return f"after epoch {moment[0]}" if moment[0] else "before training"
