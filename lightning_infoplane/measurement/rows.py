"""One number with all that says what it is: the form in which everything measured is passed on."""

from typing import NamedTuple

__all__ = ["BETWEEN", "Pair", "Place", "Row"]

# What stands between two layers in a logged key.
BETWEEN = "-to-"


class Pair(NamedTuple):
    """Two layers, and the way from the one to the other.

    Example:
        >>> str(Pair("conv1", "conv2"))
        'conv1-to-conv2'
    """

    first: str
    second: str

    def __str__(self) -> str:
        """As in a logged key."""
        return f"{self.first}{BETWEEN}{self.second}"


# A layer by its name, a pair of layers, or the probe itself: the empty name.
Place = str | Pair


class Row(NamedTuple):
    """One number.

    Args:
        epoch: how many had been finished.
        step: of the optimizer.
        probe: its name where there are several, ``"train"`` or ``"val"``; empty where there is one.
        place: a layer, a :class:`Pair` of layers, or the empty name for the probe itself.
        quantity: its key in the table of quantities, such as ``"I_XT"``, or one derived from it, ``"I_XT_stderr"``.
        value: in the quantity's unit.

    Example:
        >>> Row(1, 16, "", "conv1", "H_T", 3.5).place
        'conv1'
    """

    epoch: int
    step: int
    probe: str
    place: Place
    quantity: str
    value: float
