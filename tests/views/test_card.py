"""A run in words: what it cost, remarks on layers that say nothing, and the text card."""

import re
from collections.abc import Sequence
from xml.etree import ElementTree

import markdown
import pytest
import torch
from torch import Tensor

import lightning_infoplane
from lightning_infoplane import (
    Estimator,
    Fixed,
    History,
    InformationPlane,
    Jackknife,
    Lanczos,
    Leading,
    MatrixRenyiCallback,
    MedianDistance,
    Row,
    Silverman,
)
from lightning_infoplane.measurement.history import Facts
from lightning_infoplane.measurement.settings import as_data
from lightning_infoplane.network.chains import Chain
from lightning_infoplane.views.card import bill, card, remarks, table_columns, told_settings

LIMIT = 6.0
NAMES = {name: getattr(lightning_infoplane, name) for name in lightning_infoplane.__all__}


def rows_of(layer: str, entropy: float, shared: float, chance: float | None = 0.5, probe: str = "") -> list[Row]:
    """The rows that verdicts are made from."""
    values = {"H_T": entropy, "I_XT": shared, "I_TY": 0.25} | ({} if chance is None else {"I_XT_chance": chance})
    return [Row(3, 7, probe, layer, quantity, value) for quantity, value in values.items()]


def of_moment(*layers: list[Row], probe: str = "") -> list[Row]:
    return [Row(3, 7, probe, "", "log2_n", LIMIT), *(row for layer in layers for row in layer)]


OK, SATURATED, COLLAPSED, AT_CHANCE = (
    rows_of("ok", 3.0, 1.5),
    rows_of("full", 5.94, 3.0),
    rows_of("flat", 0.06, 0.01),
    rows_of("lost", 3.0, 0.52),
)


# --------------------------------------------------------------------------------------------------------- bill


@pytest.mark.parametrize(("seconds", "dear"), [(1.0, False), (9.9, False), (10.0, True), (71.0, True)])
def test_a_run_that_paid_much_is_told_how_to_pay_less(seconds: float, dear: bool) -> None:
    told = bill(21, seconds, 100.0)
    assert told.startswith(f"21 measurements took {seconds:.1f} s, {seconds / 100:.0%} of the training time.")
    assert ("schedule=LogSpacedEpochs(20) measures less often, outputs=Outputs(figures=False) draws" in told) == dear


def test_what_a_bill_advises_can_be_typed() -> None:
    arguments = re.findall(r"\w+=\w+\(\S*\)", bill(21, 50.0, 100.0))
    assert len(arguments) == 2
    built = eval(f"MatrixRenyiCallback({', '.join(arguments)})", dict(NAMES))
    assert isinstance(built, MatrixRenyiCallback)
    assert repr(built) == "MatrixRenyiCallback(schedule=LogSpacedEpochs(count=20), outputs=Outputs(figures=False))"


def test_a_run_that_took_no_time_has_a_bill_too() -> None:
    assert bill(0, 0.0, 0.0) == "0 measurements took 0.0 s, 0% of the training time."


# ------------------------------------------------------------------------------------------------------ remarks


def said(rows: Sequence[Row]) -> dict[str, str]:
    return dict(remarks(rows))


def test_a_layer_that_says_something_needs_no_remark() -> None:
    assert said(of_moment(OK)) == {}


@pytest.mark.parametrize(
    ("rows", "about", "sentence"),
    [
        (
            SATURATED,
            " full saturated",
            "layer 'full' is saturated. H(T) is 99% of log2 n: to the kernel all samples differ, so I(X;T) is at its "
            "limit whatever the layer does. Use a larger bandwidth, such as MedianDistance(scale=2), or a larger "
            "probe.",
        ),
        (
            COLLAPSED,
            " flat collapsed",
            "layer 'flat' is collapsed. H(T) is 1% of log2 n: to the kernel all samples look alike (a dead layer?). "
            "If its values do vary, use a smaller bandwidth, such as MedianDistance(scale=0.5).",
        ),
        (
            AT_CHANCE,
            " lost at chance",
            "layer 'lost' is at chance. I(X;T) is no larger than for shuffled pairs, so the curve says nothing. "
            "Use a larger probe or another bandwidth.",
        ),
    ],
)
def test_each_remark_names_layer_number_and_what_to_do(rows: list[Row], about: str, sentence: str) -> None:
    assert said(of_moment(OK, rows)) == {about: sentence}


def test_error_signals_have_remarks_of_their_own_in_their_own_symbols() -> None:
    of_errors = {"flat": (0.06, 0.01), "lost": (3.0, 0.52), "full": (5.94, 3.0), "ok": (3.0, 1.5)}
    rows = [
        Row(3, 7, "", layer, key, value)
        for layer, (entropy, shared) in of_errors.items()
        for key, value in (("H_error", entropy), ("I_error", shared), ("I_error_chance", 0.5))
    ]
    found = said(of_moment(OK, rows))
    assert list(found) == [
        " the error signal of flat collapsed",
        " the error signal of lost at chance",
        " the error signal of full saturated",
    ]
    collapsed, lost, full = found.values()
    assert collapsed.startswith("the error signal of layer 'flat' is collapsed. H(δ) is 1% of log2 n")
    assert lost.startswith("the error signal of layer 'lost' is at chance. I(δₖ;δ) is no larger than for shuffled")
    assert "so I(δₖ;δ) is at its limit whatever the layer does" in full


def test_what_it_is_about_is_the_same_at_every_epoch_so_that_it_is_said_once() -> None:
    """The number in the sentence changes; whoever speaks goes by what it is about."""
    later = rows_of("full", 5.99, 3.0)
    first, second = said(of_moment(SATURATED)), said(of_moment(later))
    assert first.keys() == second.keys()
    assert first != second


def test_each_probe_and_each_case_is_another_matter() -> None:
    train = of_moment(rows_of("full", 5.94, 3.0, probe="train"), probe="train")
    val = of_moment(rows_of("full", 0.06, 0.0, probe="val"), probe="val")
    assert set(said(train + val)) == {"train full saturated", "val full collapsed"}


def test_a_rule_named_in_a_remark_is_there_to_be_typed() -> None:
    for rows in (SATURATED, COLLAPSED):
        (sentence,) = said(of_moment(rows)).values()
        (rule,) = re.findall(r"MedianDistance\(.*?\)", sentence)
        assert isinstance(eval(rule), MedianDistance)


def test_without_a_chance_level_nothing_is_at_chance() -> None:
    assert said(of_moment(rows_of("lost", 3.0, 0.01, chance=None))) == {}


def test_without_log2_n_there_is_nothing_to_remark() -> None:
    assert said([*SATURATED, *COLLAPSED]) == {}


def live(**layers: Tensor) -> list[Row]:
    x = torch.randn(64, 5, generator=torch.Generator().manual_seed(0))
    return InformationPlane().measure(x, torch.arange(64) % 2, layers)


def test_a_dead_layer_and_noise_are_found_in_real_rows() -> None:
    noise = torch.randn(64, 5, generator=torch.Generator().manual_seed(1))
    assert set(said(live(dead=torch.ones(64, 3, 2, 2), noise=noise))) == {" dead collapsed", " noise at chance"}


# ------------------------------------------------------------------------------------------ settings and columns


@pytest.mark.parametrize(
    "chosen",
    [
        Estimator(),
        Estimator(2, Silverman(), shuffles=20, seed=3),
        Estimator(bandwidth=Fixed(0.5), target_bandwidth=MedianDistance(scale=2), standard_errors=Jackknife(4)),
        Estimator(solver=Lanczos(steps=8, seed=1)),
        Estimator(solver=Leading(5)),
    ],
)
def test_settings_are_told_as_they_would_be_typed(chosen: Estimator) -> None:
    told = told_settings(as_data(chosen))
    assert "\n" not in told
    assert "class" not in told
    assert eval(f"Estimator({told})", dict(NAMES)) == chosen


def test_every_field_of_the_estimator_is_told_its_defaults_too() -> None:
    told = told_settings(as_data(Estimator(alpha=2)))
    assert told.startswith("alpha=2, bandwidth=MedianDistance(scale=1.0, ")
    for field in ("target_bandwidth=None", "solver=Eigenvalues(", "shuffles=1", "standard_errors=None", "seed=0"):
        assert field in told


def test_of_unknown_settings_nothing_is_told() -> None:
    assert told_settings({}) == ""


def test_columns_are_those_of_the_table_that_the_rows_hold_each_with_its_chance_level() -> None:
    rows = [Row(0, 0, "", "a", key, 1.0) for key in ("H_T", "I_TY_chance", "I_TY", "I_XT", "I_XT_p", "bandwidth")]
    assert [quantity.key for quantity in table_columns(rows)] == ["I_XT", "I_TY", "I_TY_chance", "H_T"]
    assert [quantity.short for quantity in table_columns(rows)] == ["I(X;T)", "I(T;Y)", "shuffled", "H(T)"]
    assert table_columns([]) == []


# --------------------------------------------------------------------------------------------------------- card


CHAIN = tuple(Chain(("ok", "full"), frozenset({("ok", "full")}), ("noise",)).describe().split("\n"))


def of(rows: Sequence[Row], chain: Sequence[str] = (), **n: int) -> History:
    """A history that knows what it was measured with."""
    return History(rows, Facts(estimator=as_data(Estimator()), n=n or {"": 64}, chain=chain))


def shown(text: str) -> ElementTree.Element:
    """The card as TensorBoard's text tab renders it."""
    html = markdown.markdown(text, extensions=["markdown.extensions.tables", "markdown.extensions.fenced_code"])
    return ElementTree.fromstring(f"<card>{html}</card>")


def cells(table: ElementTree.Element) -> list[list[str]]:
    return [["".join(cell.itertext()).strip() for cell in row] for row in table.iter("tr")]


def test_the_card_has_one_row_a_layer_with_its_verdict() -> None:
    (table,) = shown(card(of(of_moment(OK, SATURATED, COLLAPSED, AT_CHANCE), CHAIN))).iter("table")
    assert cells(table) == [
        ["layer", "I(X;T)", "shuffled", "I(T;Y)", "H(T)", "verdict"],
        ["ok", "1.50", "0.50", "0.25", "3.00", "ok"],
        ["full", "3.00", "0.50", "0.25", "5.94", "saturated"],
        ["flat", "0.01", "0.50", "0.25", "0.06", "collapsed"],
        ["lost", "0.52", "0.50", "0.25", "3.00", "at chance"],
    ]


def test_a_value_that_one_layer_lacks_is_an_empty_cell() -> None:
    rows = of_moment(OK, rows_of("new", 3.0, 1.5, chance=None))
    (table,) = shown(card(of(rows))).iter("table")
    assert cells(table)[1:] == [
        ["ok", "1.50", "0.50", "0.25", "3.00", "ok"],
        ["new", "1.50", "", "0.25", "3.00", "ok"],
    ]


def test_the_card_is_of_the_last_measurement() -> None:
    earlier = [row._replace(epoch=1, step=2, value=1.0) for row in of_moment(OK)]
    (table,) = shown(card(of(earlier + of_moment(OK)))).iter("table")
    assert cells(table)[1:] == [["ok", "1.50", "0.50", "0.25", "3.00", "ok"]]


def test_the_card_has_the_chain_as_a_list() -> None:
    items = ["".join(item.itertext()) for item in shown(card(of([], CHAIN))).iter("li")]
    assert items == ["ok → full", "noise: random, left out"]


def test_a_card_without_a_chain_does_not_speak_of_one() -> None:
    assert "Markov" not in card(of(of_moment(OK)))


def test_the_card_says_what_the_curves_are_and_how_it_was_measured() -> None:
    facts = Facts(estimator=as_data(Estimator(2, MedianDistance(scale=3))), n={"": 64})
    text = card(History(of_moment(OK), facts))
    assert "**I(X;T)** is what a layer keeps of the input" in text
    assert "Only what exceeds the value for shuffled pairs is evidence." in text
    assert "alpha=2, bandwidth=MedianDistance(scale=3" in text
    assert "solver=Eigenvalues(" in text
    assert "Probe of 64 samples:" in text


def test_a_probe_of_unknown_size_is_named_without_it() -> None:
    assert "\nProbe:\n" in card(History(of_moment(OK)))
    assert "\nProbe (val):\n" in card(of(of_moment(rows_of("ok", 3.0, 1.5, probe="val"), probe="val"), train=64))


def test_each_probe_has_a_table() -> None:
    train = of_moment(rows_of("ok", 3.0, 1.5, probe="train"), probe="train")
    val = of_moment(rows_of("ok", 3.0, 1.25, probe="val"), probe="val")
    text = card(of(train + val, train=64, val=32))
    assert "Probe of 64 samples (train):" in text
    assert "Probe of 32 samples (val):" in text
    first, second = shown(text).iter("table")
    assert cells(first)[1][:2] == ["ok", "1.50"]
    assert cells(second)[1][:2] == ["ok", "1.25"]


@pytest.mark.parametrize(
    "name", ["encoder.layers.0.self_attn", "_orig_", "__init__", "a|b", "a *b* `c`", "<b>", "x_1_"]
)
def test_names_are_shown_as_they_are(name: str) -> None:
    chain = Chain((name,), frozenset(), (name,)).describe().split("\n")
    text = card(of(of_moment(rows_of(name, 3.0, 1.5)), chain))
    (table,) = shown(text).iter("table")
    assert cells(table)[1:] == [[name, "1.50", "0.50", "0.25", "3.00", "ok"]]
    assert ["".join(item.itertext()) for item in shown(text).iter("li")][1:] == [f"{name}: random, left out"]


def test_settings_are_shown_as_they_are() -> None:
    """Underscores of arguments are no emphasis."""
    chosen = as_data(Estimator(standard_errors=Jackknife(4)))
    text = card(History(of_moment(OK), Facts(estimator=chosen)))
    assert told_settings(chosen) in "".join(shown(text).itertext())
