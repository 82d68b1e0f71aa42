"""All that a run's rows hold, as pictures in one order: while training, on one page, and in the report."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lightning_infoplane.measurement.quantities import PLANES, QUANTITIES, Plane
from lightning_infoplane.measurement.quantity import Panel, Quantity
from lightning_infoplane.measurement.rows import Row
from lightning_infoplane.views.given import check_drawing
from lightning_infoplane.views.plots import plot_curves, plot_depth, plot_gaps, plot_plane, plot_redundancy
from lightning_infoplane.views.series import Series
from lightning_infoplane.views.thinning import MOST_LAYERS, thinned

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["Picture", "axes_for", "live_pictures", "pictures", "plot_summary"]

# Letters of a title that fit above a picture, whatever the resolution rounds their widths to.
_WIDEST_TITLE = 60
# Layers that a legend of the usual height has room for.
_ROOM = 16
# What all quantities of a kind are drawn in, or what each of them has of its own.
_TOGETHER: dict[Panel, Callable[..., Axes]] = {Panel.MAPS: plot_redundancy}
_EACH: dict[Panel, Callable[..., Axes]] = {
    Panel.CURVES: plot_curves,
    Panel.DEPTH: plot_depth,
    Panel.GAPS: plot_gaps,
}


@dataclass(frozen=True)
class Picture:
    """One picture of a run.

    Args:
        panel: its kind.
        quantity: what it shows, or one of the quantities that it shows.
    """

    panel: Panel
    quantity: Quantity

    @property
    def title(self) -> str:
        """In words."""
        name = self.quantity.name
        return {
            Panel.PLANE: "Information plane in bits" if self.quantity.unit else "Information plane",
            Panel.CURVES: f"{self.quantity.short} while training",
            Panel.DEPTH: f"{self.quantity.short} along the layers",
            Panel.GAPS: f"{name[0].upper()}{name[1:]} from layer to layer",
            Panel.MAPS: "What feature maps share",
        }[self.panel]

    @property
    def plane(self) -> Plane:
        """The plane that its quantity is the height in."""
        return next(plane for plane in PLANES if plane.up is self.quantity)

    def is_possible(self, series: Series) -> bool:
        """Whether there is anything to draw; a plane needs both of its numbers of one layer."""
        if self.panel is Panel.PLANE:
            return series.spans(self.plane)
        return series.holds(self.quantity)

    @property
    def explains_layers(self) -> bool:
        """Whether its legend names the layers by their colours."""
        return self.panel in (Panel.PLANE, Panel.CURVES)

    def draw(self, rows: Sequence[Row], probe: str = "", ax: Axes | None = None) -> Axes:
        """On these axes, or on new ones."""
        if self.panel in _TOGETHER:
            return _TOGETHER[self.panel](rows, ax=ax, probe=probe)
        if self.panel is Panel.PLANE:
            return plot_plane(rows, ax, probe, self.plane)
        return _EACH[self.panel](rows, self.quantity, ax=ax, probe=probe)

    def figure(self, rows: Sequence[Row], probe: str = "") -> Figure:
        """As a figure of its own, of a large network as high as its legend, and of some of its layers."""
        drawn = thinned(rows, probe).rows
        layers = len(Series(drawn, probe).layers)
        ax = axes_for(layers) if layers > _ROOM else None
        figure: Any = self.draw(drawn, probe, ax).figure  # matplotlib's type allows for a part of a figure
        return figure  # type: ignore[no-any-return]


def axes_for(layers: int = 1) -> Axes:
    """As high as a list of so many layers, which would leave no room for the picture otherwise."""
    from matplotlib.figure import Figure

    height = max(4.6, 1.1 + 0.2 * min(layers, MOST_LAYERS))
    return Figure(figsize=(7.2, height), layout="constrained").subplots()


def pictures(rows: Sequence[Row], probe: str = "") -> list[Picture]:
    """Every picture that these rows allow, the plane first.

    Raises:
        ValueError: if they allow none.
    """
    series = Series(rows, probe)
    across = [plane.across for plane in PLANES]
    if not any(series.holds(axis) for axis in across):
        which = f" of the probe {probe!r}" if probe else ""
        raise ValueError(f"there is nothing to draw: no {across[-1].key}{which} in these rows.")
    wanted = _unique(Picture(panel, quantity) for quantity in QUANTITIES for panel in quantity.panels)
    possible = [one for one in wanted if one.is_possible(series)]
    return sorted(possible, key=lambda picture: picture.panel is not Panel.PLANE)


def live_pictures(rows: Sequence[Row], probe: str = "") -> Iterator[tuple[str, Picture]]:
    """The pictures drawn while training, as far as the rows allow, each with the last part of its tag."""
    series = Series(rows, probe)
    used = set[str]()
    for picture in _unique(Picture(panel, quantity) for quantity in QUANTITIES for panel in quantity.live):
        kind = picture.panel.value
        tag = f"{kind}-{picture.quantity.key}" if kind in used else kind
        used.add(kind)
        if picture.is_possible(series):
            yield tag, picture


def _unique(wanted: Iterator[Picture]) -> list[Picture]:
    """Tables are no pictures, and what shows several quantities at once is drawn once."""
    chosen: dict[tuple[Panel, str], Picture] = {}
    for one in wanted:
        if one.panel is not Panel.TABLE:
            chosen.setdefault((one.panel, "" if one.panel in _TOGETHER else one.quantity.key), one)
    return list(chosen.values())


def plot_summary(rows: Sequence[Row], probe: str = "") -> Figure:
    """One page of all that the rows hold; the layers' colours are explained once, at the foot of the page.

    Raises:
        ValueError: if they hold nothing to draw.
    """
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    check_drawing("plot_summary", rows, None, probe)
    rows = thinned(rows, probe).rows
    drawn = pictures(rows, probe)
    columns = min(3, len(drawn))
    lines = -(-len(drawn) // columns)
    layers = len(Series(rows, probe).layers)
    foot = 0.7 + 0.07 * layers
    with rc_context({"font.size": 9, "figure.constrained_layout.w_pad": 0.1, "figure.constrained_layout.h_pad": 0.07}):
        figure = Figure(figsize=(5.6 * columns, 4.2 * lines + foot), layout="constrained")
        page, bottom = figure.subfigures(2, 1, squeeze=False, height_ratios=[4.2 * lines, foot]).flat
        # A picture in a box of its own is not narrowed by its neighbours' labels.
        boxes = page.subfigures(lines, columns, squeeze=False, wspace=0.03, hspace=0.03).flat
        entries: dict[str, Any] = {}
        for box, picture in zip(boxes, drawn, strict=False):
            box.suptitle(textwrap.fill(picture.title, _WIDEST_TITLE), fontsize="large", fontweight="bold")
            ax = picture.draw(rows, probe, box.subplots())
            legend = ax.get_legend()
            if picture.explains_layers and legend is not None:
                handles, labels = ax.get_legend_handles_labels()
                entries = {**dict(zip(labels, handles, strict=True)), **entries}
                legend.remove()
        widest = 0.08 * max(map(len, entries)) + 0.7
        bottom.legend(
            list(entries.values()),
            list(entries),
            loc="center",
            ncols=min(len(entries), max(1, int(5.6 * columns / widest))),
            title="layer (in a plane hollow: first, filled: last epoch; dotted: shuffled pairs; hatched: saturated)",
            title_fontsize="small",
        )
    return figure
