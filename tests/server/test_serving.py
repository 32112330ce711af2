"""Following a run to its end."""

from __future__ import annotations

from pathlib import Path

import pytest

from fedpsyau_model.errors import FlowerRuntimeError
from fedpsyau_server import serving
from fedpsyau_server.event_tail import EventTail
from fedpsyau_server.serving import RunFailedError, _follow


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
