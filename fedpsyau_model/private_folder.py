"""A temporary folder of one process, which goes away even if that process is killed."""

from __future__ import annotations

import contextlib
import fcntl
import glob
import os
import shutil
import tempfile
import weakref
from pathlib import Path
from typing import Self

__all__ = ["PrivateFolder"]


class PrivateFolder:
    """A new folder of a name between prefix and suffix, removed at the end. A context manager.

    Its process holds a lock on it. A folder of such a name that nobody holds was left by a process
    that was killed, and is removed by the next that makes one.

    within: where it is made; by default among the system's temporary files.

    Raises OSError if it cannot be made.
    """

    path: Path

    def __init__(self, prefix: str, suffix: str = "", within: Path | None = None) -> None:
        within = within or Path(tempfile.gettempdir())
        while True:
            self.path = Path(tempfile.mkdtemp(suffix, prefix, within))
            # Between these two lines somebody else may take it for one that was left behind.
            try:
                lock = _locked(self.path, fcntl.LOCK_EX)
            except FileNotFoundError:
                continue
            except OSError:
                self.path.rmdir()
                raise
            break
        self._remove = weakref.finalize(self, _remove, self.path, lock)
        owner = self.path.stat().st_uid
        for other in within.glob(f"{glob.escape(prefix)}*{glob.escape(suffix)}"):
            with contextlib.suppress(OSError):
                _remove_left_behind(other, owner)

    def remove(self) -> None:
        """Remove the folder and all that is in it; a second time does nothing."""
        self._remove()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.remove()


def _locked(folder: Path, how: int) -> int:
    """Descriptor of the folder that holds its lock.

    Raises FileNotFoundError if the folder is gone, OSError if it is no folder or not to be locked.
    """
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        fcntl.flock(descriptor, how)
        if not os.path.samestat(os.fstat(descriptor), folder.stat()):
            raise FileNotFoundError(folder)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def _remove_left_behind(folder: Path, owner: int) -> None:
    lock = _locked(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
    if os.fstat(lock).st_uid == owner:
        _remove(folder, lock)
    else:
        os.close(lock)


def _remove(folder: Path, lock: int) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    os.close(lock)
