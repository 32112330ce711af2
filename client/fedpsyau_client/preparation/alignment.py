"""Alignment of a face by its eyes: one similarity transform for onset and apex.

The transform comes from the onset frame alone. Landmarks found anew at the apex would jitter by as
much as a micro-expression moves, and would take head motion and expression for the same thing.
"""

from __future__ import annotations

from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from fedpsyau_client.preparation.face_points import FacePoints
from fedpsyau_model.errors import FaceAlignmentError
from fedpsyau_model.facial_points import CROP_SIZE, EYE_DISTANCE, EYE_LINE, MIDLINE

__all__ = ["FLOW_CROP_SIZE", "MIN_EYE_DISTANCE", "align", "aligned_crop", "map_points"]

#: Side of the aligned crop on which optical flow is computed, in pixels. Flow of smaller crops is
#: worse: at 28 px its correlation with the truth falls to .09.
FLOW_CROP_SIZE: Final = 224

#: Eyes closer together than this, in pixels of the image, give no flow worth having: the crop would
#: be magnified more than three times.
MIN_EYE_DISTANCE: Final = 24.0

Matrix = NDArray[np.float64]


def align(face: FacePoints, size: int = FLOW_CROP_SIZE) -> Matrix:
    """(2, 3) similarity transform from image pixels to the aligned crop of `size` pixels.

    It puts the eyes where `fedpsyau_model.facial_points` says (EYE_LINE, MIDLINE, EYE_DISTANCE).
    Pixel centres lie at whole numbers on both sides.

    Raises FaceAlignmentError where the points are not finite, the eyes are closer than
    MIN_EYE_DISTANCE, or the right eye is to the right of the left one.
    """
    _check(face)
    scale = size / CROP_SIZE
    right, left = face.eyes
    # As complex numbers a similarity is z -> a z + b.
    vector = complex(*(left - right))
    factor = EYE_DISTANCE * scale / vector
    middle = complex(*((left + right) / 2))
    target = complex((MIDLINE + 0.5) * scale - 0.5, (EYE_LINE + 0.5) * scale - 0.5)
    shift = target - factor * middle
    return np.array(
        [[factor.real, -factor.imag, shift.real], [factor.imag, factor.real, shift.imag]]
    )


def map_points(matrix: Matrix, points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Map (N, 2) image points, x and y, to the crop."""
    return np.asarray(points @ matrix[:, :2].T + matrix[:, 2], dtype=np.float64)


def aligned_crop(
    image: NDArray[np.uint8], matrix: Matrix, size: int = FLOW_CROP_SIZE
) -> NDArray[np.uint8]:
    """Cut the aligned crop out of an image (H, W) or (H, W, C): (size, size) or (size, size, C).

    One bilinear interpolation from the image itself. Where the image has at least two pixels for
    one of the crop, whole blocks of pixels are averaged first, which is no interpolation but
    keeps detail from aliasing. What lies outside the image repeats its border.
    """
    block = max(int(1 / np.hypot(matrix[0, 0], matrix[1, 0])), 1)
    left, top, right, bottom = _needed(matrix, size, image.shape[1], image.shape[0], block)
    part = image[top:bottom, left:right]
    if block > 1:
        rows, columns = part.shape[0] // block, part.shape[1] // block
        whole = part[: rows * block, : columns * block]
        part = cv2.resize(whole, (columns, rows), interpolation=cv2.INTER_AREA)
    # From pixels of the part, (x - left + 0.5) / block - 0.5, back to pixels of the image.
    offset = np.array([left, top]) + (block - 1) / 2
    moved = np.concatenate(
        [matrix[:, :2] * block, (matrix[:, 2] + matrix[:, :2] @ offset)[:, None]], axis=1
    )
    return np.asarray(
        cv2.warpAffine(
            part, moved, (size, size), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
        )
    )


def _needed(
    matrix: Matrix, size: int, width: int, height: int, block: int
) -> tuple[int, int, int, int]:
    """Part of the image that the crop sees, two blocks wider: left, top, right, bottom.

    At least four blocks of it lie inside the image, so that there is a border to repeat.
    """
    corners = np.array([(x, y) for x in (0, size - 1) for y in (0, size - 1)], dtype=np.float64)
    inverse = np.linalg.inv(matrix[:, :2])
    seen = (corners - matrix[:, 2]) @ inverse.T
    low, high = np.floor(seen.min(axis=0)), np.ceil(seen.max(axis=0)) + 1
    margin, least = 2 * block, 4 * block
    left, top = (
        int(np.clip(edge - margin, 0, max(extent - least, 0)))
        for edge, extent in zip(low, (width, height), strict=True)
    )
    right, bottom = (
        int(np.clip(edge + margin, start + least, extent))
        for edge, start, extent in zip(high, (left, top), (width, height), strict=True)
    )
    return left, top, right, bottom


def _check(face: FacePoints) -> None:
    if not (np.isfinite(face.eyes).all() and np.isfinite(face.points).all()):
        raise FaceAlignmentError(
            "The landmarks hold NaN or infinity. Detect them again, or leave the clip out."
        )
    (right_x, _), (left_x, _) = face.eyes
    distance = float(np.linalg.norm(face.eyes[1] - face.eyes[0]))
    if distance < MIN_EYE_DISTANCE:
        raise FaceAlignmentError(
            f"The eyes are {distance:.0f} pixels apart; at least {MIN_EYE_DISTANCE:.0f} are needed "
            "for a flow worth having. Use clips of a higher resolution."
        )
    if right_x >= left_x:
        raise FaceAlignmentError(
            "The subject's right eye lies to the right of the left one: the picture is upside down "
            "or mirrored, or left and right are swapped in the landmarks. Turn it, or correct them."
        )
