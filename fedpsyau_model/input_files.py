"""Reading a file that a user names, when it may be anything."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from typing import Final

__all__ = ["LARGEST_TEXT", "check_input_file", "read_input", "read_input_text"]

#: No table, manifest or settings file comes near this; what is larger is something else.
LARGEST_TEXT: Final = 64 * 2**20


def read_input(file: Path, largest: int) -> bytes:
    """Read a whole file of at most `largest` bytes.

    Raises OSError, also where it is a pipe or device, on which reading waits for ever, or where it
    is larger, so that it would fill the memory.
    """
    # Opening a pipe waits for a writer unless told not to.
    descriptor = os.open(file, os.O_RDONLY | os.O_NONBLOCK)
    with open(descriptor, "rb") as stream:  # noqa: PTH123
        _check(file, os.fstat(descriptor), largest)
        return stream.read()


def read_input_text(file: Path, encoding: str = "utf-8", largest: int = LARGEST_TEXT) -> str:
    """Read text as `read_input` reads bytes. Raises OSError, UnicodeDecodeError."""
    return read_input(file, largest).decode(encoding)


def check_input_file(file: Path, largest: int) -> None:
    """Raise the OSError that `read_input` would raise, for those who read by themselves."""
    _check(file, file.stat(), largest)


def _check(file: Path, status: os.stat_result, largest: int) -> None:
    if stat.S_ISDIR(status.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), os.fspath(file))
    if not stat.S_ISREG(status.st_mode):
        raise OSError(errno.EINVAL, "It is a pipe or a device, not a file", os.fspath(file))
    if status.st_size > largest:
        size, limit = status.st_size / 2**20, largest / 2**20
        message = f"It has {size:.0f} MB, and at most {limit:.0f} MB are read"
        raise OSError(errno.EFBIG, message, os.fspath(file))
