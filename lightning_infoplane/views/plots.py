"""Rows to pictures: every function takes rows and optional axes and returns the axes. Bars and bands are 2 errors.

A layer has the same colour and marker everywhere: its place in depth, on a scale that survives print and colour
blindness. Time goes from pale to dark. Where a run has several probes, ``probe="train"`` or ``"val"`` says whose
rows to draw.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise, takewhile
from textwrap import fill
from typing import TYPE_CHECKING, Any

import numpy as np

from lightning_infoplane.measurement.evidence import Change
from lightning_infoplane.measurement.quantities import AMI_XT, DPI_AMI_XT, PLANES, Plane, by_key, with_panel
from lightning_infoplane.measurement.quantity import Panel, Quantity
from lightning_infoplane.measurement.rows import Pair, Place, Row
from lightning_infoplane.views.given import check_drawing
from lightning_infoplane.views.series import Series

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["layer_label", "layer_styles", "plot_curves", "plot_depth", "plot_gaps", "plot_plane", "plot_redundancy"]

_MARKERS = "os^Dv"
# Wong's colours for what is not a layer.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7")
_LONGEST_NAME = 36
# Pairs that are named beside a heat map; of more, each second, third, …
_MOST_NAMES = 60


def plot_plane(rows: Sequence[Row], ax: Axes | None = None, probe: str = "", plane: Plane | None = None) -> Axes:
    """The information plane: what is kept of the input across, of the target up; one path a layer, hollow to filled.

    Adjusted information from 0, chance, to 1, a copy, or ``PLANES[1]``, the same in bits. There the limits H(X) and
    H(Y) are dashed where they are within the picture, and a cross of the layer's colour is where its shuffled pairs
    are: only what a layer is away from its cross is evidence.

    Args:
        rows: of a run.
        ax: where to draw.
        probe: whose rows.
        plane: which one; the first that the rows hold when left out.

    Raises:
        ValueError: if the rows hold no plane, as for a probe without targets.
    """
    check_drawing("plot_plane", rows, ax, probe, plane=plane)
    series = Series(rows, probe)
    plane = plane or next(filter(series.spans, PLANES), None)
    plane = plane or next((one for one in PLANES if series.holds(one.across)), PLANES[-1])  # for the message below
    layers = [layer for layer in series.layers if len(series.path(layer, plane))]
    if not layers:
        raise ValueError(
            f"the rows hold no {plane.up.key}, so there is no plane: use plot_curves(rows, {plane.across.key!r})."
        )
    ax = ax or _new_axes()
    styles = layer_styles(series.layers)
    for layer in layers:
        _draw_path(ax, series, layer, plane, styles[layer])
    if plane.limits:
        ax.margins(0.15)
        ax.autoscale_view()
        _draw_limits(ax, series, plane)
    else:
        ax.axvline(0, color="0.6", linewidth=1, zorder=-2)
        ax.axhline(0, color="0.6", linewidth=1, zorder=-2)
        points = np.concatenate([series.path(layer, plane) for layer in layers])
        reach = 2 * np.nan_to_num(np.concatenate([series.errors_along(layer, plane) for layer in layers]))
        low = min(-0.05, (points - reach).min() - 0.03)
        high = max(1.05, (points + reach).max() + 0.03)
        ax.set(xlim=(low, high), ylim=(low, high))
        ax.set_title("0: chance, 1: a copy", fontsize="small", loc="right")
    ax.set(xlabel=plane.across.label, ylabel=_upright(plane.up))
    notes = ["layer", "(hollow: first,", "filled: last epoch)"]
    notes += ["cross: shuffled pairs"] if plane.across.shuffled and series.holds(plane.across.chance) else []
    _legend(ax, "\n".join(notes))
    return ax


def plot_curves(
    rows: Sequence[Row], quantity: Quantity | str = AMI_XT, ax: Axes | None = None, probe: str = ""
) -> Axes:
    """One quantity over epochs, a line a layer, with its band; dotted, of the same colour, that of shuffled pairs.

    Stretches where a layer is saturated, so that bits mean nothing, are hatched. A line is broken where the layer has
    no value.

    Raises:
        ValueError: if the rows do not hold the quantity.
    """
    check_drawing("plot_curves", rows, ax, probe, quantity=quantity)
    series = Series(rows, probe)
    quantity = _named(quantity)
    layers = series.layers_with(quantity)
    ax = ax or _new_axes()
    styles = layer_styles(series.layers)
    hatch = 0.02 * max(map(abs, series.values_of(quantity)), default=1.0)
    for layer in layers:
        colour, marker = styles[layer]
        x, y = series.curve(layer, quantity)
        every = max(1, len(x) // 20)
        ax.plot(x, y, marker + "-", color=colour, label=layer_label(layer), markersize=3.5, markevery=every)
        _band(ax, x, y, [series.at(layer, quantity.error, moment) for moment in series.moments_of(quantity)], colour)
        if quantity.shuffled:
            ax.plot(*series.curve(layer, quantity.chance), ":", color=colour)
        for start, stop in series.saturated(layer):
            part = np.unique([*np.clip(x, start, stop), start, stop])
            ribbon = np.interp(part, x, y)
            ax.fill_between(
                part, ribbon - hatch, ribbon + hatch, facecolor="none", edgecolor=colour, hatch="//////", linewidth=0
            )
    _frame(ax, quantity)
    ax.set(xlabel="step" if series.by_step else "finished epochs")
    ax.locator_params(axis="x", integer=True)
    notes = ["dotted: shuffled pairs"] if _has_chance(series, quantity) else []
    notes += ["hatched: saturated"] if any(series.saturated(layer) for layer in layers) else []
    _legend(ax, "\n".join(["layer", *notes]))
    return ax


def plot_depth(rows: Sequence[Row], quantity: Quantity | str = AMI_XT, ax: Axes | None = None, probe: str = "") -> Axes:
    """One quantity against depth, at the first, the last and up to three moments between; shuffled pairs dotted.

    Error signals come from the right.

    Raises:
        ValueError: if the rows do not hold the quantity.
    """
    check_drawing("plot_depth", rows, ax, probe, quantity=quantity)
    series = Series(rows, probe)
    quantity = _named(quantity)
    layers = series.layers_with(quantity)
    moments = series.moments_of(quantity)
    ax = ax or _new_axes()
    chosen = sorted({moments[round(i * (len(moments) - 1) / 4)] for i in range(5)})
    for moment, colour in zip(chosen, _shades(len(chosen)), strict=True):
        values = np.array([series.at(layer, quantity, moment) for layer in layers])
        ax.plot(range(len(layers)), values, "o-", color=colour, label=series.moment_label(moment), markersize=4)
        errors = [series.at(layer, quantity.error, moment) for layer in layers]
        _band(ax, np.arange(len(layers)), values, errors, colour)
        if quantity.shuffled:
            chance = [series.at(layer, quantity.chance, moment) for layer in layers]
            ax.plot(range(len(layers)), chance, ":", color=colour)
    _layer_ticks(ax, layers)
    _frame(ax, quantity)
    _legend(ax, "dotted: shuffled pairs" if _has_chance(series, quantity) else "")
    return ax


def plot_gaps(
    rows: Sequence[Row], quantity: Quantity | str = DPI_AMI_XT, ax: Axes | None = None, probe: str = ""
) -> Axes:
    """Gaps between layers, pair by epoch: outlined where the second layer clearly has more, hatched where undecided.

    Clearly: by more than 0.01, and significantly after Holm's correction over the pairs of the moment.

    Raises:
        ValueError: if the rows do not hold the quantity.
    """
    check_drawing("plot_gaps", rows, ax, probe, quantity=quantity)
    series = Series(rows, probe)
    quantity = _named(quantity)
    pairs = series.places_with(quantity)
    moments = series.moments_of(quantity)
    ax = ax or _new_axes()
    gaps = np.array([[series.at(pair, quantity, moment) for moment in moments] for pair in pairs])
    decided = [series.changes(quantity, moment) for moment in moments]
    kinds = np.array([[one.get(pair, Change.UNDECIDED).value for one in decided] for pair in pairs])
    reach = max(map(abs, series.values_of(quantity)), default=0.0) or 1.0
    image = ax.imshow(gaps, "PuOr", aspect="auto", interpolation="nearest", vmin=-reach, vmax=reach)
    _hatch(ax, (kinds == Change.UNDECIDED.value) & np.isfinite(gaps))
    _outline(ax, kinds == Change.INCREASE.value)
    bar = ax.figure.colorbar(image, ax=ax)
    bar.set_label(quantity.plain_label, fontsize="small")
    apart = next(step for step in (1, 2, 5, 10, 20, 50, 100, len(moments)) if len(moments) <= 8 * step or step > 100)
    ax.set_xticks(range(0, len(moments), apart), [str(at[series.by_step]) for at in moments[::apart]])
    every = -(-len(pairs) // _MOST_NAMES)
    ax.set_yticks(range(0, len(pairs), every), [_pair_label(pair) for pair in pairs[::every]], fontsize="small")
    ax.set_xlabel("step" if series.by_step else "finished epochs")
    ax.set_title("outlined: an increase; hatched: undecided", fontsize="small", loc="right")
    return ax


def plot_redundancy(rows: Sequence[Row], ax: Axes | None = None, probe: str = "") -> Axes:
    """How a layer's feature maps share information about the input, pair by pair: now (filled) and at first (hollow).

    Redundancy minus synergy: above zero, two maps mostly say the same; below, they say more together than alone.
    Non-redundant: what a pair knows beyond what both say. Bars are two standard errors, where pairs were sampled.

    Raises:
        ValueError: if the rows do not hold these quantities.
    """
    check_drawing("plot_redundancy", rows, ax, probe)
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
    ax.set_ylabel("information about the input beyond chance\nin pairs of feature maps (bits)")
    _legend(ax, f"filled: {series.moment_label(moments[-1])},\nhollow: {series.moment_label(moments[0])}")
    return ax


def layer_styles(layers: Sequence[str]) -> dict[str, tuple[Any, str]]:
    """Colour and marker of each layer, by its depth; neighbours differ in both."""
    colours = _scale("viridis", len(layers), 0.0, 0.85)  # the palest end is left out
    return {layer: (colours[i], _MARKERS[i % len(_MARKERS)]) for i, layer in enumerate(layers)}


def layer_label(name: str) -> str:
    """A name as a picture shows it: no mathematics, never hidden for its underscore, its middle left out if long."""
    name = "".join(letter if letter.isprintable() else "\ufffd" for letter in name)
    if len(name) > _LONGEST_NAME:
        name = f"{name[: _LONGEST_NAME // 2 - 1]}…{name[-_LONGEST_NAME // 2 :]}"
    return name.replace("$", r"\$") if name[:1] != "_" else " " + name.replace("$", r"\$")


def _draw_path(ax: Axes, series: Series, layer: str, plane: Plane, style: tuple[Any, str]) -> None:
    """A layer's way through the plane, with the errors of its first and its last point."""
    from matplotlib.collections import LineCollection

    colour, marker = style
    points = series.path(layer, plane)
    errors = 2 * series.errors_along(layer, plane)
    fading = np.linspace(0.35, 1, max(1, len(points) - 1))  # paler at first: the direction of time
    ax.add_collection(LineCollection(list(pairwise(points)), colors=colour, alpha=fading, linewidths=1.5))
    for end, face in ((0, "white"), (-1, colour)):
        x, y = points[end]
        across, up = np.nan_to_num(errors[end])
        label = layer_label(layer) if end else "_nolegend_"
        ax.errorbar(x, y, up, across, marker, color=colour, markerfacecolor=face, elinewidth=1, label=label)
    if plane.across.shuffled and series.holds(plane.across.chance):
        moment = series.moments_of(plane.across)[-1]
        chance = [series.at(layer, axis.chance, moment) for axis in (plane.across, plane.up)]
        ax.plot(*zip(chance, points[-1], strict=True), ":", color=colour, linewidth=1)
        ax.plot(*chance, "x", color=colour)


def _draw_limits(ax: Axes, series: Series, plane: Plane) -> None:
    """Dashed where they are within the picture, which they must not stretch; in words above it."""
    window = {"xlim": ax.get_xlim(), "ylim": ax.get_ylim()}
    limits = {limit: max(series.values_of(limit), default=np.nan) for limit in plane.limits}
    for draw_line, value in zip((ax.axvline, ax.axhline), limits.values(), strict=True):
        draw_line(value, color="0.4", linestyle="--", linewidth=1)
    ax.set(**window)
    ax.set_title(_limits(limits), fontsize="small", loc="right")


def _band(ax: Axes, x: Any, y: Any, errors: Sequence[float], colour: Any) -> None:  # noqa: ANN401
    """Two standard errors to each side, where they are known."""
    width = 2 * np.nan_to_num(np.array(errors, dtype=float))
    if width.any():
        ax.fill_between(x, y - width, y + width, color=colour, alpha=0.15, linewidth=0)


def _frame(ax: Axes, quantity: Quantity) -> None:
    """Zero is in the picture; for what goes from 0 to 1, so is one."""
    low, high = ax.get_ylim()
    goes_to_one = quantity.independence is not None
    ax.set(ylim=(min(-0.05 if goes_to_one else 0.0, low), max(1.05, high) if goes_to_one else None))
    if goes_to_one:
        ax.axhline(0, color="0.6", linewidth=1, zorder=-2)
    ax.set_ylabel(_upright(quantity))


def _named(quantity: Quantity | str) -> Quantity:
    """A quantity, which may be given by its key."""
    return by_key(quantity) if isinstance(quantity, str) else quantity


def _has_chance(series: Series, quantity: Quantity) -> bool:
    return quantity.shuffled and series.holds(quantity.chance)


def _upright(quantity: Quantity) -> str:
    """A quantity's label beside an axis, in lines that fit."""
    formula = " ".join(part for part in (quantity.symbol, f"({quantity.unit})" if quantity.unit else "") if part)
    return fill(quantity.name, 40) + (f",\n{formula}" if formula else "")


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


def _hatch(ax: Axes, mask: Any) -> None:  # noqa: ANN401
    """Strokes over the cells of a heat map where ``mask`` holds: one shape, for there may be tens of thousands."""
    from matplotlib.patches import PathPatch
    from matplotlib.path import Path

    if not mask.any():
        return
    edges = np.diff(np.pad(mask, ((0, 0), (1, 1))).astype(int))
    rows, starts = np.nonzero(edges > 0)  # a stretch of cells in a row at a time
    left = starts - 0.5
    right = np.nonzero(edges < 0)[1] - 0.5
    low = rows - 0.5
    high = rows + 0.5
    corners = np.stack([(left, low), (right, low), (right, high), (left, high), (left, low)]).transpose(2, 0, 1)
    codes = [Path.MOVETO, Path.LINETO, Path.LINETO, Path.LINETO, Path.CLOSEPOLY]
    shape = Path(corners.reshape(-1, 2), codes * len(rows))
    ax.add_patch(PathPatch(shape, facecolor="none", edgecolor="0.35", hatch="////", linewidth=0))


def _shades(count: int) -> list[Any]:
    """Moments, from pale to dark."""
    return _scale("copper_r", count, 0.0, 1.0)


def _scale(name: str, count: int, start: float, stop: float) -> list[Any]:
    """Colours in order."""
    from matplotlib import colormaps

    return [colormaps[name](value) for value in np.linspace(start, stop, count)]
