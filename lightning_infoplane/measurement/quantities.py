"""The one table of everything that can be measured and logged.

History, logged keys, their reading back, charts, pictures, axis labels, card, report and the tables of the README are
derived from it. A new quantity is one entry here: a signed sum of joint entropies, or a function of a layer.
"""

import math
import re
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from lightning_infoplane.measurement.formulas import TX, TY, T, X, Y
from lightning_infoplane.measurement.quantity import Below, Gap, Logged, Of, Panel, Quantity, Subject
from lightning_infoplane.measurement.rows import BETWEEN, Pair, Place, Row

__all__ = [
    "AXES",
    "ENTROPY",
    "INFORMATION",
    "QUANTITIES",
    "Key",
    "by_key",
    "key_of",
    "log_key",
    "logged_rows",
    "read_key",
    "with_panel",
]


# --------------------------------------------------------------------------------------------------------- the table


def _of_maps(what: str) -> Callable[[Any], Any]:
    """One of the numbers of a layer's feature maps, where there are maps to compare."""
    return lambda layer: layer.redundancy and getattr(layer.redundancy, what)


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
    meaning="How well the samples of the probe can be told apart by looking at the layer instead of at the input. It "
    "cannot exceed H(X).",
    of=Of.LAYER,
    formula={X: +1, T: +1, TX: -1},
    shuffled=True,
    stderr=True,
    panels=(Panel.CURVES, Panel.DEPTH, Panel.TABLE),
    live=(Panel.DEPTH,),
)
I_TY = Quantity(
    key="I_TY",
    symbol="I(T;Y)",
    unit="bits",
    name="information about the target",
    meaning="How much of the target this kernel can read from the layer. It cannot exceed H(Y), and may well rise with "
    "depth: later layers put the classes where they are easy to see.",
    of=Of.LAYER,
    formula={Y: +1, T: +1, TY: -1},
    shuffled=True,
    stderr=True,
    panels=(Panel.PLANE, Panel.CURVES, Panel.DEPTH, Panel.TABLE),
    live=(Panel.PLANE,),
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
    meaning="What the second layer has less of I(X;T) than the first. Where it sees the input only through the first, "
    "it cannot know more about it: a gap below zero says that the estimate, not the network, breaks this rule.",
    of=Of.PAIR,
    formula=Gap(I_XT),
    stderr=True,
    panels=(Panel.GAPS,),
)
DPI_TY = Quantity(
    key="DPI_TY",
    symbol="I(T₁;Y) − I(T₂;Y)",
    unit="bits",
    name="information about the target lost",
    meaning="What the second layer has less of I(T;Y) than the first. Below zero the target became easier to read, "
    "which breaks no rule.",
    of=Of.PAIR,
    formula=Gap(I_TY),
    stderr=True,
    panels=(Panel.GAPS,),
)
DPI_XT_VIOLATIONS = Quantity(
    key="DPI_XT_violations",
    symbol="",
    unit="",
    name="gaps of I(X;T) below zero",
    meaning="How many gaps of I(X;T) are below zero, by more than two standard errors where those are known.",
    of=Of.PROBE,
    formula=Below(DPI_XT),
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
I_ERROR = Quantity(
    key="I_error",
    symbol="I(δₖ;δ)",
    unit="bits",
    name="information about the last error signal",
    meaning="What the layer's error signal, the gradient of the loss with respect to its output, shares with that of "
    "the last layer.",
    of=Of.LAYER,
    formula={X: +1, T: +1, TX: -1},
    subject=Subject.ERROR_SIGNALS,
    option="error_signals",
    shuffled=True,
    stderr=True,
    panels=(Panel.DEPTH,),
    live=(Panel.DEPTH,),
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
    meaning="What the error signal of the earlier layer has less than that of the later one, from which it is made: "
    "the backward inequality.",
    of=Of.PAIR,
    formula=Gap(I_ERROR),
    subject=Subject.ERROR_SIGNALS,
    option="error_signals",
    stderr=True,
    panels=(Panel.GAPS,),
)
DPI_ERROR_VIOLATIONS = Quantity(
    key="DPI_error_violations",
    symbol="",
    unit="",
    name="backward gaps below zero",
    meaning="How many backward gaps are below zero, by more than two standard errors where those are known.",
    of=Of.PROBE,
    formula=Below(DPI_ERROR),
    subject=Subject.ERROR_SIGNALS,
    option="error_signals",
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
    meaning="In pairs of feature maps, as information about the input. Above zero, two maps mostly say the same; "
    "below, they say more together than alone.",
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
    meaning="In pairs of feature maps, what a pair knows about the input beyond what both of its maps say.",
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
    meaning="How far the layer's feature maps depend on each other, normalised.",
    of=Of.LAYER,
    formula=_of_maps("total_correlation"),
    option="redundancy",
)

# The order of logged keys, of pictures and of the tables.
QUANTITIES: tuple[Quantity, ...] = (
    *(I_XT, I_TY, H_T, DPI_XT, DPI_TY, DPI_XT_VIOLATIONS),
    *(I_ERROR, H_ERROR, DPI_ERROR, DPI_ERROR_VIOLATIONS),
    *(REDUNDANCY_SYNERGY, NON_REDUNDANT, TOTAL_CORRELATION),
    *(H_X, H_Y, H_ERROR_LAST, LOG2_N, BANDWIDTH, BANDWIDTH_ERROR),
)
# Across and up in the information plane, and their limits.
AXES = ((I_XT, H_X), (I_TY, H_Y))
# What a layer is judged by: whether the kernel tells its samples apart, and whether that says anything.
ENTROPY = {Subject.ACTIVATIONS: H_T, Subject.ERROR_SIGNALS: H_ERROR}
INFORMATION = {Subject.ACTIVATIONS: I_XT, Subject.ERROR_SIGNALS: I_ERROR}

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


def with_panel(panel: Panel) -> list[Quantity]:
    """What is drawn in one kind of picture."""
    return [quantity for quantity in QUANTITIES if panel in quantity.panels]


# ---------------------------------------------------------------------------------------------------------- its keys

# MLflow is the strictest: other characters would be dropped there, and two layers could become one.
_FORBIDDEN = re.compile(r"[^A-Za-z0-9_./-]")
_PROBES = ("train", "val")
_KEY = re.compile(rf"(?P<head>(?:[^/]+/)*?)(?P<quantity>{'|'.join(map(re.escape, _BY_KEY))})(?:/(?P<place>.+))?")


class Key(NamedTuple):
    """What a logged key says."""

    prefix: str
    probe: str
    place: Place
    quantity: str


def log_key(*parts: str) -> str:
    """Parts of a key, joined, in the characters that every logger accepts.

    Example:
        >>> log_key("train", "I_XT", "a layer (1)")
        'train/I_XT/a_layer__1_'
    """
    return _FORBIDDEN.sub("_", "/".join(part for part in parts if part))


def key_of(row: Row, prefix: str = "") -> str:
    """The key that a row is logged under: ``{prefix}{probe/}{quantity}/{place}``.

    Example:
        >>> key_of(Row(0, 0, "val", Pair("0", "2"), "DPI_XT", 0.5))
        'val/DPI_XT/0-to-2'
    """
    return log_key(prefix) + log_key(row.probe, row.quantity, str(row.place))


def logged_rows(rows: Iterable[Row], log: str = "main") -> list[Row]:
    """The rows that go to the loggers: the main ones, or ``"all"``.

    Example:
        >>> rows = [Row(0, 0, "", "conv", "I_XT", 1.5), Row(0, 0, "", "", "log2_n", 9.0)]
        >>> [row.quantity for row in logged_rows(rows)]
        ['I_XT']
    """
    wanted = (Logged.MAIN,) if log == Logged.MAIN.value else (Logged.MAIN, Logged.ALL)
    return [row for row in rows if by_key(row.quantity).logged in wanted]


def read_key(key: str) -> Key | None:
    """What a logged key says, or None for a key of others.

    Example:
        >>> read_key("mine/train/DPI_XT/0-to-2")
        Key(prefix='mine', probe='train', place=Pair(first='0', second='2'), quantity='DPI_XT')
    """
    match = _KEY.fullmatch(key)
    if match is None or (by_key(match["quantity"]).of is Of.PROBE) != (match["place"] is None):
        return None
    head = match["head"].split("/")[:-1]
    probe = head.pop() if head and head[-1] in _PROBES else ""
    place: Place = match["place"] or ""
    if by_key(match["quantity"]).of is Of.PAIR:
        first, between, second = str(place).partition(BETWEEN)
        if not between:
            return None
        place = Pair(first, second)
    return Key("/".join(head), probe, place, match["quantity"])
