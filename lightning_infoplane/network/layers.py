"""Choosing layers: by keyword, name, glob, type or a function of one's own."""

import difflib
from collections.abc import Callable, Iterable, Mapping, Sequence
from fnmatch import fnmatchcase

from torch import nn
from torch.nn.modules.conv import _ConvNd

from lightning_infoplane.arguments.checks import Function, WrongKindError, shown
from lightning_infoplane.arguments.errors import SetupError

__all__ = ["LayerSpec", "check_layers", "select_layers"]

LayerSpec = str | type[nn.Module] | Callable[[str, nn.Module], bool]

# A keyword is a predicate: "conv" takes every 1-, 2- and 3-D convolution, transposed and lazy ones too.
_KEYWORDS: dict[str, Callable[[nn.Module], bool]] = {
    "conv": lambda module: isinstance(module, _ConvNd),
    "linear": lambda module: isinstance(module, nn.Linear),
    "all": lambda module: not any(True for _ in module.children()),
}

_PREDICATE = Function("(name, module) -> bool", 2, "layers=lambda name, module: 'encoder' in name")


def select_layers(model: nn.Module, layers: LayerSpec | Sequence[LayerSpec] = "conv") -> dict[str, nn.Module]:
    """The modules that ``layers`` means, by name, in the order in which the model registers them.

    Names are those of ``model.named_modules()`` without the ``_orig_mod`` that ``torch.compile`` adds.

    Args:
        model: the network.
        layers: a keyword (``"conv"``, ``"linear"``, ``"all"`` for every module without children), a name, a
            glob such as ``"encoder.*.conv1"``, a module type, a callable ``(name, module) -> bool``, or a
            sequence of these.

    Raises:
        SetupError: a ValueError, if one of them matches nothing; lists the closest names.
        TypeError: for anything else.

    Example:
        >>> net = torch.nn.Sequential(torch.nn.Conv2d(1, 2, 3), torch.nn.ReLU(), torch.nn.Linear(2, 2))
        >>> list(select_layers(net)), list(select_layers(net, ["2", "0"]))
        (['0'], ['0', '2'])
    """
    modules = {_plain(name): module for name, module in model.named_modules() if name}
    chosen: set[str] = set()
    for spec in check_layers(layers):
        matches = {name for name, module in modules.items() if _matches(spec, name, module)}
        if not matches:
            raise SetupError(_no_match(spec, modules))
        chosen |= matches
    return {name: module for name, module in modules.items() if name in chosen}


def check_layers(layers: LayerSpec | Sequence[LayerSpec]) -> Sequence[LayerSpec]:
    """The elements of ``layers``, as far as they can be told from others without a model.

    Raises:
        SetupError: a ValueError, if there are none.
        TypeError: for what is no choice of layers.

    Example:
        >>> check_layers("conv")
        ['conv']
    """
    alone = isinstance(layers, str | bytes) or not isinstance(layers, Sequence)
    specs: Sequence[LayerSpec] = [layers] if alone else layers  # type: ignore[list-item,assignment]
    if not specs:
        raise SetupError("layers is empty: name at least one layer, or leave it out for every convolution.")
    for spec in specs:
        is_type = isinstance(spec, type) and issubclass(spec, nn.Module)
        is_function = callable(spec) and not isinstance(spec, nn.Module | type)
        if is_function:
            _PREDICATE("layers", spec)
        elif not isinstance(spec, str) and not is_type:
            raise WrongKindError(
                f"layers: expected a keyword ({', '.join(_KEYWORDS)}), a name, a glob, a module type or a callable "
                f"(name, module) -> bool, got {shown(spec)}. {_instead(spec)}"
            )
    return specs


def _instead(spec: object) -> str:
    """What to type in place of what is no choice of layers."""
    if isinstance(spec, nn.Module):
        return f"Write layers={type(spec).__name__} for all of its type, or layers='...' for the one of that name."
    if isinstance(spec, int) and not isinstance(spec, bool):
        return f"Write layers='{spec}' for the layer of that name."
    if isinstance(spec, Iterable) and not isinstance(spec, bytes):
        return "Write a list, layers=['conv1', 'conv2']."
    return "Leave it out for every convolution, or write layers='all'."


def _plain(name: str) -> str:
    """A module's name without what torch.compile put in it."""
    return ".".join(part for part in name.split(".") if part != "_orig_mod") or name


def _matches(spec: LayerSpec, name: str, module: nn.Module) -> bool:
    """Whether one element of ``layers`` means this module."""
    if isinstance(spec, str):
        return _KEYWORDS[spec](module) if spec in _KEYWORDS else fnmatchcase(name, spec)
    if isinstance(spec, type):
        return isinstance(module, spec)
    return bool(spec(name, module))


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
