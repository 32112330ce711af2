import re
from collections import Counter

import openpyxl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedpsyau_client.labels.au_notation import ActionUnitLabel, parse_action_units
from fedpsyau_client.labels.readers import read_label_table


@pytest.mark.parametrize(
    ("text", "units"),
    [
        ("4+L10", [(4, "both", ""), (10, "left", "")]),
        ("R12", [(12, "right", "")]),
        ("T23", [(23, "top", "")]),
        ("B28", [(28, "bottom", "")]),
        ("15A+17", [(15, "both", "A"), (17, "both", "")]),
        ("A12B", [(12, "asymmetric", "B")]),
        ("L12B", [(12, "left", "B")]),
        (" 1 + 2 ", [(1, "both", ""), (2, "both", "")]),
        ("12.0", [(12, "both", "")]),
        ("AU4", [(4, "both", "")]),
        ("AU 4, au12b", [(4, "both", ""), (12, "both", "B")]),
        ("4，7", [(4, "both", ""), (7, "both", "")]),
        ("4；7、９", [(4, "both", ""), (7, "both", ""), (9, "both", "")]),
        ("(4+7)", [(4, "both", ""), (7, "both", "")]),
        ("r6 + l 12 c", [(6, "right", ""), (12, "left", "C")]),
        ("4+", [(4, "both", "")]),
        ("", []),
        ("  ", []),
        ("0", []),
        ("none", []),
        ("/", []),
    ],
)
def test_notations(text, units):
    read, unread = parse_action_units(text)
    assert [(unit.au, unit.side, unit.intensity) for unit in read] == units
    assert all(unit.certain for unit in read)
    assert unread == ()


@pytest.mark.parametrize(
    ("text", "units"),
    [
        ("ref(7B)+43", [(7, "both", False), (43, "both", True)]),
        ("(R6 or R12)+R15", [(6, "right", False), (12, "right", False), (15, "right", True)]),
        ("4or7", [(4, "both", False), (7, "both", False)]),
        ("4orL7", [(4, "both", False), (7, "left", False)]),
        ("6|7+4", [(6, "both", False), (7, "both", False), (4, "both", True)]),
        ("4?+7", [(4, "both", False), (7, "both", True)]),
        ("ref(6+12)", [(6, "both", False), (12, "both", False)]),
        ("ref(6 or (12+L15))", [(6, "both", False), (12, "both", False), (15, "left", False)]),
    ],
)
def test_uncertain_units_are_kept_and_marked(text, units):
    read, unread = parse_action_units(text)
    assert [(unit.au, unit.side, unit.certain) for unit in read] == units
    assert unread == ()


def test_intensity_in_brackets_is_kept():
    assert parse_action_units("ref(7B)")[0] == (ActionUnitLabel(7, "both", "B", certain=False),)


@pytest.mark.parametrize(
    ("text", "units", "unread"),
    [
        ("4+smile+X7+100", [4], ("smile", "X7", "100")),
        ("?", [], ("?",)),
        ("4+?", [4], ("?",)),
        ("4+0", [4], ("0",)),
        ("4 7", [], ("4 7",)),
        ("1.2", [], ("1.2",)),
        ("(4 or smile)+7", [7], ("(4 or smile)",)),
        ("(4+7", [], ("(4+7",)),
        ("4)+7", [7], ("4)",)),
        ("ref()", [], ("ref()",)),
        ("++", [], ("++",)),
        ("4 orange", [], ("4 orange",)),
    ],
)
def test_what_cannot_be_read_is_listed(text, units, unread):
    read, left = parse_action_units(text)
    assert [unit.au for unit in read] == units
    assert left == unread


def test_a_novel_in_the_cell_is_handed_back_whole():
    text = "(" * 5000 + "4" + ")" * 5000
    assert parse_action_units(text) == ((), (text,))


@given(st.text() | st.text(alphabet="0123456789 +,;()?|LRATBEorefAU.\n", max_size=60))
def test_no_text_makes_it_raise_or_lose_a_number(text):
    read, unread = parse_action_units(text)
    assert all(1 <= unit.au <= 99 for unit in read)
    if text.strip() and not read and not unread:
        assert text.strip().lower() in ("0", "0.0", "none", "nan", "n/a", "na", "/", "-")
    if text.isascii() and re.fullmatch(r"[^.]*", text):
        accounted = [str(unit.au) for unit in read]
        accounted += [digits for piece in unread for digits in re.findall(r"\d+", piece)]
        numbers = Counter(int(digits) for digits in re.findall(r"\d+", text) if int(digits))
        assert Counter(int(digits) for digits in accounted if int(digits)) == numbers


@pytest.mark.parametrize(
    ("dataset", "file", "column"),
    [("casme3", "casme3_part_A_labels.xlsx", 5), ("casme2", "casme2_labels.xlsx", 7)],
)
def test_every_token_of_the_real_tables_is_accounted_for(shared_data, dataset, file, column):
    """Against a tokenisation of its own, and against the tables' own column of plain numbers."""
    path = shared_data / "annotations" / file
    rows = list(openpyxl.load_workbook(path).worksheets[0].iter_rows(values_only=True))[1:]
    table = read_label_table(path, dataset)
    assert not [oddity for oddity in table.oddities if oddity.kind == "au-unread"]
    assert len(table.clips) == len(rows)
    for clip, row in zip(table.clips, rows, strict=True):
        read = [
            {"left": "L", "right": "R", "top": "T", "bottom": "B", "both": ""}[unit.side]
            + f"{unit.au}{unit.intensity}"
            for unit in clip.aus
        ]
        assert read == re.findall(r"[^+\s]+", str(row[column])), clip.row
        plain = str(row[-1]).split(",")
        assert [str(unit.au) for unit in clip.aus] == plain, clip.row
        assert all(unit.certain for unit in clip.aus)
