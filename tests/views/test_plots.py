"""Pictures from rows: every function takes rows and perhaps axes, and returns the axes."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from matplotlib import pyplot
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from networks import callback, fit, images

from lightning_infoplane import Row
from lightning_infoplane.plots import plot_curves, plot_depth, plot_plane

PLOTS = {"plane": plot_plane, "curves": plot_curves, "depth": plot_depth}
every_plot = pytest.mark.parametrize("plot", PLOTS.values(), ids=PLOTS)


def history(layers: int = 2, epochs: int = 4, probe: str = "", targets: bool = True, every: int = 1) -> list[Row]:
    """A made-up run: information falls with depth and rises with time."""
    prefix, rows = f"{probe}/" if probe else "", []
    for epoch in range(epochs):
        at = (epoch, every * epoch)
        rows += [Row(*at, "", f"{prefix}{name}", value) for name, value in (("H_X", 6.0), ("log2_n", 7.0))]
        rows += [Row(*at, "", f"{prefix}H_Y", 2.0)] * targets
        for layer in range(layers):
            told = 5.0 - 4.0 * layer / layers + 0.1 * epoch
            values = {"H_T": told + 0.5, "I_XT": told, "I_XT_chance": 0.2, "bandwidth": 1.0}
            values |= {"I_TY": told / 3, "I_TY_chance": 0.1} if targets else {}
            rows += [Row(*at, f"conv{layer}", prefix + name, value) for name, value in values.items()]
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
def test_an_unknown_quantity_lists_those_there_are(plot: Callable[..., Axes]) -> None:
    with pytest.raises(ValueError, match=r"the rows hold no 'I_XZ'.*They hold .*I_XT"):
        plot(history(), "I_XZ")


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
    rows = [row for row in history() if (row.epoch, row.layer) not in {(1, "conv0"), (3, "conv1")}]
    assert draw(plot(rows)).lines


def test_the_history_of_a_real_run_can_be_drawn(tmp_path: Path) -> None:
    measured = callback(probe=images(48).tensors)
    fit(tmp_path, measured)
    plots: list[Any] = [plot(measured.history) for plot in PLOTS.values()]
    for number, ax in enumerate(plots):
        ax.figure.savefig(tmp_path / f"{number}.png")
        assert (tmp_path / f"{number}.png").stat().st_size > 5000
