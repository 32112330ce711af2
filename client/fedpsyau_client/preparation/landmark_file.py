"""Precomputed landmarks: faces found by another detector, or by hand, in place of ours.

Two kinds of file:

``.csv``
    One row per clip. ``subject``, ``filename``, ``onset`` as in the label table; ``right_eye_x``,
    ``right_eye_y``, ``left_eye_x``, ``left_eye_y``, the centres of the subject's own eyes (middle
    of the two corners); ``x0`` to ``x64`` and ``y0`` to ``y64``, the 65 facial points.
``.npz``
    Arrays ``subject`` (N,), ``filename`` (N,), ``onset`` (N,) and ``landmarks`` (N, 478, 2),
    MediaPipe's whole mesh.

All in pixels of the onset frame as it is on disk, x right and y down, the centre of the first pixel
being (0, 0).
"""

from __future__ import annotations

import csv
import io
import tokenize
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np

from fedpsyau_client.preparation.face_points import MESH_SIZE, FacePoints, face_points_of_mesh
from fedpsyau_client.store.pseudonyms import ClipKey
from fedpsyau_model.action_units import POINT_COUNT
from fedpsyau_model.errors import LandmarkFileError
from fedpsyau_model.input_files import check_input_file, read_input_text

__all__ = ["CSV_COLUMNS", "read_landmark_file"]

_KEY: Final = ("subject", "filename", "onset")
_EYES: Final = ("right_eye_x", "right_eye_y", "left_eye_x", "left_eye_y")
_POINTS: Final = tuple(f"{axis}{number}" for axis in "xy" for number in range(POINT_COUNT))

#: Meshes of 100,000 clips; far beyond it is something else.
_LARGEST_FILE: Final = 2**30

#: What zipfile and NumPy raise for damaged archives, locked ones, and forged headers.
_ARCHIVE_ERRORS: Final = (
    *(ValueError, AttributeError, NotImplementedError, RuntimeError, KeyError, TypeError),
    *(SyntaxError, MemoryError, OverflowError, zlib.error, tokenize.TokenError),
)

CSV_COLUMNS: Final = (*_KEY, *_EYES, *_POINTS)


def read_landmark_file(file: Path) -> Mapping[ClipKey, FacePoints]:
    """Read precomputed landmarks by clip key. Raises LandmarkFileError."""
    if not file.is_file():
        raise LandmarkFileError(f"There is no landmark file {file}. Check the path at --landmarks.")
    try:
        faces = _read_npz(file) if file.suffix.lower() == ".npz" else _read_csv(file)
    except (OSError, UnicodeDecodeError, csv.Error, zipfile.BadZipFile, EOFError) as error:
        raise LandmarkFileError(f"{file} cannot be read: {error}.") from None
    if not faces:
        raise LandmarkFileError(f"{file} holds landmarks of no clip.")
    return faces


def _read_csv(file: Path) -> dict[ClipKey, FacePoints]:
    rows = csv.DictReader(
        io.StringIO(read_input_text(file, "utf-8-sig", _LARGEST_FILE)), strict=True
    )
    missing = [column for column in CSV_COLUMNS if column not in (rows.fieldnames or ())]
    if missing:
        more = f" and {len(missing) - 3} more" if len(missing) > 3 else ""
        raise LandmarkFileError(
            f"{file} has no column {', '.join(missing[:3])}{more}. A landmark table has subject, "
            "filename, onset, the four columns of the eyes' centres, x0 to x64 and y0 to y64."
        )
    faces: dict[ClipKey, FacePoints] = {}
    for number, row in enumerate(rows, start=2):
        try:
            values = np.array([float(row[column]) for column in (*_EYES, *_POINTS)])
            key = row["subject"].strip(), row["filename"].strip(), _onset(row["onset"])
        except (TypeError, ValueError, AttributeError):
            raise LandmarkFileError(
                f"{file}, line {number}: a cell is empty or no number. Leave out the rows of clips "
                "whose landmarks are not known."
            ) from None
        eyes, points = values[:4].reshape(2, 2), values[4:].reshape(2, POINT_COUNT).T
        _add(faces, key, FacePoints(eyes, points), f"{file}, line {number}")
    return faces


def _read_npz(file: Path) -> dict[ClipKey, FacePoints]:
    arrays = _arrays(file)
    landmarks = arrays["landmarks"]
    count = len(landmarks) if landmarks.ndim else 0
    if landmarks.shape[1:] != (MESH_SIZE, 2) or landmarks.dtype.kind not in "fiu":
        raise LandmarkFileError(
            f"{file}: landmarks is {landmarks.dtype} of the shape {landmarks.shape}; it must be "
            f"numbers of the shape (N, {MESH_SIZE}, 2), x and y in pixels."
        )
    faces: dict[ClipKey, FacePoints] = {}
    for name in _KEY:
        if arrays[name].shape != (count,):
            raise LandmarkFileError(
                f"{file}: {name} has the shape {arrays[name].shape}, but there are {count} clips."
            )
    for row in range(count):
        try:
            onset = _onset(str(arrays["onset"][row]))
        except ValueError:
            raise LandmarkFileError(f"{file}: onset of row {row} is no frame number.") from None
        key = str(arrays["subject"][row]), str(arrays["filename"][row]), onset
        _add(faces, key, face_points_of_mesh(landmarks[row]), f"{file}, row {row}")
    return faces


def _arrays(file: Path) -> dict[str, Any]:
    try:
        check_input_file(file, _LARGEST_FILE)
        with np.load(file, allow_pickle=False) as archive:
            missing = [name for name in (*_KEY, "landmarks") if name not in archive.files]
            if missing:
                raise LandmarkFileError(
                    f"{file} has no array {', '.join(missing)}. It must hold subject, filename, "
                    f"onset (N,) and landmarks (N, {MESH_SIZE}, 2)."
                )
            return {name: archive[name] for name in (*_KEY, "landmarks")}
    except _ARCHIVE_ERRORS as error:
        raise LandmarkFileError(f"{file} is no .npz file of plain arrays: {error}.") from None


def _onset(text: str) -> int | None:
    return int(text) if text.strip() else None


def _add(faces: dict[ClipKey, FacePoints], key: ClipKey, face: FacePoints, where: str) -> None:
    if key in faces:
        raise LandmarkFileError(
            f"{where}: the clip {key[1]!r} of subject {key[0]!r} with onset {key[2]} was there "
            "before. Leave one row for each clip."
        )
    faces[key] = face
