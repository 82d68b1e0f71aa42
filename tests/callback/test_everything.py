"""A whole run with everything switched on, of a network with a skip connection: every key, pair, gap and text."""

import math
import re
import warnings
from itertools import pairwise, product
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import lightning.pytorch as lp
import markdown
import pytest
import torch
from lightning.pytorch.loggers import TensorBoardLogger
from networks import CLASSES, Steps, assert_same, callback, drawing, estimator, events, fit, hooks_on
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import Tensor, nn

from lightning_infoplane import History, Jackknife, MatrixRenyiCallback
from lightning_infoplane.measurement.history import Facts
from lightning_infoplane.measurement.rows import Pair


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


def shown(text: str) -> ElementTree.Element:
    """The card as TensorBoard's text tab renders it."""
    html = markdown.markdown(text, extensions=["markdown.extensions.tables", "markdown.extensions.fenced_code"])
    return ElementTree.fromstring(f"<card>{html}</card>")


def cells(table: ElementTree.Element) -> list[list[str]]:
    return [["".join(cell.itertext()).strip() for cell in row] for row in table.iter("tr")]


def all_keys() -> set[str]:
    of_layers = ["AMI_XT", "AMI_TY", "AMI_XT_p", "AMI_TY_p", "CKA_XT", "CKA_TY", "E_TT", "effective_rank"]
    of_layers += ["H_T", "I_XT", "I_TY", "I_XT_chance", "I_TY_chance", "bandwidth", "total_correlation"]
    with_error = ["AMI_XT", "AMI_TY", "CKA_XT", "CKA_TY", "effective_rank", "H_T", "I_XT", "I_TY"]
    of_layers += [f"{quantity}_stderr" for quantity in with_error]
    of_layers += ["redundancy_synergy", "redundancy_synergy_stderr", "non_redundant", "non_redundant_stderr"]
    of_errors = ["AMI_error", "AMI_error_p", "AMI_error_stderr", "E_error", "H_error", "I_error", "I_error_chance"]
    of_errors += ["H_error_stderr", "I_error_stderr", "bandwidth_error"]
    of_pairs = ["DPI_AMI_XT", "DPI_AMI_TY", "DPI_XT", "DPI_TY"]
    backward = ["DPI_AMI_error", "DPI_error"]
    return {
        *("H_X", "H_Y", "H_error_last", "E_XX", "E_YY"),
        *("DPI_increases", "DPI_decreases", "DPI_error_increases", "DPI_error_decreases"),
        *(f"{quantity}/{layer}" for quantity in of_layers for layer in CHOSEN),
        *(f"{quantity}/{layer}" for quantity in of_errors for layer in CHOSEN[:-1]),
        *(f"{gap}{end}/{pair}" for gap in of_pairs for end in ("", "_stderr", "_p") for pair in joined(PAIRS)),
        *(f"{gap}{end}/{pair}" for gap in backward for end in ("", "_stderr", "_p") for pair in joined(BACKWARD)),
    }


@pytest.fixture(scope="module")
def everything(tmp_path_factory: pytest.TempPathFactory) -> tuple[lp.Trainer, MatrixRenyiCallback, ResidualNet]:
    root = tmp_path_factory.mktemp("everything")
    measured = callback(
        layers=CHOSEN,
        error_signals=True,
        redundancy=True,
        **estimator(standard_errors=Jackknife(4)),
        **drawing(),
    )
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
    value = {(row.epoch, row.quantity, row.place): row.value for row in measured.history}
    forward = {"DPI_AMI_XT": "AMI_XT", "DPI_AMI_TY": "AMI_TY", "DPI_XT": "I_XT", "DPI_TY": "I_TY"}
    backward = {"DPI_AMI_error": "AMI_error", "DPI_error": "I_error"}
    for epoch in range(3):
        for quantities, pairs in ((forward, PAIRS), (backward, BACKWARD)):
            for (gap, base), (a, b) in product(quantities.items(), pairs):
                difference = value[epoch, base, a] - value[epoch, base, b]
                assert value[epoch, gap, Pair(a, b)] == pytest.approx(difference, abs=1e-9)


def significant(p_values: list[float]) -> list[bool]:
    """Holm, step by step: the smallest against a twentieth of their number, the next of one less, until one fails."""
    ranks = sorted(range(len(p_values)), key=p_values.__getitem__)
    found = [False] * len(p_values)
    for rank, place in enumerate(ranks):
        if p_values[place] * (len(p_values) - rank) >= 0.05:
            break
        found[place] = True
    return found


def test_increases_and_decreases_are_counted_by_size_and_significance(everything: Any) -> None:
    _, measured, _ = everything
    value = {(row.epoch, row.quantity, row.place): row.value for row in measured.history}
    for quantity, name, pairs in (("DPI_AMI_XT", "DPI", PAIRS), ("DPI_AMI_error", "DPI_error", BACKWARD)):
        for epoch in range(3):
            gaps = [value[epoch, quantity, p] for p in pairs]
            p_values = [value[epoch, f"{quantity}_p", p] for p in pairs]
            for sign, what in ((1, "decreases"), (-1, "increases")):
                tested = significant([p if sign * gap > 0 else 1 - p for gap, p in zip(gaps, p_values, strict=True)])
                count = sum(sure and sign * gap > 0.01 for sure, gap in zip(tested, gaps, strict=True))
                assert value[epoch, f"{name}_{what}", ""] == count


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


def test_the_facts_are_in_tensorboard_once(everything: Any) -> None:
    done, measured, _ = everything
    accumulator = EventAccumulator(str(done.log_dir), size_guidance={"tensors": 0})
    accumulator.Reload()
    (text,) = accumulator.Tensors("infoplane/facts/text_summary")
    assert text.step == 0
    told = Facts.from_json(text.tensor_proto.string_val[0].decode().strip())
    assert told == measured.history.facts
    assert told.n == {"": 32}
    assert told.estimator["standard_errors"] == {"class": "Jackknife", "groups": 4}
    assert told.chain == tuple(f"{a} → {b}" for a, b in PAIRS)


def test_every_live_picture_is_there_at_every_measurement(everything: Any) -> None:
    done, _, _ = everything
    accumulator = EventAccumulator(str(done.log_dir), size_guidance={"images": 0})
    accumulator.Reload()
    tags = {f"infoplane/{kind}" for kind in ("plane", "depth", "depth-AMI_error", "maps")}
    assert set(accumulator.Tags()["images"]) == tags
    for tag in tags:
        assert [image.step for image in accumulator.Images(tag)] == [0, 3, 7]


def test_the_table_is_the_history(everything: Any) -> None:
    done, measured, _ = everything
    saved = History.load(Path(done.log_dir) / "infoplane.csv")
    assert saved == measured.history
    assert saved.facts == measured.history.facts


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
    assert "MatrixRenyiCallback: layer 'block.conv2': collapsed. H(T) is 0.0% of log2 n" in spoken


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
    assert {row.place for row in measured.history if row.quantity == "DPI_AMI_XT"} == set(executed)


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
            return (x > 0).long()  # integers: a mask of truth values is one of numbers

    class WithMask(ResidualNet):
        def build(self) -> None:
            super().build()
            self.mask = Signs()

        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x * self.mask(x))

    measured = callback(layers=["conv", "mask"], error_signals=True)
    with pytest.warns(UserWarning, match=r"layer 'mask' is left out: expected floats \(32, \.\.\.\) as its output"):
        fit(tmp_path, measured, model=WithMask())
    layers = {row.place for row in measured.history if row.quantity in ("AMI_XT", "AMI_error")}
    assert layers == {"stem", "block.conv1", "block.conv2", "last"}
