"""A study of three participants and four pairs, small enough to work out by hand."""

from __future__ import annotations

import contextlib
import csv
import json
import math
import re
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from click.testing import Result
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.image import imread
from openpyxl import Workbook
from typer.testing import CliRunner

import fedpsyau_priors as priors
from fedpsyau_client.own_priors.matrix_csv import read_matrix
from fedpsyau_client.own_priors.priors_file import read_priors_file
from fedpsyau_client.own_priors.study_responses import read_exclusions, read_study_responses
from fedpsyau_client.priors_commands import app
from fedpsyau_model.action_units import AUS
from fedpsyau_model.errors import PriorsFileError, SettingsError, StudyResponsesError

HEADER = ["participant", "first", "second", "expected", "judged", "score"]

#: Pair, type, and what Ann, Bob and Cid judged (1 coordinated) with their scores.
DESIGN = [
    ((6, 12), "coordinated", (1, 1, 1), (5, 6, 7)),
    ((1, 25), "coordinated", (1, 1, 0), (4, 4, 1)),
    ((4, 12), "uncoordinated", (0, 0, 0), (3, 2, 1)),
    ((6, 15), "uncoordinated", (0, 1, 1), (2, 0, 1)),
    ((2, 9), "uncoordinated", (1, 1, 1), (6, 6, 6)),
]
NAMES = ("Ann", "Bob", "Cid")

ROWS = [
    [name, f"AU{pair[0]}", str(pair[1]), expected, ("uncoordinated", "coordinated")[vote], score]
    for pair, expected, votes, scores in DESIGN
    for name, vote, score in zip(NAMES, votes, scores, strict=True)
]


def write(file: Path, rows: list[list[object]], header: list[str] = HEADER) -> Path:
    with file.open("w", encoding="utf-8", newline="") as stream:
        csv.writer(stream).writerows([header, *rows])
    return file


def study(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["study", *(str(argument) for argument in arguments)])


def column(first: int, second: int) -> int:
    return AUS.index(first), AUS.index(second)


@pytest.fixture
def responses(tmp_path: Path) -> Path:
    return write(tmp_path / "responses.csv", ROWS)


def test_table_2_by_hand(responses: Path) -> None:
    read = read_study_responses(responses)
    statistics = [
        priors.type_statistics(read.judged, read.scores, read.expected, coordinated)
        for coordinated in (True, False)
    ]
    # Coordinated pairs: Ann 2 of 2, Bob 2 of 2, Cid 1 of 2; sums of scores 9, 10, 8.
    first = statistics[0]
    assert first.pairs == 2
    assert first.accuracy_mean == pytest.approx(5 / 6)
    assert first.accuracy_sd == pytest.approx(math.sqrt((2 / 36 + 4 / 36) / 2))
    assert first.score_mean == 9
    assert first.score_sd == 1
    # Uncoordinated: Ann 2 of 3, Bob 1 of 3, Cid 1 of 3; sums 11, 8, 8.
    second = statistics[1]
    assert second.pairs == 3
    assert second.accuracy_mean == pytest.approx(4 / 9)
    assert second.accuracy_sd == pytest.approx(math.sqrt((4 + 1 + 1) / 81 / 2))
    assert second.score_mean == 9
    assert second.score_sd == pytest.approx(math.sqrt((4 + 1 + 1) / 2))


def test_the_deviation_of_these_participants_alone(responses: Path) -> None:
    read = read_study_responses(responses)
    found = priors.type_statistics(read.judged, read.scores, read.expected, True, ddof=0)
    assert found.score_sd == pytest.approx(math.sqrt(2 / 3))


def test_one_participant_has_no_deviation() -> None:
    judged = np.array([[True, False]])
    found = priors.type_statistics(judged, np.array([[3.0, 4.0]]), np.array([True, True]), True)
    assert found == (2, 0.5, None, 7, None)
    assert priors.type_statistics(judged, judged * 1.0, np.array([True, True]), False) is None


@pytest.mark.parametrize(
    ("participants", "needed"), [(30, 21), (3, 3), (4, 3), (5, 4), (6, 5), (1, 1), (29, 20)]
)
def test_more_than_two_thirds_are_needed(participants: int, needed: int) -> None:
    votes = np.arange(participants + 1)
    assert priors.chosen(votes, participants).tolist() == (votes >= needed).tolist()
    half = priors.chosen(votes, participants, Fraction(1, 2))
    assert half.tolist() == [2 * count > participants for count in votes]


def test_the_matrix_by_hand() -> None:
    tested = [(1, 25), (2, 9), (4, 12), (6, 12), (6, 15)]
    matrix = priors.coordinated_matrix(tested, [(1, 25), (2, 9), (6, 12)], [(2, 9)])
    assert matrix[column(6, 12)] == matrix[column(12, 6)] == 1
    assert matrix[column(2, 9)] == matrix[column(4, 12)] == 0
    assert matrix.sum() == 12 + 2  # AU25 is none of the twelve


def test_pairs_that_were_not_asked_about_are_taken_from_elsewhere() -> None:
    published = priors.published_intrinsic()
    matrix = priors.coordinated_matrix([(1, 2), (4, 12)], [(4, 12)], [(4, 9)], published)
    expected = priors.symmetric_closure(published).astype(int)
    for pair, value in (((1, 2), 0), ((4, 12), 1), ((4, 9), 0)):
        assert expected[column(*pair)] != value
        expected[column(*pair)] = expected[column(*pair[::-1])] = value
    assert matrix.tolist() == expected.tolist()


def test_a_coordinated_pair_must_have_been_tested() -> None:
    with pytest.raises(priors.PriorError, match=r"\(1, 2\)"):
        priors.coordinated_matrix([(4, 12)], [(1, 2)], [])


def test_the_command_writes_what_was_worked_out(responses: Path, tmp_path: Path) -> None:
    exclusions = write(
        tmp_path / "exclusions.csv", [[2, 9, "for this test"]], ["first", "second", "reason"]
    )
    out = tmp_path / "out"
    result = study(responses, "--out", out, "--exclusions", exclusions, "--untested", "zero")
    assert result.exit_code == 0, result.output
    assert "AU2-AU9 was expected to be uncoordinated" in " ".join(result.stdout.split())
    document = json.loads((out / "study.json").read_text())
    assert document["statistics"]["coordinated"]["score_sd"] == 1
    assert {tuple(each["pair"]): each["chosen"] for each in document["pairs"]} == {
        (1, 25): "",  # two of three are not more than two thirds
        (2, 9): "coordinated",
        (4, 12): "uncoordinated",
        (6, 12): "coordinated",
        (6, 15): "",
    }
    matrix = read_matrix(out / "intrinsic.csv")
    assert matrix.sum() == 12 + 2
    assert matrix[column(6, 12)] == 1
    made = read_priors_file(out / "priors.json")
    assert made.intrinsic == tuple(tuple(row) for row in matrix.astype(int).tolist())
    used = made.priors()
    assert (used.counts == priors.cooccurrence_counts()).all()
    assert used.edges[column(6, 12)]
    assert not used.edges[column(2, 9)]
    for picture in ("pairs.png", "intrinsic.png", "statistics.png"):
        assert imread(out / picture).std() > 0.05
    written = "".join(path.read_text() for path in out.iterdir() if path.suffix != ".png")
    assert not any(re.search(rf"\b{name}\b", written) for name in NAMES)


def test_without_expectations_there_are_pairs_but_no_accuracy(tmp_path: Path) -> None:
    file = write(
        tmp_path / "r.csv",
        [[row[0], row[2], row[1], row[4], row[5]] for row in ROWS],
        ["Participant", "First AU", "Second AU", "Judged", "Score"],
    )
    result = study(file, "--out", tmp_path / "out", "--json")
    assert result.exit_code == 0, result.output
    document = json.loads(result.stdout)
    assert document["statistics"] == {}
    assert [each["pair"] for each in document["pairs"]][:2] == [[1, 25], [2, 9]]
    assert not (tmp_path / "out" / "statistics.csv").exists()


def test_a_workbook_is_read_like_text(responses: Path, tmp_path: Path) -> None:
    book = Workbook()
    for row in [HEADER, *ROWS]:
        book.active.append(row)
    book.save(tmp_path / "responses.xlsx")
    first, second = (
        read_study_responses(file) for file in (responses, tmp_path / "responses.xlsx")
    )
    assert first.pairs == second.pairs
    assert (first.judged == second.judged).all()
    assert (first.scores == second.scores).all()


def changed(row: int, **cells: object) -> list[list[object]]:
    """The rows with cells of one changed; rows are counted as in the file, from 2."""
    rows = [list(each) for each in ROWS]
    for name, value in cells.items():
        rows[row - 2][HEADER.index(name)] = value
    return rows


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (ROWS[:-1], "participant Cid has no row for AU2-AU9"),
        ([*ROWS, ROWS[0]], r"row 17 repeats row 2 \(participant Ann, AU6-AU12\)"),
        (
            [*ROWS, ["Ann", "12", "6", "coordinated", "uncoordinated", 5]],
            "row 17 contradicts row 2",
        ),
        (changed(3, expected="uncoordinated"), "row 3 expects AU6-AU12 to be otherwise than row 2"),
        (changed(4, participant=" "), "row 4: there is no participant"),
        (changed(4, first="smile"), "row 4: first 'smile' is no action unit"),
        (changed(4, first="12"), "row 4: AU12 stands on both sides"),
        (changed(4, judged="maybe"), "row 4: judged 'maybe'"),
        (changed(4, expected=""), "row 4: expected ''"),
        (changed(4, score="-1"), "row 4: score '-1'"),
        (changed(4, score="nan"), "row 4: score 'nan'"),
        ([], "not one response"),
        ([["x", "", "", "", "", ""]] * 20, "and 12 more"),
    ],
)
def test_wrong_rows_are_named(tmp_path: Path, rows: list[list[object]], message: str) -> None:
    result = study(write(tmp_path / "responses.csv", rows), "--out", tmp_path / "out")
    assert isinstance(result.exception, StudyResponsesError)
    assert re.search(message, str(result.exception))
    assert not (tmp_path / "out").exists()


def test_a_table_of_something_else_is_refused(tmp_path: Path) -> None:
    file = write(tmp_path / "r.csv", [["a", "b"]], ["name", "age"])
    with pytest.raises(StudyResponsesError, match=r"must have the columns .*it has name, age"):
        read_study_responses(file)
    for content in (b"", b"\x00\xff" * 50):
        file.write_bytes(content)
        with pytest.raises(StudyResponsesError):
            read_study_responses(file)
    with pytest.raises(StudyResponsesError, match="There is no"):
        read_study_responses(tmp_path / "nowhere.csv")


def test_an_exclusion_needs_its_reason(tmp_path: Path) -> None:
    header = ["first", "second", "reason"]
    file = write(tmp_path / "e.csv", [["AU9", "2", "because"], ["1", "4", ""]], header)
    with pytest.raises(StudyResponsesError, match="row 3: AU1-AU4 has no reason"):
        read_exclusions(file)
    write(file, [["AU9", "2", "because"]], header)
    assert read_exclusions(file) == {(2, 9): "because"}
    write(file, [["AU9", "AU9", "because"]], header)
    with pytest.raises(StudyResponsesError, match="row 2: AU9 stands on both sides"):
        read_exclusions(file)


def test_a_name_that_cannot_be_one_is_refused(responses: Path, tmp_path: Path) -> None:
    result = study(responses, "--out", tmp_path / "out", "--name", "a\nb")
    assert isinstance(result.exception, SettingsError)


@pytest.mark.parametrize("content", ["", "AU,AU1\nAU1,1\n", "\x00", '"'])
def test_what_is_no_matrix_is_refused(tmp_path: Path, content: str) -> None:
    file = tmp_path / "m.csv"
    file.write_text(content)
    with pytest.raises(PriorsFileError, match="The matrix"):
        read_matrix(file)


cell = st.one_of(
    st.sampled_from(["", "6", "AU12", "coordinated", "0", "nan", "1e999", "-3", "Ann", "9" * 400]),
    st.text(max_size=12),
)


@given(st.lists(st.lists(cell, max_size=7), max_size=6))
@settings(max_examples=150, deadline=None)
def test_whatever_stands_in_the_cells_is_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory, rows: list[list[str]]
) -> None:
    file = write(tmp_path_factory.getbasetemp() / "random.csv", rows)
    with contextlib.suppress(StudyResponsesError):
        read = read_study_responses(file)
        assert read.judged.shape == read.scores.shape == (len(read.judged), len(read.pairs))
        assert np.isfinite(read.scores).all()


def test_a_study_of_very_many_pairs_can_be_drawn(tmp_path: Path) -> None:
    rows = [
        ["Ann", first, second, "coordinated", "coordinated", 1]
        for first in range(1, 60)
        for second in range(first + 1, 60)
    ]
    result = study(write(tmp_path / "r.csv", rows), "--out", tmp_path / "out")
    assert result.exit_code == 0, result.output
    assert imread(tmp_path / "out" / "pairs.png").shape[0] < 5000
