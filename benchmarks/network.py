"""H, I(X;T) and I(T;Y) of the thirteen convolutions of a VGG-16 on 32×32 images, against the floor of the hardware.

    python benchmarks/network.py            # five rounds, about a minute
    python benchmarks/network.py --slow     # also the loops over C Gram matrices, once each, some minutes

The floor is what the definition needs and nothing else: one float32 product a layer and the input, 27 float64 spectra
(X, and T and (X,T) a layer). The rivals find the same three quantities of every layer, and share nothing between their
calls: *per layer*, from the flattened features, with six spectra by `eigh`; the *loop over maps* multiplies C Gram
matrices whenever a function needs T, as one that takes samples and returns bits does. *Loop, once a layer* multiplies
them a single time and takes all three from that product. One thread, n = 512; A B C A B C …, medians. Writes
benchmarks/results/network.json.
"""

import argparse
import json
import platform
import resource
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from lightning_infoplane import InformationPlane, joint_gram
from lightning_infoplane.entropy import spectral_entropy

N, ROUNDS = 512, 5
SHAPES = [(64, 32)] * 2 + [(128, 16)] * 2 + [(256, 8)] * 3 + [(512, 4)] * 3 + [(512, 2)] * 3


def activations() -> tuple[Tensor, Tensor, list[Tensor]]:
    """Images, labels and layers: random projections of a common latent, cut at zero."""
    torch.manual_seed(0)
    labels = torch.arange(N) % 10
    latent = torch.randn(10, 32)[labels] + torch.randn(N, 32)
    layers = [(latent @ torch.randn(32, c * s * s)).relu_().reshape(N, c, s, s) for c, s in SHAPES]
    return (latent @ torch.randn(32, 3 * 32 * 32)).reshape(N, 3, 32, 32), labels, layers


def ours(x: Tensor, y: Tensor, layers: list[Tensor]) -> None:
    """One measurement, without the chance level, as the others have none."""
    InformationPlane(chance=0).measure(x, y, {str(i): layer for i, layer in enumerate(layers)})


def floor(x: Tensor, y: Tensor, layers: list[Tensor]) -> None:
    """Fourteen products and 27 spectra."""
    for layer in (x, *layers):
        flat = layer.flatten(1)
        product = flat @ flat.T
    matrix = product.double()
    for _ in range(1 + 2 * len(layers)):
        torch.linalg.eigvalsh(matrix)


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
    joint = torch.ones(N, N)
    for c in range(layer.shape[1]):
        joint = joint * _plain_gram(layer[:, c].flatten(1)) * N
    return joint / N


def _bits(matrix: Tensor) -> Tensor:
    return spectral_entropy(torch.linalg.eigvalsh(matrix.double()), 1.01)


def _plain_gram(flat: Tensor) -> Tensor:
    squares = torch.cdist(flat, flat).square()
    return (-squares / (2 * squares.median())).exp() / N


def timed(function: Callable[[Tensor, Tensor, list[Tensor]], None], *data: object) -> float:
    """Seconds of one call."""
    began = time.perf_counter()
    function(*data)  # type: ignore[arg-type]
    return time.perf_counter() - began


def peak_megabytes(data: tuple[Tensor, Tensor, list[Tensor]]) -> float:
    """What one measurement adds to the most this process ever held."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    ours(*data)
    return (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--slow", action="store_true", help="also time the loops over C Gram matrices, once")
    slow = parser.parse_args().slow
    torch.set_num_threads(1)
    data = activations()
    memory = peak_megabytes(data)
    rivals = {"floor": floor, "ours": ours, "per layer": per_layer}
    times: dict[str, list[float]] = {name: [] for name in rivals}
    for _ in range(ROUNDS):
        for name, function in rivals.items():
            times[name].append(timed(function, *data))
    seconds = {name: statistics.median(values) for name, values in times.items()}
    if slow:
        seconds["loop over maps"] = timed(loop_over_maps, *data)
        seconds["loop, once a layer"] = timed(loop_once_a_layer, *data)
    for name, value in seconds.items():
        print(f"{name:20}{value:8.3f} s{value / seconds['ours']:8.2f} times ours")
    print(f"ours is {seconds['ours'] / seconds['floor']:.2f} times the floor; peak extra memory {memory:.0f} MB")
    found = {"n": N, "seconds": seconds, "peak_extra_MB": memory, "threads": 1, "device": "cpu"}
    found |= {"torch": torch.__version__, "python": platform.python_version()}
    path = Path(__file__).parent / "results" / "network.json"
    path.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
