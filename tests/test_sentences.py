"""Every sentence about a run is true of its rows: real networks, real rows, and the words that people read of them.

The rules are written once more here, plainly, from what the report says of them: it must not tell more than there is.
"""

import math
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from xml.etree.ElementTree import Element

import html5lib
import pytest
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn

from lightning_infoplane import Estimator, History, MedianDistance, Monitor, Probe, Row
from lightning_infoplane.measurement.quantities import OUTLIER
from lightning_infoplane.measurement.rows import Pair
from lightning_infoplane.views.card import card, remarks
from lightning_infoplane.views.page import html_report
from lightning_infoplane.views.runs import Run

EPOCHS = 3
SAMPLES = 256

# ------------------------------------------------------------------------------------------------------- networks


class Zeros(nn.Module):
    """A dead layer, beside the others."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.zeros(len(x), 3)


class Noise(nn.Module):
    """A layer that has nothing of its input."""

    def __init__(self, seed: int = 5) -> None:
        super().__init__()
        self.seed = seed

    def forward(self, x: Tensor) -> Tensor:
        return torch.randn(len(x), 4, generator=torch.Generator().manual_seed(self.seed))


class Rounded(nn.Module):
    """A constant, but for the last bit of every third sample."""

    def forward(self, x: Tensor) -> Tensor:
        constant = torch.full((len(x), 6), 0.7)
        constant[::3] = torch.nextafter(constant[::3], torch.ones(()))
        return constant


class Wild(nn.Module):
    """A layer that puts one sample far from all others."""

    def __init__(self, sample: int) -> None:
        super().__init__()
        self.sample = sample

    def forward(self, x: Tensor) -> Tensor:
        values = x.flatten(1).clone()
        values[self.sample % len(x)] = 1e6
        return values


class OddOnes(nn.Sequential):
    """Several layers of each kind that say less than it seems, beside two that are fine."""

    def __init__(self) -> None:
        super().__init__(nn.Linear(64, 32), nn.Tanh(), nn.Linear(32, 10))
        self.odd = nn.ModuleList(
            [Zeros(), Zeros(), Rounded(), *(Noise(seed) for seed in range(12)), Wild(17), Wild(17), Wild(40)]
        )

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.odd:
            layer(x)
        logits: Tensor = self[2](self[1](self[0](x.flatten(1))))
        return logits


class LeNet(nn.Module):
    """Two convolutions and three linear layers, with odd ones beside them."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(1, 6, 3, padding=1), nn.Conv2d(6, 16, 3, padding=1)
        self.fc1, self.fc2, self.fc3 = nn.Linear(64, 48), nn.Linear(48, 24), nn.Linear(24, 10)
        self.dead, self.noise = Zeros(), Noise()

    def forward(self, x: Tensor) -> Tensor:
        self.dead(x)
        self.noise(x)
        x = nn.functional.max_pool2d(self.conv1(x).tanh(), 2)
        x = nn.functional.max_pool2d(self.conv2(x).tanh(), 2).flatten(1)
        logits: Tensor = self.fc3(self.fc2(self.fc1(x).tanh()).tanh())
        return logits


def digits_cnn() -> nn.Module:
    """Three convolutions and a linear head, as in examples/digits_cnn.py."""
    return nn.Sequential(
        *(nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(8, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(128, 10)),
    )


def vgg13() -> nn.Module:
    """Ten convolutions and three linear layers: deep, narrow and without normalisation."""
    net, channels = nn.Sequential(), 1
    for place, width in enumerate((8, 8, 12, 12, 16, 16, 16, 16, 16, 16)):
        net.extend([nn.Conv2d(channels, width, 3, padding=1), nn.ReLU()])
        net.extend([nn.MaxPool2d(2)] if place in (1, 3) else [])
        channels = width
    return net.extend([nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 10)])


def history_of(make: Callable[[], nn.Module], layers: Sequence[str], probe: Probe, **options: object) -> History:
    """Trained in a plain loop, and measured before it and after every epoch."""
    torch.manual_seed(0)
    net = make()
    monitor = Monitor(net, probe, layers, **options)  # type: ignore[arg-type]
    optimizer = torch.optim.Adam(net.parameters(), 3e-3)
    x, y = digits()
    monitor.measure()
    for epoch in range(1, EPOCHS + 1):
        for batch in torch.randperm(1024, generator=torch.Generator().manual_seed(epoch)).add(512).split(64):
            optimizer.zero_grad()
            nn.functional.cross_entropy(net(x[batch]), y[batch]).backward()
            optimizer.step()
        monitor.measure(epoch, 16 * epoch)
    return monitor.history


def digits() -> tuple[Tensor, Tensor]:
    pixels, labels = load_digits(return_X_y=True)
    return torch.tensor(pixels / 16, dtype=torch.float32).reshape(-1, 1, 8, 8), torch.tensor(labels)


def a_probe(targets: bool = True) -> Probe:
    x, y = digits()
    return Probe(x[:SAMPLES].clone(), y[:SAMPLES].clone() if targets else None)


MAKERS: dict[str, Callable[[], History]] = {
    "digits CNN": lambda: history_of(digits_cnn, ["conv", "linear"], a_probe()),
    "LeNet": lambda: history_of(LeNet, ["conv", "linear", "dead", "noise"], a_probe(), error_signals=True),
    "VGG-13": lambda: history_of(vgg13, ["conv", "linear"], a_probe()),
    "too small a bandwidth": lambda: history_of(
        digits_cnn, ["conv", "linear"], a_probe(), estimator=Estimator(bandwidth=MedianDistance(scale=0.1))
    ),
    "odd layers": lambda: history_of(OddOnes, ["0", "2", "odd.*"], a_probe()),
    "no targets": lambda: history_of(digits_cnn, ["conv"], a_probe(targets=False)),
}


@cache
def run(name: str) -> "Told":
    """Trained once, and its report is made once."""
    return Told(name, MAKERS[name]())


@dataclass
class Told:
    """A run, and all that is said of it."""

    name: str
    rows: History

    @cached_property
    def page(self) -> Element:
        text = html_report(Run(self.name, Path(f"{self.name}/infoplane.csv"), self.rows))
        parser = html5lib.HTMLParser(strict=True, tree=html5lib.getTreeBuilder("etree"), namespaceHTMLElements=False)
        root: Element = parser.parse(text)
        return root

    @property
    def items(self) -> dict[str, tuple[str, str]]:
        """Of each layer in the list: where it went, and what is said against it."""
        found = {}
        for item in next(self.page.iter("ul")).iter("li"):
            layer = str(item.findtext("b"))
            words = "".join(item.itertext()).removeprefix(f"{layer}: ")
            against = "".join("".join(span.itertext()) for span in item.iter("span"))
            found[layer] = (words.removesuffix(against).strip(), against)
        return found

    @property
    def table(self) -> list[list[str]]:
        return [["".join(cell.itertext()) for cell in line] for line in next(self.page.iter("table")).iter("tr")]

    @property
    def words(self) -> str:
        return "".join(self.page.itertext())

    @property
    def card(self) -> list[list[str]]:
        lines = [line for line in card(self.rows).split("\n") if line.startswith("| ")]
        return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


@pytest.fixture(params=MAKERS)
def told(request: pytest.FixtureRequest) -> Told:
    return run(request.param)


# ----------------------------------------------------------------------------------- rows, and the rules once more


class Moment:
    """The rows of one measurement."""

    def __init__(self, rows: Iterable[Row]) -> None:
        self.value: dict[tuple[object, str], float] = {(row.place, row.quantity): row.value for row in rows}

    def of(self, place: object, key: str) -> float | None:
        return self.value.get((place, key))

    def column(self, key: str) -> dict[object, float]:
        """A quantity by its places."""
        return {place: value for (place, quantity), value in self.value.items() if quantity == key}

    def at_chance(self, key: str) -> set[object]:
        """The places whose independence is not refuted."""
        p_values = self.column(f"{key}_p")
        return set(p_values) - refuted(p_values)


def refuted(p_values: dict[object, float]) -> set[object]:
    """Holm's step-down, as it is written in textbooks: the smallest times their number, the next times one less."""
    found = set()
    for done, place in enumerate(sorted(p_values, key=lambda place: p_values[place])):
        if p_values[place] * (len(p_values) - done) > 0.05:
            break
        found.add(place)
    return found


def moments(rows: Iterable[Row]) -> list[Moment]:
    """In the order of time."""
    by_time: dict[tuple[int, int], list[Row]] = {}
    for row in rows:
        by_time.setdefault((row.epoch, row.step), []).append(row)
    return [Moment(by_time[time]) for time in sorted(by_time)]


def changes(moment: Moment, key: str) -> tuple[int, int, int]:
    """How many gaps are decreases, increases and undecided: larger than .01, and significant on their side."""
    gaps, p_values = moment.column(key), moment.column(f"{key}_p")
    counts = []
    for sign in (1, -1):
        one_sided = {pair: p if sign * gaps[pair] > 0 else 1 - p for pair, p in p_values.items()}
        counts.append(sum(sign * gaps[pair] > 0.01 for pair in refuted(one_sided)))
    return counts[0], counts[1], len(gaps) - sum(counts)


# Of activations and of error signals: entropy, information about itself, and what is tested.
SIGNS = {
    False: ("H_T", "E_TT", ("AMI_XT", "AMI_TY")),
    True: ("H_error", "E_error", ("AMI_error",)),
}
SYMBOLS = {"AMI_XT": "AMI(X;T)", "AMI_TY": "AMI(T;Y)", "AMI_error": "AMI(δₖ;δ)", "I_XT": "I(X;T)", "I_TY": "I(T;Y)"}
ITSELF = {False: "E(T;T)", True: "E(δ;δ)"}
KEYS = {symbol: key for key, symbol in SYMBOLS.items()} | {"H(T)": "H_T"}


def word_for(moment: Moment, layer: str, of_errors: bool = False) -> str:
    """What a layer's numbers are worth, in the words of the report."""
    entropy, _, information = SIGNS[of_errors]
    known = [key for key in information if moment.of(layer, key) is not None]
    share = (moment.of(layer, entropy) or 0.0) / (moment.of("", "log2_n") or math.nan)
    at_chance = [key for key in known if layer in moment.at_chance(key)]
    if share > 0.95:
        return "saturated"
    if not known:
        return "collapsed" if share < 0.05 else "not resolved"
    if len(at_chance) == len(known):
        return "at chance"
    if not of_errors and moment.of(layer, OUTLIER.key) is not None:
        return "outlier"
    return f"{' and '.join(SYMBOLS[key] for key in at_chance)} at chance" if at_chance else "ok"


# --------------------------------------------------------------------------------------------- numbers in sentences

NUMBER = r"-?\d+\.\d+(?: ± \d+\.\d+)?"


def assert_is(text: str, value: float | None, error: float | None = None) -> None:
    """A number in a sentence, ± and all, is that of the rows as far as it is written."""
    assert value is not None, f"{text} is told, and there is nothing"
    number, _, told_error = text.partition(" ± ")
    half = 0.5 * 10.0 ** -len(number.partition(".")[2]) * (1 + 1e-9)
    assert abs(float(number) - value) <= half, f"{text}, but it is {value}"
    assert bool(told_error) == (error is not None), f"{text}, and the error is {error}"
    if error is not None:
        assert abs(float(told_error) - error) <= half, f"{text}, but the error is {error}"


def assert_moves(words: str, layer: str, first: Moment, last: Moment) -> None:
    """From where to where: of the first and the last measurement, in bits where nothing is known beyond chance."""
    plane = ("AMI_XT", "AMI_TY") if last.column("AMI_XT") or first.column("AMI_XT") else ("I_XT", "I_TY")
    assert words.endswith(".")
    parts = words[:-1].split(", ")
    axes = [key for key in plane if last.column(key) or first.column(key)]
    for key, part in zip(axes, parts, strict=True):
        ends = [(one.of(layer, key), one.of(layer, f"{key}_stderr")) for one in (first, last)]
        if part == f"{SYMBOLS[key]} has no value":
            assert ends == [(None, None), (None, None)]
            continue
        unit = " bits" if key.startswith("I_") else ""
        numbers = re.fullmatch(rf"{re.escape(SYMBOLS[key])} from ({NUMBER}) to ({NUMBER}){unit}", part)
        assert numbers, part
        for text, (value, error) in zip(numbers.groups(), ends, strict=True):
            assert_is(text, value, error)


def assert_against(sentence: str, moment: Moment, layer: str, of_errors: bool = False) -> None:
    """What is said against a layer is what the rules say, with its numbers; of one that is fine there is nothing."""
    entropy, itself, information = SIGNS[of_errors]
    word = word_for(moment, layer, of_errors)
    share = (moment.of(layer, entropy) or 0.0) / (moment.of("", "log2_n") or math.nan)
    if word == "ok":
        assert sentence == ""
    elif word == "saturated":
        (percent,) = re.findall(r"is (\d+)% of log2 n: to the kernel all samples differ", sentence)
        assert int(percent) == round(100 * share) >= 95
        assert share > 0.95
    elif word == "collapsed":
        (percent,) = re.findall(r"is (\d+\.\d)% of log2 n: to the kernel all samples look alike", sentence)
        assert_is(percent, 100 * share)
        assert share < 0.05
    elif word == "not resolved":
        ((symbol, bits),) = re.findall(rf"(E\(.*?\)) is ({NUMBER}) bits, too little to tell from chance", sentence)
        assert_is(bits, moment.of(layer, itself) if symbol == ITSELF[of_errors] else moment.of("", "E_XX"))
        assert not [key for key in information if moment.of(layer, key) is not None]
        assert float(bits) < 0.1
    elif word == "outlier":
        (number,) = re.findall(r"sample (\d+) of the probe is like no other", sentence)
        assert int(number) == moment.of(layer, OUTLIER.key)
    else:
        assert_at_chance(sentence, moment, layer, word)


def assert_at_chance(sentence: str, moment: Moment, layer: str, word: str) -> None:
    """Value and p of each that is named; those and no others are named."""
    told, colon, _ = sentence.partition(": no more than chance gives.")
    assert colon
    named = {}
    for part in told.split(" and "):
        match = re.fullmatch(rf"(AMI\(.*\)) is ({NUMBER}) \(p = (.*)\)", part)
        assert match, part
        named[KEYS[match[1]]] = match
    for key, match in named.items():
        assert_is(match[2], moment.of(layer, key))
        p = moment.of(layer, f"{key}_p")
        assert p is not None
        assert float(match[3]) == pytest.approx(p, rel=0.06)  # two digits
        assert layer in moment.at_chance(key)
        assert len(moment.column(f"{key}_p")) * p > 0.05  # however many were refuted before
    assert set(named) == {key for key in KEYS.values() if key[:3] == "AMI" and layer in moment.at_chance(key)} & {
        *(("AMI_error",) if "AMI_error" in named else ("AMI_XT", "AMI_TY"))
    }
    symbols = " and ".join(SYMBOLS[key] for key in named)
    assert word in ("at chance", f"{symbols} at chance")


def assert_table(lines: Sequence[Sequence[str]], moment: Moment) -> None:
    """Every cell is the row's, in the order of its heading; a dash where there is none."""
    head, *layers = lines
    assert head[0] == "layer"
    assert head[-1] == "verdict"
    keys: list[str] = []
    for symbol in head[1:-1]:
        keys.append(f"{keys[-1]}_chance" if symbol == "shuffled" else KEYS[symbol])
    assert [line[0].replace("\\", "") for line in layers] == list(moment.column("H_T"))
    for layer, *cells, word in layers:
        layer = layer.replace("\\", "")  # the card's, in Markdown
        for key, cell in zip(keys, cells, strict=True):
            if cell == "-":
                assert moment.of(layer, key) is None
            else:
                assert_is(cell, moment.of(layer, key), moment.of(layer, f"{key}_stderr"))
        assert word == word_for(moment, layer)


# ------------------------------------------------------------------------------------------------------- the tests


def test_the_list_says_of_each_layer_where_it_went(told: Told) -> None:
    first, *_, last = moments(told.rows)
    assert list(told.items) == list(last.column("H_T"))
    for layer, (words, _) in told.items.items():
        assert_moves(words, layer, first, last)


def test_the_list_says_against_each_layer_what_the_rules_say(told: Told) -> None:
    last = moments(told.rows)[-1]
    for layer, (_, against) in told.items.items():
        assert_against(against, last, layer)


def test_the_sentence_about_gaps_is_a_recount(told: Told) -> None:
    last = moments(told.rows)[-1]
    found = re.findall(
        r"From layer to layer, AMI\(X;T\) decreases in (\d+) of (\d+) pairs? of layers, increases in (\d+), and is "
        r"undecided in (\d+)\.",
        told.words,
    )
    gaps = last.column("DPI_AMI_XT")
    if not gaps:
        assert found == []
        return
    ((down, of, up, undecided),) = found
    assert (int(down), int(up), int(undecided)) == changes(last, "DPI_AMI_XT")
    assert int(down) + int(up) + int(undecided) == int(of) == len(gaps)


def test_what_the_log_counts_is_a_recount_at_every_measurement(told: Told) -> None:
    for moment in moments(told.rows):
        for key, name in (("DPI_AMI_XT", "DPI"), ("DPI_AMI_error", "DPI_error")):
            if moment.column(key):
                counted = tuple(moment.of("", f"{name}_{what}") for what in ("decreases", "increases"))
                assert counted == changes(moment, key)[:2]


def test_a_gap_is_the_difference_of_what_is_told_of_its_ends(told: Told) -> None:
    for moment in moments(told.rows):
        for pair, gap in moment.column("DPI_AMI_XT").items():
            assert isinstance(pair, Pair)
            ends = [moment.of(layer, "AMI_XT") for layer in pair]
            assert gap == pytest.approx(ends[0] - ends[1])  # type: ignore[operator]
            assert gap == pytest.approx(-gap) or (moment.of(pair, "DPI_AMI_XT_p") or 0) <= 0.5


def test_the_table_of_the_report_is_the_last_measurement(told: Told) -> None:
    assert_table(told.table, moments(told.rows)[-1])


def test_the_card_is_the_last_measurement(told: Told) -> None:
    assert_table(told.card, moments(told.rows)[-1])
    assert f"Probe of {SAMPLES} samples:" in card(told.rows)


def test_the_probe_is_told(told: Told) -> None:
    last = moments(told.rows)[-1]
    assert f"A fixed probe of {round(2 ** (last.of('', 'log2_n') or 0))} samples: " in told.words
    assert f"{EPOCHS + 1} measurements, the last one after epoch {EPOCHS}." in told.words
    limits = dict(re.findall(rf"(H\([XY]\)) = ({NUMBER}) bits", told.words.partition("In short")[0]))
    assert set(limits) == ({"H(X)"} if told.name == "no targets" else {"H(X)", "H(Y)"})
    for symbol, text in limits.items():
        assert_is(text, last.of("", f"H_{symbol[2]}"))


def test_remarks_are_true_of_every_measurement_and_none_is_missing(told: Told) -> None:
    """Of activations and of error signals: a sentence a verdict, with all its layers and the range of their numbers."""
    for moment, rows in zip(moments(told.rows), by_moment(told.rows), strict=True):
        said = dict(remarks(rows))
        for of_errors in (False, True):
            for (word, *_), layers in layers_by_case(moment, of_errors).items():
                of = "the error signal of " if of_errors else ""
                sentence = said.pop(f" {of}{word}: {', '.join(layers)}")
                if len(layers) == 1:
                    start = f"{of}layer {layers[0]!r}: {word}. "
                    assert sentence.startswith(start)
                    assert_against(sentence.removeprefix(start), moment, layers[0], of_errors)
                else:
                    assert_of_many(sentence, moment, layers, str(word), of_errors)
        assert said == {}


def layers_by_case(moment: Moment, of_errors: bool) -> dict[tuple[object, ...], list[str]]:
    """Layers that one sentence tells of, by word and what else it says."""
    found: dict[tuple[object, ...], list[str]] = {}
    for place in moment.column(SIGNS[of_errors][0]):
        layer = str(place)
        word = word_for(moment, layer, of_errors)
        if word == "ok":
            continue
        bandwidth = moment.of(layer, "bandwidth_error" if of_errors else "bandwidth")
        of_input = (moment.of("", "E_XX") or 0.0) < (moment.of(layer, SIGNS[of_errors][1]) or 0.0)
        case = {"collapsed": bandwidth == 0, "not resolved": of_input and not of_errors}.get(word)
        found.setdefault((word, case), []).append(layer)
    return found


def assert_of_many(sentence: str, moment: Moment, layers: list[str], word: str, of_errors: bool) -> None:
    """How many, which, and a range whose ends are numbers of theirs and which holds all of them."""
    entropy, itself, information = SIGNS[of_errors]
    of = "the error signals of " if of_errors else ""
    assert sentence.startswith(f"{of}{len(layers)} layers: {word}. ")
    names = ", ".join(layers[:8]) + (f", … ({len(layers)})" if len(layers) > 8 else "")
    assert sentence.endswith(f" They are {names}.")
    log2_n = moment.of("", "log2_n") or math.nan
    ranges: list[tuple[str, str, float]] = []  # of a symbol's number: where it is, how it is called, its unit
    if word in ("saturated", "collapsed"):
        ranges = [(entropy, r"H\(.\) is ([\d.]+)(?:% to ([\d.]+))?% of log2 n", 100 / log2_n)]
    elif word == "not resolved":
        ranges = [(itself, rf"E\(.;.\) is ({NUMBER})(?: to ({NUMBER}))? bits", 1.0)]
    elif word != "outlier":
        at_chance = [key for key in information if SYMBOLS[key] in sentence]
        for key in at_chance:
            symbol = re.escape(SYMBOLS[key])
            ranges.append((key, rf"{symbol} is ({NUMBER})(?: to ({NUMBER}))? \(p", 1.0))
            ranges.append((f"{key}_p", rf"{symbol} is [^(]*\(p = (\S+?)(?: to (\S+?))?\)", 1.0))
    for key, pattern, unit in ranges:
        (ends,) = re.findall(pattern, sentence)
        values = [unit * (moment.of(layer, key) or 0.0) for layer in layers]
        if key == itself and moment.of("", "E_XX") is not None and "E(X;X)" in sentence:
            values = [moment.of("", "E_XX") or 0.0]
        for text, value in zip(ends, (min(values), max(values)), strict=True):
            if key.endswith("_p"):
                assert float(text or ends[0]) == pytest.approx(value, rel=0.06)
            else:
                assert_is(text or ends[0], value)


def test_the_verdicts_of_many_layers_are_a_few_sentences() -> None:
    *_, last = by_moment(run("odd layers").rows)
    words = [message.partition(".")[0] for _, message in remarks(last)]
    assert words[0] == "3 layers: collapsed"
    assert "3 layers: outlier" in words
    assert len(words) <= 5  # a noise of twelve may have something of the input or of the target by chance


def by_moment(rows: Sequence[Row]) -> Iterator[list[Row]]:
    for time in sorted({(row.epoch, row.step) for row in rows}):
        yield [row for row in rows if (row.epoch, row.step) == time]


def test_pictures_are_described_with_the_layers_there_are(told: Told) -> None:
    layers = list(moments(told.rows)[-1].column("H_T"))
    for image in told.page.iter("img"):
        assert f"{len(layers)} layers: {', '.join(map(str, layers))}. " in str(image.get("alt"))


def test_what_the_numbers_do_not_say_is_said_of_every_run(told: Told) -> None:
    for sentence in (
        "A value in bits is worth only what it exceeds this by",
        "One standard error: how far the number would be off with other samples",
        "larger than 0.01 and significant at 5 % after Holm's correction over all pairs of that moment",
        "Adjusted information obeys no data-processing inequality",
        "And one seed is one network.",
    ):
        assert sentence in told.words


def test_no_sentence_says_that_most_of_a_number_is_chance_where_it_is_not(told: Told) -> None:
    """In these runs most of it is not, as the table beside the words says."""
    last = moments(told.rows)[-1]
    shares = [
        (last.of(layer, f"{key}_chance") or 0.0) / value
        for key in ("I_XT", "I_TY")
        for layer, value in last.column(key).items()
        if value > 0.1
    ]
    if min(shares) < 0.5:
        assert not re.search(r"\b[Mm]ost(ly)?\b[^.]*\bchance\b", told.words)


# ------------------------------------------------------------------------------------------- the checks themselves


def test_the_runs_show_what_the_sentences_are_for() -> None:
    """A check of sentences that are never said would check nothing."""
    words = set()
    for name in MAKERS:
        for moment in moments(run(name).rows):
            words |= {word_for(moment, str(layer)) for layer in moment.column("H_T")}
            words |= {f"error {word_for(moment, str(layer), True)}" for layer in moment.column("H_error")}
    assert words >= {"ok", "saturated", "collapsed", "at chance", "error ok"}


Check = Callable[[Told], None]


def wrong(told: Told, key: str, by: float, epoch: int = EPOCHS) -> Told:
    """The same report beside rows of which one quantity is another."""
    changed = [
        row._replace(value=row.value + by) if (row.quantity, row.epoch) == (key, epoch) else row for row in told.rows
    ]
    other = Told(told.name, History(changed, told.rows.facts))
    other.__dict__["page"] = told.page
    return other


@pytest.mark.parametrize(
    ("check", "key", "by", "epoch"),
    [
        (test_the_list_says_of_each_layer_where_it_went, "AMI_XT", 0.02, EPOCHS),
        (test_the_list_says_of_each_layer_where_it_went, "AMI_TY", 0.02, 0),
        (test_the_list_says_of_each_layer_where_it_went, "AMI_TY_stderr", 0.02, EPOCHS),
        (test_the_list_says_against_each_layer_what_the_rules_say, "H_T", 8.0, EPOCHS),
        (test_the_list_says_against_each_layer_what_the_rules_say, "AMI_TY_p", 0.9, EPOCHS),
        (test_the_sentence_about_gaps_is_a_recount, "DPI_AMI_XT", -1.0, EPOCHS),
        (test_the_sentence_about_gaps_is_a_recount, "DPI_AMI_XT_p", 0.4, EPOCHS),
        (test_the_table_of_the_report_is_the_last_measurement, "I_XT_chance", 0.01, EPOCHS),
        (test_the_table_of_the_report_is_the_last_measurement, "H_T_stderr", 0.01, EPOCHS),
        (test_the_probe_is_told, "H_X", 0.1, EPOCHS),
    ],
    ids=lambda part: part.__name__ if callable(part) else str(part),
)
def test_the_checks_see_a_wrong_number(check: Check, key: str, by: float, epoch: int) -> None:
    right = run("digits CNN")
    check(right)
    changed = wrong(right, key, by, epoch)
    with pytest.raises((AssertionError, ValueError), match=r"assert|but it is|but the error is|to unpack"):
        check(changed)
