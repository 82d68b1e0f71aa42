"""To whichever logger a run has: keys that every one accepts, and values at a step of our choosing."""

import re
from collections.abc import Iterable, Mapping
from typing import Any

__all__ = ["log_key", "log_scalars"]

# MLflow is the strictest: other characters would be dropped there, and two layers could become one.
_FORBIDDEN = re.compile(r"[^A-Za-z0-9_./-]")


def log_key(prefix: str, quantity: str, layer: str) -> str:
    """The key of a number: ``{prefix}{quantity}/{layer}``, without a layer ``{prefix}{quantity}``.

    Example:
        >>> log_key("", "I_XT", "net.0"), log_key("train/", "H_X", "")
        ('I_XT/net.0', 'train/H_X')
    """
    return _FORBIDDEN.sub("_", prefix + (f"{quantity}/{layer}" if layer else quantity))


def log_scalars(loggers: Iterable[Any], values: Mapping[str, float], step: int, epoch: int) -> None:
    """Write values at a step of their own, which ``LightningModule.log`` cannot do outside an epoch's end."""
    for logger in loggers:
        logger.log_metrics({**values, "epoch": epoch}, step=step)
