"""Files of precomputed landmarks, and the file of the landmark model."""

from __future__ import annotations

import csv
import io
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

from damaged_inputs.array_damage import ARRAY_DAMAGE, write_arrays
from damaged_inputs.cases import Reader
from damaged_inputs.file_damage import FILE_DAMAGE, Damage
from fedpsyau_client.preparation.alignment import align
from fedpsyau_client.preparation.landmark_file import CSV_COLUMNS, read_landmark_file
from fedpsyau_client.preparation.landmark_model import (
    MODEL_NAME,
    fetch_landmark_model,
    find_landmark_model,
    has_landmark_model,
)

Rows = list[list[str]]


def landmark_readers(cases: int) -> tuple[Reader, ...]:
    return (
        Reader("landmark table", cases, _write_table, _read, {**FILE_DAMAGE, **_ROW_DAMAGE}),
        Reader("landmark archive", cases, _write_archive, _read, {**FILE_DAMAGE, **ARRAY_DAMAGE}),
    )


def model_readers(cases: int) -> tuple[Reader, ...]:
    """The landmark model as `fetch-models` is given it, and as it is found.

    The true one must be there, as nothing could succeed without it.
    """

    def write(folder: Path, rng: np.random.Generator) -> Path:
        return Path(shutil.copy(find_landmark_model(), folder / MODEL_NAME))

    def write_wheel(folder: Path, rng: np.random.Generator) -> Path:
        wheel = folder / "holds_it-1.0-py3-none-any.whl"
        with zipfile.ZipFile(wheel, "w") as archive:
            archive.write(find_landmark_model(), f"holds_it/models/{MODEL_NAME}")
            archive.writestr("holds_it/__init__.py", "")
        return wheel

    def fetch(source: Path, out: Path) -> None:
        target = out.parent / "models"
        try:
            assert fetch_landmark_model(target, source) == target / MODEL_NAME
            assert has_landmark_model(target)
        finally:
            assert not target.exists() or [each.name for each in target.iterdir()] == [MODEL_NAME]

    def find(source: Path, out: Path) -> None:
        has_landmark_model(source.parent)
        find_landmark_model(source.parent)

    return (
        Reader("model file --from", cases, write, fetch, FILE_DAMAGE),
        Reader("model wheel --from", cases, write_wheel, fetch, FILE_DAMAGE),
        Reader("model in its folder", cases, write, find, FILE_DAMAGE),
    )


def _read(file: Path, out: Path) -> None:
    for face in read_landmark_file(file).values():
        align(face)


def _write_table(folder: Path, rng: np.random.Generator) -> Path:
    file = folder / "landmarks.csv"
    rows = [list(CSV_COLUMNS)]
    for number in range(3):
        points = rng.uniform(50, 150, 2 * 65).round(2)
        rows.append([f"s{number}", "EP01", "7", "80", "100", "140", "101", *map(str, points)])
    _write(file, rows)
    return file


def _write_archive(folder: Path, rng: np.random.Generator) -> Path:
    landmarks = rng.uniform(80, 160, (3, 478, 2))
    landmarks[:, [33, 133], 0], landmarks[:, [362, 263], 0] = 60, 180
    return write_arrays(
        folder / "landmarks.npz",
        {
            "subject": np.array(["s1", "s2", "s3"]),
            "filename": np.array(["EP01", "EP02", "EP03"]),
            "onset": np.array([1, 7, 9]),
            "landmarks": landmarks,
        },
    )


def _write(file: Path, rows: Rows) -> None:
    text = io.StringIO()
    csv.writer(text).writerows(rows)
    file.write_text(text.getvalue(), encoding="utf-8")


def _on_rows(change: Callable[[Rows, np.random.Generator], Rows]) -> Damage:
    def damage(file: Path, rng: np.random.Generator) -> Path:
        rows = list(csv.reader(io.StringIO(file.read_text(encoding="utf-8"), newline="")))
        _write(file, change(rows, rng))
        return file

    return damage


def _cell(rows: Rows, rng: np.random.Generator) -> Rows:
    wrong = ("", "nan", "inf", "-1e400", "x", "1,5", "٣", "1_000", "0x10", "9" * 5000, "\0", " ")
    row, column = int(rng.integers(1, len(rows))), int(rng.integers(len(rows[0])))
    rows[row][column] = str(rng.choice(wrong))
    return rows


_ROW_DAMAGE: dict[str, Damage] = {
    "a nonsense cell": _on_rows(_cell),
    "a column missing": _on_rows(lambda rows, rng: [row[:-1] for row in rows]),
    "columns in disorder": _on_rows(lambda rows, rng: [row[::-1] for row in rows]),
    "columns twice": _on_rows(lambda rows, rng: [row + row for row in rows]),
    "a row twice": _on_rows(lambda rows, rng: [*rows, rows[1]]),
    "a short row": _on_rows(lambda rows, rng: [*rows[:-1], rows[-1][: int(rng.integers(130))]]),
    "a long row": _on_rows(lambda rows, rng: [*rows[:-1], [*rows[-1], "1", "2"]]),
    "no rows": _on_rows(lambda rows, rng: rows[:1]),
    "no header": _on_rows(lambda rows, rng: rows[1:]),
    "eyes exchanged": _on_rows(
        lambda rows, rng: [
            rows[0],
            *([*row[:3], *row[5:7], *row[3:5], *row[7:]] for row in rows[1:]),
        ]
    ),
    "a cell too long": _on_rows(lambda rows, rng: [rows[0], ["y" * 200_000, *rows[1][1:]]]),
}
