"""Temporary folders that do not stay behind, with processes that are really killed."""

from __future__ import annotations

import stat
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from fedpsyau_model.private_folder import PrivateFolder

PREFIX = "fedpsyau-test-"

#: Makes a folder with something in it, names it, and waits for ever.
HOLDER = f"""
import time
from fedpsyau_model.private_folder import PrivateFolder
folder = PrivateFolder("{PREFIX}")
(folder.path / "secret").write_text("word")
print(folder.path, flush=True)
time.sleep(600)
"""


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where temporary files go, also for processes that a test starts."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def test_it_is_there_for_its_user_alone_and_gone_afterwards(temporary: Path) -> None:
    with PrivateFolder(PREFIX) as folder:
        (folder.path / "below").mkdir()
        (folder.path / "below" / "file").write_text("text")
        assert folder.path.parent == temporary
        assert stat.S_IMODE(folder.path.stat().st_mode) == 0o700
    folder.remove()
    assert not list(temporary.iterdir())


def test_the_next_one_removes_what_a_killed_process_left_and_nothing_else(temporary: Path) -> None:
    others = temporary / f"{PREFIX}file", temporary / f"{PREFIX}link", temporary / "another-folder"
    aim = temporary / "aim"
    aim.mkdir()
    others[0].write_text("not a folder")
    others[1].symlink_to(aim)
    others[2].mkdir()
    holder = subprocess.Popen([sys.executable, "-c", HOLDER], stdout=subprocess.PIPE, text=True)
    try:
        assert holder.stdout is not None
        held = Path(holder.stdout.readline().strip())
        with PrivateFolder(PREFIX):
            assert (held / "secret").exists(), "its process lives"
        holder.kill()
        holder.wait()
        assert held.exists()
        with PrivateFolder(PREFIX):
            assert not held.exists()
    finally:
        holder.kill()
        holder.wait()
    assert all(each.exists() for each in (*others, aim))


def test_names_and_place_are_those_that_were_asked_for(tmp_path: Path) -> None:
    within = tmp_path / "place"
    within.mkdir()
    others = [within / name for name in (".a[b].1.other", ".ab.1.part")]
    for other in (*others, left := within / ".a[b].1.part"):
        other.mkdir()
    with PrivateFolder(".a[b].", ".part", within) as folder:
        assert folder.path.parent == within
        assert folder.path.name.startswith(".a[b].")
        assert folder.path.suffix == ".part"
        assert not left.exists(), "nobody holds it"
    assert sorted(within.iterdir()) == sorted(others)


def test_one_that_nobody_removes_goes_with_its_object() -> None:
    folder = PrivateFolder(PREFIX)
    path = folder.path
    assert path.exists()
    del folder
    assert not path.exists()


def test_many_that_start_at_once_keep_their_own() -> None:
    def make(number: int) -> bool:
        with PrivateFolder(PREFIX) as folder:
            (folder.path / "number").write_text(str(number))
            return (folder.path / "number").read_text() == str(number)

    with ThreadPoolExecutor(16) as threads:
        assert all(threads.map(make, range(400)))
