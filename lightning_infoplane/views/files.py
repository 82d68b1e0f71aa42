"""What the command writes: whole or not at all, through no symbolic link, and never over a file of somebody else.

A file that it wrote bears a mark, each kind its own; everything else is left alone unless one insists.
"""

import errno
import os
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from lightning_infoplane.measurement.csv_file import FACTS_BEGIN
from lightning_infoplane.measurement.files import replacing
from lightning_infoplane.measurement.keys import file_name, log_key

__all__ = ["GENERATOR", "check_output", "of_probe", "output", "save_figure", "sign_gif"]

_MARK = "lightning-infoplane"
# What a report has in its head.
GENERATOR = f'<meta name="generator" content="{_MARK}">'
_GIF_COMMENT = b"!\xfe" + bytes([len(_MARK)]) + _MARK.encode() + b"\0;"
# Bytes of a file in which its mark stands: at the beginning, or at the end.
_HEAD = 4096


class _Kind(NamedTuple):
    """Endings of a file's name, whether head and tail of a file are ours, and how matplotlib is told to mark one."""

    endings: tuple[str, ...]
    is_ours: Callable[[bytes, bytes], bool]
    metadata: Mapping[str, str] = MappingProxyType({})


_CREATOR = {"Creator": _MARK}
_KINDS = {
    "html": _Kind((".html", ".htm"), lambda head, tail: head[:1] == b"<" and GENERATOR.encode() in head[:200]),
    "csv": _Kind((".csv",), lambda head, tail: head.startswith(f'{FACTS_BEGIN}{{"version": '.encode())),
    "png": _Kind(
        (".png",),
        lambda head, tail: head[:4] == b"\x89PNG" and f"Software\0{_MARK}".encode() in head,
        {"Software": _MARK},
    ),
    "pdf": _Kind(
        (".pdf",),
        lambda head, tail: head[:4] == b"%PDF" and f"/Creator ({_MARK})".encode() in tail,
        _CREATOR,
    ),
    "svg": _Kind(
        (".svg",),
        lambda head, tail: re.search(rf"<dc:creator>.*?{_MARK}.*?</dc:creator>".encode(), head, re.S) is not None,
        _CREATOR,
    ),
    "gif": _Kind((".gif",), lambda head, tail: head[:4] == b"GIF8" and tail.endswith(_GIF_COMMENT)),
}


def check_output(path: Path, kind: str, force: bool = False) -> None:
    """Whether a file may be written there, before any work is done for it.

    Args:
        path: of the file.
        kind: ``"html"``, ``"csv"``, ``"png"``, ``"pdf"``, ``"svg"`` or ``"gif"``.
        force: it may be somebody else's.

    Raises:
        ValueError: for a symbolic link, for a file that the command did not write, for another ending.
        OSError: where there can be no file.
    """
    if path.is_symlink():
        raise ValueError(f"{path} is a symbolic link, and none is followed: give the file it points to, or remove it.")
    if path.is_dir():
        raise ValueError(f"{path} is a folder: give the name of a file in it.")
    if path.exists() and not force and not _is_ours(path, kind):
        raise ValueError(f"{path} is there and no {kind} file of this command's: give another --out, or --force.")
    endings = _KINDS[kind].endings
    if path.suffix.lower() not in endings and not force:
        raise ValueError(f"{path} is to be a {kind} file: end its name in {endings[0]}, or add --force.")
    if kind != "csv" and not path.parent.is_dir():
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path.parent))


@contextmanager
def output(path: Path, kind: str, force: bool = False) -> Iterator[Path]:
    """Where to write it: a file of another name, which becomes ``path`` when it is whole.

    Raises:
        ValueError: as :func:`check_output`.
        OSError: where it cannot be written.
    """
    check_output(path, kind, force)
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path, f".{kind}") as partial:
        yield partial
        check_output(path, kind, force)  # others may have been faster


def save_figure(figure: Any, path: Path, kind: str) -> None:  # noqa: ANN401 - matplotlib's, which is not loaded yet
    """A picture, marked as ours."""
    figure.savefig(path, format=kind, dpi=130, metadata=dict(_KINDS[kind].metadata))


def of_probe(path: Path, probe: str) -> Path:
    """The file of one probe of several.

    Example:
        >>> of_probe(Path("a/report.png"), "train").name, of_probe(Path("a/report.png"), "").name
        ('report-train.png', 'report.png')
    """
    return path.with_stem(f"{path.stem}-{file_name(log_key(probe))}") if probe else path


def sign_gif(path: Path) -> None:
    """Mark a film as ours: a comment before its last byte, which ends it."""
    data = path.read_bytes()
    path.write_bytes(data.removesuffix(b";") + _GIF_COMMENT)


def _is_ours(path: Path, kind: str) -> bool:
    if not path.is_file():  # a device would not end
        return False
    with path.open("rb") as file:
        head = file.read(_HEAD)
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - _HEAD))
        return _KINDS[kind].is_ours(head, file.read())
