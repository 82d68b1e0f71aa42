"""Shared by all tests: one thread, no global state left behind."""

import torch

torch.set_num_threads(1)  # two threads on a busy two-core machine are fifteen times slower
