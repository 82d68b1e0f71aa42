"""torchmetrics classes: they remember samples, the functions know what to do with them."""

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat
from torchmetrics.utilities.plot import _AX_TYPE, _PLOT_OUT_TYPE

from lightning_infoplane.arguments.checks import FLAG, Instance, Maybe, Whole, check_tensors
from lightning_infoplane.estimator.bandwidths import Bandwidth
from lightning_infoplane.estimator.dependence import adjusted_mutual_information, debiased_cka
from lightning_infoplane.estimator.entropy import renyi_entropy
from lightning_infoplane.estimator.grams import class_gram, feature_map_gram, gram, map_grams
from lightning_infoplane.estimator.information import mutual_information, total_correlation
from lightning_infoplane.measurement.settings import Estimator

__all__ = [
    "DebiasedCKA",
    "MatrixRenyiAdjustedInformation",
    "MatrixRenyiEntropy",
    "MatrixRenyiMutualInformation",
    "MatrixRenyiTotalCorrelation",
]


_ESTIMATOR = Instance.of(Estimator)
_MAX_SAMPLES = Maybe(Whole(2, says="an entropy needs at least 2 samples", example="512"))


class _RenyiMetric(Metric):
    """Keeps samples of one or more variables, all of them or a uniform sample of ``max_samples``.

    Every sample draws a random number and the smallest ``max_samples`` stay. Such samples merge: those of
    several processes, put together and cut again, are a uniform sample of everything that was seen.
    """

    is_differentiable = True
    higher_is_better = None
    # Two updates a forward: the other way would reset what the reservoir counts by, and never cut it.
    full_state_update = True

    tickets: list[Tensor]
    _variables: ClassVar[tuple[str, ...]]
    _unit = "bits"

    def __init__(
        self,
        estimator: Estimator = Estimator(),
        max_samples: int | None = None,
        **kwargs: Any,  # noqa: ANN401 - torchmetrics' own arguments
    ) -> None:
        super().__init__(**kwargs)
        self.estimator: Estimator = _ESTIMATOR("estimator", estimator)
        self.max_samples: int | None = _MAX_SAMPLES("max_samples", max_samples)
        for name in self._variables:
            self.add_state(name, default=[], dist_reduce_fx="cat")

    def _remember(self, *values: Tensor) -> None:
        check_tensors("update", "(n, ...)", **dict(zip(self._variables[1:], values, strict=True)))
        if any(value.ndim == 0 for value in values):
            raise ValueError("expected a batch of samples (n, ...), got a single number.")
        sizes = [len(value) for value in values]
        if len(set(sizes)) > 1:
            raise ValueError(f"expected as many samples of each variable, got {' and '.join(map(str, sizes))}.")
        # Each batch of each process has a generator of its own: no state to save, no draw from the global one.
        together = torch.distributed.is_available() and torch.distributed.is_initialized()
        rank = torch.distributed.get_rank() if together else 0
        generator = torch.Generator().manual_seed(hash((self.estimator.seed, rank, self._update_count)) % 2**63)
        tickets = torch.rand(sizes[0], generator=generator).to(values[0].device)
        for name, value in zip(self._variables, (tickets, *values), strict=True):
            getattr(self, name).append(value)
        held = sum(len(part) for part in self.tickets)
        if self.max_samples is not None and held > 2 * self.max_samples:  # twice: not at every batch
            for name, value in zip(self._variables, self._samples(with_tickets=True), strict=True):
                setattr(self, name, [value])

    def _samples(self, with_tickets: bool = False) -> list[Tensor]:
        """What is kept of each variable."""
        parts = [dim_zero_cat(getattr(self, name)) for name in self._variables]
        if self.max_samples is not None and len(parts[0]) > self.max_samples:
            chosen = parts[0].argsort()[: self.max_samples].sort().values
            parts = [part[chosen] for part in parts]
        return parts if with_tickets else parts[1:]

    def plot(self, val: Tensor | Sequence[Tensor] | None = None, ax: _AX_TYPE | None = None) -> _PLOT_OUT_TYPE:
        """Plot one value or several, the current one when left out.

        Args:
            val: results of ``forward`` or ``compute``.
            ax: matplotlib axes to draw on.

        Returns:
            The figure and the axes.
        """
        figure, axes = self._plot(val, ax)
        if hasattr(axes, "set_ylabel"):  # one pair of axes; importing matplotlib to ask for its type costs 0.3 s
            axes.set_ylabel(self._unit)
        return figure, axes


class MatrixRenyiEntropy(_RenyiMetric):
    r"""Matrix-based Rényi entropy of everything seen since the last reset, in bits.

    .. math:: S_\alpha(A) = \frac{1}{1-\alpha} \log_2 \sum_i \lambda_i(A)^\alpha

    As input to ``forward`` and ``update`` the metric accepts

    - ``samples`` (:class:`~torch.Tensor`): ``(n, d)``, one variable, or ``(n, C, *spatial)``, C feature maps.

    As output of ``forward`` and ``compute`` the metric returns

    - ``entropy`` (:class:`~torch.Tensor`): a scalar between 0 and log₂ n.

    Args:
        estimator: order, bandwidth rule, solver, and seed of the sample.
        max_samples: keep a uniform sample of at most this many, so that a long loop does not grow; ``None``
            keeps everything. The spectrum of n samples costs n³.
        kwargs: see :class:`torchmetrics.Metric`.

    Raises:
        ValueError: for an impossible ``max_samples``.

    Example:
        >>> metric = MatrixRenyiEntropy(Estimator(bandwidth=Fixed(0.01)))
        >>> metric.update(torch.tensor([[0.0], [1.0]]))
        >>> metric.update(torch.tensor([[2.0], [3.0]]))
        >>> metric.compute()  # four samples far apart: log2 4
        tensor(2., dtype=torch.float64)
    """

    samples: list[Tensor]
    _variables = ("tickets", "samples")

    def update(self, samples: Tensor) -> None:
        """Add a batch."""
        self._remember(samples)

    def compute(self) -> Tensor:
        """The entropy in bits."""
        (samples,) = self._samples()
        return renyi_entropy(_gram(samples, self.estimator.bandwidth), self.estimator.alpha, self.estimator.solver)


class _OfPairs(_RenyiMetric):
    """Of two variables seen side by side."""

    x: list[Tensor]
    y: list[Tensor]
    _variables = ("tickets", "x", "y")

    def update(self, x: Tensor, y: Tensor) -> None:
        """Add a batch of pairs."""
        self._remember(x, y)

    def _grams(self) -> tuple[Tensor, Tensor]:
        """The kernels of both, of what is kept."""
        x, y = self._samples()
        return _gram(x, self.estimator.bandwidth), _target_gram(y, self.estimator)


class MatrixRenyiMutualInformation(_OfPairs):
    r"""Matrix-based Rényi mutual information of two variables seen side by side, in bits.

    .. math:: I_\alpha(X; Y) = S_\alpha(A) + S_\alpha(B) - S_\alpha(A, B)

    As input to ``forward`` and ``update`` the metric accepts

    - ``x`` (:class:`~torch.Tensor`): ``(n, d)``, one variable, or ``(n, C, *spatial)``, C feature maps.
    - ``y`` (:class:`~torch.Tensor`): the same, or ``(n,)`` integer classes, which get the class kernel unless
      there is a ``target_bandwidth``.

    As output of ``forward`` and ``compute`` the metric returns

    - ``information`` (:class:`~torch.Tensor`): a scalar, never clipped.

    Args:
        estimator: order, bandwidth rule, solver, and seed of the sample.
        max_samples: keep a uniform sample of at most this many; ``None`` keeps everything.
        kwargs: see :class:`torchmetrics.Metric`.

    Raises:
        ValueError: for an impossible ``max_samples``.

    Example:
        >>> metric = MatrixRenyiMutualInformation(Estimator(bandwidth=Fixed(0.01)))
        >>> metric.update(torch.tensor([[0.0], [0.0], [5.0], [5.0]]), torch.tensor([0, 0, 1, 1]))
        >>> metric.compute()  # x tells the class: log2 2
        tensor(1., dtype=torch.float64)
    """

    def compute(self) -> Tensor:
        """The mutual information in bits."""
        a, b = self._grams()
        return mutual_information(a, b, self.estimator.alpha, self.estimator.solver)


class MatrixRenyiAdjustedInformation(_OfPairs):
    r"""Mutual information of two variables beyond chance, from 0 (independent) to 1 (a copy), without unit.

    See :func:`~lightning_infoplane.adjusted_mutual_information`.

    As input to ``forward`` and ``update`` the metric accepts

    - ``x`` (:class:`~torch.Tensor`): ``(n, d)``, one variable, or ``(n, C, *spatial)``, C feature maps.
    - ``y`` (:class:`~torch.Tensor`): the same, or ``(n,)`` integer classes, which get the class kernel unless
      there is a ``target_bandwidth``.

    As output of ``forward`` and ``compute`` the metric returns

    - ``information`` (:class:`~torch.Tensor`): a scalar, never clipped; NaN where a variable is not resolved.

    Args:
        estimator: order, bandwidth rules, solver, and seed of the sample and of the shuffles: as many as it says, but
            two at least.
        max_samples: keep a uniform sample of at most this many; ``None`` keeps everything.
        kwargs: see :class:`torchmetrics.Metric`.

    Raises:
        ValueError: for an impossible ``max_samples``.

    Example:
        >>> metric = MatrixRenyiAdjustedInformation()
        >>> metric.update(torch.eye(4).repeat(16, 1), torch.arange(4).repeat(16))
        >>> round(float(metric.compute()), 1)  # a perfect code of four classes
        1.0
    """

    _unit = "0: independent, 1: a copy"

    def compute(self) -> Tensor:
        """The adjusted information."""
        how = self.estimator
        a, b = self._grams()
        return adjusted_mutual_information(a, b, how.alpha, max(2, how.shuffles), how.seed, how.solver)


class DebiasedCKA(_OfPairs):
    r"""Debiased centred kernel alignment of two variables, from 0 (independent) to 1 (a copy), without unit.

    See :func:`~lightning_infoplane.debiased_cka`.

    As input to ``forward`` and ``update`` the metric accepts

    - ``x`` (:class:`~torch.Tensor`): ``(n, d)``, one variable, or ``(n, C, *spatial)``, C feature maps.
    - ``y`` (:class:`~torch.Tensor`): the same, or ``(n,)`` integer classes, which get the class kernel unless
      there is a ``target_bandwidth``.

    As output of ``forward`` and ``compute`` the metric returns

    - ``alignment`` (:class:`~torch.Tensor`): a scalar; NaN where a variable does not vary.

    Args:
        estimator: bandwidth rules, and seed of the sample.
        max_samples: keep a uniform sample of at most this many; ``None`` keeps everything.
        kwargs: see :class:`torchmetrics.Metric`.

    Raises:
        ValueError: for an impossible ``max_samples``.

    Example:
        >>> metric = DebiasedCKA()
        >>> metric.update(torch.tensor([0, 0, 1, 1]), torch.tensor([3, 3, 5, 5]))
        >>> metric.compute()
        tensor(1., dtype=torch.float64)
    """

    _unit = "0: independent, 1: a copy"

    def compute(self) -> Tensor:
        """The alignment."""
        return debiased_cka(*self._grams())


class MatrixRenyiTotalCorrelation(_RenyiMetric):
    r"""Matrix-based Rényi total correlation among the feature maps of a layer, in bits or normalised.

    .. math:: T = \sum_c S(A_c) - S(A_1, \dots, A_C),\qquad T^* = \frac{T}{\sum_c S(A_c) - \max_c S(A_c)}

    As input to ``forward`` and ``update`` the metric accepts

    - ``maps`` (:class:`~torch.Tensor`): ``(n, C, *spatial)``.

    As output of ``forward`` and ``compute`` the metric returns

    - ``correlation`` (:class:`~torch.Tensor`): a scalar.

    Args:
        estimator: order, bandwidth rule, solver, and seed of the sample.
        max_samples: keep a uniform sample of at most this many; ``None`` keeps everything.
        normalized: return T*, from 0 (independent maps) to 1 (copies), without unit.
        kwargs: see :class:`torchmetrics.Metric`.

    Raises:
        ValueError: for an impossible ``max_samples``.

    Example:
        >>> metric = MatrixRenyiTotalCorrelation(Estimator(bandwidth=Fixed(0.01)))
        >>> metric.update(torch.tensor([[0.0, 0.0], [1.0, 1.0]]))  # two copies of one bit
        >>> metric.compute()
        tensor(1., dtype=torch.float64)
    """

    maps: list[Tensor]
    _variables = ("tickets", "maps")

    def __init__(
        self,
        estimator: Estimator = Estimator(),
        max_samples: int | None = None,
        normalized: bool = False,
        **kwargs: Any,  # noqa: ANN401
    ) -> None:
        super().__init__(estimator, max_samples, **kwargs)
        self.normalized: bool = FLAG("normalized", normalized)
        self._unit = "normalised" if self.normalized else "bits"

    def update(self, maps: Tensor) -> None:
        """Add a batch."""
        self._remember(maps)

    def compute(self) -> Tensor:
        """The total correlation."""
        (maps,) = self._samples()
        how = self.estimator
        grams = map_grams(maps, how.bandwidth)
        return total_correlation(*grams, alpha=how.alpha, normalized=self.normalized, solver=how.solver)


def _gram(values: Tensor, bandwidth: Bandwidth) -> Tensor:
    """The kernel that fits a variable: of classes, of vectors, or of feature maps."""
    if values.ndim == 1:
        return gram(values.unsqueeze(-1), bandwidth) if values.is_floating_point() else class_gram(values)
    return gram(values, bandwidth) if values.ndim == 2 else feature_map_gram(values, bandwidth)


def _target_gram(values: Tensor, estimator: Estimator) -> Tensor:
    """The same for a target, which may have a bandwidth rule of its own: its classes are one-hot vectors then."""
    rule = estimator.target_bandwidth
    if rule is None:
        return _gram(values, estimator.bandwidth)
    if values.ndim == 1 and not values.is_floating_point():
        values = torch.nn.functional.one_hot(torch.unique(values, return_inverse=True)[1])
    return _gram(values, rule)
