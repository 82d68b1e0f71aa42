"""Rows to pictures. Every function takes rows and optional axes and returns the axes; bits on every axis.

A layer has the same colour everywhere: its place in depth, on a scale that survives print and colour blindness.
Where a run has several probes, ``probe="train"`` or ``"val"`` says whose rows to draw.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from lightning_infoplane.plane import Row, of_probe

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["plot_curves", "plot_depth", "plot_plane"]

_NAMES = {
    "H_T": "entropy H(T)",
    "I_XT": "information about the input, I(X;T)",
    "I_TY": "information about the target, I(T;Y)",
}


def plot_plane(rows: Sequence[Row], ax: Axes | None = None, probe: str = "") -> Axes:
    """The information plane: I(X;T) across, I(T;Y) up, one path a layer, from hollow start to filled end.

    The axes are fitted to the paths. Dashed lines are the limits H(X) and H(Y), which are in the title too;
    the shaded foot is where shuffled pairs would be: either may lie outside.

    Raises:
        ValueError: without I(T;Y) in the rows, as for a probe without targets.
    """
    rows = of_probe(rows, probe)
    layers = _layers(rows)
    paths = [tuple(list(_series(rows, layer, name).values()) for name in ("I_XT", "I_TY")) for layer in layers]
    if not all(y for _, y in paths):
        raise ValueError("the rows hold no I_TY, so there is no plane: use plot_curves(rows, 'I_XT').")
    ax = ax or _new_axes()
    for layer, colour, (x, y) in zip(layers, _colours(len(layers)), paths, strict=True):
        for i in range(len(x) - 1):  # paler at first: the direction of time
            ax.plot(x[i : i + 2], y[i : i + 2], color=colour, alpha=0.3 + 0.7 * (i + 1) / len(x), linewidth=1.5)
        ax.plot(x[:1], y[:1], "o", markerfacecolor="white", markeredgecolor=colour)
        ax.plot(x[-1:], y[-1:], "o", color=colour, label=layer)
    ax.margins(0.15)
    (left, right), (low, high) = ax.get_xlim(), ax.get_ylim()  # what follows must not stretch the picture
    if chance := [row.value for row in rows if row.quantity == "I_XT_chance"]:
        ax.axvspan(0, max(chance), color="0.92", zorder=-2, label="shuffled pairs" if max(chance) > left else None)
    if chance := [row.value for row in rows if row.quantity == "I_TY_chance"]:
        ax.axhspan(0, max(chance), color="0.92", zorder=-2)
    limits = {row.quantity: row.value for row in rows if row.quantity in ("H_X", "H_Y")}
    ax.axvline(limits["H_X"], color="0.4", linestyle="--", linewidth=1)
    ax.axhline(limits["H_Y"], color="0.4", linestyle="--", linewidth=1)
    ax.set_title(f"limits: H(X) = {limits['H_X']:.2f}, H(Y) = {limits['H_Y']:.2f} bits", fontsize="small", loc="right")
    ax.set(xlim=(left, right), ylim=(low, high), xlabel=f"{_NAMES['I_XT']} (bits)", ylabel=f"{_NAMES['I_TY']} (bits)")
    _legend(ax, "layer (○ first, ● last epoch)", len(layers))
    return ax


def plot_curves(rows: Sequence[Row], quantity: str = "I_XT", ax: Axes | None = None, probe: str = "") -> Axes:
    """One quantity over epochs, a line a layer; dotted lines of the same colour are its chance level.

    Raises:
        ValueError: if the rows do not hold the quantity.
    """
    rows = of_probe(rows, probe)
    layers = _layers_with(rows, quantity)
    ax = ax or _new_axes()
    # Several measurements within an epoch have only the step to tell them apart.
    by_step = len({row.epoch for row in rows}) < len({row.step for row in rows})
    for layer, colour in zip(layers, _colours(len(layers)), strict=True):
        for name, style, label in ((quantity, ".-", layer), (f"{quantity}_chance", ":", None)):
            series = _series(rows, layer, name)
            ax.plot([moment[by_step] for moment in series], list(series.values()), style, color=colour, label=label)
    ax.set(ylim=(0, None), xlabel="step" if by_step else "finished epochs")
    ax.set_ylabel(f"{_NAMES.get(quantity, quantity)} (bits)")
    ax.locator_params(axis="x", integer=True)
    _legend(ax, "layer (dotted: shuffled pairs)", len(layers))
    return ax


def plot_depth(rows: Sequence[Row], quantity: str = "I_XT", ax: Axes | None = None, probe: str = "") -> Axes:
    """One quantity against depth, at the first, the last and up to three moments between; shuffled pairs dotted.

    Along a Markov chain the data-processing inequality asks I(X;T) to fall from left to right.

    Raises:
        ValueError: if the rows do not hold the quantity.
    """
    rows = of_probe(rows, probe)
    layers = _layers_with(rows, quantity)
    ax = ax or _new_axes()
    moments = sorted({(row.epoch, row.step) for row in rows})
    chosen = sorted({moments[round(i * (len(moments) - 1) / 4)] for i in range(5)})
    for moment, colour in zip(chosen, _colours(len(chosen), "plasma"), strict=True):
        label = f"after epoch {moment[0]}" if moment[0] else "before training"
        for name, style in ((quantity, "o-"), (f"{quantity}_chance", ":")):
            values = [_series(rows, layer, name).get(moment, float("nan")) for layer in layers]
            ax.plot(range(len(layers)), values, style, color=colour, label=label if style == "o-" else None)
    ax.set_xticks(
        range(len(layers)), layers, rotation=45 if len(layers) > 4 else 0, ha="right" if len(layers) > 4 else "center"
    )
    ax.set(ylim=(0, None), ylabel=f"{_NAMES.get(quantity, quantity)} (bits)")
    _legend(ax, "dotted: shuffled pairs", len(chosen))
    return ax


def _new_axes() -> Axes:
    # A Figure of its own, not pyplot's: it is freed with the axes and never opens a window.
    from matplotlib.figure import Figure

    return Figure(figsize=(6.4, 4.8), layout="constrained").subplots()


def _legend(ax: Axes, title: str, entries: int) -> None:
    """Inside while it is small, beside the picture when there are many layers."""
    place = {"loc": "best"} if entries <= 6 else {"loc": "upper left", "bbox_to_anchor": (1.01, 1.0)}
    ax.legend(fontsize="small", title=title, title_fontsize="small", **place)


def _layers(rows: Sequence[Row]) -> list[str]:
    """Names of the layers in depth order, which is the order they were measured in."""
    return list(dict.fromkeys(row.layer for row in rows if row.quantity == "H_T"))


def _layers_with(rows: Sequence[Row], quantity: str) -> list[str]:
    """The layers that a quantity is known of."""
    found = {row.layer for row in rows if row.quantity == quantity}
    if not found:
        known = sorted({row.quantity for row in rows if row.layer})
        raise ValueError(f"the rows hold no {quantity!r}. They hold {', '.join(known) or 'nothing of this probe'}.")
    return [layer for layer in _layers(rows) if layer in found]


def _series(rows: Sequence[Row], layer: str, quantity: str) -> dict[tuple[int, int], float]:
    """Values by (epoch, step)."""
    return {(row.epoch, row.step): row.value for row in rows if row.layer == layer and row.quantity == quantity}


def _colours(count: int, scale: str = "viridis") -> list[tuple[float, float, float, float]]:
    """As many as there are layers (or moments), in their order; the palest end is left out."""
    from matplotlib import colormaps

    return [colormaps[scale](0.85 * i / max(1, count - 1)) for i in range(count)]
