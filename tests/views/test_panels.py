"""What is in the pictures, and that people can read it: with two layers or sixteen, in colour or in print."""

import itertools
import math
import time
from collections.abc import Callable
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
from histories import NAMES, assert_legible, history
from matplotlib import colors, pyplot
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure

from lightning_infoplane import Row, outputs
from lightning_infoplane.plots import (
    layer_label,
    layer_styles,
    plot_curves,
    plot_depth,
    plot_gaps,
    plot_plane,
    plot_redundancy,
)
from lightning_infoplane.summary import panels, plot_summary

PLOTS: dict[str, Callable[..., Axes]] = {
    "plane": plot_plane,
    "I_XT": plot_curves,
    "I_TY": partial(plot_curves, quantity="I_TY"),
    "H_T": partial(plot_curves, quantity="H_T"),
    "depth": plot_depth,
    "backward": partial(plot_depth, quantity="I_error"),
    "gaps": plot_gaps,
    "gaps_Y": partial(plot_gaps, quantity="DPI_YT"),
    "gaps_error": partial(plot_gaps, quantity="DPI_error"),
    "redundancy": plot_redundancy,
}
every_plot = pytest.mark.parametrize("plot", PLOTS.values(), ids=PLOTS)


def outlined(ax: Axes) -> int:
    """How many edges of cells are outlined."""
    return sum(len(lines.get_segments()) for lines in ax.collections if isinstance(lines, LineCollection))


@every_plot
@pytest.mark.parametrize("names", ["two", "vgg", "long"])
def test_no_text_overlaps_or_is_cut_off(plot: Callable[..., Axes], names: str) -> None:
    if names == "two" and plot in (PLOTS["backward"], PLOTS["gaps_error"]):
        pytest.skip("two layers have one error signal to compare with, and no pair")
    assert_legible(plot(history(NAMES[names])).figure)


@pytest.mark.parametrize("plot", [plot_plane, plot_curves, plot_depth, plot_redundancy])
def test_a_single_layer_is_legible_too(plot: Callable[..., Axes]) -> None:
    assert_legible(plot(history(NAMES["one"], errors=False)).figure)


@pytest.mark.parametrize("names", NAMES)
def test_the_page_of_everything_is_legible(names: str) -> None:
    figure = plot_summary(history(NAMES[names], errors=len(NAMES[names]) > 2))
    assert isinstance(figure, Figure)
    assert_legible(figure)


def test_the_page_shows_what_there_is_and_no_more() -> None:
    everything = panels(history(NAMES["vgg"]))
    assert len(everything) == 11
    little = panels(history(NAMES["vgg"], targets=False, errors=False, redundancy=False))
    assert {title for title in little if "Y" in title or "plane" in title or "Error" in title} == set()
    with pytest.raises(ValueError, match="nothing to draw: no I_XT of the probe 'train'"):
        panels(history(NAMES["vgg"]), "train")


def test_a_layer_has_one_colour_and_marker_everywhere() -> None:
    rows = history(NAMES["vgg"])
    styles = layer_styles(NAMES["vgg"])
    only_some = [row for row in rows if row.quantity != "H_X" and (row.quantity, row.layer) != ("I_TY", "features.0")]
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
    rows = history(["a", "b"])
    at = {tuple(line.get_xdata()) for line in plot_plane(rows).lines}
    assert (4.2, 4.2) in at
    assert (9.0, 9.0) in at
    assert "H(X) = 4.20, H(Y) = 3.32, log2 n = 9.00" in plot_plane(rows).get_title("right")


def test_a_saturated_stretch_is_hatched_and_said_so() -> None:
    ax = plot_curves(history(["a", "b"]))
    assert [one.get_hatch() for one in ax.collections if one.get_hatch()]
    assert "hatched: saturated" in ax.get_legend().get_title().get_text()
    (ribbon,) = [one for one in ax.collections if one.get_hatch()]
    across = ribbon.get_paths()[0].vertices[:, 0]
    assert (across.min(), across.max()) == (0, 3.5)  # half way from the last saturated epoch, 3, to the next
    free = [row for row in history(["a", "b"]) if row.quantity != "log2_n"]
    assert not [one for one in plot_curves(free).collections if one.get_hatch()]


def test_a_single_saturated_measurement_is_hatched() -> None:
    ax = plot_curves(history(["a", "b"], epochs=[0]))
    assert [one for one in ax.collections if one.get_hatch()]


@pytest.mark.parametrize(
    ("gap", "stderr", "edges"), [(-0.01, None, 4), (-0.01, 0.03, 0), (-0.1, 0.03, 4), (0.1, None, 0)]
)
def test_gaps_below_zero_are_outlined_when_it_is_sure(gap: float, stderr: float | None, edges: int) -> None:
    rows = [Row(0, 0, "a-to-b", "DPI_XT", gap), Row(1, 1, "a-to-b", "DPI_XT", 1.0)]
    if stderr is not None:
        rows += [Row(0, 0, "a-to-b", "DPI_XT_stderr", stderr), Row(1, 1, "a-to-b", "DPI_XT_stderr", stderr)]
    assert outlined(plot_gaps(rows)) == edges


def test_neighbouring_violations_share_one_outline() -> None:
    rows = [Row(epoch, epoch, "a-to-b", "DPI_XT", -1.0) for epoch in range(3)]
    assert outlined(plot_gaps(rows)) == 8


def test_a_gap_without_a_value_is_left_white() -> None:
    rows = [
        Row(0, 0, "a-to-b", "DPI_XT", 1.0),
        Row(1, 1, "b-to-c", "DPI_XT", math.nan),
        Row(1, 1, "a-to-b", "DPI_XT", 0),
    ]
    assert_legible(plot_gaps(rows).figure)


@pytest.mark.parametrize("name", ["_private.conv", "cost_$x$_conv", "conv<b>", "x" * 200, "ünï.cödé", "a\\b"])
def test_odd_names_are_shown_not_hidden_nor_typeset(name: str) -> None:
    ax = plot_curves(history([name, "conv"]))
    assert_legible(ax.figure)
    shown = ax.get_legend().get_texts()[0].get_text()
    assert shown.strip().replace("\\$", "$")[:5] == name[:5]
    assert len(layer_label(name)) <= 40


def test_values_that_are_not_finite_break_no_picture() -> None:
    rows = [row._replace(value=math.nan) if row.epoch == 2 and row.layer == "b" else row for row in history(["a", "b"])]
    for plot in (plot_plane, plot_curves, plot_depth, plot_gaps, plot_redundancy):
        assert_legible(plot(rows).figure)


def test_negative_values_are_in_the_picture() -> None:
    rows = [Row(e, e, "a", q, v) for e in range(3) for q, v in (("H_T", 1.0), ("I_XT", -0.5))]
    assert plot_curves(rows).get_ylim()[0] < -0.5
    assert plot_depth(rows).get_ylim()[0] < -0.5


def test_all_pictures_of_an_epoch_are_quick_and_none_stays_open(tmp_path: object) -> None:
    """The figure that counts is in benchmarks/figures.py; this is a bound that a busy machine keeps too."""
    rows = history(NAMES["vgg"], range(101))
    start = time.process_time()
    outputs.draw([], tmp_path, "infoplane", rows, {"": SimpleNamespace(targets=1)}, 0)  # type: ignore[arg-type,dict-item]
    assert time.process_time() - start < 3
    assert pyplot.get_fignums() == []


def test_the_check_of_legibility_sees_what_is_wrong() -> None:
    ax = plot_curves(history(NAMES["two"]))
    assert_legible(ax.figure)
    ax.set_title("left " * 6, loc="left")
    ax.set_title("right " * 6, loc="right")
    with pytest.raises(AssertionError, match="touching"):
        assert_legible(ax.figure)
    cut = plot_curves(history(NAMES["two"]))
    cut.set_ylabel("far too long a label " * 5)
    with pytest.raises(AssertionError, match="cut"):
        assert_legible(cut.figure)
