"""Choosing layers: by keyword, name, glob, type or a function of one's own."""

import difflib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from fnmatch import fnmatchcase

from torch import nn
from torch.nn.modules.conv import _ConvNd
from torch.nn.modules.linear import NonDynamicallyQuantizableLinear
from torch.nn.utils.parametrize import ParametrizationList

from lightning_infoplane.arguments.checks import Function, WrongKindError, shown
from lightning_infoplane.arguments.errors import SetupError

__all__ = ["LayerSpec", "check_layers", "means", "named", "select_layers"]

LayerSpec = str | type[nn.Module] | Callable[[str, nn.Module], bool]

# A keyword is a predicate: "conv" takes every 1-, 2- and 3-D convolution, transposed and lazy ones too.
_KEYWORDS: dict[str, Callable[[nn.Module], bool]] = {
    "conv": lambda module: isinstance(module, _ConvNd),
    "linear": lambda module: isinstance(module, nn.Linear),
    "all": lambda module: _has_parameters(module) or not any(True for _ in module.children()),
}
# By these a metric is known without its library. What it holds, a whole network at times, is no part of the forward.
_METRIC = ("add_state", "update", "compute")

_PREDICATE = Function("(name, module) -> bool", 2, "layers=lambda name, module: 'encoder' in name")


def select_layers(model: nn.Module, layers: LayerSpec | Sequence[LayerSpec] = "conv") -> dict[str, nn.Module]:
    """The modules that ``layers`` means, by name, in the order in which the model registers them.

    Names are those of ``model.named_modules()`` without the ``_orig_mod`` that ``torch.compile`` adds.

    Args:
        model: the network.
        layers: a keyword (``"conv"``, ``"linear"``, ``"all"`` for every module with parameters of its own or without
            children), a name, a glob such as ``"encoder.*.conv1"``, a module type, a callable
            ``(name, module) -> bool``, or a sequence of these. Keywords leave out what no forward pass can call, such
            as lists of modules, ``out_proj`` of ``nn.MultiheadAttention`` and metrics. What computes a parametrised
            weight is a layer only by its full name.

    Raises:
        SetupError: a ValueError, if one of them matches nothing; lists the closest names.
        TypeError: for anything else.

    Example:
        >>> net = torch.nn.Sequential(torch.nn.Conv2d(1, 2, 3), torch.nn.ReLU(), torch.nn.Linear(2, 2))
        >>> list(select_layers(net)), list(select_layers(net, ["2", "0"]))
        (['0'], ['0', '2'])
    """
    modules = {_plain(name): module for name, module in model.named_modules() if name}
    inner = set(map(id, _parametrizations(model)))
    uncalled = inner | set(map(id, _never_called(model)))
    layerlike = {name: module for name, module in modules.items() if id(module) not in inner}
    callable_ones = {name: module for name, module in modules.items() if id(module) not in uncalled}
    chosen: set[str] = set()
    for spec in check_layers(layers):
        candidates = callable_ones if _is_keyword(spec) else layerlike
        matches = {name for name, module in candidates.items() if means(spec, name, module)}
        if isinstance(spec, str) and spec in modules and not _is_keyword(spec):
            matches.add(spec)
        if not matches:
            raise SetupError(_no_match(spec, layerlike))
        chosen |= matches
    return {name: module for name, module in modules.items() if name in chosen}


def named(layers: LayerSpec | Sequence[LayerSpec], name: str, module: nn.Module) -> bool:
    """Whether a chosen layer was asked for, by name, glob, type or callable, and not by a keyword alone.

    Example:
        >>> relu = torch.nn.ReLU()
        >>> named("all", "act", relu), named(["all", "a*"], "act", relu), named(torch.nn.ReLU, "act", relu)
        (False, True, True)
    """
    return any(not _is_keyword(spec) and means(spec, name, module) for spec in check_layers(layers))


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


def _is_keyword(spec: LayerSpec) -> bool:
    return isinstance(spec, str) and spec in _KEYWORDS


def means(spec: LayerSpec, name: str, module: nn.Module) -> bool:
    """Whether one element of ``layers`` means this module; a name may itself hold what is special in a glob."""
    if isinstance(spec, str):
        return _KEYWORDS[spec](module) if spec in _KEYWORDS else name == spec or fnmatchcase(name, spec)
    if isinstance(spec, type):
        return isinstance(module, spec)
    return bool(spec(name, module))


def _has_parameters(module: nn.Module) -> bool:
    """Whether it has parameters of its own: also those that a parametrisation has moved into itself."""
    return any(True for _ in module.parameters(recurse=False)) or _is_parametrized(module)


def _is_parametrized(module: nn.Module) -> bool:
    """As ``torch.nn.utils.parametrize`` does it, and not a module that has such a child by name alone."""
    found = dict(module.named_children()).get("parametrizations")
    return isinstance(found, nn.ModuleDict) and any(isinstance(one, ParametrizationList) for one in found.values())


def _parametrizations(model: nn.Module) -> Iterator[nn.Module]:
    """The modules that compute weights: what they put out has no samples."""
    for module in model.modules():
        if _is_parametrized(module):
            yield from module.get_submodule("parametrizations").modules()


def _never_called(model: nn.Module) -> Iterator[nn.Module]:
    """The modules that no forward pass can call, as far as that is known beforehand."""
    for module in model.modules():
        if not _has_forward(module):
            yield module
        if isinstance(module, nn.MultiheadAttention) and type(module).forward is nn.MultiheadAttention.forward:
            # Its weights go into one function. A subclass with a forward of its own, or another layer put there, may
            # be called.
            yield from (child for child in module.children() if isinstance(child, NonDynamicallyQuantizableLinear))
        if all(hasattr(type(module), name) for name in _METRIC):
            yield from module.modules()


def _has_forward(module: nn.Module) -> bool:
    kinds = [kind for kind in type(module).__mro__ if kind is not nn.Module]
    return "forward" in vars(module) or any("forward" in vars(kind) for kind in kinds)


def _no_match(spec: LayerSpec, modules: Mapping[str, nn.Module]) -> str:
    """What to say when nothing matches: what there is, and what comes closest."""
    convolutions = [name for name, module in modules.items() if isinstance(module, _ConvNd)]
    message = f"layers={spec!r} matches no module. "
    if isinstance(spec, str) and (close := difflib.get_close_matches(spec, modules, n=3, cutoff=0.5)):
        message += f"Did you mean {', '.join(map(repr, close))}? "
    listed = ", ".join(map(repr, convolutions[:20])) + (", …" if len(convolutions) > 20 else "")
    if convolutions:
        return f"{message}Convolutions here: {listed}."
    other = "linear" if spec != "linear" and any(map(_KEYWORDS["linear"], modules.values())) else "all"
    return f"{message}The model has no convolution; try {other!r}."
