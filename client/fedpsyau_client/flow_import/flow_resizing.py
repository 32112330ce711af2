"""Both streams of the network from flow of any size, at the points of a canonical face.

Where points were never measured, patches are cut at the canonical points of the aligned crop
(`fedpsyau_model.facial_points`): right for faces that were aligned by their eyes, and a rough guess
for others. Flow smaller than 128x128 is enlarged first; that makes no detail, it only brings it to
the grid on which patches are cut.
"""

from __future__ import annotations

import functools

import numpy as np
import numpy.typing as npt

from fedpsyau_model.facial_points import CROP_SIZE, canonical_points
from fedpsyau_model.motion import FLOW_SIZE, optical_strain, resize_area, sample_patches

__all__ = ["canonical_features", "resize_smoothly"]

Floats = npt.NDArray[np.float32]


@functools.cache
def _linear_weights(size: int, target: int) -> Floats:
    """(target, size) matrix of linear interpolation between pixel centres; rows sum to 1.

    Beyond the outermost centres the outermost value goes on.
    """
    position = np.clip((np.arange(target) + 0.5) * size / target - 0.5, 0, size - 1)
    distance = np.abs(position[:, None] - np.arange(size))
    return np.asarray(np.clip(1 - distance, 0, None), dtype=np.float32)


def resize_smoothly(channels: Floats, size: int) -> Floats:
    """Bring (..., S, S) to (..., size, size): area means where it shrinks, else bilinear.

    Pixel centres lie as in `fedpsyau_model.motion`. Numbers are not rescaled.
    """
    source = channels.shape[-1]
    if source >= size:
        return resize_area(channels, size)
    weights = _linear_weights(source, size)
    return np.asarray(weights @ channels @ weights.T, dtype=np.float32)


def canonical_features(
    flow: Floats, strain: Floats | None, vector_size: int
) -> tuple[Floats, Floats]:
    """Take both streams from flow on a face whose points are not known.

    flow: (N, 2, S, S) with S >= 28, in pixels of a grid of `vector_size`.
    strain: (N, 1, S, S), or None to compute it from the flow at 128x128.

    Returns flow (N, 3, 28, 28) and rois (N, 65, 3, 5, 5), units as in a feature store.
    """
    crop = resize_smoothly(flow, CROP_SIZE) * np.float32(CROP_SIZE / vector_size)
    crop_strain = optical_strain(crop) if strain is None else resize_smoothly(strain, CROP_SIZE)
    rois = sample_patches(np.concatenate([crop, crop_strain], axis=1), canonical_points()[None])
    if flow.shape[-1] >= CROP_SIZE:  # in two steps, as preparation does it
        small, small_strain = crop * np.float32(FLOW_SIZE / CROP_SIZE), crop_strain
    else:  # from the original, so that 28x28 comes through unchanged
        small = flow * np.float32(FLOW_SIZE / vector_size)
        small_strain = crop_strain if strain is None else strain
    streams = [resize_area(channels, FLOW_SIZE) for channels in (small, small_strain)]
    return np.concatenate(streams, axis=1), rois
