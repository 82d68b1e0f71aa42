"""Rules for arguments, numbers first: each gives a value back, or says what was passed, expected and to be typed."""

import math
import operator
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import MISSING, dataclass
from numbers import Integral, Real
from typing import Any, NamedTuple

from lightning_infoplane.arguments.guesses import as_number
from lightning_infoplane.arguments.printing import shown

__all__ = ["COUNT", "POSITIVE", "SEED", "Argument", "Maybe", "Number", "Rule", "Whole", "WrongKindError"]

# A larger count is a slip of the keyboard, and larger seeds torch does not take.
_LARGEST_COUNT = 2**31 - 1
_LARGEST_SEED = 2**64 - 1


class WrongKindError(TypeError, ValueError):
    """Another kind of thing than an argument takes. A ``ValueError`` too: ``"2"`` is also no positive number."""


class Argument(NamedTuple):
    """A value with the names that a sentence about it needs.

    Args:
        field: the argument's name.
        value: what was passed.
        owner: the function or class, where a sentence should name it.
        default: what stands there when it is left out.
    """

    field: str
    value: Any
    owner: str = ""
    default: Any = MISSING

    def written(self, value: str) -> str:
        """As it would be typed, with this value."""
        return f"{self.owner}({self.field}={value})" if self.owner else f"{self.field}={value}"

    def error(self, kind: type[Exception], expected: str, write: str = "") -> Exception:
        """What was passed, what was expected, and what to type instead, where that can be told."""
        remedy = f" Write {write}." if write else ""
        return kind(f"{self.written(shown(self.value))}: {expected}.{remedy}")

    def usual(self, example: str = "") -> str:
        """The default, to be typed instead, or an example where there is none."""
        usual = example if self.default is MISSING else shown(self.default)
        return self.written(usual) if usual else ""


@dataclass(frozen=True)
class Rule(ABC):
    """Gives back the value of an argument that can be meant, and raises an error with a sentence for any other."""

    def __call__(self, field: str, value: Any, owner: str = "", default: Any = MISSING) -> Any:  # noqa: ANN401
        """The value; a number as Python's own."""
        return self.check(Argument(field, value, owner, default))

    @abstractmethod
    def check(self, argument: Argument) -> Any:  # noqa: ANN401
        """The value, or an error."""

    def accepts(self, value: object) -> bool:
        """Whether it can be meant."""
        try:
            self("", value)
        except ValueError:
            return False
        return True


@dataclass(frozen=True)
class Maybe(Rule):
    """None, or what another rule accepts."""

    rule: Rule

    def check(self, argument: Argument) -> Any:  # noqa: ANN401
        """The value, or an error."""
        return None if argument.value is None else self.rule.check(argument)


@dataclass(frozen=True)
class Whole(Rule):
    """A whole number; numpy's too, but no bool.

    Args:
        low: the least one; None where that is checked elsewhere.
        high: the largest one.
        hint: what a certain number would mean, or which is usual.
        says: what to say of smaller ones.
        example: what to type where there is no default.
        terse: say no more than the hint.

    Example:
        >>> Whole(1)("n", 5)
        5
        >>> Whole(1)("n", "5")
        Traceback (most recent call last):
        lightning_infoplane.arguments.rules.WrongKindError: n='5': expected a whole number of at least 1. Write n=5.
    """

    low: int | None = None
    high: int = _LARGEST_COUNT
    hint: str = ""
    says: str = ""
    example: str = ""
    terse: bool = False

    def check(self, argument: Argument) -> int:
        """The value, or an error."""
        value = argument.value
        least = "" if self.low is None else f" of at least {self.low}"
        expected = f"expected a whole number{least}" + (f"; {self.hint}" if self.hint else "")
        if not isinstance(value, Integral) or isinstance(value, bool):
            raise argument.error(WrongKindError, expected, self._remedy(argument))
        number = operator.index(value)
        if number > self.high:
            expected = f"expected a whole number below 2**{self.high.bit_length()}"
            raise argument.error(ValueError, expected, argument.usual(self.example))
        if self.low is not None and number < self.low:
            raise argument.error(ValueError, self.says or expected, "" if self.terse else argument.usual(self.example))
        return number

    def _remedy(self, argument: Argument) -> str:
        if self.terse:
            return ""
        number = as_number(argument.value)
        if number is not None and math.isfinite(number) and self.accepts(round(number)):
            return argument.written(str(round(number)))
        return argument.usual(self.example)


@dataclass(frozen=True)
class Number(Rule):
    """A real number; numpy's too, but no bool.

    Args:
        expected: in words, "a positive number".
        fits: whether it is one of those.
        example: what to type where there is no default.

    Example:
        >>> POSITIVE("scale", 0.5), Number("a number of 1 or more", lambda number: number >= 1)("widening", 2)
        (0.5, 2)
    """

    expected: str
    fits: Callable[[float], bool]
    example: str = ""

    def check(self, argument: Argument) -> float:
        """The value, or an error."""
        value = argument.value
        expected = f"expected {self.expected}"
        if not isinstance(value, Real) or isinstance(value, bool):
            raise argument.error(WrongKindError, expected, self._remedy(argument))
        number = operator.index(value) if isinstance(value, Integral) else float(value)
        if not (_fits_a_float(number) and self.fits(number)):
            raise argument.error(ValueError, expected, argument.usual(self.example))
        return number

    def _remedy(self, argument: Argument) -> str:
        number = as_number(argument.value)
        if number is not None and self.fits(number):
            return argument.written(f"{number:g}" if number == float(f"{number:g}") else repr(number))
        return argument.usual(self.example)


COUNT = Whole()
SEED = Whole(0, _LARGEST_SEED, hint="0 is the default")
POSITIVE = Number("a positive, finite number", lambda number: 0 < number < math.inf)


def _fits_a_float(number: float) -> bool:
    try:
        float(number)
    except OverflowError:
        return False
    return True
