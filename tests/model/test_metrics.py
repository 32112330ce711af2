import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from sklearn import metrics as sk

from fedpsyau_model.metrics import (
    accuracy,
    accuracy_of_each,
    au_counts,
    au_f1,
    au_outcomes,
    confusion_matrices,
    confusion_matrix,
    f1_by_class,
    mean_of_defined,
    recall_by_class,
    uar,
    uar_of_each,
    uf1,
    uf1_of_each,
)

#: Rows the true class. Class 2 is never predicted, class 3 does not occur at all.
CONFUSION = np.array([[5, 1, 0, 0], [2, 2, 0, 0], [1, 0, 0, 0], [0, 0, 0, 0]])


@st.composite
def labels(draw):
    class_count = draw(st.integers(1, 7))
    pairs = draw(
        st.lists(
            st.tuples(st.integers(0, class_count - 1), st.integers(0, class_count - 1)),
            min_size=1,
            max_size=60,
        )
    )
    truth, predicted = zip(*pairs, strict=True)
    return class_count, list(truth), list(predicted)


def test_scores_by_hand():
    # F1: 2*5/(6+8), 2*2/(4+3), 0/(1+0); recall: 5/6, 2/4, 0/1.
    assert uf1(CONFUSION) == pytest.approx((10 / 14 + 4 / 7 + 0) / 3)
    assert uar(CONFUSION) == pytest.approx((5 / 6 + 1 / 2 + 0) / 3)
    assert accuracy(CONFUSION) == pytest.approx(7 / 11)


def test_a_class_that_is_predicted_but_does_not_occur_counts_for_uf1_only():
    confusion = [[3, 1], [0, 0]]
    assert uf1(confusion) == pytest.approx((6 / 7 + 0) / 2)
    assert uar(confusion) == pytest.approx(3 / 4)


@pytest.mark.filterwarnings("ignore:A single label was found")
@given(labels())
def test_scores_agree_with_scikit_learn(case):
    class_count, truth, predicted = case
    confusion = confusion_matrix(truth, predicted, class_count)
    expected = sk.confusion_matrix(truth, predicted, labels=range(class_count))
    np.testing.assert_array_equal(confusion, expected)
    either = sorted(set(truth) | set(predicted))
    f1 = sk.f1_score(truth, predicted, labels=either, average="macro", zero_division=0)
    assert uf1(confusion) == pytest.approx(f1)
    recall = sk.recall_score(truth, predicted, labels=sorted(set(truth)), average="macro")
    assert uar(confusion) == pytest.approx(recall)
    assert accuracy(confusion) == pytest.approx(sk.accuracy_score(truth, predicted))


@given(labels(), st.integers(0, 60))
def test_counts_of_two_sites_add_up(case, cut):
    class_count, truth, predicted = case
    parts = [
        confusion_matrix(truth[part], predicted[part], class_count)
        for part in (slice(cut), slice(cut, None))
    ]
    np.testing.assert_array_equal(sum(parts), confusion_matrix(truth, predicted, class_count))


def test_no_clips_no_score():
    confusion = confusion_matrix([], [], 3)
    assert confusion.shape == (3, 3)
    assert all(math.isnan(score(confusion)) for score in (uf1, uar, accuracy))


@pytest.mark.parametrize(
    ("truth", "predicted", "message"),
    [
        ([0, 3], [0, 1], "class 3 is not one of 0 to 2"),
        ([0, 1], [0, -1], "class -1 is not one of 0 to 2"),
        ([0, 1], [0], "2 true classes but 1"),
        ([[0], [1]], [0, 1], "one-dimensional"),
    ],
)
def test_labels_that_make_no_sense_are_refused(truth, predicted, message):
    with pytest.raises(ValueError, match=message):
        confusion_matrix(truth, predicted, 3)


def test_au_scores_by_hand():
    truth = np.array([[1, 0, 0], [1, 1, 0], [0, 1, 0], [1, 0, 0]])
    predicted = np.array([[1, 0, 0], [0, 1, 0], [1, 1, 0], [1, 0, 0]], dtype=bool)
    counts = au_counts(truth, predicted)
    np.testing.assert_array_equal(counts, [[2, 1, 1], [2, 0, 0], [0, 0, 0]])
    np.testing.assert_allclose(au_f1(counts), [4 / 6, 1, np.nan])


@given(npst.arrays(bool, st.tuples(st.just(2), st.integers(1, 30), st.just(12))))
def test_au_scores_agree_with_scikit_learn(case):
    truth, predicted = case
    expected = sk.f1_score(truth, predicted, average=None, zero_division=np.nan)
    np.testing.assert_allclose(au_f1(au_counts(truth, predicted)), expected)


def test_au_labels_and_predictions_must_match():
    with pytest.raises(ValueError, match="do not match"):
        au_counts(np.ones((2, 12)), np.ones((3, 12)))


@given(npst.arrays(np.int64, (2, 4, 3, 3), elements=st.integers(0, 2)))
def test_scores_of_many_matrices_are_those_of_each(confusions):
    for many, one in ((uf1_of_each, uf1), (uar_of_each, uar), (accuracy_of_each, accuracy)):
        expected = [[one(each) for each in row] for row in confusions]
        np.testing.assert_allclose(many(confusions), expected)


@pytest.mark.filterwarnings("ignore")
@given(labels())
def test_scores_by_class_agree_with_scikit_learn(case):
    class_count, truth, predicted = case
    confusion = confusion_matrix(truth, predicted, class_count)
    classes = list(range(class_count))
    # Where a class is absent scikit-learn is told to say NaN, which is our rule.
    options = {"labels": classes, "average": None, "zero_division": np.nan}
    f1, recall = (
        sk.f1_score(truth, predicted, **options),
        sk.recall_score(truth, predicted, **options),
    )
    np.testing.assert_allclose(f1_by_class(confusion), f1)
    np.testing.assert_allclose(recall_by_class(confusion), recall)


@given(labels(), st.integers(1, 4))
def test_matrices_by_group_are_those_of_each_group(case, groups):
    class_count, truth, predicted = case
    group = np.arange(len(truth)) % groups
    found = confusion_matrices(truth, predicted, group, class_count, groups)
    for each in range(groups):
        rows = group == each
        expected = confusion_matrix(np.array(truth)[rows], np.array(predicted)[rows], class_count)
        np.testing.assert_array_equal(found[each], expected)


def test_groups_must_fit_the_clips():
    with pytest.raises(ValueError, match="1 groups"):
        confusion_matrices([0, 1], [0, 1], [0], 2, 1)


def test_outcomes_of_clips_by_hand():
    truth, predicted = (
        np.array([[True, True, False, False, True]]),
        np.array([[True, False, True, False, True]]),
    )
    known = np.array([[True, True, True, True, False]])
    expected = [[[1, 0, 0], [0, 0, 1], [0, 1, 0], [0, 0, 0], [0, 0, 0]]]
    np.testing.assert_array_equal(au_outcomes(truth, predicted, known), expected)


def test_a_mean_over_what_is_defined():
    np.testing.assert_allclose(mean_of_defined([[1, np.nan, 0], [np.nan] * 3]), [0.5, np.nan])
