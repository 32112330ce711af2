"""Where a micro-expression is in made curves of movement, and how movement is measured."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedpsyau_client.prediction.movement import (
    MOVING_POINTS,
    WATCHED,
    face_movement,
    point_displacements,
    without_head_motion,
)
from fedpsyau_client.prediction.spotting import (
    LEAST_HEIGHT,
    NOISE_FACTOR,
    find_peak,
    noise_of,
    rise_to_last,
    smoothed,
)
from fedpsyau_model.facial_points import canonical_points, facial_points

#: At this speed the Gaussian has its least width, 0.6 frames.
SLOW = 30.0

BUMP = np.array([0, 0.02, 0.02, 0.02, 0.1, 0.3, 0.5, 0.3, 0.1, 0.02, 0.02])


# Curves


def test_a_bump_has_its_apex_at_the_top_and_its_onset_before_the_rise():
    found = find_peak(BUMP, SLOW)
    assert (found.onset, found.apex) == (3, 6)
    assert found.height <= 0.48
    assert found.height == pytest.approx(0.4, abs=0.03)  # smoothing takes the tip


def test_smoothing_keeps_a_level_and_fills_in_the_reference():
    np.testing.assert_allclose(smoothed(np.array([0, 0.3, 0.3, 0.3]), SLOW), 0.3)


def test_smoothing_of_one_frame_spreads_it_as_the_gaussian_says():
    curve = np.zeros(21)
    curve[10] = 1.0
    weights = np.exp(-0.5 * (np.arange(-3, 4) / 0.6) ** 2)
    np.testing.assert_allclose(smoothed(curve, SLOW)[7:14], weights / weights.sum(), atol=1e-12)


def test_faster_recordings_are_smoothed_over_more_frames():
    curve = np.zeros(41)
    curve[20] = 1.0
    assert smoothed(curve, 400)[20] == pytest.approx(1 / (4 * np.sqrt(2 * np.pi)), rel=1e-3)


def test_nothing_stands_out_of_a_flat_curve():
    assert find_peak(np.array([0, 0.04, 0.05, 0.04, 0.05, 0.04]), SLOW) is None


def test_a_rise_that_stays_is_no_micro_expression_but_the_end_of_a_cut_clip():
    ramp = np.array([0, 0.02, 0.02, 0.1, 0.3, 0.5, 0.5, 0.5])
    assert find_peak(ramp, SLOW) is None
    found = find_peak(ramp, SLOW, falls=False)
    assert found.apex >= 5
    assert found.onset == 2


def test_of_two_bumps_the_one_that_rises_and_falls_further_counts():
    two = np.concatenate([BUMP * 0.5, BUMP[1:]])
    assert find_peak(two, SLOW).apex == 10 + 6
    assert find_peak(np.concatenate([BUMP, BUMP[1:] * 0.5]), SLOW).apex == 6


def test_drift_does_not_outweigh_a_bump():
    """The head's share that is left rises to the end; the highest frame is the last one."""
    drifting = BUMP + np.linspace(0, 0.5, len(BUMP))
    long = np.concatenate([drifting, drifting[-1] + 0.05 * np.arange(1, 12)])
    assert long.argmax() == len(long) - 1
    assert find_peak(long, SLOW).apex == 6


def test_a_bump_below_the_floor_is_not_seen_however_quiet_the_rest():
    shape = np.where(BUMP > 0.05, BUMP - 0.02, 0.0)
    height = find_peak(shape, SLOW).height
    assert find_peak(shape * (LEAST_HEIGHT / height) * 0.99, SLOW) is None
    assert find_peak(shape * (LEAST_HEIGHT / height) * 1.01, SLOW) is not None


def test_noise_raises_what_is_asked_for():
    # Values that jump by d each way have second differences of 2 d.
    jumps = np.concatenate([[0], np.tile([0.1, 0.2], 10)])
    expected = 0.2 / (0.31864 * np.sqrt(6))
    assert noise_of(jumps) == pytest.approx(expected)
    jumps[8] += 0.3
    assert find_peak(jumps, SLOW) is None
    jumps[8] += 3
    assert find_peak(jumps, SLOW).threshold == pytest.approx(NOISE_FACTOR * noise_of(jumps))


def test_noise_of_normal_numbers_is_their_spread():
    curve = np.random.default_rng(0).normal(0, 0.03, 20_000)
    assert noise_of(curve) == pytest.approx(0.03, rel=0.03)


@pytest.mark.parametrize("length", [2, 3])
def test_the_shortest_curves(length):
    curve = np.array([0, 0.02, 0.5])[:length]
    assert find_peak(curve, SLOW) is None
    found = find_peak(curve, SLOW, falls=False)
    assert (found is None) == (length == 2)


def test_an_apex_that_is_given_keeps_its_frame_and_gets_an_onset():
    found = rise_to_last(BUMP[:7], SLOW)
    assert (found.onset, found.apex) == (3, 6)
    assert rise_to_last(np.array([0, 0.04, 0.05, 0.04]), SLOW) is None


def test_the_onset_is_at_most_half_a_second_before_the_apex():
    slow_rise = np.concatenate([[0, 0.01], np.linspace(0.2, 1.0, 40), np.linspace(1, 0.01, 10)])
    found = find_peak(slow_rise, fps=20.0)
    assert found.apex - found.onset == 10


@given(
    st.lists(st.floats(0, 5), min_size=2, max_size=60),
    st.sampled_from([10.0, 30.0, 200.0]),
    st.booleans(),
)
@settings(max_examples=200, deadline=None)
def test_whatever_the_curve_the_onset_is_before_the_apex(values, fps, falls):
    found = find_peak(np.array(values), fps, falls)
    if found is not None:
        assert 0 <= found.onset < found.apex < len(values)
        assert found.apex - found.onset <= max(round(fps / 2), 1)
        assert found.height >= found.threshold >= LEAST_HEIGHT


# Movement


POINTS = canonical_points().astype(float)


def test_an_affine_map_of_the_whole_head_is_no_movement():
    linear = np.array([[0.01, -0.02], [0.015, 0.005]])
    moved = POINTS @ linear.T + [1.5, -0.7]
    np.testing.assert_allclose(without_head_motion(moved[None], POINTS), 0, atol=1e-12)
    assert face_movement(moved[None], POINTS)[0] == pytest.approx(0, abs=1e-12)


def test_a_brow_that_moves_alone_keeps_its_movement_while_the_head_shifts():
    moved = np.tile([[2.0, 1.0]], (len(POINTS), 1))
    brows = [point.index for point in facial_points() if point.name.startswith("brow_")]
    moved[brows] += [0.0, -1.0]
    left = without_head_motion(moved[None], POINTS)[0]
    others = [index for index in range(len(POINTS)) if index not in brows]
    np.testing.assert_allclose(left[brows], [[0, -1]] * len(brows), atol=0.05)
    np.testing.assert_allclose(left[others], 0, atol=0.05)


def test_movement_is_the_mean_of_the_points_that_move_most():
    generator = np.random.default_rng(1)
    moved = np.zeros((1, len(POINTS), 2))
    few = generator.choice(WATCHED, 3, replace=False)
    moved[0, few, 0] = 1.2
    assert face_movement(moved, POINTS)[0] == pytest.approx(3 * 1.2 / MOVING_POINTS, rel=0.05)


def test_a_blink_is_not_watched():
    lids = [point.index for point in facial_points() if "lid" in point.name]
    assert len(lids) == 8
    assert not set(lids) & set(WATCHED)
    moved = np.zeros((1, len(POINTS), 2))
    moved[0, lids, 1] = 5.0
    assert face_movement(moved, POINTS)[0] == pytest.approx(0, abs=1e-9)


def test_frames_do_not_see_each_other():
    moved = np.random.default_rng(2).normal(size=(4, len(POINTS), 2))
    together = face_movement(moved, POINTS)
    np.testing.assert_allclose(together, [face_movement(each[None], POINTS)[0] for each in moved])


def test_displacements_are_means_over_patches_in_pixels_of_the_small_crop():
    flow = np.zeros((2, 256, 256), np.float32)
    flow[0], flow[1] = 4.0, -2.0  # of 256 pixels: 2 and -1 of 128
    found = point_displacements(flow, POINTS)
    np.testing.assert_allclose(found, np.tile([[2.0, -1.0]], (len(POINTS), 1)))
