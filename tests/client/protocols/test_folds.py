"""Every protocol divides by subject, and the same plan always divides alike."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fedpsyau_client.protocols.clip_set import ClipSet, open_clip_set
from fedpsyau_client.protocols.folds import plan_folds
from fedpsyau_client.protocols.plan import Plan
from fedpsyau_client.protocols.seeds import seed_for
from fedpsyau_model.errors import (
    DataNotFoundError,
    NoLabelledClipsError,
    SubjectOverlapError,
    TooFewSubjectsError,
)
from fedpsyau_model.settings import LossSettings, NetworkSettings, TrainingSettings

FOLDS = {"loso": 24, "kfold": 5, "holdout": 1, "leave-one-site-out": 3}
SITES = ["dfme_c1", "dfme_c2", "casme3_c1"]


def plan_of(clips: ClipSet, protocol: str, **more: object) -> Plan:
    values = {
        "protocol": protocol,
        "folds": 5 if protocol == "kfold" else 0,
        "seed": 3,
        "epochs": 1,
        "data": clips.parts(),
        "network": NetworkSettings(),
        "loss": LossSettings(),
        "training": TrainingSettings(),
    }
    return Plan.model_validate(values | more)


@pytest.mark.parametrize("protocol", FOLDS)
def test_no_subject_stands_on_both_sides_and_all_are_tested_once(twin: Path, protocol: str) -> None:
    clips = open_clip_set(twin, SITES, "three")
    folds = plan_folds(clips, plan_of(clips, protocol))
    assert len(folds) == FOLDS[protocol]
    for fold in folds:
        assert not set(clips.subject[fold.train]) & set(clips.subject[fold.test])
        both = np.sort(np.concatenate([fold.train, fold.test]))
        np.testing.assert_array_equal(both, np.arange(len(clips)))
    if protocol != "holdout":
        tested = np.sort(np.concatenate([fold.test for fold in folds]))
        np.testing.assert_array_equal(tested, np.arange(len(clips)))
    assert [fold.number for fold in folds] == list(range(1, len(folds) + 1))
    assert len({fold.name for fold in folds}) == len(folds)


@pytest.mark.parametrize("protocol", ["kfold", "holdout"])
def test_the_division_follows_the_seed_and_nothing_else(twin: Path, protocol: str) -> None:
    clips = open_clip_set(twin, SITES, "three")
    reordered = open_clip_set(twin, SITES[::-1], "three")
    first, again, other = (
        [fold.test.tolist() for fold in plan_folds(each, plan_of(each, protocol, seed=seed))]
        for each, seed in ((clips, 3), (reordered, 3), (clips, 4))
    )
    assert first == again
    assert first != other


def test_a_site_left_out_is_the_test_part(twin: Path) -> None:
    clips = open_clip_set(twin, SITES, "three")
    for fold in plan_folds(clips, plan_of(clips, "leave-one-site-out")):
        assert set(clips.partition[fold.test]) == {fold.name}
        assert fold.name not in clips.partition[fold.train]


def test_sites_that_share_a_subject_are_refused_unless_the_data_sets_differ(make_store) -> None:
    make_store("a", ["s1", "s1", "s2"])
    data = make_store("b", ["s2", "s3", "s3"])
    clips = open_clip_set(data, ["a", "b"], "three")
    with pytest.raises(SubjectOverlapError, match=r"s2 of the data set lab .* in a, b"):
        plan_folds(clips, plan_of(clips, "leave-one-site-out"))
    # By subject, the one person of both stores is one subject.
    assert [len(fold.test) for fold in plan_folds(clips, plan_of(clips, "loso"))] == [2, 2, 2]
    make_store("c", ["s2", "s3", "s3"], dataset="other")
    clips = open_clip_set(data, ["a", "c"], "three")
    assert len(plan_folds(clips, plan_of(clips, "leave-one-site-out"))) == 2
    assert len(plan_folds(clips, plan_of(clips, "loso"))) == 4


def test_one_site_cannot_be_left_out(twin: Path) -> None:
    clips = open_clip_set(twin, ["dfme_c1"], "three")
    with pytest.raises(TooFewSubjectsError, match="dfme_c1"):
        plan_folds(clips, plan_of(clips, "leave-one-site-out"))


def test_a_clip_in_two_stores_is_refused(make_store) -> None:
    make_store("whole", ["s1", "s2", "s3"])
    data = make_store("part", ["s1", "s2"], prefix="whole")
    with pytest.raises(SubjectOverlapError, match=r"whole-000 .* in part, whole \(2 such clips"):
        open_clip_set(data, [], "three")


def test_only_labelled_clips_are_taken(make_store) -> None:
    make_store("aus", ["s1", "s2"], emotions=False)
    data = make_store("feelings", ["s3", "s4", "s5"], aus=False)
    assert set(open_clip_set(data, [], "three").partition) == {"feelings"}
    clips = open_clip_set(data, [], "aus")
    assert set(clips.partition) == {"aus"}
    assert clips.tensors().au_known.all()
    with pytest.raises(NoLabelledClipsError, match="three-class"):
        open_clip_set(data, ["aus"], "three")
    with pytest.raises(NoLabelledClipsError, match="AU labels"):
        open_clip_set(data, ["feelings"], "aus")


def test_tensors_are_in_the_order_of_the_set(make_store) -> None:
    make_store("b", ["s1", "s2"], seed=1)
    data = make_store("a", ["s3"], seed=2)
    clips = open_clip_set(data, ["b", "a"], "three")
    assert clips.clip.tolist() == ["a/a-000", "b/b-000", "b/b-001"]
    assert clips.subject.tolist() == ["lab/s3", "lab/s1", "lab/s2"]
    np.testing.assert_array_equal(clips.tensors().flow[1:], clips.stores[1].flow)


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataNotFoundError, match="no feature store"):
        open_clip_set(tmp_path, [], "three")


def test_seeds_differ_by_every_part_of_their_purpose() -> None:
    purposes = [(1, "a", "b"), (2, "a", "b"), (1, "a/b"), (1, "a", "b", ""), (1, "b", "a")]
    assert len({seed_for(*purpose) for purpose in purposes}) == len(purposes)
    assert all(0 <= seed_for(*purpose) < 2**63 for purpose in purposes)


def test_a_plan_knows_what_matters_to_it(twin: Path) -> None:
    clips = open_clip_set(twin, SITES, "three")
    plan = plan_of(clips, "loso")
    same = plan_of(clips, "loso", loss=LossSettings(alpha4=1), training=TrainingSettings(epochs=9))
    assert plan.plan_hash() == same.plan_hash()
    other = plan_of(clips, "loso", loss=LossSettings(alpha1=1), epochs=2)
    assert plan.plan_hash() != other.plan_hash()
    assert plan.differences(other) == [
        "epochs: here 1, there 2",
        "loss.alpha1: here 0.8, there 1.0",
    ]
