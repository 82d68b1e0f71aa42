"""The one table: it is consistent in itself, and what is logged from it can be read back."""

import inspect
import re
from collections.abc import Iterator, Mapping
from itertools import product

import pytest

from lightning_infoplane import MatrixRenyiCallback, Row
from lightning_infoplane.measurement.formulas import SignedSum
from lightning_infoplane.measurement.quantities import (
    AXES,
    ENTROPY,
    INFORMATION,
    QUANTITIES,
    Key,
    by_key,
    key_of,
    log_key,
    logged_rows,
    read_key,
    with_panel,
)
from lightning_infoplane.measurement.quantity import Below, Gap, Logged, Of, Panel, Quantity, Subject
from lightning_infoplane.measurement.rows import Pair, Place

EVERY = [one for quantity in QUANTITIES for one in (quantity, *quantity.derived)]
every = pytest.mark.parametrize("quantity", EVERY, ids=lambda quantity: quantity.key)
in_the_table = pytest.mark.parametrize("quantity", QUANTITIES, ids=lambda quantity: quantity.key)


def named(quantities: list[Quantity]) -> list[str]:
    return [quantity.key for quantity in quantities]


def sums() -> Iterator[tuple[Quantity, SignedSum]]:
    """The quantities that are signed sums of entropies."""
    for quantity in QUANTITIES:
        if isinstance(quantity.formula, Mapping):
            yield quantity, quantity.formula


# ------------------------------------------------------------------------------------------------------ its entries


def test_keys_are_unique() -> None:
    assert len({quantity.key for quantity in EVERY}) == len(EVERY) > len(QUANTITIES)


def test_what_stands_on_axes_and_above_columns_is_unique() -> None:
    assert len({quantity.label for quantity in QUANTITIES}) == len(QUANTITIES)
    assert len({quantity.short for quantity in QUANTITIES}) == len(QUANTITIES)


@every
def test_a_key_is_a_word_that_every_logger_accepts(quantity: Quantity) -> None:
    assert re.fullmatch("[A-Za-z][A-Za-z0-9_]*", quantity.key)
    assert log_key(quantity.key) == quantity.key


@every
def test_everything_is_said_in_words(quantity: Quantity) -> None:
    assert quantity.name
    assert not quantity.name.endswith(".")
    assert re.fullmatch(r"[A-Z\w].+\.", quantity.meaning)
    assert quantity.unit in ("bits", "activation units", "gradient units", "")
    assert quantity.short


def test_what_is_an_information_or_an_entropy_is_in_bits() -> None:
    assert {quantity.unit for quantity, _ in sums()} == {"bits"}
    assert {quantity.unit for quantity in QUANTITIES if isinstance(quantity.formula, Gap)} == {"bits"}
    assert {quantity.unit for quantity in QUANTITIES if isinstance(quantity.formula, Below)} == {""}


@in_the_table
def test_pictures_while_training_are_among_those_afterwards(quantity: Quantity) -> None:
    assert set(quantity.live) <= set(quantity.panels)
    assert len(set(quantity.panels)) == len(quantity.panels)


@in_the_table
def test_what_is_drawn_is_logged(quantity: Quantity) -> None:
    """A report made of event files alone has the same pictures."""
    assert not quantity.panels or quantity.logged is Logged.MAIN


@every
def test_what_has_to_be_asked_for_is_an_argument_of_the_callback(quantity: Quantity) -> None:
    assert quantity.option in ("", *inspect.signature(MatrixRenyiCallback).parameters)
    assert (quantity.option == "error_signals") is (quantity.subject is Subject.ERROR_SIGNALS)


def test_the_base_of_every_gap_is_a_signed_sum_of_the_table() -> None:
    found = [quantity for quantity in QUANTITIES if isinstance(quantity.formula, Gap)]
    assert named(found) == ["DPI_XT", "DPI_TY", "DPI_error"]
    for quantity in found:
        assert isinstance(quantity.formula, Gap)
        base = quantity.formula.of
        assert base in QUANTITIES
        assert isinstance(base.formula, Mapping)
        assert (quantity.of, base.of) == (Of.PAIR, Of.LAYER)
        assert quantity.subject is base.subject
        assert quantity.stderr
        assert base.stderr


def test_what_is_counted_are_gaps_of_the_table() -> None:
    found = [quantity for quantity in QUANTITIES if isinstance(quantity.formula, Below)]
    assert named(found) == ["DPI_XT_violations", "DPI_error_violations"]
    for quantity in found:
        assert isinstance(quantity.formula, Below)
        assert quantity.formula.of in QUANTITIES
        assert isinstance(quantity.formula.of.formula, Gap)
        assert quantity.of is Of.PROBE
        assert quantity.subject is quantity.formula.of.subject
        assert quantity.key == f"{quantity.formula.of.key}_violations"


def test_sums_of_a_probe_are_of_terms_without_a_layer_and_those_of_a_layer_have_one() -> None:
    for quantity, formula in sums():
        assert any(term.layer for term in formula) is (quantity.of is Of.LAYER)
        assert all(term.shuffle is None for term in formula)
        assert set(formula.values()) <= {-1, +1}


def test_what_is_shuffled_changes_with_a_shuffle() -> None:
    for quantity in QUANTITIES:
        changes = isinstance(quantity.formula, Mapping) and any(term.shuffled(0) != term for term in quantity.formula)
        assert quantity.shuffled is changes


def test_error_signals_have_no_targets() -> None:
    for quantity, formula in sums():
        if quantity.subject is Subject.ERROR_SIGNALS:
            assert all(term.partner != "Y" for term in formula)


def test_every_formula_is_of_a_known_kind() -> None:
    for quantity in QUANTITIES:
        assert isinstance(quantity.formula, Mapping | Gap | Below) or callable(quantity.formula), quantity.key


def test_axes_entropies_and_information_are_in_the_table() -> None:
    for quantity, limit in AXES:
        assert quantity in QUANTITIES
        assert limit in QUANTITIES
        assert (quantity.of, limit.of) == (Of.LAYER, Of.PROBE)
    for told in (ENTROPY, INFORMATION):
        assert {subject: quantity.subject for subject, quantity in told.items()} == {one: one for one in Subject}
        assert all(quantity in QUANTITIES and quantity.of is Of.LAYER for quantity in told.values())


def test_with_panel_keeps_the_order_of_the_table() -> None:
    assert named(with_panel(Panel.GAPS)) == ["DPI_XT", "DPI_TY", "DPI_error"]
    assert named(with_panel(Panel.MAPS)) == ["redundancy_synergy", "non_redundant"]
    assert all(with_panel(panel) for panel in Panel)
    everywhere = [quantity for panel in Panel for quantity in with_panel(panel)]
    assert set(everywhere) == {quantity for quantity in QUANTITIES if quantity.panels}


@every
def test_by_key(quantity: Quantity) -> None:
    assert by_key(quantity.key) is quantity


@pytest.mark.parametrize("key", ["I_ZZ", "", "train/I_XT", "H_X_stderr", "I_XT_violations"])
def test_a_key_of_nothing_is_answered_with_those_there_are(key: str) -> None:
    with pytest.raises(ValueError, match=rf"^'{key}' is no quantity\. There are I_XT, I_TY, .*, bandwidth_error\.$"):
        by_key(key)


# ------------------------------------------------------------------------------------------------------- logged keys


def row(key: str, place: Place = "", probe: str = "", value: float = 1.0) -> Row:
    return Row(0, 0, probe, place, key, value)


@pytest.mark.parametrize(
    ("prefix", "probe", "quantity", "place", "key"),
    [
        ("", "", "I_XT", "encoder.0.conv", "I_XT/encoder.0.conv"),
        ("a/", "train", "I_XT", "conv", "a/train/I_XT/conv"),
        ("", "", "DPI_XT", Pair("a", "b"), "DPI_XT/a-to-b"),
        ("", "", "H_X", "", "H_X"),
        ("", "val", "H_X", "", "val/H_X"),
        ("my run: ", "", "H_T", "σ(1)", "my_run__H_T/__1_"),
        ("mine+", "val", "DPI_XT_stderr", Pair("a b", "c"), "mine_val/DPI_XT_stderr/a_b-to-c"),
    ],
)
def test_keys(prefix: str, probe: str, quantity: str, place: Place, key: str) -> None:
    assert key_of(row(quantity, place, probe), prefix) == key


@pytest.mark.parametrize(
    ("parts", "key"),
    [
        (("I_XT", "conv"), "I_XT/conv"),
        (("", "H_X", ""), "H_X"),
        (("my run: ", "H_T", "σ(1)"), "my_run__/H_T/__1_"),
        (("A-Z.a_z/09",), "A-Z.a_z/09"),
        (("a\nb\tc#d,e\"f'g",), "a_b_c_d_e_f_g"),
        ((), ""),
    ],
)
def test_parts_are_joined_in_the_characters_that_every_logger_accepts(parts: tuple[str, ...], key: str) -> None:
    assert log_key(*parts) == key


PLACES: dict[Of, list[Place]] = {
    Of.PROBE: [""],
    Of.LAYER: ["conv1", "features.0", "a-to-b", "blocks/0", "train", "H_T", "I_XT/conv", "H_X"],
    Of.PAIR: [Pair("0", "2"), Pair("features.0", "features.3"), Pair("I_XT", "H_X"), Pair("val", "train")],
}


@every
def test_what_was_logged_can_be_read_back(quantity: Quantity) -> None:
    for prefix, probe, place in product(("", "mine/", "a.b/c/"), ("", "train", "val"), PLACES[quantity.of]):
        key = key_of(row(quantity.key, place, probe), prefix)
        found = read_key(key)
        assert found == Key(prefix.removesuffix("/"), probe, place, quantity.key), key
        assert found is not None
        assert type(found.place) is type(place)


@pytest.mark.parametrize(
    "key",
    [
        *("", "/", "epoch", "train_loss", "val/loss", "lr-SGD/momentum", "hp_metric", "GPU/0/memory"),
        *("I_XT", "train/I_XT", "DPI_XT", "I_XT/"),  # nothing without a layer
        *("H_X/conv", "val/log2_n/conv", "DPI_XT_violations/a-to-b"),  # the probe has no layer
        *("my_I_XT/conv", "I_XTRA/conv", "i_xt/conv", "H_X_stderr"),
    ],
)
def test_keys_of_others_are_not_read(key: str) -> None:
    assert read_key(key) is None


# -------------------------------------------------------------------------------------------------- what is logged


def test_the_main_quantities_are_logged_unless_all_were_asked_for() -> None:
    rows = [row(quantity.key) for quantity in EVERY]
    main, everything = ([one.quantity for one in logged_rows(rows, log)] for log in ("main", "all"))
    assert logged_rows(rows) == logged_rows(rows, "main")
    more = {quantity.key for quantity in EVERY if quantity.base is not None} | {"bandwidth", "bandwidth_error"}
    assert set(everything) - set(main) == more
    assert {quantity.key for quantity in EVERY} - set(everything) == {"log2_n"}
    assert main == [key for key in named(EVERY) if key in main]  # in the order of the rows


def test_a_row_without_a_quantity_is_an_error_not_a_row_less() -> None:
    with pytest.raises(ValueError, match="'verdict' is no quantity"):
        logged_rows([row("verdict", "conv")])


def test_a_key_of_a_pair_names_two_layers() -> None:
    assert read_key("DPI_XT/conv1") is None
