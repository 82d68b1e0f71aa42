"""Hooks: ours, that live as long as a context and see, replace or hold what layers put out; and others', silenced."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.jit._script import RecursiveScriptModule
from torch.nn.modules import module as torch_module

from lightning_infoplane.network.structures import first_tensor, replace_tensors

__all__ = ["GLOBAL_HOOKS", "hold", "intercept", "silence", "without_cudnn"]

_KINDS = ("_forward_pre_hooks", "_forward_hooks", "_backward_pre_hooks", "_backward_hooks")
# Their hooks make, gather or scale what a forward pass computes with.
_NEEDED = {"torch", "torchao", "deepspeed", "fairscale", "colossalai", "accelerate", "transformers", "peft", "timm"}
GLOBAL_HOOKS: tuple[dict[int, Any], ...] = tuple(getattr(torch_module, f"_global{kind}") for kind in _KINDS)


@contextmanager
def intercept(layers: Mapping[str, nn.Module], visit: Callable[[str, Any], Any]) -> Iterator[None]:
    """Call ``visit(name, output)`` whenever a layer is called; what it returns, unless None, replaces the output.

    It sees the output before anything downstream can overwrite it (an in-place ReLU, say) and must not keep it: reduce
    it, or clone it. A layer called again in the same pass is named ``"name.call2"``. Hooks live exactly as long as the
    context.
    """
    calls: Counter[str] = Counter()

    def watch(name: str) -> Callable[[nn.Module, object, object], object]:
        def hook(module: nn.Module, args: object, output: object) -> object:
            calls[name] += 1
            return visit(name if calls[name] == 1 else f"{name}.call{calls[name]}", output)

        return hook

    with ExitStack() as hooks:
        for name, module in layers.items():
            if _takes_hooks(module):
                hooks.callback(module.register_forward_hook(watch(name)).remove)
        yield


@contextmanager
def hold(
    layers: Mapping[str, nn.Module],
    cut: str | None = None,
    tensor_of: Callable[[str, Any], Tensor | None] = lambda name, output: first_tensor(output),
) -> Iterator[dict[str, Tensor]]:
    """Keep the layers' outputs, connected to the graph, for ``torch.autograd.grad``.

    Args:
        layers: by name.
        cut: the layer beyond which the graph begins anew, if any.
        tensor_of: which tensor of a layer's output, ``(name, output)``.

    Yields:
        Outputs by layer, filled in as they are called; those that are not floating point are missing.
    """
    held: dict[str, Tensor] = {}

    def visit(name: str, output: object) -> object:
        tensor = tensor_of(name, output)
        if tensor is None or not tensor.is_floating_point():
            return None
        # Copies both ways: what overwrites the layer's tensor in place, or that of a layer which only hands it on,
        # would make ours the gradient of another one. Without a graph, everything before is frozen, and nothing there
        # wants a gradient.
        held[name] = tensor.clone() if tensor.requires_grad else tensor.detach().clone().requires_grad_()
        onward = held[name].detach() if name == cut else held[name]
        return replace_tensors(output, lambda one: onward.clone() if one is tensor else one)

    with without_cudnn(), intercept(layers, visit):
        yield held


@contextmanager
def without_cudnn() -> Iterator[None]:
    """For gradients: cuDNN has no backward pass of a recurrent network in eval mode."""
    enabled = torch.backends.cudnn.enabled
    torch.backends.cudnn.enabled = False
    try:
        yield
    finally:
        torch.backends.cudnn.enabled = enabled


def _takes_hooks(module: nn.Module) -> bool:
    """Whether Python sees the module's calls: of TorchScript, at most what was traced."""
    return not isinstance(module, RecursiveScriptModule)


# ------------------------------------------------------------------------------------------------ hooks of others


def silence(modules: Iterable[nn.Module], is_part: Callable[[object], bool]) -> None:
    """Take away the hooks that are no part of the network: a measurement is not a call that users count or log.

    Those stay that torch needs (weight norm, pruning, sharding), or a library of networks, those of modules whose
    parameters are made by hooks, and the methods of the network itself. Whoever silences puts the dictionaries back.

    Args:
        modules: whose hooks.
        is_part: whether an object is a part of the network.
    """
    for everywhere in GLOBAL_HOOKS:
        _thin(everywhere, _is_needed)
    for module in modules:
        for kind in _KINDS:
            if hooks := vars(module).get(kind):
                makes = kind == "_forward_pre_hooks" and _makes_parameters(module)
                _thin(hooks, lambda hook: _is_needed(hook) or _is_method(hook, is_part), keep_all=makes)


def _thin(hooks: dict[int, Any], stays: Callable[[Any], bool], keep_all: bool = False) -> None:
    for key in [key for key, hook in hooks.items() if not (keep_all or stays(hook))]:
        del hooks[key]


def _is_needed(hook: Any) -> bool:  # noqa: ANN401 - any callable
    """Whether torch registered it, or a library whose networks compute with hooks."""
    while isinstance(hook, partial):
        hook = hook.func
    function = getattr(hook, "__func__", hook)
    where = function if hasattr(function, "__code__") else type(function)
    return str(where.__module__).partition(".")[0] in _NEEDED


def _is_method(hook: Any, is_part: Callable[[object], bool]) -> bool:  # noqa: ANN401
    """Whether it is bound to a part of the network: what it keeps is kept there, and the network may want it."""
    while isinstance(hook, partial):
        hook = hook.func
    owner = getattr(hook, "__self__", None)
    return owner is not None and is_part(owner)


def _makes_parameters(module: nn.Module) -> bool:
    """Whether tensors stand where parameters would, made by a hook from others: ``weight`` from ``weight_orig``."""
    attributes = vars(module)
    registered = {**attributes.get("_parameters", {}), **attributes.get("_buffers", {})}
    made = {name for name, value in attributes.items() if isinstance(value, Tensor)}
    if made & {"weight", "bias"}:
        return True
    if not isinstance(module, nn.RNNBase):  # its weight_ih_l0 is made of nothing
        made |= {"weight", "bias"} - registered.keys()  # before the first call there is no such tensor yet
    return any(other.startswith(f"{name}_") or other.endswith(f"_{name}") for name in made for other in registered)
