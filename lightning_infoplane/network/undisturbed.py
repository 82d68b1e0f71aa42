"""A model in the midst of its training, evaluated and left exactly as it was."""

import random
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

__all__ = ["isolated_rng", "undisturbed"]


@contextmanager
def undisturbed(model: nn.Module) -> Iterator[None]:
    """Evaluate a model in the midst of its training: eval mode, no gradients, no compiled code, no trace.

    Each submodule gets back its own train flag, so a batch norm the user froze stays frozen; buffers that a
    forward pass changed, or replaced, are put back. Compiled modules run eagerly, because hooks added after
    compilation do not fire. Random numbers drawn inside are not missing outside.
    """
    modules = list(model.modules())
    flags = [module.training for module in modules]
    registered = [dict(module._buffers) for module in modules]
    buffers = [buffer for held in registered for buffer in held.values() if buffer is not None]
    saved = [buffer.clone() for buffer in buffers]
    try:
        for module in modules:
            module.training = False  # not module.eval(): users override it
        # inference_mode(False): inside trainer.validate() tensors made now could never be saved for backward.
        with (
            isolated_rng(),
            torch.inference_mode(False),
            torch.no_grad(),
            torch.compiler.set_stance("force_eager"),
        ):
            yield
    finally:
        for module, flag in zip(modules, flags, strict=True):
            module.training = flag
        for module, held in zip(modules, registered, strict=True):
            module._buffers.clear()
            module._buffers.update(held)
        _restore(buffers, saved)


def _restore(buffers: Sequence[Tensor], saved: Sequence[Tensor]) -> None:
    """Put back the values of buffers that changed.

    By value: writes through .data leave no other trace, and writing what is already there would break the backward
    pass of a graph that is still alive. All are compared in one look, for which the host waits once.
    """
    alike = []
    for buffer, before in zip(buffers, saved, strict=True):
        if (buffer.shape, buffer.dtype, buffer.device) == (before.shape, before.dtype, before.device):
            alike.append((buffer, before))
        else:  # another tensor in all but name
            buffer.data = before
    if not alike:
        return
    place = alike[0][0].device
    changed = torch.stack([buffer.ne(before).any().to(place) for buffer, before in alike])
    with torch.no_grad():
        for (buffer, before), differs in zip(alike, changed.tolist(), strict=True):
            if differs:
                buffer.copy_(before)


@contextmanager
def isolated_rng(seed: int | None = None) -> Iterator[None]:
    """Put back the state of every global random number generator on leaving; start from ``seed`` where given.

    Lightning's own ``isolate_rng`` does not put it back after an exception.
    """
    numpy = sys.modules.get("numpy")  # never imported: nobody can have drawn from it
    python_state = random.getstate()
    numpy_state = numpy.random.get_state() if numpy else None
    try:
        # A machine may have GPUs that this run does not use: asking for their state would start CUDA.
        devices = range(torch.cuda.device_count()) if torch.cuda.is_initialized() else []
        with torch.random.fork_rng(devices=devices), _isolated_mps():
            if seed is not None:
                torch.manual_seed(seed)
                random.seed(seed)
                if numpy:
                    numpy.random.seed(seed % 2**32)
            yield
    finally:
        random.setstate(python_state)
        if numpy:
            numpy.random.set_state(numpy_state)


@contextmanager
def _isolated_mps() -> Iterator[None]:
    """Put back the generator of Apple's GPU, which torch.manual_seed() seeds too."""
    state = torch.mps.get_rng_state() if torch.backends.mps.is_available() else None
    try:
        yield
    finally:
        if state is not None:
            torch.mps.set_rng_state(state)
