"""What a measurement says beside its numbers: remedies, the text card; and a whole run with everything switched on."""

import math
import re
import warnings
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import lightning.pytorch as lp
import markdown
import pytest
import torch
from lightning.pytorch.loggers import TensorBoardLogger
from networks import CLASSES, Steps, assert_same, callback, events, fit, hooks_on
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import Tensor, nn

from lightning_infoplane import InformationPlane, LogSpacedEpochs, MatrixRenyiCallback, MedianDistance, Probe, Row
from lightning_infoplane.markov import Chain
from lightning_infoplane.outputs import bill, card, remedies

LIMIT = 6.0
PROBE = Probe(torch.zeros(64, 2), torch.arange(64) % 2)


def rows_of(layer: str, entropy: float, shared: float, chance: float | None = 0.5, prefix: str = "") -> list[Row]:
    """The rows that verdicts are made from."""
    values = {"H_T": entropy, "I_XT": shared, "I_TY": 0.25} | ({} if chance is None else {"I_XT_chance": chance})
    return [Row(3, 7, layer, prefix + quantity, value) for quantity, value in values.items()]


def of_moment(*layers: list[Row], prefix: str = "") -> list[Row]:
    return [Row(3, 7, "", f"{prefix}log2_n", LIMIT), *(row for layer in layers for row in layer)]


OK, SATURATED, COLLAPSED, AT_CHANCE = (
    rows_of("ok", 3.0, 1.5),
    rows_of("full", 5.94, 3.0),
    rows_of("flat", 0.06, 0.01),
    rows_of("lost", 3.0, 0.52),
)


# ----------------------------------------------------------------------------------------------------- remedies


def said(rows: Sequence[Row], *probes: str) -> dict[str, str]:
    return dict(remedies(rows, dict.fromkeys(probes or ("",), PROBE)))


@pytest.mark.parametrize(("seconds", "dear"), [(1.0, False), (9.9, False), (10.0, True), (71.0, True)])
def test_a_run_that_paid_much_is_told_how_to_pay_less(seconds: float, dear: bool) -> None:
    told = bill(21, seconds, 100.0)
    assert told.startswith(f"21 measurements took {seconds:.1f} s, {seconds / 100:.0%} of the training time.")
    assert ("schedule=LogSpacedEpochs(20) measures less often" in told) == dear
    assert MatrixRenyiCallback(schedule=LogSpacedEpochs(20), figures=False)  # what it says can be typed


def test_a_layer_that_says_something_needs_no_remedy() -> None:
    assert said(of_moment(OK)) == {}


@pytest.mark.parametrize(
    ("rows", "about", "sentence"),
    [
        (
            SATURATED,
            " full saturated",
            "layer 'full' is saturated. H(T) is 99% of log2 n, so I(X;T) equals H(X) whatever the layer does. "
            "Use a larger bandwidth, such as MedianDistance(scale=2), or a larger probe.",
        ),
        (
            COLLAPSED,
            " flat collapsed",
            "layer 'flat' is collapsed. H(T) is 1% of log2 n: to the kernel all samples look alike (a dead layer?). "
            "If its activations do vary, use a smaller bandwidth, such as MedianDistance(scale=0.5).",
        ),
        (
            AT_CHANCE,
            " lost at chance",
            "layer 'lost' is at chance. I(X;T) is no larger than for shuffled pairs, so the curve says nothing about "
            "the input. Use a larger probe or another bandwidth.",
        ),
    ],
)
def test_each_remedy_names_layer_number_and_what_to_do(rows: list[Row], about: str, sentence: str) -> None:
    assert said(of_moment(OK, rows)) == {about: sentence}


def test_what_it_is_about_is_the_same_at_every_epoch_so_that_it_is_said_once() -> None:
    """The number in the sentence changes; whoever speaks goes by what it is about."""
    later = rows_of("full", 5.99, 3.0)
    first, second = said(of_moment(SATURATED)), said(of_moment(later))
    assert first.keys() == second.keys()
    assert first != second


def test_each_probe_and_each_case_is_another_matter() -> None:
    train = of_moment(rows_of("full", 5.94, 3.0, prefix="train/"), prefix="train/")
    val = of_moment(rows_of("full", 0.06, 0.0, prefix="val/"), prefix="val/")
    assert set(said(train + val, "train", "val")) == {"train full saturated", "val full collapsed"}


def test_a_rule_named_in_a_remedy_is_there_to_be_typed() -> None:
    for rows in (SATURATED, COLLAPSED):
        (sentence,) = said(of_moment(rows)).values()
        (rule,) = re.findall(r"MedianDistance\(.*?\)", sentence)
        assert isinstance(eval(rule), MedianDistance)


def test_without_a_chance_level_nothing_is_at_chance() -> None:
    assert said(of_moment(rows_of("lost", 3.0, 0.01, chance=None))) == {}


def live(**layers: Tensor) -> list[Row]:
    x = torch.randn(64, 5, generator=torch.Generator().manual_seed(0))
    return InformationPlane().measure(x, torch.arange(64) % 2, layers)


def test_a_dead_layer_and_noise_are_found_in_real_rows() -> None:
    noise = torch.randn(64, 5, generator=torch.Generator().manual_seed(1))
    assert set(said(live(dead=torch.ones(64, 3, 2, 2), noise=noise))) == {" dead collapsed", " noise at chance"}


def test_the_callback_says_each_remedy_once(tmp_path: Path) -> None:
    """In three measurements of a network whose second layer is dead."""

    class Dead(ResidualNet):
        def build(self) -> None:
            super().build()
            nn.init.zeros_(self.block.conv2.weight)
            nn.init.zeros_(self.block.conv2.bias)
            self.block.conv2.requires_grad_(False)

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        fit(tmp_path, callback(layers=["stem", "block.conv2"]), model=Dead())
    (spoken,) = [str(one.message) for one in caught if "collapsed" in str(one.message)]
    assert "MatrixRenyiCallback: layer 'block.conv2' is collapsed. H(T) is 0% of log2 n" in spoken


# --------------------------------------------------------------------------------------------------------- card


CHAIN = Chain(("ok", "full"), frozenset({("ok", "full")}), ("noise",))


def shown(text: str) -> ElementTree.Element:
    """The card as TensorBoard's text tab renders it."""
    html = markdown.markdown(text, extensions=["markdown.extensions.tables", "markdown.extensions.fenced_code"])
    return ElementTree.fromstring(f"<card>{html}</card>")


def cells(table: ElementTree.Element) -> list[list[str]]:
    return [["".join(cell.itertext()).strip() for cell in row] for row in table.iter("tr")]


def test_the_card_has_one_row_a_layer_with_its_verdict() -> None:
    rows = of_moment(OK, SATURATED, COLLAPSED, AT_CHANCE)
    (table,) = shown(card(InformationPlane(), rows, {"": PROBE}, CHAIN)).iter("table")
    assert cells(table) == [
        ["layer", "I(X;T)", "shuffled", "I(T;Y)", "shuffled", "verdict"],
        ["ok", "1.50", "0.50", "0.25", "", "ok"],
        ["full", "3.00", "0.50", "0.25", "", "saturated"],
        ["flat", "0.01", "0.50", "0.25", "", "collapsed"],
        ["lost", "0.52", "0.50", "0.25", "", "at chance"],
    ]


def test_the_card_has_the_chain_as_a_list() -> None:
    items = ["".join(item.itertext()) for item in shown(card(InformationPlane(), [], {}, CHAIN)).iter("li")]
    assert items == ["ok → full", "noise: random, left out"]


def test_a_card_without_a_chain_does_not_speak_of_one() -> None:
    assert "Markov" not in card(InformationPlane(), of_moment(OK), {"": PROBE}, None)


def test_the_card_says_how_it_was_measured() -> None:
    text = card(InformationPlane(2, MedianDistance(scale=3)), of_moment(OK), {"": PROBE}, None)
    assert "α = 2, MedianDistance(scale=3" in text
    assert "Eigenvalues(" in text
    assert "Probe of 64 samples:" in text


def test_each_probe_has_a_table() -> None:
    train = of_moment(rows_of("ok", 3.0, 1.5, prefix="train/"), prefix="train/")
    val = of_moment(rows_of("ok", 3.0, 1.25, prefix="val/"), prefix="val/")
    text = card(InformationPlane(), train + val, {"train": PROBE, "val": PROBE}, None)
    assert "Probe of 64 samples (train):" in text
    assert "Probe of 64 samples (val):" in text
    first, second = shown(text).iter("table")
    assert cells(first)[1][:2] == ["ok", "1.50"]
    assert cells(second)[1][:2] == ["ok", "1.25"]


@pytest.mark.parametrize(
    "name", ["encoder.layers.0.self_attn", "_orig_", "__init__", "a|b", "a *b* `c`", "<b>", "x_1_"]
)
def test_names_are_shown_as_they_are(name: str) -> None:
    text = card(
        InformationPlane(), of_moment(rows_of(name, 3.0, 1.5)), {"": PROBE}, Chain((name,), frozenset(), (name,))
    )
    (table,) = shown(text).iter("table")
    assert cells(table)[1:] == [[name, "1.50", "0.50", "0.25", "", "ok"]]
    assert ["".join(item.itertext()) for item in shown(text).iter("li")][1:] == [f"{name}: random, left out"]


# ------------------------------------------------------------------------------------ a run with everything on


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(4, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)
        self.bn, self.dropout = nn.BatchNorm2d(4), nn.Dropout(0.2)

    def forward(self, x: Tensor) -> Tensor:
        inside = self.conv2(nn.functional.relu_(self.bn(self.conv1(x))))
        return nn.functional.relu_(self.dropout(inside) + x)


class ResidualNet(Steps, lp.LightningModule):
    """A stem, a residual block, a convolution and a linear head."""

    def __init__(self) -> None:
        super().__init__()
        self.build()

    def build(self) -> None:
        self.stem, self.block = nn.Conv2d(1, 4, 3, padding=1), Block()
        self.last, self.head = nn.Conv2d(4, 4, 3, padding=1), nn.Linear(4, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.last(self.block(self.stem(x))).mean((2, 3)))


# By hand: the convolutions in the block lie between the stem and an addition that the stem also reaches.
CHOSEN = ["stem", "block.conv1", "block.conv2", "block", "last"]
PAIRS = [("stem", "block.conv1"), ("stem", "block"), ("block.conv1", "block.conv2"), ("block", "last")]
# Errors are compared with that of the last layer, so pairs with it would be those of a thing with itself.
BACKWARD = [("block", "block.conv2"), ("block", "stem"), ("block.conv2", "block.conv1")]


def joined(pairs: list[tuple[str, str]]) -> list[str]:
    return [f"{a}-to-{b}" for a, b in pairs]


def all_keys() -> set[str]:
    of_layers = ["H_T", "I_XT", "I_TY", "I_XT_chance", "I_TY_chance", "I_XT_p", "I_TY_p", "bandwidth"]
    of_layers += ["H_T_stderr", "I_XT_stderr", "I_TY_stderr", "total_correlation"]
    of_layers += ["redundancy_synergy", "redundancy_synergy_stderr", "non_redundant", "non_redundant_stderr"]
    of_errors = ["H_error", "I_error", "I_error_chance", "I_error_p", "bandwidth_error"]
    of_errors += ["H_error_stderr", "I_error_stderr"]
    of_pairs = ["DPI_XT", "DPI_YT", "DPI_XT_stderr", "DPI_YT_stderr"]
    return {
        *("H_X", "H_Y", "H_error_last", "DPI_XT_violations", "DPI_error_violations"),
        *(f"{quantity}/{layer}" for quantity in of_layers for layer in CHOSEN),
        *(f"{quantity}/{layer}" for quantity in of_errors for layer in CHOSEN[:-1]),
        *(f"{quantity}/{pair}" for quantity in of_pairs for pair in joined(PAIRS)),
        *(f"{quantity}/{pair}" for quantity in ("DPI_error", "DPI_error_stderr") for pair in joined(BACKWARD)),
    }


@pytest.fixture(scope="module")
def everything(tmp_path_factory: pytest.TempPathFactory) -> tuple[lp.Trainer, MatrixRenyiCallback, ResidualNet]:
    root = tmp_path_factory.mktemp("everything")
    measured = callback(layers=CHOSEN, error_signals=True, redundancy=True, jackknife=4, chance=20, figures=True)
    return trained(root, measured)


def trained(root: Path, *measured: MatrixRenyiCallback) -> tuple[lp.Trainer, Any, ResidualNet]:
    torch.manual_seed(0)
    net = ResidualNet()
    done = fit(root, *measured, model=net, logger=TensorBoardLogger(root))
    return done, measured[0] if measured else None, net


def test_every_key_of_the_design_is_logged(everything: Any) -> None:
    done, _, _ = everything
    found = {key for key in events(done.log_dir) if not re.match(r"train_|val_|epoch$|hp_metric$", key)}
    assert found == all_keys()
    assert {key for key in done.callback_metrics if not re.match(r"train_|val_", key)} == all_keys()


def test_markov_pairs_are_those_of_the_graph(everything: Any) -> None:
    _, measured, _ = everything
    assert measured.markov_pairs == PAIRS


def test_gaps_are_differences_of_logged_values(everything: Any) -> None:
    _, measured, _ = everything
    value = {(row.epoch, row.quantity, row.layer): row.value for row in measured.history}
    for epoch in range(3):
        for a, b in PAIRS:
            gap = value[epoch, "I_XT", a] - value[epoch, "I_XT", b]
            assert value[epoch, "DPI_XT", f"{a}-to-{b}"] == pytest.approx(gap, abs=1e-9)
        for b, a in BACKWARD:
            gap = value[epoch, "I_error", b] - value[epoch, "I_error", a]
            assert value[epoch, "DPI_error", f"{b}-to-{a}"] == pytest.approx(gap, abs=1e-9)


def test_violations_are_counted_against_the_standard_error(everything: Any) -> None:
    _, measured, _ = everything
    value = {(row.epoch, row.quantity, row.layer): row.value for row in measured.history}
    for quantity, pairs in (("DPI_XT", PAIRS), ("DPI_error", BACKWARD)):
        for epoch in range(3):
            gaps = [(value[epoch, quantity, p], value[epoch, f"{quantity}_stderr", p]) for p in joined(pairs)]
            count = sum(gap < -2 * error - 1e-4 for gap, error in gaps)
            assert value[epoch, f"{quantity}_violations", ""] == count


def test_every_number_is_finite_and_every_error_positive(everything: Any) -> None:
    _, measured, _ = everything
    assert all(math.isfinite(row.value) for row in measured.history)
    assert all(row.value >= 0 for row in measured.history if row.quantity.endswith("_stderr"))
    assert all(0 < row.value <= 1 for row in measured.history if row.quantity.endswith("_p"))


def test_the_card_is_in_tensorboard_at_every_measurement(everything: Any) -> None:
    done, _, _ = everything
    accumulator = EventAccumulator(str(done.log_dir), size_guidance={"tensors": 0})
    accumulator.Reload()
    texts = accumulator.Tensors("infoplane/card/text_summary")
    assert [one.step for one in texts] == [0, 3, 7]
    text = texts[-1].tensor_proto.string_val[0].decode()
    (table,) = shown(text).iter("table")
    assert [row[0] for row in cells(table)] == ["layer", *CHOSEN]
    assert ["".join(item.itertext()) for item in shown(text).iter("li")] == [f"{a} → {b}" for a, b in PAIRS]


def test_the_run_is_not_disturbed(everything: Any, tmp_path: Path) -> None:
    """Weights, running statistics, momentum and the random numbers drawn are those of a run without the callback."""
    done, _, net = everything
    plain, _, untouched = trained(tmp_path)
    assert_same(net.state_dict(), untouched.state_dict())
    assert_same(done.optimizers[0].state_dict()["state"], plain.optimizers[0].state_dict()["state"])
    assert_same(
        [None if p.grad is None else p.grad for p in net.parameters()],
        [None if p.grad is None else p.grad for p in untouched.parameters()],
    )
    assert hooks_on(net) == hooks_on(untouched)


def test_consecutive_pairs_on_request(tmp_path: Path) -> None:
    measured = callback(layers=CHOSEN, dpi_pairs="consecutive")
    trained(tmp_path, measured)
    assert measured.markov_pairs == []
    executed = list(pairwise(CHOSEN))
    assert {row.layer for row in measured.history if row.quantity == "DPI_XT"} == set(joined(executed))


def test_error_signals_of_layers_of_which_one_reaches_the_loss_are_a_sentence(tmp_path: Path) -> None:
    class Beside(ResidualNet):
        def build(self) -> None:
            super().build()
            self.beside = nn.Conv2d(1, 2, 1)

        def forward(self, x: Tensor) -> Tensor:
            self.beside(x)
            return super().forward(x)

    measured = callback(layers=["stem", "beside"], error_signals=True)
    with pytest.raises(ValueError, match="error signals are compared with each other, and there is only stem"):
        fit(tmp_path, measured, model=Beside())


def test_a_layer_without_floats_is_left_out_with_a_sentence(tmp_path: Path) -> None:
    class Signs(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x > 0

    class WithMask(ResidualNet):
        def build(self) -> None:
            super().build()
            self.mask = Signs()

        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x * self.mask(x))

    measured = callback(layers=["conv", "mask"], error_signals=True)
    with pytest.warns(UserWarning, match=r"layer 'mask' is left out: expected floats \(32, \.\.\.\) as its output"):
        fit(tmp_path, measured, model=WithMask())
    layers = {row.layer for row in measured.history if row.quantity in ("I_XT", "I_error")}
    assert layers == {"stem", "block.conv1", "block.conv2", "last"}
