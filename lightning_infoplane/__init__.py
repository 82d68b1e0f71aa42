"""See what the layers of a network know while PyTorch Lightning trains it: matrix-based Rényi information, in bits.

Names are loaded on first use (SPEC 1): ``__init__.pyi`` lists them, for people, type checkers and this module.
"""

import lazy_loader

__version__ = "0.1.0"

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
