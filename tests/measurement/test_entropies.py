"""Entropies of one moment: what is computed, how it is shared out, and what becomes of a failure."""

from dataclasses import dataclass
from typing import Any

import pytest
import torch
from measurement.moments import LABELS, moment, on_all_ranks
from properties import EXACT, assert_bits, assert_leaves_random_state, assert_same_gram, normal
from torch import Tensor

from lightning_infoplane import Eigenvalues, Estimator, Fixed, class_gram, gram, joint_gram, renyi_entropy
from lightning_infoplane.estimator.solvers import Estimate
from lightning_infoplane.measurement.columns import terms_of
from lightning_infoplane.measurement.entropies import Grams, entropies, own_entropies
from lightning_infoplane.measurement.formulas import TX, TY, T, Term, X, Y
from lightning_infoplane.measurement.quantity import Subject
from lightning_infoplane.measurement.ranks import Ranks

PLAIN = [T, TX, TY]
SHUFFLED = [TX.shuffled(0), TY.shuffled(0), TX.shuffled(1), TY.shuffled(1)]


def found_in(grams: Grams, terms: list[Term] = PLAIN, **fields: Any) -> dict[Term, Estimate]:
    """Entropies that one process finds alone."""
    return entropies(grams, terms, Estimator(**fields), Ranks())


# ------------------------------------------------------------------------------------------------------- values


@pytest.mark.parametrize("labels", [True, False], ids=["classes", "continuous targets"])
@pytest.mark.parametrize("alpha", [1.01, 2])
def test_entropies_are_those_of_the_joint_matrices(labels: bool, alpha: float) -> None:
    grams = moment(labels=labels)
    target = class_gram(LABELS) if labels else grams.target
    assert target is not None
    found = found_in(grams, alpha=alpha)
    assert list(found) == [T, TX, TY, X, Y]
    for k, layer in enumerate(grams.layers.values()):
        assert_bits(found[T].bits[k], renyi_entropy(layer, alpha))
        assert_bits(found[TX].bits[k], renyi_entropy(joint_gram(layer, grams.input), alpha))
        assert_bits(found[TY].bits[k], renyi_entropy(joint_gram(layer, target), alpha))
    assert_bits(found[X].bits, renyi_entropy(grams.input, alpha))
    assert_bits(found[Y].bits, renyi_entropy(target, alpha))
    assert all(not bool(estimate.stderr.any()) for estimate in found.values())


@pytest.mark.parametrize("alpha", [1.01, 2])
@pytest.mark.parametrize("labels", [True, False], ids=["classes", "continuous targets"])
def test_entropies_of_the_probe_itself(labels: bool, alpha: float) -> None:
    grams = moment(labels=labels)
    target = class_gram(LABELS) if labels else grams.target
    assert target is not None
    own = own_entropies(grams, Estimator(alpha=alpha))
    assert list(own) == [X, Y]
    assert_bits(own[X].bits, renyi_entropy(grams.input, alpha))
    assert_bits(own[Y].bits, renyi_entropy(target, alpha))
    assert own[X].bits.shape == own[Y].bits.shape == own[X].stderr.shape == own[Y].stderr.shape == ()


def test_without_targets_nothing_is_joint_with_y() -> None:
    grams = moment()._replace(labels=None)
    assert grams.partners == ["X"]
    terms = terms_of(Subject.ACTIVATIONS, grams.partners, shuffles=2)
    assert terms == [T, TX, TX.shuffled(0), TX.shuffled(1)]
    assert list(found_in(grams, terms)) == [*terms, X]


@pytest.mark.parametrize("labels", [True, False], ids=["classes", "continuous targets"])
def test_with_targets_there_are_two_partners(labels: bool) -> None:
    assert moment(labels=labels).partners == ["X", "Y"]


def test_terms_come_in_the_order_in_which_they_were_asked_for() -> None:
    assert list(found_in(moment(), [TY, T])) == [TY, T, X, Y]


def test_entropies_of_the_probe_that_are_known_are_not_computed_again() -> None:
    known = {X: Estimate(torch.tensor(1.0), torch.tensor(0.5))}
    found = entropies(moment(), [T], Estimator(), Ranks(), own=lambda: known)
    assert found[X] is known[X]
    assert list(found) == [T, X]


def test_a_moment_without_layers_has_entropies_of_the_probe_alone() -> None:
    found = found_in(moment(layers=0))
    assert found[T].bits.shape == found[TX].bits.shape == (0,)
    assert float(found[X].bits) > 0


# ----------------------------------------------------------------------------------------------------- shuffles


@pytest.mark.parametrize("labels", [True, False], ids=["classes", "continuous targets"])
def test_shuffles_are_functions_of_the_seed_alone(labels: bool) -> None:
    grams = moment(labels=labels)
    with assert_leaves_random_state():
        found = found_in(grams, SHUFFLED)
    torch.manual_seed(1)
    again = found_in(grams, SHUFFLED)
    other = found_in(grams, SHUFFLED, seed=1)
    for term in SHUFFLED:
        assert torch.equal(again[term].bits, found[term].bits)
        assert not torch.equal(other[term].bits, found[term].bits)
    assert not torch.equal(found[SHUFFLED[0]].bits, found[SHUFFLED[2]].bits)


def test_the_next_seed_does_not_begin_with_the_next_shuffle() -> None:
    """Runs with seeds 0 and 1 have no shuffle in common, or their chance levels would not be independent."""
    grams, terms = moment(), [TX.shuffled(k) for k in range(3)]
    one, other = found_in(grams, terms), found_in(grams, terms, seed=1)
    drawn = {tuple(found[term].bits.tolist()) for found in (one, other) for term in terms}
    assert len(drawn) == 6


def test_a_shuffle_is_the_same_whatever_else_is_asked_for() -> None:
    grams, third = moment(), TX.shuffled(2)
    alone = found_in(grams, [third])[third]
    among = found_in(grams, [T, TX, TY, *SHUFFLED, third])[third]
    assert torch.equal(alone.bits, among.bits)


def test_x_and_y_are_shuffled_alike() -> None:
    """Where Y is X, the k-th shuffle of one is the k-th shuffle of the other."""
    grams = moment(labels=False)
    found = found_in(grams._replace(target=grams.input), SHUFFLED)
    assert torch.equal(found[TX.shuffled(1)].bits, found[TY.shuffled(1)].bits)


# -------------------------------------------------------------------------------------------------------- parts


def test_a_part_of_a_moment_is_the_moment_of_a_part() -> None:
    samples, values = normal(24, 3), normal(24, 1, seed=1)
    keep = torch.tensor([0, 3, 4, 9, 20])
    rule = Fixed(1.0)
    grams = Grams(gram(samples, rule), LABELS, gram(values, rule), {"a": gram(samples[:, :1], rule)})
    part = grams.part(keep)
    assert part.labels is not None
    assert part.target is not None
    assert torch.equal(part.labels, LABELS[keep])
    assert_same_gram(part.input, gram(samples[keep], rule))
    assert_same_gram(part.target, gram(values[keep], rule))
    assert_same_gram(part.layers["a"], gram(samples[keep, :1], rule))


def test_a_part_of_a_moment_without_targets_has_none() -> None:
    part = moment()._replace(labels=None).part(torch.arange(6))
    assert part.labels is None
    assert part.target is None
    assert part.partners == ["X"]


# --------------------------------------------------------------------------------------------------- shared out


@pytest.mark.parametrize("size", [2, 3, 7])
def test_every_process_has_the_whole_result(size: int) -> None:
    """Seven processes for five layers: two have nothing to do."""
    grams, terms = moment(), [*PLAIN, *SHUFFLED]
    whole = found_in(grams, terms)
    for found in on_all_ranks(size, lambda rank, ranks: entropies(grams, terms, Estimator(), ranks)):
        assert list(found) == list(whole)
        for term, estimate in whole.items():
            assert_bits(found[term].bits, estimate.bits)


def test_each_layer_is_the_work_of_one_process() -> None:
    done: list[list[int]] = on_all_ranks(3, lambda rank, ranks: progress_of(moment(), ranks))
    assert [sum(one) for one in done] == [2, 2, 1]


def progress_of(grams: Grams, ranks: Ranks) -> list[int]:
    done: list[int] = []
    entropies(grams, PLAIN, Estimator(), ranks, done.append)
    return done


@dataclass(frozen=True)
class Failing(Eigenvalues):
    """A solver that does not converge on matrices whose first entry says so."""

    def estimate(self, gram: Tensor, alpha: float) -> Estimate:
        """As a solver says it."""
        if bool((gram[..., 0, 1] == 0).any()):
            raise RuntimeError("no convergence")
        return super().estimate(gram, alpha)


def test_a_failure_on_one_process_is_an_error_on_all() -> None:
    """Otherwise the others would wait for it for ever."""
    grams = moment()
    grams.layers["layer1"][0, 1] = grams.layers["layer1"][1, 0] = 0  # rank 1's work
    results = on_all_ranks(3, lambda rank, ranks: entropies(grams, PLAIN, Estimator(solver=Failing()), ranks))
    messages = [str(result) for result in results]
    assert all(isinstance(result, RuntimeError) for result in results)
    assert messages[1] == "the entropies could not be computed: no convergence."
    assert messages[0] == messages[2] == "the entropies could not be computed: see the other processes."


def test_a_failure_of_one_process_alone_has_its_cause() -> None:
    grams = moment()
    grams.layers["layer1"][0, 1] = grams.layers["layer1"][1, 0] = 0
    with pytest.raises(RuntimeError, match=r"^the entropies could not be computed: no convergence\.$") as caught:
        found_in(grams, solver=Failing())
    assert str(caught.value.__cause__) == "no convergence"


@pytest.mark.parametrize(("term", "name"), [(X, "X"), (Y, "Y")])
@pytest.mark.parametrize("part", ["bits", "stderr"])
def test_a_probe_without_a_spectrum_is_named(term: Term, name: str, part: str) -> None:
    fine = Estimate(torch.tensor(1.0), torch.tensor(0.0))
    own = {X: fine, Y: fine} | {term: fine._replace(**{part: torch.tensor(torch.nan)})}
    with pytest.raises(RuntimeError, match=f"could not be computed: the spectrum of {name} is not that of a Gram"):
        entropies(moment(), PLAIN, Estimator(), Ranks(), own=lambda: own)


def test_a_layer_without_a_spectrum_is_a_nan_among_the_others() -> None:
    grams = moment()
    broken = grams.layers["layer2"]
    broken[0, 1] = broken[1, 0] = 1.0  # far above the diagonal: an eigenvalue is negative
    found, whole = found_in(grams), found_in(moment())
    assert found[T].bits.isnan().tolist() == [False, False, True, False, False]
    others = [0, 1, 3, 4]
    assert_bits(found[T].bits[others], whole[T].bits[others], EXACT)
