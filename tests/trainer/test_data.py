"""The probe found in a Trainer's data, however people write their data and their batches."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning.pytorch as lp
import pytest
import torch
from lightning.pytorch.trainer.states import RunningStage
from networks import TinyCNN, TinyData, assert_same, callback, fit, images, loader, moments, series, trainer
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, IterableDataset

from lightning_infoplane import Draw, Probe
from lightning_infoplane.arguments.errors import NotMeasurableError
from lightning_infoplane.trainer.data import make_probes


@dataclass
class Batch:
    """A batch as a dataclass."""

    image: Tensor
    label: Tensor


class Shaped(Dataset[Any]):
    """The images, each sample in a shape of its own."""

    def __init__(self, shape: Callable[[Tensor, Tensor], Any], seed: int = 0) -> None:
        self.data, self.shape = images(seed=seed), shape

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, index: int) -> Any:
        return self.shape(*self.data[index])


def collate_dataclass(items: list[Any]) -> Batch:
    return Batch(torch.stack([x for x, _ in items]), torch.stack([y for _, y in items]))


class Unpacks(TinyCNN):
    """Knows the shapes of this page."""

    logs = False

    def plain(self, batch: Any) -> list[Tensor]:
        if isinstance(batch, Batch):
            return [batch.image, batch.label]
        if isinstance(batch, dict):
            inputs = batch.get("image", batch.get("inputs"))
            return [inputs["x"] if isinstance(inputs, dict) else inputs, batch["label"]]
        return batch[:2]

    def forward(self, x: Any) -> Tensor:
        return super().forward(x["x"] if isinstance(x, dict) else x)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        return super().training_step(self.plain(batch), batch_idx)

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        super().validation_step(self.plain(batch), batch_idx)


SHAPES: dict[str, tuple[Callable[..., Any], dict[str, Any]]] = {
    "tuple": (lambda x, y: (x, y), {}),
    "more than a pair": (lambda x, y: (x, y, "name"), {}),
    "dict": (lambda x, y: {"image": x, "label": y}, {}),
    "nested": (lambda x, y: {"inputs": {"x": x, "mask": torch.ones(3)}, "label": y, "meta": ("a", 1)}, {}),
    "dataclass": (lambda x, y: (x, y), {"collate_fn": collate_dataclass}),
}


@pytest.mark.parametrize("shape", SHAPES)
def test_batches_as_people_write_them_give_the_same_probe(tmp_path: Path, shape: str) -> None:
    one, options = SHAPES[shape]
    usual, measured = callback(), callback()
    fit(tmp_path, usual, model=Unpacks)
    fit(tmp_path, measured, model=Unpacks, train=loader(Shaped(one), **options), val=loader(Shaped(one, 1), **options))
    assert measured.history == usual.history


@pytest.mark.parametrize("wrap", [list, lambda pair: {"first": pair[0], "second": pair[1]}], ids=["list", "dict"])
@pytest.mark.parametrize("source", ["train", "val"])
def test_of_several_loaders_the_first_is_used(tmp_path: Path, source: str, wrap: Callable[[Any], Any]) -> None:
    class Several(TinyCNN):
        logs = False

        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            first = batch if isinstance(batch[0], Tensor) else batch[0]
            return super().training_step(first, batch_idx)

        def validation_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
            super().validation_step(batch, batch_idx)

    class First(Several):
        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            return TinyCNN.training_step(self, batch["first"] if isinstance(batch, dict) else batch[0], batch_idx)

    usual, measured = callback(probe=Draw(32, source)), callback(probe=Draw(32, source))
    fit(tmp_path, usual, model=Several)
    val = wrap([loader(images(seed=1)), loader(images(seed=2))])
    run = trainer(tmp_path, measured)
    torch.manual_seed(0)
    run.fit(First(), wrap([loader(), loader(images(seed=3))]), val)
    assert measured.history == usual.history


class Stream(IterableDataset[Any]):
    """Images without an end that is known."""

    def __init__(self, seed: int) -> None:
        self.data = images(seed=seed)

    def __iter__(self) -> Iterator[Any]:
        return iter([self.data[i] for i in range(64)])


def test_of_an_iterable_data_set_the_first_samples_are_the_probe(tmp_path: Path) -> None:
    streamed, given = callback(), callback(probe=Probe(*images(seed=1)[:32]))
    fit(tmp_path, streamed, train=loader(Stream(0)), val=loader(Stream(1)))
    fit(tmp_path, given)
    assert streamed.history == given.history


class Endless(IterableDataset[Any]):
    """Three samples only."""

    def __iter__(self) -> Iterator[Any]:
        return iter([images()[i] for i in range(3)])


def test_a_stream_too_short_for_the_probe_says_so(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"probe=32, but the data set has 3 samples. Pass probe=3 or fewer"):
        fit(tmp_path, callback(), val=loader(Endless()))


class Batches:
    """An iterable that is no loader."""

    def __init__(self) -> None:
        pictures, classes = images().tensors
        self.batches = [(pictures[i : i + 16], classes[i : i + 16]) for i in range(0, 64, 16)]

    def __iter__(self) -> Iterator[Any]:
        return iter(self.batches)


@pytest.mark.parametrize("ready", [Batches, lambda: DataLoader(Batches().batches, batch_size=None)])
def test_of_ready_made_batches_the_first_samples_are_taken_and_none_is_missing(
    tmp_path: Path, ready: Callable[[], Any]
) -> None:
    """From an iterator of a process of its own."""
    seen: list[Tensor] = []

    class Watching(TinyCNN):
        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            seen.append(batch[0])
            return super().training_step(batch, batch_idx)

    measured = callback(probe=Draw(24, "train"))
    fit(tmp_path, measured, model=Watching, train=ready(), max_epochs=1)
    assert torch.equal(torch.cat(seen), images().tensors[0])
    usual = callback(probe=Probe(*(part[:24] for part in images().tensors)))
    fit(tmp_path, usual, train=loader(), max_epochs=1)
    assert series(measured)[0] == series(usual)[0]


class Transferring(TinyData):
    """A data module with every transfer hook; each leaves its mark."""

    def on_before_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        return [batch[0] * 2, batch[1]]

    def transfer_batch_to_device(self, batch: Any, device: torch.device, dataloader_idx: int) -> Any:
        return super().transfer_batch_to_device([batch[0] + 1, batch[1]], device, dataloader_idx)

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        return [batch[0] * 3, batch[1]]


class Peek(lp.Callback):
    """Makes a probe when training begins, as the callback does, and keeps it; notes what the Trainer is doing."""

    def __init__(self, wanted: Draw | Probe, seed: int = 0) -> None:
        self.wanted, self.seed = wanted, seed
        self.probes: dict[str, Probe] = {}
        self.notices: list[str] = []

    def on_train_start(self, trainer: lp.Trainer, pl_module: lp.LightningModule) -> None:
        before = trainer.state.stage
        self.probes = make_probes(
            trainer, pl_module, self.wanted, self.seed, lambda about, message: self.notices.append(message)
        )
        assert before is trainer.state.stage is RunningStage.TRAINING


def peek(root: Path, wanted: Draw | Probe, seed: int = 0, data: lp.LightningDataModule | None = None) -> Probe:
    """The only probe of a run."""
    peeking = Peek(wanted, seed)
    trainer(root, peeking, max_epochs=1).fit(TinyCNN(), datamodule=data or TinyData())
    (probe,) = peeking.probes.values()
    return probe


@pytest.mark.parametrize("wanted", [Draw(64), Draw(64, "train"), Probe(*images().tensors)], ids=["val", "train", "own"])
def test_transfer_hooks_of_a_data_module_apply_once(tmp_path: Path, wanted: Draw | Probe) -> None:
    plain, hooked = peek(tmp_path, wanted), peek(tmp_path, wanted, data=Transferring())
    assert_same(hooked.inputs, (plain.inputs * 2 + 1) * 3)
    assert_same(hooked.targets, plain.targets)


def test_the_seed_decides_which_samples_are_drawn(tmp_path: Path) -> None:
    first, again, other = (peek(tmp_path, Draw(32), seed) for seed in (0, 0, 1))
    assert_same(again.inputs, first.inputs)
    assert not torch.equal(other.inputs, first.inputs)


def test_the_probe_is_stratified(tmp_path: Path) -> None:
    assert peek(tmp_path, Draw(32)).targets.bincount().tolist() == [8, 8, 8, 8]


def test_two_sources_give_two_probes_by_name(tmp_path: Path) -> None:
    peeking = Peek(Draw(64, ("train", "val")))
    fit(tmp_path, peeking, max_epochs=1)
    assert list(peeking.probes) == ["train", "val"]
    for name, seed in (("train", 0), ("val", 1)):
        assert_same(peeking.probes[name].inputs, images(seed=seed).tensors[0])


def test_validation_data_that_are_missing_are_told(tmp_path: Path) -> None:
    peeking = Peek(Draw(64))
    fit(tmp_path, peeking, max_epochs=1, limit_val_batches=0)
    assert peeking.notices == ["there is no validation data: the probe is drawn from the training data."]
    assert_same(peeking.probes[""].inputs, images().tensors[0])


def test_a_source_asked_for_by_name_is_told_nothing(tmp_path: Path) -> None:
    peeking = Peek(Draw(64, "train"))
    fit(tmp_path, peeking, max_epochs=1, limit_val_batches=0)
    assert peeking.notices == []


def test_train_and_validation_side_by_side(tmp_path: Path) -> None:
    both, train, val = callback(probe=Draw(32, ("train", "val"))), callback(probe=Draw(32, "train")), callback()
    done = fit(tmp_path, both)
    fit(tmp_path, train)
    fit(tmp_path, val)
    for source, alone in (("train", train), ("val", val)):
        assert [row for row in both.history if row.probe == source] == [
            row._replace(probe=source) for row in alone.history
        ]
        assert f"{source}/AMI_XT/conv1" in done.callback_metrics
        assert f"{source}/DPI_AMI_XT/conv1-to-conv2" in done.callback_metrics
        assert f"{source}/H_X" in done.callback_metrics


def test_both_without_validation_data_says_what_to_pass(tmp_path: Path) -> None:
    message = r"there is no 'val' data. Pass probe=Draw\(32, source='train'\)"
    with pytest.raises(ValueError, match=message):
        fit(tmp_path, callback(probe=Draw(32, ("train", "val"))), limit_val_batches=0)


class Keywords(TinyCNN):
    """A forward of keywords, as in other libraries."""

    def forward(self, *, pixels: Tensor) -> Tensor:
        return super().forward(pixels)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        return nn.functional.cross_entropy(self(pixels=batch[0]), batch[1])

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self(pixels=batch[0])


def by_keyword(network: nn.Module, inputs: Tensor) -> Tensor:
    return network(pixels=inputs)


def test_forward_fn_calls_a_network_of_keywords(tmp_path: Path) -> None:
    usual, measured = callback(), callback(forward_fn=by_keyword)
    fit(tmp_path, usual)
    fit(tmp_path, measured, model=Keywords)
    assert series(measured)[0] == series(usual)[0]


class NoForward(TinyCNN):
    """A module that only has steps."""

    forward = lp.LightningModule.forward

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        return nn.functional.cross_entropy(TinyCNN.forward(self, batch[0]), batch[1])

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        pass


@pytest.mark.parametrize(
    ("model", "call"), [(Keywords, r"module\(pixels=inputs\)\."), (NoForward, r"module\(\.\.\.\), with the call that")]
)
def test_a_network_that_is_called_otherwise_is_told_of_forward_fn(
    tmp_path: Path, model: type[TinyCNN], call: str
) -> None:
    with pytest.raises(NotMeasurableError, match=rf"Pass forward_fn=lambda module, inputs: {call}"):
        fit(tmp_path, callback(), model=model)


def test_a_module_without_forward_can_be_measured_by_forward_fn(tmp_path: Path) -> None:
    measured = callback(forward_fn=TinyCNN.forward)
    fit(tmp_path, measured, model=NoForward)
    assert len(moments(measured)) == 3


def test_validation_data_come_as_in_validation(tmp_path: Path) -> None:
    """Hooks often augment when ``trainer.training``; a probe from validation data is none of that."""

    class Augmenting(TinyCNN):
        def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
            x, y = batch
            return (0 * x if self.trainer.training else x), y

    done = fit(tmp_path, measured := callback(), model=Augmenting, max_epochs=1)
    h_x = [row.value for row in measured.history if row.quantity == "H_X"]
    assert min(h_x) > 0.5
    assert done.state.finished


class Staged(TinyCNN):
    """Notes in which stage batches come over; fails there if told to."""

    fails = False

    def __init__(self) -> None:
        super().__init__()
        self.stages: list[RunningStage | None] = []

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        self.stages.append(self.trainer.state.stage)
        if self.fails and self.trainer.state.stage is RunningStage.VALIDATING:
            raise OSError("no batch today")
        return batch


@pytest.mark.parametrize(
    ("source", "stage"), [("val", RunningStage.VALIDATING), ("train", RunningStage.TRAINING)], ids=["val", "train"]
)
def test_a_batch_comes_over_in_the_stage_of_its_source(tmp_path: Path, source: Any, stage: RunningStage) -> None:
    """Peek asserts that the Trainer is training again afterwards."""
    model = Staged()
    fit(tmp_path, Peek(Draw(32, source)), model=model, max_epochs=1, num_sanity_val_steps=0)
    assert model.stages[0] is stage
    assert model.stages[1:] == [RunningStage.TRAINING] * 4 + [RunningStage.VALIDATING] * 4


def test_the_stage_is_restored_after_a_failure_too(tmp_path: Path) -> None:
    found: list[RunningStage | None] = []

    class Careful(Peek):
        def on_train_start(self, trainer: lp.Trainer, pl_module: lp.LightningModule) -> None:
            with pytest.raises(OSError, match="no batch today"):
                super().on_train_start(trainer, pl_module)
            found.append(trainer.state.stage)

    model = Staged()
    model.fails = True
    fit(tmp_path, Careful(Draw(32)), model=model, max_epochs=1, limit_val_batches=1, check_val_every_n_epoch=2)
    assert found == [RunningStage.TRAINING]


def test_validation_that_has_yet_to_be_set_up_is_set_up_in_its_own_stage(tmp_path: Path) -> None:
    stages: list[RunningStage | None] = []

    class Data(TinyData):
        def val_dataloader(self) -> DataLoader[Any]:
            stages.append(self.trainer.state.stage)
            return super().val_dataloader()

    run = trainer(tmp_path, Peek(Draw(32)), max_epochs=1, num_sanity_val_steps=0)
    run.fit(TinyCNN(), datamodule=Data())
    assert stages == [RunningStage.VALIDATING]
