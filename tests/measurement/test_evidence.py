"""What numbers are evidence for: Holm's correction, and the one rule for a change."""

import math

import pytest
import torch

from lightning_infoplane.measurement.evidence import LEVEL, SMALLEST_CHANGE, Change, changes, holm
from lightning_infoplane.measurement.uncertainty import student_tail

INCREASE, DECREASE, UNDECIDED = Change.INCREASE, Change.DECREASE, Change.UNDECIDED
NAN = math.nan


# --------------------------------------------------------------------------------------------- Holm's correction


@pytest.mark.parametrize(
    ("p_values", "corrected"),
    [
        ([], []),
        ([0.03], [0.03]),
        ([0.01, 0.04, 0.03], [0.03, 0.06, 0.06]),  # 3 × .01, 2 × .03, and no less than the one before
        ([0.04, 0.001, 0.02], [0.04, 0.003, 0.04]),  # 1 × .04, 3 × .001, 2 × .02
        ([0.02, 0.02], [0.04, 0.04]),
        ([0.5, 0.9, 0.7], [1.0, 1.0, 1.0]),  # no p-value is larger than one
        ([0.0, 1.0], [0.0, 1.0]),
        ([0.01, NAN, 0.04], [0.02, NAN, 0.04]),  # what was not tested does not count
        ([NAN, NAN], [NAN, NAN]),
    ],
    ids=str,
)
def test_holm_by_hand(p_values: list[float], corrected: list[float]) -> None:
    assert holm(p_values) == pytest.approx(corrected, nan_ok=True)


def test_holm_lies_between_no_correction_and_bonferronis() -> None:
    p_values = torch.rand(40, generator=torch.Generator().manual_seed(0)).square().tolist()
    for p, corrected in zip(p_values, holm(p_values), strict=True):
        assert p <= corrected <= min(1, 40 * p) + 1e-12


def test_holm_keeps_the_order_of_the_p_values() -> None:
    p_values = torch.rand(40, generator=torch.Generator().manual_seed(1)).tolist()
    ranked = [corrected for _, corrected in sorted(zip(p_values, holm(p_values), strict=True))]
    assert ranked == sorted(ranked)


def test_of_many_true_hypotheses_holm_refutes_any_in_one_family_of_twenty() -> None:
    """The promise of the correction: over families of ten, not over single tests."""
    families = torch.rand(2000, 10, generator=torch.Generator().manual_seed(2)).tolist()
    wrong = sum(min(holm(family)) < LEVEL for family in families)
    assert 0.04 < wrong / 2000 < 0.06


# ------------------------------------------------------------------------------------------------------- changes


@pytest.mark.parametrize(
    ("gap", "p", "change"),
    [
        (-0.2, 0.001, INCREASE),  # the second layer has more
        (0.2, 0.001, DECREASE),
        (-0.2, 0.049, INCREASE),
        (0.2, 0.049, DECREASE),
        (-0.2, 0.05, UNDECIDED),  # large, but not significant
        (0.2, 0.4, UNDECIDED),
        (-0.01, 1e-9, UNDECIDED),  # significant, but too small to matter
        (0.01, 1e-9, UNDECIDED),
        (-0.0101, 1e-9, INCREASE),
        (0.0101, 1e-9, DECREASE),
        (0.0, 0.5, UNDECIDED),
        (NAN, NAN, UNDECIDED),
        (-0.2, NAN, UNDECIDED),  # no evidence
        (0.2, NAN, UNDECIDED),
    ],
)
def test_a_change_is_both_large_enough_and_significant(gap: float, p: float, change: Change) -> None:
    assert changes([gap], [p]) == [change]


def test_what_is_large_and_significant_has_a_number() -> None:
    assert (LEVEL, SMALLEST_CHANGE) == (0.05, 0.01)


def test_gaps_of_a_moment_are_corrected_together() -> None:
    """.02 alone is enough; beside another it is .04, beside two others .06."""
    assert changes([0.2], [0.02]) == [DECREASE]
    assert changes([0.2, 0.001], [0.02, 0.4]) == [DECREASE, UNDECIDED]
    assert changes([0.2, 0.001, 0.001], [0.02, 0.4, 0.4]) == [UNDECIDED] * 3
    assert changes([0.2, 0.2, 0.2], [0.02, 0.001, 0.001]) == [DECREASE] * 3


def test_gaps_of_both_signs_are_tested_on_both_sides() -> None:
    """A gap on the other side counts as one more test: of the increases and of the decreases alike."""
    assert changes([-0.2, 0.2], [0.02, 0.02]) == [INCREASE, DECREASE]
    assert changes([-0.2, 0.2, 0.2], [0.02, 0.02, 0.02]) == [UNDECIDED] * 3
    assert changes([-0.2, 0.2, 0.2], [0.01, 0.01, 0.01]) == [INCREASE, DECREASE, DECREASE]


def test_clear_decreases_make_no_increase_easier() -> None:
    """Each side is a family of its own: on this one the decreases are as far from significant as can be."""
    assert changes([-0.2, 0.2, 0.2], [0.02, 1e-6, 1e-6]) == [UNDECIDED, DECREASE, DECREASE]
    assert changes([0.2, -0.2, -0.2], [0.02, 1e-6, 1e-6]) == [UNDECIDED, INCREASE, INCREASE]


def test_gaps_that_were_not_tested_correct_nothing() -> None:
    assert changes([0.2, NAN, 0.3], [0.02, NAN, NAN]) == [DECREASE, UNDECIDED, UNDECIDED]


def test_a_moment_without_gaps_has_no_changes() -> None:
    assert changes([], []) == []


def test_each_gap_has_its_p_value() -> None:
    with pytest.raises(ValueError, match="shorter"):
        changes([0.1, 0.2], [0.01])


def test_of_gaps_that_are_zero_few_moments_show_a_change() -> None:
    """Twelve gaps of noise, each with an error of eight blocks: at 5 % a side, every tenth moment at most."""
    draws = torch.randn(1000, 12, 8, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    gaps = draws.mean(-1)
    p_values = student_tail(gaps.abs() / (draws.std(-1) / math.sqrt(8)), degrees=7)
    changed = sum(set(changes(*moment)) != {UNDECIDED} for moment in zip(gaps.tolist(), p_values.tolist(), strict=True))
    assert 0.06 < changed / 1000 < 0.13


def test_the_words_of_a_change() -> None:
    assert [change.value for change in Change] == ["increase", "decrease", "undecided"]
