from collections import Counter

import numpy as np
import openpyxl
import pytest

from fedpsyau_client.labels.au_notation import ActionUnitLabel, parse_action_units
from fedpsyau_client.labels.class_rules import three_class
from fedpsyau_client.labels.readers import read_casme3_labels
from fedpsyau_client.splits import partition_subjects
from fedpsyau_client.synthetic.partition_labels import (
    CASME3_SPLIT_SEED,
    casme3_site_records,
    labels_of_records,
)
from fedpsyau_model.action_units import AUS
from fedpsyau_model.errors import LabelTableError

COLUMNS = ("Subject", "Filename", "Onset", "Apex", "Offset", "AU", "Objective class", "emotion")


def write_workbook(file, rows):
    workbook = openpyxl.Workbook()
    for row in rows:
        workbook.active.append(row)
    workbook.save(file)
    return file


def rows_of(table, kind):
    return [oddity.row for oddity in table.oddities if oddity.kind == kind]


@pytest.mark.parametrize(
    ("text", "units"),
    [
        ("4+L10", [(4, "both", ""), (10, "left", "")]),
        ("R12", [(12, "right", "")]),
        ("T23", [(23, "top", "")]),
        ("15A+17", [(15, "both", "A"), (17, "both", "")]),
        ("A12B", [(12, "asymmetric", "B")]),
        ("L12B", [(12, "left", "B")]),
        (" 1 + 2 ", [(1, "both", ""), (2, "both", "")]),
        ("AU4", [(4, "both", "")]),
        ("", []),
        ("0", []),
    ],
)
def test_notations(text, units):
    read, _ = parse_action_units(text)
    assert [(unit.au, unit.side, unit.intensity) for unit in read] == units
    assert all(unit.certain for unit in read)


def test_uncertain_units_are_kept_and_marked():
    assert parse_action_units("ref(7B)+43") == (
        (ActionUnitLabel(7, intensity="B", certain=False), ActionUnitLabel(43)),
        (),
    )
    read, unread = parse_action_units("(R6 or R12)+R15")
    assert [(unit.au, unit.side, unit.certain) for unit in read] == [
        (6, "right", False),
        (12, "right", False),
        (15, "right", True),
    ]
    assert unread == ()


def test_what_cannot_be_read_is_listed():
    read, unread = parse_action_units("4+smile+X7+100")
    assert [unit.au for unit in read] == [4]
    assert unread == ("smile", "X7", "100")


def test_a_table_is_read_with_its_oddities(tmp_path):
    file = write_workbook(
        tmp_path / "labels.xlsx",
        [
            COLUMNS,
            ("s1", "a", "10", 15, "20", "4+R12 ", "I", "disgust"),
            (None, None, None, None, None, None, None, None),
            ("s2", "A", 1, "?", 3, "4+oops", "I", "bored"),
        ],
    )
    table = read_casme3_labels(file)
    first, second = table.clips
    assert first.key == ("s1", "a", 10)
    assert (first.apex, first.offset, first.emotion) == (15, 20, "disgust")
    assert [(unit.au, unit.side) for unit in first.aus] == [(4, "both"), (12, "right")]
    assert (second.apex, second.emotion) == (None, "")
    assert len(table.oddities) == 3
    assert all(oddity.row == 4 for oddity in table.oddities)


def test_a_missing_file_is_explained(tmp_path):
    with pytest.raises(LabelTableError, match=r"no label table .*nowhere.xlsx"):
        read_casme3_labels(tmp_path / "nowhere.xlsx")


def test_what_is_no_workbook_is_explained(tmp_path):
    file = tmp_path / "labels.xlsx"
    file.write_text("Subject,Filename\n")
    with pytest.raises(LabelTableError, match="cannot be read as an Excel workbook"):
        read_casme3_labels(file)


def test_missing_columns_are_named(tmp_path):
    file = write_workbook(tmp_path / "labels.xlsx", [("Subject", "Filename", "AU")])
    with pytest.raises(LabelTableError, match="no column Onset, Apex, Offset, emotion"):
        read_casme3_labels(file)


def test_a_table_without_rows_is_refused(tmp_path):
    with pytest.raises(LabelTableError, match="not one row"):
        read_casme3_labels(write_workbook(tmp_path / "labels.xlsx", [COLUMNS]))


@pytest.fixture(scope="module")
def casme3(shared_data):
    return read_casme3_labels(shared_data / "annotations" / "casme3_part_A_labels.xlsx")


def test_casme3_part_a(casme3):
    assert len(casme3.clips) == 860
    assert len({clip.subject for clip in casme3.clips}) == 94
    assert rows_of(casme3, "offset-zero") == [798, 800]
    assert rows_of(casme3, "filename-case") == [61]
    assert len(rows_of(casme3, "clip-long")) == 570
    (repeated,) = (each for each in casme3.oddities if each.kind == "repeated-filename")
    assert repeated.row is None
    assert repeated.message.startswith("397 rows")
    assert len(casme3.oddities) == 2 + 1 + 570 + 1
    known = [clip for clip in casme3.clips if clip.emotion]
    assert len({clip.subject for clip in known}) == 88
    assert Counter(three_class(clip.emotion) for clip in known) == {
        "negative": 457,
        "positive": 55,
        "surprise": 187,
    }
    assert len({clip.key for clip in known}) == 699


def test_the_split_seed_gives_table_3(casme3):
    subjects = np.array([clip.subject for clip in casme3.clips if clip.emotion])
    first, second = partition_subjects(subjects, 2, np.random.default_rng(CASME3_SPLIT_SEED))
    assert (len(first), len(second)) == (426, 273)
    assert len(np.unique(subjects[first])) == len(np.unique(subjects[second])) == 44
    assert not set(subjects[first]) & set(subjects[second])


def test_sites_take_the_tables_labels_but_not_its_ids(casme3):
    first, _ = casme3_site_records(casme3.clips, 1.0, 8, seed=0)
    labels = labels_of_records(first, np.random.default_rng(0))
    assert len(labels) == 426
    assert sorted(set(labels.subject.tolist())) == list(range(44))
    assert (np.diff(labels.subject) >= 0).all()
    annotated = Counter(unit.au for clip in first for unit in set(clip.aus) if unit.au in AUS)
    assert labels.annotated.sum(axis=0).tolist() == [annotated[au] for au in AUS]
    one_sided = labels.shown.any(axis=-1) & ~labels.shown.all(axis=-1)
    assert 0 < one_sided.sum() < labels.annotated.sum() / 4


def test_a_small_scale_keeps_whole_subjects_and_all_classes(casme3):
    sites = casme3_site_records(casme3.clips, 0.1, 8, seed=3)
    again = casme3_site_records(casme3.clips, 0.1, 8, seed=3)
    assert sites == again
    full = casme3_site_records(casme3.clips, 1.0, 8, seed=3)
    for part, whole in zip(sites, full, strict=True):
        chosen = {clip.subject for clip in part}
        assert len(chosen) == 8
        assert part == tuple(clip for clip in whole if clip.subject in chosen)
        assert {three_class(clip.emotion) for clip in part} == {"negative", "positive", "surprise"}
