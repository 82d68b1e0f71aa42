"""Standard errors over the probe: the jackknife's arithmetic, and that it is the scatter over independent probes."""

from functools import cache
from typing import Any

import pytest
import torch
from measurement.moments import THREE, Table, between, gaps, measure, measured, moment, table
from properties import EXACT, assert_bits, assert_leaves_random_state, normal
from torch import Tensor

from lightning_infoplane import (
    Bandwidth,
    Estimator,
    Fixed,
    InformationPlane,
    Jackknife,
    Lanczos,
    MedianDistance,
    gram,
    mutual_information,
)
from lightning_infoplane.measurement.columns import Columns
from lightning_infoplane.measurement.entropies import Grams
from lightning_infoplane.measurement.quantities import DPI_XT, H_T, I_XT, TOTAL_CORRELATION
from lightning_infoplane.measurement.rows import Pair, Place
from lightning_infoplane.measurement.uncertainty import jackknife, jackknife_error, with_errors

# --------------------------------------------------------------------------------------------------- arithmetic


@pytest.mark.parametrize("groups", [2, 5, 40])
def test_of_means_it_is_the_standard_error_of_the_mean(groups: int) -> None:
    """Leaving each of n numbers out of their mean: s / √n, exactly."""
    numbers = normal(groups, 3)
    left_out = (numbers.sum(0) - numbers) / (groups - 1)
    assert_bits(jackknife_error(left_out), numbers.std(0) / groups**0.5, 1e-12)


def test_of_values_that_agree_it_is_zero() -> None:
    assert jackknife_error(torch.full((8, 2), 1.5)).tolist() == [0, 0]


def of_parts(grams: Grams, groups: int, seed: int = 0) -> tuple[Columns, list[Grams]]:
    """Standard errors of the number of samples, and the parts that were measured."""
    parts: list[Grams] = []

    def columns_of(part: Grams) -> Columns:
        parts.append(part)
        size = torch.tensor([float(len(part.input))])
        return {I_XT: size, TOTAL_CORRELATION: size}

    return jackknife(grams, groups, seed, columns_of), parts


def samples_of(part: Grams) -> set[int]:
    """Which samples of the whole moment are left: its labels are their numbers."""
    assert part.labels is not None
    return set(part.labels.tolist())


def test_every_sample_is_left_out_once_in_groups_of_one_size() -> None:
    whole = moment()._replace(labels=torch.arange(24))
    _, parts = of_parts(whole, groups=5)
    left_out = [set(range(24)) - samples_of(part) for part in parts]
    assert sorted(map(len, left_out)) == [4, 5, 5, 5, 5]
    assert sorted(sample for group in left_out for sample in group) == list(range(24))


def test_groups_are_drawn_by_the_seed_alone() -> None:
    whole = moment()._replace(labels=torch.arange(24))
    with assert_leaves_random_state():
        first = [samples_of(part) for part in of_parts(whole, 4)[1]]
    torch.manual_seed(7)
    assert [samples_of(part) for part in of_parts(whole, 4)[1]] == first
    assert [samples_of(part) for part in of_parts(whole, 4, seed=1)[1]] != first


def test_there_are_no_more_groups_than_samples() -> None:
    errors, parts = of_parts(moment(n=9), groups=50)
    assert [len(part.input) for part in parts] == [8] * 9
    assert errors[I_XT].tolist() == [0]


def test_only_quantities_with_a_standard_error_get_one() -> None:
    errors, _ = of_parts(moment(), groups=3)
    assert list(errors) == [I_XT]


def test_errors_of_the_probe_and_of_the_solver_add_in_squares() -> None:
    values = {I_XT: torch.tensor([2.0]), I_XT.error: torch.tensor([3.0]), H_T: torch.tensor([5.0])}
    both = with_errors(values, {I_XT: torch.tensor([4.0])})
    assert {quantity: float(column) for quantity, column in both.items()} == {I_XT: 2.0, I_XT.error: 5.0, H_T: 5.0}
    assert float(values[I_XT.error]) == 3.0  # the table that was given is left alone


# --------------------------------------------------------------------------------------------- in a measurement


def resampled(groups: int, **options: Any) -> Table:
    return measured(THREE, standard_errors=Jackknife(groups), **options)


def test_standard_errors_are_rows_beside_their_quantities() -> None:
    found, plain = resampled(6), measured(THREE)
    names = {quantity for _, quantity in found}
    assert {"H_T_stderr", "I_XT_stderr", "I_TY_stderr", "DPI_XT_stderr", "DPI_TY_stderr"} <= names
    assert list(gaps(found, "DPI_XT_stderr")) == between("ab", "bc")
    without = {key: value for key, value in found.items() if not key[1].endswith(("_stderr", "_violations"))}
    assert without == {key: value for key, value in plain.items() if not key[1].endswith("_violations")}


def test_without_it_an_exact_solver_has_no_error_rows() -> None:
    assert not [quantity for _, quantity in measured(THREE) if quantity.endswith("_stderr")]


def test_it_is_the_scatter_of_measurements_with_one_group_left_out() -> None:
    """With fixed bandwidths, leaving samples out of the matrices is leaving them out of the probe."""
    x, layer, rule = normal(24, 3), THREE["a"], Fixed(1.0)
    group = torch.randperm(24, generator=torch.Generator().manual_seed(0)) % 4
    parts = [(gram(x[group != g], rule), gram(layer[group != g], rule)) for g in range(4)]
    values = torch.stack([mutual_information(*part) for part in parts])
    expected = (values.var(correction=0) * 4 * 3 / 4).sqrt()
    assert resampled(4, bandwidth=rule)["a", "I_XT_stderr"] == pytest.approx(float(expected), abs=EXACT)


def test_of_a_gap_it_is_the_scatter_of_the_gap_not_of_its_ends() -> None:
    """What both ends share, first of all X, goes up and down with both."""
    x, rule = normal(24, 3), Fixed(1.0)
    group = torch.randperm(24, generator=torch.Generator().manual_seed(0)) % 4

    def information(layer: str, left_out: int) -> Tensor:
        keep = group != left_out
        return mutual_information(gram(x[keep], rule), gram(THREE[layer][keep], rule))

    values = torch.stack([information("a", g) - information("b", g) for g in range(4)])
    expected = (values.var(correction=0) * 4 * 3 / 4).sqrt()
    found = resampled(4, bandwidth=rule)
    assert found[Pair("a", "b"), DPI_XT.error.key] == pytest.approx(float(expected), abs=EXACT)


def test_more_groups_than_samples_leave_out_one_sample_each() -> None:
    small = {name: layer[:9] for name, layer in THREE.items()}
    many, nine = (measured(small, standard_errors=Jackknife(groups)) for groups in (50, 9))
    assert many == pytest.approx(nine, abs=EXACT)


def test_groups_are_the_same_at_every_measurement_and_the_seed_chooses_them() -> None:
    with assert_leaves_random_state():
        found = resampled(4)
    torch.manual_seed(3)
    assert resampled(4) == found
    assert resampled(4, seed=1)["a", "I_XT_stderr"] != found["a", "I_XT_stderr"]


@cache
def errors_over_scatter(rule: Bandwidth) -> Table:
    """Root mean square of the standard errors of 60 independent probes of 64 samples, over their scatter."""
    tables = []
    for seed in range(0, 180, 3):
        x, noise, more = (normal(64, 2, seed=seed + k) for k in range(3))
        layers = {"near": (x + 0.3 * noise).tanh(), "far": (x + noise + more).tanh()}
        plane = InformationPlane(Estimator(bandwidth=rule, shuffles=0, standard_errors=Jackknife(8)))
        tables.append(table(plane.measure(x, None, layers)))
    column = {key: torch.tensor([one[key] for one in tables], dtype=torch.float64) for key in tables[0]}
    return {
        (place, quantity): float(column[place, f"{quantity}_stderr"].square().mean().sqrt() / values.std())
        for (place, quantity), values in column.items()
        if (place, f"{quantity}_stderr") in column
    }


SCATTER: list[tuple[Place, str]] = [
    *(("near", "H_T"), ("far", "H_T"), ("near", "I_XT"), ("far", "I_XT"), (Pair("near", "far"), "DPI_XT"))
]


@pytest.mark.parametrize(("place", "quantity"), SCATTER)
def test_at_a_fixed_bandwidth_it_is_the_scatter_over_independent_probes(place: Place, quantity: str) -> None:
    assert 1 / 1.35 < errors_over_scatter(Fixed(1.0))[place, quantity] < 1.35


@pytest.mark.parametrize(("place", "quantity"), SCATTER)
def test_where_the_bandwidth_follows_the_samples_it_is_never_too_small(place: Place, quantity: str) -> None:
    """The rule takes part of the scatter back, and a group left out does not show it; for gaps it hardly matters."""
    ratio = errors_over_scatter(MedianDistance())[place, quantity]
    assert 1 / 1.35 < ratio < (3.5 if (place, quantity) == ("near", "I_XT") else 1.35)


def test_samples_that_are_all_alike_have_no_error() -> None:
    alike = {name: torch.ones(24, 3, 2) for name in "ab"}
    classes = torch.zeros(24, dtype=torch.long)
    found = measure(torch.ones(24, 5), classes, alike, shuffles=0, standard_errors=Jackknife(4))
    errors = {key: value for key, value in found.items() if key[1].endswith("_stderr")}
    assert {quantity for _, quantity in errors} == {
        *("H_T_stderr", "I_XT_stderr", "I_TY_stderr", "DPI_XT_stderr", "DPI_TY_stderr")
    }
    assert errors == pytest.approx(dict.fromkeys(errors, 0.0), abs=1e-12)


def test_the_error_of_an_approximate_solver_adds_to_that_of_the_probe() -> None:
    solver = Lanczos(steps=8, vectors=4)
    alone, both = measured(THREE, solver=solver), resampled(4, solver=solver)
    assert alone["a", "H_T_stderr"] > 0
    assert both["a", "H_T_stderr"] > alone["a", "H_T_stderr"]


def test_the_jackknife_gives_every_quantity_an_error_that_shrinks_with_the_probe() -> None:
    def errors(n: int) -> Table:
        x = normal(n, 2)
        return measure(x, None, {"t": x + normal(n, 2, seed=1)}, standard_errors=Jackknife(8))

    small, large = errors(40), errors(640)
    assert 0 < large["t", "I_XT_stderr"] < small["t", "I_XT_stderr"] < 1
