"""The file that marks a folder of clips as made up, so that preparation passes it on.

Whatever is prepared from a folder with this file becomes a store whose manifest says synthetic, and
whose data set carries the name given here.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from fedpsyau_model.errors import DataDamagedError

__all__ = ["MARKER_NAME", "mark_as_synthetic", "synthetic_dataset"]

MARKER_NAME: Final = "synthetic.json"


def mark_as_synthetic(clips: Path, dataset: str, facts: Mapping[str, Any]) -> None:
    """Mark a folder of clips. dataset: starts with ``synthetic``. facts: how it was made."""
    content = {"synthetic": True, "dataset": dataset, **facts}
    (clips / MARKER_NAME).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def synthetic_dataset(clips: Path) -> str | None:
    """Name of the synthetic data set that a folder of clips holds, or None if it is not marked.

    Raises DataDamagedError if there is a mark that cannot be read: it must not pass for real data.
    """
    marker = clips / MARKER_NAME
    if not marker.is_file():
        return None
    try:
        dataset = json.loads(marker.read_text(encoding="utf-8"))["dataset"]
        if not str(dataset).startswith("synthetic"):
            raise ValueError
    except (OSError, ValueError, KeyError, TypeError):
        raise DataDamagedError(
            f"{marker} says that these clips are synthetic, but not of which data set. Make them "
            "again with `fedpsyau data synth --frames`."
        ) from None
    return str(dataset)
