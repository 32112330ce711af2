from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from fedpsyau_client.labels.au_notation import ActionUnitLabel
from fedpsyau_client.labels.disfa import DISFA_AUS, Pair, PairRule, choose_pairs, read_disfa_labels
from fedpsyau_client.labels.readers import read_label_table
from fedpsyau_model.errors import LabelTableError


def column(*intensities):
    return np.array(intensities, dtype=np.int64)[:, None]


def test_a_pair_goes_from_the_last_frame_at_rest_to_the_peak():
    assert choose_pairs(column(0, 0, 1, 2, 3, 3, 1, 0, 0), PairRule()) == (Pair(1, 4, 7),)


def test_the_video_may_end_before_rest_and_begin_within_an_episode():
    assert choose_pairs(column(3, 2, 0, 1, 2), PairRule()) == (Pair(2, 4, None),)


def test_small_rises_and_rest_make_no_pair():
    assert choose_pairs(column(0, 1, 0, 1, 1, 0), PairRule()) == ()
    assert choose_pairs(column(0, 1, 0), PairRule(min_rise=1)) == (Pair(0, 1, 2),)
    assert choose_pairs(column(2, 2, 2), PairRule()) == ()
    assert choose_pairs(np.zeros((0, 12), np.int64), PairRule()) == ()


def test_the_peak_is_looked_for_near_the_onset():
    late = column(0, 1, 2, 2, 3, 0)
    assert choose_pairs(late, PairRule(max_distance=3)) == (Pair(0, 2, 5),)
    assert choose_pairs(late, PairRule(max_distance=4)) == (Pair(0, 4, 5),)


def test_rest_is_each_units_lowest_and_ties_go_to_all_units_together():
    intensities = np.array([[1, 0], [3, 0], [3, 1], [3, 1], [1, 0], [1, 2], [1, 0]])
    assert choose_pairs(intensities, PairRule()) == (Pair(0, 2, 4), Pair(4, 5, 6))


@given(
    arrays(np.int64, st.tuples(st.integers(0, 40), st.integers(1, 4)), elements=st.integers(0, 5))
)
def test_pairs_do_not_overlap_and_rise_from_rest(intensities):
    rule = PairRule(min_rise=2, max_distance=7)
    before = -1
    for pair in choose_pairs(intensities, rule):
        assert before <= pair.onset < pair.apex <= pair.onset + rule.max_distance
        assert (intensities[pair.onset] == intensities.min(axis=0)).all()
        assert (intensities[pair.apex] - intensities[pair.onset]).max() >= rule.min_rise
        assert pair.offset is None or pair.offset > pair.apex
        before = pair.apex if pair.offset is None else pair.offset


def write_disfa(root, subject, shown, frames=30, first=1):
    """`shown`: AU -> {frame: intensity}; all other frames are 0."""
    folder = root / "ActionUnit_Labels" / subject
    folder.mkdir(parents=True)
    for au in DISFA_AUS:
        lines = (
            f"{frame},{shown.get(au, {}).get(frame, 0)}\n" for frame in range(first, frames + first)
        )
        (folder / f"{subject}_au{au}.txt").write_text("".join(lines))


@pytest.fixture
def disfa(tmp_path):
    write_disfa(tmp_path, "SN001", {12: {10: 2, 11: 4, 12: 3}, 6: {11: 2}, 25: {11: 1}})
    write_disfa(tmp_path, "SN002", {4: {20: 3}})
    for name in ("Videos_LeftCamera/LeftVideoSN001_comp.avi",
                 "Video_LeftCamera/LeftVideoSN002_comp.avi"):  # fmt: skip
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).touch()
    return tmp_path


def test_disfa(disfa):
    table = read_label_table(disfa, "disfa")
    first, second = table.clips
    assert first.key == ("SN001", "Videos_LeftCamera/LeftVideoSN001_comp.avi", 9)
    assert (first.row, first.apex, first.offset) == (1, 11, 13)
    assert first.aus == (
        ActionUnitLabel(6, intensity="B"),
        ActionUnitLabel(12, intensity="D"),
    )
    assert (first.emotion, first.emotion_label, first.dataset) == ("", "", "disfa")
    assert second.key == ("SN002", "Video_LeftCamera/LeftVideoSN002_comp.avi", 19)
    assert second.row == 2
    assert table.oddities == ()
    assert (table.frame_rate, table.coded_aus) == (20, DISFA_AUS)
    strict = read_disfa_labels(disfa, PairRule(min_rise=4))
    assert strict.clips == (replace(first, aus=first.aus[1:]),)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"1,0\n2,9\n", "line 2 is not"),
        (b"1,0\n3,0\n", "gaps"),
        (b"", "empty"),
        (b"\xff\xfe", "ascii"),
        (None, "No such file"),
    ],
)
def test_a_damaged_file_of_disfa_is_reported_and_the_rest_read(disfa, content, says):
    file = disfa / "ActionUnit_Labels" / "SN001" / "SN001_au6.txt"
    file.unlink()
    if content is not None:
        file.write_bytes(content)
    table = read_label_table(disfa, "disfa")
    assert [[unit.au for unit in clip.aus] for clip in table.clips] == [[12], [4]]
    (oddity,) = table.oddities
    assert oddity.kind == "label-file-unreadable"
    assert oddity.message.startswith("SN001/SN001_au6.txt: ")
    assert says in oddity.message


def test_files_of_different_length_are_cut_to_what_they_share(disfa):
    file = disfa / "ActionUnit_Labels" / "SN001" / "SN001_au6.txt"
    file.write_text("".join(f"{frame},{frame // 8}\n" for frame in range(9, 14)))
    table = read_label_table(disfa, "disfa")
    assert (table.clips[0].onset, table.clips[0].apex) == (9, 11)
    assert [each.kind for each in table.oddities] == ["label-file-unreadable"]
    assert "9 to 13" in table.oddities[0].message


def test_missing_videos_of_disfa_are_noted(tmp_path):
    write_disfa(tmp_path, "SN001", {12: {10: 2}})
    table = read_label_table(tmp_path, "disfa")
    assert table.clips[0].filename == "Videos_LeftCamera/LeftVideoSN001_comp.avi"
    assert [each.kind for each in table.oddities] == ["video-missing"]


def test_what_is_not_disfa_is_explained(tmp_path):
    with pytest.raises(LabelTableError, match="no folder ActionUnit_Labels"):
        read_label_table(tmp_path, "disfa")
    (tmp_path / "ActionUnit_Labels" / "SN001").mkdir(parents=True)
    with pytest.raises(LabelTableError, match="None of the label files"):
        read_label_table(tmp_path, "disfa")
    write_disfa(tmp_path, "SN002", {})
    with pytest.raises(LabelTableError, match="smaller rise"):
        read_label_table(tmp_path, "disfa")


def write_ck_plus(root, subject, sequence, coded, text, images=None):
    facs = root / "FACS" / subject / sequence
    facs.mkdir(parents=True)
    (facs / f"{subject}_{sequence}_{coded:08d}_facs.txt").write_text(text)
    folder = root / "cohn-kanade-images" / subject / sequence
    folder.mkdir(parents=True)
    for number in range(1, coded + 1) if images is None else images:
        (folder / f"{subject}_{sequence}_{number:08d}.png").touch()


def test_ck_plus(tmp_path):
    write_ck_plus(
        tmp_path,
        "S005",
        "001",
        11,
        "   9.0000000e+00   4.0000000e+00\n   1.7000000e+01   0.0000000e+00\n\n",
    )
    write_ck_plus(tmp_path, "S010", "002", 14, "")
    (tmp_path / "cohn-kanade-images" / "S010" / ".DS_Store").touch()
    table = read_label_table(tmp_path, "ckplus")
    first, second = table.clips
    assert first.key == ("S005", "cohn-kanade-images/S005/001", 1)
    assert (first.row, first.apex, first.offset, first.emotion) == (1, 11, None, "")
    assert first.aus == (ActionUnitLabel(9, intensity="D"), ActionUnitLabel(17))
    assert (second.subject, second.apex, second.aus) == ("S010", 14, ())
    assert table.oddities == ()
    assert (table.frame_rate, table.coded_aus) == (None, None)


@pytest.mark.parametrize(
    "text", ["nine 4", "9.5 1", "9 6", "0 1", "9", "9 1 1", "nan 1", "inf 1", "9 -1", "é"]
)
def test_a_damaged_file_of_ck_plus_is_reported_and_the_rest_read(tmp_path, text):
    write_ck_plus(tmp_path, "S005", "001", 11, text)
    write_ck_plus(tmp_path, "S006", "001", 5, "12 0")
    table = read_label_table(tmp_path, "ckplus")
    assert [clip.subject for clip in table.clips] == ["S006"]
    (oddity,) = table.oddities
    assert oddity.kind == "label-file-unreadable"
    assert oddity.message.startswith("FACS/S005/001/S005_001_00000011_facs.txt: ")


def test_ck_plus_images_that_do_not_fit_are_noted(tmp_path):
    write_ck_plus(tmp_path, "S005", "001", 5, "12 0", images=(2, 3, 5, 6))
    write_ck_plus(tmp_path, "S006", "001", 5, "12 0", images=())
    table = read_label_table(tmp_path, "ckplus")
    assert [(clip.onset, clip.apex) for clip in table.clips] == [(2, 5), (1, 5)]
    assert [each.kind for each in table.oddities] == ["apex-differs", "video-missing"]


def test_what_is_not_ck_plus_is_explained(tmp_path):
    with pytest.raises(LabelTableError, match="no files FACS/S005"):
        read_label_table(tmp_path, "ckplus")
    write_ck_plus(tmp_path, "S005", "001", 11, "torn")
    with pytest.raises(LabelTableError, match="None of the 1 FACS files"):
        read_label_table(tmp_path, "ckplus")
