"""From numbers of Gram matrices to quantities: one loop over the table, for values, chance levels, gaps, counts."""

from collections.abc import Iterator, Mapping
from typing import cast

import torch
from torch import Tensor

from lightning_infoplane.measurement.evidence import changes
from lightning_infoplane.measurement.formulas import Formula, Leaf, Term, leaves_in, needs_shuffles
from lightning_infoplane.measurement.quantities import QUANTITIES
from lightning_infoplane.measurement.quantity import Count, Gap, Of, Quantity, Subject
from lightning_infoplane.measurement.values import ENOUGH_SHUFFLES, Numbers

__all__ = ["columns", "counts", "functions_of", "leaves_of", "of_the_probe"]

Columns = dict[Quantity, Tensor]


# ------------------------------------------------------------------------------------------------ what is asked for


def leaves_of(subject: Subject, variables: list[str], shuffles: int, tests: bool = True) -> list[Leaf]:
    """Every number of Gram matrices that the table asks for, where its variables are known.

    Args:
        subject: which part of the table.
        variables: X, and Y where it is known.
        shuffles: how many there are.
        tests: whether p-values are wanted.

    Example:
        >>> leaves_of(Subject.ERROR_SIGNALS, ["X"], shuffles=0, tests=False)[:2]
        [Term(first='X', second='', shuffle=None), Term(first='T', second='', shuffle=None)]
    """
    known = {"T", "", *variables}
    wanted: list[Leaf] = []
    for quantity in _of_subject(subject):
        leaves = leaves_in(quantity.formula)
        if needs_shuffles(quantity.formula) and shuffles < ENOUGH_SHUFFLES:
            continue
        wanted += leaves
        if quantity.shuffled or needs_shuffles(quantity.formula):
            terms = [leaf for leaf in leaves if isinstance(leaf, Term)]
            wanted += [term.shuffled(k) for k in range(shuffles) for term in terms]
        if tests and quantity.independence is not None:
            wanted.append(quantity.independence)
    return [leaf for leaf in dict.fromkeys(wanted) if {leaf.first, leaf.second} <= known]


def functions_of(subject: Subject) -> list[Quantity]:
    """The quantities that are functions of a layer."""
    return [quantity for quantity in _of_subject(subject) if quantity.of is Of.LAYER and callable(quantity.formula)]


# -------------------------------------------------------------------------------------------------------- values


def columns(numbers: Numbers, subject: Subject, ends: Tensor, functions: Mapping[Quantity, Tensor]) -> Columns:
    """Quantities of the layers, ``(layers,)``, and of pairs of them, ``(pairs,)``, with all that belongs to them.

    NaN stands for no value.

    Args:
        numbers: of Gram matrices.
        subject: which part of the table.
        ends: ``(pairs, 2)`` places of the layers between which gaps are wanted.
        functions: what is known of the layers without them, with standard errors.
    """
    table: Columns = {}
    for quantity in _of_subject(subject):
        if quantity.of is Of.LAYER and numbers.have(quantity.formula):
            table |= _of_layers(quantity, numbers)
    table |= functions
    for quantity in _of_subject(subject):
        if isinstance(quantity.formula, Gap) and quantity.formula.of in table:
            table |= _gap(quantity, table, numbers, ends)
    return table


def counts(table: Columns, subject: Subject) -> dict[Quantity, float]:
    """How many gaps are increases, and how many decreases, where there is evidence at all."""
    found = {}
    for quantity in _of_subject(subject):
        if isinstance(quantity.formula, Count) and (gap := quantity.formula.of).p_value in table:
            decided = changes(table[gap].tolist(), table[gap.p_value].tolist())
            found[quantity] = float(decided.count(quantity.formula.change))
    return found


def of_the_probe(reference: object, own: Numbers, subject: Subject) -> dict[Quantity, float]:
    """What is known of the probe without any layer."""
    known = {}
    for quantity in _of_subject(subject):
        if quantity.of is Of.PROBE and callable(quantity.formula):
            known[quantity] = float(quantity.formula(reference))
        elif quantity.of is Of.PROBE and own.have(quantity.formula):
            known[quantity] = float(own.value(cast(Formula, quantity.formula)))
    return known


# ------------------------------------------------------------------------------------------------ parts of the table


def _of_subject(subject: Subject) -> Iterator[Quantity]:
    return (quantity for quantity in QUANTITIES if quantity.subject is subject)


def _of_layers(quantity: Quantity, numbers: Numbers) -> Columns:
    """A quantity, its chance level, its p-value and the solver's part of its standard error."""
    formula = cast(Formula, quantity.formula)
    table = {quantity: numbers.value(formula)}
    if quantity.stderr:
        table[quantity.error] = numbers.squares(formula).sqrt()
    if quantity.shuffled and numbers.shuffles:
        table[quantity.chance] = numbers.chance(cast(Mapping[Leaf, int], formula))
    if quantity.independence in numbers.known:
        table[quantity.p_value] = numbers.known[quantity.independence].bits
    return table


def _gap(quantity: Quantity, table: Columns, numbers: Numbers, ends: Tensor) -> Columns:
    """A gap and the solver's part of its standard error."""
    base = cast(Gap, quantity.formula).of
    first, second = ends.unbind(1)
    found = {quantity: table[base][first] - table[base][second]}
    if quantity.stderr:
        if leaves_in(base.formula):
            # What has no layer in it is the same at both ends, and its error cancels.
            squares = numbers.squares(cast(Formula, base.formula), of_layers_alone=True)
        else:
            squares = table.get(base.error, torch.zeros_like(table[base])).square()
        found[quantity.error] = (squares[first] + squares[second]).sqrt()
    return found
