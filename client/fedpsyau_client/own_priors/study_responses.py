"""Responses of a psychology study, one row for each participant and pair (docs/priors.md)."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from fedpsyau_client.labels.cell_grid import read_cell_grids
from fedpsyau_client.labels.datasets import column_key
from fedpsyau_model.errors import LabelTableError, StudyResponsesError
from fedpsyau_priors import Pair

__all__ = ["StudyResponses", "read_exclusions", "read_study_responses"]

#: Columns by meaning, with the spellings that are accepted once case and spaces are left out.
_RESPONSES: Final[Mapping[str, tuple[str, ...]]] = {
    "participant": ("participant", "participantid"),
    "first": ("first", "firstau"),
    "second": ("second", "secondau"),
    "judged": ("judged", "judgement", "judgment"),
    "score": ("score",),
    "expected": ("expected",),
}
_EXCLUSIONS: Final[Mapping[str, tuple[str, ...]]] = {
    name: _RESPONSES.get(name, (name,)) for name in ("first", "second", "reason")
}

_JUDGEMENTS: Final = {"coordinated": True, "1": True, "uncoordinated": False, "0": False}

#: Problems that a message lists; more are counted.
_LISTED_PROBLEMS = 8

_AU = re.compile(r"(?:AU\s*)?([1-9]\d?)(?:\.0)?", re.IGNORECASE)


@dataclass(frozen=True, eq=False)
class StudyResponses:
    """What P participants said of Q pairs; every one of them of every pair, once.

    pairs: (Q,) in ascending order. judged: (P, Q), whether the pair was called coordinated.
    scores: (P, Q), finite and at least 0.
    expected: (Q,), whether the pair is coordinated by design; None where the file doesn't say.
    """

    pairs: tuple[Pair, ...]
    judged: npt.NDArray[np.bool_]
    scores: npt.NDArray[np.float64]
    expected: npt.NDArray[np.bool_] | None


@dataclass(frozen=True, slots=True)
class _Response:
    row: int
    participant: str
    pair: Pair
    judged: bool
    score: float
    expected: bool | None


def read_study_responses(file: Path) -> StudyResponses:
    """Read responses from delimited text or a workbook.

    Raises StudyResponsesError, with the rows, for cells that cannot be read, rows that are
    repeated or contradict each other, and pairs that a participant did not judge.
    """
    problems: list[str] = []
    responses: list[_Response] = []
    for row, cells in _rows(file, _RESPONSES, optional=("expected",)):
        try:
            responses.append(_response(row, cells))
        except ValueError as error:
            problems.append(f"row {row}: {error}")
    if not problems:
        problems = [*_repetitions(responses), *_contrary_expectations(responses)]
    if not problems:
        problems = list(_gaps(responses))
    if problems:
        listed = "; ".join(problems[:_LISTED_PROBLEMS])
        more = len(problems) - _LISTED_PROBLEMS
        raise StudyResponsesError(
            f"The responses in {file} cannot be used: {listed}"
            f"{f'; and {more} more' if more > 0 else ''}. Every participant must have one row for "
            "every pair. Correct the rows, or leave the participant out."
        )
    if not responses:
        raise StudyResponsesError(f"{file} has the right columns, but not one response.")
    return _as_matrices(responses)


def read_exclusions(file: Path) -> dict[Pair, str]:
    """Read pairs that anatomy excludes, each with its reason: columns first, second, reason.

    Raises StudyResponsesError, with the row, for what cannot be read or has no reason.
    """
    excluded: dict[Pair, str] = {}
    for row, cells in _rows(file, _EXCLUSIONS):
        try:
            pair = _pair(cells)
        except ValueError as error:
            raise StudyResponsesError(f"{file}, row {row}: {error}. Correct the row.") from None
        if not cells["reason"]:
            raise StudyResponsesError(
                f"{file}, row {row}: {_named(pair)} has no reason. Say why the two cannot occur "
                "together, so that a reader can judge it."
            )
        excluded[pair] = cells["reason"]
    return excluded


def _rows(
    file: Path, columns: Mapping[str, tuple[str, ...]], optional: Sequence[str] = ()
) -> Iterator[tuple[int, dict[str, str]]]:
    """Yield (row number, cells by meaning) of every row that is not empty."""
    found: Sequence[str] = ()
    try:
        for grid in read_cell_grids(file):
            header = grid.rows[0] if grid.rows else ()
            found = max(found, header, key=len)
            keys = [column_key(cell) for cell in header]
            places = {
                name: keys.index(spelling)
                for name, spellings in columns.items()
                for spelling in spellings
                if spelling in keys
            }
            if set(columns) - set(optional) <= set(places):
                break
        else:
            left_out = f" ({', '.join(optional)} may be left out)" if optional else ""
            raise StudyResponsesError(
                f"{file} must have the columns {', '.join(columns)} in its first row{left_out}; it "
                f"has {', '.join(name for name in found if name) or 'none'}."
            )
    except LabelTableError as error:
        raise StudyResponsesError(str(error).replace("label table", "table")) from None
    for number, row in enumerate(grid.rows[1:], start=2):
        cells = {
            name: row[place].strip() if place < len(row) else "" for name, place in places.items()
        }
        if any(cells.values()):
            yield number, cells


def _response(row: int, cells: Mapping[str, str]) -> _Response:
    """Read one row. Raises ValueError that says which cell is wrong."""
    if not cells["participant"]:
        raise ValueError("there is no participant")
    return _Response(
        row=row,
        participant=cells["participant"],
        pair=_pair(cells),
        judged=_judgement(cells["judged"], "judged"),
        score=_score(cells["score"]),
        expected=_judgement(cells["expected"], "expected") if "expected" in cells else None,
    )


def _pair(cells: Mapping[str, str]) -> Pair:
    aus: list[int] = []
    for name in ("first", "second"):
        match = _AU.fullmatch(cells[name])
        if not match:
            raise ValueError(f"{name} {cells[name]!r} is no action unit such as 6 or AU6")
        aus.append(int(match.group(1)))
    if aus[0] == aus[1]:
        raise ValueError(f"AU{aus[0]} stands on both sides of the pair")
    return min(aus), max(aus)


def _judgement(text: str, column: str) -> bool:
    try:
        return _JUDGEMENTS[text.lower().removesuffix(".0")]
    except KeyError:
        raise ValueError(
            f"{column} {text!r} is neither coordinated (1) nor uncoordinated (0)"
        ) from None


def _score(text: str) -> float:
    try:
        score = float(text)
    except ValueError:
        score = math.nan
    if not (math.isfinite(score) and score >= 0):
        raise ValueError(f"score {text!r} is no number of at least 0")
    return score


def _repetitions(responses: Sequence[_Response]) -> Iterator[str]:
    seen: dict[tuple[str, Pair], _Response] = {}
    for response in responses:
        earlier = seen.setdefault((response.participant, response.pair), response)
        if earlier is response:
            continue
        same = (earlier.judged, earlier.score) == (response.judged, response.score)
        verb = "repeats" if same else "contradicts"
        yield (
            f"row {response.row} {verb} row {earlier.row} (participant {response.participant}, "
            f"{_named(response.pair)})"
        )


def _contrary_expectations(responses: Sequence[_Response]) -> Iterator[str]:
    first: dict[Pair, _Response] = {}
    for response in responses:
        earlier = first.setdefault(response.pair, response)
        if earlier.expected != response.expected:
            yield (
                f"row {response.row} expects {_named(response.pair)} to be otherwise than row "
                f"{earlier.row} does"
            )


def _gaps(responses: Sequence[_Response]) -> Iterator[str]:
    answered = {(response.participant, response.pair) for response in responses}
    pairs = sorted({response.pair for response in responses})
    for participant in dict.fromkeys(response.participant for response in responses):
        for pair in pairs:
            if (participant, pair) not in answered:
                yield f"participant {participant} has no row for {_named(pair)}"


def _as_matrices(responses: Sequence[_Response]) -> StudyResponses:
    pairs = tuple(sorted({response.pair for response in responses}))
    participants = sorted({response.participant for response in responses})
    columns = {pair: column for column, pair in enumerate(pairs)}
    rows = {participant: row for row, participant in enumerate(participants)}
    judged = np.zeros((len(rows), len(columns)), dtype=np.bool_)
    scores = np.zeros((len(rows), len(columns)))
    expected = np.zeros(len(columns), dtype=np.bool_)
    for response in responses:
        place = rows[response.participant], columns[response.pair]
        judged[place], scores[place] = response.judged, response.score
        expected[place[1]] = bool(response.expected)
    known = all(response.expected is not None for response in responses)
    return StudyResponses(pairs, judged, scores, expected if known else None)


def _named(pair: Pair) -> str:
    return f"AU{pair[0]}-AU{pair[1]}"
