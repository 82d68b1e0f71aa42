"""What quantities are made of, as values: joint entropies and other numbers of Gram matrices, and formulas of them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

__all__ = [
    "TX",
    "TY",
    "Adjusted",
    "Alignment",
    "Excess",
    "Formula",
    "Independence",
    "Leaf",
    "Power",
    "SignedSum",
    "T",
    "Term",
    "X",
    "Y",
    "leaves_in",
    "needs_shuffles",
]


class Term(NamedTuple):
    """The entropy of a variable, or of two together: the layer T, the input X, the target Y.

    Args:
        first: ``"T"``, ``"X"`` or ``"Y"``.
        second: the same, or empty for the first alone. A variable together with itself is a term of its own.
        shuffle: which shuffle of the second one's samples; None leaves them in place.

    Example:
        >>> TX.shuffled(1)
        Term(first='T', second='X', shuffle=1)
    """

    first: str
    second: str = ""
    shuffle: int | None = None

    def shuffled(self, shuffle: int) -> "Term":
        """The same with the second one's samples shuffled; an entropy of one variable is the same after it."""
        return self._replace(shuffle=shuffle) if self.second else self


@dataclass(frozen=True)
class Alignment:
    """Debiased CKA of two variables."""

    first: str
    second: str


@dataclass(frozen=True)
class Independence:
    """The p-value of two variables, from the moments of the permutation distribution."""

    first: str
    second: str


# What is computed from Gram matrices; everything else is made of it.
Leaf = Term | Alignment | Independence

# Error signals have no X and Y: there X is the error signal of the last layer.
T = Term("T")
X = Term("X")
TX = Term("T", "X")
Y = Term("Y")
TY = Term("T", "Y")

# Leaves with their signs, ``{X: +1, T: +1, TX: -1}``: value and standard error follow from it.
SignedSum = Mapping[Leaf, int]


@dataclass(frozen=True)
class Excess:
    """Information beyond chance, in bits: the mean joint entropy over the shuffles, less that in place."""

    term: Term


@dataclass(frozen=True)
class Adjusted:
    """Information beyond chance over the geometric mean of what both variables share with themselves beyond chance."""

    term: Term

    @property
    def parts(self) -> tuple[Excess, Excess, Excess]:
        """What both share, and what each shares with itself."""
        first, second, _ = self.term
        return Excess(self.term), Excess(Term(first, first)), Excess(Term(second, second))

    @property
    def ends(self) -> tuple[Term, Term]:
        """Both on their own: a saturated variable has no adjusted information."""
        return Term(self.term.first), Term(self.term.second)


@dataclass(frozen=True)
class Power:
    """Two to the power of an entropy: how many equally likely values would have it."""

    of: Term


# All that follows from leaves alone, for every subset of the samples.
Formula = SignedSum | Excess | Adjusted | Power


def leaves_in(formula: object) -> list[Leaf]:
    """What a formula needs, unshuffled; nothing for one that is not made of leaves.

    Example:
        >>> leaves_in(Excess(TX))
        [Term(first='T', second='X', shuffle=None)]
    """
    if isinstance(formula, Mapping):
        return list(formula)
    if isinstance(formula, Excess):
        return [formula.term]
    if isinstance(formula, Adjusted):
        return [*(part.term for part in formula.parts), *formula.ends]
    return [formula.of] if isinstance(formula, Power) else []


def needs_shuffles(formula: object) -> bool:
    """Whether a formula is about what is beyond chance."""
    return isinstance(formula, Excess | Adjusted)
