"""Samples the Python process that finds this folder on its path: where its CPU time goes.

Python imports a module of this name at its start. If `STACK_SAMPLES` names a folder, a thread
looks every few milliseconds at the stacks of all others, and gives each the CPU time that its
thread has used since the last look. What no Python thread has used is that of native threads,
like those of gRPC. Every half second a line of JSON is appended to ``PID.jsonl``: time, the process
and its parent, and CPU seconds by stack, outermost function first.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from types import FrameType

INTERVAL = 0.005
FLUSH = 0.5


def _stack(frame: FrameType | None) -> str:
    names = []
    while frame is not None:
        code = frame.f_code
        module = frame.f_globals.get("__name__", "?")
        names.append(f"{module}.{code.co_qualname}")
        frame = frame.f_back
    return ";".join(reversed(names))


def _sample(folder: Path) -> None:
    own = threading.get_ident()
    file = folder / f"{os.getpid()}.jsonl"
    before: dict[int, float] = {}
    spent: Counter[str] = Counter()
    whole = time.process_time()
    next_flush = time.monotonic() + FLUSH
    overhead = time.thread_time()
    while True:
        time.sleep(INTERVAL)
        for ident, frame in sys._current_frames().items():
            if ident == own:
                continue
            try:
                used = time.clock_gettime(time.pthread_getcpuclockid(ident))
            except OSError:
                continue
            passed = used - before.get(ident, used)
            before[ident] = used
            if passed > 0:
                spent[_stack(frame)] += passed
        if time.monotonic() > next_flush:
            next_flush = time.monotonic() + FLUSH
            now, mine = time.process_time(), time.thread_time()
            native = now - whole - (mine - overhead) - sum(spent.values())
            whole, overhead = now, mine
            if native > 0:
                spent["native threads"] += native
            command = Path("/proc/self/cmdline").read_bytes().decode(errors="replace").split("\0")
            line = {
                "time": time.time(),
                "pid": os.getpid(),
                "parent": os.getppid(),
                "command": " ".join(command),
                "stacks": dict(spent),
            }
            with file.open("a") as stream:
                stream.write(json.dumps(line) + "\n")
            spent.clear()


if "STACK_SAMPLES" in os.environ:
    threading.Thread(target=_sample, args=(Path(os.environ["STACK_SAMPLES"]),), daemon=True).start()
