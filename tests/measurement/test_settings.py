"""How to measure: a value that prints as it would be typed, and refuses what cannot be meant."""

import dataclasses
import json
import math
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from properties import assert_is_a_value

import lightning_infoplane
from lightning_infoplane import (
    Alignment,
    Bandwidth,
    Eigenvalues,
    Estimator,
    Fixed,
    InformationPlane,
    Jackknife,
    Lanczos,
    Leading,
    MedianDistance,
    Silverman,
    Solver,
)
from lightning_infoplane.measurement.settings import Choice, as_data

CHANGED: list[tuple[dict[str, Any], str]] = [
    ({}, "Estimator()"),
    ({"alpha": 2}, "Estimator(alpha=2)"),
    ({"alpha": 1}, "Estimator(alpha=1)"),
    ({"bandwidth": Fixed(2.0)}, "Estimator(bandwidth=Fixed(sigma=2.0))"),
    (
        {"bandwidth": MedianDistance(scale=2)},
        "Estimator(bandwidth=MedianDistance(scale=2, freeze=False, samples=None))",
    ),
    ({"bandwidth": MedianDistance()}, "Estimator()"),
    ({"target_bandwidth": Silverman()}, "Estimator(target_bandwidth=Silverman(gamma=5.0))"),
    ({"solver": Eigenvalues(torch.float32)}, "Estimator(solver=Eigenvalues(dtype=torch.float32))"),
    ({"solver": Leading(3)}, "Estimator(solver=Leading(rank=3, iterations=8, seed=0))"),
    ({"shuffles": 0}, "Estimator(shuffles=0)"),
    ({"shuffles": 2, "seed": 0}, "Estimator()"),
    ({"standard_errors": "blocks"}, "Estimator()"),
    ({"standard_errors": None}, "Estimator(standard_errors=None)"),
    (
        {"seed": 3, "standard_errors": Jackknife(), "shuffles": 20},
        "Estimator(shuffles=20, standard_errors=Jackknife(groups=10), seed=3)",
    ),
]


def test_the_defaults() -> None:
    estimator = Estimator()
    assert dataclasses.asdict(estimator)["alpha"] == 1.01
    assert (estimator.bandwidth, estimator.target_bandwidth) == (MedianDistance(), None)
    assert estimator.solver == Eigenvalues()
    assert (estimator.shuffles, estimator.standard_errors, estimator.seed) == (2, "blocks", 0)
    assert Jackknife().groups == 10


@pytest.mark.parametrize(("fields", "printed"), CHANGED, ids=[printed for _, printed in CHANGED])
def test_it_prints_what_differs_from_the_defaults(fields: dict[str, Any], printed: str) -> None:
    estimator = Estimator(**fields)
    assert repr(estimator) == printed
    assert_is_a_value(estimator)


def test_a_plane_prints_its_estimator() -> None:
    assert repr(InformationPlane(Estimator(alpha=2))) == "InformationPlane(Estimator(alpha=2), None)"


def test_equal_settings_are_one_key() -> None:
    assert {Estimator(alpha=2): 1}[Estimator(alpha=2)] == 1
    assert Estimator(alpha=2) != Estimator(alpha=2, seed=1)
    assert len({Estimator(**fields) for fields, _ in CHANGED}) == len(CHANGED) - 3  # three are the defaults again


def test_it_cannot_be_changed_but_replaced() -> None:
    estimator = Estimator()
    with pytest.raises(dataclasses.FrozenInstanceError, match="cannot assign to field 'alpha'"):
        estimator.alpha = 2  # type: ignore[misc]
    assert dataclasses.replace(estimator, alpha=2) == Estimator(alpha=2)
    with pytest.raises(ValueError, match="shuffles=-1: expected a whole number"):
        dataclasses.replace(estimator, shuffles=-1)


@pytest.mark.parametrize(
    ("fields", "kind", "message"),
    [
        ({"alpha": 0}, ValueError, "alpha=0: expected a positive number"),
        ({"alpha": -1.5}, ValueError, r"alpha=-1\.5: expected a positive number"),
        ({"alpha": math.nan}, ValueError, "alpha=nan: expected a positive number"),
        ({"alpha": "2"}, ValueError, "alpha='2': expected a positive number"),
        ({"alpha": True}, ValueError, "alpha=True: expected a positive number"),
        ({"alpha": None}, ValueError, "alpha=None: expected a positive number"),
        (
            {"bandwidth": MedianDistance},
            TypeError,
            r"bandwidth=<class .*MedianDistance'>: expected an instance of Bandwidth, such as "
            r"bandwidth=MedianDistance\(\)\.",
        ),
        ({"bandwidth": 2.0}, TypeError, r"bandwidth=2\.0: expected an instance of Bandwidth"),
        ({"bandwidth": None}, TypeError, "bandwidth=None: expected an instance of Bandwidth"),
        ({"bandwidth": "median"}, TypeError, "bandwidth='median': expected an instance of Bandwidth"),
        (
            {"target_bandwidth": Silverman},
            TypeError,
            r"target_bandwidth=<class .*Silverman'>: expected an instance of Bandwidth, such as "
            r"target_bandwidth=Silverman\(\)\.",
        ),
        (
            {"solver": "lanczos"},
            TypeError,
            r"solver='lanczos': expected an instance of Solver, such as solver=Eigenvalues\(\)\.",
        ),
        ({"solver": Lanczos}, TypeError, r"solver=<class .*Lanczos'>: expected an instance of Solver"),
        ({"solver": None}, TypeError, "solver=None: expected an instance of Solver"),
        ({"solver": MedianDistance()}, TypeError, r"solver=MedianDistance\(.*\): expected an instance of Solver"),
        (
            {"standard_errors": 3},
            TypeError,
            r'^standard_errors=3: expected "blocks", Jackknife\(groups=10\) or None\.$',
        ),
        ({"standard_errors": Jackknife}, TypeError, r"standard_errors=<class .*Jackknife'>: expected \"blocks\""),
        ({"standard_errors": True}, TypeError, 'standard_errors=True: expected "blocks"'),
        ({"standard_errors": "jackknife"}, TypeError, "standard_errors='jackknife': expected \"blocks\""),
        ({"standard_errors": ""}, TypeError, "standard_errors='': expected \"blocks\""),
        (
            {"shuffles": 1.5},
            ValueError,
            r"shuffles=1\.5: expected a whole number of at least 0; 0 turns the chance level off\.",
        ),
        ({"shuffles": -1}, ValueError, "shuffles=-1: expected a whole number of at least 0"),
        ({"shuffles": True}, ValueError, "shuffles=True: expected a whole number"),
        ({"shuffles": None}, ValueError, "shuffles=None: expected a whole number"),
        ({"seed": None}, ValueError, r"seed=None: expected a whole number of at least 0; 0 is the default\."),
        ({"seed": -1}, ValueError, "seed=-1: expected a whole number of at least 0"),
        ({"seed": 0.0}, ValueError, r"seed=0\.0: expected a whole number"),
    ],
)
def test_what_cannot_be_meant_is_refused(fields: dict[str, Any], kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=message):
        Estimator(**fields)


@pytest.mark.parametrize("groups", [1, 0, -8, 2.0, True, None])
def test_a_jackknife_needs_two_groups(groups: Any) -> None:
    message = rf"^Jackknife\(groups={groups}\): expected a whole number of at least 2; 10 are usual\.$"
    with pytest.raises(ValueError, match=message):
        Jackknife(groups)


def test_an_order_that_hangs_on_rounding_is_warned_of_where_it_is_set() -> None:
    with pytest.warns(UserWarning, match=r"alpha=0\.2: well below one the entropy is decided by eigenvalues"):
        Estimator(alpha=0.2)


def test_rules_and_solvers_of_the_users_own_are_as_good() -> None:
    @dataclasses.dataclass(frozen=True)
    class Mine(Bandwidth):
        def bandwidths(self, maps: Any, target: Any, previous: Any) -> Any:
            return maps.new_ones(maps.shape[-2])

    @dataclasses.dataclass(frozen=True)
    class Half(Solver):
        def __call__(self, gram: Any, alpha: float) -> Any:
            return Eigenvalues()(gram, alpha) / 2

    estimator = Estimator(bandwidth=Mine(), solver=Half())
    assert as_data(estimator)["bandwidth"] == {"class": "Mine"}
    inputs = torch.eye(6)
    (half, whole) = (
        InformationPlane(one).measure(inputs, None, {}) for one in (estimator, Estimator(bandwidth=Fixed(1.0)))
    )
    assert half[0].value == pytest.approx(whole[0].value / 2)


# ------------------------------------------------------------------------------------------------ as plain data


def test_as_data_names_classes_and_every_field() -> None:
    estimator = Estimator(
        alpha=2, bandwidth=Alignment(freeze=True), solver=Eigenvalues(torch.float32), standard_errors=Jackknife(4)
    )
    assert as_data(estimator) == {
        "class": "Estimator",
        "alpha": 2,
        "bandwidth": {"class": "Alignment", "momentum": 0.9, "freeze": True},
        "target_bandwidth": None,
        "solver": {"class": "Eigenvalues", "dtype": "torch.float32"},
        "shuffles": 2,
        "standard_errors": {"class": "Jackknife", "groups": 4},
        "seed": 0,
    }


@pytest.mark.parametrize("how", ["blocks", None])
def test_as_data_says_how_errors_are_found(how: Any) -> None:
    assert as_data(Estimator(standard_errors=how))["standard_errors"] == how


@pytest.mark.parametrize("fields", [fields for fields, _ in CHANGED], ids=str)
def test_as_data_is_json_from_which_the_settings_can_be_made_again(fields: dict[str, Any]) -> None:
    def made(data: Any) -> Any:
        if not isinstance(data, dict):
            return torch.float32 if data == "torch.float32" else data
        kind = getattr(lightning_infoplane, data.pop("class"))
        return kind(**{name: made(value) for name, value in data.items()})

    estimator = Estimator(**fields)
    assert made(json.loads(json.dumps(as_data(estimator)))) == estimator


# ------------------------------------------------------------------------------------- printing, for any choices


class Options(Choice):
    """Arguments are attributes of the same name."""

    def __init__(self, first: Any, second: Any = 1, *, third: Any = "a") -> None:
        self.first, self.second, self.third = first, second, third


@pytest.mark.parametrize(
    ("options", "printed"),
    [
        (Options(1), "Options(first=1)"),
        (Options(None, 1, third="b"), "Options(first=None, third='b')"),
        (Options(1, True), "Options(first=1, second=True)"),  # equal to the default, but not the same thing
        (Options(1, 1.0), "Options(first=1, second=1.0)"),
        (Options(torch.ones(2), torch.ones(1)), "Options(first=tensor([1., 1.]), second=tensor([1.]))"),
    ],
)
def test_choices_print_what_was_chosen(options: Options, printed: str) -> None:
    assert repr(options) == printed


class Subclass(Choice):
    """Takes other arguments than it keeps."""

    def __init__(self, kept: int = 1, **others: int) -> None:
        self.kept = kept


def test_a_subclass_with_arguments_of_its_own_can_be_printed() -> None:
    assert repr(Subclass(2, other=3)) == "Subclass(kept=2)"


@dataclass(frozen=True)
class WithFunction:
    """A choice with a field that is no plain data."""

    function: object
    values: tuple[int, ...] = (1, 2)


def test_a_choice_as_data_has_no_address_in_memory() -> None:
    """Else an equal one in the next process would be another one."""
    assert as_data(WithFunction(math.sqrt))["function"] == str(math.sqrt)
    assert " at 0x" not in json.dumps([as_data(WithFunction(as_data)), as_data(WithFunction(object()))])
    assert as_data(WithFunction(as_data))["function"].endswith("settings.as_data")
    assert as_data(WithFunction(None))["values"] == [1, 2]
