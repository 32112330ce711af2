"""Spread, Holm's correction and the two tests, against numbers worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedpsyau_experiments.paper.statistics import (
    holm,
    mean_scores,
    paired_difference,
    sign_flip_p,
    smallest_sign_flip_p,
    spread,
)
from fedpsyau_model.metrics import accuracy_of_each, uf1_of_each

shares = st.floats(0, 1, allow_nan=False)


def test_the_mean_and_spread_of_three_seeds() -> None:
    found = spread([0.2, 0.4, 0.9])
    assert found.values == (0.2, 0.4, 0.9)
    assert found.mean == pytest.approx(0.5)
    # Squares 0.09 + 0.01 + 0.16 = 0.26, over n - 1 = 2.
    assert found.sd == pytest.approx(math.sqrt(0.13))


def test_what_is_not_defined_is_left_out() -> None:
    found = spread([0.2, math.nan, 0.4])
    assert found.mean == pytest.approx(0.3)
    assert found.sd == pytest.approx(math.sqrt(0.02))
    assert math.isnan(spread([0.7]).sd)
    assert spread([0.7]).mean == 0.7
    assert math.isnan(spread([math.nan]).mean)


def test_holm_by_hand() -> None:
    # Sorted .01 .02 .03 .04, times 4 3 2 1: .04 .06 .06 .04; none below the one before: .06.
    assert holm([0.04, 0.01, 0.03, 0.02]) == pytest.approx((0.06, 0.04, 0.06, 0.06))
    # 0.5 * 2 = 1; the larger one stays at 1.
    assert holm([0.9, 0.5]) == (1.0, 1.0)
    assert holm([0.03]) == (0.03,)
    assert holm([]) == ()


def test_holm_leaves_out_what_is_no_test() -> None:
    first, second, third = holm([0.02, math.nan, 0.01])
    assert (first, third) == (0.02, 0.02)
    assert math.isnan(second)


@given(st.lists(shares, max_size=8))
def test_holm_lies_between_the_p_value_and_bonferroni(p: list[float]) -> None:
    for plain, adjusted in zip(p, holm(p), strict=True):
        assert plain <= adjusted <= min(1.0, len(p) * plain)


def test_signs_by_hand() -> None:
    # 1 + 2 + 3 = 6; of 8 choices of signs only +++ and --- are as far from 0.
    assert sign_flip_p([1, 2, 3]) == 2 / 8
    # 3 - 1 = 2: the sums are 4, 2, -2 and -4.
    assert sign_flip_p([3, -1]) == 1
    assert sign_flip_p([0.1, 0.2, 0.3, 0.4, 0.5, 0.6]) == 2 / 64 == smallest_sign_flip_p(6)
    assert sign_flip_p([0, 0]) == sign_flip_p([5]) == smallest_sign_flip_p(1) == 1
    assert sign_flip_p([1, math.nan, 2]) == 2 / 4
    assert math.isnan(sign_flip_p([math.nan]))


@given(st.lists(st.floats(-1, 1, allow_nan=False), min_size=1, max_size=6))
def test_signs_do_not_depend_on_the_side(differences: list[float]) -> None:
    assert sign_flip_p(differences) == sign_flip_p([-each for each in differences])
    assert smallest_sign_flip_p(len(differences)) <= sign_flip_p(differences) <= 1


def matrices(*accuracies: float) -> np.ndarray:
    """Four clips of the first of two classes for each subject, so many of them right."""
    return np.array([[[4 * a, 4 - 4 * a], [0, 0]] for a in accuracies]).astype(np.int64)


def test_scores_of_resamples_are_means_over_seeds() -> None:
    seeds = [matrices(1, 0.5), matrices(0.5, 0)]
    drawn = np.array([[1, 1], [2, 0], [0, 2]])
    found = mean_scores(seeds, drawn, accuracy_of_each)
    assert found == pytest.approx([(0.75 + 0.25) / 2, (1 + 0.5) / 2, (0.5 + 0) / 2])


def test_a_seed_that_a_resample_does_not_test_is_left_out_of_it() -> None:
    seeds = [matrices(1, 0.5), matrices(0, 0)]
    seeds[1][0] = 0  # the first subject is not held out with the second seed
    found = mean_scores(seeds, np.array([[2, 0]]), uf1_of_each)
    assert found == pytest.approx([1])


def test_the_difference_is_that_of_every_subject_once_with_its_interval() -> None:
    reference = np.array([0.5, 0.4, 0.6, 0.5, 0.5])
    found = paired_difference(reference, reference + np.array([0.1, 0.05, 0.1, 0.15, 0.2]))
    assert found.value == pytest.approx(0.1)
    assert 0.05 <= found.low < found.high <= 0.2
    assert found.p == pytest.approx(2 / 5)  # none of 4 at or below 0: 2 (0 + 1) / (4 + 1)
