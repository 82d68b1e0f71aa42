"""What the numbers are worth: one verdict a layer, and one rule for a gap below zero."""

import math

import numpy as np
import pytest
import torch
from properties import normal
from torch import Tensor

from lightning_infoplane import Estimator, Fixed, InformationPlane, Row
from lightning_infoplane.measurement.quantity import Subject
from lightning_infoplane.measurement.rows import Pair
from lightning_infoplane.measurement.verdicts import Judgement, Verdict, is_below_zero, judge

ACTIVATIONS, ERRORS = Subject.ACTIVATIONS, Subject.ERROR_SIGNALS


def words(judged: dict[str, Judgement]) -> dict[str, str]:
    return {layer: judgement.verdict.word for layer, judgement in judged.items()}


def rows_of(entropy: float, told: float, chance: float | None, probe: str = "", errors: bool = False) -> list[Row]:
    """One layer of a probe of 1024 samples: log2 n = 10."""
    h, i = ("H_error", "I_error") if errors else ("H_T", "I_XT")
    cells = [("", "log2_n", 10.0), ("conv", h, entropy), ("conv", i, told)]
    if chance is not None:
        cells.append(("conv", f"{i}_chance", chance))
    return [Row(0, 0, probe, place, quantity, number) for place, quantity, number in cells]


# ----------------------------------------------------------------------------------------------------- verdicts


@pytest.mark.parametrize("subject", Subject)
@pytest.mark.parametrize(
    ("entropy", "told", "chance", "verdict"),
    [
        (9.51, 4.0, 3.0, Verdict.SATURATED),
        (9.5, 4.0, 3.0, Verdict.OK),
        (0.5, 0.4, 0.1, Verdict.OK),
        (0.49, 0.4, 0.1, Verdict.COLLAPSED),
        (5.0, 3.04, 3.0, Verdict.AT_CHANCE),
        (5.0, 3.06, 3.0, Verdict.OK),
        (5.0, 2.0, 3.0, Verdict.AT_CHANCE),
        (5.0, 0.0, None, Verdict.OK),
        (9.9, 3.0, 3.0, Verdict.SATURATED),
        (0.0, 0.0, 0.0, Verdict.COLLAPSED),
    ],
)
def test_verdicts(subject: Subject, entropy: float, told: float, chance: float | None, verdict: Verdict) -> None:
    rows = rows_of(entropy, told, chance, errors=subject is ERRORS)
    assert judge(rows, subject=subject) == {"conv": Judgement(verdict, subject, entropy / 10)}


def test_verdicts_are_about_one_probe() -> None:
    rows = rows_of(9.9, 4.0, 3.0, "train") + rows_of(5.0, 4.0, 3.0, "val")
    assert words(judge(rows, "train")) == {"conv": "saturated"}
    assert words(judge(rows, "val")) == {"conv": "ok"}
    assert judge(rows) == {}


def test_verdicts_are_about_activations_or_error_signals() -> None:
    rows = rows_of(9.9, 4.0, 3.0) + rows_of(5.0, 4.0, 3.0, errors=True)
    assert words(judge(rows)) == {"conv": "saturated"}
    assert words(judge(rows, subject=ERRORS)) == {"conv": "ok"}
    assert judge(rows_of(9.9, 4.0, 3.0), subject=ERRORS) == {}


def test_each_layer_is_judged_in_the_order_of_the_rows_and_pairs_are_not() -> None:
    more = [
        Row(0, 0, "", "late", "H_T", 0.1),
        Row(0, 0, "", "late", "I_XT", 0.1),
        Row(0, 0, "", Pair("conv", "late"), "DPI_XT", 3.9),
    ]
    assert list(words(judge(rows_of(5.0, 4.0, 3.0) + more)).items()) == [("conv", "ok"), ("late", "collapsed")]


def test_where_the_number_of_samples_is_not_known_nothing_can_be_said() -> None:
    assert judge([row for row in rows_of(9.9, 4.0, 3.0) if row.quantity != "log2_n"]) == {}


def test_a_probe_without_layers_has_no_verdict() -> None:
    assert judge(InformationPlane().measure(normal(20, 4), torch.arange(20) % 2, {})) == {}


def spread(scale: float) -> Tensor:
    return scale * normal(64, 8)


@pytest.mark.parametrize(
    ("layer", "verdict"),
    [
        (spread(1e3), Verdict.SATURATED),
        (spread(1e-3), Verdict.COLLAPSED),
        (spread(0.4).flip(0), Verdict.AT_CHANCE),
        (spread(0.4), Verdict.OK),
    ],
    ids=["saturated", "collapsed", "at chance", "ok"],
)
def test_verdicts_on_measured_layers(layer: Tensor, verdict: Verdict) -> None:
    plane = InformationPlane(Estimator(bandwidth=Fixed(1.0), shuffles=20))
    rows = plane.measure(spread(0.4), None, {"layer": layer})
    judgement = judge(rows)["layer"]
    assert judgement.verdict is verdict
    assert judgement.share == next(row.value for row in rows if row.quantity == "H_T") / 6  # log2 64


# ------------------------------------------------------------------------------------------------------ in words


@pytest.mark.parametrize(
    ("verdict", "subject", "share", "sentence"),
    [
        (Verdict.OK, ACTIVATIONS, 0.5, ""),
        (
            *(Verdict.AT_CHANCE, ACTIVATIONS, 0.5),
            "I(X;T) is no larger than for shuffled pairs, so the curve says nothing.",
        ),
        (
            *(Verdict.COLLAPSED, ACTIVATIONS, 0.031),
            "H(T) is 3% of log2 n: to the kernel all samples look alike (a dead layer?).",
        ),
        (
            *(Verdict.SATURATED, ACTIVATIONS, 0.987),
            "H(T) is 99% of log2 n: to the kernel all samples differ, so I(X;T) is at its limit whatever the layer "
            "does.",
        ),
        (
            *(Verdict.SATURATED, ERRORS, 0.96),
            "H(δ) is 96% of log2 n: to the kernel all samples differ, so I(δₖ;δ) is at its limit whatever the layer "
            "does.",
        ),
        (
            *(Verdict.AT_CHANCE, ERRORS, 0.5),
            "I(δₖ;δ) is no larger than for shuffled pairs, so the curve says nothing.",
        ),
    ],
)
def test_a_judgement_says_why(verdict: Verdict, subject: Subject, share: float, sentence: str) -> None:
    assert Judgement(verdict, subject, share).sentence == sentence


def test_every_verdict_has_a_word_and_every_bad_one_a_sentence_and_a_remedy() -> None:
    assert {verdict.word for verdict in Verdict} == {"ok", "at chance", "collapsed", "saturated"}
    assert (Verdict.OK.sentence, Verdict.OK.remedy) == ("", "")
    for verdict in set(Verdict) - {Verdict.OK}:
        for text in (verdict.sentence, verdict.remedy):
            assert text.endswith(".")
    for subject in Subject:
        for verdict in Verdict:
            assert "{" not in Judgement(verdict, subject, 0.5).sentence


# --------------------------------------------------------------------------------------------------- below zero

GAPS = [
    (0.1, 0.0, False),
    (0.0, 0.0, False),
    (-1e-5, 0.0, False),  # rounding
    (-0.99e-4, 0.0, False),
    (-1.01e-4, 0.0, True),
    (-0.1, 0.0, True),
    (-0.1, 0.04, True),
    (-0.1, 0.06, False),  # less than two standard errors
    (-0.1, 0.05, False),  # two of them, without rounding
    (-0.1002, 0.05, True),
    (-1e-5, 1e-9, False),
    (math.nan, 0.0, False),
]


@pytest.mark.parametrize(("gap", "stderr", "below"), GAPS)
def test_of_a_number(gap: float, stderr: float, below: bool) -> None:
    found = is_below_zero(gap, stderr)
    assert found is below


@pytest.mark.parametrize("gap", [gap for gap, stderr, _ in GAPS if stderr == 0])
def test_where_no_error_is_known_rounding_alone_is_forgiven(gap: float) -> None:
    assert is_below_zero(gap) is is_below_zero(gap, 0.0)


@pytest.mark.parametrize("make", [np.array, torch.tensor], ids=["arrays", "tensors"])
def test_of_many_at_once_it_is_that_of_each(make: type) -> None:
    gap, stderr, below = zip(*GAPS, strict=True)
    found = is_below_zero(make(gap), make(stderr))
    assert type(found) is type(make([1.0]))
    assert found.tolist() == list(below)
    assert is_below_zero(make(gap)).tolist() == [is_below_zero(one) for one in gap]
    assert is_below_zero(make(gap), 0.04).tolist() == [is_below_zero(one, 0.04) for one in gap]
