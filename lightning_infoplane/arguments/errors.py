"""What ends a run before it begins, and what is only told."""

__all__ = ["NotMeasurableError", "SetupError"]


class SetupError(ValueError):
    """What is asked for cannot be: told before any training, which does not begin."""


class NotMeasurableError(ValueError):
    """Data or a network that cannot be measured as they are: told whole, with what to pass, and training goes on."""
