"""X and Y of a probe: what every layer is compared with, made once."""

from functools import cached_property

import torch
from torch import Tensor

from lightning_infoplane.estimator.bandwidths import MedianDistance
from lightning_infoplane.estimator.grams import as_variables, class_gram, gaussian_gram
from lightning_infoplane.estimator.precision import for_spectra
from lightning_infoplane.estimator.solvers import Estimate
from lightning_infoplane.measurement.entropies import Grams, own_entropies
from lightning_infoplane.measurement.formulas import Term
from lightning_infoplane.measurement.ranks import Ranks
from lightning_infoplane.measurement.settings import Estimator

__all__ = ["Reference"]


class Reference:
    """X and Y of a probe: their Gram matrices and entropies, made once and used at every measurement.

    Args:
        estimator: how to measure.
        inputs: ``(n, ...)``.
        targets: ``(n,)`` integer classes, ``(n, ...)`` continuous values, or None.
        previous: the inputs' bandwidth at an earlier time, for rules that freeze or smooth theirs.

    Raises:
        ValueError: for fewer than two samples, targets of another length, or values that are not finite.
    """

    def __init__(
        self, estimator: Estimator, inputs: Tensor, targets: Tensor | None, previous: Tensor | None = None
    ) -> None:
        if inputs.ndim == 0 or len(inputs) < 2:
            raise ValueError(f"a measurement needs at least 2 samples, got inputs of shape {tuple(inputs.shape)}.")
        if targets is not None and targets.shape[:1] != inputs.shape[:1]:
            what = f"{len(targets)} targets" if targets.ndim else "a single number as targets"
            raise ValueError(f"got {len(inputs)} inputs but {what}.")
        self.n = len(inputs)
        self._estimator = estimator
        self._synchronized = False
        labels, target = self._read_targets(targets)
        maps = as_variables(inputs)
        self.guide: Tensor | None = None
        if estimator.bandwidth.needs_target:  # made only for such rules: it is as large as any other matrix
            self.guide = target if labels is None else class_gram(labels.to(inputs.device))
        self.sigma = estimator.bandwidth(maps, target=self.guide, previous=previous)
        target = None if target is None else for_spectra(target)
        self.grams = Grams(for_spectra(gaussian_gram(maps, self.sigma)), labels, target, {})
        for name, gram in (("inputs", self.grams.input), ("targets", target)):
            if gram is not None and not bool(gram.sum().isfinite()):
                raise ValueError(f"the {name} of the probe hold NaN or infinite values.")

    def synchronize(self, ranks: Ranks) -> None:
        """Take rank 0's matrices, at the first use: error signals differ between ranks as running statistics do."""
        if self._synchronized:
            return
        target = None if self.grams.target is None else ranks.first(self.grams.target)
        labels = self.grams.labels
        if labels is not None:  # over the device: some process groups exchange nothing else
            labels = ranks.first(labels.to(self.grams.input.device)).cpu()
        self.grams = self.grams._replace(input=ranks.first(self.grams.input), labels=labels, target=target)
        self.sigma = ranks.first(self.sigma)
        self._synchronized = True

    @cached_property
    def entropies(self) -> dict[Term, Estimate]:
        """Of X, and of Y where there are targets."""
        return own_entropies(self.grams, self._estimator)

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
        maps = as_variables(values.flatten(1) if values.ndim > 2 else values)
        return None, gaussian_gram(maps, (rule or MedianDistance())(maps))
