"""What an argument may be: checked once, at the public edge, with a sentence that says what to type instead.

A rule takes a field's name and its value, and gives the value back, a number as Python's own. ``checked`` puts rules on
the fields of a frozen dataclass; functions call them. Nothing here needs torch before a tensor is asked for.
"""

import inspect
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from numbers import Real
from typing import Any, TypeVar

from lightning_infoplane.arguments.guesses import as_dense, as_tensor, letters, resembling, yes_or_no
from lightning_infoplane.arguments.printing import call_of, shown, typed
from lightning_infoplane.arguments.rules import (
    COUNT,
    POSITIVE,
    SEED,
    Argument,
    Maybe,
    Number,
    Rule,
    Whole,
    WrongKindError,
)

__all__ = [
    "COUNT",
    "FLAG",
    "POSITIVE",
    "SEED",
    "TEXT",
    "Function",
    "Instance",
    "Key",
    "Maybe",
    "Number",
    "Rule",
    "Tensors",
    "Whole",
    "WrongKindError",
    "call_of",
    "check_tensors",
    "checked",
    "shown",
]

Class = TypeVar("Class", bound=type)


@dataclass(frozen=True)
class Instance(Rule):
    """An object of some classes, or one of some constants.

    Args:
        expected: in words, where ``{field}`` stands for the argument's name.
        kinds: the classes; a value that is a field of the first is answered with that class around it.
        constants: True, False, None, words.
        known: what can be typed, and is meant by a word that resembles it.
        numbers: what a bare number means, where ``{}`` stands for it.
        example: what to type where nothing better can be told.
        remedies: what to type instead of other values: for each it gives the text, or an empty one.
        terse: say no more than what was expected, unless a class or a word tells what was meant.
    """

    expected: str
    kinds: tuple[type, ...] = ()
    constants: tuple[object, ...] = ()
    known: tuple[str, ...] = ()
    numbers: str = ""
    example: str = ""
    remedies: Callable[[Any], str] | None = None
    terse: bool = False

    def check(self, argument: Argument) -> Any:  # noqa: ANN401
        """The value, or an error."""
        value = argument.value
        if isinstance(value, self.kinds) or any(_same(value, constant) for constant in self.constants):
            return value
        expected = f"expected {self.expected.format(field=argument.field)}"
        likely = isinstance(value, str) and not self.kinds and any(isinstance(one, str) for one in self.constants)
        raise argument.error(ValueError if likely else WrongKindError, expected, self._remedy(argument))

    @classmethod
    def of(cls, kind: type, *constants: object) -> "Instance":
        """An object of a class that is made without arguments, or one of some constants.

        Example:
            >>> Instance.of(Argument, True, False).expected
            'True, False or Argument(...)'
        """
        words = ", ".join(map(repr, constants))
        expected = f"{words} or {kind.__name__}(...)" if words else f"{kind.__name__}(...)"
        return cls(expected, kinds=(kind,), constants=constants, known=(f"{kind.__name__}()",), example=call_of(kind))

    def _remedy(self, argument: Argument) -> str:
        value = argument.value
        if isinstance(value, type) and issubclass(value, self.kinds):
            meant = (self.example or "") if inspect.isabstract(value) else call_of(value)
            return f"{argument.written(meant)}, an object, not the class" if meant else ""
        meant = self._meant_by_word(value) if isinstance(value, str) else ""
        if not meant and not self.terse:
            meant = self.remedies(value) if self.remedies is not None else ""
            meant = meant or self._as_constant(value) or self._as_number(value) or self._as_field(value)
            meant = meant or self.example
        usual = "" if self.terse else argument.usual(next((repr(one) for one in self.constants), ""))
        return argument.written(meant) if meant else usual

    def _meant_by_word(self, value: str) -> str:
        """What can be typed that a word resembles: ``"median"`` means ``MedianDistance()``."""
        words = {letters(one.partition("(")[0]): one for one in self.known}
        words |= {letters(one): repr(one) for one in self.constants if isinstance(one, str)}
        return resembling(value, words)

    def _as_constant(self, value: object) -> str:
        """``"yes"`` and 1 mean True; None means False where True would need something beside it."""
        if value is None and self.kinds and any(one is False for one in self.constants):
            return "False"
        meant = yes_or_no(value)
        return repr(meant) if meant is not None and any(meant is one for one in self.constants) else ""

    def _as_number(self, value: Any) -> str:  # noqa: ANN401
        number = isinstance(value, Real) and not isinstance(value, bool)
        positive = number and 0 < value < math.inf
        return self.numbers.format(shown(value)) if self.numbers and positive else ""

    def _as_field(self, value: object) -> str:
        """The class around a value that is one of its fields, or around a mapping of some of them."""
        kind = self.kinds[0] if self.kinds else object
        rules: Mapping[str, Rule] = getattr(kind, "__rules__", {})
        if isinstance(value, Mapping) and value and all(key in rules for key in value):
            return f"{kind.__name__}({', '.join(f'{key}={typed(one)}' for key, one in value.items())})"
        if value is None or isinstance(value, bool):
            return ""
        meant = next((field for field, rule in rules.items() if rule.accepts(value)), "")
        return f"{kind.__name__}({meant}={typed(value)})" if meant else ""


@dataclass(frozen=True)
class Function(Rule):
    """Something that can be called with so many arguments, and no class: to call one makes an object of it.

    Args:
        expected: its arguments and its result, ``(outputs, targets) -> scalar tensor``.
        arguments: how many.
        example: what to type, as a part of what is expected.
        write: what to type, on its own.
        classes: whether a class will do, as for what makes context managers.
    """

    expected: str
    arguments: int
    example: str = ""
    write: str = ""
    classes: bool = False

    def check(self, argument: Argument) -> Any:  # noqa: ANN401
        """The value, or an error."""
        value = argument.value
        such_as = f", such as {self.example}" if self.example else ""
        expected = f"expected a function {self.expected}{such_as}"
        write = argument.written(self.write) if self.write else ""
        if isinstance(value, type) and not self.classes:
            raise argument.error(WrongKindError, expected, write or f"{argument.written(call_of(value))}, an object")
        if not callable(value):
            raise argument.error(WrongKindError, expected, write)
        if not _takes(value, self.arguments):
            many = f"{self.arguments} argument{'s' if self.arguments > 1 else ''}"
            raise argument.error(WrongKindError, f"{expected}. This one cannot be called with {many}", write)
        return value


@dataclass(frozen=True)
class Tensors(Rule):
    """A tensor, with a place in memory for each of its numbers.

    Args:
        shape: what its axes mean.
        example: what to type where there is no default.
    """

    shape: str = ""
    example: str = ""

    def check(self, argument: Argument) -> Any:  # noqa: ANN401
        """The value, or an error."""
        from torch import Tensor

        value = argument.value
        axes = f" {self.shape}" if self.shape else ""
        if isinstance(value, Tensor):
            if dense := as_dense(argument.field, value):
                raise argument.error(WrongKindError, f"expected a dense tensor{axes}", dense)
            return value
        write = as_tensor(argument.field, argument.value) or argument.usual(self.example)
        raise argument.error(WrongKindError, f"expected a tensor{axes}", write)


@dataclass(frozen=True)
class Key(Rule):
    """Where something lies in a structure: a name, or a function of the structure.

    Args:
        of: the structure, in words.
        example: what to type.
        places: whether places of a list, and several keys at once, will do as well.
    """

    of: str
    example: str
    places: bool = False

    def check(self, argument: Argument) -> Any:  # noqa: ANN401
        """The value, or an error."""
        value = argument.value
        if self._is_key(value):
            return value
        if isinstance(value, list | tuple) and value and self.places and all(map(self._is_key, value)):
            return tuple(value)
        if callable(value) and not isinstance(value, type):
            return Function(f"({self.of}) -> tensor", 1, write=f"lambda {self.of}: {self.of}['x']").check(argument)
        kinds = "a name, a place, several of them" if self.places else "a name"
        expected = f"expected {kinds} or a function ({self.of}) -> tensor"
        raise argument.error(WrongKindError, expected, argument.written(self.example))

    def _is_key(self, value: object) -> bool:
        is_place = isinstance(value, int) and not isinstance(value, bool) and value >= 0 and self.places
        return is_place or (isinstance(value, str) and bool(value))


FLAG = Instance("True or False", constants=(True, False))
TEXT = Instance("a text", kinds=(str,), remedies=lambda value: repr("" if value is None else shown(value)))


def check_tensors(owner: str, shape: str, **values: Any) -> None:  # noqa: ANN401
    """Raise an error for the first argument of a function that is no tensor of a shape, in words."""
    rule = Tensors(shape)
    for field, value in values.items():
        rule(field, value, owner)


def checked(named: bool = True, /, **rules: Rule) -> Callable[[Class], Class]:
    """A decorator below ``@dataclass``: each field goes through its rule, before the class's own ``__post_init__``.

    Args:
        named: whether sentences name the class, ``Fixed(sigma=0)``, or the field alone, ``alpha=0``.
        rules: by field.

    Example:
        >>> @dataclass(frozen=True)
        ... @checked(width=POSITIVE)
        ... class Box:
        ...     width: float = 1.0
        >>> Box(0)
        Traceback (most recent call last):
        ValueError: Box(width=0): expected a positive, finite number. Write Box(width=1.0).
    """

    def decorate(kind: Class) -> Class:
        further = vars(kind).get("__post_init__", lambda self: None)

        def check_fields(self: Any) -> None:  # noqa: ANN401
            """Check the fields."""
            owner = type(self).__name__ if named else ""
            for field in (one for one in fields(self) if one.name in rules):
                value = rules[field.name](field.name, getattr(self, field.name), owner, field.default)
                object.__setattr__(self, field.name, value)
            further(self)

        kind.__post_init__ = check_fields  # type: ignore[attr-defined]
        kind.__rules__ = rules  # type: ignore[attr-defined]
        return kind

    return decorate


def _same(value: object, constant: object) -> bool:
    """Equal and of one kind: 1 is not True, and a tensor is not compared at all."""
    return value is constant or (isinstance(value, str) and isinstance(constant, str) and value == constant)


def _takes(function: Callable[..., object], arguments: int) -> bool:
    """Whether a function can be called with so many; yes where it does not tell, as some written in C do not."""
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):
        return True
    try:
        signature.bind(*range(arguments))
    except TypeError:
        return False
    return True
