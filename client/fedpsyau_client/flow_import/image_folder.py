"""A folder of three-channel 8-bit flow images, whose names say which clip of a table they show."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import cv2
import numpy as np
import numpy.typing as npt

from fedpsyau_client.flow_import.flow_source import (
    FlowChunk,
    MissingFlow,
    clips_per_chunk,
    size_problem,
)
from fedpsyau_client.flow_import.image_matching import flow_images, match_names
from fedpsyau_client.labels.clip_record import ClipRecord
from fedpsyau_model.errors import (
    ClipError,
    DataNotFoundError,
    FrameSizeError,
    FrameUnreadableError,
)

__all__ = ["ImageFolder", "read_flow_image"]

#: A file far larger than any flow image is something else, and is not even read.
_LARGEST_FILE: Final = 32 * 2**20


class ImageFolder:
    """Flow images below a folder, matched by name to the clips of a label table."""

    eight_bit = True

    def __init__(self, folder: Path, records: Sequence[ClipRecord]) -> None:
        """Index the folder. Raises DataNotFoundError if it is missing or holds no image."""
        if not folder.is_dir():
            raise DataNotFoundError(
                f"There is no folder {folder} with flow images. Check the path of SOURCE."
            )
        self.records = records
        self._folder = folder
        self._names = flow_images(folder)
        if not self._names:
            raise DataNotFoundError(
                f"The folder {folder} holds no image (.png, .jpg, .jpeg, .bmp), in it or below it."
            )
        self._matches = match_names(records, self._names)

    @property
    def unclaimed(self) -> int:
        """How many images belong to no clip, or not to one alone."""
        return len(self._names) - sum(isinstance(match, int) for match in self._matches)

    def read(self) -> Iterator[FlowChunk | MissingFlow]:
        """Yield every clip once, in the order of the records but where images differ in size."""
        waiting: list[tuple[int, npt.NDArray[np.uint8]]] = []
        for position, match in enumerate(self._matches):
            if isinstance(match, ClipError):
                yield MissingFlow(position, match)
                continue
            try:
                image = read_flow_image(self._folder / self._names[match])
            except ClipError as error:
                yield MissingFlow(position, error)
                continue
            size = image.shape[-1]
            if waiting and (
                waiting[0][1].shape[-1] != size or len(waiting) == clips_per_chunk(size)
            ):
                yield _chunk(waiting)
                waiting = []
            waiting.append((position, image))
        if waiting:
            yield _chunk(waiting)


def _chunk(images: list[tuple[int, npt.NDArray[np.uint8]]]) -> FlowChunk:
    return FlowChunk([position for position, _ in images], np.stack([image for _, image in images]))


def read_flow_image(file: Path) -> npt.NDArray[np.uint8]:
    """Read one image as (3, S, S): red, green, blue, whatever the order in which decoders hand out.

    Transparency is left out. Raises FrameUnreadableError if the file is no image, has one
    channel or 16 bits; FrameSizeError if it is not square, or too small or too large.
    """
    try:
        size = file.stat().st_size
        if not 0 < size <= _LARGEST_FILE:
            raise FrameUnreadableError(f"{file.name} has {size} bytes and is no flow image.")
        data = np.fromfile(file, dtype=np.uint8)
    except OSError as error:
        raise FrameUnreadableError(
            f"{file.name} cannot be read: {error.strerror or error}."
        ) from None
    try:
        image = cv2.imdecode(data, cv2.IMREAD_UNCHANGED)
    except cv2.error:
        image = None
    if image is None:
        raise FrameUnreadableError(f"{file.name} is damaged, or is no image.")
    if image.ndim != 3 or image.shape[2] not in (3, 4):
        raise FrameUnreadableError(
            f"{file.name} has one channel; three are needed: u, v and a third."
        )
    if image.dtype != np.uint8:
        raise FrameUnreadableError(
            f"{file.name} is not 8-bit but {image.dtype}. Convert it, or give an .npz archive."
        )
    if problem := size_problem(*image.shape[:2]):
        raise FrameSizeError(f"{file.name}: {problem}.")
    # OpenCV hands out blue, green, red.
    return np.ascontiguousarray(np.moveaxis(image[:, :, 2::-1], -1, 0))
