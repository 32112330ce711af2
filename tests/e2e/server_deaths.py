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

from processes import Federation, command_of, wait_until

from fedpsyau_model.process_tree import descendants
from fedpsyau_server.event_tail import EventTail

#: Moments of a round, in their order, and the event that each begins with. A round is being written
#: once a fused model is there, in the folder under a temporary name or in the whole one that no
#: state names yet; the replies before it are there as they come.
MOMENTS = {"gather": "", "push": "round-started", "wait": "sent", "fuse": "collected", "write": ""}

#: Whom a kill hits: everything at the server's side at once, or one of its processes.
WHOLE, LAUNCHER, SUPERLINK, ROUNDS = "whole", "launcher", "superlink", "rounds"
_SCRIPTS = {SUPERLINK: r"(flower-|guarded_)superlink", ROUNDS: "flwr-serverapp"}

#: Seconds between two looks at a server: fusing and writing take some milliseconds.
_POLL = 0.0003


@dataclass(frozen=True)
class Death:
    """A kill that is planned: whom, and at which moment of which round.

    part: how much of the moment is to pass, as a share of the time that it took last.
    """

    round: int
    moment: str
    part: float
    victims: str = WHOLE


class Life:
    """What a server tells from now on, one death to the next."""

    def __init__(self, federation: Federation) -> None:
        self._events = EventTail(federation.run_folder / "events.jsonl", past=False)
        self._rounds: dict[str, int] = {}
        self.moment = "gather"

    def look(self) -> None:
        """Take in what is new."""
        for event in self._events.new():
            self.moment = _MOMENT_AFTER.get(event["event"], self.moment)
            self._rounds[event["event"]] = event.get("round", 0)

    def reached(self, event: str) -> int:
        """The last round that has come to an event in this life; 0 if none has."""
        return self._rounds.get(event, 0)

    def wait_for_successor(self) -> None:
        """Wait for the process of the rounds that follows one that outlived the kill, or did not.

        What the old one still told is forgotten.
        """
        wait_until(
            lambda: any(event["event"] == "started" for event in self._events.new()),
            600,
            "the rounds to go on",
        )


def kill(federation: Federation, death: Death, life: Life) -> str:
    """Wait for the moment, kill -9, and return the moment that it really was.

    life: what the server has told since the last death. However short the rounds are, the kill
    comes no later than with the end of its round, or of the first one in this life if that is
    past: a death costs a run one whole round at most.
    """
    stale = _fused_rounds(federation.run_folder)
    victims = _wait_for(federation, death, life, stale) or wait_until(
        lambda: _victims(federation, death), 300, f"a process of the {death.victims}"
    )
    server = federation.processes["server"]
    for pid in sorted(victims, key=lambda pid: pid != server.pid):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    life.look()
    moment = _moment(federation.run_folder, stale, life)
    if server.pid in victims:
        server.wait(30)
    return moment


def _wait_for(federation: Federation, death: Death, life: Life, stale: set[str]) -> set[int]:
    """Wait until the kill is due, and return whom it is to hit.

    That is looked up before the moment comes, as it takes as long as writing does. Nobody if there
    was no time for it.
    """
    server = federation.processes["server"]
    pause = death.part * _last_lengths(federation.run_folder)[death.moment]
    due = 1 if death.moment == "gather" else death.round
    deadline = time.monotonic() + 600
    end: float | None = None
    victims: set[int] = set()
    while life.reached("round-done") < due:
        life.look()
        if end is None and _has_begun(federation.run_folder, death, life, stale):
            end = time.monotonic() + pause
        if end is not None and time.monotonic() >= end:
            break
        if end is None and life.moment != "gather" and not victims:
            victims = _victims(federation, death)
        assert server.poll() is None, federation.log("server")
        assert time.monotonic() < deadline, federation.log("server")
        time.sleep(_POLL)
    return victims


def _has_begun(run_folder: Path, death: Death, life: Life, stale: set[str]) -> bool:
    if death.moment == "gather":
        return True
    if death.moment == "write":
        number = life.reached("collected")
        return number >= death.round and bool(_fused_rounds(run_folder, number) - stale)
    return life.reached(MOMENTS[death.moment]) >= death.round


def _last_lengths(run_folder: Path) -> dict[str, float]:
    """Seconds that each moment took the last time that it was not cut short; 0 if it never was."""
    lengths = dict.fromkeys(MOMENTS, 0.0)
    begun: dict[str, float] = {}
    before: float | None = None
    for event in EventTail(run_folder / "events.jsonl", past=True).new():
        name, now = event["event"], event["time"]
        if name == "started":  # a predecessor's last word comes shortly before its death
            begun = {"gather": now if before is None else before}
        elif name == "round-started":
            if "gather" in begun:
                lengths["gather"] = now - begun["gather"]
            begun = {"push": now}
        elif name == "sent":
            begun.setdefault("wait", now)
        elif name == "collected":
            lengths |= {"push": begun["wait"] - begun["push"], "wait": now - begun["wait"]}
        elif name == "round-done":
            lengths |= {moment: event["phases"][moment] for moment in ("fuse", "write")}
        before = now
    return lengths


def _fused_rounds(run_folder: Path, number: int | None = None) -> set[str]:
    """Folders of rounds with fused models, whole ones and those under a temporary name.

    number: the round that is looked for; all by default.
    """
    name = "*" if number is None else f"*{number:04d}*"
    found = (run_folder / "rounds").glob(f"{name}/models/*.safetensors")
    return {path.parent.parent.name for path in found}


def _victims(federation: Federation, death: Death) -> set[int]:
    """Processes that a kill hits; nobody if those are not there yet."""
    server = federation.processes["server"].pid
    if script := _SCRIPTS.get(death.victims):
        return {each for each in descendants(server) if re.search(script, command_of(each))}
    return {server} | (descendants(server) if death.victims == WHOLE else set())


def _moment(run_folder: Path, stale: set[str], life: Life) -> str:
    """Which moment a dead server was at, from what it has left on disk.

    stale: folders of rounds that earlier deaths have left. life: what it has told since the last.
    """
    whole = json.loads((run_folder / "state.json").read_text())["round"]
    if _fused_rounds(run_folder, whole + 1) - stale:
        return "write"
    # The state names a round as whole before that is told.
    is_whole = life.moment == "fuse" and life.reached("collected") == whole
    return "between" if is_whole else life.moment


#: What a server does after an event.
_MOMENT_AFTER = {event: moment for moment, event in MOMENTS.items() if event} | {
    "started": "gather",
    "round-done": "between",
}
