"""Names that the doctests of the package may use without importing them."""

import pytest
import torch

import lightning_infoplane


@pytest.fixture(autouse=True)
def doctest_names(doctest_namespace: dict[str, object]) -> None:
    """Offer torch and every public name."""
    doctest_namespace["torch"] = torch
    doctest_namespace.update({name: getattr(lightning_infoplane, name) for name in lightning_infoplane.__all__})
