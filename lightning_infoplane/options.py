"""What a monitor is told, checked: the options that it shares with the callback, its probes, and files to measure."""

import os
from collections.abc import Iterable, Mapping
from typing import Any

from torch import nn

from lightning_infoplane.arguments.checks import Function, Instance, Maybe, Rule, Whole, WrongKindError, shown
from lightning_infoplane.estimator.redundancy import Redundancy
from lightning_infoplane.measurement.ranks import Ranks
from lightning_infoplane.measurement.settings import Estimator
from lightning_infoplane.network.gradients import ErrorSignals
from lightning_infoplane.network.layers import check_layers
from lightning_infoplane.network.probe import Probe
from lightning_infoplane.network.readout import READOUT

__all__ = ["MOMENT", "NETWORK", "OPTIONS", "check_layers", "check_options", "files", "probes_by_name"]

# What both the callback and a monitor are told.
OPTIONS: Mapping[str, Rule] = {
    "estimator": Instance.of(Estimator),
    "forward_fn": Maybe(Function("(module, inputs) -> outputs", 2, write="lambda module, inputs: module(inputs)")),
    "readout": READOUT,
    "dpi_pairs": Instance("'markov', 'consecutive' or None", constants=("markov", "consecutive", None)),
    "error_signals": Instance.of(ErrorSignals, True, False),
    "redundancy": Instance.of(Redundancy, True, False),
}
_OTHERS: Mapping[str, Rule] = {
    "ranks": Instance.of(Ranks),
    "context": Function("() -> context manager", 0, "torch.no_grad", classes=True),
    "notice": Maybe(Function("(about, message) -> None", 2, "lambda about, message: print(message)")),
    "on_failure": Function("(what, error) -> None", 2, "lambda what, error: print(what, error)"),
    "batch_size": Maybe(Whole(1)),
}
NETWORK = Instance("a torch.nn.Module", kinds=(nn.Module,), example="model")
MOMENT = Whole(0, example="0")


def check_options(**values: object) -> dict[str, Any]:
    """Values by name, a number as Python's own.

    Example:
        >>> check_options(batch_size=64)
        {'batch_size': 64}
    """
    rules = {**OPTIONS, **_OTHERS}
    return {name: rules[name](name, value, default=None) for name, value in values.items()}


def probes_by_name(probe: object) -> dict[str, Probe]:
    """The probes by name; the empty name for a single one.

    Raises:
        TypeError: for what is no probe.
        ValueError: for none.
    """
    probes: dict[Any, Any] = dict(probe) if isinstance(probe, Mapping) else {"": probe}
    for name, one in probes.items():
        if not isinstance(name, str):
            raise WrongKindError(f"probe: expected names as keys, got {shown(name)}. Write probe={{'{name}': probe}}.")
        if not isinstance(one, Probe):
            what = f"probe[{name!r}]" if isinstance(probe, Mapping) else "probe"
            raise WrongKindError(
                f"{what}={shown(one)}: expected Probe(inputs, targets), or several by name; outside of a Trainer there "
                "are no data to draw one from. Write probe=Probe(inputs, targets)."
            )
    if not probes:
        raise ValueError("probe={}: expected a Probe or more by name. Write probe=Probe(inputs, targets).")
    return probes


def files(paths: object) -> Iterable[str | os.PathLike[str]]:
    """Paths, if they are: a single one is iterable too, letter by letter.

    Example:
        >>> list(files(["first.ckpt", "last.ckpt"]))
        ['first.ckpt', 'last.ckpt']
    """
    if isinstance(paths, str | bytes | os.PathLike) or not isinstance(paths, Iterable):
        name = shown(os.fspath(paths)) if isinstance(paths, str | os.PathLike) else "'last.ckpt'"
        raise WrongKindError(f"paths={shown(paths)}: expected several files. Write paths=[{name}].")
    return map(_file, paths)


def _file(path: object) -> str | os.PathLike[str]:
    if isinstance(path, str | os.PathLike):
        return path
    raise WrongKindError(f"paths: expected files, such as 'last.ckpt', got {shown(path)}. Write paths=['last.ckpt'].")
