"""What the command writes over, and what it leaves alone."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from histories import history

from lightning_infoplane import History
from lightning_infoplane.measurement.history import Facts
from lightning_infoplane.views.files import GENERATOR, check_output, of_probe, output, save_figure, sign_gif
from lightning_infoplane.views.page import animate, html_report
from lightning_infoplane.views.plots import plot_plane
from lightning_infoplane.views.runs import Run

ROWS = history(["conv1", "conv2"], epochs=range(2), errors=False)
RUN = Run("a", Path("a/infoplane.csv"), History(ROWS, Facts("1")))


def write(path: Path, kind: str) -> None:
    """As the command writes it."""
    figure: Any = plot_plane(ROWS).figure
    if kind == "html":
        path.write_text(html_report(RUN), encoding="utf-8")
    elif kind == "csv":
        RUN.rows.save(path)
    elif kind == "gif":
        animate(RUN, path)
        sign_gif(path)
    else:
        save_figure(figure, path, kind)


def write_unsigned(path: Path, kind: str) -> None:
    """As somebody else does, or an earlier program."""
    figure: Any = plot_plane(ROWS).figure
    if kind == "html":
        path.write_text(html_report(RUN).replace(GENERATOR, ""), encoding="utf-8")
    elif kind == "csv":
        path.write_text("epoch,loss\n1,0.5\n")
    elif kind == "gif":
        animate(RUN, path)
    else:
        figure.savefig(path, format=kind)


KINDS = ("html", "csv", "png", "pdf", "svg", "gif")
every_kind = pytest.mark.parametrize("kind", KINDS)


@every_kind
def test_what_the_command_wrote_it_writes_again_and_nothing_else(tmp_path: Path, kind: str) -> None:
    path = tmp_path / f"mine.{kind}"
    check_output(path, kind)
    write(path, kind)
    check_output(path, kind)
    for other in {*KINDS} - {kind}:
        with pytest.raises(ValueError, match="is there and no"):
            check_output(path, other)
    write_unsigned(path, kind)
    with pytest.raises(ValueError, match=rf"mine\.{kind} is there and no {kind} file of this command's: .*--force"):
        check_output(path, kind)
    check_output(path, kind, force=True)


@every_kind
@pytest.mark.parametrize("content", [b"", b"precious", b"<html>", b"\x89PNG", b"GIF89a;", b"# {}\n"])
def test_a_file_of_somebody_else_is_left_alone(tmp_path: Path, kind: str, content: bytes) -> None:
    path = tmp_path / f"theirs.{kind}"
    path.write_bytes(content)
    with pytest.raises(ValueError, match="--force"), output(path, kind):
        pytest.fail("it was let in")
    assert path.read_bytes() == content
    assert list(tmp_path.iterdir()) == [path]


def test_words_in_a_page_are_no_mark(tmp_path: Path) -> None:
    path = tmp_path / "theirs.html"
    path.write_text(f"<html><body>{'x' * 300} {GENERATOR}")
    with pytest.raises(ValueError, match="--force"):
        check_output(path, "html")


@pytest.mark.parametrize("name", ["good.ckpt", "a.html.bak", "a", "a.png"])
def test_a_name_that_is_not_of_its_kind_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match=r"is to be a html file: end its name in \.html, or add --force"):
        check_output(tmp_path / name, "html")
    check_output(tmp_path / name, "html", force=True)


@pytest.mark.parametrize("force", [False, True])
@pytest.mark.parametrize("target", ["theirs.html", "absent.html", "."])
def test_a_link_is_not_followed(tmp_path: Path, force: bool, target: str) -> None:
    (tmp_path / "theirs.html").write_text(html_report(RUN))
    link = tmp_path / "link.html"
    link.symlink_to(tmp_path / target)
    with pytest.raises(ValueError, match=r"link\.html is a symbolic link, and none is followed"):
        check_output(link, "html", force)


def test_a_folder_and_a_device_are_no_files(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="is a folder"):
        check_output(tmp_path, "html", force=True)
    with pytest.raises(ValueError, match="/dev/null is there and no html file"):
        check_output(Path("/dev/null"), "html")
    with pytest.raises(OSError, match="/dev/null is no ordinary file"), output(Path("/dev/null"), "html", force=True):
        pass


def fails(path: Path, _: Path) -> None:
    path.write_text("half")
    raise RuntimeError("the power is gone")


def is_slow(path: Path, target: Path) -> None:
    path.write_text("whole")
    target.write_text("of somebody faster")


@pytest.mark.parametrize(("work", "message"), [(fails, "the power is gone"), (is_slow, "--force")])
def test_what_is_not_whole_or_too_late_replaces_nothing(
    tmp_path: Path, work: Callable[[Path, Path], None], message: str
) -> None:
    path = tmp_path / "a.html"
    with pytest.raises((RuntimeError, ValueError), match=message), output(path, "html") as partial:
        work(partial, path)
    assert {one.name for one in tmp_path.iterdir()} <= {"a.html"}
    assert not path.exists() or path.read_text() == "of somebody faster"


def test_a_written_file_can_be_read_by_those_whom_the_umask_lets(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        with output(tmp_path / "a.html", "html") as partial:
            partial.write_text("whole")
    finally:
        os.umask(before)
    assert (tmp_path / "a.html").stat().st_mode & 0o777 == 0o640


@pytest.mark.parametrize("probe", ["../../x", "a/b", 400 * "p", "a\0b", "a\nb"])
def test_the_file_of_a_probe_is_beside_that_of_all(tmp_path: Path, probe: str) -> None:
    path = of_probe(tmp_path / "report.png", probe)
    assert path.parent == tmp_path
    path.write_text("can be written")
