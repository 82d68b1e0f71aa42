"""Everything measured so far: a sequence of rows that survives files and checkpoints to the last digit."""

import csv
import errno
import io
import json
import math
import os
import pickle
import re
import shutil
import struct
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from properties import normal

import lightning_infoplane
from lightning_infoplane import Estimator, History, InformationPlane, Jackknife, Row
from lightning_infoplane.measurement.csv_file import read, write
from lightning_infoplane.measurement.history import Facts
from lightning_infoplane.measurement.rows import Pair
from lightning_infoplane.measurement.settings import as_data
from lightning_infoplane.measurement.table import Table

ROWS = [
    Row(0, 0, "", "", "H_X", 1.5),
    Row(0, 0, "", "conv", "H_T", 0.1 + 0.2),
    Row(1, 16, "", Pair("conv", "linear"), "DPI_XT", -1e-300),
]
FACTS = Facts("1.2.3", {"class": "Estimator", "alpha": 2}, {"train": 512, "val": 100}, ("conv → linear", "linear"))
COLUMNS = "epoch,step,probe,layer,to,quantity,value"


def measured() -> History:
    """Of a plane with everything in it."""
    plane = InformationPlane(Estimator(shuffles=20, standard_errors=Jackknife(3)))
    layers = {"conv": normal(20, 3, 2, 2, seed=1), "linear": normal(20, 5, seed=2)}
    plane.measure(normal(20, 4), torch.arange(20) % 2, layers, epoch=4, step=11)
    return plane.history


# --------------------------------------------------------------------------------------------------- a sequence


def test_a_history_is_a_sequence_of_rows() -> None:
    history = History(ROWS)
    assert isinstance(history, Sequence)
    assert len(history) == 3
    assert list(history) == ROWS
    assert (history[0], history[-1], history[1:]) == (ROWS[0], ROWS[-1], ROWS[1:])
    assert list(reversed(history)) == ROWS[::-1]
    assert ROWS[1] in history
    assert history.index(ROWS[2]) == 2
    assert history.count(ROWS[0]) == 1
    with pytest.raises(IndexError, match="list index out of range"):
        history[3]


def test_an_empty_history_is_false_and_a_full_one_true() -> None:
    assert not History()
    assert History(ROWS)


def test_histories_are_equal_where_their_rows_are() -> None:
    assert History(ROWS) == History(ROWS, FACTS) == ROWS == History(ROWS)
    assert History() == []
    assert History(ROWS) != ROWS[:2]
    assert History(ROWS) != [*ROWS[:2], ROWS[2]._replace(value=0.0)]
    assert History(ROWS) != 3


def test_what_can_grow_has_no_hash() -> None:
    with pytest.raises(TypeError, match="unhashable type: 'History'"):
        hash(History())


def test_parts_of_it_are_those_of_a_list() -> None:
    history = History(ROWS)
    for part in (slice(None), slice(1, None), slice(-2, 9), slice(None, None, -1), slice(0, 3, 2), slice(3, 1)):
        assert history[part] == ROWS[part]
    assert all(isinstance(row, Row) for row in history[1:])
    assert [history[number] for number in range(-3, 3)] == [*ROWS, *ROWS]


def test_histories_with_a_value_that_is_no_number_are_equal_to_their_copies() -> None:
    odd = [*ROWS, Row(2, 20, "", "conv", "H_T", math.nan)]
    assert History(odd) == pickle.loads(pickle.dumps(History(odd)))
    assert History(odd) != [*ROWS, Row(2, 20, "", "conv", "H_T", 0.0)]


@pytest.mark.parametrize(
    ("rows", "kind", "message"),
    [
        ([Row(0, -1, "", "a", "H_T", 1.0)], ValueError, "epoch 0 and step -1: expected whole numbers from 0 to"),
        ([Row(10**20, 0, "", "a", "H_T", 1.0)], ValueError, "expected whole numbers from 0 to"),
        ([ROWS[0], Row(0, 0, "", "a", "H_T", None)], TypeError, "must be real number"),  # type: ignore[arg-type]
    ],
)
def test_of_rows_with_one_that_is_none_nothing_is_added(rows: list[Row], kind: type[Exception], message: str) -> None:
    history = History(ROWS)
    with pytest.raises(kind, match=message):
        history.extend(rows)
    assert history == ROWS


def test_it_grows_by_the_rows_of_a_measurement() -> None:
    history = History(ROWS[:1])
    history.extend(iter(ROWS[1:]))
    assert history == ROWS


def test_it_is_no_view_of_the_rows_it_was_made_of() -> None:
    rows = ROWS[:1]
    history = History(rows)
    rows.append(ROWS[1])
    assert len(history) == 1


def test_it_prints_how_much_there_is() -> None:
    assert repr(History(ROWS)) == "<History of 3 rows>"


def test_it_can_be_pickled() -> None:
    copy = pickle.loads(pickle.dumps(History(ROWS, FACTS)))
    assert copy == ROWS
    assert copy.facts == FACTS


# -------------------------------------------------------------------------------------------------------- facts


def test_facts_that_nobody_told_are_the_version() -> None:
    assert History().facts == Facts(lightning_infoplane.__version__, {}, {}, ())


def test_facts_are_one_line_of_json() -> None:
    text = Facts("1.2.3", {"alpha": 2}, {"": 8}, ("a\nb → \u2028 c",)).to_json()
    assert len(text.split("\n")) == 1
    assert json.loads(text) == {
        "version": "1.2.3",
        "estimator": {"alpha": 2},
        "n": {"": 8},
        "chain": ["a\nb → \u2028 c"],
        "changes": [],
        "described": "",
        "left_out": [],
    }


@pytest.mark.parametrize("alpha", [1.01, 2, math.inf])
def test_facts_survive_json(alpha: float) -> None:
    estimator = Estimator(alpha=alpha, standard_errors=Jackknife(4), seed=5)
    lines = ("a\nb", 'c "d", #e')
    facts = Facts("1.2.3", as_data(estimator), {"": 8}, lines, (), "X: image", lines)
    assert Facts.from_json(facts.to_json()) == facts


@pytest.mark.parametrize(
    "text",
    [
        *("", "{", "[]", "3", '"text"', "{}", "null"),
        '{"version": "1", "estimator": {}, "n": {}}',
        '{"version": "1", "estimator": {}, "n": [], "chain": []}',
        '{"version": "1", "estimator": {}, "n": {"": "many"}, "chain": []}',
        '{"version": "1", "estimator": 3, "n": {}, "chain": []}',
        '{"version": "1", "estimator": {}, "n": {}, "chain": 3}',
    ],
)
def test_facts_that_are_none_are_shown(text: str) -> None:
    message = f"expected version, estimator, n and chain as JSON, got {text!r}."
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        Facts.from_json(text)


# -------------------------------------------------------------------------------------------------------- files

NAMES = st.text(st.characters(codec="utf-8"), max_size=12) | st.sampled_from(
    ["a-to-b", "a,b", 'a"b', '"', "#a", "# {}", "a\nb", "\r\n", "a\rb", " a ", "", "σ", "\0", "\u2028", "'", "-to-"]
)
PLACES = NAMES | st.builds(Pair, NAMES, NAMES.filter(bool))
ANY_ROW = st.builds(
    Row,
    st.integers(0, 10**6),
    st.integers(0, 10**9),
    st.sampled_from(["", "train", "val"]),
    PLACES,
    st.sampled_from(["H_T", "I_XT", "DPI_XT_stderr"]),
    st.floats(allow_nan=False),
)
ANY_FACTS = st.builds(
    Facts,
    st.just("1.2.3"),
    st.just({"alpha": 2}),
    st.dictionaries(NAMES, st.integers(2, 10**6), max_size=2),
    st.lists(NAMES, max_size=3).map(tuple),
)


@settings(max_examples=100, deadline=None)
@given(st.lists(ANY_ROW, max_size=8), ANY_FACTS)
def test_a_file_read_and_written_again_is_the_same_byte_for_byte(
    tmp_path_factory: pytest.TempPathFactory, rows: list[Row], facts: Facts
) -> None:
    folder = tmp_path_factory.mktemp("history")
    History(rows, facts).save(folder / "first.csv")
    read = History.load(folder / "first.csv")
    assert read == rows
    assert [type(row.place) for row in read] == [type(row.place) for row in rows]
    assert read.facts == facts
    read.save(folder / "second.csv")
    assert (folder / "first.csv").read_bytes() == (folder / "second.csv").read_bytes()


def test_a_measured_history_survives_with_every_digit(tmp_path: Path) -> None:
    history = measured()
    history.save(tmp_path / "infoplane.csv")
    read = History.load(tmp_path / "infoplane.csv")
    assert read == history
    assert read.facts == history.facts
    for row, other in zip(read, history, strict=True):
        assert [type(cell) for cell in row] == [type(cell) for cell in other]


def test_a_value_that_is_no_number_survives(tmp_path: Path) -> None:
    History([Row(0, 0, "", "a", "H_T", math.nan), Row(0, 0, "", "a", "I_XT", -math.inf)]).save(tmp_path / "a.csv")
    read = History.load(tmp_path / "a.csv")
    assert math.isnan(read[0].value)
    assert read[1].value == -math.inf


def test_a_file_is_a_line_of_facts_and_a_table(tmp_path: Path) -> None:
    History(ROWS, FACTS).save(tmp_path / "infoplane.csv")
    lines = (tmp_path / "infoplane.csv").read_text(encoding="utf-8").splitlines()
    assert lines == [
        f"# {FACTS.to_json()}",
        COLUMNS,
        "0,0,,,,H_X,1.5",
        "0,0,,conv,,H_T,0.30000000000000004",
        "1,16,,conv,linear,DPI_XT,-1e-300",
    ]


def test_any_reader_of_csv_reads_the_table_below_the_first_line(tmp_path: Path) -> None:
    """As ``pandas.read_csv(path, skiprows=1)`` does."""
    odd = [Row(0, 0, "val", Pair('a,"b"\n', "#c"), "DPI_XT", 0.25)]
    History(odd, FACTS).save(tmp_path / "infoplane.csv")
    with (tmp_path / "infoplane.csv").open(newline="", encoding="utf-8") as file:
        file.readline()
        (read,) = csv.DictReader(file)
    assert read == {
        **{"epoch": "0", "step": "0", "probe": "val", "layer": 'a,"b"\n'},
        **{"to": "#c", "quantity": "DPI_XT", "value": "0.25"},
    }


def test_a_path_may_be_text(tmp_path: Path) -> None:
    History(ROWS).save(str(tmp_path / "infoplane.csv"))
    assert History.load(str(tmp_path / "infoplane.csv")) == ROWS


def test_folders_are_made_and_nothing_else_is_left_in_them(tmp_path: Path) -> None:
    History().save(tmp_path / "logs" / "version_0" / "infoplane.csv")
    assert [path.name for path in (tmp_path / "logs" / "version_0").iterdir()] == ["infoplane.csv"]


def test_a_write_that_fails_leaves_the_file_as_it_was(tmp_path: Path) -> None:
    path, history = tmp_path / "infoplane.csv", History(ROWS)
    history.save(path)
    before = path.read_bytes()
    history.extend([Row(0, 0, "", "\ud800", "H_T", 1.0)])  # a lone surrogate is not UTF-8
    with pytest.raises(UnicodeEncodeError, match="surrogates not allowed"):
        history.save(path)
    assert path.read_bytes() == before
    History(ROWS[:1]).save(path)
    assert History.load(path) == ROWS[:1]
    assert [one.name for one in tmp_path.iterdir()] == ["infoplane.csv"]


def test_a_program_that_dies_before_the_last_step_leaves_the_file_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "infoplane.csv"
    History(ROWS[:1]).save(path)

    def die(*paths: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(os, "replace", die)
        with pytest.raises(KeyboardInterrupt, match=r"^$"):
            History(ROWS).save(path)
    assert History.load(path) == ROWS[:1]


def grown(path: Path, *parts: list[Row]) -> History:
    """A history whose file followed it, measurement by measurement."""
    history = History(facts=FACTS)
    for rows in parts:
        history.extend(rows)
        history.update(path)
    return history


def whole(tmp_path: Path, history: History) -> bytes:
    """What the file of a history has to be."""
    history.save(tmp_path / "whole.csv")
    content = (tmp_path / "whole.csv").read_bytes()
    (tmp_path / "whole.csv").unlink()
    return content


def test_a_file_that_follows_a_history_is_appended_to_and_is_the_whole_one(tmp_path: Path) -> None:
    path = tmp_path / "infoplane.csv"
    history = grown(path, ROWS[:2])
    inode = path.stat().st_ino
    history.extend(ROWS[2:])
    history.update(path)
    history.update(path)  # nothing new
    assert path.stat().st_ino == inode
    assert path.read_bytes() == whole(tmp_path, history)
    assert [one.name for one in tmp_path.iterdir()] == ["infoplane.csv"]


def test_a_run_that_goes_on_writes_its_file_anew_once(tmp_path: Path) -> None:
    """What a killed run measured after its last checkpoint is gone, as it would be of one that was not killed."""
    path = tmp_path / "infoplane.csv"
    state = grown(path, ROWS[:1], ROWS[1:2]).state_dict()
    grown(path, ROWS[:1], ROWS[1:2], [Row(9, 99, "", "lost", "H_T", 1.0)])
    resumed = History.from_state(state)
    for rows in (ROWS[2:], [Row(2, 32, "", "", "H_X", 1.5)]):
        resumed.extend(rows)
        resumed.update(path)
        assert path.read_bytes() == whole(tmp_path, resumed)
    assert History.load(path) == [*ROWS, Row(2, 32, "", "", "H_X", 1.5)]


def test_facts_that_become_known_later_are_in_the_first_line(tmp_path: Path) -> None:
    path = tmp_path / "infoplane.csv"
    history = grown(path, ROWS[:2])
    history.facts = Facts("1.2.3", {"alpha": 3}, {"val": 8}, ("found late",))
    history.extend(ROWS[2:])
    history.update(path)
    read = History.load(path)
    assert (read.facts, read) == (history.facts, ROWS)


@pytest.mark.parametrize(
    "meddle",
    [
        lambda path: path.unlink(),
        lambda path: path.write_bytes(path.read_bytes() + b"0,0,,mine,,H_T,1.0\r\n"),
        lambda path: path.write_bytes(path.read_bytes()[:-9]),
        lambda path: path.write_bytes(path.read_bytes().replace(b"conv", b"vnoc")),
        lambda path: os.replace(shutil.copy(path, path.with_name("copy")), path),
        lambda path: History([Row(7, 7, "", "of another", "H_T", 1.0)]).update(path),
    ],
    ids=["deleted", "longer", "shorter", "edited in place", "another file", "another program"],
)
def test_a_file_that_somebody_else_touched_is_written_anew(tmp_path: Path, meddle: Callable[[Path], object]) -> None:
    path = tmp_path / "infoplane.csv"
    history = grown(path, ROWS[:1], ROWS[1:2])
    time.sleep(0.02)  # the clock of a file system is a coarse one
    meddle(path)
    history.extend(ROWS[2:])
    history.update(path)
    assert path.read_bytes() == whole(tmp_path, history)
    assert [one.name for one in tmp_path.iterdir()] == ["infoplane.csv"]


def test_what_a_link_points_to_is_not_written_to(tmp_path: Path) -> None:
    path, other = tmp_path / "infoplane.csv", tmp_path / "other"
    history = grown(path, ROWS[:2])
    os.replace(path, other)
    path.symlink_to(other)
    before = other.read_bytes()
    history.extend(ROWS[2:])
    history.update(path)
    assert other.read_bytes() == before
    assert not path.is_symlink()
    assert History.load(path) == ROWS


def test_two_histories_in_one_folder_do_not_meet(tmp_path: Path) -> None:
    paths = [tmp_path / f"{'x' * 240}{number}.csv" for number in range(2)]
    histories = [History([row], FACTS) for row in ROWS[:2]]
    for _ in range(3):
        for history, path in zip(histories, paths, strict=True):
            history.extend([Row(8, 8, "", "", "H_X", 1.0)])
            history.update(path)
    for history, path in zip(histories, paths, strict=True):
        assert History.load(path) == history


@pytest.mark.parametrize("call", ["write", "fsync", "replace"])
@pytest.mark.parametrize("facts", [FACTS, Facts("2")], ids=["appended", "written anew"])
def test_a_disk_that_is_full_leaves_what_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, facts: Facts, call: str
) -> None:
    path = tmp_path / "infoplane.csv"
    history = grown(path, ROWS[:2])
    before = path.read_bytes()
    history.extend(ROWS[2:])
    history.facts = facts

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync" if call == "write" else call, full)
        if facts is FACTS and call == "replace":
            history.update(path)  # nothing is replaced
        else:
            with pytest.raises(OSError, match="No space left"):
                history.update(path)
            assert path.read_bytes() == before
    history.update(path)
    assert path.read_bytes() == whole(tmp_path, history)
    assert [one.name for one in tmp_path.iterdir()] == ["infoplane.csv"]


def test_a_killed_program_leaves_all_whole_rows_wherever_its_file_ends(tmp_path: Path) -> None:
    odd = [*ROWS, Row(2, 20, "val", Pair('a\n"b', "c,\r\nσ"), "DPI_XT", 0.5), Row(2, 20, "val", "=a\n", "H_T", 1.0)]
    path = tmp_path / "infoplane.csv"
    History([], FACTS).save(path)
    begins = len(path.read_bytes())
    ends = []
    for number in range(len(odd)):
        History(odd[: number + 1], FACTS).save(path)
        ends.append(len(path.read_bytes()))
    content = path.read_bytes()
    for size in range(begins, len(content) + 1):
        path.write_bytes(content[:size])
        assert History.load(path) == odd[: sum(end <= size for end in ends)], content[:size][-20:]


def test_a_quote_that_swallowed_rows_is_no_torn_line(tmp_path: Path) -> None:
    path = tmp_path / "broken.csv"
    path.write_text(f'{HEAD}{COLUMNS}\n0,0,,"a,,H_T,1.0\n0,0,,b,,H_T,1.0\n')
    with pytest.raises(ValueError, match=r"broken\.csv, line 4: expected epoch"):
        History.load(path)


FORMULAS = ["=1+1", "+a", "-a", "@a", "\ta", "\ra", "'=a", "''-", "'a", "'", "=cmd|' /C calc'!A0", "=", "a=b", " =a"]


def test_no_cell_of_text_is_a_formula_and_each_is_read_back(tmp_path: Path) -> None:
    rows = [Row(0, 0, name, Pair(name, name), name, -1.0) for name in FORMULAS]
    History(rows, Facts("1", {}, {}, tuple(f"a,{name};{name}" for name in FORMULAS))).save(tmp_path / "a.csv")
    with (tmp_path / "a.csv").open(newline="", encoding="utf-8") as file:
        head = file.readline()
        table = list(csv.reader(file))[1:]
    texts = [cell for cells in [*table, *csv.reader([head])] for cell in cells[2:6]]
    texts += [cell for separator in ",;\t" for cell in head.split(separator)]
    assert not [text for text in texts if text[:1] in tuple("=+-@\t\r") and text]
    read = History.load(tmp_path / "a.csv")
    assert read == rows
    assert read.facts.chain == tuple(f"a,{name};{name}" for name in FORMULAS)


@given(st.text())
def test_any_name_is_read_back_as_it_was(name: str) -> None:
    table = Table([Row(0, 0, name, name, name, 1.0)])
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder) / "a.csv", table, FACTS)
        assert read(Path(folder) / "a.csv")[1].keys == table.keys


def test_a_device_is_not_replaced_by_a_file() -> None:
    with pytest.raises(OSError, match=r"^/dev/null is no ordinary file"):
        History(ROWS).save("/dev/null")


HEAD = f"# {Facts('1').to_json()}\n"
NO_TABLE = rf"broken\.csv: expected a line of facts, and a table with the columns {COLUMNS.replace(',', ', ')}\."
LINE_4 = r"broken\.csv, line 4: expected epoch, step, probe, layer, to, quantity, value, got "


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", NO_TABLE),
        ("step,loss\n1,0.5\n", NO_TABLE),
        (f"{COLUMNS}\n0,0,,a,,H_T,1.0\n", NO_TABLE),
        ("epoch,step,layer,quantity,value\n0,0,a,H_T,1.0\n", NO_TABLE),
        (HEAD, NO_TABLE),
        (f"{HEAD}0,0,,a,,H_T,1.0\n", NO_TABLE),
        (f"{HEAD}epoch,step,layer,quantity,value\n", NO_TABLE),
        (f"# a comment\n{COLUMNS}\n", r"broken\.csv, line 1: expected version, estimator, n and chain as JSON, got 'a"),
        (f"# {{}}\n{COLUMNS}\n", r"broken\.csv, line 1: expected version, estimator, n and chain as JSON, got '{}'"),
        (f"#\n{COLUMNS}\n", NO_TABLE),
    ],
)
def test_a_file_that_is_no_history_is_named(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "broken.csv").write_text(text)
    with pytest.raises(ValueError, match=message):
        History.load(tmp_path / "broken.csv")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("0,0,,a,,H_T", rf"{LINE_4}\['0', '0', '', 'a', '', 'H_T'\]\."),
        ("0,0,,a,,H_T,1.0,2", rf"{LINE_4}\['0', '0'"),
        ("0,0,a,H_T,1.0", LINE_4),
        ("0,0,,a,,H_T,many", rf"{LINE_4}.*'many'"),
        ("0,0,,a,,H_T,", rf"{LINE_4}.*''\]"),
        ("0.5,0,,a,,H_T,1.0", rf"{LINE_4}\['0\.5'"),
        ("0,,,a,,H_T,1.0", rf"{LINE_4}\['0', ''"),
        ("", rf"{LINE_4}\[\]"),
    ],
)
def test_a_line_that_is_no_row_is_named(tmp_path: Path, line: str, message: str) -> None:
    (tmp_path / "broken.csv").write_text(f"{HEAD}{COLUMNS}\n0,0,,a,,H_T,1.0\n{line}\n0,0,,b,,H_T,1.0\n")
    with pytest.raises(ValueError, match=message):
        History.load(tmp_path / "broken.csv")


def test_lines_are_counted_as_an_editor_does(tmp_path: Path) -> None:
    """A name with a line break takes two."""
    path = tmp_path / "broken.csv"
    History([Row(0, 0, "", "a\nb", "H_T", 1.0)]).save(path)
    path.write_bytes(path.read_bytes() + b"0,0,,a,,H_T,many\r\n")
    with pytest.raises(ValueError, match=r"broken\.csv, line 5: expected"):
        History.load(path)


def test_a_quote_that_is_never_closed_is_an_error_in_words(tmp_path: Path) -> None:
    """The rest of a long file is one cell then, too large for the reader."""
    path = tmp_path / "broken.csv"
    rows = "0,0,,a,,H_T,1.0\n" * 10_000
    path.write_text(f'{HEAD}{COLUMNS}\n0,0,,"a,,H_T,1.0\n{rows}')
    with pytest.raises(ValueError, match=r"broken\.csv, line \d+: "):
        History.load(path)


def test_a_file_that_is_no_text_is_named(tmp_path: Path) -> None:
    (tmp_path / "broken.csv").write_bytes(b"\x89PNG\xff\xfe")
    with pytest.raises(ValueError, match=NO_TABLE):
        History.load(tmp_path / "broken.csv")


def test_a_file_that_is_not_there_is_an_error_of_the_system(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"absent\.csv"):
        History.load(tmp_path / "absent.csv")


# -------------------------------------------------------------------------------------------------------- state


def through_a_checkpoint(state: dict[str, Any]) -> dict[str, Any]:
    """Written and read the safe way: plain Python and tensors alone."""
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    found: dict[str, Any] = torch.load(file, weights_only=True)
    return found


@settings(max_examples=30, deadline=None)
@given(st.lists(ANY_ROW, max_size=8), ANY_FACTS)
def test_a_checkpoint_holds_rows_and_facts(rows: list[Row], facts: Facts) -> None:
    read = History.from_state(through_a_checkpoint(History(rows, facts).state_dict()))
    assert read == rows
    assert read.facts == facts
    assert all(isinstance(row, Row) for row in read)
    assert [type(row.place) for row in read] == [type(row.place) for row in rows]


def test_a_measured_history_survives_a_checkpoint_with_every_bit() -> None:
    history = measured()
    history.extend([Row(5, 12, "", "conv", "I_XT", value) for value in (-0.0, 5e-324, math.inf, math.nan)])
    read = History.from_state(through_a_checkpoint(history.state_dict()))
    assert read == history
    assert read.facts == history.facts
    assert [struct.pack("d", row.value) for row in read] == [struct.pack("d", row.value) for row in history]


def test_a_checkpoint_of_many_rows_takes_little_more_than_their_values() -> None:
    history = History()
    for epoch in range(100):
        history.extend(
            Row(epoch, 9 * epoch, "", f"features.{layer}", key, math.sin(epoch * layer))
            for layer in range(20)
            for key in ("I_XT", "I_TY", "H_T", *(("AMI_XT",) if (epoch + layer) % 3 else ()))
        )
    file = io.BytesIO()
    torch.save(history.state_dict(), file)
    assert len(file.getvalue()) < 10 * len(history)


def test_what_is_no_state_is_said_in_a_sentence() -> None:
    state = History(ROWS).state_dict()
    for name, other in {
        "codes": torch.zeros(3, dtype=torch.uint8),
        "values": torch.zeros(2, dtype=torch.float64),
        "names": [],
        "keys": torch.zeros(0, 4, dtype=torch.int32),
        "moments": torch.tensor([[-1, 0, 0]]),
    }.items():
        with pytest.raises(ValueError, match=r"^(expected the rows of a history|epoch -1 and step 0: expected whole)"):
            History.from_state({**state, "rows": {**state["rows"], name: other}})


def test_a_state_is_a_copy() -> None:
    history = History(ROWS[:1])
    state = history.state_dict()
    history.extend(ROWS[1:])
    assert History.from_state(state) == ROWS[:1]
