"""The page itself, over real sockets, of a run that the real round loop has made."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from in_process_sites import InProcessSites, PlainSite, new_run

from fedpsyau_model.child_process import free_port
from fedpsyau_model.errors import MetricsAddressError
from fedpsyau_server.rounds import RoundLoop
from fedpsyau_server.run_folder import RunFolder
from fedpsyau_server.watching.endpoint import READERS, require_address, watched
from fedpsyau_server.watching.run_watch import RunWatch


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    return new_run(tmp_path / "run", ("a", "b"), rounds={"rounds": 2})


@pytest.fixture
def page(folder: RunFolder) -> Iterator[httpx.Client]:
    address = f"127.0.0.1:{free_port()}"
    with (
        watched(address, RunWatch(folder)),
        httpx.Client(base_url=f"http://{address}", trust_env=False) as client,
    ):
        yield client


def test_a_run_is_well_while_its_process_lives(folder: RunFolder, page: httpx.Client) -> None:
    assert page.get("/healthz").status_code == 503
    with folder.locked("rounds", 0):
        folder.log_event("started", whole_rounds=0)
        RoundLoop(folder, InProcessSites({"a": PlainSite(10, 1.0), "b": PlainSite(30, 5.0)})).run()
        answer = page.get("/healthz")
        assert answer.status_code == 200
        assert answer.headers["content-type"] == "application/json"
        assert (answer.json()["status"], answer.json()["whole_rounds"]) == ("gathering", 2)
    answer = page.get("/healthz")
    assert (answer.status_code, answer.json()["status"]) == (503, "lost")
    folder.log_event("ended")
    assert page.get("/healthz").json()["status"] == "ended"
    metrics = page.get("/metrics").text
    # Of the three held-out clips the one of the third class is not recognised: (2/3 + 1 + 0) / 3.
    assert 'fedpsyau_uf1{model="trained",site="a"} 0.5555' in metrics
    assert "fedpsyau_round 2.0" in metrics


def test_other_paths_and_methods_are_refused(page: httpx.Client) -> None:
    for path in ("/", "/metrics/", "/healthz?x", "/../etc/passwd"):
        assert page.get(path).status_code == 404
    for method in ("POST", "PUT", "DELETE", "HEAD", "OPTIONS"):
        assert page.request(method, "/metrics").status_code == 501


def test_a_folder_that_is_gone_is_told_and_ends_nothing(
    folder: RunFolder, page: httpx.Client, tmp_path: Path
) -> None:
    folder.log_event("round-done", round=1, seconds=1.0)
    folder.path.rename(tmp_path / "elsewhere")
    (tmp_path / "run").mkdir()
    (tmp_path / "elsewhere" / "events.jsonl").rename(tmp_path / "run" / "events.jsonl")
    assert page.get("/metrics").status_code == 503
    assert page.get("/metrics").json() == {"status": "unreadable", "well": False}


def test_too_many_readers_are_turned_away_and_harm_nobody(page: httpx.Client) -> None:
    address = (page.base_url.host, page.base_url.port or 0)
    idle = [socket.create_connection(address) for _ in range(READERS + 2)]
    try:
        # The last ones find no place, and are turned away without an answer.
        idle[-1].settimeout(5)
        assert idle[-1].recv(1) == b""
        for each in idle:
            each.close()
        assert _answer_before_long(page).status_code == 200
    finally:
        for each in idle:
            each.close()


def _answer_before_long(page: httpx.Client) -> httpx.Response:
    """The page's answer, as soon as it has noticed that others have gone."""
    for _ in range(50):
        try:
            return page.get("/metrics", timeout=10)
        except httpx.RemoteProtocolError:
            time.sleep(0.1)
    return page.get("/metrics", timeout=10)


def test_a_taken_port_is_an_error_that_names_the_cure(folder: RunFolder) -> None:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        address = f"127.0.0.1:{holder.getsockname()[1]}"
        with (
            pytest.raises(MetricsAddressError, match=f"{address}.*--metrics-address"),
            watched(address, RunWatch(folder)),
        ):
            pass
        with pytest.raises(MetricsAddressError):
            require_address(address)
    require_address(address)
    require_address("")


def test_an_empty_address_serves_nothing(folder: RunFolder) -> None:
    before = threading.active_count()
    with watched("", RunWatch(folder)):
        assert threading.active_count() == before
