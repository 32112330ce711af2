"""A temporary folder of one process, which goes away even if that process is killed."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import tempfile
from pathlib import Path
from typing import Self

__all__ = ["PrivateFolder"]


class PrivateFolder:
    """A new folder among the system's temporary files, removed at the end. A context manager.

    Its process holds a lock on it. A folder of the same prefix that nobody holds was left by a
    process that was killed, and is removed by the next that makes one.
    """

    path: Path

    def __init__(self, prefix: str) -> None:
        _remove_left_behind(prefix)
        while True:
            self.path = Path(tempfile.mkdtemp(prefix=prefix))
            # Between these two lines somebody else may take it for one that was left behind.
            lock = _locked(self.path, fcntl.LOCK_EX)
            if lock is not None:
                self._lock = lock
                return

    def remove(self) -> None:
        """Remove the folder and all that is in it; a second time does nothing."""
        shutil.rmtree(self.path, ignore_errors=True)
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.remove()


def _locked(folder: Path, how: int) -> int | None:
    """Descriptor of the folder that holds its lock; None if it is another's, locked or gone."""
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except OSError:
        return None
    with contextlib.suppress(OSError):
        fcntl.flock(descriptor, how)
        opened = os.fstat(descriptor)
        if opened.st_uid == os.geteuid() and os.path.samestat(opened, folder.stat()):
            return descriptor
    os.close(descriptor)
    return None


def _remove_left_behind(prefix: str) -> None:
    for folder in Path(tempfile.gettempdir()).glob(f"{prefix}*"):
        lock = _locked(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if lock is not None:
            shutil.rmtree(folder, ignore_errors=True)
            os.close(lock)
