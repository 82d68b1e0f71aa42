"""One moment, measured for a test; Gram matrices of it; and processes as threads."""

import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from properties import normal
from torch import Tensor

from lightning_infoplane import Estimator, InformationPlane, Row, gram
from lightning_infoplane.arguments.errors import SetupError
from lightning_infoplane.estimator.solvers import Estimate
from lightning_infoplane.measurement.division import Part, divide
from lightning_infoplane.measurement.entropies import Sides
from lightning_infoplane.measurement.listener import Listener
from lightning_infoplane.measurement.ranks import Ranks
from lightning_infoplane.measurement.rows import Pair, Place

Table = dict[tuple[Place, str], float]

LABELS = torch.arange(24) % 3
THREE = {name: normal(24, 2, seed=k) for k, name in enumerate("abc")}


def table(rows: Sequence[Row]) -> Table:
    """Values by place and quantity; no quantity twice."""
    found = {(row.place, row.quantity): row.value for row in rows}
    assert len(found) == len(rows)
    return found


def refuse(about: str, message: str) -> None:
    """A measurement that says anything where nothing was expected has failed."""
    raise AssertionError(message)


def measure(
    inputs: Tensor,
    targets: Tensor | None,
    layers: Mapping[str, Tensor],
    pairs: Sequence[tuple[str, str]] | None = None,
    told: list[str] | None = None,
    **fields: Any,
) -> Table:
    """The values of one measurement with an ``Estimator(**fields)``; what it says goes to ``told``, or is an error."""
    notice = refuse if told is None else lambda about, message: told.append(message)
    plane = InformationPlane(Estimator(**fields))
    measurement = plane.start(inputs, targets, pairs=pairs, listener=Listener(notice))
    for name, activation in layers.items():
        measurement.add(name, activation)
    return table(plane.finish(measurement))


def measured(layers: Mapping[str, Tensor], pairs: list[tuple[str, str]] | None = None, **options: Any) -> Table:
    """The same without a chance level, of inputs and classes that have nothing to do with the layers."""
    n = len(next(iter(layers.values())))
    return measure(normal(n, 3), torch.arange(n) % 3, layers, pairs, **{"shuffles": 0} | options)


def gaps(found: Table, quantity: str = "DPI_XT") -> dict[Place, float]:
    """One quantity, by place."""
    return {place: value for (place, name), value in found.items() if name == quantity}


def between(*names: str) -> list[Pair]:
    """``between("ab", "bc")``: pairs of layers with names of one letter."""
    return [Pair(*name) for name in names]


def estimate(bits: float | list[float], stderr: float | list[float] = 0.0) -> Estimate:
    """A made-up number of a Gram matrix; one error for all of them, or one each."""
    value = torch.tensor(bits, dtype=torch.float64)
    return Estimate(value, torch.tensor(stderr, dtype=torch.float64).expand_as(value).clone())


class Moment(NamedTuple):
    """Layers beside X and Y."""

    sides: Sides
    layers: dict[str, Tensor]


def moment(n: int = 24, layers: int = 5, labels: bool = True, seed: int = 0) -> Moment:
    """Unrelated Gram matrices."""
    names = [f"layer{k}" for k in range(layers)]
    target = None if labels else gram(normal(n, 1, seed=seed + 100))
    sides = Sides(gram(normal(n, 3, seed=seed + 50)), LABELS[:n] if labels else None, target)
    return Moment(sides, {name: gram(normal(n, 3, seed=seed + k)) for k, name in enumerate(names)})


def whole(n: int = 24, shuffles: int = 2, seed: int = 0) -> Part:
    """Every sample, with so many shuffles."""
    return divide(n, None, Estimator(shuffles=shuffles, standard_errors=None, seed=seed)).whole


class World:
    """Processes as threads: each gets rank 0's tensors and everybody's sums."""

    def __init__(self, size: int) -> None:
        self._barrier, self._size = threading.Barrier(size, timeout=20), size
        self._slots: list[Any] = [None] * size

    def exchange(self, rank: int, mine: Any, combine: Callable[[list[Any]], Any]) -> Any:
        """What the combination of everybody's parts is."""
        self._slots[rank] = mine
        self._barrier.wait()
        combined = combine(list(self._slots))
        self._barrier.wait()
        return combined

    def ranks(self, rank: int) -> Ranks:
        """One of the processes, as the package sees it."""

        def first(tensor: Tensor) -> Tensor:
            found: Tensor = self.exchange(rank, tensor, lambda slots: slots[0].clone())
            return found

        def objects(one: Any) -> list[Any]:
            found: list[Any] = self.exchange(rank, one, list)
            return found

        def total(tensor: Tensor) -> Tensor:
            found: Tensor = self.exchange(rank, tensor, lambda slots: torch.stack(slots).sum(0))
            return found

        return Ranks(rank, self._size, first, objects, total)


def on_all_ranks(size: int, work: Callable[[int, Ranks], Any], world: World | None = None) -> list[Any]:
    """What ``work`` returns, or raises, on each."""
    world, results = world or World(size), [None] * size

    def run(rank: int) -> None:
        try:
            results[rank] = work(rank, world.ranks(rank))
        except (RuntimeError, SetupError) as error:
            results[rank] = error  # type: ignore[call-overload]

    threads = [threading.Thread(target=run, args=(rank,), name=str(rank)) for rank in range(size)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results
