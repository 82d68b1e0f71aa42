"""One moment of a network: activations to Gram matrices as they come, entropies to quantities at the end."""

import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import pairwise

import torch
from torch import Tensor

from lightning_infoplane.bandwidths import MedianDistance
from lightning_infoplane.entropy import Estimate
from lightning_infoplane.information import jackknife_error, p_value, shared_bits
from lightning_infoplane.kernels import as_maps, class_gram, gaussian_gram
from lightning_infoplane.pairs import REDUNDANCY_NAMES, layer_redundancy
from lightning_infoplane.precision import for_spectra, upcast, widest_float
from lightning_infoplane.spectra import Grams, Settings, Share, entropies, own_entropies

__all__ = ["ERRORS", "FORWARD", "Measurement", "Names", "Reference"]

# Shuffles from which on a p-value is worth its name: 1 / (1 + 20) < 0.05.
_ENOUGH_FOR_P = 20
# How many of its own standard errors a gap must be below zero to be counted as a violation.
_VIOLATION = 2.0
# Bits; float32 matrices of a layer that loses nothing differ by a tenth of this.
_ROUNDING = 1e-4


@dataclass(frozen=True)
class Names:
    """What the quantities are called: of activations, or of error signals.

    Args:
        entropy: of a layer.
        bandwidth: of a layer.
        own: entropy of X and of Y; the empty name is not reported.
        shared: information of a layer with X and with Y.
        gap: differences of that information between layers.
    """

    entropy: str = "H_T"
    bandwidth: str = "bandwidth"
    own: Mapping[str, str] = field(default_factory=lambda: {"X": "H_X", "Y": "H_Y"})
    shared: Mapping[str, str] = field(default_factory=lambda: {"X": "I_XT", "Y": "I_TY"})
    gap: Mapping[str, str] = field(default_factory=lambda: {"X": "DPI_XT", "Y": "DPI_YT"})


FORWARD = Names()
ERRORS = Names("H_error", "bandwidth_error", {"X": "H_error_last"}, {"X": "I_error"}, {"X": "DPI_error"})


class Reference:
    """X and Y of a probe: their Gram matrices and entropies, made once and used at every measurement.

    Args:
        settings: how to measure.
        inputs: ``(n, ...)``.
        targets: ``(n,)`` integer classes, ``(n, ...)`` continuous values, or None.
        previous: the inputs' bandwidth at an earlier time, for rules that freeze or smooth theirs.

    Raises:
        ValueError: for fewer than two samples, targets of another length, or values that are not finite.
    """

    def __init__(
        self, settings: Settings, inputs: Tensor, targets: Tensor | None, previous: Tensor | None = None
    ) -> None:
        if inputs.ndim == 0 or len(inputs) < 2:
            raise ValueError(f"a measurement needs at least 2 samples, got inputs of shape {tuple(inputs.shape)}.")
        if targets is not None and targets.shape[:1] != inputs.shape[:1]:
            what = f"{len(targets)} targets" if targets.ndim else "a single number as targets"
            raise ValueError(f"got {len(inputs)} inputs but {what}.")
        self.n, self._settings, self._agreed = len(inputs), settings, False
        labels, target = self._read_targets(targets)
        maps = as_variables(inputs)
        self.guide: Tensor | None = None
        if settings.bandwidth.needs_target:  # made only for such rules: it is as large as any other matrix
            self.guide = target if labels is None else class_gram(labels.to(inputs.device))
        self.sigma = settings.bandwidth(maps, target=self.guide, previous=previous)
        target = None if target is None else for_spectra(target)
        self.grams = Grams(for_spectra(gaussian_gram(maps, self.sigma)), labels, target, {})
        for name, gram in (("inputs", self.grams.input), ("targets", target)):
            if gram is not None and not bool(gram.sum().isfinite()):
                raise ValueError(f"the {name} of the probe hold NaN or infinite values.")

    def agree(self, share: Share) -> None:
        """Take rank 0's matrices, at the first use: error signals differ between ranks as running statistics do."""
        if not self._agreed:
            target = None if self.grams.target is None else share.first(self.grams.target)
            labels = self.grams.labels
            if labels is not None:  # over the device: some process groups exchange nothing else
                labels = share.first(labels.to(self.grams.input.device)).cpu()
            self.grams = self.grams._replace(input=share.first(self.grams.input), labels=labels, target=target)
            self.sigma, self._agreed = share.first(self.sigma), True

    @cached_property
    def entropies(self) -> dict[str, Estimate]:
        """Of X, and of Y where there are targets."""
        return own_entropies(self.grams, self._settings)

    def _read_targets(self, targets: Tensor | None) -> tuple[Tensor | None, Tensor | None]:
        """Labels, for the class kernel, or else the targets' Gaussian Gram matrix."""
        if targets is None:
            return None, None
        rule, values = self._settings.target_bandwidth, targets.detach()
        if not values.is_floating_point() and values.numel() == self.n:
            labels = values.flatten().long()
            if rule is None:
                return labels.cpu(), None
            values = torch.nn.functional.one_hot(torch.unique(labels, return_inverse=True)[1])
        maps = as_variables(values.flatten(1) if values.ndim > 2 else values)
        return None, gaussian_gram(maps, (rule or MedianDistance())(maps))


class Measurement:
    """Gram matrices of one moment: made by ``InformationPlane.start``, ended by its ``finish``."""

    def __init__(
        self,
        settings: Settings,
        reference: Reference,
        previous: Mapping[str, Tensor],
        prefix: str = "",
        pairs: Sequence[tuple[str, str]] | None = None,
        names: Names = FORWARD,
        progress: Callable[[int], object] = lambda layers: None,
    ) -> None:
        self.n, self.prefix, self.names = reference.n, prefix, names
        self.sigmas = {"": reference.sigma}
        self._settings, self._reference, self._previous = settings, reference, previous
        self._pairs, self._progress = pairs, progress
        self._layers: dict[str, Tensor] = {}
        self._redundancy: dict[str, dict[str, Tensor]] = {}
        self._told: dict[tuple[str, str], float] = {}  # what is known before the spectra: bandwidths and redundancy
        self.without_pairs: list[str] = []  # layers of one variable, where redundancy was asked for

    def add(self, name: str, activation: Tensor) -> None:
        """Reduce a layer's activation ``(n, ...)`` to its Gram matrix; nothing else of it is kept."""
        if activation.ndim == 0 or len(activation) != self.n:
            raise ValueError(f"{name}: expected one value a sample, ({self.n}, ...), got {tuple(activation.shape)}.")
        maps, rule, reference = as_variables(activation), self._settings.bandwidth, self._reference
        self.sigmas[name] = rule(maps, target=reference.guide, previous=self._previous.get(name))
        gram = gaussian_gram(maps, self.sigmas[name])
        how = self._settings.redundancy
        if how is not None and maps.shape[1] == 1:
            self.without_pairs.append(name)
        if how is not None and maps.shape[1] > 1:
            # Not left out where it cannot be had: all processes exchange the same numbers later.
            fine = bool(gram.sum().isfinite())
            self._redundancy[name] = (
                layer_redundancy(
                    reference.grams.input,
                    for_spectra(maps),
                    rule,
                    self._settings.alpha,
                    how,
                    None if reference.guide is None else for_spectra(reference.guide),
                )
                if fine
                else dict.fromkeys(REDUNDANCY_NAMES, maps.new_full((), torch.nan))
            )
        self._layers[name] = for_spectra(gram).to(reference.grams.input.device)  # a model in parts: one place for all
        self._progress(1)

    def evaluate(self, share: Share) -> dict[tuple[str, str], float]:
        """All quantities by (layer, quantity); a layer that is not finite is left out, with a warning."""
        grams = self._agree_on(share)
        found = entropies(grams, self._settings, share, self._progress, lambda: self._reference.entropies)
        grams, found = self._without_failures(grams, found)
        columns = self._columns(grams, found)
        if self._settings.jackknife:
            for name, error in self._jackknife(grams, share).items():
                columns[f"{name}_stderr"] = (columns.get(f"{name}_stderr", error * 0).square() + error.square()).sqrt()
        return self._rows(grams, found, columns)

    def _agree_on(self, share: Share) -> Grams:
        """Rank 0's matrices, for running statistics differ between ranks until the next step; only finite ones.

        This is the one look at the numbers before their spectra: a NaN would end eigvalsh with an error. All that is
        known by now comes to the host with it.
        """
        self._reference.agree(share)
        layers = {name: share.first(gram) for name, gram in self._layers.items()}
        self.sigmas = {name: share.first(sigma) for name, sigma in self.sigmas.items()}
        numbers = {(name, "finite"): gram.sum().isfinite() for name, gram in layers.items()}
        numbers |= {(name, self.names.bandwidth): _geometric_mean(self.sigmas[name]) for name in layers}
        # Which layers have maps to compare is the same everywhere; what they gave is rank 0's.
        numbers |= {
            (name, what): self._redundancy[name][what] for name in self._redundancy for what in REDUNDANCY_NAMES
        }
        if numbers:
            place = self._reference.grams.input.new_empty(0, dtype=widest_float(self._reference.grams.input.device))
            here = torch.stack([for_spectra(number).to(place) for number in numbers.values()])
            self._told = dict(zip(numbers, share.first(here).tolist(), strict=True))
        for name in [name for name in layers if not self._told.pop((name, "finite"))]:
            warnings.warn(f"layer {name!r} has NaN or infinite activations: it is left out this time.", stacklevel=4)
            del layers[name], self.sigmas[name]
        return self._reference.grams._replace(layers=layers)

    def _without_failures(self, grams: Grams, found: dict[str, Estimate]) -> tuple[Grams, dict[str, Estimate]]:
        """Only the layers of which every entropy was found; one that was not costs the others nothing."""
        of_layers = {term: torch.stack(estimate) for term, estimate in found.items() if term not in ("X", "Y")}
        fine = torch.stack([both.isfinite().all(0) for both in of_layers.values()]).all(0)
        for name in [name for name, good in zip(grams.layers, fine.tolist(), strict=True) if not good]:
            warnings.warn(
                f"layer {name!r} is left out this time: its Gram matrix has no spectrum. Float32 does not resolve it "
                "at this bandwidth, or the solver failed. MedianDistance(scale=2) is a larger bandwidth.",
                stacklevel=4,
            )
            del self.sigmas[name]
        layers = {name: gram for name, gram in grams.layers.items() if name in self.sigmas}
        kept = {term: Estimate(*both[:, fine]) for term, both in of_layers.items()}
        return grams._replace(layers=layers), found | kept

    def _columns(self, grams: Grams, found: Mapping[str, Estimate]) -> dict[str, Tensor]:
        """Quantities of the layers, ``(layers,)``, and their gaps, ``(pairs,)``."""
        layer, names = found["T"], self.names
        columns = {names.entropy: layer.bits, f"{names.entropy}_stderr": layer.stderr}
        for partner in grams.partners:
            alone, both, name = found[partner], found[f"T{partner}"], names.shared[partner]
            columns[name] = shared_bits(alone.bits, layer.bits, both.bits)
            squares = alone.stderr.square() + layer.stderr.square() + both.stderr.square()
            columns[f"{name}_stderr"] = squares.sqrt()
            shuffles = [found[key].bits for key in found if key.startswith(f"T{partner}") and key[2:]]
            if shuffles:
                null = shared_bits(alone.bits, layer.bits, torch.stack(shuffles))
                columns[f"{name}_chance"] = null.mean(0)
            if len(shuffles) >= _ENOUGH_FOR_P:
                columns[f"{name}_p"] = p_value(columns[name], null, _ROUNDING)
            order = list(grams.layers)
            ends = [(order.index(a), order.index(b)) for a, b in self._gap_pairs(grams)]
            first, second = torch.tensor(ends, dtype=torch.long, device=layer.bits.device).reshape(-1, 2).unbind(1)
            gap, squares = names.gap[partner], layer.stderr.square() + both.stderr.square()
            columns[gap] = columns[name][first] - columns[name][second]
            columns[f"{gap}_stderr"] = (squares[first] + squares[second]).sqrt()  # the error of X itself cancels
        return columns

    def _gap_pairs(self, grams: Grams) -> list[tuple[str, str]]:
        """The pairs asked for, without layers left out; where none were asked for, each layer with the next."""
        order = list(grams.layers)
        pairs = list(pairwise(order)) if self._pairs is None else self._pairs
        return [(a, b) for a, b in pairs if a in grams.layers and b in grams.layers]

    def _jackknife(self, grams: Grams, share: Share) -> dict[str, Tensor]:
        """Standard errors over the probe, by leaving out one group of samples after the other.

        At the bandwidths of the whole probe. A rule that follows the samples takes part of their scatter back,
        which is not seen here: then this is rather too large, for gaps between layers by little.
        """
        settings, groups = replace(self._settings, chance=0), min(self._settings.jackknife, self.n)
        group = torch.randperm(self.n, generator=torch.Generator().manual_seed(self._settings.seed)) % groups
        parts = []
        for left_out in range(groups):
            part = grams.part((group != left_out).nonzero().squeeze(1))
            parts.append(self._columns(part, entropies(part, settings, share)))
        names = [name for name in parts[0] if not name.endswith("_stderr")]
        return {name: jackknife_error(torch.stack([part[name] for part in parts])) for name in names}

    def _rows(
        self, grams: Grams, found: Mapping[str, Estimate], columns: dict[str, Tensor]
    ) -> dict[tuple[str, str], float]:
        """Everything by (layer, quantity)."""
        names, layers = self.names, list(grams.layers)
        rows = {("", names.own[partner]): float(found[partner].bits) for partner in grams.partners}
        if names is FORWARD:
            rows["", "log2_n"] = math.log2(self.n)
        if not layers:
            return rows
        pairs = [f"{a}-to-{b}" for a, b in self._gap_pairs(grams)]
        for name, column in columns.items():
            values = column.tolist()
            if name.endswith("_stderr") and not any(values) and not self._settings.jackknife:
                continue  # an exact solver has no error to show
            of_pairs = name.removesuffix("_stderr") in names.gap.values()
            rows |= {(row, name): value for row, value in zip(pairs if of_pairs else layers, values, strict=True)}
        if pairs:
            # Of X alone: I(T;Y) rises with depth wherever the network makes the label easier to read.
            gap = columns[names.gap["X"]]
            error = columns.get(f"{names.gap['X']}_stderr", torch.zeros_like(gap))
            rows["", f"{names.gap['X']}_violations"] = float((gap < -_VIOLATION * error - _ROUNDING).sum())
        return rows | {(layer, name): value for (layer, name), value in self._told.items() if layer in grams.layers}


def as_variables(values: Tensor) -> Tensor:
    """``(n, ...)`` as maps ``(n, C, d)``: (n,) and (n, d) are one variable, (n, C, ...) are C variables."""
    values = upcast(values.detach())
    return values.reshape(len(values), 1, -1) if values.ndim <= 2 else as_maps(values)


def _geometric_mean(sigmas: Tensor) -> Tensor:
    """Over the maps that vary; zero where none does."""
    live = sigmas > 0
    logs = torch.where(live, sigmas, 1.0).log().sum() / live.sum().clamp_min(1)
    return torch.where(live.any(), logs.exp(), 0.0)
