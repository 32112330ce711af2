import csv
import re
import zipfile
from collections import Counter
from pathlib import Path
from typing import get_args

import numpy as np
import openpyxl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from openpyxl.cell.cell import ILLEGAL_CHARACTERS_RE

from fedpsyau_client.labels.au_notation import ActionUnitLabel
from fedpsyau_client.labels.class_rules import class_of, three_class
from fedpsyau_client.labels.clip_record import ClipRecord
from fedpsyau_client.labels.datasets import DATASETS, DatasetName
from fedpsyau_client.labels.oddity_kinds import ODDITY_KINDS
from fedpsyau_client.labels.readers import read_casme3_labels, read_label_table
from fedpsyau_client.splits import partition_subjects
from fedpsyau_client.synthetic.partition_labels import (
    CASME3_SPLIT_SEED,
    casme3_site_records,
    labels_of_records,
)
from fedpsyau_model.action_units import AUS
from fedpsyau_model.emotions import CLASS_NAMES
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


def test_frame_numbers_that_make_no_sense_are_reported(tmp_path):
    def row(onset, apex, offset):
        return (f"s{onset}{apex}{offset}", "clip", onset, apex, offset, "4", "I", "disgust")

    file = write_workbook(
        tmp_path / "labels.xlsx",
        [
            COLUMNS,
            row(10, 12, 20),  # row 2: nothing
            row(10, 12, 0),
            row(10, 12, 5),
            row(10, 10, 20),
            row(10, 20, 20),
            row(10, 21, 20),
            row(10, 9, 20),
            row(10, 12, 25),  # exactly half a second at 30 frames a second
            row(10, 12, 26),
            row(-1, 12, 20),
            row("", "/", "x"),
            row(10.0, "12.0", "２０"),
            row(10.5, 12, 20),
        ],
    )
    table = read_casme3_labels(file)
    assert [(each.kind, each.row) for each in table.oddities if each.row and each.row <= 10] == [
        ("offset-zero", 3),
        ("offset-before-onset", 4),
        ("apex-equals-onset", 5),
        ("apex-equals-offset", 6),
        ("apex-outside", 7),
        ("apex-outside", 8),
        ("clip-long", 10),
    ]
    assert [(each.kind, each.row) for each in table.oddities if each.row and each.row > 10] == [
        ("frame-negative", 11),
        ("onset-missing", 12),
        ("apex-missing", 12),
        ("offset-missing", 12),
        ("onset-missing", 14),
    ]
    frames = [(clip.onset, clip.apex, clip.offset) for clip in table.clips]
    assert frames[1] == (10, 12, 0)
    assert frames[9:] == [(None, 12, 20), (None, None, None), (10, 12, 20), (None, 12, 20)]


def test_names_that_repeat_or_nearly_repeat_are_reported(tmp_path):
    def row(subject, filename, onset, emotion="disgust"):
        return (subject, filename, onset, onset + 2, onset + 4, "4", "I", emotion)

    file = write_workbook(
        tmp_path / "labels.xlsx",
        [
            COLUMNS,
            row("s1", "a", 1),
            row("s1", "a", 1),
            row("s1", "a", 9),
            row("s1", "A", 1),
            row("s2", "b", 1),
            row("s2", "B", 1),
            row(" s3", "c ", 1, " disgust"),
            row(None, "d", 1),
            row("s4", None, 1),
            row("s4", "e", 1, None),
        ],
    )
    table = read_casme3_labels(file)
    assert [(each.kind, each.row) for each in table.oddities] == [
        *[("stray-whitespace", 8)] * 3,
        ("subject-missing", 9),
        ("filename-missing", 10),
        ("emotion-missing", 11),
        ("duplicate-key", 3),
        ("repeated-filename", None),
        ("filename-case", 5),
        ("filename-case", 7),
    ]
    assert table.clips[6].key == ("s3", "c", 1)
    assert table.clips[6].emotion == "disgust"
    assert all(each.kind in ODDITY_KINDS for each in table.oddities)


def test_merged_and_formula_cells_are_read_and_reported(tmp_path):
    book = openpyxl.Workbook()
    sheet = book.active
    for row in (
        ("a title over the table",),
        COLUMNS,
        ("s1", "a", 1, 3, 5, "4", "I", "disgust"),
        ("", "b", 1, 3, 5, "4", "I", "fear"),
        ("s2", "c", 1, "=C5+2", 5, "4", "I", "sad"),
    ):
        sheet.append(row)
    sheet.merge_cells("A1:H1")
    sheet.merge_cells("A3:A4")
    other = book.create_sheet("more")
    other.append(("notes",))
    book.create_sheet("empty")
    book.save(tmp_path / "labels.xlsx")
    table = read_casme3_labels(tmp_path / "labels.xlsx")
    assert [(clip.row, clip.subject) for clip in table.clips] == [(3, "s1"), (4, "s1"), (5, "s2")]
    found = [(each.kind, each.row) for each in table.oddities]
    assert found == [
        ("merged-cells", 3),
        ("formula-cell", 5),
        ("extra-sheets", None),
        ("apex-missing", 5),
    ]


def test_a_lonely_cell_far_away_does_no_harm(tmp_path):
    book = openpyxl.Workbook()
    book.active.append(COLUMNS)
    book.active.append(("s1", "a", 1, 3, 5, "4", "I", "disgust"))
    book.active["XFD1"] = "far right"
    book.save(tmp_path / "wide.xlsx")
    merged = b'</sheetData><mergeCells><mergeCell ref="A2:XFD1048576"/></mergeCells>'
    with (
        zipfile.ZipFile(tmp_path / "wide.xlsx") as wide,
        zipfile.ZipFile(tmp_path / "merged.xlsx", "w") as all_merged,
    ):
        for name in wide.namelist():
            all_merged.writestr(name, wide.read(name).replace(b"</sheetData>", merged))
    assert len(read_casme3_labels(tmp_path / "wide.xlsx").clips) == 1
    assert read_casme3_labels(tmp_path / "merged.xlsx").clips[0].filename == "s1"
    book = openpyxl.Workbook()
    book.active.append(COLUMNS)
    book.active["A1048576"] = "far below"
    book.save(tmp_path / "high.xlsx")
    with pytest.raises(LabelTableError, match="more than 200000 rows"):
        read_casme3_labels(tmp_path / "high.xlsx")


def test_the_table_may_stand_on_any_sheet(tmp_path):
    book = openpyxl.Workbook()
    book.active.append(("read me first",))
    sheet = book.create_sheet("labels")
    sheet.append(COLUMNS)
    sheet.append(("s1", "a", 1, 3, 5, "4", "I", "disgust"))
    book.save(tmp_path / "labels.xlsx")
    assert len(read_casme3_labels(tmp_path / "labels.xlsx").clips) == 1


SAMM = (
    "Subject", "Filename", "Inducement Code", "Onset Frame", "Apex Frame", "Offset Frame",
    "Duration", "Micro", "Objective Classes", "Estimated Emotion", "Action Units", "Notes",
)  # fmt: skip


def test_samm_with_its_notes_above_the_header(tmp_path):
    notes = [(f"note {number}",) for number in range(13)]
    notes[3] = ("Subject", "the number of the person")
    file = write_workbook(
        tmp_path / "samm.xlsx",
        [
            *notes,
            SAMM,
            (6, "006_1_2", 1, 100, 120, 150, 51, "Micro", "I", "Anger", "4+A7B", None),
            ("011", "011_1_4", 1, 7, 8, 9, 3, "Micro", "VII", "Other", "L12 or 14", None),
        ],
    )
    table = read_label_table(file, "samm")
    first, second = table.clips
    assert (first.row, first.subject, first.emotion, first.dataset) == (15, "006", "anger", "samm")
    assert [(unit.au, unit.side, unit.intensity) for unit in first.aus] == [
        (4, "both", ""),
        (7, "asymmetric", "B"),
    ]
    assert (second.subject, second.emotion, second.emotion_label) == ("011", "", "other")
    assert table.oddities == ()
    assert table.frame_rate == 200


def test_casme2_as_published_and_as_edited(tmp_path):
    published = ("Subject", "Filename", "", "OnsetFrame", "ApexFrame", "OffsetFrame", "",
                 "Action Units", "Estimated Emotion")  # fmt: skip
    file = write_workbook(
        tmp_path / "casme2.xlsx",
        [
            published,
            (1, "EP02_01f", None, 46, 59, 86, None, 12, "happiness"),
            ("04", "EP12_01f", None, 261, "/", 321, None, "4+7", "disgust"),
        ],
    )
    table = read_label_table(file, "casme2")
    assert [clip.subject for clip in table.clips] == ["01", "04"]
    assert [[unit.au for unit in clip.aus] for clip in table.clips] == [[12], [4, 7]]
    assert [(each.kind, each.row) for each in table.oddities] == [("apex-missing", 3)]
    assert table.clips[1].apex is None


def test_smic_has_no_apex_no_aus_and_several_clips_in_a_row(tmp_path):
    header = ("Subject", "Filename", "OnsetF", "OffsetF", "TotalMF1", "Emotion", "FirstF",
              "LastF", "TotalVL", "Onset2F", "Offset2F", "TotalMF2")  # fmt: skip
    file = write_workbook(
        tmp_path / "smic.xlsx",
        [
            header,
            (1, "s01_ne_01", 1000, 1030, 31, "negative", 900, 1200, 301, None, None, None),
            (1, "s01_sur_01", 2000, 2030, 31, "Surprise", 900, 1200, 301, 2100, 2120, 21),
        ],
    )
    table = read_label_table(file, "smic")
    assert [(clip.row, clip.onset, clip.apex, clip.offset) for clip in table.clips] == [
        (2, 1000, None, 1030),
        (3, 2000, None, 2030),
        (3, 2100, None, 2120),
    ]
    assert [(clip.emotion, clip.emotion_label) for clip in table.clips[:2]] == [
        ("", "negative"),
        ("surprise", "surprise"),
    ]
    assert {clip.aus for clip in table.clips} == {None}
    assert [each.kind for each in table.oddities] == ["column-absent"] * 2 + ["repeated-filename"]
    assert [class_of(clip, "megc2019", "three") for clip in table.clips] == [
        "negative",
        "surprise",
        "surprise",
    ]


@pytest.mark.parametrize(
    ("dataset", "header", "rate"),
    [
        ("dfme", "Subject,Filename,Onset,Apex,Offset,AU,Emotion", None),
        ("dfme", "subject_id;video_name;onset_frame;apex_frame;offset_frame;AUs;label", None),
        ("dfme", "Subject,Filename,OnsetFrame,ApexFrame,OffsetFrame,AU,Emotion", None),
        (
            "mmew",
            "Subject\tFilename\tOnsetFrame\tApexFrame\tOffsetFrame\tAction Units\tEmotion",
            90,
        ),
        ("casme2", "Subject,Filename,onset frame,APEX FRAME,Offset_Frame,AU,Emotion", 200),
        ("csv", "subject,filename,onset,apex,offset,au,emotion", None),
    ],
)
def test_columns_are_found_whatever_their_case_spaces_and_delimiter(
    tmp_path, dataset, header, rate
):
    delimiter = next(each for each in ",;\t" if each in header)
    row = delimiter.join(("07", "clip", "1", "3", "5", '"1,2"', "Contempt"))
    file = tmp_path / "labels.csv"
    file.write_text(f"{header}\n\n{row}\n")
    table = read_label_table(file, dataset)
    (clip,) = table.clips
    assert clip == ClipRecord(
        3,
        "07",
        "clip",
        1,
        3,
        5,
        "contempt",
        "contempt",
        (ActionUnitLabel(1), ActionUnitLabel(2)),
        dataset,
    )
    assert table.oddities == ()
    assert table.frame_rate == rate


def test_units_may_stand_in_cells_of_their_own(tmp_path):
    book = openpyxl.Workbook()
    book.active.append(
        ("Subject", "Filename", "OnsetFrame", "ApexFrame", "OffsetFrame", "Emotion", "AU")
    )
    book.active.append((1, "sub0001_01", 0, 9, 20, "Fear", 4, "L10", None))
    book.active.append((1, "sub0001_02", 0, 9, 20, "Fear", None, "x", 12))
    book.active.merge_cells("G1:I1")
    book.save(tmp_path / "dfme.xlsx")
    table = read_label_table(tmp_path / "dfme.xlsx", "dfme")
    assert [[unit.au for unit in clip.aus] for clip in table.clips] == [[4, 10], [12]]
    assert [(each.kind, each.row) for each in table.oddities] == [
        ("merged-cells", 1),
        ("au-unread", 3),
    ]


@pytest.mark.parametrize(
    ("encoding", "name", "guessed"),
    [
        ("utf-8", "张伟", False),
        ("utf-8-sig", "张伟", False),
        ("utf-16", "张伟", False),
        ("utf-16-le", "张伟", True),
        ("gb18030", "张伟", True),
        ("latin-1", "José", True),
    ],
)
def test_encodings(tmp_path, encoding, name, guessed):
    file = tmp_path / "labels.csv"
    file.write_bytes(f"subject,filename,onset,apex\n{name},clip,1,3\n".encode(encoding))
    table = read_label_table(file, "csv")
    assert table.clips[0].subject == name
    assert [each.kind for each in table.oddities if each.kind == "encoding-guessed"] == (
        ["encoding-guessed"] * guessed
    )


def test_a_plain_table_with_few_columns_and_one_with_all(tmp_path):
    few = tmp_path / "few.csv"
    few.write_text("filename,subject\nclips/one,anna\n")
    table = read_label_table(few, "csv")
    assert table.clips == (
        ClipRecord(2, "anna", "clips/one", None, None, None, "", "", None, "csv"),
    )
    assert [each.message.split()[-1] for each in table.oddities] == [
        "onset", "apex", "offset", "au", "emotion",
    ]  # fmt: skip
    full = tmp_path / "full.csv"
    full.write_text(
        "subject,filename,onset,apex,offset,au,emotion,site,flow_image\n"
        "anna,one,0,3,5,,happy,north,a/1.png\n"
        "anna,two,0,3,5,none,positive,south,a/2.png\n"
    )
    first, second = read_label_table(full, "csv").clips
    assert (first.aus, second.aus) == (None, ())
    assert (first.emotion, first.site, first.flow_image) == ("happiness", "north", "a/1.png")
    assert class_of(second, "authors", "three") == "positive"


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("labels.xls", b"\xd0\xcf\x11\xe0", r"save it as \.xlsx"),
        ("labels.csv", b"", "is empty"),
        ("labels.csv", b"  \n \n", "is empty"),
        ("labels.csv", b"a,b\n1,2\n", "has no column Subject, Filename, Onset"),
        ("labels.csv", bytes(range(256)) * 4, "has no column|cannot be read"),
        ("labels.xlsx", b"PK\x03\x04 torn", "cannot be read as an Excel workbook"),
    ],
)
def test_what_is_no_label_table_is_explained(tmp_path, name, content, says):
    file = tmp_path / name
    file.write_bytes(content)
    with pytest.raises(LabelTableError, match=says):
        read_casme3_labels(file)


def test_a_folder_is_no_table(tmp_path):
    with pytest.raises(LabelTableError, match="no label table"):
        read_casme3_labels(tmp_path)


def test_a_workbook_cut_off_anywhere_is_refused(tmp_path):
    whole = write_workbook(tmp_path / "whole.xlsx", [COLUMNS]).read_bytes()
    file = tmp_path / "cut.xlsx"
    for length in range(0, len(whole), 97):
        file.write_bytes(whole[:length])
        with pytest.raises(LabelTableError):
            read_casme3_labels(file)


CELLS = st.one_of(
    st.none(),
    st.sampled_from((*COLUMNS, "subject", "OnsetF", "AU4", "disgust", "12", "/", "a\nb", '"')),
    st.integers(-5, 5),
    st.integers(),
    st.floats(),
    st.booleans(),
    st.dates(),
    st.text(max_size=8).filter(lambda text: not ILLEGAL_CHARACTERS_RE.search(text)),
)
HEADERS = st.sampled_from((COLUMNS, SAMM, ("subject", "filename"), ("onset", "apex")))


@settings(max_examples=60, deadline=None)
@given(
    grid=st.lists(st.lists(CELLS, max_size=9), max_size=6),
    header=HEADERS,
    dataset=st.sampled_from(("casme3", "casme2", "samm", "smic", "dfme", "mmew", "csv")),
    kind=st.sampled_from((".xlsx", ".csv", ".tsv")),
)
def test_any_grid_of_cells_is_read_or_refused(tmp_path_factory, grid, header, dataset, kind):
    file = tmp_path_factory.mktemp("grid") / f"labels{kind}"
    if kind == ".xlsx":
        write_workbook(file, [header, *grid])
    else:
        with file.open("w", newline="", encoding="utf-8", errors="surrogatepass") as lines:
            csv.writer(lines, delimiter="\t" if kind == ".tsv" else ",").writerows([header, *grid])
    try:
        table = read_label_table(file, dataset)
    except LabelTableError:
        return
    assert table.clips
    for clip in table.clips:
        assert clip.row >= 2
        assert all(frame is None or frame >= 0 for frame in (clip.onset, clip.apex, clip.offset))
        assert class_of(clip, "authors", "three") in ("", *CLASS_NAMES["three"])
        assert class_of(clip, "megc2019", "seven") in ("", *CLASS_NAMES["seven"])
    assert all(each.kind in ODDITY_KINDS for each in table.oddities)


def test_the_page_has_every_kind_of_oddity_and_every_data_set():
    page = (Path(__file__).parents[2] / "docs" / "label-tables.md").read_text(encoding="utf-8")
    told = {}
    for line in page.split("## Oddities\n")[1].split("\n## ")[0].splitlines():
        if line.startswith("| `"):
            kinds, severity, _ = (cell.strip() for cell in line.strip("|").split("|"))
            told |= dict.fromkeys(re.findall(r"`([\w-]+)`", kinds), severity)
    assert told == {name: kind.severity for name, kind in ODDITY_KINDS.items()}
    rows = page.split("## The data sets\n")[1].split("\n\n")[0]
    assert re.findall(r"`([a-z0-9]+)`", "".join(re.findall(r"^\|[^|]*\|", rows, re.M))) == [
        *DATASETS
    ]


def test_every_data_set_is_declared():
    assert tuple(DATASETS) == get_args(DatasetName)
    for declared in DATASETS.values():
        assert set(declared.required) <= set(declared.columns) or not declared.columns


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
def casme2(shared_data):
    return read_label_table(shared_data / "annotations" / "casme2_labels.xlsx", "casme2")


def class_counts(table, rule, scheme):
    return Counter(class_of(clip, rule, scheme) for clip in table.clips)


def test_casme2(casme2):
    assert len(casme2.clips) == 250
    assert len({clip.subject for clip in casme2.clips}) == 26
    assert class_counts(casme2, "authors", "three") == {
        "negative": 99, "positive": 32, "surprise": 25, "": 94,
    }  # fmt: skip
    assert class_counts(casme2, "megc2019", "three") == {
        "negative": 88, "positive": 32, "surprise": 25, "": 105,
    }  # fmt: skip
    in_challenge = [clip for clip in casme2.clips if class_of(clip, "megc2019", "three")]
    assert len({clip.subject for clip in in_challenge}) == 24
    assert class_counts(casme2, "megc2019", "seven")[""] == 94 + 27  # others and repression
    assert rows_of(casme2, "apex-equals-offset") == [50, 117, 200, 235]
    assert rows_of(casme2, "clip-long") == [10, 12, 13, 18, 70, 73, 75, 106, 136, 206]
    assert len(casme2.oddities) == 4 + 10


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
    for rule in ("authors", "megc2019"):
        assert class_counts(casme3, rule, "three") == {
            "negative": 457, "positive": 55, "surprise": 187, "": 161,
        }  # fmt: skip
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
