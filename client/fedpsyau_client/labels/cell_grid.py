"""The cells of a workbook or of delimited text, before anybody says what they mean.

A file can be read in several ways: a workbook has sheets, and delimited text does not say which
character delimits. All of them are handed out; who knows which columns are looked for chooses.
"""

from __future__ import annotations

import codecs
import csv
import datetime
import io
import re
import warnings
import zipfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from openpyxl import load_workbook
from openpyxl.utils.cell import range_boundaries

from fedpsyau_client.labels.clip_record import Oddity
from fedpsyau_model.errors import LabelTableError

__all__ = ["CellGrid", "read_cell_grids"]

#: A label table of the largest data set is under a megabyte. What is far beyond is something else.
_LARGEST_FILE: Final = 64 * 2**20
_LARGEST_UNPACKED: Final = 512 * 2**20
_MOST_ROWS: Final = 200_000

_DELIMITERS: Final = ",;\t"

#: Two bytes of GB 2312 both have the high bit. Latin-1 rarely has two accented letters in a row.
_PAIRS_OF_HIGH_BYTES = re.compile(rb"(?:[\x00-\x7f]|[\x81-\xfe][\xa1-\xfe])*")

_MERGED = re.compile(rb'<mergeCell\s[^>]*?ref="([A-Z]{1,3}\d{1,7}:[A-Z]{1,3}\d{1,7})"')
_FORMULA = re.compile(rb"<f[ >/]")


@dataclass(frozen=True, slots=True)
class CellGrid:
    """Cells as text, rows of different lengths; ``rows[0]`` is a spreadsheet's row 1."""

    rows: tuple[tuple[str, ...], ...]
    oddities: tuple[Oddity, ...] = ()


def read_cell_grids(file: Path) -> Iterator[CellGrid]:
    """Yield every way in which `file` can be read as a grid: each sheet, or each delimiter.

    Raises LabelTableError where there is no such file, or it cannot be read at all.
    """
    try:
        size = file.stat().st_size if file.is_file() else None
    except OSError as error:
        raise LabelTableError(f"{file} cannot be read: {error.strerror}.") from None
    if size is None:
        raise LabelTableError(f"There is no label table {file}. Check the path that was given.")
    if size > _LARGEST_FILE:
        raise LabelTableError(
            f"{file} has {size / 2**20:.0f} MB; a label table is never so large. Is it a video?"
        )
    suffix = file.suffix.lower()
    if suffix in (".xls", ".xlsb", ".ods", ".numbers"):
        raise LabelTableError(
            f"{file} is a workbook of a kind that is not read ({suffix}). Open it in a spreadsheet "
            "program and save it as .xlsx, or as .csv in UTF-8."
        )
    if suffix in (".xlsx", ".xlsm"):
        return _workbook_grids(file)
    return _text_grids(file)


def _workbook_grids(file: Path) -> Iterator[CellGrid]:
    try:
        yield from _read_workbook(file)
    except LabelTableError:
        raise
    except Exception as error:
        # A damaged archive, wrong XML or a wrong number in it: openpyxl has no error of its own,
        # and raises whatever the part that it happens to read raises.
        raise LabelTableError(
            f"{file} cannot be read as an Excel workbook (.xlsx): {type(error).__name__}: {error}. "
            "Give the workbook as its authors publish it, or save it as .xlsx."
        ) from None


def _read_workbook(file: Path) -> Iterator[CellGrid]:
    with zipfile.ZipFile(file) as archive, warnings.catch_warnings():
        unpacked = sum(member.file_size for member in archive.infolist())
        if unpacked > _LARGEST_UNPACKED:
            raise LabelTableError(
                f"{file} unpacks to {unpacked / 2**20:.0f} MB; a label table is never so large."
            )
        warnings.simplefilter("ignore")  # openpyxl warns of extensions that it does not know
        book = load_workbook(file, read_only=True, data_only=True)
        try:
            for sheet in book.worksheets:
                sheet.reset_dimensions()  # some programs write a wrong one, which hides cells
                rows = _bounded(sheet.iter_rows(values_only=True), file)
                cells = [[_text(cell) for cell in row] for row in rows]
                # The only name of a sheet's part; openpyxl's read-only sheets know neither merged
                # cells nor, next to stored values, formulas.
                xml = archive.read(sheet._worksheet_path)
                oddities = [*_spread_merged(cells, xml), *_formulas(file, sheet.title, xml)]
                yield CellGrid(tuple(map(tuple, cells)), tuple(oddities))
        finally:
            book.close()


def _spread_merged(cells: list[list[str]], xml: bytes) -> Iterator[Oddity]:
    """Give every cell of a merged range the range's value, as a person reads it."""
    widest = max(map(len, cells), default=0)
    for match in _MERGED.finditer(xml):
        ref = match.group(1).decode()
        left, top, right, bottom = range_boundaries(ref)
        if top > len(cells) or left > len(cells[top - 1]) or not cells[top - 1][left - 1]:
            continue
        value = cells[top - 1][left - 1]
        for row in cells[top - 1 : bottom]:
            row += [""] * (min(right, widest) - len(row))
            row[left - 1 : right] = [value] * len(row[left - 1 : right])
        yield Oddity("merged-cells", top, f"cells {ref} are merged and say {value!r}")


def _formulas(file: Path, title: str, xml: bytes) -> Iterator[Oddity]:
    if not _FORMULA.search(xml):
        return
    book = load_workbook(file, read_only=True, data_only=False)
    try:
        sheet = book[title]
        sheet.reset_dimensions()
        for row in _bounded(sheet.iter_rows(), file):
            for cell in row:
                if cell.data_type == "f":
                    place = cell.coordinate
                    yield Oddity("formula-cell", cell.row, f"cell {place} holds a formula")
    finally:
        book.close()


def _bounded(rows: Iterable[Any], file: Path) -> Iterator[Any]:
    for number, row in enumerate(rows):
        if number == _MOST_ROWS:
            raise LabelTableError(
                f"{file} has more than {_MOST_ROWS} rows; a label table never has so many. Delete "
                "empty formatted rows below the table."
            )
        yield row


def _text_grids(file: Path) -> Iterator[CellGrid]:
    try:
        data = file.read_bytes()
    except OSError as error:
        raise LabelTableError(f"{file} cannot be read: {error.strerror}.") from None
    if not data.strip():
        raise LabelTableError(f"{file} is empty. Give a label table with a header row.")
    text, encoding = _decode(data)
    oddities: tuple[Oddity, ...] = ()
    if encoding:
        oddities = (Oddity("encoding-guessed", None, f"the text was read as {encoding}"),)
    for delimiter in _DELIMITERS:
        lines = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
        try:
            rows = [tuple(map(_text, row)) for row in _bounded(lines, file)]
        except csv.Error as error:
            raise LabelTableError(
                f"{file} cannot be read as delimited text: {error}, in line {lines.line_num}. Give "
                "a table as .xlsx, or as .csv in UTF-8."
            ) from None
        yield CellGrid(tuple(rows), oddities)


def _decode(data: bytes) -> tuple[str, str]:
    """Text, and the name of its encoding if that had to be guessed, else ""."""
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return data.decode("utf-16", errors="replace"), ""
    if b"\0" in data[:2]:
        order = "utf-16-le" if data[1] == 0 else "utf-16-be"
        return data.decode(order, errors="replace"), order
    try:
        return data.decode("utf-8-sig"), ""
    except UnicodeDecodeError:
        pass
    if _PAIRS_OF_HIGH_BYTES.fullmatch(data):
        try:
            return data.decode("gb18030"), "gb18030"
        except UnicodeDecodeError:
            pass
    return data.decode("latin-1"), "latin-1"


def _text(cell: object) -> str:
    """A cell as a person sees it, spaces at its ends included: 12.0 is shown as 12."""
    if cell is None:
        return ""
    if isinstance(cell, float) and cell.is_integer():
        return str(int(cell))
    if isinstance(cell, datetime.datetime) and cell.time() == datetime.time():
        return cell.date().isoformat()
    return str(cell)
