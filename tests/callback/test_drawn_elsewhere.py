"""The probe is drawn in another process: data sets that hold a state train as without us."""

import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from networks import TinyCNN, assert_same, callback, fit, images, loader, said
from torch import Tensor
from torch.utils.data import ConcatDataset, Dataset, IterableDataset, Subset

from lightning_infoplane import Draw
from lightning_infoplane.trainer import data, worker

Sample = tuple[Tensor, Tensor]


class Held(Dataset[Sample]):
    """Samples with something of the data set's own in them."""

    def __init__(self) -> None:
        self.reads = 0
        self.generator = torch.Generator().manual_seed(1)
        self.numpy = np.random.default_rng(2)
        self.old_numpy = np.random.RandomState(3)
        self.python = random.Random(4)
        self.cache: dict[int, Sample] = {}
        self.last: list[int] = []

    def __len__(self) -> int:
        return 64

    def __getitem__(self, index: int) -> Sample:
        x, y = images()[index]
        return x + self.noise(index, x), y

    def noise(self, index: int, x: Tensor) -> Tensor:
        """Whatever depends on what was read before."""
        raise NotImplementedError


class Counting(Held):
    def noise(self, index: int, x: Tensor) -> Tensor:
        self.reads += 1
        return torch.full_like(x, self.reads / 100)


class OwnGenerator(Held):
    def noise(self, index: int, x: Tensor) -> Tensor:
        return torch.randn(x.shape, generator=self.generator)


class OwnNumpy(Held):
    def noise(self, index: int, x: Tensor) -> Tensor:
        return torch.from_numpy(self.numpy.normal(size=tuple(x.shape))).float()


class OwnRandomState(Held):
    def noise(self, index: int, x: Tensor) -> Tensor:
        return torch.from_numpy(self.old_numpy.normal(size=tuple(x.shape))).float()


class OwnRandom(Held):
    def noise(self, index: int, x: Tensor) -> Tensor:
        return torch.full_like(x, self.python.random())


class Caching(Held):
    """The first noise of a sample is kept."""

    def noise(self, index: int, x: Tensor) -> Tensor:
        if index not in self.cache:
            self.cache[index] = (torch.randn(x.shape, generator=self.generator), x)
        return self.cache[index][0]


class Remembering(Held):
    """What comes next depends on what came before."""

    def noise(self, index: int, x: Tensor) -> Tensor:
        self.last.append(index)
        return torch.full_like(x, sum(self.last[-3:]) / 100)


class GlobalNoise(Held):
    def noise(self, index: int, x: Tensor) -> Tensor:
        scale = float(np.random.rand()) + random.random()
        return scale * torch.randn(x.shape)


class Randomizable(Held):
    """A transform with a state of its own, of which a call draws the parameters: as medical imaging has them."""

    class Transform:
        def __init__(self) -> None:
            self.R = np.random.RandomState(7)
            self.factor = 0.0

        def __call__(self, x: Tensor) -> Tensor:
            self.factor = self.R.uniform()
            return x * self.factor

    def __init__(self) -> None:
        super().__init__()
        self.transform = self.Transform()

    def noise(self, index: int, x: Tensor) -> Tensor:
        return self.transform(x)


class Growing(Held):
    """A mixing buffer of the samples seen."""

    def __init__(self) -> None:
        super().__init__()
        self.buffer: list[Tensor] = []

    def noise(self, index: int, x: Tensor) -> Tensor:
        self.buffer.append(x)
        return 0.1 * self.buffer[len(self.buffer) // 2]


class Exhausting(Held):
    """Every index gives another augmentation each time, until there is none left."""

    def __init__(self) -> None:
        super().__init__()
        self.noises = iter(torch.randn(10_000, 1, generator=self.generator))

    def noise(self, index: int, x: Tensor) -> Tensor:
        return torch.full_like(x, float(next(self.noises)))


class Stream(IterableDataset[Sample]):
    """Samples from an iterator of its own, once."""

    def __init__(self) -> None:
        self.source = iter([images(seed=k)[i] for k in range(8) for i in range(64)])

    def __iter__(self) -> Iterator[Sample]:
        return (next(self.source) for _ in range(64))


class CountingStream(IterableDataset[Sample]):
    """Each pass is another one."""

    def __init__(self) -> None:
        self.passes = 0

    def __iter__(self) -> Iterator[Sample]:
        self.passes += 1
        return iter([images(seed=self.passes)[i] for i in range(64)])


WITH_STATE: list[Callable[[], Dataset[Any]]] = [
    *(Counting, OwnGenerator, OwnNumpy, OwnRandomState, OwnRandom, Caching, Remembering, GlobalNoise, Randomizable),
    *(Growing, Exhausting, Stream, CountingStream),
    lambda: Subset(OwnGenerator(), range(4, 60)),
    lambda: ConcatDataset([Counting(), OwnRandom()]),
]
each = pytest.mark.parametrize("make", WITH_STATE, ids=lambda make: getattr(make, "__name__", "a part or a sum"))


@each
@pytest.mark.parametrize("source", ["train", "val", "shared"])
def test_a_run_is_the_one_without_the_callback(tmp_path: Path, make: Callable[[], Dataset[Any]], source: str) -> None:
    def run(*guests: Any) -> tuple[TinyCNN, Any]:
        torch.manual_seed(5)
        np.random.seed(5)
        random.seed(5)
        trained = loader(make())
        validated = {"train": loader(images(seed=1)), "val": loader(make()), "shared": trained}[source]
        network = TinyCNN()
        fit(tmp_path, *guests, model=network, train=trained, val=validated)
        return network, (torch.rand(1).item(), np.random.rand(), random.random())

    measured = callback(probe=Draw(32, "train" if source == "train" else "val"))
    network, after = run(measured)
    alone, expected = run()
    assert_same(network.state_dict(), alone.state_dict())
    assert after == expected
    assert len(measured.history) > 0


def test_where_it_cannot_be_drawn_elsewhere_that_is_said_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker.multiprocessing, "get_all_start_methods", lambda: ["spawn"])
    with said() as messages:
        fit(
            tmp_path,
            measured := callback(probe=Draw(32, ("train", "val"))),
            train=loader(Counting()),
            val=loader(Counting()),
        )
    assert len(messages) == 1
    assert messages[0].startswith("the probe could not be drawn in another process (NotForkedError: this system has no")
    assert "a data set that counts its reads, or has a generator of its own, has been moved on" in messages[0]
    assert {row.probe for row in measured.history} == {"train", "val"}


def test_tensors_are_read_where_they_are(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """They hold no state, and a process costs time."""

    def never(work: Callable[[], Any]) -> None:
        raise AssertionError("forked")

    monkeypatch.setattr(data, "in_a_fork", never)
    with said() as messages:
        fit(tmp_path, callback(), val=loader(Subset(ConcatDataset([images(), images(seed=2)]), range(100))))
    assert messages == []


def test_both_ways_draw_the_same_probe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fit(tmp_path, forked := callback(), val=loader(GlobalNoise()))
    monkeypatch.setattr(worker.multiprocessing, "get_all_start_methods", lambda: ["spawn"])
    with said():
        fit(tmp_path, here := callback(), val=loader(GlobalNoise()))
    assert forked.state_dict()["probes"] == here.state_dict()["probes"]
