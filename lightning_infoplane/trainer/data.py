"""From a Trainer's data to the probe: found without touching a loader that trains, moved as a batch is moved."""

import io
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import lightning.pytorch as lp
import torch
from torch.utils.data import ConcatDataset, Subset, TensorDataset

from lightning_infoplane.arguments.errors import SetupError
from lightning_infoplane.measurement.ranks import Ranks
from lightning_infoplane.network.batches import Read, Rows, read_batch
from lightning_infoplane.network.calls import taken_by
from lightning_infoplane.network.observed import Readouts
from lightning_infoplane.network.probe import Draw, Origin, Probe
from lightning_infoplane.network.readout import rows_by
from lightning_infoplane.network.sampling import draw_batch, first_of_batches
from lightning_infoplane.network.structures import look_up, paths_in
from lightning_infoplane.network.undisturbed import isolated_rng
from lightning_infoplane.trainer.worker import in_a_fork

__all__ = ["make_probes"]


def make_probes(
    trainer: lp.Trainer,
    pl_module: lp.LightningModule,
    wanted: Probe | Draw,
    seed: int,
    notice: Callable[[str, str], None],
    ranks: Ranks = Ranks(),
    readout: Readouts = None,
) -> dict[str, Probe]:
    """The user's probe, or one drawn from each source, on the module's device.

    Rank 0 draws and the others are given its samples: their data sets may be shards. With several loaders
    the first is used. Random augmentations see the RNG at ``seed``, so that a resumed run gets the same probe.

    Args:
        trainer: whose loaders are set up.
        pl_module: whose transfer hooks apply.
        wanted: a probe, or how to draw one.
        seed: of the draw.
        notice: told (about, message) when validation data are missing, or the samples cannot be drawn elsewhere.
        ranks: the processes that train together: what fails on one of them fails on all.
        readout: how layers are read: that of graphs makes a row a sample of X too.

    Returns:
        Probes by source; by the empty name where there is one only.

    Raises:
        SetupError: on every rank, if the data cannot give such a probe.
        NotMeasurableError: likewise, if nothing in them can stand for X.
    """
    device = pl_module.device
    if isinstance(wanted, Probe):
        # A script that every rank runs may have drawn other samples on each.
        given = _of_rank_0(trainer, lambda: _as_given(wanted), ranks, device)
        return {"": ranks.together(lambda: _moved(trainer, pl_module, given(), seed), device)}
    loaders = ranks.together(lambda: _loaders(trainer, wanted, notice), device)
    probes: dict[str, Probe] = {}
    for source, loader in loaders.items():
        batch = _of_rank_0(trainer, partial(_drawn, loader, wanted, seed, notice), ranks, device)
        made = partial(_as_probe, trainer, pl_module, wanted, batch, source, seed, rows_by(readout))
        probes["" if len(loaders) == 1 else source] = ranks.together(made, device)
    return probes


def _as_given(probe: Probe) -> tuple[Any, Any, Any]:
    """Inputs, targets and X; where X is one of the inputs, the key under which it is, so that it stays one of them."""
    path = next((path for path, tensor in paths_in(probe.inputs) if tensor is probe.x), None)
    return probe.inputs, probe.targets, probe.x if path is None else path


def _moved(trainer: lp.Trainer, pl_module: lp.LightningModule, given: tuple[Any, Any, Any], seed: int) -> Probe:
    """A given probe as the Trainer would move a batch; hooks know of inputs and targets, not of X."""
    *pair, x = given
    inputs, targets = _to_model(trainer, pl_module, tuple(pair), "val", seed)
    if isinstance(x, str):
        return Probe(inputs, targets, look_up(inputs, x) if x else inputs)
    return Probe(inputs, targets, x.to(pl_module.device))


def _as_probe(
    trainer: lp.Trainer,
    pl_module: lp.LightningModule,
    wanted: Draw,
    batch: Callable[[], Any],
    source: str,
    seed: int,
    of_rows: Rows,
) -> Probe:
    """Samples moved as the Trainer would move a batch, and read."""
    moved = _to_model(trainer, pl_module, batch(), source, seed)
    keys = (wanted.inputs, wanted.x, wanted.targets)
    read: Read = read_batch(moved, wanted.size, *keys, taken_by(pl_module), of_rows)
    return Probe(read.inputs, read.targets, read.x, origin=Origin(read.x_name, read.y_name, moved))


def _of_rank_0(trainer: lp.Trainer, make: Callable[[], Any], ranks: Ranks, device: torch.device) -> Callable[[], Any]:
    """A function that gives what rank 0 made. Sent as bytes: pickling may fail, and must not do so halfway."""
    if ranks.world_size == 1:
        made = make()
        return lambda: made

    def packed() -> bytes:
        buffer = io.BytesIO()
        if ranks.rank == 0:
            torch.save(make(), buffer)
        return buffer.getvalue()

    sent = trainer.strategy.broadcast(ranks.together(packed, device))
    return lambda: torch.load(io.BytesIO(sent), map_location="cpu", weights_only=False)  # rank 0's own


def _loaders(trainer: lp.Trainer, wanted: Draw, notice: Callable[[str, str], None]) -> dict[str, Any]:
    """The loader of each source."""
    alone = len(wanted.sources) == 1
    loaders: dict[str, Any] = {}
    for source in wanted.sources:
        loader = _find_loader(trainer, source)
        if loader is None and alone:
            notice(source, "there is no validation data: the probe is drawn from the training data.")
            loader = _find_loader(trainer, "train")
        if loader is None:
            raise SetupError(
                f"probe={wanted}: there is no {source!r} data. Pass probe=Draw({wanted.size}, source='train')."
            )
        loaders[source] = loader
    return loaders


def _drawn(loader: Any, wanted: Draw, seed: int, notice: Callable[[str, str], None]) -> Any:  # noqa: ANN401
    """A batch drawn in another process, for data sets may have generators, counters and iterators of their own."""

    def draw() -> Any:  # noqa: ANN401
        with isolated_rng(seed):
            return _batch(loader, wanted, seed)

    if _holds_no_state(getattr(loader, "dataset", None)):
        return draw()
    try:
        return in_a_fork(draw)
    except SetupError:
        raise
    except Exception as error:  # a GPU in the data set, say: what has no cure fails here once more
        batch = draw()
        notice(
            "drawn here",
            f"the probe could not be drawn in another process ({type(error).__name__}: {error}). It was drawn in this "
            "one: a data set that counts its reads, or has a generator of its own, has been moved on.",
        )
        return batch


def _holds_no_state(dataset: object) -> bool:
    """Whether nothing can be moved on by reading: tensors, and parts and sums of them."""
    if type(dataset) is Subset:
        return _holds_no_state(dataset.dataset)
    if type(dataset) is ConcatDataset:
        return all(map(_holds_no_state, dataset.datasets))
    return type(dataset) is TensorDataset


def _to_model(trainer: lp.Trainer, pl_module: lp.LightningModule, batch: Any, source: str, seed: int) -> Any:  # noqa: ANN401
    """What the Trainer does to a batch before the module sees it: precision, the transfer hooks, the device."""
    batch = trainer.precision_plugin.convert_input(batch)
    # Hooks often augment, when trainer.training.
    with isolated_rng(seed), _validating(trainer, source == "val"):
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


def _batch(loader: Any, wanted: Draw, seed: int) -> Any:  # noqa: ANN401
    """A batch of so many samples, collated as the loader would."""
    dataset = getattr(loader, "dataset", None)
    if dataset is None:  # whatever gives batches; in a process of its own, which moves no iterator on
        return first_of_batches(loader, wanted.size)
    if getattr(loader, "batch_size", 0) is None and getattr(loader, "batch_sampler", 0) is None:
        return first_of_batches(dataset, wanted.size, loader.collate_fn)
    key = wanted.targets
    if key is None or callable(key):
        return draw_batch(dataset, wanted.size, loader.collate_fn, seed)
    return draw_batch(dataset, wanted.size, loader.collate_fn, seed, lambda item: _looked_up(item, key))


def _looked_up(item: Any, key: str | int | Sequence[str | int]) -> Any:  # noqa: ANN401
    """What the targets' key finds in a single item; nothing where only batches have it."""
    try:
        return look_up(item, key)
    except LookupError:
        return None
