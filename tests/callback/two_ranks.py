"""Runs of two processes, started by test_ranks.py: ``python two_ranks.py SCENARIO[,SCENARIO...] STRATEGY FOLDER``.

Each rank writes what it ended with as JSON into a folder for the scenario.
"""

import json
import os
import sys
import warnings
from pathlib import Path
from typing import Any

import lightning.pytorch as lp
import torch
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint
from networks import QUIET, TinyCNN, callback, estimator, images, loader
from torch import Tensor, nn
from torch.utils.data import Subset

from lightning_infoplane import Draw, EveryNSteps, Jackknife


class Norm(TinyCNN):
    """Batch norm: running statistics, and so the networks, differ between ranks."""

    def build(self) -> None:
        super().build()
        self.conv1 = nn.Sequential(self.conv1, nn.BatchNorm2d(4))


class FailsOnRank1(TinyCNN):
    """Cannot be measured on one rank, after the first measurement."""

    def forward(self, x: Tensor) -> Tensor:
        if not self.training and len(x) == 32 and self.global_rank == 1 and self.global_step:
            raise RuntimeError("rank 1 is ill")
        return super().forward(x)


class Shards(lp.LightningDataModule):
    """Data that every rank has a part of, as large data sets are."""

    def part(self, seed: int) -> Any:
        rank = self.trainer.global_rank if self.trainer else 0
        return loader(Subset(images(128, seed), range(rank, 128, 2)), batch_size=16)

    def train_dataloader(self) -> Any:
        return self.part(seed=0)

    def val_dataloader(self) -> Any:
        return self.part(seed=1)


class Report(lp.Callback):
    """Writes the end of a run, of each rank."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def on_train_end(self, trainer: lp.Trainer, pl_module: lp.LightningModule) -> None:
        (measured,) = [one for one in trainer.callbacks if hasattr(one, "markov_pairs")]
        report = {
            "history": [[*row[:3], str(row.place), *row[4:]] for row in measured.history],
            "metrics": {key: value.item() for key, value in trainer.callback_metrics.items() if "loss" not in key},
            "epochs": trainer.current_epoch,
            "best": next((c.best_model_path for c in trainer.callbacks if isinstance(c, ModelCheckpoint)), ""),
            "weights": sum(float(p.detach().double().sum()) for p in pl_module.parameters()),
            "probe": measured.state_dict()["probes"],
        }
        (self.folder / f"rank{trainer.global_rank}.json").write_text(json.dumps(report))


def main(scenario: str, strategy: str, folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    options: dict[str, Any] = {"raise_on_error": scenario != "failure"}
    model = {"failure": FailsOnRank1, "norm": Norm, "absent": Norm, "differing": Norm}.get(scenario, TinyCNN)
    watchers: list[lp.Callback] = []
    if scenario == "monitors":
        watchers = [
            EarlyStopping("AMI_TY/conv2", mode="max", min_delta=100.0, patience=1),
            ModelCheckpoint(folder / "kept", monitor="AMI_TY/conv2", mode="max", save_top_k=1, filename="{epoch}"),
        ]
    if scenario == "both":
        options |= {"probe": Draw(32, ("train", "val")), "error_signals": True}
    if scenario == "differing":
        # What a script draws without a seed differs between the ranks that run it.
        drawn = images(32, seed=os.getpid() % 1000)
        options |= {"probe": drawn.tensors, "redundancy": True, "error_signals": True}
        options |= estimator(standard_errors=Jackknife(2))
    if scenario == "steps":
        options |= {"schedule": EveryNSteps(3)}
    guests = [] if scenario == "absent" else [callback(**options), Report(folder)]
    trainer = lp.Trainer(
        **QUIET,
        callbacks=[*guests, *watchers],
        devices=2 if strategy != "auto" else 1,
        strategy=strategy,
        max_epochs=4 if scenario == "monitors" else 2,
        default_root_dir=folder,
        logger=False,
        enable_checkpointing=bool(watchers),
        use_distributed_sampler=False,
        # Validation would give the ranks the same running statistics.
        limit_val_batches=0 if scenario == "differing" else 1.0,
    )
    torch.manual_seed(0)
    network = model()
    trainer.fit(network, datamodule=Shards())
    if scenario == "absent":
        weights = sum(float(p.detach().double().sum()) for p in network.parameters())
        (folder / f"rank{trainer.global_rank}.json").write_text(json.dumps({"weights": weights}))


if __name__ == "__main__":
    warnings.filterwarnings("always", message="MatrixRenyiCallback")
    torch.set_num_threads(1)
    for one in sys.argv[1].split(","):
        main(one, sys.argv[2], Path(sys.argv[3]) / one)
