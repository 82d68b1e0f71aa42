"""Where a Trainer stands: epochs and steps as the history counts them, as finished ones.

Lightning has no public way to some of this: each private attribute is here, with what is missing.
"""

import lightning.pytorch as lp

from lightning_infoplane.measurement.ranks import Ranks, all_ranks

__all__ = ["epoch_end_step", "finished_epochs", "last_epoch", "last_step", "ranks_of", "stepped", "unfinished_end"]


def ranks_of(trainer: lp.Trainer) -> Ranks:
    """The processes that train together."""
    return all_ranks(trainer.world_size)


def finished_epochs(trainer: lp.Trainer) -> int:
    """In ``on_train_epoch_end``, which comes before Lightning counts the epoch."""
    return trainer.current_epoch + 1


def last_epoch(trainer: lp.Trainer) -> int | None:
    """The epoch a run is planned to end with, if it is."""
    planned = trainer.max_epochs
    return planned if planned is not None and planned > 0 else None


def last_step(trainer: lp.Trainer) -> int | None:
    """The optimizer step a run is planned to end with, if that is known.

    Lightning's estimate counts each of several optimizers, and does not know of accumulation that changes.
    """
    changing = any(len(getattr(callback, "scheduling", ())) > 1 for callback in trainer.callbacks)  # type: ignore[attr-defined]  # set by its connector
    if changing or len(trainer.optimizers) > 1:
        return None
    planned = trainer.estimated_stepping_batches
    return int(planned) if 0 < planned < float("inf") else None


def stepped(trainer: lp.Trainer) -> int | None:
    """In ``on_train_batch_end``, the optimizer step just made, from 0; None after a batch that only accumulates.

    There is no public way to ask whether a batch stepped, and ``global_step`` counts every optimizer on its own.
    ``_batches_that_stepped`` counts this batch only after the hook.
    """
    if trainer.fit_loop._should_accumulate():
        return None
    return trainer.fit_loop.epoch_loop._batches_that_stepped


def unfinished_end(trainer: lp.Trainer) -> tuple[int, int] | None:
    """In ``on_train_start``, epoch and step at which a resumed run goes on; None in the midst of an epoch.

    A checkpoint from an epoch's last batch is written before that batch is counted, and before the epoch ends.
    Lightning goes on with the next epoch; before 2.6 it repeats the batch, and then the epoch ends after all.
    """
    loop = trainer.fit_loop.epoch_loop
    at_the_end = trainer.current_epoch > 0 and loop.batch_progress.is_last_batch
    return (trainer.current_epoch, loop._batches_that_stepped) if at_the_end else None


def epoch_end_step(trainer: lp.Trainer) -> int:
    """The step at which Lightning itself writes epoch-end values; ``global_step`` is one larger, or more."""
    return trainer.fit_loop.epoch_loop._batches_that_stepped - 1
