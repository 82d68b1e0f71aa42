"""Forward hooks that live as long as a context: what layers put out, seen, replaced or held for a gradient."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from lightning_infoplane.network.structures import first_tensor, replace_tensors

__all__ = ["capture", "hold", "intercept"]


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
