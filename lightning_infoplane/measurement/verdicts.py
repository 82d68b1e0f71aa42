"""What the numbers are worth: a verdict on each layer, and the one rule for a gap below zero."""

from __future__ import annotations

from collections.abc import Iterable
from enum import Enum
from typing import Any, NamedTuple

from lightning_infoplane.measurement.quantities import ENTROPY, INFORMATION, LOG2_N
from lightning_infoplane.measurement.quantity import Subject
from lightning_infoplane.measurement.rows import Row

__all__ = [
    "CHANCE_MARGIN",
    "COLLAPSED_SHARE",
    "ROUNDING",
    "SATURATED_SHARE",
    "STANDARD_ERRORS",
    "Judgement",
    "Verdict",
    "is_below_zero",
    "judge",
]

# Shares of log2 n beyond which H(T) says more about the kernel than about the layer.
SATURATED_SHARE = 0.95
COLLAPSED_SHARE = 0.05
# Bits by which I(X;T) must exceed what shuffled pairs give.
CHANCE_MARGIN = 0.05
# How many of its own standard errors a gap must be below zero.
STANDARD_ERRORS = 2.0
# Bits; float32 matrices of a layer that loses nothing differ by a tenth of this.
ROUNDING = 1e-4


class Verdict(Enum):
    """What a layer's numbers are worth: a word, a sentence and what to do."""

    OK = ("ok", "", "")
    AT_CHANCE = (
        "at chance",
        "{information} is no larger than for shuffled pairs, so the curve says nothing.",
        "Use a larger probe or another bandwidth.",
    )
    COLLAPSED = (
        "collapsed",
        "{entropy} is {share:.0%} of log2 n: to the kernel all samples look alike (a dead layer?).",
        "If its values do vary, use a smaller bandwidth, such as MedianDistance(scale=0.5).",
    )
    SATURATED = (
        "saturated",
        "{entropy} is {share:.0%} of log2 n: to the kernel all samples differ, so {information} is at its limit "
        "whatever the layer does.",
        "Use a larger bandwidth, such as MedianDistance(scale=2), or a larger probe.",
    )

    def __init__(self, word: str, sentence: str, remedy: str) -> None:
        self.word = word
        self.sentence = sentence
        self.remedy = remedy


class Judgement(NamedTuple):
    """A verdict on one layer.

    Args:
        verdict: what its numbers are worth.
        subject: which of its numbers.
        share: its entropy as a part of log2 n.
    """

    verdict: Verdict
    subject: Subject
    share: float

    @property
    def sentence(self) -> str:
        """Why, in a sentence; empty where nothing is wrong."""
        return self.verdict.sentence.format(
            entropy=ENTROPY[self.subject].symbol, information=INFORMATION[self.subject].symbol, share=self.share
        )


def is_below_zero(gap: Any, stderr: Any = 0.0) -> Any:  # noqa: ANN401 - numbers, arrays or tensors
    """Whether a gap is below zero by more than two of its standard errors and by more than rounding.

    The counts, the pictures and the report ask this one rule.

    Example:
        >>> is_below_zero(-1e-5), is_below_zero(-0.1), is_below_zero(-0.1, stderr=0.06)
        (False, True, False)
    """
    return gap < -STANDARD_ERRORS * stderr - ROUNDING


def judge(rows: Iterable[Row], probe: str = "", subject: Subject = Subject.ACTIVATIONS) -> dict[str, Judgement]:
    """What the numbers of one measurement are worth, by layer; nothing where log2 n is not known.

    *Saturated*: entropy above 95 % of log2 n. *Collapsed*: below 5 %. *At chance*: information within 0.05 bits of its
    value for shuffled pairs. Otherwise *ok*.

    Example:
        >>> rows = [Row(0, 0, "", "", "log2_n", 9.0), Row(0, 0, "", "conv", "H_T", 8.9)]
        >>> rows.append(Row(0, 0, "", "conv", "I_XT", 4.0))
        >>> judge(rows)["conv"].verdict.word
        'saturated'
    """
    value = {(row.place, row.quantity): row.value for row in rows if row.probe == probe}
    entropy = ENTROPY[subject].key
    information = INFORMATION[subject]
    if ("", LOG2_N.key) not in value:
        return {}
    log2_n = value["", LOG2_N.key]
    judged = {}
    for place, quantity in value:
        if quantity == entropy and (place, information.key) in value:
            share = value[place, entropy] / log2_n
            told = value[place, information.key]
            chance = value.get((place, information.chance.key), -float("inf"))
            judged[str(place)] = Judgement(_verdict(share, told - chance), subject, share)
    return judged


def _verdict(share: float, beyond_chance: float) -> Verdict:
    if share > SATURATED_SHARE:
        return Verdict.SATURATED
    if share < COLLAPSED_SHARE:
        return Verdict.COLLAPSED
    return Verdict.OK if beyond_chance >= CHANCE_MARGIN else Verdict.AT_CHANCE
