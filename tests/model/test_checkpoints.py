"""Checkpoints: what is written is read, and a network takes all of it or nothing."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest

from fedpsyau_model.checkpoints import read_checkpoint, start_from, write_checkpoint
from fedpsyau_model.errors import CheckpointError, OutputWriteError, WeightsMismatchError
from fedpsyau_model.model_state import state_arrays
from fedpsyau_model.network import AuGatDsi, build_network
from fedpsyau_model.settings import NetworkSettings

Model = dict[str, np.ndarray]


def network(seed: int, **settings: object) -> AuGatDsi:
    return build_network(NetworkSettings.model_validate(settings), seed)


def au_part(seed: int, **settings: object) -> Model:
    arrays = state_arrays(network(seed, **settings))
    return {name: array for name, array in arrays.items() if name.startswith("au_branch.")}


def test_what_was_written_is_read(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "start.safetensors"
    tensors = au_part(1)
    write_checkpoint(path, tensors, {"kind": "test", "epochs": 3})
    checkpoint = read_checkpoint(path)
    assert checkpoint.provenance == {"kind": "test", "epochs": 3}
    assert checkpoint.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert checkpoint.tensors.keys() == tensors.keys()
    for name, tensor in tensors.items():
        np.testing.assert_array_equal(checkpoint.tensors[name], tensor)
    write_checkpoint(
        tmp_path / "again.safetensors",
        dict(reversed(tensors.items())),
        {"epochs": 3, "kind": "test"},
    )
    assert (tmp_path / "again.safetensors").read_bytes() == path.read_bytes()


def test_the_part_is_the_checkpoints_and_the_rest_the_initial(tmp_path: Path) -> None:
    tensors = au_part(1)
    write_checkpoint(tmp_path / "start", tensors, {})
    started, initial = network(2), state_arrays(network(2))
    taken = start_from(started, read_checkpoint(tmp_path / "start"))
    assert set(taken) == set(tensors)
    after = state_arrays(started)
    for name, array in after.items():
        np.testing.assert_array_equal(array, tensors.get(name, initial[name]))
    weights = "inception.classifier.1.weight", "au_branch.predictor.1.weight"
    assert weights[0] not in tensors
    assert not np.array_equal(after[weights[1]], initial[weights[1]])


@pytest.mark.parametrize("change", ["shape", "name", "dtype"])
def test_a_checkpoint_that_does_not_fit_changes_nothing(tmp_path: Path, change: str) -> None:
    tensors = au_part(1)
    name = "au_branch.predictor.1.bias"
    if change == "name":
        tensors["au_branch.predictor.9.bias"] = tensors.pop(name)
        name = "au_branch.predictor.9.bias"
    elif change == "shape":
        tensors[name] = tensors[name][:-1]
    else:
        tensors[name] = tensors[name].astype(np.float64)
    write_checkpoint(tmp_path / "start", tensors, {})
    started, initial = network(2), state_arrays(network(2))
    with pytest.raises(WeightsMismatchError, match=name.replace(".", r"\.")):
        start_from(started, read_checkpoint(tmp_path / "start"))
    after = state_arrays(started)
    assert all(np.array_equal(after[each], initial[each]) for each in initial)


def test_graphs_are_not_dropped_without_a_word(tmp_path: Path) -> None:
    write_checkpoint(tmp_path / "start", au_part(1), {})
    with pytest.raises(WeightsMismatchError, match="relations"):
        start_from(network(2, graph=False), read_checkpoint(tmp_path / "start"))


@pytest.mark.parametrize(
    "content", [None, b"", b"no checkpoint at all", b"\x08" + 7 * b"\0" + b"[1,2,3] "]
)
def test_what_is_no_checkpoint_is_refused(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "start"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(CheckpointError, match="start"):
        read_checkpoint(path)


def test_a_truncated_checkpoint_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "start"
    write_checkpoint(path, {"w": np.arange(100.0)}, {})
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(CheckpointError, match="truncated"):
        read_checkpoint(path)


def test_an_empty_checkpoint_is_refused(tmp_path: Path) -> None:
    write_checkpoint(tmp_path / "start", {}, {})
    with pytest.raises(CheckpointError, match="no tensor"):
        start_from(network(1), read_checkpoint(tmp_path / "start"))


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OutputWriteError, match="file"):
        write_checkpoint(tmp_path / "file" / "start", {"w": np.zeros(1)}, {})
