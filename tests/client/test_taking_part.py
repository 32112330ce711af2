"""Waiting for a server that is not there yet, or not any more."""

from __future__ import annotations

import logging
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from fedpsyau_client.connection import taking_part
from fedpsyau_client.connection.taking_part import _ServerWatch, _wait_for_server
from fedpsyau_client.settings import ClientSettings
from fedpsyau_model.child_process import free_port
from fedpsyau_model.errors import ServerUnreachableError


@contextmanager
def listening(port: int) -> Iterator[None]:
    """Somebody who accepts connections, says nothing and hangs up."""
    with socket.create_server(("127.0.0.1", port)) as listener:

        def accept() -> None:
            while True:
                try:
                    listener.accept()[0].close()
                except OSError:
                    return

        threading.Thread(target=accept, daemon=True).start()
        yield
        listener.shutdown(socket.SHUT_RDWR)


def settings(port: int, seconds: float) -> ClientSettings:
    return ClientSettings.model_validate(
        {"partition": "a", "superlink": f"127.0.0.1:{port}", "connect-seconds": seconds}
    )


@pytest.fixture(autouse=True)
def quickly(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(taking_part, "CONNECT_POLL", 0.05)


def test_a_server_that_never_was_there_is_given_up(caplog: pytest.LogCaptureFixture) -> None:
    started = time.monotonic()
    with pytest.raises(ServerUnreachableError, match="tried for 1 s"):
        _wait_for_server(settings(free_port(), 0.6), None, known=False)
    assert 0.6 <= time.monotonic() - started < 10
    assert [record.message.partition(" yet")[1] for record in caplog.records] == [" yet"]


def test_a_server_that_was_there_is_waited_for_longer_than_that_in_few_words(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(taking_part, "REMINDER_SECONDS", 0.8)
    port = free_port()
    waiting = threading.Thread(
        target=_wait_for_server, args=(settings(port, 0.1), None, True), daemon=True
    )
    waiting.start()
    waiting.join(2.0)
    assert waiting.is_alive()
    with listening(port):
        waiting.join(30)
        assert not waiting.is_alive()
    said = [record.message for record in caplog.records]
    assert "until it is back" in said[0]
    assert all("still no server" in each for each in said[1:])
    assert len(said) >= 2


def test_the_log_says_when_a_server_goes_and_when_it_is_back(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(taking_part, "WATCH_SECONDS", 0.0)
    port = free_port()
    watch = _ServerWatch(f"127.0.0.1:{port}")
    for there in (True, False, False, True):
        if there:
            with listening(port):
                watch.look()
                watch.look()
        else:
            watch.look()
    assert [record.message for record in caplog.records] == [
        f"the server at 127.0.0.1:{port} does not answer; waiting until it is back",
        f"the server at 127.0.0.1:{port} answers again",
    ]
