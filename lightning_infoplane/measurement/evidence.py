"""What p-values are evidence for: Holm's correction, and the one rule for a change. No torch: reports ask it too."""

import math
from collections.abc import Sequence
from enum import Enum

__all__ = ["LEVEL", "SMALLEST_CHANGE", "Change", "changes", "holm"]

# Of every test, after the correction for how many there are.
LEVEL = 0.05
# A gap that is surely not zero may still be too small to matter. No unit, or bits.
SMALLEST_CHANGE = 0.01


class Change(Enum):
    """What happens to a quantity from one layer to the next, as far as the evidence goes."""

    INCREASE = "increase"
    DECREASE = "decrease"
    UNDECIDED = "undecided"


def holm(p_values: Sequence[float]) -> list[float]:
    """P-values corrected for their number: one below 0.05 is significant whatever the others are.

    NaN, where nothing was tested, is not counted and stays NaN.

    Source: Holm (1979).

    Example:
        >>> holm([0.01, 0.04, 0.03])
        [0.03, 0.06, 0.06]
    """
    order = sorted((p, place) for place, p in enumerate(p_values) if not math.isnan(p))
    corrected = [math.nan] * len(p_values)
    largest = 0.0
    for rank, (p, place) in enumerate(order):
        largest = max(largest, min(1.0, p * (len(order) - rank)))
        corrected[place] = largest
    return corrected


def changes(gaps: Sequence[float], p_values: Sequence[float]) -> list[Change]:
    """Which gaps of a moment are increases and which decreases from the first layer to the second.

    A gap is what the second layer has less, so an increase is a gap below zero. It must be larger than 0.01, and
    significant on its side after Holm's correction over all gaps of the moment.

    Args:
        gaps: of one moment.
        p_values: one-sided, on the side where the gap is; NaN where there is none.

    Example:
        >>> [change.value for change in changes([-0.2, 0.3, 0.3, -0.001], [0.001, 0.002, 0.4, 1e-9])]
        ['increase', 'decrease', 'undecided', 'undecided']
    """
    decided = [Change.UNDECIDED] * len(gaps)
    for sign, change in ((-1, Change.INCREASE), (1, Change.DECREASE)):
        on_this_side = [p if gap * sign > 0 else 1 - p for gap, p in zip(gaps, p_values, strict=True)]
        for place, p in enumerate(holm(on_this_side)):
            if p < LEVEL and gaps[place] * sign > SMALLEST_CHANGE:
                decided[place] = change
    return decided
