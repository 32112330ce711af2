"""Single frames of a clip, out of a video file or a folder of images.

How frames are counted:

- Images in a folder bear their number in their name: the last run of digits before the ending
  (``reg_img46.jpg`` is frame 46, ``006_05562.jpg`` frame 5562). Gaps are allowed. Where no image of
  the folder has a digit, they are counted in their natural order.
- Frames of a video, and images without numbers, are counted from `first_frame`, 0 or 1.

Only the frames that were asked for are kept in memory, whatever the length of the clip.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import cv2
import numpy as np
from numpy.typing import NDArray

from fedpsyau_client.preparation.clip_endings import IMAGE_ENDINGS
from fedpsyau_client.preparation.frame_size import check_frame_size
from fedpsyau_client.preparation.videos import VideoFile, VideoReader
from fedpsyau_model.errors import FrameMissingError, FrameSizeError, FrameUnreadableError

__all__ = [
    "ImageFolder",
    "count_frames",
    "natural_key",
    "open_clip",
    "read_frames",
]

#: Largest file of an image, in bytes.
_MAX_BYTES: Final = 1_000_000_000

Image = NDArray[np.uint8]


@dataclass(frozen=True, eq=False, slots=True)
class ImageFolder:
    """A folder of images: which files bear which frame number (more than one, if it is unclear)."""

    path: Path
    frames: dict[int, tuple[Path, ...]]

    def file_of(self, number: int) -> Path:
        """File of a frame. Raises FrameMissingError where there is none, or more than one."""
        files = self.frames.get(number, ())
        if not files:
            below = max((each for each in self.frames if each < number), default=None)
            above = min((each for each in self.frames if each > number), default=None)
            nearest = " and ".join(str(each) for each in (below, above) if each is not None)
            raise FrameMissingError(
                f"{self.path} has no frame {number}. It holds {len(self.frames)} frames from "
                f"{min(self.frames)} to {max(self.frames)}; the nearest: {nearest}. "
                "Check that folder and label belong together."
            )
        if len(files) > 1:
            names = ", ".join(sorted(file.name for file in files)[:3])
            raise FrameMissingError(
                f"{self.path}: {len(files)} images could be frame {number}: {names}. The last "
                "number in a name counts; leave one image per frame in the folder."
            )
        return files[0]


Clip = VideoFile | ImageFolder


def natural_key(name: str) -> tuple[tuple[int, int | str], ...]:
    """Sort key under which ``img10`` comes after ``img2``."""
    pieces = re.split(r"([0-9]+)", name)
    return tuple((0, int(piece)) if piece.isdecimal() else (1, piece) for piece in pieces)


def open_clip(path: Path, first_frame: int = 1) -> Clip:
    """Say how to read the clip at `path`, a video file or a folder of images; reads no frame.

    Raises FrameUnreadableError where there is neither.
    """
    if path.is_file():
        return VideoFile(path, first_frame)
    try:
        images = [
            file
            for file in path.iterdir()
            if file.suffix.lower() in IMAGE_ENDINGS and file.is_file() and file.name[0] != "."
        ]
    except OSError as error:
        raise FrameUnreadableError(
            f"{path} cannot be read: {error.strerror or error}. A clip is a video file or a folder "
            "of images."
        ) from None
    if not images:
        raise FrameUnreadableError(
            f"{path} holds no image ({', '.join(sorted(IMAGE_ENDINGS))}). Give the folder in which "
            "the frames themselves are."
        )
    return ImageFolder(path, _numbered(images, first_frame))


def read_frames(
    clip: Clip, numbers: Sequence[int], videos: VideoReader | None = None
) -> list[Image]:
    """Read the frames with these numbers, in this order: each (H, W, 3) uint8, RGB.

    Grey images become RGB, an alpha channel is dropped. Images of 16 bit are brought to 8 together:
    by the lowest of 8, 10, 12, 14, 16 bits that holds all of them.

    videos: a reader that is kept from clip to clip; clips of one video are then read in one pass.

    Raises FrameMissingError (no such frame), FrameUnreadableError (the file cannot be decoded),
    FrameSizeError (see `frame_size`).
    """
    if isinstance(clip, VideoFile):
        if videos is not None:
            return videos.read(clip, numbers)
        with VideoReader() as reader:
            return reader.read(clip, numbers)
    files = [clip.file_of(number) for number in numbers]
    return _eight_bit([_read_image(file) for file in files])


def count_frames(clip: Clip) -> int:
    """Count by reading; a truncated video has fewer frames than it says."""
    if isinstance(clip, ImageFolder):
        return sum(len(files) for files in clip.frames.values())
    with VideoReader() as reader:
        return reader.count(clip)


def _numbered(images: Sequence[Path], first_frame: int) -> dict[int, tuple[Path, ...]]:
    frames: dict[int, tuple[Path, ...]] = {}
    for file in images:
        digits = re.findall(r"[0-9]+", file.stem)
        if digits:
            number = int(digits[-1][-18:])
            frames[number] = (*frames.get(number, ()), file)
    if frames:
        return frames
    in_order = sorted(images, key=lambda file: natural_key(file.name))
    return {number: (file,) for number, file in enumerate(in_order, start=first_frame)}


def _read_image(file: Path) -> NDArray[Any]:
    """Read one image as (H, W, 3) RGB of 8 or 16 bits."""
    try:
        if (size := file.stat().st_size) > _MAX_BYTES:
            raise FrameSizeError(
                f"{file} has {size:,} bytes, more than the {_MAX_BYTES:,} that are read of an "
                "image. Save it in a smaller format."
            )
        # imread cannot open every name on every system; imdecode need not open any.
        content = np.frombuffer(file.read_bytes(), dtype=np.uint8)
        image = cv2.imdecode(content, cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH)
    except (OSError, cv2.error) as error:
        raise FrameUnreadableError(
            f"{file} cannot be read as an image: {_first_line(error)}. Copy it again from the "
            "original, or leave the clip out."
        ) from None
    if image is None or image.dtype not in (np.uint8, np.uint16):
        kind = "it is damaged or of an unknown kind" if image is None else f"it holds {image.dtype}"
        raise FrameUnreadableError(
            f"{file} cannot be read as an image of 8 or 16 bits: {kind}. Copy it again from the "
            "original, or leave the clip out."
        )
    check_frame_size(image.shape, file)
    return np.ascontiguousarray(image[..., ::-1])


def _eight_bit(images: Sequence[NDArray[Any]]) -> list[Image]:
    """Bring images of up to 16 bits to 8, all by the same shift, so that brightness stays equal."""
    deep = [image for image in images if image.dtype == np.uint16]
    bits = max((int(image.max()).bit_length() for image in deep), default=8)
    shift = max(bits + bits % 2 - 8, 0)
    return [
        (image >> shift).astype(np.uint8) if image.dtype == np.uint16 else image.astype(np.uint8)
        for image in images
    ]


def _first_line(error: Exception) -> str:
    said = str(getattr(error, "strerror", "") or "") or str(error)
    return (said.strip().splitlines() or [type(error).__name__])[0]
