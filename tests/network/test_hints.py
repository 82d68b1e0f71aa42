"""What to paste where a network cannot be called: the sentence's argument, evaluated, makes it work."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from properties import normal
from torch import Tensor, nn

from lightning_infoplane import Draw
from lightning_infoplane.arguments.errors import NotMeasurableError
from lightning_infoplane.network.batches import read_batch
from lightning_infoplane.network.calls import taken_by
from lightning_infoplane.network.hints import how_to_call
from lightning_infoplane.network.observed import Observed
from lightning_infoplane.network.probe import Origin, Probe

N = 12
X, Y, LABELS = normal(N, 8, dtype=torch.float32), torch.linspace(-1, 1, N), torch.arange(N) % 3


def mlp(inputs: int = 8) -> nn.Sequential:
    return nn.Sequential(nn.Linear(inputs, 4), nn.Tanh(), nn.Linear(4, 3))


class Parts(nn.Module):
    """Without a forward."""

    def __init__(self, **parts: nn.Module) -> None:
        super().__init__()
        for name, part in parts.items():
            self.add_module(name, part)


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.net = mlp()


class InTime(Net):
    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        return self.net(x + nn.functional.one_hot(t, 8))


class Keyword(Net):
    def forward(self, *, pixels: Tensor) -> Tensor:
        return self.net(pixels)


class WholeBatch(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.head = nn.Linear(8, 4), nn.Linear(4, 3)

    def forward(self, batch: Any) -> Tensor:
        x, _ = batch
        return self.head(self.first(x))


class Plain(Net):
    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)


class Masked(Net):
    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        return self.net(x * mask)


class NoMask(Net):
    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        return self.net(x if mask is None else x * mask.expand(N + 1))


def read(network: nn.Module, batch: Any, draw: Draw) -> Probe:
    found = read_batch(batch, N, draw.inputs, draw.x, draw.targets, taken_by(network))
    return Probe(found.inputs, found.targets, found.x, origin=Origin(found.x_name, found.y_name, batch))


def layers_of(network: nn.Module) -> dict[str, nn.Module]:
    return {name: part for name, part in network.named_modules() if isinstance(part, nn.Linear)}


def sentence_for(network: nn.Module, batch: Any) -> str:
    with pytest.raises(NotMeasurableError, match="the network cannot be called") as caught:
        Observed(network, layers_of(network)).try_out(read(network, batch, Draw(N)))
    return str(caught.value)


CASES: dict[str, tuple[Callable[[], nn.Module], Any, str, set[str]]] = {
    "no forward": (Net, (X, LABELS), "forward_fn", {"net.0", "net.2"}),
    "two nets": (lambda: Parts(g=mlp(3), d=mlp()), (X, LABELS), "forward_fn", {"d.0", "d.2"}),
    "a time step": (InTime, (X,), "forward_fn", {"net.0", "net.2"}),
    "keyword only": (Keyword, (X, LABELS), "forward_fn", {"net.0", "net.2"}),
    "the whole batch": (WholeBatch, (X, LABELS), "probe", {"first", "head"}),
    "target first": (Plain, (Y, X), "probe", {"net.0", "net.2"}),
    "a part by key": (Net, {"label": LABELS, "spectrum": X}, "forward_fn", {"net.0", "net.2"}),
    "a mask of ones": (Masked, (X,), "forward_fn", {"net.0", "net.2"}),
    "no mask": (NoMask, (X,), "forward_fn", {"net.0", "net.2"}),
    "the larger part": (lambda: Parts(a=nn.Sequential(nn.Linear(8, 2)), b=mlp()), (X,), "forward_fn", {"b.0", "b.2"}),
}


@pytest.mark.parametrize(("make", "batch", "argument", "called"), CASES.values(), ids=CASES)
def test_the_argument_that_is_pasted_makes_it_work(
    make: Callable[[], nn.Module], batch: Any, argument: str, called: set[str]
) -> None:
    network = make()
    sentence = sentence_for(network, batch)
    before, code = sentence.split(f" Pass {argument}=")
    assert "Linear(" not in before, "no repr of a model"
    pasted = eval(code.removesuffix("."), {"torch": torch, "Draw": Draw})
    probe = read(network, batch, pasted if argument == "probe" else Draw(N))
    options = {} if argument == "probe" else {"forward_fn": pasted}
    observed = Observed(network, layers_of(network), **options)
    observed.try_out(probe)
    seen: set[str] = set()
    observed.watch(probe, lambda name, value: seen.add(name))
    assert seen == called


def test_the_sentence_word_for_word() -> None:
    assert sentence_for(Keyword(), (X, LABELS)).endswith(
        "They are a tensor (12, 8); its forward takes (pixels). Pass forward_fn=lambda module, inputs: "
        "module(pixels=inputs)."
    )
    assert "(NotImplementedError: it has no forward of its own)" in sentence_for(Net(), (X, LABELS))


def test_a_long_failure_is_cut_to_its_first_line_and_200_letters() -> None:
    error = ValueError("a" * 300 + f"\n{mlp()}")
    sentence = how_to_call(Plain(), Probe(X), error, lambda network, probe, call: 0)
    assert f"(ValueError: {'a' * 200})" in sentence
    assert "Linear(" not in sentence
    assert sentence.endswith("Pass forward_fn=lambda module, inputs: module(...), with the call that your "
                             "training_step makes.")  # fmt: skip
    assert "(ValueError: no reason given)" in how_to_call(Plain(), Probe(X), ValueError(), lambda *_: 0)


def test_the_first_of_the_suggestions_that_call_most_layers_is_made() -> None:
    counts = iter([1, 3, 3])
    sentence = how_to_call(
        Parts(z=mlp(), b=mlp(), a=mlp()), Probe(X), ValueError("no"), lambda network, probe, call: next(counts)
    )
    assert sentence.endswith("Pass forward_fn=lambda module, inputs: module.b(inputs).")


def test_at_most_60_suggestions_are_tried() -> None:
    batch = {f"column{place}": X + place for place in range(100)}
    tried: list[Probe] = []
    probe = Probe(batch, x=batch["column0"], origin=Origin(batch=batch))
    how_to_call(Plain(), probe, ValueError("no"), lambda network, one, call: bool(tried.append(one)))
    assert len(tried) == 60


class Masked(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.head = nn.Linear(8, 4), nn.Linear(4, 3)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        return self.head(self.first(x * mask[:, None]))


def test_the_forward_of_a_network_comes_before_a_part_of_it() -> None:
    """Both call as many layers, and the part goes around what the network does with the time."""
    said = sentence_for(InTime(), X)
    assert (
        "Pass forward_fn=lambda module, inputs: module(inputs, inputs.new_zeros(len(inputs), dtype=torch.long))."
        in said
    )


def test_a_mask_that_is_missing_masks_nothing() -> None:
    """Zeros in its place would be a network that sees nothing."""
    assert "module(inputs, inputs.new_ones(len(inputs)))." in sentence_for(Masked(), X)
