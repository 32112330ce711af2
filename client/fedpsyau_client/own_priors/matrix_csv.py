"""Matrices over the twelve AUs as CSV: a header row and a header column of AU names."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fedpsyau_model.action_units import AUS
from fedpsyau_model.errors import PriorsFileError
from fedpsyau_model.input_files import read_input_text

__all__ = ["format_matrix", "read_matrix"]


def format_matrix(matrix: npt.NDArray[Any], aus: tuple[int, ...] = AUS) -> str:
    """Text of a matrix (n, n) over n AUs, as the shipped matrices are written."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["AU", *(f"AU{au}" for au in aus)])
    for au, row in zip(aus, matrix.tolist(), strict=True):
        writer.writerow([f"AU{au}", *row])
    return text.getvalue()


def read_matrix(file: Path) -> npt.NDArray[np.float64]:
    """Read a matrix (12, 12) over the twelve AUs.

    Raises PriorsFileError if the file cannot be read, is over other AUs, or holds no numbers.
    """
    try:
        rows = list(csv.reader(io.StringIO(read_input_text(file, "utf-8-sig")), strict=True))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise PriorsFileError(f"The matrix {file} cannot be read: {error}. {_CURE}") from None
    names = [f"AU{au}" for au in AUS]
    rows = [row for row in rows if row]
    if not rows or rows[0][1:] != names or [row[0] for row in rows[1:]] != names:
        raise PriorsFileError(
            f"The matrix {file} must have a first row and a first column of the twelve AUs in this "
            f"order: {', '.join(names)}. {_CURE}"
        )
    try:
        matrix = np.array([[float(cell) for cell in row[1:]] for row in rows[1:]])
    except ValueError as error:
        raise PriorsFileError(f"The matrix {file} holds no matrix: {error}. {_CURE}") from None
    return matrix


_CURE = "`fedpsyau priors study` writes such a matrix as intrinsic.csv."
