"""Table and pictures of examples/paper_study.py: functions of its findings, and of nothing else."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from statistics import fmean, stdev
from typing import NamedTuple

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lightning_infoplane import Row, plot_depth, plot_plane
from lightning_infoplane.measurement.verdicts import COLLAPSED_SHARE, SATURATED_SHARE

# What follows this line in an existing table is written by hand and is kept.
BY_HAND = "## What this shows"
RULES = {"paper": "paper's bandwidth, Silverman(5.0)", "default": "default, MedianDistance()"}
# Wong's colours, distinct for colour-blind readers; a marker each besides.
SERIES = {
    "trained": ("#0072B2", "o-", "trained maps"),
    "chance": ("#0072B2", "s:", "trained maps, shuffled pairs"),
    "noise": ("#D55E00", "^--", "pure noise of the same shape"),
    "copies": ("#009E73", "d-.", "copies of the first map"),
}

# Not a quantity of its own: I(X;T) minus its value for shuffled pairs.
BEYOND = "I_XT beyond chance"


class Finding(NamedTuple):
    """One number of the study; a gap has both of its layers in one cell, ``a-to-b``."""

    study: str
    activation: str
    filters: int
    seed: int
    rule: str
    epoch: int
    layer: str
    quantity: str
    value: float


def pick(findings: Iterable[Finding], **wanted: object) -> list[Finding]:
    """The findings whose fields have these values."""
    return [one for one in findings if all(getattr(one, name) == value for name, value in wanted.items())]


def mean_rows(findings: Iterable[Finding]) -> list[Row]:
    """Means over seeds, as rows for the package's own pictures."""
    groups: dict[tuple[int, str, str], list[float]] = {}
    for one in findings:
        groups.setdefault((one.epoch, one.layer, one.quantity), []).append(one.value)
    return [Row(epoch, epoch, "", layer, name, fmean(values)) for (epoch, layer, name), values in groups.items()]


def error_of_mean(values: Sequence[float]) -> float:
    """The standard error of a mean over seeds; zero for one."""
    return stdev(values) / len(values) ** 0.5 if len(values) > 1 else 0.0


def ordered(values: Iterable[Finding], field: str) -> list[object]:
    """The different values of a field, as they come."""
    return list(dict.fromkeys(getattr(one, field) for one in values))


# ---------------------------------------------------------------------------------------------- the inequalities


class Case(NamedTuple):
    """One gap of one pair of layers at one moment of one network, bits."""

    gap: float
    error: float
    shuffled_gap: float
    resolved: bool

    @property
    def above_chance(self) -> float:
        """The gap of what each layer has beyond its shuffled pairs."""
        return self.gap - self.shuffled_gap


def cases(findings: Iterable[Finding], side: str) -> list[Case]:
    """All cases of one inequality, forward (``XT``) or backward (``error``)."""
    entropy, shared = {"XT": ("H_T", "I_XT"), "error": ("H_error", "I_error")}[side]
    groups: dict[tuple[object, ...], dict[tuple[str, str], float]] = {}
    for one in findings:
        groups.setdefault(one[:6], {})[one.layer, one.quantity] = one.value
    found = []
    for value in groups.values():
        for pair, quantity in value:
            if quantity == f"DPI_{side}":
                ends = pair.split("-to-")
                first, second = (value[end, f"{shared}_chance"] for end in ends)
                shares = [value[end, entropy] / value["", "log2_n"] for end in ends]
                resolved = all(COLLAPSED_SHARE < share < SATURATED_SHARE for share in shares)
                error = value.get((pair, f"DPI_{side}_stderr"), 0.0)
                found.append(Case(value[pair, quantity], error, first - second, resolved))
    return found


def count(found: Sequence[Case], holds: Callable[[Case], bool]) -> str:
    """How many of how many."""
    return f"{sum(map(holds, found))}/{len(found)}"


def inequality_table(findings: Sequence[Finding], side: str) -> list[str]:
    """One line for each rule, activation and moment."""
    lines = [
        "| bandwidth | activation | moment | held | beyond 2 s.e. | violated beyond 2 s.e. | shuffled pairs: held "
        "| above chance: held | both layers resolved | and of these held |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for rule in RULES:
        of_rule = pick(findings, study="dpi", rule=rule)
        groups = [
            (activation, name, pick(of_rule, activation=activation, epoch=epoch))
            for activation in ordered(of_rule, "activation")
            for epoch, name in moments(findings).items()
        ]
        for activation, name, group in [*groups, ("**all**", "", of_rule)]:
            found = cases(group, side)
            resolved = [case for case in found if case.resolved]
            cells = [
                count(found, lambda case: case.gap >= 0),
                count(found, lambda case: case.gap > 2 * case.error),
                count(found, lambda case: case.gap < -2 * case.error),
                count(found, lambda case: case.shuffled_gap >= 0),
                count(found, lambda case: case.above_chance >= 0),
                count(found, lambda case: case.resolved),
                count(resolved, lambda case: case.gap >= 0),
            ]
            lines.append(f"| {rule} | {activation} | {name} | {' | '.join(cells)} |")
    return lines


def moments(findings: Iterable[Finding]) -> dict[int, str]:
    """The three moments with gaps, by epoch."""
    epochs = sorted({one.epoch for one in findings if one.quantity == "DPI_XT"})
    return dict(zip(epochs, ("initialisation", "after one epoch", "end"), strict=False))


def layer_table(findings: Sequence[Finding], quantity: str, entropy: str) -> list[str]:
    """Means over seeds of one quantity, layer by layer, with its chance level and the share of log2 n."""
    layers = [str(layer) for layer in ordered(pick(findings, study="dpi", quantity=quantity), "layer")]
    lines = [
        f"| bandwidth | activation | moment | {' | '.join(layers)} |",
        "|" + "---|" * (3 + len(layers)),
    ]
    for rule in RULES:
        for activation in ordered(pick(findings, study="dpi", rule=rule), "activation"):
            for epoch, name in moments(findings).items():
                group = pick(findings, study="dpi", rule=rule, activation=activation, epoch=epoch)
                value = {(row.place, row.quantity): row.value for row in mean_rows(group)}
                cells = [
                    f"{value[layer, quantity]:.2f} ({value[layer, f'{quantity}_chance']:.2f}) "
                    f"{value[layer, entropy] / value['', 'log2_n']:.0%}"
                    for layer in layers
                ]
                lines.append(f"| {rule} | {activation} | {name} | {' | '.join(cells)} |")
    return lines


# ---------------------------------------------------------------------------------------------------- the filters


def over_seeds(findings: Iterable[Finding], rule: str, layer: str, quantity: str) -> dict[int, tuple[float, float]]:
    """Mean and its standard error over seeds, by number of filters."""
    signs = {"I_XT": 1, "I_XT_chance": -1} if quantity == BEYOND else {quantity: 1}
    totals: dict[tuple[int, int], float] = {}
    for one in pick(findings, study="filters", rule=rule, layer=layer):
        if one.quantity in signs:
            key = one.filters, one.seed
            totals[key] = totals.get(key, 0.0) + signs[one.quantity] * one.value
    groups: dict[int, list[float]] = {}
    for (filters, _), value in totals.items():
        groups.setdefault(filters, []).append(value)
    return {filters: (fmean(values), error_of_mean(values)) for filters, values in groups.items()}


def filter_table(findings: Sequence[Finding], quantity: str, sources: Mapping[str, tuple[str, str]]) -> list[str]:
    """One line for each rule and number of filters; ``sources`` are (layer, quantity) by column."""
    lines = [f"| bandwidth | filters | {' | '.join(sources)} |", "|" + "---|" * (2 + len(sources))]
    for rule in RULES:
        columns = [over_seeds(findings, rule, *source) for source in sources.values()]
        for filters in columns[0]:
            cells = ["{:z.3f} ± {:.3f}".format(*column[filters]) for column in columns]
            lines.append(f"| {rule} | {filters} | {' | '.join(cells)} |")
    return [f"{quantity}, bits, mean over seeds ± its standard error.", "", *lines]


def pair_table(findings: Sequence[Finding], quantity: str, name: str) -> list[str]:
    """A pair quantity of trained maps and of the nulls, and the error of the sampling of pairs."""
    sources = {SERIES[layer][2]: (layer, quantity) for layer in ("trained", "noise", "copies")}
    sources["s.e. of the sampling of pairs (trained maps)"] = ("trained", f"{quantity}_stderr")
    return filter_table(findings, name, sources)


# -------------------------------------------------------------------------------------------------------- output


def write_table(path: Path, about: Mapping[str, str], findings: Sequence[Finding]) -> None:
    """The whole page; what was written by hand below its heading stays."""
    old = path.read_text(encoding="utf-8") if path.exists() else ""
    by_hand = old.partition(BY_HAND)
    right = {
        activation: [f.value for f in pick(findings, quantity="accuracy", activation=activation)]
        for activation in ordered(pick(findings, study="dpi"), "activation")
    }
    accuracies = "; ".join(f"{name} {', '.join(f'{v:.1%}' for v in values)}" for name, values in right.items())
    limits = {rule: fmean(f.value for f in pick(findings, rule=rule, quantity="H_X")) for rule in RULES}
    cell = "Cells: bits (shuffled pairs), H as a share of log2 n; means over seeds."
    blocks = [
        ["# The paper's study, measured", "", f"Made by `{about['command']}`", ""],
        [f"- {name}: {text}" for name, text in about.items() if name != "command"],
        [f"- test accuracy by seed: {accuracies}"],
        [f"- H(X): {', '.join(f'{value:.3f} bits ({rule})' for rule, value in limits.items())}", ""],
        ["## 1. Forward inequality: I(X;T_a) ≥ I(X;T_b) along the layers", "", *HOW_TO_READ, ""],
        [*inequality_table(findings, "XT"), "", "![Forward](paper_forward.png)", "", f"I(X;T). {cell}", ""],
        [*layer_table(findings, "I_XT", "H_T"), "", "## 1. Backward inequality: I(δ_K;δ_k) falls towards the input"],
        ["", *inequality_table(findings, "error"), "", "![Backward](paper_backward.png)", "", f"I(δ_K;δ_k). {cell}"],
        ["", *layer_table(findings, "I_error", "H_error"), "", "## 2. I(X;{T¹..Tᶜ}) against the number of filters"],
        ["", *filter_table(findings, "I(X;{T¹..Tᶜ})", TOLD), "", "![Filters](paper_filters.png)", ""],
        ["## 3. Redundancy and synergy of pairs of maps", ""],
        [*pair_table(findings, "redundancy_synergy", "Redundancy minus synergy"), ""],
        [*pair_table(findings, "non_redundant", "Weighted non-redundant information"), ""],
        ["![Pairs](paper_pairs.png)", "", "## 4. Information plane by activation function", "", f"I(T;Y). {cell}", ""],
        [*layer_table(findings, "I_TY", "H_T"), "", "![Plane](paper_plane.png)", ""],
    ]
    page = "\n".join(line for block in blocks for line in block) + "\n"
    path.write_text(page + "".join(by_hand[1:]), encoding="utf-8")


TOLD = {
    **{SERIES[layer][2]: (layer, "I_XT") for layer in ("trained", "noise", "copies")},
    **{f"{SERIES[layer][2]}, beyond shuffled": (layer, BEYOND) for layer in ("trained", "noise", "copies")},
    "H(T) of trained maps": ("trained", "H_T"),
}

HOW_TO_READ = [
    "A case is one pair of layers of one seed at one moment. *Held*: gap ≥ 0. *s.e.*: jackknife over the probe.",
    "*Shuffled pairs: held* is the chance level, the same count after shuffling which sample belongs to which, when",
    "no layer knows anything; a coin would give half. *Above chance*: the inequality between what the layers have",
    "beyond their shuffled values. *Resolved*: 0.05 < H/log2 n < 0.95 in both layers, so that the kernel is neither",
    "collapsed nor saturated and a gap can say something about the network.",
]


def write_pictures(out: Path, findings: Sequence[Finding]) -> None:
    """Five pictures."""
    dpi = pick(findings, study="dpi")
    at_moments = [one for one in dpi if one.epoch in moments(findings)]
    pictures = {
        "forward": panels(at_moments, lambda rows, ax: plot_depth(rows, "I_XT", ax), "dotted: shuffled pairs"),
        "backward": panels(at_moments, draw_errors, "dotted: shuffled pairs"),
        "plane": panels(dpi, draw_plane, "hollow: before training, filled: at the end; ×: at the end, shuffled pairs"),
        "filters": filter_picture(findings),
        "pairs": pair_picture(findings),
    }
    for name, figure in pictures.items():
        figure.savefig(out / f"paper_{name}.png", dpi=80, pil_kwargs={"optimize": True})


def panels(findings: Sequence[Finding], draw: Callable[[list[Row], Axes], object], key: str) -> Figure:
    """A panel for every rule and activation, of means over seeds, and one legend below them."""
    activations = [str(name) for name in ordered(findings, "activation")]
    figure = Figure(figsize=(10, 7.8), layout="constrained")
    axes = figure.subplots(len(RULES), len(activations), squeeze=False)
    for row, (rule, title) in zip(axes, RULES.items(), strict=True):
        for ax, activation in zip(row, activations, strict=True):
            draw(mean_rows(pick(findings, rule=rule, activation=activation)), ax)
            ax.set_title(f"{activation}, {title}", loc="left", fontsize="medium")
            if legend := ax.get_legend():
                legend.remove()
    entries = {label: handle for handle, label in zip(*axes[0, 0].get_legend_handles_labels(), strict=True)}
    entries.pop("shuffled pairs", None)  # the plane's shaded foot, which is not drawn here
    figure.legend(
        list(entries.values()), list(entries), loc="outside lower center", ncols=5, title=key, fontsize="small"
    )
    return figure


def draw_errors(rows: list[Row], ax: Axes) -> None:
    """Error signals along the layers; they travel from right to left."""
    plot_depth(rows, "I_error", ax)
    ax.set(xlabel="← errors travel this way", ylabel=r"$I(\delta_K;\,\delta_k)$ (bits)")


def draw_plane(rows: list[Row], ax: Axes) -> None:
    """The information plane, and for every layer a cross where its shuffled pairs end."""
    plot_plane([row for row in rows if not row.quantity.endswith("_chance")], ax)
    ax.set_title("", loc="right")
    colours = {str(line.get_label()): line.get_color() for line in ax.get_lines()}
    last = max(row.epoch for row in rows)
    end = {(str(row.place), row.quantity): row.value for row in rows if row.epoch == last}
    for layer in [layer for layer, quantity in end if quantity == "I_TY"]:
        x, y = end[layer, "I_XT_chance"], end[layer, "I_TY_chance"]
        ax.plot(x, y, "x", color=colours[layer], markersize=8, markeredgewidth=2)
    right, top = (max(row.value for row in rows if row.quantity == name) for name in ("I_XT", "I_TY"))
    ax.set(xlim=(-0.04 * right, 1.08 * right), ylim=(-0.04 * top, 1.12 * top))
    ax.set(xlabel="I(X;T) (bits)", ylabel="I(T;Y) (bits)")


def filter_picture(findings: Sequence[Finding]) -> Figure:
    """I(X;{T¹..Tᶜ}) beside its nulls, and what it exceeds its own shuffled pairs by."""
    figure = Figure(figsize=(10, 7.8), layout="constrained")
    (top, bottom), sources = figure.subplots(2, 2), ("trained", "noise", "copies")
    for above, below, (rule, title) in zip(top, bottom, RULES.items(), strict=True):
        for series in SERIES:
            source = ("trained", "I_XT_chance") if series == "chance" else (series, "I_XT")
            against_filters(above, over_seeds(findings, rule, *source), series)
        for series in sources:
            against_filters(below, over_seeds(findings, rule, series, BEYOND), series)
        limit = fmean(one.value for one in pick(findings, study="filters", rule=rule, quantity="H_X"))
        above.axhline(limit, color="0.4", linestyle=(0, (1, 3)), label="limit H(X)")
        above.set(ylabel="I(X;{T¹..Tᶜ}) (bits)", ylim=(0, 1.12 * limit))
        below.set(ylabel="the same, minus its shuffled pairs (bits)")
        below.axhline(0, color="0.8", linewidth=0.8, zorder=-1)
        above.set_title(title, loc="left", fontsize="medium")
    figure.legend(*above.get_legend_handles_labels(), loc="outside lower center", ncols=5, fontsize="small")
    return figure


def pair_picture(findings: Sequence[Finding]) -> Figure:
    """Both pair quantities beside their nulls."""
    figure = Figure(figsize=(10, 7.8), layout="constrained")
    names = {"redundancy_synergy": "redundancy − synergy", "non_redundant": "weighted non-redundant information"}
    for row, (quantity, name) in zip(figure.subplots(2, 2), names.items(), strict=True):
        for ax, (rule, title) in zip(row, RULES.items(), strict=True):
            for series in ("trained", "noise", "copies"):
                against_filters(ax, over_seeds(findings, rule, series, quantity), series)
            ax.set(ylabel=f"{name} (bits a pair)", ylim=(0, 1.08 * ax.get_ylim()[1]))
            ax.set_title(title, loc="left", fontsize="medium")
    figure.legend(*ax.get_legend_handles_labels(), loc="outside lower center", ncols=3, fontsize="small")
    return figure


def against_filters(ax: Axes, points: Mapping[int, tuple[float, float]], series: str) -> None:
    """One line with its standard errors over seeds."""
    colour, style, label = SERIES[series]
    means, errors = zip(*points.values(), strict=True)
    ax.errorbar(list(points), means, errors, fmt=style, color=colour, label=label, capsize=3, markersize=5)
    ax.set_xlabel("filters of the first layer")
    ax.set_xticks(list(points))
