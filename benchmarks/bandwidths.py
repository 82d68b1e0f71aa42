"""What each bandwidth rule shows of a LeNet and of a batch-normed VGG, before and after training.

    python benchmarks/bandwidths.py

Prints the table of the README's section "Choosing a bandwidth" and writes it to benchmarks/results/bandwidths.md.
Digits of 16×16 pixels, n = 256 (log2 n = 8 bits), α = 1.01, one thread, about two minutes.
"""

from itertools import pairwise

import torch
from common import RESULTS
from sklearn.datasets import load_digits
from torch import Tensor, nn

from lightning_infoplane import (
    Alignment,
    Bandwidth,
    Estimator,
    History,
    MedianDistance,
    Monitor,
    NearestNeighbors,
    Probe,
    Silverman,
    StandardizedSilverman,
)

RULES: list[Bandwidth] = [
    MedianDistance(),
    Alignment(momentum=0.0),
    NearestNeighbors(),
    StandardizedSilverman(),
    Silverman(),
]


def lenet() -> nn.Module:
    """Two convolutions with tanh."""
    return nn.Sequential(
        *(nn.Conv2d(1, 6, 5, padding=2), nn.Tanh(), nn.AvgPool2d(2)),
        *(nn.Conv2d(6, 16, 5), nn.Tanh(), nn.AvgPool2d(2)),
        *(nn.Flatten(), nn.Linear(64, 32), nn.Tanh(), nn.Linear(32, 10)),
    )


def vgg() -> nn.Module:
    """Five convolutions of 32 to 128 maps with batch norm and ReLU."""
    widths, layers = [1, 32, 32, 64, 64, 128], []
    for i, (before, after) in enumerate(pairwise(widths)):
        layers += [nn.Conv2d(before, after, 3, padding=1), nn.BatchNorm2d(after), nn.ReLU(inplace=True)]
        layers += [nn.MaxPool2d(2)] if i in (1, 3) else []
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(128, 10))


def data() -> tuple[Tensor, Tensor]:
    """All digits, 16×16."""
    images, labels = load_digits(return_X_y=True)
    small = torch.tensor(images, dtype=torch.float32).reshape(-1, 1, 8, 8) / 16
    return nn.functional.interpolate(small, size=16, mode="bilinear"), torch.tensor(labels)


def train(model: nn.Module, x: Tensor, y: Tensor, epochs: int) -> None:
    """Adam, batches of 64."""
    optimizer = torch.optim.Adam(model.parameters(), 2e-3)
    for _ in range(epochs):
        for part in torch.randperm(len(x)).split(64):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(x[part]), y[part]).backward()
            optimizer.step()


def main() -> None:
    """Measure every rule on the same networks."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    x, y = data()
    probe = Probe(x[-256:], y[-256:])
    lines = [
        "| network | rule | H(T)/log2 n, untrained | H(T)/log2 n, trained | I(X;T) (shuffled) | AMI(X;T) | AMI(T;Y) |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, model in (("LeNet, tanh", lenet()), ("VGG, batch norm", vgg())):
        monitors = [Monitor(model, probe, "conv", Estimator(bandwidth=rule)) for rule in RULES]
        for epoch, epochs in ((0, 0), (10, 10)):
            train(model, x[:-256], y[:-256], epochs)
            for monitor in monitors:
                monitor.measure(epoch)
        for rule, monitor in zip(RULES, monitors, strict=True):
            lines.append(f"| {name} | `{rule}` | {cells_of(monitor.history)} |")
    table = "\n".join(lines) + "\n"
    print(table)
    (RESULTS / "bandwidths.md").write_text(table, encoding="utf-8")


def cells_of(history: History) -> str:
    """The cells of one rule: first and last layer."""
    value = {(row.epoch, row.place, row.quantity): row.value for row in history}
    layers = list(dict.fromkeys(row.place for row in history if row.quantity == "H_T"))
    ends = (layers[0], layers[-1])
    shares = [
        " → ".join(f"{value[epoch, end, 'H_T'] / value[0, '', 'log2_n']:.2f}" for end in ends) for epoch in (0, 10)
    ]
    bits = " → ".join(f"{value[10, end, 'I_XT']:.2f} ({value[10, end, 'I_XT_chance']:.2f})" for end in ends)
    adjusted = [
        " → ".join(f"{value[10, end, name]:.2f}" if (10, end, name) in value else "-" for end in ends)
        for name in ("AMI_XT", "AMI_TY")
    ]
    return " | ".join([*shares, bits, *adjusted])


if __name__ == "__main__":
    main()
