"""Made-up numbers of Gram matrices put into formulas: what is beyond chance, not resolved, and how errors go on."""

import math

import pytest
import torch
from measurement.moments import estimate
from properties import assert_bits

from lightning_infoplane.estimator.solvers import Estimate
from lightning_infoplane.measurement.entropies import Known
from lightning_infoplane.measurement.formulas import (
    TX,
    TY,
    Adjusted,
    Alignment,
    Excess,
    Formula,
    Leaf,
    Power,
    T,
    Term,
    X,
)
from lightning_infoplane.measurement.values import ENOUGH_SHUFFLES, Numbers

TT, XX = Term("T", "T"), Term("X", "X")
TIGHT = 1e-12
ALIGNED = Alignment("T", "X")

# Two layers, two shuffles. E(T;X) is 1.75 and 0.5, E(T;T) is 2 and 0.5, E(X;X) is 2.
KNOWN: Known = {
    X: estimate(4.0, 0.3),
    T: estimate([3.0, 2.5], [0.1, 0.2]),
    TX: estimate([5.0, 5.5], [0.02, 0.01]),
    TX.shuffled(0): estimate([6.5, 6.2], [0.03, 0.01]),
    TX.shuffled(1): estimate([7.0, 5.8], [0.01, 0.04]),
    TT: estimate([3.1, 2.5], [0.05, 0.02]),
    TT.shuffled(0): estimate([5.0, 3.0], [0.02, 0.01]),
    TT.shuffled(1): estimate([5.2, 3.0], [0.03, 0.02]),
    XX: estimate(4.0, 0.01),
    XX.shuffled(0): estimate(6.1, 0.02),
    XX.shuffled(1): estimate(5.9, 0.04),
    ALIGNED: estimate([0.5, 0.25]),
}


def numbers(changed: Known | None = None, shuffles: int = 2, is_part: bool = False) -> Numbers:
    return Numbers(KNOWN | (changed or {}), shuffles, 512, is_part)


def itself(*shuffled: float, joint: float = 2.0) -> Known:
    """One layer whose entropy with itself is this in place, and that after each shuffle."""
    known: Known = {T: estimate([3.0]), TT: estimate([joint]), TX: estimate([5.0])}
    for k, bits in enumerate(shuffled):
        known |= {TT.shuffled(k): estimate([bits]), TX.shuffled(k): estimate([6.0]), XX.shuffled(k): estimate(6.0)}
    return known


# ----------------------------------------------------------------------------------------------------------- values


def test_a_sum_has_its_signs() -> None:
    assert_bits(numbers().value({X: +1, T: +1, TX: -1}), torch.tensor([2.0, 1.0]), TIGHT)
    assert_bits(numbers().value({ALIGNED: +1}), torch.tensor([0.5, 0.25]), TIGHT)


def test_an_excess_is_the_mean_over_the_shuffles_less_what_is_in_place() -> None:
    assert_bits(numbers().value(Excess(TX)), torch.tensor([1.75, 0.5]), TIGHT)
    assert_bits(numbers().value(Excess(TT)), torch.tensor([2.0, 0.5]), TIGHT)
    assert_bits(numbers().value(Excess(XX)), 2.0, TIGHT)


def test_adjusted_information_is_the_excess_over_the_geometric_mean_of_both_with_themselves() -> None:
    assert_bits(numbers().value(Adjusted(TX)), torch.tensor([1.75 / 2, 0.5 / math.sqrt(0.5 * 2)]), TIGHT)


def test_adjusted_information_is_never_clipped() -> None:
    more = numbers({TX: estimate([1.0, 7.0])})
    assert_bits(more.value(Adjusted(TX)), torch.tensor([5.75 / 2, -1.0]), TIGHT)


def test_a_power_is_two_to_the_entropy() -> None:
    assert_bits(numbers().value(Power(T)), torch.tensor([8.0, 2**2.5], dtype=torch.float64), TIGHT)
    assert_bits(numbers().value(Power(X)), 16.0, TIGHT)


def test_chance_is_the_mean_of_the_sum_over_the_shuffles() -> None:
    """T + X - TX: 0.5 and 0 of the first layer, 0.3 and 0.7 of the second."""
    assert_bits(numbers().chance({X: +1, T: +1, TX: -1}), torch.tensor([0.25, 0.5]), TIGHT)


@pytest.mark.parametrize(("shuffles", "mean"), [(1, 0.5), (2, 0.25)])
def test_chance_is_over_as_many_shuffles_as_there_are(shuffles: int, mean: float) -> None:
    assert float(numbers(shuffles=shuffles).chance({X: +1, T: +1, TX: -1})[0]) == pytest.approx(mean)


# --------------------------------------------------------------------------------------------------- what is resolved


@pytest.mark.parametrize(
    ("shuffled", "resolved"),
    [
        ((2.1, 2.1), True),
        ((2.004, 2.004), False),  # less than five thousandths of a bit are rounding
        ((2.006, 2.006), True),
        ((1.9, 1.9), False),
        ((2.0, 2.0), False),
        ((2.5, 2.4), True),  # 0.45 bits and a scatter of 0.071
        ((2.5, 2.3), False),  # 0.4 bits and a scatter of 0.141: less than five times
        ((2.5, 2.4, 2.3), False),  # 0.4 and 0.1
        ((2.55, 2.5, 2.45), True),  # 0.5 and 0.05
    ],
    ids=str,
)
def test_what_shares_too_little_with_itself_is_not_resolved(shuffled: tuple[float, ...], resolved: bool) -> None:
    found = numbers(itself(*shuffled), shuffles=len(shuffled))
    assert bool(found.value(Adjusted(TX)).isnan()) is not resolved
    assert bool(found.value(Excess(TT)).isfinite())  # it is told in any case


@pytest.mark.parametrize("layer", [0, 1])
def test_one_layer_that_is_not_resolved_costs_the_others_nothing(layer: int) -> None:
    bits = [5.0, 3.0]
    bits[layer] = [3.1, 2.5][layer] + 0.001
    found = numbers({TT.shuffled(k): estimate(bits) for k in range(2)}).value(Adjusted(TX))
    expected = [1.75 / math.sqrt(1.9 * 2), 0.5]
    assert bool(found[layer].isnan())
    assert float(found[1 - layer]) == pytest.approx(expected[1 - layer])


@pytest.mark.parametrize(
    ("variable", "bits", "missing"),
    [(T, [3.0, 8.56], [False, True]), (T, [8.54, 8.56], [False, True]), (X, 8.54, [False] * 2), (X, 8.56, [True] * 2)],
)
def test_what_is_saturated_has_no_adjusted_information(
    variable: Term, bits: float | list[float], missing: list[bool]
) -> None:
    """95 % of log2 512 are 8.55 bits; of a part of the samples only the scatter is looked at."""
    changed: Known = {variable: estimate(bits)}
    assert numbers(changed).value(Adjusted(TX)).isnan().tolist() == missing
    assert bool(numbers(changed, is_part=True).value(Adjusted(TX)).isfinite().all())


def test_where_the_input_is_not_resolved_no_layer_has_adjusted_information() -> None:
    found = numbers({XX.shuffled(k): estimate(4.001) for k in range(2)})
    assert found.value(Adjusted(TX)).isnan().tolist() == [True, True]


@pytest.mark.parametrize(("shuffled", "known"), [((2.001, 2.001), True), ((2.5, 2.1), True), ((1.999, 1.999), False)])
def test_of_a_part_there_is_a_value_as_long_as_there_is_a_root(shuffled: tuple[float, ...], known: bool) -> None:
    """Only its scatter is looked at, and a part that is left out would make it smaller."""
    found = numbers(itself(*shuffled), is_part=True).value(Adjusted(TX))
    assert bool(found.isfinite()) is known


def test_of_two_variables_that_share_less_than_nothing_with_themselves_there_is_none() -> None:
    """Though the product of both has a root."""
    less: Known = {XX.shuffled(k): estimate(3.9) for k in range(2)}
    assert bool(numbers(itself(1.9, 1.9) | less, is_part=True).value(Adjusted(TX)).isnan())


# ------------------------------------------------------------------------------------------------------ what is known


def test_a_formula_has_a_value_where_all_of_it_is_known() -> None:
    assert all(numbers().have(formula) for formula in ({X: +1, T: +1}, Excess(TX), Adjusted(TX), Power(T)))
    assert not numbers().have(Adjusted(TY))
    assert not numbers().have({T: +1, TY: -1})


def test_a_function_of_a_layer_is_not_known_from_leaves() -> None:
    assert not numbers().have(abs)
    assert not numbers().have(None)


@pytest.mark.parametrize(("shuffles", "known"), [(0, False), (1, False), (2, True)])
def test_what_is_beyond_chance_needs_two_shuffles(shuffles: int, known: bool) -> None:
    """The scatter of one is not known."""
    assert ENOUGH_SHUFFLES == 2
    found = numbers(shuffles=shuffles)
    assert found.have(Excess(TX)) is found.have(Adjusted(TX)) is known
    assert found.have({T: +1})


# -------------------------------------------------------------------------------------------- errors of the solver


def by_finite_differences(formula: Formula, layers_alone: bool = False) -> torch.Tensor:
    """To first order: each number moved by its own error, in squares."""
    tiny = 1e-6
    total = torch.zeros(2, dtype=torch.float64)
    for leaf, known in KNOWN.items():
        if layers_alone and leaf.first != "T":
            continue
        ends = [
            numbers({leaf: Estimate(known.bits + step * known.stderr, known.stderr)}).value(formula)
            for step in (tiny, -tiny)
        ]
        total += ((ends[0] - ends[1]) / (2 * tiny)).square()
    return total


FORMULAS: list[Formula] = [{X: +1, T: +1, TX: -1}, {T: +1}, Excess(TX), Excess(TT), Adjusted(TX), Power(T)]


@pytest.mark.parametrize("formula", FORMULAS, ids=["sum", "entropy", "excess", "with itself", "adjusted", "power"])
@pytest.mark.parametrize("layers_alone", [False, True], ids=["all", "of layers alone"])
def test_errors_propagate_to_first_order(formula: Formula, layers_alone: bool) -> None:
    found = numbers().squares(formula, of_layers_alone=layers_alone)
    torch.testing.assert_close(found, by_finite_differences(formula, layers_alone), rtol=1e-5, atol=0)


def test_the_error_of_a_sum_is_the_root_of_the_sum_of_squares() -> None:
    squares = numbers().squares({X: +1, T: +1, TX: -1})
    assert squares.tolist() == pytest.approx([0.3**2 + 0.1**2 + 0.02**2, 0.3**2 + 0.2**2 + 0.01**2])


def test_the_error_of_an_alignment_is_zero() -> None:
    assert numbers().squares({ALIGNED: +1}).tolist() == [0, 0]


def test_the_error_of_a_quantity_of_the_probe_is_no_error_of_the_layers() -> None:
    assert float(numbers().squares({X: +1}, of_layers_alone=True)) == 0
    assert float(numbers().squares({X: +1})) == pytest.approx(0.09)


def test_what_has_no_value_has_no_error() -> None:
    found = numbers({TT.shuffled(k): estimate([5.0, 2.5], [0.1, 0.1]) for k in range(2)})
    assert found.squares(Adjusted(TX)).isnan().tolist() == [False, True]


def test_an_adjusted_information_of_zero_still_has_an_error() -> None:
    """Where relative errors would be infinite."""
    found = numbers({TX: estimate([6.75, 6.0], [0.02, 0.01])})
    assert_bits(found.value(Adjusted(TX)), torch.zeros(2), TIGHT)
    assert bool((found.squares(Adjusted(TX)) > 0).all())


@pytest.mark.parametrize("leaf", [TX, TT, XX], ids=str)
def test_every_part_of_the_ratio_has_a_share_in_its_error(leaf: Leaf) -> None:
    exact: Known = {one: Estimate(known.bits, torch.zeros_like(known.bits)) for one, known in KNOWN.items()}
    assert Numbers(exact, 2, 512).squares(Adjusted(TX)).tolist() == [0, 0]
    one_unsure = Numbers(exact | {leaf: KNOWN[leaf]}, 2, 512)
    assert bool((one_unsure.squares(Adjusted(TX)) > 0).all())
