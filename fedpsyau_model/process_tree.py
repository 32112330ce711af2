"""Which processes descend from which, read from /proc (Linux; elsewhere nobody descends)."""

from __future__ import annotations

import os
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


def end_with(pid: int, exit_code: int) -> None:
    """End this process at once, from a thread, when the process `pid` has ended."""

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
