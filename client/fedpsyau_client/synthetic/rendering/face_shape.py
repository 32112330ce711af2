"""Faces of many shapes out of one photograph.

A head stands upright on a square grid of `FRAME_SIZE` pixels. Its shape is that of a synthetic
subject (`SubjectTraits.points`): what distinguishes the subject's points from the canonical face
is spread smoothly over the photograph.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from fedpsyau_client.synthetic.rendering.base_face import BaseFace
from fedpsyau_client.synthetic.rendering.warping import (
    field_at_points,
    inverse_displacement,
    similarity,
    transform_points,
    without_folds,
)
from fedpsyau_model.facial_points import EYE_DISTANCE, canonical_points

__all__ = ["FRAME_SIZE", "PX_PER_CROP_PX", "ShapedHead", "shape_head"]

#: Side of a rendered frame, and where an average head has its eyes, in pixels.
FRAME_SIZE: Final = 256
_EYE_DISTANCE: Final = 60.0
_EYE_LINE: Final = 112.0

#: Pixels of a frame to one pixel of the aligned 128 crop.
PX_PER_CROP_PX: Final = _EYE_DISTANCE / EYE_DISTANCE

#: How far a point's displacement reaches, in pixels, and how closely it is followed: the smaller
#: the stiffness, the closer. Points that stand close together but part would fold the skin.
_REACH: Final = 30.0
_STIFFNESS: Final = 0.3

Array = NDArray[np.float32]


#: Share of a subject's difference from the canonical face; more makes caricatures of a photograph.
_DIFFERENCE: Final = 0.7


@dataclass(frozen=True, eq=False)
class ShapedHead:
    """An upright head on the grid of a frame; coordinates (x, y) in pixels of the grid.

    points: (65, 2), facial points. eyes: (2, 2), eye centres.
    back: (FRAME_SIZE, FRAME_SIZE, 2), displacement from a pixel to what is seen there on the
        upright photograph. to_photograph: (2, 3), from that one to the pixels of the photograph.
    """

    points: Array
    eyes: Array
    back: Array
    to_photograph: NDArray[np.float64]


def shape_head(face: BaseFace, subject_points: NDArray[np.float64]) -> ShapedHead:
    """Warp the photograph's face to a subject's shape.

    subject_points: (65, 2), the subject's facial points on the aligned 128 crop.
    """
    half = np.array([_EYE_DISTANCE / 2, 0])
    eyes = np.array([(FRAME_SIZE - 1) / 2, _EYE_LINE]) + np.stack([-half, half])
    points = transform_points(similarity(face.eyes, eyes), face.points)
    difference = _DIFFERENCE * PX_PER_CROP_PX * (subject_points - canonical_points())
    field = without_folds(_spread_smoothly(points, difference))
    return ShapedHead(
        points=points + field_at_points(field, points),
        eyes=(eyes + field_at_points(field, eyes)).astype(np.float32),
        back=inverse_displacement(field),
        to_photograph=similarity(eyes, face.eyes),
    )


def _spread_smoothly(points: Array, difference: NDArray[np.float64]) -> Array:
    """Fit a sum of Gaussian bells at the points (65, 2) to their displacements (65, 2).

    Kernel ridge regression; far from the face the field fades. Returns (FRAME_SIZE, FRAME_SIZE, 2).
    """
    apart = points[:, None] - points
    kernel = np.exp(-0.5 * (apart**2).sum(axis=-1) / _REACH**2)
    weights = np.linalg.solve(kernel + _STIFFNESS * np.eye(len(points)), difference)
    pixel = np.arange(FRAME_SIZE)
    along_x, along_y = np.exp(-0.5 * ((pixel - points.T[..., None]) / _REACH) ** 2)
    field = np.einsum("py,px,pc->yxc", along_y, along_x, weights, optimize=True)
    return np.ascontiguousarray(field, dtype=np.float32)
