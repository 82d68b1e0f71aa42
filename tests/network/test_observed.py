"""A network with the layers that are looked at: said in a line, read as is wanted, and what of it is not told."""

import weakref
from typing import Any

import pytest
import torch
from properties import normal
from torch import Tensor, nn

from lightning_infoplane.network.gradients import ErrorSignals
from lightning_infoplane.network.observed import Observed
from lightning_infoplane.network.probe import Origin, Probe
from lightning_infoplane.network.readout import Tokens

N = 8
X = normal(N, 3, 4, dtype=torch.float32)
IDS = torch.arange(24).reshape(N, 3) % 7
LABELS = torch.arange(N) % 2


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.head = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 2)
        self.never = nn.Linear(2, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.second(self.first(x).tanh()).tanh().mean(1))


class TimeFirst(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.parts = nn.ModuleList(nn.Linear(4, 4) for _ in range(9))

    def forward(self, x: Tensor) -> Tensor:
        x = x.movedim(1, 0)
        for part in self.parts:
            x = part(x)
        return x


def line(network: nn.Module, probe: Probe, **options: Any) -> str:
    layers = {name: part for name, part in network.named_modules() if isinstance(part, nn.Linear)}
    observed = Observed(network, layers, **options)
    observed.try_out(probe)
    return observed.describe(probe)


@pytest.mark.parametrize(
    ("probe", "words"),
    [
        (Probe(X), "X: inputs (8, 3, 4); Y: none"),
        (Probe(X, LABELS), "X: inputs (8, 3, 4); Y: targets (8,), 2 classes"),
        (Probe(X, LABELS.float()), "X: inputs (8, 3, 4); Y: targets (8,), continuous"),
        (Probe(X, IDS), "X: inputs (8, 3, 4); Y: targets (8, 3), 7 classes in 3 places"),
        (
            Probe(X, LABELS, origin=Origin("batch[0]", "batch[1]")),
            "X: batch[0] (8, 3, 4); Y: batch[1] (8,), 2 classes",
        ),
    ],
)
def test_the_line_says_x_and_y(probe: Probe, words: str) -> None:
    assert line(Net(), probe) == f"{words}; model called as forward(inputs)"
    assert line(Net(), probe, forward_fn=lambda net, x: net(x)) == f"{words}; model called by forward_fn"


def test_the_line_says_what_embeds_and_where_the_samples_are() -> None:
    assert line(nn.Sequential(nn.Embedding(7, 4), Net()), Probe(IDS)) == (
        "X: output of the embedding layer '0', as it is at the start, for inputs (8, 3); Y: none; "
        "model called as forward(inputs)"
    )
    shown = ", ".join(f"parts.{place}" for place in range(8))
    assert line(TimeFirst(), Probe(X)) == (
        f"X: inputs (8, 3, 4); Y: none; model called as forward(inputs); samples on axis 1 of the output of {shown}, …"
    )


class Nodes(Net):
    def forward(self, data: dict[str, Tensor]) -> Tensor:
        return super().forward(data["nodes"].reshape(N, 2, 4))


UNDIVIDED = Probe({"nodes": normal(2 * N, 4, dtype=torch.float32)}, LABELS, X)


def test_no_chains_are_looked_for_in_inputs_that_cannot_be_divided() -> None:
    assert line(Nodes(), UNDIVIDED) == (
        "X: inputs (8, 3, 4); Y: targets (8,), 2 classes; model called as forward(inputs); "
        "no pairs of layers, for no few samples can be taken out of the inputs"
    )
    net = Nodes()
    observed = Observed(net, {"first": net.first, "head": net.head})
    observed.try_out(UNDIVIDED)
    found = observed.find_chains(UNDIVIDED, True, ErrorSignals())
    assert found.forward is not None
    assert (found.forward.pairs, found.backward) == ([], [])
    assert observed.find_chains(UNDIVIDED, False, None).forward is None


def test_vectors_are_what_the_embedding_makes_now_or_the_numbers() -> None:
    net = nn.Sequential(nn.Embedding(7, 4), Net())
    observed = Observed(net, {})
    assert torch.equal(observed.vectors(Probe(IDS)), IDS.float())
    observed.try_out(Probe(IDS))
    assert torch.equal(observed.vectors(Probe(IDS)), net[0].weight[IDS])
    nn.init.ones_(net[0].weight)
    assert torch.equal(observed.vectors(Probe(IDS)), IDS.float()), "it tells no sample from another"


@pytest.mark.parametrize(("spec", "told"), [("all", []), ("never", ["never"]), (["all", "n*"], ["never"])])
def test_what_a_keyword_took_along_and_is_not_called_is_left_out_silently(spec: Any, told: list[str]) -> None:
    net = Net()
    observed = Observed(net, {"first": net.first, "never": net.never}, spec)
    observed.try_out(Probe(X))
    seen: list[str] = []
    left: list[str] = []
    observed.watch(Probe(X), lambda name, value: seen.append(name), lambda layer, why: left.append(layer))
    assert (seen, left) == (["first"], told)


@pytest.mark.parametrize("pool", ["each", "mean"])
def test_error_signals_of_pooled_layers_are_no_screens(pool: Any) -> None:
    net = Net()
    observed = Observed(net, {"first": net.first, "second": net.second}, readout={"second": Tokens(pool)})
    probe = Probe(X, LABELS)
    observed.try_out(probe)
    backward = observed.find_chains(probe, False, ErrorSignals()).backward
    assert backward == ([("second", "first")] if pool == "each" else [])


# ------------------------------------------------------------------------------------- readouts for layers, by name


def test_a_readout_for_a_layer_that_is_not_there_is_an_error() -> None:
    net = nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 2))
    layers = {"0": net[0], "1": net[1]}
    with pytest.raises(
        ValueError, match=r"readout=\{'encoder\.\*': \.\.\.\}: expected .* chosen layers, which are 0, 1\."
    ):
        Observed(net, layers, readout={"0": Tokens("mean"), "encoder.*": Tokens("first")})


def test_the_maps_of_a_signal_are_no_tokens() -> None:
    """A readout for all layers reads the tokens among them."""
    net = nn.Sequential(nn.Conv1d(2, 3, 1), nn.Linear(5, 4))
    observed = Observed(net, {"0": net[0], "1": net[1]}, readout=Tokens("mean"))
    probe = Probe(torch.randn(8, 2, 5, generator=torch.Generator().manual_seed(0)))
    observed.try_out(probe)
    shapes: dict[str, tuple[int, ...]] = {}
    observed.watch(probe, lambda name, value: shapes.update({name: tuple(value.shape)}))
    assert shapes == {"0": (8, 3, 5), "1": (8, 4)}


def test_of_a_probe_that_goes_through_whole_no_layers_outputs_are_kept() -> None:
    """All of them at once would not fit."""
    alive: list[bool] = []

    class OneSize(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = nn.Linear(4, 4), nn.Linear(4, 4)

        def forward(self, x: Tensor) -> Tensor:
            assert len(x) == 8, "one size of batches only"
            hidden = self.first(x)
            kept = weakref.ref(hidden)
            hidden = self.second(hidden.relu())
            alive.append(kept() is not None)
            return hidden

    net = OneSize()
    Observed(net, {"first": net.first, "second": net.second}).try_out(Probe(torch.eye(8, 4)))
    assert alive == [False]
