"""What is needed to read the rows of a run: how they were measured, as data."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from lightning_infoplane import __version__

__all__ = ["Facts"]

# No probe has more samples; a file that says so is not one of ours.
_MOST_SAMPLES = 2**53


@dataclass(frozen=True)
class Facts:
    """What is needed to read the rows.

    Args:
        version: of this package.
        estimator: its class and fields, the seed among them, as plain data.
        n: samples by probe; the empty name where there is one.
        chain: the Markov chain that was found among the layers, a line each.
        changes: what was no longer the same where a run was gone on with; values before and after do not compare.
        described: what stands for X and Y, and how the network is called.
        left_out: the layers that were left out of a measurement, and why, a line each.

    Example:
        >>> Facts.from_json(Facts("0.1.0", {"alpha": 2}, {"": 512}).to_json()).n
        {'': 512}
    """

    version: str = __version__
    estimator: Mapping[str, Any] = field(default_factory=dict)
    n: Mapping[str, int] = field(default_factory=dict)
    chain: Sequence[str] = ()
    changes: Sequence[str] = ()
    described: str = ""
    left_out: Sequence[str] = ()

    def to_json(self) -> str:
        """In one line."""
        return json.dumps(vars(self), ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str) -> "Facts":
        """Back from :meth:`to_json`.

        Raises:
            ValueError: for anything else.
        """
        try:
            data = json.loads(text)
            n = {str(probe): int(size) for probe, size in data["n"].items()}
            lines = {key: tuple(map(str, data.get(key, ()))) for key in ("changes", "left_out")}
            lines["chain"] = tuple(map(str, data["chain"]))
            described = str(data.get("described", ""))
            facts = cls(str(data["version"]), dict(data["estimator"]), n, described=described, **lines)
        except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
            raise ValueError(f"expected version, estimator, n and chain as JSON, got {text[:80]!r}.") from error
        for probe, size in n.items():
            if not 0 < size < _MOST_SAMPLES:
                of = f" of the probe {probe!r}" if probe else ""
                raise ValueError(f"expected n{of} to be a number of samples, got {size}.")
        return facts
