"""A run in words: what it cost, remarks on layers that say less than it seems, and the text card."""

import math
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
from lightning_infoplane.measurement.quantities import OUTLIER
from lightning_infoplane.measurement.settings import as_data
from lightning_infoplane.network.chains import Chain
from lightning_infoplane.views.card import bill, card, remarks, table_columns, told, told_settings

LIMIT = 6.0
NAMES = {name: getattr(lightning_infoplane, name) for name in lightning_infoplane.__all__}


def rows_of(layer: str, probe: str = "", **values: float) -> list[Row]:
    """The rows that verdicts are made from, of a layer that is fine in all that is not said."""
    usual = {"H_T": 3.0, "E_TT": 1.0, "AMI_XT": 0.75, "AMI_XT_p": 1e-9, "AMI_TY": 0.25, "AMI_TY_p": 1e-9}
    return [Row(3, 7, probe, layer, key, value) for key, value in (usual | values).items() if not math.isnan(value)]


def of_moment(*layers: list[Row], probe: str = "") -> list[Row]:
    return [Row(3, 7, probe, "", "log2_n", LIMIT), *(row for layer in layers for row in layer)]


NO_AMI = dict.fromkeys(("AMI_XT", "AMI_XT_p", "AMI_TY", "AMI_TY_p"), math.nan)
OK, SATURATED, COLLAPSED, NOT_RESOLVED, AT_CHANCE, HALF_AT_CHANCE, WILD = (
    rows_of("ok"),
    rows_of("full", H_T=5.94),
    rows_of("flat", H_T=0.06, E_TT=1e-4, **NO_AMI),
    rows_of("dim", E_TT=0.0012, **NO_AMI),
    rows_of("lost", AMI_XT=0.004, AMI_XT_p=0.3, AMI_TY=-0.002, AMI_TY_p=0.71),
    rows_of("raw", AMI_TY=0.011, AMI_TY_p=0.062),
    rows_of("wild", **{OUTLIER.key: 17.0}),
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


@pytest.mark.parametrize(("search", "named"), [(0.0, False), (0.4, False), (0.6, True), (6.0, True)])
def test_the_search_for_chains_is_named_where_it_is_a_twentieth_of_the_cost(search: float, named: bool) -> None:
    told = bill(21, 9.0, 100.0, search)
    part = f", of which {search:.1f} s looking for chains" if named else ""
    assert told == f"21 measurements took 9.0 s{part}, 9% of the training time."


def test_who_paid_for_the_search_is_told_how_to_leave_it_out() -> None:
    told = bill(2, 50.0, 100.0, search=42.0)
    assert told.endswith(" 50% of the training time. dpi_pairs='consecutive' looks for no chains.")
    assert isinstance(MatrixRenyiCallback(dpi_pairs="consecutive"), MatrixRenyiCallback)
    assert "schedule=" in bill(2, 50.0, 100.0, search=20.0)


def test_one_measurement_is_one() -> None:
    assert bill(1, 0.5, 100.0) == "1 measurement took 0.5 s, 0% of the training time."


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
            " saturated: full",
            "layer 'full': saturated. H(T) is 99% of log2 n: to the kernel all samples differ, so information in bits "
            "is at its limit whatever the layer does, and there is no adjusted information. Use a larger bandwidth, "
            "such as MedianDistance(scale=2), or a larger probe.",
        ),
        (
            COLLAPSED,
            " collapsed: flat",
            "layer 'flat': collapsed. H(T) is 1.0% of log2 n: to the kernel all samples look alike (a dead layer?). "
            "If its values do vary, use a smaller bandwidth, such as MedianDistance(scale=0.5).",
        ),
        (
            NOT_RESOLVED,
            " not resolved: dim",
            "layer 'dim': not resolved. E(T;T) is 0.001 bits, too little to tell from chance, so there is no "
            "adjusted information. Use a larger probe or another bandwidth.",
        ),
        (
            AT_CHANCE,
            " at chance: lost",
            "layer 'lost': at chance. AMI(X;T) is 0.004 (p = 0.3) and AMI(T;Y) is -0.002 (p = 0.71): no more than "
            "chance gives. A larger probe shows smaller dependence.",
        ),
        (
            HALF_AT_CHANCE,
            " AMI(T;Y) at chance: raw",
            "layer 'raw': AMI(T;Y) at chance. AMI(T;Y) is 0.011 (p = 0.062): no more than chance gives.",
        ),
        (
            WILD,
            " outlier: wild",
            "layer 'wild': outlier. sample 17 of the probe is like no other to the kernel, while the others are like "
            "each other. Look at that sample: is it what the network is meant to see?",
        ),
    ],
    ids=lambda part: part[0].place if isinstance(part, list) else "",
)
def test_each_remark_names_layer_number_and_what_to_do(rows: list[Row], about: str, sentence: str) -> None:
    assert said(of_moment(OK, rows)) == {about: sentence}


# By class of verdict: two layers of it, and the sentence of both, with the numbers of both.
MANY = {
    "saturated": (
        [rows_of("a", H_T=5.94), rows_of("b", H_T=5.76)],
        "2 layers: saturated. H(T) is 96% to 99% of log2 n: to the kernel all samples differ, so information in bits "
        "is at its limit whatever the layer does, and there is no adjusted information. Use a larger bandwidth, such "
        "as MedianDistance(scale=2), or a larger probe. They are a, b.",
    ),
    "collapsed": (
        [rows_of("a", H_T=0.06, **NO_AMI), rows_of("b", H_T=0.12, **NO_AMI)],
        "2 layers: collapsed. H(T) is 1.0% to 2.0% of log2 n: to the kernel all samples look alike (a dead layer?). If "
        "its values do vary, use a smaller bandwidth, such as MedianDistance(scale=0.5). They are a, b.",
    ),
    "constant": (
        [rows_of("a", H_T=0.0, bandwidth=0.0, **NO_AMI), rows_of("b", H_T=1e-6, bandwidth=0.0, **NO_AMI)],
        "2 layers: collapsed. H(T) is 0.0% of log2 n: to the kernel all samples look alike (bandwidth 0: no value "
        "varied by more than rounding). What is dead, or fed constants, shows no more in a larger probe or at another "
        "bandwidth. They are a, b.",
    ),
    "not resolved": (
        [rows_of("a", E_TT=0.0012, **NO_AMI), rows_of("b", E_TT=-0.0004, **NO_AMI)],
        "2 layers: not resolved. E(T;T) is 0.000 to 0.001 bits, too little to tell from chance, so there is no "
        "adjusted information. Use a larger probe or another bandwidth. They are a, b.",
    ),
    "at chance": (
        [
            rows_of("a", AMI_XT=0.004, AMI_XT_p=0.3, AMI_TY=-0.002, AMI_TY_p=0.71),
            rows_of("b", AMI_XT=-0.01, AMI_XT_p=0.9, AMI_TY=-0.002, AMI_TY_p=0.42),
        ],
        "2 layers: at chance. AMI(X;T) is -0.010 to 0.004 (p = 0.3 to 0.9) and AMI(T;Y) is -0.002 (p = 0.42 to 0.71): "
        "no more than chance gives. A larger probe shows smaller dependence. They are a, b.",
    ),
    "one sample": (
        [rows_of("a", **{OUTLIER.key: 17.0}), rows_of("b", **{OUTLIER.key: 17.0})],
        "2 layers: outlier. sample 17 of the probe is like no other to the kernel, while the others are like each "
        "other. Look at that sample: is it what the network is meant to see? They are a, b.",
    ),
    "two samples": (
        [rows_of("a", **{OUTLIER.key: 17.0}), rows_of("b", **{OUTLIER.key: 3.0})],
        "2 layers: outlier. in each, one sample of the probe (3, 17) is like no other to the kernel, while the others "
        "are like each other. Look at that sample: is it what the network is meant to see? They are a, b.",
    ),
}


@pytest.mark.parametrize(("layers", "sentence"), MANY.values(), ids=MANY)
def test_one_sentence_tells_of_all_layers_of_a_verdict(layers: list[list[Row]], sentence: str) -> None:
    assert list(said(of_moment(OK, *layers)).values()) == [sentence]


def test_a_constant_is_told_that_no_probe_helps() -> None:
    (sentence,) = said(of_moment(OK, MANY["constant"][0][0])).values()
    assert sentence == (
        "layer 'a': collapsed. H(T) is 0.0% of log2 n: to the kernel all samples look alike (bandwidth 0: no value "
        "varied by more than rounding). What is dead, or fed constants, shows no more in a larger probe or at another "
        "bandwidth."
    )


def test_a_constant_and_a_layer_that_only_looks_like_one_have_a_sentence_each() -> None:
    first, second = said(of_moment(MANY["constant"][0][0], COLLAPSED)).values()
    assert "no value varied" in first
    assert "If its values do vary" in second


def test_of_two_hundred_layers_there_is_one_sentence_with_eight_of_them() -> None:
    layers = [rows_of(f"block{k}.conv", AMI_XT=0.0, AMI_XT_p=0.5, AMI_TY=0.0, AMI_TY_p=0.5) for k in range(194)]
    (sentence,) = said(of_moment(*layers)).values()
    assert sentence.startswith("194 layers: at chance. AMI(X;T) is 0.000 (p = 0.5) and AMI(T;Y) is 0.000 (p = 0.5): ")
    assert sentence.endswith(
        "They are block0.conv, block1.conv, block2.conv, block3.conv, block4.conv, block5.conv, "
        "block6.conv, block7.conv, … (194)."
    )


def test_layers_that_are_new_to_a_verdict_are_told_of_and_no_others() -> None:
    told: set[tuple[str, str]] = set()
    full = {layer: rows_of(layer, H_T=5.94) for layer in "abcde"}

    first = [message for _, message in remarks(of_moment(full["a"], full["b"]), told)]
    again = [message for _, message in remarks(of_moment(full["b"], full["a"]), told)]
    one_more = [message for _, message in remarks(of_moment(*(full[layer] for layer in "abc")), told)]
    more = [message for _, message in remarks(of_moment(*full.values()), told)]
    other = [message for _, message in remarks(of_moment(rows_of("a", H_T=0.06, **NO_AMI)), told)]
    assert [one[0].partition(".")[0] for one in (first, one_more, more, other)] == [
        "2 layers: saturated",
        "layer 'c': saturated",
        "2 more layers: saturated",
        "layer 'a': collapsed",
    ]
    assert again == []
    assert more[0].endswith("They are d, e.")


def test_what_was_told_of_one_probe_is_not_told_of_the_other() -> None:
    told: set[tuple[str, str]] = set()
    for probe in ("train", "val"):
        assert len(list(remarks(of_moment(rows_of("full", probe, H_T=5.94), probe=probe), told))) == 1


def test_no_number_in_a_remark_is_a_zero_below_zero() -> None:
    """A dead layer has an entropy of -1e-5 bits in floating point, and noise is as often below chance as above."""
    dead = rows_of("dead", H_T=-1e-5, E_TT=0.0, **NO_AMI)
    noise = rows_of("noise", AMI_XT=-0.0001, AMI_XT_p=0.5, AMI_TY=0.0001, AMI_TY_p=0.5)
    for sentence in said(of_moment(dead, noise)).values():
        assert not re.search(r"-0\.0+\b", sentence), sentence


def test_p_values_are_corrected_for_the_number_of_layers() -> None:
    """Of one layer, p = .02 refutes independence; where three were asked, and all say so, it does not."""
    one = rows_of("a", AMI_TY_p=0.02)
    three = [rows_of(layer, AMI_TY_p=0.02) for layer in "abc"]
    assert said(of_moment(one)) == {}
    assert set(said(of_moment(*three))) == {" AMI(T;Y) at chance: a, b, c"}


def test_a_wild_sample_is_no_matter_where_something_else_is_wrong() -> None:
    assert set(said(of_moment(rows_of("full", H_T=5.94, **{OUTLIER.key: 3.0})))) == {" saturated: full"}


def test_error_signals_have_remarks_of_their_own_in_their_own_symbols() -> None:
    of_errors = {
        "flat": {"H_error": 0.06, "E_error": 1e-4},
        "dim": {"H_error": 3.0, "E_error": 0.0012},
        "lost": {"H_error": 3.0, "E_error": 1.0, "AMI_error": 0.01, "AMI_error_p": 0.4},
        "full": {"H_error": 5.94, "E_error": 1.0, "AMI_error": 0.9, "AMI_error_p": 1e-9},
        "ok": {"H_error": 3.0, "E_error": 1.0, "AMI_error": 0.9, "AMI_error_p": 1e-9},
    }
    rows = [Row(3, 7, "", layer, key, value) for layer, values in of_errors.items() for key, value in values.items()]
    found = said(of_moment(OK, rows))
    assert list(found) == [
        " the error signal of collapsed: flat",
        " the error signal of not resolved: dim",
        " the error signal of at chance: lost",
        " the error signal of saturated: full",
    ]
    collapsed, dim, lost, full = found.values()
    assert collapsed.startswith("the error signal of layer 'flat': collapsed. H(δ) is 1.0% of log2 n")
    assert dim.startswith("the error signal of layer 'dim': not resolved. E(δ;δ) is 0.001 bits")
    assert lost.startswith("the error signal of layer 'lost': at chance. AMI(δₖ;δ) is 0.010 (p = 0.4): no more than")
    assert full.startswith("the error signal of layer 'full': saturated. H(δ) is 99% of log2 n")


def test_what_it_is_about_is_the_same_at_every_epoch_so_that_it_is_said_once() -> None:
    """The number in the sentence changes; whoever speaks goes by what it is about."""
    later = rows_of("full", H_T=5.999)
    first, second = said(of_moment(SATURATED)), said(of_moment(later))
    assert first.keys() == second.keys()
    assert first != second


def test_each_probe_and_each_case_is_another_matter() -> None:
    train = of_moment(rows_of("full", "train", H_T=5.94), probe="train")
    val = of_moment(rows_of("full", "val", H_T=0.06, **NO_AMI), probe="val")
    assert set(said(train + val)) == {"train saturated: full", "val collapsed: full"}


def test_a_rule_named_in_a_remark_is_there_to_be_typed() -> None:
    for rows in (SATURATED, COLLAPSED):
        (sentence,) = said(of_moment(rows)).values()
        (rule,) = re.findall(r"MedianDistance\(.*?\)", sentence)
        assert isinstance(eval(rule), MedianDistance)


def test_without_p_values_nothing_is_at_chance() -> None:
    assert said(of_moment(rows_of("lost", AMI_XT=0.0, AMI_XT_p=math.nan, AMI_TY=0.0, AMI_TY_p=math.nan))) == {}


def test_without_log2_n_there_is_nothing_to_remark() -> None:
    assert said([*SATURATED, *COLLAPSED]) == {}


def live(**layers: Tensor) -> list[Row]:
    x = torch.randn(128, 5, generator=torch.Generator().manual_seed(0))
    return InformationPlane().measure(x, torch.arange(128) % 2, layers)


def test_a_dead_layer_noise_and_a_wild_sample_are_found_in_real_rows() -> None:
    noise = torch.randn(128, 5, generator=torch.Generator().manual_seed(1))
    wild = torch.randn(128, 5, generator=torch.Generator().manual_seed(0))
    wild[9] = 1e6
    found = said(live(dead=torch.ones(128, 3, 2, 2), noise=noise, wild=wild))
    assert set(found) == {" collapsed: dead", " at chance: noise", " outlier: wild"}
    assert "sample 9 of the probe" in found[" outlier: wild"]


def test_a_layer_is_not_blamed_for_an_input_that_is_not_resolved() -> None:
    """Of inputs in hundreds under a bandwidth of one nothing is known, while the layers share much with themselves."""
    x = torch.randn(128, 5, generator=torch.Generator().manual_seed(0))
    layers = {"fine": x / 3, "too": x.tanh()}
    rows = InformationPlane(Estimator(bandwidth=Fixed(1.0))).measure(255 * x, None, layers)
    assert all(row.value > 0.5 for row in rows if row.quantity == "E_TT")
    assert not [row for row in rows if row.quantity == "AMI_XT"]
    for sentence in said(rows).values():
        assert "E(X;X) is 0.000 bits, too little to tell from chance" in sentence


# ------------------------------------------------------------------------------------------ settings and columns


@pytest.mark.parametrize(
    "chosen",
    [
        Estimator(),
        Estimator(2, Silverman(), shuffles=20, seed=3),
        Estimator(shuffles=0, standard_errors=None),
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
    for field in ("target_bandwidth=None", "solver=Eigenvalues(", "shuffles=2", "standard_errors='blocks'", "seed=0"):
        assert field in told


def test_of_unknown_settings_nothing_is_told() -> None:
    assert told_settings({}) == ""


def test_columns_are_those_of_the_table_that_the_rows_hold_each_with_its_chance_level() -> None:
    keys = ("H_T", "I_TY_chance", "I_TY", "I_XT", "AMI_XT_p", "AMI_TY", "AMI_XT", "AMI_XT_stderr", "bandwidth", "E_TT")
    rows = [Row(0, 0, "", "a", key, 1.0) for key in keys]
    assert [quantity.key for quantity in table_columns(rows)] == [
        *("AMI_XT", "AMI_TY", "I_XT", "I_TY", "I_TY_chance", "H_T")
    ]
    assert [quantity.short for quantity in table_columns(rows)] == [
        *("AMI(X;T)", "AMI(T;Y)", "I(X;T)", "I(T;Y)", "shuffled", "H(T)")
    ]
    assert table_columns([]) == []


@pytest.mark.parametrize(
    ("value", "error", "digits", "text"),
    [
        (0.7654, 0.0123, 2, "0.77 ± 0.01"),
        (0.7654, 0.0123, 3, "0.765 ± 0.012"),
        (0.7654, math.nan, 2, "0.77"),
        (0.7654, 0.0023, 2, "0.765 ± 0.002"),  # a third digit where the error needs one
        (1.0049, 0.0, 2, "1.005 ± 0.000"),
        (-0.0004, math.nan, 2, "0.00"),  # no -0.00
        (-0.0004, 0.2, 3, "0.000 ± 0.200"),
        (-0.016, 0.02, 2, "-0.02 ± 0.02"),
        (12.3456, 0.5, 2, "12.35 ± 0.50"),
    ],
)
def test_a_number_is_told_with_its_standard_error_where_that_is_known(
    value: float, error: float, digits: int, text: str
) -> None:
    assert told(value, error, digits) == text


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


HEAD = ["layer", "AMI(X;T)", "AMI(T;Y)", "H(T)", "verdict"]


def test_the_card_has_one_row_a_layer_with_its_verdict() -> None:
    layers = (OK, SATURATED, COLLAPSED, NOT_RESOLVED, AT_CHANCE, HALF_AT_CHANCE, WILD)
    (table,) = shown(card(of(of_moment(*layers), CHAIN))).iter("table")
    assert cells(table) == [
        HEAD,
        ["ok", "0.75", "0.25", "3.00", "ok"],
        ["full", "0.75", "0.25", "5.94", "saturated"],
        ["flat", "-", "-", "0.06", "collapsed"],
        ["dim", "-", "-", "3.00", "not resolved"],
        ["lost", "0.00", "0.00", "3.00", "at chance"],
        ["raw", "0.75", "0.01", "3.00", "AMI(T;Y) at chance"],
        ["wild", "0.75", "0.25", "3.00", "outlier"],
    ]


def test_a_number_in_the_card_has_its_standard_error_where_that_is_known() -> None:
    rows = rows_of("ok", AMI_XT=0.7654, AMI_XT_stderr=0.0123, H_T_stderr=0.04)
    (table,) = shown(card(of(of_moment(rows)))).iter("table")
    assert cells(table)[1:] == [["ok", "0.77 ± 0.01", "0.25", "3.00 ± 0.04", "ok"]]


def test_bits_are_in_the_card_with_those_of_shuffled_pairs() -> None:
    rows = rows_of("ok", I_XT=1.5, I_XT_chance=0.5, I_TY=0.25)
    (table,) = shown(card(of(of_moment(rows)))).iter("table")
    assert cells(table) == [
        ["layer", "AMI(X;T)", "AMI(T;Y)", "I(X;T)", "shuffled", "I(T;Y)", "H(T)", "verdict"],
        ["ok", "0.75", "0.25", "1.50", "0.50", "0.25", "3.00", "ok"],
    ]


def test_a_value_that_one_layer_lacks_is_a_dash() -> None:
    rows = of_moment(OK, rows_of("new", AMI_TY=math.nan, AMI_TY_p=math.nan))
    (table,) = shown(card(of(rows))).iter("table")
    assert cells(table)[1:] == [["ok", "0.75", "0.25", "3.00", "ok"], ["new", "0.75", "-", "3.00", "ok"]]


def test_the_card_is_of_the_last_measurement() -> None:
    earlier = [row._replace(epoch=1, step=2, value=1.0) for row in of_moment(OK)]
    (table,) = shown(card(of(earlier + of_moment(OK)))).iter("table")
    assert cells(table)[1:] == [["ok", "0.75", "0.25", "3.00", "ok"]]


def test_the_card_has_the_chain_as_a_list() -> None:
    items = ["".join(item.itertext()) for item in shown(card(of([], CHAIN))).iter("li")]
    assert items == ["ok → full", "noise: random, left out"]


def test_a_card_without_a_chain_does_not_speak_of_one() -> None:
    assert "Markov" not in card(of(of_moment(OK)))


def test_the_card_says_what_the_curves_are_and_how_it_was_measured() -> None:
    facts = Facts(estimator=as_data(Estimator(2, MedianDistance(scale=3))), n={"": 64})
    text = card(History(of_moment(OK), facts))
    assert "**AMI(X;T)** is what a layer shares with the input, **AMI(T;Y)** with the target, beyond chance" in text
    assert "0 for nothing, 1 for a copy, ± one standard error" in text
    assert "Bits (I) say only what they exceed those of shuffled pairs by." in text
    assert "alpha=2, bandwidth=MedianDistance(scale=3" in text
    assert "solver=Eigenvalues(" in text
    assert "Probe of 64 samples:" in text


def test_a_probe_of_unknown_size_is_named_without_it() -> None:
    assert "\nProbe:\n" in card(History(of_moment(OK)))
    assert "\nProbe (val):\n" in card(of(of_moment(rows_of("ok", "val"), probe="val"), train=64))


def test_each_probe_has_a_table() -> None:
    train = of_moment(rows_of("ok", "train"), probe="train")
    val = of_moment(rows_of("ok", "val", AMI_XT=0.5), probe="val")
    text = card(of(train + val, train=64, val=32))
    assert "Probe of 64 samples (train):" in text
    assert "Probe of 32 samples (val):" in text
    first, second = shown(text).iter("table")
    assert cells(first)[1][:2] == ["ok", "0.75"]
    assert cells(second)[1][:2] == ["ok", "0.50"]


@pytest.mark.parametrize(
    "name", ["encoder.layers.0.self_attn", "_orig_", "__init__", "a|b", "a *b* `c`", "<b>", "x_1_"]
)
def test_names_are_shown_as_they_are(name: str) -> None:
    chain = Chain((name,), frozenset(), (name,)).describe().split("\n")
    text = card(of(of_moment(rows_of(name)), chain))
    (table,) = shown(text).iter("table")
    assert cells(table)[1:] == [[name, "0.75", "0.25", "3.00", "ok"]]
    assert ["".join(item.itertext()) for item in shown(text).iter("li")][1:] == [f"{name}: random, left out"]


def test_settings_are_shown_as_they_are() -> None:
    """Underscores of arguments are no emphasis."""
    chosen = as_data(Estimator(standard_errors=Jackknife(4)))
    text = card(History(of_moment(OK), Facts(estimator=chosen)))
    assert told_settings(chosen) in "".join(shown(text).itertext())
