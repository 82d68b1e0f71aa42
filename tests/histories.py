"""Made-up histories with everything in them, and the measure of a picture: no text on another, none cut off."""

import math
from collections.abc import Iterator, Sequence
from itertools import combinations, pairwise

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text

from lightning_infoplane import Row
from lightning_infoplane.measurement.rows import Pair, Place

NAMES = {
    "two": ["conv1", "conv2"],
    "vgg": [f"features.{i}" for i in (0, 3, 7, 10, 14, 17, 20, 24, 27, 30, 34, 37, 40)],
    "long": [f"encoder.layer{i // 4 + 1}.{i // 2 % 2}.conv{i % 2 + 1}" for i in range(16)],
    "one": ["features.0"],
}


def history(
    layers: Sequence[str],
    epochs: Sequence[int] = range(9),
    probe: str = "",
    targets: bool = True,
    errors: bool = True,
    redundancy: bool = True,
    stderr: bool = True,
) -> list[Row]:
    """A run of any network; its first layer is saturated in the first half."""
    rows: list[Row] = []
    for epoch in epochs:
        time = epoch / max(1, *epochs)
        table: dict[tuple[Place, str], float] = {("", "H_X"): 4.2, ("", "log2_n"): 9.0}
        if targets:
            table["", "H_Y"] = 3.32
        for position, layer in enumerate(layers):
            depth = position / max(1, len(layers) - 1)
            wave = 0.1 * math.sin(3 * epoch + 2 * position)
            table[layer, "H_T"] = 8.8 if position == 0 and time < 0.5 else 3 + 2 * depth - time
            table[layer, "I_XT"], table[layer, "I_XT_chance"] = 4 - 2 * depth * time + wave, 1.2 - 0.6 * time
            table[layer, "bandwidth"] = 3.0
            if targets:
                table[layer, "I_TY"], table[layer, "I_TY_chance"] = 0.8 + depth * time + wave, 0.4
            if redundancy:
                table[layer, "redundancy_synergy"], table[layer, "redundancy_synergy_stderr"] = 0.4 - depth, 0.05
                table[layer, "non_redundant"], table[layer, "non_redundant_stderr"] = 0.3 + depth, 0.04
            if errors and layer != layers[-1]:
                table[layer, "I_error"] = 2 + depth + 0.2 * time
        for a, b in pairwise(layers):
            table[Pair(a, b), "DPI_XT"] = table[a, "I_XT"] - table[b, "I_XT"]
            if stderr:
                table[Pair(a, b), "DPI_XT_stderr"] = 0.03
            if targets:
                table[Pair(a, b), "DPI_TY"] = table[a, "I_TY"] - table[b, "I_TY"]
            if errors and b != layers[-1]:
                table[Pair(b, a), "DPI_error"] = table[b, "I_error"] - table[a, "I_error"]
        rows += [Row(epoch, 17 * epoch, probe, place, quantity, value) for (place, quantity), value in table.items()]
    return rows


def texts(figure: Figure) -> Iterator[Text]:
    """Every text that a figure shows."""
    parts = [figure, *(part for part in figure.findobj(lambda one: type(one).__name__ == "SubFigure"))]
    for part in parts:
        if part._suptitle is not None:
            yield part._suptitle
        for legend in part.legends:
            yield from (legend.get_title(), *legend.get_texts())
    for ax in figure.findobj(Axes):
        yield from (ax.title, ax._left_title, ax._right_title, ax.xaxis.label, ax.yaxis.label)
        if legend := ax.get_legend():
            yield from (legend.get_title(), *legend.get_texts())
        for axis in (ax.xaxis, ax.yaxis):
            low, high = sorted(axis.get_view_interval())
            for tick in axis.get_major_ticks():
                if low <= tick.get_loc() <= high:
                    yield from (tick.label1, tick.label2)


def assert_legible(figure: Figure) -> None:
    """No text lies on another one, and none leaves the page."""
    FigureCanvasAgg(figure).draw()
    page = figure.bbox
    boxes = {
        text: text.get_window_extent()
        for text in dict.fromkeys(texts(figure))
        if text.get_visible() and text.get_text()
    }
    cut = [
        text.get_text()
        for text, box in boxes.items()
        if box.x0 < page.x0 - 1 or box.y0 < page.y0 - 1 or box.x1 > page.x1 + 1 or box.y1 > page.y1 + 1
    ]
    assert not cut, f"cut off: {cut}"
    touching = [
        (one.get_text(), other.get_text())
        for (one, a), (other, b) in combinations(boxes.items(), 2)
        if min(a.x1, b.x1) - max(a.x0, b.x0) > 1 and min(a.y1, b.y1) - max(a.y0, b.y0) > 1
    ]
    assert not touching, f"touching: {touching}"
