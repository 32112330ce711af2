"""What priors are built from: responses of a study, exclusions, matrices and priors files."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from damaged_inputs.cases import Reader
from damaged_inputs.file_damage import FILE_DAMAGE, Damage
from fedpsyau_client.own_priors.matrix_csv import format_matrix, read_matrix
from fedpsyau_client.own_priors.priors_file import PriorsFile, read_priors_file
from fedpsyau_client.own_priors.study_responses import read_exclusions, read_study_responses
from fedpsyau_model.errors import PriorsFileError
from fedpsyau_priors import PriorError, check_intrinsic, cooccurrence_counts, published_intrinsic

Rows = list[list[str]]


def priors_readers(cases: int) -> tuple[Reader, ...]:
    tables = {**FILE_DAMAGE, **_ROW_DAMAGE}
    return (
        Reader("study responses", cases, _write_responses, _read_responses, tables),
        Reader("study exclusions", cases // 2, _write_exclusions, _read_exclusions, tables),
        Reader("priors file", cases, _write_priors, _read_priors, {**FILE_DAMAGE, **_JSON_DAMAGE}),
        Reader("matrix", cases // 2, _write_matrix, _read_matrix, tables),
    )


def _read_responses(file: Path, out: Path) -> None:
    read_study_responses(file)


def _read_exclusions(file: Path, out: Path) -> None:
    read_exclusions(file)


def _read_priors(file: Path, out: Path) -> None:
    priors = read_priors_file(file)
    priors.priors("extended")
    priors.to_toml()


def _read_matrix(file: Path, out: Path) -> None:
    """As `fedpsyau priors build --intrinsic` does."""
    matrix = read_matrix(file)
    try:
        check_intrinsic(matrix)
    except PriorError as error:
        raise PriorsFileError(str(error)) from None


def _write_responses(folder: Path, rng: np.random.Generator) -> Path:
    rows = [["participant", "first", "second", "judged", "score", "expected"]]
    for person in ("p1", "p2", "p3"):
        for first, second in ((1, 2), (6, 12), (4, 12)):
            judged = str(rng.choice(["coordinated", "uncoordinated", "1", "0"]))
            row = [person, f"AU{first}", f"{second}", judged, "4.5", str(int(first != 4))]
            rows.append(row)
    return _write(folder / "responses.csv", rows)


def _write_exclusions(folder: Path, rng: np.random.Generator) -> Path:
    rows = [["first", "second", "reason"], ["1", "4", "one muscle"], ["AU12", "AU15", "opposed"]]
    return _write(folder / "exclusions.csv", rows)


def _write_priors(folder: Path, rng: np.random.Generator) -> Path:
    priors = PriorsFile.model_validate(
        {
            "name": "ours",
            "cooccurrence": cooccurrence_counts().tolist(),
            "smoothing": 1.0,
            "intrinsic": published_intrinsic().tolist(),
        }
    )
    file = folder / "priors.json"
    file.write_text(priors.to_json(), encoding="utf-8")
    return file


def _write_matrix(folder: Path, rng: np.random.Generator) -> Path:
    file = folder / "intrinsic.csv"
    file.write_text(format_matrix(published_intrinsic()), encoding="utf-8")
    return file


def _write(file: Path, rows: Rows) -> Path:
    text = io.StringIO()
    csv.writer(text).writerows(rows)
    file.write_text(text.getvalue(), encoding="utf-8")
    return file


def _on_rows(change: Callable[[Rows, np.random.Generator], Rows]) -> Damage:
    def damage(file: Path, rng: np.random.Generator) -> Path:
        rows = list(csv.reader(io.StringIO(file.read_text(encoding="utf-8"), newline="")))
        return _write(file, change(rows, rng))

    return damage


def _nonsense_cell(rows: Rows, rng: np.random.Generator) -> Rows:
    wrong = ("", "nan", "inf", "-1", "1e400", "AU0", "AU100", "٣", "0x1", "yes", "\n", "\0", "²")
    row, column = int(rng.integers(len(rows))), int(rng.integers(len(rows[0])))
    rows[row][column] = str(rng.choice(wrong))
    return rows


_ROW_DAMAGE: dict[str, Damage] = {
    "a nonsense cell": _on_rows(_nonsense_cell),
    "many nonsense cells": _on_rows(
        lambda rows, rng: _nonsense_cell(_nonsense_cell(_nonsense_cell(rows, rng), rng), rng)
    ),
    "a row twice": _on_rows(lambda rows, rng: [*rows, rows[1]]),
    "a row missing": _on_rows(lambda rows, rng: rows[:-1]),
    "a row too short": _on_rows(lambda rows, rng: [*rows[:-1], rows[-1][:1]]),
    "a row too long": _on_rows(lambda rows, rng: [*rows, [*rows[-1], "1", "2"]]),
    "a column missing": _on_rows(lambda rows, rng: [row[1:] for row in rows]),
    "columns in disorder": _on_rows(lambda rows, rng: [row[::-1] for row in rows]),
    "no rows": _on_rows(lambda rows, rng: rows[:1]),
    "no header": _on_rows(lambda rows, rng: rows[1:]),
    "empty rows": _on_rows(lambda rows, rng: [*rows, [], [""] * 4, []]),
}


def _on_json(change: Callable[[dict[str, Any], np.random.Generator], Any]) -> Damage:
    def damage(file: Path, rng: np.random.Generator) -> Path:
        file.write_text(json.dumps(change(json.loads(file.read_text()), rng)))
        return file

    return damage


def _odd_value(values: dict[str, Any], rng: np.random.Generator) -> Any:
    odd = (None, -1, 10**400, 1.5, "", "a\nb", "\ud800", [], {}, [[]], "x" * 9999, float("nan"))
    values[sorted(values)[int(rng.integers(len(values)))]] = odd[int(rng.integers(len(odd)))]
    return values


def _odd_count(values: dict[str, Any], rng: np.random.Generator) -> Any:
    odd = (None, -1, 10**400, 1.5, "1", [], float("nan"), float("inf"), True, 10**18)
    row, column = rng.integers(0, 12, 2).tolist()
    values["cooccurrence"][row][column] = odd[int(rng.integers(len(odd)))]
    return values


def _key_gone(values: dict[str, Any], rng: np.random.Generator) -> Any:
    del values[sorted(values)[int(rng.integers(len(values)))]]
    return values


_JSON_DAMAGE: dict[str, Damage] = {
    "an odd value": _on_json(_odd_value),
    "an odd count": _on_json(_odd_count),
    "a key missing": _on_json(_key_gone),
    "a key more": _on_json(lambda values, rng: {**values, "more": 1}),
    "a list": _on_json(lambda values, rng: [values]),
    "a row missing": _on_json(
        lambda values, rng: {**values, "cooccurrence": values["cooccurrence"][1:]}
    ),
    "no matrices": _on_json(lambda values, rng: {**values, "cooccurrence": [], "intrinsic": []}),
    "all zeros": _on_json(
        lambda values, rng: {**values, "cooccurrence": [[0] * 12] * 12, "smoothing": 0}
    ),
    "another version": _on_json(
        lambda values, rng: {**values, "schema-version": int(rng.integers(-1, 4))}
    ),
}
