"""A site's own state through kills, full disks and runs that are over."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file
from small_disk import small_disk

from fedpsyau_client.local_training.site_state import SiteState
from fedpsyau_model.errors import SiteStateError

MODEL = {"w": np.arange(4, dtype=np.float32)}


def same(folder: Path, value: float) -> bool:
    """Whether model and provenance are whole, belong together, and are those of `value`."""
    model = load_file(folder / "personal.safetensors")
    told = json.loads((folder / "personal.json").read_text())
    digest = hashlib.sha256((folder / "personal.safetensors").read_bytes()).hexdigest()
    return told["model_sha256"] == digest and told["round"] == value and (model["w"] == value).all()


def personal(value: float, size: int = 4) -> dict[str, np.ndarray]:
    return {"w": np.full(size, value, dtype=np.float32)}


#: Saves round after round, and says so after each.
SAVING = """
import sys, numpy as np
from pathlib import Path
from fedpsyau_client.local_training.site_state import SiteState
state = SiteState(Path(sys.argv[1]))
for number in range(1, 10**6):
    state.carry("run", number, {"w": np.full(250_000, number, dtype=np.float32)})
    state.save_personal({"w": np.full(250_000, number, dtype=np.float32)}, {}, {"round": number})
    print(number, flush=True)
"""


@pytest.mark.parametrize("milliseconds", [1, 4, 9, 17])
def test_a_kill_at_any_moment_leaves_the_last_whole_state(
    tmp_path: Path, milliseconds: int
) -> None:
    folder = tmp_path / "site"
    process = subprocess.Popen(
        [sys.executable, "-c", SAVING, str(folder)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    for _ in range(3):
        process.stdout.readline()
    time.sleep(milliseconds / 1000)
    process.send_signal(signal.SIGKILL)
    last = [int(line) for line in process.stdout.read().split()] or [3]
    process.wait()
    with SiteState(folder) as state:
        # What was being saved may have become whole before its line came out.
        told = json.loads((folder / "personal.json").read_text())["round"]
        assert told in (last[-1], last[-1] + 1)
        assert same(folder, told)
        carried = state.carried("run", 10**6)
        assert carried is not None
        assert len(set(carried["w"])) == 1
        assert list(folder.rglob("*.partial")) == []


def test_a_kill_between_model_and_provenance_is_made_good(tmp_path: Path) -> None:
    provenance = tmp_path / "personal.json"
    with SiteState(tmp_path) as state:
        state.save_personal(personal(1), {}, {"round": 1})
        old = provenance.read_bytes()
        state.save_personal(personal(2), {}, {"round": 2})
    # The model of round 2 had taken its place, and its provenance had not.
    provenance.replace(tmp_path / ".personal.json.4711.partial")
    provenance.write_bytes(old)
    (tmp_path / ".personal.json.4712.partial").write_text('{"model_sha')
    with SiteState(tmp_path):
        assert same(tmp_path, 2)
        assert [*tmp_path.glob(".*.partial")] == []
    # A provenance whose model did not take its place belongs to nothing.
    (tmp_path / ".personal.json.4713.partial").write_text('{"model_sha256": "0", "round": 3}')
    with SiteState(tmp_path):
        assert same(tmp_path, 2)


def test_a_full_disk_leaves_the_last_whole_state_and_is_told(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", 3) as disk:
        folder = disk / "site"
        with SiteState(folder) as state:
            state.carry("run", 1, personal(1, 200_000))
            state.save_personal(personal(1, 200_000), {}, {"round": 1})
            (disk / "other").write_bytes(os.urandom(1_000_000))
            with pytest.raises(SiteStateError) as full:
                state.save_personal(personal(2, 200_000), {}, {"round": 2})
            assert "No space left" in str(full.value)
            assert str(folder) in str(full.value)
            with pytest.raises(SiteStateError):
                state.carry("run", 2, personal(2, 200_000))
            assert same(folder, 1)
            assert list(folder.rglob("*.partial")) == []
            carried = state.carried("run", 2)
            assert carried is not None
            assert (carried["w"] == 1).all()
            (disk / "other").unlink()
            state.save_personal(personal(3, 200_000), {}, {"round": 3})
            assert same(folder, 3)


def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SiteStateError, match="Not a directory"):
        SiteState(tmp_path / "file" / "site")


def test_what_a_run_carried_goes_when_it_is_over(tmp_path: Path) -> None:
    with SiteState(tmp_path) as state:
        state.carry("over", 1, MODEL)
        state.carry("other", 1, MODEL)
        state.forget("over")
        assert state.carried("over", 2) is None
        assert state.carried("other", 2) is not None
        state.forget("never was")


def test_what_a_run_without_an_end_carried_goes_after_some_days(tmp_path: Path) -> None:
    with SiteState(tmp_path) as state:
        state.carry("old", 1, MODEL)
        state.carry("new", 1, MODEL)
        [old] = state._carried_folder("old").iterdir()
    for path in (old, old.parent):
        os.utime(path, (time.time() - 8 * 86_400,) * 2)
    with SiteState(tmp_path, carried_days=9) as state:
        assert state.carried("old", 2) is not None
    with SiteState(tmp_path, carried_days=7) as state:
        assert state.carried("old", 2) is None
        assert state.carried("new", 2) is not None


def test_what_a_killed_process_was_writing_goes_and_nothing_else(tmp_path: Path) -> None:
    with SiteState(tmp_path) as state:
        state.save_personal(MODEL, {}, {"round": 1})
        state.carry("run", 1, MODEL)
        litter = [
            tmp_path / ".personal.safetensors.77.partial",
            state._carried_folder("run") / ".0002.safetensors.77.partial",
        ]
    for path in litter:
        path.write_bytes(b"half")
    before = {path for path in tmp_path.rglob("*") if path.is_file()} - set(litter)
    with SiteState(tmp_path):
        assert {path for path in tmp_path.rglob("*") if path.is_file()} == before
