"""What is wrong with a run folder that cannot be read or written, and what to do about it."""

from __future__ import annotations

import errno
from pathlib import Path

from fedpsyau_model.errors import RunFolderError

__all__ = ["cannot_read", "cannot_write"]

#: What to do about a folder that cannot be written, by the system's number of the error.
_CURES = {
    errno.ENOSPC: "The disk is full: free some space.",
    errno.EDQUOT: "The quota is used up: free some space.",
    errno.EFBIG: "Files may not grow this large here: raise the limit (`ulimit -f`).",
    errno.EROFS: "It is mounted read-only: mount it for writing.",
    errno.EACCES: "Give the user that runs the server the right to write there.",
    errno.EPERM: "Give the user that runs the server the right to write there.",
}


def cannot_read(path: Path, error: object) -> RunFolderError:
    """The error of a file that is damaged or not there."""
    return RunFolderError(
        f"{path} cannot be read: {error}. It is damaged, or another version of fedpsyau wrote it. "
        "Restore the run folder from a copy, or start a new run."
    )


def cannot_write(path: Path, error: OSError) -> RunFolderError:
    """The error of a run folder `path` that takes no more."""
    return RunFolderError(
        f"The run folder {path} cannot be written: {error.strerror or error}. "
        f"{_CURES.get(error.errno or 0, 'Check the disk and the permissions of the folder.')} "
        f"The last whole round is intact; go on with `fedpsyau-server --resume {path}`."
    )
