"""Which face is found, where, and how steadily. No mock: MediaPipe looks at a photograph."""

import cv2
import numpy as np
import pytest

from fedpsyau_client.preparation.alignment import align, map_points
from fedpsyau_client.preparation.face_landmarks import FaceDetector
from fedpsyau_model.errors import NoFaceError, SeveralFacesError
from fedpsyau_model.facial_points import canonical_points, facial_points


def test_eyes_and_points_are_where_a_person_sees_them(astronaut_face):
    """Irises of the photograph, read off it by eye to a pixel or two."""
    assert np.allclose(astronaut_face.eyes, [[205, 102], [246, 104]], atol=3)
    where = {point.name: astronaut_face.points[point.index] for point in facial_points()}
    assert np.allclose(where["mouth_corner_right"], [206, 140], atol=5)
    assert np.allclose(where["mouth_corner_left"], [248, 140], atol=5)
    assert where["chin_boss"][1] > where["lower_lip_centre"][1] > where["subnasale"][1]


def test_aligned_points_are_near_the_canonical_ones(astronaut_face):
    points = map_points(align(astronaut_face, size=128), astronaut_face.points)
    assert np.abs(points - canonical_points()).max() < 13
    assert np.abs(points - canonical_points()).mean() < 4


@pytest.mark.parametrize("shift", [(7, 3), (-20, 11), (33, -19)])
def test_landmarks_move_with_the_picture(astronaut, astronaut_face, detector, shift):
    """Found anew in a shifted picture they stand still to about a tenth of a pixel."""
    found = detector.find(np.roll(astronaut, shift, axis=(1, 0)))
    jitter = found.points - shift - astronaut_face.points
    assert np.abs(jitter.mean(axis=0)).max() < 0.2
    assert jitter.std() < 0.25


def test_a_small_face_and_one_that_fills_the_frame(astronaut, astronaut_face, detector):
    """A fifteenth of the frame's width, which the detector overlooks at first; and a tight cut."""
    wide = cv2.copyMakeBorder(astronaut, 512, 512, 512, 512, cv2.BORDER_CONSTANT)
    assert np.allclose(detector.find(wide).eyes, astronaut_face.eyes + 512, atol=0.5)
    tight = np.ascontiguousarray(astronaut[75:177, 183:268])
    assert np.allclose(detector.find(tight).eyes, astronaut_face.eyes - [183, 75], atol=3)


def test_a_large_picture_is_looked_at_in_pieces_of_bounded_size(
    astronaut, astronaut_face, detector
):
    large = cv2.resize(astronaut, None, fx=9, fy=9, interpolation=cv2.INTER_CUBIC)
    found = (detector.find(large).points + 0.5) / 9 - 0.5
    assert np.abs(found - astronaut_face.points).mean() < 0.6


def test_of_two_faces_the_much_larger_one_counts(astronaut, astronaut_face, detector):
    near = astronaut[:300, 100:400]
    with pytest.raises(SeveralFacesError, match=r"2 faces.*1\.0 times"):
        detector.find(np.concatenate([near, near], axis=1))
    far = np.zeros_like(near)
    far[:180, :180] = cv2.resize(near, (180, 180), interpolation=cv2.INTER_AREA)
    beside = np.concatenate([far, near], axis=1)
    assert np.allclose(
        detector.find(beside).eyes, astronaut_face.eyes + np.array([200, 0]), atol=0.5
    )


@pytest.mark.parametrize("shape", [(64, 64), (70, 2000), (300, 400)])
def test_no_face(detector, shape):
    noise = np.random.default_rng(0).integers(0, 255, (*shape, 3), dtype=np.uint8)
    for picture in (noise, np.full((*shape, 3), 128, dtype=np.uint8)):
        with pytest.raises(NoFaceError, match="No face was found"):
            detector.find(picture)


def test_a_detector_that_is_not_needed_loads_nothing():
    with FaceDetector(None) as detector, pytest.raises(ValueError, match="without a model"):
        detector.find(np.zeros((64, 64, 3), dtype=np.uint8))
