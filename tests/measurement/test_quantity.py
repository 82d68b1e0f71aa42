"""What a quantity says of itself, and what belongs to it."""

from typing import Any

import pytest

from lightning_infoplane.measurement.quantity import Logged, Of, Panel, Quantity, Subject


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


@pytest.mark.parametrize(
    ("shuffled", "stderr", "keys"),
    [
        (False, False, []),
        (True, False, ["Q_chance", "Q_p"]),
        (False, True, ["Q_stderr"]),
        (True, True, ["Q_chance", "Q_p", "Q_stderr"]),
    ],
)
def test_what_belongs_to_it(shuffled: bool, stderr: bool, keys: list[str]) -> None:
    assert [one.key for one in quantity(shuffled=shuffled, stderr=stderr).derived] == keys


@pytest.mark.parametrize(
    ("which", "symbol", "unit", "name"),
    [
        ("chance", "shuffled", "bits", "q(T) after shuffling which sample is which"),
        ("p_value", "p", "", "permutation p-value of q(T)"),
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
    one = quantity(shuffled=True, stderr=True)
    assert one.chance is one.chance
    assert one.p_value is one.p_value
    assert one.error is one.error
    assert list(one.derived) == [one.chance, one.p_value, one.error]


def test_quantities_are_told_apart_by_what_they_are_not_by_what_they_say() -> None:
    assert quantity() != quantity()
