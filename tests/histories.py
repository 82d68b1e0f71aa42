"""Made-up histories with everything in them, and the measure of a picture: no text on another, none cut off."""

import math
from collections.abc import Iterator, Sequence
from itertools import combinations, pairwise

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text

from lightning_infoplane import Row
from lightning_infoplane.measurement.evidence import Change, changes
from lightning_infoplane.measurement.rows import Pair, Place

Table = dict[tuple[Place, str], float]

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
    adjusted: bool = True,
) -> list[Row]:
    """A run of any network; its first layer is saturated in the first half.

    Without ``adjusted`` it is one of before there was any: bits, with their chance levels, and nothing else.
    """
    rows: list[Row] = []
    for epoch in epochs:
        time = epoch / max(1, *epochs)
        table: Table = {("", "H_X"): 4.2, ("", "log2_n"): 9.0}
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
            if adjusted:
                table |= _adjusted(layer, depth, time, wave, targets, errors and layer != layers[-1])
        for a, b in pairwise(layers):
            table[Pair(a, b), "DPI_XT"] = table[a, "I_XT"] - table[b, "I_XT"]
            if targets:
                table[Pair(a, b), "DPI_TY"] = table[a, "I_TY"] - table[b, "I_TY"]
            if errors and b != layers[-1]:
                table[Pair(b, a), "DPI_error"] = table[b, "I_error"] - table[a, "I_error"]
        if adjusted:
            table |= _adjusted_gaps(table)
        if stderr:
            table |= _standard_errors(table, adjusted)
        rows += [Row(epoch, 17 * epoch, probe, place, quantity, value) for (place, quantity), value in table.items()]
    return rows


def _adjusted(layer: str, depth: float, time: float, wave: float, targets: bool, errors: bool) -> Table:
    """Numbers from 0, chance, to 1, a copy, and what comes with them."""
    table: Table = {(layer, "AMI_XT"): 0.88 - 0.5 * depth * (0.2 + time) + 0.7 * wave, (layer, "AMI_XT_p"): 1e-9}
    table |= {(layer, "CKA_XT"): 0.95 - 0.4 * depth, (layer, "E_TT"): 1.5, (layer, "effective_rank"): 9.0}
    if targets:
        table |= {(layer, "AMI_TY"): 0.1 + 0.7 * depth * time + 0.3 * (wave + 0.1), (layer, "AMI_TY_p"): 1e-6}
        table[layer, "CKA_TY"] = 0.1 + 0.8 * depth
    if errors:
        table |= {(layer, "AMI_error"): 0.2 + 0.6 * depth + 0.1 * time, (layer, "AMI_error_p"): 1e-9}
        table[layer, "E_error"] = 1.2
    return table


def _adjusted_gaps(table: Table) -> Table:
    """Between the pairs of the same gaps in bits."""
    bases = {"DPI_XT": "AMI_XT", "DPI_TY": "AMI_TY", "DPI_error": "AMI_error"}
    return {
        (pair, f"DPI_{bases[key]}"): table[pair.first, bases[key]] - table[pair.second, bases[key]]
        for pair, key in table
        if isinstance(pair, Pair) and key in bases
    }


def _standard_errors(table: Table, adjusted: bool) -> Table:
    """Of what is from 0 to 1 a hundredth, of bits more; and what follows from them."""
    sizes = {"DPI_XT": 0.03, "DPI_TY": 0.03}
    if adjusted:
        of_bits = ("I_XT", "I_TY", "H_T", "I_error", "DPI_error", "effective_rank")
        of_one = ("AMI_XT", "AMI_TY", "AMI_error", "CKA_XT", "CKA_TY")
        sizes |= dict.fromkeys(of_bits, 0.04) | dict.fromkeys(of_one, 0.012)
        sizes |= dict.fromkeys(("DPI_AMI_XT", "DPI_AMI_TY", "DPI_AMI_error"), 0.014)
    more: Table = {(place, f"{key}_stderr"): sizes[key] for place, key in table if key in sizes}
    if adjusted:
        gaps = {(place, key): gap for (place, key), gap in table.items() if isinstance(place, Pair)}
        more |= {(place, f"{key}_p"): _tail(abs(gap) / sizes[key]) for (place, key), gap in gaps.items()}
        for key, name in (("DPI_AMI_XT", "DPI"), ("DPI_AMI_error", "DPI_error")):
            pairs = [place for place, quantity in gaps if quantity == key]
            if pairs:
                found = changes([gaps[pair, key] for pair in pairs], [more[pair, f"{key}_p"] for pair in pairs])
                more["", f"{name}_increases"] = float(found.count(Change.INCREASE))
                more["", f"{name}_decreases"] = float(found.count(Change.DECREASE))
    return more


def _tail(deviations: float) -> float:
    """How likely a normal variable is further on one side."""
    return math.erfc(deviations / math.sqrt(2)) / 2


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
