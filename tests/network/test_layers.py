"""Choosing layers: by keyword, name, glob, type or function, and what to say when nothing matches."""

import pytest
import torch
from torch import nn

from lightning_infoplane.network.layers import LayerSpec, select_layers


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
