import csv
import json

import numpy as np
import pytest

from fedpsyau_client.data_commands.partition import partition
from fedpsyau_client.store.clip_table import ClipTable
from fedpsyau_client.store.feature_store import open_feature_store, write_feature_store
from fedpsyau_client.store.partitioning import write_partitions
from fedpsyau_client.store.store_summary import summarise, summary_text
from fedpsyau_model.errors import (
    OutputExistsError,
    SettingsError,
    TooFewSubjectsError,
    UnknownPartitionError,
)

NAMES = ["lab_a", "lab_b", "lab_c"]


def write_store(folder, subjects, synthetic=False):
    """Write a store with one clip per entry of `subjects` and random features."""
    count = len(subjects)
    generator = np.random.default_rng(count)
    class3 = np.array(["negative", "positive", "surprise", ""])[np.arange(count) % 4]
    clips = ClipTable(
        clip=np.array([f"c{number:05d}" for number in range(count)]),
        subject=np.array(subjects),
        emotion=np.array([""] * count),
        class3=class3,
        class7=np.array([""] * count),
        au_known=np.ones(count, dtype=np.bool_),
        aus=generator.integers(0, 2, (count, 12), dtype=np.uint8),
    )
    write_feature_store(
        folder,
        partition=folder.name,
        dataset="lab",
        synthetic=synthetic,
        clips=clips,
        flow=generator.normal(size=(count, 3, 28, 28)),
        rois=generator.normal(size=(count, 65, 3, 5, 5)),
        preprocessing={"flow": "by hand"},
    )
    return open_feature_store(folder)


@pytest.fixture
def store(tmp_path):
    subjects = [f"s{number % 11:03d}" for number in np.random.default_rng(5).permutation(80)]
    return write_store(tmp_path / "in" / "whole", subjects)


def test_every_clip_is_at_one_site_bit_for_bit_and_no_subject_at_two(store, tmp_path):
    write_partitions(store, NAMES, 3, tmp_path / "out")
    sites = [open_feature_store(tmp_path / "out" / name) for name in NAMES]
    subjects = [set(site.clips.subject.tolist()) for site in sites]
    assert sorted(map(len, subjects)) == [3, 4, 4]
    assert set.union(*subjects) == set(store.clips.subject.tolist())
    row_of = {clip: row for row, clip in enumerate(store.clips.clip.tolist())}
    assert sorted(clip for site in sites for clip in site.clips.clip.tolist()) == sorted(row_of)
    for site in sites:
        rows = [row_of[clip] for clip in site.clips.clip.tolist()]
        assert np.array_equal(site.flow, store.flow[rows])
        assert np.array_equal(site.rois, store.rois[rows])
        assert site.clips.subject.tolist() == store.clips.subject[rows].tolist()
        assert site.clips.class3.tolist() == store.clips.class3[rows].tolist()
        assert np.array_equal(site.clips.aus, store.clips.aus[rows])


def test_the_manifest_says_where_a_site_comes_from(store, tmp_path):
    for manifest in write_partitions(store, NAMES, 3, tmp_path / "out"):
        origin = manifest.preprocessing["partitioned"]
        assert origin["from-data-hash"] == store.manifest.data_hash
        assert (origin["from-partition"], origin["seed"], origin["sites"]) == ("whole", 3, 3)
        assert manifest.preprocessing["flow"] == "by hand"


def test_the_seed_decides(store, tmp_path):
    made = [
        [manifest.data_hash for manifest in write_partitions(store, NAMES, seed, tmp_path / place)]
        for place, seed in (("a", 1), ("b", 1), ("c", 2))
    ]
    assert made[0] == made[1] != made[2]


def test_a_name_that_cannot_be_one_leaves_nothing(store, tmp_path):
    with pytest.raises(UnknownPartitionError, match="lab b"):
        write_partitions(store, ["lab_a", "lab b"], 0, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_more_sites_than_subjects_are_refused(store, tmp_path):
    with pytest.raises(TooFewSubjectsError, match="12 sites"):
        write_partitions(store, [f"lab_{number}" for number in range(12)], 0, tmp_path / "out")


def test_what_is_there_is_replaced_on_request_unless_it_is_no_store(store, tmp_path):
    out = tmp_path / "out"
    write_partitions(store, NAMES, 1, out)
    with pytest.raises(OutputExistsError, match="--overwrite"):
        write_partitions(store, NAMES, 2, out)
    (out / "lab_d").mkdir()
    with pytest.raises(OutputExistsError, match=r"lab_d in .* no feature store"):
        write_partitions(store, [*NAMES, "lab_d"], 2, out, overwrite=True)
    assert open_feature_store(out / "lab_a").manifest.preprocessing["partitioned"]["seed"] == 1
    write_partitions(store, NAMES, 2, out, overwrite=True)
    assert open_feature_store(out / "lab_a").manifest.preprocessing["partitioned"]["seed"] == 2


def test_synthetic_sites_never_replace_real_ones(store, tmp_path):
    write_partitions(store, ["lab_a"], 0, tmp_path / "out")
    twin = write_store(tmp_path / "in" / "twin", ["s001", "s002"], synthetic=True)
    with pytest.raises(OutputExistsError, match="not synthetic"):
        write_partitions(twin, ["lab_a"], 0, tmp_path / "out", overwrite=True)


def test_the_summary_counts_classes_as_the_store_has_them(store):
    # Classes go round negative, positive, surprise, none over 80 clips.
    summary = summarise(store)
    assert summary.classes == {"negative": 20, "positive": 20, "surprise": 20}
    assert (summary.clips, summary.subjects, summary.dropped) == (80, 11, 20)
    header, row = csv.reader(summary_text([summary], "csv").splitlines())
    assert dict(zip(header, row, strict=True))["no class"] == "20"
    assert json.loads(summary_text([summary], "json"))[0]["subjects"] == 11
    assert summary_text([summary], "md").splitlines()[2] == (
        "| whole | 80 | 11 | 20 | 20 | 20 | 20 | lab |"
    )


def test_the_command_names_sites_and_writes_the_summary(store, tmp_path, capsys):
    partition(store.folder, sites=2, prefix="x", summary=tmp_path / "table.md")
    assert {folder.name for folder in store.folder.parent.iterdir()} == {"whole", "x1", "x2"}
    assert "x2" in capsys.readouterr().out
    assert len((tmp_path / "table.md").read_text().splitlines()) == 4


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"by": "clip"}, "by subject only"),
        ({"names": "a,b,c"}, "3 names"),
        ({"names": "a,a"}, "more than one site"),
        ({"summary": "table.xlsx"}, ".csv, .json or .md"),
    ],
)
def test_mistakes_are_explained_and_nothing_is_written(store, tmp_path, options, says):
    if "summary" in options:
        options = {"summary": tmp_path / options["summary"]}
    with pytest.raises(SettingsError, match=says):
        partition(store.folder, sites=2, **options)
    assert [folder.name for folder in store.folder.parent.iterdir()] == ["whole"]
