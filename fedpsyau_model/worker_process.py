"""Starting processes that work for this one, over a pipe."""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Callable
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from typing import Any

__all__ = ["start_worker_process"]


def start_worker_process(
    work: Callable[..., None], *arguments: Any, name: str
) -> tuple[SpawnProcess, Connection]:
    """Start a fresh process (spawned, not forked) that runs ``work(line, *arguments)``.

    Returns the process and this side of the line, a pipe. The process is deaf to Ctrl-C, which
    reaches all processes of a terminal: what it means is decided here.
    """
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=work, args=(theirs, *arguments), name=name, daemon=True)
    # A process inherits which signals are blocked, so it is deaf from its first instruction.
    resource_tracker.ensure_running()  # It would unblock the signal again.
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        process.start()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
    theirs.close()
    return process, ours
