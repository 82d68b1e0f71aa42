"""A model in the midst of its training, evaluated and left exactly as it was."""

import random
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from lightning_infoplane.network.hooks import GLOBAL_HOOKS, silence
from lightning_infoplane.network.state import State
from lightning_infoplane.network.tensors import is_sharded

__all__ = ["isolated_rng", "undisturbed"]


@contextmanager
def undisturbed(model: nn.Module) -> Iterator[None]:
    """Evaluate a model in the midst of its training: eval mode, no gradients, no compiled code, no trace.

    Each submodule gets back its own train flag, so a batch norm the user froze stays frozen, and everything else that
    it holds: see :class:`~lightning_infoplane.network.state.State`. Hooks that are no part of the network are not
    called. Compiled modules run eagerly, because hooks added after compilation do not fire; nor do they within the
    fast path of attention, whose nested tensors cannot be read. Random numbers drawn inside are not missing outside.
    """
    state = State(model, *GLOBAL_HOOKS)
    sharded = {module: _sharded(module) for module in state.modules if hasattr(module, "reshard")}
    try:
        silence(state.modules, state.holds)
        state.tensors.hide_gradients()
        for module in model.modules():
            if hasattr(module, "training"):  # frozen TorchScript has none
                module.training = False  # not module.eval(): users override it
        # inference_mode(False): inside trainer.validate() tensors made now could never be saved for backward.
        with (
            isolated_rng(),
            torch.inference_mode(False),
            torch.no_grad(),
            torch.compiler.set_stance("force_eager"),
            _no_fast_path(),
        ):
            yield
    finally:
        for module, before in sharded.items():
            if _sharded(module) < before:  # FSDP gathers the root's parameters for a backward pass, here in vain
                module.reshard()  # type: ignore[operator]
        state.put_back()


def _sharded(module: nn.Module) -> int:
    return sum(map(is_sharded, module.parameters()))


@contextmanager
def _no_fast_path() -> Iterator[None]:
    """Attention as it is written, layer by layer."""
    enabled = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(enabled)


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
