"""Asking a server for its health, as a person does and as a container does."""

from __future__ import annotations

import runpy
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from in_process_sites import new_run
from typer.testing import CliRunner

from fedpsyau_model.child_process import free_port
from fedpsyau_server.command import app
from fedpsyau_server.run_folder import RunFolder
from fedpsyau_server.watching.endpoint import watched
from fedpsyau_server.watching.run_watch import RunWatch

CONTAINER = Path(__file__).parents[3] / "deploy" / "container" / "health.py"


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    return new_run(tmp_path / "run", ("a", "b"), rounds={"rounds": 2})


@pytest.fixture
def address(folder: RunFolder) -> Iterator[str]:
    """Where a server tells how the run in `folder` is."""
    found = f"127.0.0.1:{free_port()}"
    with watched(found, RunWatch(folder)):
        yield found


@pytest.fixture
def container_fault(monkeypatch: pytest.MonkeyPatch) -> Callable[[str, int], str]:
    """What the container's check finds wrong, by the address of health and the sites' port."""
    check = runpy.run_path(str(CONTAINER))["server_fault"]

    def fault(address: str, port: int) -> str:
        monkeypatch.setenv("FEDPSYAU_SERVER__METRICS_ADDRESS", address)
        monkeypatch.setenv("FEDPSYAU_SERVER__LISTEN", f"0.0.0.0:{port}")
        return str(check())

    return fault


def test_both_say_what_the_server_says(
    folder: RunFolder, address: str, container_fault: Callable[[str, int], str]
) -> None:
    asked = CliRunner().invoke(app, ["health", "--address", address])
    assert (asked.exit_code, '"status": "starting"' in asked.output) == (1, True)
    assert container_fault(address, 1) == asked.output.strip()
    folder.log_event("ended")
    asked = CliRunner().invoke(app, ["health", "--address", address])
    assert (asked.exit_code, '"status": "ended"' in asked.output) == (0, True)
    assert container_fault(address, 1) == ""


def test_where_nobody_tells_health_a_container_is_well_if_sites_may_come(
    container_fault: Callable[[str, int], str],
) -> None:
    nobody = f"127.0.0.1:{free_port()}"
    asked = CliRunner().invoke(app, ["health", "--address", nobody])
    assert asked.exit_code == 1
    assert f"no server answers at {nobody}" in asked.output
    with socket.create_server(("127.0.0.1", 0)) as sites:
        port = sites.getsockname()[1]
        assert container_fault(nobody, port) == container_fault("", port) == ""
    assert f"no connections on port {port}" in container_fault(nobody, port)


@pytest.mark.parametrize("answer", [b"SSH-2.0-OpenSSH_9.6\r\n", b""])
def test_what_is_no_server_of_ours(
    answer: bytes, container_fault: Callable[[str, int], str]
) -> None:
    with ExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))

        def serve() -> None:
            for _ in range(2):
                connection, _ = listener.accept()
                with connection:
                    connection.recv(1 << 12)
                    connection.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        stack.callback(thread.join)
        address = f"127.0.0.1:{listener.getsockname()[1]}"
        asked = CliRunner().invoke(app, ["health", "--address", address])
        assert (asked.exit_code, "unwell: no server answers" in asked.output) == (1, True)
        assert "does not answer" in container_fault(address, 1)


def test_the_container_loads_nothing_heavy() -> None:
    """It is started every 15 seconds, and has 10 of them on whatever machine."""
    script = (
        "import runpy, sys; runpy.run_path(sys.argv[1]); "
        "print(*{name.partition('.')[0] for name in sys.modules})"
    )
    finished = subprocess.run(
        [sys.executable, "-c", script, CONTAINER], capture_output=True, text=True, check=True
    )
    loaded = set(finished.stdout.split())
    assert "fedpsyau_server" in loaded
    assert not loaded & {
        "typer",
        "pydantic",
        "httpx",
        "numpy",
        "torch",
        "flwr",
        "prometheus_client",
    }
