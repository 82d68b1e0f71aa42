"""What is wanted beside the numbers, as one value; and the writer that puts it down, with a clock that is told."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from matplotlib.figure import Figure
from networks import callback, drawing, events, fit
from properties import assert_is_a_value
from tqdm.auto import tqdm

from lightning_infoplane import History, MatrixRenyiCallback, Outputs, Row
from lightning_infoplane.trainer import outputs
from lightning_infoplane.trainer.outputs import Writer

ROWS = [
    Row(1, 3, "", "", "H_X", 4.0),
    Row(1, 3, "", "conv1", "AMI_XT", 0.5),
    Row(1, 3, "", "conv1", "AMI_XT_stderr", 0.02),
    Row(1, 3, "", "conv1", "I_XT", 1.5),
    Row(1, 3, "", "conv1", "bandwidth", 3.0),
]


# ----------------------------------------------------------------------------------------------------- the choice


@pytest.mark.parametrize(
    "outputs",
    [
        Outputs(),
        Outputs(figures=False, log="all"),
        Outputs(True, tensorboard_layout=True, tensorboard_subruns=True, prog_bar=False),
    ],
    ids=repr,
)
def test_outputs_are_a_value(outputs: Outputs) -> None:
    assert_is_a_value(outputs)


def test_what_is_printed_is_what_differs_from_the_defaults() -> None:
    assert repr(Outputs()) == "Outputs()"
    assert repr(Outputs(prog_bar=False, figures=True)) == "Outputs(figures=True, prog_bar=False)"


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"figures": "always"}, r"figures='always': expected True, False or 'auto'\."),
        ({"figures": None}, r"figures=None: expected True, False or 'auto'\."),
        ({"figures": 3}, r"figures=3: expected True, False or 'auto'\."),
        ({"log": "none"}, r"log='none': expected 'main' or 'all'\."),
        ({"log": True}, r"log=True: expected 'main' or 'all'\."),
    ],
)
def test_what_cannot_be_meant_is_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Outputs(**fields)


# ------------------------------------------------------------------------------------------------------ the writer


class Album:
    """A logger that keeps at which steps it was shown pictures and texts, and what was logged."""

    def __init__(self, folder: Path) -> None:
        self.log_dir = folder
        self.pictures: list[tuple[str, int]] = []
        self.texts: list[tuple[str, str, int]] = []
        self.lines: list[tuple[int, dict[str, float]]] = []

    def log_image(self, key: str, images: list[Figure], step: int) -> None:
        self.pictures.append((key, step))

    def log_text(self, key: str, columns: list[str], data: list[list[str]], step: int) -> None:
        self.texts.append((key, data[0][0], step))

    def log_metrics(self, metrics: dict[str, float], step: int) -> None:
        self.lines.append((step, metrics))


def rank(album: Album, zero: bool = True, **options: Any) -> Any:
    """What a writer needs of a Trainer."""
    return SimpleNamespace(
        loggers=[album],
        default_root_dir=str(album.log_dir),
        is_global_zero=zero,
        progress_bar_callback=None,
        **options,
    )


class Module:
    """What a writer needs of a LightningModule."""

    device = torch.device("cpu")

    def __init__(self) -> None:
        self.logged: set[str] = set()

    def log(self, key: str, metric: Any, **options: Any) -> None:
        self.logged.add(key)


class Clock:
    """Time passes when it is told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    told = Clock()
    monkeypatch.setattr(time, "monotonic", told)
    return told


@pytest.fixture
def album(tmp_path: Path) -> Album:
    return Album(tmp_path / "run")


def painter(clock: Clock, seconds: float) -> Callable[[], Iterator[tuple[str, Figure]]]:
    """Makes one picture that takes so long."""

    def paint() -> Iterator[tuple[str, Figure]]:
        clock.now += seconds
        yield "plane", Figure()

    return paint


def drawn(writer: Writer, album: Album, clock: Clock, moments: list[float], seconds: float = 10.0) -> list[int]:
    """The steps drawn of a run with measurements at these seconds of training, each a step."""
    writer.begin()
    album.pictures.clear()
    began = clock.now
    for step, moment in enumerate(moments):
        clock.now = max(clock.now, began + moment)
        writer.write(rank(album), History(ROWS), ROWS, step, texts={}, draw=painter(clock, seconds))
    writer.end(rank(album), painter(clock, seconds))
    assert {key for key, _ in album.pictures} <= {"infoplane/plane"}
    return [step for _, step in album.pictures]


@pytest.mark.parametrize(
    ("figures", "moments", "steps"),
    [
        pytest.param("auto", [0, 20, 40, 60, 80], [0, 4], id="dear pictures: the first and the last"),
        # 10 seconds of drawing are a twentieth of 200; 20 are of 400.
        pytest.param("auto", [0, 199, 200, 399, 400, 599], [0, 2, 4, 5], id="as often as is cheap, and the last"),
        pytest.param("auto", [0, 100, 200], [0, 2], id="the last was cheap: it is drawn once"),
        pytest.param("auto", [0], [0], id="a single one"),
        pytest.param("auto", [], [], id="none at all"),
        pytest.param(True, [0, 20, 40, 60, 80], [0, 1, 2, 3, 4], id="always"),
        pytest.param(False, [0, 20, 40, 400], [], id="never"),
    ],
)
def test_which_measurements_are_drawn(
    album: Album, clock: Clock, figures: Any, moments: list[float], steps: list[int]
) -> None:
    writer = Writer(Outputs(figures=figures), "", "")
    assert drawn(writer, album, clock, moments) == steps


def test_cheap_pictures_are_drawn_at_every_measurement(album: Album, clock: Clock) -> None:
    writer = Writer(Outputs(), "", "")
    assert drawn(writer, album, clock, [0, 20, 40, 60, 80], seconds=0.5) == [0, 1, 2, 3, 4]


def test_a_new_run_is_billed_for_its_own_pictures_only(album: Album, clock: Clock) -> None:
    writer = Writer(Outputs(), "", "")
    for _ in range(2):
        assert drawn(writer, album, clock, [0, 20, 200]) == [0, 2]


def test_table_texts_and_pictures_are_named_after_the_callback(album: Album, clock: Clock) -> None:
    writer = Writer(Outputs(), "mine", "mine/")
    texts = {"card": "**bold**", "facts": "    {}"}
    writer.write(rank(album), History(ROWS), ROWS, 3, texts=texts, draw=painter(clock, 1))
    assert [path.name for path in album.log_dir.iterdir()] == ["infoplane-mine.csv"]
    assert History.load(album.log_dir / "infoplane-mine.csv") == ROWS
    assert album.texts == [("infoplane-mine/card", "**bold**", 3), ("infoplane-mine/facts", "    {}", 3)]
    assert album.pictures == [("infoplane-mine/plane", 3)]


def test_texts_are_written_without_figures_too(album: Album, clock: Clock) -> None:
    writer = Writer(Outputs(figures=False), "", "")
    writer.write(rank(album), History(ROWS), ROWS, 3, texts={"card": "text"}, draw=painter(clock, 1))
    assert album.texts == [("infoplane/card", "text", 3)]
    assert album.pictures == []


@pytest.mark.parametrize("options", [{"zero": False}, {"fast_dev_run": True}], ids=["another rank", "fast_dev_run"])
@pytest.mark.parametrize("figures", [True, "auto"])
def test_other_ranks_and_runs_of_one_batch_leave_nothing(
    album: Album, clock: Clock, options: dict[str, Any], figures: Any
) -> None:
    writer = Writer(Outputs(figures=figures), "", "")
    for step in range(3):
        writer.write(rank(album, **options), History(ROWS), ROWS, step, texts={"card": "text"}, draw=painter(clock, 10))
    writer.end(rank(album, **options), painter(clock, 10))
    assert not album.log_dir.exists()
    assert album.texts == album.pictures == []


MAIN = {"mine/H_X", "mine/AMI_XT/conv1", "mine/I_XT/conv1"}


@pytest.mark.parametrize(
    ("log", "expected"), [("main", MAIN), ("all", MAIN | {"mine/AMI_XT_stderr/conv1", "mine/bandwidth/conv1"})]
)
def test_what_is_logged_is_what_was_asked_for(album: Album, log: Any, expected: set[str]) -> None:
    writer = Writer(Outputs(log=log), "", "mine/")
    writer.log_at_step(rank(album), ROWS, step=7, epoch=2)
    module = Module()
    writer.log_at_epoch_end(module, ROWS)
    ((step, metrics),) = album.lines
    assert (step, set(metrics)) == (7, expected | {"epoch"})
    assert module.logged == expected


# ------------------------------------------------------------------------------------------------ the progress bar


@pytest.mark.parametrize(
    ("prog_bar", "trainer_shows", "zero", "hidden", "delay"),
    [
        (True, False, True, False, 0),
        (True, True, True, False, 0),
        (True, True, False, True, 0),
        (False, True, True, True, 0),
        (None, True, True, False, 10),
        (None, False, True, True, 10),
        (None, True, False, True, 10),
    ],
)
def test_who_is_shown_progress(
    album: Album,
    monkeypatch: pytest.MonkeyPatch,
    prog_bar: bool | None,
    trainer_shows: bool,
    zero: bool,
    hidden: bool,
    delay: float,
) -> None:
    trainer = rank(album, zero)
    trainer.progress_bar_callback = "a bar" if trainer_shows else None
    made: list[tqdm[Any]] = []

    class Bar(tqdm):  # type: ignore[type-arg]
        def __init__(self, *given: Any, **named: Any) -> None:
            super().__init__(*given, **named)
            made.append(self)

    monkeypatch.setattr(outputs, "tqdm", Bar)
    with Writer(Outputs(prog_bar=prog_bar), "", "").progress_bar(trainer, 4):
        (bar,) = made
        assert bar.disable == hidden
        if not hidden:
            assert (bar.total, bar.delay) == (4, delay)


def broken(*_: object, **__: object) -> None:
    raise BrokenPipeError("the terminal is gone")


@pytest.mark.parametrize(("owner", "name"), [(outputs, "tqdm"), (tqdm, "update")], ids=["made", "moved on"])
def test_a_bar_that_cannot_be_shown_costs_nothing(
    album: Album, monkeypatch: pytest.MonkeyPatch, owner: object, name: str
) -> None:
    monkeypatch.setattr(owner, name, broken)
    done = []
    with Writer(Outputs(prog_bar=True), "", "").progress_bar(rank(album), 4) as advance:
        advance(2)
        done.append(2)
    assert done == [2]


def test_what_fails_beside_a_bar_is_no_business_of_it(album: Album) -> None:
    with (
        pytest.raises(ZeroDivisionError, match="of the measurement"),
        Writer(Outputs(prog_bar=True), "", "").progress_bar(rank(album), 4),
    ):
        raise ZeroDivisionError("of the measurement")


@pytest.mark.parametrize(("seconds", "shown"), [(9.0, False), (11.0, True)])
def test_unasked_progress_is_shown_from_ten_seconds_on(
    album: Album, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], seconds: float, shown: bool
) -> None:
    clock = Clock()
    monkeypatch.setattr("tqdm.std.time", clock)
    trainer = rank(album)
    trainer.progress_bar_callback = "a bar"
    with Writer(Outputs(), "", "").progress_bar(trainer, 4) as advance:
        clock.now += seconds
        advance(2)
    assert ("information plane" in capsys.readouterr().err) == shown


# -------------------------------------------------------------------------------------------------- in a real run


@pytest.mark.parametrize(
    ("prog_bar", "trainer_shows", "shown"),
    [(True, False, True), (True, True, True), (False, True, False), (None, True, False), (None, False, False)],
)
def test_progress_of_a_short_measurement_is_shown_where_it_is_asked_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], prog_bar: bool | None, trainer_shows: bool, shown: bool
) -> None:
    measured = callback(**drawing(figures=False, prog_bar=prog_bar))
    fit(tmp_path, measured, max_epochs=1, enable_progress_bar=trainer_shows)
    assert ("information plane" in capsys.readouterr().err) == shown


class Slow(CSVLogger):
    """A logger to which a picture takes ten seconds to go, and a training step as many as told."""

    def __init__(self, folder: Path, clock: Clock, every: float) -> None:
        super().__init__(folder)
        self.clock, self.every = clock, every
        self.shown: list[tuple[str, int]] = []

    def log_metrics(self, metrics: dict[str, Any], step: int | None = None) -> None:
        super().log_metrics(metrics, step)
        if "train_loss" in metrics:
            self.clock.now += self.every

    def log_image(self, key: str, images: list[Figure], step: int) -> None:
        self.clock.now += 10
        self.shown.append((key, step))


@pytest.mark.parametrize(
    ("figures", "seconds", "steps"),
    [
        ("auto", 1, [0, 19]),  # 20 seconds for each measurement's two pictures, in a training of 20 seconds
        ("auto", 150, [0, 3, 7, 11, 15, 19]),
        ("auto", 50, [0, 7, 15, 19]),  # 20 seconds are a twentieth of 400, 40 of 800; 60 of more than there are
        (True, 1, [0, 3, 7, 11, 15, 19]),
        (False, 1, []),
    ],
)
def test_the_first_and_the_last_measurement_are_drawn_and_some_between_may_be_left_out(
    tmp_path: Path, clock: Clock, figures: Any, seconds: float, steps: list[int]
) -> None:
    logger = Slow(tmp_path, clock, seconds)
    fit(tmp_path, callback(**drawing(figures=figures)), logger=logger, max_epochs=5)
    assert sorted(logger.shown) == [(f"infoplane/{kind}", step) for kind in ("depth", "plane") for step in steps]


def test_auto_is_the_default(tmp_path: Path, clock: Clock) -> None:
    logger = Slow(tmp_path, clock, every=1)
    fit(tmp_path, MatrixRenyiCallback(probe=32), logger=logger, max_epochs=5)
    assert {step for _, step in logger.shown} == {0, 19}


@pytest.mark.parametrize("figures", [True, False])
def test_card_and_facts_are_in_tensorboard_whatever_figures_says(tmp_path: Path, figures: bool) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    done = fit(tmp_path, callback(**drawing(figures=figures)), logger=TensorBoardLogger(tmp_path))
    accumulator = EventAccumulator(str(done.log_dir), size_guidance={"tensors": 0})
    accumulator.Reload()
    assert [one.step for one in accumulator.Tensors("infoplane/card/text_summary")] == [0, 3, 7]
    assert [one.step for one in accumulator.Tensors("infoplane/facts/text_summary")] == [0]
    assert bool(accumulator.Tags()["images"]) == figures
    assert "I_XT/conv1" in events(done.log_dir)
