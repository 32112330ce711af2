"""The common start: drawn from the seed, or with a checkpoint's tensors in it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fedpsyau_model.checkpoints import read_checkpoint, write_checkpoint
from fedpsyau_model.child_process import free_port
from fedpsyau_model.errors import CheckpointError, WeightsMismatchError
from fedpsyau_model.model_state import state_arrays
from fedpsyau_model.network import build_network
from fedpsyau_model.settings import FederationSettings
from fedpsyau_server.initial_model import initial_model, start_checkpoint
from fedpsyau_server.packed_model import unpacked
from fedpsyau_server.run_folder import RunFolder
from fedpsyau_server.serving import new_run


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """The whole AU part of another seed, with batch-norm statistics of its own."""
    arrays = state_arrays(build_network(FederationSettings().network, 99))
    path = tmp_path / "aus.safetensors"
    part = {name: array for name, array in arrays.items() if name.startswith("au_branch.")}
    write_checkpoint(path, part, {})
    return path


def settings(start: Path | str, runs: Path, **more: object) -> FederationSettings:
    listen = f"127.0.0.1:{free_port()}"
    server = {"start": str(start), "runs": str(runs), "listen": listen}
    return FederationSettings.model_validate({"server": server, **more})


@pytest.mark.parametrize("batch_norm", ["local", "shared"])
def test_the_au_part_is_the_checkpoints_and_the_rest_is_drawn(
    checkpoint: Path, tmp_path: Path, batch_norm: str
) -> None:
    asked = settings(checkpoint, tmp_path, strategy={"batch-norm": batch_norm})
    drawn, held = initial_model(asked), read_checkpoint(checkpoint).tensors
    started = initial_model(asked, start_checkpoint(asked))
    assert started.keys() == drawn.keys()
    for name, array in started.items():
        np.testing.assert_array_equal(array, held.get(name, drawn[name]))
    taken = [name for name in started if name in held]
    assert taken
    assert any(not np.array_equal(started[name], drawn[name]) for name in taken)


def test_the_run_folder_holds_the_start_and_its_hash(checkpoint: Path, tmp_path: Path) -> None:
    asked = settings(checkpoint, tmp_path / "runs")
    folder = RunFolder.open(new_run(asked, "one").path)
    assert folder.config.start_sha256 == read_checkpoint(checkpoint).sha256
    checkpoint.unlink()  # a run that goes on does not need it any more
    initial = unpacked(folder.initial())
    assert initial.keys() == initial_model(asked).keys()
    name = "au_branch.predictor.1.weight"
    assert not np.array_equal(initial[name], initial_model(asked)[name])


def test_a_start_that_cannot_be_taken_leaves_no_run(checkpoint: Path, tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    with pytest.raises(WeightsMismatchError, match="relations"):
        new_run(settings(checkpoint, runs, network={"graph": False}), "one")
    with pytest.raises(CheckpointError, match="nowhere"):
        new_run(settings("nowhere", runs), "one")
    assert not runs.exists()


def test_no_start_is_the_default() -> None:
    assert start_checkpoint(FederationSettings()) is None
