"""Approximate solvers, asked for by name: for probes too large for a whole spectrum (n above a few thousand)."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from lightning_infoplane.arguments.checks import COUNT, SEED, Whole, checked
from lightning_infoplane.estimator.precision import for_spectra, full_float32
from lightning_infoplane.estimator.solvers import Estimate, Solver, spectral_entropy

__all__ = ["Lanczos", "Leading"]


@dataclass(frozen=True)
@checked(steps=COUNT, vectors=COUNT, seed=SEED)
class Lanczos(Solver):
    r"""Stochastic Lanczos quadrature, with the trace as control variate and its own standard error.

    .. math:: \operatorname{tr} f(A) \approx \frac1p \sum_{v} v^\top f(A) v - b\,(v^\top A v - 1),
        \qquad v \in \{\pm1\}^n

    The expectation of :math:`v^\top A v` is the trace, which is known to be one. Without that, α = 1.01 is
    hopeless: a relative error r of the trace is 144·r bits. The slope b is the regression over the vectors.

    *Cost:* ``steps`` products of ``(n, n)`` with ``(n, vectors)``, and ``steps·n·vectors`` numbers.

    Args:
        steps: Lanczos steps; 24 resolve the spectra of Gaussian Gram matrices to well below the noise.
        vectors: random ones, p of them; the standard error falls with their root.
        seed: of the vectors, which are the same at every call: curves over epochs share their noise.

    Source: Ubaru, Chen and Saad (2017) for the quadrature; the control variate is this project's.

    Example:
        >>> bits, stderr = Lanczos(steps=4, vectors=8).estimate(torch.eye(64) / 64, alpha=1.01)
        >>> round(float(bits), 4), round(float(stderr), 4)  # log2 64, and every vector agrees
        (6.0, 0.0)
    """

    steps: int = 24
    vectors: int = 64
    seed: int = 0

    def __post_init__(self) -> None:
        """Check the numbers together."""
        if self.steps < 1 or self.vectors < 3:
            raise ValueError(f"{self}: expected steps >= 1, and vectors >= 3 for a standard error.")

    def __call__(self, gram: Tensor, alpha: float) -> Tensor:
        """Entropies in bits."""
        return self.estimate(gram, alpha).bits

    def estimate(self, gram: Tensor, alpha: float) -> Estimate:
        """Entropies in bits with their standard errors, both ``(...)``."""
        self.check_order(alpha)
        nodes, weights = self._quadrature(gram)
        log = torch.where(nodes > 0, nodes, 1.0).log()
        if alpha == 1:
            moment = -nodes * log
        elif alpha < 1.5:  # A^α - A: the part that the trace does not already tell
            moment = nodes * torch.expm1((alpha - 1) * log)
        else:
            moment = nodes**alpha
        n = gram.shape[-1]
        steps = nodes.shape[-1]
        samples = n * (weights * moment).sum(-1)
        control = n * (weights * nodes).sum(-1) - 1
        mean, error = _regress_out(samples, control)
        error = error.hypot(steps * torch.finfo(gram.dtype).eps * mean)  # where all vectors agree, rounding decides
        if alpha == 1:
            return Estimate(mean / math.log(2), error / math.log(2))
        trace = mean + 1 if alpha < 1.5 else mean
        # Delta method: d log2(t) / (1 - α) = dt / (t (1 - α) ln 2).
        return Estimate(trace.log2() / (1 - alpha), error / (trace * abs(1 - alpha) * math.log(2)))

    def check_order(self, alpha: float) -> None:
        """It has no way to the largest eigenvalue."""
        if math.isinf(alpha):
            raise ValueError("Lanczos() estimates traces, and alpha=inf is not one. Use Leading(rank=1).")

    def _quadrature(self, gram: Tensor) -> tuple[Tensor, Tensor]:
        """Nodes and weights ``(..., vectors, steps)`` of the Gauss rule each vector defines."""
        gram = for_spectra(gram)
        n = gram.shape[-1]
        signs = torch.randint(0, 2, (n, self.vectors), generator=torch.Generator().manual_seed(self.seed))
        vector = (2 * signs - 1).to(gram) / n**0.5
        vector = vector.expand(*gram.shape[:-2], n, self.vectors)
        steps = min(self.steps, n)
        basis: list[Tensor] = []
        tridiagonal = gram.new_zeros(*gram.shape[:-2], self.vectors, steps, steps, dtype=torch.float64)
        for step in range(steps):
            basis.append(vector)
            with full_float32(gram.device):
                residual = gram @ vector
            tridiagonal[..., step, step] = (residual * vector).sum(-2)
            for _ in range(2):  # twice is enough, once is not: without it converged eigenvalues come back as ghosts
                for earlier in basis:
                    residual = residual - earlier * (earlier * residual).sum(-2, keepdim=True)
            length = residual.norm(dim=-2, keepdim=True)
            # The Krylov space is exhausted at rounding level: a zero vector ends the recursion at weight zero.
            alive = length > 10 * torch.finfo(gram.dtype).eps
            vector = torch.where(alive, residual / length, 0.0)
            if step + 1 < steps:
                coupling = torch.where(alive, length, 0.0).squeeze(-2).double()
                tridiagonal[..., step, step + 1] = tridiagonal[..., step + 1, step] = coupling
        nodes, vectors = torch.linalg.eigh(tridiagonal)
        return nodes.clamp_min(0), vectors[..., 0, :].square()


@dataclass(frozen=True)
@checked(rank=Whole(example="64"), iterations=COUNT, seed=SEED)
class Leading(Solver):
    r"""The leading eigenvalues by subspace iteration, the others replaced by their mean.

    .. math:: \lambda_i \to \frac{1 - \sum_{j \le k} \lambda_j}{n - k} \quad (i > k)

    Evening out eigenvalues can only raise the entropy, so this is an upper bound; :meth:`bounds` adds the
    lower one, which holds as far as the leading eigenvalues have converged (before, they are too small).

    Args:
        rank: how many leading eigenvalues k to keep; at least n is exact.
        iterations: products with the matrix; eigenvalues converge as a ratio to the power of twice this.
        seed: of the starting block.

    Source: the low-rank functional of arXiv 2211.16784.

    Example:
        >>> gram = torch.diag(torch.tensor([0.5, 0.25, 0.25], dtype=torch.float64))
        >>> Leading(rank=1)(gram, alpha=1)  # the other two are equal, so their mean is exact
        tensor(1.5000, dtype=torch.float64)
    """

    rank: int
    iterations: int = 8
    seed: int = 0

    def __post_init__(self) -> None:
        """Check the numbers together."""
        if self.rank < 1 or self.iterations < 1:
            raise ValueError(f"{self}: expected rank >= 1 and iterations >= 1.")

    def __call__(self, gram: Tensor, alpha: float) -> Tensor:
        """Entropies in bits."""
        return self.bounds(gram, alpha)[1]

    def estimate(self, gram: Tensor, alpha: float) -> Estimate:
        """Entropies in bits, with the whole width of the bracket as their error."""
        lower, upper = self.bounds(gram, alpha)
        return Estimate(upper, upper - lower)

    def bounds(self, gram: Tensor, alpha: float) -> tuple[Tensor, Tensor]:
        """The least and the largest entropy ``(...)`` that a spectrum with these leading eigenvalues can have."""
        n = gram.shape[-1]
        leading = self._leading(gram)
        others = n - leading.shape[-1]
        rest = (1 - leading.sum(-1, keepdim=True)).clamp_min(0)
        last = leading[..., -1:]
        even = (rest / max(others, 1)).expand(*rest.shape[:-1], others)
        # As uneven as it can be: every further eigenvalue as large as the last one kept, until nothing is left.
        packed = (rest - last * torch.arange(others, device=gram.device)).clamp_min(0).minimum(last)
        lower, upper = (spectral_entropy(torch.cat([leading, tail], -1), alpha) for tail in (packed, even))
        return lower, upper

    def _leading(self, gram: Tensor) -> Tensor:
        """The ``rank`` largest eigenvalues, descending, by block subspace iteration and Rayleigh-Ritz."""
        gram = for_spectra(gram)
        n = gram.shape[-1]
        width = min(n, self.rank + 10)  # ten more than asked: the last ones converge slowest
        start = torch.randn(n, width, generator=torch.Generator().manual_seed(self.seed), dtype=torch.float64)
        block = start.to(gram).expand(*gram.shape[:-2], n, width)
        with full_float32(gram.device):
            for _ in range(self.iterations):
                block = torch.linalg.qr(gram @ block).Q
            projected = (block.mT @ gram @ block).double()
        ritz: Tensor = torch.linalg.eigvalsh(projected)
        return ritz.flip(-1)[..., : min(self.rank, n)].clamp_min(0)


def _regress_out(samples: Tensor, control: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard error ``(...)`` of ``samples (..., p)`` after regression on a control with mean zero.

    The error is the jackknife-like HC3 of MacKinnon and White (1985): the scatter of the samples grows with
    the control, and the textbook formula, which takes it for constant, is up to 12 per cent too small.
    """
    p = samples.shape[-1]
    mean_control = control.mean(-1, keepdim=True)
    centred = control - mean_control
    # Per control, its share of the spread; a control that does not vary has nothing to tell.
    spread = centred.square().sum(-1, keepdim=True)
    share = torch.where(spread > 0, centred / spread.clamp_min(torch.finfo(spread.dtype).tiny), 0.0)
    adjusted = samples - (share * samples).sum(-1, keepdim=True) * control
    mean = adjusted.mean(-1)
    left_out = (adjusted - mean.unsqueeze(-1)) / (1 - 1 / p - share * centred).clamp_min(1 / p)
    return mean, ((1 / p - mean_control * share) * left_out).square().sum(-1).sqrt()
