"""Entropies of one moment: what is computed, shared out and doubted. The jackknife, and gaps between chosen layers."""

import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import pytest
import torch
from properties import EXACT, assert_bits, assert_leaves_random_state, assert_same_gram, normal
from torch import Tensor

from lightning_infoplane import (
    Bandwidth,
    Eigenvalues,
    Estimate,
    Fixed,
    InformationPlane,
    Lanczos,
    MedianDistance,
    Row,
    class_gram,
    gram,
    joint_gram,
    mutual_information,
    renyi_entropy,
)
from lightning_infoplane.measurement import ERRORS
from lightning_infoplane.spectra import Grams, Settings, Share, entropies

Table = dict[tuple[str, str], float]
LABELS = torch.arange(24) % 3


def table(rows: list[Row]) -> Table:
    return {(row.layer, row.quantity): row.value for row in rows}


def moment(n: int = 24, layers: int = 5, labels: bool = True, seed: int = 0) -> Grams:
    """Unrelated Gram matrices."""
    names = [f"layer{k}" for k in range(layers)]
    target = None if labels else gram(normal(n, 1, seed=seed + 100))
    stack = {name: gram(normal(n, 3, seed=seed + k)) for k, name in enumerate(names)}
    return Grams(gram(normal(n, 3, seed=seed + 50)), LABELS[:n] if labels else None, target, stack)


# ---------------------------------------------------------------------------------------------------- entropies


def layer_terms(found: dict[str, Estimate]) -> list[str]:
    """The terms with T in them."""
    return [term for term in found if term.startswith("T")]


@pytest.mark.parametrize("alpha", [1.01, 2])
def test_entropies_of_the_probe_itself(alpha: float) -> None:
    x, y = normal(24, 3), normal(24, 2, seed=1)
    for targets, target in ((LABELS, class_gram(LABELS)), (y, gram(y))):
        found = table(InformationPlane(alpha, chance=0).measure(x, targets, THREE))
        assert found["", "H_X"] == pytest.approx(float(renyi_entropy(gram(x), alpha)), abs=EXACT)
        assert found["", "H_Y"] == pytest.approx(float(renyi_entropy(target, alpha)), abs=EXACT)


@pytest.mark.parametrize("labels", [True, False], ids=["classes", "continuous targets"])
@pytest.mark.parametrize("alpha", [1.01, 2])
def test_entropies_are_those_of_the_joint_matrices(labels: bool, alpha: float) -> None:
    grams = moment(labels=labels)
    target = class_gram(LABELS) if labels else grams.target
    assert target is not None
    found = entropies(grams, Settings(alpha, chance=0), Share())
    assert layer_terms(found) == ["T", "TX", "TY"]
    for k, layer in enumerate(grams.layers.values()):
        assert_bits(found["T"].bits[k], renyi_entropy(layer, alpha))
        assert_bits(found["TX"].bits[k], renyi_entropy(joint_gram(layer, grams.input), alpha))
        assert_bits(found["TY"].bits[k], renyi_entropy(joint_gram(layer, target), alpha))


def test_without_targets_nothing_is_joint_with_y() -> None:
    grams = moment()._replace(labels=None)
    assert grams.partners == ["X"]
    assert layer_terms(entropies(grams, Settings(chance=2), Share())) == ["T", "TX", "TX0", "TX1"]


def test_shuffles_are_functions_of_the_seed_alone() -> None:
    grams = moment()
    with assert_leaves_random_state():
        found = entropies(grams, Settings(chance=2), Share())
    torch.manual_seed(1)
    again = entropies(grams, Settings(chance=2), Share())
    other = entropies(grams, Settings(chance=2, seed=1), Share())
    for term in ("TX0", "TX1", "TY0", "TY1"):
        assert torch.equal(again[term].bits, found[term].bits)
        assert not torch.equal(other[term].bits, found[term].bits)
    assert not torch.equal(found["TX0"].bits, found["TX1"].bits)


@pytest.mark.parametrize(
    ("field", "wrong", "message"),
    [
        ("chance", -1, r"chance=-1: expected 0 \(off\), 1, or more shuffles to average"),
        ("jackknife", 1, r"jackknife=1: expected 0 \(off\), or 2 groups and more; 8 are usual"),
        ("jackknife", -8, r"jackknife=-8: expected 0 \(off\), or 2 groups"),
        ("alpha", 0, "alpha=0: expected a positive number"),
    ],
)
def test_settings_that_cannot_be_meant(field: str, wrong: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        InformationPlane(**{field: wrong})


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


# ------------------------------------------------------------------------------------------------------- shares


class World:
    """Processes as threads: each gets rank 0's tensors and everybody's sums."""

    def __init__(self, size: int) -> None:
        self._barrier, self._size, self._slots = threading.Barrier(size, timeout=20), size, [torch.empty(0)] * size

    def _together(self, rank: int, tensor: Tensor, combine: Callable[[list[Tensor]], Tensor]) -> Tensor:
        self._slots[rank] = tensor
        self._barrier.wait()
        combined = combine(self._slots).clone()
        self._barrier.wait()
        return combined

    def share(self, rank: int) -> Share:
        def first(tensor: Tensor) -> Tensor:
            return self._together(rank, tensor, lambda slots: slots[0])

        def total(tensor: Tensor) -> Tensor:
            return self._together(rank, tensor, lambda slots: torch.stack(slots).sum(0))

        return Share(rank, self._size, first, total)


def on_all_ranks(size: int, work: Callable[[int, Share], Any]) -> list[Any]:
    """What ``work`` returns, or raises, on each."""
    world, results = World(size), [None] * size

    def run(rank: int) -> None:
        try:
            results[rank] = work(rank, world.share(rank))
        except RuntimeError as error:
            results[rank] = error  # type: ignore[call-overload]

    threads = [threading.Thread(target=run, args=(rank,)) for rank in range(size)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


@pytest.mark.parametrize("size", [2, 3, 7])
def test_every_process_has_the_whole_result(size: int) -> None:
    """Seven processes for five layers: two have nothing to do."""
    grams, settings = moment(), Settings(chance=2)
    whole = entropies(grams, settings, Share())
    for found in on_all_ranks(size, lambda rank, share: entropies(grams, settings, share)):
        assert list(found) == list(whole)
        for term, estimate in whole.items():
            assert_bits(found[term].bits, estimate.bits)


def test_each_layer_is_the_work_of_one_process() -> None:
    done: list[list[int]] = on_all_ranks(3, lambda rank, share: progress_of(moment(), share))
    assert [sum(one) for one in done] == [2, 2, 1]


def progress_of(grams: Grams, share: Share) -> list[int]:
    done: list[int] = []
    entropies(grams, Settings(), share, done.append)
    return done


@pytest.mark.parametrize("jackknife", [0, 4])
def test_rows_are_those_of_rank_0_on_every_process(jackknife: int) -> None:
    """Running statistics differ between processes until the next step: rank 0's activations are everybody's."""

    def measure(rank: int, share: Share) -> Table:
        plane = InformationPlane(chance=1, jackknife=jackknife)
        measurement = plane.start(normal(24, 3), LABELS)
        for k in range(3):
            measurement.add(f"layer{k}", normal(24, 2, seed=k + 10 * rank))
        return table(plane.finish(measurement, share=share))

    expected = measure(0, Share())
    for found in on_all_ranks(3, measure):
        assert found == pytest.approx(expected, abs=EXACT)


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
    results = on_all_ranks(3, lambda rank, share: entropies(grams, Settings(solver=Failing()), share))
    messages = [str(result) for result in results]
    assert all(isinstance(result, RuntimeError) for result in results)
    assert messages[1] == "the entropies could not be computed: no convergence."
    assert messages[0] == messages[2] == "the entropies could not be computed: see the other processes."


# ---------------------------------------------------------------------------------------------- chosen pairs


def measured(layers: dict[str, Tensor], pairs: list[tuple[str, str]] | None = None, **settings: Any) -> Table:
    plane = InformationPlane(**{"chance": 0} | settings)
    n = len(next(iter(layers.values())))
    measurement = plane.start(normal(n, 3), torch.arange(n) % 3, pairs=pairs)
    for name, activation in layers.items():
        measurement.add(name, activation)
    return table(plane.finish(measurement))


def gaps(found: Table, quantity: str = "DPI_XT") -> dict[str, float]:
    return {row: value for (row, name), value in found.items() if name == quantity}


THREE = {name: normal(24, 2, seed=k) for k, name in enumerate("abc")}


def test_gaps_are_between_the_layers_asked_for() -> None:
    found = measured(THREE, [("a", "c"), ("c", "b")])
    assert list(gaps(found)) == list(gaps(found, "DPI_YT")) == ["a-to-c", "c-to-b"]
    for quantity, shared in (("DPI_XT", "I_XT"), ("DPI_YT", "I_TY")):
        assert gaps(found, quantity)["a-to-c"] == pytest.approx(found["a", shared] - found["c", shared], abs=1e-12)
        assert gaps(found, quantity)["c-to-b"] == pytest.approx(found["c", shared] - found["b", shared], abs=1e-12)


def test_where_none_were_asked_for_each_layer_is_compared_with_the_next() -> None:
    assert list(gaps(measured(THREE))) == ["a-to-b", "b-to-c"]


def test_where_no_pair_means_anything_there_is_no_gap_and_no_count() -> None:
    found = measured(THREE, [])
    assert not [quantity for _, quantity in found if quantity.startswith("DPI")]
    assert ("a", "I_XT") in found


def test_pairs_with_layers_that_did_not_run_are_left_out() -> None:
    assert list(gaps(measured(THREE, [("a", "absent"), ("a", "b")]))) == ["a-to-b"]


def test_pairs_with_layers_that_are_not_finite_are_left_out() -> None:
    broken = THREE | {"b": THREE["b"].log()}
    with pytest.warns(UserWarning, match="layer 'b' has NaN or infinite activations"):
        found = measured(broken, [("a", "b"), ("a", "c")])
    assert list(gaps(found)) == ["a-to-c"]


def test_error_signals_are_compared_with_the_last_one_alone() -> None:
    plane = InformationPlane(chance=0)
    measurement = plane.start(normal(24, 2), None, pairs=[("b", "a")], names=ERRORS)
    for name in ("a", "b"):
        measurement.add(name, THREE[name])
    found = table(plane.finish(measurement))
    assert list(gaps(found, "DPI_error")) == ["b-to-a"]
    expected = mutual_information(gram(normal(24, 2)), gram(THREE["a"]))
    assert found["a", "I_error"] == pytest.approx(float(expected), abs=EXACT)


# ---------------------------------------------------------------------------------------------- violations


def steps(*noise: float, n: int = 96) -> dict[str, Tensor]:
    """Layers that are the input with so much noise of their own."""
    return {f"{k}": normal(n, 3) + level * normal(n, 3, seed=7 + k) for k, level in enumerate(noise)}


def violations(layers: dict[str, Tensor], **settings: Any) -> float:
    return measured(layers, **settings)["", "DPI_XT_violations"]


@pytest.mark.parametrize("jackknife", [0, 8])
def test_information_that_rises_by_far_violates_the_inequality(jackknife: int) -> None:
    assert violations(steps(0, 1, 4), jackknife=jackknife) == 0
    assert violations(steps(4, 1, 0), jackknife=jackknife) == 2
    assert violations(steps(0, 4, 1), jackknife=jackknife) == 1


def test_between_layers_that_know_the_same_a_rise_is_rarely_a_violation() -> None:
    """Two layers with as much noise: half of the gaps are negative, few by two standard errors."""
    x, n = normal(64, 3), 40
    pairs = [{name: x + normal(64, 3, seed=2 * k + i + 1) for i, name in enumerate("ab")} for k in range(n)]
    assert 0.3 * n < sum(violations(layers) for layers in pairs) < 0.7 * n
    assert sum(violations(layers, jackknife=8) for layers in pairs) <= 0.1 * n


@pytest.mark.parametrize("jackknife", [0, 8])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, EXACT), (torch.float32, 3e-5)])
def test_rounding_is_no_violation(dtype: torch.dtype, tolerance: float, jackknife: int) -> None:
    """A layer that only rearranges, mirrors, turns or scales its input keeps every distance, and all information."""
    base, rotation = normal(64, 6, seed=3, dtype=dtype), torch.linalg.qr(normal(6, 6)).Q.to(dtype)
    same = [base, base.flip(1), -base, 3 * base, base @ rotation, 0.1 * base + 1]
    layers = {f"{k}": layer for k, layer in enumerate(same)}
    forth, back = measured(layers, jackknife=jackknife), measured(dict(reversed(layers.items())), jackknife=jackknife)
    assert 0 < max(map(abs, gaps(forth).values())) < tolerance
    assert forth["", "DPI_XT_violations"] == back["", "DPI_XT_violations"] == 0


# ------------------------------------------------------------------------------------------------- the jackknife


def test_standard_errors_are_rows_beside_their_quantities() -> None:
    found, plain = measured(THREE, jackknife=6), measured(THREE)
    names = {quantity for _, quantity in found}
    assert {"H_T_stderr", "I_XT_stderr", "I_TY_stderr", "DPI_XT_stderr", "DPI_YT_stderr"} <= names
    assert list(gaps(found, "DPI_XT_stderr")) == ["a-to-b", "b-to-c"]
    without = {key: value for key, value in found.items() if not key[1].endswith(("_stderr", "_violations"))}
    assert without == {key: value for key, value in plain.items() if not key[1].endswith("_violations")}


def test_without_it_an_exact_solver_has_no_error_rows() -> None:
    assert not [quantity for _, quantity in measured(THREE) if quantity.endswith("_stderr")]


def test_it_is_the_scatter_of_measurements_with_one_group_left_out() -> None:
    """With fixed bandwidths, leaving samples out of the matrices is leaving them out of the probe."""
    x, layer, rule = normal(24, 3), THREE["a"], Fixed(1.0)
    group = torch.randperm(24, generator=torch.Generator().manual_seed(0)) % 4
    parts = [(gram(x[group != g], rule), gram(layer[group != g], rule)) for g in range(4)]
    values = torch.stack([mutual_information(*part) for part in parts])
    expected = (values.var(correction=0) * 4 * 3 / 4).sqrt()
    assert measured(THREE, jackknife=4, bandwidth=rule)["a", "I_XT_stderr"] == pytest.approx(float(expected), abs=EXACT)


def test_more_groups_than_samples_leave_out_one_sample_each() -> None:
    small = {name: layer[:9] for name, layer in THREE.items()}
    assert measured(small, jackknife=50) == pytest.approx(measured(small, jackknife=9), abs=EXACT)


def test_groups_are_the_same_at_every_measurement_and_the_seed_chooses_them() -> None:
    with assert_leaves_random_state():
        found = measured(THREE, jackknife=4)
    torch.manual_seed(3)
    assert measured(THREE, jackknife=4) == found
    assert measured(THREE, jackknife=4, seed=1)["a", "I_XT_stderr"] != found["a", "I_XT_stderr"]


@cache
def errors_over_scatter(rule: Bandwidth) -> Table:
    """Root mean square of the standard errors of 60 independent probes of 64 samples, over their scatter."""
    tables = []
    for seed in range(0, 180, 3):
        x, noise, more = (normal(64, 2, seed=seed + k) for k in range(3))
        layers = {"near": (x + 0.3 * noise).tanh(), "far": (x + noise + more).tanh()}
        plane = InformationPlane(bandwidth=rule, chance=0, jackknife=8)
        tables.append(table(plane.measure(x, None, layers)))
    column = {key: torch.tensor([one[key] for one in tables], dtype=torch.float64) for key in tables[0]}
    return {
        (layer, quantity): float(column[layer, f"{quantity}_stderr"].square().mean().sqrt() / values.std())
        for (layer, quantity), values in column.items()
        if (layer, f"{quantity}_stderr") in column
    }


QUANTITIES = [("near", "H_T"), ("far", "H_T"), ("near", "I_XT"), ("far", "I_XT"), ("near-to-far", "DPI_XT")]


@pytest.mark.parametrize(("layer", "quantity"), QUANTITIES)
def test_at_a_fixed_bandwidth_it_is_the_scatter_over_independent_probes(layer: str, quantity: str) -> None:
    assert 1 / 1.35 < errors_over_scatter(Fixed(1.0))[layer, quantity] < 1.35


@pytest.mark.parametrize(("layer", "quantity"), QUANTITIES)
def test_where_the_bandwidth_follows_the_samples_it_is_never_too_small(layer: str, quantity: str) -> None:
    """The rule takes part of the scatter back, and a group left out does not show it; for gaps it hardly matters."""
    ratio = errors_over_scatter(MedianDistance())[layer, quantity]
    assert 1 / 1.35 < ratio < (3.5 if (layer, quantity) == ("near", "I_XT") else 1.35)


def test_samples_that_are_all_alike_have_no_error() -> None:
    plane = InformationPlane(chance=0, jackknife=4)
    alike = {name: torch.ones(24, 3, 2) for name in "ab"}
    found = table(plane.measure(torch.ones(24, 5), torch.zeros(24, dtype=torch.long), alike))
    errors = {key: value for key, value in found.items() if key[1].endswith("_stderr")}
    assert {quantity for _, quantity in errors} == {
        *("H_T_stderr", "I_XT_stderr", "I_TY_stderr", "DPI_XT_stderr", "DPI_YT_stderr")
    }
    assert errors == pytest.approx(dict.fromkeys(errors, 0.0), abs=1e-12)


def test_the_error_of_an_approximate_solver_adds_to_that_of_the_probe() -> None:
    solver = Lanczos(steps=8, probes=4)
    alone = measured(THREE, solver=solver)
    both = measured(THREE, solver=solver, jackknife=4)
    assert alone["a", "H_T_stderr"] > 0
    assert both["a", "H_T_stderr"] > alone["a", "H_T_stderr"]
