"""What a measurement leaves behind beside its numbers: the pictures and the text card of a run."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

from lightning_infoplane.loggers import log_figure
from lightning_infoplane.markov import Chain
from lightning_infoplane.measurement import ERRORS, FORWARD
from lightning_infoplane.plane import InformationPlane, Row, of_probe, verdicts
from lightning_infoplane.plots import plot_depth, plot_plane, plot_redundancy
from lightning_infoplane.probe import Probe

__all__ = ["bill", "card", "draw", "remedies"]

# Share of the training time from which on a run is told how to measure less.
_DEAR = 0.1
_REMEDIES = {
    "saturated": "H(T) is {share:.0%} of log2 n, so I(X;T) equals H(X) whatever the layer does. "
    "Use a larger bandwidth, such as MedianDistance(scale=2), or a larger probe.",
    "collapsed": "H(T) is {share:.0%} of log2 n: to the kernel all samples look alike (a dead layer?). "
    "If its activations do vary, use a smaller bandwidth, such as MedianDistance(scale=0.5).",
    "at chance": "I(X;T) is no larger than for shuffled pairs, so the curve says nothing about the input. "
    "Use a larger probe or another bandwidth.",
}


_PICTURES: Mapping[str, tuple[str, Callable[..., Any]]] = {
    "plane": ("I_TY", plot_plane),
    "depth": ("I_XT", plot_depth),
    "errors": ("I_error", partial(plot_depth, quantity="I_error")),
    "redundancy": ("redundancy_synergy", plot_redundancy),
}
_SUBJECTS = ((FORWARD, ""), (ERRORS, "the error signal of "))


def draw(
    loggers: Sequence[Any], folder: Path, stem: str, rows: Sequence[Row], probes: Mapping[str, Probe], step: int
) -> None:
    """The information plane and the depth profile of each probe, to loggers that show pictures or as PNG.

    With them, where they were measured, the error signals and what feature maps share.
    """
    for name in probes:
        found = {row.quantity for row in of_probe(rows, name)}
        for kind, (needed, plot) in _PICTURES.items():
            if needed in found:
                tag = "/".join(part for part in (stem, name, kind) if part)
                log_figure(loggers, tag, plot(rows, probe=name).figure, step, folder)


def bill(count: int, seconds: float, training: float) -> str:
    """What the measurements of a run cost, and how to pay less where it is much.

    Example:
        >>> bill(3, 0.5, 100.0)
        '3 measurements took 0.5 s, 0% of the training time.'
    """
    share = seconds / max(training, 1e-9)
    told = f"{count} measurements took {seconds:.1f} s, {share:.0%} of the training time."
    advice = " schedule=LogSpacedEpochs(20) measures less often, figures=False draws nothing."
    return told + advice * (share >= _DEAR)


def remedies(rows: Sequence[Row], probes: Mapping[str, Probe]) -> Iterator[tuple[str, str]]:
    """For each layer whose curve means nothing: what it is about, and what to do, in a sentence."""
    for probe, (names, what) in product(probes, _SUBJECTS):
        table = {(row.layer, row.quantity): row.value for row in of_probe(rows, probe)}
        for layer, verdict in verdicts(rows, probe, names).items():
            if verdict != "ok":
                share = table[layer, names.entropy] / table["", "log2_n"]
                remedy = _REMEDIES[verdict].format(share=share)
                yield f"{probe} {what}{layer} {verdict}", f"{what}layer {layer!r} is {verdict}. {remedy}"


def card(plane: InformationPlane, rows: Sequence[Row], probes: Mapping[str, Probe], chain: Chain | None) -> str:
    """What the curves are, how they were measured and what they are worth, in Markdown."""
    settings = plane.settings
    lines = [
        "**I(X;T)** is what a layer keeps of the input, **I(T;Y)** what this kernel can read of the target from it, "
        "in bits. Only what exceeds the value for shuffled pairs is evidence.",
        "",
        f"α = {settings.alpha}, {settings.bandwidth}, {settings.solver}",
    ]
    for name, probe in probes.items():
        lines += ["", f"Probe of {probe.size} samples{name and f' ({name})'}:", "", *_table(rows, name)]
    if chain is not None:
        lines += [
            "",
            "Markov chain, found by intervention:",
            "",
            *(f"- {_plain(line)}" for line in chain.describe().split("\n")),
        ]
    return "\n".join(lines)


def _table(rows: Sequence[Row], probe: str) -> list[str]:
    """One line a layer."""
    value = {(row.quantity, row.layer): f"{row.value:.2f}" for row in of_probe(rows, probe)}
    quantities = ("I_XT", "I_XT_chance", "I_TY", "I_TY_chance")
    lines = ["| layer | I(X;T) | shuffled | I(T;Y) | shuffled | verdict |", "|---|---|---|---|---|---|"]
    for layer, verdict in verdicts(rows, probe).items():
        cells = [_plain(layer), *(value.get((quantity, layer), "") for quantity in quantities), verdict]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def _plain(text: str) -> str:
    """What Markdown is to show as it is: module names may hold any character but a dot."""
    return re.sub(r"([\\`*_|])", r"\\\1", text).replace("<", "&lt;")
