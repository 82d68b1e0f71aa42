"""A run in words: the text card, remarks on layers whose curves mean nothing, and the bill."""

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from typing import Any

from lightning_infoplane.measurement.history import History
from lightning_infoplane.measurement.quantities import with_panel
from lightning_infoplane.measurement.quantity import Panel, Quantity, Subject
from lightning_infoplane.measurement.rows import Row
from lightning_infoplane.measurement.verdicts import judge
from lightning_infoplane.views.series import last_rows, probes_of

__all__ = ["bill", "card", "remarks", "table_columns", "told", "told_settings"]

# Part of the training time from which on a run is told how to measure less.
_DEAR = 0.1
_SUBJECTS = {Subject.ACTIVATIONS: "", Subject.ERROR_SIGNALS: "the error signal of "}


def bill(count: int, seconds: float, training: float) -> str:
    """What the measurements of a run cost, and how to pay less where it is much.

    Example:
        >>> bill(3, 0.5, 100.0)
        '3 measurements took 0.5 s, 0% of the training time.'
    """
    part = seconds / max(training, 1e-9)
    told = f"{count} measurements took {seconds:.1f} s, {part:.0%} of the training time."
    if part < _DEAR:
        return told
    return f"{told} schedule=LogSpacedEpochs(20) measures less often, outputs=Outputs(figures=False) draws nothing."


def remarks(rows: Sequence[Row]) -> Iterator[tuple[str, str]]:
    """For each layer of which this measurement shows less than it seems: what it is about, and what to do."""
    for probe, (subject, of) in product(probes_of(rows), _SUBJECTS.items()):
        for layer, judgement in judge(rows, probe, subject).items():
            if judgement.sentence:
                sentence = f"{of}layer {layer!r}: {judgement.word}. {judgement.sentence} {judgement.verdict.remedy}"
                yield f"{probe} {of}{layer} {judgement.word}", sentence.rstrip()


def card(history: History) -> str:
    """What the curves are, how they were measured and what they are worth, in Markdown."""
    lines = [
        "**AMI(X;T)** is what a layer shares with the input, **AMI(T;Y)** with the target, beyond chance: 0 for "
        "nothing, 1 for a copy, ± one standard error. Bits (I) say only what they exceed those of shuffled pairs by.",
        "",
        told_settings(history.facts.estimator),
    ]
    for probe in probes_of(history):
        name = f" ({probe})" if probe else ""
        size = history.facts.n.get(probe)
        samples = "" if size is None else f" of {size} samples"
        lines += ["", f"Probe{samples}{name}:", "", *_table(last_rows(history, probe), probe)]
    lines += [f"- **changed** {_plain(change)}" for change in history.facts.changes]
    if history.facts.chain:
        lines += ["", "Markov chain, found by intervention:", ""]
        lines += [f"- {_plain(line)}" for line in history.facts.chain]
    return "\n".join(lines)


def told(value: float, error: float = math.nan, digits: int = 2) -> str:
    """A number with its standard error, where that is known: a third digit where the error needs one.

    Example:
        >>> told(0.7654, 0.0123), told(0.7654, 0.0023), told(-0.0004)
        ('0.77 ± 0.01', '0.765 ± 0.002', '0.00')
    """
    if error < 10**-digits:
        digits = max(digits, 3)
    rounded = f"{round(value, digits) + 0.0:.{digits}f}"  # + 0.0: no -0.00
    return rounded if math.isnan(error) else f"{rounded} ± {error:.{digits}f}"


def told_settings(estimator: Mapping[str, Any]) -> str:
    """How it was measured, in one line.

    Example:
        >>> told_settings({"class": "Estimator", "alpha": 2, "solver": {"class": "Lanczos", "steps": 8}})
        'alpha=2, solver=Lanczos(steps=8)'
    """
    return ", ".join(f"{name}={_typed(value)}" for name, value in estimator.items() if name != "class")


def table_columns(rows: Sequence[Row]) -> list[Quantity]:
    """The columns of a table of layers: what belongs there and is known, each with its chance level."""
    known = {row.quantity for row in rows}
    wanted = [one for quantity in with_panel(Panel.TABLE) for one in _with_chance(quantity)]
    return [quantity for quantity in wanted if quantity.key in known]


def _with_chance(quantity: Quantity) -> list[Quantity]:
    return [quantity, quantity.chance] if quantity.shuffled else [quantity]


def _typed(value: Any) -> str:  # noqa: ANN401 - plain data
    """A choice written as data, as it would be typed."""
    if not isinstance(value, Mapping):
        return repr(value)
    fields = ", ".join(f"{name}={_typed(inner)}" for name, inner in value.items() if name != "class")
    return f"{value.get('class', '')}({fields})"


def _table(rows: Sequence[Row], probe: str) -> list[str]:
    """One line a layer."""
    value = {(row.quantity, row.place): row.value for row in rows}
    columns = table_columns(rows)
    head = ["layer", *(quantity.short for quantity in columns), "verdict"]
    lines = [f"| {' | '.join(head)} |", "|" + "---|" * len(head)]
    for layer, judgement in judge(rows, probe).items():
        numbers = [
            told(value[quantity.key, layer], value.get((quantity.error.key, layer), math.nan))
            if (quantity.key, layer) in value
            else "-"
            for quantity in columns
        ]
        lines.append(f"| {' | '.join([_plain(layer), *numbers, judgement.word])} |")
    return lines


def _plain(text: str) -> str:
    """What Markdown is to show as it is: module names may hold any character but a dot."""
    return re.sub(r"([\\`*_|])", r"\\\1", text).replace("<", "&lt;")
