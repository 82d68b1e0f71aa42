"""Every argument of every public name: what cannot be meant gets a sentence at once, with what to type instead.

The calls and the sentences they get are in sentences.txt, word for word.
"""

import ast
import inspect
import math
import re
import subprocess
import sys
from dataclasses import dataclass, fields, is_dataclass, replace
from decimal import Decimal
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pytest
import torch
from histories import history
from matplotlib.figure import Figure
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import lightning_infoplane
from lightning_infoplane import (
    AtEpochs,
    Bandwidth,
    Draw,
    Eigenvalues,
    ErrorSignals,
    Estimator,
    EveryNSteps,
    Fixed,
    InformationPlane,
    Jackknife,
    Lanczos,
    Leading,
    MatrixRenyiCallback,
    MatrixRenyiEntropy,
    MedianDistance,
    Monitor,
    NearestNeighbors,
    Outputs,
    Probe,
    Redundancy,
    Row,
    Schedule,
    Solver,
    gram,
    measure,
    permutation_test,
    plot_plane,
    renyi_entropy,
    total_correlation,
)
from lightning_infoplane.arguments.checks import (
    COUNT,
    FLAG,
    POSITIVE,
    SEED,
    TEXT,
    Function,
    Instance,
    Maybe,
    Number,
    Rule,
    Tensors,
    Whole,
    WrongKindError,
    call_of,
    checked,
    shown,
)
from lightning_infoplane.trainer.schedules import EveryNEpochs, as_schedule

X = torch.eye(4)
Y = torch.tensor([0, 1, 0, 1])
EYE = torch.eye(4) / 4
PUBLIC = {name: getattr(lightning_infoplane, name) for name in lightning_infoplane.__all__}
# What the calls in the file may name.
NAMES: dict[str, Any] = PUBLIC | {
    **{"torch": torch, "nn": nn, "np": np, "pd": pd, "Path": Path, "Decimal": Decimal, "Figure": Figure},
    **{"DataLoader": DataLoader, "TensorDataset": TensorDataset, "NAN": math.nan, "INF": math.inf},
    **{"X": X, "Y": Y, "EYE": EYE, "STACK": EYE.repeat(3, 1, 1), "PROBE": Probe(X, Y)},
    **{"NET": nn.Sequential(nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, 2)), "ROWS": history(["a", "b"])},
    "NESTED": torch.nested.nested_tensor([torch.zeros(2, 3), torch.zeros(4, 3)], layout=torch.jagged),
    **{"mse_loss": nn.functional.mse_loss, "CrossEntropyLoss": nn.CrossEntropyLoss, "partial": partial},
}
KINDS = {"TypeError": TypeError, "ValueError": ValueError}


class Refused(NamedTuple):
    """A call, and what is said of it."""

    call: str
    kind: type[Exception]
    sentence: str


def read(path: Path) -> list[Refused]:
    """``>>> call``, then ``kind: sentence``."""
    found = re.findall(r"^>>> (.+)\n(TypeError|ValueError): (.+)$", path.read_text(encoding="utf-8"), re.MULTILINE)
    return [Refused(call, KINDS[kind], sentence) for call, kind, sentence in found]


REFUSED = read(Path(__file__).with_name("sentences.txt"))


@pytest.mark.parametrize("refused", REFUSED, ids=[one.call for one in REFUSED])
def test_what_cannot_be_meant_gets_its_sentence(refused: Refused) -> None:
    with pytest.raises(refused.kind, match=f"^{re.escape(refused.sentence)}$"):
        eval(refused.call, NAMES)


def test_there_are_some_hundred_of_them_and_none_twice() -> None:
    assert len({one.call for one in REFUSED}) == len(REFUSED) > 400


def test_every_public_name_that_takes_arguments_is_among_them() -> None:
    """But for values that are written by us alone, what is there to be derived from, and what takes none."""
    ours = {"Row", "History", "Bandwidth", "Schedule", "Solver", "Maps", "TimeFirst"}
    called = {re.split(r"[.(]", one.call)[0] for one in REFUSED}
    assert set(PUBLIC) - ours - called == set()


@pytest.mark.parametrize("callback_argument", inspect.signature(MatrixRenyiCallback).parameters)
def test_every_argument_of_the_callback_is_among_them(callback_argument: str) -> None:
    calls = [one.call for one in REFUSED if one.call.startswith("MatrixRenyiCallback(")]
    positional = callback_argument == "layers"
    assert [call for call in calls if positional or f"({callback_argument}=" in call]


@pytest.mark.parametrize("refused", REFUSED, ids=[one.call for one in REFUSED])
def test_a_sentence_is_short_and_holds_no_address(refused: Refused) -> None:
    assert len(refused.sentence) <= 300
    assert " at 0x" not in refused.sentence
    assert refused.sentence.endswith(".")
    assert "  " not in refused.sentence
    assert re.search(r"expected|takes|needs|must|has|is empty|trace", refused.sentence)


PROSE = re.compile(r"^a list|, its first batch| for (all|the layer)| to draw |, or leave|, one of them|, the mapping")


def to_type(refused: Refused) -> str:
    """What the sentence says to write, as it would be typed; empty where it is prose."""
    written = re.search(r" Write (.+?)\.(?: The state before training .*)?$", refused.sentence)
    text = re.sub(r", an object(, not the class)?$", "", written[1]) if written else ""
    if not text or "..." in text or "(inputs, targets)" in text or PROSE.search(text):
        return ""
    own = refused.call.partition("(")[0]
    return f"{own}({text})" if re.match(r"\w+=", text) else text


TYPEABLE = [one for one in REFUSED if to_type(one)]


@pytest.mark.parametrize("refused", TYPEABLE, ids=[one.call for one in TYPEABLE])
def test_what_is_to_be_typed_instead_is_python(refused: Refused) -> None:
    ast.parse(to_type(refused))


# But for Probe, which takes what is the reader's own.
CHOICES = [name for name, kind in PUBLIC.items() if is_dataclass(kind) and name != "Probe"] + ["MatrixRenyiCallback"]
MADE = [one for one in TYPEABLE if to_type(one).startswith(tuple(f"{name}(" for name in CHOICES))]


@pytest.mark.parametrize("refused", MADE, ids=[one.call for one in MADE])
def test_what_is_to_be_typed_instead_is_accepted(refused: Refused) -> None:
    """Of choices and of the callback, which take no more than one mended argument."""
    eval(to_type(refused), NAMES)


# ------------------------------------------------------------------------------------------------- what is legal


GOOD = """
MedianDistance(2); MedianDistance(scale=0.5, freeze=True, samples=64); NearestNeighbors(k=1); Silverman(gamma=1e-3)
StandardizedSilverman(2.0, True); Alignment(momentum=0); Fixed(1e-300); Fixed(1e300); Fixed(3); Linear(centre=True)
Eigenvalues(torch.float32); Eigenvalues(torch.float64); Lanczos(steps=1, vectors=3, seed=7); Leading(1); Jackknife(2)
Estimator(alpha=2); Estimator(alpha=INF); Estimator(alpha=1); Estimator(shuffles=0); Estimator(seed=2**64 - 1)
Estimator(bandwidth=Silverman(), target_bandwidth=Fixed(0.5), solver=Leading(8)); Estimator(standard_errors=None)
Estimator(standard_errors=Jackknife(4)); Redundancy(map_pairs=1, samples=2, shuffles=1, paper=True); ErrorSignals()
ErrorSignals(mse_loss); ErrorSignals(CrossEntropyLoss()); ErrorSignals(lambda outputs, targets: outputs.sum())
Draw(2); Draw(64, "train"); Draw(64, ("train", "val")); Draw(64, ["val"]); Probe(X); Probe(X, Y)
Probe({"x": X, "mask": Y}, Y); Probe([X, X]); AtEpochs([1, 2, 5]); AtEpochs((3,)); AtEpochs(range(1, 4)); EveryNSteps(1)
LogSpacedEpochs(2); LogSpacedSteps(); Outputs(figures=False, log="all", prog_bar=None)
Outputs(True, "main", True, True)
MatrixRenyiCallback(["conv", nn.Linear, lambda name, module: True], Draw(64)); MatrixRenyiCallback(nn.Conv2d, (X, Y))
MatrixRenyiCallback("encoder.*", (X, None), schedule=5); MatrixRenyiCallback(schedule=LogSpacedEpochs(20))
MatrixRenyiCallback(probe=Probe(X), error_signals=ErrorSignals(), redundancy=Redundancy())
MatrixRenyiCallback(error_signals=True, redundancy=True, measure_at_start=False, dpi_pairs="consecutive")
MatrixRenyiCallback(name="a", log_prefix="", probe_batch_size=1, on_change="warn", raise_on_error=True)
MatrixRenyiCallback(forward_fn=lambda module, inputs: module(inputs))
InformationPlane(Estimator(alpha=2), Redundancy())
Monitor(NET, {"val": PROBE}, "linear"); Monitor(NET, PROBE, "linear", context=torch.no_grad, notice=lambda about, it: 0)
MatrixRenyiEntropy(max_samples=2); DebiasedCKA(Estimator(), None); MatrixRenyiTotalCorrelation(normalized=True)
gram(X); gram(X.half(), Linear()); gram(X.long(), Fixed(1.0)); class_gram(Y); class_gram(Y > 0); class_gram(Y.byte())
renyi_entropy(EYE, INF); renyi_entropy(EYE, 2, Eigenvalues()); total_correlation(EYE, EYE, normalized=True)
permutation_test(partial(mutual_information, alpha=2), EYE, EYE, permutations=1)
effective_rank(EYE, singular_values=True)
redundancy_synergy(EYE, STACK, map_pairs=torch.tensor([[0, 1]]), widening=1); plot_plane(ROWS, Figure().subplots())
plot_curves(ROWS, "I_XT"); plot_summary(ROWS)
"""


@pytest.mark.parametrize("call", re.split(r"[;\n] ?", GOOD.strip()))
def test_what_can_be_meant_is_accepted(call: str) -> None:
    eval(call, NAMES)


@pytest.mark.parametrize("whole", [np.int64(3), np.uint8(3), np.int32(3)], ids=lambda one: type(one).__name__)
def test_whole_numbers_of_numpy_are_kept_as_pythons(whole: Any) -> None:
    """JSON holds no others, and a run that is gone on with is compared by what was written."""
    made = [
        Estimator(shuffles=whole).shuffles,
        Estimator(seed=whole).seed,
        NearestNeighbors(k=whole).k,
        MedianDistance(samples=whole).samples,
        Lanczos(vectors=whole).vectors,
        Draw(whole).size,
        EveryNSteps(whole).n,
        AtEpochs([whole]).epochs[0],
        MatrixRenyiCallback(probe_batch_size=whole).probe_batch_size,
        MatrixRenyiEntropy(max_samples=whole).max_samples,
    ]
    assert made == [3] * len(made)
    assert {type(one) for one in made} == {int}
    schedule = as_schedule(whole)
    assert schedule == EveryNEpochs(3)
    assert type(MatrixRenyiCallback(probe=whole, schedule=whole).schedule) is type(whole)  # as it was given


@pytest.mark.parametrize(
    "number", [np.float64(2.5), np.float32(2.5), Fraction(5, 2)], ids=lambda one: type(one).__name__
)
def test_real_numbers_are_kept_as_pythons(number: Any) -> None:
    made = [Estimator(alpha=number).alpha, Fixed(number).sigma, MedianDistance(scale=number).scale]
    assert made == [2.5, 2.5, 2.5]
    assert {type(one) for one in made} == {float}
    assert renyi_entropy(EYE, number) == renyi_entropy(EYE, 2.5)


def test_a_whole_number_in_place_of_a_real_one_stays_whole() -> None:
    """It prints as it was typed."""
    assert repr(Estimator(alpha=2)) == "Estimator(alpha=2)"
    assert type(Estimator(alpha=np.int64(2)).alpha) is int


def test_what_replaces_a_field_is_checked_too() -> None:
    with pytest.raises(ValueError, match=r"Fixed\(sigma=-1\): expected a positive, finite number"):
        replace(Fixed(1.0), sigma=-1)


# ------------------------------------------------------------------------------------------------ of the user's own


@dataclass(frozen=True)
class Mine(Bandwidth):
    """A rule of one's own, without a check."""

    width: float = 1.0

    def bandwidths(self, maps: Tensor, target: Tensor | None, previous: Tensor | None) -> Tensor:
        return maps.new_full((maps.shape[-2],), self.width, dtype=torch.float64)


@dataclass(frozen=True)
class Wider(MedianDistance):
    """A rule that is derived from one of ours, with a field and a check of its own."""

    by: float = 2.0

    def __post_init__(self) -> None:
        super().__post_init__()  # type: ignore[misc]
        if self.by < 1:
            raise ValueError(f"by={self.by}: expected 1 or more.")


@dataclass(frozen=True)
class Last(Schedule):
    """A schedule of one's own."""

    def __call__(self, finished: int, last: int | None) -> bool:
        return finished == last


@dataclass(frozen=True)
class Half(Solver):
    """A solver of one's own."""

    def __call__(self, gram: Tensor, alpha: float) -> Tensor:
        return Eigenvalues()(gram, alpha) / 2


def test_rules_solvers_and_schedules_of_ones_own_are_as_good() -> None:
    assert Estimator(bandwidth=Mine(), target_bandwidth=Wider(), solver=Half()).bandwidth == Mine()
    assert MatrixRenyiCallback(schedule=Last()).schedule == Last()
    assert gram(X, Mine()).shape == (4, 4)
    assert float(renyi_entropy(EYE, 2, Half())) == 1.0


def test_a_class_that_is_derived_from_ours_is_called_by_its_own_name() -> None:
    with pytest.raises(
        ValueError, match=r"^Wider\(scale=0\): expected a positive, finite number\. Write Wider\(scale=1\.0\)"
    ):
        Wider(scale=0)
    with pytest.raises(ValueError, match=r"by=0\.5: expected 1 or more"):
        Wider(by=0.5)
    with pytest.raises(TypeError, match=r"Write bandwidth=Wider\(\), an object, not the class\."):
        Estimator(bandwidth=Wider)  # type: ignore[arg-type]


def test_what_is_said_of_a_choice_is_told_at_the_place_of_the_mistake() -> None:
    """Nothing of ours but the check stands between the call and the sentence."""
    with pytest.raises(WrongKindError, match="alpha='2'") as caught:
        Estimator(alpha="2")  # type: ignore[arg-type]
    assert len(caught.traceback) < 8


@pytest.mark.parametrize("kind", [one for one in PUBLIC.values() if is_dataclass(one)], ids=lambda kind: kind.__name__)
def test_every_field_of_a_choice_has_its_rule(kind: Any) -> None:
    """But for those that are read as a whole where they are understood."""
    read_as_a_whole = {"epochs", "source", "inputs", "origin"}
    assert {field.name for field in fields(kind)} - set(getattr(kind, "__rules__", ())) <= read_as_a_whole


# ------------------------------------------------------------------------------------------------------- the rules


def test_another_kind_is_a_type_error_and_no_possible_value() -> None:
    for caught_as in (TypeError, ValueError):
        with pytest.raises(caught_as, match="n='5': expected a whole number of at least 1"):
            Whole(1)("n", "5")
    with pytest.raises(ValueError, match="n=0: expected a whole number of at least 1") as caught:
        Whole(1)("n", 0)
    assert not isinstance(caught.value, TypeError)


@pytest.mark.parametrize(
    ("rule", "accepted", "refused"),
    [
        (Whole(2), [2, 10**6, np.int8(5)], [1, True, 2.0, "2", None, [2], 2**31, torch.tensor(2), np.array(2)]),
        (COUNT, [-5, 0, 2**31 - 1], [0.0, np.bool_(True), 2**31]),
        (SEED, [0, 2**64 - 1], [-1, 2**64, None]),
        (POSITIVE, [1e-300, 3, np.float32(2)], [0, -1, math.nan, math.inf, True, "1", 1j, 10**400, Decimal(1)]),
        (Number("a share", lambda share: 0 <= share <= 1), [0, 1, 0.5], [-1e-9, 1.1, math.nan, False]),
        (FLAG, [True, False], [1, 0, "yes", None, np.bool_(True), torch.tensor(True)]),
        (TEXT, ["", "a", np.str_("a")], [b"a", None, 3, ["a"]]),
        (Maybe(COUNT), [None, 3], ["3", True]),
        (Instance.of(Fixed, True), [Fixed(1.0), True], [Fixed, False, 1, "True", MedianDistance()]),
        (Function("(a) -> b", 1), [len, lambda a: a, partial(max, 1), nn.ReLU()], [nn.ReLU, "len", 3, lambda: 0, None]),
        (Function("() -> context", 0, classes=True), [nn.Identity, dict], [3, None]),
        (Tensors(), [X, nn.Parameter(X)], [[1.0], np.eye(2), 3, None, "X"]),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Rule) else "",
)
def test_what_a_rule_accepts(rule: Rule, accepted: list[Any], refused: list[Any]) -> None:
    assert [value for value in accepted if not rule.accepts(value)] == []
    assert [value for value in refused if rule.accepts(value)] == []


def test_a_function_that_does_not_tell_its_arguments_is_taken_at_its_word() -> None:
    with pytest.raises(ValueError, match="no signature found"):
        inspect.signature(max)
    assert Function("(a, b) -> c", 2)("largest", max) is max


def test_checks_come_before_the_classs_own() -> None:
    seen = []

    @dataclass(frozen=True)
    @checked(width=Whole(1))
    class Box:
        width: int

        def __post_init__(self) -> None:
            seen.append(self.width)

    assert Box(np.int64(3)) == Box(3)
    assert [type(width) for width in seen] == [int, int]
    with pytest.raises(TypeError, match=r"Box\(width='3'\).*Write Box\(width=3\)"):
        Box("3")  # type: ignore[arg-type]
    assert len(seen) == 2


class Stubborn:
    """Says nothing of itself."""

    def __repr__(self) -> str:
        raise RuntimeError("no")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("a" * 200, "'" + "a" * 69 + "…'"),
        (list(range(100)), "[0, 1, 2, 3, …]"),
        ((1,), "(1,)"),
        ([], "[]"),
        (set(), "set()"),
        ({"a": X}, "{'a': tensor(shape=(4, 4), dtype=torch.float32)}"),
        (np.zeros((2, 3)), "array(shape=(2, 3), dtype=float64)"),
        (pd.DataFrame({"x": [1.0]}), "DataFrame(shape=(1, 1))"),
        (torch.tensor(2.0), "tensor(2.)"),
        (gram, "<function gram>"),
        (lambda: 0, "<function <lambda>>"),
        (object(), "<object object>"),
        (Stubborn(), "<Stubborn object>"),
        (nn.Sequential(nn.ReLU()), "<Sequential object>"),
        (Fixed, "<class 'lightning_infoplane.estimator.bandwidths.Fixed'>"),
        (Estimator(bandwidth=Fixed(1.0), seed=10**15, shuffles=10**8, standard_errors=Jackknife(4)), "Estimator(…)"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_value_is_shown_in_one_short_line(value: object, text: str) -> None:
    assert shown(value) == text
    assert len(shown([value] * 9)) <= 72


def test_a_number_with_too_many_digits_to_print_is_shown_too() -> None:
    assert shown(10**5000) == "<int object>"


def test_what_has_no_default_is_left_open_in_a_call() -> None:
    assert (call_of(Leading), call_of(Fixed), call_of(Estimator)) == (
        "Leading(rank=...)",
        "Fixed(sigma=...)",
        "Estimator()",
    )


def test_rules_need_no_torch() -> None:
    """The command's help waits for nothing."""
    code = "import sys, lightning_infoplane.arguments; print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"


# ------------------------------------------------------------------------------------------------------ in their place


def test_stacks_and_numbers_by_position_are_told_what_was_meant() -> None:
    with pytest.raises(ValueError, match=r"For a stack, write total_correlation\(\*stack\)"):
        total_correlation([EYE, EYE])  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"grams\[2\]=99\): .*numbers go by name, such as permutations=199"):
        permutation_test(max, EYE, EYE, 99)  # type: ignore[arg-type]


def test_rows_are_known_by_the_first_of_them() -> None:
    with pytest.raises(TypeError, match=r"a list that begins with \('conv1', 1\.0\)"):
        plot_plane([("conv1", 1.0)])  # type: ignore[list-item]
    with pytest.raises(ValueError, match="the rows hold no"):
        plot_plane([Row(0, 0, "", "", "H_X", 1.0)])


def test_a_plain_loop_is_told_at_the_first_line() -> None:
    net = nn.Sequential(nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, 2))
    for call in (Monitor, measure):
        with pytest.raises(TypeError, match=r"probe=512: expected Probe\(inputs, targets\).*no data to draw one from"):
            call(net, 512, "linear")  # type: ignore[arg-type]


def test_settings_that_are_right_are_the_same_object_after_the_check() -> None:
    estimator, redundancy, outputs = Estimator(alpha=2), Redundancy(), Outputs()
    measured = MatrixRenyiCallback(estimator=estimator, redundancy=redundancy, outputs=outputs)
    assert measured.estimator is estimator
    assert measured.redundancy is redundancy
    assert measured.outputs is outputs
    assert InformationPlane(estimator).estimator is estimator
    assert isinstance(ErrorSignals(nn.CrossEntropyLoss()).loss_fn, nn.CrossEntropyLoss)
