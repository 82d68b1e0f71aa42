"""From made-up numbers to quantities: what is asked for, values, errors, chance levels, gaps, counts."""

import math
from collections.abc import Mapping
from types import SimpleNamespace

import pytest
import torch
from measurement.moments import estimate
from properties import assert_bits
from torch import Tensor

from lightning_infoplane.estimator.solvers import Estimate
from lightning_infoplane.measurement import columns as module
from lightning_infoplane.measurement.columns import (
    Columns,
    columns,
    counts,
    functions_of,
    leaves_of,
    of_the_probe,
)
from lightning_infoplane.measurement.entropies import Known
from lightning_infoplane.measurement.formulas import TX, TY, Alignment, Independence, Leaf, T, Term, X, Y
from lightning_infoplane.measurement.quantities import (
    AMI_ERROR,
    AMI_TY,
    AMI_XT,
    BANDWIDTH,
    BANDWIDTH_ERROR,
    CKA_TY,
    CKA_XT,
    DPI_AMI_ERROR,
    DPI_AMI_TY,
    DPI_AMI_XT,
    DPI_DECREASES,
    DPI_ERROR,
    DPI_ERROR_DECREASES,
    DPI_ERROR_INCREASES,
    DPI_INCREASES,
    DPI_TY,
    DPI_XT,
    E_ERROR,
    E_TT,
    E_XX,
    E_YY,
    EFFECTIVE_RANK,
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
    OUTLIER,
    QUANTITIES,
    REDUNDANCY_SYNERGY,
    TOTAL_CORRELATION,
)
from lightning_infoplane.measurement.quantity import Gap, Of, Quantity, Subject
from lightning_infoplane.measurement.uncertainty import with_tests
from lightning_infoplane.measurement.values import Numbers

ACTIVATIONS, ERRORS = Subject.ACTIVATIONS, Subject.ERROR_SIGNALS
TIGHT = 1e-12
TT, XX, YY = Term("T", "T"), Term("X", "X"), Term("Y", "Y")
ALIGNED = {leaf: leaf for leaf in (Alignment("T", "X"), Alignment("T", "Y"))}
INDEPENDENT = (Independence("T", "X"), Independence("T", "Y"))

# Three layers.
PLAIN: Known = {
    X: estimate(4.0, 0.3),
    Y: estimate(2.0, 0.0),
    T: estimate([3.0, 2.5, 1.0], [0.1, 0.2, 0.4]),
    TX: estimate([5.0, 5.5, 4.75], [0.2, 0.1, 0.2]),
    TY: estimate([4.0, 3.0, 2.0], [0.0, 0.5, 0.0]),
}
# Two shuffles of them. E(T;T) is 2, 0.5 and nothing, E(X;X) is 2, E(Y;Y) is 0.5.
SHUFFLED: Known = {
    TX.shuffled(0): estimate([6.5, 6.0, 5.0], 0.01),
    TX.shuffled(1): estimate([7.0, 6.0, 4.5], 0.02),
    TY.shuffled(0): estimate([4.5, 3.0, 2.0], 0.01),
    TY.shuffled(1): estimate([4.3, 3.0, 2.0], 0.02),
    TT: estimate([3.0, 2.5, 1.0], 0.01),
    XX: estimate(4.0, 0.01),
    YY: estimate(2.0, 0.0),
    **{TT.shuffled(k): estimate([5.0, 3.0, 1.0], 0.01) for k in range(2)},
    **{XX.shuffled(k): estimate(6.0, 0.01) for k in range(2)},
    **{YY.shuffled(k): estimate(2.5, 0.0) for k in range(2)},
}
OTHER: Known = {
    Alignment("T", "X"): estimate([0.5, 0.25, math.nan]),
    Alignment("T", "Y"): estimate([0.4, 0.125, math.nan]),
    Independence("T", "X"): estimate([1e-9, 0.5, math.nan]),
    Independence("T", "Y"): estimate([1e-5, 0.25, math.nan]),
}
ALL: Known = PLAIN | SHUFFLED | OTHER
ENDS = torch.tensor([[0, 1], [2, 0]])
WITHOUT_PAIRS = torch.empty(0, 2, dtype=torch.long)


def without_y(known: Known) -> Known:
    return {leaf: one for leaf, one in known.items() if "Y" not in (leaf.first, leaf.second)}


def found_in(
    known: Known,
    shuffles: int = 0,
    subject: Subject = ACTIVATIONS,
    ends: Tensor = ENDS,
    functions: Mapping[Quantity, Tensor] | None = None,
) -> Columns:
    return columns(Numbers(known, shuffles, 512), subject, ends, functions or {})


# -------------------------------------------------------------------------------------------------- what is asked for


def shuffled(shuffles: int, *terms: Term) -> set[Leaf]:
    return {term.shuffled(k) for k in range(shuffles) for term in terms}


@pytest.mark.parametrize("shuffles", [2, 3])
def test_everything_that_the_table_needs_is_asked_for_once(shuffles: int) -> None:
    wanted = leaves_of(ACTIVATIONS, ["X", "Y"], shuffles)
    assert len(wanted) == len(set(wanted))
    assert set(wanted) == {
        *(X, Y, T, TX, TY, TT, XX, YY),
        *shuffled(shuffles, TX, TY, TT, XX, YY),
        *(*ALIGNED, *INDEPENDENT),
    }


@pytest.mark.parametrize("shuffles", [0, 1])
def test_with_too_few_shuffles_nothing_is_asked_for_that_is_beyond_chance(shuffles: int) -> None:
    """Nor p-values, which belong to it."""
    wanted = leaves_of(ACTIVATIONS, ["X", "Y"], shuffles)
    assert set(wanted) == {X, Y, T, TX, TY, *shuffled(shuffles, TX, TY), *ALIGNED}


def test_without_targets_nothing_is_asked_for_that_needs_them() -> None:
    assert set(leaves_of(ACTIVATIONS, ["X"], shuffles=2)) == {
        *(X, T, TX, TT, XX, *shuffled(2, TX, TT, XX)),
        *(Alignment("T", "X"), Independence("T", "X")),
    }


def test_error_signals_need_the_last_one_alone() -> None:
    wanted = leaves_of(ERRORS, ["X"], shuffles=2)
    assert set(wanted) == {X, T, TX, TT, XX, *shuffled(2, TX, TT, XX), Independence("T", "X")}
    assert set(leaves_of(ERRORS, ["X"], shuffles=0)) == {X, T, TX}


def test_parts_of_a_probe_need_no_p_values() -> None:
    with_them, without = (leaves_of(ACTIVATIONS, ["X", "Y"], 2, tests=tests) for tests in (True, False))
    assert set(with_them) - set(without) == set(INDEPENDENT)


def test_functions_of_a_layer_are_those_that_are_not_made_of_gram_matrices_numbers() -> None:
    assert functions_of(ACTIVATIONS) == [REDUNDANCY_SYNERGY, NON_REDUNDANT, TOTAL_CORRELATION, BANDWIDTH, OUTLIER]
    assert functions_of(ERRORS) == [BANDWIDTH_ERROR]


# ------------------------------------------------------------------------------------------------------------- values


def test_a_signed_sum_is_the_sum_with_these_signs() -> None:
    table = found_in(PLAIN)
    assert_bits(table[I_XT], torch.tensor([2.0, 1.0, 0.25]), TIGHT)  # 4 + 3 - 5, 4 + 2.5 - 5.5, 4 + 1 - 4.75
    assert_bits(table[I_TY], torch.tensor([1.0, 1.5, 1.0]), TIGHT)
    assert_bits(table[H_T], PLAIN[T].bits, TIGHT)


def test_the_error_of_a_sum_is_the_root_of_the_sum_of_squares() -> None:
    table = found_in(PLAIN)
    squares = [0.3**2 + 0.1**2 + 0.2**2, 0.3**2 + 0.2**2 + 0.1**2, 0.3**2 + 0.4**2 + 0.2**2]
    assert_bits(table[I_XT.error], torch.tensor(squares, dtype=torch.float64).sqrt(), TIGHT)
    assert_bits(table[I_TY.error], torch.tensor([0.1, math.hypot(0.2, 0.5), 0.4], dtype=torch.float64), TIGHT)
    assert_bits(table[H_T.error], PLAIN[T].stderr, TIGHT)


def test_adjusted_information_is_the_ratio_of_what_is_beyond_chance() -> None:
    table = found_in(ALL, shuffles=2)
    expected = [1.75 / 2, 0.5, math.nan]  # the third layer shares nothing with itself
    torch.testing.assert_close(table[AMI_XT], torch.tensor(expected, dtype=torch.float64), equal_nan=True)
    assert_bits(table[AMI_TY][:2], torch.tensor([0.4 / math.sqrt(2 * 0.5), 0.0], dtype=torch.float64), TIGHT)
    assert bool((table[AMI_XT.error][:2] > 0).all())
    assert bool(table[AMI_XT.error][2].isnan())


def test_what_a_layer_shares_with_itself_is_told_where_nothing_is_resolved() -> None:
    table = found_in(ALL, shuffles=2)
    assert_bits(table[E_TT], torch.tensor([2.0, 0.5, 0.0]), TIGHT)
    assert E_TT.error not in table  # it has none


def test_alignments_are_told_as_they_are_and_effective_ranks_as_powers() -> None:
    table = found_in(ALL)
    assert table[CKA_XT].tolist()[:2] == [0.5, 0.25]
    assert table[CKA_TY].tolist()[:2] == [0.4, 0.125]
    assert bool(table[CKA_XT][2].isnan())
    assert_bits(table[EFFECTIVE_RANK], torch.tensor([8.0, 2**2.5, 2.0], dtype=torch.float64), TIGHT)
    assert float(table[EFFECTIVE_RANK.error][0]) == pytest.approx(8 * math.log(2) * 0.1)


def test_what_is_not_known_is_left_out_with_all_that_belongs_to_it() -> None:
    table = found_in(without_y(PLAIN))
    of_entropies = {I_XT, H_T, DPI_XT, EFFECTIVE_RANK}
    assert set(table) == of_entropies | {quantity.error for quantity in of_entropies}


def test_error_signals_have_a_part_of_the_table_of_their_own() -> None:
    table = found_in(without_y(PLAIN), subject=ERRORS)
    assert set(table) == {I_ERROR, I_ERROR.error, H_ERROR, H_ERROR.error, DPI_ERROR, DPI_ERROR.error}
    assert_bits(table[I_ERROR], torch.tensor([2.0, 1.0, 0.25]), TIGHT)
    more = found_in(without_y(ALL), 2, ERRORS)
    assert {AMI_ERROR, AMI_ERROR.error, AMI_ERROR.p_value, DPI_AMI_ERROR, E_ERROR, I_ERROR.chance} <= set(more)
    assert all(quantity.subject is ERRORS for quantity in more)


def test_quantities_come_in_the_order_of_the_table_layers_first() -> None:
    table = found_in(ALL, shuffles=2)
    assert [quantity for quantity in table if quantity.base is None] == [
        *(AMI_XT, AMI_TY, I_XT, I_TY, H_T, CKA_XT, CKA_TY, E_TT, EFFECTIVE_RANK),
        *(DPI_AMI_XT, DPI_XT, DPI_TY, DPI_AMI_TY),
    ]


def test_what_is_known_without_gram_matrices_stands_beside_them() -> None:
    sigmas = torch.tensor([1.0, 2.0, 3.0])
    table = found_in(PLAIN, functions={BANDWIDTH: sigmas})
    assert table[BANDWIDTH] is sigmas


# ------------------------------------------------------------------------------------------------- chance and p-values


def test_chance_is_the_mean_over_the_shuffles() -> None:
    table = found_in(ALL, shuffles=2)
    assert_bits(table[I_XT.chance], torch.tensor([0.25, 0.5, 0.25]), TIGHT)  # of 0.5 and 0; 0.5 twice; 0 and 0.5
    assert_bits(table[I_XT], found_in(PLAIN)[I_XT], TIGHT)
    assert not [quantity for quantity in table if quantity.base in (AMI_XT, H_T, DPI_XT) and "chance" in quantity.key]


def test_one_shuffle_gives_a_chance_level_and_no_adjusted_information() -> None:
    table = found_in(ALL, shuffles=1)
    assert_bits(table[I_XT.chance], torch.tensor([0.5, 0.5, 0.0]), TIGHT)
    assert not {AMI_XT, AMI_TY, E_TT, DPI_AMI_XT, AMI_XT.p_value} & set(table)


def test_without_shuffles_there_is_no_chance_level() -> None:
    assert not {I_XT.chance, I_TY.chance, AMI_XT} & set(found_in(ALL))


def test_p_values_are_those_of_independence() -> None:
    table = found_in(ALL, shuffles=2)
    assert table[AMI_XT.p_value].tolist()[:2] == [1e-9, 0.5]
    assert table[AMI_TY.p_value].tolist()[:2] == [1e-5, 0.25]
    assert [quantity for quantity in table if quantity.key.endswith("_p")] == [AMI_XT.p_value, AMI_TY.p_value]


def test_where_p_values_are_not_known_the_quantity_is_told_without() -> None:
    table = found_in(PLAIN | SHUFFLED, shuffles=2)
    assert AMI_XT in table
    assert AMI_XT.p_value not in table


# --------------------------------------------------------------------------------------------------------------- gaps


def test_a_gap_is_what_the_second_layer_has_less_than_the_first() -> None:
    table = found_in(PLAIN)
    assert_bits(table[DPI_XT], torch.tensor([1.0, -1.75]), TIGHT)
    assert_bits(table[DPI_TY], torch.tensor([-0.5, 0.0]), TIGHT)


def test_a_gap_of_adjusted_information_has_no_value_where_an_end_has_none() -> None:
    gap = found_in(ALL, shuffles=2)[DPI_AMI_XT]
    assert float(gap[0]) == pytest.approx(0.875 - 0.5)
    assert bool(gap[1].isnan())


def test_in_a_gap_the_error_of_what_both_ends_share_cancels() -> None:
    """X's own error of 0.3 is in both, and in no difference."""
    table = found_in(PLAIN)
    first, second, third = 0.1**2 + 0.2**2, 0.2**2 + 0.1**2, 0.4**2 + 0.2**2
    expected = torch.tensor([first + second, third + first], dtype=torch.float64).sqrt()
    assert_bits(table[DPI_XT.error], expected, TIGHT)
    unsure = PLAIN | {X: estimate(4.0, 100.0)}
    assert torch.equal(found_in(unsure)[DPI_XT.error], table[DPI_XT.error])


def test_in_a_gap_of_adjusted_information_it_does_as_well() -> None:
    table = found_in(ALL, shuffles=2)
    unsure = ALL | {XX: estimate(4.0, 100.0), XX.shuffled(0): estimate(6.0, 100.0)}
    more = found_in(unsure, shuffles=2)
    assert bool((more[AMI_XT.error][:2] > 10).all())
    assert float(more[DPI_AMI_XT.error][0]) == float(table[DPI_AMI_XT.error][0]) > 0


def test_without_pairs_there_are_gaps_of_no_length() -> None:
    table = found_in(PLAIN, ends=WITHOUT_PAIRS)
    assert table[DPI_XT].shape == table[DPI_XT.error].shape == (0,)


def test_only_gaps_are_tested_by_student() -> None:
    table = with_tests(found_in(ALL, shuffles=2), degrees=7)
    tested = [quantity for quantity in table if quantity.base is not None and quantity is quantity.base.p_value]
    assert set(tested) == {AMI_XT.p_value, AMI_TY.p_value} | {
        gap.p_value for gap in (DPI_AMI_XT, DPI_AMI_TY, DPI_XT, DPI_TY)
    }
    assert table[AMI_XT.p_value].tolist()[:2] == [1e-9, 0.5]  # still that of independence


# A quantity of the user's own, which is a function of a layer, and its gap.
NORM = Quantity("norm", "‖T‖", "", "norm", "How large it is.", Of.LAYER, lambda layer: layer.gram.norm(), stderr=True)
NORM_GAP = Quantity("DPI_norm", "", "", "norm lost", "How much.", Of.PAIR, Gap(NORM), stderr=True)
UNSURE = {NORM: torch.tensor([5.0, 3.0, 9.0]), NORM.error: torch.tensor([0.3, 0.4, 0.0])}


@pytest.fixture
def with_norm(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "QUANTITIES", (*QUANTITIES, NORM, NORM_GAP))


@pytest.mark.usefixtures("with_norm")
def test_a_function_of_a_layer_has_gaps_too() -> None:
    table = found_in(PLAIN, functions=UNSURE)
    assert table[NORM_GAP].tolist() == [2.0, 4.0]
    assert table[NORM_GAP.error].tolist() == pytest.approx([0.5, 0.3])


@pytest.mark.usefixtures("with_norm")
def test_a_function_without_an_error_has_gaps_without_one() -> None:
    table = found_in(PLAIN, functions={NORM: UNSURE[NORM]})
    assert table[NORM_GAP].tolist() == [2.0, 4.0]
    assert table[NORM_GAP.error].tolist() == [0.0, 0.0]


@pytest.mark.usefixtures("with_norm")
def test_of_a_function_that_was_not_measured_there_is_no_gap() -> None:
    assert NORM_GAP not in found_in(PLAIN)
    assert NORM in functions_of(ACTIVATIONS)


# ------------------------------------------------------------------------------------------------------------- counts


def gaps(values: list[float], errors: list[float], of: Quantity = DPI_AMI_XT) -> Columns:
    return {
        of: torch.tensor(values, dtype=torch.float64),
        of.error: torch.tensor(errors, dtype=torch.float64),
    }


def test_gaps_are_counted_that_are_clearly_increases_or_decreases() -> None:
    table = with_tests(gaps([-0.1, 0.1, 0.2, 0.1, -0.005], [0.005, 0.005, 0.01, 0.1, 1e-9]), 7)
    assert counts(table, ACTIVATIONS) == {DPI_INCREASES: 1.0, DPI_DECREASES: 2.0}


def test_where_nothing_is_clear_the_counts_are_zero() -> None:
    table = with_tests(gaps([0.1, math.nan], [0.1, math.nan]), 7)
    assert counts(table, ACTIVATIONS) == {DPI_INCREASES: 0.0, DPI_DECREASES: 0.0}


def test_without_evidence_nothing_is_counted() -> None:
    assert counts(gaps([-0.1], [0.001]), ACTIVATIONS) == {}
    assert counts({}, ACTIVATIONS) == {}


def test_only_gaps_of_adjusted_information_about_the_input_are_counted() -> None:
    for gap in (DPI_AMI_TY, DPI_XT, DPI_TY):
        assert counts(with_tests(gaps([-1.0], [0.001], of=gap), 7), ACTIVATIONS) == {}


def test_backward_gaps_have_counts_of_their_own() -> None:
    table = with_tests(gaps([-1.0, 1.0], [0.01, 0.01], of=DPI_AMI_ERROR), 7)
    assert counts(table, ERRORS) == {DPI_ERROR_INCREASES: 1.0, DPI_ERROR_DECREASES: 1.0}
    assert counts(table, ACTIVATIONS) == {}


# ---------------------------------------------------------------------------------------------------------- the probe


def test_what_is_known_of_the_probe() -> None:
    probe = SimpleNamespace(n=512)
    everything = Numbers(ALL, 2, 512)
    assert of_the_probe(probe, everything, ACTIVATIONS) == {H_X: 4.0, H_Y: 2.0, LOG2_N: 9.0, E_XX: 2.0, E_YY: 0.5}
    assert of_the_probe(probe, Numbers(PLAIN, 0, 512), ACTIVATIONS) == {H_X: 4.0, H_Y: 2.0, LOG2_N: 9.0}
    assert of_the_probe(probe, Numbers({X: PLAIN[X]}, 0, 512), ACTIVATIONS) == {H_X: 4.0, LOG2_N: 9.0}
    assert of_the_probe(probe, Numbers({X: PLAIN[X]}, 0, 512), ERRORS) == {H_ERROR_LAST: 4.0}


def test_numbers_of_a_probe_are_plain() -> None:
    known: Known = {X: Estimate(torch.tensor(4.0), torch.tensor(0.0))}
    assert [
        type(value) for value in of_the_probe(SimpleNamespace(n=8), Numbers(known, 0, 512), ACTIVATIONS).values()
    ] == [
        float,
        float,
    ]
