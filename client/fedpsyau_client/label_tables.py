"""Label tables as their authors publish them, read into typed clip records.

So far CAS(ME)3 part A. A table is read leniently and completely: cells that make no sense are
reported with their row, they do not stop the reading.
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from openpyxl import load_workbook
from openpyxl.utils.exceptions import InvalidFileException

from fedpsyau_client.au_notation import ActionUnitLabel, parse_action_units
from fedpsyau_model.errors import LabelTableError

__all__ = [
    "CASME3_EMOTIONS",
    "ClipRecord",
    "LabelTable",
    "read_casme3_labels",
    "three_class",
]

#: CAS(ME)3's emotion names in ours; "others" is none of the seven.
CASME3_EMOTIONS: Final = {
    "happy": "happiness",
    "surprise": "surprise",
    "disgust": "disgust",
    "sad": "sadness",
    "anger": "anger",
    "fear": "fear",
    "others": "",
}

_CASME3_COLUMNS = ("Subject", "Filename", "Onset", "Apex", "Offset", "AU", "emotion")


@dataclass(frozen=True, slots=True)
class ClipRecord:
    """One annotated clip. Its key is (subject, filename, onset): file names repeat.

    onset, apex, offset: frame numbers in the video, None where the table has none.
    emotion: one of `fedpsyau_model.emotions.EMOTIONS`, or "" for what is none of them.
    """

    subject: str
    filename: str
    onset: int | None
    apex: int | None
    offset: int | None
    aus: tuple[ActionUnitLabel, ...]
    emotion: str

    @property
    def key(self) -> tuple[str, str, int | None]:
        """What tells this clip from all others of its table."""
        return self.subject, self.filename, self.onset


@dataclass(frozen=True)
class LabelTable:
    """All clips of a table in its order, and a line for everything that could not be read."""

    clips: tuple[ClipRecord, ...]
    problems: tuple[str, ...] = field(default=())


def three_class(emotion: str) -> str:
    """Class of one of the seven emotions by the authors' rule: "" for none of them.

    Everything but happiness (positive) and surprise is negative. On CAS(ME)3 part A this gives
    457 negative, 55 positive and 187 surprise clips.
    """
    return {"": "", "happiness": "positive", "surprise": "surprise"}.get(emotion, "negative")


def read_casme3_labels(file: Path) -> LabelTable:
    """Read the label table of CAS(ME)3 part A, an Excel workbook.

    Raises LabelTableError if `file` is missing, is no workbook, or lacks a column.
    """
    rows = _read_first_sheet(file)
    header = [_text(cell) for cell in next(rows, ())]
    missing = [column for column in _CASME3_COLUMNS if column not in header]
    if missing:
        found = ", ".join(name for name in header if name) or "(none)"
        raise LabelTableError(
            f"{file} has no column {', '.join(missing)} in its first row, so it is not the label "
            f"table of CAS(ME)3 part A. Its columns are {found}. Give the workbook as the "
            "authors publish it."
        )
    positions = [header.index(column) for column in _CASME3_COLUMNS]
    clips: list[ClipRecord] = []
    problems: list[str] = []
    for number, row in enumerate(rows, start=2):
        cells = [row[position] if position < len(row) else None for position in positions]
        if any(_text(cell) for cell in cells):
            clip, found_problems = _casme3_record(cells)
            clips.append(clip)
            problems += [f"row {number}: {problem}" for problem in found_problems]
    if not clips:
        raise LabelTableError(f"{file} has the right columns, but not one row of labels.")
    return LabelTable(tuple(clips), tuple(problems))


def _casme3_record(cells: Sequence[Any]) -> tuple[ClipRecord, list[str]]:
    subject, filename, onset, apex, offset, au_text, emotion = cells
    problems: list[str] = []
    frames: list[int | None] = []
    for name, cell in (("onset", onset), ("apex", apex), ("offset", offset)):
        frames.append(_frame(cell))
        if frames[-1] is None:
            problems.append(f"{name} {_text(cell)!r} is not a frame number")
    aus, unread = parse_action_units(_text(au_text))
    problems += [f"AU {piece!r} could not be read" for piece in unread]
    name = _text(emotion).lower()
    if name not in CASME3_EMOTIONS:
        problems.append(f"emotion {name!r} is unknown; the clip has no class")
    return (
        ClipRecord(
            subject=_text(subject),
            filename=_text(filename),
            onset=frames[0],
            apex=frames[1],
            offset=frames[2],
            aus=aus,
            emotion=CASME3_EMOTIONS.get(name, ""),
        ),
        problems,
    )


def _read_first_sheet(file: Path) -> Iterator[tuple[Any, ...]]:
    if not file.is_file():
        raise LabelTableError(
            f"There is no label table {file}. Check the path given with --labels, or leave the "
            "option out: shipped summary statistics are used then."
        )
    try:
        workbook = load_workbook(file, read_only=True, data_only=True)
    except (InvalidFileException, zipfile.BadZipFile, KeyError, OSError, ValueError) as error:
        raise LabelTableError(
            f"{file} cannot be read as an Excel workbook (.xlsx): {error}. Give the workbook as "
            "its authors publish it, or save it as .xlsx."
        ) from None
    try:
        yield from workbook.worksheets[0].iter_rows(values_only=True)
    finally:
        workbook.close()


def _text(cell: Any) -> str:
    return "" if cell is None else str(cell).strip()


def _frame(cell: Any) -> int | None:
    try:
        return int(_text(cell))
    except ValueError:
        return None
