"""An annotated copy of a video: every frame as it is, a strip of text and a time line below it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import cv2
import numpy as np
from matplotlib import colormaps
from numpy.typing import NDArray

from fedpsyau_client.prediction.prediction_file import Prediction
from fedpsyau_client.prediction.recognition import Recognition
from fedpsyau_client.prediction.report import headline
from fedpsyau_client.prediction.report_pictures import ATTENTION_COLOURS
from fedpsyau_client.preparation.videos import VideoFile, VideoReader
from fedpsyau_model.errors import FrameUnreadableError, VideoWriteError

__all__ = ["annotated_frame", "write_annotated_video"]

#: Speed of the copy where nobody knows that of the original.
_FPS: Final = 25.0

_LIMITS: Final = "research only: no lie detection, no decision about a person"

#: Height of the strip below the picture, as a share of the picture's, and at least, in pixels.
_STRIP: Final = 0.16
_LEAST_STRIP: Final = 48

_INK: Final = (59, 50, 38)
_PAPER: Final = (255, 255, 255)
_TRACK: Final = (213, 208, 201)
_MARK: Final = (85, 34, 136)
_FONT: Final = cv2.FONT_HERSHEY_SIMPLEX

Image = NDArray[np.uint8]


def write_annotated_video(
    file: Path, recognition: Recognition, progress: Callable[[int], None] = lambda frames: None
) -> None:
    """Write the copy, MPEG-4 in an .mp4 file, frame by frame, and count it by reading it back.

    progress: called with the number of frames that are written.
    Raises VideoWriteError if it cannot be written, or has another number of frames then; what
    reading frames raises.
    """
    writer: Any = None
    numbers = recognition.stream.numbers
    try:
        for count, (number, frame) in enumerate(recognition.stream.read(numbers), start=1):
            picture = annotated_frame(frame, number, recognition)
            if writer is None:
                writer = _writer(file, recognition.fps or _FPS, picture.shape)
            writer.write(picture)
            progress(count)
    finally:
        if writer is not None:
            writer.release()
    try:
        with VideoReader() as reader:
            written = reader.count(VideoFile(file, 1))
    except FrameUnreadableError:
        written = 0
    if written != len(numbers):
        raise VideoWriteError(
            f"The annotated copy of the video has {written} frames instead of {len(numbers)}: it "
            "could not be written whole. Check free space, or leave it out with --no-video."
        )


def annotated_frame(frame: Image, number: int, recognition: Recognition) -> Image:
    """One frame of the copy, blue green red, both sides even numbers of pixels.

    frame: (H, W, 3) RGB. From onset to apex the facial points are drawn where they were at the
    onset, in the colours of the attention.
    """
    height, width = frame.shape[:2]
    prediction = recognition.prediction
    strip = max(round(_STRIP * height), _LEAST_STRIP)
    canvas = np.full(
        (height + strip + (height + strip) % 2, width + width % 2, 3), 255, dtype=np.uint8
    )
    canvas[:height, :width] = frame[..., ::-1]
    found = prediction.found
    if found is not None and found.onset <= number <= found.apex:
        _draw_points(canvas, recognition)
    line = strip // 4
    _write(canvas, headline(prediction), height + line, line)
    _write(canvas, _state(prediction, number), height + 2 * line, line)
    _write(canvas, _LIMITS, height + 3 * line, line)
    _draw_time_line(canvas, number, recognition, height + 3 * line + line // 3)
    return canvas


def _writer(file: Path, fps: float, shape: tuple[int, ...]) -> Any:
    codec = cv2.VideoWriter.fourcc(*"mp4v")
    writer = cv2.VideoWriter(str(file), cv2.CAP_FFMPEG, codec, fps, (shape[1], shape[0]))
    if not writer.isOpened():
        raise VideoWriteError(
            f"An annotated copy of {shape[1]} x {shape[0]} pixels and {fps:g} frames a second "
            "cannot be written here. Leave it out with --no-video."
        )
    return writer


def _state(prediction: Prediction, number: int) -> str:
    found = prediction.found
    if found is None:
        return f"frame {number}"
    mark = {found.onset: "  ONSET", found.apex: "  APEX"}.get(number, "")
    return f"frame {number}  onset {found.onset}  apex {found.apex}{mark}"


def _write(canvas: Image, text: str, baseline: int, line: int) -> None:
    """Write a line as high as there is room for, and no wider than the picture."""
    (width, height), _ = cv2.getTextSize(text, _FONT, 1.0, 1)
    scale = min(0.62 * line / height, (canvas.shape[1] - 8) / width)
    cv2.putText(canvas, text, (4, baseline - 2), _FONT, scale, _INK, 1, cv2.LINE_AA)


def _draw_time_line(canvas: Image, number: int, recognition: Recognition, top: int) -> None:
    numbers, found = recognition.stream.numbers, recognition.prediction.found
    right = int(canvas.shape[1]) - 5

    def place(frame: int) -> int:
        return 4 + round((right - 4) * (frame - numbers[0]) / max(numbers[-1] - numbers[0], 1))

    cv2.rectangle(canvas, (4, top), (right, top + 3), _TRACK, cv2.FILLED)
    if found is not None:
        ends = (place(found.onset), top), (place(found.apex), top + 3)
        cv2.rectangle(canvas, *ends, _MARK, cv2.FILLED)
    cv2.rectangle(canvas, (place(number) - 1, top - 2), (place(number) + 1, top + 5), _INK, -1)


def _draw_points(canvas: Image, recognition: Recognition) -> None:
    assert recognition.face is not None
    points, eyes = recognition.face.points, recognition.face.eyes
    radius = max(round(float(np.hypot(*(eyes[1] - eyes[0]))) / 40), 1)
    weights = recognition.prediction.point_attention or (1.0,) * len(points)
    colours = (255 * colormaps[ATTENTION_COLOURS](weights)[:, 2::-1]).round().astype(int)
    for (x, y), colour in zip(points, colours.tolist(), strict=True):
        cv2.circle(canvas, (round(x), round(y)), radius, colour, cv2.FILLED, cv2.LINE_AA)
