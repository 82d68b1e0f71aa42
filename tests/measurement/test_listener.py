"""One channel for what the user should know, one for progress."""

import warnings

import pytest

from lightning_infoplane.measurement.listener import Listener, Notices


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
