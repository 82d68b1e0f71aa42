"""Values in sentences: as they would be typed, in one short line. No numbers of a tensor, no address in memory."""

from dataclasses import MISSING, fields, is_dataclass
from typing import Any

__all__ = ["call_of", "shown", "typed"]

_LONGEST = 72
_MANY = 4


def shown(value: Any) -> str:  # noqa: ANN401
    """A value in one short line, whatever it is.

    Example:
        >>> shown([1, 2, 5]), shown("512"), shown(shown)
        ('[1, 2, 5]', "'512'", '<function shown>')
        >>> shown(object()), shown("a" * 100)[-8:]
        ('<object object>', "aaaaaa…'")
    """
    text = _of_its_kind(value)
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 2]}…{text[-1]}"


def typed(value: Any) -> str:  # noqa: ANN401
    """A value as it would be typed within another; a function by its name.

    Example:
        >>> typed(typed), typed(2.0)
        ('typed', '2.0')
    """
    text = shown(value)
    name = text.removeprefix("<function ").removesuffix(">")
    return text if text[:1] != "<" else name if name.isidentifier() else "..."


def call_of(kind: type) -> str:
    """How an object of a class is made: what has no default is left open.

    Example:
        >>> call_of(dict)
        'dict()'
    """
    needed = [one.name for one in fields(kind) if one.init and _has_no_default(one)] if is_dataclass(kind) else []
    return f"{kind.__name__}({', '.join(f'{name}=...' for name in needed)})"


def _has_no_default(field: Any) -> bool:  # noqa: ANN401
    return field.default is MISSING and field.default_factory is MISSING


def _of_its_kind(value: Any) -> str:  # noqa: ANN401
    """In full, unless it is a collection, a tensor, a function, or an object that says little of itself."""
    kind = type(value)
    if isinstance(value, type):
        return repr(value)
    if kind in (list, tuple, set, dict):
        return _collection(value)
    nested = getattr(value, "is_nested", False)
    if nested or (isinstance(getattr(value, "shape", None), tuple) and getattr(value, "ndim", 0) > 0):
        return _array(value)
    if callable(value) and hasattr(value, "__name__") and hasattr(value, "__qualname__"):
        return f"<function {value.__name__}>"
    text = _text(value)
    if text is None or " at 0x" in text or "\n" in text:
        return f"<{kind.__name__} object>"
    return text if len(text) <= _LONGEST or kind in (str, int, bytes) else f"{kind.__name__}(…)"


def _collection(values: Any) -> str:  # noqa: ANN401
    """The first few."""
    if not values:
        return _text(values) or ""
    if isinstance(values, dict):
        parts = [f"{shown(key)}: {shown(one)}" for key, one in list(values.items())[:_MANY]]
    else:
        parts = [shown(one) for one in list(values)[:_MANY]]
    inner = ", ".join(parts) + (", …" if len(values) > _MANY else "")
    if isinstance(values, tuple):
        return f"({inner},)" if len(values) == 1 else f"({inner})"
    return f"[{inner}]" if isinstance(values, list) else f"{{{inner}}}"


def _array(value: Any) -> str:  # noqa: ANN401
    """A tensor, an array or a table by its shape, and its dtype where it has one."""
    kind = type(value).__name__
    if getattr(value, "is_nested", False):  # has no shape to ask for
        return "<nested tensor>"
    name = {"Tensor": "tensor", "ndarray": "array"}.get(kind, kind)
    dtype = f", dtype={value.dtype}" if hasattr(value, "dtype") else ""
    layout = str(getattr(value, "layout", "torch.strided"))
    sparse = "" if layout == "torch.strided" else f", layout={layout}"
    return f"{name}(shape={tuple(value.shape)}{dtype}{sparse})"


def _text(value: Any) -> str | None:  # noqa: ANN401
    """What it says of itself; None where it fails to."""
    try:
        return repr(value)
    except Exception:  # a stranger's, and numbers of more than 4,300 digits
        return None
