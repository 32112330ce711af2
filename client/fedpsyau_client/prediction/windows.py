"""From frames to an onset and an apex: windows that slide over a video of any length.

A window begins at a reference frame, in which the face is found. Every later frame is aligned by
that face and compared with the reference. Windows last 0.75 s and begin every 0.25 s, so that an
expression of half a second at most lies whole in one of them whose reference is at rest. Of all
windows the one with the greatest height counts (see `spotting`).

At any time three windows are open at most. Each holds its reference and one number a frame; no
other frame is kept, so memory does not grow with the video.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from fedpsyau_client.prediction.frame_stream import FrameStream
from fedpsyau_client.prediction.movement import face_movement, point_displacements
from fedpsyau_client.prediction.spotting import (
    LONGEST_SECONDS,
    Peak,
    find_peak,
    rise_to_last,
)
from fedpsyau_client.preparation.alignment import align, aligned_crop, map_points
from fedpsyau_client.preparation.clip_job import FaceFinder
from fedpsyau_client.preparation.optical_flow import FlowMethod, dense_flow
from fedpsyau_model.errors import ClipError, OnsetApexError
from fedpsyau_model.facial_points import CROP_SIZE

__all__ = ["SPOTTING_FLOW", "MovementCurve", "Spotted", "Spotting", "position_of", "spot"]

#: Flow by which movement is spotted, whatever the model was trained with: the fastest one, and as
#: true in length as the others.
SPOTTING_FLOW: Final[FlowMethod] = "farneback"

#: Distance between the beginnings of two windows, in longest expressions.
_STEP: Final = 0.5

#: Frames without which a window says nothing.
_LEAST_FRAMES: Final = 3

Image = NDArray[np.uint8]
Progress = Callable[[int], None]


@dataclass(frozen=True, eq=False)
class MovementCurve:
    """How much the face moved in each frame, in pixels of the 128 crop, against the first one."""

    frames: tuple[int, ...]
    movement: NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Spotted:
    """The strongest micro-expression: frame numbers, and the curve in which it was seen."""

    onset: int
    apex: int
    height: float
    threshold: float
    curve: MovementCurve


@dataclass(frozen=True, eq=False)
class Spotting:
    """What came of looking through a video.

    found: None if nothing stands out. windows: how many were looked at; without_face: those of them
    in whose reference no single, usable face was found. most_movement: curve of the window in which
    the face moved most, whether that is a micro-expression or not.
    """

    found: Spotted | None
    windows: int
    without_face: int
    most_movement: MovementCurve


def spot(
    stream: FrameStream,
    finder: FaceFinder,
    fps: float,
    onset: int | None = None,
    apex: int | None = None,
    progress: Progress = lambda frames: None,
) -> Spotting:
    """Look for the strongest micro-expression, or for the end of it that is not given.

    fps: frames a second. onset, apex: the number of a frame, at most one of both.
    progress: called after every frame with the number of frames that were looked at.

    Raises OnsetApexError for a frame that is not there or leaves no room for the other one;
    NoFaceError, SeveralFacesError or FaceAlignmentError if no window has a usable face; what
    reading frames raises.
    """
    longest = max(round(LONGEST_SECONDS * fps), 2)
    if onset is None and apex is None:
        numbers = stream.numbers
        windows = _windows(len(numbers), longest)
    else:
        numbers = _beside(stream, onset, apex, longest)
        windows = [(0, len(numbers))]
    looked = _Looking(finder, windows)
    for position, (number, frame) in enumerate(stream.read(numbers)):
        looked.add(position, number, frame)
        progress(position + 1)
    looked.finish(len(numbers))
    cut = len(windows) == 1
    return _best(looked, fps, cut=cut, ends_at_apex=apex is not None)


def _beside(
    stream: FrameStream, onset: int | None, apex: int | None, longest: int
) -> tuple[int, ...]:
    """Frames from an onset on, or up to an apex. Raises OnsetApexError if there are none."""
    if onset is not None:
        start = position_of(stream, onset, "--onset")
        if start == len(stream.numbers) - 1:
            raise OnsetApexError(
                f"--onset {onset} is the last frame of {stream.clip.path}, so there is no apex "
                "after it. Give the whole recording, or another frame."
            )
        return stream.numbers[start : start + longest + 1]
    assert apex is not None
    end = position_of(stream, apex, "--apex")
    if end == 0:
        raise OnsetApexError(
            f"--apex {apex} is the first frame of {stream.clip.path}, so there is no onset before "
            "it. Give the whole recording, or another frame."
        )
    return stream.numbers[max(end - longest, 0) : end + 1]


def _windows(frames: int, longest: int) -> list[tuple[int, int]]:
    """First position and end of every window over so many frames; one if they fit into it."""
    step = max(round(_STEP * longest), 1)
    length = longest + step + 1
    if frames <= length:
        return [(0, frames)]
    starts = range(0, frames - _LEAST_FRAMES + 1, step)
    return [(start, min(start + length, frames)) for start in starts]


@dataclass
class _Window:
    """A window that is open: its reference, and the movement of the frames so far."""

    end: int
    matrix: NDArray[np.float64]
    points: NDArray[np.float64]
    reference: Image
    frames: list[int] = field(default_factory=list)
    displacements: list[NDArray[np.float32]] = field(default_factory=list)

    def add(self, number: int, frame: Image) -> None:
        flow = dense_flow(self.reference, _grey_crop(frame, self.matrix), SPOTTING_FLOW)
        self.frames.append(number)
        self.displacements.append(point_displacements(flow, self.points))

    def curve(self) -> MovementCurve:
        movement = face_movement(np.stack(self.displacements), self.points)
        movement[0] = 0.0  # the reference against itself
        return MovementCurve(tuple(self.frames), movement)


class _Looking:
    """Opens windows as their references come by, and keeps the curves of those that are full."""

    def __init__(self, finder: FaceFinder, windows: Sequence[tuple[int, int]]) -> None:
        self._finder = finder
        self._waiting = list(reversed(windows))
        self._open: list[_Window] = []
        self.curves: list[MovementCurve] = []
        self.failures: list[ClipError] = []

    def add(self, position: int, number: int, frame: Image) -> None:
        self.finish(position)
        if self._waiting and self._waiting[-1][0] == position:
            self._begin(self._waiting.pop()[1], frame)
        for window in self._open:
            window.add(number, frame)

    def finish(self, position: int) -> None:
        """Close the windows that end before a position."""
        for window in [each for each in self._open if each.end <= position]:
            self._open.remove(window)
            self.curves.append(window.curve())

    def _begin(self, end: int, frame: Image) -> None:
        try:
            face = self._finder.find(frame)
            matrix = align(face)
        except ClipError as error:
            self.failures.append(error)
            return
        points = map_points(align(face, CROP_SIZE), face.points)
        self._open.append(_Window(end, matrix, points, _grey_crop(frame, matrix)))


def _best(looked: _Looking, fps: float, *, cut: bool, ends_at_apex: bool) -> Spotting:
    if not looked.curves:
        raise _nowhere(looked.failures)
    found: Spotted | None = None
    for curve, peak in _peaks(looked.curves, fps, cut=cut, ends_at_apex=ends_at_apex):
        if found is None or peak.height > found.height:
            onset, apex = curve.frames[peak.onset], curve.frames[peak.apex]
            found = Spotted(onset, apex, peak.height, peak.threshold, curve)
    most = max(looked.curves, key=lambda curve: float(curve.movement.max()))
    windows = len(looked.curves) + len(looked.failures)
    return Spotting(found, windows, len(looked.failures), most)


def _peaks(
    curves: Sequence[MovementCurve], fps: float, *, cut: bool, ends_at_apex: bool
) -> Iterator[tuple[MovementCurve, Peak]]:
    for curve in curves:
        if len(curve.frames) < 2:
            continue
        if ends_at_apex:
            peak = rise_to_last(curve.movement, fps)
        else:
            peak = find_peak(curve.movement, fps)
            if peak is None and cut:
                peak = find_peak(curve.movement, fps, falls=False)
        if peak is not None:
            yield curve, peak


def _nowhere(failures: Sequence[ClipError]) -> ClipError:
    first = failures[0]
    if len(failures) == 1:
        return first
    return type(first)(f"In none of {len(failures)} places of the video is a usable face: {first}")


def position_of(stream: FrameStream, number: int, option: str) -> int:
    """Where a frame that was given with an option is. Raises OnsetApexError if it is not there."""
    try:
        return stream.numbers.index(number)
    except ValueError:
        raise OnsetApexError(
            f"{option} {number}: {stream.clip.path} has {len(stream.numbers)} frames, from "
            f"{stream.numbers[0]} to {stream.numbers[-1]}, and not this one. Check --first-frame."
        ) from None


def _grey_crop(frame: Image, matrix: NDArray[np.float64]) -> Image:
    return np.asarray(cv2.cvtColor(aligned_crop(frame, matrix), cv2.COLOR_RGB2GRAY))
