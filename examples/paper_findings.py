"""What examples/paper_study.py measured: how it is kept, counted and averaged."""

import json
from collections.abc import Iterable, Mapping, Sequence
from math import isnan, nan
from statistics import fmean, stdev
from typing import NamedTuple

from lightning_infoplane.measurement.evidence import Change, changes
from lightning_infoplane.measurement.rows import BETWEEN

Values = dict[str, dict[str, float]]
RULES = {"default": "default bandwidth, MedianDistance()", "paper": "paper's bandwidth, Silverman(5.0)"}
MOMENTS = ("before training", "after one epoch", "at the end")
# Layers of the networks that differ in their filters.
MAPS = {"trained": "trained maps", "noise": "pure noise", "copies": "copies of one map"}


class Measured(NamedTuple):
    """One network at one moment under one bandwidth rule: values by quantity and by layer or pair of layers."""

    study: str
    activation: str
    filters: int
    seed: int
    rule: str
    epoch: int
    values: Values


def as_text(about: Mapping[str, str], found: Iterable[Measured]) -> str:
    """JSON, one line a network and moment."""
    lines = ",\n".join(json.dumps(one, ensure_ascii=False, separators=(",", ":")) for one in found)
    return f'{{"about": {json.dumps(about, ensure_ascii=False)},\n"measured": [\n{lines}\n]}}\n'


def from_text(text: str) -> tuple[dict[str, str], list[Measured]]:
    """What was written, with what follows from it."""
    saved = json.loads(text)
    return saved["about"], [with_derived(Measured(*one)) for one in saved["measured"]]


def with_derived(one: Measured) -> Measured:
    """Also information beyond chance, and entropies as a share of log2 n."""
    values = dict(one.values)
    for key in ("I_XT", "I_TY", "I_error"):
        if key in values:
            chance = values[f"{key}_chance"]
            values[f"{key}_excess"] = {layer: bits - chance[layer] for layer, bits in values[key].items()}
    for key in ("H_T", "H_error"):
        if key in values:
            values[f"{key}_share"] = {layer: bits / values["log2_n"][""] for layer, bits in values[key].items()}
    return one._replace(values=values)


def pick(found: Iterable[Measured], **wanted: object) -> list[Measured]:
    """Those whose fields have these values."""
    return [one for one in found if all(getattr(one, name) == value for name, value in wanted.items())]


def ordered(found: Iterable[Measured], field: str) -> list[str]:
    """The different values of a field, as they come."""
    return list(dict.fromkeys(str(getattr(one, field)) for one in found))


def moments(found: Iterable[Measured]) -> dict[int, str]:
    """The three moments, by epoch."""
    epochs = sorted({one.epoch for one in found if is_moment(one)})
    return dict(zip(epochs, MOMENTS, strict=True))


def is_moment(one: Measured) -> bool:
    """Whether it is one of the three: those with error signals. The epochs between them are for the plane."""
    return "I_error" in one.values


# ------------------------------------------------------------------------------------------------------ over seeds


class Spread(NamedTuple):
    """Of one number over networks: mean, standard deviation, and how many have a value, of how many."""

    mean: float
    deviation: float
    known: int
    networks: int

    def __str__(self) -> str:
        """Mean ± standard deviation."""
        if not self.known:
            return "no value"
        deviation = f" ± {self.deviation:.3f}" if self.known > 1 else ""
        partly = f", {self.known} of {self.networks}" if self.known < self.networks else ""
        return f"{self.mean:z.3f}{deviation}{partly}"


def spread(numbers: Sequence[float]) -> Spread:
    """NaN is no value."""
    known = [number for number in numbers if not isnan(number)]
    deviation = stdev(known) if len(known) > 1 else nan
    return Spread(fmean(known) if known else nan, deviation, len(known), len(numbers))


def over_seeds(found: Iterable[Measured], layer: str, quantity: str) -> Spread:
    """Of one number of one layer."""
    return spread([one.values.get(quantity, {}).get(layer, nan) for one in found])


# ---------------------------------------------------------------------------------------------- the inequalities


class Side(NamedTuple):
    """What is followed from layer to layer: the keys of bits, of AMI, of H / log2 n and, if there is one, of CKA."""

    bits: str
    adjusted: str
    share: str
    alignment: str = ""


FORWARD = Side("I_XT", "AMI_XT", "H_T_share", "CKA_XT")
BACKWARD = Side("I_error", "AMI_error", "H_error_share")
GAPS = {"I_XT": "DPI_XT", "AMI_XT": "DPI_AMI_XT", "I_error": "DPI_error", "AMI_error": "DPI_AMI_error"}


class Case(NamedTuple):
    """Two layers of one network at one moment: what the second has less than the first, NaN where there is no value."""

    pair: str
    bits: float
    shuffled: float
    excess: float
    adjusted: float
    alignment: float
    of_bits: Change
    of_adjusted: Change | None


def cases(found: Iterable[Measured], side: Side) -> list[Case]:
    """Every pair of layers of every network at the three moments."""
    return [case for one in found if is_moment(one) for case in _cases_of(one, side)]


def _cases_of(one: Measured, side: Side) -> Iterable[Case]:
    of_bits = _decided(one, GAPS[side.bits])
    of_adjusted = _decided(one, GAPS[side.adjusted])
    for pair, bits in one.values.get(GAPS[side.bits], {}).items():
        shuffled, excess = (_gap(one, f"{side.bits}_{ending}", pair) for ending in ("chance", "excess"))
        adjusted = _gap(one, side.adjusted, pair)
        alignment = _gap(one, side.alignment, pair)
        decided = of_adjusted.get(pair)
        yield Case(pair, bits, shuffled, excess, adjusted, alignment, of_bits[pair], decided)


def _gap(one: Measured, quantity: str, pair: str) -> float:
    first, second = (one.values.get(quantity, {}).get(layer, nan) for layer in pair.split(BETWEEN))
    return first - second


def _decided(one: Measured, quantity: str) -> dict[str, Change]:
    """What the evidence says of the gaps of one network at one moment, by pair of layers."""
    gaps = one.values.get(quantity, {})
    p_values = [one.values.get(f"{quantity}_p", {}).get(pair, nan) for pair in gaps]
    return dict(zip(gaps, changes(list(gaps.values()), p_values), strict=True))


def held(gaps: Iterable[float]) -> tuple[int, int]:
    """How many gaps are not below zero, and how many have a value."""
    known = [gap for gap in gaps if not isnan(gap)]
    return sum(gap >= 0 for gap in known), len(known)


# ------------------------------------------------------------------------------------------ filters, and training


def sizes(found: Sequence[Measured]) -> list[int]:
    """The numbers of filters."""
    return sorted({one.filters for one in found})


def changed(found: Sequence[Measured], quantity: str, start: str, stop: str) -> list[float]:
    """How a number changes between two of the three moments, in every layer of every network that has a value."""
    epochs = {name: epoch for epoch, name in moments(found).items()}
    before, after = (
        {(one.rule, one.activation, one.seed): one.values.get(quantity, {}) for one in pick(found, epoch=epochs[name])}
        for name in (start, stop)
    )
    return [
        after[network][layer] - value
        for network, values in before.items()
        for layer, value in values.items()
        if layer in after[network]
    ]
