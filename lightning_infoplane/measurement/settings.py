"""How to measure, as one frozen value that callback, plane, metrics and command share."""

import inspect
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any, Literal

from lightning_infoplane.arguments.checks import SEED, Instance, Maybe, Whole, checked
from lightning_infoplane.estimator.bandwidths import BANDWIDTH, Bandwidth, MedianDistance
from lightning_infoplane.estimator.entropy import ALPHA, check_alpha
from lightning_infoplane.estimator.solvers import SOLVER, Eigenvalues, Solver

__all__ = ["Choice", "Estimator", "Jackknife", "as_data"]


class Choice:
    """Prints what differs from its defaults, as it would be typed; arguments are attributes of the same name."""

    def __repr__(self) -> str:
        """As it would be typed."""
        arguments = inspect.signature(type(self)).parameters
        changed = [
            f"{name}={getattr(self, name)!r}"
            for name, argument in arguments.items()
            if hasattr(self, name) and not _alike(getattr(self, name), argument.default)  # a subclass may have others
        ]
        return f"{type(self).__name__}({', '.join(changed)})"


def _alike(value: object, default: object) -> bool:
    # Tensors compare element by element, and have no truth value: a default is never one.
    return value is default or (type(value) is type(default) and bool(value == default))


@dataclass(frozen=True)
@checked(groups=Whole(2, hint="10 are usual", terse=True))
class Jackknife:
    """Standard errors over the probe, by leaving out one group of samples after the other.

    For publication: closer than ``"blocks"``, at the cost of as many measurements as there are groups.

    Args:
        groups: how many; 10 are usual.

    Raises:
        ValueError: for fewer than two.
    """

    groups: int = 10


_TARGET_BANDWIDTH = replace(
    BANDWIDTH, expected="an instance of Bandwidth, such as {field}=Silverman()", example="Silverman()"
)
_STANDARD_ERRORS = Instance(
    '"blocks", Jackknife(groups=10) or None',
    kinds=(Jackknife,),
    constants=("blocks", None),
    known=("Jackknife()",),
    terse=True,
)


@dataclass(frozen=True, repr=False)
@checked(
    False,
    alpha=ALPHA,
    bandwidth=BANDWIDTH,
    target_bandwidth=Maybe(_TARGET_BANDWIDTH),
    solver=SOLVER,
    shuffles=Whole(0, hint="0 turns the chance level off"),
    standard_errors=_STANDARD_ERRORS,
    seed=SEED,
)
class Estimator(Choice):
    """How information is estimated.

    Args:
        alpha: the order of the entropy; 1.01 is the paper's, 2 needs no spectrum.
        bandwidth: the rule for inputs and layers.
        target_bandwidth: the rule for targets. Left out, integer targets get the class kernel, so that H(Y) is the
            entropy of the classes, and continuous ones ``MedianDistance()``; given, integer targets are one-hot
            vectors under a Gaussian, as in the paper.
        solver: how entropies are computed; exact by default.
        shuffles: averaged for the chance level, the same ones at every measurement. Adjusted information needs 2 or
            more; 0 turns chance levels off.
        standard_errors: ``"blocks"``, from the scatter over 8 parts of the probe that share no sample (4 where it has
            fewer than 256, none below 64), which costs a few per cent and is rather too large than too small;
            ``Jackknife(groups=10)``, for publication; or None for none. Of other samples with the same share of every
            class.
        seed: of the shuffles and of the draw of a probe.

    Raises:
        ValueError: for an impossible ``alpha`` or number of shuffles.
        TypeError: for a rule, a solver or a kind of standard errors that is none.

    Example:
        >>> Estimator(alpha=2, shuffles=20)
        Estimator(alpha=2, shuffles=20)
    """

    alpha: float = 1.01
    bandwidth: Bandwidth = MedianDistance()
    target_bandwidth: Bandwidth | None = None
    solver: Solver = Eigenvalues()
    shuffles: int = 2
    standard_errors: Jackknife | Literal["blocks"] | None = "blocks"
    seed: int = 0

    def __post_init__(self) -> None:
        """Warn of an order that hangs on rounding, and refuse one that the solver has no way to."""
        check_alpha(self.alpha, stacklevel=5)
        self.solver.check_order(self.alpha)


def as_data(choice: object) -> Any:  # noqa: ANN401 - whatever JSON can hold
    """A choice as plain data, with the names of its classes, to be written beside what was measured.

    Example:
        >>> as_data(MedianDistance())
        {'class': 'MedianDistance', 'scale': 1.0, 'freeze': False, 'samples': None}
    """
    if is_dataclass(choice):
        own = {field.name: as_data(getattr(choice, field.name)) for field in fields(choice)}
        return {"class": type(choice).__name__, **own}
    if isinstance(choice, list | tuple):
        return [as_data(one) for one in choice]
    if isinstance(choice, str | int | float | None):
        return choice
    # An address in memory is another one in the next process: a function is known by its name, an object by its class.
    named = choice if hasattr(choice, "__qualname__") else type(choice)
    text = str(choice)
    return f"{named.__module__}.{named.__qualname__}" if " at 0x" in text else text
