"""From dense optical flow to what the network's two streams see (design section 3).

Conventions, which real preparation and the synthetic twin share:

- Flow is the displacement of a point of the face from onset to apex, ``flow[..., 0, y, x]`` to the
  right and ``flow[..., 1, y, x]`` down, in pixels of the grid it is given on. A raised brow has
  negative v.
- Pixel centres lie at whole numbers. A point x on a grid of W pixels lies at
  ``(x + 0.5) * S / W - 0.5`` on one of S pixels.
- A smaller grid takes the mean over the area of each pixel, and its vectors are shorter by the same
  ratio. Strain has no unit and is only averaged.
"""

from __future__ import annotations

import functools
from typing import Final

import numpy as np
from numpy.typing import NDArray

from fedpsyau_model.facial_points import CROP_SIZE

__all__ = [
    "FLOW_SIZE",
    "PATCH_SIZE",
    "motion_features",
    "optical_strain",
    "resize_area",
    "resize_flow",
    "sample_patches",
]

#: Side of the global flow in pixels, and of the patch around a facial point.
FLOW_SIZE: Final = 28
PATCH_SIZE: Final = 5

Array = NDArray[np.float32]


def optical_strain(flow: Array) -> Array:
    """Magnitude of the symmetric flow gradient, shear included.

    flow: (..., 2, H, W) with H, W >= 2. Returns (..., 1, H, W), dimensionless, >= 0:
    ``sqrt(exx^2 + eyy^2 + 2 exy^2)`` with ``exy = (du/dy + dv/dx) / 2``, the Frobenius norm of the
    strain tensor. Derivatives are central differences, one-sided at the border.
    """
    u, v = flow[..., 0, :, :], flow[..., 1, :, :]
    exx = np.gradient(u, axis=-1)
    eyy = np.gradient(v, axis=-2)
    twice_exy = np.gradient(u, axis=-2) + np.gradient(v, axis=-1)
    strain: Array = np.sqrt(exx * exx + eyy * eyy + twice_exy * twice_exy / 2)
    return strain[..., np.newaxis, :, :]


@functools.cache
def _area_weights(size: int, target: int) -> Array:
    """(target, size) matrix whose rows hold the share of each source pixel; rows sum to 1."""
    if not 0 < target <= size:
        raise ValueError(f"area resizing makes grids smaller: {size} pixels to {target}")
    edges = np.arange(target + 1) * (size / target)
    pixel = np.arange(size)
    overlap = np.minimum(edges[1:, None], pixel + 1) - np.maximum(edges[:-1, None], pixel)
    weights = np.clip(overlap, 0, None) * (target / size)
    return np.asarray(weights, dtype=np.float32)


def resize_area(channels: Array, size: int) -> Array:
    """Average (..., H, W) over the area of each pixel of a smaller grid: (..., size, size).

    Equals OpenCV's INTER_AREA for shrinking. Raises ValueError if `size` is above H or W.
    """
    height, width = channels.shape[-2:]
    rows, columns = _area_weights(height, size), _area_weights(width, size)
    return np.asarray(rows @ channels @ columns.T, dtype=np.float32)


def resize_flow(flow: Array, size: int) -> Array:
    """Bring flow (..., 2, H, W) to a smaller grid (..., 2, size, size), in pixels of that grid."""
    height, width = flow.shape[-2:]
    scale = np.array([size / width, size / height], dtype=np.float32)
    return resize_area(flow, size) * scale[:, np.newaxis, np.newaxis]


def sample_patches(channels: Array, points: Array) -> Array:
    """Cut 5x5 patches of all channels around facial points.

    channels: (N, C, H, W). points: (N or 1, P, 2), (x, y) in pixels of that grid; rounded to whole
    pixels and moved inside where a patch would leave the grid.
    Returns (N, P, C, 5, 5), rows down, columns right.
    """
    count, _, height, width = channels.shape
    reach = PATCH_SIZE // 2
    centres = np.rint(points).astype(np.intp)
    offsets = np.arange(-reach, reach + 1)
    x = np.clip(centres[..., 0], reach, width - 1 - reach)[..., None, None] + offsets
    y = np.clip(centres[..., 1], reach, height - 1 - reach)[..., None, None] + offsets[:, None]
    clip = np.arange(count)[:, None, None, None]
    # Indices around the slice put its axis last: (N, P, 5, 5, C).
    return np.ascontiguousarray(np.moveaxis(channels[clip, :, y, x], -1, 2))


def motion_features(flow: Array, points: Array) -> tuple[Array, Array]:
    """Take both streams of the network from dense flow.

    flow: (N, 2, H, W) on the aligned face crop, H = W >= 128, in pixels of that grid.
    points: (N or 1, 65, 2), facial points (x, y) in pixels of that grid.

    Returns ``flow`` (N, 3, 28, 28), u and v in pixels of the 28 grid, and ``rois``
    (N, 65, 3, 5, 5), u and v in pixels of the 128 grid; the third channel of both is the optical
    strain at 128, in ``flow`` averaged over the area.

    Raises ValueError if the grid is not square or smaller than 128.
    """
    height, width = flow.shape[-2:]
    if height != width or width < CROP_SIZE:
        raise ValueError(
            f"motion features need a square grid of at least {CROP_SIZE}, not {flow.shape}"
        )
    if width > CROP_SIZE:
        flow = resize_flow(flow, CROP_SIZE)
        points = (points + np.float32(0.5)) * np.float32(CROP_SIZE / width) - np.float32(0.5)
    strain = optical_strain(flow)
    rois = sample_patches(np.concatenate([flow, strain], axis=1), points)
    stream = np.concatenate([resize_flow(flow, FLOW_SIZE), resize_area(strain, FLOW_SIZE)], axis=1)
    return stream, rois
