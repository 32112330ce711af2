"""How a rendered site lies on disk: clips and labels for preparation, the truth beside them."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import cv2
import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import save_file

from fedpsyau_client.preparation.clip_labels import SYNTHETIC_MARK
from fedpsyau_client.synthetic.partition_labels import PartitionLabels
from fedpsyau_client.synthetic.rendering.clip_frames import TrueMotion
from fedpsyau_model.action_units import AUS
from fedpsyau_model.emotions import EMOTIONS

__all__ = [
    "CLIPS",
    "LABELS",
    "TRUTH",
    "clip_path",
    "label_csv",
    "mark_as_synthetic",
    "why_kept",
    "write_clip",
    "write_truth",
]

CLIPS: Final = "clips"
LABELS: Final = "labels.csv"
TRUTH: Final = "truth/motion.safetensors"

#: Fast rather than small: noise does not compress.
_PNG: Final = (cv2.IMWRITE_PNG_COMPRESSION, 1)


def mark_as_synthetic(site: Path, facts: Mapping[str, Any]) -> None:
    """Leave the file by which preparation knows a site's clips as made up. facts: how."""
    content = {"synthetic": True, **facts}
    (site / SYNTHETIC_MARK).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def why_kept(folder: Path) -> str:
    """Why a folder may not be replaced; "" for one that was written by us."""
    return "" if (folder / SYNTHETIC_MARK).is_file() else "is not synthetic"


def clip_path(number: int, subject: int) -> str:
    """Path of a clip's folder below `CLIPS`, as the label table names it."""
    return f"s{subject:03d}/c{number:05d}"


def write_clip(folder: Path, frames: Iterable[NDArray[np.uint8]]) -> None:
    """Write frames (H, W, 3), blue green red, as img001.png, img002.png and so on."""
    folder.mkdir(parents=True)
    for number, frame in enumerate(frames, start=1):
        # Encoded here and written by Python: OpenCV's own writing fails silently.
        (folder / f"img{number:03d}.png").write_bytes(
            cv2.imencode(".png", frame, _PNG)[1].tobytes()
        )


def label_csv(labels: PartitionLabels, apexes: Sequence[int], frames: int) -> str:
    """Label table of a site, one row a clip. apexes: frame numbers, counted from 1."""
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(["subject", "filename", "onset", "apex", "offset", "emotion", "au"])
    for number, (subject, apex) in enumerate(zip(labels.subject, apexes, strict=True)):
        path = clip_path(number, int(subject))
        emotion = EMOTIONS[labels.emotion[number]]
        units = _au_text(labels.annotated[number], labels.shown[number])
        rows.writerow([f"s{subject:03d}", path, 1, apex, frames, emotion, units])
    return text.getvalue()


def _au_text(annotated: NDArray[np.bool_], shown: NDArray[np.bool_]) -> str:
    """Write AUs as coders do: ``1+R12`` where a unit shows on the right side only.

    A clip without any says so: an empty cell would mean that it was never coded.
    """
    sides = {(True, False): "R", (False, True): "L"}
    units = "+".join(
        f"{sides.get((bool(right), bool(left)), '')}{au}"
        for au, coded, (right, left) in zip(AUS, annotated, shown, strict=True)
        if coded
    )
    return units or "none"


def write_truth(file: Path, motions: Sequence[TrueMotion]) -> None:
    """Write what moved how, in the order of the label table; see `TrueMotion` for the arrays.

    The flow is kept in float16: its error, 0.001 px, is far below any method's.
    Raises OSError if the disk refuses.
    """
    file.parent.mkdir(parents=True)
    arrays: dict[str, NDArray[Any]] = {
        "flow": np.stack([motion.flow for motion in motions]).astype(np.float16),
        "onset_points": np.stack([motion.onset_points for motion in motions]),
        "apex_points": np.stack([motion.apex_points for motion in motions]),
        "onset_eyes": np.stack([motion.onset_eyes for motion in motions]),
    }
    try:
        save_file(arrays, file, metadata={"synthetic": "true"})
    except SafetensorError as error:  # how safetensors reports a full disk
        raise OSError(str(error)) from error
