"""The one table: it is consistent in itself."""

import inspect
import re
from collections.abc import Iterator, Mapping

import pytest

from lightning_infoplane import MatrixRenyiCallback
from lightning_infoplane.measurement.formulas import (
    TX,
    TY,
    Adjusted,
    Alignment,
    Excess,
    Independence,
    Power,
    SignedSum,
    Term,
    leaves_in,
    needs_shuffles,
)
from lightning_infoplane.measurement.quantities import (
    AMI_ERROR,
    AMI_TY,
    AMI_XT,
    PLANES,
    QUANTITIES,
    SIGNS,
    by_key,
    known_keys,
    with_panel,
)
from lightning_infoplane.measurement.quantity import Count, Gap, Logged, Of, Panel, Quantity, Subject

EVERY = [one for quantity in QUANTITIES for one in (quantity, *quantity.derived)]
every = pytest.mark.parametrize("quantity", EVERY, ids=lambda quantity: quantity.key)
in_the_table = pytest.mark.parametrize("quantity", QUANTITIES, ids=lambda quantity: quantity.key)


def named(quantities: list[Quantity]) -> list[str]:
    return [quantity.key for quantity in quantities]


def sums() -> Iterator[tuple[Quantity, SignedSum]]:
    """The quantities that are signed sums."""
    for quantity in QUANTITIES:
        if isinstance(quantity.formula, Mapping):
            yield quantity, quantity.formula


def sums_of_entropies() -> Iterator[tuple[Quantity, Mapping[Term, int]]]:
    """Those of entropies alone."""
    for quantity, formula in sums():
        terms = {leaf: sign for leaf, sign in formula.items() if isinstance(leaf, Term)}
        if len(terms) == len(formula):
            yield quantity, terms


# ------------------------------------------------------------------------------------------------------ its entries


def test_keys_are_unique() -> None:
    assert len({quantity.key for quantity in EVERY}) == len(EVERY) > len(QUANTITIES)


def test_what_stands_on_axes_and_above_columns_is_unique() -> None:
    assert len({quantity.label for quantity in QUANTITIES}) == len(QUANTITIES)
    assert len({quantity.short for quantity in QUANTITIES}) == len(QUANTITIES)


@every
def test_a_key_is_a_word(quantity: Quantity) -> None:
    assert re.fullmatch("[A-Za-z][A-Za-z0-9_]*", quantity.key)


@every
def test_everything_is_said_in_words(quantity: Quantity) -> None:
    assert quantity.name
    assert not quantity.name.endswith(".")
    assert re.fullmatch(r"[A-Z\w].+\.", quantity.meaning)
    assert quantity.unit in ("bits", "activation units", "gradient units", "")
    assert quantity.short


def test_what_is_an_entropy_an_information_or_an_excess_is_in_bits() -> None:
    assert {quantity.unit for quantity, _ in sums_of_entropies()} == {"bits"}
    assert {quantity.unit for quantity in QUANTITIES if isinstance(quantity.formula, Excess)} == {"bits"}


def test_what_is_adjusted_aligned_or_counted_is_a_pure_number() -> None:
    pure = [quantity for quantity in QUANTITIES if isinstance(quantity.formula, Adjusted | Power | Count)]
    pure += [quantity for quantity, formula in sums() if any(isinstance(leaf, Alignment) for leaf in formula)]
    assert {quantity.unit for quantity in pure} == {""}
    assert len(pure) > 8


def test_a_gap_and_all_that_belongs_to_a_quantity_but_its_p_value_have_its_unit() -> None:
    for quantity in QUANTITIES:
        if isinstance(quantity.formula, Gap):
            assert quantity.unit == quantity.formula.of.unit
        for one in quantity.derived:
            assert one.unit == ("" if one is quantity.p_value else quantity.unit)


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


def test_the_base_of_every_gap_is_a_quantity_of_layers_in_the_table() -> None:
    found = [quantity for quantity in QUANTITIES if isinstance(quantity.formula, Gap)]
    assert set(named(found)) == {*("DPI_AMI_XT", "DPI_AMI_TY", "DPI_XT", "DPI_TY"), *("DPI_AMI_error", "DPI_error")}
    for quantity in found:
        assert isinstance(quantity.formula, Gap)
        base = quantity.formula.of
        assert base in QUANTITIES
        assert quantity.key == "DPI_" + base.key.removeprefix("I_")
        assert (quantity.of, base.of) == (Of.PAIR, Of.LAYER)
        assert quantity.subject is base.subject
        assert quantity.stderr
        assert base.stderr


def test_what_is_counted_are_tested_gaps_of_the_table() -> None:
    found = [quantity for quantity in QUANTITIES if isinstance(quantity.formula, Count)]
    assert named(found) == ["DPI_increases", "DPI_decreases", "DPI_error_increases", "DPI_error_decreases"]
    for quantity in found:
        assert isinstance(quantity.formula, Count)
        assert quantity.formula.of in QUANTITIES
        assert isinstance(quantity.formula.of.formula, Gap)
        assert quantity.formula.of.is_tested
        assert quantity.of is Of.PROBE
        assert quantity.subject is quantity.formula.of.subject
        assert quantity.key.endswith(f"_{quantity.formula.change.value}s")


def test_what_is_counted_is_adjusted_information_not_bits() -> None:
    """The order of bits follows the widths of the layers."""
    for quantity in QUANTITIES:
        if isinstance(quantity.formula, Count):
            gap = quantity.formula.of
            assert isinstance(gap.formula, Gap)
            assert isinstance(gap.formula.of.formula, Adjusted)


@in_the_table
def test_what_is_of_a_probe_needs_no_layer_and_what_is_of_a_layer_needs_one(quantity: Quantity) -> None:
    leaves = leaves_in(quantity.formula)
    if leaves:
        assert any(leaf.first == "T" for leaf in leaves) is (quantity.of is Of.LAYER)
    for leaf in leaves:
        assert not isinstance(leaf, Term) or leaf.shuffle is None


def test_the_signs_of_a_sum_are_one() -> None:
    assert {sign for _, formula in sums() for sign in formula.values()} == {-1, +1}


def test_what_is_shuffled_changes_with_a_shuffle() -> None:
    """Of bits the chance level is told; what is adjusted has it taken off, and what is of one variable has none."""
    for quantity in QUANTITIES:
        formula = quantity.formula if isinstance(quantity.formula, Mapping) else {}
        changes = any(isinstance(leaf, Term) and leaf.shuffled(0) != leaf for leaf in formula)
        assert quantity.shuffled is changes
        assert not (quantity.shuffled and needs_shuffles(quantity.formula))


def test_error_signals_have_no_targets() -> None:
    for quantity in QUANTITIES:
        if quantity.subject is Subject.ERROR_SIGNALS:
            assert all("Y" not in (leaf.first, leaf.second) for leaf in leaves_in(quantity.formula))


def test_every_formula_is_of_a_known_kind() -> None:
    for quantity in QUANTITIES:
        is_of_leaves = isinstance(quantity.formula, Mapping | Excess | Adjusted | Power)
        is_of_quantities = isinstance(quantity.formula, Gap | Count)
        assert is_of_leaves or is_of_quantities or callable(quantity.formula), quantity.key
        assert is_of_leaves is bool(leaves_in(quantity.formula))


def test_adjusted_information_is_tested_for_the_independence_of_its_variables() -> None:
    tested = {quantity: quantity.independence for quantity in QUANTITIES if quantity.independence is not None}
    assert tested == {
        AMI_XT: Independence("T", "X"),
        AMI_TY: Independence("T", "Y"),
        AMI_ERROR: Independence("T", "X"),
    }
    assert (AMI_XT.formula, AMI_TY.formula, AMI_ERROR.formula) == (Adjusted(TX), Adjusted(TY), Adjusted(TX))


def test_planes_are_spanned_by_quantities_of_layers_with_limits_of_the_probe() -> None:
    assert [(plane.across.key, plane.up.key) for plane in PLANES] == [("AMI_XT", "AMI_TY"), ("I_XT", "I_TY")]
    assert [named(list(plane.limits)) for plane in PLANES] == [[], ["H_X", "H_Y"]]
    for plane in PLANES:
        assert {quantity.of for quantity in (plane.across, plane.up)} == {Of.LAYER}
        assert {plane.across, plane.up, *plane.limits} <= set(QUANTITIES)
        assert {quantity.of for quantity in plane.limits} <= {Of.PROBE}


@pytest.mark.parametrize("subject", Subject)
def test_what_a_layer_is_judged_by_is_in_the_table_and_of_its_subject(subject: Subject) -> None:
    signs = SIGNS[subject]
    for quantity in (signs.entropy, signs.itself, *signs.information, signs.bits):
        assert quantity in QUANTITIES
        assert (quantity.of, quantity.subject) == (Of.LAYER, subject)
    if signs.of_input is not None:
        assert (signs.of_input.of, signs.of_input.subject) == (Of.PROBE, subject)
        assert signs.of_input.formula == Excess(Term("X", "X"))
    assert all(quantity.is_tested for quantity in signs.information)
    assert signs.itself.formula == Excess(Term("T", "T"))


def test_with_panel_keeps_the_order_of_the_table() -> None:
    assert named(with_panel(Panel.PLANE)) == ["AMI_TY", "I_TY"]
    assert named(with_panel(Panel.GAPS)) == ["DPI_AMI_XT", "DPI_AMI_error"]
    assert named(with_panel(Panel.MAPS)) == ["redundancy_synergy", "non_redundant"]
    assert all(with_panel(panel) for panel in Panel)
    everywhere = [quantity for panel in Panel for quantity in with_panel(panel)]
    assert set(everywhere) == {quantity for quantity in QUANTITIES if quantity.panels}


@every
def test_by_key(quantity: Quantity) -> None:
    assert by_key(quantity.key) is quantity


def test_known_keys_are_those_of_everything() -> None:
    assert known_keys() == named(EVERY)


@pytest.mark.parametrize(
    "key", ["I_ZZ", "", "train/I_XT", "H_X_stderr", "DPI_XT_violations", "I_XT_p", "AMI_XT_chance", "E_TT_stderr"]
)
def test_a_key_of_nothing_is_answered_with_those_there_are(key: str) -> None:
    there_are = r"There are AMI_XT, AMI_TY, .*, bandwidth_error\.$"
    with pytest.raises(ValueError, match=rf"^'{key}' is no quantity\. {there_are}"):
        by_key(key)
