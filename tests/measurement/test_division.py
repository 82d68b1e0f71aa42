"""How a probe is divided: groups that are like the whole, shuffles inside them, and matrices as a part sees them."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from properties import assert_leaves_random_state, assert_same_gram, normal
from torch import Tensor

from lightning_infoplane import Bandwidth, Estimator, Fixed, Jackknife, MedianDistance, gaussian_gram, gram
from lightning_infoplane.measurement.division import Division, Part, divide, seen_by, width

# Unequal classes that are not in turn, as in a real probe.
CLASSES = torch.tensor([0, 0, 0, 1, 1, 2]).repeat(50)[torch.randperm(300, generator=torch.Generator().manual_seed(9))]


def divided(n: int, labels: Tensor | None = None, **fields: Any) -> Division:
    return divide(n, labels, Estimator(**fields))


def kept(part: Part) -> Tensor:
    assert part.keep is not None
    return part.keep


def groups_of(division: Division, n: int) -> list[set[int]]:
    """The groups behind the parts: the blocks themselves, or what was left out."""
    parts = [set(kept(part).tolist()) for part in division.parts]
    return parts if sum(map(len, parts)) == n else [set(range(n)) - part for part in parts]


# -------------------------------------------------------------------------------------------------- how many parts


@pytest.mark.parametrize(
    ("n", "blocks"), [(2, 0), (5, 0), (63, 0), (64, 4), (255, 4), (256, 8), (300, 8), (2048, 8)], ids=str
)
def test_blocks_are_as_many_as_the_probe_has_room_for(n: int, blocks: int) -> None:
    assert len(divided(n).parts) == blocks


@pytest.mark.parametrize(
    ("n", "groups", "parts"),
    [
        *((2, 10, 0), (3, 10, 0)),  # one group alone leaves nothing
        *((4, 10, 2), (5, 10, 2), (6, 10, 3), (19, 10, 9), (20, 10, 10), (300, 10, 10)),
        *((4, 2, 2), (300, 2, 2), (300, 150, 150), (300, 1000, 150)),
    ],
    ids=str,
)
def test_a_jackknife_has_no_more_groups_than_half_of_the_samples(n: int, groups: int, parts: int) -> None:
    """A group of one sample could not be shuffled."""
    found = divided(n, standard_errors=Jackknife(groups))
    assert len(found.parts) == parts
    assert all(len(group) >= 2 for group in groups_of(found, n))


@pytest.mark.parametrize("n", [2, 64, 300])
def test_without_errors_there_are_no_parts(n: int) -> None:
    assert divided(n, standard_errors=None).parts == []


def test_the_whole_is_every_sample_in_every_order() -> None:
    found = divided(300, shuffles=3)
    assert found.whole.keep is None
    assert found.whole.orders.shape == (3, 300)


@pytest.mark.parametrize(("fields", "degrees"), [({}, 7), ({"standard_errors": Jackknife(10)}, 9)], ids=str)
def test_an_error_has_one_degree_of_freedom_less_than_parts(fields: dict[str, Any], degrees: int) -> None:
    assert divided(300, **fields).degrees == degrees
    assert divided(64).degrees == 3


# ----------------------------------------------------------------------------------------------------------- groups


@pytest.mark.parametrize("n", [64, 255, 256, 300, 513])
def test_blocks_share_no_sample_and_leave_none_out(n: int) -> None:
    blocks = groups_of(divided(n), n)
    assert sorted(sample for block in blocks for sample in block) == list(range(n))
    assert {len(block) for block in blocks} <= {n // len(blocks), n // len(blocks) + 1}


@pytest.mark.parametrize(("n", "groups"), [(24, 5), (300, 10), (9, 4)])
def test_every_sample_is_left_out_once_in_groups_of_one_size(n: int, groups: int) -> None:
    left_out = groups_of(divided(n, standard_errors=Jackknife(groups)), n)
    assert sorted(sample for group in left_out for sample in group) == list(range(n))
    assert {len(group) for group in left_out} <= {n // groups, n // groups + 1}


@pytest.mark.parametrize("fields", [{}, {"standard_errors": Jackknife(10)}], ids=["blocks", "jackknife"])
@pytest.mark.parametrize(
    "labels",
    [CLASSES, torch.arange(300) % 2, torch.arange(300) % 100, torch.arange(300).clamp_max(1), torch.zeros(300).long()],
    ids=["unequal", "two", "a hundred", "one sample apart", "one"],
)
def test_every_group_has_each_class_in_its_share(labels: Tensor, fields: dict[str, Any]) -> None:
    """As nearly as whole samples allow: the next number below the share, or above."""
    groups = groups_of(divided(300, labels, **fields), 300)
    for label in labels.unique():
        share = float((labels == label).sum()) / len(groups)
        for group in groups:
            assert abs(int((labels[list(group)] == label).sum()) - share) < 1


def test_the_numbers_and_the_order_of_the_classes_change_no_share() -> None:
    renamed = groups_of(divided(300, 7 - 3 * CLASSES), 300)
    for group in renamed:
        assert abs(int((CLASSES[list(group)] == 2).sum()) - 50 / 8) < 1


@pytest.mark.parametrize("fields", [{}, {"standard_errors": Jackknife(4)}], ids=["blocks", "jackknife"])
@pytest.mark.parametrize("labels", [None, CLASSES], ids=["without classes", "with classes"])
def test_parts_are_ascending(labels: Tensor | None, fields: dict[str, Any]) -> None:
    for part in divided(300, labels, **fields).parts:
        assert bool((kept(part).diff() > 0).all())


# ---------------------------------------------------------------------------------------------------------- shuffles

ANY = pytest.mark.parametrize(
    ("n", "fields"),
    [
        *((2, {}), (3, {}), (5, {}), (63, {}), (64, {}), (255, {}), (256, {}), (300, {})),
        *((n, {"standard_errors": Jackknife(10)}) for n in (2, 3, 4, 5, 21, 300)),
        *((n, {"standard_errors": None}) for n in (2, 300)),
    ],
    ids=str,
)


@ANY
def test_shuffles_leave_no_sample_in_its_place(n: int, fields: dict[str, Any]) -> None:
    found = divided(n, shuffles=3, **fields)
    for part in (found.whole, *found.parts):
        m = part.orders.shape[1]
        assert torch.equal(part.orders.sort(-1).values, torch.arange(m).expand(3, m))
        assert not bool((part.orders == torch.arange(m)).any())


@ANY
def test_shuffles_stay_inside_the_groups(n: int, fields: dict[str, Any]) -> None:
    found = divided(n, shuffles=3, **fields)
    for group in groups_of(found, n):
        for order in found.whole.orders:
            assert set(order[list(group)].tolist()) == group


@ANY
def test_a_shuffle_is_one_cycle_in_each_group(n: int, fields: dict[str, Any]) -> None:
    found = divided(n, **fields)
    for group in groups_of(found, n) or [set(range(n))]:
        for order in found.whole.orders:
            at, seen = min(group), set()
            while at not in seen:
                seen.add(at)
                at = int(order[at])
            assert seen == group


@ANY
def test_the_orders_of_a_part_are_those_of_the_whole(n: int, fields: dict[str, Any]) -> None:
    """So that what is left out is left out of the joint matrix and of the shuffled one alike."""
    found = divided(n, shuffles=3, **fields)
    for part in found.parts:
        for order, whole in zip(part.orders, found.whole.orders, strict=True):
            assert torch.equal(kept(part)[order], whole[kept(part)])


def test_without_shuffles_there_are_no_orders() -> None:
    found = divided(300, shuffles=0)
    assert found.whole.orders.shape == (0, 300)
    assert [part.orders.shape[0] for part in found.parts] == [0] * 8


def test_a_shuffle_is_the_same_however_many_there_are() -> None:
    assert torch.equal(divided(300, shuffles=2).whole.orders, divided(300, shuffles=5).whole.orders[:2])


def test_groups_of_one_size_are_not_shuffled_alike() -> None:
    found = divided(64, shuffles=1)
    orders = {tuple(part.orders[0].tolist()) for part in found.parts}
    assert len(orders) == 4


# ------------------------------------------------------------------------------------------------------------- seeds


@pytest.mark.parametrize("fields", [{}, {"standard_errors": Jackknife(10)}, {"standard_errors": None}], ids=str)
def test_a_division_is_a_function_of_the_seed_alone(fields: dict[str, Any]) -> None:
    with assert_leaves_random_state():
        first = divided(300, CLASSES, **fields)
    torch.manual_seed(7)
    again, other = divided(300, CLASSES, **fields), divided(300, CLASSES, seed=1, **fields)
    assert torch.equal(again.whole.orders, first.whole.orders)
    assert not torch.equal(other.whole.orders, first.whole.orders)
    for part, same in zip(first.parts, again.parts, strict=True):
        assert torch.equal(kept(part), kept(same))
    for part, different in zip(first.parts, other.parts, strict=True):
        assert kept(part).tolist() != kept(different).tolist()


def test_the_next_seeds_have_no_shuffle_in_common() -> None:
    """Else the chance levels of runs with seeds 0 and 1 would not be independent."""
    orders = [divided(40, shuffles=3, seed=seed).whole.orders.tolist() for seed in range(5)]
    assert len({tuple(order) for one in orders for order in one}) == 15


# ----------------------------------------------------------------------------------------------------- what is seen

SAMPLES = normal(96, 3)
HALF = Part(torch.arange(0, 96, 2), torch.empty(0, 48, dtype=torch.long))


def half_squares(samples: Tensor, sigma: float) -> Tensor:
    """d² / 2σ² of all pairs."""
    return torch.pdist(samples).square() / (2 * sigma**2)


@pytest.mark.parametrize("rule", [MedianDistance(), MedianDistance(scale=3), Fixed(0.5)], ids=repr)
def test_the_width_is_the_median_of_half_the_squared_distances_over_squared_bandwidth(rule: Bandwidth) -> None:
    sigma = float(rule(SAMPLES.unsqueeze(1)))
    middle = half_squares(SAMPLES, sigma).median()  # the lower one, of pairs that all differ
    assert float(width(gram(SAMPLES, rule))) == pytest.approx(float(middle), rel=1e-9)


def test_at_the_median_distance_the_width_is_one_half() -> None:
    assert float(width(gram(SAMPLES))) == pytest.approx(0.5, rel=1e-2)


def test_widths_are_one_a_matrix() -> None:
    stack = torch.stack([gram(SAMPLES, Fixed(sigma)) for sigma in (1.0, 2.0, 4.0)])
    one, two, four = width(stack).tolist()
    assert (one / two, two / four) == (pytest.approx(4), pytest.approx(4))


@pytest.mark.parametrize("n", [129, 256, 300, 512])
def test_of_a_large_matrix_the_width_is_that_of_all_pairs_and_a_rough_one_is_near(n: int) -> None:
    samples = normal(n, 3, seed=n)
    matrix, median = gram(samples, Fixed(1.0)), float(half_squares(samples, 1.0).median())
    assert float(width(matrix)) == pytest.approx(median, rel=1e-3)
    assert float(width(matrix, roughly=True)) == pytest.approx(median, rel=0.1)
    assert float(width(matrix[:128, :128] * n / 128, roughly=True)) == float(width(matrix[:128, :128] * n / 128))


@pytest.mark.parametrize("n", [256, 300, 512])
def test_the_power_of_a_jackknifes_part_is_that_of_all_pairs(n: int) -> None:
    """Parts of a jackknife differ little, and their scatter counts ninefold: a width of some rows is too coarse."""
    samples = normal(n, 3, seed=n)
    matrix = gram(samples, Fixed(1.0))
    median = half_squares(samples, 1.0).median()
    found, expected = [], []
    for part in divided(n, standard_errors=Jackknife(10)).parts:
        keep = kept(part)
        found.append(width(matrix) / width(seen_by(part, matrix)))
        expected.append(median / half_squares(samples[keep], 1.0).median())
    error = torch.stack(found).std() / torch.stack(expected).std()
    assert 0.8 < float(error) < 1.25


def test_the_whole_is_seen_as_it_is() -> None:
    matrix = gram(SAMPLES)
    everything = Part(None, torch.empty(0, 96, dtype=torch.long))
    assert seen_by(everything, matrix) is matrix
    assert seen_by(everything, matrix, width(matrix)) is matrix


@pytest.mark.parametrize("rule", [MedianDistance(), Fixed(1.5)], ids=repr)
def test_at_the_bandwidth_of_the_whole_a_part_is_the_matrix_of_its_samples(rule: Bandwidth) -> None:
    sigma = float(rule(SAMPLES.unsqueeze(1)))
    assert_same_gram(seen_by(HALF, gram(SAMPLES, rule)), gram(SAMPLES[::2], Fixed(sigma)))


@pytest.mark.parametrize("scale", [0.5, 1.0, 2.0])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
@pytest.mark.parametrize("n", [96, 300])
def test_at_the_width_of_the_whole_a_part_is_as_wide_as_the_whole(n: int, dtype: torch.dtype, scale: float) -> None:
    """Not a random part: one whose distances are half as large."""
    samples = normal(n, 3, seed=5).to(dtype)
    near = Part(samples.norm(dim=1).argsort()[: n // 2].sort().values, torch.empty(0, n // 2, dtype=torch.long))
    matrix = gram(samples, MedianDistance(scale=scale))
    whole = width(matrix)
    assert float(width(seen_by(near, matrix))) < 0.6 * float(whole)
    assert float(width(seen_by(near, matrix, whole))) == pytest.approx(float(whole), rel=1e-4)


def test_a_power_of_the_kernel_is_another_bandwidth() -> None:
    """k^p has σ / √p: what a rule that follows the samples would have given the part."""
    sigma = 1.7
    matrix = gram(SAMPLES, Fixed(sigma))
    power = float(width(matrix) / width(seen_by(HALF, matrix)))
    assert_same_gram(seen_by(HALF, matrix, width(matrix)), gram(SAMPLES[::2], Fixed(sigma / power**0.5)), 1e-9)


def test_each_layer_of_a_stack_has_a_power_of_its_own() -> None:
    layers = [gram(SAMPLES), gram(SAMPLES[:, :1]), torch.full((96, 96), 1 / 96, dtype=torch.float64)]
    stack = torch.stack(layers)
    together = seen_by(HALF, stack, width(stack))
    for layer, seen in zip(layers, together, strict=True):
        assert_same_gram(seen, seen_by(HALF, layer, width(layer)))


SIZES = pytest.mark.parametrize("n", [96, 131, 141, 197, 300, 491])
DTYPES = pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)


@SIZES
@DTYPES
@pytest.mark.parametrize(
    "kernel",
    [
        lambda n: torch.ones(n, n),
        lambda n: torch.eye(n),
        lambda n: gaussian_gram(1e3 * normal(n, 1, 40), torch.ones(1)) * n,
        lambda n: gram(torch.nn.functional.one_hot((torch.arange(n) % 5 == 0).long())) * n,
        lambda n: gram(torch.nn.functional.one_hot((torch.arange(n) % 2).long())) * n,
    ],
    ids=["constant", "saturated", "all far apart", "two values, one of them common", "two values"],
)
def test_a_matrix_that_is_as_wide_everywhere_stays_as_it_is(
    kernel: Callable[[int], Tensor], dtype: torch.dtype, n: int
) -> None:
    """Where more than half of it is 0 or 1, the quotient of two roundings is no power."""
    matrix = (kernel(n) / n).to(dtype)
    for part in divided(n).parts:
        assert_same_gram(seen_by(part, matrix, width(matrix)), seen_by(part, matrix), 1e-5)


def active(n: int, share: float) -> Tensor:
    """One feature that is zero for all samples but a share of them, as after a ReLU."""
    values = normal(n, seed=n)
    return (values - values.quantile(1 - share)).relu().unsqueeze(1)


def assert_seen_at_a_similar_bandwidth(part: Part, matrix: Tensor, factor: float) -> None:
    """What was alike stays so, and a power of the kernel is no larger, and no smaller, than the factor."""
    m = len(kept(part))
    found, plain = (m * seen.double() for seen in (seen_by(part, matrix, width(matrix)), seen_by(part, matrix)))
    alike = plain > 1 - 1e-5
    assert bool((found[alike] > 1 - 1e-4).all())
    differ = (plain < 0.99) & (plain > 1e-6)
    powers = found[differ].log() / plain[differ].log()
    assert 1 / factor < float(powers.min()) <= float(powers.max()) < factor


@SIZES
@DTYPES
@pytest.mark.parametrize("share", [0.15, 0.3, 0.4])
def test_a_layer_of_which_many_samples_are_alike_keeps_nearly_its_bandwidth_without_a_tenth(
    share: float, dtype: torch.dtype, n: int
) -> None:
    """The rule looks at pairs that differ. At three tenths half of all pairs are alike, of some parts more."""
    matrix = gram(active(n, share)).to(dtype)
    for part in divided(n, standard_errors=Jackknife(10)).parts:
        assert_seen_at_a_similar_bandwidth(part, matrix, 2.5)


@DTYPES
@pytest.mark.parametrize("share", [0.3, 0.4])
def test_blocks_of_such_a_layer_differ_more(share: float, dtype: torch.dtype) -> None:
    matrix = gram(active(1024, share)).to(dtype)
    for part in divided(1024).parts:
        assert_seen_at_a_similar_bandwidth(part, matrix, 4)


@SIZES
@DTYPES
def test_a_part_of_which_most_samples_are_alike_though_not_of_the_whole_is_no_other(dtype: torch.dtype, n: int) -> None:
    """Rounding is not its width."""
    layer = active(n, 1 / 3)
    matrix = gram(layer).to(dtype)
    is_active = layer.squeeze(1) > 0
    keep = torch.cat([(~is_active).nonzero().squeeze(1), is_active.nonzero().squeeze(1)[: n // 6]]).sort().values
    assert_seen_at_a_similar_bandwidth(Part(keep, torch.empty(0, len(keep), dtype=torch.long)), matrix, 2)


@pytest.mark.parametrize("rule", [MedianDistance(), Fixed(1.0)], ids=repr)
def test_what_is_seen_is_a_gram_matrix(rule: Bandwidth) -> None:
    matrix = gram(SAMPLES, rule)
    for part in divided(96).parts:
        seen = seen_by(part, matrix, width(matrix))
        assert_same_gram(seen, seen.mT)
        assert_same_gram(seen.diagonal(), torch.full((len(seen),), 1 / len(seen)), 1e-7)
        assert float(torch.linalg.eigvalsh(seen).min()) > -1e-12
