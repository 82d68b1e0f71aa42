"""Standard errors over the probe: their arithmetic, Student's test, and that they are the scatter over probes."""

import math
from collections.abc import Callable
from functools import cache
from typing import Any

import pytest
import torch
from measurement.moments import THREE, Table, between, gaps, measure, measured, table
from properties import EXACT, assert_bits, assert_leaves_random_state, normal
from torch import Tensor

from lightning_infoplane import (
    Estimator,
    Fixed,
    InformationPlane,
    Jackknife,
    Lanczos,
    MedianDistance,
    class_gram,
    gram,
    joint_gram,
    mutual_information,
    renyi_entropy,
)
from lightning_infoplane.estimator.grams import reordered
from lightning_infoplane.measurement.columns import Columns
from lightning_infoplane.measurement.division import Part, divide
from lightning_infoplane.measurement.quantities import DPI_AMI_XT, DPI_XT, H_T, I_XT, TOTAL_CORRELATION
from lightning_infoplane.measurement.rows import Pair, Place
from lightning_infoplane.measurement.uncertainty import (
    block_error,
    jackknife_error,
    scatter,
    student_tail,
    with_errors,
    with_tests,
)

FLOAT32_SPECTRA = 1e-4
N = 96
X, CLASSES = normal(N, 3), torch.arange(N) % 3
LAYERS = {name: X + level * normal(N, 3, seed=7 + k) for k, (name, level) in enumerate([("a", 0.3), ("b", 1.0)])}
BLOCKS = pytest.mark.parametrize("how", ["blocks", Jackknife(6)], ids=["blocks", "jackknife"])
ERRORS: dict[Any, Callable[[Tensor], Tensor]] = {"blocks": block_error, Jackknife(6): jackknife_error}

# --------------------------------------------------------------------------------------------------------- arithmetic


@pytest.mark.parametrize("groups", [2, 5, 40])
def test_a_jackknife_of_means_is_the_standard_error_of_the_mean(groups: int) -> None:
    """Leaving each of n numbers out of their mean: s / √n, exactly."""
    values = normal(groups, 3)
    left_out = (values.sum(0) - values) / (groups - 1)
    assert_bits(jackknife_error(left_out), values.std(0) / groups**0.5, 1e-12)


@pytest.mark.parametrize("blocks", [2, 4, 8])
def test_of_means_of_blocks_it_is_the_standard_error_of_their_mean(blocks: int) -> None:
    values = normal(blocks, 3)
    assert_bits(block_error(values), values.std(0) / math.sqrt(blocks), 1e-12)


@pytest.mark.parametrize("error", [block_error, jackknife_error])
def test_of_values_that_agree_it_is_zero(error: Callable[[Tensor], Tensor]) -> None:
    assert error(torch.full((8, 2), 1.5)).tolist() == [0, 0]


@pytest.mark.parametrize("error", [block_error, jackknife_error])
def test_it_does_not_depend_on_their_level_and_grows_with_their_scatter(error: Callable[[Tensor], Tensor]) -> None:
    values = normal(8, 3)
    assert_bits(error(values + 7), error(values), 1e-12)
    assert_bits(error(3 * values), 3 * error(values), 1e-12)


@pytest.mark.parametrize("error", [block_error, jackknife_error])
def test_of_no_values_there_are_no_errors(error: Callable[[Tensor], Tensor]) -> None:
    """One layer has no gap."""
    assert error(torch.empty(8, 0)).shape == (0,)


def test_blocks_err_more_than_a_jackknife_of_the_same_numbers_could() -> None:
    """Parts without a tenth differ little and count much; blocks differ much and are averaged."""
    values = normal(5, 1)
    assert_bits(jackknife_error(values), 4 * block_error(values), 1e-12)  # (G - 1) times


# ----------------------------------------------------------------------------------------------------- of many parts


def parts_of(*values: float) -> list[Columns]:
    return [{I_XT: torch.tensor([value, 1.0]), TOTAL_CORRELATION: torch.tensor([value, 1.0])} for value in values]


def test_only_quantities_with_a_standard_error_get_one() -> None:
    assert list(scatter(parts_of(1.0, 3.0), are_blocks=True)) == [I_XT]


def test_the_scatter_is_that_of_blocks_or_of_a_jackknife() -> None:
    parts = parts_of(1.0, 3.0, 5.0)
    assert scatter(parts, are_blocks=True)[I_XT].tolist() == pytest.approx([2 / math.sqrt(3), 0])
    assert scatter(parts, are_blocks=False)[I_XT].tolist() == pytest.approx([math.sqrt(8 * 2 / 3), 0])


@pytest.mark.parametrize("are_blocks", [True, False])
def test_where_a_part_has_no_value_there_is_no_error(are_blocks: bool) -> None:
    """Rather than the error of those that happen to have one."""
    assert scatter(parts_of(1.0, math.nan, 3.0), are_blocks)[I_XT].isnan().tolist() == [True, False]


def test_without_parts_there_is_no_scatter() -> None:
    assert scatter([], are_blocks=True) == {}


def test_errors_of_the_probe_and_of_the_solver_add_in_squares() -> None:
    values = {I_XT: torch.tensor([2.0]), I_XT.error: torch.tensor([3.0]), H_T: torch.tensor([5.0])}
    both = with_errors(values, {I_XT: torch.tensor([4.0])})
    assert {quantity: float(column) for quantity, column in both.items()} == {I_XT: 2.0, I_XT.error: 5.0, H_T: 5.0}
    assert float(values[I_XT.error]) == 3.0  # the table that was given is left alone


# ------------------------------------------------------------------------------------------------ Student's test


def tail(statistic: float, degrees: int) -> float:
    return float(student_tail(torch.tensor(statistic, dtype=torch.float64), degrees))


# Critical values that are exceeded with these chances, as printed in every textbook.
CHANCES = (0.05, 0.025, 0.01, 0.005, 0.0005)
CRITICAL = {
    1: (6.314, 12.706, 31.821, 63.657, 636.619),
    2: (2.920, 4.303, 6.965, 9.925, 31.599),
    3: (2.353, 3.182, 4.541, 5.841, 12.924),
    4: (2.132, 2.776, 3.747, 4.604, 8.610),
    5: (2.015, 2.571, 3.365, 4.032, 6.869),
    7: (1.895, 2.365, 2.998, 3.499, 5.408),
    8: (1.860, 2.306, 2.896, 3.355, 5.041),
    9: (1.833, 2.262, 2.821, 3.250, 4.781),
    15: (1.753, 2.131, 2.602, 2.947, 4.073),
    30: (1.697, 2.042, 2.457, 2.750, 3.646),
    100: (1.660, 1.984, 2.364, 2.626, 3.390),
}


@pytest.mark.parametrize("degrees", CRITICAL, ids="{} degrees".format)
def test_the_tail_is_that_of_the_tables(degrees: int) -> None:
    assert [tail(value, degrees) for value in CRITICAL[degrees]] == pytest.approx(CHANCES, rel=2e-3)


@pytest.mark.parametrize("degrees", range(1, 31))
def test_the_tail_begins_at_one_half_and_only_falls(degrees: int) -> None:
    found = student_tail(torch.linspace(0, 8, 200, dtype=torch.float64), degrees)
    assert float(found[0]) == pytest.approx(0.5, abs=1e-15)
    assert bool((found.diff() < 0).all())


@pytest.mark.parametrize("degrees", [1, 2, 3, 4, 7, 9, 30])
def test_the_tail_is_the_integral_of_the_density(degrees: int) -> None:
    """From 1 to 2, by Simpson's rule."""
    points = torch.linspace(1, 2, 101, dtype=torch.float64)
    constant = math.exp(math.lgamma((degrees + 1) / 2) - math.lgamma(degrees / 2)) / math.sqrt(degrees * math.pi)
    density = constant * (1 + points.square() / degrees) ** (-(degrees + 1) / 2)
    weights = torch.tensor([1.0, *[4.0, 2.0] * 49, 4.0, 1.0], dtype=torch.float64)
    assert tail(1, degrees) - tail(2, degrees) == pytest.approx(float((weights * density).sum()) / 300, abs=1e-9)


def test_one_degree_is_cauchys_and_two_have_a_root() -> None:
    for statistic in (0.1, 1.0, 3.0, 50.0):
        assert tail(statistic, 1) == pytest.approx(0.5 - math.atan(statistic) / math.pi, abs=1e-15)
        root = statistic / math.sqrt(2 + statistic**2)
        assert tail(statistic, 2) == pytest.approx((1 - root) / 2, abs=1e-15)


def test_many_degrees_are_nearly_normal() -> None:
    for statistic in (0.5, 1.0, 2.0, 3.0):
        assert tail(statistic, 1000) == pytest.approx(math.erfc(statistic / math.sqrt(2)) / 2, rel=0.03)


@pytest.mark.parametrize("degrees", [1, 2, 3, 4, 7, 8, 9, 19, 20])
def test_a_p_value_is_never_negative(degrees: int) -> None:
    statistics = torch.cat([torch.linspace(0, 100, 2001), torch.logspace(2, 30, 500), torch.tensor([math.inf])])
    found = student_tail(statistics.double(), degrees)
    assert float(found.min()) >= 0
    assert float(found[-1]) == pytest.approx(0, abs=1e-15)


def test_the_tail_is_elementwise_and_keeps_nan() -> None:
    statistics = torch.tensor([[0.0, 1.0], [math.nan, 3.0]], dtype=torch.float64)
    found = student_tail(statistics, 7)
    assert found.shape == (2, 2)
    assert float(found[0, 1]) == tail(1, 7)
    assert bool(found[1, 0].isnan())


def test_p_values_of_student_are_uniform_where_nothing_differs() -> None:
    draws: Tensor = torch.randn(4000, 5, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    statistics = draws.mean(-1).abs() / (draws.std(-1) / math.sqrt(5))
    found = student_tail(statistics, degrees=4)
    for level in (0.05, 0.1, 0.25, 0.4):
        assert float((found < level).double().mean()) == pytest.approx(2 * level, abs=0.025)


def gap_table(values: list[float], errors: list[float]) -> Columns:
    return {
        DPI_AMI_XT: torch.tensor(values, dtype=torch.float64),
        DPI_AMI_XT.error: torch.tensor(errors, dtype=torch.float64),
    }


@pytest.mark.parametrize("degrees", [3, 7, 9])
def test_a_gaps_p_value_is_students_on_the_side_where_it_is(degrees: int) -> None:
    table = with_tests(gap_table([-0.2, 0.2, 0.1, 0.0], [0.1, 0.1, 0.2, 0.1]), degrees)
    expected = student_tail(torch.tensor([2.0, 2.0, 0.5, 0.0], dtype=torch.float64), degrees)
    assert_bits(table[DPI_AMI_XT.p_value], expected, 1e-12)


def test_a_gap_without_a_value_has_no_p_value() -> None:
    assert with_tests(gap_table([math.nan], [0.1]), 7)[DPI_AMI_XT.p_value].isnan().tolist() == [True]


def test_a_gap_whose_error_is_not_known_has_no_p_value() -> None:
    """Where a part of the probe has no value, there is no evidence: neither a half nor anything else."""
    assert with_tests(gap_table([0.3, 0.3], [math.nan, 0.1]), 7)[DPI_AMI_XT.p_value].isnan().tolist() == [True, False]


def test_a_gap_without_any_scatter_is_no_evidence() -> None:
    """Layers whose parts are all alike, to the last digit: constants, or copies of one another."""
    assert with_tests(gap_table([0.0, 1e-9], [0.0, 0.0]), 7)[DPI_AMI_XT.p_value].tolist() == [0.5, 0.5]


def test_the_table_that_was_given_is_left_alone() -> None:
    table = gap_table([0.1], [0.1])
    with_tests(table, 7)
    assert list(table) == [DPI_AMI_XT, DPI_AMI_XT.error]


# --------------------------------------------------------------------------------------------------- in a measurement


def resampled(how: Any, **options: Any) -> Table:
    return measure(X, CLASSES, LAYERS, **{"standard_errors": how, "bandwidth": Fixed(1.5)} | options)


def parts(how: Any) -> list[Part]:
    return divide(N, CLASSES, Estimator(standard_errors=how)).parts


def grams_of(part: Part, layer: str) -> tuple[Tensor, Tensor, Tensor]:
    """With fixed bandwidths, leaving samples out of the matrices is leaving them out of the probe."""
    assert part.keep is not None
    rule = Fixed(1.5)
    return gram(X[part.keep], rule), gram(LAYERS[layer][part.keep], rule), class_gram(CLASSES[part.keep])


def adjusted(a: Tensor, b: Tensor, orders: Tensor) -> Tensor:
    """Adjusted information by its definition, with given shuffles."""

    def excess(one: Tensor, other: Tensor) -> Tensor:
        mixed = [renyi_entropy(joint_gram(one, reordered(other, order))) for order in orders]
        return torch.stack(mixed).mean() - renyi_entropy(joint_gram(one, other))

    return excess(a, b) / (excess(a, a) * excess(b, b)).sqrt()


@BLOCKS
def test_standard_errors_are_rows_beside_their_quantities(how: Any) -> None:
    found, plain = resampled(how), resampled(None)
    names = {quantity for _, quantity in found}
    assert names >= {f"{one}_stderr" for one in ("AMI_XT", "AMI_TY", "I_XT", "I_TY", "H_T", "CKA_XT", "CKA_TY")}
    assert names >= {f"{one}_stderr" for one in ("DPI_AMI_XT", "DPI_AMI_TY", "DPI_XT", "DPI_TY", "effective_rank")}
    assert list(gaps(found, "DPI_XT_stderr")) == between("ab")
    same = {"I_XT", "I_TY", "H_T", "H_X", "H_Y", "CKA_XT", "CKA_TY", "DPI_XT", "bandwidth", "AMI_XT_p", "log2_n"}
    for key in plain:
        if key[1] in same:  # beside errors, with spectra in float32
            assert found[key] == pytest.approx(plain[key], abs=FLOAT32_SPECTRA), key
        if key[1].startswith("AMI") and key[1][-2:] != "_p":  # shuffles inside groups are others than those of all
            assert found[key] == pytest.approx(plain[key], abs=0.05), key


def test_without_errors_there_are_no_rows_of_them() -> None:
    found = resampled(None)
    assert not [quantity for _, quantity in found if quantity.endswith("_stderr")]
    assert not [quantity for _, quantity in found if quantity.startswith("DPI") and quantity.endswith("_p")]
    assert not {("", "DPI_increases"), ("", "DPI_decreases")} & set(found)


@pytest.mark.parametrize("n", [24, 63])
def test_a_small_probe_is_not_divided_into_blocks(n: int) -> None:
    small = {name: layer[:n] for name, layer in LAYERS.items()}
    found = measure(X[:n], CLASSES[:n], small)
    assert found == measure(X[:n], CLASSES[:n], small, standard_errors=None)


@BLOCKS
def test_it_is_the_scatter_of_measurements_of_the_parts(how: Any) -> None:
    found = resampled(how)
    of_parts = [(part.orders, *grams_of(part, "a")) for part in parts(how)]
    values = {
        "H_T": torch.stack([renyi_entropy(t) for _, _, t, _ in of_parts]),
        "I_XT": torch.stack([mutual_information(x, t) for _, x, t, _ in of_parts]),
        "I_TY": torch.stack([mutual_information(t, y) for _, _, t, y in of_parts]),
        "AMI_XT": torch.stack([adjusted(t, x, orders) for orders, x, t, _ in of_parts]),
        "AMI_TY": torch.stack([adjusted(t, y, orders) for orders, _, t, y in of_parts]),
    }
    for quantity, value in values.items():
        expected = float(ERRORS[how](value))
        assert found["a", f"{quantity}_stderr"] == pytest.approx(expected, rel=0.01, abs=FLOAT32_SPECTRA), quantity


@BLOCKS
def test_of_a_gap_it_is_the_scatter_of_the_gap_not_of_its_ends(how: Any) -> None:
    """What both ends share, first of all X, goes up and down with both."""

    def information(part: Part, layer: str) -> Tensor:
        x, t, _ = grams_of(part, layer)
        return mutual_information(x, t)

    values = torch.stack([information(part, "a") - information(part, "b") for part in parts(how)])
    found = resampled(how)
    assert found[Pair("a", "b"), DPI_XT.error.key] == pytest.approx(float(ERRORS[how](values)), abs=FLOAT32_SPECTRA)
    ends = math.hypot(found["a", "I_XT_stderr"], found["b", "I_XT_stderr"])
    assert abs(found[Pair("a", "b"), DPI_XT.error.key] - ends) > 0.1 * ends


@BLOCKS
def test_the_p_value_of_a_gap_is_students_with_a_part_less_of_freedom(how: Any) -> None:
    found = resampled(how)
    for quantity in ("DPI_AMI_XT", "DPI_AMI_TY", "DPI_XT", "DPI_TY"):
        gap, error, p = (found[Pair("a", "b"), f"{quantity}{ending}"] for ending in ("", "_stderr", "_p"))
        expected = student_tail(torch.tensor(abs(gap) / error, dtype=torch.float64), len(parts(how)) - 1)
        assert p == pytest.approx(float(expected), rel=1e-9)


def test_more_groups_than_half_of_the_samples_are_half_of_them() -> None:
    small = {name: layer[:9] for name, layer in THREE.items()}
    many, four = (measured(small, standard_errors=Jackknife(groups)) for groups in (50, 4))
    assert many == pytest.approx(four, abs=EXACT)


@BLOCKS
def test_parts_are_the_same_at_every_measurement_and_the_seed_chooses_them(how: Any) -> None:
    with assert_leaves_random_state():
        found = resampled(how)
    torch.manual_seed(3)
    assert resampled(how) == found
    assert resampled(how, seed=1)["a", "I_XT_stderr"] != found["a", "I_XT_stderr"]


@BLOCKS
def test_samples_that_are_all_alike_have_no_error(how: Any) -> None:
    alike = {name: torch.ones(N, 3, 2) for name in "ab"}
    found = measure(torch.ones(N, 5), torch.zeros(N).long(), alike, standard_errors=how)
    errors = {key: value for key, value in found.items() if key[1].endswith("_stderr")}
    assert {quantity for _, quantity in errors} == {
        *("H_T_stderr", "I_XT_stderr", "I_TY_stderr", "DPI_XT_stderr", "DPI_TY_stderr", "effective_rank_stderr")
    }
    assert errors == pytest.approx(dict.fromkeys(errors, 0.0), abs=1e-6)


def test_the_error_of_an_approximate_solver_adds_to_that_of_the_probe() -> None:
    solver = Lanczos(steps=8, vectors=4)
    alone, both = (measured(THREE, solver=solver, standard_errors=how) for how in (None, Jackknife(4)))
    assert alone["a", "H_T_stderr"] > 0
    assert both["a", "H_T_stderr"] > alone["a", "H_T_stderr"]


@BLOCKS
def test_every_error_shrinks_with_the_probe(how: Any) -> None:
    def errors(n: int) -> Table:
        x = normal(n, 2)
        return measure(x, None, {"t": x + normal(n, 2, seed=1), "u": x}, standard_errors=how, alpha=2)

    small, large = errors(64), errors(640)
    for quantity in ("I_XT_stderr", "AMI_XT_stderr", "CKA_XT_stderr"):
        assert 0 < large["t", quantity] < small["t", quantity] < 1


def test_blocks_and_jackknife_tell_of_the_same_error() -> None:
    """One number each, so within a factor of two and a half."""
    x = normal(256, 3)
    layers = {"t": (x + 0.5 * normal(256, 3, seed=1)).tanh(), "u": x}
    one, other = (measure(x, None, layers, standard_errors=how) for how in ("blocks", Jackknife(10)))
    assert 0.4 < one["t", "AMI_XT_stderr"] / other["t", "AMI_XT_stderr"] < 2.5


# ------------------------------------------------------------------------------------------- over independent probes


def probe(seed: int, n: int = 256) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
    """One of many alike: an input, four classes of it, as many of each, and two layers that see it through noise.

    Groups hold each class in its share, so an error is that of a probe with these shares of the classes.
    """
    x, noise, more = (normal(rows, 3, seed=10 * seed + k) for k, rows in enumerate((3 * n, n, n)))
    classes = (x[:, 0] > 0).long() + 2 * (x[:, 1] > 0).long()
    x = torch.cat([x[classes == label][: n // 4] for label in range(4)])
    return x, torch.arange(4).repeat_interleave(n // 4), {"near": (x + 0.3 * noise).tanh(), "far": (x + more).tanh()}


@cache
def errors_over_scatter(how: Any, rule: Any, alpha: float) -> Table:
    """Root mean square of the standard errors of 40 independent probes, over their scatter."""
    estimator = Estimator(alpha=alpha, bandwidth=rule, standard_errors=how)
    tables = [table(InformationPlane(estimator).measure(*probe(seed))) for seed in range(200, 240)]
    column = {key: torch.tensor([one[key] for one in tables], dtype=torch.float64) for key in tables[0]}
    return {
        (place, quantity): float(column[place, f"{quantity}_stderr"].square().mean().sqrt() / values.std())
        for (place, quantity), values in column.items()
        if (place, f"{quantity}_stderr") in column
    }


ADJUSTED: list[tuple[Place, str]] = [
    *(("near", "AMI_XT"), ("far", "AMI_XT"), ("near", "AMI_TY"), ("far", "AMI_TY")),
    *((Pair("near", "far"), "DPI_AMI_XT"), (Pair("near", "far"), "DPI_AMI_TY")),
]
BITS: list[tuple[Place, str]] = [
    *(("near", "H_T"), ("far", "H_T"), ("near", "I_XT"), ("far", "I_XT"), ("near", "I_TY"), ("far", "I_TY")),
    *(("near", "CKA_XT"), ("far", "CKA_XT"), (Pair("near", "far"), "DPI_XT")),
]


@pytest.mark.parametrize(("place", "quantity"), ADJUSTED, ids=str)
@pytest.mark.parametrize(
    ("how", "alpha"), [("blocks", 1.01), (Jackknife(10), 2)], ids=["blocks", "jackknife at order two"]
)
def test_it_is_the_scatter_over_independent_probes(how: Any, alpha: float, place: Place, quantity: str) -> None:
    assert 0.8 < errors_over_scatter(how, MedianDistance(), alpha)[place, quantity] < 2.0


@pytest.mark.parametrize(("place", "quantity"), BITS, ids=str)
@pytest.mark.parametrize(
    ("how", "alpha"), [("blocks", 1.01), (Jackknife(10), 2)], ids=["blocks", "jackknife at order two"]
)
def test_so_it_is_for_bits_and_alignments(how: Any, alpha: float, place: Place, quantity: str) -> None:
    """The rule takes back most of their scatter, and each part has to have a bandwidth of its own to show it."""
    assert 0.6 < errors_over_scatter(how, MedianDistance(), alpha)[place, quantity] < 2.0


@pytest.mark.parametrize(("place", "quantity"), [*ADJUSTED, *BITS], ids=str)
def test_at_a_fixed_bandwidth_it_is_the_scatter_as_well(place: Place, quantity: str) -> None:
    assert 0.7 < errors_over_scatter("blocks", Fixed(1.5), 2)[place, quantity] < 2.0


@BLOCKS
def test_a_layer_and_its_rotated_copy_have_errors_and_their_gap_has_none(how: Any) -> None:
    """Both go up and down together."""
    noisy = X + 0.5 * normal(N, 3, seed=3)
    copies = {"a": noisy, "b": 3 * noisy @ torch.linalg.qr(normal(3, 3)).Q}
    found = measure(X, CLASSES, copies, standard_errors=how)
    pair = Pair("a", "b")
    for quantity in ("AMI_XT", "AMI_TY", "I_XT"):
        gap = f"DPI_{quantity.removeprefix('I_')}"
        assert found["a", f"{quantity}_stderr"] > 0.003
        assert found[pair, gap] == pytest.approx(0, abs=FLOAT32_SPECTRA)
        assert found[pair, f"{gap}_stderr"] == pytest.approx(0, abs=FLOAT32_SPECTRA)
    assert found["", "DPI_increases"] == found["", "DPI_decreases"] == 0
