"""Networks that keep state of every kind: a run with the callback leaves it, bit for bit, what it is without."""

import copy
import itertools
import random
import warnings
from array import array
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import lightning.pytorch as lp
import numpy as np
import pytest
import torch
from networks import Steps, assert_same, callback, fit, hooks_on, images, moments, said
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook
from torch.nn.utils import parametrizations, parametrize, prune
from torch.nn.utils import spectral_norm as old_spectral_norm
from torch.nn.utils import weight_norm as old_weight_norm
from torchmetrics import Accuracy, MeanMetric, MetricCollection
from torchmetrics.aggregation import CatMetric

from lightning_infoplane import Monitor, Probe

WIDTH = 8


class Host(Steps, lp.LightningModule):
    """A convolution, the part in question, a head."""

    logs = False

    def __init__(self, make: Callable[[], nn.Module]) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 2, 4, stride=4)
        self.part = make()
        self.head = nn.Linear(WIDTH, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.part(self.conv1(x).relu().flatten(1)))


class Part(nn.Module):
    """A linear layer, and whatever comes beside it in ``see``."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(WIDTH, WIDTH)
        self.start()

    def start(self) -> None:
        pass

    def see(self, x: Tensor) -> Tensor | None:
        return None

    def forward(self, x: Tensor) -> Tensor:
        seen = self.see(x)
        return self.layer(x if seen is None else seen)


# --------------------------------------------------------------------------------------------------- plain attributes


class CountsCalls(Part):
    def start(self) -> None:
        self.calls, self.last, self.name = 0, None, "none"

    def see(self, x: Tensor) -> None:
        self.calls += 1
        self.last = float(x.detach().sum())
        self.name = f"call {self.calls}"


class ActsOnItsCounter(CountsCalls):
    """A schedule that counts calls: a disturbed counter shows in the weights."""

    def see(self, x: Tensor) -> Tensor:
        super().see(x)
        return x * (1 + self.calls)


class AddsAttributes(Part):
    def see(self, x: Tensor) -> None:
        number = sum(name.startswith("seen_") for name in vars(self))
        setattr(self, f"seen_{number}", x.mean().detach())


class DeletesAttributes(Part):
    def start(self) -> None:
        for number in range(40):
            setattr(self, f"left_{number}", number)

    def see(self, x: Tensor) -> None:
        delattr(self, next(name for name in vars(self) if name.startswith("left_")))


class BuildsLate(Part):
    """A submodule that is made in the first call, another list of them that grows."""

    def start(self) -> None:
        self.more = nn.ModuleList()

    def see(self, x: Tensor) -> Tensor:
        if not hasattr(self, "late"):
            self.late = nn.Linear(WIDTH, WIDTH)
        self.more.append(nn.Identity())
        return self.late(x)


class FreezesItself(Part):
    def see(self, x: Tensor) -> None:
        self.layer.bias.requires_grad_(not self.layer.bias.requires_grad)


class SwitchesModes(Part):
    """Puts itself back into train mode, whatever it is told."""

    def start(self) -> None:
        self.drop = nn.Dropout(0.5)

    def see(self, x: Tensor) -> Tensor:
        self.drop.train()
        return self.drop(x)


class CountsInItsClass(Part):
    """State that all objects of a class share."""

    total = 0
    sizes: ClassVar[list[int]] = []

    def start(self) -> None:
        type(self).total = 0
        self.sizes.clear()

    def see(self, x: Tensor) -> Tensor:
        type(self).total += 1
        self.sizes.append(len(x))
        return x * (self.total + len(self.sizes))


# --------------------------------------------------------------------------------------------------------- containers


class GrowsList(Part):
    def start(self) -> None:
        self.seen: list[Tensor] = []

    def see(self, x: Tensor) -> None:
        self.seen.append(x.mean().detach())


class EditsList(Part):
    def start(self) -> None:
        self.seen = [0, 1, 2]

    def see(self, x: Tensor) -> None:
        self.seen.insert(0, self.seen.pop() + 1)


class CachesInDict(Part):
    def start(self) -> None:
        self.cache: dict[Any, Tensor] = {}

    def see(self, x: Tensor) -> None:
        self.cache[tuple(x.shape)] = x.mean().detach()
        self.cache[float(x.detach().sum())] = x.detach()


class FillsDictsOfAllKinds(Part):
    def start(self) -> None:
        self.ordered: OrderedDict[str, int] = OrderedDict(a=1, b=2)
        self.counter: Counter[str] = Counter()
        self.lists: defaultdict[str, list[int]] = defaultdict(list)

    def see(self, x: Tensor) -> None:
        self.ordered.move_to_end("a")
        self.ordered["b"] += 1
        self.ordered[str(len(self.ordered))] = 0
        self.counter.update(["call", f"with {len(x)}"])
        self.lists["all"].append(len(x))


class GrowsSet(Part):
    def start(self) -> None:
        self.seen: set[float] = set()

    def see(self, x: Tensor) -> None:
        self.seen.add(float(x.detach().sum()))


class GrowsDeque(Part):
    def start(self) -> None:
        self.seen: deque[Tensor] = deque(maxlen=3)

    def see(self, x: Tensor) -> None:
        self.seen.append(x.mean().detach())


class Nests(Part):
    def start(self) -> None:
        self.tree: dict[str, Any] = {"a": [{"b": deque([1])}], "t": (torch.zeros(2), [])}

    def see(self, x: Tensor) -> None:
        self.tree["a"][0]["b"].append(len(x))
        self.tree["a"].append({"c": {1}})
        self.tree["t"][0].add_(1)
        self.tree["t"][1].append(self.tree)  # a circle


class FillsArrays(Part):
    def start(self) -> None:
        self.bytes, self.numbers, self.histogram = bytearray(b"0"), array("d", [0.0]), np.zeros(3)

    def see(self, x: Tensor) -> None:
        self.bytes.extend(b"1")
        self.numbers[0] += float(x.detach().sum())
        self.histogram[0] += 1


class Iterates(Part):
    def start(self) -> None:
        self.ids, self.turns, self.steps = itertools.count(), itertools.cycle([0.5, 1.0, 2.0]), [iter(range(1000))]

    def see(self, x: Tensor) -> Tensor:
        return x * next(self.turns) + next(self.ids) + next(self.steps[0])


# ------------------------------------------------------------------------------------------------------------ tensors


class KeepsHidden(Part):
    """Hidden state from call to call."""

    hidden: Tensor | None = None

    def see(self, x: Tensor) -> Tensor:
        before = torch.zeros(WIDTH) if self.hidden is None else self.hidden
        self.hidden = (0.9 * before + x.mean(0)).detach()
        return x + self.hidden


class ChangesTensorInPlace(Part):
    def start(self) -> None:
        self.mean = torch.zeros(WIDTH)

    def see(self, x: Tensor) -> Tensor:
        self.mean.mul_(0.9).add_(x.detach().mean(0))
        return x - self.mean


class KeepsGraph(Part):
    """State with a graph, changed through .data."""

    def start(self) -> None:
        self.scale = torch.ones(1, requires_grad=True) * 2

    def see(self, x: Tensor) -> Tensor:
        self.scale.data.mul_(0.99)
        return x * self.scale.detach()


class Swaps(Part):
    """Another memory for the same tensor, and tensors that are no plain numbers beside it."""

    def start(self) -> None:
        self.table = torch.zeros(2)
        self.register_buffer("row", torch.zeros(1, 1).expand(3, 4))
        self.sparse, self.meta = torch.eye(2).to_sparse(), torch.ones(2, device="meta")

    def see(self, x: Tensor) -> Tensor:
        self.table.data = torch.cat([self.table, x.detach().mean().reshape(1)])
        self.row[0, 0].add_(1)
        return x + self.table.sum() + self.row[2, 3]


class ClampsParameters(Part):
    def see(self, x: Tensor) -> None:
        self.layer.weight.data.clamp_(-0.2, 0.2).mul_(0.9)


class ReplacesData(Part):
    def see(self, x: Tensor) -> None:
        self.layer.weight.data = self.layer.weight.data * 0.9


class FollowsInForward(Part):
    """An average of the weights, registered, and another one out of sight."""

    def start(self) -> None:
        self.teacher = copy.deepcopy(self.layer).requires_grad_(False)
        self.hidden = [copy.deepcopy(self.layer).requires_grad_(False)]
        self.teacher.weight.zero_()

    def see(self, x: Tensor) -> Tensor:
        for teacher in (self.teacher, self.hidden[0]):
            for slow, fast in zip(teacher.parameters(), self.layer.parameters(), strict=True):
                slow.data.lerp_(fast.detach(), 0.1)
        return x + self.teacher(x).detach()


class StartsFromData(Part):
    def start(self) -> None:
        self.scale, self.started = nn.Parameter(torch.ones(WIDTH)), False

    def see(self, x: Tensor) -> Tensor:
        if not self.started:
            self.scale.data.copy_(1 / (x.detach().std(0) + 0.1))
            self.started = True
        return x * self.scale


class ReplacesParameter(StartsFromData):
    def see(self, x: Tensor) -> Tensor:
        if not self.started:
            self.scale = nn.Parameter(1 / (x.detach().std(0) + 0.1))
            self.started = True
        return x * self.scale


class GradientsInForward(Part):
    """A backward pass of its own, into the gradients of the parameters."""

    def see(self, x: Tensor) -> None:
        with torch.enable_grad():
            self.layer(x.detach()).square().mean().backward()


# --------------------------------------------------------------------------------------------------------- generators


class DrawsFromTorch(Part):
    def start(self) -> None:
        self.generator = torch.Generator().manual_seed(1)

    def see(self, x: Tensor) -> Tensor:
        return x * torch.rand(WIDTH, generator=self.generator)


class DrawsFromPython(Part):
    def start(self) -> None:
        self.random = random.Random(1)

    def see(self, x: Tensor) -> Tensor:
        return x * self.random.gauss(1, 0.1)


class DrawsFromNumpy(Part):
    def start(self) -> None:
        self.generator = np.random.default_rng(1)

    def see(self, x: Tensor) -> Tensor:
        return x * float(self.generator.random())


class DrawsFromRandomState(Part):
    def start(self) -> None:
        self.state = np.random.RandomState(1)
        self.bits = np.random.PCG64(1)

    def see(self, x: Tensor) -> Tensor:
        self.bits.random_raw()
        return x * float(self.state.normal())


class DrawsFromEverything(Part):
    """The global generators."""

    def see(self, x: Tensor) -> Tensor:
        return x * (torch.rand(1) + random.random() + float(np.random.rand()))


# ------------------------------------------------------------------------------------------------------------- helpers


class Average:
    """A helper such as everybody writes."""

    def __init__(self, owner: nn.Module) -> None:
        self.total, self.count, self.history, self.owner = 0.0, 0, deque(maxlen=2), [owner]

    def update(self, value: float) -> None:
        self.total += value
        self.count += 1
        self.history.append(value)


@dataclass(slots=True)
class Slotted:
    count: int = 0
    values: list[float] = field(default_factory=list)


class AsksHelpers(Part):
    def start(self) -> None:
        self.average, self.slotted, self.space = Average(self), Slotted(), SimpleNamespace(calls=0)

    def see(self, x: Tensor) -> None:
        self.average.update(float(x.detach().mean()))
        self.slotted.count += 1
        self.slotted.values.append(float(x.detach().mean()))
        self.space.calls += 1
        self.space.last = len(x)


class UpdatesMetrics(Part):
    def start(self) -> None:
        self.mean, self.values = MeanMetric(), CatMetric()
        self.both = MetricCollection([Accuracy("multiclass", num_classes=4)])

    def see(self, x: Tensor) -> None:
        self.mean.update(x.detach().mean())
        self.values.update(x.detach().mean())
        self.both(x[:, :4].detach().softmax(1), torch.arange(len(x)) % 4)
        self.mean.compute()


# --------------------------------------------------------------------------------------------------------------- hooks


class CountsInHook(Part):
    """Hooks of every kind that count their calls outside of the network."""

    def start(self) -> None:
        self.outside = External()
        self.layer.register_forward_hook(self.outside.note("after"))
        self.layer.register_forward_hook(self.outside.note("always"), always_call=True)
        self.layer.register_forward_hook(self.outside.note("first"), prepend=True)


class CountsBefore(Part):
    def start(self) -> None:
        self.outside = External()
        self.layer.register_forward_pre_hook(self.outside.note("before"))
        self.layer.register_forward_pre_hook(self.outside.note("with kwargs"), with_kwargs=True)
        self.layer.register_forward_hook(self.outside.note("with kwargs"), with_kwargs=True)


class CountsBackward(Part):
    def start(self) -> None:
        self.outside = External()
        self.layer.register_full_backward_hook(self.outside.note("backward"))
        self.layer.register_full_backward_pre_hook(self.outside.note("before backward"))


class ReadsItsHook(Part):
    """A network that cannot do without a hook of its own."""

    def start(self) -> None:
        self.layer.register_forward_hook(self.keep)
        self.kept: list[Tensor] = []

    def keep(self, module: nn.Module, args: Any, output: Tensor) -> None:
        self.kept.append(output)

    def forward(self, x: Tensor) -> Tensor:
        self.layer(x)
        return self.kept.pop()


OUTSIDE: list[str] = []


class External:
    """Notes calls where no network holds them."""

    def note(self, what: str) -> Callable[..., None]:
        return lambda *call: OUTSIDE.append(what)


@contextmanager
def global_hooks() -> Iterator[None]:
    handles = [
        register_module_forward_hook(External().note("global")),
        register_module_forward_pre_hook(External().note("global, before")),
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


class Standardizes(Part):
    """Weight standardization by a hook of one's own; without it the weight is what it was once."""

    def start(self) -> None:
        weight = self.layer.weight
        del self.layer._parameters["weight"]
        self.layer.register_parameter("weight_orig", weight)
        self.layer.register_forward_pre_hook(standardize)


def standardize(module: Any, args: Any) -> None:
    weight = module.weight_orig
    module.weight = (weight - weight.mean(1, keepdim=True)) / weight.std(1, keepdim=True)


def hooked(wrap: Callable[[nn.Linear], nn.Module]) -> Callable[[], nn.Module]:
    return lambda: nn.Sequential(wrap(nn.Linear(WIDTH, WIDTH)), nn.Tanh())


def pruned(layer: nn.Linear) -> nn.Linear:
    return prune.l1_unstructured(layer, "weight", 0.5)


@contextmanager
def silent(message: str) -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=message)
        yield


def weight_normed(layer: nn.Linear) -> nn.Module:
    with silent(".*weight_norm.* is deprecated"):
        return old_weight_norm(layer)


def spectral_normed(layer: nn.Linear) -> nn.Module:
    return old_spectral_norm(layer)


class Doubles(nn.Module):
    """A parametrization that counts."""

    calls = 0

    def forward(self, weight: Tensor) -> Tensor:
        self.calls += 1
        return 2 * weight


def doubled(layer: nn.Linear) -> nn.Module:
    return parametrize.register_parametrization(layer, "weight", Doubles())


# ---------------------------------------------------------------------------------------------------- layers of torch


class Scripted(nn.Module):
    """Buffers, numbers and lists, all of them changed in compiled code."""

    count: int
    seen: list[Tensor]

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("total", torch.zeros(()))
        self.register_buffer("calls", torch.zeros(()))
        self.count, self.seen = 0, []
        self.layer = nn.Linear(WIDTH, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        self.total = self.total + x.sum()
        self.calls += 1
        self.count += 1
        self.seen.append(x.sum())
        return self.layer(x) * self.count


JIT = "(?s).*torch.jit.* is (deprecated|not supported)|Converting a tensor to a Python boolean"


def scripted() -> nn.Module:
    with silent(JIT):
        return torch.jit.script(Scripted())


def traced() -> nn.Module:
    net = nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.BatchNorm1d(WIDTH))
    with silent(JIT):
        return torch.jit.trace(net, torch.randn(4, WIDTH), check_trace=False)


class Encodes(Part):
    """Attention with a padding mask: in eval mode the fast path makes nested tensors of it."""

    def start(self) -> None:
        layer = nn.TransformerEncoderLayer(4, 2, 8, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2)

    def see(self, x: Tensor) -> Tensor:
        padding = torch.tensor([[False, True]]).expand(len(x), -1)
        return self.encoder(x.view(-1, 2, 4), src_key_padding_mask=padding).flatten(1)


class Attends(Part):
    def start(self) -> None:
        self.attention = nn.MultiheadAttention(4, 2, batch_first=True)

    def see(self, x: Tensor) -> Tensor:
        tokens = x.view(-1, 2, 4)
        return self.attention(tokens, tokens, tokens)[0].flatten(1)


class KeepsRecurrentState(Part):
    """The state of the last batch is where the next one begins."""

    kind: type[nn.RNNBase] = nn.LSTM
    state: Any = None

    def start(self) -> None:
        self.cell = self.kind(4, 4, batch_first=True)

    def see(self, x: Tensor) -> Tensor:
        out, state = self.cell(x.view(1, -1, 4), self.state)
        self.state = tuple(part.detach() for part in state) if isinstance(state, tuple) else state.detach()
        return out.reshape(-1, WIDTH)


class KeepsGRUState(KeepsRecurrentState):
    kind = nn.GRU


class Ties(Part):
    def start(self) -> None:
        self.other = nn.Linear(WIDTH, WIDTH)
        self.other.weight = self.layer.weight

    def see(self, x: Tensor) -> Tensor:
        self.other.weight.data.mul_(0.99)
        return self.other(x)


class FailsOnProbe(CountsCalls):
    """Changes all it can, and fails, when it meets the probe: the only batch of 32."""

    def see(self, x: Tensor) -> None:
        super().see(x)
        self.layer.weight.data.mul_(1.1)
        if len(x) == 32:
            raise RuntimeError("the probe is too large")


LAYERS: dict[str, Callable[[], nn.Module]] = {
    "batch norm without momentum": lambda: nn.BatchNorm1d(WIDTH, momentum=None),
    "lazy layer": lambda: nn.Sequential(nn.LazyLinear(WIDTH), nn.LazyBatchNorm1d()),
    "lazy convolution": lambda: nn.Sequential(nn.Unflatten(1, (2, 4)), nn.LazyConv1d(2, 1), nn.Flatten()),
    "old weight norm": hooked(weight_normed),
    "weight norm": hooked(parametrizations.weight_norm),
    "old spectral norm": hooked(spectral_normed),
    "spectral norm": hooked(parametrizations.spectral_norm),
    "orthogonal": hooked(parametrizations.orthogonal),
    "counting parametrization": hooked(doubled),
    "pruned": hooked(pruned),
    "scripted": scripted,
    "traced": traced,
}
PARTS: list[type[Part]] = [
    *(CountsCalls, ActsOnItsCounter, AddsAttributes, DeletesAttributes, BuildsLate, FreezesItself, SwitchesModes),
    CountsInItsClass,
    *(GrowsList, EditsList, CachesInDict, FillsDictsOfAllKinds, GrowsSet, GrowsDeque, Nests, FillsArrays, Iterates),
    *(KeepsHidden, ChangesTensorInPlace, KeepsGraph, Swaps, ClampsParameters, ReplacesData, FollowsInForward),
    *(StartsFromData, ReplacesParameter, GradientsInForward),
    *(DrawsFromTorch, DrawsFromPython, DrawsFromNumpy, DrawsFromRandomState, DrawsFromEverything),
    *(AsksHelpers, UpdatesMetrics, CountsInHook, CountsBefore, CountsBackward, ReadsItsHook, Standardizes),
    *(Encodes, Attends, KeepsRecurrentState, KeepsGRUState, Ties),
]
CASES: dict[str, Callable[[], nn.Module]] = {kind.__name__: kind for kind in PARTS} | LAYERS


# ------------------------------------------------------------------------------------------------ two runs, compared


def contents(thing: Any, known: dict[int, Any] | None = None) -> Any:
    """Everything that can be compared in a thing and below it, as containers, tensors and numbers; circles by number.

    Written without regard to how the callback keeps state.
    """
    known = {} if known is None else known
    if thing is None or isinstance(thing, bool | int | float | str | bytes):
        return thing
    if id(thing) in known:
        return f"as before: {list(known).index(id(thing))}"
    known[id(thing)] = thing  # alive, so that nothing else gets its id

    def inside(held: Any) -> Any:
        return [contents(one, known) for one in held]

    if isinstance(thing, Tensor):
        comparable = not (thing.is_meta or thing.is_sparse or nn.parameter.is_lazy(thing))
        return [str(type(thing)), thing.requires_grad, thing.detach().clone() if comparable else 0]
    if isinstance(thing, dict):
        return [[repr(key) for key in thing], inside(thing.values())]
    if isinstance(thing, list | tuple | deque):
        return [str(type(thing)), *inside(thing)]
    if isinstance(thing, set | bytearray | array):
        return sorted(thing)
    if isinstance(thing, torch.Generator):
        return thing.get_state()
    if isinstance(thing, random.Random):
        return thing.getstate()
    if isinstance(thing, np.random.Generator | np.random.BitGenerator):
        return repr(getattr(thing, "bit_generator", thing).state)
    if isinstance(thing, np.random.RandomState):
        return repr(thing.get_state())
    if isinstance(thing, np.ndarray):
        return thing.tolist()
    if isinstance(thing, itertools.count | itertools.cycle | type(iter(range(0)))):
        return list(itertools.islice(copy.deepcopy(thing), 5))
    if isinstance(thing, torch.jit.ScriptModule):
        values = dict(thing.state_dict()) | {name: getattr(thing, name, None) for name in ("count", "seen", "training")}
        return contents(values, known)
    if isinstance(thing, nn.Module | Average | SimpleNamespace):
        held = {k: list(v.values()) if "_hooks" in k and isinstance(v, dict) else v for k, v in vars(thing).items()}
        return [str(type(thing)), contents(held, known)]
    if isinstance(thing, Slotted):
        return inside([thing.count, thing.values])
    return str(type(thing))


class Witness(lp.Callback):
    """Notes before every training step, and at the end, all that the network holds."""

    def __init__(self) -> None:
        self.notes: list[Any] = []

    def note(self, network: nn.Module) -> None:
        self.notes.append(
            {
                "held": [contents(part) for part in (network.conv1, network.part, network.head)],
                "class": [CountsInItsClass.total, list(CountsInItsClass.sizes)],
                "gradients": {name: copy.deepcopy(p.grad) for name, p in network.named_parameters()},
                "hooks": hooks_on(network),
                "outside": list(OUTSIDE),
                "generators": [torch.get_rng_state(), random.getstate(), repr(np.random.get_state())],
            }
        )

    def on_train_batch_start(self, trainer: lp.Trainer, pl_module: lp.LightningModule, *batch: Any) -> None:
        self.note(pl_module)

    def on_train_end(self, trainer: lp.Trainer, pl_module: lp.LightningModule) -> None:
        self.note(pl_module)


def run(root: Path, make: Callable[[], nn.Module], *guests: lp.Callback) -> list[Any]:
    """Train from the same seeds; what the witness saw."""
    random.seed(0)
    np.random.seed(0)
    OUTSIDE.clear()
    witness = Witness()
    with warnings.catch_warnings(), silent(JIT):
        warnings.filterwarnings("ignore", message="(?s)Lazy modules|.*uninitialized|Full backward hook|.*nested tensor")
        warnings.filterwarnings("ignore", message="MatrixRenyiCallback: the error signal")
        torch.manual_seed(0)
        fit(root, *guests, witness, model=Host(make), num_sanity_val_steps=0)
    return witness.notes


def guest(**options: Any) -> lp.Callback:
    """The callback as it measures most: both chains, and the last part of the network."""
    return callback(layers=["conv1", "head"], error_signals=True, **options)


@pytest.mark.parametrize("make", CASES.values(), ids=CASES)
def test_a_network_with_state_is_the_same_with_and_without_the_callback(
    tmp_path: Path, make: Callable[[], nn.Module]
) -> None:
    measured = guest()
    alone, with_guest = run(tmp_path, make), run(tmp_path, make, measured)
    assert len(moments(measured)) == 3
    assert_same(with_guest, alone)


def test_hooks_on_all_modules_are_silent_too(tmp_path: Path) -> None:
    with global_hooks():
        alone, with_guest = run(tmp_path, Part), run(tmp_path, Part, guest())
    assert alone[-1]["outside"]
    assert_same(with_guest, alone)


def test_a_network_that_fails_on_the_probe_goes_on_as_if_it_had_not_been_asked(tmp_path: Path) -> None:
    alone = run(tmp_path, FailsOnProbe)
    with said() as warned:
        with_guest = run(tmp_path, FailsOnProbe, guest(raise_on_error=False))
    assert any("RuntimeError: the probe is too large" in message for message in warned)
    assert_same(with_guest, alone)


# In the run because of how they are made: weights by hooks, modules by hooks of their own.
UNMOVED = ("ReadsItsHook", "Attends", "old weight norm", "weight norm", "orthogonal", "pruned")


class HalvesItsInput(Host):
    """Works in place on what it is given."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.mul_(0.5))


def test_a_network_that_works_in_place_on_its_inputs_leaves_the_probe_alone() -> None:
    pictures, labels = images(32).tensors
    given = pictures.clone()
    monitor = Monitor(HalvesItsInput(Part), Probe(given, labels), ["conv1", "head"], error_signals=True)
    first, second = monitor.measure(0), monitor.measure(1)
    assert torch.equal(given, pictures)
    assert [row.value for row in first] == pytest.approx([row.value for row in second], nan_ok=True)
    assert monitor.markov_pairs


@pytest.mark.parametrize("name", [name for name in CASES if name not in UNMOVED])
def test_in_every_case_a_call_without_precautions_would_show(name: str) -> None:
    """Else the comparison above compares nothing."""
    network, witness = Host(CASES[name]), Witness()
    with warnings.catch_warnings(), silent(JIT):
        warnings.filterwarnings("ignore", message="Lazy modules|.*uninitialized|.*backward hook")
        witness.note(network)
        torch.autograd.grad(network(images(seed=2).tensors[0]).sum(), network.conv1.weight)
        witness.note(network)
    with pytest.raises(AssertionError, match=r"^\["):
        assert_same(witness.notes[1], witness.notes[0])
