"""Sign and scale of the motion, against warps that are known."""

import cv2
import numpy as np
import pytest

from fedpsyau_client.preparation.alignment import align, aligned_crop, map_points
from fedpsyau_client.preparation.clip_features import pair_features, prepare_pair
from fedpsyau_client.preparation.optical_flow import FLOW_METHODS, dense_flow
from fedpsyau_model.facial_points import facial_points

#: What each method finds of a smooth motion of 2 px: the share of its magnitude at its centre.
SHRINKAGE = {"tvl1": (0.7, 1.02), "dis": (0.85, 1.05), "farneback": (0.8, 1.05)}


def bump(size, at, move, sigma):
    """(2, size, size) forward displacement: `move` at the point `at`, fading away around it."""
    rows, columns = np.indices((size, size), dtype=np.float32)
    weight = np.exp(-((columns - at[0]) ** 2 + (rows - at[1]) ** 2) / (2 * sigma**2))
    return np.stack([move[0] * weight, move[1] * weight]).astype(np.float32)


def moved(image, flow):
    """Move what is at p to p + flow(p). The picture at q is that at p = q - flow(p)."""
    rows, columns = np.indices(image.shape[:2], dtype=np.float32)
    u, v = np.zeros_like(flow)
    for _ in range(20):
        u, v = (
            cv2.remap(
                channel, columns - u, rows - v, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
            )
            for channel in flow
        )
    return cv2.remap(image, columns - u, rows - v, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)


def point(name):
    return next(each.index for each in facial_points() if each.name == name)


@pytest.fixture(scope="module")
def crop(astronaut, astronaut_face):
    return aligned_crop(astronaut, align(astronaut_face))


@pytest.mark.parametrize("method", FLOW_METHODS)
def test_a_lip_corner_moved_right_and_up(method, crop, astronaut_face):
    """By 2 px: u > 0, v < 0, each of that size but for the method's shrinkage."""
    corner = map_points(align(astronaut_face), astronaut_face.points)[point("mouth_corner_left")]
    truth = bump(224, corner, (2.0, -2.0), sigma=16)
    grey = cv2.cvtColor(crop, cv2.COLOR_RGB2GRAY)
    flow = dense_flow(grey, moved(grey, truth), method)
    assert flow.shape == (2, 224, 224)
    assert flow.dtype == np.float32
    x, y = np.rint(corner).astype(int)
    u, v = flow[:, y - 3 : y + 4, x - 3 : x + 4].mean(axis=(1, 2))
    low, high = SHRINKAGE[method]
    assert low * 2 < u < high * 2
    assert low * 2 < -v < high * 2
    strong = np.linalg.norm(truth, axis=0) > np.linalg.norm(truth, axis=0).max() / 4
    cosine = (flow * truth).sum(axis=0) / (
        np.linalg.norm(flow, axis=0) * np.linalg.norm(truth, axis=0) + 1e-9
    )
    assert cosine[strong].mean() > 0.95
    far = np.linalg.norm(truth, axis=0) < 0.01
    assert np.abs(flow[:, far]).mean() < 0.05


def test_the_same_motion_in_the_features(astronaut, astronaut_face):
    """In the picture itself, before alignment: 2 px of it are 2 * scale of the crop."""
    corner = astronaut_face.points[point("mouth_corner_left")]
    truth = bump(512, corner, (1.5, -1.5), sigma=9)
    pair = prepare_pair(astronaut, moved(astronaut, truth), astronaut_face, "dis")
    flow, rois = pair_features(pair)
    assert (flow.shape, rois.shape) == ((3, 28, 28), (65, 3, 5, 5))
    distance = np.linalg.norm(astronaut_face.eyes[1] - astronaut_face.eyes[0])
    expected = 1.5 * 44 / distance  # eyes stand 44 px apart on the grid of 128
    u, v = rois[point("mouth_corner_left"), :2, 2, 2]
    assert 0.8 * expected < u < 1.1 * expected
    assert 0.8 * expected < -v < 1.1 * expected
    peak = np.unravel_index(np.linalg.norm(flow[:2], axis=0).argmax(), (28, 28))
    at = (pair.points[point("mouth_corner_left")] + 0.5) * 28 / 224 - 0.5
    assert np.allclose(peak[::-1], at, atol=1.5)
    strength = np.linalg.norm(rois[:, :2].mean(axis=(2, 3)), axis=1)
    assert strength.argmax() == point("mouth_corner_left")
    assert strength[point("brow_inner_right")] < 0.1 * strength.max()


@pytest.mark.parametrize("method", FLOW_METHODS)
def test_no_motion_and_no_contrast(method, crop):
    grey = cv2.cvtColor(crop, cv2.COLOR_RGB2GRAY)
    # Farneback invents up to 1.5 px in a few saturated spots; the others give 0.
    assert np.abs(dense_flow(grey, grey, method)).mean() < (0.02 if method == "farneback" else 1e-3)
    flat = np.full((224, 224), 128, dtype=np.uint8)
    assert np.isfinite(dense_flow(flat, flat, method)).all()


def test_any_layout_of_memory_gives_the_same_flow(crop):
    grey = cv2.cvtColor(crop, cv2.COLOR_RGB2GRAY)
    later = np.roll(grey, 1, axis=1)
    expected = dense_flow(grey, later, "dis")
    assert np.array_equal(
        dense_flow(np.asfortranarray(grey), np.dstack([later, later])[..., 0], "dis"), expected
    )
