"""The folder of an experiment, whole after every cell, and the work on its cells.

plan.json                       everything that the results depend on
cells/0003-fedavg-seed-0.json   what cell 3 came to; written when it is done
work/0003-fedavg-seed-0/        its federation or folds while it is at work
twin/, pretraining-twin/        the synthetic data, where no other was given
NAME.json, .csv, .md, .png      written when all cells are done (see `outputs`)
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from fedpsyau_client.protocols.planned_run import PlannedRun, cannot_read, cannot_write
from fedpsyau_experiments.paper.cell_result import CellResult, SubjectCounts
from fedpsyau_experiments.paper.federation_cell import tested_federation
from fedpsyau_experiments.paper.plan import Cell, ExperimentPlan, cell_key, settings_of
from fedpsyau_experiments.paper.protocol_cell import (
    pretrained_branch,
    protocol_options,
    tested_linear,
    tested_network,
)
from fedpsyau_model.atomic_files import write_atomically
from fedpsyau_model.errors import CellProcessError
from fedpsyau_model.worker_crew import Progress, Report, work_through

__all__ = ["STEPS", "ExperimentRun", "Job", "run_cells"]

#: What the progress of a cell adds up to.
STEPS = 1000


class ExperimentRun(PlannedRun[ExperimentPlan]):
    """An experiment on disk. Use `make`, `go_on` or `open`."""

    plan_type = ExperimentPlan
    command = "fedpsyau experiment"
    folders = ("cells",)

    def pending(self) -> list[Cell]:
        """Cells without a result, in their order."""
        return [cell for cell in self.plan.cells() if not self._file(cell).exists()]

    def results(self) -> list[CellResult]:
        """Results of all cells; RunFolderError if one is missing or damaged."""
        plan_hash = self.plan.plan_hash()
        return [self._read(cell, plan_hash) for cell in self.plan.cells()]

    def write(self, cell: Cell, result: CellResult) -> None:
        """Write what a cell came to, which makes it count as done."""
        try:
            write_atomically(self._file(cell), result.model_dump_json() + "\n")
        except OSError as error:
            raise cannot_write(self.path, error) from None

    def take_over(self, other: ExperimentRun) -> int:
        """Take results that another experiment has from the very same work; returns how many.

        Raises RunFolderError if one of them is damaged.
        """
        done = {
            cell_key(other.plan, cell): cell
            for cell in other.plan.cells()
            if other._file(cell).exists()
        }
        plan_hash, others_hash, taken = self.plan.plan_hash(), other.plan.plan_hash(), 0
        for cell in self.pending():
            if (theirs := done.get(cell_key(self.plan, cell))) is None:
                continue
            result = other._read(theirs, others_hash)
            ours = {
                "plan_hash": plan_hash,
                "number": cell.number,
                "block": cell.block.name,
                "setting": cell.setting.name,
            }
            self.write(cell, result.model_copy(update=ours))
            taken += 1
        return taken

    def work_folder(self, cell: Cell) -> Path:
        """Folder of a cell that is at work."""
        return self.path / "work" / cell.name

    def _file(self, cell: Cell) -> Path:
        return self.path / "cells" / f"{cell.name}.json"

    def _read(self, cell: Cell, plan_hash: str) -> CellResult:
        file = self._file(cell)
        try:
            result = CellResult.model_validate_json(file.read_text(encoding="utf-8"))
        except (OSError, ValidationError, ValueError) as error:
            raise cannot_read(file, error) from None
        if result.plan_hash != plan_hash:
            raise cannot_read(file, "it belongs to an experiment with another plan")
        return result


@dataclass(frozen=True)
class Job:
    """An experiment with where its parts are on this machine; what a worker process is given."""

    plan: ExperimentPlan
    path: Path
    data: Path
    pretraining: Path | None
    device: str
    keep_runs: bool = False


def run_cells(job: Job, numbers: Sequence[int], jobs: int, report: Report) -> None:
    """Run the cells with these numbers and write each into the experiment when it is done.

    jobs: processes; with 1 it happens in this one. Called in the main thread. report: told the
        progress of every cell, which adds up to `STEPS`.

    Raises the first error of a cell; those that are done by then are kept, and those at work go on
    where they were. CellProcessError if a process ended without a word.
    """
    work_through(_runner, job, numbers, jobs, report, died=_died, name="experiment-cells")


def _runner(job: Job, report: Report) -> Callable[[int], None]:
    run = ExperimentRun(job.path, job.plan)
    cells = {cell.number: cell for cell in job.plan.cells()}
    plan_hash = job.plan.plan_hash()

    def work(number: int) -> None:
        cell, told = cells[number], 0

        def tell(share: float) -> None:
            nonlocal told
            steps = int(STEPS * share)
            report(Progress(number, steps - told, done=False))
            told = steps

        started = time.monotonic()
        tested = _tested(job, run, cell, tell)
        tell(1)
        seconds = round(time.monotonic() - started, 3)
        run.write(
            cell,
            CellResult(
                plan_hash=plan_hash,
                number=number,
                block=cell.block.name,
                setting=cell.setting.name,
                seed=cell.seed,
                seconds=seconds,
                tested=tested,
            ),
        )
        if not job.keep_runs:
            shutil.rmtree(run.work_folder(cell), ignore_errors=True)

    return work


def _tested(
    job: Job, run: ExperimentRun, cell: Cell, tell: Callable[[float], None]
) -> SubjectCounts:
    settings, folder = settings_of(job.plan, cell), run.work_folder(cell)
    folder.mkdir(parents=True, exist_ok=True)
    if cell.setting.kind == "federation":
        return tested_federation(settings, job.data, folder / "run", job.device, tell)
    section = job.plan.settings.experiment
    start = None
    if cell.setting.pretrained and job.pretraining is not None:
        start = pretrained_branch(
            settings,
            job.pretraining,
            folder / "aus.safetensors",
            section.pretraining_epochs,
            job.device,
        )
    options = protocol_options(
        cell.block, section, settings, job.data, folder / "run", job.device, start
    )
    return (
        tested_linear(options) if cell.setting.kind == "linear" else tested_network(options, tell)
    )


def _died(number: int, exit_code: int | None) -> CellProcessError:
    return CellProcessError(
        f"The process that ran cell {number} ended with code {exit_code} and without a result. A "
        "code of -9 mostly means that memory ran out: go on with --resume and fewer --jobs. Cells "
        "that are done are kept."
    )
