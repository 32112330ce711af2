"""Rendered faces: where their points lie, and that pixels move as the truth says."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.ndimage import map_coordinates

from fedpsyau_client.synthetic.clip_motion import ClipDraws
from fedpsyau_client.synthetic.face_identity import draw_subjects
from fedpsyau_client.synthetic.rendering.appearance import Camera, Look, skin
from fedpsyau_client.synthetic.rendering.base_face import base_face
from fedpsyau_client.synthetic.rendering.clip_frames import (
    draw_pose,
    motion_of_clip,
    render_frames,
)
from fedpsyau_client.synthetic.rendering.clip_timing import ClipTiming, draw_timing
from fedpsyau_client.synthetic.rendering.face_shape import FRAME_SIZE, shape_head
from fedpsyau_client.synthetic.rendering.warping import field_at_points, transform_points
from fedpsyau_model.action_units import AUS
from fedpsyau_model.facial_points import (
    EYE_DISTANCE,
    EYE_LINE,
    MIDLINE,
    canonical_points,
    facial_points,
)

INDEX = {point.name: point.index for point in facial_points()}
UPRIGHT = np.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
PLAIN = Look(mirrored=False, gamma=1.0, tint=(1.0, 1.0, 1.0), colour=1.0, grain=0.02)
PERFECT = Camera(balance=(1.0, 1.0, 1.0), gamma=1.0, blur=0.01, noise=0.0, flicker=0.0)
ONSET_AND_APEX = ClipTiming(apex=1, strength=np.array([0.0, 1.0]), drift=np.array([0.0, 1.0]))


def draws(units, translation=(0.0, 0.0)):
    """One clip with the AUs `units` = {au: peak in pixels of the 128 crop} on both sides."""
    strength = np.zeros((1, len(AUS) + 2, 2), np.float32)
    for au, peak in units.items():
        strength[0, AUS.index(au)] = peak
    points = canonical_points()[None]
    return ClipDraws(
        strength=strength,
        turn=np.zeros((1, len(AUS) + 2), np.float32),
        spread=np.ones(1, np.float32),
        points=points,
        seen_points=points,
        translation=np.array([translation], np.float32),
        gradient=np.zeros((1, 2, 2), np.float32),
        noise=np.ones(1, np.float32),
    )


@pytest.fixture(scope="module")
def subject_points():
    return draw_subjects(6, np.random.default_rng(3)).points


@pytest.mark.parametrize("mirrored", [False, True])
def test_right_is_at_small_x_and_eyes_are_between_their_corners(mirrored):
    face = base_face(mirrored)
    by_name = {name: face.points[index] for name, index in INDEX.items()}
    for name in ("mouth_corner", "brow_tail", "eye_outer_corner"):
        assert by_name[f"{name}_right"][0] < by_name[f"{name}_left"][0]
    assert face.eyes[0, 0] < face.eyes[1, 0]
    for eye, side in zip(face.eyes, ("right", "left"), strict=True):
        lids = (by_name[f"upper_lid_{side}"] + by_name[f"lower_lid_{side}"]) / 2
        assert np.hypot(*(eye - lids)) < 8  # of 125 between the eyes


def test_the_mirror_image_shows_what_stood_at_the_mirrored_place():
    face, mirrored = base_face(), base_face(mirrored=True)
    x, y = np.rint(face.points[INDEX["mouth_corner_left"]]).astype(int)
    np.testing.assert_array_equal(face.image[y, x], mirrored.image[y, -1 - x])
    other = mirrored.points[INDEX["mouth_corner_right"]]
    np.testing.assert_allclose(
        other,
        [
            len(face.image) - 1 - face.points[INDEX["mouth_corner_left"]][0],
            face.points[INDEX["mouth_corner_left"]][1],
        ],
    )


def test_a_head_shows_the_photograph_s_points_where_it_says(subject_points):
    face = base_face()
    for points in subject_points:
        head = shape_head(face, points)
        places = head.points + field_at_points(head.back, head.points)
        shown = transform_points(head.to_photograph, places)
        assert np.abs(shown - face.points).max() < 0.1  # of the enlarged photograph's pixels


def test_subjects_differ_in_shape_and_the_canonical_one_is_the_photograph(subject_points):
    face = base_face()
    as_photographed = shape_head(face, canonical_points().astype(float))
    assert not as_photographed.back.any()
    shapes = np.stack([shape_head(face, points).points for points in subject_points])
    assert np.hypot(*np.moveaxis(shapes - as_photographed.points, -1, 0)).mean() > 2
    apart = np.hypot(*np.moveaxis(shapes[:, None] - shapes, -1, 0)).mean(axis=-1)
    assert apart[~np.eye(len(shapes), dtype=bool)].min() > 1


@pytest.mark.parametrize("units", [{1: 1.5, 2: 1.5}, {4: 1.5}, {12: 1.6}, {15: 1.6, 17: 1.0}])
def test_every_pixel_of_the_onset_is_found_at_the_apex_where_the_truth_says(units, subject_points):
    """The apex, fetched along the forward field by SciPy, is the onset."""
    generator = np.random.default_rng(5)
    face = base_face()
    motion = motion_of_clip(
        shape_head(face, subject_points[0]), draws(units, (0.3, -0.2)), draw_pose(generator)
    )
    texture = skin(face.image, PLAIN, generator)
    onset, apex = (
        frame.astype(float).mean(axis=-1)
        for frame in render_frames(texture, motion, ONSET_AND_APEX, PERFECT, generator)
    )
    rows, columns = np.indices(onset.shape)
    forward = (motion.face + motion.head).astype(float)
    fetched = map_coordinates(apex, [rows + forward[..., 1], columns + forward[..., 0]], order=3)
    moving = np.hypot(*np.moveaxis(motion.face, -1, 0)) > 0.5
    assert moving.sum() > 50
    error, unmoved = (np.abs(frame - onset)[moving].mean() for frame in (fetched, apex))
    assert error < 0.15 * unmoved


def test_the_truth_is_in_pixels_of_the_aligned_crop(subject_points):
    """Whatever the pose, lip corners pulled 1.5 px on the crop move so there, and nothing else."""
    head = shape_head(base_face(), subject_points[1])
    turned = draw_pose(np.random.default_rng(1))
    truth = motion_of_clip(head, draws({12: 1.5}), turned).truth
    aligned_eyes = np.array(
        [[MIDLINE - EYE_DISTANCE / 2, EYE_LINE], [MIDLINE + EYE_DISTANCE / 2, EYE_LINE]]
    )
    right, left = (
        aligned_eyes[0]
        + _similar(
            truth.onset_points[INDEX[f"mouth_corner_{side}"]], truth.onset_eyes, aligned_eyes
        )
        for side in ("right", "left")
    )
    for (x, y), outward in ((right, -1), (left, 1)):
        u, v = truth.flow[:, round(y), round(x)]
        assert np.sign(u) == outward
        assert 0.7 < -v < 2.5
    assert np.hypot(*truth.flow)[:50].max() < 0.15  # brows and eyes


def _similar(point, pair, other_pair):
    """Complex arithmetic: (point - pair[0]) in units of one pair, in units of the other."""
    share = complex(*(point - pair[0])) / complex(*(pair[1] - pair[0]))
    turned = share * complex(*(other_pair[1] - other_pair[0]))
    return np.array([turned.real, turned.imag])


def test_apex_points_are_onset_points_moved_along_the_field(subject_points):
    head = shape_head(base_face(), subject_points[2])
    motion = motion_of_clip(head, draws({1: 1.5}), UPRIGHT)
    moved = motion.truth.apex_points - motion.truth.onset_points
    inner, chin = moved[INDEX["brow_inner_right"]], moved[INDEX["chin_boss"]]
    assert inner[1] < -1
    assert np.abs(chin).max() < 0.01


@pytest.mark.parametrize(
    ("au", "points"),
    [
        (1, ("brow_inner", "brow_body", "forehead_inner", "glabella")),
        (4, ("brow_inner", "brow_body", "glabella")),
        (12, ("mouth_corner", "nasolabial_fold_low", "cheek_beside_mouth", "lower_cheek")),
        (15, ("mouth_corner", "below_mouth_corner", "lower_lip_outer", "upper_lip_outer")),
    ],
)
def test_a_unit_moves_its_own_points_most(au, points, subject_points):
    for subject in subject_points:
        truth = motion_of_clip(shape_head(base_face(), subject), draws({au: 1.5}), UPRIGHT).truth
        moved = np.hypot(*(truth.apex_points - truth.onset_points).T)
        first = [facial_points()[index].name for index in np.argsort(-moved)[:3]]
        assert all(name.removesuffix("_right").removesuffix("_left") in points for name in first)


def test_fields_that_would_fold_the_skin_are_weakened(subject_points):
    head = shape_head(base_face(), subject_points[3])
    truth = motion_of_clip(head, draws(dict.fromkeys(AUS, 20.0)), UPRIGHT).truth
    assert np.hypot(*truth.flow).max() < 6


@given(frames=st.integers(2, 60), seed=st.integers(0, 1000))
def test_a_clip_rises_to_its_apex_and_falls(frames, seed):
    timing = draw_timing(frames, np.random.default_rng(seed))
    assert timing.strength.shape == timing.drift.shape == (frames,)
    assert timing.strength[0] == timing.drift[0] == 0
    assert timing.strength[timing.apex] == timing.drift[timing.apex] == 1
    assert np.argmax(timing.strength) == timing.apex
    assert (np.diff(timing.strength[: timing.apex + 1]) > 0).all()
    assert (np.diff(timing.strength[timing.apex :]) < 0).all()
    assert frames == 2 or 0 < timing.apex < frames - 1


def test_noise_and_light_come_from_the_generator_alone(subject_points):
    face = base_face()
    motion = motion_of_clip(shape_head(face, subject_points[0]), draws({1: 1.0}), UPRIGHT)
    camera = dataclasses.replace(PERFECT, noise=1.0)

    def frames(seed):
        generator = np.random.default_rng(seed)
        texture = skin(face.image, PLAIN, np.random.default_rng(0))
        return np.stack(list(render_frames(texture, motion, ONSET_AND_APEX, camera, generator)))

    first = frames(1)
    assert first.shape == (2, FRAME_SIZE, FRAME_SIZE, 3)
    assert first.dtype == np.uint8
    np.testing.assert_array_equal(first, frames(1))
    assert (first != frames(2)).mean() > 0.5
