"""Rows in order: layers by depth, moments by time, what is saturated when, and which gaps are changes."""

import math

import pytest
from histories import history

from lightning_infoplane import History, Row
from lightning_infoplane.measurement.evidence import Change
from lightning_infoplane.measurement.quantities import (
    AMI_TY,
    AMI_XT,
    BANDWIDTH,
    DPI_AMI_XT,
    DPI_XT,
    H_T,
    I_ERROR,
    I_TY,
    I_XT,
    LOG2_N,
    PLANES,
    by_key,
)
from lightning_infoplane.measurement.rows import Pair
from lightning_infoplane.views.series import Series, last_rows, probes_of, quantities_of

ADJUSTED, BITS = PLANES


def of_layer(epoch: int, layer: str = "a", value: float = 1.0, key: str = "I_XT", step: int | None = None) -> Row:
    return Row(epoch, epoch if step is None else step, "", layer, key, value)


def entropies(*values: float, limit: float = 10.0) -> Series:
    """One layer whose entropy has these values after epochs 0, 2, 4, ..."""
    rows = [Row(0, 0, "", "", "log2_n", limit)]
    return Series(rows + [of_layer(2 * i, value=value, key="H_T") for i, value in enumerate(values)], "")


def test_probes_are_those_of_the_rows_in_their_order() -> None:
    assert probes_of(history(["a"])) == [""]
    assert probes_of(history(["a"], probe="val") + history(["a"], probe="train")) == ["val", "train"]
    assert probes_of([]) == []


def test_a_history_is_read_by_column_as_its_rows_are_one_by_one() -> None:
    rows = history(["a", "b"], epochs=(0, 2, 1), probe="train") + history(["a"], epochs=range(2), probe="val")
    rows += [row._replace(value=7.0) for row in rows[:3]]  # said twice: the last word counts
    whole = History(rows)
    assert probes_of(whole) == probes_of(rows)
    assert quantities_of(whole) == quantities_of(rows)
    for probe in ("train", "val"):
        assert sorted(map(str, last_rows(whole, probe))) == sorted(map(str, last_rows(rows, probe)))
        value = {row[:5]: row.value for row in rows if row.probe == probe}
        series = Series(whole, probe)
        assert series.moments == sorted({key[:2] for key in value})
        assert {key: series.at(key[3], by_key(key[4]), key[:2]) for key in value} == value


def test_a_history_may_grow_while_its_series_are_looked_at() -> None:
    rows = History([of_layer(0, value=1.0)])
    series = Series(rows, "")
    rows.extend([of_layer(1, value=2.0)])
    assert series.values_of(I_XT) == [1.0]
    assert Series(rows, "").values_of(I_XT) == [1.0, 2.0]


def test_the_last_rows_are_those_of_the_probe_s_own_last_measurement() -> None:
    """The probes of a resumed run may have been measured at other times."""
    both = history(["a", "b"], epochs=range(3), probe="train") + history(["a"], epochs=range(2), probe="val")
    train, val = last_rows(both, "train"), last_rows(both, "val")
    assert {(row.epoch, row.step, row.probe) for row in train} == {(2, 34, "train")}
    assert {(row.epoch, row.step, row.probe) for row in val} == {(1, 17, "val")}
    assert val == [row for row in history(["a"], epochs=range(2), probe="val") if row.epoch == 1]


def test_within_an_epoch_the_step_says_which_is_last() -> None:
    rows = [of_layer(1, step=5, value=2.0), of_layer(1, step=3, value=1.0)]
    assert last_rows(rows, "") == rows[:1]


def test_layers_are_in_the_order_they_were_measured_in_and_a_late_one_is_last() -> None:
    rows = [of_layer(0, "z"), of_layer(0, "b"), of_layer(1, "a"), of_layer(1, "z")]
    series = Series(rows, "")
    assert series.layers == ["z", "b", "a"]
    assert series.layers_with(I_XT) == ["z", "b", "a"]


def test_a_layer_that_is_not_resolved_keeps_its_depth() -> None:
    """Rows of a measurement are in the order of the table of quantities, and of it nothing is known beyond chance."""
    rows = [of_layer(0, layer, key="AMI_XT") for layer in ("b", "c")]
    rows += [of_layer(0, layer, key=key) for key in ("I_XT", "H_T") for layer in ("a", "b", "c")]
    assert Series(rows, "").layers == ["a", "b", "c"]


def test_neither_pairs_nor_the_probe_are_layers() -> None:
    assert Series(history(["a", "b", "c"]), "").layers == ["a", "b", "c"]


def test_places_are_in_the_order_of_their_appearance() -> None:
    series = Series(history(["a", "b", "c"]), "")
    assert series.places_with(DPI_XT) == [Pair("a", "b"), Pair("b", "c")]
    assert series.places_with(I_ERROR) == ["a", "b"]
    with pytest.raises(ValueError, match=r"the rows hold no 'bandwidth'\. They hold I_XT\."):
        Series([of_layer(0)], "").places_with(BANDWIDTH)
    with pytest.raises(ValueError, match=r"the rows hold no 'I_XT'\. They hold nothing of this probe\."):
        Series([of_layer(0)], "val").places_with(I_XT)


def test_a_quantity_is_held_where_there_is_a_value_of_it() -> None:
    series = Series(history(["a", "b"], targets=False), "")
    assert series.holds(I_XT)
    assert series.holds(LOG2_N)
    assert not series.holds(I_TY)
    assert series.holds(AMI_XT)
    assert not series.holds(AMI_TY)
    assert not Series(history(["a", "b"], adjusted=False), "").holds(AMI_XT)


def test_rows_of_other_probes_do_not_count() -> None:
    both = history(["a"], probe="train") + history(["b"], probe="val")
    assert Series(both, "train").layers == ["a"]
    assert Series(both, "").layers == []


def test_moments_and_values_are_in_order_and_finite() -> None:
    series = Series([of_layer(2, value=3.0), of_layer(0, value=1.0), of_layer(1, value=math.nan)], "")
    assert series.moments_of(I_XT) == [(0, 0), (1, 1), (2, 2)]
    assert sorted(series.values_of(I_XT)) == [1.0, 3.0]
    assert series.at("a", I_XT, (2, 2)) == 3.0
    assert math.isnan(series.at("a", I_XT, (9, 9)))
    assert series.at("b", I_XT, (2, 2), otherwise=0.0) == 0.0


def test_a_curve_is_over_epochs_and_where_epochs_repeat_over_steps() -> None:
    x, y = Series([of_layer(3, step=30, value=2.0), of_layer(1, step=10)], "").curve("a", I_XT)
    assert (x.tolist(), y.tolist()) == ([1, 3], [1.0, 2.0])
    within = Series([of_layer(0, step=0), of_layer(0, step=4), of_layer(1, step=8)], "")
    assert within.by_step
    assert within.curve("a", I_XT)[0].tolist() == [0, 4, 8]


def test_a_curve_has_no_value_where_only_others_have_one() -> None:
    """A layer that is not resolved for a while; one that nobody measured at that time lost nothing."""
    rows = [of_layer(epoch, "a", key="AMI_XT") for epoch in (0, 1, 3)]
    rows += [of_layer(epoch, "b", value=0.5, key="AMI_XT") for epoch in (0, 3)]
    x, y = Series(rows, "").curve("b", AMI_XT)
    assert x.tolist() == [0, 1, 3]
    assert y.tolist() == pytest.approx([0.5, math.nan, 0.5], nan_ok=True)
    assert [math.isnan(value) for value in Series(rows, "").curve("c", AMI_XT)[1]] == [True] * 3


def test_a_path_has_the_moments_at_which_both_are_known() -> None:
    rows = [of_layer(epoch, value=float(epoch)) for epoch in range(3)]
    rows += [of_layer(epoch, value=10.0 + epoch, key="I_TY") for epoch in (2, 0)]
    assert Series(rows, "").path("a", BITS).tolist() == [[0.0, 10.0], [2.0, 12.0]]
    assert Series(rows, "").path("b", BITS).shape == (0, 2)
    assert Series(rows, "").path("a", ADJUSTED).shape == (0, 2)


def test_the_errors_of_a_path_are_those_of_its_points() -> None:
    rows = [of_layer(epoch, value=0.1 * epoch, key=key) for epoch in range(3) for key in ("AMI_XT", "AMI_TY")]
    rows += [of_layer(epoch, value=0.01 * epoch, key="AMI_XT_stderr") for epoch in range(3)]
    rows += [of_layer(2, value=0.03, key="AMI_TY_stderr")]
    series = Series(rows, "")
    across, up = series.errors_along("a", ADJUSTED).T.tolist()
    assert across == [0.0, 0.01, 0.02]
    assert up == pytest.approx([math.nan, math.nan, 0.03], nan_ok=True)
    assert series.errors_along("a", BITS).shape == (0, 2)
    assert len(series.errors_along("a", ADJUSTED)) == len(series.path("a", ADJUSTED))


def test_from_where_to_where_is_told_with_errors() -> None:
    rows = [of_layer(epoch, value=0.1 * epoch, key="AMI_TY") for epoch in (1, 3, 2)]
    rows += [of_layer(3, value=0.02, key="AMI_TY_stderr"), of_layer(2, value=0.9, key="AMI_TY_stderr")]
    first, last = Series(rows, "").first_and_last("a", AMI_TY)
    assert first == pytest.approx((0.1, math.nan), nan_ok=True)
    assert last == pytest.approx((0.3, 0.02))


def test_of_one_value_there_is_no_way_and_of_none_nothing() -> None:
    once = Series([of_layer(1, value=0.5, key="AMI_TY"), of_layer(1, value=0.1, key="AMI_TY_stderr")], "")
    assert once.first_and_last("a", AMI_TY) == [(0.5, 0.1)]
    assert once.first_and_last("a", AMI_XT) == []
    assert once.first_and_last("b", AMI_TY) == []


def test_a_layer_that_came_back_where_it_began_has_both_ends() -> None:
    rows = [of_layer(epoch, value=0.5, key="AMI_TY") for epoch in range(3)]
    assert len(Series(rows, "").first_and_last("a", AMI_TY)) == 2


def gaps(epoch: int, *cells: tuple[float, float | None]) -> list[Row]:
    """Gaps of a moment with their p-values, between a and b, b and c, and so on."""
    rows = []
    for first, (gap, p) in zip("abcdefg", cells, strict=False):
        pair = Pair(first, chr(ord(first) + 1))
        rows.append(Row(epoch, epoch, "", pair, "DPI_AMI_XT", gap))
        rows += [] if p is None else [Row(epoch, epoch, "", pair, "DPI_AMI_XT_p", p)]
    return rows


def test_changes_are_of_one_moment_and_of_the_pairs_that_have_a_gap() -> None:
    rows = gaps(0, (-0.2, 1e-4), (0.2, 1e-4), (0.2, 0.3)) + gaps(1, (0.2, 1e-4), (math.nan, 1e-9))
    series = Series(rows, "")
    assert series.changes(DPI_AMI_XT, (0, 0)) == {
        Pair("a", "b"): Change.INCREASE,
        Pair("b", "c"): Change.DECREASE,
        Pair("c", "d"): Change.UNDECIDED,
    }
    assert series.changes(DPI_AMI_XT, (1, 1)) == {Pair("a", "b"): Change.DECREASE}


def test_of_gaps_without_evidence_none_is_decided() -> None:
    series = Series(gaps(0, (-0.2, None), (0.2, None)), "")
    assert set(series.changes(DPI_AMI_XT, (0, 0)).values()) == {Change.UNDECIDED}


def test_changes_are_corrected_for_the_pairs_of_their_moment_alone() -> None:
    """Of two, p = .02 is significant; of three it is not: 3 × .02 is more than .05."""
    two = Series(gaps(0, (0.2, 0.02), (0.2, 0.02)) + gaps(1, *[(0.2, 0.9)] * 6), "")
    three = Series(gaps(0, (0.2, 0.02), (0.2, 0.02), (0.2, 0.02)), "")
    assert set(two.changes(DPI_AMI_XT, (0, 0)).values()) == {Change.DECREASE}
    assert set(three.changes(DPI_AMI_XT, (0, 0)).values()) == {Change.UNDECIDED}


@pytest.mark.parametrize(
    ("values", "stretches"),
    [
        ((1.0, 2.0, 3.0), []),
        ((9.6, 9.6, 3.0), [(0, 3)]),  # half way from epoch 2 to epoch 4
        ((1.0, 9.6, 1.0), [(1, 3)]),
        ((9.6, 1.0, 9.6), [(0, 1), (3, 4)]),
        ((9.6, 9.7, 9.8), [(0, 4)]),
        ((9.5, 9.5, 9.5), []),  # 95 % is not yet above 95 %
        ((9.6,), [(-0.3, 0.3)]),
        ((1.0,), []),
    ],
)
def test_a_saturated_stretch_ends_half_way_to_its_neighbour(values: tuple[float, ...], stretches: list[object]) -> None:
    assert [(float(a), float(b)) for a, b in entropies(*values).saturated("a")] == stretches


def test_without_log2_n_nothing_is_saturated() -> None:
    assert Series([of_layer(epoch, value=9.9, key=H_T.key) for epoch in range(3)], "").saturated("a") == []


def test_a_moment_in_words() -> None:
    by_epoch = Series([of_layer(0), of_layer(1)], "")
    assert [by_epoch.moment_label(moment) for moment in ((0, 0), (2, 34))] == ["before training", "after epoch 2"]
    by_step = Series([of_layer(0, step=0), of_layer(0, step=4)], "")
    assert [by_step.moment_label(moment) for moment in ((0, 0), (0, 4))] == ["step 0", "step 4"]
