"""Writing so that a reader sees the old content or the new, never half of it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

#: Ending of names that are being written; whoever finds one may delete it.
PARTIAL = ".partial"


def write_atomically(path: Path, content: bytes | str) -> None:
    """Write a file under a temporary name in the same folder, flush it to disk, and rename it."""
    write_together({path: content})


def write_together(contents: Mapping[Path, bytes | str]) -> None:
    """Write several files as `write_atomically` does; none is renamed before all are on disk.

    So a disk that fills up leaves all of them as they were. A process that is killed between two
    renames leaves the first new and the others old.
    """
    partials = {path: path.with_name(f".{path.name}.{os.getpid()}{PARTIAL}") for path in contents}
    try:
        for path, content in contents.items():
            with partials[path].open("wb") as stream:
                stream.write(content.encode() if isinstance(content, str) else content)
                stream.flush()
                os.fsync(stream.fileno())
        for path, partial in partials.items():
            partial.replace(path)
    finally:
        for partial in partials.values():
            partial.unlink(missing_ok=True)


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """Fill a folder under a temporary name; it takes the name `path` only if the block succeeds.

    Yields the temporary folder. A folder that is already at `path` is replaced.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}{PARTIAL}")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    try:
        yield partial
        if path.exists():
            shutil.rmtree(path)
        partial.replace(path)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
