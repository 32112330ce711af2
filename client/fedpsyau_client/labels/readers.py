"""Label tables as their authors publish them, read into typed clip records.

One engine reads all of them; what a data set's table looks like is its declaration in `datasets`.
A table is read leniently and completely: cells that make no sense are reported with their row and
do not stop the reading. Only what is no such table at all is an error.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from fedpsyau_client.labels.au_notation import ActionUnitLabel, parse_action_units
from fedpsyau_client.labels.ck_plus import read_ck_plus_labels
from fedpsyau_client.labels.clip_checks import between_clips, within_clip
from fedpsyau_client.labels.clip_record import ClipRecord, LabelTable, Oddity
from fedpsyau_client.labels.datasets import (
    CLIP_FIELDS,
    DATASETS,
    Dataset,
    DatasetName,
    Field,
)
from fedpsyau_client.labels.disfa import read_disfa_labels
from fedpsyau_client.labels.table_header import Header, best_grid
from fedpsyau_model.errors import LabelTableError

__all__ = ["read_casme3_labels", "read_label_table"]

_FRAME = re.compile(r"([+-]?)(\d{1,9})(?:\.0*)?")

#: Data sets whose labels are many files below a folder.
_FOLDERS: Final[Mapping[DatasetName, Callable[[Path], LabelTable]]] = {
    "disfa": read_disfa_labels,
    "ckplus": read_ck_plus_labels,
}

#: How tables write that there is nothing.
_BLANK: Final = frozenset({"", "/", "-", "nan", "none", "n/a", "na", "null"})


def read_label_table(
    file: Path, dataset: DatasetName, frame_rate: float | None = None
) -> LabelTable:
    """Read the labels of a data set: a workbook or delimited text, or a folder (DISFA, CK+).

    frame_rate: frames per second, where they are other than the data set's or it has several.

    Raises LabelTableError if `file` is missing, unreadable, lacks a column or holds no clip.
    """
    if dataset in _FOLDERS:
        return _FOLDERS[dataset](file)
    declared = DATASETS[dataset]
    rate = frame_rate or declared.frame_rate
    grid, header = best_grid(file, declared)
    clips: list[ClipRecord] = []
    oddities = [each for each in grid.oddities if (each.row or header.row) >= header.row]
    oddities += _absent_columns(declared, header)
    for row, cells in enumerate(grid.rows[header.row :], start=header.row + 1):
        if any(cell.strip() for cell in cells):
            clips += _clips_of_row(_Row(row, cells, header, oddities), dataset, declared)
    if not clips:
        raise LabelTableError(f"{file} has the right columns, but not one row of labels.")
    for clip in clips:
        oddities += within_clip(clip, rate)
    oddities += between_clips(clips)
    return LabelTable(dataset, tuple(clips), tuple(oddities), rate)


def read_casme3_labels(file: Path) -> LabelTable:
    """Read the label table of CAS(ME)3 part A; see `read_label_table`."""
    return read_label_table(file, "casme3")


def _absent_columns(declared: Dataset, header: Header) -> Iterator[Oddity]:
    for meaning in CLIP_FIELDS:
        if meaning not in header.positions:
            yield Oddity("column-absent", None, f"there is no column for {meaning}")


@dataclass(frozen=True, slots=True)
class _Row:
    """One row below the header; what is odd about its cells is collected in `oddities`."""

    number: int
    cells: tuple[str, ...]
    header: Header
    oddities: list[Oddity]

    def report(self, kind: str, message: str) -> None:
        """Keep an oddity of this row."""
        self.oddities.append(Oddity(kind, self.number, message))

    def has(self, meaning: Field) -> bool:
        """Whether the table has a column for this."""
        return meaning in self.header.positions

    def cell(self, position: int) -> str:
        """Text of a cell, "" beyond the end of the row."""
        return self.cells[position] if position < len(self.cells) else ""

    def text(self, meaning: Field) -> str:
        """Text of a column without spaces at its ends, "" where there is no such column."""
        return self.cell(self.header.positions[meaning]).strip() if self.has(meaning) else ""

    def name(self, meaning: Field) -> str:
        """Text that others must repeat exactly; spaces around it are reported."""
        text = self.text(meaning)
        if self.has(meaning) and text != self.cell(self.header.positions[meaning]):
            self.report("stray-whitespace", f"around {meaning} {text!r}")
        return text

    def frame(self, meaning: Field) -> int | None:
        """Frame number of a column; None, reported, where there is none."""
        if not self.has(meaning):
            return None
        return self.frame_of(self.text(meaning), meaning)

    def frame_of(self, text: str, meaning: str) -> int | None:
        """Frame number that a text says; None, reported, where it says none."""
        match = _FRAME.fullmatch(unicodedata.normalize("NFKC", text))
        if not match:
            blank = text.lower() in _BLANK
            trouble = f"is {text!r}" if blank else f"{text!r} is not a frame number"
            self.report(f"{meaning}-missing", f"{meaning} {trouble}")
            return None
        number = int(match[1] + match[2])
        if number < 0:
            self.report("frame-negative", f"{meaning} is {number}")
            return None
        return number


def _clips_of_row(row: _Row, dataset: DatasetName, declared: Dataset) -> Iterator[ClipRecord]:
    """Yield the clip of a row, and one more for each further interval that the row has."""
    emotion, word = _emotion(row, declared)
    clip = ClipRecord(
        row=row.number,
        subject=_subject(row, declared),
        filename=_filename(row),
        onset=row.frame("onset"),
        apex=row.frame("apex"),
        offset=row.frame("offset"),
        emotion=emotion,
        emotion_label=word,
        aus=_action_units(row, declared),
        dataset=dataset,
        site=row.name("site"),
        flow_image=row.name("flow_image"),
    )
    yield clip
    for onset, offset in row.header.more_intervals:
        if row.cell(onset).strip().lower() not in _BLANK:
            yield replace(
                clip,
                onset=row.frame_of(row.cell(onset).strip(), "onset"),
                apex=None,
                offset=row.frame_of(row.cell(offset).strip(), "offset"),
            )


def _subject(row: _Row, declared: Dataset) -> str:
    subject = row.name("subject")
    if not subject:
        row.report("subject-missing", "the cell is empty")
    return subject.zfill(declared.subject_digits) if subject.isdecimal() else subject


def _filename(row: _Row) -> str:
    filename = row.name("filename")
    if not filename:
        row.report("filename-missing", "the cell is empty")
    return filename


def _emotion(row: _Row, declared: Dataset) -> tuple[str, str]:
    """One of the seven emotions or "", and the table's word."""
    word = row.name("emotion").lower()
    emotion = declared.emotion(word)
    if row.has("emotion") and word in _BLANK:
        row.report("emotion-missing", "the cell is empty")
    elif row.has("emotion") and emotion is None:
        row.report("emotion-unknown", f"emotion {word!r}")
    return emotion or "", word


def _action_units(row: _Row, declared: Dataset) -> tuple[ActionUnitLabel, ...] | None:
    """Units of the AU column, None where the clip was not coded."""
    texts = [row.cell(position).strip() for position in row.header.au_columns]
    text = "+".join(text for text in texts if text)
    blank = text.lower() in ("", "nan", "null")
    if not row.has("au") or (blank and not declared.coded_when_blank):
        return None
    units, unread = parse_action_units(text)
    for piece in unread:
        row.report("au-unread", f"{piece!r} of {text!r}")
    return units
