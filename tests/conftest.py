"""Shared by all tests: one thread, no global state left behind."""

import logging
import os
from collections.abc import Iterator

import pytest
import torch
from hypothesis import settings

torch.set_num_threads(1)  # two threads on a busy two-core machine are fifteen times slower

# The same examples every time: a test that fails does so for its author. HYPOTHESIS_PROFILE=search looks for new ones.
settings.register_profile("same", derandomize=True)
settings.register_profile("search", max_examples=1000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "same"))


class _Kept(logging.Handler):
    """Keeps what is logged."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.messages.append(record.getMessage())


@pytest.fixture(autouse=True)
def no_warning_goes_unseen(request: pytest.FixtureRequest) -> Iterator[None]:
    """Warnings are errors here, which end no run, for the callback then writes to its log: a test must expect them."""
    kept, log = _Kept(), logging.getLogger("lightning_infoplane.trainer.guard")
    log.addHandler(kept)
    yield
    log.removeHandler(kept)
    if request.node.get_closest_marker("warnings_in_the_log") is None:
        assert kept.messages == []
