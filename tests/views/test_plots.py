"""Pictures from rows: every function takes rows and perhaps axes, and returns the axes; and people can read them.

With two layers or sixteen, in colour or in print.
"""

import itertools
import math
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import histories
import numpy as np
import pytest
from histories import NAMES, assert_legible
from matplotlib import colors, pyplot
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from networks import callback, fit, images

from lightning_infoplane import Row, plot_curves, plot_depth, plot_gaps, plot_plane, plot_redundancy
from lightning_infoplane.measurement.quantities import DPI_XT, H_T, by_key
from lightning_infoplane.measurement.rows import Pair
from lightning_infoplane.views.plots import layer_label, layer_styles

PLOTS = {"plane": plot_plane, "curves": plot_curves, "depth": plot_depth}
every_plot = pytest.mark.parametrize("plot", PLOTS.values(), ids=PLOTS)
# With everything that they can show.
FULL: dict[str, Callable[..., Axes]] = {
    "plane": plot_plane,
    "I_XT": plot_curves,
    "I_TY": partial(plot_curves, quantity="I_TY"),
    "H_T": partial(plot_curves, quantity="H_T"),
    "depth": plot_depth,
    "backward": partial(plot_depth, quantity="I_error"),
    "gaps": plot_gaps,
    "gaps_Y": partial(plot_gaps, quantity="DPI_TY"),
    "gaps_error": partial(plot_gaps, quantity="DPI_error"),
    "redundancy": plot_redundancy,
}
PAIR = Pair("a", "b")


def history(layers: int = 2, epochs: int = 4, probe: str = "", targets: bool = True, every: int = 1) -> list[Row]:
    """A made-up run: information falls with depth and rises with time."""
    rows = []
    for epoch in range(epochs):
        at = (epoch, every * epoch, probe)
        rows += [Row(*at, "", name, value) for name, value in (("H_X", 6.0), ("log2_n", 7.0))]
        rows += [Row(*at, "", "H_Y", 2.0)] * targets
        for layer in range(layers):
            told = 5.0 - 4.0 * layer / layers + 0.1 * epoch
            values = {"H_T": told + 0.5, "I_XT": told, "I_XT_chance": 0.2, "bandwidth": 1.0}
            values |= {"I_TY": told / 3, "I_TY_chance": 0.1} if targets else {}
            rows += [Row(*at, f"conv{layer}", name, value) for name, value in values.items()]
    return rows


def texts(ax: Axes) -> set[str]:
    """The entries of the legend, inside the axes or beside them."""
    legends = [*ax.get_figure().legends, *([ax.get_legend()] if ax.get_legend() else [])]
    return {text.get_text() for legend in legends for text in legend.get_texts()}


def draw(ax: Axes) -> Axes:
    """Render it: most mistakes of matplotlib show only then."""
    ax.figure.canvas.draw()
    return ax


@every_plot
@pytest.mark.parametrize("layers", [1, 2, 16])
@pytest.mark.parametrize("epochs", [1, 5, 40])
def test_any_number_of_layers_and_moments(plot: Callable[..., Axes], layers: int, epochs: int) -> None:
    ax = draw(plot(history(layers, epochs)))
    assert isinstance(ax, Axes)
    assert "bits" in ax.get_ylabel()
    if plot is not plot_depth:
        assert {f"conv{layer}" for layer in range(layers)} <= texts(ax)


@every_plot
def test_given_axes_are_drawn_on_and_returned(plot: Callable[..., Axes]) -> None:
    ax = Figure().subplots()
    assert plot(history(), ax=ax) is ax
    assert ax.lines


@every_plot
def test_pyplot_never_hears_of_it(plot: Callable[..., Axes]) -> None:
    plot(history())
    assert pyplot.get_fignums() == []


@every_plot
def test_of_several_probes_one_is_drawn(plot: Callable[..., Axes]) -> None:
    both = history(probe="train") + history(layers=3, probe="val")
    train, val = plot(both, probe="train"), plot(both, probe="val")
    alone = plot(history(layers=3))
    assert len(val.lines) == len(alone.lines)
    assert [list(line.get_ydata()) for line in val.lines] == [list(line.get_ydata()) for line in alone.lines]
    assert len(train.lines) <= len(val.lines)


@every_plot
def test_rows_of_a_probe_that_is_not_there(plot: Callable[..., Axes]) -> None:
    with pytest.raises(ValueError, match=r"the rows hold no '?I_"):
        plot(history(), probe="test")


@pytest.mark.parametrize("plot", [plot_curves, plot_depth])
def test_a_quantity_that_was_not_measured_lists_those_that_were(plot: Callable[..., Axes]) -> None:
    with pytest.raises(ValueError, match=r"the rows hold no 'I_error'\. They hold .*I_XT"):
        plot(history(), "I_error")


@pytest.mark.parametrize("plot", [plot_curves, plot_depth, plot_gaps])
def test_an_unknown_quantity_lists_all_there_are(plot: Callable[..., Axes]) -> None:
    with pytest.raises(ValueError, match=r"'I_XZ' is no quantity\. There are I_XT, I_TY, H_T, .*bandwidth_error\."):
        plot(history(), "I_XZ")


@pytest.mark.parametrize(("plot", "key"), [(plot_curves, "H_T"), (plot_depth, "I_TY"), (plot_gaps, "DPI_TY")])
def test_a_quantity_may_be_given_by_its_key_or_as_itself(plot: Callable[..., Axes], key: str) -> None:
    rows = histories.history(["a", "b"])
    by_name, as_itself = plot(rows, key), plot(rows, by_key(key))
    assert by_name.get_ylabel() == as_itself.get_ylabel()
    assert [list(line.get_ydata()) for line in by_name.lines] == [list(line.get_ydata()) for line in as_itself.lines]
    assert [one.get_array().tolist() for one in by_name.images] == [
        one.get_array().tolist() for one in as_itself.images
    ]


def test_axes_and_bars_are_labelled_from_the_table_of_quantities() -> None:
    rows = histories.history(["a", "b"])
    assert plot_plane(rows).get_xlabel() == "information about the input, I(X;T) (bits)"
    assert plot_plane(rows).get_ylabel() == "information about the target,\nI(T;Y) (bits)"
    assert plot_curves(rows, H_T).get_ylabel() == "entropy,\nH(T) (bits)"
    bar = plot_gaps(rows, DPI_XT).images[0].colorbar
    assert bar.ax.get_ylabel() == "information about the input lost (bits)"


@pytest.mark.parametrize("plot", [plot_curves, plot_depth])
def test_without_targets_there_are_curves_and_depth(plot: Callable[..., Axes]) -> None:
    assert draw(plot(history(targets=False))).lines


def test_without_targets_there_is_no_plane() -> None:
    with pytest.raises(ValueError, match="no I_TY, so there is no plane: use plot_curves"):
        plot_plane(history(targets=False))


def test_curves_of_several_moments_within_an_epoch_are_over_steps() -> None:
    assert plot_curves(history()).get_xlabel() != "step"
    within = [row._replace(epoch=0) for row in history(every=10)]
    assert plot_curves(within).get_xlabel() == "step"


def test_a_curve_has_the_values_of_its_rows() -> None:
    drawn = {tuple(line.get_ydata()) for line in plot_curves(history(layers=1), "H_T").lines}
    assert tuple(5.5 + 0.1 * epoch for epoch in range(4)) in drawn


@every_plot
def test_a_layer_that_is_missing_at_times(plot: Callable[..., Axes]) -> None:
    """As after a NaN, or after a resume with other layers."""
    rows = [row for row in history() if (row.epoch, row.place) not in {(1, "conv0"), (3, "conv1")}]
    assert draw(plot(rows)).lines


def test_the_history_of_a_real_run_can_be_drawn(tmp_path: Path) -> None:
    measured = callback(probe=images(48).tensors)
    fit(tmp_path, measured)
    plots: list[Any] = [plot(measured.history) for plot in PLOTS.values()]
    for number, ax in enumerate(plots):
        ax.figure.savefig(tmp_path / f"{number}.png")
        assert (tmp_path / f"{number}.png").stat().st_size > 5000


# ------------------------------------------------------------ what is in them, and that people can read it


def outlined(ax: Axes) -> int:
    """How many edges of cells are outlined."""
    return sum(len(lines.get_segments()) for lines in ax.collections if isinstance(lines, LineCollection))


@pytest.mark.parametrize(
    ("names", "plot"),
    [
        pytest.param(names, plot, id=f"{plot}-{names}")
        for names, plot in itertools.product(("two", "vgg", "long"), FULL)
        if (names, plot) != ("two", "gaps_error")  # the error signal of one layer, and no pair
    ],
)
def test_no_text_overlaps_or_is_cut_off(names: str, plot: str) -> None:
    assert_legible(FULL[plot](histories.history(NAMES[names])).figure)


@pytest.mark.parametrize("plot", [plot_plane, plot_curves, plot_depth, plot_redundancy])
def test_a_single_layer_is_legible_too(plot: Callable[..., Axes]) -> None:
    assert_legible(plot(histories.history(NAMES["one"], errors=False)).figure)


def test_a_layer_has_one_colour_and_marker_everywhere() -> None:
    rows = histories.history(NAMES["vgg"])
    styles = layer_styles(NAMES["vgg"])
    only_some = [row for row in rows if row.quantity != "H_X" and (row.quantity, row.place) != ("I_TY", "features.0")]
    for ax in (plot_curves(rows), plot_curves(rows, "H_T"), plot_curves(only_some, "I_TY")):
        for line in ax.lines:
            if line.get_label() in styles:
                colour, marker = styles[line.get_label()]
                assert colors.same_color(line.get_color(), colour)
                assert line.get_marker() == marker
    (last,) = [line for line in plot_plane(rows).lines if line.get_label() == "features.40"]
    assert colors.same_color(last.get_color(), styles["features.40"][0])


def test_layers_and_moments_keep_their_order_in_print() -> None:
    """Without colour there is still lightness, one way only, and no colour is lost on white paper."""
    for styles in (layer_styles(NAMES["long"]), layer_styles(NAMES["two"])):
        lightness = [float(np.dot(colors.to_rgb(colour), (0.299, 0.587, 0.114))) for colour, _ in styles.values()]
        assert lightness == sorted(lightness)
        assert lightness[-1] < 0.8
    markers = [marker for _, marker in layer_styles(NAMES["long"]).values()]
    assert all(a != b for a, b in itertools.pairwise(markers))


def test_limits_are_drawn_where_the_paths_are() -> None:
    rows = histories.history(["a", "b"])
    at = {tuple(line.get_xdata()) for line in plot_plane(rows).lines}
    assert (4.2, 4.2) in at
    assert (9.0, 9.0) in at
    assert "H(X) = 4.20, H(Y) = 3.32, log2 n = 9.00" in plot_plane(rows).get_title("right")


def test_a_saturated_stretch_is_hatched_and_said_so() -> None:
    ax = plot_curves(histories.history(["a", "b"]))
    assert [one.get_hatch() for one in ax.collections if one.get_hatch()]
    assert "hatched: saturated" in ax.get_legend().get_title().get_text()
    (ribbon,) = [one for one in ax.collections if one.get_hatch()]
    across = ribbon.get_paths()[0].vertices[:, 0]
    assert (across.min(), across.max()) == (0, 3.5)  # half way from the last saturated epoch, 3, to the next
    free = [row for row in histories.history(["a", "b"]) if row.quantity != "log2_n"]
    assert not [one for one in plot_curves(free).collections if one.get_hatch()]


def test_a_single_saturated_measurement_is_hatched() -> None:
    ax = plot_curves(histories.history(["a", "b"], epochs=[0]))
    assert [one for one in ax.collections if one.get_hatch()]


@pytest.mark.parametrize(
    ("gap", "stderr", "edges"),
    [(-0.01, None, 4), (-0.01, 0.03, 0), (-0.1, 0.03, 4), (0.1, None, 0), (-1e-5, None, 0), (-1e-5, 0.0, 0)],
)
def test_gaps_below_zero_are_outlined_when_it_is_sure(gap: float, stderr: float | None, edges: int) -> None:
    rows = [Row(0, 0, "", PAIR, "DPI_XT", gap), Row(1, 1, "", PAIR, "DPI_XT", 1.0)]
    if stderr is not None:
        rows += [Row(epoch, epoch, "", PAIR, "DPI_XT_stderr", stderr) for epoch in range(2)]
    assert outlined(plot_gaps(rows)) == edges


def test_neighbouring_violations_share_one_outline() -> None:
    rows = [Row(epoch, epoch, "", PAIR, "DPI_XT", -1.0) for epoch in range(3)]
    assert outlined(plot_gaps(rows)) == 8


@pytest.mark.parametrize(
    ("first", "second", "shown"),
    [
        ("conv1", "conv2", "conv1 → conv2"),
        ("encoder.layer1.0", "encoder.layer1.1", "encoder.layer1.0 → …1"),
        ("a-to-b", "c", "a-to-b → c"),  # a pair holds two names, whatever is in them
    ],
)
def test_a_row_of_the_gaps_names_both_layers(first: str, second: str, shown: str) -> None:
    ax = plot_gaps([Row(0, 0, "", Pair(first, second), "DPI_XT", 1.0)])
    assert [label.get_text() for label in ax.get_yticklabels()] == [shown]


def test_a_gap_without_a_value_is_left_white() -> None:
    rows = [
        Row(0, 0, "", PAIR, "DPI_XT", 1.0),
        Row(1, 1, "", Pair("b", "c"), "DPI_XT", math.nan),
        Row(1, 1, "", PAIR, "DPI_XT", 0),
    ]
    assert_legible(plot_gaps(rows).figure)


@pytest.mark.parametrize("name", ["_private.conv", "cost_$x$_conv", "conv<b>", "x" * 200, "ünï.cödé", "a\\b"])
def test_odd_names_are_shown_not_hidden_nor_typeset(name: str) -> None:
    ax = plot_curves(histories.history([name, "conv"]))
    assert_legible(ax.figure)
    shown = ax.get_legend().get_texts()[0].get_text()
    assert shown.strip().replace("\\$", "$")[:5] == name[:5]
    assert len(layer_label(name)) <= 40


def test_values_that_are_not_finite_break_no_picture() -> None:
    rows = [
        row._replace(value=math.nan) if row.epoch == 2 and row.place == "b" else row
        for row in histories.history(["a", "b"])
    ]
    for plot in (plot_plane, plot_curves, plot_depth, plot_gaps, plot_redundancy):
        assert_legible(plot(rows).figure)


def test_negative_values_are_in_the_picture() -> None:
    rows = [Row(e, e, "", "a", q, v) for e in range(3) for q, v in (("H_T", 1.0), ("I_XT", -0.5))]
    assert plot_curves(rows).get_ylim()[0] < -0.5
    assert plot_depth(rows).get_ylim()[0] < -0.5
