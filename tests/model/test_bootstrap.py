"""The bootstrap over subjects, against cases worked out by hand and a known distribution."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from fedpsyau_model.bootstrap import (
    counts_by_subject,
    drawn_subjects,
    percentile_interval,
    resampled,
    two_sided_p,
)
from fedpsyau_model.metrics import accuracy_of_each, confusion_matrix, uar_of_each, uf1_of_each


def test_counts_of_a_subject_add_up():
    counts = counts_by_subject(np.array([1, 0, 1, 2]), [[1, 0], [0, 3], [4, 1], [0, 0]])
    np.testing.assert_array_equal(counts, [[0, 3], [5, 1], [0, 0]])


def test_every_resample_has_as_many_subjects_as_there_are():
    drawn = drawn_subjects(7, 500, np.random.default_rng(0))
    assert drawn.shape == (500, 7)
    assert (drawn.sum(axis=1) == 7).all()
    # Each subject is drawn once on average; the mean of 500 has a standard error of 0.04.
    np.testing.assert_allclose(drawn.mean(axis=0), 1, atol=0.2)


def test_the_same_seed_draws_the_same():
    first, second, other = (
        drawn_subjects(5, 20, np.random.default_rng(seed)) for seed in (3, 3, 4)
    )
    np.testing.assert_array_equal(first, second)
    assert (first != other).any()


def test_two_subjects_by_hand():
    # Subject a: 1 of 1 right; b: 1 of 3. Of the resamples aa, ab, ba, bb the accuracies are
    # 2/2, 2/4, 2/4 and 2/6; in the order (twice a, both, twice b):
    counts = np.array([[[1, 0], [0, 0]], [[0, 2], [0, 1]]])
    drawn = np.array([[2, 0], [1, 1], [0, 2]])
    confusions = resampled(counts, drawn)
    np.testing.assert_array_equal(confusions[0], [[2, 0], [0, 0]])
    np.testing.assert_array_equal(confusions[1], [[1, 2], [0, 1]])
    np.testing.assert_allclose(accuracy_of_each(confusions), [1, 1 / 2, 1 / 3])
    # Twice a: class 1 neither occurs nor is predicted, and is left out.
    # Both: F1 2/(2+2) and 2/(2+2); recall 1/3 and 1. Twice b: F1 0/(4+0), and 4/(4+4).
    # Recall 0/4 and 2/2.
    np.testing.assert_allclose(uf1_of_each(confusions), [1, 1 / 2, (0 + 1 / 2) / 2])
    np.testing.assert_allclose(uar_of_each(confusions), [1, (1 / 3 + 1) / 2, 1 / 2])


def test_shares_of_resamples_are_those_of_all_equally_likely_ones():
    # Three subjects, of whom one is always right: the accuracy is its share of the draws.
    right = np.array([[[1, 0], [0, 0]], [[0, 1], [0, 0]], [[0, 1], [0, 0]]])
    drawn = drawn_subjects(3, 20_000, np.random.default_rng(1))
    found = accuracy_of_each(resampled(right, drawn))
    draws = itertools.product((1, 0, 0), repeat=3)
    exact = np.array([sum(draw) / 3 for draw in draws])
    for share in (0, 1 / 3, 2 / 3, 1):
        expected = np.isclose(exact, share).mean()
        assert np.isclose(found, share).mean() == pytest.approx(expected, abs=0.015)


@given(npst.arrays(np.int64, (4, 30), elements=st.integers(0, 2)), st.integers(0, 2**32 - 1))
def test_a_resample_scores_as_its_clips_do(case, seed):
    # The counts of a resample equal those of a list of clips in which subjects are repeated.
    truth, predicted, subject, _ = case
    subject = subject % 3
    counts = np.zeros((3, 3, 3), dtype=np.int64)
    np.add.at(counts, (subject, truth, predicted), 1)
    drawn = drawn_subjects(3, 2, np.random.default_rng(seed))
    for each, confusion in zip(drawn, resampled(counts, drawn), strict=True):
        rows = np.concatenate(
            [np.flatnonzero(subject == s) for s in range(3) for _ in range(each[s])]
        )
        rows = rows.astype(int)
        np.testing.assert_array_equal(confusion, confusion_matrix(truth[rows], predicted[rows], 3))


def test_the_interval_is_between_percentiles_and_leaves_out_what_is_undefined():
    scores = np.concatenate([np.arange(101) / 100, [np.nan] * 50])
    assert percentile_interval(scores) == pytest.approx((0.025, 0.975))
    assert percentile_interval(scores, 0.5) == pytest.approx((0.25, 0.75))
    assert np.isnan(percentile_interval([np.nan])).all()


@pytest.mark.parametrize(
    ("differences", "p"),
    [
        ([1.0] * 99, 2 / 100),
        ([-1.0] * 99, 2 / 100),
        ([0.0] * 99, 1),
        ([1.0] * 95 + [-1.0] * 4, 2 * 5 / 100),
        ([1.0] * 95 + [0.0] * 4, 2 * 5 / 100),
        ([1.0, -1.0] * 50 + [np.nan], 1),
    ],
)
def test_p_by_hand(differences, p):
    assert two_sided_p(differences) == pytest.approx(p)


def test_p_of_nothing_is_undefined():
    assert np.isnan(two_sided_p([np.nan]))


def test_intervals_cover_the_truth_about_as_often_as_they_say():
    # Subjects with accuracies of their own around 0.6, five clips each: clips of a subject
    # resemble each other, which a bootstrap over clips would miss.
    generator = np.random.default_rng(0)
    hits = narrow = 0
    trials = 300
    for _ in range(trials):
        skill = generator.beta(3, 2, size=60)
        right = generator.binomial(5, skill)
        counts = np.zeros((60, 2, 2))
        counts[:, 0, 0], counts[:, 0, 1] = right, 5 - right
        scores = accuracy_of_each(resampled(counts, drawn_subjects(60, 400, generator)))
        low, high = percentile_interval(scores)
        hits += low <= 0.6 <= high
        clipwise = generator.binomial(300, right.sum() / 300, size=400) / 300
        low, high = percentile_interval(clipwise)
        narrow += low <= 0.6 <= high
    # 0.95 +- 3 standard errors of 0.0126; percentiles of 60 subjects fall a bit short of it.
    assert 0.90 <= hits / trials <= 0.985
    assert narrow < hits - 15
