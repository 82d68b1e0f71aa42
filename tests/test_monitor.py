"""A probe through a network: whole or in pieces, through layers that put out all kinds of things."""

from pathlib import Path
from typing import Any

import pytest
import torch
from networks import TinyCNN, callback, fit, hooks_on, images, said, series
from torch import Tensor, nn

from lightning_infoplane import InformationPlane, Probe, select_layers
from lightning_infoplane.observe import measure, measure_checkpoints, observe


@pytest.fixture
def probe() -> Probe:
    return Probe(*images(33).tensors)


@pytest.mark.parametrize("size", [1, 8, 16, 32, 33, 1000])
def test_pieces_give_the_numbers_of_the_whole(probe: Probe, size: int) -> None:
    """33 samples in pieces of 8 or 16 or 32: the last one has a single sample."""
    model = TinyCNN()
    whole, pieces = measure(model, probe), measure(model, probe, batch_size=size)
    assert [row[:4] for row in pieces] == [row[:4] for row in whole]
    assert [row.value for row in pieces] == pytest.approx([row.value for row in whole], abs=1e-5)


def test_pieces_in_a_trainer(tmp_path: Path) -> None:
    whole, pieces = callback(), callback(probe_batch_size=7)
    fit(tmp_path, whole)
    fit(tmp_path, pieces)
    assert [v for *_, v in series(pieces)] == pytest.approx([v for *_, v in series(whole)], abs=1e-5)


class Odd(nn.Module):
    """Layers of every kind of output."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Linear(8, 6)
        self.rnn = nn.GRU(6, 5, batch_first=True)
        self.attend = nn.MultiheadAttention(6, 2, batch_first=True)
        self.twice = nn.Linear(6, 6)
        self.never = nn.Linear(2, 2)
        self.scalar = Scalar()
        self.index = Index()

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.embed(x.squeeze(1))
        self.rnn(tokens)
        self.attend(tokens, tokens, tokens)
        self.scalar(tokens)
        self.index(tokens)
        return self.twice(self.twice(tokens)).mean(1)


class Scalar(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.mean()


class Index(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.argmax(-1)


@pytest.mark.parametrize("size", [None, 10])
def test_tuples_tokens_and_repeated_calls_are_measured(probe: Probe, size: int | None) -> None:
    rows = measure(Odd(), probe, layers=["embed", "rnn", "attend", "twice"], batch_size=size)
    found = {row.layer: row.value for row in rows if row.quantity == "I_XT"}
    assert list(found) == ["embed", "rnn", "attend", "twice", "twice.call2"]
    assert all(value > 0.1 for value in found.values())


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        ("scalar", r"layer 'scalar' is left out: expected floats \(33, ...\) as its output, got \(\) of torch.float32"),
        ("index", r"layer 'index' is left out: .* got \(33, 8\) of torch.int64"),
        ("never", r"layer 'never' was not called in the probe's forward pass and is left out"),
    ],
)
def test_what_cannot_be_measured_is_left_out_and_named(probe: Probe, layer: str, message: str) -> None:
    with pytest.warns(UserWarning, match=message):
        rows = measure(Odd(), probe, layers=["embed", layer])
    assert {row.layer for row in rows if row.quantity == "I_XT"} == {"embed"}


def test_in_a_trainer_it_is_said_once(tmp_path: Path) -> None:
    class WithNever(TinyCNN):
        def build(self) -> None:
            super().build()
            self.never = nn.Conv2d(1, 1, 1)

    with said() as messages:
        fit(tmp_path, callback(), model=WithNever)
    assert messages == ["layer 'never' was not called in the probe's forward pass and is left out."]


def test_inputs_may_be_a_structure(probe: Probe) -> None:
    class Masked(TinyCNN):
        def forward(self, batch: Any) -> Tensor:
            assert len(batch["x"]) == len(batch["more"][0])
            return super().forward(batch["x"])

    torch.manual_seed(0)
    expected = measure(TinyCNN(), probe)
    torch.manual_seed(0)
    structure = Probe({"x": probe.inputs, "more": (torch.zeros(33), "words", torch.ones(2))}, probe.targets)
    found = measure(Masked(), structure, batch_size=10)
    assert [row.value for row in found] == pytest.approx([row.value for row in expected], abs=1e-5)


def test_activations_are_not_kept(probe: Probe) -> None:
    """In one piece a layer is reduced in its hook: of its activation nothing is left at the end."""
    import gc
    import weakref

    kept: list[weakref.ref[Tensor]] = []
    model = TinyCNN()
    model.conv1.register_forward_hook(lambda module, args, output: kept.append(weakref.ref(output)))
    plane = InformationPlane()
    measurement = observe(plane.start(probe.x, probe.targets), model, select_layers(model), probe)
    gc.collect()
    assert kept
    assert all(reference() is None for reference in kept)
    assert plane.finish(measurement)


def test_the_network_is_as_before_after_a_failure(probe: Probe) -> None:
    model = TinyCNN()
    model.head = nn.Linear(3, 3)
    with pytest.raises(RuntimeError, match="mat1 and mat2 shapes cannot be multiplied"):
        measure(model, probe)
    assert hooks_on(model) == 0
    assert model.training


def test_checkpoints_of_a_finished_run(tmp_path: Path) -> None:
    from lightning.pytorch.callbacks import ModelCheckpoint

    measured = callback(probe=images(32, seed=1).tensors)
    keeper = ModelCheckpoint(tmp_path / "kept", filename="{epoch}", save_top_k=-1, save_on_train_epoch_end=True)
    fit(tmp_path, measured, keeper)
    model = TinyCNN()
    before = [p.clone() for p in model.parameters()]
    rows = measure_checkpoints(sorted((tmp_path / "kept").glob("*.ckpt")), model, Probe(*images(32, seed=1).tensors))
    found = {(row.epoch, row.layer, row.quantity): row.value for row in rows}
    for row in measured.history:
        if row.epoch and (row.epoch, row.layer, row.quantity) in found:
            assert found[row.epoch, row.layer, row.quantity] == pytest.approx(row.value, abs=1e-9)
    assert {epoch for epoch, *_ in found} == {1, 2}
    assert all(torch.equal(p, q) for p, q in zip(model.parameters(), before, strict=True))


def test_a_file_that_is_no_checkpoint_of_this_model(tmp_path: Path, probe: Probe) -> None:
    torch.save({"state_dict": {"other": torch.zeros(1)}}, path := tmp_path / "other.ckpt")
    with pytest.raises(ValueError, match=r"other.ckpt is no checkpoint of TinyCNN"):
        measure_checkpoints([path], TinyCNN(), probe)
