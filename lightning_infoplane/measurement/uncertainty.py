"""Standard errors over the probe."""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from lightning_infoplane.measurement.columns import Columns
from lightning_infoplane.measurement.entropies import Grams
from lightning_infoplane.measurement.quantity import Quantity

__all__ = ["jackknife", "jackknife_error", "with_errors"]


def jackknife(grams: Grams, groups: int, seed: int, columns_of: Callable[[Grams], Columns]) -> Columns:
    """Standard errors by leaving out one group of samples after the other.

    At the bandwidths of the whole probe. A rule that follows the samples takes part of their scatter back,
    which is not seen here: then this is rather too large, for gaps between layers by little.

    Args:
        grams: of the whole probe.
        groups: how many, at most the number of samples.
        seed: of the division into groups.
        columns_of: the quantities of a part, without chance levels.
    """
    n = len(grams.input)
    groups = min(groups, n)
    group = torch.randperm(n, generator=torch.Generator().manual_seed(seed)) % groups
    parts = [columns_of(grams.part((group != left_out).nonzero().squeeze(1))) for left_out in range(groups)]
    return {
        quantity: jackknife_error(torch.stack([part[quantity] for part in parts]))
        for quantity in parts[0]
        if quantity.stderr
    }


def with_errors(table: Columns, errors: Mapping[Quantity, Tensor]) -> Columns:
    """The table with these standard errors added, in squares, to those of the solver."""
    total = {
        quantity.error: (table[quantity.error].square() + error.square()).sqrt() for quantity, error in errors.items()
    }
    return table | total


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
