"""Rows to pictures. Every function takes rows and optional axes and returns the axes; bits on every axis.

A layer has the same colour everywhere: its place in depth, on a scale that survives print and colour blindness.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from lightning_infoplane.plane import Row

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["plot_curves", "plot_plane"]

_NAMES = {
    "H_T": "entropy H(T)",
    "I_XT": "information about the input, I(X;T)",
    "I_TY": "information about the target, I(T;Y)",
}


def plot_plane(rows: Sequence[Row], ax: Axes | None = None) -> Axes:
    """The information plane: I(X;T) across, I(T;Y) up, one path a layer, from hollow start to filled end.

    The axes are fitted to the paths. Dashed lines are the limits H(X) and H(Y), which are in the title too;
    the shaded foot is where shuffled pairs would be: either may lie outside.

    Raises:
        ValueError: without I(T;Y) in the rows, as for a probe without targets.
    """
    ax = ax or _new_axes()
    layers = _layers(rows)
    for layer, colour in zip(layers, _colours(len(layers)), strict=True):
        x, y = (list(_series(rows, layer, quantity).values()) for quantity in ("I_XT", "I_TY"))
        if not y:
            raise ValueError("the rows hold no I_TY, so there is no plane: use plot_curves(rows, 'I_XT').")
        for i in range(len(x) - 1):  # paler at first: the direction of time
            ax.plot(x[i : i + 2], y[i : i + 2], color=colour, alpha=0.3 + 0.7 * (i + 1) / len(x), linewidth=1.5)
        ax.plot(x[:1], y[:1], "o", markerfacecolor="white", markeredgecolor=colour)
        ax.plot(x[-1:], y[-1:], "o", color=colour, label=layer)
    ax.margins(0.15)
    ax.set(xlim=ax.get_xlim(), ylim=ax.get_ylim())  # the paths fill the picture; what follows must not stretch it
    for i, (span, quantity) in enumerate(((ax.axvspan, "I_XT_chance"), (ax.axhspan, "I_TY_chance"))):
        if chance := [row.value for row in rows if row.quantity == quantity]:
            label = "shuffled pairs" if i == 0 else None
            span(0, max(chance), color="0.92", zorder=-2, label=label)
    limits = {row.quantity: row.value for row in rows if row.quantity in ("H_X", "H_Y")}
    for quantity, line in (("H_X", ax.axvline), ("H_Y", ax.axhline)):
        line(limits[quantity], color="0.4", linestyle="--", linewidth=1)
    ax.set_title(f"limits: H(X) = {limits['H_X']:.2f}, H(Y) = {limits['H_Y']:.2f} bits", fontsize="small", loc="right")
    ax.set(xlabel=f"{_NAMES['I_XT']} (bits)", ylabel=f"{_NAMES['I_TY']} (bits)")
    ax.legend(fontsize="small", title="layer (○ first, ● last epoch)", title_fontsize="small")
    return ax


def plot_curves(rows: Sequence[Row], quantity: str = "I_XT", ax: Axes | None = None) -> Axes:
    """One quantity over epochs, a line a layer; dotted lines of the same colour are its chance level.

    Raises:
        ValueError: if the rows do not hold the quantity.
    """
    layers = [layer for layer in _layers(rows) if _series(rows, layer, quantity)]
    if not layers:
        known = sorted({row.quantity for row in rows if row.layer})
        raise ValueError(f"the rows hold no {quantity!r}. They hold {', '.join(known)}.")
    ax = ax or _new_axes()
    for layer, colour in zip(layers, _colours(len(layers)), strict=True):
        series, chance = _series(rows, layer, quantity), _series(rows, layer, f"{quantity}_chance")
        ax.plot(list(series), list(series.values()), ".-", color=colour, label=layer)
        ax.plot(list(chance), list(chance.values()), ":", color=colour, linewidth=1)
    ax.set(ylim=(0, None), xlabel="finished epochs", ylabel=f"{_NAMES.get(quantity, quantity)} (bits)")
    ax.xaxis.get_major_locator().set_params(integer=True)
    ax.legend(fontsize="small", title="layer (dotted: shuffled pairs)", title_fontsize="small")
    return ax


def _new_axes() -> Axes:
    # A Figure of its own, not pyplot's: it is freed with the axes and never opens a window.
    from matplotlib.figure import Figure

    return Figure(figsize=(6.4, 4.8), layout="constrained").subplots()


def _layers(rows: Sequence[Row]) -> list[str]:
    """Names of the layers in depth order, which is the order they were measured in."""
    return list(dict.fromkeys(row.layer for row in rows if row.quantity == "H_T"))


def _series(rows: Sequence[Row], layer: str, quantity: str) -> dict[int, float]:
    """Values by epoch."""
    return {row.epoch: row.value for row in rows if row.layer == layer and row.quantity == quantity}


def _colours(count: int) -> list[tuple[float, float, float, float]]:
    """One a layer, by depth."""
    from matplotlib import colormaps

    scale = colormaps["viridis"]
    return [scale(0.9 * i / max(1, count - 1)) for i in range(count)]
