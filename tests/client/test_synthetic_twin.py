"""The twin: statistics, floors, determinism, FACS directions, and that it says synthetic."""

import hashlib

import numpy as np
import pytest

from fedpsyau_client.labels.class_rules import three_class
from fedpsyau_client.splits import split_by_subject
from fedpsyau_client.store.feature_store import list_partitions, open_feature_store
from fedpsyau_client.synthetic.clip_motion import Difficulty
from fedpsyau_client.synthetic.partition_labels import MIN_CLIPS_PER_CLASS, draw_labels
from fedpsyau_client.synthetic.twin import (
    MIN_SUBJECTS,
    TABLE_3,
    make_partition,
    partition_clips,
    planned_partitions,
    write_twin,
)
from fedpsyau_model.emotions import CLASS_NAMES, EMOTIONS
from fedpsyau_model.errors import OutputExistsError, SettingsError

TINY = 0.01


def digests(folder):
    return {
        file.relative_to(folder): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in sorted(folder.rglob("*"))
        if file.is_file()
    }


def classes_of(labels):
    return np.array([three_class(EMOTIONS[emotion]) for emotion in labels.emotion])


@pytest.fixture(scope="module")
def twin(tmp_path_factory):
    out = tmp_path_factory.mktemp("twin") / "data"
    write_twin(out, scale=TINY, seed=7)
    return out


def test_table_3():
    plan = planned_partitions(1.0)
    assert {p.name: p.clips for p in plan} == {
        "dfme_c1": 1389,
        "dfme_c2": 1547,
        "dfme_c3": 1334,
        "dfme_c4": 1492,
        "dfme_c5": 1513,
        "casme3_c1": 426,
        "casme3_c2": 273,
    }
    assert sum(p.clips for p in plan if p.source == "dfme") == 7275
    assert sum(p.subjects for p in plan if p.source == "dfme") == 656
    assert [p.subjects for p in plan if p.source == "casme3"] == [44, 44]
    assert plan == TABLE_3


@pytest.mark.parametrize("scale", [0, -1, float("nan"), float("inf"), 1000])
def test_scales_that_make_no_sense_are_refused(scale):
    with pytest.raises(SettingsError, match="--scale"):
        planned_partitions(scale)


def test_every_partition_is_a_whole_synthetic_store(twin):
    assert list_partitions(twin) == sorted(p.name for p in TABLE_3)
    for partition in planned_partitions(TINY):
        store = open_feature_store(twin / partition.name)
        assert store.manifest.synthetic
        assert store.manifest.dataset == f"synthetic-{partition.source}"
        assert len(store) == partition.clips
        assert store.manifest.counts.subjects == partition.subjects
        assert set(store.clips.class3) == set(CLASS_NAMES["three"])


def test_the_same_seed_gives_the_same_bits(twin, tmp_path):
    write_twin(tmp_path / "again", scale=TINY, seed=7)
    assert digests(tmp_path / "again") == digests(twin)
    write_twin(tmp_path / "other", scale=TINY, seed=8)
    features = {file for file in digests(twin) if file.name == "features.safetensors"}
    ours, others = digests(twin), digests(tmp_path / "other")
    assert all(ours[file] != others[file] for file in features)


@pytest.mark.parametrize("chunk", [1, 5, 1000])
def test_the_chunk_size_changes_no_bit(twin, chunk):
    partition = planned_partitions(TINY)[1]
    made = make_partition(partition, 7, chunk=chunk)
    store = open_feature_store(twin / partition.name)
    np.testing.assert_array_equal(made.flow, store.flow)
    np.testing.assert_array_equal(made.rois, store.rois)


def test_real_sizes_keep_the_shares_of_the_classes():
    labels = draw_labels("casme3", 699, 88, np.random.default_rng(0))
    classes, counts = np.unique(classes_of(labels), return_counts=True)
    assert dict(zip(classes, counts, strict=True)) == {
        "negative": 457,
        "positive": 55,
        "surprise": 187,
    }
    assert len(np.unique(labels.subject)) == 88


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("source", ["dfme", "casme3"])
def test_held_out_subjects_show_all_classes_even_at_the_smallest_scale(source, seed):
    plan = next(p for p in planned_partitions(0.001) if p.source == source)
    labels = draw_labels(source, plan.clips, plan.subjects, np.random.default_rng(seed))
    assert len(np.unique(labels.subject)) == MIN_SUBJECTS
    classes = classes_of(labels)
    assert all((classes == name).sum() >= MIN_CLIPS_PER_CLASS for name in CLASS_NAMES["three"])
    split = split_by_subject(labels.subject.astype(str), 0.3, np.random.default_rng(seed), classes)
    assert set(classes[split.test]) == set(classes[split.train]) == set(CLASS_NAMES["three"])


def test_subjects_and_clips_are_pseudonyms():
    partition = planned_partitions(TINY)[0]
    table = partition_clips(
        partition.name,
        draw_labels("dfme", partition.clips, partition.subjects, np.random.default_rng(0)),
    )
    assert table.clip[0] == "dfme_c1-00000"
    assert table.subject[0] == "dfme_c1-s000"


def test_existing_partitions_are_kept_unless_told_otherwise(twin, tmp_path):
    out = tmp_path / "data"
    write_twin(out, scale=TINY, seed=7)
    (out / "my_hospital").mkdir()
    before = digests(out)
    with pytest.raises(OutputExistsError, match="already holds dfme_c1"):
        write_twin(out, scale=TINY, seed=9)
    assert digests(out) == before
    write_twin(out, scale=TINY, seed=9, overwrite=True)
    assert (out / "my_hospital").is_dir()
    assert digests(out).keys() == before.keys()
    assert digests(out) != before
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


def test_real_data_is_never_overwritten(tmp_path):
    out = tmp_path / "data"
    write_twin(out, scale=TINY)
    manifest = out / "dfme_c3" / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"synthetic": true', '"synthetic": false'))
    before = digests(out)
    with pytest.raises(OutputExistsError, match=r"dfme_c3 in .* is not synthetic"):
        write_twin(out, scale=TINY, overwrite=True)
    assert digests(out) == before


def test_partitions_join_other_stores_of_a_folder(tmp_path):
    out = tmp_path / "data"
    (out / "my_hospital").mkdir(parents=True)
    write_twin(out, scale=TINY)
    assert len(list_partitions(out)) == 7
    assert (out / "my_hospital").is_dir()


def test_a_failure_half_way_leaves_nothing(tmp_path):
    class StopHereError(Exception):
        pass

    made = []

    def fail_later(clips):
        made.append(clips)
        if sum(made) > 50:
            raise StopHereError

    with pytest.raises(StopHereError):
        write_twin(tmp_path / "data", scale=TINY, progress=fail_later)
    assert list(tmp_path.iterdir()) == []


def test_stronger_motion_is_seen_in_both_streams():
    partition = planned_partitions(TINY)[0]
    quiet = Difficulty(
        **dict.fromkeys(
            ("head_shift", "head_gradient", "blink_rate", "jaw", "smooth_noise", "pixel_noise"), 0.0
        )
    )
    weak = make_partition(partition, 0, difficulty=quiet)
    loud = make_partition(
        partition, 0, difficulty=Difficulty(**(vars(quiet) | {"intensity": 3 * quiet.intensity}))
    )
    for name in ("flow", "rois"):
        a, b = np.abs(getattr(weak, name)).mean(), np.abs(getattr(loud, name)).mean()
        assert 1.3 * a < b < 3 * a  # less than threefold: movements saturate
