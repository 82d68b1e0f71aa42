"""What quantities are made of, as values."""

import pytest

from lightning_infoplane.measurement.formulas import (
    TX,
    TY,
    Adjusted,
    Alignment,
    Excess,
    Formula,
    Independence,
    Leaf,
    Power,
    T,
    Term,
    X,
    Y,
    leaves_in,
    needs_shuffles,
)

TT, XX, YY = Term("T", "T"), Term("X", "X"), Term("Y", "Y")


# -------------------------------------------------------------------------------------------------------- terms


@pytest.mark.parametrize(("term", "first", "second"), [(TX, "T", "X"), (TY, "T", "Y"), (TT, "T", "T"), (XX, "X", "X")])
def test_an_entropy_of_two_is_another_for_each_shuffle(term: Term, first: str, second: str) -> None:
    assert term.shuffled(3) == Term(first, second, shuffle=3)
    assert len({term, term.shuffled(0), term.shuffled(1)}) == 3
    assert term.shuffled(0).shuffled(1) == term.shuffled(1)
    assert term.shuffle is None


@pytest.mark.parametrize("term", [T, X, Y])
def test_an_entropy_of_one_variable_is_the_same_after_a_shuffle(term: Term) -> None:
    assert term.shuffled(3) is term


def test_all_terms_are_different_and_say_of_what_they_are() -> None:
    assert len({T, X, Y, TX, TY}) == 5
    assert [term.first for term in (T, TX, TY, X, Y)] == ["T", "T", "T", "X", "Y"]
    assert [term.second for term in (T, TX, TY, X, Y)] == ["", "X", "Y", "", ""]


def test_a_variable_with_itself_is_a_term_of_its_own() -> None:
    assert len({T, TT, X, XX}) == 4


def test_alignment_and_independence_of_the_same_variables_are_different() -> None:
    assert len({TX, Alignment("T", "X"), Independence("T", "X"), Alignment("T", "Y")}) == 4


# ----------------------------------------------------------------------------------------------------- formulas


def test_adjusted_information_is_made_of_three_excesses() -> None:
    assert Adjusted(TX).parts == (Excess(TX), Excess(TT), Excess(XX))
    assert Adjusted(TY).parts == (Excess(TY), Excess(TT), Excess(YY))


@pytest.mark.parametrize(
    ("formula", "leaves"),
    [
        ({X: +1, T: +1, TX: -1}, [X, T, TX]),
        ({Alignment("T", "X"): +1}, [Alignment("T", "X")]),
        (Excess(TX), [TX]),
        (Adjusted(TY), [TY, TT, YY, T, Y]),
        (Power(T), [T]),
    ],
    ids=["sum", "alignment", "excess", "adjusted", "power"],
)
def test_what_a_formula_needs(formula: Formula, leaves: list[Leaf]) -> None:
    assert leaves_in(formula) == leaves


@pytest.mark.parametrize("formula", [None, abs, "TX"], ids=str)
def test_what_is_not_made_of_leaves_needs_none(formula: object) -> None:
    assert leaves_in(formula) == []
    assert not needs_shuffles(formula)


def test_only_what_is_beyond_chance_needs_shuffles() -> None:
    assert [needs_shuffles(formula) for formula in (Excess(TX), Adjusted(TX))] == [True, True]
    assert [needs_shuffles(formula) for formula in ({TX: +1}, Power(T))] == [False, False]


def test_formulas_are_values() -> None:
    assert (Adjusted(TX), Excess(TX), Power(T)) == (Adjusted(TX), Excess(TX), Power(T))
    assert len({Adjusted(TX), Adjusted(TY), Excess(TX), Power(TX), Power(T)}) == 5
