"""Packed models: what is on disk, found again piece by piece, and damage told."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fedpsyau_model.errors import RunFolderError
from fedpsyau_model.exchange import Tensors, pack_tensors
from fedpsyau_server.packed_model import PIECE, ModelFile, ModelInMemory, packed, unpacked


def tensors() -> Tensors:
    generator = np.random.default_rng(1)
    return {
        "small": np.array(3, dtype=np.int64),
        "half": generator.normal(size=5).astype(np.float16),
        "large": generator.normal(size=(2, PIECE)).astype(np.float32),
        "next": generator.normal(size=3).astype(np.float32),
        "empty": np.zeros((0, 4), dtype=np.float32),
    }


def stored(folder: Path) -> Path:
    path = folder / "model.safetensors"
    path.write_bytes(pack_tensors(tensors()))
    return path


def test_a_file_is_read_as_it_is(tmp_path: Path) -> None:
    model = ModelFile.open(stored(tmp_path))
    assert packed(model) == packed(ModelInMemory.of(tensors())) == pack_tensors(tensors())
    assert unpacked(model).keys() == tensors().keys()
    assert model.layout.size == model.path.stat().st_size
    assert model.layout is ModelInMemory.of(tensors()).layout  # shared by all models of a run


def test_tensors_of_one_type_are_one_run_of_numbers(tmp_path: Path) -> None:
    model = ModelFile.open(stored(tmp_path))
    runs = model.layout.runs
    assert [(str(run.dtype), run.count, run.floating) for run in runs] == [
        ("int64", 1, False),
        ("float32", 2 * PIECE + 3, True),
        ("float16", 5, True),
    ]
    expected = np.concatenate([tensors()["large"].ravel(), tensors()["next"]])
    for each in (model, ModelInMemory.of(tensors())):
        spare = np.empty(PIECE - 3, np.float32)
        assert np.array_equal(each.numbers(1, 5, spare), expected[5 : PIECE + 2])
        assert np.array_equal(each.numbers(1, PIECE + 6, spare), expected[PIECE + 6 :])


@pytest.mark.parametrize(
    "content",
    [b"", b"half", pack_tensors(tensors())[:-1], pack_tensors(tensors()) + b"x", b"\xff" * 64],
)
def test_a_file_that_is_no_whole_model_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "damaged").write_bytes(content)
    with pytest.raises(ValueError, match=r"its header|it has"):
        ModelFile.open(tmp_path / "damaged")


def test_a_file_that_shrinks_while_it_is_used_is_told(tmp_path: Path) -> None:
    model = ModelFile.open(stored(tmp_path))
    model.path.write_bytes(pack_tensors(tensors())[:-100])
    with pytest.raises(RunFolderError, match=r"model\.safetensors cannot be read: it has become"):
        packed(model)
