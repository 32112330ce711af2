"""Supervising the connection process, with real processes in its place."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from fedpsyau_client.connection import supernode
from fedpsyau_client.connection.supernode import SuperNode


@pytest.fixture
def supernode_that(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], SuperNode]:
    """A SuperNode whose process is a line of shell."""
    monkeypatch.setattr(supernode, "BACK_OFF", (0.0, 0.1))

    def make(does: str) -> SuperNode:
        stand_in = tmp_path / "stand-in"
        stand_in.write_text(f"#!/bin/sh\n{does}\n")
        stand_in.chmod(0o755)
        monkeypatch.setattr(supernode, "COMMAND", (str(stand_in),))
        return SuperNode("a", "127.0.0.1:1", tmp_path / "log")

    return make


def test_a_process_that_lives_and_answers_nothing_is_replaced(
    supernode_that: Callable[[str], SuperNode], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supernode, "HANG_SECONDS", 0.3)
    with supernode_that("sleep 60") as node:
        before = node._process.pid
        assert not node.keep_alive()
        assert not node.tasks.answer_next(lambda message, _bundle: message)
        assert not node.keep_alive()
        time.sleep(0.4)
        assert not node.tasks.answer_next(lambda message, _bundle: message)
        assert node.keep_alive()
        assert node._process.pid != before
        assert node.tasks.silent_for() == 0
        assert not node.keep_alive()


def test_a_process_that_ends_is_replaced_after_ever_longer_pauses_until_it_has_worked(
    supernode_that: Callable[[str], SuperNode], monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses: list[float] = []
    with supernode_that("exit 3") as node:
        clock = SimpleNamespace(sleep=pauses.append, monotonic=time.monotonic)
        monkeypatch.setattr(supernode, "time", clock)
        for worked in (False, False, False, True):
            if worked:
                node.has_worked()
            node._process.wait(5)
            assert node.keep_alive()
    # Each is shortened by chance, to half of it at most.
    for pause, longest in zip(pauses, (0.0, 0.1, 0.1, 0.0), strict=True):
        assert longest / 2 <= pause <= longest
