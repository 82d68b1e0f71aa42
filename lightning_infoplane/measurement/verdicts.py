"""What the numbers of a layer are worth, and what becomes of them from one layer to the next: judged by evidence."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from enum import Enum
from typing import NamedTuple

from lightning_infoplane.estimator.limits import COLLAPSED_SHARE, RESOLVED_BITS, SATURATED_SHARE
from lightning_infoplane.measurement.evidence import LEVEL, Change, changes, holm
from lightning_infoplane.measurement.listener import few
from lightning_infoplane.measurement.quantities import DPI_AMI_XT, LOG2_N, OUTLIER, SIGNS, Signs
from lightning_infoplane.measurement.quantity import Quantity, Subject
from lightning_infoplane.measurement.rows import Pair, Place, Row

__all__ = ["Judgement", "Verdict", "judge", "judge_gaps", "sentence_of"]


class Verdict(Enum):
    """What a layer's numbers are worth: a word, a sentence and what to do."""

    OK = ("ok", "", "")
    OUTLIER = (
        "outlier",
        "{outlier} is like no other to the kernel, while the others are like each other.",
        "Look at that sample: is it what the network is meant to see?",
    )
    AT_CHANCE = (
        "at chance",
        "{chance}: no more than chance gives.",
        "A larger probe shows smaller dependence.",
    )
    NOT_RESOLVED = (
        "not resolved",
        "{itself} is {itself_bits} bits, too little to tell from chance, so there is no adjusted information.",
        "Use a larger probe or another bandwidth.",
    )
    COLLAPSED = (
        "collapsed",
        "{entropy} is {share} of log2 n: to the kernel all samples look alike{constant}.",
        "If its values do vary, use a smaller bandwidth, such as MedianDistance(scale=0.5).",
    )
    SATURATED = (
        "saturated",
        "{entropy} is {share} of log2 n: to the kernel all samples differ, so information in bits is at its limit "
        "whatever the layer does, and there is no adjusted information.",
        "Use a larger bandwidth, such as MedianDistance(scale=2), or a larger probe.",
    )

    def __init__(self, word: str, sentence: str, remedy: str) -> None:
        self.word = word
        self.sentence = sentence
        self.remedy = remedy


# Of a collapsed layer: whether anything varied when its bandwidth was found.
_DEAD = " (a dead layer?)"
_CONSTANT = " (bandwidth 0: no value varied by more than rounding)"
_OF_A_CONSTANT = "What is dead, or fed constants, shows no more in a larger probe or at another bandwidth."


class Judgement(NamedTuple):
    """A verdict on one layer, with its evidence.

    Args:
        verdict: what its numbers are worth.
        subject: which of its numbers.
        share: its entropy as a part of log2 n.
        itself: what the layer or that which it is compared with, the lesser of the two, shares with itself beyond
            chance, bits; NaN where it is not known.
        at_chance: the quantities that are no larger than by chance, with value and p-value; some of those of a layer
            that is otherwise fine.
        outlier: the number of the sample that is like no other; NaN where there is none.
        of_itself: of which of the two ``itself`` is.
        of_entropy: whose share it is, where not the layer's: that of the input, which saturates for all layers.
        is_constant: whether nothing in it varies, by its bandwidth.
    """

    verdict: Verdict
    subject: Subject
    share: float
    itself: float = math.nan
    at_chance: Mapping[Quantity, tuple[float, float]] = {}
    outlier: float = math.nan
    of_itself: Quantity | None = None
    of_entropy: Quantity | None = None
    is_constant: bool = False

    @property
    def word(self) -> str:
        """In a word or a few: of a layer that is fine, also what is at chance."""
        if self.verdict is Verdict.OK and self.at_chance:
            return f"{' and '.join(quantity.symbol for quantity in self.at_chance)} at chance"
        return self.verdict.word

    @property
    def sentence(self) -> str:
        """Why, in a sentence; empty where nothing is wrong."""
        return sentence_of([self])

    @property
    def remedy(self) -> str:
        """What to do about it; empty where there is nothing to do."""
        is_dead = self.verdict is Verdict.COLLAPSED and self.is_constant
        return _OF_A_CONSTANT if is_dead else self.verdict.remedy

    @property
    def case(self) -> tuple[object, ...]:
        """Alike for judgements that one sentence tells of."""
        whose = self.of_itself if self.verdict is Verdict.NOT_RESOLVED else None
        at_chance = tuple(self.at_chance) if self.verdict in (Verdict.OK, Verdict.AT_CHANCE) else ()
        return (self.subject, self.word, self.remedy, at_chance, whose, self.of_entropy)


def sentence_of(judgements: Sequence[Judgement]) -> str:
    """Why, for layers that are one case, with the numbers of all of them.

    Example:
        >>> low, high = (Judgement(Verdict.SATURATED, Subject.ACTIVATIONS, share) for share in (0.961, 0.992))
        >>> sentence_of([low, high])[:24], sentence_of([low])[:17]
        ('H(T) is 96% to 99% of lo', 'H(T) is 96% of lo')
    """
    first = judgements[0]
    verdict = Verdict.AT_CHANCE if first.verdict is Verdict.OK and first.at_chance else first.verdict
    signs = SIGNS[first.subject]
    percent = "{:.1%}" if verdict is Verdict.COLLAPSED else "{:.0%}"
    return verdict.sentence.format(
        entropy=(first.of_entropy or signs.entropy).symbol,
        share=_range([max(0.0, one.share) for one in judgements], percent.format),
        itself=(first.of_itself or signs.itself).symbol,
        itself_bits=_range([one.itself for one in judgements], _rounded),
        chance=" and ".join(_at_chance_of(quantity, judgements) for quantity in first.at_chance),
        outlier=_samples([one.outlier for one in judgements]),
        constant=_CONSTANT if first.is_constant else _DEAD,
    )


def _at_chance_of(quantity: Quantity, judgements: Sequence[Judgement]) -> str:
    """Value and p-value of what is at chance."""
    values, p_values = zip(*(one.at_chance[quantity] for one in judgements), strict=True)
    return f"{quantity.symbol} is {_range(values, _rounded)} (p = {_range(p_values, '{:.2g}'.format)})"


def _range(values: Sequence[float], written: Callable[[float], str]) -> str:
    """The smallest and the largest, or one number where both are written alike."""
    ends = [written(min(values)), written(max(values))]
    return ends[0] if ends[0] == ends[1] else " to ".join(ends)


def _samples(numbers: Sequence[float]) -> str:
    """The samples that are outliers: one, or one in each of several layers."""
    told = [f"{number:.0f}" for number in sorted({number for number in numbers if not math.isnan(number)})]
    if len(told) > 1:
        return f"in each, one sample of the probe ({few(told)})"
    return f"sample {''.join(told)} of the probe"


def judge(rows: Iterable[Row], probe: str = "", subject: Subject = Subject.ACTIVATIONS) -> dict[str, Judgement]:
    """What the numbers of one measurement are worth, by layer; nothing where log2 n is not known.

    *Saturated*: entropy above 95 % of log2 n, of the layer, or of the input where no layer has adjusted information.
    *Not resolved*: no adjusted information, because what the layer shares with itself is too little to divide by;
    *collapsed* where its entropy is below 5 % of log2 n besides, as that of a constant is. *At chance*: independence is
    not refuted at 5 %, after Holm's correction over the layers. *Outlier*: one sample is like no other. Otherwise *ok*.

    Example:
        >>> rows = [Row(0, 0, "", "", "log2_n", 9.0), Row(0, 0, "", "conv", "H_T", 8.9)]
        >>> judge(rows)["conv"].verdict.word
        'saturated'
    """
    value = {(row.place, row.quantity): row.value for row in rows if row.probe == probe}
    if ("", LOG2_N.key) not in value:
        return {}
    signs = SIGNS[subject]
    layers = [str(place) for place, key in value if key == signs.entropy.key]
    at_chance = _at_chance(value, layers, signs.information)
    of_input = value.get(("", signs.input.key), 0.0) / value["", LOG2_N.key]
    judged = {}
    for layer in layers:
        share = value[layer, signs.entropy.key] / value["", LOG2_N.key]
        itself, of_itself = _itself(value, layer, signs)
        known = [quantity for quantity in signs.information if (layer, quantity.key) in value]
        outlier = value.get((layer, OUTLIER.key), math.nan) if subject is Subject.ACTIVATIONS else math.nan
        verdict = _verdict(share, itself, known, at_chance[layer])
        if verdict is Verdict.OK and not math.isnan(outlier):
            verdict = Verdict.OUTLIER
        of_entropy = None
        if verdict is Verdict.NOT_RESOLVED and of_input > SATURATED_SHARE and itself >= RESOLVED_BITS:
            verdict = Verdict.SATURATED
            share = of_input
            of_entropy = signs.input
        judged[layer] = Judgement(
            verdict,
            subject,
            share,
            itself,
            at_chance[layer],
            outlier,
            of_itself,
            of_entropy,
            is_constant=value.get((layer, signs.bandwidth.key)) == 0,
        )
    return judged


def judge_gaps(rows: Iterable[Row], probe: str = "", quantity: Quantity = DPI_AMI_XT) -> dict[Pair, Change]:
    """Which gaps of one measurement are increases and which decreases, by pair of layers.

    Example:
        >>> gap = Row(0, 0, "", Pair("a", "b"), "DPI_AMI_XT", -0.2)
        >>> rows = [gap, gap._replace(quantity="DPI_AMI_XT_p", value=0.001)]
        >>> judge_gaps(rows)[Pair("a", "b")].value
        'increase'
    """
    value = {(row.place, row.quantity): row.value for row in rows if row.probe == probe}
    gaps = {place: gap for (place, key), gap in value.items() if key == quantity.key and isinstance(place, Pair)}
    p_values = [value.get((pair, quantity.p_value.key), math.nan) for pair in gaps]
    return dict(zip(gaps, changes(list(gaps.values()), p_values), strict=True))


def _at_chance(
    value: Mapping[tuple[Place, str], float], layers: list[str], information: tuple[Quantity, ...]
) -> dict[str, dict[Quantity, tuple[float, float]]]:
    """The quantities of each layer whose independence is not refuted, with value and p-value."""
    found: dict[str, dict[Quantity, tuple[float, float]]] = {layer: {} for layer in layers}
    for quantity in information:
        # A layer without a value is no test of it, and is not counted.
        p_values = [
            value.get((layer, quantity.p_value.key), math.nan) if (layer, quantity.key) in value else math.nan
            for layer in layers
        ]
        for layer, p, corrected in zip(layers, p_values, holm(p_values), strict=True):
            if corrected > LEVEL:
                found[layer][quantity] = (value[layer, quantity.key], p)
    return found


def _rounded(value: float) -> str:
    return f"{round(value, 3) + 0.0:.3f}"  # + 0.0: no -0.000


def _itself(value: Mapping[tuple[Place, str], float], layer: str, signs: Signs) -> tuple[float, Quantity]:
    """What cannot be resolved is the lesser of two: what the layer shares with itself, or what the input does."""
    of_layer = value.get((layer, signs.itself.key), math.nan)
    of_input = value.get(("", signs.of_input.key), math.inf) if signs.of_input else math.inf
    return (of_input, signs.of_input) if signs.of_input and of_input < of_layer else (of_layer, signs.itself)


def _verdict(share: float, itself: float, known: list[Quantity], at_chance: Mapping[Quantity, object]) -> Verdict:
    if share > SATURATED_SHARE:
        return Verdict.SATURATED
    if not known and (share < COLLAPSED_SHARE or not math.isnan(itself)):
        return Verdict.COLLAPSED if share < COLLAPSED_SHARE else Verdict.NOT_RESOLVED
    return Verdict.AT_CHANCE if known and len(at_chance) == len(known) else Verdict.OK
