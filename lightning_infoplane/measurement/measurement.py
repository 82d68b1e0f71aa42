"""One moment of a network: activations to Gram matrices as they come, entropies to quantities at the end."""

import math
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor

from lightning_infoplane.estimator.grams import as_variables, gaussian_gram
from lightning_infoplane.estimator.precision import for_spectra, widest_float
from lightning_infoplane.estimator.redundancy import LayerRedundancy, Redundancy, layer_redundancy
from lightning_infoplane.estimator.solvers import Estimate
from lightning_infoplane.measurement.columns import Columns, columns, counts, functions_of, of_the_probe, terms_of
from lightning_infoplane.measurement.entropies import Grams, entropies
from lightning_infoplane.measurement.formulas import Term
from lightning_infoplane.measurement.listener import Listener
from lightning_infoplane.measurement.quantity import Of, Quantity, Subject
from lightning_infoplane.measurement.ranks import Ranks
from lightning_infoplane.measurement.reduced import Reduced
from lightning_infoplane.measurement.reference import Reference
from lightning_infoplane.measurement.rows import Pair, Place
from lightning_infoplane.measurement.settings import Estimator
from lightning_infoplane.measurement.uncertainty import jackknife, with_errors

__all__ = ["Measurement", "Value"]

_NOT_FINITE = "layer {layer!r} has NaN or infinite values: it is left out."
_NO_SPECTRUM = (
    "layer {layer!r} is left out: its Gram matrix has no spectrum. Float32 does not resolve it at this bandwidth, or "
    "the solver failed. MedianDistance(scale=2) is a larger bandwidth."
)
_NO_PAIRS = "layer {layer!r} has one feature map and so no pairs: its redundancy is left out."


class Value(NamedTuple):
    """One number of the moment."""

    place: Place
    quantity: Quantity
    value: float


class Measurement:
    """Gram matrices of one moment: made by ``InformationPlane.start``, ended by its ``finish``.

    Args:
        estimator: how to measure.
        reference: X and Y.
        probe: its name, for the rows.
        subject: what the layers' values are.
        previous: bandwidths by layer at an earlier time, for rules that freeze or smooth theirs.
        pairs: layers between which gaps are wanted; each layer and the next where none are given.
        redundancy: how feature maps are compared; None does not compare them.
        listener: told of progress, and of a layer that is left out.
    """

    def __init__(
        self,
        estimator: Estimator,
        reference: Reference,
        *,
        probe: str = "",
        subject: Subject = Subject.ACTIVATIONS,
        previous: Mapping[str, Tensor] | None = None,
        pairs: Sequence[tuple[str, str]] | None = None,
        redundancy: Redundancy | None = None,
        listener: Listener = Listener(),
    ) -> None:
        self.n = reference.n
        self.probe = probe
        self.subject = subject
        self.sigmas = {"": reference.sigma}
        self._estimator = estimator
        self._reference = reference
        self._redundancy = redundancy
        self._previous = previous or {}
        self._pairs = pairs
        self._listener = listener
        self._layers: dict[str, Tensor] = {}
        self._numbers: dict[tuple[str, Quantity], Tensor] = {}  # known before the spectra, each rank's own
        self._known: dict[tuple[str, Quantity], float] = {}  # the same of rank 0, on the host

    def add(self, name: str, activation: Tensor) -> None:
        """Reduce a layer's activation ``(n, ...)`` to its Gram matrix; nothing else of it is kept."""
        if activation.ndim == 0 or len(activation) != self.n:
            raise ValueError(f"{name}: expected one value a sample, ({self.n}, ...), got {tuple(activation.shape)}.")
        maps = as_variables(activation)
        rule = self._estimator.bandwidth
        reference = self._reference
        self.sigmas[name] = rule(maps, target=reference.guide, previous=self._previous.get(name))
        gram = gaussian_gram(maps, self.sigmas[name])
        layer = Reduced(gram, self.sigmas[name], self._compare_maps(name, maps, gram))
        for quantity in functions_of(self.subject):
            self._numbers |= {(name, one): number for one, number in _apply(quantity, layer).items()}
        self._layers[name] = for_spectra(gram).to(reference.grams.input.device)  # a model in parts: one place for all
        self._listener.progress(1)

    def evaluate(self, ranks: Ranks) -> list[Value]:
        """All quantities; a layer that is not finite is left out, with a notice."""
        grams = self._of_rank_0(ranks)
        shuffles = self._estimator.shuffles
        known = self._entropies(grams, shuffles, ranks, self._listener.progress, lambda: self._reference.entropies)
        grams, known = self._without_failures(grams, known)
        pairs = self._gap_pairs(grams)
        table = columns(known, self.subject, _ends(grams, pairs), shuffles)
        how = self._estimator.standard_errors
        if how is not None:

            def columns_of(part: Grams) -> Columns:
                return columns(self._entropies(part, 0, ranks), self.subject, _ends(part, pairs), shuffles=0)

            table = with_errors(table, jackknife(grams, how.groups, self._estimator.seed, columns_of))
        of_probe = of_the_probe(self._reference, self._reference.entropies, self.subject)
        if pairs:
            of_probe |= counts(table, self.subject)
        values = [Value("", quantity, value) for quantity, value in of_probe.items()]
        values += self._of_places(table, list(grams.layers), pairs)
        return values + [
            Value(layer, quantity, number)
            for (layer, quantity), number in self._known.items()
            if layer in grams.layers and not math.isnan(number)  # NaN is no value
        ]

    def _entropies(
        self,
        grams: Grams,
        shuffles: int,
        ranks: Ranks,
        progress: Callable[[int], object] = lambda layers: None,
        own: Callable[[], dict[Term, Estimate]] | None = None,
    ) -> dict[Term, Estimate]:
        """Of every term that the table asks for."""
        terms = terms_of(self.subject, grams.partners, shuffles)
        return entropies(grams, terms, self._estimator, ranks, progress, own)

    def _compare_maps(self, name: str, maps: Tensor, gram: Tensor) -> LayerRedundancy | None:
        """What the feature maps share, where that was asked for and there are two or more."""
        if self._redundancy is None:
            return None
        if maps.shape[1] == 1:
            self._listener.notice(f"{name} pairs", _NO_PAIRS.format(layer=name))
            return None
        if not bool(gram.sum().isfinite()):  # the layer will be left out, but not before all ranks have agreed on it
            return None
        reference = self._reference
        alpha = self._estimator.alpha
        guide = None if reference.guide is None else for_spectra(reference.guide)
        rule = self._estimator.bandwidth
        return layer_redundancy(reference.grams.input, for_spectra(maps), rule, alpha, self._redundancy, guide)

    def _of_rank_0(self, ranks: Ranks) -> Grams:
        """Rank 0's matrices, for running statistics differ between ranks until the next step; only finite ones.

        This is the one look at the numbers before their spectra: a NaN would end eigvalsh with an error. All that is
        known by now comes to the host with it.
        """
        self._reference.synchronize(ranks)
        layers = {name: ranks.first(gram) for name, gram in self._layers.items()}
        self.sigmas = {name: ranks.first(sigma) for name, sigma in self.sigmas.items()}
        finite = [gram.sum().isfinite() for gram in layers.values()]
        if not layers:
            return self._reference.grams
        place = self._reference.grams.input.new_empty(0, dtype=widest_float(self._reference.grams.input.device))
        here = torch.stack([for_spectra(number).to(place) for number in (*finite, *self._numbers.values())])
        numbers = ranks.first(here).tolist()
        self._known = dict(zip(self._numbers, numbers[len(layers) :], strict=True))
        for name, good in zip(list(layers), numbers[: len(layers)], strict=True):
            if not good:
                self._listener.notice(f"{name} finite", _NOT_FINITE.format(layer=name))
                del layers[name], self.sigmas[name]
        return self._reference.grams._replace(layers=layers)

    def _without_failures(self, grams: Grams, known: dict[Term, Estimate]) -> tuple[Grams, dict[Term, Estimate]]:
        """Only the layers of which every entropy was found; one that was not costs the others nothing."""
        of_layers = {term: torch.stack(estimate) for term, estimate in known.items() if term.layer}
        fine = torch.stack([both.isfinite().all(0) for both in of_layers.values()]).all(0)
        for name, good in zip(list(grams.layers), fine.tolist(), strict=True):
            if not good:
                self._listener.notice(f"{name} spectrum", _NO_SPECTRUM.format(layer=name))
                del self.sigmas[name]
        layers = {name: gram for name, gram in grams.layers.items() if name in self.sigmas}
        kept = {term: Estimate(*both[:, fine]) for term, both in of_layers.items()}
        return grams._replace(layers=layers), known | kept

    def _gap_pairs(self, grams: Grams) -> list[Pair]:
        """The pairs asked for, without layers left out; where none were asked for, each layer with the next."""
        pairs = list(pairwise(grams.layers)) if self._pairs is None else self._pairs
        return [Pair(a, b) for a, b in pairs if a in grams.layers and b in grams.layers]

    def _of_places(self, table: Columns, layers: list[str], pairs: list[Pair]) -> list[Value]:
        """Columns as numbers of layers and of pairs; an exact solver has no error to show."""
        resampled = self._estimator.standard_errors is not None
        values = []
        for quantity, column in table.items():
            numbers = column.tolist()
            is_error = quantity.base is not None and quantity is quantity.base.error
            if is_error and not resampled and not any(numbers):
                continue
            places: Sequence[Place] = pairs if quantity.of is Of.PAIR else layers
            values += [Value(place, quantity, number) for place, number in zip(places, numbers, strict=True)]
        return values


def _apply(quantity: Quantity, layer: Reduced) -> dict[Quantity, Tensor]:
    """A function of a layer: its value and its own standard error; NaN where there is none, alike on all ranks."""
    nothing = layer.gram.new_full((), torch.nan)
    result = quantity.formula(layer) if callable(quantity.formula) else None
    estimate = result if isinstance(result, Estimate) else Estimate(nothing if result is None else result, nothing)
    return {quantity: estimate.bits, quantity.error: estimate.stderr} if quantity.stderr else {quantity: estimate.bits}


def _ends(grams: Grams, pairs: Sequence[Pair]) -> Tensor:
    """Places ``(pairs, 2)`` of the layers of each pair."""
    order = list(grams.layers)
    return torch.tensor([(order.index(a), order.index(b)) for a, b in pairs], dtype=torch.long).reshape(-1, 2)
