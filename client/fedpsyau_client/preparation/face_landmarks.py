"""Face landmarks by MediaPipe's Face Landmarker, found twice for precision.

Landmarks of a face that is small in the frame jitter by more than a pixel, as much as a
micro-expression moves. So the face is found in the whole frame, a square in which it fills half is
cut out, and it is found again there; then the jitter is about a tenth of a pixel.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, Self

import cv2
import numpy as np
from numpy.typing import NDArray

from fedpsyau_client.preparation.face_points import FacePoints, face_points_of_mesh
from fedpsyau_model.errors import NoFaceError, SeveralFacesError

__all__ = ["DOMINANCE", "FaceDetector"]

#: Of several faces the largest counts if it has at least this many times the next one's area.
DOMINANCE: Final = 2.0

#: Longer side to which frames are brought before a face is looked for, in pixels.
_SEARCH_SIZE: Final = 1280

#: Side of the square in which the face is found again, in pixels, at most.
_CLOSE_SIZE: Final = 512

#: The square's side, in sides of the face's bounding square.
_MARGIN: Final = 2.0

_MAX_FACES: Final = 4

Image = NDArray[np.uint8]
Mesh = NDArray[np.float64]

#: Left, top, width, height; whole pixels, possibly beyond the image.
Rectangle = tuple[int, int, int, int]


class FaceDetector:
    """Finds the one face of a frame. Use as a context manager; one per process.

    The model is loaded when the first face is looked for. model: None where none ever will be.
    """

    def __init__(self, model: Path | None) -> None:
        self._model = model
        self._landmarker: Any = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        # MediaPipe prints an error at exit where this is left out.
        if self._landmarker is not None:
            self._landmarker.close()

    def find(self, image: Image) -> FacePoints:
        """Eyes and facial points of the one face in an image (H, W, 3), RGB.

        Of several faces the largest is taken if it has at least DOMINANCE times the area of the
        next one. Raises NoFaceError or SeveralFacesError.
        """
        return face_points_of_mesh(self.mesh(image))

    def mesh(self, image: Image) -> Mesh:
        """(478, 2) landmarks (x, y) in pixels of the image, centres at whole numbers.

        Raises as `find` does.
        """
        rough = _largest(self._search(image))
        meshes = self._detect(image, _square_around(rough), _CLOSE_SIZE)
        if not meshes:
            raise NoFaceError(
                "A face was found in the onset frame, but not again when looked at closely. It may "
                "be covered, blurred or no face at all."
            )
        # The square may show parts of others too: take the face for which it was cut.
        distances = [np.abs(_box(mesh) - _box(rough)).sum() for mesh in meshes]
        return np.asarray(meshes[int(np.argmin(distances))] - 0.5, dtype=np.float64)

    def _search(self, image: Image) -> list[Mesh]:
        """Find the faces of the whole frame, else of the frame in a wider one, else of its parts.

        The detector overlooks faces that fill the frame, and those below a tenth of it.
        """
        height, width = image.shape[:2]
        for rectangles in _views(width, height):
            meshes: list[Mesh] = []
            for rectangle in rectangles:
                found = self._detect(image, rectangle, _SEARCH_SIZE)
                meshes += [mesh for mesh in found if not _seen(mesh, meshes)]
            if meshes:
                return meshes
        return []

    def _detect(self, image: Image, rectangle: Rectangle, longest: int) -> list[Mesh]:
        """Find the faces within a rectangle, looked at with a longer side of at most `longest`.

        Returns meshes in pixels from the corner of the image, not from the centre of its first
        pixel: that is how MediaPipe measures.
        """
        view, origin, block = _view(image, rectangle, longest)
        found = self._loaded().detect(_mediapipe_image(view)).face_landmarks
        size = np.array([view.shape[1], view.shape[0]], dtype=np.float64)
        return [
            np.array([(point.x, point.y) for point in face]) * size * block + origin
            for face in found
        ]

    def _loaded(self) -> Any:
        if self._landmarker is None:
            if self._model is None:
                raise ValueError("a detector without a model cannot look for a face")
            from mediapipe.tasks.python import BaseOptions, vision

            options = vision.FaceLandmarkerOptions(
                base_options=BaseOptions(model_asset_path=str(self._model)),
                running_mode=vision.RunningMode.IMAGE,
                num_faces=_MAX_FACES,
            )
            self._landmarker = vision.FaceLandmarker.create_from_options(options)
        return self._landmarker


def _mediapipe_image(pixels: Image) -> Any:
    import mediapipe

    return mediapipe.Image(
        image_format=mediapipe.ImageFormat.SRGB, data=np.ascontiguousarray(pixels)
    )


def _views(width: int, height: int) -> Iterator[list[Rectangle]]:
    yield [(0, 0, width, height)]
    yield [(-width // 4, -height // 4, width * 3 // 2, height * 3 // 2)]
    yield [
        (column * width // 4, row * height // 4, width // 2, height // 2)
        for row in range(3)
        for column in range(3)
    ]


def _view(
    image: Image, rectangle: Rectangle, longest: int
) -> tuple[Image, NDArray[np.float64], int]:
    """Cut a rectangle out and shrink it by whole blocks of pixels; black where no image is.

    Returns the view, the image position of its corner, and the side of a block.
    """
    left, top, width, height = rectangle
    block = -(-max(width, height) // longest)
    part = image[max(top, 0) : top + height, max(left, 0) : left + width]
    rows, columns = part.shape[0] // block, part.shape[1] // block
    if block > 1:
        whole = part[: rows * block, : columns * block]
        part = cv2.resize(whole, (columns, rows), interpolation=cv2.INTER_AREA)
    above, before = max(-top, 0) // block, max(-left, 0) // block
    view = np.zeros(
        (max(height // block, above + rows), max(width // block, before + columns), 3), np.uint8
    )
    view[above : above + rows, before : before + columns] = part
    origin = [max(left, 0) - before * block, max(top, 0) - above * block]
    return view, np.array(origin, dtype=np.float64), block


def _box(mesh: Mesh) -> NDArray[np.float64]:
    """Bounding box: left, top, right, bottom."""
    return np.concatenate([mesh.min(axis=0), mesh.max(axis=0)])


def _area(mesh: Mesh) -> float:
    left, top, right, bottom = _box(mesh)
    return float((right - left) * (bottom - top))


def _seen(mesh: Mesh, others: list[Mesh]) -> bool:
    """Whether one of the others has its middle in this face's box, as the same face has."""
    low, high = mesh.min(axis=0), mesh.max(axis=0)
    middles = [(other.min(axis=0) + other.max(axis=0)) / 2 for other in others]
    return any(bool(((low < middle) & (middle < high)).all()) for middle in middles)


def _square_around(mesh: Mesh) -> Rectangle:
    left, top, right, bottom = _box(mesh)
    side = max(round(_MARGIN * max(right - left, bottom - top)), 1)
    return round((left + right - side) / 2), round((top + bottom - side) / 2), side, side


def _largest(meshes: list[Mesh]) -> Mesh:
    """Pick the face that is meant. Raises NoFaceError, SeveralFacesError."""
    if not meshes:
        raise NoFaceError(
            "No face was found in the onset frame. It must be seen from the front and fill at "
            "least a fifteenth of the frame's width; cut the frames to the face if it is smaller."
        )
    first, *others = sorted(meshes, key=_area, reverse=True)
    if others and _area(first) < DOMINANCE * _area(others[0]):
        raise SeveralFacesError(
            f"{len(meshes)} faces were found in the onset frame, and the largest has only "
            f"{_area(first) / _area(others[0]):.1f} times the area of the next; it must have "
            f"{DOMINANCE:g} times. Cut the frames to the face that is meant."
        )
    return first
