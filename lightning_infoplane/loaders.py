"""From a Trainer's data to the probe: found without touching a loader that trains, moved as a batch is moved."""

from typing import Any

import lightning.pytorch as lp

from lightning_infoplane.capture import isolated_rng
from lightning_infoplane.probe import Probe, draw_batch, split_batch

__all__ = ["draw_from_trainer", "to_model"]


def draw_from_trainer(
    trainer: lp.Trainer, pl_module: lp.LightningModule, source: str, size: int, seed: int
) -> Probe | None:
    """Draw a probe from the first train or validation loader; None where there is no validation data.

    Rank 0 draws and the others are given its samples: their data sets may be shards. With several loaders
    the first is used. Random augmentations see the RNG at ``seed``, so that a resumed run gets the same probe.

    Raises:
        ValueError: on every rank, if the data cannot give such a probe.
    """
    loader = _find_loader(trainer, source)
    if loader is None:
        return None
    drawn: tuple[Any, str] = (None, "")
    with isolated_rng(seed):
        if trainer.is_global_zero:
            try:
                drawn = (_draw(loader, size, seed), "")
            except Exception as error:  # told to all ranks: the others wait in the broadcast
                drawn = (None, f"{type(error).__name__}: {error}" if not isinstance(error, ValueError) else str(error))
        batch, problem = trainer.strategy.broadcast(drawn)
        if problem:
            raise ValueError(problem)
        return Probe(*split_batch(to_model(trainer, pl_module, batch)))


def to_model(trainer: lp.Trainer, pl_module: lp.LightningModule, batch: Any) -> Any:  # noqa: ANN401 - the user's
    """What the Trainer does to a batch before the module sees it: precision, the transfer hooks, the device."""
    batch = trainer.precision_plugin.convert_input(batch)
    batch = pl_module._on_before_batch_transfer(batch)  # the hook of the datamodule or of the module
    return trainer.strategy.batch_to_device(batch)


def _find_loader(trainer: lp.Trainer, source: str) -> Any:  # noqa: ANN401 - any loader with a dataset
    """The first loader of the data wanted."""
    found = trainer.train_dataloader
    if source == "val":
        if trainer.val_dataloaders is None and trainer.enable_validation:
            # Without sanity check and without validation in the first epoch nobody has set them up yet.
            trainer.validating = True
            trainer.fit_loop.epoch_loop.val_loop.setup_data()
            trainer.training = True
        found = trainer.val_dataloaders
    while isinstance(found, list | tuple | dict):
        found = next(iter(found.values() if isinstance(found, dict) else found), None)
    return found


def _draw(loader: Any, size: int, seed: int) -> Any:  # noqa: ANN401
    """A batch of ``size`` samples, collated as the loader would."""
    dataset = getattr(loader, "dataset", None)
    ready_made = getattr(loader, "batch_size", 0) is None and getattr(loader, "batch_sampler", 0) is None
    if dataset is None or ready_made:
        raise ValueError(
            f"cannot draw a probe from a {type(loader).__name__} that has no data set of single samples. "
            "Pass samples of your own: probe=(inputs, targets)."
        )
    return draw_batch(dataset, size, loader.collate_fn, seed)
