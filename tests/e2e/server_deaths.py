"""Killing a server at a chosen moment of a round, and finding out which moment it was."""

from __future__ import annotations

import json
import os
import re
import signal
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from processes import Federation, wait_until

from fedpsyau_model.process_tree import descendants
from fedpsyau_server.event_tail import EventTail

#: Moments of a round, in their order, and the event that each begins with. A round is being written
#: once a fused model is there, in the folder under a temporary name or in the whole one that no
#: state names yet; the replies before it are there as they come.
MOMENTS = {"gather": "", "push": "round-started", "wait": "sent", "fuse": "collected", "write": ""}

#: Whom a kill hits: everything at the server's side at once, or one of its processes.
WHOLE, LAUNCHER, SUPERLINK, ROUNDS = "whole", "launcher", "superlink", "rounds"
_SCRIPTS = {SUPERLINK: r"(flower-|guarded_)superlink", ROUNDS: "flwr-serverapp"}


@dataclass(frozen=True)
class Death:
    """A kill that is planned: whom, and `delay` seconds after which moment of which round."""

    round: int
    moment: str
    delay: float
    victims: str = WHOLE


def kill(federation: Federation, death: Death) -> str:
    """Wait for the moment, kill -9, and return the moment that it really was."""
    stale = _round_folders(federation.run_folder)
    life = EventTail(federation.run_folder / "events.jsonl", past=False)
    _wait_for(federation, death, stale)
    server = federation.processes["server"]
    if script := _SCRIPTS.get(death.victims):
        victims = wait_until(lambda: _running(script, server.pid), 300, f"a process {script}")
    else:
        victims = {server.pid} | (descendants(server.pid) if death.victims == WHOLE else set())
    for pid in sorted(victims, key=lambda pid: pid != server.pid):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    moment = _moment(federation.run_folder, stale, life)
    if server.pid in victims:
        server.wait(30)
    return moment


def _wait_for(federation: Federation, death: Death, stale: set[str]) -> None:
    """Wait for the moment, or for the end of its round if it was too short to be seen."""
    events = EventTail(federation.run_folder / "events.jsonl", past=False)
    names = ("round-done", MOMENTS[death.moment])
    deadline = time.monotonic() + 600
    begun = death.moment == "gather"
    current = 0
    while not begun:
        for event in events.new():
            current = max(current, event.get("round", 0))
            begun |= event["event"] in names and current >= death.round
        if death.moment == "write" and current >= death.round:
            begun |= bool(_round_folders(federation.run_folder) - stale)
        assert federation.processes["server"].poll() is None, federation.log("server")
        assert time.monotonic() < deadline, federation.log("server")
        time.sleep(0.001)
    time.sleep(death.delay)


def _round_folders(run_folder: Path) -> set[str]:
    """Folders of rounds with fused models, whole ones and those under a temporary name."""
    found = (run_folder / "rounds").glob("*/models/*.safetensors")
    return {path.parent.parent.name for path in found}


def _running(script: str, pid: int) -> set[int]:
    """Processes of a script among the offspring of a process."""
    return {each for each in descendants(pid) if re.search(script, _command(each))}


def _command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ")
    except OSError:
        return ""


def _moment(run_folder: Path, stale: set[str], life: EventTail) -> str:
    """Which moment a dead server was at, from what it has left on disk.

    stale: folders of rounds that earlier deaths have left. life: what it has told since the last.
    """
    number = f"{json.loads((run_folder / 'state.json').read_text())['round'] + 1:04d}"
    if any(number in name for name in _round_folders(run_folder) - stale):
        return "write"
    last = "gather"
    for event in life.new():
        last = _MOMENT_AFTER.get(event["event"], last)
    return last


#: What a server does after an event.
_MOMENT_AFTER = {event: moment for moment, event in MOMENTS.items() if event} | {
    "started": "gather",
    "round-done": "between",
}
