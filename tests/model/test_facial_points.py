import numpy as np

from fedpsyau_model.action_units import AU_GROUP_SIZES, POINT_COUNT
from fedpsyau_model.facial_points import (
    CROP_SIZE,
    MIDLINE,
    canonical_points,
    facial_points,
    group_point_indices,
    landmark_indices,
    mirror_indices,
)


def position(name):
    return next(np.array([p.x, p.y]) for p in facial_points() if p.name == name)


def test_groups_have_the_published_sizes_and_cover_every_point():
    groups = group_point_indices()
    assert tuple(len(group) for group in groups) == AU_GROUP_SIZES
    assert sum(len(group) for group in groups) == 161
    assert set().union(*groups) == set(range(POINT_COUNT))
    assert all(list(group) == sorted(set(group)) for group in groups)


def test_points_are_numbered_in_order_and_no_landmark_is_used_twice():
    assert [point.index for point in facial_points()] == list(range(POINT_COUNT))
    assert len(set(landmark_indices())) == POINT_COUNT
    assert all(0 <= landmark < 468 for landmark in landmark_indices())
    assert len({point.name for point in facial_points()}) == POINT_COUNT


def test_face_is_symmetric_about_the_mid_line():
    points = canonical_points()
    mirrored = points[list(mirror_indices())]
    np.testing.assert_allclose(points[:, 0] + mirrored[:, 0], 2 * MIDLINE, atol=0.11)
    np.testing.assert_allclose(points[:, 1], mirrored[:, 1], atol=1e-6)


def test_the_subjects_right_is_at_small_x():
    for point in facial_points():
        assert (point.x < MIDLINE) == (point.side == "right")
        assert (point.x > MIDLINE) == (point.side == "left")


def test_a_pair_belongs_to_the_same_groups():
    points = facial_points()
    assert all(points[mirror_indices()[p.index]].groups == p.groups for p in points)


def test_patches_of_all_points_lie_inside_the_crop():
    points = canonical_points()
    assert points.dtype == np.float32
    assert points.shape == (POINT_COUNT, 2)
    assert points.min() >= 2
    assert points.max() <= CROP_SIZE - 3


def test_face_stands_upright():
    heights = [
        position(name)[1]
        for name in (
            "forehead_centre",
            "brow_body_left",
            "upper_lid_left",
            "lower_lid_left",
            "nose_wing_left",
            "upper_lip_centre",
            "lower_lip_centre",
            "chin_boss",
        )
    ]
    assert heights == sorted(heights)


def test_each_group_looks_where_its_muscles_pull():
    points = facial_points()
    names = [{points[i].name for i in group} for group in group_point_indices()]
    assert {"brow_inner_left", "brow_tail_right", "glabella", "forehead_centre"} <= names[0]
    assert {"upper_lid_left", "lower_lid_right", "cheek_left"} <= names[1]
    assert {"nose_side_left", "nose_wing_right", "upper_lip_centre"} <= names[2]
    assert {"mouth_corner_left", "chin_boss", "nasolabial_fold_right"} <= names[3]
    assert not any(name.startswith(("brow", "upper_lid")) for name in names[3])
