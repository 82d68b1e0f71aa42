"""H(X), H(T), H(X,T) and I(X;T) of one layer from raw activations, against the floor, for seven shapes.

    python benchmarks/layers.py        # about two minutes

LeNet's two convolutions and the first of each width of a VGG-16, for 128, 512 and 1,024 samples. The floor is two
float32 products and three float64 spectra of the same sizes. One thread; in turn, medians of five. Writes
benchmarks/results/layers.json.
"""

import torch
from common import floor, medians, write
from torch import Tensor

from lightning_infoplane import feature_map_gram, gram, joint_gram, renyi_entropy

SIZES = (128, 512, 1024)
# Pixels of the input, maps, side of a map
SHAPES = {
    "LeNet conv1": (784, 6, 28),
    "LeNet conv2": (784, 16, 10),
    "VGG 64": (3072, 64, 32),
    "VGG 128": (3072, 128, 16),
    "VGG 256": (3072, 256, 8),
    "VGG 512, 4×4": (3072, 512, 4),
    "VGG 512, 2×2": (3072, 512, 2),
}


def ours(x: Tensor, layer: Tensor) -> Tensor:
    """The public functions, with the default bandwidth; each checks its argument."""
    a, b = gram(x), feature_map_gram(layer)
    return renyi_entropy(a) + renyi_entropy(b) - renyi_entropy(joint_gram(a, b))


def main() -> None:
    """Measure, print, write."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    rows = []
    for name, (pixels, maps, side) in SHAPES.items():
        for n in SIZES:
            latent = torch.randn(n, 32)
            x = latent @ torch.randn(32, pixels)
            layer = (latent @ torch.randn(32, maps * side**2)).relu_().reshape(n, maps, side, side)
            times = medians({"ours": lambda x=x, t=layer: ours(x, t), "floor": lambda x=x, t=layer: floor([x, t], 3)})  # type: ignore[misc]
            rows.append({"layer": name, "n": n, **times})
            print(f"{name:14}{n:6}{times['ours']:9.4f} s{times['ours'] / times['floor']:7.2f} times the floor")
    write("layers", {"rows": rows})


if __name__ == "__main__":
    main()
