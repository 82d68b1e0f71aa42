"""What a quantity is: a key, a formula, and all that is said and shown of it."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import Enum
from functools import cached_property
from typing import Any

from lightning_infoplane.measurement.evidence import Change
from lightning_infoplane.measurement.formulas import Formula, Independence

__all__ = ["Count", "Gap", "Logged", "Of", "Panel", "Quantity", "Subject"]


class Of(Enum):
    """What a quantity belongs to."""

    PROBE = "probe"
    LAYER = "layer"
    PAIR = "pair"


class Subject(Enum):
    """What was sent through the network: what layers put out, or what the loss sends back to them."""

    ACTIVATIONS = "activations"
    ERROR_SIGNALS = "error signals"


class Logged(Enum):
    """When a quantity goes to the loggers; the history holds it in any case."""

    MAIN = "main"
    ALL = "all"
    NEVER = "never"


class Panel(Enum):
    """The kinds of pictures, and the tables of card and report."""

    PLANE = "plane"
    CURVES = "curves"
    DEPTH = "depth"
    GAPS = "gaps"
    MAPS = "maps"
    TABLE = "table"


@dataclass(frozen=True)
class Gap:
    """What the second layer of a pair has less than the first: its standard error leaves out what both share."""

    of: "Quantity"


@dataclass(frozen=True)
class Count:
    """How many gaps of a moment are of one kind, by :func:`~lightning_infoplane.measurement.evidence.changes`."""

    of: "Quantity"
    change: Change


@dataclass(frozen=True, eq=False)
class Quantity:
    """Everything there is to know about one quantity.

    Args:
        key: in rows and in logged keys.
        symbol: as a formula.
        unit: ``"bits"``; empty for a pure number.
        name: in words, for axes and titles.
        meaning: one sentence.
        of: a probe, a layer or a pair of layers.
        formula: a signed sum of joint entropies or another value of :mod:`~lightning_infoplane.measurement.formulas`, a
            :class:`Gap`, a :class:`Count`, or a function of the layer (of the probe), which returns a tensor, an
            ``Estimate`` with a standard error of its own, or None for no value. It must not look at the numbers: a
            GPU would wait.
        subject: whether activations or error signals are measured.
        shuffled: whether its value for shuffled pairs belongs to it; of signed sums only.
        independence: the two variables whose independence its p-value is of; None where it has none. A gap with a
            standard error has Student's.
        stderr: whether a standard error belongs to it.
        panels: in which pictures it is drawn.
        live: those of them that are drawn while training.
        logged: whether it is logged by default.
        option: the callback's argument that asks for it; empty where it is measured in any case.
        base: the quantity that this one is the chance level, the p-value or the standard error of.

    Example:
        >>> entropy = Quantity("H_T", "H(T)", "bits", "entropy", "How different the samples look.", Of.LAYER, None)
        >>> entropy.label, entropy.error.key
        ('entropy, H(T) (bits)', 'H_T_stderr')
    """

    key: str
    symbol: str
    unit: str
    name: str
    meaning: str
    of: Of
    formula: Formula | Gap | Count | Callable[[Any], Any] | None
    subject: Subject = Subject.ACTIVATIONS
    shuffled: bool = False
    independence: Independence | None = None
    stderr: bool = False
    panels: tuple[Panel, ...] = ()
    live: tuple[Panel, ...] = ()
    logged: Logged = Logged.MAIN
    option: str = ""
    base: "Quantity | None" = None

    @property
    def label(self) -> str:
        """For an axis."""
        symbol = f", {self.symbol}" if self.symbol else ""
        return f"{self.name}{symbol} ({self.unit})" if self.unit else f"{self.name}{symbol}"

    @property
    def plain_label(self) -> str:
        """For an axis whose formula is said elsewhere."""
        return f"{self.name} ({self.unit})" if self.unit else self.name

    @property
    def short(self) -> str:
        """For a column: the symbol, or the name where there is none."""
        return self.symbol or self.name

    @cached_property
    def chance(self) -> "Quantity":
        """Its mean after shuffling which sample belongs to which."""
        return self._derived("chance", "shuffled", self.unit, f"{self.short} after shuffling which sample is which")

    @cached_property
    def p_value(self) -> "Quantity":
        """How likely so large a value is by chance alone; of a gap, on its side of zero."""
        return self._derived("p", "p", "", f"p-value of {self.short}")

    @cached_property
    def error(self) -> "Quantity":
        """Its standard error."""
        return self._derived("stderr", "s.e.", self.unit, f"standard error of {self.short}")

    @property
    def is_tested(self) -> bool:
        """Whether there are p-values of it."""
        return self.independence is not None or (isinstance(self.formula, Gap) and self.stderr)

    @property
    def derived(self) -> Iterator["Quantity"]:
        """What belongs to it."""
        if self.shuffled:
            yield self.chance
        if self.is_tested:
            yield self.p_value
        if self.stderr:
            yield self.error

    def _derived(self, ending: str, symbol: str, unit: str, name: str) -> "Quantity":
        return Quantity(
            f"{self.key}_{ending}",
            symbol,
            unit,
            name,
            f"{name}.",
            self.of,
            formula=None,
            subject=self.subject,
            logged=Logged.ALL,
            option=self.option,
            base=self,
        )
