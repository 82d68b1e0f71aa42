"""No Trainer: the same numbers in a plain PyTorch loop, and analysing its checkpoints afterwards.

python examples/plain_loop.py
"""

import argparse
from pathlib import Path

import torch
from digits_cnn import digits
from torch import nn

from lightning_infoplane import MatrixRenyiEntropy, Monitor, Probe, measure_checkpoints


def main() -> None:
    """Train and measure; then measure the saved weights, which gives the same numbers."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--root", default="runs/plain", help="where weights and the table go")
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    folder = Path(options.root)
    folder.mkdir(parents=True, exist_ok=True)

    train, val = digits()
    images, labels = train.tensors
    net = nn.Sequential(
        *(nn.Conv2d(1, 8, 3, padding=1), nn.Tanh(), nn.MaxPool2d(2), nn.Conv2d(8, 16, 3, padding=1), nn.Tanh()),
        *(nn.Flatten(), nn.Linear(256, 10)),
    )
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    probe = Probe(val.tensors[0][:256], val.tensors[1][:256])
    monitor = Monitor(net, probe, "conv")
    scores = MatrixRenyiEntropy(max_samples=256)  # a torchmetrics metric, fed batch by batch
    for epoch in range(options.epochs + 1):
        monitor.measure(epoch)
        torch.save(net.state_dict(), folder / f"{epoch}.pt")
        scores.reset()
        for part in torch.randperm(len(images)).split(64):
            optimizer.zero_grad()
            out = net(images[part])
            nn.functional.cross_entropy(out, labels[part]).backward()
            optimizer.step()
            scores.update(out.detach())
        print(f"epoch {epoch + 1}: H of the scores {float(scores.compute()):.2f} bits")
    monitor.history.save(folder / "infoplane.csv")

    paths = [folder / f"{epoch}.pt" for epoch in range(options.epochs + 1)]
    again = measure_checkpoints(paths, net, probe, "conv")
    same = [row.value for row in again] == [row.value for row in monitor.history]
    print(f"the checkpoints give {'the same' if same else 'other'} numbers; the table is {folder / 'infoplane.csv'}")


if __name__ == "__main__":
    main()
