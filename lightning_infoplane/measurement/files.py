"""Files that are whole or not there at all."""

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

__all__ = ["replacing"]


@contextmanager
def replacing(path: Path, ending: str = ".tmp") -> Iterator[Path]:
    """The name of a file to write, which takes the place of ``path`` at the end; should anything fail, it is dropped.

    The name is nobody else's: several programs may write in one folder at once. What ``path`` was until then stays
    readable until the last moment, on a full disk too.

    Args:
        path: what is replaced; a symbolic link itself, not what it points to.
        ending: of the other file's name, for writers that go by it.

    Raises:
        OSError: if ``path`` is there and is no ordinary file, a device say.
    """
    if path.exists() and not stat.S_ISREG(path.stat().st_mode):
        raise OSError(f"{path} is no ordinary file, so it cannot be replaced by one. Give the name of a file.")
    # Not made of the file's own name, which may be as long as a name can be.
    partial = path.with_name(f".{uuid4().hex}{ending}")
    try:
        yield partial
        with partial.open("rb+") as file:
            os.fsync(file.fileno())  # or a crash could leave the new name with nothing in it
        os.replace(partial, path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
