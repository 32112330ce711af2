"""Numbered pieces of training, done in this process or dealt to several.

What a piece comes to doesn't depend on the process that does it: each uses one torch thread.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from typing import Any, NamedTuple

import torch

from fedpsyau_model.errors import INTERRUPTED, FedPsyAUError
from fedpsyau_model.process_tree import end_with
from fedpsyau_model.worker_process import start_worker_process

__all__ = ["Died", "Prepare", "Progress", "Report", "work_through"]


class Progress(NamedTuple):
    """What is told of a piece: it came on by so much, or it is done."""

    number: int
    amount: int
    done: bool


Report = Callable[[Progress], None]

#: Loads what all pieces of a job need, in the process that works; gives what does one piece. A
#: function at the top of a module, because it is named to other processes.
Prepare = Callable[[Any, Report], Callable[[int], None]]

#: What to raise where the process at a piece ended with an exit code and without a word.
Died = Callable[[int, int | None], FedPsyAUError]

#: How long a worker that was told to end may take.
_END_SECONDS = 10.0


def work_through(
    prepare: Prepare,
    job: Any,
    numbers: Sequence[int],
    workers: int,
    report: Report,
    *,
    died: Died,
    name: str,
) -> None:
    """Do the pieces with these numbers.

    job: what `prepare` is given; can be pickled. workers: processes to work in, called `name`; with
        1 it happens in this one. report: called here, and with `done` after every piece. Called in
        the main thread.

    Raises the first error of a piece; what is done by then stays done. Whatever happens, no process
    is left.
    """
    if workers == 1 or len(numbers) < 2:
        with _one_thread():
            work = prepare(job, report)
            for number in numbers:
                work(number)
                report(Progress(number, 0, done=True))
        return
    with _crew(prepare, job, min(workers, len(numbers)), name) as crew:
        _hand_out(crew, deque(numbers), report, died)


@contextmanager
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


# The side of the process that hands out work -------------------------------------------------


@dataclass
class _Worker:
    process: SpawnProcess
    connection: Connection
    number: int = 0
    """What it is at."""


@contextmanager
def _crew(prepare: Prepare, job: Any, count: int, name: str) -> Iterator[list[_Worker]]:
    """Start workers, and end them all at the end, also after an error or Ctrl-C."""
    crew: list[_Worker] = []
    try:
        for _ in range(count):
            started = start_worker_process(_work, prepare, job, os.getpid(), name=name)
            crew.append(_Worker(*started))
        yield crew
    finally:
        for worker in crew:
            worker.connection.close()
            worker.process.terminate()
        for worker in crew:
            worker.process.join(_END_SECONDS)
            if worker.process.is_alive():
                worker.process.kill()
                worker.process.join()


def _hand_out(crew: Sequence[_Worker], waiting: deque[int], report: Report, died: Died) -> None:
    """Give each worker a piece, and the next one when it is done, until none is left."""
    at_work = {worker.connection: worker for worker in crew}
    for worker in crew:
        _send(worker, waiting.popleft(), died)
    while at_work:
        for connection in wait(list(at_work)):
            worker = at_work[connection]  # type: ignore[index]
            progress = _receive(worker, died)
            report(progress)
            if not progress.done:
                continue
            if waiting:
                _send(worker, waiting.popleft(), died)
            else:
                del at_work[worker.connection]


def _send(worker: _Worker, number: int, died: Died) -> None:
    worker.number = number
    try:
        worker.connection.send(number)
    except OSError:
        raise _gone(worker, died) from None


def _receive(worker: _Worker, died: Died) -> Progress:
    try:
        message = worker.connection.recv()
    except (EOFError, OSError):
        raise _gone(worker, died) from None
    if isinstance(message, FedPsyAUError):
        raise message
    assert isinstance(message, Progress)
    return message


def _gone(worker: _Worker, died: Died) -> FedPsyAUError:
    worker.process.join(_END_SECONDS)
    return died(worker.number, worker.process.exitcode)


# The side of a worker ------------------------------------------------------------------------


def _work(connection: Connection, prepare: Prepare, job: Any, launcher: int) -> None:
    """Do the pieces whose numbers arrive, telling progress or the error that ended it."""
    end_with(launcher, INTERRUPTED)
    torch.set_num_threads(1)
    try:
        work = prepare(job, connection.send)
        while True:
            number = connection.recv()
            work(number)
            connection.send(Progress(number, 0, done=True))
    except FedPsyAUError as error:
        connection.send(error)
    except (EOFError, BrokenPipeError):
        return  # whoever hands out work has none left, or is gone
