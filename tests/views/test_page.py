"""The report: valid HTML that stands alone, says what the run says, and trusts nothing in it."""

import itertools
import re
from base64 import b64decode
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element

import html5lib
import pytest
import torch
from histories import NAMES, history

from lightning_infoplane import Estimator, Fixed, History, InformationPlane, Row
from lightning_infoplane.measurement.columns import counts
from lightning_infoplane.measurement.history import Facts
from lightning_infoplane.measurement.quantities import DPI_AMI_XT, DPI_DECREASES, DPI_INCREASES
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
    assert len(figures) == 13
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


# ------------------------------------------------------------------------------------------------- what it says


@cache
def page(rows: tuple[Row, ...]) -> Element:
    """The report, made once for the same rows: to draw its pictures takes a second."""
    return parse(html_report(run(rows)))


def words(rows: Sequence[Row]) -> str:
    return "".join(page(tuple(rows)).itertext())


def table(rows: Sequence[Row]) -> list[list[str]]:
    (found,) = page(tuple(rows)).iter("table")
    return [["".join(cell.itertext()) for cell in line] for line in found.iter("tr")]


def in_short(rows: Sequence[Row]) -> list[str]:
    """The sentences on the layers."""
    (found,) = page(tuple(rows)).iter("ul")
    return ["".join(item.itertext()) for item in found.iter("li")]


def warned(rows: Sequence[Row]) -> list[str | None]:
    """What is said against a layer."""
    return [one.text for one in page(tuple(rows)).iter("span") if one.get("class") == "warn"]


def few(layers: Sequence[str] = ("a", "b"), **options: Any) -> list[Row]:
    """A run without error signals and feature maps, which have pictures of their own."""
    return history(layers, errors=False, redundancy=False, **options)


def about_gaps(rows: Sequence[Row]) -> str:
    (told,) = re.findall(r"From layer to layer, [^.]*\.", words(rows))
    return str(told)


def test_the_numbers_of_the_last_measurement_are_in_the_table_with_their_errors() -> None:
    rows = few(epochs=range(3))
    last = {(row.place, row.quantity): row.value for row in rows if row.epoch == 2}
    head, first, second = table(rows)
    assert head == [*("layer", "AMI(X;T)", "AMI(T;Y)", "I(X;T)", "shuffled", "I(T;Y)", "shuffled", "H(T)", "verdict")]
    assert first == [
        "a",
        f"{last['a', 'AMI_XT']:.3f} ± 0.012",
        f"{last['a', 'AMI_TY']:.3f} ± 0.012",
        f"{last['a', 'I_XT']:.3f} ± 0.040",
        f"{last['a', 'I_XT_chance']:.3f}",
        f"{last['a', 'I_TY']:.3f} ± 0.040",
        f"{last['a', 'I_TY_chance']:.3f}",
        f"{last['a', 'H_T']:.3f} ± 0.040",
        "ok",
    ]
    assert second[0] == "b"


def test_the_units_of_the_table_are_told() -> None:
    assert (
        "AMI(X;T): no unit, AMI(T;Y): no unit, I(X;T): bits, shuffled: bits, I(T;Y): bits, shuffled: bits, H(T): bits"
    ) in words(few(epochs=[0]))
    assert "All in bits" in words(few(epochs=[0], adjusted=False))
    only = [row for row in few() if row.quantity in ("AMI_XT", "AMI_TY", "H_X")]
    assert "All in <" not in html_report(run(only))


def test_probe_limits_and_moments_are_told() -> None:
    text = words(few(epochs=range(3)))
    assert "A fixed probe of 512 samples: H(X) = 4.20 bits, H(Y) = 3.32 bits. 3 measurements" in text
    assert "the last one after epoch 2" in text


def test_of_each_layer_it_is_told_from_where_to_where_it_went() -> None:
    rows = few(epochs=range(3))
    at = {(row.epoch, row.place, row.quantity): row.value for row in rows}
    assert in_short(rows) == [
        f"{layer}: AMI(X;T) from {at[0, layer, 'AMI_XT']:.2f} ± 0.01 to {at[2, layer, 'AMI_XT']:.2f} ± 0.01, "
        f"AMI(T;Y) from {at[0, layer, 'AMI_TY']:.2f} ± 0.01 to {at[2, layer, 'AMI_TY']:.2f} ± 0.01."
        for layer in "ab"
    ]


def test_of_a_single_measurement_there_is_no_from_and_to() -> None:
    rows = few(["b", "a"], epochs=[5], stderr=False)
    first, second = in_short(rows)
    assert re.fullmatch(r"b: AMI\(X;T\) 0\.\d\d, AMI\(T;Y\) 0\.\d\d\.", first)
    assert re.fullmatch(r"a: AMI\(X;T\) 0\.\d\d, AMI\(T;Y\) 0\.\d\d\.", second)


def test_old_rows_are_told_in_bits() -> None:
    rows = few(epochs=range(3), adjusted=False)
    assert in_short(rows)[0] == "a: I(X;T) from 4.00 to 3.97 bits, I(T;Y) from 0.80 to 0.77 bits."
    assert "From layer to layer" not in words(rows)
    assert table(rows)[0] == ["layer", "I(X;T)", "shuffled", "I(T;Y)", "shuffled", "H(T)", "verdict"]


def without(rows: Sequence[Row], layer: str, *epochs: int) -> list[Row]:
    """As if the layer were not resolved then."""
    return [
        row._replace(value=0.001) if (row.place, row.quantity) == (layer, "E_TT") and row.epoch in epochs else row
        for row in rows
        if not (row.place == layer and row.epoch in epochs and row.quantity.startswith("AMI"))
        if not (isinstance(row.place, Pair) and layer in row.place and row.epoch in epochs and "AMI" in row.quantity)
    ]


def test_a_layer_without_adjusted_information_is_told_so() -> None:
    rows = without(few(epochs=range(3)), "b", 0, 1, 2)
    assert in_short(rows)[1].startswith("b: AMI(X;T) has no value, AMI(T;Y) has no value.")
    assert table(rows)[2][1:3] == ["-", "-"]


def test_the_last_value_that_is_told_is_the_one_in_the_table() -> None:
    """Of a layer that lost its value on the way it is not said to have the one of before."""
    rows = without(few(epochs=range(3)), "b", 2)
    earlier = {row.quantity: row.value for row in rows if (row.epoch, row.place) == (1, "b")}
    assert table(rows)[2][1:3] == ["-", "-"]
    assert f"to {earlier['AMI_XT']:.2f}" not in in_short(rows)[1]


GAPS: list[tuple[list[tuple[float, float | None]], tuple[int, int, int]]] = [
    ([(0.5, 1e-4)], (1, 0, 0)),
    ([(-0.5, 1e-4)], (0, 1, 0)),
    ([(0.5, None)], (0, 0, 1)),  # without p-values nothing is decided
    ([(0.009, 1e-9), (-0.009, 1e-9)], (0, 0, 2)),  # too small to matter
    ([(0.5, 0.02), (0.5, 0.02)], (2, 0, 0)),  # Holm: 2 × .02
    ([(0.5, 0.02), (0.5, 0.02), (0.5, 0.02)], (0, 0, 3)),  # 3 × .02
    ([(0.5, 1e-4), (-0.5, 1e-4), (-0.5, 0.2), (0.3, 1e-4)], (2, 1, 1)),
]


@pytest.mark.parametrize(("gaps", "expected"), GAPS)
def test_gaps_are_counted_by_the_rule_of_the_log(
    gaps: list[tuple[float, float | None]], expected: tuple[int, int, int]
) -> None:
    rows = few(["a"], epochs=[0])
    for number, (gap, p) in enumerate(gaps):
        pair = Pair("a", str(number))
        rows.append(Row(0, 0, "", pair, "DPI_AMI_XT", gap))
        rows += [] if p is None else [Row(0, 0, "", pair, "DPI_AMI_XT_p", p)]
    decreases, increases, undecided = expected
    pairs = "pair" if len(gaps) == 1 else "pairs"
    assert about_gaps(rows) == (
        f"From layer to layer, AMI(X;T) decreases in {decreases} of {len(gaps)} {pairs} of layers, increases in "
        f"{increases}, and is undecided in {undecided}."
    )
    if all(p is not None for _, p in gaps):
        known = {
            DPI_AMI_XT: torch.tensor([gap for gap, _ in gaps], dtype=torch.float64),
            DPI_AMI_XT.p_value: torch.tensor([p for _, p in gaps], dtype=torch.float64),
        }
        counted = counts(known, Subject.ACTIVATIONS)
        assert (counted[DPI_DECREASES], counted[DPI_INCREASES]) == (decreases, increases)


def test_the_sentence_about_gaps_says_what_the_log_says() -> None:
    rows = history(NAMES["vgg"])
    logged = {row.quantity: round(row.value) for row in rows if row.epoch == 8 and not row.place}
    assert logged["DPI_increases"] * logged["DPI_decreases"] > 0
    assert (
        f"decreases in {logged['DPI_decreases']} of 12 pairs of layers, increases in {logged['DPI_increases']}, "
        in (about_gaps(rows))
    )


def test_without_pairs_there_is_no_word_about_gaps() -> None:
    assert "From layer to layer" not in html_report(run(few(["a"])))


def test_a_curve_that_means_nothing_is_told_apart_with_its_remedy() -> None:
    assert warned(few(epochs=[0])) == [
        "H(T) is 98% of log2 n: to the kernel all samples differ, so information in bits is at its limit whatever the "
        "layer does, and there is no adjusted information. Use a larger bandwidth, such as MedianDistance(scale=2), "
        "or a larger probe."
    ]


def test_a_layer_of_which_a_part_is_at_chance_is_told_so_in_list_and_table() -> None:
    changed = {("b", "AMI_TY_p"): 0.31, ("b", "AMI_TY"): 0.004}
    rows = [
        row._replace(value=changed.get((str(row.place), row.quantity), row.value))
        for row in few(["x", "b"], epochs=[5])
    ]
    assert table(rows)[2][-1] == "AMI(T;Y) at chance"
    assert warned(rows) == ["AMI(T;Y) is 0.004 (p = 0.31): no more than chance gives."]


def test_the_verdict_in_the_table_is_of_the_last_measurement() -> None:
    assert [line[-1] for line in table(few())] == ["verdict", "ok", "ok"]
    assert [line[-1] for line in table(few(epochs=[0]))] == ["verdict", "saturated", "ok"]


CAVEATS = ["Shuffled pairs", "±", "Increase, decrease, undecided", "What it does not tell you"]


def test_a_word_in_the_table_is_explained_and_no_other() -> None:
    """A term of the list for every quantity that is drawn, from the table of quantities."""
    root = page(tuple(few(targets=False)))
    terms = ["".join(term.itertext()) for term in root.iter("dt")]
    assert terms == [
        "AMI(X;T), adjusted information about the input",
        "AMI(X;T₁) − AMI(X;T₂), adjusted information about the input lost",
        "I(X;T), information about the input",
        "H(T), entropy",
        *CAVEATS,
    ]
    assert len(list(root.iter("dd"))) == len(terms)
    everything = [term.text for term in parse(html_report(run(history(["a", "b", "c"])))).iter("dt")]
    assert "AMI(δₖ;δ), adjusted information about the last error signal" in everything
    assert "redundancy minus synergy" in everything


def test_what_the_numbers_do_not_say_is_said() -> None:
    root = page(tuple(few()))
    terms = [term.text for term in root.iter("dt")]
    told = dict(zip(terms, ("".join(one.itertext()) for one in root.iter("dd")), strict=True))
    assert "A value in bits is worth only what it exceeds this by" in told["Shuffled pairs"]
    assert told["±"].startswith("One standard error:")
    assert "Bars and bands are two of them." in told["±"]
    assert "larger than 0.01 and significant at 5 % after Holm's correction" in told["Increase, decrease, undecided"]
    limits = told["What it does not tell you"]
    assert "obeys no data-processing inequality" in limits
    assert "It is not the part of the label that is known." in limits
    assert "compare layers and epochs of one run, or runs with the same settings" in limits
    assert "one seed is one network" in limits


def test_a_plane_is_explained_in_its_own_terms() -> None:
    root = page(tuple(few()))
    adjusted, bits, *_ = ("".join(caption.itertext()) for caption in root.iter("figcaption"))
    assert adjusted.startswith("Information plane. Each layer walks from its hollow mark")
    assert "0 is chance, 1 is a copy." in adjusted
    assert bits.startswith("Information plane in bits. ")
    assert "only its distance from the cross of its colour, where its shuffled pairs are" in bits


def test_without_the_number_of_samples_there_is_no_verdict() -> None:
    rows = [row for row in history(["a", "b"], epochs=[0], errors=False) if row.quantity != "log2_n"]
    root = parse(html_report(run(rows)))
    assert "A fixed probe: H(X)" in "".join(root.itertext())
    lines = [["".join(cell.itertext()) for cell in line] for line in root.iter("tr")]
    assert lines[0][-1] == "verdict"
    assert [line[-1] for line in lines[1:]] == ["-", "-"]
    assert not [one for one in root.iter("span") if one.get("class") == "warn"]


def test_without_targets() -> None:
    text = html_report(run(few(targets=False)))
    assert "(T;Y) while training" not in text
    assert "Information plane" not in text
    assert in_short(few(targets=False))[0].count("AMI") == 1
    parse(text)


def test_a_run_whose_input_is_not_resolved_has_a_report() -> None:
    """Inputs in hundreds and layers around one, under one bandwidth: of AMI(X;T) nothing is known."""
    classes = torch.arange(128) % 4
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(4, 8, generator=generator)[classes] + 0.3 * torch.randn(128, 8, generator=generator)
    plane = InformationPlane(Estimator(bandwidth=Fixed(1.0)))
    plane.measure(255 * x, classes, {"a": x, "b": x.tanh()})
    keys = {row.quantity for row in plane.history}
    assert "AMI_TY" in keys
    assert "AMI_XT" not in keys
    text = words(plane.history)
    assert "Information plane in bits" in text


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


def test_a_film_begins_where_there_is_a_plane(tmp_path: Path) -> None:
    """Of a run whose first layers are not resolved before training, or that is of bits alone."""
    late = [row for row in history(["a", "b"], epochs=range(3)) if row.epoch or not row.quantity.startswith("AMI")]
    old = history(["a", "b"], epochs=range(2), adjusted=False)
    for name, rows in {"late": late, "old": old}.items():
        animate(run(rows), tmp_path / f"{name}.gif", frames_per_second=2)
        assert (tmp_path / f"{name}.gif").read_bytes().startswith(b"GIF8")


def test_two_planes_share_their_axes() -> None:
    small, large = run(history(["a", "b"])), run(history(NAMES["vgg"], epochs=range(30)))
    left, right = compare(small, large).axes
    assert left.get_xlim() == right.get_xlim()
    assert left.get_ylim() == right.get_ylim()
    assert left.get_xlabel() == right.get_xlabel() == "adjusted information about the input, AMI(X;T)"
    for one in (small, large):
        for row in one.rows:
            if row.quantity == "AMI_XT":
                assert left.get_xlim()[0] <= row.value <= left.get_xlim()[1]


def test_beside_an_old_run_in_bits_a_new_one_is_in_bits_too() -> None:
    """On shared axes two planes show the same quantities."""
    new, old = run(history(["a", "b"])), run(history(["a", "b"], adjusted=False))
    for figure in (compare(new, old), compare(old, new)):
        left, right = figure.axes
        assert left.get_xlabel() == right.get_xlabel() == "information about the input, I(X;T) (bits)"


def test_beside_a_run_whose_input_is_not_resolved_both_are_in_bits() -> None:
    new = history(["a", "b"])
    figure = compare(run(new), run([row for row in new if "AMI_XT" not in row.quantity]))
    assert {ax.get_xlabel() for ax in figure.axes} == {"information about the input, I(X;T) (bits)"}


def test_of_a_run_of_very_many_layers_some_are_drawn_and_all_are_told() -> None:
    layers = [f"features.{number}" for number in range(60)]
    text = html_report(run(history(layers, epochs=range(2), errors=False, redundancy=False)))
    assert text.count("Drawn are 40 of 60 layers, evenly spaced.") >= len(re.findall("<figcaption>", text)) > 0
    assert all(f"<td>{layer}</td>" in text for layer in layers)
