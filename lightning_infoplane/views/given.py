"""What pictures are asked to draw, checked: rows and no table or file, axes and no figure."""

from collections.abc import Sequence
from os import PathLike
from typing import Any

from lightning_infoplane.arguments.checks import TEXT, Instance, WrongKindError, shown
from lightning_infoplane.measurement.quantities import AMI_XT, Plane
from lightning_infoplane.measurement.quantity import Quantity
from lightning_infoplane.measurement.rows import Row

__all__ = ["check_drawing"]

_QUANTITY = Instance(
    f"a key such as {AMI_XT.key!r}, or a Quantity",
    kinds=(str, Quantity),
    remedies=lambda value: f"{AMI_XT.key!r}" + (", ax=ax" if hasattr(value, "figure") else ""),
)
_PLANE = Instance("None or one of measurement.quantities.PLANES", kinds=(Plane,), constants=(None,))


def check_drawing(owner: str, rows: object, ax: object, probe: object, **others: object) -> None:
    """Raise a sentence for the first argument of a picture that is none.

    Args:
        owner: the picture's function.
        rows: of a run.
        ax: axes or None.
        probe: a name.
        others: its ``quantity`` or its ``plane``.
    """
    _check_rows(owner, rows)
    for name, rule in (("quantity", _QUANTITY), ("plane", _PLANE)):
        if name in others:
            rule(name, others[name], owner)
    _check_axes(owner, ax)
    TEXT("probe", probe, owner)


def _check_rows(owner: str, rows: Any) -> None:  # noqa: ANN401
    """The first row tells of all."""
    if not isinstance(rows, Sequence) or isinstance(rows, str | bytes):
        what = shown(rows)
        write = _rows_in(rows)
    elif len(rows) and not isinstance(rows[0], Row):
        what = f"a {type(rows).__name__} that begins with {shown(rows[0])}"
        write = "callback.history"
    else:
        return
    raise WrongKindError(
        f"{owner}() takes rows, such as callback.history or History.load(path), got {what}. Write {owner}({write})."
    )


def _rows_in(value: Any) -> str:  # noqa: ANN401
    """Where the rows are that somebody who passes this has in mind."""
    if isinstance(value, str | PathLike):
        return f"History.load({shown(str(value))})"
    if isinstance(value, type):
        return "callback.history"
    for attribute, name in (("history", "callback"), ("rows", "run")):
        if hasattr(value, attribute):
            return f"{name}.{attribute}"
    if hasattr(value, "to_numpy"):
        return "History.load('infoplane.csv')"
    return "list(rows)" if hasattr(value, "__next__") else "callback.history"


def _check_axes(owner: str, ax: Any) -> None:  # noqa: ANN401
    if ax is None:
        return
    from matplotlib.axes import Axes

    if isinstance(ax, Axes):
        return
    write = "ax=axes[0], one of them"
    if not hasattr(ax, "ndim"):
        write = f"probe={ax!r}" if isinstance(ax, str) and len(ax) < 20 else "ax=figure.subplots(), or leave it out"
    raise WrongKindError(f"{owner}(ax={shown(ax)}): expected matplotlib axes. Write {write}.")
