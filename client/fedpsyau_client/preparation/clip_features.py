"""Two frames of a face -> what the network sees. The heart of preparation, without any I/O."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from fedpsyau_client.preparation.alignment import align, aligned_crop, map_points
from fedpsyau_client.preparation.face_points import FacePoints
from fedpsyau_client.preparation.optical_flow import FlowMethod, dense_flow
from fedpsyau_model.errors import FaceAlignmentError, FrameSizeError
from fedpsyau_model.motion import motion_features

__all__ = ["PreparedPair", "pair_features", "prepare_pair"]

Image = NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class PreparedPair:
    """Onset and apex on the aligned crop of 224 px, and the motion between them.

    onset_crop, apex_crop: (224, 224, 3) uint8, RGB.
    points: (65, 2) float32, the facial points (x, y) of the onset in pixels of the crop.
    flow: (2, 224, 224) float32, onset -> apex, u right and v down, in pixels of the crop.
    """

    onset_crop: Image
    apex_crop: Image
    points: NDArray[np.float32]
    flow: NDArray[np.float32]


def prepare_pair(
    onset: Image, apex: Image, face: FacePoints, method: FlowMethod = "tvl1"
) -> PreparedPair:
    """Align both frames by the onset's face and find the motion between them.

    onset, apex: (H, W, 3) uint8, RGB, of the same size. face: of the onset, in its pixels.
    Raises FrameSizeError where the frames differ in size, FaceAlignmentError where the face is too
    small or its points make no sense.
    """
    _check_frames(onset, apex, face)
    matrix = align(face)
    onset_crop, apex_crop = aligned_crop(onset, matrix), aligned_crop(apex, matrix)
    flow = dense_flow(
        cv2.cvtColor(onset_crop, cv2.COLOR_RGB2GRAY),
        cv2.cvtColor(apex_crop, cv2.COLOR_RGB2GRAY),
        method,
    )
    points = map_points(matrix, face.points).astype(np.float32)
    return PreparedPair(onset_crop, apex_crop, points, flow)


def pair_features(pair: PreparedPair) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Both streams of one clip: ``flow`` (3, 28, 28) and ``rois`` (65, 3, 5, 5)."""
    flow, rois = motion_features(pair.flow[np.newaxis], pair.points[np.newaxis])
    return flow[0], rois[0]


def _check_frames(onset: Image, apex: Image, face: FacePoints) -> None:
    height, width = onset.shape[:2]
    if onset.shape != apex.shape:
        raise FrameSizeError(
            f"The onset frame is {width} x {height} pixels, the apex frame {apex.shape[1]} x "
            f"{apex.shape[0]}. Both must come from the same recording, uncropped or cropped alike."
        )
    if not ((face.eyes >= 0) & (face.eyes <= [width - 1, height - 1])).all():
        raise FaceAlignmentError(
            f"An eye lies outside the frame of {width} x {height} pixels. Landmarks must be in "
            "pixels of the onset frame as it is on disk."
        )
