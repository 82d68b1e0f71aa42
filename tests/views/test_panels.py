"""All that the rows hold, as pictures with titles: while training, on one page; and the page can be read."""

import time
from pathlib import Path

import pytest
from histories import NAMES, assert_legible, history
from matplotlib import pyplot
from matplotlib.figure import Figure

from lightning_infoplane import plot_curves, plot_summary
from lightning_infoplane.measurement.quantities import (
    AMI_ERROR,
    AMI_TY,
    AMI_XT,
    DPI_AMI_XT,
    H_T,
    I_TY,
    I_XT,
    PLANES,
    QUANTITIES,
)
from lightning_infoplane.measurement.quantity import Panel
from lightning_infoplane.trainer.loggers import log_figure
from lightning_infoplane.views.panels import Picture, live_pictures, pictures

TITLES = [
    "Information plane",
    "Information plane in bits",
    "AMI(X;T) while training",
    "AMI(X;T) along the layers",
    "AMI(T;Y) while training",
    "AMI(T;Y) along the layers",
    "Adjusted information about the input lost from layer to layer",
    "I(X;T) while training",
    "I(T;Y) while training",
    "H(T) while training",
    "AMI(δₖ;δ) along the layers",
    "Adjusted information about the last error lost from layer to layer",
    "What feature maps share",
]


def test_every_picture_has_a_title_and_the_plane_comes_first() -> None:
    assert [picture.title for picture in pictures(history(NAMES["vgg"]))] == TITLES


def test_there_is_a_picture_for_every_panel_of_the_table_of_quantities() -> None:
    """A plane is one picture of two quantities, and so is that of feature maps; a table is none."""
    drawn = {(picture.panel, picture.quantity) for picture in pictures(history(NAMES["vgg"]))}
    wanted = {(panel, quantity) for quantity in QUANTITIES for panel in quantity.panels if panel is not Panel.TABLE}
    assert drawn <= wanted
    left_out = {(panel, quantity.key) for panel, quantity in wanted - drawn}
    assert left_out == {(Panel.MAPS, "non_redundant")}


def test_only_what_the_rows_hold_is_a_picture() -> None:
    little = pictures(history(NAMES["vgg"], targets=False, errors=False, redundancy=False))
    assert [picture.title for picture in little] == [
        "AMI(X;T) while training",
        "AMI(X;T) along the layers",
        "Adjusted information about the input lost from layer to layer",
        "I(X;T) while training",
        "H(T) while training",
    ]


def test_of_rows_from_before_there_was_adjusted_information_there_is_the_plane_in_bits() -> None:
    old = pictures(history(NAMES["vgg"], adjusted=False))
    assert [picture.title for picture in old] == [
        "Information plane in bits",
        "I(X;T) while training",
        "I(T;Y) while training",
        "H(T) while training",
        "What feature maps share",
    ]
    for picture in old:
        assert_legible(picture.figure(history(NAMES["vgg"], adjusted=False)))


def test_a_plane_is_the_one_that_its_quantity_is_the_height_in() -> None:
    assert Picture(Panel.PLANE, AMI_TY).plane is PLANES[0]
    assert Picture(Panel.PLANE, I_TY).plane is PLANES[1]
    rows = history(["a", "b"])
    assert Picture(Panel.PLANE, AMI_TY).draw(rows).get_xlabel() == AMI_XT.label
    assert Picture(Panel.PLANE, I_TY).draw(rows).get_xlabel() == I_XT.label


def test_a_plane_is_a_picture_only_where_a_layer_has_both_of_its_numbers() -> None:
    """Where the input is not resolved, nothing is known of AMI(X;T), while AMI(T;Y) may be."""
    rows = [row for row in history(["a", "b"], errors=False) if "AMI_XT" not in row.quantity]
    titles = [picture.title for picture in pictures(rows)]
    assert "Information plane" not in titles
    assert "Information plane in bits" in titles
    assert "plane" not in dict(live_pictures(rows))
    for picture in pictures(rows):
        assert_legible(picture.figure(rows))


def test_of_a_probe_that_is_not_there_nothing_can_be_drawn() -> None:
    with pytest.raises(ValueError, match="nothing to draw: no I_XT of the probe 'train' in these rows"):
        pictures(history(NAMES["vgg"]), "train")
    with pytest.raises(ValueError, match="nothing to draw: no I_XT in these rows"):
        pictures([])
    with pytest.raises(ValueError, match="nothing to draw: no I_XT in these rows"):
        plot_summary([])


@pytest.mark.parametrize(
    ("picture", "told"),
    [
        (Picture(Panel.PLANE, AMI_TY), True),
        (Picture(Panel.PLANE, I_TY), True),
        (Picture(Panel.CURVES, H_T), True),
        (Picture(Panel.DEPTH, AMI_XT), False),
        (Picture(Panel.GAPS, DPI_AMI_XT), False),
    ],
)
def test_pictures_with_a_line_a_layer_explain_the_layers(picture: Picture, told: bool) -> None:
    assert picture.explains_layers is told
    legend = picture.draw(history(["a", "b"], errors=False)).get_legend()
    shown = set() if legend is None else {text.get_text() for text in legend.get_texts()}
    assert ({"a", "b"} <= shown) is told


def test_a_picture_is_drawn_on_given_axes_or_on_new_ones() -> None:
    for picture in pictures(history(["a", "b", "c"])):
        ax = Figure().subplots()
        assert picture.draw(history(["a", "b", "c"]), ax=ax) is ax
        assert picture.draw(history(["a", "b", "c"])).figure is not ax.figure


def test_a_picture_shows_the_probe_it_is_asked_for() -> None:
    both = history(["a", "b"], probe="train") + history(["x", "y"], probe="val")
    ax = Picture(Panel.DEPTH, AMI_XT).draw(both, "val")
    assert [label.get_text() for label in ax.get_xticklabels()] == ["x", "y"]


# ------------------------------------------------------------------------------------------------- while training


def test_pictures_while_training_have_each_a_tag() -> None:
    live = dict(live_pictures(history(NAMES["vgg"])))
    assert set(live) == {"plane", "depth", "depth-AMI_error", "maps"}
    assert live["plane"] == Picture(Panel.PLANE, AMI_TY)
    assert live["depth"] == Picture(Panel.DEPTH, AMI_XT)
    assert live["depth-AMI_error"] == Picture(Panel.DEPTH, AMI_ERROR)
    assert live["maps"].panel is Panel.MAPS


def test_a_tag_means_the_same_whatever_else_there_is() -> None:
    """Error signals are never called depth, not even where they are the only ones there."""
    only_errors = [row for row in history(NAMES["vgg"]) if row.quantity == "AMI_error"]
    assert [tag for tag, _ in live_pictures(only_errors)] == ["depth-AMI_error"]
    assert {tag for tag, _ in live_pictures(history(["a", "b"], targets=False, errors=False))} == {"depth", "maps"}
    assert list(live_pictures(history(["a", "b"], probe="train"), "val")) == []


def test_all_pictures_of_an_epoch_are_quick_and_none_stays_open(tmp_path: Path) -> None:
    """The figure that counts is in benchmarks/figures.py; this is a bound that a busy machine keeps too."""
    rows = history(NAMES["vgg"], range(101))
    start = time.process_time()
    for tag, picture in live_pictures(rows):
        log_figure([], tag, picture.draw(rows).figure, 0, tmp_path)
    assert time.process_time() - start < 3
    assert len(list(tmp_path.glob("*.png"))) == 4
    assert pyplot.get_fignums() == []


# --------------------------------------------------------------------------------------------- on one page, legible


@pytest.mark.parametrize("dpi", [100, 130], ids=["as it is made", "as the command saves it"])
@pytest.mark.parametrize("names", NAMES)
def test_the_page_of_everything_is_legible(names: str, dpi: int) -> None:
    """Letters are not wider by exactly as much as the page is."""
    figure = plot_summary(history(NAMES[names], errors=len(NAMES[names]) > 2))
    assert isinstance(figure, Figure)
    figure.set_dpi(dpi)
    assert_legible(figure)


def test_the_page_shows_every_picture_under_its_title_and_explains_the_layers_once() -> None:
    figure = plot_summary(history(NAMES["vgg"]))
    boxes = figure.findobj(lambda one: type(one).__name__ == "SubFigure")
    # As they are read, line by line: matplotlib 3.8 makes them column by column.
    boxes = sorted(boxes, key=lambda box: (-round(box.bbox.y1), round(box.bbox.x0)))
    shown = [box.get_suptitle().replace("\n", " ") for box in boxes]
    assert [title for title in shown if title] == TITLES
    (legend,) = [legend for box in boxes for legend in box.legends]
    assert [text.get_text() for text in legend.get_texts() if text.get_text() in NAMES["vgg"]] == NAMES["vgg"]


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
