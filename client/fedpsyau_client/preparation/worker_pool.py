"""Processes that prepare clips side by side, and of which one may die without harm to the others.

Each worker is a fresh process (spawned, not forked) with one landmarker and one thread; it gets
one clip at a time. A clip whose worker dies or does not answer fails alone. Workers die with the
process that started them, however that ends (Linux; elsewhere when they next ask for work).
"""

from __future__ import annotations

import contextlib
import multiprocessing.connection
import os
import signal
import time
import traceback
from collections.abc import Generator, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import Final

import cv2

from fedpsyau_client.preparation.clip_job import ClipJob, prepare_clip
from fedpsyau_client.preparation.face_landmarks import FaceDetector
from fedpsyau_client.preparation.videos import VideoReader
from fedpsyau_model.errors import ClipError, OutputWriteError, WorkerDiedError
from fedpsyau_model.process_tree import end_with
from fedpsyau_model.worker_process import start_worker_process

__all__ = ["CLIP_SECONDS", "prepared"]

#: A clip that takes longer than this has failed, in seconds.
CLIP_SECONDS: Final = 600.0

#: What a worker answers: None, or the error that the clip raised.
Answer = ClipError | OutputWriteError | None


@dataclass(eq=False)
class _Worker:
    """A worker process, and the clip that it has in hand."""

    process: SpawnProcess
    line: Connection
    job: int | None = None
    deadline: float = field(default=0.0)


def prepared(
    jobs: Sequence[ClipJob],
    *,
    workers: int,
    model: Path | None,
    log: Path,
    clip_seconds: float = CLIP_SECONDS,
) -> Generator[tuple[int, ClipError | None], None, None]:
    """Prepare clips in `workers` processes; yield (position in `jobs`, None or why it failed).

    In the order in which they become ready. Close the generator to stop early; no process is left
    however it ends. model: the landmark model; None where every job brings its face. log: file to
    which workers write what MediaPipe says, and tracebacks.

    Raises OutputWriteError where results cannot be written.
    """
    pool: list[_Worker] = []
    waiting = list(range(len(jobs)))[::-1]
    try:
        while waiting or any(worker.job is not None for worker in pool):
            _hand_out(pool, jobs, waiting, workers, (model, log), clip_seconds)
            for worker in _ready(pool):
                position, worker.job = worker.job, None
                answer = _answer(worker, clip_seconds)
                if isinstance(answer, WorkerDiedError):
                    _end(worker)
                    pool.remove(worker)
                if isinstance(answer, OutputWriteError):
                    raise answer
                assert position is not None
                yield position, answer
    finally:
        for worker in pool:
            worker.process.terminate()
        for worker in pool:
            _end(worker)


def _hand_out(
    pool: list[_Worker],
    jobs: Sequence[ClipJob],
    waiting: list[int],
    workers: int,
    arguments: tuple[Path | None, Path],
    clip_seconds: float,
) -> None:
    """Give every idle worker a clip, and start workers while there are clips for them."""
    while waiting:
        idle = next((worker for worker in pool if worker.job is None), None)
        if idle is not None and not idle.process.is_alive():
            pool.remove(idle)
            _end(idle)
            continue
        if idle is None:
            if len(pool) >= workers:
                return
            pool.append(idle := _start(*arguments))
        idle.job, idle.deadline = waiting.pop(), time.monotonic() + clip_seconds
        # Should it die at this moment, that is noticed when its answer is read.
        with contextlib.suppress(OSError):
            idle.line.send(jobs[idle.job])


def _start(model: Path | None, log: Path) -> _Worker:
    process, line = start_worker_process(_work, model, log, os.getpid(), name="prepare")
    return _Worker(process, line)


def _ready(pool: list[_Worker]) -> list[_Worker]:
    """Wait for answers, ends and deadlines; return the workers concerned."""
    busy = [worker for worker in pool if worker.job is not None]
    first = min(worker.deadline for worker in busy)
    lines = multiprocessing.connection.wait(
        [worker.line for worker in busy], timeout=max(first - time.monotonic(), 0)
    )
    now = time.monotonic()
    return [worker for worker in busy if worker.line in lines or worker.deadline <= now]


def _answer(worker: _Worker, clip_seconds: float) -> Answer:
    """Read a worker's answer; WorkerDiedError where it has none."""
    try:
        if worker.line.poll():
            answer: Answer = worker.line.recv()
            return answer
    except (EOFError, OSError):
        worker.process.join(5)
        return WorkerDiedError(
            f"The process that prepared this clip ended ({_why(worker.process.exitcode)}). Look at "
            "the clip; where it is whole, there may be too little memory: use fewer --workers."
        )
    return WorkerDiedError(
        f"This clip was not ready after {clip_seconds:.0f} seconds, so its process was ended. Look "
        "at the clip; where it is a very long video, cut it."
    )


def _why(exit_code: int | None) -> str:
    if exit_code is None or exit_code >= 0:
        return f"exit code {exit_code}"
    return signal.Signals(-exit_code).name


def _end(worker: _Worker) -> None:
    worker.line.close()
    if worker.process.is_alive():
        worker.process.terminate()
        worker.process.join(2)
    if worker.process.is_alive():
        worker.process.kill()
    worker.process.join()


def _work(line: Connection, model: Path | None, log: Path, parent: int) -> None:
    """Life of a worker: take a clip, prepare it, answer; end when nobody is there any more."""
    end_with(parent, exit_code=1)
    with log.open("a", encoding="utf-8") as stream:
        os.dup2(stream.fileno(), 2)
    cv2.setNumThreads(1)
    with FaceDetector(model) as detector, VideoReader() as videos:
        while True:
            try:
                job: ClipJob = line.recv()
            except (EOFError, OSError):
                return
            answer = _attempt(job, detector, videos)
            with contextlib.suppress(OSError):
                line.send(answer)


def _attempt(job: ClipJob, detector: FaceDetector, videos: VideoReader) -> Answer:
    try:
        prepare_clip(job, detector, videos)
    except (ClipError, OutputWriteError) as error:
        return error
    except Exception as error:  # One clip's trouble, whatever it is, must not end the others.
        traceback.print_exc()
        first_line = (str(error).strip().splitlines() or [""])[0]
        return ClipError(
            f"Preparing this clip failed in an unforeseen way ({type(error).__name__}: "
            f"{first_line}). The traceback stands in workers.log in the working folder."
        )
    return None
