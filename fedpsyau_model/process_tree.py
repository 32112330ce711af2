"""Which processes descend from which, read from /proc (Linux; elsewhere nobody descends)."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Iterable
from pathlib import Path


def descendants(pid: int) -> set[int]:
    """Process ids of everything that a process has started, and that they have started.

    A process whose parent has died belongs to nobody's descendants, so ask before you kill.
    """
    children: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        if fields := _fields(stat):
            children.setdefault(int(fields[1]), []).append(int(stat.parent.name))
    found: set[int] = set()
    waiting = [pid]
    while waiting:
        for child in children.get(waiting.pop(), []):
            found.add(child)
            waiting.append(child)
    return found


def alive(pids: Iterable[int]) -> set[int]:
    """Those of `pids` that still run; a zombie does not."""
    return {
        pid for pid in pids if (fields := _fields(Path(f"/proc/{pid}/stat"))) and fields[0] != "Z"
    }


def kill_those_with(name: str, value: str) -> None:
    """Kill every process of this user that was started with an environment variable at a value.

    It finds the offspring of a process that has died; this process itself is spared.
    """
    wanted = f"{name}={value}".encode()
    for environment in Path("/proc").glob("[0-9]*/environ"):
        pid = int(environment.parent.name)
        with contextlib.suppress(OSError):
            if pid != os.getpid() and wanted in environment.read_bytes().split(b"\0"):
                os.kill(pid, signal.SIGKILL)


def end_with(pid: int, exit_code: int) -> None:
    """End this process at once, from a thread, when the process `pid` has ended.

    Does nothing where there is no /proc to ask.
    """
    if not Path("/proc/self/stat").exists():
        return

    def watch() -> None:
        while alive({pid}):
            time.sleep(0.5)
        os._exit(exit_code)

    threading.Thread(target=watch, name=f"end-with-{pid}", daemon=True).start()


def _fields(stat: Path) -> list[str]:
    """State, parent and so on of a process: what follows its name in brackets."""
    try:
        return stat.read_text().rpartition(")")[2].split()
    except OSError:
        return []
