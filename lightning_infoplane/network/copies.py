"""Many interventions in one forward pass: each on its own copy of the samples, side by side in a batch.

The samples of a batch must know nothing of each other. Whether that is so is tried.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from lightning_infoplane.estimator.precision import widest_float
from lightning_infoplane.network.interventions import Run, tolerance
from lightning_infoplane.network.structures import first_tensor, replace_tensors, tensors_in

__all__ = ["MixedSamplesError", "half_and_half", "many_at_once", "rows_of", "side_by_side"]

# Of the tolerance, for what differs by rounding alone.
_MARGIN = 0.25
# Layers that are first replaced together.
_TOGETHER = 10


class MixedSamplesError(ValueError):
    """Copies of the same samples, side by side in a batch, did not come out alike."""


def many_at_once(
    run: Run,
    x: Any,  # noqa: ANN401
    z: Any,  # noqa: ANN401
    on_x: Mapping[str, Tensor],
    count: int,
    exact: bool = False,
) -> Tensor:
    """As :func:`~.interventions.one_by_one`, by passes of ``count`` copies.

    Each copy has an intervention of its own, and the last has none.

    Args:
        run: a forward pass that shows the layers' outputs.
        x: a few samples.
        z: as many others.
        on_x: what layers put out on x.
        count: copies in a pass.
        exact: compare each copy bit for bit with one at the same place in a batch, too. A deep network may enlarge
            beyond the tolerance how differently kernels round at different places. There is no shortcut then.

    Raises:
        MixedSamplesError: if what happens to one copy is seen in another, or copies cannot be told apart.
    """
    shapes = {name: tensor.shape for name, tensor in on_x.items()}
    # What is compared comes from batches of one size: of another, kernels round in another way, in half precision
    # by far more than the tolerance.
    names = list(on_x)
    last = count - 1
    all_x, all_z = (side_by_side(x, z, [is_x] * count) for is_x in (True, False))
    of_x = _references(run, all_x, shapes, [i % last if exact else last for i in range(len(names))], count, exact)
    of_z = _references(run, all_z, shapes, [last] * len(names), count, exact)
    references = {name: _Pair(of_x[name], of_z[name]) for name in names}
    # Some copies of x among some of z: what mixes samples, even two by two, shows in one that is unlike its like.
    generator = torch.Generator().manual_seed(0)
    are_x = [False, *(torch.rand(count - 2, generator=generator) < 0.5).tolist(), True]
    _try_both(run, side_by_side(x, z, are_x), references, are_x)

    def screened_by(groups: Sequence[Sequence[str]]) -> Tensor:
        parts = [groups[start : start + last] for start in range(0, len(groups), last)]
        rows = [_intervene(run, all_z, references, part, count) for part in parts]
        return torch.cat(rows) if rows else torch.zeros(0, len(names), dtype=torch.bool)

    if exact:
        return screened_by([[name] for name in names])
    # Whom many together do not screen, none of them does: a network in which all feed all has few left to try.
    groups = [names[start : start + _TOGETHER] for start in range(0, len(names), _TOGETHER)]
    screens = screened_by(groups).any(1).tolist()
    left = [i for i in range(len(names)) if screens[i // _TOGETHER]]
    found = torch.zeros(len(names), len(names), dtype=torch.bool)
    found[left] = screened_by([[names[i]] for i in left])
    return found


class _Reference(NamedTuple):
    """What a layer puts out on the samples, how far from it is still the same, and digests of what is the same too."""

    values: Tensor
    tolerance: float
    finite: bool
    digests: Tensor | None = None

    @classmethod
    def of(cls, values: Tensor, digests: Tensor | None = None) -> "_Reference":
        return cls(values.clone(), tolerance(values), bool(values.isfinite().all()), digests)

    def agrees(self, copies: Tensor, margin: float = 1) -> Tensor:
        """For each copy whether it is the same."""
        close = self._is_close(copies, margin)
        return close if self.digests is None else close | self._is_equal(copies)

    def last_agrees(self, copies: Tensor) -> Tensor:
        """Whether the last copy is the same."""
        close = self._is_close(copies[-1:])
        return close if self.digests is None else close | self._is_equal(copies)[-1:]

    def _is_equal(self, copies: Tensor) -> Tensor:
        assert self.digests is not None, "asked for"
        return torch.eq(_digest(copies), self.digests)

    def _is_close(self, copies: Tensor, margin: float = 1) -> Tensor:
        within = margin * self.tolerance
        if not copies.is_floating_point():
            return copies.eq(self.values).flatten(1).all(1)
        if self.finite:  # quicker; what is not finite beside it is not the same
            apart: Tensor = torch.linalg.vector_norm(copies - self.values, torch.inf, tuple(range(1, copies.ndim)))
            return apart <= within
        return copies.isclose(self.values, rtol=0, atol=within, equal_nan=True).flatten(1).all(1)


class _Pair(NamedTuple):
    """Both references of a layer."""

    x: _Reference
    z: _Reference


def _references(
    run: Run,
    inputs: Any,  # noqa: ANN401
    shapes: Mapping[str, torch.Size],
    places: Sequence[int],
    count: int,
    exact: bool,
) -> dict[str, _Reference]:
    """What each layer puts out in one of the copies, and a digest of every copy.

    The copies themselves, of all layers at once, may be too large to keep.
    """
    found: dict[str, _Reference] = {}
    place = dict(zip(shapes, places, strict=True))

    def visit(name: str, output: object) -> None:
        if name in shapes:
            copies = _told_apart(name, output, shapes[name], count)
            found[name] = _Reference.of(copies[place[name]], _digest(copies) if exact else None)

    run(inputs, visit)
    _check(found.keys() == shapes.keys(), [])
    return found


def _digest(copies: Tensor) -> Tensor:
    """Random sums: the same for the same numbers at the same place in a batch, and hardly for others."""
    rows = copies.flatten(1).to(widest_float(copies.device))
    weights = torch.randn(rows.shape[1], generator=torch.Generator().manual_seed(0), dtype=rows.dtype)
    return rows @ weights.to(rows.device)


def _try_both(run: Run, inputs: Any, references: Mapping[str, _Pair], are_x: Sequence[bool]) -> None:  # noqa: ANN401
    """A batch of both: all copies of x must agree with what there was in a batch of x alone, those of z likewise."""
    alike: dict[str, Tensor] = {}

    def visit(name: str, output: object) -> None:
        pair = references.get(name)
        if pair is None:
            return
        copies = _told_apart(name, output, pair.x.values.shape, len(are_x))
        is_x = torch.tensor(are_x, device=copies.device)
        # With a margin: what replaces a layer comes from another place, and its rounding adds to this one.
        alike[name] = torch.where(is_x, pair.x.agrees(copies, _MARGIN), pair.z.agrees(copies, _MARGIN)).all()

    run(inputs, visit)
    _check(alike.keys() == references.keys(), alike.values())


def _intervene(
    run: Run,
    inputs: Any,  # noqa: ANN401
    references: Mapping[str, _Pair],
    groups: Sequence[Sequence[str]],
    count: int,
) -> Tensor:
    """Whom each group screens: its layers are replaced in a copy of their own, and none in the last."""
    seen: dict[str, Tensor] = {}
    alike: list[Tensor] = []
    places = {name: copy for copy, group in enumerate(groups) for name in group}

    def visit(name: str, output: object) -> object:
        pair = references.get(name)
        if pair is None:
            return None
        copies = _told_apart(name, output, pair.x.values.shape, count)
        seen[name] = pair.x.agrees(copies)  # before it is replaced: nothing screens itself
        alike.append(pair.z.last_agrees(copies))
        return replace_tensors(output, replace_in(places[name], pair.x), first_only=True) if name in places else None

    def replace_in(copy: int, reference: _Reference) -> Callable[[Tensor], Tensor]:
        def replace(tensor: Tensor) -> Tensor:
            stand_in = tensor.clone()
            _told_apart("", stand_in, reference.values.shape, count)[copy] = reference.values
            return stand_in

        return replace

    run(inputs, visit)
    _check(seen.keys() == references.keys(), alike)
    return torch.stack([seen[name].cpu() for name in references], 1)[: len(groups)]


def _check(complete: bool, alike: Iterable[Tensor]) -> None:
    """Whether all layers were called, and what should agree does."""
    if not complete or not all(bool(one) for one in alike):
        raise MixedSamplesError("the network mixes the samples of a batch.")


def _told_apart(name: str, output: object, shape: torch.Size, count: int) -> Tensor:
    """A layer's output as a view ``(count, *shape)``, along the axis on which the samples lie."""
    tensor = first_tensor(output)
    got = None if tensor is None else tensor.shape
    if tensor is not None and got is not None and len(got) == len(shape):
        axes = [axis for axis in range(len(shape)) if got[axis] != shape[axis]]
        if len(axes) == 1 and got[axes[0]] == count * shape[axes[0]]:
            return tensor.view(*shape[: axes[0]], count, *shape[axes[0] :]).movedim(axes[0], 0)
    raise MixedSamplesError(f"{name} puts out {tuple(shape)}, and {got} for {count} times the samples.")


def side_by_side(x: Any, z: Any, are_x: Sequence[bool]) -> Any:  # noqa: ANN401
    """Inputs of copies of x and of z: every tensor with a row a sample is repeated.

    Example:
        >>> side_by_side((torch.ones(2), "mode"), (torch.zeros(2), "mode"), [False, True])
        (tensor([0., 0., 1., 1.]), 'mode')
    """
    return _joined(x, z, lambda of_x, of_z: torch.cat([of_x if is_x else of_z for is_x in are_x]))


def half_and_half(x: Any, z: Any) -> Any:  # noqa: ANN401
    """As many samples as x has, and z has: some of both.

    Example:
        >>> half_and_half(torch.ones(4), torch.zeros(4))
        tensor([1., 1., 0., 0.])
    """
    half = rows_of(z) // 2
    return _joined(x, z, lambda of_x, of_z: torch.cat([of_x[: len(of_x) - half], of_z[:half]]))


def _joined(x: Any, z: Any, join: Callable[[Tensor, Tensor], Tensor]) -> Any:  # noqa: ANN401
    """The structure of z with every tensor that has a row a sample joined with that of x."""
    rows = rows_of(z)
    of_x = iter(tensors_in(x))

    def visit(of_z: Tensor) -> Tensor:
        other = next(of_x, of_z)
        return join(other, of_z) if of_z.ndim and len(of_z) == rows else of_z

    return replace_tensors(z, visit)


def rows_of(inputs: object) -> int:
    """How many samples there are.

    Example:
        >>> rows_of({"mode": "text", "pixels": torch.zeros(4, 3)})
        4
    """
    tensor = first_tensor(inputs)
    return 1 if tensor is None or not tensor.ndim else max(len(tensor), 1)
