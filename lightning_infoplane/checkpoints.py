"""A finished run, measured afterwards: its checkpoints, one after the other."""

import os
from collections.abc import Iterable, Mapping, Sequence
from copy import deepcopy
from typing import Any, Unpack

import torch
from torch import nn

from lightning_infoplane.measurement.history import History
from lightning_infoplane.measurement.settings import Estimator
from lightning_infoplane.measurement.table import as_moment
from lightning_infoplane.monitor import Monitor, Options
from lightning_infoplane.network.layers import LayerSpec
from lightning_infoplane.network.probe import Probe
from lightning_infoplane.options import NETWORK, files

__all__ = ["measure_checkpoints"]


def measure_checkpoints(
    paths: Iterable[str | os.PathLike[str]],
    network: nn.Module,
    probe: Probe,
    layers: LayerSpec | Sequence[LayerSpec] = "conv",
    estimator: Estimator = Estimator(),
    **options: Unpack[Options],
) -> History:
    """Measure the checkpoints of a finished run, one after the other.

    Args:
        paths: Lightning checkpoints, or files with a state dict. Lightning's say which epoch and step they are
            of, as the callback counts them; others are counted from 0.
        network: of the same architecture; a copy of it is loaded, it stays as it is.
        probe: the samples, on the network's device.
        layers: see :func:`~lightning_infoplane.network.layers.select_layers`.
        estimator: how to measure.
        options: ``readout``, ``forward_fn``, ``batch_size``, ``dpi_pairs``, ``error_signals``, ``redundancy``: see
            :class:`Monitor`.

    Returns:
        The rows of all checkpoints; Markov chains are looked for in the first.

    Raises:
        ValueError: if a file is no checkpoint of this network.
    """
    NETWORK("network", network)
    checkpoints = files(paths)
    monitor = Monitor(deepcopy(network), probe, layers, estimator, **options)
    for count, path in enumerate(checkpoints):
        try:
            saved = torch.load(path, map_location=probe.x.device, weights_only=True)
            monitor.network.load_state_dict(saved.get("state_dict", saved))
            epoch, step = _moment(saved) or (count, count)
        except OSError:  # names the file itself
            raise
        except Exception as error:  # what is no checkpoint fails anywhere in torch's reader, and in its own way
            raise ValueError(f"{path} is no checkpoint of {type(network).__name__}: {error}") from error
        monitor.measure(epoch, step)
    return monitor.history


def _moment(saved: Mapping[str, Any]) -> tuple[int, int] | None:
    """Epoch and step of a Lightning checkpoint as they are in the history of its run.

    The history counts finished epochs, and steps from 0. Lightning's own ``epoch`` goes up only after the hooks
    in which checkpoints are written, and not at all between these.
    """
    if not saved.keys() >= {"state_dict", "global_step"}:
        return None
    try:
        step = max(0, saved["global_step"] - 1)
        if "loops" not in saved:  # weights only
            return as_moment(saved["epoch"] + 1, step)
        loop = saved["loops"]["fit_loop"]
        started = loop["epoch_progress"]["current"]["ready"]
        is_whole = loop["epoch_loop.batch_progress"]["is_last_batch"]
        return as_moment(started if is_whole else max(0, started - 1), step)
    except (LookupError, TypeError) as error:
        raise ValueError(f"it does not say its epoch and step as Lightning does ({error!r})") from error
