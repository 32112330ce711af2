"""Precomputed landmarks: both kinds of file, and what is refused."""

import numpy as np
import pytest

from fedpsyau_client.preparation.face_points import face_points_of_mesh
from fedpsyau_client.preparation.landmark_file import CSV_COLUMNS, read_landmark_file
from fedpsyau_model.errors import LandmarkFileError


def write_csv(path, *rows, columns=CSV_COLUMNS):
    path.write_text("\n".join(",".join(map(str, row)) for row in (columns, *rows)) + "\n")
    return path


def row(subject="01", filename="EP1", onset=5, first=100):
    return [subject, filename, onset, *range(first, first + 134)]


def test_a_table(tmp_path):
    file = write_csv(tmp_path / "points.csv", row(), row("02", onset=""))
    faces = read_landmark_file(file)
    assert set(faces) == {("01", "EP1", 5), ("02", "EP1", None)}
    face = faces["01", "EP1", 5]
    assert face.eyes.tolist() == [[100, 101], [102, 103]]
    assert face.points[0].tolist() == [104, 104 + 65]
    assert face.points[64].tolist() == [104 + 64, 104 + 65 + 64]


def test_meshes(tmp_path):
    meshes = np.random.default_rng(0).uniform(0, 500, (2, 478, 2)).astype(np.float32)
    file = tmp_path / "meshes.npz"
    np.savez(file, subject=["1", "2"], filename=["a", "b"], onset=[3, 4], landmarks=meshes)
    faces = read_landmark_file(file)
    assert set(faces) == {("1", "a", 3), ("2", "b", 4)}
    assert np.array_equal(faces["2", "b", 4].points, face_points_of_mesh(meshes[1]).points)


@pytest.mark.parametrize(
    ("rows", "columns", "says"),
    [
        ([], CSV_COLUMNS, "of no clip"),
        ([row()], CSV_COLUMNS[:-1], "no column y64"),
        ([row()], ("a",), "and 134 more"),
        ([row(onset="five")], CSV_COLUMNS, "line 2"),
        ([row(), row()[:-1]], CSV_COLUMNS, "line 3"),
        ([row(), row()], CSV_COLUMNS, "was there before"),
    ],
)
def test_tables_that_are_refused(tmp_path, rows, columns, says):
    with pytest.raises(LandmarkFileError, match=says):
        read_landmark_file(write_csv(tmp_path / "points.csv", *rows, columns=columns))


@pytest.mark.parametrize(
    "arrays",
    [
        {},
        {"landmarks": np.zeros((1, 468, 2))},
        {"landmarks": np.zeros(())},
        {"landmarks": np.full((1, 478, 2), "x")},
        {"subject": ["1", "2"]},
        {"onset": ["now"]},
        {"subject": np.array([{"a": 1}], dtype=object)},
    ],
)
def test_meshes_that_are_refused(tmp_path, arrays):
    good = {"subject": ["1"], "filename": ["a"], "onset": [3], "landmarks": np.zeros((1, 478, 2))}
    file = tmp_path / "meshes.npz"
    np.savez(file, **(good | arrays if arrays else {}))
    with pytest.raises(LandmarkFileError):
        read_landmark_file(file)


@pytest.mark.parametrize("name", ["points.csv", "meshes.npz"])
@pytest.mark.parametrize("content", [b"", b"\x00\xff\xfe", b"PK\x03\x04 cut", b'"open'])
def test_damaged_files_are_refused(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(LandmarkFileError):
        read_landmark_file(tmp_path / name)
    with pytest.raises(LandmarkFileError):
        read_landmark_file(tmp_path / "none" / name)
