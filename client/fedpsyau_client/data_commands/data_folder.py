"""Where feature stores are kept when a command is not told."""

from __future__ import annotations

import os
from pathlib import Path

#: Folder of the feature stores where none is given.
DATA_VARIABLE = "FEDPSYAU_DATA"
DEFAULT_DATA = "data"


def default_data_folder() -> Path:
    """Folder named by FEDPSYAU_DATA, else ./data."""
    return Path(os.environ.get(DATA_VARIABLE) or DEFAULT_DATA)
