"""How much a face moves, from the displacements of its facial points: head motion taken out.

A head that shifts, rolls, comes nearer or turns a little moves all points by nearly one affine map.
It is fitted to the points with weights that fall with a point's distance from the fit, so that a
brow or a mouth that moves on its own hardly bends it. What is left is the face's own movement.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from fedpsyau_model.facial_points import CROP_SIZE, facial_points
from fedpsyau_model.motion import resize_flow, sample_patches

__all__ = [
    "MOVING_POINTS",
    "WATCHED",
    "face_movement",
    "point_displacements",
    "without_head_motion",
]

Floats = NDArray[np.floating]

#: Points by which movement is spotted: all but those of the lids and eyes. A blink is as short as a
#: micro-expression and moves the lids several times as far.
WATCHED: Final[tuple[int, ...]] = tuple(
    point.index
    for point in facial_points()
    if not any(part in point.name for part in ("_lid", "lid_", "eye_"))
)

#: Movement is the mean over so many points, those that move most. An expression moves few: the mean
#: over all points would drown it, and a single point would be as noisy as the flow.
MOVING_POINTS: Final = 12

#: Refinements of the fit; it has settled long before.
_ROUNDS: Final = 10

#: Least spread, in pixels of the 128 crop, that the weights reckon with.
_LEAST_SPREAD: Final = 0.01


def point_displacements(flow: NDArray[np.float32], points: Floats) -> NDArray[np.float32]:
    """What moved at each facial point, (P, 2) in pixels of the 128 crop.

    flow: (2, 128, 128) or larger, in pixels of its grid. points: (P, 2) in pixels of the 128 crop.
    The mean over the 5x5 patch that the network sees there.
    """
    small = resize_flow(flow, CROP_SIZE) if flow.shape[-1] > CROP_SIZE else flow
    patches = sample_patches(small[np.newaxis], points[np.newaxis].astype(np.float32))
    return np.asarray(patches[0].mean(axis=(-2, -1)))


def without_head_motion(displacements: Floats, points: Floats) -> NDArray[np.float64]:
    """Displacements less the affine map that most points follow.

    displacements: (N, P, 2) in pixels, of the points (P, 2). Returns (N, P, 2).
    """
    moved = np.asarray(displacements, dtype=np.float64)
    centred = np.asarray(points, dtype=np.float64) - np.mean(points, axis=0)
    basis = np.column_stack([np.ones(len(centred)), centred / np.abs(centred).max()])
    weight = np.ones(moved.shape[:2])
    for _ in range(_ROUNDS):
        left = moved - basis @ _weighted_fit(basis, moved, weight)
        distance = np.hypot(left[..., 0], left[..., 1])
        spread = np.maximum(np.median(distance, axis=1, keepdims=True), _LEAST_SPREAD)
        weight = 1 / (1 + (distance / spread) ** 2)
    return np.asarray(left)


def face_movement(displacements: Floats, points: Floats) -> NDArray[np.float64]:
    """Movement of N frames against one, (N,) in pixels: >= 0.

    displacements: (N, 65, 2), points: (65, 2), both in pixels of the 128 crop. The mean length
    of the `MOVING_POINTS` longest displacements of the `WATCHED` points, without head motion.
    """
    watched = list(WATCHED)
    left = without_head_motion(displacements[:, watched], points[watched])
    lengths = np.sort(np.hypot(left[..., 0], left[..., 1]), axis=1)
    return np.asarray(lengths[:, -MOVING_POINTS:].mean(axis=1))


def _weighted_fit(basis: Floats, moved: Floats, weight: Floats) -> NDArray[np.float64]:
    """Fit basis (P, 3) to moved (N, P, 2) by weighted least squares: coefficients (N, 3, 2)."""
    weighted = basis.T * weight[:, np.newaxis]
    return np.asarray(np.linalg.solve(weighted @ basis, weighted @ moved))
