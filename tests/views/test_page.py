"""The report: valid HTML that stands alone, says what the run says, and trusts nothing in it."""

import itertools
import re
from base64 import b64decode
from collections.abc import Sequence
from pathlib import Path
from xml.etree.ElementTree import Element

import html5lib
import pytest
import torch
from histories import NAMES, history

from lightning_infoplane import Estimator, History, Row
from lightning_infoplane.measurement.columns import counts
from lightning_infoplane.measurement.history import Facts
from lightning_infoplane.measurement.quantities import DPI_XT, DPI_XT_VIOLATIONS
from lightning_infoplane.measurement.quantity import Subject
from lightning_infoplane.measurement.rows import Pair
from lightning_infoplane.measurement.settings import as_data
from lightning_infoplane.views.page import animate, compare, html_report
from lightning_infoplane.views.runs import Run

ATTACK = "<script>alert(1)</script>\"'&"
FACTS = Facts("0.1.0", as_data(Estimator(alpha=2)), {"": 512}, ("conv1 → conv2", "noise: random, left out"))


def run(rows: Sequence[Row], facts: Facts | None = None, hparams: str = "") -> Run:
    return Run("runs/a", Path("runs/a/infoplane.csv"), History(rows, facts), hparams)


def parse(text: str) -> Element:
    """The document; any parse error of the HTML standard is an error here."""
    parser = html5lib.HTMLParser(strict=True, tree=html5lib.getTreeBuilder("etree"), namespaceHTMLElements=False)
    return parser.parse(text)


@pytest.mark.parametrize("names", NAMES)
def test_it_is_valid_small_and_stands_alone(names: str) -> None:
    text = html_report(run(history(NAMES[names], errors=len(NAMES[names]) > 2)))
    root = parse(text)
    assert len(text.encode()) < 3_000_000
    assert text.startswith("<!DOCTYPE html>")
    assert root.get("lang") == "en"
    assert root.find("head/title").text == "What the layers know: runs/a"
    assert "width=device-width" in root.find("head/meta[@name='viewport']").get("content")
    links = [element.get(name) for element in root.iter() for name in ("src", "href", "action", "srcset")]
    assert all(link.startswith("data:") for link in links if link is not None)  # nothing from anywhere else
    assert not re.search(r"url\(|@import|https?:", text)
    assert not list(root.iter("script"))


def test_every_picture_is_a_png_with_a_description_and_a_caption() -> None:
    root = parse(html_report(run(history(NAMES["vgg"]))))
    figures = list(root.iter("figure"))
    assert len(figures) == 11
    for figure in figures:
        (image,) = figure.iter("img")
        assert "features.40" in image.get("alt")
        assert len("".join(figure.find("figcaption").itertext())) > 40
        kind, _, data = image.get("src").partition(",")
        assert kind == "data:image/png;base64"
        assert b64decode(data).startswith(b"\x89PNG\r\n")
    assert len({image.get("alt") for image in root.iter("img")}) == len(figures)


def test_headings_descend_one_level_at_a_time() -> None:
    root = parse(html_report(run(history(NAMES["two"], errors=False), FACTS, hparams="lr: 0.1")))
    levels = [int(element.tag[1]) for element in root.iter() if re.fullmatch(r"h\d", str(element.tag))]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(b - a <= 1 for a, b in itertools.pairwise(levels))


def test_what_comes_from_the_run_is_escaped() -> None:
    names = [ATTACK, f"{ATTACK}2"]
    facts = Facts(f"{ATTACK}3", {ATTACK: ATTACK, "bandwidth": {"class": ATTACK, "scale": 1}}, {}, [f"{ATTACK}4"])
    hostile = Run(ATTACK, Path(f"runs/{ATTACK}"), History(history(names, errors=False), facts), f"{ATTACK}5")
    text = html_report(hostile)
    root = parse(text)
    shown = "".join(root.itertext())
    assert "<script" not in text
    assert not list(root.iter("script"))
    assert all(f"{ATTACK}{number}" in shown for number in ("", 2, 3, 4, 5))  # shown as it is
    assert f"bandwidth={ATTACK}(scale=1)" in shown
    assert all(ATTACK in image.get("alt") for image in root.iter("img"))


def test_a_hostile_probe_name_is_escaped() -> None:
    root = parse(html_report(run(history(["a", "b"], probe="<script>"))))
    assert "Measured on <script> samples" in "".join(root.itertext())


def test_numbers_verdicts_and_gaps_are_told() -> None:
    rows = history(["a", "b"], epochs=range(3), errors=False)
    root = parse(html_report(run(rows)))
    cells = [["".join(cell.itertext()) for cell in line] for line in root.iter("tr")]
    last = {(row.place, row.quantity): row.value for row in rows if row.epoch == 2}
    assert cells[0] == ["layer", "I(X;T)", "shuffled", "I(T;Y)", "shuffled", "H(T)", "verdict"]
    assert cells[1][:3] == ["a", f"{last['a', 'I_XT']:.3f}", f"{last['a', 'I_XT_chance']:.3f}"]
    assert cells[1][-1] == "ok"
    text = "".join(root.itertext())
    assert "A fixed probe of 512 samples: H(X) = 4.20 bits, H(Y) = 3.32 bits. 3 measurements" in text
    assert "the last one after epoch 2" in text
    assert "I(X;T) went from 4.00 to 3.97 bits, I(T;Y) went from 0.80 to 0.77 bits." in text
    assert "Of 1 pair of layers, none has a gap clearly below zero (smallest gap" in text


def gaps_told(*gaps: float, stderr: float | None = None) -> str:
    """The sentence about gaps below zero."""
    rows = history(["a"], epochs=[0], errors=False)
    for number, gap in enumerate(gaps):
        rows.append(Row(0, 0, "", Pair("a", str(number)), "DPI_XT", gap))
        if stderr is not None:
            rows.append(Row(0, 0, "", Pair("a", str(number)), "DPI_XT_stderr", stderr))
    text = "".join(parse(html_report(run(rows))).itertext())
    (told,) = re.findall(r"Of \d+ pairs? of layers, .*?\(smallest gap: .*? bits\)\.", text)
    return str(told)


@pytest.mark.parametrize(
    ("gaps", "stderr", "below"),
    [
        ((0.5,), None, 0),
        ((-1e-5,), None, 0),  # rounding
        ((-1e-5, -1e-3), None, 1),
        ((-0.01, -0.1), 0.03, 1),  # two standard errors
        ((-0.01, -0.1), 0.0, 2),
        ((-0.5, 0.5, -0.2), None, 2),
    ],
)
def test_gaps_are_counted_below_zero_by_the_rule_of_the_log(
    gaps: tuple[float, ...], stderr: float | None, below: int
) -> None:
    known = {DPI_XT: torch.tensor(gaps)} | ({} if stderr is None else {DPI_XT.error: torch.full((len(gaps),), stderr)})
    assert counts(known, Subject.ACTIVATIONS)[DPI_XT_VIOLATIONS] == below
    pairs, have = "pair" if len(gaps) == 1 else "pairs", "has" if below <= 1 else "have"
    there = ": there the second layer reads more about the input than the first" if below else ""
    assert gaps_told(*gaps, stderr=stderr) == (
        f"Of {len(gaps)} {pairs} of layers, {below or 'none'} {have} a gap clearly below zero{there} "
        f"(smallest gap: {min(gaps):.3f} bits)."
    )


def test_without_pairs_there_is_no_word_about_gaps() -> None:
    assert "gap clearly below zero" not in html_report(run(history(["a"], errors=False)))


def test_a_curve_that_means_nothing_is_told_apart_with_its_remedy() -> None:
    root = parse(html_report(run(history(["a", "b"], epochs=[0], errors=False))))
    (warned,) = [one for one in root.iter("span") if one.get("class") == "warn"]
    assert warned.text == (
        "H(T) is 98% of log2 n: to the kernel all samples differ, so I(X;T) is at its limit whatever the layer does. "
        "Use a larger bandwidth, such as MedianDistance(scale=2), or a larger probe."
    )


def test_a_word_in_the_table_is_explained_and_no_other() -> None:
    """A term of the list for every quantity that is drawn, from the table of quantities."""
    few = parse(html_report(run(history(["a", "b"], targets=False, errors=False, redundancy=False))))
    terms = ["".join(term.itertext()) for term in few.iter("dt")]
    assert terms == [
        "I(X;T), information about the input",
        "H(T), entropy",
        "I(X;T₁) − I(X;T₂), information about the input lost",
        "Shuffled pairs",
        "What it does not tell you",
    ]
    assert len(list(few.iter("dd"))) == len(terms)
    everything = [term.text for term in parse(html_report(run(history(["a", "b", "c"])))).iter("dt")]
    assert "I(δₖ;δ), information about the last error signal" in everything
    assert "redundancy minus synergy" in everything


def test_without_the_number_of_samples_there_is_no_verdict() -> None:
    rows = [row for row in history(["a", "b"], epochs=[0], errors=False) if row.quantity != "log2_n"]
    root = parse(html_report(run(rows)))
    assert "A fixed probe: H(X)" in "".join(root.itertext())
    lines = [["".join(cell.itertext()) for cell in line] for line in root.iter("tr")]
    assert lines[0][-1] == "verdict"
    assert [line[-1] for line in lines[1:]] == ["-", "-"]
    assert not [one for one in root.iter("span") if one.get("class") == "warn"]


def test_without_targets() -> None:
    text = html_report(run(history(["a", "b"], targets=False, errors=False)))
    assert "I(T;Y) while training" not in text
    parse(text)


def test_both_probes_have_their_part() -> None:
    both = history(["a", "b"], probe="train", errors=False) + history(["a", "b"], probe="val", errors=False)
    root = parse(html_report(run(both)))
    assert len(list(root.iter("table"))) == 2
    assert "Measured on val samples" in "".join(root.itertext())


def test_both_probes_of_a_deep_network_with_everything_are_below_3_mb() -> None:
    names = NAMES["long"]
    both = history(names, range(51), probe="train") + history(names, range(51), probe="val")
    assert len(html_report(run(both)).encode()) < 3_000_000


def settings(facts: Facts | None, hparams: str = "") -> str:
    text = "".join(parse(html_report(run(history(["a", "b"]), facts, hparams))).itertext())
    return text.partition("Settings")[2]


def test_settings_come_from_the_facts_and_the_hyperparameters() -> None:
    told = settings(FACTS, hparams="lr: 0.1")
    assert "alpha=2, bandwidth=MedianDistance(scale=1.0" in told
    assert "solver=Eigenvalues(" in told
    assert "Version 0.1.0." in told
    assert "conv1 → conv2\nnoise: random, left out" in told
    assert "lr: 0.1" in told


def test_only_settings_that_are_known_are_told() -> None:
    """As from event files without facts."""
    assert settings(Facts(version="")) == ""
    told = settings(Facts(version=""), hparams="lr: 0.1")
    assert "Hyperparameters" in told
    assert "Version" not in told
    assert "Markov" not in told


def test_a_film_has_a_frame_for_each_measurement_and_lingers(tmp_path: Path) -> None:
    from PIL import Image

    animate(run(history(["a", "b"], epochs=range(4))), tmp_path / "plane.gif", frames_per_second=2)
    with Image.open(tmp_path / "plane.gif") as film:
        assert film.n_frames >= 4
        assert film.size in ((720, 460), (720, 459))  # versions of matplotlib round the height of a canvas differently


def test_two_planes_share_their_axes() -> None:
    small, large = run(history(["a", "b"])), run(history(NAMES["vgg"], epochs=range(30)))
    left, right = compare(small, large).axes
    assert left.get_xlim() == right.get_xlim()
    assert left.get_ylim() == right.get_ylim()
    for one in (small, large):
        for row in one.rows:
            if row.quantity == "I_XT":
                assert left.get_xlim()[0] <= row.value <= left.get_xlim()[1]
