import numpy as np
import pytest

from fedpsyau_client.synthetic.action_unit_fields import (
    AU_PULLS,
    affine_field,
    anchored_field,
    smooth_field,
)
from fedpsyau_model.action_units import AUS
from fedpsyau_model.facial_points import canonical_points, facial_points
from fedpsyau_model.motion import optical_strain

MOVEMENTS = len(AUS) + 2
INDEX = {point.name: point.index for point in facial_points()}


def field_of(movement, sides=(1.0, 1.0), turn=0.0):
    strength = np.zeros((1, MOVEMENTS, 2), np.float32)
    strength[0, movement] = sides
    turns = np.full((1, MOVEMENTS), turn, np.float32)
    spread = np.ones(1, np.float32)
    return anchored_field(strength, turns, spread, canonical_points()[None])[0]


def at(field, name):
    x, y = np.rint(canonical_points()[INDEX[name]]).astype(int)
    return field[:, y, x]


@pytest.mark.parametrize(
    ("au", "point", "outward", "down"),
    [
        (1, "brow_inner", 0, -1),
        (2, "brow_tail", 0, -1),
        (4, "brow_inner", -1, 1),
        (5, "upper_lid", 0, -1),
        (6, "cheek", 0, -1),
        (7, "lower_lid", 0, -1),
        (7, "upper_lid", 0, 1),
        (9, "nose_wing", 0, -1),
        (10, "upper_lip_peak", 0, -1),
        (12, "mouth_corner", 1, -1),
        (14, "mouth_corner", -1, 0),
        (15, "mouth_corner", 0, 1),
        (17, "chin_side", 0, -1),
    ],
)
def test_each_unit_pulls_where_facs_says(au, point, outward, down):
    field = field_of(AUS.index(au))
    for side, sign in (("right", -1), ("left", 1)):
        u, v = at(field, f"{point}_{side}")
        if outward:
            assert np.sign(u) == sign * outward
            assert abs(u) > 0.3
        if down:
            assert np.sign(v) == down
            assert abs(v) > 0.3


def test_every_unit_has_a_movement_and_leaves_the_other_half_of_the_face_alone():
    assert set(AU_PULLS) == set(AUS)
    brows, chin = field_of(AUS.index(1)), field_of(AUS.index(17))
    assert np.abs(brows[:, 64:]).max() < 0.01
    assert np.abs(chin[:, :64]).max() < 0.01


def test_a_face_moves_as_its_mirror_image():
    for movement in range(MOVEMENTS):
        field = field_of(movement, turn=0.3)
        mirrored = field[:, :, ::-1] * np.array([-1, 1])[:, None, None]
        np.testing.assert_allclose(field, mirrored, atol=1e-4)


def test_a_one_sided_unit_moves_one_side():
    smile = field_of(AUS.index(12), sides=(1.0, 0.0))
    assert np.hypot(*at(smile, "mouth_corner_right")) > 0.5
    assert np.hypot(*at(smile, "mouth_corner_left")) < 0.05


def test_a_bump_worked_out_by_hand():
    """AU5 at (20, 30) only: v = -s (0.9 g4(point) + 0.4 g4(fold)) with all other points far off."""
    points = np.full((1, 65, 2), -1000, np.float32)
    points[0, INDEX["upper_lid_right"]] = (20, 30)
    points[0, INDEX["upper_lid_fold_right"]] = (20, 26)
    strength = np.zeros((1, MOVEMENTS, 2), np.float32)
    strength[0, AUS.index(5)] = 2.0
    zeros = np.zeros((1, MOVEMENTS), np.float32)
    reach = AU_PULLS[5][0].reach
    field = anchored_field(strength, zeros, np.ones(1, np.float32), points)[0]

    def bell(d):
        return np.exp(-0.5 * (d / reach) ** 2)

    assert field[1, 30, 20] == pytest.approx(-2 * (0.9 + 0.4 * bell(4)), rel=1e-5)
    assert field[1, 30, 23] == pytest.approx(-2 * (0.9 + 0.4 * bell(4)) * bell(3), rel=1e-5)
    assert not field[0].any()


def test_a_turned_head_has_no_strain_and_a_stretched_one_has():
    rotation = np.array([[[0, 0.01], [-0.01, 0]]], np.float32)
    assert optical_strain(affine_field(np.ones((1, 2), np.float32), rotation)).max() < 1e-4
    stretch = np.array([[[0.01, 0], [0, 0]]], np.float32)
    field = affine_field(np.zeros((1, 2), np.float32), stretch)
    assert field[0, 0, 0, 127] == pytest.approx(0.635)
    np.testing.assert_allclose(optical_strain(field), 0.01, atol=1e-5)


def test_smooth_noise_passes_through_its_nodes():
    nodes = np.random.default_rng(0).normal(size=(1, 2, 2, 2)).astype(np.float32)
    field = smooth_field(nodes)
    np.testing.assert_allclose(field[..., ::127, ::127], nodes, atol=1e-6)
    assert field[0, 0].mean() == pytest.approx(nodes[0, 0].mean(), abs=1e-5)
