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
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import LineCollection, PolyCollection
from matplotlib.container import ErrorbarContainer
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from networks import callback, fit, images

from lightning_infoplane import Row, plot_curves, plot_depth, plot_gaps, plot_plane, plot_redundancy
from lightning_infoplane.measurement.quantities import AMI_XT, DPI_AMI_XT, DPI_XT, H_T, PLANES, by_key
from lightning_infoplane.measurement.rows import Pair
from lightning_infoplane.views.plots import layer_label, layer_styles

PLOTS = {"plane": plot_plane, "curves": plot_curves, "depth": plot_depth}
every_plot = pytest.mark.parametrize("plot", PLOTS.values(), ids=PLOTS)
# With everything that they can show.
ADJUSTED, BITS = PLANES
FULL: dict[str, Callable[..., Axes]] = {
    "plane": plot_plane,
    "plane_in_bits": partial(plot_plane, plane=BITS),
    "AMI_XT": plot_curves,
    "AMI_TY": partial(plot_curves, quantity="AMI_TY"),
    "I_XT": partial(plot_curves, quantity="I_XT"),
    "I_TY": partial(plot_curves, quantity="I_TY"),
    "H_T": partial(plot_curves, quantity="H_T"),
    "depth": plot_depth,
    "depth_Y": partial(plot_depth, quantity="AMI_TY"),
    "depth_in_bits": partial(plot_depth, quantity="I_XT"),
    "backward": partial(plot_depth, quantity="AMI_error"),
    "gaps": plot_gaps,
    "gaps_Y": partial(plot_gaps, quantity="DPI_AMI_TY"),
    "gaps_in_bits": partial(plot_gaps, quantity="DPI_XT"),
    "gaps_error": partial(plot_gaps, quantity="DPI_AMI_error"),
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
            values |= {"AMI_XT": told / 10, "AMI_XT_stderr": 0.02}
            values |= {"I_TY": told / 3, "I_TY_chance": 0.1, "AMI_TY": told / 15} if targets else {}
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
    assert "adjusted information" in ax.get_ylabel()
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
    with pytest.raises(ValueError, match=r"the rows hold no '?A?M?I_"):
        plot(history(), probe="test")


@pytest.mark.parametrize("plot", [plot_curves, plot_depth])
def test_a_quantity_that_was_not_measured_lists_those_that_were(plot: Callable[..., Axes]) -> None:
    with pytest.raises(ValueError, match=r"the rows hold no 'I_error'\. They hold .*I_XT"):
        plot(history(), "I_error")


@pytest.mark.parametrize("plot", [plot_curves, plot_depth, plot_gaps])
def test_an_unknown_quantity_lists_all_there_are(plot: Callable[..., Axes]) -> None:
    with pytest.raises(ValueError, match=r"'I_XZ' is no quantity\. There are AMI_XT, AMI_TY, .*bandwidth_error\."):
        plot(history(), "I_XZ")


@pytest.mark.parametrize(("plot", "key"), [(plot_curves, "H_T"), (plot_depth, "AMI_TY"), (plot_gaps, "DPI_AMI_TY")])
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
    assert plot_plane(rows).get_xlabel() == "adjusted information about the input, AMI(X;T)"
    assert plot_plane(rows).get_ylabel() == "adjusted information about the target,\nAMI(T;Y)"
    assert plot_plane(rows, plane=BITS).get_xlabel() == "information about the input, I(X;T) (bits)"
    assert plot_plane(rows, plane=BITS).get_ylabel() == "information about the target,\nI(T;Y) (bits)"
    assert plot_curves(rows, H_T).get_ylabel() == "entropy,\nH(T) (bits)"
    bars = {quantity: plot_gaps(rows, quantity).images[0].colorbar.ax for quantity in (DPI_AMI_XT, DPI_XT)}
    assert bars[DPI_AMI_XT].get_ylabel() == "adjusted information about the input lost"
    assert bars[DPI_XT].get_ylabel() == "information about the input lost (bits)"


@pytest.mark.parametrize("plot", [plot_curves, plot_depth])
def test_without_targets_there_are_curves_and_depth(plot: Callable[..., Axes]) -> None:
    assert draw(plot(history(targets=False))).lines


def test_without_targets_there_is_no_plane() -> None:
    with pytest.raises(ValueError, match=r"no AMI_TY, so there is no plane: use plot_curves\(rows, 'AMI_XT'\)"):
        plot_plane(history(targets=False))
    with pytest.raises(ValueError, match=r"no I_TY, so there is no plane: use plot_curves\(rows, 'I_XT'\)"):
        plot_plane(history(targets=False), plane=BITS)


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


@pytest.mark.parametrize("plot", [plot_plane, FULL["plane_in_bits"], plot_curves, plot_depth, plot_redundancy])
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
    for plane in PLANES:
        ax = plot_plane(rows, plane=plane)
        assert list(marks(ax)) == NAMES["vgg"]
        for layer, (_, last) in marks(ax).items():
            assert colors.same_color(last.get_color(), styles[layer][0])
            assert last.get_marker() == styles[layer][1]


def test_layers_and_moments_keep_their_order_in_print() -> None:
    """Without colour there is still lightness, one way only, and no colour is lost on white paper."""
    for styles in (layer_styles(NAMES["long"]), layer_styles(NAMES["two"])):
        lightness = [float(np.dot(colors.to_rgb(colour), (0.299, 0.587, 0.114))) for colour, _ in styles.values()]
        assert lightness == sorted(lightness)
        assert lightness[-1] < 0.8
    markers = [marker for _, marker in layer_styles(NAMES["long"]).values()]
    assert all(a != b for a, b in itertools.pairwise(markers))


# --------------------------------------------------------------------------------------------------- the plane


def marks(ax: Axes) -> dict[str, list[Line2D]]:
    """The marks of each layer's first and last point in a plane, by the layer's name."""
    handles = dict(zip(*reversed(ax.get_legend_handles_labels()), strict=True))
    lasts = {name: handle.lines[0] for name, handle in handles.items() if isinstance(handle, ErrorbarContainer)}
    firsts = [bars.lines[0] for bars in ax.containers if bars.get_label().startswith("_")]
    return {name: [first, last] for first, (name, last) in zip(firsts, lasts.items(), strict=True)}


def bars_of(ax: Axes) -> list[tuple[float, float]]:
    """How far the bars of each mark reach to its sides, and up and down."""
    found = []
    for bars in ax.containers:
        across, up = (lines.get_segments()[0] for lines in bars.lines[2])
        found.append((np.ptp(across[:, 0]) / 2, np.ptp(up[:, 1]) / 2))
    return found


def adjusted(layer: str, *points: tuple[float, float], error: float | None = None) -> list[Row]:
    """A layer's way through the plane."""
    rows = []
    for epoch, point in enumerate(points):
        for key, value in zip(("AMI_XT", "AMI_TY"), point, strict=True):
            rows.append(Row(epoch, epoch, "", layer, key, value))
            rows += [] if error is None else [Row(epoch, epoch, "", layer, f"{key}_stderr", error)]
    return rows


def test_the_axes_of_the_plane_go_from_chance_to_a_copy() -> None:
    ax = plot_plane(adjusted("a", (0.4, 0.5), (0.5, 0.45)))
    for low, high in (ax.get_xlim(), ax.get_ylim()):
        assert -0.1 <= low < 0
        assert 1 < high <= 1.1
    assert ax.get_title("right") == "0: chance, 1: a copy"
    zeros = [line for line in ax.lines if set(line.get_xdata()) == {0} or set(line.get_ydata()) == {0}]
    assert len(zeros) == 2  # where chance is, there is a line


@pytest.mark.parametrize("point", [(1.02, 0.5), (0.5, 1.13), (-0.04, 0.5), (0.5, -0.21), (1.3, -0.3)])
def test_a_value_a_little_beyond_chance_or_a_copy_is_in_the_plane(point: tuple[float, float]) -> None:
    """Adjusted information is never clipped: noise is as often below chance as above."""
    for rows in (adjusted("a", (0.5, 0.5), point), adjusted("a", point, (0.5, 0.5))):
        ax = draw(plot_plane(rows))
        for value, (low, high) in zip(point, (ax.get_xlim(), ax.get_ylim()), strict=True):
            assert low < value < high
        assert ax.get_xlim()[0] < 0
        assert ax.get_xlim()[1] > 1


def test_bars_in_the_plane_are_two_standard_errors() -> None:
    ax = plot_plane(adjusted("a", (0.3, 0.4), (0.5, 0.6), error=0.02))
    assert bars_of(ax) == [pytest.approx((0.04, 0.04))] * 2


def test_bars_are_within_the_plane() -> None:
    ax = plot_plane(adjusted("a", (1.0, 0.02), error=0.05))
    assert ax.get_xlim()[1] >= 1.1
    assert ax.get_ylim()[0] <= -0.08


def test_without_standard_errors_there_are_no_bars() -> None:
    assert bars_of(plot_plane(adjusted("a", (0.3, 0.4), (0.5, 0.6)))) == [(0, 0)] * 2


def test_the_first_mark_is_hollow_and_the_last_is_filled() -> None:
    rows = adjusted("a", (0.3, 0.4), (0.9, 0.9), (0.5, 0.6)) + adjusted("b", (0.1, 0.1), (0.2, 0.2))
    found = marks(plot_plane(rows))
    assert [[(*line.get_xdata(), *line.get_ydata()) for line in pair] for pair in found.values()] == [
        [(0.3, 0.4), (0.5, 0.6)],
        [(0.1, 0.1), (0.2, 0.2)],
    ]
    for first, last in found.values():
        assert colors.same_color(first.get_markerfacecolor(), "white")
        assert colors.same_color(last.get_markerfacecolor(), last.get_color())


def test_the_legend_of_the_plane_explains_its_marks() -> None:
    rows = histories.history(["a", "b"])
    assert plot_plane(rows).get_legend().get_title().get_text() == "layer\n(hollow: first,\nfilled: last epoch)"
    in_bits = plot_plane(rows, plane=BITS).get_legend().get_title().get_text()
    assert in_bits.endswith("\ncross: shuffled pairs")
    no_chance = [row for row in rows if not row.quantity.endswith("_chance")]
    assert "cross" not in plot_plane(no_chance, plane=BITS).get_legend().get_title().get_text()


def test_a_path_goes_through_all_points_in_the_order_of_time() -> None:
    (path,) = [
        one for one in plot_plane(adjusted("a", (0, 0), (0.5, 1), (1, 0))).collections if len(one.get_paths()) == 2
    ]
    assert [segment.tolist() for segment in path.get_segments()] == [[[0, 0], [0.5, 1]], [[0.5, 1], [1, 0]]]
    assert list(path.get_alpha()) == sorted(path.get_alpha())


def test_layers_that_are_not_resolved_are_missing_in_the_plane_and_nowhere_else() -> None:
    rows = [row for row in history(3) if not (row.place == "conv1" and row.quantity.startswith("AMI"))]
    assert list(marks(plot_plane(rows))) == ["conv0", "conv2"]
    assert list(marks(plot_plane(rows, plane=BITS))) == ["conv0", "conv1", "conv2"]


def test_old_rows_give_the_plane_in_bits() -> None:
    """From before there was adjusted information, or without shuffles."""
    rows = histories.history(["a", "b"], adjusted=False)
    ax = plot_plane(rows)
    assert ax.get_xlabel() == "information about the input, I(X;T) (bits)"
    assert_legible(ax.figure)
    with pytest.raises(ValueError, match="no AMI_TY, so there is no plane: use plot_curves"):
        plot_plane(rows, plane=ADJUSTED)


def test_crosses_in_bits_are_the_shuffled_pairs_of_the_last_measurement_in_the_colour_of_their_layer() -> None:
    rows = histories.history(["a", "b"])
    ax = plot_plane(rows, plane=BITS)
    at = {(row.place, row.quantity): row.value for row in rows if row.epoch == 8}
    crosses = [line for line in ax.lines if line.get_marker() == "x"]
    assert [(*line.get_xdata(), *line.get_ydata()) for line in crosses] == [
        (at[layer, "I_XT_chance"], at[layer, "I_TY_chance"]) for layer in "ab"
    ]
    styles = layer_styles(["a", "b"])
    for line, layer in zip(crosses, "ab", strict=True):
        assert colors.same_color(line.get_color(), styles[layer][0])
    ways = [line for line in ax.lines if line.get_linestyle() == ":"]
    for line, layer in zip(ways, "ab", strict=True):  # from the cross to the layer's last mark
        assert list(line.get_xdata()) == [at[layer, "I_XT_chance"], at[layer, "I_XT"]]
        assert list(line.get_ydata()) == [at[layer, "I_TY_chance"], at[layer, "I_TY"]]
    assert not [line for line in plot_plane(rows).lines if line.get_marker() == "x"]  # there chance is zero


def test_limits_are_drawn_where_they_are_within_the_picture_and_said_in_any_case() -> None:
    far = plot_plane(histories.history(["a", "b"]), plane=BITS)
    near = plot_plane(
        [row._replace(value=2.0) if row.quantity == "H_Y" else row for row in histories.history(["a", "b"])], plane=BITS
    )
    assert far.get_title("right") == "limits: H(X) = 4.20, H(Y) = 3.32 bits"
    assert near.get_title("right") == "limits: H(X) = 4.20, H(Y) = 2.00 bits"
    dashed = [line for line in near.lines if line.get_linestyle() == "--"]
    assert [(*line.get_xdata(), *line.get_ydata()) for line in dashed] == [(4.2, 4.2, 0, 1), (0, 1, 2.0, 2.0)]
    assert far.get_ylim()[1] < 3.32  # a far limit does not stretch the picture
    assert not [line for line in plot_plane(histories.history(["a", "b"])).lines if line.get_linestyle() == "--"]


# ------------------------------------------------------------------------------------------- curves and depth


def bands(ax: Axes) -> list[np.ndarray]:
    """The corners of each band, and not of what is hatched."""
    return [
        one.get_paths()[0].vertices for one in ax.collections if isinstance(one, PolyCollection) and not one.get_hatch()
    ]


@pytest.mark.parametrize(
    ("plot", "key", "error"),
    [(plot_curves, "AMI_XT", 0.012), (plot_curves, "H_T", 0.04), (plot_depth, "AMI_TY", 0.012)],
)
def test_bands_are_two_standard_errors_to_each_side(plot: Callable[..., Axes], key: str, error: float) -> None:
    ax = plot(histories.history(["a", "b"]), key)
    lines = [line for line in ax.lines if line.get_marker() not in ("", "None", None)]
    assert len(bands(ax)) == len(lines) > 1
    for line, corners in zip(lines, bands(ax), strict=True):
        y = line.get_ydata()
        assert corners[:, 1].max() == pytest.approx(max(y) + 2 * error)
        assert corners[:, 1].min() == pytest.approx(min(y) - 2 * error)


@pytest.mark.parametrize("plot", [plot_curves, plot_depth])
def test_without_standard_errors_there_are_no_bands(plot: Callable[..., Axes]) -> None:
    assert bands(plot(histories.history(["a", "b"], stderr=False))) == []


def test_a_curve_is_broken_where_the_layer_has_no_value() -> None:
    rows = [
        row
        for row in histories.history(["a", "b"])
        if not (row.place == "a" and row.epoch in (3, 4) and row.quantity.startswith("AMI"))
    ]
    a, b = (line for line in plot_curves(rows).lines if line.get_label() in ("a", "b"))
    assert [int(epoch) for epoch, value in zip(a.get_xdata(), a.get_ydata(), strict=True) if np.isnan(value)] == [3, 4]
    assert not np.isnan(b.get_ydata()).any()
    (_, _, middle, *_) = (line for line in plot_depth(rows).lines if line.get_marker() == "o")
    assert np.isnan(middle.get_ydata()).tolist() == [True, False]
    assert_legible(plot_curves(rows).figure)


@pytest.mark.parametrize("plot", [plot_curves, plot_depth])
def test_what_goes_from_0_to_1_is_drawn_from_0_to_1(plot: Callable[..., Axes]) -> None:
    for rows in (adjusted("a", (0.4, 0.5), (0.5, 0.45)), adjusted("a", (-0.04, 0.5)), adjusted("a", (1.03, 0.5))):
        ax = plot(rows)
        low, high = ax.get_ylim()
        assert -0.2 < low <= -0.05
        assert 1.05 <= high < 1.2
        for line in ax.lines:
            assert low < np.nanmin(line.get_ydata()) <= np.nanmax(line.get_ydata()) < high


@pytest.mark.parametrize("plot", [plot_curves, plot_depth])
def test_shuffled_pairs_are_dotted_where_they_belong_to_the_quantity(plot: Callable[..., Axes]) -> None:
    rows = histories.history(["a", "b"])
    for key, count in (("I_XT", 2 if plot is plot_curves else 5), ("AMI_XT", 0), ("H_T", 0)):
        ax = plot(rows, key)
        assert len([line for line in ax.lines if line.get_linestyle() == ":"]) == count
        assert ("dotted: shuffled pairs" in ax.get_legend().get_title().get_text()) == bool(count)


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


# --------------------------------------------------------------------------------------------------------- gaps


def gap_rows(*gaps: tuple[float, float | None], pair: Pair = PAIR, key: str = "DPI_AMI_XT") -> list[Row]:
    """Gaps of a pair, a measurement each, with their p-values."""
    rows = []
    for epoch, (gap, p) in enumerate(gaps):
        rows.append(Row(epoch, epoch, "", pair, key, gap))
        rows += [] if p is None else [Row(epoch, epoch, "", pair, f"{key}_p", p)]
    return rows


def struck(ax: Axes) -> list[list[bool]]:
    """Which cells of a heat map show strokes once it is drawn: those that are not of one colour inside."""
    canvas = FigureCanvasAgg(ax.figure)
    canvas.draw()
    picture = np.asarray(canvas.buffer_rgba())[::-1].astype(int)
    found = []
    (image,) = ax.images
    for y, x in np.ndindex(image.get_array().shape):
        (left, one), (right, other) = ax.transData.transform([(x - 0.3, y - 0.3), (x + 0.3, y + 0.3)]).round()
        low, high = sorted((int(one), int(other)))
        inside = picture[low:high, int(left) : int(right)]
        found.append(bool(np.ptp(inside, axis=(0, 1)).max() > 20))
    return np.reshape(found, image.get_array().shape).tolist()


@pytest.mark.parametrize(
    ("gap", "p", "edges", "hatched"),
    [
        (-0.2, 0.001, 4, False),  # an increase
        (0.2, 0.001, 0, False),  # a decrease
        (-0.2, 0.2, 0, True),  # not significant
        (0.2, 0.2, 0, True),
        (-0.2, None, 0, True),  # nothing is known of its significance
        (-0.009, 1e-9, 0, True),  # too small to matter
        (0.009, 1e-9, 0, True),
        (0.0, 0.5, 0, True),
    ],
)
def test_increases_are_outlined_and_what_is_undecided_is_hatched(
    gap: float, p: float | None, edges: int, hatched: bool
) -> None:
    ax = plot_gaps(gap_rows((gap, p), (1.0, 1e-9)))
    assert outlined(ax) == edges
    assert struck(ax) == [[hatched, False]]
    assert ax.get_title("right") == "outlined: an increase; hatched: undecided"


def test_a_gap_is_decided_among_those_of_its_moment() -> None:
    """Of two pairs with p = .03 neither is significant; alone each would be."""
    other = Pair("b", "c")
    both = gap_rows((-0.2, 0.03)) + gap_rows((-0.2, 0.03), pair=other)
    assert outlined(plot_gaps(both)) == 0
    assert struck(plot_gaps(both)) == [[True], [True]]
    apart = gap_rows((-0.2, 0.03)) + [row._replace(epoch=1, step=1) for row in gap_rows((-0.2, 0.03), pair=other)]
    assert outlined(plot_gaps(apart)) == 8


def test_neighbouring_increases_share_one_outline() -> None:
    assert outlined(plot_gaps(gap_rows(*[(-1.0, 1e-9)] * 3))) == 8


@pytest.mark.parametrize("key", ["DPI_AMI_XT", "DPI_AMI_TY", "DPI_XT", "DPI_AMI_error"])
def test_gaps_of_every_kind_are_decided_by_one_rule(key: str) -> None:
    ax = plot_gaps(gap_rows((-0.2, 0.001), (-0.2, 0.1), (0.2, 0.001), key=key), key)
    assert outlined(ax) == 4
    assert struck(ax) == [[False, True, False]]


@pytest.mark.parametrize(
    ("first", "second", "shown"),
    [
        ("conv1", "conv2", "conv1 → conv2"),
        ("encoder.layer1.0", "encoder.layer1.1", "encoder.layer1.0 → …1"),
        ("a-to-b", "c", "a-to-b → c"),  # a pair holds two names, whatever is in them
    ],
)
def test_a_row_of_the_gaps_names_both_layers(first: str, second: str, shown: str) -> None:
    ax = plot_gaps([Row(0, 0, "", Pair(first, second), "DPI_AMI_XT", 1.0)])
    assert [label.get_text() for label in ax.get_yticklabels()] == [shown]


def test_a_gap_without_a_value_is_left_white() -> None:
    """Nothing was measured there, so nothing is undecided."""
    rows = gap_rows((1.0, 1e-9), (0.0, 0.5))
    rows += [Row(1, 1, "", Pair("b", "c"), "DPI_AMI_XT", math.nan)]
    ax = plot_gaps(rows)
    assert_legible(ax.figure)
    assert struck(ax) == [[False, True], [False, False]]


# --------------------------------------------------------------------------------------------- odd names and values


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
    rows = [Row(e, e, "", "a", q, v) for e in range(3) for q, v in (("H_T", 1.0), ("I_XT", -0.5), ("AMI_XT", -0.2))]
    for plot in (plot_curves, plot_depth):
        assert plot(rows, "I_XT").get_ylim()[0] < -0.5
        assert plot(rows, AMI_XT).get_ylim()[0] < -0.2
