"""What the numbers are worth: rank fidelity, labels, nulls, standard errors, the test of a gap, bias in n.

    python benchmarks/calibration.py            # about ten minutes, one thread
    python benchmarks/calibration.py --quick    # a smoke test in half a minute, which writes nothing

All numbers are rows of ``InformationPlane(Estimator()).measure(...)``, on data of which the truth is known. Writes
benchmarks/results/calibration.json, calibration.md and calibration.png.
"""

import argparse
import io
import math
import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from calibration_chains import CHANNELS, FAMILIES, NETWORKS, REMOVES_NOISE, Chain, Seen, generator, noisy, normal
from common import RESULTS, write
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Generator, Tensor
from torch.nn.functional import one_hot

from lightning_infoplane import Estimator, InformationPlane, Jackknife

DEFAULT = Estimator()
# Values alone, where nothing else is looked at.
WITHOUT_ERRORS = Estimator(standard_errors=None)
MEASURES = {
    "I_XT": "raw I(X;T)",
    "chance": "chance level alone",
    "excess": "I(X;T) − chance",
    "AMI_XT": "AMI(X;T)",
    "CKA_XT": "CKA(X;T)",
}
SIDES = {"X": "DPI_AMI_XT", "Y": "DPI_AMI_TY"}
# Layer and quantity, of two layers and the gap between them.
TRIED = [
    *((layer, quantity) for layer in ("first", "second") for quantity in ("AMI_XT", "AMI_TY")),
    *(("first-to-second", gap) for gap in SIDES.values()),
]
WIDTHS = (1, 2, 10, 100, 1000, 3072)
# What standard errors may be over the true scatter, from so many samples on.
BAND = (0.8, 2.0)
FEWEST = 256
LEVEL = 0.05
SMALLEST = 0.01
# Noise of the two layers of an exact equality, and of the changed layers, as parts of a standard deviation: these make
# the mean gap about three standard errors, on the side of X and on that of Y.
SAME_NOISE = 0.5
MORE_NOISE = {
    ("ten-class mixture", 256): (0.675, 0.715),
    ("ten-class mixture", 512): (0.592, 0.613),
    ("images", 256): (0.553, 0.61),
    ("images", 512): (0.526, 0.556),
    ("continuous target", 256): (0.67, 6.0),
    ("continuous target", 512): (0.593, 1.05),
}


class Sizes(NamedTuple):
    """How often everything is repeated.

    Args:
        chains: of each family.
        labels: draws of each channel of labels.
        noises: draws of noise of each width.
        p_values: of each of the five kinds of nulls, half of them about X and half about Y.
        probes: to measure standard errors, by number of samples.
        jackknife: probes for the jackknife.
        equal: probes of two equal layers for each network, by number of samples.
        changed: probes of changed layers, likewise.
    """

    chains: int
    labels: int
    noises: int
    p_values: int
    probes: dict[int, int]
    jackknife: int
    equal: dict[int, int]
    changed: dict[int, int]


FULL = Sizes(30, 4, 20, 200, {64: 40, 128: 40, 256: 40, 512: 32, 1024: 16}, 20, {256: 270, 512: 30}, {256: 40, 512: 30})
QUICK = Sizes(1, 1, 1, 4, {64: 2, 256: 2}, 2, {256: 2}, {256: 2})

Table = dict[str, dict[str, float]]
Values = dict[tuple[str, str], float]
# By network, layer and quantity, and then by number of samples.
Settings = dict[str, dict[int, dict[str, float]]]


class Line(NamedTuple):
    """One thing that must be shown."""

    text: str
    holds: bool


# ----------------------------------------------------------------------------------------------------- measurements


def measured(
    inputs: Tensor, targets: Tensor | None, layers: Mapping[str, Tensor], estimator: Estimator = DEFAULT
) -> Values:
    """Every number of one measurement by place and quantity, NaN where there is none."""
    rows = InformationPlane(estimator).measure(inputs, targets, layers)
    values: Values = defaultdict(lambda: math.nan)
    values.update({(str(row.place), row.quantity): row.value for row in rows})
    return values


def rank_fidelity(chains: int) -> dict[str, Table]:
    """For each family and measure: correlation with the truth in a chain, neighbours in order, and mean ranks."""
    found: dict[str, Table] = {}
    for place, (family, make) in enumerate(FAMILIES.items()):
        told = [_told(make(generator(1, place, seed), 256)) for seed in range(chains)]
        found[family] = {
            key: {name: _mean(one[key][name] for one in told) for name in told[0][key]} for key in MEASURES
        }
    return found


def _told(chain: Chain) -> Table:
    """What each measure says of one chain."""
    stages = [str(stage) for stage in range(len(chain.layers))]
    values = measured(chain.inputs, None, dict(zip(stages, chain.layers, strict=True)))
    columns = {key: torch.tensor([values[stage, key] for stage in stages]) for key in ("I_XT", "AMI_XT", "CKA_XT")}
    columns["chance"] = torch.tensor([values[stage, "I_XT_chance"] for stage in stages])
    columns["excess"] = columns["I_XT"] - columns["chance"]
    truth = _ranks(torch.tensor(chain.truth))
    told = {}
    for key, column in columns.items():
        ranks = _ranks(column)
        told[key] = {
            "spearman": float(torch.corrcoef(torch.stack([ranks, truth]))[0, 1]),
            "neighbours": float((column.diff() < 0).double().mean()),
        } | {f"rank {stage}": float(rank) for stage, rank in zip(stages, ranks, strict=True)}
    return told


def label_channels(draws: int) -> dict[str, Table]:
    """AMI(T;Y) and CKA(T;Y) of labels after a channel, as one-hot vectors, and what is true of it; n = 512."""
    found: dict[str, Table] = {}
    for place, (kind, channels) in enumerate(CHANNELS.items()):
        found[kind] = {}
        for number, channel in enumerate(channels):
            pairs = []
            for seed in range(draws):
                draw = generator(2, place, number, seed)
                labels = torch.randint(channel.classes, (512,), generator=draw)
                code = one_hot(channel.seen(labels, draw)).float()
                values = measured(normal(draw, 512, 2), labels, {"code": code}, WITHOUT_ERRORS)
                pairs.append((values["code", "AMI_TY"], values["code", "CKA_TY"]))
            own = math.log2(channel.classes)
            share = channel.information / own
            found[kind][channel.name] = {
                "I/H(Y)": share,
                "I/√(H(T)·H(Y))": channel.information / math.sqrt(channel.entropy * own),
                "AMI": _mean(ami for ami, _ in pairs),
                "CKA": _mean(cka for _, cka in pairs),
                "AMI furthest from it": max((ami for ami, _ in pairs), key=lambda ami: abs(ami - share)),
            }
    return found


def independent_noise(draws: int) -> Table:
    """Adjusted information of noise that never saw a mixture of ten classes, by its width; n = 512."""
    seen: dict[int, list[tuple[float, float]]] = {width: [] for width in WIDTHS}
    for seed in range(draws):
        draw = generator(3, seed)
        probe = NETWORKS["ten-class mixture"](draw, 512)
        values = measured(probe.inputs, probe.targets, {str(width): normal(draw, 512, width) for width in WIDTHS})
        for width in WIDTHS:
            for key in ("AMI_XT", "AMI_TY"):
                seen[width].append((values[str(width), key], values[str(width), f"{key}_stderr"]))
    return {f"{width:,}": _of_noise(pairs) for width, pairs in seen.items()}


def _of_noise(pairs: list[tuple[float, float]]) -> dict[str, float]:
    known = [(value, error) for value, error in pairs if not math.isnan(value)]
    return {
        "values": len(pairs),
        "known": len(known),
        "mean": _mean(value for value, _ in known),
        "sd": _deviation([value for value, _ in known]),
        "largest": max((abs(value) for value, _ in known), default=math.nan),
        "stderr": _root_mean_square(error for _, error in known),
        "largest in stderr": max((abs(value) / error for value, error in known), default=math.nan),
    }


def null_p_values(count: int) -> dict[str, float]:
    """Largest distance of the distribution of p-values from the uniform one, for each kind of null and for all."""
    found: dict[str, list[float]] = {}
    for place, kind in enumerate(("normal, 1 dimension", "normal, 60 dimensions", "heavy tails", "classes", "maps")):
        p_values = []
        for seed in range(count // 2):
            draw = generator(4, place, seed)
            inputs, layer = _null(kind, draw), _null(kind, draw)
            labels = torch.randint(2 + place, (128,), generator=draw)
            values = measured(inputs, labels, {"T": layer}, WITHOUT_ERRORS)
            p_values += [values["T", "AMI_XT_p"], values["T", "AMI_TY_p"]]
        found[kind] = p_values
    found["all"] = [p for p_values in found.values() for p in p_values]
    return {kind: _kolmogorov(p_values) for kind, p_values in found.items()}


def _null(kind: str, draw: Generator) -> Tensor:
    """128 samples that depend on nothing."""
    if kind == "heavy tails":
        return normal(draw, 128, 5) / torch.rand(128, 1, generator=draw)
    if kind == "classes":
        return one_hot(torch.randint(10, (128,), generator=draw)).float()
    if kind == "maps":
        return normal(draw, 128, 4, 5, 5).relu()
    return normal(draw, 128, 60 if "60" in kind else 1)


def standard_errors(probes: Mapping[int, int], estimator: Estimator = DEFAULT) -> Settings:
    """Two layers of each network over independent probes: mean, scatter, and the standard error that is shown."""
    found: Settings = defaultdict(dict)
    for place, (network, make) in enumerate(NETWORKS.items()):
        for n, count in probes.items():
            seen = [_of_probe(make(generator(5, place, n, seed), n), estimator) for seed in range(count)]
            for layer, quantity in TRIED:
                values = [one[layer, quantity] for one in seen]
                error = _root_mean_square(one[layer, f"{quantity}_stderr"] for one in seen)
                scatter = _deviation(values)
                numbers = {"mean": _mean(values), "sd": scatter, "stderr": error, "ratio": error / scatter}
                found[f"{network}, {layer}, {quantity}"][n] = numbers
    return found


def _of_probe(seen: Seen, estimator: Estimator) -> Values:
    return measured(seen.inputs, seen.targets, {"first": seen.first, "second": seen.second}, estimator)


def equal_layers(probes: Mapping[int, int]) -> Table:
    """How often the test calls a gap between two noisy copies of one layer, for which it is zero on average.

    Of each probe there are two one-sided tests, of an increase and of a decrease, and both count.
    """
    found: Table = {}
    for place, (network, make) in enumerate(NETWORKS.items()):
        tests: dict[str, list[tuple[float, float]]] = {side: [] for side in SIDES}
        for n, count in probes.items():
            for seed in range(count):
                draw = generator(6, place, n, seed)
                probe = make(draw, n)
                layers = {name: noisy(probe.first, SAME_NOISE, draw) for name in ("a", "b")}
                values = measured(probe.inputs, probe.targets, layers)
                for side, gap in SIDES.items():
                    tests[side].append((values["a-to-b", gap], values["a-to-b", f"{gap}_p"]))
        for side, pairs in tests.items():
            sure = [gap for gap, p in pairs if p < LEVEL]
            found[f"{network}, {side}"] = {
                "cases": len(pairs),
                "increase": sum(gap < 0 for gap in sure) / len(pairs),
                "decrease": sum(gap > 0 for gap in sure) / len(pairs),
                "one-sided": len(sure) / (2 * len(pairs)),
                "one-sided and large": sum(abs(gap) > SMALLEST for gap in sure) / (2 * len(pairs)),
            }
    return found


def changed_layers(probes: Mapping[int, int]) -> Table:
    """How often the test calls a true change of about three standard errors: an increase for X, a decrease for Y."""
    found: Table = {}
    for place, (network, make) in enumerate(NETWORKS.items()):
        for n, count in probes.items():
            seen = []
            for seed in range(count):
                draw = generator(7, place, n, seed)
                seen.append(_changed(make(draw, n), MORE_NOISE[network, n], draw))
            for side, pair, sign in (("X", "less X-to-base", -1), ("Y", "base-to-less Y", 1)):
                gaps = [sign * one[pair, SIDES[side]] for one in seen]
                p_values = [one[pair, f"{SIDES[side]}_p"] for one in seen]
                error = _root_mean_square(one[pair, f"{SIDES[side]}_stderr"] for one in seen)
                sure = [gap for gap, p in zip(gaps, p_values, strict=True) if p < LEVEL and gap > 0]
                found[f"{network}, n = {n}, {side}"] = {
                    "cases": count,
                    "gap": _mean(gaps),
                    "gap in stderr": _mean(gaps) / error,
                    "called": len(sure) / count,
                    "called and large": sum(gap > SMALLEST for gap in sure) / count,
                }
    return found


def _changed(seen: Seen, noise: tuple[float, float], draw: Generator) -> Values:
    """A layer between one with less of X and one with less of Y."""
    layers = {
        "less X": noisy(seen.first, noise[0], draw),
        "base": noisy(seen.first, SAME_NOISE, draw),
        "less Y": noisy(seen.first, noise[1], draw),
    }
    return measured(seen.inputs, seen.targets, layers)


# ------------------------------------------------------------------------------------------------------- statistics


def _mean(values: Iterable[float]) -> float:
    return statistics.fmean(values)


def _root_mean_square(values: Iterable[float]) -> float:
    return math.sqrt(_mean(value**2 for value in values))


def _deviation(values: Sequence[float]) -> float:
    return statistics.stdev(values) if len(values) > 1 else math.nan


def _ranks(values: Tensor) -> Tensor:
    """1 for the smallest; of equal ones the mean of their places; one without a value comes before all."""
    smaller = (values < values.unsqueeze(1)).double().sum(1)
    as_large = (values == values.unsqueeze(1)).double().sum(1)
    return smaller + (as_large + 1) / 2


def _kolmogorov(p_values: list[float]) -> float:
    """The largest distance between the shares of values up to a point and that point."""
    ordered = torch.tensor(sorted(p_values), dtype=torch.float64)
    steps = torch.arange(len(ordered) + 1).double() / len(ordered)
    return float(torch.maximum(steps[1:] - ordered, ordered - steps[:-1]).max())


# --------------------------------------------------------------------------------------------------- what must hold


def must_show(found: Mapping[str, object]) -> list[Line]:
    """What the study is for, and whether it came out."""
    return [*_of_ranks(found), *_of_labels_and_nulls(found), *_of_errors_and_tests(found)]


def correlation(families: Mapping[str, Table], key: str, every: bool = False) -> float:
    """Mean over the families, without the one that removes noise unless all are wanted."""
    return _mean(of[key]["spearman"] for family, of in families.items() if every or family != REMOVES_NOISE)


def _of_ranks(found: Mapping[str, Any]) -> list[Line]:
    families = found["rank fidelity"]
    ami, cka = (correlation(families, key) for key in ("AMI_XT", "CKA_XT"))
    every = correlation(families, "AMI_XT", every=True)
    cka_every = correlation(families, "CKA_XT", every=True)
    return [
        Line(f"AMI(X;T) orders the stages of a chain as the truth does: rank correlation {ami:.3f} ≥ .97", ami >= 0.97),
        Line(f"… and with the family that removes noise: {every:.3f} ≥ .97", every >= 0.97),
        Line(f"… at least as well as debiased CKA: {ami:.3f} against {cka:.3f}", ami >= cka),
        Line(f"… also with the family that removes noise: {every:.3f} against {cka_every:.3f}", every >= cka_every),
    ]


def _of_labels_and_nulls(found: Mapping[str, Any]) -> list[Line]:
    codes = found["label channels"]["perfect code"].values()
    furthest = max(abs(code["AMI furthest from it"] - 1) for code in codes)
    noise = found["independent noise"].values()
    largest = max(of["largest in stderr"] for of in noise)
    distance = found["p-values"]["all"]
    return [
        Line(f"a perfect code of 2 to 100 classes reads 1: off by {furthest:.3f} ≤ .03 at most", furthest <= 0.03),
        Line(f"noise that never saw X or Y reads 0: at most {largest:.1f} ≤ 4 standard errors", largest <= 4),
        Line(f"p-values of nulls are uniform: distance {distance:.3f} ≤ .06", distance <= 0.06),
    ]


def _of_errors_and_tests(found: Mapping[str, Any]) -> list[Line]:
    lines = []
    for name, settings in (("blocks", found["standard errors"]), ("Jackknife(10)", found["jackknife"])):
        ratios = [of["ratio"] for by_size in settings.values() for n, of in by_size.items() if n >= FEWEST]
        within = sum(BAND[0] <= ratio <= BAND[1] for ratio in ratios)
        text = f"standard errors from {name} are .8 to 2.0 times the scatter: in {within} of {len(ratios)}, ≥ 90 %"
        lines.append(Line(text, within >= 0.9 * len(ratios)))
    size = max(of["one-sided"] for of in found["equal layers"].values())
    ruled = max(of["one-sided and large"] for of in found["equal layers"].values())
    changed = found["changed layers"].values()
    power = _mean(of["called"] for of in changed)
    least = min(of["called"] for of in changed)
    gap = _mean(of["gap in stderr"] for of in changed)
    return [
        *lines,
        Line(f"equal layers are called different in {size:.1%} of one-sided tests at most, ≤ 8 %", size <= 0.08),
        Line(f"… and by more than .01 in {ruled:.1%} at most, ≤ 8 %", ruled <= 0.08),
        Line(
            f"a gap of {gap:.1f} standard errors on average is called in {power:.0%} of cases, ≥ 90 % "
            f"(in single settings, of few cases each, {least:.0%} or more)",
            power >= 0.9,
        ),
    ]


# ------------------------------------------------------------------------------------------------ page and picture


def page(found: Mapping[str, Any], lines: Sequence[Line]) -> str:
    """The study as Markdown."""
    parts = [
        "# What the numbers are worth",
        "`python benchmarks/calibration.py` wrote this page. All numbers are rows of "
        "`InformationPlane(Estimator()).measure(...)`, so what is calibrated is what users see; standard errors are "
        "left out where none are shown. AMI is adjusted information, I raw information in bits, CKA debiased kernel "
        "alignment.",
        "![ranks and standard errors](calibration.png)",
        "## What must hold",
        _table(["", ""], [[line.text, _word(line)] for line in lines]),
        *_page_of_ranks(found["rank fidelity"], found["repeated"]),
        *_page_of_labels(found["label channels"], found["repeated"]),
        *_page_of_nulls(found["independent noise"], found["p-values"], found["repeated"]),
        *_page_of_errors(found["standard errors"], found["jackknife"], found["repeated"]),
        *_page_of_tests(found["equal layers"], found["changed layers"], found["repeated"]),
        *_page_of_bias(found["standard errors"], list(found["repeated"]["probes"])),
    ]
    return "\n\n".join(parts) + "\n"


def _page_of_ranks(families: Mapping[str, Table], repeated: Mapping[str, Any]) -> list[str]:
    rows = {family: [of[key]["spearman"] for key in MEASURES] for family, of in families.items()}
    rows["**mean without the last**"] = [correlation(families, key) for key in MEASURES]
    rows["mean of all"] = [correlation(families, key, every=True) for key in MEASURES]
    wider, changing, components = (
        families[name] for name in ("widening noisy layers", "noisy layers of changing width", "principal components")
    )
    kept = [of for family, of in families.items() if family != REMOVES_NOISE]
    rows["neighbours in order, without the last"] = [_mean(of[key]["neighbours"] for of in kept) for key in MEASURES]
    return [
        "## Does the order of layers come out right?",
        f"Chains of five stages, n = 256, {repeated['chains']} random ones of each family, whose information about "
        "the input is known: exactly for symbols, from determinants for normal variables. Each stage sees the one "
        "before it alone, so the truth falls. Given is Spearman's correlation with the truth within a chain, averaged "
        "over the chains.",
        _table(
            ["family", *MEASURES.values()], [[name, *(f"{value:.3f}" for value in row)] for name, row in rows.items()]
        ),
        "Where the chance level alone has a correlation of 1, the order of raw bits says little: it is that of the "
        f"entropies. Where layers become wider, raw bits have {wider['I_XT']['spearman']:.2f}, and where their width "
        f"changes in no order {changing['I_XT']['spearman']:.2f}. Information less chance, in bits, has "
        f"{components['excess']['spearman']:.2f} for principal components.",
        "The last family is a limit that AMI shares with CKA, and the reason why it stands apart. All components have "
        "the same noise there, and the last ones hold little else: to leave them out removes more noise than "
        "information, and the layer becomes more like the input. Both say how alike the two are. AMI obeys no "
        "data-processing inequality. The family was set apart after this was seen, so both means are given.",
    ]


def _page_of_labels(kinds: Mapping[str, Table], repeated: Mapping[str, Any]) -> list[str]:
    parts = [
        "## What does AMI(T;Y) say of labels?",
        f"T is the label after a channel, one-hot; n = 512, means of {repeated['labels']} draws. I/H(Y) is the part of "
        "the label that is known, and I/√(H(T)·H(Y)) what AMI(T;Y) follows where both differ.",
    ]
    for kind, channels in kinds.items():
        keys = ("I/H(Y)", "I/√(H(T)·H(Y))", "AMI", "AMI furthest from it", "CKA")
        rows = [[name, *(f"{of[key]:z.3f}" for key in keys)] for name, of in channels.items()]
        errors = {key: _root_mean_square(of[key] - of["I/H(Y)"] for of in channels.values()) for key in ("AMI", "CKA")}
        rooted = _root_mean_square(of["AMI"] - of["I/√(H(T)·H(Y))"] for of in channels.values())
        parts.append(_table([kind, *keys], rows))
        parts.append(
            f"Root mean square difference from I/H(Y): AMI {errors['AMI']:.3f}, CKA {errors['CKA']:.3f}; of AMI from "
            f"I/√(H(T)·H(Y)): {rooted:.3f}."
        )
    merged = kinds["merged classes"]["10 to 2"]
    parts.append(
        "The percentages are of labels that are drawn anew. Where a channel mixes up classes, AMI(T;Y) is close to the "
        "part of the label that is known. Where it merges them, it is not: of ten merged to two, "
        f"{merged['I/H(Y)']:.2f} of the label is known and AMI reads {merged['AMI']:.2f}, since T is then a smaller "
        "variable, all of which is about the label. A perfect code reads a little less than 1, for a Gaussian kernel "
        "does not take different classes for entirely different."
    )
    return parts


def _page_of_nulls(noise: Table, distances: Mapping[str, float], repeated: Mapping[str, Any]) -> list[str]:
    rows = []
    for width, of in noise.items():
        numbers = [f"{of[key]:z.4f}" for key in ("mean", "sd", "largest", "stderr")]
        rows.append([width, f"{of['known']:.0f} of {of['values']:.0f}", *numbers, f"{of['largest in stderr']:.1f}"])
    names = ["with a value", "mean", "sd", "largest absolute", "standard error shown", "largest in standard errors"]
    return [
        "## Is noise zero?",
        f"Normal noise that is independent of a mixture of ten classes in 60 dimensions, n = 512, {repeated['noises']} "
        "draws of each width; AMI(X;T) and AMI(T;Y) together.",
        _table(["dimensions", *names], rows),
        f"P-values of {5 * repeated['p_values']:,} independent pairs, n = 128: largest distance of their distribution "
        "from the uniform one (Kolmogorov).",
        _table(["both sides", "distance"], [[kind, f"{distance:.3f}"] for kind, distance in distances.items()]),
        f"Of {repeated['p_values']} uniform numbers the distance is below {_kolmogorov_limit(repeated['p_values']):.3f}"
        f" in 95 % of cases, of {5 * repeated['p_values']:,} below {_kolmogorov_limit(5 * repeated['p_values']):.3f}.",
    ]


def _page_of_errors(settings: Settings, jackknife: Settings, repeated: Mapping[str, Any]) -> list[str]:
    sizes = [n for n in repeated["probes"] if n >= FEWEST]
    rows = [
        [name, *(f"{by_size[n]['ratio']:.2f}" for n in sizes), f"{jackknife[name][FEWEST]['ratio']:.2f}"]
        for name, by_size in settings.items()
    ]
    counts = ", ".join(f"{repeated['probes'][n]} of n = {n:,}" for n in sizes)
    precision = 1 / math.sqrt(2 * (min(repeated["probes"][n] for n in sizes) - 1))
    return [
        "## Are standard errors right?",
        "Two layers of three networks of which the weights stay: ten classes in 60 dimensions, 30 rectified units, 8 "
        "noisy ones; smooth images, 8 rectified maps, 10 noisy units; 20 normal inputs with continuous targets, 12 "
        f"tanh units, 4 noisy ones. Independent probes ({counts}) give the true scatter, to about {precision:.0%} "
        "where they are fewest. Given is the standard error that is shown, root mean square, over that scatter.",
        _table(["", *(f"n = {n:,}" for n in sizes), f"n = {FEWEST}, Jackknife(10)"], rows),
        f"Above 1 is on the safe side. The smaller the blocks, the more cautious they are: eight of {FEWEST} samples "
        f"have {FEWEST // 8} each. The jackknife is closer.",
    ]


def _page_of_tests(equal: Table, changed: Table, repeated: Mapping[str, Any]) -> list[str]:
    cases = " and ".join(f"{count} of n = {n}" for n, count in repeated["equal"].items())
    shares = ("increase", "decrease", "one-sided", "one-sided and large")
    size = [[name, f"{of['cases']:.0f}", *(f"{of[key]:.1%}" for key in shares)] for name, of in equal.items()]
    power = []
    for name, of in changed.items():
        called = [f"{of[key]:.0%}" for key in ("called", "called and large")]
        power.append([name, f"{of['cases']:.0f}", f"{of['gap']:.3f}", f"{of['gap in stderr']:.1f}", *called])
    return [
        "## Does the test of a gap keep its promise?",
        "*Equal layers*: two copies of a layer, each with noise of its own of half a standard deviation. They are "
        "alike on average, so whatever is called is called wrongly. One-sided tests at 5 %, both sides counted, "
        f"without and with the rule that a change must be larger than 0.01; probes: {cases}.",
        _table(["layer, side", "cases", "increase", "decrease", "one-sided", "and larger than .01"], size),
        "*Changed layers*: one copy with more noise than the other, such that the mean gap is about three of the "
        "standard errors that are shown.",
        _table(["layer, n, side", "cases", "mean gap", "in standard errors", "called", "and larger than .01"], power),
        "Wrong calls are rarer than the test allows, as the standard errors are on the safe side. Where the mean gap "
        "itself is about 0.01, the rule on size decides and not the test.",
    ]


def _page_of_bias(settings: Settings, sizes: Sequence[int]) -> list[str]:
    levels = {name: by_size for name, by_size in settings.items() if "DPI" not in name}
    rows = [[name, *(f"{by_size[n]['mean']:.3f}" for n in sizes)] for name, by_size in levels.items()]
    first, last = sizes[0], sizes[-1]
    drift = max(abs(by_size[first]["mean"] - by_size[last]["mean"]) for by_size in levels.values())
    return [
        "## Does the level depend on the number of samples?",
        "The same probes, means.",
        _table(["", *(f"n = {n:,}" for n in sizes)], rows),
        f"From n = {first} to {last:,} no value moves by more than {drift:.3f}. Levels belong with their n, the "
        "order α and the bandwidth.",
    ]


def _kolmogorov_limit(count: int) -> float:
    """The distance that uniform numbers stay below in 95 % of cases."""
    return 1.358 / math.sqrt(count)


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _word(line: Line) -> str:
    return "holds" if line.holds else "**does not hold**"


def draw(found: Mapping[str, Any]) -> Figure:
    """Ranks of raw bits and of AMI against the true ones, and standard errors over the true scatter."""
    figure = Figure(figsize=(15, 6.2), layout="constrained")
    raw, ami, errors = figure.subplots(1, 3, width_ratios=[1, 1, 1.2])
    for ax, key in ((raw, "I_XT"), (ami, "AMI_XT")):
        _draw_ranks(ax, found["rank fidelity"], key)
    handles, names = raw.get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower left", ncols=4, fontsize="small", frameon=False)
    _draw_errors(errors, found["standard errors"], found["jackknife"])
    handles, names = errors.get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower right", ncols=2, fontsize="small", frameon=False)
    return figure


def _draw_ranks(ax: Axes, families: Mapping[str, Table], key: str) -> None:
    ax.plot([1, 5], [1, 5], color="0.85", linewidth=8, solid_capstyle="round", label="as the truth")
    for number, (family, of) in enumerate(families.items()):
        ranks = [rank for name, rank in of[key].items() if name.startswith("rank")]
        removes = family == REMOVES_NOISE
        label = f"{family} (not in the mean)" if removes else family
        color = colormaps["tab20"](number)
        ax.plot(range(len(ranks), 0, -1), ranks, "o--" if removes else "o-", markersize=4, color=color, label=label)
    name = MEASURES[key]
    ax.set(title=f"{name}: rank correlation {correlation(families, key):.3f}", xticks=range(1, 6), yticks=range(1, 6))
    ax.set(xlabel="rank of the true information among the five stages", ylabel=f"rank of {name}, mean of the chains")


def _draw_errors(ax: Axes, settings: Settings, jackknife: Settings) -> None:
    ax.axvspan(*BAND, color="0.92", label=f"{BAND[0]} to {BAND[1]}")
    ax.axvline(1, color="0.5", linewidth=1)
    names = list(settings)
    sizes = [n for n in settings[names[0]] if n >= FEWEST]
    for n, marker in zip(sizes, "os^", strict=False):
        ax.plot([settings[name][n]["ratio"] for name in names], names, marker, label=f"blocks, n = {n:,}")
    ratios = [jackknife[name][FEWEST]["ratio"] for name in names]
    ax.plot(ratios, names, "x", color="black", label=f"Jackknife(10), n = {FEWEST}")
    ax.invert_yaxis()
    ax.tick_params(axis="y", labelsize="small")
    ax.set(title="standard errors: shown over true", xlabel="standard error shown / scatter between probes")


# -------------------------------------------------------------------------------------------------------- the study


def study(sizes: Sizes) -> dict[str, Any]:
    """All parts, one after the other, with what each took."""
    parts: dict[str, Callable[[], object]] = {
        "rank fidelity": lambda: rank_fidelity(sizes.chains),
        "label channels": lambda: label_channels(sizes.labels),
        "independent noise": lambda: independent_noise(sizes.noises),
        "p-values": lambda: null_p_values(sizes.p_values),
        "standard errors": lambda: standard_errors(sizes.probes),
        "jackknife": lambda: standard_errors({FEWEST: sizes.jackknife}, Estimator(standard_errors=Jackknife(10))),
        "equal layers": lambda: equal_layers(sizes.equal),
        "changed layers": lambda: changed_layers(sizes.changed),
    }
    found: dict[str, Any] = {"repeated": sizes._asdict()}
    for name, part in parts.items():
        start = time.perf_counter()
        found[name] = part()
        print(f"{name}: {time.perf_counter() - start:.0f} s", flush=True)
    return found


def main() -> None:
    """Measure, print, draw, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a smoke test, which writes nothing")
    quick = parser.parse_args().quick
    torch.set_num_threads(1)
    found = study(QUICK if quick else FULL)
    lines = must_show(found)
    text = page(found, lines)
    picture = draw(found)
    print(text)
    for line in lines:
        print(f"{'holds' if line.holds else 'does not hold':15}{line.text}")
    if quick:
        picture.savefig(io.BytesIO())
        return
    write("calibration", found | {"must show": {line.text: line.holds for line in lines}})
    (RESULTS / "calibration.md").write_text(text, encoding="utf-8")
    picture.savefig(RESULTS / "calibration.png", dpi=110)


if __name__ == "__main__":
    main()
