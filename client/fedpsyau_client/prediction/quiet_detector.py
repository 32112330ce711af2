"""The face detector without what MediaPipe's native code writes into the terminal."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fedpsyau_client.preparation.face_landmarks import FaceDetector
from fedpsyau_client.preparation.face_points import FacePoints
from fedpsyau_client.preparation.native_logs import without_native_logs

__all__ = ["QuietDetector", "quiet_detector"]


class QuietDetector:
    """Finds faces as `FaceDetector` does; only while it looks is stderr shut, not in between."""

    def __init__(self, detector: FaceDetector) -> None:
        self._detector = detector

    def find(self, image: NDArray[np.uint8]) -> FacePoints:
        """See `FaceDetector.find`."""
        with without_native_logs():
            return self._detector.find(image)


@contextmanager
def quiet_detector(model: Path) -> Iterator[QuietDetector]:
    """Open a detector as long as the block runs."""
    detector = FaceDetector(model)
    try:
        yield QuietDetector(detector)
    finally:
        with without_native_logs():
            detector.__exit__()
