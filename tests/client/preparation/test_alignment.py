"""Alignment against positions worked out by hand, and against pictures whose points are known."""

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedpsyau_client.preparation.alignment import (
    MIN_EYE_DISTANCE,
    align,
    aligned_crop,
    map_points,
)
from fedpsyau_client.preparation.clip_features import prepare_pair
from fedpsyau_client.preparation.face_points import FacePoints, face_points_of_mesh
from fedpsyau_model.errors import FaceAlignmentError, FrameSizeError
from fedpsyau_model.facial_points import landmark_indices

#: (63.5 +- 22, 42) of the 128 crop, brought to 224: (x + 0.5) * 224 / 128 - 0.5.
EYES_AT_224 = [[73.0, 73.875], [150.0, 73.875]]


def face(right, left, points=None):
    points = np.zeros((65, 2)) if points is None else points
    return FacePoints(np.array([right, left], dtype=float), points)


def spot(width, height, x, y, sigma):
    """A bright spot centred at (x, y), pixel centres at whole numbers."""
    columns, rows = np.arange(width), np.arange(height)[:, None]
    value = np.exp(-((columns - x) ** 2 + (rows - y) ** 2) / (2 * sigma**2))
    return np.rint(250 * value).astype(np.uint8)


def centroid(image):
    weight = image.astype(float)
    rows, columns = np.indices(image.shape)
    return np.array([(weight * columns).sum(), (weight * rows).sum()]) / weight.sum()


def test_the_eyes_come_to_their_documented_place():
    matrix = align(face((100, 60), (180, 60)))
    assert np.allclose(map_points(matrix, np.array([(100.0, 60), (180, 60)])), EYES_AT_224)
    assert np.allclose(np.linalg.norm(matrix[:, 0]), 77 / 80)
    matrix = align(face((100, 60), (180, 60)), size=128)
    assert np.allclose(
        map_points(matrix, np.array([(100.0, 60), (180, 60)])), [(41.5, 42), (85.5, 42)]
    )


@given(
    x=st.floats(0, 4000),
    y=st.floats(0, 4000),
    distance=st.floats(MIN_EYE_DISTANCE + 0.01, 2000),
    roll=st.floats(-89, 89),
)
def test_any_face_comes_to_the_same_place_without_being_bent(x, y, distance, roll):
    along = distance * np.array([np.cos(np.radians(roll)), np.sin(np.radians(roll))])
    right = np.array([x, y])
    matrix = align(face(right, right + along))
    eyes = map_points(matrix, np.stack([right, right + along]))
    assert np.allclose(eyes, EYES_AT_224, atol=1e-6)
    gram = matrix[:, :2] @ matrix[:, :2].T
    assert np.allclose(gram, gram[0, 0] * np.eye(2), atol=1e-9)
    assert np.linalg.det(matrix[:, :2]) > 0


@pytest.mark.parametrize("distance", [60, 231, 500])
def test_pixels_go_where_points_go(distance):
    """Also where whole blocks of pixels are averaged first (3 and 6 of them on a side)."""
    size = distance * 5
    right = np.array([1.9 * distance, 2.1 * distance])
    left = right + distance * np.array([np.cos(0.2), np.sin(0.2)])
    at = np.array([2.4 * distance + 0.3, 2.9 * distance + 0.4])
    matrix = align(face(right, left))
    crop = aligned_crop(spot(size, size, *at, sigma=distance / 15), matrix)
    assert np.allclose(centroid(crop), map_points(matrix, at[None])[0], atol=0.05)


def test_enlarging_the_picture_changes_nothing(astronaut, astronaut_face):
    large = cv2.resize(astronaut, None, fx=5, fy=5, interpolation=cv2.INTER_CUBIC)
    eyes = (astronaut_face.eyes + 0.5) * 5 - 0.5
    crop = aligned_crop(astronaut, align(astronaut_face))
    from_large = aligned_crop(large, align(face(*eyes)))
    inside = np.s_[8:-8, 8:-8]
    difference = crop[inside].astype(float) - from_large[inside]
    assert np.abs(difference).mean() < 2
    assert abs(difference.mean()) < 0.2


def test_a_face_at_the_border_repeats_it():
    picture = np.full((100, 100, 3), 77, dtype=np.uint8)
    crop = aligned_crop(picture, align(face((2, 2), (40, 2))))
    assert crop.shape == (224, 224, 3)
    assert (crop == 77).all()


@pytest.mark.parametrize(
    ("right", "left", "says"),
    [
        ((100, 60), (100 + MIN_EYE_DISTANCE - 0.1, 60), "24 pixels apart"),
        ((180, 60), (100, 60), "upside down"),
        ((np.nan, 60), (180, 60), "NaN"),
    ],
)
def test_absurd_faces_are_refused(right, left, says):
    with pytest.raises(FaceAlignmentError, match=says):
        align(face(right, left))


def test_frames_and_landmarks_must_fit_together():
    frame = np.zeros((100, 200, 3), dtype=np.uint8)
    with pytest.raises(FrameSizeError, match=r"200 x 100 .*190 x 100"):
        prepare_pair(frame, frame[:, :190], face((50, 50), (90, 50)), "dis")
    with pytest.raises(FaceAlignmentError, match="outside the frame of 200 x 100"):
        prepare_pair(frame, frame, face((50, 50), (250, 50)), "dis")


def test_the_mesh_gives_eyes_by_their_corners_and_points_in_their_order():
    mesh = np.arange(956, dtype=np.float32).reshape(478, 2)
    found = face_points_of_mesh(mesh)
    assert found.eyes.tolist() == [[33 + 133, 33 + 133 + 1], [263 + 362, 263 + 362 + 1]]
    assert found.points[:, 0].tolist() == [2 * index for index in landmark_indices()]
