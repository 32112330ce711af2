"""The 65 facial points whose patches the local stream sees, and the AU groups they belong to.

The points of the paper were never released. These are chosen by FACS anatomy out of MediaPipe's
478 Face Mesh landmarks, so that the four groups of the AU feature extractor keep their published
sizes (23, 48, 52, 38; 161 slots over 65 points). The table stands in ``data/facial_points.csv``:

index
    Position in ``rois``, from the forehead down; the right point of a pair comes first.
name, side
    What the point lies on; `right` and `left` are the subject's own, so `right` is at small x.
landmark
    Index of the MediaPipe Face Mesh landmark.
x, y
    Canonical position on the aligned crop in pixels (see `CROP_SIZE`), x right, y down: MediaPipe's
    canonical face model (neutral, mouth closed), seen from the front and aligned like any face.
    It is symmetric about the mid line x = 63.5.
groups
    Numbers of the AU groups, 1 to 4 in the order of `AU_GROUPS`, that look at this point.
"""

from __future__ import annotations

import csv
import functools
import importlib.resources
from dataclasses import dataclass
from typing import Final, Literal, cast

import numpy as np
from numpy.typing import NDArray

from fedpsyau_model.action_units import AU_GROUPS

__all__ = [
    "CROP_SIZE",
    "EYE_CORNERS",
    "EYE_DISTANCE",
    "EYE_LINE",
    "MIDLINE",
    "FacialPoint",
    "canonical_points",
    "facial_points",
    "group_point_indices",
    "landmark_indices",
    "mirror_indices",
]

#: Side of the aligned face crop in pixels. Pixel centres lie at whole numbers, 0 to 127.
CROP_SIZE: Final = 128

#: Where alignment puts the eyes on that crop, in pixels: the line through both eye centres is
#: horizontal at y = EYE_LINE, its middle at x = MIDLINE, the centres EYE_DISTANCE apart.
EYE_LINE: Final = 42.0
EYE_DISTANCE: Final = 44.0
MIDLINE: Final = 63.5

#: Landmarks whose mean is the centre of the subject's right and left eye: outer, inner corner.
EYE_CORNERS: Final[tuple[tuple[int, int], tuple[int, int]]] = ((33, 133), (263, 362))

Side = Literal["right", "mid", "left"]


@dataclass(frozen=True, slots=True)
class FacialPoint:
    """One row of the table: a facial point and what it is for."""

    index: int
    name: str
    side: Side
    landmark: int
    x: float
    y: float
    groups: frozenset[int]


@functools.cache
def facial_points() -> tuple[FacialPoint, ...]:
    """All 65 points in the order of ``rois``."""
    table = importlib.resources.files("fedpsyau_model") / "data" / "facial_points.csv"
    rows = csv.DictReader(table.read_text(encoding="utf-8").splitlines())
    return tuple(
        FacialPoint(
            index=int(row["index"]),
            name=row["name"],
            side=cast(Side, row["side"]),
            landmark=int(row["landmark"]),
            x=float(row["x"]),
            y=float(row["y"]),
            groups=frozenset(int(group) for group in row["groups"].split("|")),
        )
        for row in rows
    )


@functools.cache
def group_point_indices() -> tuple[tuple[int, ...], ...]:
    """Ascending point indices of each AU group, in the order of `AU_GROUPS` (sizes 23/48/52/38)."""
    return tuple(
        tuple(point.index for point in facial_points() if group in point.groups)
        for group in range(1, len(AU_GROUPS) + 1)
    )


def canonical_points() -> NDArray[np.float32]:
    """(65, 2) float32, (x, y) of every point on the 128x128 aligned crop, in pixels."""
    return np.array([(point.x, point.y) for point in facial_points()], dtype=np.float32)


def landmark_indices() -> tuple[int, ...]:
    """MediaPipe Face Mesh landmark of every point, in the order of ``rois``."""
    return tuple(point.landmark for point in facial_points())


@functools.cache
def mirror_indices() -> tuple[int, ...]:
    """Index of every point's counterpart on the other side; mid points are their own."""
    by_name = {point.name: point.index for point in facial_points()}
    other = {"right": "left", "left": "right"}
    return tuple(
        point.index
        if point.side == "mid"
        else by_name[point.name.removesuffix(point.side) + other[point.side]]
        for point in facial_points()
    )
