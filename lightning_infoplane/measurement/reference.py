"""X and Y of a probe: what every layer is compared with, made once."""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from lightning_infoplane.estimator.bandwidths import MedianDistance
from lightning_infoplane.estimator.grams import as_variables, class_gram, gaussian_gram
from lightning_infoplane.estimator.precision import for_spectra
from lightning_infoplane.measurement.division import divide, width
from lightning_infoplane.measurement.entropies import Known, Sides, own_entropies
from lightning_infoplane.measurement.formulas import Leaf
from lightning_infoplane.measurement.ranks import Ranks, shape_of
from lightning_infoplane.measurement.settings import Estimator

__all__ = ["Reference"]

# Numbers in a code for a class, where there are more classes than that; and in the codes of all samples.
_CODE = 64
_MOST_CODES = 2**26


class Reference:
    """X and Y of a probe: Gram matrices, division and entropies, made once and used at every measurement.

    Args:
        estimator: how to measure.
        inputs: ``(n, ...)``.
        targets: ``(n,)`` integer classes, ``(n, ...)`` continuous values, or None. Integers ``(n, ...)`` are classes in
            several places, of which it counts in how many they differ.
        previous: the inputs' bandwidth at an earlier time, for rules that freeze or smooth theirs.
        known: the inputs' Gram matrix and bandwidth, made at an earlier time of inputs that are no more.

    Raises:
        ValueError: for fewer than two samples, targets of another length, or values that are not finite.
    """

    def __init__(
        self,
        estimator: Estimator,
        inputs: Tensor,
        targets: Tensor | None,
        previous: Tensor | None = None,
        known: tuple[Tensor, Tensor] | None = None,
    ) -> None:
        if inputs.ndim == 0 or len(inputs) < 2:
            raise ValueError(f"a measurement needs at least 2 samples, got inputs of shape {tuple(inputs.shape)}.")
        if targets is not None and targets.shape[:1] != inputs.shape[:1]:
            what = f"{len(targets)} targets" if targets.ndim else "a single number as targets"
            raise ValueError(f"got {len(inputs)} inputs but {what}.")
        self.n = len(inputs)
        self._estimator = estimator
        self.spectra = estimator
        self._synchronized = False
        labels, target = self._read_targets(targets)
        maps = as_variables(inputs)
        self.guide: Tensor | None = None
        if estimator.bandwidth.needs_target:  # made only for such rules: it is as large as any other matrix
            self.guide = target if labels is None else class_gram(labels.to(inputs.device))
        if known is None:
            self.sigma = estimator.bandwidth(maps, target=self.guide, previous=previous)
            gram = for_spectra(gaussian_gram(maps, self.sigma))
        else:
            gram = known[0].to(inputs.device)
            self.sigma = known[1].to(inputs.device)
        target = None if target is None else for_spectra(target)
        self.sides = Sides(gram, labels, target)
        self._own: list[Known] = []
        for name, one in (("inputs", gram), ("targets", target)):
            if one is not None and not bool(one.sum().isfinite()):
                raise ValueError(f"the {name} of the probe hold NaN or infinite values.")

    def synchronize(self, ranks: Ranks) -> None:
        """Take rank 0's matrices, at the first use: error signals differ between ranks as running statistics do."""
        if self._synchronized:
            return
        gram = ranks.first(self.sides.input)
        target = None if self.sides.target is None else ranks.first(self.sides.target)
        labels = self.sides.labels
        if labels is not None:  # over the device: some process groups exchange nothing else
            labels = ranks.first(labels.to(gram.device)).cpu()
        self.sigma = ranks.first(self.sigma)
        ranks.together(lambda: self._settle(gram, labels, target), gram.device)
        self._synchronized = True

    @property
    def shapes(self) -> tuple[object, ...]:
        """Of all that :meth:`synchronize` exchanges: the processes must agree on them before."""
        of_labels = None if self.sides.labels is None else (*self.sides.labels.shape,)
        return (*map(shape_of, (self.sides.input, self.sides.target, self.sigma)), of_labels)

    def _settle(self, gram: Tensor, labels: Tensor | None, target: Tensor | None) -> None:
        """All that follows from the matrices alone."""
        rule = self._estimator.bandwidth
        target_rule = self._estimator.target_bandwidth or MedianDistance()
        self.sides = Sides(
            gram,
            labels,
            target,
            width(gram) if rule.follows_samples else None,
            width(target) if target is not None and target_rule.follows_samples else None,
        )
        self.division = divide(self.n, labels, self._estimator)
        if self.division.parts:  # 5e-5 bits are far below the errors that will stand beside them
            self.spectra = replace(self._estimator, solver=self._estimator.solver.rough())

    def entropies(self, terms: Sequence[Leaf]) -> list[Known]:
        """Of X and of Y, for the whole probe and each part of it: computed once."""
        if not self._own:
            whole, parts = self.division
            self._own = own_entropies(self.sides, terms, [whole, *parts], self.spectra)
        return self._own

    def _read_targets(self, targets: Tensor | None) -> tuple[Tensor | None, Tensor | None]:
        """Labels, for the class kernel, or else the targets' Gaussian Gram matrix."""
        if targets is None:
            return None, None
        rule = self._estimator.target_bandwidth
        values = targets.detach()
        if not values.is_floating_point() and values.numel() == self.n:
            labels = values.flatten().long()
            if rule is None:
                return labels.cpu(), None
            values = torch.nn.functional.one_hot(torch.unique(labels, return_inverse=True)[1])
        elif not values.is_floating_point() and not values.is_complex():
            values = _as_codes(values.flatten(1))
        maps = as_variables(values.flatten(1) if values.ndim > 2 else values)
        return None, gaussian_gram(maps, (rule or MedianDistance())(maps))


def _as_codes(classes: Tensor) -> Tensor:
    """Classes in several places ``(n, places)``, such as tokens or pixels, as vectors that count where they differ.

    Numbers of classes have no distances. Each becomes a unit vector at right angles to the others, exactly where there
    are few, nearly so where there are many; of a great many places an even part is taken.
    """
    names, numbers = torch.unique(classes, return_inverse=True)
    size = min(len(names), _CODE)
    kept = max(1, _MOST_CODES // (len(classes) * size))
    numbers = numbers[:, :: -(-numbers.shape[1] // kept)]
    if size == len(names):
        codes = torch.eye(size)
    else:
        codes = torch.randn(len(names), size, generator=torch.Generator().manual_seed(0))
        codes = codes / codes.norm(dim=1, keepdim=True)
    return codes.to(classes.device)[numbers].flatten(1)
