"""torchmetrics classes: the functions' values, whatever the batches, the processes and the loop around them."""

import copy
import math
import pickle
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import lightning.pytorch as lp
import matplotlib as mpl
import pytest
import torch
from properties import assert_bits, assert_leaves_random_state, normal
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset
from torchmetrics import Metric, MetricCollection

from lightning_infoplane import (
    Bandwidth,
    Eigenvalues,
    Estimator,
    Fixed,
    MatrixRenyiEntropy,
    MatrixRenyiMutualInformation,
    MatrixRenyiTotalCorrelation,
    Silverman,
    class_gram,
    feature_map_gram,
    gram,
    map_grams,
    mutual_information,
    renyi_entropy,
    total_correlation,
)

N = 24
VECTORS, MAPS = normal(N, 5), normal(N, 3, 4, 2, seed=1)
CLASSES = torch.arange(N) % 3
NUMBERS = normal(N, seed=2)
RULE, ALPHA = Silverman(2.0), 1.5
PLAIN = Estimator(bandwidth=RULE)
HOW = Estimator(alpha=ALPHA, bandwidth=RULE, solver=Eigenvalues())
TARGET_RULE = Fixed(3.0)
PAPER = replace(HOW, target_bandwidth=TARGET_RULE)  # a Gaussian for the targets too, with a rule of its own
ONE_HOT = nn.functional.one_hot(CLASSES)

# A metric, what it is updated with, and the value that the functions give.
CASES: dict[str, tuple[Callable[[], Metric], tuple[Tensor, ...], Callable[[], Tensor]]] = {
    "entropy of vectors": (
        lambda: MatrixRenyiEntropy(HOW),
        (VECTORS,),
        lambda: renyi_entropy(gram(VECTORS, RULE), ALPHA),
    ),
    "entropy of maps": (
        lambda: MatrixRenyiEntropy(HOW),
        (MAPS,),
        lambda: renyi_entropy(feature_map_gram(MAPS, RULE), ALPHA),
    ),
    "entropy of classes": (
        lambda: MatrixRenyiEntropy(HOW),
        (CLASSES,),
        lambda: renyi_entropy(class_gram(CLASSES), ALPHA),
    ),
    "entropy of numbers": (
        lambda: MatrixRenyiEntropy(HOW),
        (NUMBERS,),
        lambda: renyi_entropy(gram(NUMBERS.unsqueeze(1), RULE), ALPHA),
    ),
    "information of maps and classes": (
        lambda: MatrixRenyiMutualInformation(HOW),
        (MAPS, CLASSES),
        lambda: mutual_information(feature_map_gram(MAPS, RULE), class_gram(CLASSES), ALPHA),
    ),
    "information of vectors and maps": (
        lambda: MatrixRenyiMutualInformation(HOW),
        (VECTORS, MAPS),
        lambda: mutual_information(gram(VECTORS, RULE), feature_map_gram(MAPS, RULE), ALPHA),
    ),
    "information of maps and one-hot classes": (
        lambda: MatrixRenyiMutualInformation(PAPER),
        (MAPS, CLASSES),
        lambda: mutual_information(feature_map_gram(MAPS, RULE), gram(ONE_HOT, TARGET_RULE), ALPHA),
    ),
    "information of vectors and target numbers": (
        lambda: MatrixRenyiMutualInformation(PAPER),
        (VECTORS, NUMBERS),
        lambda: mutual_information(gram(VECTORS, RULE), gram(NUMBERS.unsqueeze(1), TARGET_RULE), ALPHA),
    ),
    "total correlation": (
        lambda: MatrixRenyiTotalCorrelation(HOW),
        (MAPS,),
        lambda: total_correlation(*map_grams(MAPS, RULE), alpha=ALPHA),
    ),
    "normalised total correlation": (
        lambda: MatrixRenyiTotalCorrelation(HOW, normalized=True),
        (MAPS,),
        lambda: total_correlation(*map_grams(MAPS, RULE), alpha=ALPHA, normalized=True),
    ),
}
every_case = pytest.mark.parametrize(("make", "values", "expected"), CASES.values(), ids=CASES)


@every_case
def test_the_value_is_the_functions_value(
    make: Callable[[], Metric], values: tuple[Tensor, ...], expected: Callable[[], Tensor]
) -> None:
    metric = make()
    metric.update(*values)
    assert_bits(metric.compute(), expected())


@every_case
@pytest.mark.parametrize(("call", "size"), [("update", 1), ("update", 5), ("update", 23), ("__call__", 4)])
def test_batches_do_not_matter(
    make: Callable[[], Metric], values: tuple[Tensor, ...], expected: Callable[[], Tensor], call: str, size: int
) -> None:
    metric = make()
    for batch in zip(*(value.split(size) for value in values), strict=True):
        getattr(metric, call)(*batch)
    assert_bits(metric.compute(), expected())


@every_case
def test_forward_returns_the_value_of_the_batch(
    make: Callable[[], Metric], values: tuple[Tensor, ...], expected: Callable[[], Tensor]
) -> None:
    metric, alone = make(), make()
    metric.update(*(value[:14] for value in values))
    last = tuple(value[14:] for value in values)
    alone.update(*last)
    assert_bits(metric(*last), alone.compute())
    assert_bits(metric.compute(), expected())


@every_case
def test_a_reset_forgets(
    make: Callable[[], Metric], values: tuple[Tensor, ...], expected: Callable[[], Tensor]
) -> None:
    metric = make()
    metric.update(*(value[:7] for value in values))
    metric.reset()
    metric.update(*values)
    assert_bits(metric.compute(), expected())


@every_case
@pytest.mark.parametrize(
    "clone", [lambda metric: pickle.loads(pickle.dumps(metric)), copy.deepcopy], ids=["pickle", "deepcopy"]
)
def test_a_copy_goes_on_where_the_original_stood(
    make: Callable[[], Metric],
    values: tuple[Tensor, ...],
    expected: Callable[[], Tensor],
    clone: Callable[[Metric], Metric],
) -> None:
    original = make()
    original.update(*(value[:7] for value in values))
    copied = clone(original)
    copied.update(*(value[7:] for value in values))
    assert_bits(copied.compute(), expected())
    assert copied.update_count == 2
    assert original.update_count == 1


# --------------------------------------------------------------------------------------------------- the targets


def information(estimator: Estimator, x: Tensor, y: Tensor) -> Tensor:
    metric = MatrixRenyiMutualInformation(estimator)
    metric.update(x, y)
    return metric.compute()


@pytest.mark.parametrize("dtype", [torch.int64, torch.int32, torch.int8, torch.bool])
def test_classes_are_one_hot_vectors_under_a_rule_for_targets_whatever_their_numbers(dtype: torch.dtype) -> None:
    names = torch.tensor([False, True] if dtype == torch.bool else [7, -3, 100], dtype=dtype)
    classes = CLASSES % len(names)
    one_hot = nn.functional.one_hot(classes)
    expected = mutual_information(gram(VECTORS, RULE), gram(one_hot, TARGET_RULE), ALPHA)
    assert_bits(information(PAPER, VECTORS, names[classes]), expected)


def test_without_a_rule_for_targets_classes_have_the_class_kernel_and_no_bandwidth() -> None:
    """So that a variable that tells the classes tells their entropy, whatever the bandwidth of the layers."""
    known = CLASSES.double().unsqueeze(1)
    exact, paper = (Estimator(bandwidth=Fixed(0.01), target_bandwidth=rule) for rule in (None, Silverman(5.0)))
    assert_bits(information(exact, known, CLASSES), renyi_entropy(class_gram(CLASSES)))
    assert float(information(paper, known, CLASSES)) < 0.5  # the paper's γ caps H(Y) far below log2 3


@pytest.mark.parametrize("y", [NUMBERS, VECTORS, MAPS], ids=["numbers", "vectors", "maps"])
def test_continuous_targets_have_their_own_rule_or_that_of_the_inputs(y: Tensor) -> None:
    """The first variable never has the target's."""
    of = feature_map_gram if y.ndim > 2 else gram
    samples = y.unsqueeze(1) if y.ndim == 1 else y
    inputs = gram(VECTORS, RULE)
    with_rule, without = information(PAPER, VECTORS, y), information(HOW, VECTORS, y)
    assert_bits(with_rule, mutual_information(inputs, of(samples, TARGET_RULE), ALPHA))
    assert_bits(without, mutual_information(inputs, of(samples, RULE), ALPHA))
    assert abs(float(with_rule - without)) > 1e-3


@pytest.mark.parametrize("values", [VECTORS, MAPS, NUMBERS, CLASSES], ids=["vectors", "maps", "numbers", "classes"])
def test_an_entropy_has_no_target(values: Tensor) -> None:
    without, with_rule = MatrixRenyiEntropy(HOW), MatrixRenyiEntropy(PAPER)
    assert_bits(with_rule(values), without(values), 0)


def test_a_total_correlation_has_no_target() -> None:
    assert_bits(MatrixRenyiTotalCorrelation(PAPER)(MAPS), MatrixRenyiTotalCorrelation(HOW)(MAPS), 0)


# ------------------------------------------------------------------------------------------------- the reservoir


@dataclass(frozen=True)
class Noting(Bandwidth):
    """A rule that notes the samples that it is asked about: those that the value is computed from."""

    seen: list[Tensor] = field(default_factory=list, compare=False)

    def bandwidths(self, maps: Tensor, target: Tensor | None, previous: Tensor | None) -> Tensor:
        self.seen.append(maps.flatten(1))
        return maps.new_full(maps.shape[-2:-1], 1e-3)  # all samples that differ are far apart


def noting(seed: int = 0) -> Estimator:
    """At α = 2, where no spectrum is needed."""
    return Estimator(alpha=2, bandwidth=Noting(), target_bandwidth=Noting(), seed=seed)


def kept(metric: MatrixRenyiEntropy) -> list[int]:
    """The samples, which are their own numbers, that the value is computed from."""
    metric.compute()
    assert isinstance(metric.estimator.bandwidth, Noting)
    return metric.estimator.bandwidth.seen[-1].flatten().long().tolist()


def fill(metric: MatrixRenyiEntropy, total: int, batch: int, call: str = "update") -> MatrixRenyiEntropy:
    for part in torch.arange(float(total)).unsqueeze(1).split(batch):
        getattr(metric, call)(part)
    return metric


@pytest.mark.parametrize("call", ["update", "__call__"])
@pytest.mark.parametrize("batch", [3, 8, 50])
def test_memory_is_bounded_by_twice_the_reservoir(batch: int, call: str) -> None:
    metric = MatrixRenyiEntropy(noting(), max_samples=8)
    for part in torch.arange(150.0).unsqueeze(1).split(batch):
        getattr(metric, call)(part)
        assert sum(len(held) for held in metric.samples) == sum(len(held) for held in metric.tickets) <= 16
    assert len(kept(metric)) == 8
    assert float(metric.compute()) <= 3 + 1e-9


def test_fewer_samples_than_the_reservoir_are_all_kept() -> None:
    assert kept(fill(MatrixRenyiEntropy(noting(), max_samples=20), 20, 6)) == list(range(20))


def test_the_sample_is_in_the_order_of_arrival_and_without_repetition() -> None:
    found = kept(fill(MatrixRenyiEntropy(noting(), max_samples=10), 100, 7))
    assert found == sorted(set(found))


@pytest.mark.parametrize("call", ["update", "__call__"])
def test_the_sample_is_uniform(call: str) -> None:
    """Each of 40 samples is kept in 10 of 40 draws: the count over fixed seeds is binomial."""
    seeds, total, size = 200, 40, 10
    counts = torch.zeros(total)
    for seed in range(seeds):
        metric = MatrixRenyiEntropy(noting(seed), max_samples=size)
        counts[kept(fill(metric, total, 8, call))] += 1
    share = size / total
    scores = (counts - seeds * share) / math.sqrt(seeds * share * (1 - share))
    assert float(scores.abs().max()) < 4
    assert 0.5 < float(scores.square().mean()) < 1.6


@pytest.mark.parametrize("call", ["update", "__call__"])
def test_batches_draw_independently(call: str) -> None:
    """The positions kept from one batch say nothing about those kept from the next."""
    same = 0
    for seed in range(30):
        metric = MatrixRenyiEntropy(noting(seed), max_samples=10)
        found = kept(fill(metric, 20, 10, call))
        same += {i for i in found if i < 10} == {i - 10 for i in found if i >= 10}
    assert same <= 2


def test_the_seed_alone_decides_the_sample() -> None:
    with assert_leaves_random_state():
        first = kept(fill(MatrixRenyiEntropy(noting(seed=1), max_samples=10), 100, 9))
    torch.rand(3)
    again = fill(MatrixRenyiEntropy(noting(seed=1), max_samples=10), 100, 9)
    assert kept(again) == first
    again.reset()
    assert kept(fill(again, 100, 9)) == first
    assert kept(fill(MatrixRenyiEntropy(noting(seed=2), max_samples=10), 100, 9)) != first


def test_pairs_stay_pairs_in_the_reservoir() -> None:
    how = noting()
    metric = MatrixRenyiMutualInformation(how, max_samples=6)
    for part in torch.arange(60.0).split(7):
        metric.update(part.unsqueeze(1), -part)
    metric.compute()
    assert isinstance(how.bandwidth, Noting)
    assert isinstance(how.target_bandwidth, Noting)
    x, y = how.bandwidth.seen[-1], how.target_bandwidth.seen[-1]
    assert torch.equal(x, -y)
    assert len(y.unique()) == 6


def test_classes_stay_with_their_samples_in_the_reservoir() -> None:
    """One-hot vectors of the classes that are left."""
    how = noting()
    metric = MatrixRenyiMutualInformation(how, max_samples=12)
    for part in torch.arange(60).split(7):
        metric.update(part.float().unsqueeze(1), part % 4)
    metric.compute()
    assert isinstance(how.bandwidth, Noting)
    assert isinstance(how.target_bandwidth, Noting)
    x, y = how.bandwidth.seen[-1].flatten().long(), how.target_bandwidth.seen[-1]
    assert len(x) == 12
    assert torch.equal(y.long(), nn.functional.one_hot(torch.unique(x % 4, return_inverse=True)[1]))


# --------------------------------------------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda kind: kind(Estimator(alpha=0)), r"alpha=0: expected a positive number"),
        (lambda kind: kind(Estimator(alpha=-1.0)), r"alpha=-1\.0: expected a positive number"),
        (lambda kind: kind(max_samples=1), r"max_samples=1: an entropy needs at least 2 samples"),
        (lambda kind: kind(max_samples=0), r"max_samples=0: an entropy needs at least 2 samples"),
    ],
)
@pytest.mark.parametrize("kind", [MatrixRenyiEntropy, MatrixRenyiMutualInformation, MatrixRenyiTotalCorrelation])
def test_impossible_arguments_are_refused(kind: type[Metric], make: Callable[..., Metric], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make(kind)


@pytest.mark.parametrize("kind", [MatrixRenyiEntropy, MatrixRenyiMutualInformation, MatrixRenyiTotalCorrelation])
def test_an_argument_of_the_estimator_is_no_argument_of_the_metric(kind: type[Metric]) -> None:
    with pytest.raises(ValueError, match=r"Unexpected keyword arguments: `alpha`"):
        kind(alpha=2)


def test_variables_of_different_length_are_refused() -> None:
    with pytest.raises(ValueError, match="expected as many samples of each variable, got 4 and 3"):
        MatrixRenyiMutualInformation().update(torch.ones(4, 1), torch.ones(3))


def test_a_single_number_is_no_batch() -> None:
    with pytest.raises(ValueError, match=r"expected a batch of samples \(n, \.\.\.\), got a single number"):
        MatrixRenyiEntropy().update(torch.tensor(1.0))


def test_nan_is_named() -> None:
    metric = MatrixRenyiEntropy()
    metric.update(torch.full((4, 2), torch.nan))
    with pytest.raises(ValueError, match="contains NaN or infinite values"):
        metric.compute()


# -------------------------------------------------------------------------------------------- in other's company


@pytest.fixture
def pyplot() -> Iterator[None]:
    mpl.use("Agg")
    yield
    import matplotlib.pyplot as plt

    plt.close("all")


@pytest.mark.usefixtures("pyplot")
@pytest.mark.parametrize(
    ("metric", "label"),
    [
        (MatrixRenyiEntropy(PLAIN), "bits"),
        (MatrixRenyiTotalCorrelation(PLAIN), "bits"),
        (MatrixRenyiTotalCorrelation(PLAIN, normalized=True), "normalised"),
    ],
)
def test_a_plot_names_its_unit(metric: Metric, label: str) -> None:
    metric.update(MAPS)
    figure, axes = metric.plot()
    assert axes.get_ylabel() == label
    assert axes.figure is figure
    assert not axes.texts or all("Optimal" not in text.get_text() for text in axes.texts)


@pytest.mark.usefixtures("pyplot")
def test_several_values_are_drawn_on_the_axes_given() -> None:
    import matplotlib.pyplot as plt

    given = plt.subplots()[1]
    metric = MatrixRenyiMutualInformation(PLAIN)
    values = [metric(VECTORS[:12], CLASSES[:12]), metric(VECTORS[12:], CLASSES[12:])]
    _, axes = metric.plot(values, ax=given)
    assert axes is given
    assert given.lines[0].get_ydata() == pytest.approx([float(value) for value in values])


def test_a_collection_computes_each_of_them() -> None:
    collection = MetricCollection(
        {
            "shannon": MatrixRenyiEntropy(replace(PLAIN, alpha=1)),
            "collision": MatrixRenyiEntropy(replace(PLAIN, alpha=2)),
            "small": MatrixRenyiEntropy(PLAIN, max_samples=4),
            "correlation": MatrixRenyiTotalCorrelation(PLAIN),
        },
        compute_groups=False,
    )
    for part in MAPS.split(8):
        collection.update(part)
    values = collection.compute()
    joint = feature_map_gram(MAPS, RULE)
    assert_bits(values["shannon"], renyi_entropy(joint, 1))
    assert_bits(values["collision"], renyi_entropy(joint, 2))
    assert_bits(values["correlation"], total_correlation(*map_grams(MAPS, RULE)))
    assert float(values["small"]) <= 2 + 1e-9


def merged_on(rank: int, world: int, folder: str) -> None:
    """One of several processes: each sees its part, and every one gets the value of everything."""
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", f"file://{folder}/store", rank=rank, world_size=world)
    parts = slice(0, 9) if rank == 0 else slice(9, None)  # of different sizes
    information = MatrixRenyiMutualInformation(HOW)
    information.update(VECTORS[parts], CLASSES[parts])
    how = Estimator(alpha=2, bandwidth=Noting())
    reservoir = MatrixRenyiEntropy(how, max_samples=8)
    fill_rank = torch.arange(40.0).unsqueeze(1) + 100 * rank
    for part in fill_rank.split(10):
        reservoir.update(part)
    found = {"information": information.compute(), "entropy": reservoir.compute()}
    found["kept"] = torch.tensor(kept(reservoir))  # what all processes put together computed from
    found["again"] = information.compute()
    torch.save(found, f"{folder}/{rank}.pt")
    torch.distributed.destroy_process_group()


def test_processes_merge_into_one_sample(tmp_path: Path) -> None:
    torch.multiprocessing.spawn(merged_on, (2, str(tmp_path)), nprocs=2)
    found = [torch.load(tmp_path / f"{rank}.pt") for rank in range(2)]
    expected = mutual_information(gram(VECTORS, RULE), class_gram(CLASSES), ALPHA)
    for values in found:
        assert_bits(values["information"], expected)
        assert_bits(values["again"], expected)
        assert_bits(values["entropy"], 3.0)  # eight samples, all different
    assert found[0]["kept"].tolist() == found[1]["kept"].tolist()
    assert len(set(found[0]["kept"].tolist())) == 8
    assert {value // 100 for value in found[0]["kept"].tolist()} == {0, 1}


class Logging(lp.LightningModule):
    """A network that logs a metric the way Lightning's documentation does."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(5, 3)
        self.information = MatrixRenyiMutualInformation(PLAIN)

    def training_step(self, batch: tuple[Tensor, Tensor], index: int) -> Tensor:
        x, y = batch
        self.information(x, y)
        self.log("information", self.information, on_step=True, on_epoch=True)
        return nn.functional.cross_entropy(self.layer(x), y)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


@pytest.mark.filterwarnings("ignore:The 'train_dataloader' does not have many workers")
def test_a_lightning_module_logs_it_over_steps_and_epochs(tmp_path: Path) -> None:
    x = VECTORS.float()
    trainer = lp.Trainer(
        max_epochs=2,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=tmp_path,
        log_every_n_steps=1,
    )
    trainer.fit(Logging(), DataLoader(TensorDataset(x, CLASSES), batch_size=8))
    labels = class_gram(CLASSES)
    assert_bits(
        trainer.callback_metrics["information_epoch"], mutual_information(gram(x, RULE), labels), tolerance=1e-5
    )
    last = mutual_information(gram(x[16:], RULE), class_gram(CLASSES[16:]))
    assert_bits(trainer.callback_metrics["information_step"], last, tolerance=1e-5)
