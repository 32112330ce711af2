"""What `fedpsyau predict --out` leaves: a folder that appears whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Final

from fedpsyau_client.prediction.annotated_video import write_annotated_video
from fedpsyau_client.prediction.recognition import Recognition
from fedpsyau_client.prediction.report import report_page
from fedpsyau_client.store.atomic_folder import written_whole
from fedpsyau_model.errors import OutputExistsError

__all__ = ["PREDICTION", "REPORT", "VIDEO", "require_free", "write_output"]

PREDICTION: Final = "prediction.json"
REPORT: Final = "report.html"
VIDEO: Final = "annotated.mp4"


def require_free(folder: Path) -> None:
    """Raise OutputExistsError if there is anything at `folder`, before any work is done."""
    if os.path.lexists(folder):
        raise OutputExistsError(
            f"{folder} is already there and was left as it is. Give another --out, or delete it."
        )


def write_output(
    folder: Path,
    recognition: Recognition,
    video: bool,
    progress: Callable[[int], None] = lambda frames: None,
) -> None:
    """Write prediction, page and, if `video`, the annotated copy.

    Raises OutputExistsError, OutputWriteError, VideoWriteError; `folder` then is as it was.
    """
    with written_whole(folder) as unfinished:
        text = recognition.prediction.model_dump_json(by_alias=True, indent=2)
        (unfinished / PREDICTION).write_text(text + "\n", encoding="utf-8")
        (unfinished / REPORT).write_text(report_page(recognition), encoding="utf-8")
        if video:
            write_annotated_video(unfinished / VIDEO, recognition, progress)
