"""Standard errors over the probe."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from lightning_infoplane.measurement.columns import Columns
from lightning_infoplane.measurement.quantity import Quantity

__all__ = ["block_error", "jackknife_error", "scatter", "with_errors"]


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
