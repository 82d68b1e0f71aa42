"""One channel for what the user should know, one for layers that are left out, one for progress."""

import warnings

import pytest

from lightning_infoplane.arguments.errors import reason_of
from lightning_infoplane.measurement.failures import is_of_memory
from lightning_infoplane.measurement.listener import LeftOut, Listener, Notices, few


def test_each_thing_is_told_once() -> None:
    told: list[str] = []
    notices = Notices(told.append)
    for message in ("it is dead.", "it is dead.", "it is dead, still."):
        notices("conv1", message)
    notices("conv2", "it is dead.")
    assert told == ["it is dead.", "it is dead."]


def test_others_have_their_own_memory() -> None:
    told: list[str] = []
    for notices in (Notices(told.append), Notices(told.append)):
        notices("conv1", "it is dead.")
    assert len(told) == 2


def test_without_anybody_to_tell_a_notice_is_a_warning() -> None:
    with pytest.warns(UserWarning, match=r"^layer 'conv1' is dead\.$") as caught:
        Notices()("conv1", "layer 'conv1' is dead.")
    assert len(caught) == 1


def test_what_was_told_in_vain_is_not_told_again() -> None:
    """A warning that is an error ends the call it is raised in, once."""
    notices = Notices()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(UserWarning, match="it is dead"):
            notices("conv1", "it is dead.")
        notices("conv1", "it is dead.")


def test_a_listener_that_is_left_out_hears_everything_and_says_nothing() -> None:
    listener = Listener()
    assert listener.notice("conv1", "it is dead.") is None  # type: ignore[func-returns-value]
    assert listener.progress(3) is None
    assert listener.left_out("conv1", "it is dead") is None  # type: ignore[func-returns-value]


# ------------------------------------------------------------------------------------------- layers that are left out

NAN = "NaN or infinite values"


def gathered() -> tuple[LeftOut, list[str]]:
    told: list[str] = []
    return LeftOut(lambda about, message: told.append(message)), told


def test_where_nobody_gathers_each_layer_is_told_where_it_is_left_out() -> None:
    told: list[str] = []
    listener = Listener(Notices(told.append))
    for layer in ("a", "b", "a"):
        listener.left_out(layer, NAN)
    assert told == [f"layer 'a' is left out: {NAN}.", f"layer 'b' is left out: {NAN}."]


def test_nothing_is_told_before_the_end_of_the_measurement() -> None:
    left_out, told = gathered()
    left_out("a", NAN)
    assert told == []
    left_out.tell()
    assert told == [f"layer 'a' is left out: {NAN}."]
    left_out.tell()
    assert len(told) == 1


def test_a_sentence_a_reason_names_all_its_layers() -> None:
    left_out, told = gathered()
    for layer, why in {"a": NAN, "b": "never called", "c": NAN, "d": NAN}.items():
        left_out(layer, why)
    left_out.tell()
    assert told == [f"3 layers are left out: {NAN}: a, c, d.", "layer 'b' is left out: never called."]


def test_a_layer_is_told_once_a_reason_and_a_later_one_alone() -> None:
    left_out, told = gathered()
    for layers in ("ab", "ab", "abcd", "d"):
        for layer in layers:
            left_out(layer, NAN)
        left_out.tell()
    left_out("a", "never called")
    left_out.tell()
    assert told == [
        f"2 layers are left out: {NAN}: a, b.",
        f"2 layers are left out: {NAN}: c, d.",
        "layer 'a' is left out: never called.",
    ]


def test_of_two_hundred_layers_eight_are_named() -> None:
    left_out, told = gathered()
    for k in range(194):
        left_out(f"block{k}.conv", NAN)
    left_out.tell()
    (sentence,) = told
    assert sentence.startswith(f"194 layers are left out: {NAN}: block0.conv, ")
    assert sentence.endswith("block7.conv, … (194).")
    assert len(sentence) < 250


@pytest.mark.parametrize(
    "whys",
    [
        ["got (7, 3)", "got (8, 3)"],
        ["got (7, 3) of torch.float32", "got (512, 3, 4) of torch.float32"],
        ["got ()", "got (7,)"],
        ["ValueError: 3 maps.", "ValueError: 17 maps."],
        ["ValueError: <Net object at 0x7fa8bc>", "ValueError: <Net object at 0x5e11>"],
        ["ZeroDivisionError: 0.1 / 0", "ZeroDivisionError: -3.2e-05 / 0"],
    ],
)
def test_reasons_that_differ_in_numbers_alone_are_one(whys: list[str]) -> None:
    left_out, told = gathered()
    for layer, why in zip("ab", whys, strict=True):
        left_out(layer, why)
    left_out.tell()
    assert told == [f"2 layers are left out: {whys[0].rstrip('.')} in a, and the like in b."]


def test_reasons_that_differ_in_words_are_not_one() -> None:
    left_out, told = gathered()
    left_out("a", "got (7, 3) of torch.int64")
    left_out("b", "got (7, 3) of torch.bool")
    left_out.tell()
    assert len(told) == 2


def test_what_is_told_again_after_the_layers_have_changed_is_another_matter() -> None:
    """Who tells each thing once goes by what it is about."""
    told: list[str] = []
    left_out = LeftOut(Notices(told.append))
    for layer in "ab":
        left_out(layer, NAN)
        left_out.tell()
    assert len(told) == 2


def test_a_few_names_are_all_of_them() -> None:
    assert few(["a"]) == "a"
    assert few([*"abcdefgh"]) == "a, b, c, d, e, f, g, h"
    assert few([*"abcdefghi"]) == "a, b, c, d, e, f, g, h, … (9)"


# -------------------------------------------------------------------------------------------------- what has failed


def test_a_reason_is_a_type_and_a_message_in_one_line() -> None:
    assert reason_of(ValueError("a\n  b")) == "ValueError: a b"
    assert reason_of(KeyError()) == "KeyError:"
    assert len(reason_of(ValueError("a" * 10_000))) <= 202


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (MemoryError(), True),
        (
            RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes"),
            True,
        ),
        (RuntimeError("MPS backend out of memory (MPS allocated: 18.08 GB)"), True),
        (RuntimeError("shape '[8, 1, -1]' is invalid for input of size 0"), False),
        (ValueError("out of memory"), False),
    ],
)
def test_what_is_of_memory_is_of_no_layer(error: Exception, expected: bool) -> None:
    assert is_of_memory(error) is expected
