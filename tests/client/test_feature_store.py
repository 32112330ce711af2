"""The feature store against real files, each kind of damage really done to the disk."""

import dataclasses
import hashlib
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from fedpsyau_client.store import clip_table, feature_store
from fedpsyau_client.store.feature_store import (
    ClipTable,
    list_partitions,
    open_feature_store,
    write_feature_store,
)
from fedpsyau_model import __version__
from fedpsyau_model.action_units import AUS
from fedpsyau_model.errors import (
    DataDamagedError,
    DataNotFoundError,
    OutputExistsError,
    OutputWriteError,
    SchemaMismatchError,
    UnknownPartitionError,
)

CLIPS = ClipTable(
    clip=np.array(["c0", "c1", "c2", "c3", "c4"]),
    subject=np.array(["s0", "s0", "s1", "s1", "s2"]),
    emotion=np.array(["disgust", "happiness", "surprise", "", "contempt"]),
    class3=np.array(["negative", "positive", "surprise", "negative", ""]),
    class7=np.array(["disgust", "happiness", "surprise", "", "contempt"]),
    au_known=np.array([True, True, True, False, True]),
    aus=np.array(
        [[1, 0] * 6, [0] * 12, [0, 1] * 6, [0] * 12, [0] * 11 + [1]],
        dtype=np.uint8,
    ),
)
PREPROCESSING = {"flow-method": "tvl1", "flow-size": 28, "rois-size": 128}


def features(count=5):
    generator = np.random.default_rng(3)
    flow = generator.normal(size=(count, 3, 28, 28)).astype(np.float32)
    rois = generator.normal(size=(count, 65, 3, 5, 5)).astype(np.float32)
    return flow, rois


def write(folder, clips=CLIPS, flow=None, rois=None, **changes):
    default_flow, default_rois = features()
    arguments = {
        "partition": folder.name,
        "dataset": "DFME",
        "synthetic": True,
        "clips": clips,
        "flow": default_flow if flow is None else flow,
        "rois": default_rois if rois is None else rois,
        "preprocessing": PREPROCESSING,
    }
    return write_feature_store(folder, **(arguments | changes))


@pytest.fixture
def store(tmp_path):
    folder = tmp_path / "dfme_c1"
    write(folder)
    return folder


def edit_manifest(folder, **changes):
    file = folder / "manifest.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


def forge(folder, name):
    """Make the manifest agree with an edited file, as a careless tool would."""
    data = (folder / name).read_bytes()
    key = {"clips.csv": "clips", "features.safetensors": "features"}[name]
    files = json.loads((folder / "manifest.json").read_text())["files"]
    files[key] = {"size-bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    edit_manifest(folder, files=files)


def edit_clips(folder, old, new):
    file = folder / "clips.csv"
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new, 1))
    forge(folder, "clips.csv")


# What is written comes back.


def test_round_trip(store):
    flow, rois = features()
    opened = open_feature_store(store)
    assert len(opened) == 5
    assert np.array_equal(opened.flow, flow)
    assert np.array_equal(opened.rois, rois)
    assert opened.flow.dtype == opened.rois.dtype == np.float32
    for field in dataclasses.fields(ClipTable):
        assert np.array_equal(getattr(opened.clips, field.name), getattr(CLIPS, field.name))


def test_manifest_says_what_is_inside(store):
    document = json.loads((store / "manifest.json").read_text())
    assert document["schema-version"] == 1
    assert document["fedpsyau-version"] == __version__
    assert (document["partition"], document["dataset"]) == ("dfme_c1", "DFME")
    assert document["synthetic"] is True
    assert document["aus"] == list(AUS)
    assert document["point-count"] == 65
    assert document["preprocessing"] == PREPROCESSING
    assert document["counts"] == {
        "clips": 5,
        "subjects": 3,
        "clips-with-aus": 4,
        "emotions": {"happiness": 1, "surprise": 1, "disgust": 1, "contempt": 1},
    }
    for key, name in (("clips", "clips.csv"), ("features", "features.safetensors")):
        data = (store / name).read_bytes()
        assert document["files"][key] == {
            "size-bytes": len(data),
            "sha256": hashlib.sha256(data).hexdigest(),
        }


def test_clip_table_on_disk_is_plain_csv(store):
    lines = (store / "clips.csv").read_text().splitlines()
    assert lines[0] == (
        "clip,subject,emotion,class3,class7,au_known,"
        "AU1,AU2,AU4,AU5,AU6,AU7,AU9,AU10,AU12,AU14,AU15,AU17"
    )
    assert lines[1] == "c0,s0,disgust,negative,disgust,1,1,0,1,0,1,0,1,0,1,0,1,0"
    assert lines[4] == "c3,s1,,negative,,0,0,0,0,0,0,0,0,0,0,0,0,0"


def test_features_are_readable_by_any_safetensors_reader(store):
    tensors = load_file(store / "features.safetensors")
    assert set(tensors) == {"flow", "rois"}
    assert np.array_equal(tensors["rois"], features()[1])


def test_labels_drop_clips_without_a_class(store):
    opened = open_feature_store(store)
    indices, labels = opened.labels("three")
    assert indices.tolist() == [0, 1, 2, 3]
    assert labels.tolist() == [0, 1, 2, 0]
    indices, labels = opened.labels("seven")
    assert indices.tolist() == [0, 1, 2, 4]
    assert labels.tolist() == [2, 0, 1, 6]
    assert indices.dtype == labels.dtype == np.int64


def test_features_are_mapped_and_read_only(store):
    opened = open_feature_store(store)
    for array in (opened.flow, opened.rois):
        assert isinstance(array, np.memmap)
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 0


def test_same_data_same_hash_and_other_data_another(tmp_path, store):
    other = CLIPS.subject.copy()
    other[0] = "s9"
    hashes = [
        open_feature_store(store).manifest.data_hash,
        write(tmp_path / "dfme_c2").data_hash,
        write(tmp_path / "dfme_c3", dataclasses.replace(CLIPS, subject=other)).data_hash,
    ]
    assert hashes[0] == hashes[1] != hashes[2]


def test_float64_features_are_stored_as_float32(tmp_path):
    flow, rois = features()
    write(tmp_path / "a", flow=flow.astype(np.float64), rois=rois.astype(np.float64))
    assert np.array_equal(open_feature_store(tmp_path / "a").flow, flow)


def test_partitions_are_listed_by_name_without_what_is_none(tmp_path):
    for name in ("dfme_c2", "dfme_c1"):
        write(tmp_path / name)
    (tmp_path / "empty").mkdir()
    (tmp_path / "notes.txt").touch()
    shutil.copytree(tmp_path / "dfme_c1", tmp_path / ".dfme_c1.0a0a0a0a.partial")
    assert list_partitions(tmp_path) == ["dfme_c1", "dfme_c2"]


# What is missing or damaged is refused.


def test_missing_folder_names_it_its_neighbours_and_the_cure(store):
    with pytest.raises(DataNotFoundError) as caught:
        open_feature_store(store.parent / "dfme_c9")
    message = str(caught.value)
    for words in ("dfme_c9", "beside it are dfme_c1", "fedpsyau data synth"):
        assert words in message


def test_missing_data_folder(tmp_path):
    for look in (list_partitions, open_feature_store):
        with pytest.raises(DataNotFoundError, match=r"nowhere.*fedpsyau data synth"):
            look(tmp_path / "nowhere")


@pytest.mark.parametrize("name", ["manifest.json", "clips.csv", "features.safetensors"])
def test_missing_file_is_named(store, name):
    (store / name).unlink()
    with pytest.raises(DataNotFoundError, match=f"has no {name}"):
        open_feature_store(store)


@pytest.mark.parametrize("verify", [True, False])
@pytest.mark.parametrize("name", ["clips.csv", "features.safetensors"])
def test_truncated_file_is_refused_with_both_sizes(store, name, verify):
    data = (store / name).read_bytes()
    (store / name).write_bytes(data[:-10])
    words = f"{name} has {len(data) - 10} bytes instead of {len(data)}"
    with pytest.raises(DataDamagedError, match=words):
        open_feature_store(store, verify=verify)


@pytest.mark.parametrize("name", ["clips.csv", "features.safetensors"])
def test_one_changed_byte_is_refused(store, name):
    data = bytearray((store / name).read_bytes())
    data[-2] ^= 1
    (store / name).write_bytes(data)
    with pytest.raises(DataDamagedError, match=rf"{name} was edited or damaged.*checksum"):
        open_feature_store(store)


def test_another_schema_version_is_refused_with_both(store):
    edit_manifest(store, **{"schema-version": 7})
    with pytest.raises(SchemaMismatchError, match=r"version 7.*reads version 1.*install"):
        open_feature_store(store)
    edit_manifest(store, **{"schema-version": 0})
    with pytest.raises(SchemaMismatchError, match=r"version 0.*prepare the partition again"):
        open_feature_store(store)


@pytest.mark.parametrize("version", ["1", True, None])
def test_schema_version_must_be_a_number(store, version):
    edit_manifest(store, **{"schema-version": version})
    with pytest.raises(DataDamagedError, match="no schema-version"):
        open_feature_store(store)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"schema-version": 1}', "\0"])
def test_manifest_that_is_none_is_refused(store, text):
    (store / "manifest.json").write_text(text)
    with pytest.raises(DataDamagedError, match=r"manifest\.json"):
        open_feature_store(store)


def test_manifest_with_a_wrong_type_names_the_key(store):
    edit_manifest(store, synthetic="yes")
    with pytest.raises(DataDamagedError, match="synthetic"):
        open_feature_store(store)


def test_other_action_units_are_refused(store):
    edit_manifest(store, aus=[1, 2])
    with pytest.raises(SchemaMismatchError, match=r"\[1, 2\]"):
        open_feature_store(store)


def test_renamed_folder_is_refused(store):
    store.rename(store.parent / "dfme_c2")
    with pytest.raises(UnknownPartitionError, match=r"'dfme_c1', not 'dfme_c2'"):
        open_feature_store(store.parent / "dfme_c2")


@pytest.mark.parametrize("poison", [np.nan, np.inf, -np.inf])
def test_unusable_numbers_are_counted_and_named(store, poison):
    flow, rois = features()
    flow[1, 2, 27, 27] = poison
    rois[4, 64, 0, 4, 4] = poison
    save_file({"flow": flow, "rois": rois}, store / "features.safetensors")
    forge(store, "features.safetensors")
    with pytest.raises(DataDamagedError, match=r"2 of 5 clips hold NaN or infinity \(c1, c4\)"):
        open_feature_store(store)


def test_a_long_list_of_unusable_clips_is_cut(tmp_path):
    count = 600
    texts = {name: np.repeat([""], count) for name in ("emotion", "class3", "class7")}
    clips = ClipTable(
        clip=np.array([f"c{number}" for number in range(count)]),
        subject=np.repeat(["s0"], count),
        **texts,
        au_known=np.zeros(count, dtype=bool),
        aus=np.zeros((count, 12), dtype=np.uint8),
    )
    flow, rois = features(count)
    flow[593:] = np.nan
    with pytest.raises(DataDamagedError, match=r"7 of 600 clips .*c593.*c597 and 2 more\)"):
        write(tmp_path / "a", clips, flow, rois)


@pytest.mark.parametrize(
    ("tensors", "words"),
    [
        ({"flow": np.zeros((5, 2, 28, 28), np.float32)}, r"flow has the shape \(5, 2, 28, 28\)"),
        ({"flow": np.zeros((4, 3, 28, 28), np.float32)}, r"5 clips need \(5, 3, 28, 28\)"),
        ({"rois": np.zeros((5, 64, 3, 5, 5), np.float32)}, r"rois has the shape \(5, 64"),
        ({"rois": np.zeros((5, 65, 3, 5, 5), np.float64)}, r"type F64"),
        ({"rois": np.zeros((0, 65, 3, 5, 5), np.float32)}, r"never empty"),
        ({"extra": np.zeros(1, np.float32)}, r"tensors extra, flow, rois"),
    ],
)
def test_features_of_another_shape_are_refused(store, tensors, words):
    flow, rois = features()
    save_file({"flow": flow, "rois": rois} | tensors, store / "features.safetensors")
    forge(store, "features.safetensors")
    with pytest.raises(DataDamagedError, match=words):
        open_feature_store(store)


def test_features_in_another_format_are_refused(store):
    (store / "features.safetensors").write_bytes(b"not at all a safetensors file" * 10)
    forge(store, "features.safetensors")
    with pytest.raises(DataDamagedError, match="not a safetensors file"):
        open_feature_store(store)


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("disgust,negative", "boredom,negative", r"clip c0 has the emotion 'boredom'.*happiness"),
        ("disgust,negative", "disgust,neutral", r"clip c0 has the class3 'neutral'"),
        ("surprise,1", "wonder,1", r"clip c2 has the class7 'wonder'"),
        ("c1,s0", "c0,s0", r"c0 stands on 2 rows"),
        ("c1,s0", "a/b.mp4,s0", r"'a/b\.mp4' cannot be a clip id"),
        ("c1,s0", "c1,", r"'' cannot be a subject id"),
        ("disgust,1,1,", "disgust,1,2,", r"line 2: AU1 is '2'"),
        ("disgust,1,1,", "disgust,yes,1,", r"line 2: au_known is 'yes'"),
        ("disgust,1,1,", "disgust,1,1,0,", r"line 2: 19 cells instead of 18"),
        ("disgust,1,1,", "disgust,0,1,", r"clip c0 has AUs set although its au_known is 0"),
        ("clip,subject", "subject,clip", r"they must be clip, subject"),
        ("c4,", '"c4,', r"not a CSV file"),
    ],
)
def test_clip_table_with_impossible_content_is_refused(store, old, new, words):
    edit_clips(store, old, new)
    with pytest.raises(DataDamagedError, match=words):
        open_feature_store(store)


def test_clip_table_that_lost_a_row_is_refused(store):
    edit_clips(store, "c3,s1,,negative,,0" + ",0" * 12 + "\n", "")
    with pytest.raises(DataDamagedError, match="clips 4 instead of 5"):
        open_feature_store(store)


def test_empty_clip_table_is_refused(store):
    (store / "clips.csv").write_text(",".join(clip_table.COLUMNS) + "\n")
    forge(store, "clips.csv")
    with pytest.raises(DataDamagedError, match="no clips"):
        open_feature_store(store)


# Writing is whole or not at all.


def test_existing_store_is_left_alone_unless_replaced(store):
    before = (store / "manifest.json").read_bytes()
    with pytest.raises(OutputExistsError, match="left as it is"):
        write(store, dataset="MMEW")
    assert (store / "manifest.json").read_bytes() == before
    write(store, dataset="MMEW", replace=True)
    assert open_feature_store(store).manifest.dataset == "MMEW"
    assert [folder.name for folder in store.parent.iterdir()] == ["dfme_c1"]


def test_a_folder_that_is_no_store_is_never_replaced(tmp_path):
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "draft.txt").write_text("years of work")
    with pytest.raises(OutputExistsError, match="not a feature store"):
        write(tmp_path / "thesis", replace=True)
    assert (tmp_path / "thesis" / "draft.txt").read_text() == "years of work"


@pytest.mark.parametrize("partition", ["dfme_c2", "../a", "", "-a", "a b", "a\n"])
def test_partition_must_be_the_folders_name(tmp_path, partition):
    with pytest.raises(UnknownPartitionError, match="such as dfme_c3"):
        write(tmp_path / "dfme_c1", partition=partition)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("clips", "words"),
    [
        (dataclasses.replace(CLIPS, emotion=CLIPS.emotion[:4]), "emotion has the shape"),
        (dataclasses.replace(CLIPS, aus=CLIPS.aus[:, :11]), "aus has the shape"),
        (dataclasses.replace(CLIPS, aus=CLIPS.aus * 2), "must be 0 or 1"),
        (dataclasses.replace(CLIPS, class3=CLIPS.emotion), "class3 'disgust'"),
    ],
)
def test_impossible_tables_are_not_written(tmp_path, clips, words):
    with pytest.raises(DataDamagedError, match=words):
        write(tmp_path / "a", clips)
    assert list(tmp_path.iterdir()) == []


def test_unusable_or_unfitting_features_are_not_written(tmp_path):
    flow, rois = features()
    with pytest.raises(DataDamagedError, match="5 clips need"):
        write(tmp_path / "a", flow=flow[:4])
    rois[2] = np.nan
    with pytest.raises(DataDamagedError, match=r"1 of 5 clips .*c2"):
        write(tmp_path / "a", rois=rois)
    assert list(tmp_path.iterdir()) == []


class Interruption(BaseException):
    """As unexpected as Ctrl-C, which is no Exception either."""


def interrupt(*_arguments, **_options):
    raise Interruption


@pytest.mark.parametrize("step", ["format_clip_table", "_describe_file", "Manifest"])
@pytest.mark.parametrize("replace", [False, True])
def test_interruption_leaves_nothing_new_and_everything_old(tmp_path, monkeypatch, step, replace):
    folder = tmp_path / "dfme_c1"
    if replace:
        write(folder)
    monkeypatch.setattr(feature_store, step, interrupt)
    with pytest.raises(Interruption):
        write(folder, dataset="MMEW", replace=replace)
    monkeypatch.undo()
    assert [left.name for left in tmp_path.iterdir()] == (["dfme_c1"] if replace else [])
    if replace:
        assert open_feature_store(folder).manifest.dataset == "DFME"


def test_failure_of_the_last_rename_brings_the_old_store_back(store, monkeypatch):
    rename = type(store).rename

    def fail_to_place_the_new(path, target):
        if path.suffix == ".partial":
            raise Interruption
        return rename(path, target)

    monkeypatch.setattr(type(store), "rename", fail_to_place_the_new)
    with pytest.raises(Interruption):
        write(store, dataset="MMEW", replace=True)
    assert open_feature_store(store).manifest.dataset == "DFME"
    assert [folder.name for folder in store.parent.iterdir()] == ["dfme_c1"]


KILLED_WHILE_WRITING = """
import os, pathlib, signal, sys
sys.path.insert(0, sys.argv[2])
from fedpsyau_client.store import feature_store
import test_feature_store
feature_store.format_clip_table = lambda clips: os.kill(os.getpid(), signal.SIGKILL)
test_feature_store.write(pathlib.Path(sys.argv[1]))
"""

FULL_DISK = """
import pathlib, resource, sys
sys.path.insert(0, sys.argv[2])
import test_feature_store
resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))
try:
    test_feature_store.write(pathlib.Path(sys.argv[1]))
except test_feature_store.OutputWriteError as error:
    sys.exit(f"{error.exit_code}: {error}")
"""


def run_python(program, folder):
    here = str(Path(__file__).parent)
    return subprocess.run(
        [sys.executable, "-c", program, str(folder), here],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def test_a_writer_killed_outright_leaves_nothing_that_looks_like_data(tmp_path):
    assert run_python(KILLED_WHILE_WRITING, tmp_path / "dfme_c1").returncode == -9
    assert [left.suffix for left in tmp_path.iterdir()] == [".partial"]
    assert list_partitions(tmp_path) == []
    with pytest.raises(DataNotFoundError):
        open_feature_store(tmp_path / "dfme_c1")
    write(tmp_path / "dfme_c1")
    assert len(open_feature_store(tmp_path / "dfme_c1")) == 5


def test_a_full_disk_is_explained_and_leaves_nothing(tmp_path):
    result = run_python(FULL_DISK, tmp_path / "dfme_c1")
    assert result.stderr.startswith(f"{OutputWriteError.exit_code}: ")
    assert "Check free space" in result.stderr
    assert list(tmp_path.iterdir()) == []
