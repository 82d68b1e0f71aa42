"""Choosing layers, watching what they put out, and leaving the model exactly as it was."""

import difflib
import random
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping, Sequence
from contextlib import contextmanager
from copy import copy
from fnmatch import fnmatchcase
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

__all__ = [
    "LayerSpec",
    "capture",
    "first_tensor",
    "hold",
    "intercept",
    "isolated_rng",
    "replace_tensors",
    "select_layers",
    "undisturbed",
]

LayerSpec = str | type[nn.Module] | Callable[[str, nn.Module], bool]

# A keyword is a predicate: "conv" takes every 1-, 2- and 3-D convolution, transposed and lazy ones too.
_KEYWORDS: dict[str, Callable[[nn.Module], bool]] = {
    "conv": lambda module: isinstance(module, _ConvNd),
    "linear": lambda module: isinstance(module, nn.Linear),
    "all": lambda module: not any(True for _ in module.children()),
}


def select_layers(model: nn.Module, layers: LayerSpec | Sequence[LayerSpec] = "conv") -> dict[str, nn.Module]:
    """The modules that ``layers`` means, by name, in the order in which the model registers them.

    Names are those of ``model.named_modules()`` without the ``_orig_mod`` that ``torch.compile`` adds.

    Args:
        model: the network.
        layers: a keyword (``"conv"``, ``"linear"``, ``"all"`` for every module without children), a name, a
            glob such as ``"encoder.*.conv1"``, a module type, a callable ``(name, module) -> bool``, or a
            sequence of these.

    Raises:
        ValueError: if one of them matches nothing; lists the closest names.
        TypeError: for anything else.

    Example:
        >>> net = torch.nn.Sequential(torch.nn.Conv2d(1, 2, 3), torch.nn.ReLU(), torch.nn.Linear(2, 2))
        >>> list(select_layers(net)), list(select_layers(net, ["2", "0"]))
        (['0'], ['0', '2'])
    """
    modules = {_plain(name): module for name, module in model.named_modules() if name}
    specs: Iterable[LayerSpec] = [layers] if isinstance(layers, str) or not isinstance(layers, Sequence) else layers
    chosen: set[str] = set()
    for spec in specs:
        matches = {name for name, module in modules.items() if _matches(spec, name, module)}
        if not matches:
            raise ValueError(_no_match(spec, modules))
        chosen |= matches
    if not chosen:
        raise ValueError("layers is empty: name at least one layer, or leave it out for every convolution.")
    return {name: module for name, module in modules.items() if name in chosen}


@contextmanager
def capture(layers: Mapping[str, nn.Module], consumer: Callable[[str, Tensor | None], None]) -> Iterator[None]:
    """Hand the output of each layer to ``consumer`` as it is produced, in order of execution.

    The consumer sees the tensor before anything downstream can overwrite it (an in-place ReLU, say) and must
    not keep it: reduce it, or clone it. An output without any tensor is handed on as ``None``.
    """

    def visit(name: str, output: object) -> None:
        consumer(name, first_tensor(output))

    with intercept(layers, visit):
        yield


@contextmanager
def intercept(layers: Mapping[str, nn.Module], visit: Callable[[str, Any], Any]) -> Iterator[None]:
    """Call ``visit(name, output)`` whenever a layer is called; what it returns, unless None, replaces the output.

    A layer called again in the same pass is named ``"name.call2"``. Hooks live exactly as long as the context.
    """
    calls: Counter[str] = Counter()

    def watch(name: str) -> Callable[[nn.Module, object, object], object]:
        def hook(module: nn.Module, args: object, output: object) -> object:
            calls[name] += 1
            return visit(name if calls[name] == 1 else f"{name}.call{calls[name]}", output)

        return hook

    handles = [module.register_forward_hook(watch(name)) for name, module in layers.items()]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def hold(layers: Mapping[str, nn.Module], cut: str | None = None) -> Iterator[dict[str, Tensor]]:
    """Keep the layers' outputs, connected to the graph, for ``torch.autograd.grad``.

    Args:
        layers: by name.
        cut: the layer beyond which the graph begins anew, if any.

    Yields:
        Outputs by layer, filled in as they are called; those that are not floating point are missing.
    """
    held: dict[str, Tensor] = {}

    def visit(name: str, output: object) -> object:
        tensor = first_tensor(output)
        if tensor is None or not tensor.is_floating_point():
            return None
        # Without a graph, everything before is frozen, and nothing there wants a gradient.
        held[name] = tensor if tensor.requires_grad else tensor.detach().requires_grad_()
        onward = held[name].detach() if name == cut else held[name]
        # Downstream gets a copy: an in-place activation would make ours the gradient of another tensor.
        return replace_tensors(output, lambda _: onward.clone(), first_only=True)

    cudnn = torch.backends.cudnn.enabled
    try:
        torch.backends.cudnn.enabled = False  # it has no backward pass of a recurrent network in eval mode
        with intercept(layers, visit):
            yield held
    finally:
        torch.backends.cudnn.enabled = cudnn


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
        # By value: writes through .data leave no other trace, and writing what is already there would break the
        # backward pass of a graph that is still alive. All in one look, for which the host waits once.
        alike = []
        for buffer, before in zip(buffers, saved, strict=True):
            if (buffer.shape, buffer.dtype, buffer.device) == (before.shape, before.dtype, before.device):
                alike.append((buffer, before))
            else:  # another tensor in all but name
                buffer.data = before
        changed = [buffer.ne(before).any().to(alike[0][0].device) for buffer, before in alike]
        with torch.no_grad():
            for (buffer, before), differs in zip(alike, torch.stack(changed).tolist() if changed else [], strict=True):
                if differs:
                    buffer.copy_(before)


@contextmanager
def isolated_rng(seed: int | None = None) -> Iterator[None]:
    """Put back the state of every global random number generator on leaving; start from ``seed`` where given.

    Lightning's own ``isolate_rng`` does not put it back after an exception.
    """
    numpy = sys.modules.get("numpy")  # never imported: nobody can have drawn from it
    python_state, numpy_state = random.getstate(), numpy.random.get_state() if numpy else None
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


def first_tensor(output: object) -> Tensor | None:
    """The tensor a layer or a batch is about: itself, or the first one in a tuple, list or mapping."""
    if isinstance(output, Tensor):
        return output
    if isinstance(output, Mapping):
        output = list(output.values())
    if isinstance(output, list | tuple):
        return next((found for part in output if (found := first_tensor(part)) is not None), None)
    return None


def tensors_in(output: object) -> list[Tensor]:
    """All tensors of a structure, in the order in which :func:`replace_tensors` comes to them."""
    found: list[Tensor] = []
    replace_tensors(output, lambda tensor: found.append(tensor) or tensor)  # type: ignore[func-returns-value]
    return found


def replace_tensors(output: Any, function: Callable[[Tensor], Tensor], first_only: bool = False) -> Any:  # noqa: ANN401
    """The same structure with ``function`` applied to its tensors, or to the first one only.

    Example:
        >>> replace_tensors((torch.ones(2), "state", [torch.ones(1)]), lambda t: 2 * t)
        (tensor([2., 2.]), 'state', [tensor([2.])])
    """
    done = False

    def visit(part: Any) -> Any:  # noqa: ANN401
        nonlocal done
        if isinstance(part, Tensor) and not (done and first_only):
            done = True
            return function(part)
        if isinstance(part, MutableMapping):
            copied = copy(part)  # of the same class: some are read by attribute
            for key, value in part.items():
                copied[key] = visit(value)
            return copied
        if isinstance(part, tuple) and hasattr(part, "_fields"):
            return type(part)(*map(visit, part))
        if isinstance(part, list | tuple):
            return type(part)(map(visit, part))
        return part

    return visit(output)


def _plain(name: str) -> str:
    """A module's name without what torch.compile put in it."""
    return ".".join(part for part in name.split(".") if part != "_orig_mod") or name


def _matches(spec: LayerSpec, name: str, module: nn.Module) -> bool:
    """Whether one element of ``layers`` means this module."""
    if isinstance(spec, str):
        return _KEYWORDS[spec](module) if spec in _KEYWORDS else fnmatchcase(name, spec)
    if isinstance(spec, type):
        return isinstance(module, spec)
    if callable(spec) and not isinstance(spec, nn.Module):
        return bool(spec(name, module))
    raise TypeError(
        f"layers: expected a keyword ({', '.join(_KEYWORDS)}), a name, a glob, a module type or a callable "
        f"(name, module) -> bool, got {spec!r}."
    )


def _no_match(spec: LayerSpec, modules: Mapping[str, nn.Module]) -> str:
    """What to say when nothing matches: what there is, and what comes closest."""
    convolutions = [name for name, module in modules.items() if isinstance(module, _ConvNd)]
    message = f"layers={spec!r} matches no module. "
    if isinstance(spec, str) and (close := difflib.get_close_matches(spec, modules, n=3, cutoff=0.5)):
        message += f"Did you mean {', '.join(map(repr, close))}? "
    listed = ", ".join(map(repr, convolutions[:20])) + (", …" if len(convolutions) > 20 else "")
    return message + (
        f"Convolutions here: {listed}." if convolutions else "The model has no convolution; try 'linear'."
    )
