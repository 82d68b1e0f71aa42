"""One moment of a network: activations to Gram matrices as they come, then all spectra, then the quantities."""

import math
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import torch
from torch import Tensor

from lightning_infoplane.bandwidths import Bandwidth, MedianDistance
from lightning_infoplane.entropy import Eigenvalues, Estimate, Solver, check_alpha, joint_gram
from lightning_infoplane.information import dpi_gaps, p_value, shared_bits
from lightning_infoplane.kernels import as_maps, class_gram, gaussian_gram
from lightning_infoplane.precision import upcast, widest_float

__all__ = ["Measurement", "Settings", "Share"]

# Bytes of float64 matrices whose spectra are asked for in one call.
_BATCH_BYTES = 2**24
# Shuffles from which on a p-value is worth its name: 1 / (1 + 20) < 0.05.
_ENOUGH_FOR_P = 20
# The gaps along the layers, by the information they are gaps of.
_GAPS = {"I_XT": "DPI_XT", "I_TY": "DPI_YT"}


@dataclass(frozen=True)
class Settings:
    """How to measure: the arguments of :class:`~lightning_infoplane.InformationPlane`."""

    alpha: float = 1.01
    bandwidth: Bandwidth = MedianDistance()
    target_bandwidth: Bandwidth | None = None
    solver: Solver = Eigenvalues()
    chance: int = 1
    seed: int = 0

    def __post_init__(self) -> None:
        """Check the fields."""
        check_alpha(self.alpha)
        if self.chance < 0:
            raise ValueError(f"chance={self.chance}: expected 0 (off), 1, or more shuffles to average.")


@dataclass(frozen=True)
class Share:
    """The part of the spectral work that is this process's; here, one process that does everything.

    Args:
        rank: of this process.
        world_size: how many there are.
        first: gives every process the tensor of rank 0.
        total: gives every process the sum over all.
    """

    rank: int = 0
    world_size: int = 1
    first: Callable[[Tensor], Tensor] = lambda tensor: tensor
    total: Callable[[Tensor], Tensor] = lambda tensor: tensor


class Measurement:
    """Gram matrices of one moment: made by ``InformationPlane.start``, ended by its ``finish``."""

    def __init__(
        self,
        settings: Settings,
        inputs: Tensor,
        targets: Tensor | None,
        previous: Mapping[str, Tensor],
        prefix: str = "",
        progress: Callable[[int], object] = lambda layers: None,
    ) -> None:
        if inputs.ndim == 0 or len(inputs) < 2:
            raise ValueError(f"a measurement needs at least 2 samples, got inputs of shape {tuple(inputs.shape)}.")
        if targets is not None and len(targets) != len(inputs):
            raise ValueError(f"got {len(inputs)} inputs but {len(targets)} targets.")
        self.n, self.prefix = len(inputs), prefix
        self.sigmas: dict[str, Tensor] = {}
        self._settings, self._previous, self._progress = settings, previous, progress
        self._grams: dict[str, Tensor] = {}
        self._labels, self._target = self._read_targets(targets)
        self._input = self._reduce("", inputs)

    def add(self, name: str, activation: Tensor) -> None:
        """Reduce a layer's activation ``(n, ...)`` to its Gram matrix; nothing else of it is kept."""
        if activation.ndim == 0 or len(activation) != self.n:
            raise ValueError(f"{name}: expected one value a sample, ({self.n}, ...), got {tuple(activation.shape)}.")
        self._grams[name] = self._reduce(name, activation)
        self._progress(1)

    def evaluate(self, share: Share) -> dict[tuple[str, str], float]:
        """All quantities by (layer, quantity); a layer that is not finite is left out, with a warning."""
        # Running statistics differ between ranks until the next step: rank 0's network is the one measured.
        self._input = share.first(self._input)
        self._grams = {name: share.first(gram) for name, gram in self._grams.items()}
        self.sigmas = {name: share.first(sigma) for name, sigma in self.sigmas.items()}
        self._drop_non_finite()
        terms, layers = self._terms(), list(self._grams)
        kind = widest_float(self._input.device)
        estimates = torch.zeros(2, len(layers), len(terms), dtype=kind, device=self._input.device)
        mine, failure = slice(share.rank, None, share.world_size), None
        try:
            if layers[mine]:
                estimates[:, mine] = self._entropies(layers[mine], terms)
        except RuntimeError as error:  # no convergence, no memory: the other processes must hear of it
            failure, estimates = error, estimates.fill_(torch.nan)
        estimates = share.total(estimates)
        if not bool(estimates.isfinite().all()):
            raise RuntimeError(f"the entropies could not be computed: {failure or 'see the other ranks'}.") from failure
        return self._quantities(layers, {term: Estimate(*estimates[..., i]) for i, term in enumerate(terms)})

    def _reduce(self, name: str, values: Tensor) -> Tensor:
        # (n,) and (n, d) are one variable, (n, C, ...) are C variables.
        maps = values.detach().reshape(self.n, 1, -1) if values.ndim <= 2 else as_maps(values.detach())
        rule = self._settings.bandwidth
        target = self._target_gram if rule.needs_target else None
        self.sigmas[name] = rule(maps, target=target, previous=self._previous.get(name))
        return gaussian_gram(maps, self.sigmas[name])

    @cached_property
    def _target_gram(self) -> Tensor | None:
        """The targets' Gram matrix for rules that look at it, made only for them: it is as large as any other."""
        return self._target if self._labels is None else class_gram(self._labels)

    def _read_targets(self, targets: Tensor | None) -> tuple[Tensor | None, Tensor | None]:
        """Labels, for the class kernel, or else the targets' Gaussian Gram matrix."""
        if targets is None:
            return None, None
        rule, values = self._settings.target_bandwidth, targets.detach()
        if not values.is_floating_point() and values.numel() == self.n:
            labels = values.flatten().long()
            if rule is None:
                return labels, None
            values = torch.nn.functional.one_hot(torch.unique(labels, return_inverse=True)[1])
        maps = upcast(values.reshape(self.n, 1, -1))
        return None, gaussian_gram(maps, (rule or MedianDistance())(maps))

    def _drop_non_finite(self) -> None:
        """The one look at the numbers before their spectra: a NaN would end eigvalsh with an error."""
        grams = {"inputs": self._input, "targets": self._input if self._target is None else self._target}
        finite = torch.stack([gram.sum().isfinite() for gram in (*grams.values(), *self._grams.values())]).tolist()
        for name, fine in zip(grams, finite, strict=False):
            if not fine:
                raise ValueError(f"the {name} of the probe hold NaN or infinite values.")
        for name in [name for name, fine in zip(self._grams, finite[len(grams) :], strict=True) if not fine]:
            warnings.warn(f"layer {name!r} has NaN or infinite activations: it is left out this time.", stacklevel=4)
            del self._grams[name], self.sigmas[name]

    def _terms(self) -> list[str]:
        """Which joints with T are needed: none, X, Y, and each of them with its samples shuffled."""
        partners = ["X"] if self._labels is None and self._target is None else ["X", "Y"]
        return ["", *partners, *(f"{partner}{k}" for k in range(self._settings.chance) for partner in partners)]

    def _entropies(self, layers: list[str], terms: list[str]) -> Tensor:
        """Entropies and their errors ``(2, layers, terms)``, a batch of layers at a time."""
        step = max(1, _BATCH_BYTES // (8 * self.n**2))
        parts = []
        for first in range(0, len(layers), step):
            stack = torch.stack([self._grams[name] for name in layers[first : first + step]])
            columns = [torch.stack(self._joint_entropy(stack, term)) for term in terms]
            parts.append(torch.stack(columns, -1))
            self._progress(len(stack))
        return torch.cat(parts, 1)

    def _joint_entropy(self, stack: Tensor, term: str) -> Estimate:
        """Entropies ``(layers,)`` of layers jointly with one of :meth:`_terms`."""
        solver, alpha = self._settings.solver, self._settings.alpha
        if not term:
            return solver.estimate(stack, alpha)
        order = self._order(int(term[1:])) if term[1:] else slice(None)
        if term[0] == "X":
            return solver.estimate(joint_gram(stack, self._input[order][:, order]), alpha)
        if self._labels is not None:
            return solver.with_classes(stack, self._labels[order], alpha)
        assert self._target is not None, "a term with Y needs targets"
        return solver.estimate(joint_gram(stack, self._target[order][:, order]), alpha)

    def _order(self, shuffle: int) -> Tensor:
        """The k-th shuffle of the samples: a function of the seed alone, so curves share their chance level's noise."""
        generator = torch.Generator().manual_seed(1_000_003 * self._settings.seed + shuffle)
        return torch.randperm(self.n, generator=generator).to(self._input.device)

    def _quantities(self, layers: list[str], joint: Mapping[str, Estimate]) -> dict[tuple[str, str], float]:
        """Signed sums of the entropies, by (layer, quantity)."""
        alone = self._entropies_of_probe()
        found = {("", f"H_{partner}"): float(estimate.bits) for partner, estimate in alone.items()}
        found["", "log2_n"] = math.log2(self.n)
        if not layers:
            return found
        columns = {"H_T": joint[""].bits, "H_T_stderr": joint[""].stderr}
        for partner, name in (("X", "I_XT"), ("Y", "I_TY")):
            if partner in alone:
                columns |= self._information(name, partner, alone[partner], joint)
        columns["bandwidth"] = torch.stack([_geometric_mean(self.sigmas[name]) for name in layers])
        gaps = {gap: dpi_gaps(columns[name]) for name, gap in _GAPS.items() if name in columns}
        pairs = [f"{first}-to-{second}" for first, second in pairwise(layers)]
        for rows, kinds in ((layers, columns), (pairs, gaps)):
            # The one transfer of results to the host. An exact solver has no error to show.
            table = torch.stack([column.to(joint[""].bits.dtype) for column in kinds.values()]).tolist()
            for kind, values in zip(kinds, table, strict=True):
                if any(values) or not kind.endswith("_stderr"):
                    found |= {(row, kind): value for row, value in zip(rows, values, strict=True)}
        return found

    def _entropies_of_probe(self) -> dict[str, Estimate]:
        """Entropies of X, and of Y where there are targets."""
        solver, alpha = self._settings.solver, self._settings.alpha
        alone = {"X": solver.estimate(self._input, alpha)}
        if self._labels is not None:
            nothing = torch.full_like(self._input, 1 / self.n)  # the joint with a constant is Y itself
            alone["Y"] = solver.with_classes(nothing, self._labels, alpha)
        elif self._target is not None:
            alone["Y"] = solver.estimate(self._target, alpha)
        return alone

    def _information(
        self, name: str, partner: str, alone: Estimate, joint: Mapping[str, Estimate]
    ) -> dict[str, Tensor]:
        """Mutual information with X or Y, its error, its chance level and its p-value, ``(layers,)`` each."""
        layer, both = joint[""], joint[partner]
        told = shared_bits(alone.bits, layer.bits, both.bits)
        error = (alone.stderr.square() + layer.stderr.square() + both.stderr.square()).sqrt()
        columns = {name: told, f"{name}_stderr": error}
        shuffles = [joint[f"{partner}{k}"].bits for k in range(self._settings.chance)]
        if shuffles:
            null = shared_bits(alone.bits, layer.bits, torch.stack(shuffles))
            columns[f"{name}_chance"] = null.mean(0)
            if len(shuffles) >= _ENOUGH_FOR_P:
                columns[f"{name}_p"] = p_value(told, null)
        return columns


def _geometric_mean(sigmas: Tensor) -> Tensor:
    """Over the maps that vary; zero where none does."""
    live = sigmas > 0
    logs = torch.where(live, sigmas, 1.0).log().sum() / live.sum().clamp_min(1)
    return torch.where(live.any(), logs.exp(), 0.0)
