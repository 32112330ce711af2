from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from fedpsyau_client.preparation.face_landmarks import FaceDetector
from fedpsyau_client.preparation.face_points import FacePoints
from fedpsyau_client.preparation.landmark_model import find_landmark_model


@pytest.fixture(scope="session")
def astronaut() -> np.ndarray:
    """(512, 512, 3) RGB: Eileen Collins by NASA, public domain. One face, eyes 42 px apart."""
    from skimage import data

    return data.astronaut()


@pytest.fixture(scope="session")
def landmark_model() -> Path:
    return find_landmark_model()


@pytest.fixture(scope="session")
def detector(landmark_model):
    with FaceDetector(landmark_model) as opened:
        yield opened


@pytest.fixture(scope="session")
def astronaut_face(astronaut, detector) -> FacePoints:
    return detector.find(astronaut)


@pytest.fixture(scope="session")
def write_png():
    def write(path: Path, rgb: np.ndarray) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(cv2.imencode(".png", rgb[..., ::-1] if rgb.ndim == 3 else rgb)[1])
        return path

    return write
