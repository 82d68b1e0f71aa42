"""What a row is logged under can be read back, and what is logged by default."""

from itertools import product

import pytest

from lightning_infoplane import Row
from lightning_infoplane.measurement.keys import Key, key_of, log_key, logged_rows, read_key
from lightning_infoplane.measurement.quantities import QUANTITIES
from lightning_infoplane.measurement.quantity import Of, Quantity
from lightning_infoplane.measurement.rows import Pair, Place

EVERY = [one for quantity in QUANTITIES for one in (quantity, *quantity.derived)]
every = pytest.mark.parametrize("quantity", EVERY, ids=lambda quantity: quantity.key)


@every
def test_the_key_of_a_quantity_is_one_that_every_logger_accepts(quantity: Quantity) -> None:
    assert log_key(quantity.key) == quantity.key


def row(key: str, place: Place = "", probe: str = "", value: float = 1.0) -> Row:
    return Row(0, 0, probe, place, key, value)


@pytest.mark.parametrize(
    ("prefix", "probe", "quantity", "place", "key"),
    [
        ("", "", "I_XT", "encoder.0.conv", "I_XT/encoder.0.conv"),
        ("a/", "train", "I_XT", "conv", "a/train/I_XT/conv"),
        ("", "", "DPI_XT", Pair("a", "b"), "DPI_XT/a-to-b"),
        ("", "train", "DPI_AMI_XT_p", Pair("a", "b"), "train/DPI_AMI_XT_p/a-to-b"),
        ("", "", "DPI_increases", "", "DPI_increases"),
        ("", "", "H_X", "", "H_X"),
        ("", "val", "H_X", "", "val/H_X"),
        ("my run: ", "", "H_T", "σ(1)", "my_run__H_T/__1_"),
        ("mine+", "val", "DPI_XT_stderr", Pair("a b", "c"), "mine_val/DPI_XT_stderr/a_b-to-c"),
    ],
)
def test_keys(prefix: str, probe: str, quantity: str, place: Place, key: str) -> None:
    assert key_of(row(quantity, place, probe), prefix) == key


@pytest.mark.parametrize(
    ("parts", "key"),
    [
        (("I_XT", "conv"), "I_XT/conv"),
        (("", "H_X", ""), "H_X"),
        (("my run: ", "H_T", "σ(1)"), "my_run__/H_T/__1_"),
        (("A-Z.a_z/09",), "A-Z.a_z/09"),
        (("a\nb\tc#d,e\"f'g",), "a_b_c_d_e_f_g"),
        ((), ""),
    ],
)
def test_parts_are_joined_in_the_characters_that_every_logger_accepts(parts: tuple[str, ...], key: str) -> None:
    assert log_key(*parts) == key


PLACES: dict[Of, list[Place]] = {
    Of.PROBE: [""],
    Of.LAYER: ["conv1", "features.0", "a-to-b", "blocks/0", "train", "H_T", "I_XT/conv", "H_X"],
    Of.PAIR: [Pair("0", "2"), Pair("features.0", "features.3"), Pair("I_XT", "H_X"), Pair("val", "train")],
}


@every
def test_what_was_logged_can_be_read_back(quantity: Quantity) -> None:
    for prefix, probe, place in product(("", "mine/", "a.b/c/"), ("", "train", "val"), PLACES[quantity.of]):
        key = key_of(row(quantity.key, place, probe), prefix)
        found = read_key(key)
        assert found == Key(prefix.removesuffix("/"), probe, place, quantity.key), key
        assert found is not None
        assert type(found.place) is type(place)


@pytest.mark.parametrize(
    "key",
    [
        *("", "/", "epoch", "train_loss", "val/loss", "lr-SGD/momentum", "hp_metric", "GPU/0/memory"),
        *("I_XT", "train/I_XT", "DPI_XT", "I_XT/"),  # nothing without a layer
        *("H_X/conv", "val/log2_n/conv", "DPI_increases/a-to-b"),  # the probe has no layer
        *("my_I_XT/conv", "I_XTRA/conv", "i_xt/conv", "H_X_stderr"),
        *("I_XT_p/conv", "H_T_chance/conv", "DPI_XT_violations"),  # what does not belong to a quantity
    ],
)
def test_keys_of_others_are_not_read(key: str) -> None:
    assert read_key(key) is None


# -------------------------------------------------------------------------------------------------- what is logged


MORE = {"CKA_XT", "CKA_TY", "DPI_AMI_TY", "E_TT", "E_XX", "E_YY", "E_error", "effective_rank", "outlier"}


def test_the_main_quantities_are_logged_unless_all_were_asked_for() -> None:
    rows = [row(quantity.key) for quantity in EVERY]
    main, everything = ([one.quantity for one in logged_rows(rows, log)] for log in ("main", "all"))
    assert logged_rows(rows) == logged_rows(rows, "main")
    derived = {quantity.key for quantity in EVERY if quantity.base is not None}
    assert set(everything) - set(main) == derived | MORE | {"bandwidth", "bandwidth_error"}
    assert {quantity.key for quantity in EVERY} - set(everything) == {"log2_n"}
    assert main == [quantity.key for quantity in EVERY if quantity.key in main]  # in the order of the rows


def test_a_row_without_a_quantity_is_an_error_not_a_row_less() -> None:
    with pytest.raises(ValueError, match="'verdict' is no quantity"):
        logged_rows([row("verdict", "conv")])


def test_a_key_of_a_pair_names_two_layers() -> None:
    assert read_key("DPI_XT/conv1") is None
