"""The report: valid HTML that stands alone, says what the run says, and trusts nothing in it."""

import itertools
import re
from base64 import b64decode
from pathlib import Path
from xml.etree.ElementTree import Element

import html5lib
import pytest
from histories import NAMES, history

from lightning_infoplane import Row
from lightning_infoplane.report import animate, compare, html_report
from lightning_infoplane.runs import Run

ATTACK = "<script>alert(1)</script>\"'&"


def run(rows: list[Row], **known: str) -> Run:
    return Run("runs/a", Path("runs/a/infoplane.csv"), rows, **known)


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
    root = parse(html_report(run(history(NAMES["two"], errors=False), card="a\nb", hparams="lr: 0.1")))
    levels = [int(element.tag[1]) for element in root.iter() if re.fullmatch(r"h\d", str(element.tag))]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(b - a <= 1 for a, b in itertools.pairwise(levels))


def test_what_comes_from_the_run_is_escaped() -> None:
    names = [ATTACK, f"{ATTACK}2"]
    hostile = Run(ATTACK, Path(f"runs/{ATTACK}"), history(names, errors=False), f"title\n{ATTACK}", ATTACK)
    text = html_report(hostile)
    root = parse(text)
    assert "<script" not in text
    assert not list(root.iter("script"))
    assert ATTACK in "".join(root.itertext())  # shown as it is
    assert all(ATTACK in image.get("alt") for image in root.iter("img"))


def test_a_hostile_probe_name_is_escaped() -> None:
    root = parse(html_report(run(history(["a", "b"], probe="<script>"))))
    assert "Measured on <script> samples" in "".join(root.itertext())


def test_numbers_verdicts_and_gaps_are_told() -> None:
    rows = history(["a", "b"], epochs=range(3), errors=False)
    root = parse(html_report(run(rows)))
    cells = [["".join(cell.itertext()) for cell in line] for line in root.iter("tr")]
    last = {(row.layer, row.quantity): row.value for row in rows if row.epoch == 2}
    assert cells[0] == ["layer", "I(X;T)", "shuffled", "I(T;Y)", "shuffled", "H(T)", "verdict"]
    assert cells[1][:3] == ["a", f"{last['a', 'I_XT']:.3f}", f"{last['a', 'I_XT_chance']:.3f}"]
    assert cells[1][-1] == "ok"
    text = "".join(root.itertext())
    assert "A fixed probe of 512 samples: H(X) = 4.20 bits, H(Y) = 3.32 bits. 3 measurements" in text
    assert "the last one after epoch 2" in text
    assert "Along 1 pair of layers" in text


def test_a_curve_that_means_nothing_is_told_apart() -> None:
    root = parse(html_report(run(history(["a", "b"], epochs=[0], errors=False))))
    (warned,) = [one for one in root.iter("span") if one.get("class") == "warn"]
    assert "larger bandwidth" in warned.text


def test_without_the_number_of_samples_there_is_no_verdict() -> None:
    rows = [row for row in history(["a", "b"], errors=False) if row.quantity != "log2_n"]
    text = "".join(parse(html_report(run(rows))).itertext())
    assert "A fixed probe: H(X)" in text
    assert "can be read" not in text.split("How to read this")[0]


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


def test_settings_come_from_the_card_and_the_hyperparameters() -> None:
    card = "**I(X;T)** is …\n\nα = 1.01, MedianDistance(scale=1.0)\n\n| layer |\n|---|\n\n- conv1 → conv2"
    text = "".join(parse(html_report(run(history(["a", "b"]), card=card, hparams="lr: 0.1"))).itertext())
    settings = text.split("Settings")[1]
    assert "α = 1.01, MedianDistance(scale=1.0)" in settings
    assert "conv1 → conv2" in settings
    assert "lr: 0.1" in settings
    assert "|" not in settings


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
