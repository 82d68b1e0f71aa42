"""Numbers of one moment: what is computed, how it is shared out, and what becomes of a failure."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from measurement.moments import LABELS, Moment, estimate, moment, on_all_ranks, whole
from properties import EXACT, FLOAT32_BITS, assert_bits, assert_leaves_random_state, assert_same_gram, normal
from torch import Tensor

from lightning_infoplane import (
    Eigenvalues,
    Estimator,
    Fixed,
    MedianDistance,
    class_gram,
    debiased_cka,
    gram,
    joint_gram,
    renyi_entropy,
)
from lightning_infoplane.estimator.grams import reordered
from lightning_infoplane.estimator.permutations import independence_p_value
from lightning_infoplane.estimator.solvers import Estimate, Solver
from lightning_infoplane.measurement.columns import leaves_of
from lightning_infoplane.measurement.division import Part, divide, seen_by, width
from lightning_infoplane.measurement.entropies import Known, Sides, numbers, own_entropies
from lightning_infoplane.measurement.formulas import TX, TY, Alignment, Independence, Leaf, T, Term, X, Y
from lightning_infoplane.measurement.quantity import Subject
from lightning_infoplane.measurement.ranks import Ranks

PLAIN: list[Leaf] = [T, TX, TY]
TT, XX, YY = Term("T", "T"), Term("X", "X"), Term("Y", "Y")
SHUFFLED: list[Leaf] = [term.shuffled(k) for k in range(2) for term in (TX, TY, TT)]
OTHER: list[Leaf] = [Alignment("T", "X"), Alignment("T", "Y"), Independence("T", "X"), Independence("T", "Y")]
OWN: list[Leaf] = [X, Y, XX, YY, *(term.shuffled(k) for k in range(2) for term in (XX, YY))]
with_targets = pytest.mark.parametrize("labels", [True, False], ids=["classes", "continuous targets"])


def found_in(made: Moment, leaves: Sequence[Leaf] = PLAIN, part: Part | None = None, **fields: Any) -> Known:
    """Numbers that one process finds alone."""
    estimator = Estimator(**fields)
    n = len(made.sides.input)
    part = part or whole(n, estimator.shuffles, estimator.seed)
    (found,) = numbers(made.sides, made.layers, [leaves], [part], estimator, Ranks())
    return found


def own_of(sides: Sides, leaves: Sequence[Leaf] = (), part: Part | None = None, **fields: Any) -> Known:
    """Numbers of the probe without any layer."""
    (own,) = own_entropies(sides, leaves or OWN, [part or whole(len(sides.input))], Estimator(**fields))
    return own


def target_of(sides: Sides) -> Tensor:
    return sides.matrix("Y")


# ------------------------------------------------------------------------------------------------------------- values


@with_targets
@pytest.mark.parametrize("alpha", [1.01, 2])
def test_entropies_are_those_of_the_joint_matrices(labels: bool, alpha: float) -> None:
    made = moment(labels=labels)
    found = found_in(made, alpha=alpha)
    assert list(found) == [T, TX, TY]
    for k, layer in enumerate(made.layers.values()):
        assert_bits(found[T].bits[k], renyi_entropy(layer, alpha))
        assert_bits(found[TX].bits[k], renyi_entropy(joint_gram(layer, made.sides.input), alpha))
        assert_bits(found[TY].bits[k], renyi_entropy(joint_gram(layer, target_of(made.sides)), alpha))
    assert all(not bool(one.stderr.any()) for one in found.values())


@with_targets
@pytest.mark.parametrize("alpha", [1.01, 2])
def test_shuffled_entropies_are_those_of_matrices_in_another_order(labels: bool, alpha: float) -> None:
    """In float32, for they are only compared with each other."""
    made = moment(labels=labels)
    found = found_in(made, SHUFFLED, alpha=alpha)
    for shuffle, order in enumerate(whole().orders):
        for k, layer in enumerate(made.layers.values()):
            for term, other in ((TX, made.sides.input), (TY, target_of(made.sides)), (TT, layer)):
                expected = renyi_entropy(joint_gram(layer, reordered(other, order)), alpha)
                assert_bits(found[term.shuffled(shuffle)].bits[k], expected, FLOAT32_BITS)


@pytest.mark.parametrize("alpha", [1.01, 2])
def test_a_layer_with_itself_is_its_matrix_with_squared_entries(alpha: float) -> None:
    made = moment()
    found = found_in(made, [TT], alpha=alpha)
    for k, layer in enumerate(made.layers.values()):
        assert_bits(found[TT].bits[k], renyi_entropy(joint_gram(layer, layer), alpha), FLOAT32_BITS)


@with_targets
def test_alignments_and_p_values_are_those_of_the_public_functions(labels: bool) -> None:
    made = moment(labels=labels)
    found = found_in(made, OTHER)
    for k, layer in enumerate(made.layers.values()):
        for variable, other in (("X", made.sides.input), ("Y", target_of(made.sides))):
            assert_bits(found[Alignment("T", variable)].bits[k], debiased_cka(layer, other))
            assert_bits(found[Independence("T", variable)].bits[k], independence_p_value(layer, other))
    assert all(not bool(one.stderr.any()) for one in found.values())


@pytest.mark.parametrize(("n", "known"), [(2, False), (4, False), (5, False), (6, True), (7, True)])
def test_of_fewer_than_six_samples_dependence_says_nothing(n: int, known: bool) -> None:
    found = found_in(moment(n=n), [*PLAIN, *OTHER])
    for leaf in OTHER:
        assert found[leaf].bits.isfinite().tolist() == [known] * 5
    assert bool(found[T].bits.isfinite().all())


def test_numbers_come_in_the_order_in_which_they_were_asked_for() -> None:
    wanted: list[Leaf] = [TY, Alignment("T", "X"), T, TX.shuffled(1)]
    assert list(found_in(moment(), wanted)) == wanted


def test_numbers_of_the_probe_stand_beside_them() -> None:
    known: Known = {X: estimate(1.0, 0.5)}
    (found,) = numbers(moment().sides, moment().layers, [[T]], [whole()], Estimator(), Ranks(), own=lambda: [known])
    assert found[X] is known[X]
    assert list(found) == [T, X]


def test_a_moment_without_layers_has_numbers_of_no_length() -> None:
    found = found_in(moment(layers=0), [*PLAIN, *SHUFFLED, *OTHER])
    assert {tuple(one.bits.shape) for one in found.values()} == {(0,)}


@with_targets
def test_variables(labels: bool) -> None:
    made = moment(labels=labels)
    assert made.sides.variables == ["X", "Y"]
    alone = replace(made.sides, labels=None, target=None)
    assert alone.variables == ["X"]
    wanted = leaves_of(Subject.ACTIVATIONS, alone.variables, shuffles=2)
    assert not any("Y" in (leaf.first, leaf.second) for leaf in wanted)


# ------------------------------------------------------------------------------------------------- precision


@dataclass(frozen=True)
class Recording(Solver):
    """Says which matrices it was given roughly."""

    is_rough: bool = False

    def __call__(self, gram: Tensor, alpha: float) -> Tensor:
        return torch.full(gram.shape[:-2], float(self.is_rough))

    def rough(self) -> Solver:
        return Recording(is_rough=True)


def test_only_what_is_compared_with_its_like_is_rough() -> None:
    wanted: list[Leaf] = [*PLAIN, TT, *SHUFFLED]
    found = found_in(moment(labels=False), wanted, solver=Recording())
    assert {leaf for leaf in wanted if float(found[leaf].bits[0]) == 0} == {T, TX, TY}


def test_everything_of_a_part_is_rough() -> None:
    """Its scatter is thousands of times its rounding."""
    part = Part(torch.arange(12), whole(12).orders)
    wanted: list[Leaf] = [*PLAIN, TT, *SHUFFLED]
    found = found_in(moment(labels=False), wanted, part, solver=Recording())
    assert {float(found[leaf].bits[0]) for leaf in wanted} == {1.0}


def test_of_the_probe_only_x_and_y_alone_are_exact() -> None:
    own = own_of(moment(labels=False).sides, solver=Recording())
    assert {leaf for leaf in OWN if float(own[leaf].bits) == 0} == {X, Y}


@pytest.mark.parametrize("solver", [Eigenvalues(torch.float64), Eigenvalues(torch.float32)], ids=repr)
def test_a_dtype_that_was_asked_for_is_kept(solver: Eigenvalues) -> None:
    made = moment()
    found = found_in(made, [TT], solver=solver)
    expected = solver(joint_gram(made.layers["layer0"], made.layers["layer0"]), 1.01)
    assert_bits(found[TT].bits[0], float(expected), 1e-12 if solver.dtype == torch.float64 else 1e-6)


# -------------------------------------------------------------------------------------------- the probe without layers


@with_targets
@pytest.mark.parametrize("alpha", [1, 1.01, 2])
def test_entropies_of_the_probe_itself(labels: bool, alpha: float) -> None:
    made = moment(labels=labels)
    own = own_of(made.sides, alpha=alpha)
    assert list(own) == OWN
    orders = whole().orders
    for variable, matrix in (("X", made.sides.input), ("Y", target_of(made.sides))):
        both = Term(variable, variable)
        assert_bits(own[Term(variable)].bits, renyi_entropy(matrix, alpha))
        assert_bits(own[both].bits, renyi_entropy(joint_gram(matrix, matrix), alpha), FLOAT32_BITS)
        for shuffle, order in enumerate(orders):
            mixed = joint_gram(matrix, reordered(matrix, order))
            assert_bits(own[both.shuffled(shuffle)].bits, renyi_entropy(mixed, alpha), FLOAT32_BITS)
    assert all(one.bits.shape == one.stderr.shape == () for one in own.values())


@pytest.mark.parametrize("alpha", [1.01, 2])
@pytest.mark.parametrize("n", [2, 7, 24])
def test_classes_with_themselves_are_counted_exactly(n: int, alpha: float) -> None:
    """The joint of a class kernel with its own shuffle is the class kernel of the pairs."""
    sides = moment(n=n).sides
    own = own_of(sides, alpha=alpha)
    classes = class_gram(LABELS[:n])
    assert_bits(own[YY].bits, renyi_entropy(joint_gram(classes, classes), alpha))
    for shuffle, order in enumerate(whole(n).orders):
        mixed = joint_gram(classes, reordered(classes, order))
        assert_bits(own[YY.shuffled(shuffle)].bits, renyi_entropy(mixed, alpha))


def test_entropies_of_the_probe_are_told_for_what_was_asked() -> None:
    assert list(own_of(moment().sides, [XX.shuffled(1)])) == [XX.shuffled(1)]
    assert own_entropies(moment().sides, [], [whole(), whole()], Estimator()) == [{}, {}]


def test_entropies_of_the_probe_are_told_for_each_part() -> None:
    part = Part(torch.arange(10), whole(10).orders)
    found = own_entropies(moment().sides, OWN, [whole(), part], Estimator())
    assert [list(one) for one in found] == [OWN, OWN]
    smaller = moment().sides.seen_by(part)
    for leaf, one in own_of(smaller).items():
        assert_bits(found[1][leaf].bits, one.bits, FLOAT32_BITS)


@dataclass(frozen=True)
class Nothing(Eigenvalues):
    """Finds no spectrum, or no error of it, for one matrix."""

    of: str = ""
    part: str = "bits"

    def estimate(self, gram: Tensor, alpha: float) -> Estimate:
        found = super().estimate(gram, alpha)
        matrix = {"X": moment(labels=False).sides.input, "Y": moment(labels=False).sides.target}[self.of]
        assert matrix is not None
        is_it = torch.allclose(gram, matrix.expand_as(gram))
        return found._replace(**{self.part: getattr(found, self.part) * torch.nan}) if is_it else found


@pytest.mark.parametrize("variable", ["X", "Y"])
@pytest.mark.parametrize("part", ["bits", "stderr"])
def test_a_probe_without_a_spectrum_is_named(variable: str, part: str) -> None:
    made, estimator = moment(labels=False), Estimator(solver=Nothing(of=variable, part=part))
    with pytest.raises(ValueError, match=f"^the spectrum of {variable} is not that of a Gram matrix$"):
        own_entropies(made.sides, OWN, [whole()], estimator)
    with pytest.raises(RuntimeError, match=f"could not be computed: the spectrum of {variable} is not that of a Gram"):
        numbers(
            *(made.sides, made.layers, [PLAIN], [whole()], estimator, Ranks()),
            own=lambda: own_entropies(made.sides, OWN, [whole()], estimator),
        )


@dataclass(frozen=True)
class Large(Eigenvalues):
    """Finds spectra of many samples alone."""

    def estimate(self, gram: Tensor, alpha: float) -> Estimate:
        found = super().estimate(gram, alpha)
        return found if gram.shape[-1] == 24 else found._replace(bits=found.bits * torch.nan)


def test_a_part_of_the_probe_without_a_spectrum_costs_an_error_and_not_the_measurement() -> None:
    part = Part(torch.arange(10), whole(10).orders)
    found = own_entropies(moment().sides, [X], [whole(), part], Estimator(solver=Large()))
    assert [bool(known[X].bits.isnan()) for known in found] == [False, True]


# ----------------------------------------------------------------------------------------------------------- shuffles


@with_targets
def test_numbers_leave_the_random_state_and_do_not_depend_on_it(labels: bool) -> None:
    made = moment(labels=labels)
    with assert_leaves_random_state():
        found = found_in(made, SHUFFLED)
    torch.manual_seed(1)
    again = found_in(made, SHUFFLED)
    other = found_in(made, SHUFFLED, seed=1)
    for leaf in SHUFFLED:
        assert torch.equal(again[leaf].bits, found[leaf].bits)
        assert not torch.equal(other[leaf].bits, found[leaf].bits)
    assert not torch.equal(found[TX.shuffled(0)].bits, found[TX.shuffled(1)].bits)


def test_a_shuffle_is_the_same_whatever_else_is_asked_for() -> None:
    made, second = moment(), TX.shuffled(1)
    alone = found_in(made, [second])[second]
    among = found_in(made, [T, TX, TY, *SHUFFLED])[second]
    assert torch.equal(alone.bits, among.bits)


def test_x_and_y_are_shuffled_alike() -> None:
    """Where Y is X, the k-th shuffle of one is the k-th shuffle of the other."""
    made = moment(labels=False)
    same = Moment(replace(made.sides, target=made.sides.input), made.layers)
    found = found_in(same, SHUFFLED)
    assert torch.equal(found[TX.shuffled(1)].bits, found[TY.shuffled(1)].bits)


def test_a_layer_and_its_copy_are_shuffled_alike() -> None:
    """So that a copy has adjusted information of one, not of nearly one."""
    made = moment(labels=False)
    copy = Moment(made.sides, {"copy": made.sides.input})
    found = found_in(copy, SHUFFLED)
    own = own_of(made.sides)
    for k in range(2):
        assert_bits(found[TX.shuffled(k)].bits, found[TT.shuffled(k)].bits, 1e-6)
        assert_bits(found[TX.shuffled(k)].bits[0], own[XX.shuffled(k)].bits, 1e-6)


# -------------------------------------------------------------------------------------------------------------- parts


@pytest.mark.parametrize("rule", [MedianDistance(), Fixed(1.0)], ids=repr)
def test_a_part_of_the_sides_is_what_it_sees(rule: Any) -> None:
    samples, values = normal(24, 3), normal(24, 1, seed=1)
    keep = torch.tensor([0, 3, 4, 9, 20])
    part = Part(keep, whole(5).orders)
    x, y = gram(samples, rule), gram(values, rule)
    seen = Sides(x, LABELS, y, width(x), None).seen_by(part)
    assert seen.labels is not None
    assert seen.target is not None
    assert torch.equal(seen.labels, LABELS[keep])
    assert torch.equal(seen.input, seen_by(part, x, width(x)))
    assert torch.equal(seen.target, seen_by(part, y))
    sigma = float(rule(values.unsqueeze(1)))
    assert_same_gram(seen.target, gram(values[keep], Fixed(sigma)))


def test_a_part_of_the_sides_without_targets_has_none() -> None:
    seen = replace(moment().sides, labels=None).seen_by(Part(torch.arange(6), whole(6).orders))
    assert (seen.labels, seen.target, seen.variables) == (None, None, ["X"])


def test_the_whole_sees_the_sides_themselves() -> None:
    sides = moment().sides
    assert sides.seen_by(whole()) is sides


@with_targets
def test_numbers_of_a_part_are_those_of_its_samples(labels: bool) -> None:
    """At a fixed bandwidth, leaving samples out of the matrices is leaving them out of the probe."""
    made, keep = moment(labels=labels), torch.arange(3, 21)
    part = Part(keep, whole(18).orders)
    layers = {name: seen_by(part, layer) for name, layer in made.layers.items()}
    smaller = Moment(made.sides.seen_by(part), layers)
    wanted: list[Leaf] = [*PLAIN, TT, *SHUFFLED, *OTHER]
    found, expected = found_in(made, wanted, part), found_in(smaller, wanted)
    for leaf in wanted:
        assert_bits(found[leaf].bits, expected[leaf].bits, FLOAT32_BITS)


def test_layers_are_seen_at_their_own_width_where_the_input_is() -> None:
    made = moment(n=96, layers=2)
    sides = replace(made.sides, labels=None, input_width=width(made.sides.input))
    division = divide(96, None, Estimator())
    part = division.parts[0]
    (found,) = numbers(sides, made.layers, [[T]], [part], Estimator(), Ranks())
    expected = [renyi_entropy(seen_by(part, layer, width(layer))) for layer in made.layers.values()]
    assert_bits(found[T].bits, torch.stack(expected), FLOAT32_BITS)


def test_each_part_has_what_was_asked_for_it() -> None:
    made = moment(n=96, layers=3)
    sides = replace(made.sides, labels=None)
    division = divide(96, None, Estimator())
    known: list[Known] = [{X: estimate(float(k))} for k in range(5)]
    found = numbers(
        *(sides, made.layers, [[T, TX], *([T],) * 4], [division.whole, *division.parts], Estimator(), Ranks()),
        own=lambda: known,
    )
    assert [list(one) for one in found] == [[T, TX, X], *([T, X],) * 4]
    assert [float(one[X].bits) for one in found] == [0, 1, 2, 3, 4]
    assert_bits(found[0][T].bits, torch.stack([renyi_entropy(layer) for layer in made.layers.values()]))


# --------------------------------------------------------------------------------------------------------- shared out


@pytest.mark.parametrize("size", [2, 3, 7])
def test_every_process_has_the_whole_result(size: int) -> None:
    """Seven processes for five layers: two have nothing to do."""
    made, leaves = moment(), [*PLAIN, TT, *SHUFFLED, *OTHER]
    alone = found_in(made, leaves)
    for (found,) in on_all_ranks(
        size, lambda rank, ranks: numbers(made.sides, made.layers, [leaves], [whole()], Estimator(), ranks)
    ):
        assert list(found) == list(alone)
        for leaf, one in alone.items():
            assert_bits(found[leaf].bits, one.bits, 1e-6)


@pytest.mark.parametrize("size", [2, 3])
def test_every_process_has_the_result_of_every_part(size: int) -> None:
    made = moment(n=96, layers=3)
    sides = replace(made.sides, labels=None)
    division = divide(96, None, Estimator())
    parts = [division.whole, *division.parts]
    leaves: list[Leaf] = [T, TX, TX.shuffled(0)]

    def work(rank: int, ranks: Ranks) -> list[Known]:
        own = own_entropies(sides, [X, XX], parts, Estimator())
        return numbers(sides, made.layers, [leaves] * 5, parts, Estimator(), ranks, own=lambda: own)

    alone = work(0, Ranks())
    for found in on_all_ranks(size, work):
        for one, same in zip(found, alone, strict=True):
            assert list(one) == [*leaves, X, XX]
            for leaf in one:
                assert_bits(one[leaf].bits, same[leaf].bits, 1e-6)


def test_each_layer_is_the_work_of_one_process() -> None:
    done: list[list[int]] = on_all_ranks(3, lambda rank, ranks: progress_of(moment(), ranks))
    assert [sum(one) for one in done] == [2, 2, 1]


def progress_of(made: Moment, ranks: Ranks) -> list[int]:
    done: list[int] = []
    numbers(made.sides, made.layers, [PLAIN], [whole()], Estimator(), ranks, done.append)
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
    made = moment()
    made.layers["layer1"][0, 1] = made.layers["layer1"][1, 0] = 0  # rank 1's work
    estimator = Estimator(solver=Failing())
    results = on_all_ranks(
        3, lambda rank, ranks: numbers(made.sides, made.layers, [PLAIN], [whole()], estimator, ranks)
    )
    messages = [str(result) for result in results]
    assert all(isinstance(result, RuntimeError) for result in results)
    assert messages == ["the entropies could not be computed: on rank 1: RuntimeError: no convergence."] * 3


def test_a_failure_of_one_process_alone_has_its_cause() -> None:
    made = moment()
    made.layers["layer1"][0, 1] = made.layers["layer1"][1, 0] = 0
    with pytest.raises(RuntimeError, match=r"^the entropies could not be computed: no convergence\.$") as caught:
        found_in(made, solver=Failing())
    assert str(caught.value.__cause__) == "no convergence"


def test_a_layer_without_a_spectrum_is_a_nan_among_the_others() -> None:
    made = moment()
    broken = made.layers["layer2"]
    broken[0, 1] = broken[1, 0] = 1.0  # far above the diagonal: an eigenvalue is negative
    found, fine = found_in(made), found_in(moment())
    assert found[T].bits.isnan().tolist() == [False, False, True, False, False]
    others = [0, 1, 3, 4]
    assert_bits(found[T].bits[others], fine[T].bits[others], EXACT)
