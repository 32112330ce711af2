"""Finding clips in the layouts in which data sets are published."""

import pytest

from fedpsyau_client.labels.clip_record import ClipRecord
from fedpsyau_client.preparation.clip_files import index_clips
from fedpsyau_model.errors import ClipAmbiguousError, ClipNotFoundError, DataNotFoundError


def record(subject, filename, onset=1):
    return ClipRecord(2, subject, filename, onset, 5, 9, "", "", None)


@pytest.fixture
def place(tmp_path):
    """Make empty files and find clips among them; only their names matter."""

    def find(files, *records, wanted=0, root=tmp_path):
        for file in files:
            (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / file).touch()
        found = index_clips(root, records).find(records[wanted])
        return found.path.relative_to(root).as_posix(), found.oddity

    return find


@pytest.mark.parametrize(
    ("files", "subject", "filename", "expected"),
    [
        (
            ["sub01/EP02_01f/img46.jpg", "sub02/EP02_01f/img1.jpg"],
            "01",
            "EP02_01f",
            "sub01/EP02_01f",
        ),
        (["006/006_1_2/006_05562.jpg", "007/006_1_2/1.jpg"], "006", "006_1_2", "006/006_1_2"),
        (["s1/micro/negative/s1_ne_01/image1.png"], "s1", "s1_ne_01", "s1/micro/negative/s1_ne_01"),
        (["s01/micro/s1_ne_01/image1.png"], "1", "s1_ne_01", "s01/micro/s1_ne_01"),
        (
            ["spNO.1/a/color/1.jpg", "spNO.1/a/depth/1.png", "spNO.2/a/color/1.jpg"],
            "spNO.1",
            "a",
            "spNO.1/a/color",
        ),
        (["spNO.1/a.mp4", "spNO.11/a.mp4"], "spNO.1", "a", "spNO.1/a.mp4"),
        (
            ["happiness/S01-01-001/1.jpg", "fear/S01-01-002/1.jpg"],
            "S01",
            "S01-01-002",
            "fear/S01-01-002",
        ),
        (["12/dfme_0001/1.jpg"], "12", "dfme_0001", "12/dfme_0001"),
        (["dfme_0001/1.jpg", "dfme_0002/1.jpg"], "12", "dfme_0002", "dfme_0002"),
        (["one/two.words/x/f1.png"], "any", "one/two.words/x", "one/two.words/x"),
        (["one/two.avi"], "any", "one/two", "one/two.avi"),
        (["one/two.avi"], "any", "one/two.avi", "one/two.avi"),
        (["one/two.avi"], "any", "two.avi", "one/two.avi"),
        (
            ["Videos/Left SN001_comp.avi"],
            "SN001",
            "Videos/Left SN001_comp.avi",
            "Videos/Left SN001_comp.avi",
        ),
        (["主体01/片段 一/图1.png"], "主体01", "片段 一", "主体01/片段 一"),
        (["clip/1.png"], "", "clip", "clip"),
    ],
)
def test_published_layouts(place, files, subject, filename, expected):
    assert place(files, record(subject, filename)) == (expected, "")


def test_a_clip_of_another_subject_is_never_taken(place):
    records = record("spNO.2", "a"), record("spNO.1", "a")
    with pytest.raises(ClipNotFoundError, match=r"'a' of subject 'spNO.2'"):
        place(["spNO.1/a/color/1.jpg"], *records)
    records = record("02", "EP1"), record("01", "EP7")
    with pytest.raises(ClipNotFoundError):
        place(["sub01/EP1/1.jpg"], *records)


def test_a_place_without_subject_is_taken_only_where_the_name_is_one_subjects(place):
    records = record("A", "clip"), record("B", "clip")
    with pytest.raises(ClipNotFoundError):
        place(["clip/1.jpg"], *records)


def test_exact_spelling_goes_before_another_case(place):
    records = record("spNO.1", "a"), record("spNO.1", "A")
    files = ["spNO.1/a/color/1.jpg", "spNO.1/A/color/1.jpg"]
    assert place(files, *records) == ("spNO.1/a/color", "")
    assert place([], *records, wanted=1) == ("spNO.1/A/color", "")


def test_another_case_is_taken_and_noted(place):
    path, oddity = place(["spNO.1/a/color/1.jpg"], record("spNO.1", "A"))
    assert path == "spNO.1/a/color"
    assert oddity == "spNO.1/a/color differs from 'A' in case"


def test_several_places_are_named_not_guessed(place):
    files = [f"{camera}/s1/s1_ne_01/1.png" for camera in ("HS", "NIR", "VIS")]
    with pytest.raises(ClipAmbiguousError, match=r"3 places.*HS/s1/s1_ne_01, NIR/s1"):
        place(files, record("s1", "s1_ne_01"))


def test_loops_of_links_end(place, tmp_path):
    (tmp_path / "s1" / "x").mkdir(parents=True)
    for name in ("s1/up", "s1/x/up", "s1/x/other"):
        (tmp_path / name).symlink_to(tmp_path, target_is_directory=True)
    (tmp_path / "s1" / "itself").symlink_to(tmp_path / "s1" / "itself")
    (tmp_path / "s1" / "itself.mp4").symlink_to(tmp_path / "s1" / "itself.mp4")
    assert place(["s1/x/clip/1.png"], record("1", "clip")) == ("s1/x/clip", "")


def test_a_link_to_the_clips_is_followed(place, tmp_path):
    (tmp_path / "disk" / "s1" / "clip").mkdir(parents=True)
    (tmp_path / "disk" / "s1" / "clip" / "1.png").touch()
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "all").symlink_to(tmp_path / "disk")
    assert place([], record("1", "clip"), root=tmp_path / "root") == ("all/s1/clip", "")


@pytest.mark.parametrize("filename", ["../secret/clip", "/etc", "", ".", "..", "a\0b", "x" * 5000])
def test_no_name_leads_out_of_the_folder(place, tmp_path, filename):
    (tmp_path / "root").mkdir()
    with pytest.raises(ClipNotFoundError):
        place(["secret/clip/1.png"], record("1", filename), root=tmp_path / "root")


def test_a_missing_folder_is_said(tmp_path):
    with pytest.raises(DataNotFoundError, match="no folder of clips"):
        index_clips(tmp_path / "none", [record("1", "clip")])
