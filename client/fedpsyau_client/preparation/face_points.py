"""What alignment and the local stream need of a face: eye centres and the 65 points."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from fedpsyau_model.facial_points import EYE_CORNERS, landmark_indices

__all__ = ["MESH_SIZE", "FacePoints", "face_points_of_mesh"]

#: Landmarks of MediaPipe's face mesh, irises included.
MESH_SIZE: Final = 478


@dataclass(frozen=True, eq=False)
class FacePoints:
    """Where a face is in an image, in pixels, x right and y down; pixel centres at whole numbers.

    eyes: (2, 2), centres of the subject's right and left eye; right is at smaller x.
    points: (65, 2), the facial points in the order of ``rois``.
    """

    eyes: NDArray[np.float64]
    points: NDArray[np.float64]


def face_points_of_mesh(mesh: NDArray[Any]) -> FacePoints:
    """Take eyes and the 65 points out of MediaPipe's mesh, (478, 2) in pixels."""
    mesh = mesh.astype(np.float64)
    eyes = np.stack([mesh[list(corners)].mean(axis=0) for corners in EYE_CORNERS])
    return FacePoints(eyes, mesh[list(landmark_indices())])
