"""Label tables as their authors publish them, read into typed clip records.

So far CAS(ME)3 part A. A table is read leniently and completely: cells that make no sense are
reported with their row, they do not stop the reading.
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from openpyxl import load_workbook
from openpyxl.utils.exceptions import InvalidFileException

from fedpsyau_client.labels.au_notation import parse_action_units
from fedpsyau_client.labels.clip_record import ClipRecord, LabelTable, Oddity
from fedpsyau_model.errors import LabelTableError

__all__ = ["CASME3_EMOTIONS", "read_casme3_labels"]

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
    oddities: list[Oddity] = []
    for number, row in enumerate(rows, start=2):
        cells = [row[position] if position < len(row) else None for position in positions]
        if any(_text(cell) for cell in cells):
            clip, problems = _casme3_record(number, cells)
            clips.append(clip)
            oddities += [Oddity("unread", number, problem) for problem in problems]
    if not clips:
        raise LabelTableError(f"{file} has the right columns, but not one row of labels.")
    return LabelTable("casme3", tuple(clips), tuple(oddities), frame_rate=30)


def _casme3_record(row: int, cells: Sequence[Any]) -> tuple[ClipRecord, list[str]]:
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
            row=row,
            subject=_text(subject),
            filename=_text(filename),
            onset=frames[0],
            apex=frames[1],
            offset=frames[2],
            emotion=CASME3_EMOTIONS.get(name, ""),
            emotion_label=name,
            aus=aus,
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
