"""Which layers screen which, by intervention: the network sees z, and one layer puts out what it did on x."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from lightning_infoplane.network.structures import first_tensor, replace_tensors

__all__ = ["Run", "one_by_one", "outputs_on", "same", "tolerance"]

# A forward pass on some inputs that shows ``visit(name, output)`` what each layer puts out; what it returns, unless
# None, goes on in its place.
Run = Callable[[Any, Callable[[str, Any], Any]], object]

# Relative to the largest value: kernels that sum in another order must not look like a dependence.
_TOLERANCE = 1e-5


def outputs_on(run: Run, inputs: Any, replace: Mapping[str, Tensor] | None = None) -> dict[str, Tensor]:  # noqa: ANN401
    """What layers put out, in order of execution, while some of them are replaced."""
    seen: dict[str, Tensor] = {}
    stand_ins = replace or {}

    def visit(name: str, output: object) -> object:
        tensor = stand_ins.get(name, first_tensor(output))
        if tensor is None:
            return None
        # Clones both ways: an in-place activation downstream must spoil neither the note nor the stand-in.
        seen[name] = tensor.clone()
        # Only the tensor that is measured: whatever else a layer puts out is a way around it.
        return replace_tensors(output, lambda _: tensor.clone(), first_only=True) if name in stand_ins else None

    run(inputs, visit)
    return seen


def one_by_one(run: Run, z: Any, on_x: Mapping[str, Tensor]) -> Tensor:  # noqa: ANN401
    """Whether a screens b, for all layers a (rows) and b (columns) of ``on_x``, by a pass a layer.

    Args:
        run: a forward pass that shows the layers' outputs.
        z: a few samples.
        on_x: what layers put out on as many others: deterministic ones that tell them apart.
    """
    found = torch.zeros(len(on_x), len(on_x), dtype=torch.bool)
    for row, a in zip(found, on_x, strict=True):
        seen = outputs_on(run, z, {a: on_x[a]})
        row.copy_(torch.tensor([b != a and same(on_x[b], seen.get(b)) for b in on_x]))
    return found


def same(a: Tensor, b: Tensor | None) -> bool:
    """Whether two outputs agree.

    Example:
        >>> same(torch.tensor([1.0, torch.inf]), torch.tensor([1.0 + 1e-6, torch.inf]))
        True
    """
    if b is None or a.shape != b.shape:
        return False
    if torch.equal(a, b) or not a.is_floating_point():
        return torch.equal(a, b)
    return torch.allclose(a, b, rtol=0, atol=tolerance(a), equal_nan=True)


def tolerance(values: Tensor) -> float:
    """How far from these values is still the same.

    Example:
        >>> tolerance(torch.tensor([-2.0, torch.inf]))
        2e-05
    """
    # Masked scores are infinite.
    return _TOLERANCE * float(values.nan_to_num(0, 0, 0).abs().max()) if values.is_floating_point() else 0.0
