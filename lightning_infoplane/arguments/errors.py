"""What a user is told before any training, and the only thing that ends a run unasked."""

__all__ = ["SetupError"]


class SetupError(ValueError):
    """An argument that cannot be meant for this network or these data, or a run that must not be gone on with."""
