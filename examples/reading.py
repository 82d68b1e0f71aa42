"""What the examples read out of a history: values with their errors, and which of two is clearly the larger one."""

import math
from collections.abc import Iterable
from typing import NamedTuple

from lightning_infoplane import Row


class Known(NamedTuple):
    """A value and its standard error."""

    value: float
    error: float

    def __str__(self) -> str:
        """As in a table."""
        return f"{self.value:.3f} ± {self.error:.3f}"

    def exceeds(self, other: "Known") -> bool:
        """Whether it is larger by more than two standard errors of the difference, taken for independent ones."""
        return self.value - other.value > 2 * math.hypot(self.error, other.error)


def read(rows: Iterable[Row], quantity: str) -> dict[tuple[int, str], Known]:
    """A quantity by epoch and layer; a layer that has no value, as a constant has none, is left out."""
    value = {(row.epoch, str(row.place), row.quantity): row.value for row in rows}
    return {
        (epoch, layer): Known(found, value[epoch, layer, f"{quantity}_stderr"])
        for (epoch, layer, key), found in value.items()
        if key == quantity
    }


def change(before: Known, after: Known) -> str:
    """What became of a value, as far as its errors allow to say so."""
    if after.exceeds(before):
        return f"rises from {before} to {after}"
    if before.exceeds(after):
        return f"falls from {before} to {after}"
    return f"goes from {before} to {after}, which is undecided"
