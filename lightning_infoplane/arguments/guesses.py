"""What somebody may have meant by a value that cannot be: numbers in texts, words that resemble names."""

import difflib
from collections.abc import Iterable, Mapping
from typing import Any

__all__ = ["as_dense", "as_number", "as_tensor", "letters", "resembling", "yes_or_no"]

_YES = {"true", "yes", "y", "on", "1"}
_NO = {"false", "no", "n", "off", "0"}


def as_number(value: Any) -> float | None:  # noqa: ANN401
    """The number in a text or in a tensor of one; None where there is none, or where it would be a guess too many.

    Example:
        >>> as_number("512"), as_number(True), as_number([512])
        (512.0, None, None)
    """
    if isinstance(value, bool) or value is None or getattr(value, "ndim", 0) > 0:
        return None
    try:
        return float(value)
    except Exception:  # whatever a stranger's conversion raises
        return None


def yes_or_no(value: object) -> bool | None:
    """What ``"yes"``, ``"off"``, 1 and numpy's booleans mean; None where that is anybody's guess.

    Example:
        >>> yes_or_no("yes"), yes_or_no(0), yes_or_no("auto")
        (True, False, None)
    """
    if not isinstance(value, str | int) and type(value).__name__ not in ("bool", "bool_"):
        return None
    word = str(value).lower()
    return True if word in _YES else False if word in _NO else None


def letters(word: str) -> str:
    """Letters and digits alone, small: ``MedianDistance()`` and ``"median_distance"`` are one.

    Example:
        >>> letters("Median_Distance()")
        'mediandistance'
    """
    return "".join(letter for letter in word.lower() if letter.isalnum())


def resembling(word: str, known: Mapping[str, str]) -> str:
    """What a word means, of what is known by its letters: itself, what it is a part of, or what it is nearly.

    Example:
        >>> known = {"silverman": "Silverman()", "standardizedsilverman": "StandardizedSilverman()"}
        >>> resembling("Silverman", known), resembling("standard", known), resembling("silvermann", known)
        ('Silverman()', 'StandardizedSilverman()', 'Silverman()')
        >>> resembling("gaussian", known)
        ''
    """
    sought = letters(word)
    if sought in known:
        return known[sought]
    parts: Iterable[str] = (one for one in known if len(sought) > 2 and (sought in one or one in sought))
    close = sorted(parts, key=len) or difflib.get_close_matches(sought, known, n=1)
    return known[close[0]] if close else ""


def as_dense(name: str, tensor: Any) -> str:  # noqa: ANN401
    """What makes a plain tensor of a nested, sparse or quantized one; empty for one that is plain."""
    if tensor.is_nested:
        return f"torch.nested.to_padded_tensor({name}, 0.0)"
    if tensor.is_quantized:
        return f"{name}.dequantize()"
    return f"{name}.to_dense()" if tensor.is_sparse or str(tensor.layout) != "torch.strided" else ""


def as_tensor(name: str, value: object) -> str:
    """What makes a tensor of a value of that name; empty where nothing does.

    Example:
        >>> as_tensor("samples", [1.0, 2.0])
        'torch.tensor(samples)'
    """
    if hasattr(value, "to_numpy"):
        return f"torch.as_tensor({name}.to_numpy())"
    if hasattr(value, "__array__"):
        return f"torch.as_tensor({name})"
    if not isinstance(value, list | tuple):
        return ""
    return f"torch.stack({name})" if value and hasattr(value[0], "ndim") else f"torch.tensor({name})"
