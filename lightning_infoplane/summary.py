"""All that a run's rows hold, as pictures in one order: for one page, and for the report."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from lightning_infoplane.plane import Row
from lightning_infoplane.plots import plot_curves, plot_depth, plot_gaps, plot_plane, plot_redundancy
from lightning_infoplane.tables import Table

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["panels", "plot_summary"]


def panels(rows: Sequence[Row], probe: str = "") -> dict[str, partial[Axes]]:
    """Every picture that these rows allow, by title, to be called with ``ax=`` or without anything.

    Raises:
        ValueError: if they allow none.
    """
    found = {quantity for _, quantity in Table(rows, probe).series}
    pictures: list[tuple[str, str, Any]] = [
        ("I_TY", "Information plane", plot_plane),
        ("I_XT", "I(X;T) while training", partial(plot_curves, quantity="I_XT")),
        ("I_TY", "I(T;Y) while training", partial(plot_curves, quantity="I_TY")),
        ("I_XT", "I(X;T) along the layers", partial(plot_depth, quantity="I_XT")),
        ("I_TY", "I(T;Y) along the layers", partial(plot_depth, quantity="I_TY")),
        ("H_T", "H(T) while training", partial(plot_curves, quantity="H_T")),
        ("DPI_XT", "I(X;T) lost from layer to layer", partial(plot_gaps, quantity="DPI_XT")),
        ("DPI_YT", "I(T;Y) lost from layer to layer", partial(plot_gaps, quantity="DPI_YT")),
        ("I_error", "Error signals along the layers", partial(plot_depth, quantity="I_error")),
        ("DPI_error", "Error signals lost from layer to layer", partial(plot_gaps, quantity="DPI_error")),
        ("redundancy_synergy", "What feature maps share", plot_redundancy),
    ]
    if "I_XT" not in found:
        raise ValueError(f"there is nothing to draw: no I_XT{probe and f' of the probe {probe!r}'} in these rows.")
    return {title: partial(plot, rows, probe=probe) for needed, title, plot in pictures if needed in found}


def plot_summary(rows: Sequence[Row], probe: str = "") -> Figure:
    """One page of all that the rows hold; the layers' colours are explained once, at the foot of the page.

    Raises:
        ValueError: if they hold nothing to draw.
    """
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    drawn = panels(rows, probe)
    columns = min(3, len(drawn))
    lines, layers = -(-len(drawn) // columns), len(Table(rows, probe).layers)
    foot = 0.7 + 0.07 * layers
    with rc_context({"font.size": 9, "figure.constrained_layout.w_pad": 0.1, "figure.constrained_layout.h_pad": 0.07}):
        figure = Figure(figsize=(5.6 * columns, 4.2 * lines + foot), layout="constrained")
        page, bottom = figure.subfigures(2, 1, squeeze=False, height_ratios=[4.2 * lines, foot]).flat
        # A picture in a box of its own is not narrowed by its neighbours' labels.
        boxes = page.subfigures(lines, columns, squeeze=False, wspace=0.03, hspace=0.03).flat
        entries: dict[str, Any] = {}
        for box, (title, plot) in zip(boxes, drawn.items(), strict=False):
            box.suptitle(title, fontsize="large", fontweight="bold")
            ax = plot(ax=box.subplots())
            if plot.func in (plot_plane, plot_curves) and (legend := ax.get_legend()):
                handles, labels = ax.get_legend_handles_labels()
                entries = {**dict(zip(labels, handles, strict=True)), **entries}
                legend.remove()
        bottom.legend(
            list(entries.values()),
            list(entries),
            loc="center",
            ncols=min(len(entries), max(1, int(5.6 * columns / (0.08 * max(map(len, entries)) + 0.7)))),
            title="layer (in the plane hollow: first, filled: last epoch; dotted: shuffled pairs; hatched: saturated)",
            title_fontsize="small",
        )
    return figure
