"""From made-up entropies to quantities: sums, their errors, chance levels, gaps, counts."""

import math
from types import SimpleNamespace

import pytest
import torch
from properties import assert_bits
from torch import Tensor

from lightning_infoplane.estimator.solvers import Estimate
from lightning_infoplane.measurement.columns import columns, counts, functions_of, of_the_probe, terms_of
from lightning_infoplane.measurement.formulas import TX, TY, T, Term, X, Y
from lightning_infoplane.measurement.quantities import (
    BANDWIDTH,
    BANDWIDTH_ERROR,
    DPI_ERROR,
    DPI_ERROR_VIOLATIONS,
    DPI_TY,
    DPI_XT,
    DPI_XT_VIOLATIONS,
    H_ERROR,
    H_ERROR_LAST,
    H_T,
    H_X,
    H_Y,
    I_ERROR,
    I_TY,
    I_XT,
    LOG2_N,
    NON_REDUNDANT,
    REDUNDANCY_SYNERGY,
    TOTAL_CORRELATION,
)
from lightning_infoplane.measurement.quantity import Quantity, Subject

ACTIVATIONS, ERRORS = Subject.ACTIVATIONS, Subject.ERROR_SIGNALS
TIGHT = 1e-12


def estimate(bits: float | list[float], stderr: float | list[float]) -> Estimate:
    return Estimate(torch.tensor(bits, dtype=torch.float64), torch.tensor(stderr, dtype=torch.float64))


# Three layers.
FOUND = {
    X: estimate(4.0, 0.3),
    Y: estimate(2.0, 0.0),
    T: estimate([3.0, 2.5, 1.0], [0.1, 0.2, 0.4]),
    TX: estimate([5.0, 5.5, 4.75], [0.2, 0.1, 0.2]),
    TY: estimate([4.0, 3.0, 2.0], [0.0, 0.5, 0.0]),
}
ENDS = torch.tensor([[0, 1], [2, 0]])
WITHOUT_PAIRS = torch.empty(0, 2, dtype=torch.long)


def without_y() -> dict[Term, Estimate]:
    return {term: one for term, one in FOUND.items() if term.partner != "Y"}


# -------------------------------------------------------------------------------------------------------- terms


def test_each_entropy_is_asked_for_once_shuffles_last() -> None:
    assert terms_of(ACTIVATIONS, ["X", "Y"], shuffles=2) == [
        *(T, TX, TY),
        *(TX.shuffled(0), TY.shuffled(0), TX.shuffled(1), TY.shuffled(1)),
    ]


def test_without_targets_nothing_is_asked_for_that_needs_them() -> None:
    assert terms_of(ACTIVATIONS, ["X"], shuffles=1) == [T, TX, TX.shuffled(0)]


def test_error_signals_need_the_last_one_alone() -> None:
    assert terms_of(ERRORS, ["X"], shuffles=1) == [T, TX, TX.shuffled(0)]


def test_functions_of_a_layer_are_those_that_are_no_sums() -> None:
    assert functions_of(ACTIVATIONS) == [REDUNDANCY_SYNERGY, NON_REDUNDANT, TOTAL_CORRELATION, BANDWIDTH]
    assert functions_of(ERRORS) == [BANDWIDTH_ERROR]


# --------------------------------------------------------------------------------------------------------- sums


def test_a_signed_sum_is_the_sum_with_these_signs() -> None:
    table = columns(FOUND, ACTIVATIONS, ENDS, shuffles=0)
    assert_bits(table[I_XT], torch.tensor([2.0, 1.0, 0.25]), TIGHT)  # 4 + 3 - 5, 4 + 2.5 - 5.5, 4 + 1 - 4.75
    assert_bits(table[I_TY], torch.tensor([1.0, 1.5, 1.0]), TIGHT)
    assert_bits(table[H_T], FOUND[T].bits, TIGHT)


def test_the_error_of_a_sum_is_the_root_of_the_sum_of_squares() -> None:
    table = columns(FOUND, ACTIVATIONS, ENDS, shuffles=0)
    squares = [0.3**2 + 0.1**2 + 0.2**2, 0.3**2 + 0.2**2 + 0.1**2, 0.3**2 + 0.4**2 + 0.2**2]
    assert_bits(table[I_XT.error], torch.tensor(squares, dtype=torch.float64).sqrt(), TIGHT)
    assert_bits(table[I_TY.error], torch.tensor([0.1, math.hypot(0.2, 0.5), 0.4], dtype=torch.float64), TIGHT)
    assert_bits(table[H_T.error], FOUND[T].stderr, TIGHT)


def test_what_is_not_known_is_left_out_with_all_that_belongs_to_it() -> None:
    table = columns(without_y(), ACTIVATIONS, ENDS, shuffles=0)
    assert set(table) == {I_XT, I_XT.error, H_T, H_T.error, DPI_XT, DPI_XT.error}


def test_error_signals_have_a_part_of_the_table_of_their_own() -> None:
    table = columns(without_y(), ERRORS, ENDS, shuffles=0)
    assert set(table) == {I_ERROR, I_ERROR.error, H_ERROR, H_ERROR.error, DPI_ERROR, DPI_ERROR.error}
    assert_bits(table[I_ERROR], torch.tensor([2.0, 1.0, 0.25]), TIGHT)


def test_quantities_come_in_the_order_of_the_table() -> None:
    table = columns(FOUND, ACTIVATIONS, ENDS, shuffles=0)
    assert [quantity for quantity in table if quantity.base is None] == [I_XT, I_TY, H_T, DPI_XT, DPI_TY]


# --------------------------------------------------------------------------------------------------------- gaps


def test_a_gap_is_what_the_second_layer_has_less_than_the_first() -> None:
    table = columns(FOUND, ACTIVATIONS, ENDS, shuffles=0)
    assert_bits(table[DPI_XT], torch.tensor([1.0, -1.75]), TIGHT)
    assert_bits(table[DPI_TY], torch.tensor([-0.5, 0.0]), TIGHT)


def test_in_a_gap_the_error_of_what_both_ends_share_cancels() -> None:
    """X's own error of 0.3 is in both, and in no difference."""
    table = columns(FOUND, ACTIVATIONS, ENDS, shuffles=0)
    first, second, third = 0.1**2 + 0.2**2, 0.2**2 + 0.1**2, 0.4**2 + 0.2**2
    expected = torch.tensor([first + second, third + first], dtype=torch.float64).sqrt()
    assert_bits(table[DPI_XT.error], expected, TIGHT)
    unsure = FOUND | {X: estimate(4.0, 100.0)}
    assert torch.equal(columns(unsure, ACTIVATIONS, ENDS, shuffles=0)[DPI_XT.error], table[DPI_XT.error])


def test_without_pairs_there_are_gaps_of_no_length() -> None:
    table = columns(FOUND, ACTIVATIONS, WITHOUT_PAIRS, shuffles=0)
    assert table[DPI_XT].shape == table[DPI_XT.error].shape == (0,)


# ----------------------------------------------------------------------------------------------------- shuffles


def shuffled(*joints: list[float]) -> dict[Term, Estimate]:
    """What is found with these entropies of the joint after each shuffle."""
    return FOUND | {
        term.shuffled(k): estimate(bits, [9.0, 9.0, 9.0]) for k, bits in enumerate(joints) for term in (TX, TY)
    }


def test_chance_is_the_mean_over_the_shuffles() -> None:
    found = shuffled([6.5, 6.0, 5.0], [7.0, 6.0, 4.5])
    table = columns(found, ACTIVATIONS, ENDS, shuffles=2)
    assert_bits(table[I_XT.chance], torch.tensor([0.25, 0.5, 0.25]), TIGHT)  # of 0.5 and 0; 0.5 twice; 0 and 0.5
    assert_bits(table[I_TY.chance], torch.tensor([-1.75, -1.5, -1.75]), TIGHT)
    assert_bits(table[I_XT], columns(FOUND, ACTIVATIONS, ENDS, shuffles=0)[I_XT], TIGHT)
    assert H_T.chance not in table
    assert DPI_XT.chance not in table


def test_without_shuffles_there_is_no_chance_level() -> None:
    table = columns(shuffled([6.5, 6.0, 5.0]), ACTIVATIONS, ENDS, shuffles=0)
    assert not [quantity for quantity in table if quantity in (I_XT.chance, I_TY.chance, I_XT.p_value, I_TY.p_value)]


@pytest.mark.parametrize(("shuffles", "told"), [(1, False), (19, False), (20, True), (39, True)])
def test_p_values_are_told_from_twenty_shuffles_on(shuffles: int, told: bool) -> None:
    table = columns(shuffled(*([[6.5, 6.0, 5.0]] * shuffles)), ACTIVATIONS, ENDS, shuffles)
    assert (I_XT.p_value in table) is told
    assert (I_TY.p_value in table) is told
    assert H_T.p_value not in table


def test_a_p_value_counts_the_shuffles_that_give_as_much() -> None:
    """Of 20 shuffles none, three and all give as much; a hundredth of a millibit less is as much: that is rounding."""
    joints = [[5.001, 5.499 if k < 3 else 5.501, 4.75 + 1e-5] for k in range(20)]
    p = columns(shuffled(*joints), ACTIVATIONS, ENDS, shuffles=20)[I_XT.p_value]
    assert_bits(p, torch.tensor([1 / 21, 4 / 21, 1.0], dtype=torch.float64), TIGHT)


# ------------------------------------------------------------------------------------------------------- counts


def gaps(values: list[float], errors: list[float], of: Quantity = DPI_XT) -> dict[Quantity, Tensor]:
    return {of: torch.tensor(values), of.error: torch.tensor(errors)}


def test_gaps_are_counted_that_are_below_zero_by_two_of_their_errors() -> None:
    table = gaps([-0.1, -0.1, -0.1, 0.1, -1e-5], [0.0, 0.04, 0.06, 0.0, 0.0])
    assert counts(table, ACTIVATIONS) == {DPI_XT_VIOLATIONS: 2.0}


def test_where_errors_are_not_known_gaps_are_counted_that_are_below_rounding() -> None:
    assert counts({DPI_XT: torch.tensor([-0.1, -2e-4, -1e-5, 0.0])}, ACTIVATIONS) == {DPI_XT_VIOLATIONS: 2.0}


def test_only_gaps_of_the_inequality_are_counted() -> None:
    """That the target becomes easier to read breaks no rule."""
    assert counts(gaps([-1.0], [0.0], of=DPI_TY), ACTIVATIONS) == {}


def test_backward_gaps_have_a_count_of_their_own() -> None:
    table = gaps([-1.0, 1.0], [0.0, 0.0], of=DPI_ERROR)
    assert counts(table, ERRORS) == {DPI_ERROR_VIOLATIONS: 1.0}
    assert counts(table, ACTIVATIONS) == {}


# ------------------------------------------------------------------------------------------------------ the probe


def test_what_is_known_of_the_probe() -> None:
    own = {X: FOUND[X], Y: FOUND[Y]}
    probe = SimpleNamespace(n=512)
    assert of_the_probe(probe, own, ACTIVATIONS) == {H_X: 4.0, H_Y: 2.0, LOG2_N: 9.0}
    assert of_the_probe(probe, {X: FOUND[X]}, ACTIVATIONS) == {H_X: 4.0, LOG2_N: 9.0}
    assert of_the_probe(probe, {X: FOUND[X]}, ERRORS) == {H_ERROR_LAST: 4.0}
