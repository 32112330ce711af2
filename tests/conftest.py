"""Fixtures that tests of all packages share."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

#: Names the folder of shared data, which is no part of the project.
SHARED_DATA_VARIABLE = "FEDPSYAU_SHARED_DATA"

# What a shell starts in the background ignores Ctrl-C, and so would every process that a test
# starts and then interrupts.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder with the real label tables; tests that need it are skipped where it is absent."""
    beside = Path(__file__).resolve().parent.parent.parent / "shared" / "data"
    folder = Path(os.environ.get(SHARED_DATA_VARIABLE) or beside)
    if not folder.is_dir():
        pytest.skip(f"no shared data at {folder}; {SHARED_DATA_VARIABLE} names the folder")
    return folder
