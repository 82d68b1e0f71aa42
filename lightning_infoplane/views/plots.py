"""Rows to pictures. Every function takes rows and optional axes and returns the axes; bits on every axis.

A layer has the same colour and marker everywhere: its place in depth, on a scale that survives print and colour
blindness. Time goes from pale to dark. Where a run has several probes, ``probe="train"`` or ``"val"`` says whose
rows to draw.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise, takewhile
from typing import TYPE_CHECKING, Any

import numpy as np

from lightning_infoplane.measurement.quantities import AXES, DPI_XT, I_XT, LOG2_N, by_key, with_panel
from lightning_infoplane.measurement.quantity import Panel, Quantity
from lightning_infoplane.measurement.rows import Pair, Place, Row
from lightning_infoplane.measurement.verdicts import CHANCE_MARGIN, STANDARD_ERRORS, is_below_zero
from lightning_infoplane.views.series import Series

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["layer_label", "layer_styles", "plot_curves", "plot_depth", "plot_gaps", "plot_plane", "plot_redundancy"]

_MARKERS = "os^Dv"
# Wong's colours for what is not a layer.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7")
_LONGEST_NAME = 36


def plot_plane(rows: Sequence[Row], ax: Axes | None = None, probe: str = "") -> Axes:
    """The information plane: I(X;T) across, I(T;Y) up, one path a layer, from hollow start to filled end.

    The axes are fitted to the paths. Dashed lines are the limits H(X) and H(Y), dash-dotted ones log2 n, which
    are in the title too; the shaded foot is where shuffled pairs would be: either may lie outside.

    Raises:
        ValueError: without one of the two in the rows, as for a probe without targets.
    """
    from matplotlib.collections import LineCollection

    series = Series(rows, probe)
    (across, across_limit), (up, up_limit) = AXES
    paths = {layer: series.path(layer) for layer in series.layers_with(across)}
    if not all(len(points) for points in paths.values()):
        raise ValueError(f"the rows hold no {up.key}, so there is no plane: use plot_curves(rows, {across.key!r}).")
    ax = ax or _new_axes()
    styles = layer_styles(series.layers)
    for layer, points in paths.items():
        colour, marker = styles[layer]
        fading = np.linspace(0.35, 1, max(1, len(points) - 1))  # paler at first: the direction of time
        ax.add_collection(LineCollection(list(pairwise(points)), colors=colour, alpha=fading, linewidths=1.5))
        ax.plot(*points[:1].T, marker, markerfacecolor="white", markeredgecolor=colour)
        ax.plot(*points[-1:].T, marker, color=colour, label=layer_label(layer), linestyle="none")
    ax.margins(0.15)
    ax.autoscale_view()
    # what follows must not stretch the picture
    (left, right) = ax.get_xlim()
    (low, high) = ax.get_ylim()
    foot = [max(series.values_of(axis.chance), default=0.0) for axis in (across, up)]
    ax.axvspan(0, foot[0], color="0.92", zorder=-2, label="shuffled pairs" if foot[0] > left else None)
    ax.axhspan(0, foot[1], color="0.92", zorder=-2)
    limits = {limit: max(series.values_of(limit), default=np.nan) for limit in (across_limit, up_limit, LOG2_N)}
    for draw_line, limit in ((ax.axvline, across_limit), (ax.axhline, up_limit)):
        draw_line(limits[limit], color="0.4", linestyle="--", linewidth=1)
        draw_line(limits[LOG2_N], color="0.4", linestyle="-.", linewidth=1)
    ax.set_title(_limits(limits), fontsize="small", loc="right")
    ax.set(xlim=(left, right), ylim=(low, high), xlabel=across.label, ylabel=_upright(up))
    _legend(ax, "layer\n(hollow: first,\nfilled: last epoch)")
    return ax


def plot_curves(rows: Sequence[Row], quantity: Quantity | str = I_XT, ax: Axes | None = None, probe: str = "") -> Axes:
    """One quantity over epochs, a line a layer; dotted, of the same colour, its chance level.

    The band around a chance level is as wide as the difference that counts as none. Stretches where a layer is
    saturated, so that its value means nothing, are hatched.

    Raises:
        ValueError: if the rows do not hold the quantity.
    """
    series = Series(rows, probe)
    quantity = _named(quantity)
    layers = series.layers_with(quantity)
    ax = ax or _new_axes()
    styles = layer_styles(series.layers)
    hatch = 0.02 * max(map(abs, series.values_of(quantity)))
    for layer in layers:
        colour, marker = styles[layer]
        x, y = series.curve(layer, quantity)
        every = max(1, len(x) // 20)
        ax.plot(x, y, marker + "-", color=colour, label=layer_label(layer), markersize=3.5, markevery=every)
        if quantity.shuffled:
            at, chance = series.curve(layer, quantity.chance)
            ax.plot(at, chance, ":", color=colour)
            ax.fill_between(at, chance - CHANCE_MARGIN, chance + CHANCE_MARGIN, color=colour, alpha=0.12, linewidth=0)
        for start, stop in series.saturated(layer):
            part = np.unique([*np.clip(x, start, stop), start, stop])
            ribbon = np.interp(part, x, y)
            ax.fill_between(
                part, ribbon - hatch, ribbon + hatch, facecolor="none", edgecolor=colour, hatch="//////", linewidth=0
            )
    ax.set(ylim=(min(0.0, ax.get_ylim()[0]), None), xlabel="step" if series.by_step else "finished epochs")
    ax.set_ylabel(_upright(quantity))
    ax.locator_params(axis="x", integer=True)
    notes = ["dotted: shuffled pairs"] if _has_chance(series, quantity) else []
    notes += ["hatched: saturated"] if any(series.saturated(layer) for layer in layers) else []
    _legend(ax, "\n".join(["layer", *notes]))
    return ax


def plot_depth(rows: Sequence[Row], quantity: Quantity | str = I_XT, ax: Axes | None = None, probe: str = "") -> Axes:
    """One quantity against depth, at the first, the last and up to three moments between; shuffled pairs dotted.

    Along a Markov chain the data-processing inequality asks I(X;T) to fall from left to right, and that of error
    signals, the backward picture, to rise: error signals come from the right.

    Raises:
        ValueError: if the rows do not hold the quantity.
    """
    series = Series(rows, probe)
    quantity = _named(quantity)
    layers = series.layers_with(quantity)
    moments = series.moments_of(quantity)
    ax = ax or _new_axes()
    chosen = sorted({moments[round(i * (len(moments) - 1) / 4)] for i in range(5)})
    for moment, colour in zip(chosen, _shades(len(chosen)), strict=True):
        values = [series.at(layer, quantity, moment) for layer in layers]
        ax.plot(range(len(layers)), values, "o-", color=colour, label=series.moment_label(moment), markersize=4)
        if quantity.shuffled:
            chance = [series.at(layer, quantity.chance, moment) for layer in layers]
            ax.plot(range(len(layers)), chance, ":", color=colour)
    _layer_ticks(ax, layers)
    ax.set(ylim=(min(0.0, ax.get_ylim()[0]), None), ylabel=_upright(quantity))
    _legend(ax, "dotted: shuffled pairs" if _has_chance(series, quantity) else "")
    return ax


def plot_gaps(rows: Sequence[Row], quantity: Quantity | str = DPI_XT, ax: Axes | None = None, probe: str = "") -> Axes:
    """Gaps between layers, pair by epoch; those below zero are outlined.

    Where standard errors are known, only what is more than two of them below zero. A gap of I(T;Y) below zero breaks
    no rule: the later layer makes the target easier to read.

    Raises:
        ValueError: if the rows do not hold the quantity.
    """
    series = Series(rows, probe)
    quantity = _named(quantity)
    pairs = series.places_with(quantity)
    moments = series.moments_of(quantity)
    ax = ax or _new_axes()
    gaps = np.array([[series.at(pair, quantity, moment) for moment in moments] for pair in pairs])
    stderr = np.array([[series.at(pair, quantity.error, moment, 0.0) for moment in moments] for pair in pairs])
    reach = max(map(abs, series.values_of(quantity))) or 1.0
    image = ax.imshow(gaps, "PuOr", aspect="auto", interpolation="nearest", vmin=-reach, vmax=reach)
    _outline(ax, is_below_zero(gaps, stderr))
    bar = ax.figure.colorbar(image, ax=ax)
    bar.set_label(f"{quantity.name} ({quantity.unit})", fontsize="small")
    apart = next(step for step in (1, 2, 5, 10, 20, 50, 100, len(moments)) if len(moments) <= 8 * step or step > 100)
    ax.set_xticks(range(0, len(moments), apart), [str(at[series.by_step]) for at in moments[::apart]])
    ax.set_yticks(range(len(pairs)), [_pair_label(pair) for pair in pairs], fontsize="small")
    ax.set_xlabel("step" if series.by_step else "finished epochs")
    below = f"more than {STANDARD_ERRORS:g} standard errors below zero" if stderr.any() else "below zero"
    ax.set_title(f"outlined: {below}", fontsize="small", loc="right")
    return ax


def plot_redundancy(rows: Sequence[Row], ax: Axes | None = None, probe: str = "") -> Axes:
    """How a layer's feature maps share information about the input, pair by pair: now (filled) and at first (hollow).

    Redundancy minus synergy: above zero, two maps mostly say the same; below, they say more together than alone.
    Non-redundant: what a pair knows beyond what both say. Bars are two standard errors, where pairs were sampled.

    Raises:
        ValueError: if the rows do not hold these quantities.
    """
    series = Series(rows, probe)
    quantities = with_panel(Panel.MAPS)
    layers = series.layers_with(quantities[0])
    moments = series.moments_of(quantities[0])
    ax = ax or _new_axes()
    ax.axhline(0, color="0.6", linewidth=1)
    aside = np.linspace(-0.1, 0.1, len(quantities))
    for quantity, colour, marker, shift in zip(quantities, _COLOURS, "os^D", aside, strict=False):
        for moment in dict.fromkeys((moments[0], moments[-1])):
            last = moment == moments[-1]
            ax.errorbar(
                np.arange(len(layers)) + shift,
                [series.at(layer, quantity, moment) for layer in layers],
                [2 * series.at(layer, quantity.error, moment, 0.0) for layer in layers],
                fmt=marker,
                color=colour,
                alpha=1 if last else 0.5,
                markerfacecolor=colour if last else "white",
                label=quantity.name if last else None,
                capsize=3,
            )
    _layer_ticks(ax, layers)
    ax.set_ylabel("information about the input\nin pairs of feature maps (bits)")
    _legend(ax, f"filled: {series.moment_label(moments[-1])},\nhollow: {series.moment_label(moments[0])}")
    return ax


def layer_styles(layers: Sequence[str]) -> dict[str, tuple[Any, str]]:
    """Colour and marker of each layer, by its depth; neighbours differ in both."""
    colours = _scale("viridis", len(layers), 0.0, 0.85)  # the palest end is left out
    return {layer: (colours[i], _MARKERS[i % len(_MARKERS)]) for i, layer in enumerate(layers)}


def layer_label(name: str) -> str:
    """A name as a picture shows it: no mathematics, never hidden for its underscore, its middle left out if long."""
    if len(name) > _LONGEST_NAME:
        name = f"{name[: _LONGEST_NAME // 2 - 1]}…{name[-_LONGEST_NAME // 2 :]}"
    return name.replace("$", r"\$") if name[:1] != "_" else " " + name.replace("$", r"\$")


def _named(quantity: Quantity | str) -> Quantity:
    """A quantity, which may be given by its key."""
    return by_key(quantity) if isinstance(quantity, str) else quantity


def _has_chance(series: Series, quantity: Quantity) -> bool:
    return quantity.shuffled and series.holds(quantity.chance)


def _upright(quantity: Quantity) -> str:
    """A quantity's label beside an axis, in two lines."""
    return quantity.label.replace(", ", ",\n")


def _pair_label(pair: Place) -> str:
    """``encoder.layer1.0`` and ``encoder.layer1.1`` are ``encoder.layer1.0 → …1``."""
    first, second = pair if isinstance(pair, Pair) else (str(pair), "")
    ours = first.split(".")
    theirs = second.split(".")
    shared = sum(1 for _ in takewhile(lambda parts: parts[0] == parts[1], zip(ours, theirs, strict=False)))
    rest = ".".join(theirs[shared:])
    return f"{layer_label(first)} → {layer_label(f'…{rest}' if shared else second)}"


def _new_axes() -> Axes:
    # A Figure of its own, not pyplot's: it is freed with the axes and never opens a window.
    from matplotlib.figure import Figure

    return Figure(figsize=(6.4, 4.6), dpi=120, layout="constrained").subplots()


def _legend(ax: Axes, title: str) -> None:
    """Beside the picture: it hides nothing, however many layers there are."""
    ax.legend(
        fontsize="small",
        title=title,
        title_fontsize="small",
        loc="upper left",
        bbox_to_anchor=(1.01, 1.0),
        borderaxespad=0.0,
    )


def _layer_ticks(ax: Axes, layers: Sequence[str]) -> None:
    """Names below the axis; upright as soon as they might touch."""
    names = [layer_label(layer) for layer in layers]
    upright = max(map(len, names)) * len(names) > 30
    ax.set_xticks(range(len(names)), names, rotation=90 if upright else 0, fontsize="small")
    ax.set_xlim(-0.5, len(names) - 0.5)


def _limits(limits: Mapping[Quantity, float]) -> str:
    known = [f"{limit.symbol} = {value:.2f}" for limit, value in limits.items() if np.isfinite(value)]
    return f"limits: {', '.join(known)} bits" if known else ""


def _outline(ax: Axes, mask: Any) -> None:  # noqa: ANN401
    """Lines around the cells of a heat map where ``mask`` holds: one collection, however many there are."""
    from matplotlib.collections import LineCollection

    inside = np.pad(mask, 1).astype(int)
    across = np.argwhere(np.diff(inside, axis=0)[:, 1:-1])
    down = np.argwhere(np.diff(inside, axis=1)[1:-1])
    lines = [((x - 0.5, y - 0.5), (x + 0.5, y - 0.5)) for y, x in across]
    lines += [((x - 0.5, y - 0.5), (x - 0.5, y + 0.5)) for y, x in down]
    ax.add_collection(
        LineCollection(lines, colors="black", linewidths=1.5 if len(mask.T) <= 40 else 0.8, clip_on=False)
    )


def _shades(count: int) -> list[Any]:
    """Moments, from pale to dark."""
    return _scale("copper_r", count, 0.0, 1.0)


def _scale(name: str, count: int, start: float, stop: float) -> list[Any]:
    """Colours in order."""
    from matplotlib import colormaps

    return [colormaps[name](value) for value in np.linspace(start, stop, count)]
