"""Fixtures that tests of all packages share."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

#: Names the folder of shared data, which is no part of the project.
SHARED_DATA_VARIABLE = "FEDPSYAU_SHARED_DATA"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder with the real label tables; tests that need it are skipped where it is absent."""
    beside = Path(__file__).resolve().parent.parent.parent / "shared" / "data"
    folder = Path(os.environ.get(SHARED_DATA_VARIABLE) or beside)
    if not folder.is_dir():
        pytest.skip(f"no shared data at {folder}; {SHARED_DATA_VARIABLE} names the folder")
    return folder
