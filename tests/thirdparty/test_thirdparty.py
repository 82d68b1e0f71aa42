"""Other people's networks and data, as they write them: the callback works with at most the one argument it told."""

import logging
import random
import re
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import pytest
import torch
from lightning_utilities.core import rank_zero
from thirdparty.graphs import GRAPHS
from thirdparty.pictures import PICTURES
from thirdparty.scenario import PROBE, Scenario
from thirdparty.sequences import SEQUENCES
from torch import Tensor

import lightning_infoplane
from lightning_infoplane import Estimator, InformationPlane, MatrixRenyiCallback
from lightning_infoplane.arguments.errors import SetupError
from lightning_infoplane.measurement.rows import Pair

SCENARIOS: dict[str, Callable[[Path], Scenario]] = {**PICTURES, **SEQUENCES, **GRAPHS}
EPOCHS = 2
OURS = "MatrixRenyiCallback: "
NO_TARGETS = "the probe has no targets: what layers share with them is left out."
NAMES = {"torch": torch, **{name: getattr(lightning_infoplane, name) for name in lightning_infoplane.__all__}}

pytestmark = [
    # WebDataset leaves its shards open until they are collected.
    pytest.mark.filterwarnings("ignore:unclosed file.*[.]tar:ResourceWarning"),
    pytest.mark.filterwarnings("ignore:Exception ignored in.*[.]tar:pytest.PytestUnraisableExceptionWarning"),
]


class Peek(L.Callback):
    """Keeps the probe, which is let go of at the end of training."""

    def __init__(self, watching: MatrixRenyiCallback) -> None:
        self.watching = watching
        self.x: Tensor | None = None
        self.y: Tensor | None = None
        self.gram: Tensor | None = None

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        monitor = self.watching._monitor
        if monitor is not None:
            (probe,), (reference,) = monitor.probes.values(), monitor._references.values()
            self.x, self.y, self.gram = probe.values(), probe.targets, reference.sides.input


class Kept(logging.Handler):
    """Keeps the lines of a log."""

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())


@dataclass(repr=False)
class Run:
    """A finished training."""

    state: dict[str, Tensor]
    random: tuple[bytes, bytes, object]
    ours: list[str]
    theirs: set[str]
    refused: bool
    lines: list[str]
    callback: MatrixRenyiCallback | None = None
    peek: Peek | None = None


@dataclass(repr=False)
class Story:
    """A scenario without the callback, with it before anything was told, and with what was told."""

    scenario: Scenario
    without: Run
    untold: Run
    told: Run


def random_state() -> tuple[bytes, bytes, object]:
    """Where the generators are that everybody shares."""
    return torch.get_rng_state().numpy().tobytes(), np.random.get_state()[1].tobytes(), random.getstate()


def made(scenario: Scenario) -> tuple[L.LightningModule, tuple[Any, Any]]:
    """The module before any training, and its data; what libraries say while they are made is no concern of ours."""
    L.seed_everything(0, verbose=False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return scenario.module(), scenario.data()


def run(scenario: Scenario, path: Path, arguments: dict[str, Any] | None = None) -> Run:
    """Train, with the callback where there are arguments for it."""
    module, (train, val) = made(scenario)
    callbacks: list[L.Callback] = []
    if arguments is not None:
        watching = MatrixRenyiCallback(**{"layers": list(scenario.layers), "probe": PROBE, **arguments})
        peek = Peek(watching)
        callbacks = [watching, peek]
    trainer = L.Trainer(
        accelerator="cpu",
        max_epochs=EPOCHS,
        default_root_dir=path,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=callbacks,
        **scenario.trainer,
    )
    refused = ""
    kept, log = Kept(), rank_zero.log
    log.addHandler(kept)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        warnings.simplefilter("ignore", ResourceWarning)
        try:
            trainer.fit(module, train, val)
        except SetupError as error:  # told before any training, and there is none
            refused = str(error)
    log.removeHandler(kept)
    said = [str(one.message) for one in caught]
    done = Run(
        state={**dict(module.named_parameters()), **dict(module.named_buffers())},
        random=random_state(),
        ours=[message.removeprefix(OURS) for message in said if message.startswith(OURS)] + [refused] * bool(refused),
        theirs={re.sub(r"\d+", "#", message) for message in said if not message.startswith(OURS)},
        refused=bool(refused),
        lines=[line.removeprefix(OURS) for line in kept.lines if line.startswith(OURS)],
    )
    if callbacks:
        done.callback, done.peek = watching, peek
    return done


def pasted(message: str, scenario: Scenario) -> dict[str, Any]:
    """The argument that a message shows, pasted: the longest piece of the sentence that is Python."""
    sentence = re.split(r"[.] [A-Z]", message[message.index(f"{scenario.told}=") :])[0]
    _, (_, val) = made(scenario)
    names = {**NAMES, **scenario.names(scenario.collated(val))}
    for end in range(len(sentence), 0, -1):
        try:
            code = compile(f"dict({sentence[:end]})", "pasted", "eval")
        except SyntaxError:
            continue
        return dict(eval(code, names))
    raise AssertionError(f"nothing to paste: {message}")


@pytest.fixture(params=SCENARIOS, scope="module")
def story(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Story:
    """Each scenario, told once."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HF_HUB_OFFLINE", "1")
        patch.setenv("TOKENIZERS_PARALLELISM", "false")
        path = tmp_path_factory.mktemp("thirdparty")
        scenario = SCENARIOS[request.param](path)
        without, untold = run(scenario, path), run(scenario, path, {})
        messages = [one for one in untold.ours if scenario.told and f"{scenario.told}=" in one]
        told = run(scenario, path, pasted(messages[0], scenario)) if messages else untold
        return Story(scenario, without, untold, told)


def test_one_message_says_what_to_paste_and_nothing_else_is_said(story: Story) -> None:
    scenario = story.scenario
    expected = [] if scenario.y else [NO_TARGETS]
    assert story.told.ours == expected
    if scenario.told is not None:
        others = [one for one in story.untold.ours if one not in expected]
        assert len([one for one in others if f"{scenario.told}=" in one]) == 1
        assert len([one for one in others if one.startswith("NOTHING WAS MEASURED")]) == len(others) - 1


def test_no_library_warns_of_what_it_did_not_warn_without(story: Story) -> None:
    assert story.told.theirs <= story.without.theirs
    assert story.untold.theirs <= story.without.theirs


def test_every_layer_has_a_curve(story: Story) -> None:
    assert story.told.callback is not None
    history = story.told.callback.history
    wanted = {"AMI_XT", "AMI_TY"} if story.scenario.y else {"AMI_XT"}
    for quantity in wanted:
        for epoch in range(EPOCHS + 1):
            values = {row.place: row.value for row in history if row.quantity == quantity and row.epoch == epoch}
            assert set(values) == set(story.scenario.layers)
            assert all(-0.5 < value <= 1 for value in values.values()), (quantity, values)


def test_x_and_y_are_what_a_person_would_say(story: Story) -> None:
    scenario, peek = story.scenario, story.told.peek
    module, (_, val) = made(scenario)
    batch = scenario.collated(val)
    with torch.no_grad():
        x = scenario.x(module.eval(), batch)
    y = scenario.y(batch) if scenario.y else None
    assert peek is not None
    assert peek.gram is not None
    same = partial(torch.testing.assert_close, **({"rtol": 0.0, "atol": 0.0} if scenario.exact else {}))
    same(peek.gram, InformationPlane(Estimator()).reference(x, y).sides.input)
    if not scenario.of_tokens:
        assert type(peek.x) is Tensor
        same(peek.x, x)
    if y is None:
        assert peek.y is None
    else:
        assert type(peek.y) is Tensor
        assert torch.equal(peek.y, y)


def test_the_line_at_the_start_names_x(story: Story) -> None:
    (line,) = [line for line in story.told.lines if line.startswith("X: ")]
    assert story.scenario.says in line.partition(";")[0]


def test_weights_and_random_numbers_are_those_of_a_run_without(story: Story) -> None:
    for other in (story.told, *([] if story.untold.refused else [story.untold])):
        assert list(other.state) == list(story.without.state)
        for name, value in story.without.state.items():
            assert torch.equal(value, other.state[name]), name
        assert other.random == story.without.random


def test_pairs_are_of_the_layers_watched(story: Story) -> None:
    assert story.told.callback is not None
    places = {Pair(a, b) for a in story.scenario.layers for b in story.scenario.layers}
    assert set(story.told.callback.markov_pairs) <= places
