"""Shared by all tests: one thread, no global state left behind."""

import os

import torch
from hypothesis import settings

torch.set_num_threads(1)  # two threads on a busy two-core machine are fifteen times slower

# The same examples every time: a test that fails does so for its author. HYPOTHESIS_PROFILE=search looks for new ones.
settings.register_profile("same", derandomize=True)
settings.register_profile("search", max_examples=1000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "same"))
