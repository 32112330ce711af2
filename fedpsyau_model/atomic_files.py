"""Writing so that a reader sees the old content or the new, never half of it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from io import RawIOBase
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
    partials = {path: _partial(path) for path in contents}
    try:
        for path, content in contents.items():
            with partials[path].open("wb", buffering=0) as stream:
                _write_whole(stream, content.encode() if isinstance(content, str) else content)
                os.fsync(stream.fileno())
        for path, partial in partials.items():
            partial.replace(path)
    finally:
        for partial in partials.values():
            partial.unlink(missing_ok=True)


def write_parts_together(contents: Mapping[Path, Iterable[bytes | memoryview]]) -> None:
    """Write several files as `write_together` does, each from as many parts, in turns.

    One part of each file at a time is in memory.
    """
    partials = {path: _partial(path) for path in contents}
    try:
        with ExitStack() as stack:
            files = [
                stack.enter_context(partial.open("wb", buffering=0))
                for partial in partials.values()
            ]
            for parts in zip(*contents.values(), strict=True):
                for file, part in zip(files, parts, strict=True):
                    _write_whole(file, part)
            for file in files:
                os.fsync(file.fileno())
        for path, partial in partials.items():
            partial.replace(path)
    finally:
        for partial in partials.values():
            partial.unlink(missing_ok=True)


def link_atomically(file: Path, path: Path) -> None:
    """Let `path` be another name of `file`, which must never change from now on.

    It is a copy on a file system without hard links. A file that is already at `path` is replaced.
    """
    partial = _partial(path)
    try:
        try:
            os.link(file, partial)
        except OSError:
            partial.unlink(missing_ok=True)  # it may be a name of a file that must not change
            shutil.copyfile(file, partial)
        partial.replace(path)
    finally:  # two names of one file are not replaced by each other: the system leaves both
        partial.unlink(missing_ok=True)


def _partial(path: Path) -> Path:
    return path.with_name(f".{path.name}.{os.getpid()}{PARTIAL}")


def _write_whole(stream: RawIOBase, content: bytes | memoryview) -> None:
    left = memoryview(content)
    while left:
        left = left[stream.write(left) or 0 :]


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """Fill a folder under a temporary name; it takes the name `path` only if the block succeeds.

    Yields the temporary folder. A folder that is already at `path` is replaced.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = _partial(path)
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    try:
        yield partial
        if path.exists():
            shutil.rmtree(path)
        partial.replace(path)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
