"""A run in words: the text card, remarks on layers whose curves mean nothing, and the bill."""

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from typing import Any

from lightning_infoplane.measurement.history import History
from lightning_infoplane.measurement.listener import few
from lightning_infoplane.measurement.quantities import with_panel
from lightning_infoplane.measurement.quantity import Panel, Quantity, Subject
from lightning_infoplane.measurement.rows import Row
from lightning_infoplane.measurement.verdicts import Judgement, judge, sentence_of
from lightning_infoplane.views.series import last_rows, probes_of

__all__ = ["bill", "card", "remarks", "table_columns", "told", "told_settings"]

# Part of the training time from which on a run is told how to measure less.
_DEAR = 0.1
# Part of the cost from which on it is named on its own.
_WORTH_A_WORD = 0.05
_SUBJECTS = {Subject.ACTIVATIONS: "", Subject.ERROR_SIGNALS: "the error signal of "}


def bill(count: int, seconds: float, training: float, search: float = 0.0) -> str:
    """What the measurements of a run cost, and how to pay less where it is much.

    Args:
        count: of the measurements.
        seconds: of all of it.
        training: seconds of the run.
        search: seconds of ``seconds`` that went into looking for chains among the layers.

    Example:
        >>> bill(3, 0.5, 100.0)
        '3 measurements took 0.5 s, 0% of the training time.'
        >>> bill(3, 4.5, 100.0, search=1.2)
        '3 measurements took 4.5 s, of which 1.2 s looking for chains, 4% of the training time.'
    """
    part = seconds / max(training, 1e-9)
    measurements = "1 measurement" if count == 1 else f"{count} measurements"
    once = f" of which {search:.1f} s looking for chains," if search > _WORTH_A_WORD * seconds else ""
    told = f"{measurements} took {seconds:.1f} s,{once} {part:.0%} of the training time."
    if part < _DEAR:
        return told
    if search > seconds / 2:
        return f"{told} dpi_pairs='consecutive' looks for no chains."
    return f"{told} schedule=LogSpacedEpochs(20) measures less often, outputs=Outputs(figures=False) draws nothing."


def remarks(rows: Sequence[Row], told: set[tuple[str, str]] | None = None) -> Iterator[tuple[str, str]]:
    """Of layers of which this measurement shows less than it seems: what it is about, and what to do.

    One sentence tells of all layers with one verdict for one reason, with their numbers.

    Args:
        rows: of one measurement.
        told: what was remarked of which layer before, which is not repeated: only layers that are new to a verdict are
            told of. What is remarked now is added.
    """
    told = set() if told is None else told
    for probe, (subject, of) in product(probes_of(rows), _SUBJECTS.items()):
        for group in _cases(judge(rows, probe, subject)):
            heading = f"{probe} {of}{next(iter(group.values())).word}"
            new = {layer: one for layer, one in group.items() if (heading, layer) not in told}
            told |= {(heading, layer) for layer in new}
            if new:
                yield f"{heading}: {', '.join(new)}", _remark(of, new, len(group) - len(new))


def card(history: History) -> str:
    """What the curves are, how they were measured and what they are worth, in Markdown."""
    lines = [
        "**AMI(X;T)** is what a layer shares with the input, **AMI(T;Y)** with the target, beyond chance: 0 for "
        "nothing, 1 for a copy, ± one standard error. Bits (I) say only what they exceed those of shuffled pairs by.",
        "",
        told_settings(history.facts.estimator),
    ]
    if history.facts.described:
        lines += ["", _plain(history.facts.described)]
    for probe in probes_of(history):
        name = f" ({probe})" if probe else ""
        size = history.facts.n.get(probe)
        samples = "" if size is None else f" of {size} samples"
        lines += ["", f"Probe{samples}{name}:", "", *_table(last_rows(history, probe), probe)]
    lines += [f"- **changed** {_plain(change)}" for change in history.facts.changes]
    if history.facts.left_out:
        lines += ["", "Left out:", "", *(f"- {_plain(line)}" for line in history.facts.left_out)]
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


def _cases(judged: Mapping[str, Judgement]) -> list[dict[str, Judgement]]:
    """Layers of which something is to be said, those of one sentence together, in the order of the first."""
    groups: dict[tuple[object, ...], dict[str, Judgement]] = {}
    for layer, judgement in judged.items():
        if judgement.sentence:
            groups.setdefault(judgement.case, {})[layer] = judgement
    return list(groups.values())


def _remark(of: str, layers: Mapping[str, Judgement], before: int) -> str:
    """What is wrong with these layers and what to do, where so many others have been told of before."""
    first = next(iter(layers))
    judgement = layers[first]
    told = f"{judgement.word}. {sentence_of(list(layers.values()))} {judgement.remedy}".rstrip()
    if len(layers) == 1:
        return f"{of}layer {first!r}: {told}"
    more = " more" if before else ""
    return f"{of.replace('signal', 'signals')}{len(layers)}{more} layers: {told} They are {few(list(layers))}."


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
