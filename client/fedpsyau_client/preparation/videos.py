"""Frames of video files, read from the beginning.

What a video says of its length, and where it seeks to, cannot be trusted. So frames are counted by
reading them. A reader goes on where it was if the next clip lies further on in the same video: the
clips of one video, in their order, cost one pass. Only frames that were asked for are kept.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import cv2
import numpy as np
from numpy.typing import NDArray

from fedpsyau_client.preparation.frame_size import check_frame_size
from fedpsyau_model.errors import FrameMissingError, FrameUnreadableError

__all__ = ["VideoFile", "VideoReader"]

Image = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class VideoFile:
    """A video whose first frame has the number `first_frame`."""

    path: Path
    first_frame: int


class VideoReader:
    """Reads frames of one video after the other. Use as a context manager."""

    def __init__(self) -> None:
        self._video: VideoFile | None = None
        self._capture: Any = None
        #: Number of the frame that is read next.
        self._next = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the video that is open."""
        if self._capture is not None:
            self._capture.release()
        self._video = self._capture = None

    def read(self, video: VideoFile, numbers: Sequence[int]) -> list[Image]:
        """Read the frames with these numbers, in this order: each (H, W, 3) uint8, RGB.

        Raises FrameMissingError, FrameUnreadableError, FrameSizeError.
        """
        if video != self._video or min(numbers) < self._next:
            self._open(video)
        try:
            found = self._collect(video, frozenset(numbers))
        except cv2.error as error:
            self.close()
            raise FrameUnreadableError(
                f"{video.path} cannot be read: {' '.join(str(error).split())[:200]}."
            ) from None
        missing = [number for number in sorted(numbers) if number not in found]
        if missing:
            self.close()
            raise FrameMissingError(
                f"{video.path} has no frame {missing[0]}: its first frame counts as "
                f"{video.first_frame}, and {self._next - video.first_frame} frames could be read. "
                "Check that video and label belong together, and --first-frame."
            )
        return [found[number] for number in numbers]

    def count(self, video: VideoFile) -> int:
        """Count the frames that can be read. Raises FrameUnreadableError."""
        self._open(video)
        while self._capture.grab():
            self._next += 1
        self.close()
        return self._next - video.first_frame

    def _open(self, video: VideoFile) -> None:
        self.close()
        capture = cv2.VideoCapture(str(video.path), cv2.CAP_FFMPEG)
        if not capture.isOpened():
            raise FrameUnreadableError(
                f"{video.path} cannot be opened as a video: it is damaged, empty or of an unknown "
                "kind. Copy it again from the original, or leave the clip out."
            )
        self._video, self._capture, self._next = video, capture, video.first_frame

    def _collect(self, video: VideoFile, numbers: frozenset[int]) -> dict[int, Image]:
        """Read on to the last of `numbers`, or as far as can be; keep those frames."""
        found: dict[int, Image] = {}
        while self._next <= max(numbers) and self._capture.grab():
            if self._next in numbers:
                read, image = self._capture.retrieve()
                if not read:
                    break
                check_frame_size(image.shape, video.path)
                found[self._next] = _rgb(image)
            self._next += 1
        return found


def _rgb(image: NDArray[Any]) -> Image:
    grey = image.ndim == 2 or image.shape[2] == 1
    code = cv2.COLOR_GRAY2RGB if grey else cv2.COLOR_BGR2RGB
    return np.asarray(cv2.cvtColor(image, code))
