"""The one table of everything that can be measured and logged.

History, logged keys, their reading back, charts, pictures, axis labels, card, report and the tables of the README are
derived from it. A new quantity is one entry here: a formula of numbers of Gram matrices, or a function of a layer.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

from lightning_infoplane.measurement.evidence import Change
from lightning_infoplane.measurement.formulas import (
    TX,
    TY,
    Adjusted,
    Alignment,
    Excess,
    Independence,
    Power,
    T,
    Term,
    X,
    Y,
)
from lightning_infoplane.measurement.quantity import Count, Gap, Logged, Of, Panel, Quantity, Subject

__all__ = [
    "PLANES",
    "QUANTITIES",
    "SIGNS",
    "Plane",
    "Signs",
    "by_key",
    "known_keys",
    "with_panel",
]


def _of_maps(what: str) -> Callable[[Any], Any]:
    """One of the numbers of a layer's feature maps, where there are maps to compare."""
    return lambda layer: layer.redundancy and getattr(layer.redundancy, what)


AMI_XT = Quantity(
    key="AMI_XT",
    symbol="AMI(X;T)",
    unit="",
    name="adjusted information about the input",
    meaning="What the layer shares with the input beyond chance, as a part of what both share with themselves: 0 for a "
    "layer that has nothing of the input, 1 for a copy.",
    of=Of.LAYER,
    formula=Adjusted(TX),
    independence=Independence("T", "X"),
    stderr=True,
    panels=(Panel.CURVES, Panel.DEPTH, Panel.TABLE),
    live=(Panel.DEPTH,),
)
AMI_TY = Quantity(
    key="AMI_TY",
    symbol="AMI(T;Y)",
    unit="",
    name="adjusted information about the target",
    meaning="What the layer shares with the target beyond chance, in the same way: 0 for a layer that has nothing of "
    "the target, 1 for a perfect code of it. It is not the part of the target that is known.",
    of=Of.LAYER,
    formula=Adjusted(TY),
    independence=Independence("T", "Y"),
    stderr=True,
    panels=(Panel.PLANE, Panel.CURVES, Panel.DEPTH, Panel.TABLE),
    live=(Panel.PLANE,),
)
DPI_AMI_XT = Quantity(
    key="DPI_AMI_XT",
    symbol="AMI(X;T₁) − AMI(X;T₂)",
    unit="",
    name="adjusted information about the input lost",
    meaning="What the second layer has less of AMI(X;T) than the first. An increase breaks no rule: removing noise, "
    "whitening and decoding all raise it.",
    of=Of.PAIR,
    formula=Gap(AMI_XT),
    stderr=True,
    panels=(Panel.GAPS,),
)
DPI_AMI_TY = Quantity(
    key="DPI_AMI_TY",
    symbol="AMI(T₁;Y) − AMI(T₂;Y)",
    unit="",
    name="adjusted information about the target lost",
    meaning="What the second layer has less of AMI(T;Y) than the first. Below zero the target became easier to read.",
    of=Of.PAIR,
    formula=Gap(AMI_TY),
    stderr=True,
    logged=Logged.ALL,
)
DPI_INCREASES = Quantity(
    key="DPI_increases",
    symbol="",
    unit="",
    name="pairs of layers with an increase",
    meaning="In how many pairs the second layer clearly has more of AMI(X;T): by more than 0.01, and significantly so "
    "after Holm's correction over all pairs.",
    of=Of.PROBE,
    formula=Count(DPI_AMI_XT, Change.INCREASE),
)
DPI_DECREASES = Quantity(
    key="DPI_decreases",
    symbol="",
    unit="",
    name="pairs of layers with a decrease",
    meaning="In how many pairs the second layer clearly has less of AMI(X;T), by the same rule.",
    of=Of.PROBE,
    formula=Count(DPI_AMI_XT, Change.DECREASE),
)
CKA_XT = Quantity(
    key="CKA_XT",
    symbol="CKA(X;T)",
    unit="",
    name="alignment with the input",
    meaning="Debiased centred kernel alignment of the same Gram matrices: 0 for independent variables, 1 for a copy, "
    "from another formula than AMI(X;T).",
    of=Of.LAYER,
    formula={Alignment("T", "X"): +1},
    stderr=True,
    logged=Logged.ALL,
)
CKA_TY = Quantity(
    key="CKA_TY",
    symbol="CKA(T;Y)",
    unit="",
    name="alignment with the target",
    meaning="The same with the target.",
    of=Of.LAYER,
    formula={Alignment("T", "Y"): +1},
    stderr=True,
    logged=Logged.ALL,
)
E_TT = Quantity(
    key="E_TT",
    symbol="E(T;T)",
    unit="bits",
    name="information about itself",
    meaning="What the layer shares with itself beyond chance. Where it is near zero, or within the scatter of the "
    "shuffles, the layer is not resolved and has no adjusted information.",
    of=Of.LAYER,
    formula=Excess(Term("T", "T")),
    logged=Logged.ALL,
)
E_XX = Quantity(
    key="E_XX",
    symbol="E(X;X)",
    unit="bits",
    name="information of the input about itself",
    meaning="The same of the input.",
    of=Of.PROBE,
    formula=Excess(Term("X", "X")),
    logged=Logged.ALL,
)
E_YY = Quantity(
    key="E_YY",
    symbol="E(Y;Y)",
    unit="bits",
    name="information of the target about itself",
    meaning="The same of the target.",
    of=Of.PROBE,
    formula=Excess(Term("Y", "Y")),
    logged=Logged.ALL,
)
EFFECTIVE_RANK = Quantity(
    key="effective_rank",
    symbol="2^H(T)",
    unit="",
    name="effective rank",
    meaning="How many equally used directions the layer's kernel would need for its entropy.",
    of=Of.LAYER,
    formula=Power(T),
    stderr=True,
    logged=Logged.ALL,
)
H_X = Quantity(
    key="H_X",
    symbol="H(X)",
    unit="bits",
    name="entropy of the input",
    meaning="What there is to know about the input: I(X;T) cannot exceed it.",
    of=Of.PROBE,
    formula={X: +1},
)
H_Y = Quantity(
    key="H_Y",
    symbol="H(Y)",
    unit="bits",
    name="entropy of the target",
    meaning="What there is to know about the target: I(T;Y) cannot exceed it.",
    of=Of.PROBE,
    formula={Y: +1},
)
LOG2_N = Quantity(
    key="log2_n",
    symbol="log2 n",
    unit="bits",
    name="logarithm of the number of samples",
    meaning="The largest entropy that so many samples can have.",
    of=Of.PROBE,
    formula=lambda probe: math.log2(probe.n),
    logged=Logged.NEVER,
)
I_XT = Quantity(
    key="I_XT",
    symbol="I(X;T)",
    unit="bits",
    name="information about the input",
    meaning="The paper's quantity. A part of it, often the larger one, is its chance level, which noise that never saw "
    "the input has too. Only what exceeds the value for shuffled pairs says anything of the layer.",
    of=Of.LAYER,
    formula={X: +1, T: +1, TX: -1},
    shuffled=True,
    stderr=True,
    panels=(Panel.CURVES, Panel.TABLE),
)
I_TY = Quantity(
    key="I_TY",
    symbol="I(T;Y)",
    unit="bits",
    name="information about the target",
    meaning="The paper's quantity of the target. Only what exceeds the value for shuffled pairs says anything.",
    of=Of.LAYER,
    formula={Y: +1, T: +1, TY: -1},
    shuffled=True,
    stderr=True,
    panels=(Panel.PLANE, Panel.CURVES, Panel.TABLE),
)
H_T = Quantity(
    key="H_T",
    symbol="H(T)",
    unit="bits",
    name="entropy",
    meaning="How different the samples look to the layer: at most log2 n for n samples.",
    of=Of.LAYER,
    formula={T: +1},
    stderr=True,
    panels=(Panel.CURVES, Panel.TABLE),
)
DPI_XT = Quantity(
    key="DPI_XT",
    symbol="I(X;T₁) − I(X;T₂)",
    unit="bits",
    name="information about the input lost",
    meaning="What the second layer has less of I(X;T) than the first, chance levels and all: their order along the "
    "layers can be that of the chance levels alone.",
    of=Of.PAIR,
    formula=Gap(I_XT),
    stderr=True,
)
DPI_TY = Quantity(
    key="DPI_TY",
    symbol="I(T₁;Y) − I(T₂;Y)",
    unit="bits",
    name="information about the target lost",
    meaning="What the second layer has less of I(T;Y) than the first, in the same bits.",
    of=Of.PAIR,
    formula=Gap(I_TY),
    stderr=True,
)
BANDWIDTH = Quantity(
    key="bandwidth",
    symbol="σ",
    unit="activation units",
    name="bandwidth",
    meaning="The kernel's bandwidth: the geometric mean over the layer's feature maps.",
    of=Of.LAYER,
    formula=lambda layer: layer.bandwidth,
    logged=Logged.ALL,
)
AMI_ERROR = Quantity(
    key="AMI_error",
    symbol="AMI(δₖ;δ)",
    unit="",
    name="adjusted information about the last error signal",
    meaning="What the layer's error signal, the gradient of the loss with respect to its output, shares with that of "
    "the last layer beyond chance: 0 for nothing, 1 for a copy.",
    of=Of.LAYER,
    formula=Adjusted(TX),
    subject=Subject.ERROR_SIGNALS,
    option="error_signals",
    independence=Independence("T", "X"),
    stderr=True,
    panels=(Panel.DEPTH,),
    live=(Panel.DEPTH,),
)
DPI_AMI_ERROR = Quantity(
    key="DPI_AMI_error",
    symbol="AMI(δₖ;δ₂) − AMI(δₖ;δ₁)",
    unit="",
    name="adjusted information about the last error lost",
    meaning="What the error signal of the earlier layer has less of AMI(δₖ;δ) than that of the later one, from which "
    "it is made.",
    of=Of.PAIR,
    formula=Gap(AMI_ERROR),
    subject=Subject.ERROR_SIGNALS,
    option="error_signals",
    stderr=True,
    panels=(Panel.GAPS,),
)
DPI_ERROR_INCREASES = Quantity(
    key="DPI_error_increases",
    symbol="",
    unit="",
    name="pairs of error signals with an increase",
    meaning="In how many pairs the earlier layer clearly has more of AMI(δₖ;δ) than the later one, by the same rule.",
    of=Of.PROBE,
    formula=Count(DPI_AMI_ERROR, Change.INCREASE),
    subject=Subject.ERROR_SIGNALS,
    option="error_signals",
)
DPI_ERROR_DECREASES = Quantity(
    key="DPI_error_decreases",
    symbol="",
    unit="",
    name="pairs of error signals with a decrease",
    meaning="In how many pairs it clearly has less.",
    of=Of.PROBE,
    formula=Count(DPI_AMI_ERROR, Change.DECREASE),
    subject=Subject.ERROR_SIGNALS,
    option="error_signals",
)
E_ERROR = Quantity(
    key="E_error",
    symbol="E(δ;δ)",
    unit="bits",
    name="information of the error signal about itself",
    meaning="What the layer's error signal shares with itself beyond chance.",
    of=Of.LAYER,
    formula=Excess(Term("T", "T")),
    subject=Subject.ERROR_SIGNALS,
    option="error_signals",
    logged=Logged.ALL,
)
I_ERROR = Quantity(
    key="I_error",
    symbol="I(δₖ;δ)",
    unit="bits",
    name="information about the last error signal",
    meaning="The paper's quantity: the same in bits, its chance level included.",
    of=Of.LAYER,
    formula={X: +1, T: +1, TX: -1},
    subject=Subject.ERROR_SIGNALS,
    option="error_signals",
    shuffled=True,
    stderr=True,
)
H_ERROR = Quantity(
    key="H_error",
    symbol="H(δ)",
    unit="bits",
    name="entropy of the error signal",
    meaning="How different the samples' error signals are at the layer: at most log2 n.",
    of=Of.LAYER,
    formula={T: +1},
    subject=Subject.ERROR_SIGNALS,
    option="error_signals",
    stderr=True,
)
H_ERROR_LAST = Quantity(
    key="H_error_last",
    symbol="H(δₖ)",
    unit="bits",
    name="entropy of the last error signal",
    meaning="What there is to know about the last layer's error signal: I(δₖ;δ) cannot exceed it.",
    of=Of.PROBE,
    formula={X: +1},
    subject=Subject.ERROR_SIGNALS,
    option="error_signals",
)
DPI_ERROR = Quantity(
    key="DPI_error",
    symbol="I(δₖ;δ₂) − I(δₖ;δ₁)",
    unit="bits",
    name="information about the last error lost",
    meaning="The same in bits.",
    of=Of.PAIR,
    formula=Gap(I_ERROR),
    subject=Subject.ERROR_SIGNALS,
    option="error_signals",
    stderr=True,
)
OUTLIER = Quantity(
    key="outlier",
    symbol="",
    unit="",
    name="number of the sample that is like no other",
    meaning="Which sample of the probe, counted from 0, is like no other to the layer's kernel while the others are "
    "like each other; no value where there is none.",
    of=Of.LAYER,
    formula=lambda layer: layer.outlier,
    logged=Logged.ALL,
)
BANDWIDTH_ERROR = Quantity(
    key="bandwidth_error",
    symbol="σ(δ)",
    unit="gradient units",
    name="bandwidth of the error signal",
    meaning="The kernel's bandwidth for the layer's error signal.",
    of=Of.LAYER,
    formula=lambda layer: layer.bandwidth,
    subject=Subject.ERROR_SIGNALS,
    option="error_signals",
    logged=Logged.ALL,
)
REDUNDANCY_SYNERGY = Quantity(
    key="redundancy_synergy",
    symbol="",
    unit="bits",
    name="redundancy minus synergy",
    meaning="In pairs of feature maps, as information about the input beyond chance. Above zero, two maps mostly say "
    "the same; below, they say more together than alone.",
    of=Of.LAYER,
    formula=_of_maps("redundancy_synergy"),
    option="redundancy",
    stderr=True,
    panels=(Panel.MAPS,),
    live=(Panel.MAPS,),
)
NON_REDUNDANT = Quantity(
    key="non_redundant",
    symbol="",
    unit="bits",
    name="non-redundant",
    meaning="In pairs of feature maps, what a pair knows about the input beyond chance and beyond what both of its "
    "maps say: nothing for copies.",
    of=Of.LAYER,
    formula=_of_maps("non_redundant"),
    option="redundancy",
    stderr=True,
    panels=(Panel.MAPS,),
)
TOTAL_CORRELATION = Quantity(
    key="total_correlation",
    symbol="T*",
    unit="",
    name="total correlation of the feature maps",
    meaning="How far the layer's feature maps depend on each other beyond chance: 0 for independent maps, 1 for "
    "copies.",
    of=Of.LAYER,
    formula=_of_maps("total_correlation"),
    option="redundancy",
)

# The order of logged keys, of pictures and of the tables.
QUANTITIES: tuple[Quantity, ...] = (
    *(AMI_XT, AMI_TY, DPI_AMI_XT, DPI_INCREASES, DPI_DECREASES),
    *(I_XT, I_TY, H_T, DPI_XT, DPI_TY),
    *(AMI_ERROR, DPI_AMI_ERROR, DPI_ERROR_INCREASES, DPI_ERROR_DECREASES, I_ERROR, H_ERROR, DPI_ERROR),
    *(REDUNDANCY_SYNERGY, NON_REDUNDANT, TOTAL_CORRELATION),
    *(H_X, H_Y, H_ERROR_LAST, LOG2_N),
    *(CKA_XT, CKA_TY, DPI_AMI_TY, E_TT, E_XX, E_YY, E_ERROR, EFFECTIVE_RANK, BANDWIDTH, OUTLIER, BANDWIDTH_ERROR),
)


@dataclass(frozen=True)
class Plane:
    """A pair of quantities that span an information plane.

    Args:
        across: of the input.
        up: of the target.
        limits: what each cannot exceed, where it has a limit.
    """

    across: Quantity
    up: Quantity
    limits: tuple[Quantity, ...] = ()


# The plane, and the same in raw bits.
PLANES = (Plane(AMI_XT, AMI_TY), Plane(I_XT, I_TY, (H_X, H_Y)))


class Signs(NamedTuple):
    """What a layer is judged by: whether the kernel tells its samples apart, and whether that says anything."""

    entropy: Quantity
    itself: Quantity
    information: tuple[Quantity, ...]
    bits: Quantity
    input: Quantity
    bandwidth: Quantity
    of_input: Quantity | None = None


SIGNS = {
    Subject.ACTIVATIONS: Signs(H_T, E_TT, (AMI_XT, AMI_TY), I_XT, H_X, BANDWIDTH, E_XX),
    Subject.ERROR_SIGNALS: Signs(H_ERROR, E_ERROR, (AMI_ERROR,), I_ERROR, H_ERROR_LAST, BANDWIDTH_ERROR),
}

_BY_KEY = {one.key: one for quantity in QUANTITIES for one in (quantity, *quantity.derived)}


def by_key(key: str) -> Quantity:
    """The quantity of a row.

    Raises:
        ValueError: if there is none.

    Example:
        >>> by_key("I_XT_chance").base is I_XT
        True
    """
    if key not in _BY_KEY:
        raise ValueError(f"{key!r} is no quantity. There are {', '.join(one.key for one in QUANTITIES)}.")
    return _BY_KEY[key]


def known_keys() -> list[str]:
    """Of every quantity and of all that belongs to it."""
    return list(_BY_KEY)


def with_panel(panel: Panel) -> list[Quantity]:
    """What is drawn in one kind of picture."""
    return [quantity for quantity in QUANTITIES if panel in quantity.panels]
