"""What a row is logged under can be read back, and what is logged by default."""

import os
import posixpath
import re
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lightning_infoplane import Row
from lightning_infoplane.measurement.keys import Key, file_name, key_of, key_prefix, log_key, logged_rows, read_key
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
        ("mine", "val", "H_T", "conv", "mine/val/H_T/conv"),
        ("my run: ", "", "H_T", "σ(1)", "my_run__--827f29c8/H_T/__1_--20287a08"),
        ("mine+", "val", "DPI_XT_stderr", Pair("a b", "c"), "mine_--1c26a62f/val/DPI_XT_stderr/a_b--c8687a08-to-c"),
    ],
)
def test_keys(prefix: str, probe: str, quantity: str, place: Place, key: str) -> None:
    assert key_of(row(quantity, place, probe), prefix) == key


@pytest.mark.parametrize(
    ("parts", "key"),
    [
        (("I_XT", "conv"), "I_XT/conv"),
        (("", "H_X", ""), "H_X"),
        (("my run: ", "H_T", "σ(1)"), "my_run__--827f29c8/H_T/__1_--20287a08"),
        (("A-Z.a_z/09",), "A-Z.a_z/09"),
        (("a\nb\tc#d,e\"f'g",), "a_b_c_d_e_f_g--404ee173"),
        ((), ""),
    ],
)
def test_parts_are_joined_in_the_characters_that_every_logger_accepts(parts: tuple[str, ...], key: str) -> None:
    assert log_key(*parts) == key


ANY_NAME = st.text("ab:_-./ σ\n\0", min_size=1, max_size=6) | st.text(min_size=1)


@given(st.lists(ANY_NAME, min_size=2, max_size=8, unique=True))
def test_two_names_never_share_a_key_or_a_file(names: list[str]) -> None:
    keys = [log_key(name) for name in names]
    assert len(set(keys)) == len(names)
    assert len({file_name(key) for key in keys}) == len(names)


@given(st.lists(st.tuples(ANY_NAME, ANY_NAME) | st.just(("a", "b-to-c")), min_size=2, max_size=8, unique=True))
def test_two_pairs_never_share_a_key(pairs: list[tuple[str, str]]) -> None:
    rows = [row("DPI_XT", Pair(*pair)) for pair in [*pairs, ("a-to-b", "c")] if pair != ("a-to-b", "c")]
    assert len({key_of(one) for one in rows}) == len(rows)
    assert key_of(row("DPI_XT", Pair("a", "b-to-c"))) != key_of(row("DPI_XT", Pair("a-to-b", "c")))


@given(ANY_NAME)
def test_a_key_has_the_letters_that_loggers_accept_and_is_a_path_that_leads_down(name: str) -> None:
    key = key_of(row("I_XT", name))
    assert re.fullmatch("[A-Za-z0-9_./-]+", key)
    assert posixpath.normpath(key) == key
    assert not key.startswith(("/", ".."))
    assert log_key(name) == log_key(name)


@given(ANY_NAME | st.text("a", min_size=100, max_size=1000))
def test_a_file_name_is_one_file_in_its_folder(name: str) -> None:
    found = file_name(log_key(name))
    assert os.path.basename(found) == found
    assert found not in ("", ".", "..")
    assert len(os.fsencode(found)) <= 200


@pytest.mark.parametrize("name", ["conv1", "features.0", "blocks/0/conv", "A-Z.a_z/09", "a_b", ".hidden", "a--b"])
def test_a_clean_name_stays_as_it_is(name: str) -> None:
    assert log_key(name) == name


def test_names_that_look_alike_after_a_change_are_told_apart() -> None:
    names = ["a:b", "a b", "a_b", "a_b--6783a31e"]
    assert [log_key(name) for name in names] == [
        *("a_b--6783a31e", "a_b--c8687a08", "a_b"),
        "a_b--6783a31e--8367f930",  # a name like that of another one after its change
    ]


@pytest.mark.parametrize(
    ("prefix", "key"), [("", ""), ("mine", "mine/"), ("mine/", "mine/"), ("a/b", "a/b/"), ("x/../y/", "x_.._y--")]
)
def test_what_keys_begin_with_ends_in_a_slash(prefix: str, key: str) -> None:
    assert key_prefix(prefix).startswith(key)
    assert key_prefix(prefix)[-1:] in ("", "/")


PLACES: dict[Of, list[Place]] = {
    Of.PROBE: [""],
    Of.LAYER: ["conv1", "features.0", "a-to-b", "blocks/0", "train", "H_T", "I_XT/conv", "H_X"],
    Of.PAIR: [Pair("0", "2"), Pair("features.0", "features.3"), Pair("I_XT", "H_X"), Pair("val", "train")],
}


@every
def test_what_was_logged_can_be_read_back(quantity: Quantity) -> None:
    for prefix, probe, place in product(("", "mine/", "mine", "a.b/c/"), ("", "train", "val"), PLACES[quantity.of]):
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
        *("DPI_XT/-to-", "DPI_XT/a-to-", "DPI_XT/-to-b", "I_XT/a\nb"),  # no two layers, no name
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
