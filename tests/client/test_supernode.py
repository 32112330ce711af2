"""The connection process, a real one that finds no server, and what it is started anew for."""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from fedpsyau_client.connection import supernode as module
from fedpsyau_client.connection.supernode import LEASE_SECONDS, SuperNode
from fedpsyau_model.child_process import free_port


@pytest.fixture
def supernode(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SuperNode]:
    monkeypatch.setattr(module, "BACK_OFF", (0.0,))
    with SuperNode("a", f"127.0.0.1:{free_port()}", tmp_path / "client.log") as running:
        yield running


def tells(tmp_path: Path, words: str) -> None:
    with (tmp_path / "client.log").open("a") as log:
        log.write(words)


def kill(supernode: SuperNode) -> None:
    os.kill(supernode._process.pid, signal.SIGKILL)
    supernode._process.wait(10)


def test_it_is_started_anew_when_it_ends_or_loses_a_message_and_else_left_alone(
    supernode: SuperNode, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    pid = supernode._process.pid
    assert not supernode.keep_alive()
    tells(tmp_path, "ERROR: Failed to se")
    assert not supernode.keep_alive()
    assert supernode._process.pid == pid
    tells(tmp_path, "nd message 1234: the session expired\n")
    assert supernode.keep_alive()
    assert supernode._process.pid != pid
    assert not supernode.keep_alive()
    supernode.tasks.lost_one = True
    assert supernode.keep_alive()
    kill(supernode)
    assert supernode.keep_alive()
    assert [record.message.partition(";")[0] for record in caplog.records] == [
        "the connection process lost a message",
        "the connection process lost a message",
        "the connection process ended (code -9)",
    ]


def test_it_says_once_that_it_waits_for_its_place(
    supernode: SuperNode, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    for _ in range(2):
        tells(tmp_path, "SuperNode could not be activated [code: 2004]\n")
        assert not supernode.keep_alive()  # read while it still ran, and remembered
        kill(supernode)
        assert supernode.keep_alive()
    assert supernode.refused_seconds > 0
    [record] = caplog.records
    assert "keeps the place of this site's last connection" in record.message
    assert f"within {LEASE_SECONDS:.0f} s" in record.message
    kill(supernode)
    assert supernode.keep_alive()
    assert supernode.refused_seconds == 0


def test_a_long_log_is_put_aside(
    supernode: SuperNode, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_LONG_LOG", 1000)
    tells(tmp_path, "x" * 2000)
    kill(supernode)
    assert supernode.keep_alive()
    assert (tmp_path / "client.log").stat().st_size < 2000
    assert (tmp_path / "client.log.1").stat().st_size >= 2000
