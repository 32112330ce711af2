"""Folds in this process or in several: who trains which, and what happens when one is stopped.

A fold's bits don't depend on the process that trains it: each process uses one torch thread.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from typing import NamedTuple

import torch

from fedpsyau_client.protocols.clip_set import open_clip_set
from fedpsyau_client.protocols.fold_training import train_fold
from fedpsyau_client.protocols.folds import plan_folds
from fedpsyau_client.protocols.plan import Job
from fedpsyau_client.protocols.train_run import TrainRun
from fedpsyau_model.checkpoints import read_checkpoint
from fedpsyau_model.errors import INTERRUPTED, FedPsyAUError, FoldProcessError
from fedpsyau_model.process_tree import end_with
from fedpsyau_model.worker_process import start_worker_process


class Progress(NamedTuple):
    """What a worker tells: so many clips were trained once more, or the fold is done."""

    fold: int
    clips: int
    done: bool


Report = Callable[[Progress], None]

#: How long a worker that was told to end may take.
_END_SECONDS = 10.0


def run_folds(job: Job, numbers: Sequence[int], workers: int, report: Report) -> None:
    """Train the folds with these numbers and write each into the run when it is done.

    workers: processes to train in; with 1 it happens in this one. Called in the main thread.

    Raises the first error of a fold; those that are done by then are kept. FoldProcessError if a
    process ended without a word. Whatever happens, no process is left.
    """
    if workers == 1 or len(numbers) < 2:
        with _one_thread():
            trainer = _Trainer(job, report)
            for number in numbers:
                trainer.train(number)
        return
    with _worker_processes(job, min(workers, len(numbers))) as crew:
        _hand_out(crew, deque(numbers), report)


class _Trainer:
    """Holds data and folds of a job; trains one fold after the other."""

    def __init__(self, job: Job, report: Report) -> None:
        self._job = job
        self._report = report
        self._run = TrainRun(job.run, job.plan)
        names = [part.partition for part in job.plan.data]
        # The command has compared checksums already.
        self._index = open_clip_set(job.data, names, job.plan.network.classes, verify=False)
        self._clips = self._index.tensors()
        self._folds = {fold.number: fold for fold in plan_folds(self._index, job.plan)}
        self._start = None if job.start is None else read_checkpoint(job.start)

    def train(self, number: int) -> None:
        """Train one fold and write it."""

        def progress(clips: int) -> None:
            self._report(Progress(number, clips, done=False))

        fold = self._folds[number]
        trained = train_fold(self._index, self._clips, fold, self._job.plan, self._start, progress)
        self._run.write(trained, self._job.keep_models)
        self._report(Progress(number, 0, done=True))


@contextmanager
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


# The side of the process that hands out folds ------------------------------------------------


@dataclass
class _Worker:
    process: SpawnProcess
    connection: Connection
    fold: int | None = None
    """What it is at."""


@contextmanager
def _worker_processes(job: Job, count: int) -> Iterator[list[_Worker]]:
    """Start workers, and end them all at the end, also after an error or Ctrl-C."""
    crew: list[_Worker] = []
    try:
        for _ in range(count):
            crew.append(_start_worker(job))
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


def _start_worker(job: Job) -> _Worker:
    return _Worker(*start_worker_process(_work, job, os.getpid(), name="train-folds"))


def _hand_out(crew: Sequence[_Worker], waiting: deque[int], report: Report) -> None:
    """Give each worker a fold, and the next one when it is done, until none is left."""
    at_work = {worker.connection: worker for worker in crew}
    for worker in crew:
        _send(worker, waiting.popleft())
    while at_work:
        for connection in wait(list(at_work)):
            worker = at_work[connection]  # type: ignore[index]
            progress = _receive(worker)
            report(progress)
            if not progress.done:
                continue
            if waiting:
                _send(worker, waiting.popleft())
            else:
                del at_work[worker.connection]


def _send(worker: _Worker, fold: int) -> None:
    worker.fold = fold
    try:
        worker.connection.send(fold)
    except OSError:
        raise _died(worker) from None


def _receive(worker: _Worker) -> Progress:
    try:
        message = worker.connection.recv()
    except (EOFError, OSError):
        raise _died(worker) from None
    if isinstance(message, FedPsyAUError):
        raise message
    assert isinstance(message, Progress)
    return message


def _died(worker: _Worker) -> FoldProcessError:
    worker.process.join(_END_SECONDS)
    return FoldProcessError(
        f"The process that trained fold {worker.fold} ended with code {worker.process.exitcode} "
        "and without a result. A code of -9 mostly means that memory ran out: go on with --resume "
        "and fewer --workers. Folds that are done are kept."
    )


# The side of a worker ------------------------------------------------------------------------


def _work(connection: Connection, job: Job, launcher: int) -> None:
    """Train the folds whose numbers arrive, telling progress or the error that ended it."""
    end_with(launcher, INTERRUPTED)
    torch.set_num_threads(1)
    try:
        trainer = _Trainer(job, connection.send)
        while True:
            trainer.train(connection.recv())
    except FedPsyAUError as error:
        connection.send(error)
    except (EOFError, BrokenPipeError):
        return  # whoever hands out folds has none left, or is gone
