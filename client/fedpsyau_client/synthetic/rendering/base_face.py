"""The photograph that every rendered face is made of, with its facial points.

It is one public-domain portrait, ``data/base_face.png``; where it comes from and who holds which
rights stands beside it in ``data/base_face.json``. Its points are stored, so that rendering needs
no detector.
"""

from __future__ import annotations

import functools
import importlib.resources
import json
from dataclasses import dataclass
from typing import Any, Final

import cv2
import numpy as np
from numpy.typing import NDArray

from fedpsyau_model.facial_points import mirror_indices

__all__ = ["ENLARGED", "BaseFace", "base_face"]

#: The photograph is enlarged so many times before it is warped. OpenCV samples at places rounded to
#: 1/32 pixel; this makes that 1/96 pixel of the photograph, far below a micro-expression.
ENLARGED: Final = 3


@dataclass(frozen=True, eq=False)
class BaseFace:
    """A portrait and where its face lies.

    image: (H, W, 3) uint8, blue, green, red.
    eyes: (2, 2), centres of the subject's right and left eye, (x, y) in pixels of the image.
    points: (65, 2), facial points in the order of `facial_points`.
    """

    image: NDArray[np.uint8]
    eyes: NDArray[np.float64]
    points: NDArray[np.float64]


@functools.cache
def base_face(mirrored: bool = False) -> BaseFace:
    """Load the portrait, enlarged, as it is or as its mirror image."""
    folder = importlib.resources.files("fedpsyau_client.synthetic") / "data"
    content = np.frombuffer((folder / "base_face.png").read_bytes(), dtype=np.uint8)
    facts: dict[str, Any] = json.loads((folder / "base_face.json").read_text(encoding="utf-8"))
    small = cv2.imdecode(content, cv2.IMREAD_COLOR)
    image = cv2.resize(small, None, fx=ENLARGED, fy=ENLARGED, interpolation=cv2.INTER_LANCZOS4)
    # Pixel centres lie at whole numbers, so enlarging moves them by half a pixel.
    eyes = (np.array(facts["eyes"]) + 0.5) * ENLARGED - 0.5
    points = (np.array(facts["points"]) + 0.5) * ENLARGED - 0.5
    if mirrored:
        image = np.ascontiguousarray(image[:, ::-1])
        flip = np.array([image.shape[1] - 1, 0]), np.array([-1, 1])
        eyes = flip[0] + flip[1] * eyes[::-1]
        points = flip[0] + flip[1] * points[list(mirror_indices())]
    return BaseFace(image, eyes, points)
