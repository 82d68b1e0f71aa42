"""Standard errors over the probe, and tests of gaps by them."""

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from lightning_infoplane.measurement.columns import Columns
from lightning_infoplane.measurement.quantity import Gap, Quantity

__all__ = ["block_error", "jackknife_error", "scatter", "student_tail", "with_errors", "with_tests"]


def scatter(parts: Sequence[Columns], are_blocks: bool) -> Columns:
    """Standard errors from what was found in parts of the probe: blocks, or all but one group.

    NaN, and so no error, where a part has no value.
    """
    error = block_error if are_blocks else jackknife_error
    tested = [quantity for quantity in parts[0] if quantity.stderr] if parts else []
    return {quantity: error(torch.stack([part[quantity] for part in parts])) for quantity in tested}


def with_errors(table: Columns, errors: Mapping[Quantity, Tensor]) -> Columns:
    """The table with these standard errors added, in squares, to those of the solver."""
    total = {
        quantity.error: (table[quantity.error].square() + error.square()).sqrt() for quantity, error in errors.items()
    }
    return table | total


def with_tests(table: Columns, degrees: int) -> Columns:
    """The table with p-values of its gaps, on the side of zero where they are: Student's, of so many degrees."""
    tests = {}
    for quantity in table:
        if isinstance(quantity.formula, Gap) and quantity.error in table:
            error = table[quantity.error]
            size = table[quantity].abs()
            statistic = torch.where(error > 0, size / torch.where(error > 0, error, 1.0), 0.0)
            tests[quantity.p_value] = student_tail(statistic, degrees).where(~(size + error).isnan(), torch.nan)
    return table | tests


def block_error(parts: Tensor) -> Tensor:
    r"""Standard error ``(...)`` of a quantity of the whole from its values ``(G, ...)`` in blocks that share no sample.

    .. math:: \widehat{\mathrm{se}} = \sqrt{\tfrac{1}{G (G-1)} \sum_g (v_g - \bar v)^2}

    Values in blocks are a little too small or too large, all alike, for a block has fewer samples; so only their
    scatter is looked at. It makes the error a little too large.

    Source: the method of batch means.

    Example:
        >>> block_error(torch.tensor([1.0, 3.0]))
        tensor(1.)
    """
    groups = len(parts)
    squares = (parts - parts.mean(0)).square().sum(0)  # torch's std warns where there is no layer
    return squares.div(groups * (groups - 1)).sqrt()


def jackknife_error(parts: Tensor) -> Tensor:
    r"""Standard error ``(...)`` of a quantity from its values ``(G, ...)`` with one group of samples left out each.

    .. math:: \widehat{\mathrm{se}} = \sqrt{\tfrac{G-1}{G} \sum_g (v_g - \bar v)^2}

    Source: Efron and Stein (1981).

    Example:
        >>> jackknife_error(torch.tensor([1.0, 3.0]))
        tensor(1.)
    """
    groups = len(parts)
    return (parts - parts.mean(0)).square().sum(0).mul((groups - 1) / groups).sqrt()


def student_tail(statistic: Tensor, degrees: int) -> Tensor:
    r"""How likely Student's t exceeds a statistic of zero or more: one-sided p-values, elementwise.

    .. math:: P(t_\nu > t) = \tfrac12 (1 - A(t \mid \nu))

    Args:
        statistic: ``(...)``, at least zero.
        degrees: of freedom, 1 or more.

    Source: Abramowitz and Stegun (1964), 26.7.3 and 26.7.4: for whole degrees a finite sum.

    Example:
        >>> student_tail(torch.tensor(1.0, dtype=torch.float64), 1)  # Cauchy's upper quartile
        tensor(0.2500, dtype=torch.float64)
    """
    angle = torch.atan(statistic / math.sqrt(degrees))
    cosine = angle.cos()
    odd = degrees % 2
    term = cosine if odd else torch.ones_like(cosine)
    total = torch.zeros_like(cosine)
    for power in range(1 + odd, degrees, 2):
        total = total + term
        term = term * cosine.square() * (power / (power + 1))
    within = (angle + angle.sin() * total) * (2 / math.pi) if odd else angle.sin() * total
    return (1 - within).clamp_min(0) / 2
