"""What a quantity says of itself, and what belongs to it."""

from typing import Any

import pytest

from lightning_infoplane.measurement.evidence import Change
from lightning_infoplane.measurement.formulas import Independence
from lightning_infoplane.measurement.quantity import Count, Gap, Logged, Of, Panel, Quantity, Subject


def quantity(**fields: Any) -> Quantity:
    defaults = {"key": "Q", "symbol": "q(T)", "unit": "bits", "name": "quality", "meaning": "How good it is."}
    return Quantity(**{**defaults, "of": Of.LAYER, "formula": None} | fields)


@pytest.mark.parametrize(
    ("symbol", "unit", "label", "short"),
    [
        ("q(T)", "bits", "quality, q(T) (bits)", "q(T)"),
        ("", "bits", "quality (bits)", "quality"),
        ("q(T)", "", "quality, q(T)", "q(T)"),
        ("", "", "quality", "quality"),
    ],
)
def test_labels_for_axes_and_columns(symbol: str, unit: str, label: str, short: str) -> None:
    one = quantity(symbol=symbol, unit=unit)
    assert (one.label, one.short) == (label, short)


@pytest.mark.parametrize(("unit", "label"), [("bits", "quality (bits)"), ("", "quality")])
def test_a_plain_label_has_no_symbol(unit: str, label: str) -> None:
    assert quantity(unit=unit).plain_label == label


@pytest.mark.parametrize(
    ("fields", "keys"),
    [
        ({}, []),
        ({"shuffled": True}, ["Q_chance"]),
        ({"stderr": True}, ["Q_stderr"]),
        ({"independence": Independence("T", "X")}, ["Q_p"]),
        (
            {"shuffled": True, "independence": Independence("T", "X"), "stderr": True},
            ["Q_chance", "Q_p", "Q_stderr"],
        ),
    ],
    ids=str,
)
def test_what_belongs_to_it(fields: dict[str, Any], keys: list[str]) -> None:
    assert [one.key for one in quantity(**fields).derived] == keys


def test_a_gap_is_tested_where_its_error_is_known() -> None:
    base = quantity(stderr=True)
    assert [one.key for one in quantity(formula=Gap(base), stderr=True).derived] == ["Q_p", "Q_stderr"]
    assert [one.key for one in quantity(formula=Gap(base)).derived] == []
    assert not quantity(formula=Gap(base)).is_tested


def test_a_count_is_of_one_kind_of_change() -> None:
    gap = quantity(formula=Gap(quantity()), stderr=True)
    assert Count(gap, Change.INCREASE) == Count(gap, Change.INCREASE) != Count(gap, Change.DECREASE)
    assert not quantity(formula=Count(gap, Change.INCREASE)).is_tested


@pytest.mark.parametrize(
    ("which", "symbol", "unit", "name"),
    [
        ("chance", "shuffled", "bits", "q(T) after shuffling which sample is which"),
        ("p_value", "p", "", "p-value of q(T)"),
        ("error", "s.e.", "bits", "standard error of q(T)"),
    ],
)
def test_what_belongs_to_it_says_so(which: str, symbol: str, unit: str, name: str) -> None:
    base = quantity(
        of=Of.PAIR, subject=Subject.ERROR_SIGNALS, option="error_signals", panels=(Panel.GAPS,), live=(Panel.GAPS,)
    )
    one = getattr(base, which)
    assert (one.symbol, one.unit, one.name, one.meaning) == (symbol, unit, name, f"{name}.")
    assert one.base is base
    assert (one.of, one.subject, one.option) == (Of.PAIR, Subject.ERROR_SIGNALS, "error_signals")
    assert (one.panels, one.live, one.formula) == ((), (), None)
    assert one.logged is Logged.ALL
    assert list(one.derived) == []


def test_what_belongs_to_it_is_always_the_same_object() -> None:
    """Columns are looked up by it."""
    one = quantity(shuffled=True, stderr=True, independence=Independence("T", "X"))
    assert one.chance is one.chance
    assert one.p_value is one.p_value
    assert one.error is one.error
    assert list(one.derived) == [one.chance, one.p_value, one.error]


def test_quantities_are_told_apart_by_what_they_are_not_by_what_they_say() -> None:
    assert quantity() != quantity()
