"""torchmetrics classes: the functions' values, whatever the batches, the processes and the loop around them."""

import copy
import math
import pickle
from collections.abc import Callable, Iterator
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
    Eigenvalues,
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

# A metric, what it is updated with, and the value that the functions give.
CASES: dict[str, tuple[Callable[..., Metric], tuple[Tensor, ...], Callable[[], Tensor]]] = {
    "entropy of vectors": (MatrixRenyiEntropy, (VECTORS,), lambda: renyi_entropy(gram(VECTORS, RULE), ALPHA)),
    "entropy of maps": (MatrixRenyiEntropy, (MAPS,), lambda: renyi_entropy(feature_map_gram(MAPS, RULE), ALPHA)),
    "entropy of classes": (MatrixRenyiEntropy, (CLASSES,), lambda: renyi_entropy(class_gram(CLASSES), ALPHA)),
    "entropy of numbers": (
        MatrixRenyiEntropy,
        (NUMBERS,),
        lambda: renyi_entropy(gram(NUMBERS.unsqueeze(1), RULE), ALPHA),
    ),
    "information of maps and classes": (
        MatrixRenyiMutualInformation,
        (MAPS, CLASSES),
        lambda: mutual_information(feature_map_gram(MAPS, RULE), class_gram(CLASSES), ALPHA),
    ),
    "information of vectors and maps": (
        MatrixRenyiMutualInformation,
        (VECTORS, MAPS),
        lambda: mutual_information(gram(VECTORS, RULE), feature_map_gram(MAPS, RULE), ALPHA),
    ),
    "total correlation": (
        MatrixRenyiTotalCorrelation,
        (MAPS,),
        lambda: total_correlation(*map_grams(MAPS, RULE), alpha=ALPHA),
    ),
    "normalised total correlation": (
        lambda **kwargs: MatrixRenyiTotalCorrelation(normalized=True, **kwargs),
        (MAPS,),
        lambda: total_correlation(*map_grams(MAPS, RULE), alpha=ALPHA, normalized=True),
    ),
}
every_case = pytest.mark.parametrize(("make", "values", "expected"), CASES.values(), ids=CASES)


@every_case
def test_the_value_is_the_functions_value(
    make: Callable[..., Metric], values: tuple[Tensor, ...], expected: Callable[[], Tensor]
) -> None:
    metric = make(alpha=ALPHA, bandwidth=RULE, solver=Eigenvalues())
    metric.update(*values)
    assert_bits(metric.compute(), expected())


@every_case
@pytest.mark.parametrize(("call", "size"), [("update", 1), ("update", 5), ("update", 23), ("__call__", 4)])
def test_batches_do_not_matter(
    make: Callable[..., Metric], values: tuple[Tensor, ...], expected: Callable[[], Tensor], call: str, size: int
) -> None:
    metric = make(alpha=ALPHA, bandwidth=RULE)
    for batch in zip(*(value.split(size) for value in values), strict=True):
        getattr(metric, call)(*batch)
    assert_bits(metric.compute(), expected())


@every_case
def test_forward_returns_the_value_of_the_batch(
    make: Callable[..., Metric], values: tuple[Tensor, ...], expected: Callable[[], Tensor]
) -> None:
    metric, alone = make(alpha=ALPHA, bandwidth=RULE), make(alpha=ALPHA, bandwidth=RULE)
    metric.update(*(value[:14] for value in values))
    last = tuple(value[14:] for value in values)
    alone.update(*last)
    assert_bits(metric(*last), alone.compute())
    assert_bits(metric.compute(), expected())


@every_case
def test_a_reset_forgets(
    make: Callable[..., Metric], values: tuple[Tensor, ...], expected: Callable[[], Tensor]
) -> None:
    metric = make(alpha=ALPHA, bandwidth=RULE)
    metric.update(*(value[:7] for value in values))
    metric.reset()
    metric.update(*values)
    assert_bits(metric.compute(), expected())


@every_case
@pytest.mark.parametrize(
    "clone", [lambda metric: pickle.loads(pickle.dumps(metric)), copy.deepcopy], ids=["pickle", "deepcopy"]
)
def test_a_copy_goes_on_where_the_original_stood(
    make: Callable[..., Metric],
    values: tuple[Tensor, ...],
    expected: Callable[[], Tensor],
    clone: Callable[[Metric], Metric],
) -> None:
    original = make(alpha=ALPHA, bandwidth=RULE)
    original.update(*(value[:7] for value in values))
    copied = clone(original)
    copied.update(*(value[7:] for value in values))
    assert_bits(copied.compute(), expected())
    assert copied.update_count == 2
    assert original.update_count == 1


# ------------------------------------------------------------------------------------------------- the reservoir


def kept(metric: MatrixRenyiEntropy) -> list[int]:
    """The samples, which are their own numbers, that the value is computed from."""
    (samples,) = metric._samples()
    return samples.flatten().long().tolist()


def fill(metric: MatrixRenyiEntropy, total: int, batch: int, call: str = "update") -> MatrixRenyiEntropy:
    for part in torch.arange(float(total)).unsqueeze(1).split(batch):
        getattr(metric, call)(part)
    return metric


@pytest.mark.parametrize("call", ["update", "__call__"])
@pytest.mark.parametrize("batch", [3, 8, 50])
def test_memory_is_bounded_by_twice_the_reservoir(batch: int, call: str) -> None:
    metric = MatrixRenyiEntropy(bandwidth=Fixed(1.0), max_samples=8)
    for part in torch.arange(150.0).unsqueeze(1).split(batch):
        getattr(metric, call)(part)
        assert sum(len(held) for held in metric.samples) == sum(len(held) for held in metric.tickets) <= 16
    assert len(kept(metric)) == 8
    assert float(metric.compute()) <= 3 + 1e-9


def test_fewer_samples_than_the_reservoir_are_all_kept() -> None:
    assert kept(fill(MatrixRenyiEntropy(max_samples=20), 20, 6)) == list(range(20))


def test_the_sample_is_in_the_order_of_arrival_and_without_repetition() -> None:
    found = kept(fill(MatrixRenyiEntropy(max_samples=10), 100, 7))
    assert found == sorted(set(found))


@pytest.mark.parametrize("call", ["update", "__call__"])
def test_the_sample_is_uniform(call: str) -> None:
    """Each of 40 samples is kept in 10 of 40 draws: the count over fixed seeds is binomial."""
    seeds, total, size = 200, 40, 10
    counts = torch.zeros(total)
    for seed in range(seeds):
        metric = MatrixRenyiEntropy(alpha=2, bandwidth=Fixed(1.0), max_samples=size, seed=seed)
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
        metric = MatrixRenyiEntropy(alpha=2, bandwidth=Fixed(1.0), max_samples=10, seed=seed)
        found = kept(fill(metric, 20, 10, call))
        same += {i for i in found if i < 10} == {i - 10 for i in found if i >= 10}
    assert same <= 2


def test_the_seed_alone_decides_the_sample() -> None:
    with assert_leaves_random_state():
        first = kept(fill(MatrixRenyiEntropy(max_samples=10, seed=1), 100, 9))
    torch.rand(3)
    again = fill(MatrixRenyiEntropy(max_samples=10, seed=1), 100, 9)
    assert kept(again) == first
    again.reset()
    assert kept(fill(again, 100, 9)) == first
    assert kept(fill(MatrixRenyiEntropy(max_samples=10, seed=2), 100, 9)) != first


def test_pairs_stay_pairs_in_the_reservoir() -> None:
    metric = MatrixRenyiMutualInformation(max_samples=6)
    for part in torch.arange(60).split(7):
        metric.update(part.float().unsqueeze(1), part)
    x, y = metric._samples()
    assert torch.equal(x.flatten().long(), y)
    assert len(y) == 6


# --------------------------------------------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"alpha": 0}, r"alpha=0: expected a positive number"),
        ({"alpha": -1.0}, r"alpha=-1\.0: expected a positive number"),
        ({"max_samples": 1}, r"max_samples=1: an entropy needs at least 2 samples"),
    ],
)
@pytest.mark.parametrize("kind", [MatrixRenyiEntropy, MatrixRenyiMutualInformation, MatrixRenyiTotalCorrelation])
def test_impossible_arguments_are_refused(kind: type[Metric], arguments: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        kind(**arguments)


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
        (MatrixRenyiEntropy(bandwidth=RULE), "bits"),
        (MatrixRenyiTotalCorrelation(bandwidth=RULE), "bits"),
        (MatrixRenyiTotalCorrelation(normalized=True, bandwidth=RULE), "normalised"),
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
    metric = MatrixRenyiMutualInformation(bandwidth=RULE)
    values = [metric(VECTORS[:12], CLASSES[:12]), metric(VECTORS[12:], CLASSES[12:])]
    _, axes = metric.plot(values, ax=given)
    assert axes is given
    assert given.lines[0].get_ydata() == pytest.approx([float(value) for value in values])


def test_a_collection_computes_each_of_them() -> None:
    collection = MetricCollection(
        {
            "shannon": MatrixRenyiEntropy(alpha=1, bandwidth=RULE),
            "collision": MatrixRenyiEntropy(alpha=2, bandwidth=RULE),
            "small": MatrixRenyiEntropy(bandwidth=RULE, max_samples=4),
            "correlation": MatrixRenyiTotalCorrelation(bandwidth=RULE),
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
    information = MatrixRenyiMutualInformation(alpha=ALPHA, bandwidth=RULE)
    information.update(VECTORS[parts], CLASSES[parts])
    reservoir = MatrixRenyiEntropy(alpha=2, bandwidth=Fixed(1e-3), max_samples=8)
    fill_rank = torch.arange(40.0).unsqueeze(1) + 100 * rank
    for part in fill_rank.split(10):
        reservoir.update(part)
    found = {"information": information.compute(), "entropy": reservoir.compute()}
    with reservoir.sync_context():
        found["kept"] = torch.tensor(kept(reservoir))
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
        self.information = MatrixRenyiMutualInformation(bandwidth=RULE)

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
