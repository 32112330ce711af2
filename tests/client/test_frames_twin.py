"""Rendered sites on disk: what is written, that it says synthetic, and all or nothing."""

import csv
import hashlib
import json

import cv2
import numpy as np
import pytest
from safetensors.numpy import load_file

from fedpsyau_client.preparation.clip_labels import is_synthetic
from fedpsyau_client.synthetic.partition_labels import PartitionLabels
from fedpsyau_client.synthetic.rendering.frames_folder import label_csv, mark_as_synthetic
from fedpsyau_client.synthetic.rendering.frames_twin import (
    FRAMES_FOLDER,
    bytes_needed,
    render_clips,
    write_frames,
)
from fedpsyau_client.synthetic.twin import Partition, draw_site, make_partition, planned_partitions
from fedpsyau_model.action_units import AUS
from fedpsyau_model.emotions import EMOTIONS
from fedpsyau_model.errors import OutputExistsError, SettingsError

TINY = 0.001
SITE = "casme3_c2"


def digests(folder):
    return {
        file.relative_to(folder): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in sorted(folder.rglob("*"))
        if file.is_file()
    }


def rows(site):
    with (site / "labels.csv").open(encoding="utf-8", newline="") as table:
        return list(csv.DictReader(table))


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    folder = tmp_path_factory.mktemp("frames") / "data"
    write_frames(folder, scale=TINY, seed=3, sites=[SITE], frames_per_clip=3)
    return folder


def test_every_clip_of_the_table_has_its_pictures_and_its_truth(out):
    site = out / FRAMES_FOLDER / SITE
    table = rows(site)
    truth = load_file(site / "truth" / "motion.safetensors")
    assert len(table) == 40 == len(truth["flow"])
    assert truth["flow"].shape[1:] == (2, 128, 128)
    assert len({row["subject"] for row in table}) == 8
    for row in table:
        pictures = sorted((site / "clips" / row["filename"]).iterdir())
        assert [file.name for file in pictures] == ["img001.png", "img002.png", "img003.png"]
        assert (row["onset"], row["apex"], row["offset"]) == ("1", "2", "3")
        assert row["emotion"] in EMOTIONS
    picture = cv2.imread(str(pictures[0]))
    assert picture.shape == (256, 256, 3)
    assert 20 < picture.mean() < 235
    assert {path.name for path in site.iterdir()} == {
        "clips",
        "labels.csv",
        "synthetic.json",
        "truth",
    }


def test_the_space_is_estimated_before_it_is_taken(out):
    plan = [partition for partition in planned_partitions(TINY) if partition.name == SITE]
    taken = sum(file.stat().st_size for file in out.rglob("*") if file.is_file())
    assert 0.8 * taken < bytes_needed(plan, 3) < 1.3 * taken


def test_both_depths_of_the_twin_have_the_same_labels(out):
    partition = next(p for p in planned_partitions(TINY) if p.name == SITE)
    labels = make_partition(partition, 3).labels
    table = rows(out / FRAMES_FOLDER / SITE)
    assert [row["emotion"] for row in table] == [EMOTIONS[emotion] for emotion in labels.emotion]
    assert [row["subject"] for row in table] == [f"s{subject:03d}" for subject in labels.subject]


def test_it_says_synthetic(out, tmp_path):
    site = out / FRAMES_FOLDER / SITE
    assert is_synthetic(site / "labels.csv", tmp_path, "csv")
    assert is_synthetic(tmp_path / "own.csv", site / "clips", "csv")
    mark = json.loads((site / "synthetic.json").read_text())
    assert mark["synthetic"] is True
    assert mark["statistics-of"] == "casme3"


def test_the_table_by_hand():
    shown = np.zeros((2, len(AUS), 2), bool)
    annotated = np.zeros((2, len(AUS)), bool)
    for au, sides in ((1, (True, True)), (12, (True, False)), (6, (False, True))):
        shown[0, AUS.index(au)] = sides
        annotated[0, AUS.index(au)] = True
    annotated[0, AUS.index(17)] = True  # written down though nothing shows
    shown[0, AUS.index(4)] = True  # overlooked
    labels = PartitionLabels(
        np.array([0, 1]),
        np.array([EMOTIONS.index("happiness"), EMOTIONS.index("fear")]),
        shown,
        annotated,
    )
    assert label_csv(labels, [4, 3], 7) == (
        "subject,filename,onset,apex,offset,emotion,au\n"
        "s000,s000/c00000,1,4,7,happiness,1+L6+R12+17\n"
        "s001,s001/c00001,1,3,7,fear,none\n"
    )


def test_the_same_seed_gives_the_same_bits(out, tmp_path):
    write_frames(tmp_path / "again", scale=TINY, seed=3, sites=[SITE], frames_per_clip=3)
    assert digests(tmp_path / "again") == digests(out)


def test_another_seed_gives_other_faces():
    partition = Partition("a", "dfme", 18, 6)
    first, second = (
        next(iter(render_clips("a", draw_site(partition, seed), seed))) for seed in (0, 1)
    )
    assert (next(first.frames) != next(second.frames)).mean() > 0.5
    assert np.abs(first.truth.onset_points - second.truth.onset_points).max() > 2


def test_existing_sites_are_kept_unless_told_otherwise(out, tmp_path):
    folder = tmp_path / "data"
    mark_as_synthetic(_made(folder / FRAMES_FOLDER / SITE), {})
    before = digests(folder)
    with pytest.raises(OutputExistsError, match=SITE):
        write_frames(folder, scale=TINY, sites=[SITE])
    assert digests(folder) == before
    write_frames(folder, scale=TINY, seed=3, sites=[SITE], frames_per_clip=3, overwrite=True)
    assert digests(folder) == digests(out)


def test_clips_that_are_not_synthetic_are_never_replaced(tmp_path):
    clips = _made(tmp_path / "data" / FRAMES_FOLDER / SITE / "clips")
    with pytest.raises(OutputExistsError, match="not synthetic"):
        write_frames(tmp_path / "data", scale=TINY, sites=[SITE], overwrite=True)
    assert clips.is_dir()


def test_a_failure_half_way_leaves_nothing(tmp_path):
    class StopHereError(Exception):
        pass

    def fail(clips):
        raise StopHereError

    with pytest.raises(StopHereError):
        write_frames(tmp_path, scale=TINY, sites=[SITE], frames_per_clip=2, progress=fail)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"scale": 0}, "--scale"),
        ({"sites": ["dfme_c9"]}, "dfme_c9"),
        ({"frames_per_clip": 1}, "--frames-per-clip"),
        ({"frames_per_clip": 201}, "--frames-per-clip"),
    ],
)
def test_mistakes_are_refused_before_anything_is_written(tmp_path, options, says):
    with pytest.raises(SettingsError, match=says):
        write_frames(tmp_path, **({"scale": TINY} | options))
    assert list(tmp_path.iterdir()) == []


def _made(folder):
    folder.mkdir(parents=True)
    return folder
