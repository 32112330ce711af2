"""A folder that appears whole or not at all, whatever interrupts its writing."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fedpsyau_model.errors import OutputExistsError, OutputWriteError


@contextmanager
def written_whole(folder: Path, replace: bool = False) -> Iterator[Path]:
    """Give an empty temporary folder that becomes `folder` when the block ends without an error.

    It lies beside `folder` under a hidden name; its files are flushed to disk before the rename.
    With `replace` a folder that is already there is removed once the new one stands in its place.

    Raises OutputExistsError if `folder` is there and `replace` is off, OutputWriteError if it
    cannot be written. Whatever is raised, `folder` is as it was before.
    """
    if not replace and os.path.lexists(folder):
        raise OutputExistsError(
            f"{folder} is already there and was left as it is. Give another folder, or ask for it "
            "to be replaced."
        )
    temporary = folder.parent / f".{folder.name}.{secrets.token_hex(4)}.partial"
    try:
        temporary.mkdir(parents=True)
        yield temporary
        _flush(*temporary.iterdir(), temporary)
        _move_into_place(temporary, folder)
        _flush(folder.parent)
    except OSError as error:
        raise OutputWriteError(
            f"{folder} cannot be written: {error.strerror or error}. Nothing half-written was left "
            "there. Check free space and permissions, or give another place."
        ) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _flush(*paths: Path) -> None:
    """Force files and folders to disk, so that the rename cannot overtake their contents."""
    for path in paths:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _move_into_place(temporary: Path, folder: Path) -> None:
    if not os.path.lexists(folder):
        temporary.rename(folder)
        return
    aside = temporary.with_suffix(".replaced")
    folder.rename(aside)
    try:
        temporary.rename(folder)
    except BaseException:
        aside.rename(folder)
        raise
    shutil.rmtree(aside, ignore_errors=True)
