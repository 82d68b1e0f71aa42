"""The page of examples/paper_study.py: a function of what was measured, and of nothing else.

Sentences are made of numbers of the tables beside them. Where one says what a number is worth, the number chose it.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from paper_findings import (
    BACKWARD,
    FORWARD,
    MAPS,
    MOMENTS,
    RULES,
    Case,
    Measured,
    Side,
    Spread,
    cases,
    changed,
    held,
    moments,
    ordered,
    over_seeds,
    pick,
    sizes,
)

from lightning_infoplane.measurement.evidence import SMALLEST_CHANGE, Change
from lightning_infoplane.measurement.rows import BETWEEN

NAMES = {"default": "Default bandwidth", "paper": "Paper's bandwidth"}


def cell(found: Sequence[Measured], layer: str, quantity: str) -> str:
    """Mean ± standard deviation over networks, and in brackets the standard error over the probe."""
    error = over_seeds(found, layer, f"{quantity}_stderr")
    return f"{over_seeds(found, layer, quantity)}" + (f" ({error.mean:.3f})" if error.known else "")


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> list[str]:
    """In Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return [f"| {' | '.join(map(str, line))} |" for line in lines]


def folded(lines: Sequence[str]) -> list[str]:
    """Below a line that opens it."""
    return ["<details><summary>Layer by layer</summary>", "", *lines, "", "</details>"]


# ---------------------------------------------------------------------------------------------- the inequalities


def holds(gaps: Iterable[float]) -> str:
    """In how many pairs of layers the order holds, of those that have a value."""
    return "{} of {}".format(*held(gaps))


def counted(decided: Iterable[Change | None]) -> str:
    """Which gaps are what by the evidence; None has no value."""
    count = Counter(decided)
    return f"{count[Change.DECREASE]} / {count[Change.INCREASE]} / {count[Change.UNDECIDED]} / {count[None]}"


COLUMNS: dict[str, Callable[[Sequence[Case]], str]] = {
    "raw bits": lambda some: holds(case.bits for case in some),
    "shuffled pairs alone": lambda some: holds(case.shuffled for case in some),
    "excess": lambda some: holds(case.excess for case in some),
    "AMI": lambda some: holds(case.adjusted for case in some),
    "debiased CKA": lambda some: holds(case.alignment for case in some),
    "raw bits by the evidence": lambda some: counted(case.of_bits for case in some),
    "AMI by the evidence": lambda some: counted(case.of_adjusted for case in some),
}


def inequality_table(found: Sequence[Measured], side: Side) -> list[str]:
    """One line for each rule, activation and moment, and one for each rule."""
    columns = {name: count for name, count in COLUMNS.items() if side.alignment or name != "debiased CKA"}
    rows = []
    for rule in RULES:
        of_rule = pick(found, rule=rule)
        groups = [
            (activation, name, pick(of_rule, activation=activation, epoch=epoch))
            for activation in ordered(of_rule, "activation")
            for epoch, name in moments(found).items()
        ]
        for activation, name, group in [*groups, ("**all**", "", of_rule)]:
            some = cases(group, side)
            rows.append([rule, activation, name, *(count(some) for count in columns.values())])
    return table(["bandwidth", "activation", "moment", *columns], rows)


def said_of_order(found: Sequence[Measured], side: Side) -> list[str]:
    """What is found of an inequality, in words."""
    some = {name: cases(pick(found, rule=rule), side) for rule, name in NAMES.items()}
    shown = {name: {column: count(of) for column, count in COLUMNS.items()} for name, of in some.items()}
    bits = [
        f"{name}: the order holds in {shown[name]['raw bits']} pairs of layers, and in "
        f"{shown[name]['shuffled pairs alone']} for shuffled pairs alone, which know nothing. {worth(of)}"
        for name, of in some.items()
    ]
    excess = [f"{name}: the order holds in {shown[name]['excess']}." for name in some]
    adjusted = [f"{name}: {decisions(of)}." for name, of in some.items()]
    if side.alignment:
        check = ", ".join(f"{shown[name]['debiased CKA']} ({name.lower()})" for name in some)
        adjusted.append(f"Debiased CKA, a check by another formula, has the order in {check}.")
    return [
        f"- **Raw bits.** {' '.join(bits)}",
        f"- **Excess over chance.** {' '.join(excess)}",
        f"- **AMI.** {' '.join(adjusted)}",
    ]


def worth(some: Sequence[Case]) -> str:
    """What the order of raw bits is evidence of."""
    of_bits, _ = held(case.bits for case in some)
    of_chance, _ = held(case.shuffled for case in some)
    if of_chance >= 0.9 * of_bits:
        return "Shuffled pairs have it as often, or nearly, so that the order of raw bits alone is no evidence."
    if of_chance <= 0.5 * of_bits:
        return "Shuffled pairs mostly do not have it, so it is not that of the chance levels."
    return "Shuffled pairs often have it, so it may in part be that of the chance levels."


def decisions(some: Sequence[Case]) -> str:
    """What the evidence says of the gaps of AMI, and where the increases are."""
    count = Counter(case.of_adjusted for case in some)
    words = (
        f"{count[Change.DECREASE]} decreases, {count[Change.INCREASE]} increases, {count[Change.UNDECIDED]} undecided"
    )
    words += f" and {count[None]} without a value, of {len(some)}"
    where = Counter(case.pair.replace(BETWEEN, " → ") for case in some if case.of_adjusted is Change.INCREASE)
    found = ", ".join(f"{pair} ({times})" for pair, times in where.items())
    return f"{words}; the increases: {found}" if found else words


def layer_table(found: Sequence[Measured], measures: Mapping[str, str]) -> list[str]:
    """For each measure, name to key, a line a rule, activation and moment."""
    layers = list(next(one.values[key] for one in found for key in measures.values() if key in one.values))
    rows = [
        [measure, rule, activation, name]
        + [cell(pick(found, rule=rule, activation=activation, epoch=epoch), layer, key) for layer in layers]
        for measure, key in measures.items()
        for rule in RULES
        for activation in ordered(found, "activation")
        for epoch, name in moments(found).items()
    ]
    return folded(table(["measure", "bandwidth", "activation", "moment", *layers], rows))


def measures_of(side: Side) -> dict[str, str]:
    """What the table of layers shows."""
    names = {"raw bits": side.bits, "shuffled pairs": f"{side.bits}_chance", "excess": f"{side.bits}_excess"}
    names |= {"AMI": side.adjusted, "debiased CKA": side.alignment, "H / log2 n": side.share}
    return {name: key for name, key in names.items() if key}


# ---------------------------------------------------------------------------------------------------- the filters


TOTALS = {
    "raw bits": {f"{name}, raw bits": (layer, "I_XT") for layer, name in MAPS.items()}
    | {"trained maps, shuffled pairs": ("trained", "I_XT_chance")},
    "excess": {f"{name}, excess": (layer, "I_XT_excess") for layer, name in MAPS.items()},
    "AMI": {f"{name}, AMI": (layer, "AMI_XT") for layer, name in MAPS.items()},
}
PAIRS = {
    measure: {f"{name}, {measure}": (layer, key) for layer, name in MAPS.items()}
    for measure, key in (("redundancy − synergy", "redundancy_synergy"), ("non-redundant", "non_redundant"))
}
Columns = Mapping[str, Mapping[str, tuple[str, str]]]


def from_to(found: Sequence[Measured], layer: str, quantity: str) -> str:
    """A number at the fewest filters and at the most."""
    ends = (sizes(found)[0], sizes(found)[-1])
    numbers = [over_seeds(pick(found, filters=size), layer, quantity) for size in ends]
    return " to ".join(map(str, numbers)) if any(one.known for one in numbers) else "no value at either"


def filter_tables(found: Sequence[Measured], columns: Columns) -> list[str]:
    """A table for each measure: one line for each rule and number of filters."""
    lines = []
    for sources in columns.values():
        rows = [
            [rule, size, *(cell(pick(found, rule=rule, filters=size), *source) for source in sources.values())]
            for rule in RULES
            for size in sizes(found)
        ]
        lines += [*table(["bandwidth", "filters", *sources], rows), ""]
    return lines


def said_of_filters(found: Sequence[Measured], columns: Columns, names: Mapping[str, str]) -> list[str]:
    """What each measure does from the fewest filters to the most, in words."""
    lines = [f"From {sizes(found)[0]} to {sizes(found)[-1]} filters:", ""]
    for measure, sources in columns.items():
        words = []
        for rule, name in names.items():
            of_rule = pick(found, rule=rule)
            ends = [f"{of.removesuffix(f', {measure}')} {from_to(of_rule, *source)}" for of, source in sources.items()]
            words.append(f"{name}: {'; '.join(ends)}.")
        lines.append(f"- **{measure[0].upper()}{measure[1:]}.** {' '.join(words)}")
    return lines


def growth(found: Sequence[Measured]) -> str:
    """How much of the growth of raw bits is that of their chance level."""
    words = []
    for rule, name in NAMES.items():
        of_rule = pick(found, rule=rule)
        ends = [pick(of_rule, filters=size) for size in (sizes(found)[0], sizes(found)[-1])]
        bits, chance, beyond = (
            over_seeds(ends[1], "trained", key).mean - over_seeds(ends[0], "trained", key).mean
            for key in ("I_XT", "I_XT_chance", "I_XT_excess")
        )
        words.append(f"{name}: raw bits {bits:+.3f}, shuffled pairs {chance:+.3f}, excess {beyond:+.3f}.")
    return f"- **Change of the trained maps.** {' '.join(words)}"


# ------------------------------------------------------------------------------------------------------ the plane


WAYS = {
    "label": ("I_TY", "AMI_TY", "before training", "at the end"),
    "input": ("I_XT", "AMI_XT", "after one epoch", "at the end"),
}


def training_counts(found: Sequence[Measured], about: str) -> dict[str, str]:
    """For each measure, in how many layers of the networks it rises and falls by more than 0.01 in training."""
    bits, adjusted, *way = WAYS[about]
    keys = {"raw bits": bits, "shuffled pairs alone": f"{bits}_chance", "excess": f"{bits}_excess", "AMI": adjusted}
    counts = {}
    for name, key in keys.items():
        moved = changed(found, key, *way)
        up = sum(change > SMALLEST_CHANGE for change in moved)
        down = sum(change < -SMALLEST_CHANGE for change in moved)
        counts[name] = f"rises in {up}, falls in {down} of {len(moved)}"
    return counts


def training_table(found: Sequence[Measured]) -> list[str]:
    """Those counts, a line for each rule and activation."""
    rows = []
    for about, (*_, start, stop) in WAYS.items():
        for rule in RULES:
            of_rule = pick(found, rule=rule)
            groups = {name: pick(of_rule, activation=name) for name in ordered(of_rule, "activation")}
            for activation, group in (groups | {"**all**": of_rule}).items():
                what = f"the {about}, {start} → {stop}"
                rows.append([what, rule, activation, *training_counts(group, about).values()])
    measures = training_counts(found, "label")
    return table(["information about", "bandwidth", "activation", *measures], rows)


def said_of_training(found: Sequence[Measured]) -> list[str]:
    """What is found of the plane with the default bandwidth, in words."""
    of_rule = pick(found, rule="default")
    label = training_counts(of_rule, "label")
    lost = training_counts(of_rule, "input")
    lines = ["With the default bandwidth, of all layers of all networks:", ""]
    for measure in ("raw bits", "shuffled pairs alone", "excess", "AMI"):
        words = f"Over the whole training information about the label {label[measure]}. "
        words += f"After the first epoch information about the input {lost[measure]}."
        lines.append(f"- **{measure[0].upper()}{measure[1:]}.** {words}")
    by_activation = {name: pick(of_rule, activation=name) for name in ordered(of_rule, "activation")}
    for activation, group in by_activation.items():
        paths = [f"{symbol} {' → '.join(map(str, at_moments(group, key)))}" for key, symbol in SYMBOLS.items()]
        lines.append(f"- **The scores, {activation}**, {', '.join(MOMENTS)}: {'; '.join(paths)}.")
    apart = [f"{symbol} of {farthest(by_activation, key)}" for key, symbol in SYMBOLS.items()]
    return [*lines, f"- **By activation function.** At the end the means differ most in {' and in '.join(apart)}."]


SYMBOLS = {"AMI_TY": "AMI(T;Y)", "AMI_XT": "AMI(X;T)"}
OF_THE_PLANE = {"I(T;Y)": "I_TY", "of shuffled pairs": "I_TY_chance", "excess": "I_TY_excess"} | {
    symbol: key for key, symbol in SYMBOLS.items()
}


def farthest(by_activation: Mapping[str, Sequence[Measured]], quantity: str) -> str:
    """The layer in which networks of different activation functions end farthest apart, and their numbers."""
    last = {name: pick(group, epoch=list(moments(group))[-1]) for name, group in by_activation.items()}

    def numbers(layer: str) -> dict[str, Spread]:
        return {name: over_seeds(group, layer, quantity) for name, group in last.items()}

    def apart(layer: str) -> float:
        means = [one.mean for one in numbers(layer).values()]
        return max(means) - min(means)

    layer = max(next(iter(last.values()))[0].values[quantity], key=apart)
    return f"{layer} ({', '.join(f'{name} {one}' for name, one in numbers(layer).items())})"


def at_moments(found: Sequence[Measured], quantity: str) -> list[object]:
    """A number of the last layer at the three moments."""
    return [over_seeds(pick(found, epoch=epoch), "scores", quantity) for epoch in moments(found)]


# ------------------------------------------------------------------------------------------------------- the page


def summary(layers: Sequence[Measured], filters: Sequence[Measured]) -> list[str]:
    """Every claim in one line."""
    of_layers = pick(layers, rule="default")
    by_rule = {rule: pick(filters, rule=rule) for rule in RULES}
    rows = []
    for claim, side in (("1a. I(X;T) falls along the layers", FORWARD), ("1b. I(δ_K;δ_k) falls on its way", BACKWARD)):
        some = cases(of_layers, side)
        shown = {name: count(some) for name, count in COLUMNS.items()}
        bits = f"holds in {shown['raw bits']}; shuffled pairs alone: {shown['shuffled pairs alone']}"
        rows.append([claim, bits, f"holds in {shown['excess']}", decisions(some)])
    told = [from_to(by_rule["default"], "trained", key) for key in ("I_XT", "I_XT_excess", "AMI_XT")]
    told[0] += f"; noise: {from_to(by_rule['default'], 'noise', 'I_XT')}"
    rows.append(["2. I(X;{T¹..Tᶜ}) grows with the filters", *told])
    told = [
        "; copies: ".join(from_to(by_rule[rule], maps, "non_redundant") for maps in ("trained", "copies"))
        for rule in ("paper", "default")
    ]
    rows.append(["3. pairs of maps have non-redundant information", *told, "not defined"])
    for claim, about in (("4a. layers learn about the label", "label"), ("4b. and then lose the input", "input")):
        count = training_counts(of_layers, about)
        bits = f"{count['raw bits']}; shuffled pairs alone: {count['shuffled pairs alone']}"
        rows.append([claim, bits, count["excess"], count["AMI"]])
    return table(["claim of the paper", "raw bits", "excess over chance", "AMI"], rows)


HOW_TO_READ = """\
All with the default bandwidth; but of claim 3 the paper's definition stands under raw bits, the package's under excess.

- *Raw bits*: I as the paper defines it. *Shuffled pairs*: its mean after shuffling which sample belongs to which, when
  no layer knows anything. *Excess*: the difference of both. *AMI*: the excess over the geometric mean of what both
  variables share with themselves beyond chance; 0 for noise, 1 for a copy.
- A gap is what the second layer has less than the first. The order *holds* where it is not below zero.
- *By the evidence*: decreases / increases / undecided / no value. A gap is decided if it is larger than 0.01 and
  Student's t, of its standard error over blocks of the probe, is significant at 5 % after Holm's correction over the
  gaps of one network at one moment.
- AMI has *no value* where a layer is saturated, to its kernel nearly all samples differ (H above 95 % of log2 n), or
  where what it shares with itself cannot be told from chance, as where all are alike (H near 0). *2 of 3* behind a
  number: so many networks have one.
- *a to b*: at the fewest and at the most filters. *Rises* and *falls*: by more than 0.01.
- Numbers are means ± standard deviations over networks, one a seed; in brackets is the standard error over the probe,
  or, of pairs of maps, that of sampling the pairs."""

PAIR_RULES = """\
The paper's definition: the kernel of a pair is the product of both, and information is raw bits; with the paper's
bandwidth. Beyond chance: a pair has the bandwidths that the rule gives to a pair, and information is the excess; with
the default bandwidth. There copies of one map have no non-redundant information, and noise has neither of the two."""


def limits_of(layers: Sequence[Measured]) -> str:
    """The last paragraph."""
    seeds = len(ordered(layers, "seed"))
    probe = round(2 ** layers[0].values["log2_n"][""])
    return f"""\
{seeds} seeds are {seeds} networks of one architecture on one data set, measured on one probe of {probe} samples. Cases
that share a network or the probe are not independent, and a count of them is no test. The standard deviation says how
networks differ, the standard error how far another probe would move the number; neither speaks of other architectures
or data. AMI obeys no data-processing inequality by construction, and neither do the bits of this functional: an
increase from one layer to the next contradicts no theorem, and decreases prove none. No layer knows more of the input
than the ones before it; what can rise is how much of it this kernel sees. Levels of AMI depend on the number of
samples, on α and on the bandwidth, and AMI is not the part of the label that is known. Nothing here says that losing
the input helps a network to generalise."""


def accuracies(found: Sequence[Measured]) -> str:
    """Of every network that was trained to the end."""
    shares: dict[str, list[str]] = {}
    for one in pick(found, study="accuracy"):
        shares.setdefault(one.activation, []).append(f"{one.values['accuracy']['']:.1%}")
    return "; ".join(f"{activation} {', '.join(texts)}" for activation, texts in shares.items())


def write_page(path: Path, about: Mapping[str, str], found: Sequence[Measured]) -> None:
    """The whole page."""
    layers = pick(found, study="layers")
    filters = pick(found, study="filters")
    definitions = {"paper": "The paper's definition", "default": "Beyond chance"}
    blocks = [
        ["# The paper's study, measured", "", f"Made by `{about['command']}`", ""],
        [f"- {name}: {text}" for name, text in about.items() if name != "command"],
        [f"- test accuracy by seed: {accuracies(found)}", ""],
        ["## What is found", "", *summary(layers, filters), "", HOW_TO_READ, ""],
        ["## 1a. Information about the input falls along the layers: I(X;T_a) ≥ I(X;T_b)", ""],
        [*said_of_order(layers, FORWARD), "", *inequality_table(layers, FORWARD), "", "![Forward](paper_forward.png)"],
        ["", *layer_table(layers, measures_of(FORWARD)), ""],
        ["## 1b. Information about the last error falls on its way to the input: I(δ_K;δ_b) ≥ I(δ_K;δ_a)", ""],
        [*said_of_order(layers, BACKWARD), "", *inequality_table(layers, BACKWARD), ""],
        ["![Backward](paper_backward.png)", "", *layer_table(layers, measures_of(BACKWARD)), ""],
        ["## 2. I(X;{T¹..Tᶜ}) of the first layer grows with its number of filters, and saturates", ""],
        [*said_of_filters(filters, TOTALS, NAMES), growth(filters), "", *filter_tables(filters, TOTALS)],
        [
            "![Filters](paper_filters.png)",
            "",
            "## 3. Redundancy, synergy and non-redundant information of pairs of maps",
        ],
        ["", PAIR_RULES, "", *said_of_filters(filters, PAIRS, definitions), "", *filter_tables(filters, PAIRS)],
        ["![Pairs](paper_pairs.png)", "", "## 4. The information plane by activation function", ""],
        [*said_of_training(layers), "", *training_table(layers), "", "![Plane](paper_plane.png)", ""],
        [*layer_table(layers, OF_THE_PLANE), "", "## What this does not show", "", limits_of(layers)],
    ]
    path.write_text("\n".join(line for block in blocks for line in block) + "\n", encoding="utf-8")
