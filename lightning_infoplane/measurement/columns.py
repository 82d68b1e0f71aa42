"""From entropies to quantities: one loop over the table, for values, chance levels, gaps and their errors."""

from collections.abc import Iterator, Mapping
from typing import cast

import torch
from torch import Tensor

from lightning_infoplane.estimator.information import p_value
from lightning_infoplane.estimator.solvers import Estimate
from lightning_infoplane.measurement.formulas import SignedSum, Term
from lightning_infoplane.measurement.quantities import QUANTITIES
from lightning_infoplane.measurement.quantity import Below, Gap, Of, Quantity, Subject
from lightning_infoplane.measurement.verdicts import ROUNDING, is_below_zero

__all__ = ["columns", "counts", "functions_of", "of_the_probe", "terms_of"]

# Shuffles from which on a p-value is worth its name: 1 / (1 + 20) < 0.05.
_ENOUGH_FOR_P = 20

Columns = dict[Quantity, Tensor]


def terms_of(subject: Subject, partners: list[str], shuffles: int) -> list[Term]:
    """Every joint entropy with the layer in it that the table asks for, where its partner is known.

    Example:
        >>> terms_of(Subject.ERROR_SIGNALS, ["X"], shuffles=0)
        [Term(partner='', shuffle=None, layer=True), Term(partner='X', shuffle=None, layer=True)]
    """
    sums = [quantity for quantity in _sums_of(subject, Of.LAYER) if _is_known(quantity, partners)]
    wanted = [term for quantity in sums for term in _terms(quantity)]
    mixed = [
        term.shuffled(k) for k in range(shuffles) for quantity in sums if quantity.shuffled for term in _terms(quantity)
    ]
    return list(dict.fromkeys(term for term in (*wanted, *mixed) if term.layer))


def columns(known: Mapping[Term, Estimate], subject: Subject, ends: Tensor, shuffles: int) -> Columns:
    """Quantities of the layers, ``(layers,)``, and of pairs of them, ``(pairs,)``, with all that belongs to them.

    Args:
        known: entropies by term.
        subject: which part of the table.
        ends: ``(pairs, 2)`` places of the layers between which gaps are wanted.
        shuffles: how many there are of every term.
    """
    table: Columns = {}
    scatter: dict[Quantity, Tensor] = {}
    for quantity in _sums_of(subject, Of.LAYER):
        if not all(term in known for term in _terms(quantity)):
            continue
        table[quantity] = _signed_sum(quantity, known)
        scatter[quantity] = _squares(quantity, known, with_layer=True)
        if quantity.stderr:
            table[quantity.error] = _squares(quantity, known).sqrt()
        if quantity.shuffled and shuffles:
            null = torch.stack([_signed_sum(quantity, known, shuffle) for shuffle in range(shuffles)])
            table[quantity.chance] = null.mean(0)
            if shuffles >= _ENOUGH_FOR_P:
                table[quantity.p_value] = p_value(table[quantity], null, ROUNDING)
    for quantity in _of_subject(subject, Of.PAIR):
        base = cast(Gap, quantity.formula).of
        if base in table:
            first, second = ends.unbind(1)
            table[quantity] = table[base][first] - table[base][second]
            # What has no layer in it is the same at both ends, and its error cancels.
            table[quantity.error] = (scatter[base][first] + scatter[base][second]).sqrt()
    return table


def counts(table: Columns, subject: Subject) -> dict[Quantity, float]:
    """How many gaps are below zero."""
    below_zero = {}
    for quantity in _of_subject(subject, Of.PROBE):
        if isinstance(quantity.formula, Below) and (gap := quantity.formula.of) in table:
            below = is_below_zero(table[gap], table.get(gap.error, 0.0))
            below_zero[quantity] = float(below.sum())
    return below_zero


def of_the_probe(reference: object, own: Mapping[Term, Estimate], subject: Subject) -> dict[Quantity, float]:
    """What is known of the probe without any layer."""
    known = {}
    for quantity in _of_subject(subject, Of.PROBE):
        if callable(quantity.formula):
            known[quantity] = float(quantity.formula(reference))
        elif isinstance(quantity.formula, Mapping) and all(term in own for term in _terms(quantity)):
            known[quantity] = float(_signed_sum(quantity, own))
    return known


def functions_of(subject: Subject) -> list[Quantity]:
    """The quantities that are functions of a layer."""
    return [quantity for quantity in _of_subject(subject, Of.LAYER) if callable(quantity.formula)]


def _of_subject(subject: Subject, of: Of) -> Iterator[Quantity]:
    return (quantity for quantity in QUANTITIES if quantity.subject is subject and quantity.of is of)


def _sums_of(subject: Subject, of: Of) -> Iterator[Quantity]:
    return (quantity for quantity in _of_subject(subject, of) if isinstance(quantity.formula, Mapping))


def _terms(quantity: Quantity) -> SignedSum:
    return cast(SignedSum, quantity.formula)


def _is_known(quantity: Quantity, partners: list[str]) -> bool:
    return all(not term.partner or term.partner in partners for term in _terms(quantity))


def _signed_sum(quantity: Quantity, known: Mapping[Term, Estimate], shuffle: int | None = None) -> Tensor:
    """The value, or that of one shuffle."""
    total = torch.zeros((), dtype=torch.float64)
    for term, sign in _terms(quantity).items():
        estimate = known[term if shuffle is None else term.shuffled(shuffle)]
        total = total + sign * estimate.bits
    return total


def _squares(quantity: Quantity, known: Mapping[Term, Estimate], with_layer: bool = False) -> Tensor:
    """The squared standard error of the solver, of all terms or of those with a layer in them."""
    terms = [term for term in _terms(quantity) if term.layer or not with_layer]
    total = torch.zeros((), dtype=torch.float64)
    for term in terms:
        total = total + known[term].stderr.square()
    return total
