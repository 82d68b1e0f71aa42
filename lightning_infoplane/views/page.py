"""A finished run as one HTML file that needs nothing else, and as a film or two planes side by side.

Everything that comes from the run, layer names above all, is escaped.
"""

from __future__ import annotations

import io
import math
from base64 import b64encode
from collections.abc import Iterator, Sequence
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lightning_infoplane.measurement.evidence import SMALLEST_CHANGE, Change
from lightning_infoplane.measurement.quantities import AMI_XT, LOG2_N, PLANES, QUANTITIES
from lightning_infoplane.measurement.quantity import Panel, Quantity
from lightning_infoplane.measurement.rows import Row
from lightning_infoplane.measurement.verdicts import judge, judge_gaps
from lightning_infoplane.views.card import table_columns, told, told_settings
from lightning_infoplane.views.files import GENERATOR
from lightning_infoplane.views.panels import Picture, axes_for, pictures
from lightning_infoplane.views.plots import plot_plane
from lightning_infoplane.views.runs import Run
from lightning_infoplane.views.series import Series, last_rows, quantities_of
from lightning_infoplane.views.thinning import thinned

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["animate", "compare", "html_report"]

_STYLE = """
body { font: 1rem/1.5 system-ui, sans-serif; color: #1a1a1a; background: #fff; margin: 0 auto; max-width: 60rem;
  padding: 1rem; overflow-wrap: anywhere; }
h1 { font-size: 1.6rem; line-height: 1.2; } h2 { font-size: 1.25rem; margin-top: 2rem; }
figure { margin: 1.5rem 0; } figcaption { margin-bottom: .5rem; } img { width: 100%; min-width: 34rem; height: auto; }
.scroll { overflow-x: auto; } table { border-collapse: collapse; } th, td { padding: .25rem .75rem; text-align: right;
  border-bottom: 1px solid #ccc; white-space: nowrap; } th:first-child, td:first-child { text-align: left; }
.warn { font-weight: bold; } dt { font-weight: bold; margin-top: .75rem; } dd { margin: 0; }
pre { background: #f4f4f4; padding: .75rem; overflow-x: auto; } footer { margin-top: 2rem; color: #595959; }
"""
_CAVEATS = (
    (
        "Shuffled pairs",
        "The same number in bits after the samples of one side were put in random order, so that there is nothing to "
        "share. A value in bits is worth only what it exceeds this by; adjusted information has it taken off.",
    ),
    (
        "±",
        "One standard error: how far the number would be off with other samples of the same data and the same network. "
        "Bars and bands are two of them.",
    ),
    (
        "Increase, decrease, undecided",
        f"A difference between two layers is called one or the other where it is larger than {SMALLEST_CHANGE} and "
        "significant at 5 % after Holm's correction over all pairs of that moment. Everything else is undecided.",
    ),
    (
        "What it does not tell you",
        "Adjusted information obeys no data-processing inequality: a layer that removes noise, whitens or decodes can "
        "have more of it than the layer before. It is not the part of the label that is known. Levels depend on the "
        "number of samples, on α and on the bandwidth: compare layers and epochs of one run, or runs with the same "
        "settings. And one seed is one network.",
    ),
)
_CAPTIONS = {
    Panel.CURVES: "One line a layer; where it is hatched the layer is saturated and bits mean nothing.",
    Panel.DEPTH: "From the first layer to the last, pale lines early and dark lines late in training.",
    Panel.GAPS: "Each row is a pair of layers, each column a measurement. Purple: the second layer has less than the "
    "first. Orange: it has more. Outlined: clearly more, an increase. Hatched: undecided.",
    Panel.MAPS: "As information beyond chance: above zero, two feature maps mostly say the same about the input "
    "(redundancy); below, they say more together than alone (synergy). Non-redundant is what is not said twice.",
}
_PLANE = "Each layer walks from its hollow mark, the first measurement, to its filled one, the last. "
_IN_UNITS = "0 is chance, 1 is a copy. To the left it has less of the input; upwards more of the target."
_IN_BITS = (
    "In bits, a layer is worth only its distance from the cross of its colour, where its shuffled pairs are at the "
    "last measurement."
)


def html_report(run: Run) -> str:
    """The report of a run: verdicts, explanations, tables, pictures with descriptions, settings.

    Raises:
        ValueError: if there is nothing to draw.
    """
    title = f"What the layers know: {escape(run.name)}"
    names = run.probes
    dpi = 120 if len(names) == 1 else 65  # two probes of a deep network stay below 3 MB
    probes = [_probe_section(run.rows, probe, dpi) for probe in names]
    explained = "".join(f"<dt>{escape(name)}</dt><dd>{escape(text)}</dd>\n" for name, text in _explained(run.rows))
    return (
        f'<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n{GENERATOR}\n'
        f"<title>{title}</title>\n"
        f'<meta name="viewport" content="width=device-width, initial-scale=1">\n<style>{_STYLE}</style>\n</head>\n'
        f"<body>\n<main>\n<h1>{title}</h1>\n{''.join(probes)}"
        f"<h2>How to read this</h2>\n<dl>\n{explained}</dl>\n{_settings(run)}</main>\n"
        f"<footer><p>Matrix-based Rényi information, from {escape(run.source.name)}. Estimator: Yu, Wickstrøm, "
        "Jenssen, Príncipe, arXiv 1804.06537.</p></footer>\n</body>\n</html>\n"
    )


def animate(run: Run, path: Path, probe: str = "", frames_per_second: float = 4.0) -> None:
    """The information plane drawing itself, a frame a measurement, as GIF.

    Raises:
        ValueError: without targets.
    """
    from matplotlib.animation import PillowWriter

    rows = thinned(run.rows, probe).rows
    series = Series(rows, probe)
    moments = _moments(series)
    ax = axes_for(len(series.layers))
    figure: Any = ax.figure
    plot_plane(rows, ax, probe)
    ax.set_title(" ", loc="left")
    figure.draw_without_rendering()
    figure.set_layout_engine("none")  # what the full picture needs, every frame gets
    limits = {"xlim": ax.get_xlim(), "ylim": ax.get_ylim()}
    writer = PillowWriter(fps=frames_per_second)  # type: ignore[arg-type]  # a float is fine
    with writer.saving(figure, str(path), dpi=100):
        for moment in [*moments, *moments[-1:] * round(2 * frames_per_second)]:  # the end stays for a while
            ax.clear()
            plot_plane([row for row in rows if (row.epoch, row.step) <= moment], ax, probe)
            ax.set(**limits)
            ax.set_title(series.moment_label(moment), loc="left")
            writer.grab_frame()


def compare(first: Run, second: Run, probe: str = "") -> Figure:
    """Two information planes on the same axes, side by side.

    Raises:
        ValueError: without targets in one of them.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(14, 5), layout="constrained")
    axes = figure.subplots(1, 2)
    series = [Series(run.rows, probe) for run in (first, second)]
    both = next((plane for plane in PLANES if all(one.spans(plane) for one in series)), None)
    for ax, run in zip(axes, (first, second), strict=True):
        plot_plane(run.rows, ax, probe, both)
        ax.set_title(run.name.replace("$", r"\$") + "\n", loc="left")  # above the limits
    for which in ("xlim", "ylim"):
        lows, highs = zip(*(getattr(ax, f"get_{which}")() for ax in axes), strict=True)
        for ax in axes:
            ax.set(**{which: (min(lows), max(highs))})
    return figure


# ----------------------------------------------------------------------------------------------- parts of the page


def _explained(rows: Sequence[Row]) -> Iterator[tuple[str, str]]:
    """What is in the tables and pictures, in words, and what to keep in mind."""
    known = quantities_of(rows)
    for quantity in QUANTITIES:
        if quantity.panels and quantity.key in known:
            yield f"{quantity.symbol}, {quantity.name}".removeprefix(", "), quantity.meaning
    yield from _CAVEATS


def _probe_section(rows: Sequence[Row], probe: str, dpi: int) -> str:
    """Verdicts, table and pictures of one probe."""
    series = Series(rows, probe)
    last = last_rows(rows, probe)
    moments = _moments(series)
    heading = f"<h2>Measured on {escape(probe)} samples</h2>\n" if probe else ""
    return (
        f"{heading}<p>{escape(_sizes(last))} {len(moments)} measurements, the last one "
        f"{escape(series.moment_label(moments[-1]))}.</p>\n"
        f"<h2>In short</h2>\n{''.join(_in_short(series, last, probe))}"
        f"<h2>The last measurement</h2>\n{_numbers(series, last, probe)}"
        f"<h2>Pictures</h2>\n{''.join(_figures(rows, series, probe, dpi))}"
    )


def _moments(series: Series) -> list[tuple[int, int]]:
    """When the first plane that there is was measured."""
    return next(filter(None, (series.moments_of(plane.across) for plane in PLANES)), [])


def _sizes(last: Sequence[Row]) -> str:
    """The probe and the limits it sets."""
    known = {row.quantity: row.value for row in last if not row.place}
    limits = [limit for plane in PLANES for limit in plane.limits if limit.key in known]
    told_limits = ", ".join(f"{limit.symbol} = {known[limit.key]:.2f} {limit.unit}" for limit in limits)
    samples = f"A fixed probe of {round(2 ** known[LOG2_N.key])} samples" if LOG2_N.key in known else "A fixed probe"
    return f"{samples}{': ' if limits else ''}{told_limits}."


def _in_short(series: Series, last: Sequence[Row], probe: str) -> Iterator[str]:
    """What was found of each layer, with its errors, and what the evidence says against it."""
    judged = judge(last, probe)
    plane = next((plane for plane in PLANES if series.holds(plane.across)), PLANES[-1])
    yield "<ul>\n"
    for layer in series.layers:
        moves = [_move(series, layer, axis) for axis in (plane.across, plane.up) if series.holds(axis)]
        remark = ""
        if layer in judged and judged[layer].sentence:
            words = f"{judged[layer].sentence} {judged[layer].remedy}".strip()
            remark = f' <span class="warn">{escape(words)}</span>'
        yield f"<li><b>{escape(layer)}</b>: {', '.join(moves)}.{remark}</li>\n"
    yield "</ul>\n"
    yield from _gaps_in_short(last, probe)


def _move(series: Series, layer: str, axis: Quantity) -> str:
    """From where to where."""
    ends = [told(value, error) for value, error in series.first_and_last(layer, axis)]
    unit = f" {axis.unit}" if axis.unit else ""
    if not ends:
        return f"{axis.symbol} has no value"
    if math.isnan(series.at(layer, axis, series.moments_of(axis)[-1])):
        return f"{axis.symbol} {ends[0]}{unit} at first, no value at the last measurement"
    return f"{axis.symbol} {f'from {ends[0]} to {ends[1]}' if len(ends) > 1 else ends[0]}{unit}"


def _gaps_in_short(last: Sequence[Row], probe: str) -> Iterator[str]:
    """How many gaps are increases and decreases, by the rule that counts them in the log."""
    found = list(judge_gaps(last, probe).values())
    if not found:
        return
    pairs = "pair of layers" if len(found) == 1 else "pairs of layers"
    yield (
        f"<p>From layer to layer, {escape(AMI_XT.symbol)} decreases in {found.count(Change.DECREASE)} of {len(found)} "
        f"{pairs}, increases in {found.count(Change.INCREASE)}, and is undecided in "
        f"{found.count(Change.UNDECIDED)}.</p>\n"
    )


def _numbers(series: Series, last: Sequence[Row], probe: str) -> str:
    """One line a layer."""
    value = {(row.quantity, row.place): row.value for row in last}
    judged = judge(last, probe)
    columns = table_columns(last)
    head = "".join(f'<th scope="col">{escape(quantity.short)}</th>' for quantity in columns)
    lines = []
    for layer in series.layers:
        cells = [
            told(value[quantity.key, layer], value.get((quantity.error.key, layer), math.nan), digits=3)
            if (quantity.key, layer) in value
            else "-"
            for quantity in columns
        ]
        cells.append(escape(judged[layer].word) if layer in judged else "-")
        lines.append(f"<tr><td>{escape(layer)}</td>{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>\n")
    return (
        f'<div class="scroll"><table>\n<caption>{_units(columns)}</caption>\n<thead><tr><th scope="col">layer</th>'
        f'{head}<th scope="col">verdict</th></tr></thead>\n<tbody>\n{"".join(lines)}</tbody>\n</table></div>\n'
    )


def _units(columns: Sequence[Quantity]) -> str:
    """What the numbers are in."""
    units = {quantity.unit for quantity in columns}
    if len(units) == 1 and any(units):
        return f"All in {units.pop()}"
    return ", ".join(f"{quantity.short}: {quantity.unit or 'no unit'}" for quantity in columns)


def _caption(picture: Picture) -> str:
    """How to read it, with what it holds besides."""
    if picture.panel is Panel.PLANE:
        return _PLANE + (_IN_BITS if picture.plane.limits else _IN_UNITS)
    caption = _CAPTIONS[picture.panel]
    if picture.panel in (Panel.CURVES, Panel.DEPTH) and picture.quantity.shuffled:
        caption += " Dotted lines of the same colour are the values for shuffled pairs."
    return caption


def _figures(rows: Sequence[Row], series: Series, probe: str, dpi: int) -> Iterator[str]:
    """Each with a caption, and with a description for those who do not see it."""
    drawn = thinned(rows, probe, series)
    for picture in pictures(drawn.rows, probe):
        title = escape(picture.title)
        caption = f"{_caption(picture)} {drawn.note}".rstrip()
        described = f"{picture.title}. {len(series.layers)} layers: {', '.join(series.layers)}. {caption}"
        drawing = _png(picture, drawn.rows, probe, dpi, len(series.layers))
        yield (
            f'<figure>\n<figcaption><b>{title}.</b> {caption}</figcaption>\n<div class="scroll">'
            f'<img alt="{escape(described)}" src="data:image/png;base64,{drawing}"></div>\n'
            "</figure>\n"
        )


def _settings(run: Run) -> str:
    """What is known of how it was measured: facts of the history, Lightning's hyperparameters, the chain."""
    facts = run.rows.facts
    parts = []
    if facts.estimator:
        parts.append(f"<p>{escape(told_settings(facts.estimator))}. Version {escape(facts.version)}.</p>\n")
    if facts.described:
        parts.append(f"<p>{escape(facts.described)}.</p>\n")
    if facts.left_out:
        left_out = "\n".join(facts.left_out)
        parts.append(f"<h3>Layers left out</h3>\n<pre>{escape(left_out)}</pre>\n")
    parts += [f"<p><strong>Changed</strong> {escape(change)}</p>\n" for change in facts.changes]
    if facts.chain:
        chain = "\n".join(facts.chain)
        parts.append(f"<h3>Markov chain, found by intervention</h3>\n<pre>{escape(chain)}</pre>\n")
    if run.hparams:
        parts.append(f"<h3>Hyperparameters</h3>\n<pre>{escape(run.hparams)}</pre>\n")
    return f"<h2>Settings</h2>\n{''.join(parts)}" if parts else ""


def _png(picture: Picture, rows: Sequence[Row], probe: str, dpi: int, layers: int) -> str:
    """A picture as text, as high as its legend."""
    file = io.BytesIO()
    figure: Any = picture.draw(rows, probe, axes_for(layers)).figure
    figure.savefig(file, dpi=dpi, format="png")
    return b64encode(file.getvalue()).decode("ascii")
