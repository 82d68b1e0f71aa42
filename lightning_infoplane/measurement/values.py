"""Numbers of Gram matrices put into formulas: values, chance levels, and how the solver's errors propagate."""

import math
from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from lightning_infoplane.estimator.dependence import is_resolved, ratio_of_excess
from lightning_infoplane.estimator.solvers import Estimate
from lightning_infoplane.measurement.entropies import Known
from lightning_infoplane.measurement.formulas import (
    Adjusted,
    Excess,
    Formula,
    Leaf,
    Power,
    Term,
    leaves_in,
    needs_shuffles,
)

__all__ = ["ENOUGH_SHUFFLES", "Numbers"]

# For information beyond chance: the scatter of the shuffles must be known.
ENOUGH_SHUFFLES = 2


class Numbers(NamedTuple):
    """What is known of a moment, or of a part of its samples.

    Args:
        known: numbers by leaf, of X and Y scalars, of the layers ``(layers,)``.
        shuffles: how many there are of every term that is shuffled.
        samples: how many there are.
        is_part: whether of a part: then a value is given as long as there is one, for only its scatter is looked at.
    """

    known: Known
    shuffles: int
    samples: int
    is_part: bool = False

    def have(self, formula: object) -> bool:
        """Whether all is known that a formula needs; False for one that is not made of leaves."""
        leaves = leaves_in(formula)
        enough = self.shuffles >= ENOUGH_SHUFFLES or not needs_shuffles(formula)
        return bool(leaves) and enough and all(leaf in self.known for leaf in leaves)

    def value(self, formula: Formula) -> Tensor:
        """What it gives, ``(layers,)``, or a scalar of the probe; NaN where it has no value."""
        if isinstance(formula, Excess):
            return self._excess(formula).bits
        if isinstance(formula, Power):
            return self.known[formula.of].bits.exp2()
        if not isinstance(formula, Adjusted):
            return self._sum(formula)
        shared, first, second = (self._excess(part) for part in formula.parts)
        resolved = [
            part.bits > 0 if self.is_part else is_resolved(*part, self.known[end].bits / math.log2(self.samples))
            for part, end in zip((first, second), formula.ends, strict=True)
        ]
        return ratio_of_excess(shared.bits, first.bits, second.bits, resolved[0] & resolved[1])

    def chance(self, sums: Mapping[Leaf, int]) -> Tensor:
        """Mean of a signed sum over the shuffles."""
        null = [
            self._sum({leaf.shuffled(k) if isinstance(leaf, Term) else leaf: sign for leaf, sign in sums.items()})
            for k in range(self.shuffles)
        ]
        return torch.stack(null).mean(0)

    def squares(self, formula: Formula, of_layers_alone: bool = False) -> Tensor:
        """The solver's squared standard error, of all terms or of those with a layer in them."""
        if isinstance(formula, Power):
            slope = math.log(2) * self.value(formula)
            return (slope * self.known[formula.of].stderr).square()
        if isinstance(formula, Excess):
            joint = self.known[formula.term].stderr.square()
            shuffled = [self.known[formula.term.shuffled(k)].stderr.square() for k in range(self.shuffles)]
            return joint + torch.stack(shuffled).mean(0) / self.shuffles
        if isinstance(formula, Adjusted):
            return self._squares_of_ratio(formula, of_layers_alone)
        leaves = [leaf for leaf in formula if leaf.first == "T" or not of_layers_alone]
        return sum((self.known[leaf].stderr.square() for leaf in leaves), torch.zeros((), dtype=torch.float64))

    def _squares_of_ratio(self, formula: Adjusted, of_layers_alone: bool) -> Tensor:
        """To first order relative errors add in squares, those under the root by a quarter."""
        shared, first, second = formula.parts
        ratio = self.value(formula)
        total = self.squares(shared) / (self.value(first) * self.value(second)).abs()
        for part in (first,) if of_layers_alone else (first, second):
            total = total + self.squares(part) / self.value(part).square() * ratio.square() / 4
        return total

    def _sum(self, sums: Mapping[Leaf, int]) -> Tensor:
        total = torch.zeros((), dtype=torch.float64)
        for leaf, sign in sums.items():
            total = total + sign * self.known[leaf].bits
        return total

    def _excess(self, formula: Excess) -> Estimate:
        """Information beyond chance, and the scatter of its shuffles."""
        shuffled = torch.stack([self.known[formula.term.shuffled(k)].bits for k in range(self.shuffles)])
        chance = shuffled.mean(0)
        squares = (shuffled - chance).square().sum(0)  # torch's std warns where there is no layer
        return Estimate(chance - self.known[formula.term].bits, squares.div(self.shuffles - 1).sqrt())
