"""Following a run to its end."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from in_process_sites import new_run

from fedpsyau_model.errors import (
    FlowerRuntimeError,
    InsecureTransportError,
    KitError,
    RunFolderError,
    RunFolderInUseError,
    SettingsError,
)
from fedpsyau_server import serving
from fedpsyau_server.event_tail import EventTail
from fedpsyau_server.run_folder import RunFolder
from fedpsyau_server.serving import RunFailedError, _follow, resumed_run, serve_run


@pytest.fixture
def events(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty events.jsonl; Flower is asked for its status at once."""
    monkeypatch.setattr(serving, "STATUS_POLL", 0.0)
    path = tmp_path / "events.jsonl"
    path.touch()
    return path


def follow(path: Path, written_meanwhile: str) -> None:
    def status(_run: int) -> str:
        with path.open("a") as stream:
            stream.write(written_meanwhile)
        return "finished:completed"

    _follow(status, 1, EventTail(path, past=False), lambda: "last words")


def test_a_run_that_ends_while_flower_is_asked_has_ended_well(events: Path) -> None:
    follow(events, '{"event": "ended"}\n')


def test_a_run_that_fails_while_flower_is_asked_has_failed(events: Path) -> None:
    with pytest.raises(RunFailedError, match="no sites") as failure:
        follow(events, '{"event": "failed", "message": "no sites", "exit_code": 40}\n')
    assert failure.value.exit_code == 40


def test_a_run_that_ends_without_a_word_is_an_error(events: Path) -> None:
    with pytest.raises(FlowerRuntimeError, match="last words"):
        follow(events, "")


def test_the_last_word_counts_though_its_process_has_died(events: Path) -> None:
    def death() -> str:
        with events.open("a") as stream:
            stream.write('{"event": "ended"}\n')
        return "dead"

    tail = EventTail(events, past=False)
    _follow(lambda _: "running", 1, tail, lambda: "last words", death=death)


def test_a_failure_of_flower_in_the_rounds_is_one_to_start_again_from(events: Path) -> None:
    with pytest.raises(FlowerRuntimeError, match="the grid is gone"):
        follow(events, '{"event": "failed", "message": "the grid is gone", "exit_code": 42}\n')


def test_a_process_that_does_not_start_passes_for_dead(
    folder: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    link = SimpleNamespace(process=SimpleNamespace(return_code=None))
    death = serving._Deaths(link, folder.path)  # type: ignore[arg-type]
    assert death() is None
    monkeypatch.setattr(serving, "START_SECONDS", -1.0)
    assert "did not start" in str(serving._Deaths(link, folder.path)())  # type: ignore[arg-type]


def test_a_process_that_has_let_go_of_its_folder_is_dead(folder: RunFolder) -> None:
    link = SimpleNamespace(process=SimpleNamespace(return_code=None))
    death = serving._Deaths(link, folder.path)  # type: ignore[arg-type]
    with folder.locked("rounds", 0):
        folder.log_event("started", whole_rounds=0)
        assert death() is None
    assert "ended without a word" in str(death())
    link.process.return_code = -9
    assert "SuperLink ended (code -9)" in str(death())


# Starting again -----------------------------------------------------------------------------------


class Deaths:
    """Stands in for one start of Flower: in which of them a round is finished, and how they end."""

    def __init__(self, rounds: list[int], endings: int) -> None:
        self.rounds = rounds
        self.left = endings

    def __call__(self, folder: RunFolder, *_: Any) -> FlowerRuntimeError | None:
        if self.left == 0:
            return None
        self.left -= 1
        if len(self.rounds) > self.left and self.rounds[self.left]:
            other = RunFolder.open(folder.path)
            number = other.state.round + 1
            with other.new_round(number):
                pass
            other.finish_round({"round": number}, (), {})
        return FlowerRuntimeError(f"death\n{self.left} more")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunFolder:
    monkeypatch.setattr(serving, "RESTART_PAUSES", (0.0,))
    server = {"metrics-address": "", "restarts": 2, "sites": ["a", "b"]}
    made = new_run(tmp_path / "run", ("a", "b"))
    settings = made.config.federation_settings()
    changed = settings.server.model_validate(settings.server.as_dict() | server)
    made.change_settings(settings.model_copy(update={"server": changed}))
    return made


@pytest.mark.parametrize("endings", [0, 1, 2])
def test_what_dies_is_started_again_as_often_as_is_set(
    folder: RunFolder, monkeypatch: pytest.MonkeyPatch, endings: int
) -> None:
    deaths = Deaths([], endings)
    monkeypatch.setattr(serving, "_serve_once", deaths)
    serve_run(folder)
    assert deaths.left == 0


def test_after_too_many_deaths_in_a_row_the_last_is_the_error(
    folder: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serving, "_serve_once", Deaths([], 9))
    with pytest.raises(FlowerRuntimeError, match="6 more"):
        serve_run(folder)


def test_a_whole_round_in_between_breaks_the_row(
    folder: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    deaths = Deaths([0, 1, 0, 1, 0], 5)
    monkeypatch.setattr(serving, "_serve_once", deaths)
    serve_run(folder)
    assert RunFolder.open(folder.path).state.round == 2


def test_what_could_not_even_say_why_it_died_is_explained_by_the_folder(
    folder: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    def dies(died: RunFolder, *_: Any) -> FlowerRuntimeError:
        monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=0))
        return FlowerRuntimeError("no word")

    monkeypatch.setattr(serving, "_serve_once", dies)
    with pytest.raises(RunFolderError, match=r"has 0\.0 MB left"):
        serve_run(folder)


def test_two_servers_in_one_folder_are_one_too_many(
    folder: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serving, "PREDECESSOR_SECONDS", 0.2)
    with folder.locked("server", 0), pytest.raises(RunFolderInUseError):
        serve_run(folder)


# Going on elsewhere -------------------------------------------------------------------------------


def test_a_resumed_run_takes_what_may_be_changed(folder: RunFolder) -> None:
    flags = {"server.listen": "127.0.0.1:1", "server.metrics-address": "127.0.0.1:2"}
    resumed = resumed_run(folder.path, flags | {"rounds.rounds": None})
    again = RunFolder.open(folder.path).config.federation_settings().server
    assert resumed.config.federation_settings().server == again
    assert (again.listen, again.metrics_address) == ("127.0.0.1:1", "127.0.0.1:2")


def test_a_resumed_run_refuses_what_would_make_it_another(folder: RunFolder) -> None:
    before = (folder.path / "config.json").read_bytes()
    with pytest.raises(SettingsError, match="cannot be given here"):
        resumed_run(folder.path, {"rounds.rounds": 7})
    with pytest.raises(InsecureTransportError):
        resumed_run(folder.path, {"server.listen": "0.0.0.0:9092"})
    with pytest.raises(KitError, match="no folder"):
        resumed_run(folder.path, {"server.kit": folder.path / "none"})
    assert (folder.path / "config.json").read_bytes() == before
