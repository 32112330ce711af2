import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedpsyau_client.splits import (
    k_fold_by_subject,
    leave_one_subject_out,
    partition_subjects,
    split_by_subject,
)
from fedpsyau_model.errors import TooFewSubjectsError

SEEDS = st.integers(0, 2**31 - 1)


@st.composite
def subject_columns(draw, least=2):
    """Clips of at least `least` subjects, in any order."""
    pool = [f"s{number:02}" for number in range(draw(st.integers(least, 12)))]
    repeats = draw(st.lists(st.sampled_from(pool), max_size=40))
    return np.array(draw(st.permutations(pool + repeats)))


def generator(seed):
    return np.random.default_rng(seed)


def assert_sound(split, subjects):
    """Every clip exactly once, in ascending order, and no subject on both sides."""
    assert np.array_equal(
        np.sort(np.concatenate([split.train, split.test])), np.arange(len(subjects))
    )
    assert np.array_equal(split.train, np.sort(split.train))
    assert np.array_equal(split.test, np.sort(split.test))
    assert not set(subjects[split.train]) & set(subjects[split.test])
    assert len(split.train)
    assert len(split.test)


@given(subject_columns(), st.floats(0.01, 0.99), SEEDS, st.booleans())
def test_split_is_sound_at_any_seed(subjects, share, seed, with_labels):
    labels = np.arange(len(subjects)) % 3 if with_labels else None
    assert_sound(split_by_subject(subjects, share, generator(seed), labels), subjects)


@given(subject_columns(), SEEDS, st.data())
def test_split_does_not_depend_on_the_order_of_the_clips(subjects, seed, data):
    labels = np.array([name[-1] for name in subjects])
    order = np.array(data.draw(st.permutations(range(len(subjects)))))
    for given_labels in (None, labels):
        shuffled = None if given_labels is None else given_labels[order]
        first = split_by_subject(subjects, 0.3, generator(seed), given_labels)
        second = split_by_subject(subjects[order], 0.3, generator(seed), shuffled)
        assert set(subjects[first.test]) == set(subjects[order][second.test])


def test_share_counts_subjects_not_clips():
    subjects = np.array(["big"] * 90 + [f"s{number}" for number in range(9)])
    split = split_by_subject(subjects, 0.3, generator(1))
    assert len(set(subjects[split.test])) == 3
    assert len(set(subjects[split.train])) == 7


@pytest.mark.parametrize("share", [0.01, 0.99])
def test_both_sides_keep_a_subject_at_extreme_shares(share):
    subjects = np.array(["a", "b", "c"])
    split = split_by_subject(subjects, share, generator(0))
    assert (len(split.train), len(split.test)) == ((2, 1) if share < 0.5 else (1, 2))


def test_same_seed_same_split_and_another_seed_another():
    subjects = np.repeat([f"s{number:02}" for number in range(30)], 4)
    tests = [tuple(split_by_subject(subjects, 0.3, generator(seed)).test) for seed in (5, 5, 6)]
    assert tests[0] == tests[1]
    assert tests[0] != tests[2]


@given(SEEDS)
def test_a_rare_class_is_kept_on_both_sides(seed):
    # Only two of ten subjects show the rare class; a plain division often puts both on one side.
    subjects = np.repeat([f"s{number}" for number in range(10)], 5)
    labels = np.where(np.isin(subjects, ["s3", "s8"]), "rare", "common")
    split = split_by_subject(subjects, 0.3, generator(seed), labels)
    assert "rare" in labels[split.train]
    assert "rare" in labels[split.test]


@given(SEEDS)
def test_a_class_of_a_single_subject_is_trained_on(seed):
    subjects = np.repeat(["a", "b", "c", "d"], 3)
    labels = np.where(subjects == "c", 1, 0)
    split = split_by_subject(subjects, 0.5, generator(seed), labels)
    assert 1 in labels[split.train]


@given(SEEDS)
def test_class_shares_are_kept_close(seed):
    # Twenty subjects, half of them all "x" and half all "y": the fair division takes 5 of each.
    subjects = np.repeat([f"s{number:02}" for number in range(20)], 6)
    labels = np.array(["x" if int(name[1:]) < 10 else "y" for name in subjects])
    split = split_by_subject(subjects, 0.5, generator(seed), labels)
    assert (labels[split.test] == "x").sum() == 30


@given(subject_columns())
def test_each_subject_is_left_out_once(subjects):
    splits = leave_one_subject_out(subjects)
    names = [set(subjects[split.test]) for split in splits]
    assert names == [{name} for name in sorted(set(subjects))]
    for split in splits:
        assert_sound(split, subjects)


@given(subject_columns(least=3), st.integers(2, 3), SEEDS)
def test_folds_are_sound_and_even(subjects, folds, seed):
    splits = k_fold_by_subject(subjects, folds, generator(seed))
    assert len(splits) == folds
    for split in splits:
        assert_sound(split, subjects)
    tested = np.concatenate([split.test for split in splits])
    assert np.array_equal(np.sort(tested), np.arange(len(subjects)))
    sizes = [len(set(subjects[split.test])) for split in splits]
    assert max(sizes) - min(sizes) <= 1


@given(subject_columns(least=5), st.integers(1, 5), SEEDS, st.data())
def test_sites_share_no_subject_and_are_even(subjects, sites, seed, data):
    parts = partition_subjects(subjects, sites, generator(seed))
    assert np.array_equal(np.sort(np.concatenate(parts)), np.arange(len(subjects)))
    names = [set(subjects[part]) for part in parts]
    assert sum(map(len, names)) == len(set(subjects))
    assert max(map(len, names)) - min(map(len, names)) <= 1
    order = np.array(data.draw(st.permutations(range(len(subjects)))))
    again = partition_subjects(subjects[order], sites, generator(seed))
    assert [set(subjects[order][part]) for part in again] == names


@pytest.mark.parametrize(
    ("splitter", "found", "needed"),
    [
        (lambda names: split_by_subject(names, 0.3, generator(0)), 1, 2),
        (leave_one_subject_out, 1, 2),
        (lambda names: k_fold_by_subject(names, 3, generator(0)), 1, 3),
        (lambda names: partition_subjects(names, 2, generator(0)), 1, 2),
        (lambda names: split_by_subject(names[:0], 0.3, generator(0)), 0, 2),
    ],
)
def test_too_few_subjects_are_refused_with_numbers(splitter, found, needed):
    with pytest.raises(TooFewSubjectsError, match=f"clips of {found}, .* at least {needed}"):
        splitter(np.array(["only"] * 4))


def test_impossible_arguments_are_refused():
    subjects = np.array(["a", "b"])
    with pytest.raises(ValueError, match="test_share"):
        split_by_subject(subjects, 1.0, generator(0))
    with pytest.raises(ValueError, match="two folds"):
        k_fold_by_subject(subjects, 1, generator(0))
    with pytest.raises(ValueError, match="one site"):
        partition_subjects(subjects, 0, generator(0))
    with pytest.raises(ValueError, match="labels"):
        split_by_subject(subjects, 0.5, generator(0), np.array([1]))
