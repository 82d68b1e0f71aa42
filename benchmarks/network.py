"""A measurement of the thirteen convolutions of a VGG-16 on 32×32 images, against the floor of the hardware.

    python benchmarks/network.py                  # five rounds, about a minute
    python benchmarks/network.py --slow           # also the loops over C Gram matrices, once each, some minutes
    python benchmarks/network.py --device cuda    # n = 1,024 on a GPU, with its host synchronisations counted

The floor is what H, I(X;T) and I(T;Y) need by definition and nothing else: one float32 product a layer and the input,
27 float64 spectra (X, and T and (X,T) a layer). *Bits alone* are those three; *ours* is a measurement by default, with
adjusted information, CKA, p-values and standard errors. The rivals find the three in bits, and share nothing between
their calls: *per layer*, from the flattened features, with six spectra by `eigh`; the *loop over maps* multiplies C
Gram matrices whenever a function needs T, as one that takes samples and returns bits does. *Loop, once a layer*
multiplies them a single time and takes all three from that product. One thread; A B C A B C …, medians. Writes
benchmarks/results/network.json, or network_cuda.json.
"""

import argparse
import warnings
from collections.abc import Callable

import torch
from common import floor, medians, peak_mb, seconds, write
from torch import Tensor

from lightning_infoplane import Eigenvalues, Estimator, InformationPlane, joint_gram
from lightning_infoplane.estimator.solvers import spectral_entropy
from lightning_infoplane.measurement.rows import Place

SHAPES = [(64, 32)] * 2 + [(128, 16)] * 2 + [(256, 8)] * 3 + [(512, 4)] * 3 + [(512, 2)] * 3
BITS = Estimator(shuffles=0, standard_errors=None, solver=Eigenvalues(dtype=torch.float64))
Rival = Callable[[Tensor, Tensor, list[Tensor]], object]


def activations(n: int, device: str) -> tuple[Tensor, Tensor, list[Tensor]]:
    """Images, labels and layers: random projections of a common latent, cut at zero."""
    torch.manual_seed(0)
    labels = torch.arange(n) % 10
    latent = torch.randn(10, 32)[labels] + torch.randn(n, 32)
    layers = [(latent @ torch.randn(32, c * s * s)).relu_().reshape(n, c, s, s) for c, s in SHAPES]
    images = (latent @ torch.randn(32, 3 * 32 * 32)).reshape(n, 3, 32, 32)
    return images.to(device), labels.to(device), [layer.to(device) for layer in layers]


def ours(x: Tensor, y: Tensor, layers: list[Tensor]) -> dict[tuple[Place, str], float]:
    """One measurement by default: adjusted information, chance levels, CKA, p-values and standard errors."""
    return _measure(Estimator(), x, y, layers)


def bits(x: Tensor, y: Tensor, layers: list[Tensor]) -> dict[tuple[Place, str], float]:
    """Only the three quantities in bits that the rivals find."""
    return _measure(BITS, x, y, layers)


def _measure(estimator: Estimator, x: Tensor, y: Tensor, layers: list[Tensor]) -> dict[tuple[Place, str], float]:
    rows = InformationPlane(estimator).measure(x, y, {str(i): layer for i, layer in enumerate(layers)})
    return {(row.place, row.quantity): row.value for row in rows}


def bare(x: Tensor, y: Tensor, layers: list[Tensor]) -> None:
    """Fourteen products and 27 spectra."""
    floor([x, *layers], 1 + 2 * len(layers))


def per_layer(x: Tensor, y: Tensor, layers: list[Tensor]) -> None:
    """Two mutual informations a layer from raw features, by eigenvectors too, nothing shared."""
    one_hot = torch.nn.functional.one_hot(y).float()
    for layer in layers:
        for other in (x, one_hot):
            a, b = _plain_gram(layer.flatten(1)), _plain_gram(other.flatten(1))
            for matrix in (a, b, joint_gram(a, b)):
                spectral_entropy(torch.linalg.eigh(matrix.double()).eigenvalues, 1.01)


def loop_over_maps(x: Tensor, y: Tensor, layers: list[Tensor]) -> None:
    """H, I(X;T) and I(T;Y) by three functions of samples."""
    one_hot = torch.nn.functional.one_hot(y).float()
    for layer in layers:
        _bits(_product_of_maps(layer))
        for other in (x, one_hot):
            a, b = _product_of_maps(layer), _plain_gram(other.flatten(1))
            for matrix in (a, b, joint_gram(a, b)):
                _bits(matrix)


def loop_once_a_layer(x: Tensor, y: Tensor, layers: list[Tensor]) -> None:
    """The product of C Gram matrices once a layer, X and Y once in all: the best such a loop can do."""
    others = [_plain_gram(x.flatten(1)), _plain_gram(torch.nn.functional.one_hot(y).float())]
    for matrix in others:
        _bits(matrix)
    for layer in layers:
        a = _product_of_maps(layer)
        for matrix in (a, *(joint_gram(a, b) for b in others)):
            _bits(matrix)


def _product_of_maps(layer: Tensor) -> Tensor:
    n = len(layer)
    joint = torch.ones(n, n)
    for c in range(layer.shape[1]):
        joint = joint * _plain_gram(layer[:, c].flatten(1)) * n
    return joint / n


def _plain_gram(flat: Tensor) -> Tensor:
    squares = torch.cdist(flat, flat).square()
    return (-squares / (2 * squares.median())).exp() / len(flat)


def _bits(matrix: Tensor) -> Tensor:
    return spectral_entropy(torch.linalg.eigvalsh(matrix.double()), 1.01)


def on_the_cpu(slow: bool) -> None:
    """Memory first, before anything else has been large."""
    torch.set_num_threads(1)
    data = activations(512, "cpu")
    before = peak_mb()
    ours(*data)
    memory = peak_mb() - before
    rivals: dict[str, Rival] = {"floor": bare, "bits alone": bits, "ours": ours, "per layer": per_layer}
    times = medians({name: lambda rival=rival: rival(*data) for name, rival in rivals.items()})  # type: ignore[misc]
    if slow:
        times["loop over maps"] = seconds(lambda: loop_over_maps(*data))
        times["loop, once a layer"] = seconds(lambda: loop_once_a_layer(*data))
    for name, value in times.items():
        print(f"{name:20}{value:8.3f} s{value / times['floor']:8.2f} times the floor")
    print(f"peak extra memory {memory:.0f} MB")
    write("network", {"seconds": times, "peak_extra_MB": memory}, n=512)


def on_a_gpu() -> None:
    """The same at n = 1,024; how often the host waits; how far the bits are from the CPU's."""
    data = activations(1024, "cuda")
    rivals: dict[str, Rival] = {"floor": bare, "ours": ours}
    work = {name: lambda rival=rival: rival(*data) for name, rival in rivals.items()}
    medians(work, 2, "cuda")  # warms up
    times = medians(work, 5, "cuda")
    torch.cuda.set_sync_debug_mode("warn")
    with warnings.catch_warnings(record=True) as waits:
        warnings.simplefilter("always")
        found = ours(*data)
    torch.cuda.set_sync_debug_mode("default")
    expected = ours(*activations(1024, "cpu"))
    difference = max(abs(found[key] - value) for key, value in expected.items() if "bandwidth" not in key[1])
    print(f"{times['ours'] * 1000:.1f} ms, {times['ours'] / times['floor']:.2f} times the floor; {len(waits)} waits")
    print(f"at most {difference:.1e} bits from the CPU")
    report = {"seconds": times, "host_synchronisations": len(waits), "bits_from_the_cpu": difference}
    write("network_cuda", report, "cuda", n=1024)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--slow", action="store_true", help="also time the loops over C Gram matrices, once")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    asked = parser.parse_args()
    on_a_gpu() if asked.device == "cuda" else on_the_cpu(asked.slow)
