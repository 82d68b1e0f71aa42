"""What of a very large run is drawn: a picture of hundreds of layers shows none of them, and takes minutes."""

from array import array
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from lightning_infoplane.measurement.history import History
from lightning_infoplane.measurement.rows import Pair, Row
from lightning_infoplane.measurement.table import Moment, Table
from lightning_infoplane.views.series import Series

__all__ = ["MOST_LAYERS", "MOST_MOMENTS", "Drawn", "thinned"]

# Lines that can still be told apart, and points that can.
MOST_LAYERS = 40
MOST_MOMENTS = 120


class Drawn(NamedTuple):
    """Rows to draw.

    Args:
        rows: of one probe.
        note: what was left out, in a sentence; empty where nothing was.
    """

    rows: Sequence[Row]
    note: str


def thinned(rows: Sequence[Row], probe: str, series: Series | None = None) -> Drawn:
    """The rows as they are or, of a very large run, those of layers and moments evenly spaced, the ends among them.

    Pairs of layers stay all: which of their gaps are increases is decided among all of them.
    """
    series = series or Series(rows, probe)
    layers = _spread(series.layers, MOST_LAYERS)
    moments = _spread(series.moments, MOST_MOMENTS)
    left_out = [
        f"{len(kept)} of {len(every)} {what}"
        for kept, every, what in ((layers, series.layers, "layers"), (moments, series.moments, "measurements"))
        if len(kept) < len(every)
    ]
    if not left_out:
        return Drawn(rows, "")
    history = rows if isinstance(rows, History) else History(rows)
    dropped = set(series.layers) - set(layers)
    keys = [of == probe and (isinstance(place, Pair) or place not in dropped) for of, place, _ in history.table.keys]
    note = f"Drawn are {' and '.join(left_out)}, evenly spaced."
    return Drawn(History.of(_where(history.table, keys, set(moments)), history.facts), note)


def _spread(every: Sequence[Any], most: int) -> list[Any]:
    """At most so many of them, evenly spaced, the first and the last among them."""
    if len(every) <= most:
        return list(every)
    return [every[round(number)] for number in np.linspace(0, len(every) - 1, most)]


def _where(table: Table, keys: list[bool], moments: set[Moment]) -> Table:
    """The rows of some keys and moments."""
    kept = Table()
    numbers = np.array([kept.code(key) if chosen else -1 for key, chosen in zip(table.keys, keys, strict=True)])
    for moment, start, end in table.runs():
        if moment in moments:
            codes = numbers[table.codes[start:end]]
            kept.begin(moment)
            kept.codes.extend(array("i", codes[codes >= 0].tolist()))
            kept.values.extend(array("d", np.array(table.values[start:end])[codes >= 0].tolist()))
    return kept
