import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedpsyau_model.facial_points import canonical_points
from fedpsyau_model.motion import (
    motion_features,
    optical_strain,
    resize_area,
    resize_flow,
    sample_patches,
)


def affine_flow(ux, uy, vx, vy, size=128):
    """u = ux*x + uy*y, v = vx*x + vy*y, as (1, 2, size, size)."""
    y, x = np.mgrid[:size, :size].astype(np.float32)
    return np.stack([ux * x + uy * y, vx * x + vy * y])[None]


@pytest.mark.parametrize(
    ("gradient", "strain"),
    [
        ((0.03, 0, 0, 0), 0.03),  # stretch along x
        ((0, 0, 0, -0.04), 0.04),  # compression along y
        ((0.03, 0, 0, 0.04), 0.05),  # 3-4-5
        ((0, 0.02, 0, 0), 0.02 / np.sqrt(2)),  # simple shear: exy = 0.01, sqrt(2 * 0.01^2)
        ((0, 0.02, 0.02, 0), 0.02 * np.sqrt(2)),  # pure shear: exy = 0.02
        ((0, 0.02, -0.02, 0), 0),  # a small rotation deforms nothing
    ],
)
def test_strain_of_affine_fields(gradient, strain):
    result = optical_strain(affine_flow(*gradient))
    assert result.shape == (1, 1, 128, 128)
    np.testing.assert_allclose(result, strain, atol=2e-5)


def test_a_shifted_face_has_no_strain():
    assert not optical_strain(np.full((2, 2, 8, 8), 1.5, np.float32)).any()


@pytest.mark.parametrize("size", [28, 64, 128])
def test_area_resizing_equals_opencv(size):
    field = np.random.default_rng(0).normal(size=(3, 128, 128)).astype(np.float32)
    expected = [cv2.resize(f, (size, size), interpolation=cv2.INTER_AREA) for f in field]
    np.testing.assert_allclose(resize_area(field, size), expected, atol=1e-5)


def test_resized_vectors_are_shorter_by_the_ratio_of_the_grids():
    flow = np.stack([np.full((1, 128, 128), 4.0), np.full((1, 128, 128), -8.0)], axis=1)
    small = resize_flow(flow.astype(np.float32), 32)
    np.testing.assert_allclose(small[0, 0], 1.0, rtol=1e-6)
    np.testing.assert_allclose(small[0, 1], -2.0, rtol=1e-6)


def test_growing_is_refused():
    with pytest.raises(ValueError, match="28 pixels to 128"):
        resize_area(np.zeros((28, 28), np.float32), 128)


def test_patches_hold_the_pixels_around_their_points():
    y, x = np.mgrid[:128, :128].astype(np.float32)
    channels = np.stack([x, y, x + 1000 * y])[None].repeat(2, axis=0)
    channels[1] += 0.25
    points = np.array([[[10.4, 20.6], [63.0, 64.0]]], np.float32)
    patches = sample_patches(channels, points)
    assert patches.shape == (2, 2, 3, 5, 5)
    np.testing.assert_array_equal(patches[0, 0, 0], np.arange(8, 13) * np.ones((5, 1)))
    np.testing.assert_array_equal(patches[0, 0, 1], np.arange(19, 24)[:, None] * np.ones(5))
    assert patches[1, 1, 2, 2, 2] == 63 + 64000 + 0.25


def test_every_clip_can_have_its_own_points():
    x = np.broadcast_to(np.arange(128, dtype=np.float32), (2, 1, 128, 128))
    points = np.array([[[30, 30]], [[90, 30]]], np.float32)
    assert sample_patches(x, points)[:, 0, 0, 2, 2].tolist() == [30, 90]


@settings(max_examples=30, deadline=None)
@given(st.floats(-500, 500), st.floats(-500, 500))
def test_a_patch_never_leaves_the_grid(px, py):
    y, x = np.mgrid[:128, :128].astype(np.float32)
    patch = sample_patches(np.stack([x, y])[None], np.array([[[px, py]]], np.float32))[0, 0]
    assert patch[0, 0, 2] == np.clip(np.rint(np.float32(px)), 2, 125)
    assert patch[1, 2, 0] == np.clip(np.rint(np.float32(py)), 2, 125)


def test_features_of_a_moving_face():
    flow = np.zeros((3, 2, 128, 128), np.float32)
    flow[:, 0] = 1.28
    flow[:, 1] = -2.56
    stream, rois = motion_features(flow, canonical_points()[None])
    assert stream.shape == (3, 3, 28, 28)
    assert rois.shape == (3, 65, 3, 5, 5)
    np.testing.assert_allclose(stream[:, 0], 0.28, rtol=1e-5)
    np.testing.assert_allclose(stream[:, 1], -0.56, rtol=1e-5)
    np.testing.assert_allclose(rois[:, :, 0], 1.28, rtol=1e-6)
    np.testing.assert_allclose(rois[:, :, 1], -2.56, rtol=1e-6)
    assert not stream[:, 2].any()
    assert not rois[:, :, 2].any()


def test_finer_flow_gives_the_same_features():
    """A stretch by 2 % about the origin is the same on a 256 grid with vectors in its pixels."""
    points = canonical_points()[None]
    fine_points = (points + np.float32(0.5)) * 2 - np.float32(0.5)
    y, x = np.mgrid[:256, :256].astype(np.float32)
    fine = np.stack([0.02 * (x + 0.5), 0.02 * (y + 0.5)])[None]
    y, x = np.mgrid[:128, :128].astype(np.float32)
    coarse = np.stack([0.02 * (x + 0.5), 0.02 * (y + 0.5)])[None]
    for a, b in zip(
        motion_features(fine, fine_points), motion_features(coarse, points), strict=True
    ):
        np.testing.assert_allclose(a, b, atol=1e-4)


@pytest.mark.parametrize("shape", [(1, 2, 64, 64), (1, 2, 128, 160)])
def test_grids_that_cannot_be_used_are_refused(shape):
    with pytest.raises(ValueError, match="square grid of at least 128"):
        motion_features(np.zeros(shape, np.float32), canonical_points()[None])
