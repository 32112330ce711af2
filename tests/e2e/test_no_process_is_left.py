"""However a command ends, nothing that it started stays behind."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from processes import SCRIPTS, Federation, clean_environment, wait_until

from fedpsyau_model.process_tree import alive, descendants

pytestmark = pytest.mark.e2e

CONFIG = "[training]\nepochs = 1\n[rounds]\nrounds = 50\n"


@pytest.fixture
def running(new_federation: Callable[..., Federation]) -> Federation:
    """A federation of two sites in the middle of a long run."""
    federation = new_federation()
    federation.start_server(CONFIG, "--sites", "dfme_c1,dfme_c2")
    federation.start_sites(("dfme_c1", "dfme_c2"))
    federation.wait_for_event("round-done", round=1)
    return federation


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_server_and_sites(running: Federation, stop: signal.Signals) -> None:
    started = {name: descendants(process.pid) for name, process in running.processes.items()}
    assert all(started.values())
    for name, process in running.processes.items():
        process.send_signal(stop)
        code = running.wait(name, 40)
        assert code == (-stop if stop == signal.SIGKILL else 130), running.log(name)
        assert "Traceback" not in running.log(name)
    everything = set().union(*started.values())
    wait_until(lambda: not alive(everything), 30, f"the end of {everything}")
    if stop != signal.SIGKILL:
        assert "--resume" in running.log("server")


@pytest.mark.slow
def test_demo_that_is_interrupted(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [str(SCRIPTS / "fedpsyau"), "demo", "--out", str(tmp_path / "demo"), "--scale", "0.02"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=clean_environment(),
        cwd=tmp_path,
    )
    try:
        events = tmp_path / "demo" / "runs" / "demo" / "events.jsonl"
        wait_until(lambda: events.exists() and "round-started" in events.read_text(), 120, "round")
        started = descendants(process.pid)
        assert len(started) > 10
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 130
        wait_until(lambda: not alive(started), 30, f"the end of {alive(started)}")
    finally:
        process.kill()
