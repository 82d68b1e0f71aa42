"""Choosing layers: by keyword, name, glob, type or function, and what to say when nothing matches."""

import pytest
import torch
import torchmetrics
from torch import Tensor, nn
from torch.nn.utils import parametrizations, parametrize
from torch.nn.utils.parametrizations import orthogonal, weight_norm

from lightning_infoplane.network.layers import LayerSpec, named, select_layers


class Encoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 2, 3, padding=1)
        self.conv2 = nn.Conv2d(2, 2, 3, padding=1)


class Net(nn.Module):
    """Every kind of layer, some of them in a module of their own."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(8, 3)
        self.up = nn.ConvTranspose1d(1, 1, 1)
        self.encoder = Encoder()
        self.relu = nn.ReLU(inplace=True)


CONVS = ["up", "encoder.conv1", "encoder.conv2"]


@pytest.mark.parametrize(
    ("layers", "expected"),
    [
        ("conv", CONVS),
        ("linear", ["head"]),
        ("all", ["head", *CONVS, "relu"]),
        ("encoder.conv2", ["encoder.conv2"]),
        ("encoder.*", CONVS[1:]),
        ("*.conv[12]", CONVS[1:]),
        (nn.Conv2d, CONVS[1:]),
        (lambda name, module: name.endswith("1"), ["encoder.conv1"]),
        (["encoder.conv1", "head"], ["head", "encoder.conv1"]),
        (("linear", nn.ConvTranspose1d, "encoder.*2"), ["head", "up", "encoder.conv2"]),
        (["conv", "encoder.conv1"], CONVS),
    ],
    ids=repr,
)
def test_layers_come_by_name_in_the_order_of_registration(layers: LayerSpec, expected: list[str]) -> None:
    net = Net()
    chosen = select_layers(net, layers)
    assert list(chosen) == expected
    assert all(net.get_submodule(name) is module for name, module in chosen.items())


def test_convolutions_are_the_default() -> None:
    assert list(select_layers(Net())) == CONVS


@pytest.mark.parametrize(
    "kind",
    [nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d],
    ids=lambda kind: kind.__name__,
)
def test_every_convolution_is_a_conv(kind: type[nn.Module]) -> None:
    assert list(select_layers(nn.Sequential(nn.ReLU(), kind(1, 1, 1)), "conv")) == ["1"]


def test_a_lazy_convolution_is_a_conv() -> None:
    assert list(select_layers(nn.Sequential(nn.LazyConv2d(4, 3)), "conv")) == ["0"]


def test_a_module_registered_twice_has_one_name() -> None:
    shared = nn.Conv2d(1, 1, 1)
    assert list(select_layers(nn.ModuleDict({"a": shared, "b": shared}))) == ["a"]


def test_a_misspelt_name_lists_the_closest_ones_and_the_convolutions() -> None:
    message = (
        r"layers='encoder.conv3' matches no module. Did you mean .*'encoder\.conv[12]'.*\? "
        r"Convolutions here: 'up', 'encoder\.conv1', 'encoder\.conv2'\."
    )
    with pytest.raises(ValueError, match=message):
        select_layers(Net(), "encoder.conv3")


def test_one_misspelt_name_among_several_is_named() -> None:
    with pytest.raises(ValueError, match=r"layers='nowhere' matches no module"):
        select_layers(Net(), ["conv", "nowhere"])


def test_a_long_list_of_convolutions_is_cut() -> None:
    with pytest.raises(ValueError, match=r"Convolutions here: '0', .*'19', …\."):
        select_layers(nn.Sequential(*(nn.Conv1d(1, 1, 1) for _ in range(25))), "linear")


def test_a_model_without_convolutions_is_told_what_to_try() -> None:
    with pytest.raises(ValueError, match="The model has no convolution; try 'linear'"):
        select_layers(nn.Sequential(nn.Linear(1, 1)))


def test_an_empty_choice_is_refused() -> None:
    with pytest.raises(ValueError, match="layers is empty: name at least one layer"):
        select_layers(Net(), [])


@pytest.mark.parametrize("wrong", [3, None, [3], ["conv", 2.5], nn.ReLU(), [nn.Conv2d(1, 1, 1)]], ids=repr)
def test_what_is_no_choice_of_layers_is_a_type_error(wrong: object) -> None:
    with pytest.raises(TypeError, match=r"layers: expected a keyword \(conv, linear, all\), a name, a glob"):
        select_layers(Net(), wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize("part", ["net", "encoder", "encoder.conv1"])
def test_compiled_parts_keep_their_names(part: str) -> None:
    net = Net()
    if part == "net":
        chosen = select_layers(torch.compile(net, backend="eager"))  # type: ignore[arg-type]
    else:
        owner, _, name = part.rpartition(".")
        compiled = torch.compile(net.get_submodule(part), backend="eager")
        setattr(net.get_submodule(owner), name, compiled)
        chosen = select_layers(net)
    assert list(chosen) == CONVS


# --------------------------------------------------------------------------------------- what keywords take and leave


class SamePadding(nn.Conv2d):
    """A convolution that pads by a module of its own, as EfficientNets do."""

    def __init__(self) -> None:
        super().__init__(1, 1, 3)
        self.pad = nn.ZeroPad2d(1)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(self.pad(x))


class Token(nn.Module):
    """A block with a parameter beside its layers."""

    def __init__(self) -> None:
        super().__init__()
        self.token = nn.Parameter(torch.zeros(1, 4))
        self.mlp = nn.Sequential(nn.Linear(4, 4), nn.ReLU())

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.mlp(x + self.token)
        return found


class Lowered(nn.Module):
    """A weight computed by a layer."""

    def __init__(self) -> None:
        super().__init__()
        self.mix = nn.Linear(3, 3, bias=False)

    def forward(self, weight: Tensor) -> Tensor:
        found: Tensor = self.mix(weight)
        return found


def lowered() -> nn.Module:
    layer = nn.Linear(3, 3)
    parametrize.register_parametrization(layer, "weight", Lowered())
    return layer


@pytest.mark.parametrize(
    ("net", "expected"),
    [
        (nn.Sequential(SamePadding()), ["0", "0.pad"]),
        (nn.Sequential(Token()), ["0", "0.mlp.0", "0.mlp.1"]),
        (nn.Sequential(nn.Sequential(nn.Linear(1, 1)), nn.ReLU()), ["0.0", "1"]),
        (nn.Sequential(nn.LazyLinear(3)), ["0"]),
        (nn.Sequential(nn.BatchNorm1d(3, affine=False), nn.Flatten()), ["0", "1"]),
    ],
    ids=["padding", "a parameter beside layers", "containers", "lazy", "without parameters"],
)
def test_all_are_the_modules_with_parameters_of_their_own_or_without_children(
    net: nn.Module, expected: list[str]
) -> None:
    assert list(select_layers(net, "all")) == expected


PARAMETRISED = {
    "spectral norm": lambda: parametrizations.spectral_norm(nn.Conv2d(1, 2, 3)),
    "without bias": lambda: parametrizations.spectral_norm(nn.Conv2d(1, 2, 3, bias=False)),
    "weight norm": lambda: weight_norm(nn.Linear(2, 2)),
    "orthogonal": lambda: orthogonal(nn.Linear(2, 2, bias=False)),
    "by a layer": lowered,
}


@pytest.mark.parametrize("make", PARAMETRISED.values(), ids=PARAMETRISED)
@pytest.mark.parametrize(
    "layers", ["all", ["conv", "linear", "all"], "a*", [nn.Linear, nn.Conv2d], lambda name, module: True], ids=repr
)
def test_a_parametrised_layer_is_one_layer_and_brings_nothing_along(make: object, layers: LayerSpec) -> None:
    net = nn.ModuleDict({"a": make(), "b": nn.Sequential(nn.Linear(1, 1), nn.Conv2d(1, 1, 1))})  # type: ignore[operator]
    assert [name for name in select_layers(net, layers) if name[0] == "a"] == ["a"]


def test_what_computes_a_weight_is_a_layer_by_its_full_name() -> None:
    name = "0.parametrizations.weight.0.mix"
    assert list(select_layers(nn.Sequential(lowered()), name)) == [name]


def test_a_child_that_is_called_parametrizations_is_like_any_other() -> None:
    net = nn.ModuleDict({"parametrizations": nn.ModuleDict({"weight": nn.Linear(1, 1)})})
    assert list(select_layers(net, "linear")) == ["parametrizations.weight"]


@pytest.mark.parametrize(
    "empty",
    [nn.ModuleList(), nn.ModuleDict(), nn.ParameterList([torch.ones(1)]), nn.ParameterDict({"a": torch.ones(1)})],
)
def test_what_cannot_be_called_is_taken_by_no_keyword(empty: nn.Module) -> None:
    net = nn.ModuleDict({"empty": empty, "fc": nn.Linear(1, 1)})
    assert list(select_layers(net, "all")) == ["fc"]
    assert list(select_layers(net, ["all", "empty"])) == ["empty", "fc"]


def test_attention_is_a_layer_and_its_projection_which_it_never_calls_is_none() -> None:
    net = nn.TransformerEncoderLayer(8, 2, 16)
    assert list(select_layers(net, "linear")) == ["linear1", "linear2"]
    assert "self_attn" in select_layers(net, "all")
    assert "self_attn.out_proj" not in select_layers(net, "all")
    for layers in ("self_attn.out_proj", "*.out_proj", lambda name, module: name.endswith("out_proj")):
        assert list(select_layers(net, layers)) == ["self_attn.out_proj"]


def test_attention_of_ones_own_may_call_its_projection() -> None:
    class Mine(nn.MultiheadAttention):
        def forward(self, x: Tensor) -> Tensor:  # type: ignore[override]
            found: Tensor = self.out_proj(x)
            return found

    assert list(select_layers(nn.Sequential(Mine(4, 2)), "linear")) == ["0.out_proj"]


def test_a_metric_is_no_layer_nor_is_what_it_holds() -> None:
    class Distance(torchmetrics.Metric):
        def __init__(self) -> None:
            super().__init__()
            self.features = nn.Linear(4, 4)

        def update(self, x: Tensor) -> None: ...

        def compute(self) -> Tensor:
            return torch.zeros(())

    metrics = torchmetrics.MetricCollection([torchmetrics.MeanMetric(), torchmetrics.SumMetric()])
    net = nn.ModuleDict({"fc": nn.Linear(1, 1), "distance": Distance(), "metrics": metrics})
    for layers in ("linear", "all"):
        assert list(select_layers(net, layers)) == ["fc"]
    assert list(select_layers(net, "distance.features")) == ["distance.features"]


@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
def test_a_scripted_layer_is_a_layer() -> None:
    net = nn.Sequential(torch.jit.trace(nn.Linear(2, 2), torch.ones(1, 2)), nn.ReLU())
    assert list(select_layers(net, "all")) == ["0", "1"]


@pytest.mark.parametrize("name", ["conv[1]", "what?", "a*b", "[!a]"])
def test_a_name_that_reads_like_a_glob_is_found_as_it_is(name: str) -> None:
    net = nn.ModuleDict({name: nn.Linear(1, 1), "other": nn.ReLU()})
    assert list(select_layers(net, name)) == [name]


@pytest.mark.parametrize(
    ("layers", "expected"),
    [
        ("conv", []),
        (["conv", "linear", "all"], []),
        ("encoder.conv2", ["encoder.conv2"]),
        (["all", "encoder.*"], ["encoder.conv1", "encoder.conv2"]),
        (nn.Linear, ["head"]),
        (("conv", lambda name, module: name == "up"), ["up"]),
    ],
    ids=repr,
)
def test_what_was_asked_for_is_told_from_what_a_keyword_took(layers: LayerSpec, expected: list[str]) -> None:
    net = Net()
    assert [name for name, module in select_layers(net, layers).items() if named(layers, name, module)] == expected


@pytest.mark.parametrize(
    ("net", "layers", "other"),
    [
        (nn.Sequential(nn.ReLU()), "linear", "all"),
        (nn.Sequential(nn.ReLU()), "conv", "all"),
        (nn.Sequential(nn.Linear(1, 1)), "conv", "linear"),
        (nn.Sequential(nn.Linear(1, 1)), "nowhere", "linear"),
    ],
)
def test_what_is_to_be_tried_instead_would_find_something(net: nn.Module, layers: str, other: str) -> None:
    with pytest.raises(ValueError, match=f"The model has no convolution; try '{other}'"):
        select_layers(net, layers)
    assert select_layers(net, other)
