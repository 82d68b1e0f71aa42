"""One number with all that says what it is."""

import pickle

from lightning_infoplane import Row
from lightning_infoplane.measurement.rows import Pair


def test_a_pair_reads_as_in_a_key_and_has_a_direction() -> None:
    assert str(Pair("conv1", "conv2")) == "conv1-to-conv2"
    assert Pair("conv1", "conv2") != Pair("conv2", "conv1")


def test_two_pairs_that_read_alike_are_not_the_same() -> None:
    """A layer's name may hold what stands between two names."""
    assert str(Pair("a-to-b", "c")) == str(Pair("a", "b-to-c"))
    assert Pair("a-to-b", "c") != Pair("a", "b-to-c")


def test_a_row_is_a_plain_tuple_with_names() -> None:
    row = Row(1, 16, "val", Pair("a", "b"), "DPI_XT", 0.5)
    assert Row._fields == ("epoch", "step", "probe", "place", "quantity", "value")
    assert row == (1, 16, "val", ("a", "b"), "DPI_XT", 0.5)
    assert pickle.loads(pickle.dumps(row)) == row
    assert isinstance(pickle.loads(pickle.dumps(row)).place, Pair)
