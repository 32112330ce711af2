"""One clip from its frames to its features: what a worker process is given and what it does."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol

from fedpsyau_client.preparation.clip_features import Image, pair_features, prepare_pair
from fedpsyau_client.preparation.clip_result import ClipResult, write_clip_result
from fedpsyau_client.preparation.face_points import FacePoints
from fedpsyau_client.preparation.frames import ImageFolder, open_clip, read_frames
from fedpsyau_client.preparation.optical_flow import FlowMethod
from fedpsyau_client.preparation.videos import VideoReader
from fedpsyau_model.errors import FrameUnreadableError

__all__ = ["FEATURES_VERSION", "ClipJob", "FaceFinder", "prepare_clip", "source_stamp", "stamp"]

#: Raised whenever this package would make other features of the same clip.
FEATURES_VERSION: Final = 1


class FaceFinder(Protocol):
    """Finds the face of an onset frame, as `FaceDetector` does."""

    def find(self, image: Image) -> FacePoints:
        """Eyes and points of the one face in an image (H, W, 3), RGB."""


@dataclass(frozen=True, eq=False)
class ClipJob:
    """A clip to prepare.

    path: video or folder of images; onset, apex: numbers of frames in it (see `frames`).
    face: of the onset frame, where it is known beforehand; None to have it found.
    result: file to which the features go.
    """

    path: Path
    onset: int
    apex: int
    first_frame: int
    flow: FlowMethod
    face: FacePoints | None
    result: Path


def prepare_clip(job: ClipJob, finder: FaceFinder, videos: VideoReader | None = None) -> None:
    """Prepare one clip and write its result. Raises ClipError, OutputWriteError.

    videos: a reader that is kept from clip to clip; clips of one video are then read in one pass.
    """
    clip = open_clip(job.path, job.first_frame)
    onset, apex = read_frames(clip, (job.onset, job.apex), videos)
    face = job.face or finder.find(onset)
    flow, rois = pair_features(prepare_pair(onset, apex, face, job.flow))
    write_clip_result(job.result, ClipResult(flow, rois))


def source_stamp(path: Path, onset: int, apex: int, first_frame: int) -> list[Any]:
    """Size and time of change of the files from which a clip's two frames come.

    Raises FrameMissingError, FrameUnreadableError where a look at the folder shows it.
    """
    clip = open_clip(path, first_frame)
    files = [clip.file_of(onset), clip.file_of(apex)] if isinstance(clip, ImageFolder) else [path]
    try:
        states = [file.stat() for file in files]
    except OSError as error:
        raise FrameUnreadableError(f"{path} cannot be read: {error.strerror or error}.") from None
    return [[state.st_size, state.st_mtime_ns] for state in states]


def stamp(values: Mapping[str, Any]) -> str:
    """Name under which a result is kept: it changes with anything that could change the result."""
    text = json.dumps(values, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:40]
