"""What the callback alone is told: its options, and the probe as a person may write it."""

from collections.abc import Mapping
from numbers import Integral
from typing import Any

from torch import Tensor

from lightning_infoplane.arguments.checks import (
    FLAG,
    TEXT,
    Instance,
    Maybe,
    Rule,
    Whole,
    WrongKindError,
    call_of,
    shown,
)
from lightning_infoplane.network.probe import Draw, Probe
from lightning_infoplane.trainer.outputs import Outputs

__all__ = ["OWN", "as_wanted", "pair_as_probe"]

# Arguments and what they may be, but for layers, probe and schedule, which are read where they are understood.
OWN: Mapping[str, Rule] = {
    "measure_at_start": FLAG,
    "outputs": Instance.of(Outputs),
    "name": TEXT,
    "log_prefix": Maybe(TEXT),
    "probe_batch_size": Maybe(Whole(1)),
    "on_change": Instance("'error' or 'warn'", constants=("error", "warn")),
    "raise_on_error": FLAG,
}


def pair_as_probe(probe: Any) -> Any:  # noqa: ANN401
    """A pair ``(inputs, targets)`` as a probe; anything else as it is.

    Raises:
        TypeError: for a tuple of another length.
    """
    if not isinstance(probe, tuple):
        return probe
    if len(probe) not in (1, 2):
        raise WrongKindError(
            f"probe={shown(probe)}: expected a pair (inputs, targets), got {len(probe)} values. "
            "Where there are several inputs, write probe=((first, second), targets)."
        )
    return Probe(*probe)


def as_wanted(probe: object) -> Probe | Draw:
    """A probe, or how to draw one.

    Raises:
        TypeError: for anything else.
        ValueError: for fewer than two samples.

    Example:
        >>> as_wanted(256)
        Draw(size=256, source='val')
    """
    if isinstance(probe, Probe):
        _check_x(probe.x)
    if isinstance(probe, Probe | Draw):
        return probe
    if isinstance(probe, Integral) and not isinstance(probe, bool):
        return Draw(int(probe))
    raise WrongKindError(
        f"probe={shown(probe)}: expected a number of samples, Draw(size, source), Probe(inputs, targets) or a pair "
        f"(inputs, targets).{_instead(probe)}"
    )


def _check_x(x: Tensor) -> None:
    """X of a probe that is given has to be what a kernel can be made of: nobody looks at it again before training."""
    if x.is_complex():
        raise ValueError(f"a probe's inputs must be real, got {x.dtype}. Write torch.view_as_real(inputs).")
    if x.numel() == 0:
        raise ValueError(f"a probe's inputs must hold numbers, got shape {tuple(x.shape)}. Pass one row a sample.")


def _instead(probe: Any) -> str:  # noqa: ANN401
    """What to type in place of what is no probe."""
    match probe:
        case str() | float() | bool() | None:
            meant = _counted(probe)
        case dict() if probe and set(probe) <= {"size", "source"}:
            meant = f"Draw({', '.join(f'{key}={shown(one)}' for key, one in probe.items())})"
        case dict():
            return " Write probe=Probe(inputs, targets), the mapping being the inputs."
        case type():
            meant = f"{call_of(Draw)}, an object, not the class" if probe is Draw else "(inputs, targets)"
        case _ if hasattr(probe, "collate_fn"):
            return " Write probe=512 to draw from the Trainer's data."
        case _:
            meant = "(inputs, targets)"
    return f" Write probe={meant}."


def _counted(probe: Any) -> str:  # noqa: ANN401
    """The number of samples in a text or a fraction, or the source that a word names."""
    if probe in ("train", "val"):
        return f"Draw(512, {probe!r})"
    try:
        size = round(float(probe)) if isinstance(probe, str | float) else 0
    except (ValueError, OverflowError):
        size = 0
    return str(size if size > 1 else 512)
