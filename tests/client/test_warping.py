"""Fields and their inverses, against interpolation by SciPy and numbers worked out by hand."""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter, map_coordinates

from fedpsyau_client.synthetic.rendering.warping import (
    STEEPEST,
    field_at_points,
    inverse_displacement,
    pixel_grid,
    similarity,
    transform_points,
    transformed_field,
    without_folds,
)

SIZE = 96


def smooth_random_field(seed, amplitude):
    noise = np.random.default_rng(seed).normal(size=(SIZE, SIZE, 2))
    field = gaussian_filter(noise, sigma=(4, 4, 0))
    return (amplitude * field / np.abs(field).max()).astype(np.float32)


def steepness(field):
    rows, columns = np.gradient(field, axis=(0, 1))
    return np.sqrt((rows**2 + columns**2).sum(axis=-1)).max()


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("amplitude", [0.5, 3.0, 50.0])
def test_what_moves_forward_comes_back(seed, amplitude):
    field = without_folds(smooth_random_field(seed, amplitude))
    grid = pixel_grid(SIZE)
    came_from = (grid + inverse_displacement(field)).astype(np.float64)
    places = came_from[..., ::-1].transpose(2, 0, 1)  # SciPy counts rows first
    moved = np.stack(
        [map_coordinates(field[..., i].astype(float), places, order=1) for i in (0, 1)], axis=-1
    )
    inside = ((came_from > 0) & (came_from < SIZE - 1)).all(axis=-1)
    assert inside.mean() > 0.9
    assert np.abs(came_from + moved - grid)[inside].max() < 0.05


def test_the_inverse_of_a_shift_and_of_a_growth():
    shift = np.tile(np.float32([1.25, -2.0]), (SIZE, SIZE, 1))
    np.testing.assert_allclose(inverse_displacement(shift), -shift, atol=1e-6)
    middle = (SIZE - 1) / 2
    growth = ((1.1 - 1) * (pixel_grid(SIZE) - middle)).astype(np.float32)
    expected = (1 / 1.1 - 1) * (pixel_grid(SIZE) - middle)
    np.testing.assert_allclose(
        inverse_displacement(growth)[8:-8, 8:-8], expected[8:-8, 8:-8], atol=0.01
    )


def test_steep_fields_are_weakened_as_a_whole_and_others_left_alone():
    steep = smooth_random_field(0, 50.0)
    mended = without_folds(steep)
    assert steepness(steep) > 1
    assert steepness(mended) == pytest.approx(STEEPEST, rel=1e-4)
    ratio = mended[np.abs(steep) > 1] / steep[np.abs(steep) > 1]
    assert np.ptp(ratio) < 1e-5
    gentle = smooth_random_field(0, 0.5)
    np.testing.assert_array_equal(without_folds(gentle), gentle)
    still = np.zeros_like(gentle)
    np.testing.assert_array_equal(without_folds(still), still)


def test_a_similarity_takes_its_two_points_there():
    matrix = similarity(np.array([[0.0, 0.0], [1.0, 0.0]]), np.array([[3.0, 4.0], [3.0, 6.0]]))
    # A quarter turn, x to y, at twice the size; then the shift.
    np.testing.assert_allclose(matrix, [[0, -2, 3], [2, 0, 4]], atol=1e-12)
    np.testing.assert_allclose(transform_points(matrix, np.array([[1.0, 1.0]])), [[1, 6]])


def test_a_field_turns_and_grows_with_its_place():
    field = np.zeros((SIZE, SIZE, 2), np.float32)
    field[40, 30] = (1.0, 0.5)  # x = 30, y = 40
    quarter_turn = np.array([[0.0, -2.0, 120.0], [2.0, 0.0, -10.0]])
    seen = transformed_field(field, quarter_turn, SIZE)
    np.testing.assert_allclose(seen[50, 40], [-1.0, 2.0], atol=1e-6)  # -2 * 40 + 120, 2 * 30 - 10


def test_values_between_pixels_are_bilinear():
    ramp = np.stack([pixel_grid(8)[..., 0], 2 * pixel_grid(8)[..., 1]], axis=-1)
    points = np.array([[1.5, 2.25], [0.0, 7.0]])
    np.testing.assert_allclose(field_at_points(ramp, points), [[1.5, 4.5], [0.0, 14.0]], atol=1e-6)
