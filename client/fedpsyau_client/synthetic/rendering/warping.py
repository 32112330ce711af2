"""Warping by displacement fields: sampling, inverting, and keeping skin from folding.

A field (H, W, 2) float32, channels last as OpenCV wants them, gives at every pixel the displacement
(right, down) in pixels of what is there. Rendering needs the opposite question, where what is now
at a pixel came from, so the field has to be inverted. Beyond the border it goes on as at the
border.
"""

from __future__ import annotations

import functools
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

__all__ = [
    "STEEPEST",
    "field_at",
    "field_at_points",
    "inverse_displacement",
    "inverse_places",
    "pixel_grid",
    "similarity",
    "transform_points",
    "transformed_field",
    "without_folds",
]

Array = NDArray[np.float32]

#: Largest change of displacement per pixel. At 1 skin would lie on itself and no inverse exists.
STEEPEST: Final = 0.7

#: The inverse is found to this many pixels, or as well as this many steps allow.
_TOLERANCE_PX: Final = 0.005
_STEPS: Final = 40


@functools.cache
def pixel_grid(size: int) -> Array:
    """(size, size, 2) coordinates (x, y) of every pixel; read-only."""
    x, y = np.meshgrid(np.arange(size), np.arange(size))
    grid = np.stack([x, y], axis=-1).astype(np.float32)
    grid.flags.writeable = False
    return grid


def field_at(field: Array, places: Array) -> Array:
    """Bilinear values of `field` (H, W, 2) at a grid of places (h, w, 2): (h, w, 2)."""
    # OpenCV rounds places to 1/32 pixel; on fields as smooth as ours that is below 0.01 px.
    values = cv2.remap(field, places, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(values, dtype=np.float32)


def field_at_points(field: Array, points: Array) -> Array:
    """Bilinear values of `field` (H, W, 2) at points (P, 2): (P, 2)."""
    return np.asarray(field_at(field, points[None].astype(np.float32))[0], dtype=np.float32)


def inverse_displacement(field: Array) -> Array:
    """Field b with ``x + field(x) = y`` for ``x = y + b(y)``: where what is at y came from.

    field: (H, H, 2), nowhere steeper than 1 (`without_folds`); then the iteration
    ``b <- -field(y + b)`` contracts to the one solution.
    """
    grid = pixel_grid(len(field))
    back = -field
    for _ in range(_STEPS):
        better = -field_at(field, grid + back)
        moved = cv2.norm(better, back, cv2.NORM_INF)
        back = better
        if moved < _TOLERANCE_PX:
            break
    return back


def without_folds(field: Array) -> Array:
    """Weaken a field (H, W, 2) as a whole until it is nowhere steeper than `STEEPEST`.

    Steepness is the Frobenius norm of the Jacobian, an upper bound of its largest stretch.
    """
    along_y, along_x = np.gradient(field, axis=(0, 1))
    steepness = float(np.sqrt((along_x**2 + along_y**2).sum(axis=-1).max()))
    return field * np.float32(STEEPEST / max(steepness, STEEPEST))


def similarity(from_pair: NDArray[np.float64], to_pair: NDArray[np.float64]) -> NDArray[np.float64]:
    """(2, 3) matrix of the rotation, scaling and shift that takes two points (2, 2) to two others.

    Both are rows (x, y); the first must be apart.
    """
    source, target = from_pair[1] - from_pair[0], to_pair[1] - to_pair[0]
    turn = complex(*target) / complex(*source)
    linear = np.array([[turn.real, -turn.imag], [turn.imag, turn.real]])
    shift = to_pair[0] - linear @ from_pair[0]
    return np.column_stack([linear, shift])


def transform_points(matrix: NDArray[np.float64], points: NDArray[np.floating]) -> Array:
    """Apply a (2, 3) matrix to points (..., 2)."""
    return np.asarray(points @ matrix[:, :2].T + matrix[:, 2], dtype=np.float32)


def inverse_places(matrix: NDArray[np.float64], size: int) -> Array:
    """Where every pixel of a (size, size) result comes from under a (2, 3) matrix."""
    return transform_points(cv2.invertAffineTransform(matrix), pixel_grid(size))


def transformed_field(field: Array, matrix: NDArray[np.float64], size: int) -> Array:
    """See a displacement field after a similarity: places and vectors turn and grow with it.

    field: (H, W, 2). matrix: (2, 3), from the field's pixels to those of the result.
    Returns (size, size, 2).
    """
    seen = field_at(field, inverse_places(matrix, size))
    return np.asarray(seen @ matrix[:, :2].T.astype(np.float32), dtype=np.float32)
