"""Pictures of examples/paper_study.py: functions of what was measured, and of nothing else."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from paper_findings import MAPS, RULES, Measured, is_moment, moments, ordered, over_seeds, pick, sizes

from lightning_infoplane.views.plots import layer_styles

# Wong's colours, distinct for colour-blind readers; a marker each besides.
STYLES = {
    "trained": ("#0072B2", "o-"),
    "noise": ("#D55E00", "^--"),
    "copies": ("#009E73", "d-."),
    "": ("#0072B2", "s:"),
}
# From pale to dark in the order of time.
SHADES = ("#E69F00", "#B2541A", "#4A1C0A")


def write_pictures(out: Path, found: Sequence[Measured]) -> None:
    """Five pictures."""
    layers = pick(found, study="layers")
    filters = pick(found, study="filters")
    pictures = {
        "forward": depth_picture(layers, {"AMI_XT": "AMI(X;T)", "I_XT": "I(X;T) (bits)"}),
        "backward": depth_picture(layers, {"AMI_error": "AMI(δ_K;δ_k)", "I_error": "I(δ_K;δ_k) (bits)"}),
        "plane": plane_picture(layers),
        "filters": filter_picture(filters, TOTALS, RULES),
        "pairs": filter_picture(filters, PAIRS, DEFINITIONS),
    }
    for name, figure in pictures.items():
        figure.savefig(out / f"paper_{name}.png", dpi=80, pil_kwargs={"optimize": True})


# --------------------------------------------------------------------------------------------------------- layers


def depth_picture(found: Sequence[Measured], measures: Mapping[str, str]) -> Figure:
    """AMI and raw bits against depth at three moments, for every rule and activation."""
    activations = ordered(found, "activation")
    figure = Figure(figsize=(14, 7), layout="constrained")
    grid = figure.subplots(len(measures), len(RULES) * len(activations), squeeze=False)
    panels = [(rule, activation) for rule in RULES for activation in activations]
    for row, (quantity, label) in zip(grid, measures.items(), strict=True):
        for ax, (rule, activation) in zip(row, panels, strict=True):
            draw_depth(ax, pick(found, rule=rule, activation=activation), quantity)
            ax.set_title(f"{activation}, {RULES[rule].partition(',')[0]}", loc="left", fontsize="medium")
        row[0].set_ylabel(label)
    handles, labels = grid[-1, 0].get_legend_handles_labels()
    title = "mean ± standard deviation over networks; dotted: shuffled pairs"
    figure.legend(handles, labels, loc="outside lower center", ncols=3, title=title, fontsize="small")
    return figure


def draw_depth(ax: Axes, found: Sequence[Measured], quantity: str) -> None:
    """One panel; where no network has a value there is no point."""
    layers = list(next(one for one in found if is_moment(one)).values[f"I_{quantity.partition('_')[2]}"])
    places = range(len(layers))
    for (epoch, name), colour in zip(moments(found).items(), SHADES, strict=True):
        group = pick(found, epoch=epoch)
        spreads = [over_seeds(group, layer, quantity) for layer in layers]
        bars = [one.deviation for one in spreads]
        ax.errorbar(places, [one.mean for one in spreads], bars, fmt="o-", color=colour, label=name, capsize=3, ms=4)
        chance = [over_seeds(group, layer, f"{quantity}_chance").mean for layer in layers]
        ax.plot(places, chance, ":", color=colour)
    ax.set_xticks(places, layers)
    ax.set_xlim(-0.3, len(layers) - 0.7)
    ax.axhline(0, color="0.8", linewidth=0.8, zorder=-1)
    if quantity.startswith("AMI"):
        ax.set_ylim(-0.05, 1.05)
    if quantity.endswith("error"):
        ax.set_xlabel("← errors travel this way")


def plane_picture(found: Sequence[Measured]) -> Figure:
    """The plane in AMI, and beside it in raw bits under both rules, for every activation."""
    panels = {
        "AMI, default bandwidth": ("default", "AMI_XT", "AMI_TY"),
        "raw bits, default bandwidth": ("default", "I_XT", "I_TY"),
        "raw bits, paper's bandwidth": ("paper", "I_XT", "I_TY"),
    }
    activations = ordered(found, "activation")
    figure = Figure(figsize=(13, 8), layout="constrained")
    grid = figure.subplots(len(activations), 3, squeeze=False, width_ratios=(4, 3, 3))
    for row, activation in zip(grid, activations, strict=True):
        for ax, (title, (rule, across, up)) in zip(row, panels.items(), strict=True):
            draw_plane(ax, pick(found, rule=rule, activation=activation), across, up)
            ax.set_title(f"{activation}, {title}", loc="left", fontsize="medium")
    title = "hollow: before training, filled: at the end, with standard deviations over networks; ×: shuffled pairs"
    handles, labels = ax.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=5, title=title, fontsize="small")
    return figure


def draw_plane(ax: Axes, found: Sequence[Measured], across: str, up: str) -> None:
    """A path a layer, with error bars at its ends; in bits a cross where its shuffled pairs end."""
    layers = list(found[0].values["I_XT"])
    epochs = sorted({one.epoch for one in found})
    for layer, (colour, marker) in layer_styles(layers).items():
        path = [[over_seeds(pick(found, epoch=epoch), layer, key) for epoch in epochs] for key in (across, up)]
        ax.plot(*([one.mean for one in axis] for axis in path), "-", color=colour, alpha=0.5)
        for end, face in ((0, "white"), (-1, colour)):
            x, y = (axis[end] for axis in path)
            label = layer if end else None
            ax.errorbar(
                x.mean, y.mean, y.deviation, x.deviation, marker, color=colour, mfc=face, elinewidth=1, label=label
            )
        x, y = (over_seeds(pick(found, epoch=epochs[-1]), layer, f"{key}_chance") for key in (across, up))
        ax.plot(x.mean, y.mean, "x", color=colour, markersize=8, markeredgewidth=2)
    ax.set(xlabel=_symbol(across), ylabel=_symbol(up))
    if across.startswith("AMI"):
        ax.set(xlim=(-0.03, 1.03), ylim=(-0.03, 1.03))
    else:
        ax.set(xlim=(0, 1.05 * ax.get_xlim()[1]), ylim=(0, 1.05 * ax.get_ylim()[1]))


def _symbol(quantity: str) -> str:
    name, of = quantity.split("_")
    symbol = f"{name}({';'.join(of if of == 'TY' else 'XT')})"
    return symbol if name == "AMI" else f"{symbol} (bits)"


# -------------------------------------------------------------------------------------------------------- filters


TOTALS = {"I_XT": "I(X;{T¹..Tᶜ}) (bits)", "I_XT_excess": "the same beyond chance (bits)", "AMI_XT": "AMI(X;{T¹..Tᶜ})"}
PAIRS = {"redundancy_synergy": "redundancy − synergy (bits)", "non_redundant": "non-redundant (bits)"}
# Of each rule, what pairs are measured by.
DEFINITIONS = {
    "default": "beyond chance, default bandwidth of a pair",
    "paper": "the paper's definition, and its bandwidth",
}


def filter_picture(found: Sequence[Measured], measures: Mapping[str, str], titles: Mapping[str, str]) -> Figure:
    """Quantities of trained maps against the number of filters beside their nulls, for both rules."""
    figure = Figure(figsize=(10, 3.4 * len(measures) + 0.6), layout="constrained")
    grid = figure.subplots(len(measures), len(RULES), squeeze=False)
    for row, (quantity, label) in zip(grid, measures.items(), strict=True):
        for ax, (rule, title) in zip(row, titles.items(), strict=True):
            of_rule = pick(found, rule=rule)
            for layer, name in MAPS.items():
                draw_filters(ax, of_rule, (layer, quantity), STYLES[layer], name)
            if quantity == "I_XT":
                draw_filters(ax, of_rule, ("trained", "I_XT_chance"), STYLES[""], "trained maps, shuffled pairs")
                limit = fmean(one.values["H_X"][""] for one in of_rule)
                ax.axhline(limit, color="0.4", linestyle="--", linewidth=1, label="limit H(X)")
                ax.set_ylim(0, 1.08 * limit)
            ax.axhline(0, color="0.8", linewidth=0.8, zorder=-1)
            ax.set_title(title, loc="left", fontsize="medium")
        row[0].set_ylabel(label)
        if quantity == "AMI_XT":
            for ax in row:
                ax.set_ylim(-0.05, 1.05)
    for ax in grid[-1]:
        ax.set_xlabel("filters of the first layer")
    handles, labels = grid[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=5, fontsize="small")
    return figure


def draw_filters(
    ax: Axes, found: Sequence[Measured], source: tuple[str, str], style: tuple[str, str], label: str
) -> None:
    """One line with standard deviations over networks; no point where none has a value."""
    spreads = [over_seeds(pick(found, filters=size), *source) for size in sizes(found)]
    colour, fmt = style
    bars = [one.deviation for one in spreads]
    means = [one.mean for one in spreads]
    ax.errorbar(sizes(found), means, bars, fmt=fmt, color=colour, label=label, capsize=3, markersize=5)
    ax.set_xticks(sizes(found))
