"""Writers that leave the old content or the new, whatever happens in between."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from fedpsyau_model.atomic_files import new_folder, write_atomically


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("content", ["θ = 0.9\n", b"\x00\xff", "", b""])
def test_a_file_holds_what_was_written_and_nothing_else_is_left(
    tmp_path: Path, content: bytes | str
) -> None:
    write_atomically(tmp_path / "file", content)
    expected = content.encode() if isinstance(content, str) else content
    assert (tmp_path / "file").read_bytes() == expected
    assert names_in(tmp_path) == ["file"]


@pytest.mark.parametrize("failing", ["os.fsync", "pathlib.Path.replace"])
def test_a_failed_write_leaves_the_old_content_and_no_litter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: str
) -> None:
    (tmp_path / "file").write_text("old")

    def fail(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(failing, fail)
    with pytest.raises(OSError, match="disk full"):
        write_atomically(tmp_path / "file", "new")
    assert (tmp_path / "file").read_text() == "old"
    assert names_in(tmp_path) == ["file"]


def test_content_is_on_disk_before_it_takes_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[str] = []
    fsync, replace = os.fsync, Path.replace

    def noted_fsync(descriptor: int) -> None:
        steps.append("fsync")
        fsync(descriptor)

    def noted_replace(path: Path, target: Path) -> Path:
        steps.append("replace")
        return replace(path, target)

    monkeypatch.setattr(os, "fsync", noted_fsync)
    monkeypatch.setattr(Path, "replace", noted_replace)
    write_atomically(tmp_path / "file", "content")
    assert steps == ["fsync", "replace"]


def test_a_folder_appears_whole_and_replaces_an_older_one(tmp_path: Path) -> None:
    target = tmp_path / "deep" / "folder"
    with new_folder(target) as partial:
        (partial / "one").write_text("1")
        assert not target.exists()
    assert names_in(target) == ["one"]
    with new_folder(target) as partial:
        (partial / "two").write_text("2")
        assert names_in(target) == ["one"]
    assert names_in(target) == ["two"]
    assert names_in(target.parent) == ["folder"]


def test_a_block_that_fails_leaves_the_older_folder(tmp_path: Path) -> None:
    target = tmp_path / "folder"
    with new_folder(target) as partial:
        (partial / "one").write_text("1")
    with pytest.raises(KeyboardInterrupt), new_folder(target) as partial:
        _write_and_be_stopped(partial / "two")
    assert names_in(target) == ["one"]
    assert names_in(tmp_path) == ["folder"]


def _write_and_be_stopped(path: Path) -> None:
    path.write_text("2")
    raise KeyboardInterrupt


def test_what_a_killed_writer_left_is_no_hindrance(tmp_path: Path) -> None:
    litter = tmp_path / f".folder.{os.getpid()}.partial"
    litter.mkdir()
    (litter / "half").write_text("h")
    with new_folder(tmp_path / "folder") as partial:
        (partial / "whole").write_text("w")
    assert names_in(tmp_path / "folder") == ["whole"]
    assert names_in(tmp_path) == ["folder"]
