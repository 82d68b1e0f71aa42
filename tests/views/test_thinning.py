"""Of a large run some layers and moments are drawn, of any other run everything."""

from itertools import pairwise

import pytest
from histories import history

from lightning_infoplane import History
from lightning_infoplane.measurement.rows import Pair
from lightning_infoplane.views.series import Series
from lightning_infoplane.views.thinning import MOST_LAYERS, MOST_MOMENTS, thinned


def run_of(layers: int, epochs: int) -> History:
    names = [f"features.{number}" for number in range(layers)]
    return History(history(names, range(epochs), errors=False, redundancy=False, stderr=False))


@pytest.mark.parametrize(("layers", "epochs"), [(2, 3), (MOST_LAYERS, 2), (1, MOST_MOMENTS)])
def test_a_run_that_can_be_drawn_is_drawn_whole(layers: int, epochs: int) -> None:
    rows = run_of(layers, epochs)
    assert thinned(rows, "").rows is rows
    assert thinned(rows, "").note == ""


def test_of_many_layers_those_evenly_spaced_in_depth_are_drawn() -> None:
    rows = run_of(100, 2)
    drawn = thinned(rows, "")
    kept = Series(drawn.rows, "").layers
    assert drawn.note == f"Drawn are {MOST_LAYERS} of 100 layers, evenly spaced."
    assert len(kept) == MOST_LAYERS
    assert (kept[0], kept[-1]) == ("features.0", "features.99")
    numbers = [int(name.split(".")[1]) for name in kept]
    assert {later - earlier for earlier, later in pairwise(numbers)} == {2, 3}
    assert list(drawn.rows) == [row for row in rows if isinstance(row.place, Pair) or row.place in {"", *kept}]


def test_of_many_measurements_those_evenly_spaced_are_drawn() -> None:
    rows = run_of(1, 300)
    drawn = thinned(rows, "")
    moments = Series(drawn.rows, "").moments
    assert drawn.note == f"Drawn are {MOST_MOMENTS} of 300 measurements, evenly spaced."
    assert len(moments) == MOST_MOMENTS
    assert (moments[0][0], moments[-1][0]) == (0, 299)
    assert list(drawn.rows) == [row for row in rows if (row.epoch, row.step) in moments]


def test_of_several_probes_one_is_drawn() -> None:
    names = [f"features.{number}" for number in range(60)]
    rows = [row for probe in ("train", "val") for row in history(names, range(2), probe=probe, errors=False)]
    assert {row.probe for row in thinned(rows, "val").rows} == {"val"}
