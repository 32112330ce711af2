"""The frames of a clip one after the other, so that memory does not grow with its length."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import cv2
import numpy as np
from numpy.typing import NDArray

from fedpsyau_client.preparation.frames import (
    Clip,
    ImageFolder,
    count_frames,
    open_clip,
    read_frames,
)
from fedpsyau_client.preparation.videos import VideoReader
from fedpsyau_model.errors import FrameSizeError, FrameUnreadableError, VideoTooShortError

__all__ = ["FrameStream", "open_frame_stream"]

#: Speeds that a video's own word is taken for; others are slips of the file's header.
_BELIEVED_FPS: Final = (1.0, 2000.0)

Image = NDArray[np.uint8]


@dataclass(frozen=True)
class FrameStream:
    """A clip with the numbers of its frames, in order.

    fps: frames a second by the video's header; None for a folder of images, or if that is not
        believable.
    """

    clip: Clip
    numbers: tuple[int, ...]
    fps: float | None

    def read(self, numbers: Sequence[int]) -> Iterator[tuple[int, Image]]:
        """Yield (number, frame (H, W, 3) uint8 RGB), one at a time, in the order given, ascending.

        Raises FrameSizeError if a frame differs in size from the one before; what `read_frames`
        raises.
        """
        size: tuple[int, ...] = ()
        with VideoReader() as reader:
            for number in numbers:
                (frame,) = read_frames(self.clip, (number,), reader)
                if size and frame.shape != size:
                    raise FrameSizeError(
                        f"Frame {number} of {self.clip.path} is {frame.shape[1]} x "
                        f"{frame.shape[0]} pixels, the one before {size[1]} x {size[0]}. All must "
                        "come from the same recording, uncropped or cropped alike."
                    )
                size = frame.shape
                yield number, frame


def open_frame_stream(path: Path, first_frame: int = 1) -> FrameStream:
    """Open a video or a folder of images, and count its frames by reading.

    Raises FrameUnreadableError, FrameSizeError; VideoTooShortError if it has fewer than two frames.
    """
    clip = open_clip(path, first_frame)
    if isinstance(clip, ImageFolder):
        numbers, fps = tuple(sorted(clip.frames)), None
    else:
        count = count_frames(clip)
        numbers, fps = tuple(range(first_frame, first_frame + count)), _header_fps(path)
    if len(numbers) < 2:
        raise VideoTooShortError(
            f"{path} has {len(numbers)} frame{'s' if len(numbers) != 1 else ''} that can be read; "
            "an onset and an apex are two. Give the whole recording."
        )
    return FrameStream(clip, numbers, fps)


def _header_fps(path: Path) -> float | None:
    capture: Any = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG)
    try:
        fps = float(capture.get(cv2.CAP_PROP_FPS))
    except cv2.error as error:
        raise FrameUnreadableError(
            f"{path} cannot be read: {' '.join(str(error).split())[:200]}."
        ) from None
    finally:
        capture.release()
    low, high = _BELIEVED_FPS
    return fps if low <= fps <= high else None
