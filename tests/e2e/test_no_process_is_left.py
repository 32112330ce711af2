"""However a command ends, nothing that it started stays behind."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from processes import SCRIPTS, Federation, clean_environment, command_of, wait_until

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


@pytest.mark.parametrize(
    "stop",
    [pytest.param(signal.SIGINT, marks=pytest.mark.slow), signal.SIGTERM, signal.SIGKILL],
)
def test_server_and_sites(running: Federation, stop: signal.Signals) -> None:
    started = {name: descendants(process.pid) for name, process in running.processes.items()}
    assert all(started.values())
    for name, process in running.processes.items():
        process.send_signal(stop)
        code = running.wait(name, 40)
        assert code == (-stop if stop == signal.SIGKILL else 130), running.log(name)
        assert "Traceback" not in running.log(name)
    everything = set().union(*started.values())
    try:
        wait_until(lambda: not alive(everything), 30, "the end of what was started")
    except AssertionError:
        pytest.fail(f"still there: {[command_of(pid) for pid in alive(everything)]}")
    if stop != signal.SIGKILL:
        assert "--resume" in running.log("server")


@pytest.mark.slow
def test_a_killed_site_whose_server_does_not_answer(running: Federation) -> None:
    """The SuperNode says goodbye to a SuperLink that hears it and says nothing."""
    offspring = descendants(running.processes["server"].pid)
    silent = next(pid for pid in offspring if "guarded_superlink" in command_of(pid))
    site = running.processes["dfme_c1"]
    supernodes = descendants(site.pid)
    os.kill(silent, signal.SIGSTOP)
    try:
        site.kill()
        site.wait(10)
        assert alive(supernodes), "it is the goodbye that is tested"
        wait_until(lambda: not alive(supernodes), 30, "the end of the SuperNode")
    finally:
        os.kill(silent, signal.SIGCONT)


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
