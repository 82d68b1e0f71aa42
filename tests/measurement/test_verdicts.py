"""What the numbers are worth: one verdict a layer with its evidence, and what becomes of them from layer to layer."""

import math
from collections.abc import Mapping
from typing import Any

import pytest
import torch
from properties import normal
from torch import Tensor

from lightning_infoplane import Estimator, Fixed, InformationPlane, Jackknife, Row
from lightning_infoplane.estimator.limits import COLLAPSED_SHARE, SATURATED_SHARE
from lightning_infoplane.measurement.evidence import Change
from lightning_infoplane.measurement.quantities import (
    AMI_ERROR,
    AMI_TY,
    AMI_XT,
    DPI_AMI_ERROR,
    DPI_AMI_TY,
    DPI_AMI_XT,
    E_ERROR,
    E_TT,
    E_XX,
    SIGNS,
)
from lightning_infoplane.measurement.quantity import Quantity, Subject
from lightning_infoplane.measurement.rows import Pair, Place
from lightning_infoplane.measurement.verdicts import (
    Judgement,
    Verdict,
    judge,
    judge_gaps,
)

ACTIVATIONS, ERRORS = Subject.ACTIVATIONS, Subject.ERROR_SIGNALS
SURE, UNSURE = 1e-6, 0.3
NAN = math.nan


def words(judged: Mapping[str, Judgement]) -> dict[str, str]:
    return {layer: judgement.word for layer, judgement in judged.items()}


def rows_of(values: Mapping[tuple[Place, str], float], probe: str = "") -> list[Row]:
    return [Row(0, 0, probe, place, quantity, value) for (place, quantity), value in values.items()]


def layer_of(
    entropy: float,
    itself: float | None = 1.0,
    adjusted: float | None = 0.5,
    p: float | None = SURE,
    subject: Subject = ACTIVATIONS,
    layer: str = "conv",
) -> dict[tuple[Place, str], float]:
    """One layer of a probe of 1024 samples, log2 n = 10, with one information; None leaves a number out."""
    signs = SIGNS[subject]
    information = signs.information[0]
    numbers = {signs.entropy: entropy, signs.itself: itself, information: adjusted, information.p_value: p}
    told: dict[tuple[Place, str], float] = {("", "log2_n"): 10.0}
    return told | {(layer, quantity.key): value for quantity, value in numbers.items() if value is not None}


# ----------------------------------------------------------------------------------------------------------- verdicts


@pytest.mark.parametrize("subject", Subject)
@pytest.mark.parametrize(
    ("entropy", "itself", "adjusted", "p", "verdict"),
    [
        (5.0, 1.0, 0.5, SURE, Verdict.OK),
        (9.5, 1.0, 0.5, SURE, Verdict.OK),
        (9.51, 1.0, 0.5, SURE, Verdict.SATURATED),
        (9.9, 1e-4, None, SURE, Verdict.SATURATED),
        (9.9, 1.0, 0.5, UNSURE, Verdict.SATURATED),  # the kernel says more about it than chance does
        (0.49, 0.3, 0.5, SURE, Verdict.OK),  # few samples differ, but they are known: a detector of one class
        (0.49, 1e-4, None, None, Verdict.COLLAPSED),
        (0.0, None, None, None, Verdict.COLLAPSED),
        (0.5, 1e-4, None, None, Verdict.NOT_RESOLVED),
        (5.0, 1e-4, None, SURE, Verdict.NOT_RESOLVED),
        (5.0, 1.0, 0.01, UNSURE, Verdict.AT_CHANCE),
        (0.49, 0.3, 0.01, UNSURE, Verdict.AT_CHANCE),
        (5.0, 1.0, 0.9, UNSURE, Verdict.AT_CHANCE),  # whatever its size: it is the evidence that counts
        (5.0, 1.0, 0.01, 0.049, Verdict.OK),  # little, but surely more than nothing
        (5.0, 1.0, 0.01, 0.051, Verdict.AT_CHANCE),
        (5.0, 1.0, -0.01, SURE, Verdict.OK),
        (5.0, 1.0, 0.01, None, Verdict.OK),  # not tested
        (5.0, None, None, None, Verdict.OK),  # without shuffles nothing is said of it
    ],
)
def test_verdicts(
    subject: Subject, entropy: float, itself: float | None, adjusted: float | None, p: float | None, verdict: Verdict
) -> None:
    judged = judge(rows_of(layer_of(entropy, itself, adjusted, p, subject)), subject=subject)
    assert judged["conv"].verdict is verdict
    assert judged["conv"].subject is subject
    assert judged["conv"].share == pytest.approx(entropy / 10)
    assert judged["conv"].itself == pytest.approx(NAN if itself is None else itself, nan_ok=True)


def test_shares_beyond_which_the_kernel_decides() -> None:
    assert (COLLAPSED_SHARE, SATURATED_SHARE) == (0.05, 0.95)


@pytest.mark.parametrize(
    ("of_layer", "of_input", "itself", "of_itself"),
    [
        (1e-4, None, 1e-4, E_TT),
        (1e-4, 0.5, 1e-4, E_TT),
        (0.5, 1e-4, 1e-4, E_XX),  # nothing can be adjusted to an input that is not resolved
        (-1e-3, 1e-4, -1e-3, E_TT),
        (0.5, -1e-3, -1e-3, E_XX),
    ],
)
def test_what_is_not_resolved_is_named(
    of_layer: float, of_input: float | None, itself: float, of_itself: Quantity
) -> None:
    values = layer_of(5.0, of_layer, None) | ({} if of_input is None else {("", E_XX.key): of_input})
    judgement = judge(rows_of(values))["conv"]
    assert judgement.verdict is Verdict.NOT_RESOLVED
    assert (judgement.itself, judgement.of_itself) == (itself, of_itself)
    assert judgement.sentence.startswith(f"{of_itself.symbol} is {itself:.3f} bits, too little")


def test_of_error_signals_the_layers_own_is_named() -> None:
    judgement = judge(rows_of(layer_of(5.0, 1e-4, None, subject=ERRORS)), subject=ERRORS)["conv"]
    assert (judgement.verdict, judgement.of_itself) == (Verdict.NOT_RESOLVED, E_ERROR)


def both(of_x: float, of_y: float, layer: str = "conv") -> dict[tuple[Place, str], float]:
    """P-values of both kinds of adjusted information."""
    more = {AMI_TY.key: 0.2, AMI_TY.p_value.key: of_y}
    return layer_of(5.0, p=of_x, layer=layer) | {(layer, key): value for key, value in more.items()}


@pytest.mark.parametrize(
    ("of_x", "of_y", "verdict", "word"),
    [
        (SURE, SURE, Verdict.OK, "ok"),
        (UNSURE, SURE, Verdict.OK, "AMI(X;T) at chance"),
        (SURE, UNSURE, Verdict.OK, "AMI(T;Y) at chance"),
        (UNSURE, UNSURE, Verdict.AT_CHANCE, "at chance"),
    ],
)
def test_a_layer_is_at_chance_where_all_of_its_information_is(
    of_x: float, of_y: float, verdict: Verdict, word: str
) -> None:
    judgement = judge(rows_of(both(of_x, of_y)))["conv"]
    assert judgement.verdict is verdict
    assert judgement.word == word
    expected = {AMI_XT: (0.5, of_x), AMI_TY: (0.2, of_y)}
    assert judgement.at_chance == {one: evidence for one, evidence in expected.items() if evidence[1] == UNSURE}


def test_evidence_is_corrected_for_the_number_of_layers() -> None:
    """A p-value of .02 is enough alone and beside one, not among five of its kind."""
    alone = judge(rows_of(layer_of(5.0, p=0.02)))
    assert words(alone) == {"conv": "ok"}
    five = {key: value for k in range(5) for key, value in layer_of(5.0, p=0.02, layer=str(k)).items()}
    assert set(words(judge(rows_of(five))).values()) == {"at chance"}
    sure = five | {key: value for k in range(4) for key, value in layer_of(5.0, p=SURE, layer=str(k)).items()}
    assert set(words(judge(rows_of(sure))).values()) == {"ok"}


def test_the_evidence_that_is_told_is_not_corrected() -> None:
    five = {key: value for k in range(5) for key, value in layer_of(5.0, p=0.02, layer=str(k)).items()}
    assert judge(rows_of(five))["3"].at_chance == {AMI_XT: (0.5, 0.02)}


def test_information_about_the_input_and_about_the_target_are_corrected_apart() -> None:
    layers = {key: value for k in range(2) for key, value in both(0.04 if k else SURE, 0.04, str(k)).items()}
    assert words(judge(rows_of(layers))) == {"0": "AMI(T;Y) at chance", "1": "AMI(T;Y) at chance"}


@pytest.mark.parametrize(
    ("more", "verdict"),
    [
        ({}, Verdict.OUTLIER),
        ({"H_T": 9.9}, Verdict.SATURATED),
        ({"AMI_XT_p": UNSURE}, Verdict.AT_CHANCE),
    ],
    ids=["fine", "saturated", "at chance"],
)
def test_a_sample_that_is_like_no_other_is_told_where_nothing_else_is_wrong(
    more: dict[str, float], verdict: Verdict
) -> None:
    values = layer_of(5.0) | {("conv", "outlier"): 17.0} | {("conv", key): value for key, value in more.items()}
    judgement = judge(rows_of(values))["conv"]
    assert judgement.verdict is verdict
    assert judgement.outlier == 17


def test_error_signals_have_no_outliers() -> None:
    """What belongs to the activations of a layer says nothing of its error signal."""
    values = layer_of(5.0, subject=ERRORS) | {("conv", "outlier"): 17.0}
    judgement = judge(rows_of(values), subject=ERRORS)["conv"]
    assert judgement.verdict is Verdict.OK
    assert math.isnan(judgement.outlier)


def test_verdicts_are_about_one_probe() -> None:
    rows = rows_of(layer_of(9.9), "train") + rows_of(layer_of(5.0), "val")
    assert words(judge(rows, "train")) == {"conv": "saturated"}
    assert words(judge(rows, "val")) == {"conv": "ok"}
    assert judge(rows) == {}


def test_verdicts_are_about_activations_or_error_signals() -> None:
    rows = rows_of(layer_of(9.9)) + rows_of(layer_of(5.0, subject=ERRORS))
    assert words(judge(rows)) == {"conv": "saturated"}
    assert words(judge(rows, subject=ERRORS)) == {"conv": "ok"}
    assert judge(rows_of(layer_of(9.9)), subject=ERRORS) == {}


def test_each_layer_is_judged_in_the_order_of_the_rows_and_pairs_are_not() -> None:
    late = layer_of(0.1, 1e-4, None, None, layer="late")
    rows = rows_of(layer_of(5.0) | late | {(Pair("conv", "late"), "DPI_XT"): 3.9})
    assert list(words(judge(rows)).items()) == [("conv", "ok"), ("late", "collapsed")]


def test_where_the_number_of_samples_is_not_known_nothing_can_be_said() -> None:
    assert judge([row for row in rows_of(layer_of(9.9)) if row.quantity != "log2_n"]) == {}


def test_a_probe_without_layers_has_no_verdict() -> None:
    assert judge(rows_of({("", "log2_n"): 10.0, ("", "H_X"): 3.0})) == {}


# -------------------------------------------------------------------------------------------------- measured layers

N = 512
X, CLASSES = normal(N, 8), torch.arange(N) % 10


def judged(layers: Mapping[str, Tensor], inputs: Tensor = X, targets: Tensor | None = CLASSES, **fields: Any) -> Any:
    return judge(InformationPlane(Estimator(**fields)).measure(inputs, targets, layers))


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
    plane = InformationPlane(Estimator(bandwidth=Fixed(1.0), standard_errors=None))
    rows = plane.measure(spread(0.4), None, {"layer": layer})
    judgement = judge(rows)["layer"]
    assert judgement.verdict is verdict
    assert judgement.share == next(row.value for row in rows if row.quantity == "H_T") / 6  # log2 64


def test_where_the_input_is_not_resolved_no_layer_is_blamed() -> None:
    plane = InformationPlane(Estimator(bandwidth=Fixed(1.0)))
    rows = plane.measure(spread(1e3), None, {"layer": spread(0.4), "more": spread(0.4).tanh()})
    judged = judge(rows)
    assert words(judged) == {"layer": "not resolved", "more": "not resolved"}
    assert judged["layer"].of_itself is E_XX


@pytest.mark.parametrize("subject", Subject)
def test_where_the_input_is_saturated_it_is_named_and_no_layer(subject: Subject) -> None:
    """What the layer shares with itself is plenty: that it were too little would be false."""
    signs = SIGNS[subject]
    values = layer_of(5.0, 0.5, None, subject=subject) | {("", signs.input.key): 9.7}
    judgement = judge(rows_of(values), subject=subject)["conv"]
    assert judgement.verdict is Verdict.SATURATED
    assert judgement.sentence.startswith(f"{signs.input.symbol} is 97% of log2 n: to the kernel all samples differ")
    assert (
        judge(rows_of(values | {("", signs.input.key): 9.4}), subject=subject)["conv"].verdict is not judgement.verdict
    )


def test_an_input_that_the_kernel_saturates_on_measured_layers() -> None:
    samples = 1.5 * normal(4, 20, seed=3)[torch.arange(256) % 4] + normal(256, 20, seed=4)
    rows = InformationPlane(Estimator(bandwidth=Fixed(2.6))).measure(samples, None, {"half": 0.5 * samples})
    judgement = judge(rows)["half"]
    assert not [row for row in rows if row.quantity == "AMI_XT"]
    assert 0.95 < judgement.share < 0.99
    assert judgement.sentence.startswith(f"H(X) is {judgement.share:.0%} of log2 n")


@pytest.mark.parametrize("how", ["blocks", Jackknife(4)], ids=["blocks", "jackknife"])
def test_a_perfect_detector_of_a_rare_class_is_ok(how: Any) -> None:
    """Its entropy is a twentieth of log2 n, and all of it is information."""
    rare = (torch.arange(N) < 20).long()
    detector = rare.double().unsqueeze(1)
    verdict = judged({"detector": detector, "dead": torch.zeros(N, 4)}, targets=rare, standard_errors=how)
    assert verdict["detector"].share < COLLAPSED_SHARE
    assert verdict["detector"].verdict is Verdict.OK
    assert AMI_TY not in verdict["detector"].at_chance
    assert verdict["dead"].verdict is Verdict.COLLAPSED


def test_much_noise_is_not_chance() -> None:
    """Three standard deviations of it leave little, but not nothing."""
    noisy = X + 3 * normal(N, 8, seed=1)
    verdict = judged({"noisy": noisy, "noise": normal(N, 8, seed=2)}, targets=None)
    assert words(verdict) == {"noisy": "ok", "noise": "at chance"}


@pytest.mark.parametrize("size", [1000, 3072])
def test_a_copy_of_an_input_of_high_dimension_is_not_chance(size: int) -> None:
    """Its information beyond chance is hundredths of a bit, and yet all there is."""
    noise = normal(N, size)
    verdict = judged({"copy": noise, "other": normal(N, size, seed=1)}, inputs=noise, targets=None)
    assert words(verdict) == {"copy": "ok", "other": "at chance"}


def test_of_random_labels_a_fine_layer_knows_nothing() -> None:
    labels = torch.randint(10, (N,), generator=torch.Generator().manual_seed(3))
    verdict = judged({"layer": (X + 0.3 * normal(N, 8, seed=1)).tanh(), "more": X}, targets=labels)["layer"]
    assert verdict.verdict is Verdict.OK
    assert verdict.word == "AMI(T;Y) at chance"
    assert list(verdict.at_chance) == [AMI_TY]
    value, p = verdict.at_chance[AMI_TY]
    assert verdict.sentence == f"AMI(T;Y) is {value:.3f} (p = {p:.2g}): no more than chance gives."


def test_of_labels_made_of_the_input_a_fine_layer_knows_much() -> None:
    labels = (X[:, 0] > 0).long()
    verdict = judged({"layer": (X + 0.3 * normal(N, 8, seed=1)).tanh(), "more": X}, targets=labels)
    assert words(verdict) == {"layer": "ok", "more": "ok"}


@pytest.mark.parametrize("where", [0, 100])
@pytest.mark.parametrize("shape", [(N, 8), (N, 3, 2, 2)], ids=str)
def test_a_sample_a_million_times_as_large_is_named(shape: tuple[int, ...], where: int) -> None:
    layer = X[:, :1].tanh().reshape(N, *(1 for _ in shape[1:])) + 0.3 * normal(*shape, seed=1)
    layer[where] *= 1e6
    verdict = judged({"layer": layer, "fine": X.tanh()})
    assert verdict["layer"].verdict is Verdict.OUTLIER
    assert verdict["layer"].outlier == where
    assert verdict["layer"].sentence.startswith(f"sample {where} of the probe is like no other to the kernel")
    assert verdict["fine"].word in ("ok", "AMI(T;Y) at chance")


def test_a_test_of_many_layers_of_noise_calls_few_of_them_fine() -> None:
    layers = {f"{k}": normal(64, 3, seed=k + 1) for k in range(60)}
    verdict = judged(layers, inputs=normal(64, 3), targets=torch.arange(64) % 2, standard_errors=None, alpha=2)
    assert sum(one.verdict is not Verdict.AT_CHANCE for one in verdict.values()) <= 1


# ------------------------------------------------------------------------------------------------------------ in words


@pytest.mark.parametrize(
    ("verdict", "subject", "fields", "sentence"),
    [
        (Verdict.OK, ACTIVATIONS, {}, ""),
        (
            *(Verdict.AT_CHANCE, ACTIVATIONS, {"at_chance": {AMI_XT: (0.0123, 0.61)}}),
            "AMI(X;T) is 0.012 (p = 0.61): no more than chance gives.",
        ),
        (
            *(Verdict.AT_CHANCE, ACTIVATIONS, {"at_chance": {AMI_XT: (-0.004, 0.5), AMI_TY: (0.001, 0.071)}}),
            "AMI(X;T) is -0.004 (p = 0.5) and AMI(T;Y) is 0.001 (p = 0.071): no more than chance gives.",
        ),
        (
            *(Verdict.AT_CHANCE, ERRORS, {"at_chance": {AMI_ERROR: (0.02, 0.3)}}),
            "AMI(δₖ;δ) is 0.020 (p = 0.3): no more than chance gives.",
        ),
        (
            *(Verdict.OK, ACTIVATIONS, {"at_chance": {AMI_TY: (0.003, 0.4)}}),
            "AMI(T;Y) is 0.003 (p = 0.4): no more than chance gives.",
        ),
        (
            *(Verdict.COLLAPSED, ACTIVATIONS, {"share": 0.0312}),
            "H(T) is 3.1% of log2 n: to the kernel all samples look alike (a dead layer?).",
        ),
        (
            *(Verdict.COLLAPSED, ERRORS, {"share": 0.0}),
            "H(δ) is 0.0% of log2 n: to the kernel all samples look alike (a dead layer?).",
        ),
        (
            *(Verdict.NOT_RESOLVED, ACTIVATIONS, {"itself": 0.0034}),
            "E(T;T) is 0.003 bits, too little to tell from chance, so there is no adjusted information.",
        ),
        (
            *(Verdict.NOT_RESOLVED, ACTIVATIONS, {"itself": 0.0012, "of_itself": E_XX}),
            "E(X;X) is 0.001 bits, too little to tell from chance, so there is no adjusted information.",
        ),
        (
            *(Verdict.NOT_RESOLVED, ERRORS, {"itself": -0.001}),
            "E(δ;δ) is -0.001 bits, too little to tell from chance, so there is no adjusted information.",
        ),
        (
            *(Verdict.SATURATED, ACTIVATIONS, {"share": 0.987}),
            "H(T) is 99% of log2 n: to the kernel all samples differ, so information in bits is at its limit "
            "whatever the layer does, and there is no adjusted information.",
        ),
        (
            *(Verdict.SATURATED, ERRORS, {"share": 0.96}),
            "H(δ) is 96% of log2 n: to the kernel all samples differ, so information in bits is at its limit "
            "whatever the layer does, and there is no adjusted information.",
        ),
        (
            *(Verdict.OUTLIER, ACTIVATIONS, {"outlier": 17.0}),
            "sample 17 of the probe is like no other to the kernel, while the others are like each other.",
        ),
    ],
)
def test_a_judgement_says_why(verdict: Verdict, subject: Subject, fields: dict[str, Any], sentence: str) -> None:
    assert Judgement(verdict, subject, **{"share": 0.5} | fields).sentence == sentence


def test_every_verdict_has_a_word_and_every_bad_one_a_sentence_and_a_remedy() -> None:
    assert {verdict.word for verdict in Verdict} == {
        *("ok", "outlier", "at chance", "not resolved", "collapsed", "saturated"),
    }
    assert (Verdict.OK.sentence, Verdict.OK.remedy) == ("", "")
    for verdict in set(Verdict) - {Verdict.OK}:
        for text in (verdict.sentence, verdict.remedy):
            assert text.endswith((".", "?"))
    for subject in Subject:
        for verdict in Verdict:
            assert "{" not in Judgement(verdict, subject, 0.5).sentence


@pytest.mark.parametrize("verdict", [Verdict.SATURATED, Verdict.NOT_RESOLVED, Verdict.OUTLIER])
def test_what_is_wrong_besides_chance_is_the_word(verdict: Verdict) -> None:
    assert Judgement(verdict, ACTIVATIONS, 0.5, at_chance={AMI_TY: (0.0, 0.5)}).word == verdict.word


# ---------------------------------------------------------------------------------------------------------------- gaps


AB = Pair("a", "b")


def gap(value: float, p: float | None, pair: Pair = AB, of: Quantity = DPI_AMI_XT) -> dict[Any, float]:
    return {(pair, of.key): value} | ({} if p is None else {(pair, of.p_value.key): p})


@pytest.mark.parametrize(
    ("value", "p", "change"),
    [
        (-0.2, SURE, Change.INCREASE),
        (0.2, SURE, Change.DECREASE),
        (0.2, UNSURE, Change.UNDECIDED),
        (0.005, SURE, Change.UNDECIDED),
        (0.2, None, Change.UNDECIDED),
    ],
)
def test_gaps_are_judged_by_size_and_evidence(value: float, p: float | None, change: Change) -> None:
    assert judge_gaps(rows_of(gap(value, p))) == {AB: change}


def test_gaps_are_judged_together() -> None:
    pairs = [AB, Pair("b", "c"), Pair("c", "d")]
    many = {key: value for pair in pairs for key, value in gap(0.2, 0.02, pair).items()}
    assert judge_gaps(rows_of(gap(0.2, 0.02))) == {AB: Change.DECREASE}
    assert judge_gaps(rows_of(many)) == dict.fromkeys(pairs, Change.UNDECIDED)


def test_gaps_of_other_quantities_and_probes_are_others() -> None:
    rows = rows_of(gap(0.2, SURE) | gap(-0.2, SURE, of=DPI_AMI_TY), "train") + rows_of(gap(-0.2, SURE), "val")
    assert judge_gaps(rows, "train") == {AB: Change.DECREASE}
    assert judge_gaps(rows, "train", DPI_AMI_TY) == {AB: Change.INCREASE}
    assert judge_gaps(rows, "val") == {AB: Change.INCREASE}
    assert judge_gaps(rows) == judge_gaps(rows, "train", DPI_AMI_ERROR) == {}


def test_gaps_that_are_judged_are_those_that_are_counted() -> None:
    layers = {f"{k}": X + level * normal(N, 8, seed=7 + k) for k, level in enumerate((0.3, 3.0, 3.0, 0.0))}
    rows = InformationPlane().measure(X, None, layers)
    found = list(judge_gaps(rows).values())
    assert found == [Change.DECREASE, Change.UNDECIDED, Change.INCREASE]
    value = {row.quantity: row.value for row in rows if row.place == ""}
    assert (value["DPI_increases"], value["DPI_decreases"]) == (1, 1)
