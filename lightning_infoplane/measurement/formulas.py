"""Joint entropies as values, and the signed sums of them that quantities are made of."""

from collections.abc import Mapping
from typing import NamedTuple

__all__ = ["TX", "TY", "SignedSum", "T", "Term", "X", "Y"]


class Term(NamedTuple):
    """A joint entropy: of the layer T, of a partner, X or Y, or of both.

    Args:
        partner: ``"X"``, ``"Y"``, or empty for the layer alone.
        shuffle: which shuffle of the partner's samples; None leaves them in place.
        layer: whether the layer is part of it.

    Example:
        >>> TX.shuffled(1)
        Term(partner='X', shuffle=1, layer=True)
    """

    partner: str = ""
    shuffle: int | None = None
    layer: bool = True

    def shuffled(self, shuffle: int) -> "Term":
        """The same with the partner's samples shuffled; a term without layer or partner is the same after it."""
        return self._replace(shuffle=shuffle) if self.layer and self.partner else self


# Error signals have no X and Y: there X is the error signal of the last layer.
T = Term()
X = Term("X", layer=False)
TX = Term("X")
Y = Term("Y", layer=False)
TY = Term("Y")

# Entropies with their signs, ``{X: +1, T: +1, TX: -1}``: value and standard error follow from it.
SignedSum = Mapping[Term, int]
