"""Data of which the truth is known: chains of layers with their information, channels of labels, and small networks.

In a chain each layer sees the one before it alone, so information about the input can only fall from stage to stage.
"""

import math
from collections.abc import Callable
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Generator, Tensor
from torch.nn import functional

__all__ = [
    "CHANNELS",
    "FAMILIES",
    "NETWORKS",
    "REMOVES_NOISE",
    "Chain",
    "Channel",
    "Seen",
    "generator",
    "noisy",
    "normal",
]

STAGES = 5


class Chain(NamedTuple):
    """A chain of layers.

    Args:
        inputs: ``(n, d)``.
        layers: one ``(n, width)`` a stage.
        truth: their information about the input, bits: that of the population, in closed form.
    """

    inputs: Tensor
    layers: list[Tensor]
    truth: list[float]


class Channel(NamedTuple):
    """What becomes of a label.

    Args:
        name: of the point.
        classes: of the label, all equally likely.
        seen: what a label turns into, ``(n,)`` to ``(n,)``.
        information: of what is seen about the label, bits.
        entropy: of what is seen, bits.
    """

    name: str
    classes: int
    seen: Callable[[Tensor, Generator], Tensor]
    information: float
    entropy: float


class Seen(NamedTuple):
    """A probe and the two layers of a network that is the same for every probe.

    Args:
        inputs: ``(n, ...)``.
        targets: classes or continuous values.
        first: the first layer, without noise of its own.
        second: the second layer, with some.
    """

    inputs: Tensor
    targets: Tensor
    first: Tensor
    second: Tensor


def generator(*seeds: int) -> Generator:
    """Random numbers of a seed made of several."""
    seed = 0
    for part in seeds:
        seed = 100_003 * seed + part
    return Generator().manual_seed(seed)


def normal(draw: Generator, *shape: int) -> Tensor:
    """Standard normal numbers."""
    return torch.randn(*shape, generator=draw)


def noisy(values: Tensor, share: float, draw: Generator) -> Tensor:
    """The values with normal noise of so many of their standard deviations."""
    return values + share * values.std() * torch.randn(values.shape, generator=draw)


def _between(draw: Generator, low: float, high: float) -> float:
    return low + (high - low) * float(torch.rand((), generator=draw))


def _whole(draw: Generator, low: int, high: int) -> int:
    return int(torch.randint(low, high + 1, (), generator=draw))


# ---------------------------------------------------------------------------------- chains of linear layers and noise


class _Step(NamedTuple):
    """One linear layer, ``(before, after)``, with independent noise of these standard deviations ``(after,)``."""

    weight: Tensor
    noise: Tensor


def _linear_chain(draw: Generator, n: int, scale: Tensor, steps: list[_Step]) -> Chain:
    """Layers of an input with independent normal coordinates of this scale.

    With M the product of the weights, times the scale, and C the covariance of all noise so far, the information is
    half of log2 det(C + MᵀM) − log2 det C.
    """
    source = normal(draw, n, len(scale))
    mean = torch.diag(scale).double()
    covariance = torch.zeros(len(scale), len(scale), dtype=torch.float64)
    values = source * scale
    chain = Chain(values, [], [])
    for weight, noise in steps:
        values = values @ weight + noise * normal(draw, n, len(noise))
        mean = mean @ weight.double()
        covariance = weight.double().T @ covariance @ weight.double() + torch.diag(noise.double().square())
        bits = torch.logdet(covariance + mean.T @ mean) - torch.logdet(covariance)
        chain.layers.append(values)
        chain.truth.append(float(bits) / (2 * math.log(2)))
    return chain


def _added_noise(draw: Generator, n: int) -> Chain:
    width = _whole(draw, 2, 32)
    start = _between(draw, 0.2, 0.5)
    ratio = _between(draw, 1.3, 1.8)
    steps = [_Step(torch.eye(width), torch.full((width,), start * ratio**stage)) for stage in range(STAGES)]
    return _linear_chain(draw, n, torch.ones(width), steps)


def _curved_noise(draw: Generator, n: int) -> Chain:
    """Every layer through a curve that can be undone, so that nothing more is lost."""
    chain = _added_noise(draw, n)
    curves = (torch.tanh, torch.sinh, lambda values: functional.leaky_relu(values, 0.2))
    curve = curves[_whole(draw, 0, 2)]
    return chain._replace(layers=[curve(layer) for layer in chain.layers])


def _leading(draw: Generator, n: int, scale: Tensor, noise: Tensor) -> Chain:
    """Ever fewer of the input's dimensions, the first ones, with noise once."""
    widths = [max(1, round(len(scale) * 0.55**stage)) for stage in range(STAGES)]
    steps = [_Step(torch.eye(len(scale)), noise)]
    steps += [_Step(torch.eye(before)[:, :after], torch.zeros(after)) for before, after in pairwise(widths)]
    return _linear_chain(draw, n, scale, steps)


def _subspaces(draw: Generator, n: int) -> Chain:
    scale = torch.ones(_whole(draw, 16, 48))
    return _leading(draw, n, scale, _between(draw, 0.1, 0.4) * scale)


def _falling_scale(draw: Generator) -> Tensor:
    return torch.arange(1, _whole(draw, 16, 48) + 1).float() ** -_between(draw, 0.3, 1.0)


def _principal_components(draw: Generator, n: int) -> Chain:
    """Noise in proportion to each component."""
    scale = _falling_scale(draw)
    return _leading(draw, n, scale, _between(draw, 0.1, 0.4) * scale)


def _denoised_components(draw: Generator, n: int) -> Chain:
    """The same noise in every component: the last ones are mostly noise, and leaving them out removes it."""
    scale = _falling_scale(draw)
    return _leading(draw, n, scale, torch.full_like(scale, _between(draw, 0.1, 0.4)))


def _random_layers(draw: Generator, n: int, widths: list[int], noise: float) -> Chain:
    steps = [
        _Step(normal(draw, before, after) / math.sqrt(before), torch.full((after,), noise))
        for before, after in pairwise(widths)
    ]
    return _linear_chain(draw, n, torch.ones(widths[0]), steps)


def _narrowing(draw: Generator, n: int) -> Chain:
    width = _whole(draw, 24, 48)
    widths = [max(1, round(width * 0.6**stage)) for stage in range(STAGES + 1)]
    return _random_layers(draw, n, widths, _between(draw, 0.1, 0.3))


def _widening(draw: Generator, n: int) -> Chain:
    width = _whole(draw, 2, 8)
    widths = [round(width * 1.8**stage) for stage in range(STAGES + 1)]
    return _random_layers(draw, n, widths, _between(draw, 0.3, 0.6))


def _changing_widths(draw: Generator, n: int) -> Chain:
    """Noisy layers of 4 to 128 units, in no order."""
    widths = [round(2 ** _between(draw, 2, 7)) for _ in range(STAGES + 1)]
    return _random_layers(draw, n, widths, _between(draw, 0.3, 0.6))


def _appended_noise(draw: Generator, n: int) -> Chain:
    """Every stage adds noise to what there is, and dimensions that are nothing but noise beside it."""
    width = _whole(draw, 2, 8)
    more = _whole(draw, 2, 8)
    noise = _between(draw, 0.3, 0.6)
    steps = []
    for stage in range(STAGES):
        before = width + stage * more
        own = torch.full((before,), noise)
        steps.append(_Step(torch.eye(before, before + more), torch.cat([own, torch.ones(more)])))
    return _linear_chain(draw, n, torch.ones(width), steps)


# ------------------------------------------------------------------------------------------------ chains of symbols


def _entropy(probabilities: Tensor) -> float:
    """Bits of a distribution, or of a joint one."""
    return float(torch.special.entr(probabilities).sum()) / math.log(2)


def _information(joint: Tensor) -> float:
    """Bits that the rows and the columns of a joint distribution share."""
    return _entropy(joint.sum(0)) + _entropy(joint.sum(1)) - _entropy(joint)


def _points(draw: Generator, symbols: Tensor, count: int) -> Tensor:
    """Each symbol as a random point of its own in 16 dimensions."""
    return normal(draw, count, 16)[symbols]


def _symbol_chain(draw: Generator, n: int, channels: list[Tensor]) -> Chain:
    """Symbols, equally likely at first, through one channel ``(before, after)`` after the other."""
    count = len(channels[0])
    symbols = torch.randint(count, (n,), generator=draw)
    joint = torch.eye(count, dtype=torch.float64) / count
    chain = Chain(_points(draw, symbols, count), [], [])
    for channel in channels:
        symbols = torch.multinomial(channel[symbols], 1, generator=draw).squeeze(1)
        joint = joint @ channel
        chain.layers.append(_points(draw, symbols, channel.shape[1]))
        chain.truth.append(_information(joint))
    return chain


def _replacing(count: int, share: float) -> Tensor:
    """The channel that replaces a share of the symbols by any of them."""
    return (1 - share) * torch.eye(count, dtype=torch.float64) + share / count


def _replaced_symbols(draw: Generator, n: int) -> Chain:
    channel = _replacing(_whole(draw, 2, 20), _between(draw, 0.1, 0.3))
    return _symbol_chain(draw, n, [channel] * STAGES)


def _random_channels(draw: Generator, n: int) -> Chain:
    """Channels that keep a symbol most of the time, and otherwise prefer some others, at random."""
    count = _whole(draw, 4, 16)
    keep = _between(draw, 0.6, 0.85)
    channels = []
    for _ in range(STAGES):
        others = normal(draw, count, count).double().mul(1.5).softmax(-1)
        channels.append(keep * torch.eye(count, dtype=torch.float64) + (1 - keep) * others)
    return _symbol_chain(draw, n, channels)


def _erased_symbols(draw: Generator, n: int) -> Chain:
    """One more symbol stands for those that were erased, and stays."""
    count = _whole(draw, 2, 20)
    share = _between(draw, 0.1, 0.3)
    again = (1 - share) * torch.eye(count + 1, dtype=torch.float64)
    again[:, -1] += share
    return _symbol_chain(draw, n, [again[:-1]] + [again] * (STAGES - 1))


def _merged_symbols(draw: Generator, n: int) -> Chain:
    count = _whole(draw, 20, 40)
    counts = [max(2, round(count * 0.6**stage)) for stage in range(STAGES + 1)]
    channels = [functional.one_hot(torch.arange(before) % after).double() for before, after in pairwise(counts)]
    return _symbol_chain(draw, n, channels)


def _flipped_bits(draw: Generator, n: int) -> Chain:
    width = _whole(draw, 4, 16)
    share = _between(draw, 0.02, 0.12)
    values = torch.randint(2, (n, width), generator=draw) * 2.0 - 1
    chain = Chain(values, [], [])
    for stage in range(STAGES):
        flips = torch.rand(n, width, generator=draw) < share
        values = torch.where(flips, -values, values)
        joint = torch.matrix_power(_replacing(2, 2 * share), stage + 1) / 2
        chain.layers.append(values)
        chain.truth.append(width * _information(joint))
    return chain


def _quantised(draw: Generator, n: int) -> Chain:
    """Uniform numbers rounded to 32, 16, 8, 4 and 2 levels."""
    width = _whole(draw, 1, 4)
    values = torch.rand(n, width, generator=draw)
    exponents = range(STAGES, 0, -1)
    return Chain(values, [(values * 2**k).floor() / 2**k for k in exponents], [float(width * k) for k in exponents])


FAMILIES: dict[str, Callable[[Generator, int], Chain]] = {
    "added noise": _added_noise,
    "added noise, through a curve": _curved_noise,
    "subspaces": _subspaces,
    "principal components": _principal_components,
    "narrowing random layers": _narrowing,
    "widening noisy layers": _widening,
    "noisy layers of changing width": _changing_widths,
    "appended noise dimensions": _appended_noise,
    "replaced symbols": _replaced_symbols,
    "random channels": _random_channels,
    "erased symbols": _erased_symbols,
    "merged symbols": _merged_symbols,
    "flipped bits": _flipped_bits,
    "quantisation": _quantised,
    "components behind equal noise": _denoised_components,
}
# Here a stage removes more noise than information.
REMOVES_NOISE = "components behind equal noise"


# ------------------------------------------------------------------------------------------------ channels of labels


def _noisy_labels(classes: int, share: float) -> Channel:
    channel = _replacing(classes, share)

    def seen(labels: Tensor, draw: Generator) -> Tensor:
        return torch.multinomial(channel[labels], 1, generator=draw).squeeze(1)

    return Channel(f"{share:.0%}", classes, seen, _information(channel / classes), math.log2(classes))


def _merged_labels(classes: int, left: int) -> Channel:
    entropy = _entropy(torch.bincount(torch.arange(classes) % left).double() / classes)
    return Channel(f"{classes} to {left}", classes, lambda labels, draw: labels % left, entropy, entropy)


def _perfect(classes: int) -> Channel:
    return _merged_labels(classes, classes)._replace(name=f"{classes}")


# Shares are those of labels that are drawn anew.
CHANNELS: dict[str, list[Channel]] = {
    "binary symmetric": [_noisy_labels(2, share) for share in (0.0, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0)],
    "ten-class label noise": [_noisy_labels(10, share) for share in (0.0, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0)],
    "merged classes": [_merged_labels(10, left) for left in (8, 6, 5, 4, 3, 2)],
    "perfect code": [_perfect(classes) for classes in (2, 3, 5, 10, 20, 50, 100)],
}


# ------------------------------------------------------------------------------------------------------- networks

# Weights and classes are those of the network, the same for every probe.
_WEIGHTS = 7


def _mixture(draw: Generator, n: int) -> Seen:
    """Ten classes in 60 dimensions, 30 rectified units, 8 noisy ones."""
    fixed = generator(_WEIGHTS, 0)
    centres = 0.8 * normal(fixed, 10, 60)
    first_weight = normal(fixed, 60, 30) / math.sqrt(60)
    second_weight = normal(fixed, 30, 8) / math.sqrt(30)
    labels = torch.randint(10, (n,), generator=draw)
    inputs = centres[labels] + normal(draw, n, 60)
    first = (inputs @ first_weight).relu()
    return Seen(inputs, labels, first, noisy(first @ second_weight, 0.5, draw))


def _images(draw: Generator, n: int) -> Seen:
    """Smooth images of 12×12 with four patterns, 8 rectified maps of 6×6, 10 noisy units."""
    fixed = generator(_WEIGHTS, 1)
    patterns = normal(fixed, 4, 1, 4, 4)
    kernel = normal(fixed, 8, 1, 3, 3) / 3
    weight = normal(fixed, 288, 10) / math.sqrt(288)
    labels = torch.randint(4, (n,), generator=draw)
    coarse = patterns[labels] + normal(draw, n, 1, 4, 4)
    inputs = functional.interpolate(coarse, size=12, mode="bilinear") + 0.1 * normal(draw, n, 1, 12, 12)
    first = functional.conv2d(inputs, kernel, stride=2, padding=1).relu()
    return Seen(inputs, labels, first, noisy(first.flatten(1) @ weight, 0.5, draw))


def _continuous(draw: Generator, n: int) -> Seen:
    """20 normal inputs, two continuous targets, 12 tanh units, 4 noisy ones."""
    fixed = generator(_WEIGHTS, 2)
    target_weight = normal(fixed, 20, 2) / math.sqrt(20)
    first_weight = normal(fixed, 20, 12) / math.sqrt(20)
    second_weight = normal(fixed, 12, 4) / math.sqrt(12)
    inputs = normal(draw, n, 20)
    targets = noisy((inputs @ target_weight).tanh(), 0.3, draw)
    first = (inputs @ first_weight).tanh()
    return Seen(inputs, targets, first, noisy(first @ second_weight, 0.5, draw))


NETWORKS: dict[str, Callable[[Generator, int], Seen]] = {
    "ten-class mixture": _mixture,
    "images": _images,
    "continuous target": _continuous,
}
