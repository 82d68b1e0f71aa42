"""Joint entropies as values."""

import pytest

from lightning_infoplane.measurement.formulas import TX, TY, T, Term, X, Y


@pytest.mark.parametrize(("term", "partner"), [(TX, "X"), (TY, "Y")])
def test_a_joint_with_the_layer_is_another_for_each_shuffle(term: Term, partner: str) -> None:
    assert term.shuffled(3) == Term(partner, shuffle=3)
    assert len({term, term.shuffled(0), term.shuffled(1)}) == 3
    assert term.shuffled(0).shuffled(1) == term.shuffled(1)
    assert term.shuffle is None


@pytest.mark.parametrize("term", [T, X, Y])
def test_an_entropy_of_one_variable_is_the_same_after_a_shuffle(term: Term) -> None:
    assert term.shuffled(3) is term


def test_all_terms_are_different_and_say_whether_the_layer_is_part_of_them() -> None:
    assert len({T, X, Y, TX, TY}) == 5
    assert [term.layer for term in (T, TX, TY, X, Y)] == [True, True, True, False, False]
    assert [term.partner for term in (T, TX, TY, X, Y)] == ["", "X", "Y", "X", "Y"]
