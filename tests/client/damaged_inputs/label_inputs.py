"""Label tables of every data set, as text and workbooks, and the label folders of DISFA and CK+."""

from __future__ import annotations

import csv
import io
import zipfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import get_args

import numpy as np
from openpyxl import Workbook, load_workbook

from damaged_inputs.cases import Reader
from damaged_inputs.file_damage import FILE_DAMAGE, PLACE_DAMAGE, Damage
from fedpsyau_client.labels.class_rules import class_of
from fedpsyau_client.labels.datasets import DATASETS, DatasetName
from fedpsyau_client.labels.readers import read_label_table
from fedpsyau_client.labels.table_summary import summarise_table

Grid = list[list[str]]

_FOLDERS: tuple[DatasetName, ...] = ("disfa", "ckplus")

_EMOTIONS = ("happiness", "disgust", "surprise", "others", "anger", "negative")
_UNITS = ("4+L10", "R12", "T23", "15A+17", "ref(7B)+43", "(R6 or R12)+R15", "12 ", "", "4")

#: Cells that are no sensible subject, name, frame, emotion or list of units.
_NONSENSE = (
    *("", " ", "/", "nan", "inf", "-inf", "NaN", "1e400", "-5", "0", "3.7", "1e5", "0x1f"),
    *("٣", "１２", "²", "99999999999999999999999", "#REF!", "#N/A", "=1/0", "TRUE", "None"),
    *("2024-01-31", "12:30", "../../etc/passwd", "/", "C:\\clips\\a", "a\0b", "\ud83d\ude42"),
    *("x" * 5000, "(" * 4000, "+" * 2000, "L" * 2000 + "R" * 2000, "A1A2A3", "4or", "((((12"),
    *('"', "'", ";", "\n", "\r\n", "a\nb", "\t", "\ufeff", "\u202e", "🙂", "微笑", "é" * 300),
)


def table_readers(cases: int) -> tuple[Reader, ...]:
    """One reader for each data set that has a table, `cases` each; together they suffer it all."""
    tables = [name for name in get_args(DatasetName) if name not in _FOLDERS]
    return tuple(
        Reader(
            f"label table {name}",
            cases,
            partial(_write_table, name),
            partial(_read, name),
            {**FILE_DAMAGE, **_TABLE_DAMAGE},
            first=number * cases,
        )
        for number, name in enumerate(tables)
    )


def _read(dataset: DatasetName, source: Path, out: Path) -> None:
    table = read_label_table(source, dataset)
    for rule in ("authors", "megc2019"):
        summarise_table(table, rule)
        for clip in table.clips:
            class_of(clip, rule, "three"), class_of(clip, rule, "seven")
    for oddity in table.oddities:
        assert oddity.severity in ("note", "warning")


def _write_table(dataset: DatasetName, folder: Path, rng: np.random.Generator) -> Path:
    return _write_grid(_good_grid(dataset, rng), folder / "labels", rng)


def _good_grid(dataset: DatasetName, rng: np.random.Generator) -> Grid:
    meanings = list(DATASETS[dataset].columns)
    rows = [[DATASETS[dataset].columns[meaning] for meaning in meanings]]
    for number in range(8):
        onset = int(rng.integers(1, 400))
        cells = {
            "subject": f"{1 + number // 2}",
            "filename": f"EP{number:02d}_1",
            "onset": f"{onset}",
            "apex": f"{onset + 5}",
            "offset": f"{onset + 9}",
            "au": str(rng.choice(_UNITS)),
            "emotion": str(rng.choice(_EMOTIONS)),
        }
        rows.append([cells.get(meaning, "") for meaning in meanings])
    return rows


def _write_grid(grid: Grid, stem: Path, rng: np.random.Generator) -> Path:
    """As a workbook, or as text with one of the delimiters that are read."""
    kind = ("xlsx", "xlsx", "csv", "csv", "tsv")[int(rng.integers(5))]
    file = stem.with_suffix(f".{kind}")
    if kind == "xlsx":
        book = Workbook(write_only=True)
        sheet = book.create_sheet("Sheet1")
        for row in grid:
            sheet.append([_as_value(cell) for cell in row])
        book.save(file)
        return file
    text = io.StringIO()
    delimiter = "\t" if kind == "tsv" else str(rng.choice([",", ";"]))
    csv.writer(text, delimiter=delimiter).writerows(grid)
    file.write_bytes(text.getvalue().encode("utf-8", errors="surrogatepass"))
    return file


def _as_value(cell: str) -> object:
    """What a spreadsheet makes of a cell; characters that XML cannot hold are left out."""
    if cell.isascii() and cell.isdigit() and len(cell) < 15:
        return int(cell)
    return "".join(
        each
        for each in cell
        if each in "\t\n\r"
        or (each >= " " and not "\ud800" <= each <= "\udfff" and each < "\ufffe")
    )[:32_000]


def _read_back(file: Path) -> Grid:
    if file.suffix == ".xlsx":
        book = load_workbook(file)
        rows = [["" if cell is None else str(cell) for cell in row] for row in book.active.values]
        book.close()
        return rows
    text = file.read_text(encoding="utf-8")
    delimiter = max(",;\t", key=text.count)
    return list(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter))


def _on_grid(change: Callable[[Grid, np.random.Generator], Grid]) -> Damage:
    def damage(file: Path, rng: np.random.Generator) -> Path:
        grid = change(_read_back(file), rng)
        file.unlink()
        return _write_grid(grid, file.with_suffix(""), rng)

    return damage


def _without_a_column(grid: Grid, rng: np.random.Generator) -> Grid:
    place = int(rng.integers(len(grid[0])))
    return [row[:place] + row[place + 1 :] for row in grid]


def _columns_in_disorder(grid: Grid, rng: np.random.Generator) -> Grid:
    order = rng.permutation(len(grid[0]))
    return [[row[place] for place in order] for row in grid]


def _another_header(grid: Grid, rng: np.random.Generator) -> Grid:
    header = [str(rng.choice(_NONSENSE)) for _ in grid[0]]
    return [header, *grid[1:]]


def _nonsense(grid: Grid, rng: np.random.Generator) -> Grid:
    """Half of the cells below the header."""
    return [
        grid[0],
        *(
            [str(rng.choice(_NONSENSE)) if rng.random() < 0.5 else cell for cell in row]
            for row in grid[1:]
        ),
    ]


def _nonsense_column(grid: Grid, rng: np.random.Generator) -> Grid:
    place = int(rng.integers(len(grid[0])))
    return [
        grid[0],
        *([*row[:place], str(rng.choice(_NONSENSE)), *row[place + 1 :]] for row in grid[1:]),
    ]


def _ragged(grid: Grid, rng: np.random.Generator) -> Grid:
    return [
        grid[0],
        *(
            row[: int(rng.integers(0, len(row) + 1))] + ["more"] * int(rng.integers(3))
            for row in grid[1:]
        ),
    ]


def _random_cells(grid: Grid, rng: np.random.Generator) -> Grid:
    return [
        [str(rng.choice(_NONSENSE)) for _ in range(int(rng.integers(0, 9)))]
        for _ in range(int(rng.integers(0, 12)))
    ]


def _with_notes_above(grid: Grid, rng: np.random.Generator) -> Grid:
    return [["Some note"]] * int(rng.integers(1, 80)) + grid


def _in_workbook(change: Callable[[Workbook, np.random.Generator], None]) -> Damage:
    """Damage that only a workbook can have; a text table becomes a workbook first."""

    def damage(file: Path, rng: np.random.Generator) -> Path:
        grid = _read_back(file)
        file.unlink()
        book = Workbook()
        for row in grid:
            book.active.append(row)
        change(book, rng)
        target = file.with_suffix(".xlsx")
        book.save(target)
        book.close()
        return target

    return damage


def _merged(book: Workbook, rng: np.random.Generator) -> None:
    left, top = (int(each) for each in rng.integers(1, 5, 2))
    book.active.merge_cells(
        start_row=top, start_column=left, end_row=top + int(rng.integers(1, 5)), end_column=left + 1
    )


def _formulas(book: Workbook, rng: np.random.Generator) -> None:
    book.active["C2"] = "=A1+1/0"
    book.active["D3"] = "=HYPERLINK('http://127.0.0.1/')"


def _more_sheets(book: Workbook, rng: np.random.Generator) -> None:
    book.create_sheet("empty", 0)
    book.create_chartsheet("chart", 0)
    book.create_sheet("notes")["A1"] = "Subject"


def _only_a_chart(book: Workbook, rng: np.random.Generator) -> None:
    book.create_chartsheet("chart", 0)
    book.remove(book.worksheets[0])


def _dates(book: Workbook, rng: np.random.Generator) -> None:
    for cell in next(book.active.iter_cols(min_row=2, min_col=3, max_col=3)):
        cell.value, cell.number_format = 45_000 + int(rng.integers(9)), "yyyy-mm-dd"
    book.active["A2"].value, book.active["A2"].number_format = -10.5, "yyyy-mm-dd"


def _in_archive(change: Callable[[dict[str, bytes], np.random.Generator], None]) -> Damage:
    """Damage to the parts of a workbook's archive, which stays an archive."""

    def damage(file: Path, rng: np.random.Generator) -> Path:
        file = _in_workbook(lambda book, rng: None)(file, rng)
        with zipfile.ZipFile(file) as archive:
            parts = {name: archive.read(name) for name in archive.namelist()}
        change(parts, rng)
        with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, content in parts.items():
                archive.writestr(name, content)
        return file

    return damage


_SHEET = "xl/worksheets/sheet1.xml"


def _part_gone(parts: dict[str, bytes], rng: np.random.Generator) -> None:
    del parts[sorted(parts)[int(rng.integers(len(parts)))]]


def _part_torn(parts: dict[str, bytes], rng: np.random.Generator) -> None:
    name = sorted(parts)[int(rng.integers(len(parts)))]
    parts[name] = parts[name][: int(rng.integers(len(parts[name])))]


def _part_flipped(parts: dict[str, bytes], rng: np.random.Generator) -> None:
    for name in (_SHEET, "xl/workbook.xml", "xl/styles.xml"):
        content = bytearray(parts[name])
        for place in rng.integers(0, len(content), 4):
            content[place] = int(rng.integers(32, 127))
        parts[name] = bytes(content)


def _entity_bomb(parts: dict[str, bytes], rng: np.random.Generator) -> None:
    """XML in which few letters stand for billions."""
    entities = "".join(f'<!ENTITY e{n} "{f"&e{n - 1};" * 10}">' for n in range(1, 12))
    head = f'<!DOCTYPE s [<!ENTITY e0 "ha">{entities}]>'
    body = parts[_SHEET].split(b"?>", 1)[-1].replace(b"</row>", b"</row><!-- -->&e11;", 1)
    parts[_SHEET] = head.encode() + body


def _zip_bomb(parts: dict[str, bytes], rng: np.random.Generator) -> None:
    """20 MB of spaces, which weigh nothing in the archive."""
    parts[_SHEET] = parts[_SHEET].replace(b"</sheetData>", b" " * 20_000_000 + b"</sheetData>")


def _announcing(size: int) -> Damage:
    """A workbook whose archive says that the sheet unpacks to `size` bytes."""

    def damage(file: Path, rng: np.random.Generator) -> Path:
        file = _in_workbook(lambda book, rng: None)(file, rng)
        with zipfile.ZipFile(file, "a") as archive:
            archive.getinfo(_SHEET).file_size = size
            archive.writestr("more", b"")  # makes zipfile write its directory anew
        return file

    return damage


def _far_cell(parts: dict[str, bytes], rng: np.random.Generator) -> None:
    cell = b'<row r="1048576"><c r="XFD1048576"><v>1</v></c></row></sheetData>'
    parts[_SHEET] = parts[_SHEET].replace(b"</sheetData>", cell)


def _merging(ranges: str) -> Callable[[dict[str, bytes], np.random.Generator], None]:
    def merge(parts: dict[str, bytes], rng: np.random.Generator) -> None:
        merged = f"</sheetData><mergeCells>{ranges}</mergeCells>".encode()
        parts[_SHEET] = parts[_SHEET].replace(b"</sheetData>", merged)

    return merge


_TABLE_DAMAGE: dict[str, Damage] = {
    "without a column": _on_grid(_without_a_column),
    "columns in disorder": _on_grid(_columns_in_disorder),
    "another header": _on_grid(_another_header),
    "no header": _on_grid(lambda grid, rng: grid[1:]),
    "only the header": _on_grid(lambda grid, rng: grid[:1]),
    "the header twice": _on_grid(lambda grid, rng: grid[:1] + grid),
    "columns twice": _on_grid(lambda grid, rng: [row + row for row in grid]),
    "rows twice": _on_grid(lambda grid, rng: grid + grid[1:]),
    "nonsense in cells": _on_grid(_nonsense),
    "nonsense in a column": _on_grid(_nonsense_column),
    "ragged rows": _on_grid(_ragged),
    "random cells": _on_grid(_random_cells),
    "notes above the header": _on_grid(_with_notes_above),
    "1,000 columns": _on_grid(lambda grid, rng: [row + ["x"] * 1000 for row in grid]),
    "merged cells": _in_workbook(_merged),
    "formulas": _in_workbook(_formulas),
    "more sheets": _in_workbook(_more_sheets),
    "only a chart": _in_workbook(_only_a_chart),
    "dates": _in_workbook(_dates),
    "a part gone": _in_archive(_part_gone),
    "a part torn": _in_archive(_part_torn),
    "parts with wrong letters": _in_archive(_part_flipped),
    "an entity bomb": _in_archive(_entity_bomb),
    "a zip bomb": _in_archive(_zip_bomb),
    "a larger zip bomb": _announcing(2**31),
    "an archive that lies": _announcing(9),
    "a cell far away": _in_archive(_far_cell),
    "everything merged": _in_archive(_merging('<mergeCell ref="A2:XFD1048576"/>')),
    "impossible merges": _in_archive(
        _merging('<mergeCell ref="A1:ZZZ9999999"/><mergeCell ref="B9:A1"/><mergeCell ref="A0:B0"/>')
    ),
}


def _write_disfa(folder: Path, rng: np.random.Generator) -> Path:
    root = folder / "DISFA"
    for subject in ("SN001", "SN002"):
        labels = root / "ActionUnit_Labels" / subject
        labels.mkdir(parents=True)
        for au in (1, 2, 4, 5, 6, 9, 12, 15, 17, 20, 25, 26):
            levels = np.zeros(60, dtype=int)
            if au in (4, 12):
                levels[20:30] = np.minimum(np.arange(10), 3)
            lines = (f"{frame},{level}\n" for frame, level in enumerate(levels, start=1))
            (labels / f"{subject}_au{au}.txt").write_text("".join(lines))
    (root / "Videos_LeftCamera").mkdir()
    (root / "Videos_LeftCamera" / "LeftVideoSN001_comp.avi").write_bytes(b"a video")
    return root


def _write_ck_plus(folder: Path, rng: np.random.Generator) -> Path:
    root = folder / "CK+"
    for subject in ("S005", "S010"):
        labels, images = (root / kind / subject / "001" for kind in ("FACS", "cohn-kanade-images"))
        labels.mkdir(parents=True)
        images.mkdir(parents=True)
        for frame in (1, 2, 11):
            (images / f"{subject}_001_{frame:08d}.png").write_bytes(b"an image")
        (labels / f"{subject}_001_00000011_facs.txt").write_text(
            "   9.0000000e+00   4.0000000e+00\n   1.7000000e+01   0.0000000e+00\n"
        )
    return root


def _in_folder(damage: Damage, pattern: str = "*.txt", every: bool = False) -> Damage:
    """Harm one file of a folder, or every one of them."""

    def harm(root: Path, rng: np.random.Generator) -> Path:
        files = sorted(file for file in root.rglob(pattern) if not file.is_dir())
        chosen = files if every else [files[int(rng.integers(len(files)))]]
        for file in chosen:
            damage(file, rng)
        return root

    return harm


def _lines(change: Callable[[list[str], np.random.Generator], list[str]]) -> Damage:
    def damage(file: Path, rng: np.random.Generator) -> Path:
        file.write_text("\n".join(change(file.read_text().splitlines(), rng)))
        return file

    return damage


def _nonsense_line(lines: list[str], rng: np.random.Generator) -> list[str]:
    wrong = ("1,9", "-1,0", "a,b", "1.5,2", "nan nan", "1e400 0", "inf 1", "12", "9 9 9", "٣ ١")
    place = int(rng.integers(len(lines)))
    return [*lines[:place], str(rng.choice(wrong)), *lines[place + 1 :]]


def _subfolder(damage: Damage) -> Damage:
    """Harm a folder two levels below, which is a subject's, as if it were a file."""

    def harm(root: Path, rng: np.random.Generator) -> Path:
        folder = sorted(each for each in root.glob("*/*") if each.is_dir())[0]
        for file in sorted(folder.rglob("*"), reverse=True):
            file.rmdir() if file.is_dir() else file.unlink()
        folder.rmdir()
        folder.touch()
        damage(folder, rng)
        return root

    return harm


_LABEL_FOLDER_DAMAGE: dict[str, Damage] = {
    **{name: _in_folder(damage) for name, damage in FILE_DAMAGE.items()},
    **{
        f"every file: {name}": _in_folder(FILE_DAMAGE[name], every=True)
        for name in ("empty", "random bytes", "missing", "a folder", "a dangling link", "truncated")
    },
    **{f"a subject: {name}": _subfolder(damage) for name, damage in PLACE_DAMAGE.items()},
    "a nonsense line": _in_folder(_lines(_nonsense_line)),
    "lines in disorder": _in_folder(_lines(lambda lines, rng: lines[::-1])),
    "lines lost": _in_folder(_lines(lambda lines, rng: lines[int(rng.integers(len(lines))) :])),
    "all at rest": _in_folder(_lines(lambda lines, rng: [f"{n},0" for n in range(9)]), every=True),
}


def _root_damage(name: str) -> Damage:
    """Harm the root itself."""

    def harm(root: Path, rng: np.random.Generator) -> Path:
        moved = root.rename(root.with_name("moved"))
        if name == "a link":
            root.symlink_to(moved)
        else:
            root.touch()
            FILE_DAMAGE[name](root, rng)
        return root

    return harm


_ROOT_DAMAGE = {
    f"the root: {name}": _root_damage(name)
    for name in (
        "missing",
        "a link",
        "a dangling link",
        "a link to itself",
        "a named pipe",
        "empty",
    )
}


def folder_readers(cases: int) -> tuple[Reader, ...]:
    """DISFA and CK+, `cases` each."""
    damage = {**_LABEL_FOLDER_DAMAGE, **_ROOT_DAMAGE}
    writers = (_write_disfa, _write_ck_plus)
    return tuple(
        Reader(f"label folder {name}", cases, write, partial(_read, name), damage)
        for name, write in zip(_FOLDERS, writers, strict=True)
    )
