"""One moment of a network: activations to Gram matrices as they come, entropies to quantities at the end."""

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor

from lightning_infoplane.arguments.errors import reason_of
from lightning_infoplane.estimator.grams import as_variables, gaussian_gram
from lightning_infoplane.estimator.precision import for_spectra, widest_float
from lightning_infoplane.estimator.redundancy import LayerRedundancy, Redundancy, layer_redundancy
from lightning_infoplane.estimator.solvers import Estimate
from lightning_infoplane.measurement.columns import (
    Columns,
    columns,
    counts,
    functions_of,
    leaves_of,
    of_the_probe,
)
from lightning_infoplane.measurement.entropies import Known, numbers
from lightning_infoplane.measurement.failures import is_of_memory
from lightning_infoplane.measurement.formulas import Term
from lightning_infoplane.measurement.listener import Listener, few
from lightning_infoplane.measurement.quantity import Of, Quantity, Subject
from lightning_infoplane.measurement.ranks import Ranks, disagreement, shape_of
from lightning_infoplane.measurement.reduced import Reduced, unfit, without_rounding
from lightning_infoplane.measurement.reference import Reference
from lightning_infoplane.measurement.rows import Pair, Place
from lightning_infoplane.measurement.settings import Estimator
from lightning_infoplane.measurement.uncertainty import scatter, with_errors, with_tests
from lightning_infoplane.measurement.values import Numbers

__all__ = ["Measurement", "Value"]

# Why a layer is left out.
_NOT_FINITE = "NaN or infinite values"
_NO_SPECTRUM = (
    "a Gram matrix without a spectrum, which float32 does not resolve at this bandwidth, or the solver failed; "
    "MedianDistance(scale=2) is a larger bandwidth"
)


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
        listener: told of progress, and of layers that are left out.
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
        self._failed: dict[str, str] = {}  # why a layer could not be reduced
        self._failure: Exception | None = None  # of the first, while none could: it holds a layer's activation
        self._without_pairs: list[str] = []

    def add(self, name: str, activation: Tensor) -> None:
        """Reduce a layer's activation ``(n, ...)`` to its Gram matrix; nothing else of it is kept.

        A layer of which that fails is left out. Where it fails of all, :meth:`evaluate` raises the first failure.

        Raises:
            MemoryError: and ``torch.OutOfMemoryError``, which are of the whole measurement.
        """
        try:
            why = unfit(activation, self.n)
            if not why:
                self._reduce(name, activation)
        except Exception as error:  # of one layer, which may be anything, and is to cost the others nothing
            if is_of_memory(error):
                raise
            self._fail(name, reason_of(error), error)
            return
        if why:
            self._fail(name, why, ValueError(f"layer {name!r}: {why}."))
            return
        self._failure = None
        self._listener.progress(1)

    def _reduce(self, name: str, activation: Tensor) -> None:
        """What is known of a layer without its spectrum: kept only where all of it was found."""
        maps = as_variables(activation)
        rule = self._estimator.bandwidth
        reference = self._reference
        sigma = rule(maps, target=reference.guide, previous=self._previous.get(name))
        live = without_rounding(maps, sigma)
        gram = gaussian_gram(maps, live)
        layer = Reduced(gram, live, self._compare_maps(name, maps, gram))
        known = [layer.numbers(quantity) for quantity in functions_of(self.subject)]
        matrix = for_spectra(gram).to(reference.sides.input.device)  # a model in parts: one place for all
        self.sigmas[name] = sigma  # as the rule found it, who goes on from it at the next measurement
        self._numbers |= {(name, quantity): number for numbers in known for quantity, number in numbers.items()}
        self._layers[name] = matrix

    def _fail(self, name: str, why: str, error: Exception) -> None:
        """Note of a layer that it could not be reduced: the processes have to agree on it first."""
        self._failed[name] = why
        if not self._layers and self._failure is None:
            self._failure = error

    def evaluate(self, ranks: Ranks) -> list[Value]:
        """All quantities; a layer that is not finite, or that is not the same on all processes, is left out.

        Raises:
            RuntimeError: on every process, if anything failed on one of them.
            Exception: the failure, where there is one process; of the first layer, if all of them failed.
        """
        self._tell_of_pairs()
        grams = self._of_rank_0(ranks)
        whole, parts = self._numbers_of_parts(grams, ranks)
        return ranks.together(lambda: self._values(list(grams), whole, parts), self._device)

    @property
    def _device(self) -> torch.device:
        """Where the matrices are."""
        return self._reference.sides.input.device

    def _values(self, names: list[str], whole: Numbers, parts: list[Numbers]) -> list[Value]:
        """What follows from the numbers."""
        layers, whole, parts = self._without_failures(names, whole, parts)
        pairs = self._gap_pairs(layers)
        ends = torch.tensor([(layers.index(a), layers.index(b)) for a, b in pairs], dtype=torch.long).reshape(-1, 2)
        table = columns(whole, self.subject, ends, self._functions(layers))
        if parts:
            are_blocks = self._estimator.standard_errors == "blocks"
            seen = [columns(part, self.subject, ends, {}) for part in parts]
            table = with_tests(with_errors(table, scatter(seen, are_blocks)), self._reference.division.degrees)
        of_probe = of_the_probe(self._reference, whole, self.subject)
        if pairs:
            of_probe |= counts(table, self.subject)
        values = [Value("", quantity, value) for quantity, value in of_probe.items()]
        values += self._of_places(table, layers, pairs)
        return [value for value in values if not math.isnan(value.value)]  # NaN is no value

    def _numbers_of_parts(self, layers: Mapping[str, Tensor], ranks: Ranks) -> tuple[Numbers, list[Numbers]]:
        """Of the whole probe, and of each part of it."""
        reference = self._reference
        shuffles = self._estimator.shuffles
        division = reference.division
        variables = reference.sides.variables
        wanted = leaves_of(self.subject, variables, shuffles)
        own = [leaf for leaf in wanted if leaf.first != "T"]
        of_layers = [leaf for leaf in wanted if leaf.first == "T"]
        of_parts = [leaf for leaf in leaves_of(self.subject, variables, shuffles, tests=False) if leaf.first == "T"]
        found = numbers(
            reference.sides,
            layers,
            [of_layers, *(of_parts for _ in division.parts)],
            [division.whole, *division.parts],
            reference.spectra,
            ranks,
            self._listener.progress,
            lambda: reference.entropies(own),
        )
        whole, *parts = (Numbers(known, shuffles, self.n, is_part=place > 0) for place, known in enumerate(found))
        return whole, parts

    def _compare_maps(self, name: str, maps: Tensor, gram: Tensor) -> LayerRedundancy | None:
        """What the feature maps share, where that was asked for and there are two or more."""
        if self._redundancy is None:
            return None
        if maps.shape[1] == 1:
            self._without_pairs.append(name)
            return None
        if not bool(gram.sum().isfinite()):  # the layer will be left out, but not before all ranks have agreed on it
            return None
        reference = self._reference
        alpha = self._estimator.alpha
        guide = None if reference.guide is None else for_spectra(reference.guide)
        rule = self._estimator.bandwidth
        return layer_redundancy(reference.sides.input, for_spectra(maps), rule, alpha, self._redundancy, guide)

    def _tell_of_pairs(self) -> None:
        """One sentence of all layers that cannot be compared with themselves."""
        names = self._without_pairs
        if not names:
            return
        message = f"layer {names[0]!r} has one feature map and so no pairs: its redundancy is left out."
        if len(names) > 1:
            message = (
                f"{len(names)} layers have one feature map each and so no pairs: their redundancy is left out: "
                f"{few(names)}."
            )
        self._listener.notice(f"pairs of {', '.join(names)}", message)

    def _of_rank_0(self, ranks: Ranks) -> dict[str, Tensor]:
        """Rank 0's matrices, for running statistics differ between ranks until the next step; only finite ones.

        Only tensors that all processes have, in the same shape: an exchange of others would end the process group.
        """
        names = self._agreed(ranks.objects(ranks.together(self._described, self._device)))
        self._reference.synchronize(ranks)
        layers = {name: ranks.first(self._layers[name]) for name in names}
        self.sigmas = {name: ranks.first(self.sigmas[name]) for name in ("", *names)}
        known = [what for what in self._numbers if what[0] in layers]
        own = [torch.empty(0, dtype=widest_float(self._device), device=self._device)]
        own += [self._numbers[what].reshape(1) for what in known]
        numbers = ranks.first(torch.cat(own))
        return ranks.together(lambda: self._finite(layers, known, numbers), self._device)

    def _described(self) -> dict[str, object]:
        """What this process would exchange: of each layer dtypes, shapes and the quantities that are known by now.

        Of one that could not be reduced why, as a string. Where none could, the measurement has failed.
        """
        failure = self._failure
        self._failure = None
        if failure is not None:
            raise failure
        place = torch.empty(0, dtype=widest_float(self._device), device=self._device)
        self._numbers = {what: for_spectra(number).to(place) for what, number in self._numbers.items()}
        known: dict[str, list[str]] = {}
        for name, quantity in self._numbers:
            known.setdefault(name, []).append(quantity.key)
        mine: dict[str, object] = {"": self._reference.shapes}
        for name, gram in self._layers.items():
            mine[name] = (shape_of(gram), shape_of(self.sigmas[name]), known.get(name))
        return mine | self._failed

    def _agreed(self, described: Sequence[Mapping[str, object]]) -> list[str]:
        """The layers that are the same on all processes, in the order of rank 0; of each other one, why it is not."""
        if any(one[""] != described[0][""] for one in described):
            raise RuntimeError(f"the processes measure different probes: {[one[''] for one in described]}.")
        agreed = []
        for name in dict.fromkeys(name for one in described for name in one if name):
            why = disagreement([one.get(name) for one in described])
            if why:
                self._leave_out(name, why)
            else:
                agreed.append(name)
        return agreed

    def _leave_out(self, name: str, why: str) -> None:
        """Of this measurement: a layer may have activations and no error signal."""
        self._listener.left_out(name, why if self.subject is Subject.ACTIVATIONS else f"{why} ({self.subject.value})")

    def _finite(
        self, layers: dict[str, Tensor], known: Sequence[tuple[str, Quantity]], numbers: Tensor
    ) -> dict[str, Tensor]:
        """The finite among the layers.

        This is the one look at the numbers before their spectra: a NaN would end eigvalsh with an error. All that is
        known by now comes to the host with it.
        """
        flags = [gram.sum().isfinite().to(numbers).reshape(1) for gram in layers.values()]
        seen = torch.cat([*flags, numbers]).tolist()
        self._known = dict(zip(known, seen[len(layers) :], strict=True))
        finite = {}
        for (name, gram), good in zip(layers.items(), seen, strict=False):
            if good:
                finite[name] = gram
            else:
                self._leave_out(name, _NOT_FINITE)
                del self.sigmas[name]
        return finite

    def _without_failures(
        self, layers: list[str], whole: Numbers, parts: list[Numbers]
    ) -> tuple[list[str], Numbers, list[Numbers]]:
        """Only the layers of which every entropy was found; one that was not costs the others nothing."""
        entropies = [
            torch.stack(both) for leaf, both in whole.known.items() if isinstance(leaf, Term) and leaf.first == "T"
        ]
        fine = torch.stack([both.isfinite().all(0) for both in entropies]).all(0)
        for name, good in zip(layers, fine.tolist(), strict=True):
            if not good:
                self._leave_out(name, _NO_SPECTRUM)
                del self.sigmas[name]
        kept = [name for name, good in zip(layers, fine.tolist(), strict=True) if good]
        whole, *parts = (one._replace(known=_only(one.known, fine)) for one in (whole, *parts))
        return kept, whole, parts

    def _functions(self, layers: list[str]) -> Columns:
        """What is known of the layers without their spectra, as columns."""
        wanted = dict.fromkeys(quantity for _, quantity in self._known)
        return {
            quantity: torch.tensor([self._known[layer, quantity] for layer in layers], dtype=torch.float64)
            for quantity in wanted
        }

    def _gap_pairs(self, layers: list[str]) -> list[Pair]:
        """The pairs asked for, without layers left out; where none were asked for, each layer with the next."""
        pairs = list(pairwise(layers)) if self._pairs is None else self._pairs
        return [Pair(a, b) for a, b in pairs if a in layers and b in layers]

    def _of_places(self, table: Columns, layers: list[str], pairs: list[Pair]) -> list[Value]:
        """Columns as numbers of layers and of pairs; an exact solver has no error to show."""
        has_errors = bool(self._reference.division.parts)
        values = []
        for quantity, column in table.items():
            numbers = column.tolist()
            base = quantity.base
            is_of_solver = base is not None and quantity is base.error and not callable(base.formula)
            if is_of_solver and not has_errors and not any(numbers):
                continue
            places: Sequence[Place] = pairs if quantity.of is Of.PAIR else layers
            values += [Value(place, quantity, number) for place, number in zip(places, numbers, strict=True)]
        return values


def _only(known: Known, fine: Tensor) -> Known:
    """The numbers of these layers."""
    return {
        leaf: Estimate(*(value[fine] for value in estimate)) if leaf.first == "T" else estimate
        for leaf, estimate in known.items()
    }
