"""A graph classifier of PyTorch Geometric: a batch has many nodes for each sample, and a readout says what to do.

    pip install torch-geometric
    python examples/graph.py

Half a minute on a CPU. ``PerGraph("batch")`` takes the mean over the nodes of each graph, of every layer and of X, the
nodes' features; without it the callback says so before training. The class is in the edges alone: the features have no
part in it, so a network that learns has to give them up for the edges. Chains of layers are found by exchanging some
of the samples for others; some of the graphs cannot be taken out of a batch, so no gaps are logged.
"""

import argparse

import lightning as L
import torch
from reading import change, read
from torch import Tensor, nn
from torch_geometric.data import Batch, Data
from torch_geometric.loader import DataLoader
from torch_geometric.nn import GraphConv, global_mean_pool

from lightning_infoplane import History, LogSpacedEpochs, MatrixRenyiCallback, PerGraph

FEATURES, MOTIF = 4, 5
# On its first five nodes a graph has one of these: a ring, a star, or edges between all of them.
MOTIFS = (
    [(0, 1), (1, 2), (2, 3), (3, 4), (4, 0)],
    [(0, 1), (0, 2), (0, 3), (0, 4)],
    [(one, other) for one in range(MOTIF) for other in range(one)],
)
LAYERS = ("conv1", "conv2", "conv3", "head")


def graphs(count: int, generator: torch.Generator) -> list[Data]:
    """Motifs from which trees of different sizes grow; the features of a graph's nodes are alike, and say nothing."""
    made = []
    for label in torch.arange(count) % len(MOTIFS):
        nodes = MOTIF + int(torch.randint(6, 15, (), generator=generator))
        grown = [(node, int(torch.randint(node, (), generator=generator))) for node in range(MOTIF, nodes)]
        edges = torch.tensor([*MOTIFS[label], *grown]).T
        features = torch.randn(1, FEATURES, generator=generator) + torch.randn(nodes, FEATURES, generator=generator)
        made.append(Data(x=features, edge_index=torch.cat([edges, edges.flip(0)], dim=1), y=label[None]))
    return made


class GraphClassifier(L.LightningModule):
    """Three graph convolutions, and a head on the mean of the nodes."""

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        self.conv1, self.conv2 = GraphConv(FEATURES, width), GraphConv(width, width)
        self.conv3, self.head = GraphConv(width, width), nn.Linear(width, len(MOTIFS))

    def forward(self, x: Tensor, edge_index: Tensor, batch: Tensor) -> Tensor:
        """Nodes to class scores of their graphs."""
        for conv in (self.conv1, self.conv2, self.conv3):
            x = conv(x, edge_index).relu()
        scores: Tensor = self.head(global_mean_pool(x, batch))
        return scores

    def training_step(self, data: Batch, batch_idx: int) -> Tensor:
        """Cross-entropy."""
        loss = nn.functional.cross_entropy(self(data.x, data.edge_index, data.batch), data.y)
        self.log("train_loss", loss, batch_size=data.num_graphs)
        return loss

    def validation_step(self, data: Batch, batch_idx: int) -> None:
        """Accuracy."""
        right = self(data.x, data.edge_index, data.batch).argmax(1) == data.y
        self.log("val_accuracy", right.float().mean(), prog_bar=True, batch_size=data.num_graphs)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Adam."""
        return torch.optim.Adam(self.parameters(), lr=3e-3)


def say(history: History, epochs: int, accuracy: float) -> None:
    """What each layer shares with the features and with the class, and what training did to the last one."""
    of_features, of_class = read(history, "AMI_XT"), read(history, "AMI_TY")
    print(f"\nadjusted information, ± one standard error, after epoch {epochs}")
    print(f"{'':8}{'with the features':>20}{'with the class':>20}")
    for layer in LAYERS:
        print(f"{layer:8}{of_features[epochs, layer]!s:>20}{of_class[epochs, layer]!s:>20}")
    print(f"\n{accuracy:.0%} of the graphs are classified right.")
    for what, known in (("features", of_features), ("class", of_class)):
        ends = (known[epochs, layer] for layer in (LAYERS[0], LAYERS[-1]))
        print(f"What is shared with the {what} {change(*ends)} on the way from {LAYERS[0]} to {LAYERS[-1]}.")
        print(f"In the {LAYERS[-1]} it {change(known[0, LAYERS[-1]], known[epochs, LAYERS[-1]])} by training.")


def main() -> None:
    """Train, then say what the network keeps of the features, and what of the edges."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--root", default="runs/graph", help="where the logs go")
    options = parser.parse_args()
    torch.set_num_threads(1)
    L.seed_everything(0)
    generator = torch.Generator().manual_seed(0)
    train, val = graphs(960, generator), graphs(384, generator)
    callback = MatrixRenyiCallback(LAYERS, probe=384, schedule=LogSpacedEpochs(6), readout=PerGraph("batch"))
    trainer = L.Trainer(
        callbacks=[callback],
        max_epochs=options.epochs,
        default_root_dir=options.root,
        accelerator="cpu",
        log_every_n_steps=10,
    )
    trainer.fit(GraphClassifier(), DataLoader(train, 64, shuffle=True), DataLoader(val, 128))
    say(callback.history, options.epochs, float(trainer.callback_metrics["val_accuracy"]))


if __name__ == "__main__":
    main()
