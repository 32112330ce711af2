"""From options to a finished experiment: data, plan, cells, outputs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from fedpsyau_client.synthetic.twin import write_twin
from fedpsyau_experiments.paper.catalogue import Experiment
from fedpsyau_experiments.paper.experiment_run import ExperimentRun, Job, run_cells
from fedpsyau_experiments.paper.outcome import Outcome, summarise
from fedpsyau_experiments.paper.outputs import write_outputs
from fedpsyau_experiments.paper.plan import Cell, ExperimentPlan, make_plan
from fedpsyau_experiments.paper.settings import ExperimentSettings
from fedpsyau_model.devices import require_device
from fedpsyau_model.worker_crew import Report

__all__ = ["Begin", "Options", "run_experiment"]

#: Folders of the synthetic twin within an experiment, and their seeds: other people in each.
_TWIN, _TWIN_SEED = "twin", 0
_PRETRAINING_TWIN, _PRETRAINING_TWIN_SEED = "pretraining-twin", 1


@dataclass(frozen=True)
class Options:
    """What a person asks of an experiment.

    data: folder of feature stores; None for the synthetic twin at `scale`.
    pretraining: folder of stores for pre-training; None for a twin of other people, with the twin.
    reuse: folders of other experiments; what they did that is the very same is not done again.
    """

    experiment: Experiment
    out: Path
    settings: ExperimentSettings
    data: Path | None = None
    scale: float = 0.01
    pretraining: Path | None = None
    sites: Sequence[str] = ()
    jobs: int = 1
    device: str = "cpu"
    resume: bool = False
    keep_runs: bool = False
    reuse: Sequence[Path] = ()


#: Called once, with all cells and those that are left to run.
Begin = Callable[[Sequence[Cell], Sequence[Cell]], None]


def run_experiment(
    options: Options,
    begin: Begin = lambda cells, pending: None,
    report: Report = lambda progress: None,
) -> tuple[Outcome, tuple[Path, ...]]:
    """Run all cells that have no result yet, and write tables and figure; returns those files.

    Raises a FedPsyAUError for whatever a user can cause; cells that are done are kept.
    """
    require_device(options.device)
    others = [ExperimentRun.open(folder) for folder in options.reuse]
    open_run = ExperimentRun.go_on if options.resume else ExperimentRun.make
    run = open_run(options.out, lambda folder: _plan(options, folder))
    job = Job(
        plan=run.plan,
        path=run.path,
        data=options.data or run.path / _TWIN,
        pretraining=options.pretraining or _own(run.path / _PRETRAINING_TWIN),
        device=options.device,
        keep_runs=options.keep_runs,
    )
    with run.locked():
        for other in others:
            run.take_over(other)
        pending = run.pending()
        begin(run.plan.cells(), pending)
        run_cells(job, [cell.number for cell in pending], options.jobs, report)
        outcome = summarise(run)
        return outcome, write_outputs(outcome, run.path)


def _plan(options: Options, folder: Path) -> ExperimentPlan:
    """Plan the experiment whose folder this is, making its data unless they are there."""
    pretrains = any(setting.pretrained for setting in options.experiment.settings)
    data, pretraining = options.data, options.pretraining if pretrains else None
    if data is None:
        data = _twin(folder / _TWIN, options.scale, _TWIN_SEED)
        if pretrains and pretraining is None:
            pretraining = _twin(folder / _PRETRAINING_TWIN, options.scale, _PRETRAINING_TWIN_SEED)
    return make_plan(
        options.experiment,
        options.settings,
        data,
        sites=options.sites,
        pretraining=pretraining,
        twin_scale=options.scale if options.data is None else None,
        device=options.device,
    )


def _twin(folder: Path, scale: float, seed: int) -> Path:
    if not folder.exists():
        write_twin(folder, scale=scale, seed=seed)
    return folder


def _own(folder: Path) -> Path | None:
    return folder if folder.exists() else None
