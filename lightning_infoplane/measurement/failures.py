"""Failures: whether one is of a layer or of the whole measurement, and which are for one reason."""

import re

__all__ = ["is_of_memory", "without_numbers"]

# Addresses, shapes and numbers: what may differ from layer to layer and from epoch to epoch where the reason is one.
_NUMBERS = re.compile(r"0x[0-9a-fA-F]+|\([\d, ]*\)|[-+]?\d+(\.\d+)?(e[-+]?\d+)?")

# Words of allocators whose exceptions have no type of their own: the CPU's, and some accelerators'.
_NO_MEMORY = ("out of memory", "allocate memory", "not enough memory")


def is_of_memory(error: Exception) -> bool:
    """Whether there is no memory left, which is not the fault of the layer that happened to ask for it.

    Example:
        >>> is_of_memory(MemoryError()), is_of_memory(RuntimeError("shape '[2, 1, -1]' is invalid"))
        (True, False)
    """
    import torch  # reports are made without it

    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error).lower() for words in _NO_MEMORY)


def without_numbers(reason: str) -> str:
    """What sentences have in common that give one reason.

    Example:
        >>> without_numbers("got (7, 3) of <X at 0x7f2a> at 1e-05 of step 12")
        'got # of <X at #> at # of step #'
    """
    return _NUMBERS.sub("#", reason)
