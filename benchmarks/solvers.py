"""Approximate solvers against the whole spectrum: error, own standard error and time, for several n.

    python benchmarks/solvers.py

Prints a table and writes ``benchmarks/results/solvers.json``. The matrices are Gaussian Gram matrices of
normal samples in 20 dimensions with the default bandwidth. The error is a root mean square over seeds of the
solver, beside the mean of the standard error it claims (for ``Leading``: the width of its bounds); the time is
the best of three.
"""

from typing import Any

import torch
from common import seconds, write
from torch import Tensor

from lightning_infoplane import Eigenvalues, Lanczos, Leading, Solver, gram

SIZES = (512, 1024, 2048, 4096)
ALPHAS = (1.01, 2.5)
SEEDS = 5


def main() -> None:
    """Measure, print and write."""
    torch.set_num_threads(1)
    rows = [row for n in SIZES for alpha in ALPHAS for row in measure(n, alpha)]
    print(f"{'n':>5} {'α':>5}  {'solver':<44} {'bits':>8} {'error':>9} {'claimed':>9} {'seconds':>8}")
    for row in rows:
        print(
            f"{row['n']:>5} {row['alpha']:>5}  {row['solver']:<44} {row['bits']:8.4f} "
            f"{row['error']:9.2e} {row['claimed']:9.2e} {row['seconds']:8.3f}"
        )
    write("solvers", {"rows": rows}, dtype="float64", seeds=SEEDS)


def measure(n: int, alpha: float) -> list[dict[str, Any]]:
    """One row a solver."""
    samples = torch.randn(n, 20, generator=torch.Generator().manual_seed(n), dtype=torch.float64)
    matrix = gram(samples)
    exact = float(Eigenvalues()(matrix, alpha))
    rows = [row_of(Eigenvalues(), matrix, alpha, [0.0], 0.0)]
    for steps, vectors in ((12, 16), (24, 64)):
        estimates = [Lanczos(steps, vectors, seed).estimate(matrix, alpha) for seed in range(SEEDS)]
        claimed = float(torch.stack([estimate.stderr for estimate in estimates]).mean())
        errors = [float(estimate.bits) - exact for estimate in estimates]
        rows.append(row_of(Lanczos(steps, vectors), matrix, alpha, errors, claimed))
    for rank in (32, 128):
        lower, upper = Leading(rank).bounds(matrix, alpha)
        rows.append(row_of(Leading(rank), matrix, alpha, [float(upper) - exact], float(upper - lower)))
    return rows


def row_of(solver: Solver, matrix: Tensor, alpha: float, errors: list[float], claimed: float) -> dict[str, Any]:
    """A row of the table: what came out over the seeds, and the best time of three."""
    return {
        "n": len(matrix),
        "alpha": alpha,
        "solver": repr(solver),
        "bits": float(solver(matrix, alpha)),
        "error": (sum(error**2 for error in errors) / len(errors)) ** 0.5,
        "claimed": claimed,
        "seconds": min(seconds(lambda: solver(matrix, alpha)) for _ in range(3)),
    }


if __name__ == "__main__":
    main()
