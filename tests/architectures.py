"""Networks as people build them, of any width, and which of their layers screen which, by the flow of their data."""

from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils._pytree import tree_leaves

# ------------------------------------------------------------------------------------------------------ the oracle


class Traced(Tensor):
    """A tensor that knows the layers that every way from the input to it has passed.

    Nothing is computed of its values: whatever operation it goes into, the result has been reached by all ways that
    reach one of the operands, so that what they have in common is what all ways have passed.
    """

    passed: frozenset[str]

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        operands = [t for t in tree_leaves((args, kwargs)) if isinstance(t, Traced)]
        out = super().__torch_function__(func, types, args, kwargs)
        known = [t.passed for t in operands if hasattr(t, "passed")]
        for t in tree_leaves(out):
            if isinstance(t, Traced) and known:
                t.passed = frozenset.intersection(*known)
        return out


def screened_in(net: nn.Module, layers: Iterable[str], x: Tensor) -> set[tuple[str, str]]:
    """(a, b) where every way from the input to b passes a."""
    found: dict[str, frozenset[str]] = {}
    calls: Counter[str] = Counter()

    def hook(layer: str) -> Callable[..., Any]:
        def passing(module: nn.Module, args: Any, output: Any) -> Any:
            calls[layer] += 1
            name = layer if calls[layer] == 1 else f"{layer}.call{calls[layer]}"
            first = output[0] if isinstance(output, tuple) else output
            if not isinstance(first, Traced):  # of no sample
                return None
            found[name] = first.passed
            mine = first.view_as(first)
            mine.passed = first.passed | {name}
            return (mine, *output[1:]) if isinstance(output, tuple) else mine

        return passing

    entering = x.clone().as_subclass(Traced)
    entering.passed = frozenset()
    with ExitStack() as hooks, torch.no_grad():
        for name in layers:
            hooks.callback(net.get_submodule(name).register_forward_hook(hook(name)).remove)
        net.eval()(entering)
    return {(a, b) for b, passed in found.items() for a in passed}


# --------------------------------------------------------------------------------------------------- convolutions


def conv_bn(
    inside: int, outside: int, kernel: int, act: Callable[[], nn.Module] | None, **options: Any
) -> nn.Sequential:
    """conv-BN-activation."""
    conv = nn.Conv2d(inside, outside, kernel, padding=kernel // 2, bias=False, **options)
    return nn.Sequential(conv, nn.BatchNorm2d(outside), *([act()] if act else []))


class Squeeze(nn.Module):
    """Squeeze and excitation: each channel times a gate of its own."""

    def __init__(self, width: int, inside: int, act: Callable[[], nn.Module], gate: Callable[[], nn.Module]) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Conv2d(width, inside, 1), nn.Conv2d(inside, width, 1)
        self.act, self.gate = act(), gate()

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gate(self.fc2(self.act(self.fc1(x.mean((2, 3), keepdim=True)))))


class MBConv(nn.Module):
    """Expand, depthwise, squeeze and excite, project, and a way around where shapes permit."""

    def __init__(
        self,
        inside: int,
        outside: int,
        expand: int,
        kernel: int,
        stride: int,
        act: Any,
        gate: Any = None,
        ratio: int = 4,
        squeeze_of: str = "in",
    ) -> None:
        super().__init__()
        wide = inside * expand
        parts: list[nn.Module] = [conv_bn(inside, wide, 1, act)] if expand > 1 else []
        parts.append(conv_bn(wide, wide, kernel, act, stride=stride, groups=wide))
        if gate is not None:
            parts.append(Squeeze(wide, max(1, (inside if squeeze_of == "in" else wide) // ratio), act, gate))
        self.body = nn.Sequential(*parts, conv_bn(wide, outside, 1, None))
        self.around = stride == 1 and inside == outside

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x) if self.around else self.body(x)


def silu() -> nn.Module:
    return nn.SiLU(inplace=True)


def zero_last(net: nn.Module) -> nn.Module:
    """The last gain of every branch that something goes around is zero."""
    for module in net.modules():
        if isinstance(module, MBConv) and module.around:
            nn.init.zeros_(module.body[-1][1].weight)  # type: ignore[index, arg-type, union-attr]
        if isinstance(module, Basic | Bottleneck):
            nn.init.zeros_(module.last.weight)
    return net


def frozen_biases(net: nn.Module) -> nn.Module:
    """Zero, and staying so."""
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.bias.requires_grad_(False)
    return net


def timm_init(net: nn.Module) -> nn.Module:
    """As EfficientNets are begun: fan out, biases zero."""
    for module in net.modules():
        if isinstance(module, nn.Conv2d):
            fan = module.kernel_size[0] * module.kernel_size[1] * module.out_channels // module.groups
            nn.init.normal_(module.weight, 0, (2 / fan) ** 0.5)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    return net


B0 = (
    (1, 3, 1, 16, 1),
    (6, 3, 2, 24, 2),
    (6, 5, 2, 40, 2),
    (6, 3, 2, 80, 3),
    (6, 5, 1, 112, 3),
    (6, 5, 2, 192, 4),
    (6, 3, 1, 320, 1),
)


def efficientnet(width: float = 0.25, classes: int = 10, least: int = 4) -> nn.Sequential:
    """EfficientNet-B0, 81 convolutions."""

    def w(channels: int) -> int:
        return max(least, int(channels * width))

    inside = w(32)
    parts: list[nn.Module] = [conv_bn(3, inside, 3, silu, stride=2)]
    for expand, kernel, stride, channels, repeats in B0:
        for k in range(repeats):
            parts.append(MBConv(inside, w(channels), expand, kernel, stride if k == 0 else 1, silu, nn.Sigmoid))
            inside = w(channels)
    return nn.Sequential(
        *parts,
        conv_bn(inside, w(1280), 1, silu),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Dropout(0.2),
        nn.Linear(w(1280), classes),
    )


V2 = (
    (1, 3, 1, 16, 1),
    (6, 3, 2, 24, 2),
    (6, 3, 2, 32, 3),
    (6, 3, 2, 64, 4),
    (6, 3, 1, 96, 3),
    (6, 3, 2, 160, 3),
    (6, 3, 1, 320, 1),
)


def mobilenet_v2(width: float = 0.25, classes: int = 10) -> nn.Sequential:
    def relu6() -> nn.Module:
        return nn.ReLU6(inplace=True)

    inside = max(4, int(32 * width))
    parts: list[nn.Module] = [conv_bn(3, inside, 3, relu6, stride=2)]
    for expand, kernel, stride, channels, repeats in V2:
        outside = max(4, int(channels * width))
        for k in range(repeats):
            parts.append(MBConv(inside, outside, expand, kernel, stride if k == 0 else 1, relu6))
            inside = outside
    last = max(4, int(1280 * width))
    return nn.Sequential(
        *parts, conv_bn(inside, last, 1, relu6), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(last, classes)
    )


# kernel, expanded, out, squeeze, hard swish, stride
V3 = (
    (3, 16, 16, True, False, 2),
    (3, 72, 24, False, False, 2),
    (3, 88, 24, False, False, 1),
    (5, 96, 40, True, True, 2),
    (5, 240, 40, True, True, 1),
    (5, 240, 40, True, True, 1),
    (5, 120, 48, True, True, 1),
    (5, 144, 48, True, True, 1),
    (5, 288, 96, True, True, 2),
    (5, 576, 96, True, True, 1),
    (5, 576, 96, True, True, 1),
)


def mobilenet_v3(width: float = 0.25, classes: int = 10) -> nn.Sequential:
    def w(channels: int) -> int:
        return max(4, int(channels * width))

    inside = w(16)
    parts: list[nn.Module] = [conv_bn(3, inside, 3, nn.Hardswish, stride=2)]
    for kernel, expanded, out, squeeze, hard, stride in V3:
        act = nn.Hardswish if hard else nn.ReLU
        expand = max(1, round(expanded * width / inside))
        parts.append(
            MBConv(inside, w(out), expand, kernel, stride, act, nn.Hardsigmoid if squeeze else None, squeeze_of="wide")
        )
        inside = w(out)
    return nn.Sequential(
        *parts,
        conv_bn(inside, w(576), 1, nn.Hardswish),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(w(576), w(1024)),
        nn.Hardswish(),
        nn.Dropout(0.2),
        nn.Linear(w(1024), classes),
    )


class Dense(nn.Module):
    """BN-ReLU-conv, put beside what went in; by a bottleneck first where one is given."""

    def __init__(self, inside: int, growth: int, bottleneck: int = 0) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(inside)
        self.bottleneck = bottleneck
        if bottleneck:
            self.conv1, self.bn2 = (
                nn.Conv2d(inside, bottleneck * growth, 1, bias=False),
                nn.BatchNorm2d(bottleneck * growth),
            )
        self.conv2 = nn.Conv2d(bottleneck * growth or inside, growth, 3, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        inside = F.relu(self.bn1(x), inplace=True)
        if self.bottleneck:
            inside = F.relu(self.bn2(self.conv1(inside)), inplace=True)
        return torch.cat([x, self.conv2(inside)], 1)


def transition(inside: int, outside: int) -> nn.Sequential:
    return nn.Sequential(nn.BatchNorm2d(inside), nn.ReLU(), nn.Conv2d(inside, outside, 1, bias=False), nn.AvgPool2d(2))


def densenet(
    blocks: tuple[int, ...], growth: int, bottleneck: int, compress: float, stem: nn.Module, inside: int
) -> nn.Sequential:
    parts: list[nn.Module] = [stem]
    for k, depth in enumerate(blocks):
        for _ in range(depth):
            parts.append(Dense(inside, growth, bottleneck))
            inside += growth
        if k < len(blocks) - 1:
            parts.append(transition(inside, int(inside * compress)))
            inside = int(inside * compress)
    return nn.Sequential(
        *parts, nn.BatchNorm2d(inside), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(inside, 10)
    )


def densenet40(growth: int = 12) -> nn.Sequential:
    return densenet((12, 12, 12), growth, 0, 1.0, nn.Conv2d(3, 2 * growth, 3, padding=1, bias=False), 2 * growth)


def densenet121(growth: int = 32) -> nn.Sequential:
    stem = nn.Sequential(
        nn.Conv2d(3, 2 * growth, 7, 2, 3, bias=False), nn.BatchNorm2d(2 * growth), nn.ReLU(), nn.MaxPool2d(3, 2, 1)
    )
    return densenet((6, 12, 24, 16), growth, 4, 0.5, stem, 2 * growth)


class Basic(nn.Module):
    def __init__(self, inside: int, outside: int, stride: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(inside, outside, 3, stride, 1, bias=False), nn.BatchNorm2d(outside)
        self.conv2, self.last = nn.Conv2d(outside, outside, 3, 1, 1, bias=False), nn.BatchNorm2d(outside)
        self.relu = nn.ReLU(inplace=True)
        same = stride == 1 and inside == outside
        self.down = nn.Identity() if same else conv_bn(inside, outside, 1, None, stride=stride)

    def forward(self, x: Tensor) -> Tensor:
        return self.relu(self.last(self.conv2(self.relu(self.bn1(self.conv1(x))))) + self.down(x))


class Bottleneck(nn.Module):
    def __init__(self, inside: int, outside: int, stride: int) -> None:
        super().__init__()
        inner = outside // 4
        self.conv1, self.bn1 = nn.Conv2d(inside, inner, 1, bias=False), nn.BatchNorm2d(inner)
        self.conv2, self.bn2 = nn.Conv2d(inner, inner, 3, stride, 1, bias=False), nn.BatchNorm2d(inner)
        self.conv3, self.last = nn.Conv2d(inner, outside, 1, bias=False), nn.BatchNorm2d(outside)
        same = stride == 1 and inside == outside
        self.down = nn.Identity() if same else conv_bn(inside, outside, 1, None, stride=stride)

    def forward(self, x: Tensor) -> Tensor:
        inside = F.relu(self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)), inplace=True))), inplace=True)
        return F.relu(self.last(self.conv3(inside)) + self.down(x), inplace=True)


def resnet(block: type[nn.Module], depths: tuple[int, ...], width: int) -> nn.Sequential:
    parts: list[nn.Module] = [conv_bn(3, width, 3, nn.ReLU)]
    inside = width
    for stage, depth in enumerate(depths):
        for k in range(depth):
            parts.append(block(inside, width * 2**stage, 2 if stage and not k else 1))
            inside = width * 2**stage
    return nn.Sequential(*parts, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(inside, 10))


class ConvNeXtBlock(nn.Module):
    def __init__(self, width: int, scale: float) -> None:
        super().__init__()
        self.depthwise, self.norm = nn.Conv2d(width, width, 7, padding=3, groups=width), nn.LayerNorm(width, eps=1e-6)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        self.gamma = nn.Parameter(torch.full((width,), scale))

    def forward(self, x: Tensor) -> Tensor:
        inside = self.norm(self.depthwise(x).permute(0, 2, 3, 1))
        return x + (self.gamma * self.down(F.gelu(self.up(inside)))).permute(0, 3, 1, 2)


class ChannelNorm(nn.LayerNorm):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


def convnext(width: int = 8, depths: tuple[int, ...] = (3, 3, 9, 3), scale: float = 1e-6) -> nn.Sequential:
    parts: list[nn.Module] = [nn.Conv2d(3, width, 2, 2), ChannelNorm(width, eps=1e-6)]
    for stage, depth in enumerate(depths):
        inside = width * 2**stage
        if stage:
            parts += [ChannelNorm(inside // 2, eps=1e-6), nn.Conv2d(inside // 2, inside, 2, 2)]
        parts += [ConvNeXtBlock(inside, scale) for _ in range(depth)]
    net = nn.Sequential(*parts, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.LayerNorm(inside), nn.Linear(inside, 10))
    for module in net.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.trunc_normal_(module.weight, std=0.02)
            nn.init.zeros_(module.bias)
    return net


# --------------------------------------------------------------------------------------------------- transformers


class Attention(nn.Module):
    """Queries, keys and values by one layer."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads, self.qkv, self.proj = heads, nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4).unbind()
        return self.proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))


class PreNorm(nn.Module):
    """Attention and MLP, each normalised before, and scaled after where a scale is given."""

    def __init__(self, width: int, heads: int, plain: bool, scale: float | None) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attn = Attention(width, heads) if plain else nn.MultiheadAttention(width, heads, batch_first=True)
        self.plain = plain
        self.fc1, self.fc2 = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        if scale is not None:
            self.gamma1, self.gamma2 = (nn.Parameter(torch.full((width,), scale)) for _ in range(2))
        else:
            self.gamma1 = self.gamma2 = 1.0  # type: ignore[assignment]

    def forward(self, x: Tensor) -> Tensor:
        n = self.norm1(x)
        x = x + self.gamma1 * (self.attn(n) if self.plain else self.attn(n, n, n, need_weights=False)[0])
        return x + self.gamma2 * self.fc2(F.gelu(self.fc1(self.norm2(x))))


class ViT(nn.Module):
    def __init__(
        self,
        width: int = 24,
        depth: int = 12,
        plain: bool = True,
        scale: float | None = None,
        zero: bool = False,
        patch: int = 8,
    ) -> None:
        super().__init__()
        self.patch = nn.Conv2d(3, width, patch, patch)
        self.token = nn.Parameter(torch.zeros(1, 1, width))
        self.position = nn.Parameter(0.02 * torch.randn(1, (32 // patch) ** 2 + 1, width))
        self.blocks = nn.ModuleList(PreNorm(width, 4, plain, scale) for _ in range(depth))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, 10)
        for name, module in self.named_modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                nn.init.zeros_(module.bias)
                if zero and name.endswith(("proj", "fc2", "head")):
                    nn.init.zeros_(module.weight)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patch(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(len(x), -1, -1), x], 1) + self.position
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x[:, 0]))


class Encoder(nn.Module):
    """Rows of an image as tokens, into nn.TransformerEncoder."""

    def __init__(self, width: int = 24, depth: int = 6, norm_first: bool = False) -> None:
        super().__init__()
        self.embed = nn.Linear(96, width)
        layer = nn.TransformerEncoderLayer(width, 4, 4 * width, batch_first=True, norm_first=norm_first)
        self.encoder = nn.TransformerEncoder(layer, depth, enable_nested_tensor=False)
        self.head = nn.Linear(width, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.encoder(self.embed(x.transpose(1, 2).flatten(2))).mean(1))


class Perceptron(nn.Sequential):
    """Twenty layers of sigmoids: of the signal a hundred-millionth is left in the tenth."""

    def __init__(self, depth: int = 20, act: type[nn.Module] = nn.Sigmoid) -> None:
        super().__init__(nn.Flatten(), nn.Linear(3072, 16))
        for _ in range(depth):
            self.extend([act(), nn.Linear(16, 16)])
