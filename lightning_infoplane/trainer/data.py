"""From a Trainer's data to the probe: found without touching a loader that trains, moved as a batch is moved."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import lightning.pytorch as lp

from lightning_infoplane.network.probe import Draw, Probe
from lightning_infoplane.network.sampling import draw_batch, split_batch
from lightning_infoplane.network.undisturbed import isolated_rng

__all__ = ["make_probes"]


def make_probes(
    trainer: lp.Trainer,
    pl_module: lp.LightningModule,
    wanted: Probe | Draw,
    seed: int,
    notice: Callable[[str, str], None],
) -> dict[str, Probe]:
    """The user's probe, or one drawn from each source, on the module's device.

    Rank 0 draws and the others are given its samples: their data sets may be shards. With several loaders
    the first is used. Random augmentations see the RNG at ``seed``, so that a resumed run gets the same probe.

    Args:
        trainer: whose loaders are set up.
        pl_module: whose transfer hooks apply.
        wanted: a probe, or how to draw one.
        seed: of the draw.
        notice: told (about, message) when validation data are missing.

    Returns:
        Probes by source; by the empty name where there is one only.

    Raises:
        ValueError: on every rank, if the data cannot give such a probe.
    """
    if isinstance(wanted, Probe):
        # A script that every rank runs may have drawn other samples on each.
        batch = trainer.strategy.broadcast((wanted.inputs, wanted.targets))
        with isolated_rng(seed):
            return {"": Probe(*_to_model(trainer, pl_module, batch, "val"))}
    probes: dict[str, Probe] = {}
    alone = len(wanted.sources) == 1
    for source in wanted.sources:
        loader = _find_loader(trainer, source)
        if loader is None and alone:
            notice(source, "there is no validation data: the probe is drawn from the training data.")
            loader = _find_loader(trainer, "train")
        if loader is None:
            raise ValueError(
                f"probe={wanted}: there is no {source!r} data. Pass probe=Draw({wanted.size}, source='train')."
            )
        probes["" if alone else source] = _draw(trainer, pl_module, loader, source, wanted.size, seed)
    return probes


def _draw(
    trainer: lp.Trainer,
    pl_module: lp.LightningModule,
    loader: Any,  # noqa: ANN401
    source: str,
    size: int,
    seed: int,
) -> Probe:
    """Rank 0's samples, moved as the Trainer would move a batch."""
    drawn: tuple[Any, str] = (None, "")
    with isolated_rng(seed):
        if trainer.is_global_zero:
            try:
                drawn = (_batch(loader, size, seed), "")
            except Exception as error:  # told to all ranks: the others wait in the broadcast
                drawn = (None, str(error) if isinstance(error, ValueError) else f"{type(error).__name__}: {error}")
        batch, problem = trainer.strategy.broadcast(drawn)
        if problem:
            raise ValueError(problem)
        return Probe(*split_batch(_to_model(trainer, pl_module, batch, source)))


def _to_model(trainer: lp.Trainer, pl_module: lp.LightningModule, batch: Any, source: str) -> Any:  # noqa: ANN401
    """What the Trainer does to a batch before the module sees it: precision, the transfer hooks, the device."""
    batch = trainer.precision_plugin.convert_input(batch)
    with _validating(trainer, source == "val"):  # hooks often augment when trainer.training
        # There is no public way to the hook that counts, the datamodule's or the module's, and batch_to_device
        # leaves it out.
        batch = pl_module._on_before_batch_transfer(batch)
        return trainer.strategy.batch_to_device(batch)


@contextmanager
def _validating(trainer: lp.Trainer, validating: bool) -> Iterator[None]:
    """The Trainer's state as it is when validation data come."""
    stage = trainer.state.stage
    try:
        if validating:
            trainer.validating = True
        yield
    finally:
        trainer.state.stage = stage


def _find_loader(trainer: lp.Trainer, source: str) -> Any:  # noqa: ANN401 - any loader with a dataset
    """The first loader of the data wanted."""
    loader = trainer.train_dataloader
    if source == "val":
        if trainer.val_dataloaders is None and trainer.enable_validation:
            # Without sanity check and without validation in the first epoch nobody has set them up yet.
            # There is no public way to ask for it.
            with _validating(trainer, True):
                trainer.fit_loop.epoch_loop.val_loop.setup_data()
        loader = trainer.val_dataloaders
    while isinstance(loader, list | tuple | dict):
        loader = next(iter(loader.values() if isinstance(loader, dict) else loader), None)
    return loader


def _batch(loader: Any, size: int, seed: int) -> Any:  # noqa: ANN401
    """A batch of ``size`` samples, collated as the loader would."""
    dataset = getattr(loader, "dataset", None)
    ready_made = getattr(loader, "batch_size", 0) is None and getattr(loader, "batch_sampler", 0) is None
    if dataset is None or ready_made:
        raise ValueError(
            f"cannot draw a probe from a {type(loader).__name__} that has no data set of single samples. "
            "Pass samples of your own: probe=(inputs, targets)."
        )
    return draw_batch(dataset, size, loader.collate_fn, seed)
