"""What can be told from the callback's arguments alone: a mistake gets its sentence before any training."""

from collections.abc import Sequence

from lightning_infoplane.schedules import Schedule

__all__ = ["check_arguments", "check_choice"]


def check_arguments(
    sources: Sequence[str],
    probe: object,
    every_n_epochs: int,
    schedule: Schedule | None,
    every_n_train_steps: int | None,
    probe_batch_size: int | None,
) -> None:
    """Raise a ``ValueError`` for arguments that contradict each other or that cannot be meant."""
    if not sources or set(sources) - {"val", "train"}:
        raise ValueError(f"probe_from={sources}: expected 'val', 'train' or both.")
    if isinstance(probe, int) and probe < 2:
        raise ValueError(f"probe={probe}: a probe needs at least 2 samples. Some hundred give useful numbers.")
    if every_n_train_steps is not None and (schedule is not None or every_n_epochs != 1):
        raise ValueError("every_n_train_steps replaces every_n_epochs and schedule: pass one of them.")
    if schedule is not None and every_n_epochs != 1:
        raise ValueError("schedule replaces every_n_epochs: pass one of them.")
    for name, value in (("every_n_train_steps", every_n_train_steps), ("probe_batch_size", probe_batch_size)):
        if value is not None and value < 1:
            raise ValueError(f"{name}={value}: expected 1 or more.")


def check_choice(**arguments: tuple[str, str, str]) -> None:
    """Raise a ``ValueError`` for an argument whose value, the first of the three, is neither of the other two."""
    for name, (value, one, other) in arguments.items():
        if value not in (one, other):
            raise ValueError(f"{name}={value!r}: expected {one!r} or {other!r}.")
