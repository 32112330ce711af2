"""Finding the header of a data set's table among sheets, delimiters and rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from fedpsyau_client.labels.cell_grid import CellGrid, read_cell_grids
from fedpsyau_client.labels.clip_record import Oddity
from fedpsyau_client.labels.datasets import Dataset, Field, column_key
from fedpsyau_model.errors import LabelTableError

__all__ = ["Header", "best_grid"]

#: Rows among which the header is looked for: SAMM's stands in row 14, below its notes.
_HEADER_WITHIN: Final = 50


@dataclass(frozen=True, slots=True)
class Header:
    """Where a table's columns are.

    row: from 1. names: of all its columns. positions: from 0, of the columns that were looked for.
    au_columns: all that have the AU column's name; DFME's units may stand in cells of their own.
    more_intervals: of a second, third, ... onset and offset in the same row.
    missing: required columns that are not there.
    """

    row: int
    names: tuple[str, ...]
    positions: dict[Field, int]
    au_columns: tuple[int, ...]
    more_intervals: tuple[tuple[int, int], ...]
    missing: tuple[Field, ...]


def best_grid(file: Path, declared: Dataset) -> tuple[CellGrid, Header]:
    """Choose of all sheets, delimiters and rows what looks most like the declared header.

    Raises LabelTableError if `file` cannot be read, or a required column is nowhere.
    """
    best: tuple[CellGrid, Header] | None = None
    filled_sheets = 0
    for grid in read_cell_grids(file):
        filled_sheets += any(any(row) for row in grid.rows)
        for number, cells in enumerate(grid.rows[:_HEADER_WITHIN], start=1):
            header = _as_header(number, cells, declared)
            if best is None or _fitness(header) > _fitness(best[1]):
                best = grid, header
    if best is None:
        raise LabelTableError(f"{file} holds no cell. Give a label table with a header row.")
    grid, header = best
    if header.missing:
        raise LabelTableError(_refusal(file, declared, header))
    if file.suffix.lower() in (".xlsx", ".xlsm") and filled_sheets > 1:
        note = Oddity("extra-sheets", None, f"{filled_sheets - 1} other sheets hold cells")
        grid = CellGrid(grid.rows, (*grid.oddities, note))
    return grid, header


def _as_header(row: int, cells: Sequence[str], declared: Dataset) -> Header:
    keys = [column_key(cell) for cell in cells]
    by_key = {key: position for position, key in reversed(list(enumerate(keys)))}
    positions: dict[Field, int] = {}
    for meaning in declared.meanings:
        found = [key for key in declared.spellings(meaning) if key in by_key]
        if found:
            positions[meaning] = by_key[found[0]]
    au_key = keys[positions["au"]] if "au" in positions else None
    intervals = [
        (by_key.get(column_key(onset), -1), by_key.get(column_key(offset), -1))
        for onset, offset in declared.more_intervals
    ]
    return Header(
        row,
        tuple(cell.strip() for cell in cells if cell.strip()),
        positions,
        tuple(position for position, key in enumerate(keys) if key == au_key),
        tuple(interval for interval in intervals if min(interval) >= 0),
        tuple(meaning for meaning in declared.required if meaning not in positions),
    )


def _fitness(header: Header) -> tuple[int, int]:
    return -len(header.missing), len(header.positions)


def _refusal(file: Path, declared: Dataset, header: Header) -> str:
    missing = ", ".join(declared.columns[meaning] for meaning in header.missing)
    wanted = ", ".join(declared.columns[meaning] for meaning in declared.required)
    found = ", ".join(header.names[:20]) or "(none)"
    return (
        f"{file} has no column {missing}, so it is not the label table of {declared.title}. The "
        f"columns of row {header.row}, which looks most like its header, are {found}. Needed are "
        f"{wanted}. Give the table as its authors publish it, or correct --dataset."
    )
