"""What ends a run before it begins, what is only told, and any failure in one line."""

__all__ = ["NotMeasurableError", "SetupError", "reason_of"]


class SetupError(ValueError):
    """What is asked for cannot be: told before any training, which does not begin."""


class NotMeasurableError(ValueError):
    """Data or a network that cannot be measured as they are: told whole, with what to pass, and training goes on."""


def reason_of(error: Exception, longest: int = 200) -> str:
    """Type and message, in one line of so many letters: some messages hold a whole model.

    Example:
        >>> reason_of(ZeroDivisionError("division by zero"))
        'ZeroDivisionError: division by zero'
    """
    reason = " ".join(f"{type(error).__name__}: {error}".split())
    return reason if len(reason) <= longest else f"{reason[:longest]} …"
