"""The folds of a run, trained in this process or in several."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from fedpsyau_client.protocols.clip_set import open_clip_set
from fedpsyau_client.protocols.fold_training import train_fold
from fedpsyau_client.protocols.folds import plan_folds
from fedpsyau_client.protocols.plan import Job
from fedpsyau_client.protocols.train_run import TrainRun
from fedpsyau_model.checkpoints import read_checkpoint
from fedpsyau_model.errors import FoldProcessError
from fedpsyau_model.worker_crew import Progress, Report, work_through

__all__ = ["run_folds"]


def run_folds(job: Job, numbers: Sequence[int], workers: int, report: Report) -> None:
    """Train the folds with these numbers and write each into the run when it is done.

    workers: processes to train in; with 1 it happens in this one. Called in the main thread.
    report: told the clips of every epoch, by fold.

    Raises the first error of a fold; those that are done by then are kept. FoldProcessError if a
    process ended without a word. Whatever happens, no process is left.
    """
    work_through(_trainer, job, numbers, workers, report, died=_died, name="train-folds")


def _trainer(job: Job, report: Report) -> Callable[[int], None]:
    """Load data and folds of a job; returns what trains one fold and writes it."""
    run = TrainRun(job.run, job.plan)
    names = [part.partition for part in job.plan.data]
    # The command has compared checksums already.
    index = open_clip_set(job.data, names, job.plan.network.classes, verify=False)
    clips = index.tensors()
    folds = {fold.number: fold for fold in plan_folds(index, job.plan)}
    start = None if job.start is None else read_checkpoint(job.start)

    def train(number: int) -> None:
        def progress(clips: int) -> None:
            report(Progress(number, clips, done=False))

        trained = train_fold(index, clips, folds[number], job.plan, start, progress, job.device)
        run.write(trained, job.keep_models)

    return train


def _died(fold: int, exit_code: int | None) -> FoldProcessError:
    return FoldProcessError(
        f"The process that trained fold {fold} ended with code {exit_code} and without a result. A "
        "code of -9 mostly means that memory ran out: go on with --resume and fewer --workers. "
        "Folds that are done are kept."
    )
