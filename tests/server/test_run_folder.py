"""The run folder: whole after every round, whatever happens at any write of it."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from in_process_sites import new_run

from fedpsyau_model.errors import RunFolderError, RunFolderInUseError
from fedpsyau_model.settings import FederationSettings
from fedpsyau_server import run_folder as run_folder_module
from fedpsyau_server.event_tail import EventTail
from fedpsyau_server.fusion import Model
from fedpsyau_server.packed_model import ModelInMemory, unpacked
from fedpsyau_server.run_folder import ContributionMark, RunFolder

SITES = ("a", "b", "c")


def model(value: float) -> Model:
    return {"w": np.full(2, value, dtype=np.float32), "steps": np.array(3, dtype=np.int64)}


def value_of(tensors: Any) -> float:
    return float(unpacked(tensors)["w"][0])


def save(folder: RunFolder, number: int, marks: dict[str, int] | None = None) -> None:
    """Save a round in which site k's personal model is 10 N + k and its reply 100 N + k.

    marks: rounds of the sites' last replies; this one's by default.
    """
    marks = marks or dict.fromkeys(SITES, number)
    with folder.new_round(number) as draft:
        for k, site in enumerate(SITES):
            if marks[site] == number:
                draft.keep_reply(site, model(100 * number + k))
        draft.write_models(
            {site: ModelInMemory.of(model(10 * number + k)) for k, site in enumerate(SITES)}
        )
    folder.finish_round(
        {"round": number, "note": f"round {number}"},
        SITES,
        {site: ContributionMark(round=at, clips=5) for site, at in marks.items()},
    )


def assert_whole(path: Path, number: int) -> RunFolder:
    """Reopen the folder and check that it is as `save` left it after round `number`."""
    folder = RunFolder.open(path)
    assert folder.state.round == number
    assert [line["round"] for line in folder.rounds()] == list(range(1, number + 1))
    expected = {site: 10 * number + k for k, site in enumerate(SITES)} if number else {}
    assert {site: value_of(each) for site, each in folder.models().items()} == expected
    contributions = folder.contributions()
    replies = {site: 100 * number + k for k, site in enumerate(SITES)} if number else {}
    assert {site: value_of(each.model) for site, each in contributions.items()} == replies
    assert value_of(folder.initial()) == 0.0
    return folder


# A life without accidents -------------------------------------------------------------------------


def test_a_new_run_is_reopened_as_it_was_made(tmp_path: Path) -> None:
    made = new_run(tmp_path / "run", SITES, strategy={"theta": 0.8})
    opened = assert_whole(tmp_path / "run", 0)
    assert opened.config == made.config
    assert opened.config.federation_settings().strategy.theta == 0.8
    assert opened.state.status == "running"
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_a_name_that_is_taken_is_refused(tmp_path: Path) -> None:
    made = new_run(tmp_path / "run", SITES)
    save(made, 1)
    with pytest.raises(RunFolderError, match="exists already"):
        new_run(tmp_path / "run", SITES)
    assert_whole(tmp_path / "run", 1)


def test_rounds_are_reopened_bit_for_bit(tmp_path: Path) -> None:
    folder = new_run(tmp_path / "run", SITES)
    exact = {"w": np.array([np.pi, -0.0], dtype=np.float32), "n": np.array(7, dtype=np.int64)}
    with folder.new_round(1) as draft:
        draft.write_models({"a": draft.keep_reply("a", exact)})
    folder.finish_round({"round": 1}, ["a"], {"a": ContributionMark(round=1, clips=9)})
    opened = RunFolder.open(tmp_path / "run")
    for stored in (
        opened.models()["a"],
        opened.contributions()["a"].model,
        opened.replies(1)["a"],
    ):
        tensors = unpacked(stored)
        assert {name: tensor.tobytes() for name, tensor in tensors.items()} == {
            name: tensor.tobytes() for name, tensor in exact.items()
        }
        assert tensors["n"].shape == ()
    assert opened.contributions()["a"].clips == 9
    assert opened.state.personalised == ("a",)


def test_the_models_shown_are_those_of_the_last_round_and_no_copies(tmp_path: Path) -> None:
    folder = new_run(tmp_path / "run", SITES)
    for number in (1, 2):
        save(folder, number)
        for site in SITES:
            shown = tmp_path / "run" / "models" / f"{site}.safetensors"
            kept = tmp_path / "run" / "rounds" / f"{number:04d}" / "models" / shown.name
            assert shown.samefile(kept)
    assert len(list((tmp_path / "run" / "models").iterdir())) == len(SITES)


def test_a_model_that_does_not_change_is_one_file_through_the_rounds(tmp_path: Path) -> None:
    folder = new_run(tmp_path / "run", SITES, rounds={"keep-rounds": 1})
    save(folder, 1)
    for number in (2, 3):
        before = folder.models()
        with folder.new_round(number) as draft:
            draft.write_models({**before, "b": ModelInMemory.of(model(float(number)))})
        folder.finish_round({"round": number}, SITES, {})
        after = folder.models()
        assert [value_of(after[site]) for site in SITES] == [10.0, float(number), 12.0]
        shown = tmp_path / "run" / "models"
        assert sorted(file.stem for file in shown.iterdir()) == list(SITES)
        assert all((shown / each.path.name).samefile(each.path) for each in after.values())
    assert kept_rounds(tmp_path / "run") == [3]


def test_one_model_of_many_sites_is_one_file(tmp_path: Path) -> None:
    folder = new_run(tmp_path / "run", SITES)
    with folder.new_round(1) as draft:
        draft.write_models(dict.fromkeys(SITES, ModelInMemory.of(model(7.0))))
    folder.finish_round({"round": 1}, SITES, {})
    files = [each.path for each in folder.models().values()]
    assert [value_of(each) for each in folder.models().values()] == [7.0] * 3
    assert all(file.samefile(files[0]) for file in files)


@pytest.mark.parametrize("number", [1, 3])
def test_a_round_that_does_not_follow_the_last_is_refused(tmp_path: Path, number: int) -> None:
    folder = new_run(tmp_path / "run", SITES)
    save(folder, 1)
    with pytest.raises(ValueError, match=f"round {number} does not follow round 1"):
        save(folder, number)
    assert_whole(tmp_path / "run", 1)


def test_the_end_is_kept(tmp_path: Path) -> None:
    folder = new_run(tmp_path / "run", SITES)
    save(folder, 1)
    folder.finish("failed")
    assert assert_whole(tmp_path / "run", 1).state.status == "failed"


def test_events_are_lines_in_their_order(tmp_path: Path) -> None:
    folder = new_run(tmp_path / "run", SITES)
    folder.log_event("joined", site="a", clips=3)
    folder.log_event("ended")
    lines = (tmp_path / "run" / "events.jsonl").read_text().splitlines()
    events = [json.loads(line) for line in lines]
    assert [event["event"] for event in events] == ["joined", "ended"]
    assert events[0]["clips"] == 3
    assert events[0]["time"] <= events[1]["time"]


# Pruning ------------------------------------------------------------------------------------------


def kept_rounds(path: Path) -> list[int]:
    return sorted(int(folder.name) for folder in (path / "rounds").iterdir())


def test_pruning_keeps_what_a_silent_sites_contribution_needs(tmp_path: Path) -> None:
    folder = new_run(tmp_path / "run", SITES, rounds={"keep-rounds": 2})
    for number, last_reply_of_c in ((1, 1), (2, 1), (3, 1), (4, 1)):
        save(folder, number, {"a": number, "b": number, "c": last_reply_of_c})
    assert kept_rounds(tmp_path / "run") == [1, 3, 4]
    late = RunFolder.open(tmp_path / "run").contributions()["c"]
    assert value_of(late.model) == 100 * 1 + 2
    save(folder, 5)
    assert kept_rounds(tmp_path / "run") == [4, 5]


def test_zero_keeps_all_rounds(tmp_path: Path) -> None:
    folder = new_run(tmp_path / "run", SITES, rounds={"keep-rounds": 0})
    for number in (1, 2, 3):
        save(folder, number)
    assert kept_rounds(tmp_path / "run") == [1, 2, 3]
    assert value_of(folder.models(1)["b"]) == 11


def test_what_a_killed_server_was_writing_is_cleared_away(tmp_path: Path) -> None:
    folder = new_run(tmp_path / "run", SITES)
    litter = tmp_path / "run" / "rounds" / ".0001.4242.partial"
    litter.mkdir(parents=True)
    (litter / "half").write_bytes(b"x" * 100)
    (tmp_path / "run" / "models" / ".a.safetensors.4242.partial").write_bytes(b"x")
    save(folder, 1)
    assert kept_rounds(tmp_path / "run") == [1]
    assert len(list((tmp_path / "run" / "models").iterdir())) == len(SITES)


# Crashes ------------------------------------------------------------------------------------------


class PowerFailure(BaseException):
    """Caught by nobody on its way up."""


@contextmanager
def crash_at(step: int, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """Let the `step`-th change to the disk and all after it fail; yields the steps taken."""
    taken: list[int] = []

    def guarded(change: Callable[..., Any]) -> Callable[..., Any]:
        def step_of(*arguments: Any, **options: Any) -> Any:
            taken.append(len(taken) + 1)
            if 0 < step <= taken[-1]:  # whoever is dead does nothing more, in `finally` neither
                raise PowerFailure
            return change(*arguments, **options)

        return step_of

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", guarded(Path.replace))
        patch.setattr(Path, "mkdir", guarded(Path.mkdir))
        patch.setattr(Path, "unlink", guarded(Path.unlink))
        patch.setattr(os, "fsync", guarded(lambda _: None))
        patch.setattr(os, "link", guarded(os.link))
        patch.setattr(
            run_folder_module, "write_atomically", guarded(run_folder_module.write_atomically)
        )
        patch.setattr(shutil, "rmtree", guarded(shutil.rmtree))
        yield taken


def steps_of_a_round(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> int:
    folder = new_run(tmp_path / "counted", SITES, rounds={"keep-rounds": 1})
    save(folder, 1)
    with crash_at(0, monkeypatch) as taken:
        save(folder, 2)
    return len(taken)


def test_a_crash_at_any_step_leaves_the_last_whole_round(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = steps_of_a_round(tmp_path, monkeypatch)
    assert steps > 25  # 6 models, the lines, the state: each written, flushed and renamed
    rounds_after_crash = []
    for step in range(1, steps + 1):
        path = tmp_path / f"step{step}"
        folder = new_run(path, SITES, rounds={"keep-rounds": 1})
        save(folder, 1)
        with crash_at(step, monkeypatch), pytest.raises(PowerFailure):
            save(folder, 2)
        reached = RunFolder.open(path).state.round
        rounds_after_crash.append(reached)
        reopened = assert_whole(path, reached)
        save(reopened, reached + 1)
        assert_whole(path, reached + 1)
        shown = {file.stem for file in (path / "models").glob("[!.]*")}
        assert shown == set(SITES)
        shutil.rmtree(path)
    # There is one step at which the new round becomes the last: before it the old, then the new.
    assert rounds_after_crash == sorted(rounds_after_crash)
    assert set(rounds_after_crash) == {1, 2}


def test_models_shown_are_never_older_than_the_last_whole_round(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # After the last round nobody would come to put them right.
    steps = steps_of_a_round(tmp_path, monkeypatch)
    for step in range(1, steps + 1):
        path = tmp_path / f"step{step}"
        folder = new_run(path, SITES, rounds={"keep-rounds": 1})
        save(folder, 1)
        with crash_at(step, monkeypatch), pytest.raises(PowerFailure):
            save(folder, 2)
        if RunFolder.open(path).state.round == 2:
            for site in SITES:
                shown = path / "models" / f"{site}.safetensors"
                assert shown.samefile(path / "rounds" / "0002" / "models" / shown.name)
        shutil.rmtree(path)


def test_a_full_disk_is_told_and_the_last_round_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = new_run(tmp_path / "run", SITES)
    save(folder, 1)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(RunFolderError, match=r"cannot be written: No space left.*intact"):
            save(folder, 2)
    assert_whole(tmp_path / "run", 1)


# Damage -------------------------------------------------------------------------------------------


def damaged(tmp_path: Path, name: str, content: bytes | None) -> Path:
    folder = new_run(tmp_path / "run", SITES)
    save(folder, 1)
    save(folder, 2)
    file = tmp_path / "run" / name
    if content is None:
        file.unlink()
    else:
        file.write_bytes(content)
    return tmp_path / "run"


@pytest.mark.parametrize("path", ["nowhere", "empty"])
def test_what_is_no_run_folder_is_told(tmp_path: Path, path: str) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(RunFolderError, match=r"is not a run folder: there is no config\.json"):
        RunFolder.open(tmp_path / path)


def test_a_file_is_no_run_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(RunFolderError, match="cannot be read"):
        RunFolder.open(tmp_path / "file")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("state.json", b""),
        ("state.json", b'{"status": "running", "rou'),
        ("state.json", b'{"status": "dancing"}'),
        ("state.json", b"\xff\xfe"),
        ("config.json", b"[]"),
        ("config.json", b"{}"),
    ],
)
def test_damaged_json_is_told_with_the_folder(tmp_path: Path, name: str, content: bytes) -> None:
    path = damaged(tmp_path, name, content)
    with pytest.raises(RunFolderError, match="cannot be read") as error:
        RunFolder.open(path)
    assert str(path / name) in str(error.value)


def test_settings_that_this_version_does_not_know_are_told(tmp_path: Path) -> None:
    path = damaged(tmp_path, "events.jsonl", b"")
    config = json.loads((path / "config.json").read_text())
    config["settings"]["strategy"]["name"] = "fedmax"
    (path / "config.json").write_text(json.dumps(config))
    with pytest.raises(RunFolderError, match="cannot be read"):
        RunFolder.open(path)


@pytest.mark.parametrize(
    "content",
    [None, b"", b'{"round": 1}\n', b'{"round": 1}\n{"rou', b'{"round": 1}\n[]\n', b"\xff"],
)
def test_damaged_rounds_are_told(tmp_path: Path, content: bytes | None) -> None:
    folder = RunFolder.open(damaged(tmp_path, "rounds.jsonl", content))
    with pytest.raises(RunFolderError, match=r"rounds\.jsonl"):
        folder.rounds()


@pytest.mark.parametrize("content", [None, b"", b"half a model"])
def test_a_damaged_personal_model_is_told(tmp_path: Path, content: bytes | None) -> None:
    folder = RunFolder.open(damaged(tmp_path, "rounds/0002/models/b.safetensors", content))
    with pytest.raises(RunFolderError, match=r"b\.safetensors cannot be read"):
        folder.models()


@pytest.mark.parametrize("content", [None, b"half a model"])
def test_a_damaged_contribution_is_told(tmp_path: Path, content: bytes | None) -> None:
    folder = RunFolder.open(damaged(tmp_path, "rounds/0002/replies/b.safetensors", content))
    with pytest.raises(RunFolderError, match=r"b\.safetensors cannot be read"):
        folder.contributions()


# Locks --------------------------------------------------------------------------------------------


def test_a_folder_is_locked_for_others_of_the_same_role_only(tmp_path: Path) -> None:
    folder = new_run(tmp_path / "run", SITES)
    with folder.locked("rounds", 0):
        assert RunFolder.is_locked(folder.path, "rounds")
        assert not RunFolder.is_locked(folder.path, "server")
        with (
            folder.locked("server", 0),
            pytest.raises(RunFolderInUseError, match="Another fedpsyau-server works in"),
            RunFolder.open(folder.path).locked("rounds", 0.2),
        ):
            pass
    assert not RunFolder.is_locked(folder.path, "rounds")
    with folder.locked("rounds", 0):
        pass


def test_a_lock_goes_with_its_process_however_it_ends(tmp_path: Path) -> None:
    folder = new_run(tmp_path / "run", SITES)
    holder = subprocess.Popen(
        [
            *(sys.executable, "-c"),
            "import fcntl, sys, time; lock = open(sys.argv[1], 'a'); "
            "fcntl.flock(lock, fcntl.LOCK_EX); print('held', flush=True); time.sleep(60)",
            str(folder.path / ".rounds.lock"),
        ],
        stdout=subprocess.PIPE,
    )
    assert holder.stdout is not None
    holder.stdout.readline()
    assert RunFolder.is_locked(folder.path, "rounds")
    holder.kill()
    with folder.locked("rounds", 5):
        pass
    holder.wait()
    holder.stdout.close()


def test_a_folder_that_is_gone_is_not_locked(tmp_path: Path) -> None:
    assert not RunFolder.is_locked(tmp_path / "none", "rounds")


# Events -------------------------------------------------------------------------------------------


def test_a_torn_line_spoils_no_other(tmp_path: Path) -> None:
    folder = new_run(tmp_path / "run", SITES)
    folder.log_event("first")
    with (folder.path / "events.jsonl").open("a") as stream:
        stream.write('{"time": 3, "eve')
    folder.log_event("second")
    folder.log_event("third")
    told = EventTail(folder.path / "events.jsonl", past=True).new()
    assert [event["event"] for event in told] == ["first", "second", "third"]


# Space --------------------------------------------------------------------------------------------


def test_a_disk_without_room_for_a_round_is_told_before_anything_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = new_run(tmp_path / "run", SITES)
    folder.require_space()
    round_size = (folder.path / "initial.safetensors").stat().st_size * 2 * len(SITES)
    usage = shutil.disk_usage(tmp_path)
    for free, enough in ((round_size, True), (round_size - 1, False)):
        monkeypatch.setattr(shutil, "disk_usage", lambda _, free=free: usage._replace(free=free))
        if enough:
            folder.require_space()
        else:
            with pytest.raises(RunFolderError, match=r"has 0\.0 MB left.*--resume"):
                folder.require_space()
    assert not list(folder.path.glob(".probe*"))


def test_what_a_killed_server_left_counts_as_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = new_run(tmp_path / "run", SITES)
    litter = folder.path / "rounds" / ".0001.4242.partial" / "replies"
    litter.mkdir(parents=True)
    round_size = (folder.path / "initial.safetensors").stat().st_size * 2 * len(SITES)
    (litter / "a.safetensors").write_bytes(bytes(100))
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=round_size - 100))
    folder.require_space()
    (litter / "a.safetensors").write_bytes(bytes(99))
    with pytest.raises(RunFolderError, match="has 0"):
        folder.require_space()


@pytest.mark.parametrize(
    ("number", "cure"),
    [
        (errno.ENOSPC, "free some space"),
        (errno.EROFS, "mounted read-only"),
        (errno.EACCES, "the right to write"),
        (errno.EIO, "Check the disk"),
    ],
)
@pytest.mark.parametrize(
    "write",
    [
        lambda folder: folder.log_event("x"),
        lambda folder: folder.finish("failed"),
        lambda folder: folder.change_settings(FederationSettings()),
        lambda folder: folder.require_space(),
        lambda folder: save(folder, 1),
    ],
)
def test_whatever_cannot_be_written_is_told_with_its_cure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, cure: str, write: Any
) -> None:
    folder = new_run(tmp_path / "run", SITES)

    def failing(*_: Any, **__: Any) -> Any:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(Path, "open", failing)
    with pytest.raises(RunFolderError, match=cure) as error:
        write(folder)
    assert f"--resume {folder.path}" in str(error.value)
    assert "last whole round is intact" in str(error.value)


def test_changed_settings_are_kept_and_nothing_else_changes(tmp_path: Path) -> None:
    folder = new_run(tmp_path / "run", SITES)
    settings = folder.config.federation_settings()
    rounds = settings.rounds.model_copy(update={"min_sites": 1})
    folder.change_settings(settings.model_copy(update={"rounds": rounds}))
    opened = RunFolder.open(folder.path)
    assert opened.config == folder.config
    assert opened.config.federation_settings().rounds.min_sites == 1
    assert opened.config.run_id == "0123456789abcdef0123456789abcdef"
