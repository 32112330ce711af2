"""One clip as pictures: a subject's face that moves by a known field.

The chain, from the photograph to a frame: the subject's shape and pose place the face in the onset
frame; the clip's motion, a forward displacement on that frame, moves it on. A frame asks at every
pixel where on the photograph it looks, through the inverse of each step, and samples once.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from fedpsyau_client.synthetic.action_unit_fields import affine_field, anchored_field
from fedpsyau_client.synthetic.clip_motion import ClipDraws
from fedpsyau_client.synthetic.rendering.appearance import (
    Camera,
    draw_shading,
    photographed,
)
from fedpsyau_client.synthetic.rendering.clip_timing import ClipTiming
from fedpsyau_client.synthetic.rendering.face_shape import (
    FRAME_SIZE,
    PX_PER_CROP_PX,
    ShapedHead,
)
from fedpsyau_client.synthetic.rendering.warping import (
    field_at,
    field_at_points,
    inverse_displacement,
    inverse_places,
    pixel_grid,
    similarity,
    transform_points,
    transformed_field,
    without_folds,
)
from fedpsyau_model.facial_points import CROP_SIZE, EYE_DISTANCE, EYE_LINE, MIDLINE

__all__ = ["ClipMotion", "TrueMotion", "draw_pose", "motion_of_clip", "render_frames"]

Array = NDArray[np.float32]

#: Spread of pose between clips: shift in pixels, log of the size, roll in radians.
_SHIFT_PX: Final = 5.0
_LOG_SIZE: Final = 0.04
_ROLL: Final = 0.06

#: Factor on the reach of every movement. The flow twin's movements are narrow, so that what they
#: are hides in few pixels; skin is elastic, and takes more of its surroundings along.
_SKIN_REACH: Final = 1.8

#: Spread of uneven light.
_SHADING: Final = 0.10


@dataclass(frozen=True, eq=False)
class TrueMotion:
    """What a perfect preparation would find; all float32.

    flow: (2, 128, 128), displacement onset -> apex on the aligned crop, in its pixels.
    onset_points, apex_points: (65, 2), facial points in pixels of the frame.
    onset_eyes: (2, 2), eye centres in pixels of the frame.
    """

    flow: Array
    onset_points: Array
    apex_points: Array
    onset_eyes: Array


@dataclass(frozen=True, eq=False)
class ClipMotion:
    """How a face moves in the onset frame's pixels, (FRAME_SIZE, FRAME_SIZE, 2) each.

    face: displacement onset -> apex by AUs, blink and jaw. head: by the head as a whole.
    origin: at every pixel of the onset frame the place of the photograph seen there.
    truth: the same for whoever checks a preparation.
    """

    face: Array
    head: Array
    origin: Array
    truth: TrueMotion


def draw_pose(generator: np.random.Generator) -> NDArray[np.float64]:
    """(2, 3) matrix that moves, sizes and rolls an upright head on the frame."""
    middle = np.full(2, (FRAME_SIZE - 1) / 2)
    size = generator.lognormal(0.0, _LOG_SIZE)
    roll = generator.normal(0.0, _ROLL)
    linear = size * np.array([[np.cos(roll), -np.sin(roll)], [np.sin(roll), np.cos(roll)]])
    shift = middle - linear @ middle + generator.normal(0.0, _SHIFT_PX, 2)
    return np.column_stack([linear, shift])


def motion_of_clip(head: ShapedHead, draws: ClipDraws, pose: NDArray[np.float64]) -> ClipMotion:
    """Move a posed head. draws: of this one clip; lengths in pixels of the 128 crop."""
    scale = np.float32(PX_PER_CROP_PX)
    reach = scale * np.float32(_SKIN_REACH) * draws.spread
    upright = _channels_last(
        anchored_field(scale * draws.strength, draws.turn, reach, head.points[None], FRAME_SIZE)
    )
    face = transformed_field(without_folds(upright), pose, FRAME_SIZE)
    whole = _channels_last(affine_field(scale * draws.translation, draws.gradient, FRAME_SIZE))
    on_head = inverse_places(pose, FRAME_SIZE)
    on_photograph = on_head + field_at(head.back, on_head)
    onset_points = transform_points(pose, head.points)
    onset_eyes = transform_points(pose, head.eyes)
    forward = face + whole
    aligned = transformed_field(forward, _alignment(onset_eyes), CROP_SIZE)
    truth = TrueMotion(
        flow=np.ascontiguousarray(np.moveaxis(aligned, -1, 0)),
        onset_points=onset_points,
        apex_points=onset_points + field_at_points(forward, onset_points),
        onset_eyes=onset_eyes,
    )
    return ClipMotion(face, whole, transform_points(head.to_photograph, on_photograph), truth)


def _channels_last(field: Array) -> Array:
    """(1, 2, H, W) -> (H, W, 2)."""
    return np.ascontiguousarray(np.moveaxis(field[0], 0, -1))


def _alignment(eyes: Array) -> NDArray[np.float64]:
    """(2, 3) matrix from a frame with these eye centres to the aligned 128 crop."""
    half = np.array([EYE_DISTANCE / 2, 0])
    aligned = np.array([MIDLINE, EYE_LINE]) + np.stack([-half, half])
    return similarity(eyes.astype(np.float64), aligned)


def render_frames(
    skin: Array,
    motion: ClipMotion,
    timing: ClipTiming,
    camera: Camera,
    generator: np.random.Generator,
) -> Iterator[NDArray[np.uint8]]:
    """Yield the frames of a clip in order, (FRAME_SIZE, FRAME_SIZE, 3) uint8, blue green red.

    skin: (H, W, 3) float32, the photograph with the subject's look.
    """
    light = draw_shading(FRAME_SIZE, _SHADING, generator)
    change = np.log(draw_shading(FRAME_SIZE, camera.flicker, generator))
    for strength, drift in zip(timing.strength, timing.drift, strict=True):
        forward = np.float32(strength) * motion.face + np.float32(drift) * motion.head
        places = pixel_grid(FRAME_SIZE) + inverse_displacement(forward)
        origin = field_at(motion.origin, places)
        scene = cv2.remap(skin, origin, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101)
        yield photographed(scene * light * np.exp(np.float32(drift) * change), camera, generator)
