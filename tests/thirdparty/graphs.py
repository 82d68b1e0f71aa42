"""Graphs: a batch has many nodes for each sample."""

from functools import partial
from pathlib import Path
from typing import Any

import lightning as L
import torch
from thirdparty.scenario import BATCH, CLASSES, PROBE, SAMPLES, Scenario, labels, library, loaders
from torch import Tensor, nn


def pooled(rows: Tensor, graph_of: Tensor) -> Tensor:
    """The mean over each graph's nodes."""
    return torch.stack([rows[graph_of == graph].mean(0) for graph in graph_of.unique()])


# ------------------------------------------------------------------------------------------------ PyTorch Geometric


class GCN(L.LightningModule):
    """After the tutorial on graph classification of PyTorch Geometric."""

    def __init__(self) -> None:
        super().__init__()
        geometric = library("torch_geometric.nn")
        self.conv1 = geometric.GCNConv(5, 16)
        self.conv2 = geometric.GCNConv(16, 16)
        self.lin = nn.Linear(16, CLASSES)
        self.pool = geometric.global_mean_pool

    def forward(self, x: Tensor, edge_index: Tensor, batch: Tensor) -> Any:
        x = self.conv1(x, edge_index).relu()
        x = self.conv2(x, edge_index)
        x = self.pool(x, batch)
        return self.lin(nn.functional.dropout(x, p=0.5, training=self.training))

    def training_step(self, data: Any, batch_idx: int) -> Tensor:
        loss = nn.functional.cross_entropy(self(data.x, data.edge_index, data.batch), data.y)
        self.log("train_loss", loss, batch_size=data.num_graphs)
        return loss

    def validation_step(self, data: Any, batch_idx: int) -> None:
        out = self(data.x, data.edge_index, data.batch)
        self.log("val_loss", nn.functional.cross_entropy(out, data.y), batch_size=data.num_graphs)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters(), lr=0.01)


class GCNOfData(GCN):
    """The same, of the whole batch: another habit."""

    def forward(self, data: Any) -> Any:
        return super().forward(data.x, data.edge_index, data.batch)

    def training_step(self, data: Any, batch_idx: int) -> Tensor:
        loss = nn.functional.cross_entropy(self(data), data.y)
        self.log("train_loss", loss, batch_size=data.num_graphs)
        return loss

    def validation_step(self, data: Any, batch_idx: int) -> None:
        self.log("val_loss", nn.functional.cross_entropy(self(data), data.y), batch_size=data.num_graphs)


def pyg(path: Path, module: type[GCN] = GCN) -> Scenario:
    data = library("torch_geometric.data")
    loader = library("torch_geometric.loader")

    def rings(n: int) -> list[Any]:
        """Rings of four to nine nodes, whose features lean towards the class."""
        generator = torch.Generator().manual_seed(n)
        graphs = []
        for y in labels(n):
            size = int(torch.randint(4, 10, (1,), generator=generator))
            there = torch.arange(size)
            edges = torch.stack([torch.cat([there, there.roll(1)]), torch.cat([there.roll(1), there])])
            x = torch.randn(size, 5, generator=generator)
            x[:, int(y)] += 1
            graphs.append(data.Data(x=x, edge_index=edges, y=y[None]))
        return graphs

    return Scenario(
        module,
        partial(loaders, rings, loader.DataLoader),
        layers=["conv1", "conv2", "lin"],
        x=lambda module, batch: pooled(batch.x, batch.batch),
        y=lambda batch: batch.y,
        says="x",
        collated=lambda loader: next(iter(type(loader)(loader.dataset, batch_size=PROBE))),
        told="readout",
        exact=False,
    )


# -------------------------------------------------------------------------------------------------------- chemprop

# Alcohols, ketones, ethers and chlorides of different lengths: their names, and something to be learnt of them.
_ENDS = ["O", "C(C)=O", "OC", "Cl"]


def molecules(n: int) -> list[str]:
    return [
        "C" * (1 + i // 4 % 8) + ("N" if i // 32 % 2 else "C") + "C" * (i // 16 % 3) + _ENDS[i % 4] for i in range(n)
    ]


def chemprop(path: Path) -> Scenario:
    data, featurizers, models, networks = (
        library(f"chemprop.{room}") for room in ("data", "featurizers", "models", "nn")
    )

    def dataset(n: int) -> Any:
        points = [
            data.MoleculeDatapoint.from_smi(smiles, [0.1 * len(smiles) + i % 4])
            for i, smiles in enumerate(molecules(n))
        ]
        return data.MoleculeDataset(points, featurizers.SimpleMoleculeMolGraphFeaturizer())

    def module() -> L.LightningModule:
        model: L.LightningModule = models.MPNN(
            networks.BondMessagePassing(d_h=16, depth=2),
            networks.MeanAggregation(),
            networks.RegressionFFN(input_dim=16, hidden_dim=16),
            batch_norm=False,
        )
        return model

    def loaded() -> tuple[Any, Any]:
        return (
            data.build_dataloader(dataset(SAMPLES), batch_size=BATCH, seed=0),
            data.build_dataloader(dataset(PROBE), batch_size=BATCH, shuffle=False),
        )

    return Scenario(
        module,
        loaded,
        layers=["message_passing", "agg", "predictor"],
        x=lambda module, batch: pooled(batch.bmg.V, batch.bmg.batch),
        y=lambda batch: batch.Y,
        says="V",
        told="readout",
        exact=False,
    )


GRAPHS = {
    "PyG graph classifier": pyg,
    "PyG graph classifier of whole batches": partial(pyg, module=GCNOfData),
    "chemprop": chemprop,
}
