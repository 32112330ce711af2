"""One prepared clip on disk, so that a stopped preparation goes on where it was."""

from __future__ import annotations

import io
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fedpsyau_client.store.features_file import FLOW_SHAPE, ROIS_SHAPE
from fedpsyau_model.atomic_files import write_atomically
from fedpsyau_model.errors import OutputWriteError

__all__ = ["ClipResult", "read_clip_result", "write_clip_result"]


@dataclass(frozen=True, eq=False)
class ClipResult:
    """Both streams of one clip: flow (3, 28, 28) and rois (65, 3, 5, 5), float32."""

    flow: NDArray[np.float32]
    rois: NDArray[np.float32]


def write_clip_result(file: Path, result: ClipResult) -> None:
    """Write a result whole or not at all. Raises OutputWriteError."""
    content = io.BytesIO()
    np.savez(content, flow=result.flow, rois=result.rois)
    try:
        write_atomically(file, content.getvalue())
    except OSError as error:
        raise OutputWriteError(
            f"{file} cannot be written: {error.strerror or error}. Free some space and call the "
            "same command again; it goes on where it was."
        ) from error


def read_clip_result(file: Path) -> ClipResult | None:
    """Read a result; None where there is none, or none that is whole (its CRC-32 is checked)."""
    try:
        with np.load(file, allow_pickle=False) as arrays:
            result = ClipResult(arrays["flow"], arrays["rois"])
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, NotImplementedError):
        return None
    right = (
        result.flow.shape == FLOW_SHAPE
        and result.rois.shape == ROIS_SHAPE
        and result.flow.dtype == result.rois.dtype == np.float32
    )
    return result if right else None
