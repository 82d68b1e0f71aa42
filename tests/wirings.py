"""Small networks wired in every way that layers are, and in ways that mix the samples of a batch."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from properties import normal
from torch import Tensor, nn
from torch.nn import functional as F

Rows = tuple[Any, Any]
X, Z = normal(2, 4, 6, seed=1, dtype=torch.float32)
IMAGES: Rows = tuple(normal(2, 4, 3, 8, 8, seed=2, dtype=torch.float32))  # type: ignore[assignment]
SEQUENCES: Rows = tuple(normal(2, 4, 5, 6, seed=3, dtype=torch.float32))  # type: ignore[assignment]


Wiring = Callable[["Layers", Any], Any]


class Layers(nn.Module):
    """Six linear layers, wired as a function says."""

    def __init__(self, wire: Wiring, width: int = 6) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.wire = wire
        self.a, self.b, self.c, self.d, self.e, self.f = (nn.Linear(width, width) for _ in range(6))
        self.norm, self.maps = nn.LayerNorm(width), nn.Conv2d(3, 3, 3, padding=1)
        self.rnn, self.gru = nn.LSTM(width, width), nn.GRU(width, width, batch_first=True)
        self.own = nn.Identity()

    def forward(self, x: Any) -> Any:
        return self.wire(self, x)


@dataclass(frozen=True)
class Batch:
    """Inputs as a dataclass, of which not everything has a row a sample."""

    pixels: Tensor
    scale: Tensor
    name: str = "batch"


def residual(net: Layers, x: Tensor) -> Tensor:
    x = net.a(x)
    for first, second in ((net.b, net.c), (net.d, net.e)):
        x = x + second(first(x).relu_())
    return net.f(x)


def dense(net: Layers, x: Tensor) -> Tensor:
    x = net.a(x)
    for layer in (net.b, net.c, net.d, net.e):
        x = x + 0.5 * layer(x).tanh()
    return net.f(x)


def masked(net: Layers, x: Tensor) -> Tensor:
    scores = net.b(net.a(x))
    return net.d(net.c(net.own(scores.masked_fill(scores < 0, -torch.inf)).softmax(-1)))


def time_first(net: Layers, x: Tensor) -> Tensor:
    """(sequence, batch, features) inside, as recurrent networks have it unless told otherwise."""
    steps = net.rnn(net.a(x).transpose(0, 1))[0]
    return net.c(net.b(steps)[-1])


def flattened(net: Layers, x: Tensor) -> Tensor:
    """A row a token, not a row a sample, between a and c."""
    tokens = net.b(net.a(x.flatten(0, 1)))
    return net.c(tokens.unflatten(0, x.shape[:2]).mean(1))


def mostly_dead(net: Layers, x: Tensor) -> Tensor:
    return net.c(net.b(net.a(x))) + net.own(-net.d(x).abs()).relu()


def truth(net: Layers, x: Tensor) -> Tensor:
    mask = net.own(net.a(x) > 0)
    return net.c(net.b(x) * mask)


def in_place(net: Layers, x: Tensor) -> Tensor:
    x = x.mul_(2)
    return net.c(net.b(net.a(x).relu_()).add_(1).relu_())


def inputs(wrap: Callable[[Tensor], Any]) -> Rows:
    return wrap(X), wrap(Z)


def linear(net: Layers, x: Tensor) -> Tensor:
    return net.c(net.b(net.a(x)).tanh())


ALIKE: dict[str, tuple[Wiring, Rows]] = {
    "a chain": (linear, (X, Z)),
    "residual": (residual, (X, Z)),
    "dense": (dense, (X, Z)),
    "masks that are infinite": (masked, (X, Z)),
    "images": (lambda net, x: net.own(net.maps(net.maps(x).relu_())).mean((2, 3)), IMAGES),
    "time first": (time_first, SEQUENCES),
    "batch first": (lambda net, x: net.b(net.gru(net.a(x))[0].mean(1)), SEQUENCES),
    "a row a token": (flattened, SEQUENCES),
    "attention within a sample": (
        lambda net, x: net.c(F.scaled_dot_product_attention(net.a(x), net.b(x), net.norm(x))),
        SEQUENCES,
    ),
    "called again and again": (lambda net, x: net.b(net.a(net.a(net.a(x).tanh()).tanh())), (X, Z)),
    "constant layers": (mostly_dead, (X, Z)),
    "truth values": (truth, (X, Z)),
    "in place": (in_place, (X, Z)),
    "a dictionary": (lambda net, x: linear(net, x["pixels"]), inputs(lambda t: {"pixels": t, "mode": "text"})),
    "a tuple": (lambda net, x: linear(net, x[0]) * x[1], inputs(lambda t: (t, torch.tensor(2.0)))),
    "a dataclass": (lambda net, x: linear(net, x.pixels) * x.scale, inputs(lambda t: Batch(t, torch.ones(6)))),
    "positions that are no sample's": (
        lambda net, x: net.c(net.a(x) + net.b(torch.ones(5, 6))),
        SEQUENCES,
    ),
    "a structure, its second tensor read": (
        lambda net, x: net.b(net.own((net.a(x), x))[1]) + net.c(net.a(x)),
        (X, Z),
    ),
    "divided by the size of the batch": (lambda net, x: net.b(net.a(x) / len(x)), (X, Z)),
}


def fixed(net: Layers, x: Tensor) -> Tensor:
    return net.b(net.a(x.reshape(4, 6)))


def as_the_batch_says(net: Layers, x: Tensor) -> Tensor:
    early = net.a(x)
    return net.c(net.b(early) if x.mean() > (X.mean() + Z.mean()) / 2 else early)


MIXED: dict[str, tuple[Wiring, Rows]] = {
    "centred over the batch": (lambda net, x: net.b(net.a(x) - net.a(x).mean(0)), (X, Z)),
    "batch statistics": (lambda net, x: net.b(F.batch_norm(net.a(x), None, None, training=True)), (X, Z)),
    "contrastive": (lambda net, x: net.own(net.a(x) @ net.b(x).T), (X, Z)),
    "attention over the batch": (
        lambda net, x: net.c(F.scaled_dot_product_attention(net.a(x), net.b(x), x)),
        (X, Z),
    ),
    "halves are pairs": (lambda net, x: net.b(net.a(x) + net.a(x).roll(len(x) // 2, 0)), (X, Z)),
    "neighbours": (lambda net, x: net.b(net.a(x) + net.a(x).roll(1, 0)), (X, Z)),
    "sums so far": (lambda net, x: net.b(net.a(x).cumsum(0)), (X, Z)),
    "scaled by the largest": (lambda net, x: net.b(net.a(x) / net.a(x).abs().max()), (X, Z)),
    "scaled by the largest of another layer": (lambda net, x: net.c(net.a(x) / net.b(x).max()), (X, Z)),
    "scaled by the smallest of another layer": (lambda net, x: net.c(net.a(x) / net.b(x).abs().min()), (Z, X)),
    "averaged over the batch": (lambda net, x: net.b(net.own(net.a(x)).mean(0)), (X, Z)),
    "of one size": (fixed, (X, Z)),
    "one way or the other": (as_the_batch_says, (X, Z)),
    "tokens in another order": (
        lambda net, x: net.b(net.a(x).transpose(0, 1).flatten(0, 1)),
        SEQUENCES,
    ),
}
