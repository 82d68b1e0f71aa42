"""A forward pass as the Trainer does it, of which nothing is logged."""

from collections.abc import Iterator
from contextlib import contextmanager

import lightning.pytorch as lp
import pytorch_lightning as pl
from torch import nn

__all__ = ["forward_context"]


@contextmanager
def forward_context(trainer: lp.Trainer, pl_module: nn.Module) -> Iterator[None]:
    """The precision that a network trains in, and no ``self.log``: a probe's values are not those of a batch."""
    modules = [module for module in pl_module.modules() if isinstance(module, lp.LightningModule | pl.LightningModule)]
    names = ("log", "log_dict")
    before = [
        (module, {name: module.__dict__[name] for name in names if name in module.__dict__}) for module in modules
    ]
    try:
        for module in modules:  # of the instance, which comes before the class
            module.__dict__.update(dict.fromkeys(names, _nothing))
        with trainer.precision_plugin.forward_context():
            yield
    finally:
        for module, own in before:
            for name in names:
                del module.__dict__[name]
            module.__dict__.update(own)


def _nothing(*_: object, **__: object) -> None:
    """Logs nothing."""
