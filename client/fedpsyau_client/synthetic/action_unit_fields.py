"""Motion fields of a face: what each action unit moves, where and which way (FACS).

A movement is a sum of smooth bumps, each anchored at a facial point. The directions follow the FACS
manual's descriptions of the muscles; besides the twelve AUs there are two movements that tell
nothing about emotion and disturb: blinks and the jaw.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from fedpsyau_model.action_units import AUS
from fedpsyau_model.facial_points import CROP_SIZE, facial_points

__all__ = [
    "BLINK",
    "DISTURBANCES",
    "JAW",
    "Pull",
    "affine_field",
    "anchored_field",
    "smooth_field",
]

Array = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Pull:
    """One bump of a movement at a facial point, on both sides where the point is one of a pair.

    outward, down: displacement in pixels per pixel of the movement's strength; outward is away from
        the mid line, down is towards the chin.
    reach: standard deviation of the bump in pixels of the 128 crop.
    """

    point: str
    outward: float
    down: float
    reach: float


#: What each action unit pulls, with the muscle.
AU_PULLS: Final[Mapping[int, tuple[Pull, ...]]] = {
    # Inner brow raiser (frontalis, medial part).
    1: (
        Pull("brow_inner", 0.0, -1.0, 2.4),
        Pull("brow_body", 0.0, -0.4, 2.4),
        Pull("forehead_inner", 0.0, -0.5, 3.2),
        Pull("glabella", 0.0, -0.3, 2.4),
    ),
    # Outer brow raiser (frontalis, lateral part).
    2: (
        Pull("brow_arch", 0.0, -0.8, 2.4),
        Pull("brow_tail", 0.1, -1.0, 2.4),
        Pull("forehead_outer", 0.0, -0.5, 3.2),
    ),
    # Brow lowerer: down and together (corrugator, depressor supercilii, procerus).
    4: (
        Pull("brow_inner", -0.6, 0.8, 2.4),
        Pull("brow_body", -0.5, 0.5, 2.4),
        Pull("glabella", 0.0, 0.5, 2.0),
    ),
    # Upper lid raiser (levator palpebrae).
    5: (Pull("upper_lid", 0.0, -0.9, 1.6), Pull("upper_lid_fold", 0.0, -0.4, 1.6)),
    # Cheek raiser (orbicularis oculi, outer part).
    6: (
        Pull("infraorbital", 0.0, -0.8, 2.8),
        Pull("cheekbone", -0.2, -0.6, 2.8),
        Pull("cheek", 0.0, -0.6, 3.2),
        Pull("eye_outer_corner", -0.4, 0.1, 2.0),
        Pull("lower_lid_furrow", 0.0, -0.5, 2.0),
    ),
    # Lid tightener (orbicularis oculi, inner part): the lower lid up, the upper down.
    7: (
        Pull("lower_lid", -0.2, -0.7, 1.6),
        Pull("upper_lid", 0.0, 0.5, 1.6),
        Pull("eye_outer_corner", -0.3, 0.0, 1.6),
    ),
    # Nose wrinkler (levator labii superioris alaeque nasi): nose up, its root down.
    9: (
        Pull("nose_side", 0.1, -1.0, 2.0),
        Pull("nose_wing", 0.0, -0.7, 2.0),
        Pull("nose_root", -0.2, 0.4, 2.0),
        Pull("upper_lip_peak", 0.0, -0.3, 2.0),
    ),
    # Upper lip raiser (levator labii superioris).
    10: (
        Pull("upper_lip_peak", 0.0, -0.9, 1.8),
        Pull("upper_lip_outer", 0.1, -0.7, 1.8),
        Pull("nasolabial_fold", 0.3, -0.5, 2.0),
    ),
    # Lip corner puller: up and back (zygomaticus major).
    12: (
        Pull("mouth_corner", 0.8, -0.8, 2.4),
        Pull("nasolabial_fold_low", 0.5, -0.6, 2.4),
        Pull("cheek_beside_mouth", 0.2, -0.4, 3.2),
        Pull("lower_cheek", 0.2, -0.5, 2.8),
    ),
    # Dimpler: the corners tighten inwards (buccinator).
    14: (
        Pull("mouth_corner", -0.9, 0.0, 2.0),
        Pull("below_mouth_corner", -0.4, -0.2, 2.4),
        Pull("cheek_beside_mouth", -0.4, 0.0, 2.8),
    ),
    # Lip corner depressor (depressor anguli oris).
    15: (
        Pull("mouth_corner", 0.1, 0.9, 2.0),
        Pull("below_mouth_corner", 0.1, 0.6, 2.4),
        Pull("lower_lip_outer", 0.0, 0.4, 2.0),
    ),
    # Chin raiser (mentalis).
    17: (
        Pull("chin_boss", 0.0, -0.9, 2.8),
        Pull("chin_crease", 0.0, -0.7, 2.4),
        Pull("chin_side", 0.0, -0.5, 2.4),
        Pull("lower_lip_centre", 0.0, -0.5, 2.4),
    ),
}

#: Movements that say nothing about emotion; columns after the AUs in `anchored_field`.
BLINK: Final = (
    Pull("upper_lid", 0.0, 1.0, 1.6),
    Pull("upper_lid_fold", 0.0, 0.6, 1.8),
    Pull("lower_lid", 0.0, -0.15, 1.6),
)
JAW: Final = (
    Pull("lower_lip_centre", 0.0, 0.9, 2.8),
    Pull("lower_lip_outer", 0.0, 0.6, 2.4),
    Pull("chin_boss", 0.0, 1.0, 4.0),
    Pull("chin_side", 0.0, 0.8, 3.6),
)
DISTURBANCES: Final = (BLINK, JAW)


@dataclass(frozen=True, eq=False)
class _Bumps:
    """All bumps of all movements on both sides, B of them.

    movement, side: (B,) index of the movement; 0 for the subject's right, 1 for the left.
    point: (B,) index of the facial point. pull: (B, 2), (x, y). reach: (B,) pixels.
    """

    movement: NDArray[np.intp]
    side: NDArray[np.intp]
    point: NDArray[np.intp]
    pull: Array
    reach: Array


@functools.cache
def _bumps() -> _Bumps:
    index = {point.name: point.index for point in facial_points()}
    rows: list[tuple[int, int, int, float, float, float]] = []
    for movement, pulls in enumerate([*(AU_PULLS[au] for au in AUS), *DISTURBANCES]):
        for pull in pulls:
            for side, (name, sign) in enumerate((("right", -1), ("left", 1))):
                if pull.point in index:  # on the mid line: each side does half of it
                    rows.append((movement, side, index[pull.point], 0, pull.down / 2, pull.reach))
                else:
                    point = index[f"{pull.point}_{name}"]
                    rows.append((movement, side, point, sign * pull.outward, pull.down, pull.reach))
    table = np.array(rows)
    return _Bumps(
        movement=table[:, 0].astype(np.intp),
        side=table[:, 1].astype(np.intp),
        point=table[:, 2].astype(np.intp),
        pull=table[:, 3:5].astype(np.float32),
        reach=table[:, 5].astype(np.float32),
    )


def anchored_field(
    strength: Array, turn: Array, spread: Array, points: Array, size: int = CROP_SIZE
) -> Array:
    """Displacement fields of faces that make movements.

    strength: (N, 14, 2), pixels, of the 12 AUs, then blink and jaw; right side, left side.
    turn: (N, 14), radians by which each movement pulls off its direction, mirrored on the left.
    spread: (N,) factor on the reach of every bump.
    points: (N, 65, 2), facial points on the grid.
    size: side of the grid. Where its pixels are not those of the aligned 128 crop, `strength`,
        `spread` and `points` are in pixels of the grid.

    Returns (N, 2, size, size) float32, x right and y down, in pixels.
    """
    bumps = _bumps()
    amplitude = strength[:, bumps.movement, bumps.side]
    angle = turn[:, bumps.movement] * np.where(bumps.side == 0, 1, -1).astype(np.float32)
    cosine, sine = np.cos(angle), np.sin(angle)
    pull_x, pull_y = bumps.pull.T
    u = amplitude * (cosine * pull_x - sine * pull_y)
    v = amplitude * (sine * pull_x + cosine * pull_y)
    reach = spread[:, None] * bumps.reach
    along_x = _bell(points[:, bumps.point, 0], reach, size)
    along_y = _bell(points[:, bumps.point, 1], reach, size)
    # A bump is the product of a bell along x and one along y: their sum is a matrix product.
    rows = np.stack([u, v], axis=1)[..., None] * along_y[:, None]
    return np.asarray(np.swapaxes(rows, -1, -2) @ along_x[:, None], dtype=np.float32)


def _bell(centre: Array, reach: Array, size: int) -> Array:
    """(N, B) centres and reaches -> (N, B, size) Gaussian bells of height 1."""
    pixel = np.arange(size, dtype=np.float32)
    distance = (pixel - centre[..., None]) / reach[..., None]
    return np.asarray(np.exp(-0.5 * distance * distance), dtype=np.float32)


def affine_field(translation: Array, gradient: Array, size: int = CROP_SIZE) -> Array:
    """Fields of a head that moves as a whole, about the middle of the grid.

    translation: (N, 2) pixels. gradient: (N, 2, 2), d(u, v)/d(x, y). Returns (N, 2, size, size).
    """
    centred = np.arange(size, dtype=np.float32) - np.float32((size - 1) / 2)
    along_x = gradient[:, :, 0, None, None] * centred
    along_y = gradient[:, :, 1, None, None] * centred[:, None]
    return np.asarray(translation[:, :, None, None] + along_x + along_y, dtype=np.float32)


def smooth_field(nodes: Array) -> Array:
    """Interpolate (N, 2, G, G) values on a coarse grid linearly to (N, 2, 128, 128)."""
    grid = nodes.shape[-1]
    scaled = np.arange(CROP_SIZE, dtype=np.float32) * ((grid - 1) / (CROP_SIZE - 1))
    weights = np.clip(1 - np.abs(scaled[:, None] - np.arange(grid)), 0, 1).astype(np.float32)
    return np.asarray(weights @ nodes @ weights.T, dtype=np.float32)
