"""Choosing layers: by keyword, name, glob, type or a function of one's own."""

import difflib
from collections.abc import Callable, Iterable, Mapping, Sequence
from fnmatch import fnmatchcase

from torch import nn
from torch.nn.modules.conv import _ConvNd

__all__ = ["LayerSpec", "select_layers"]

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
