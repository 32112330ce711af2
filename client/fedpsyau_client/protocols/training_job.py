"""From options to a finished run: plan, folds, outputs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from fedpsyau_client.protocols.clip_set import open_clip_set
from fedpsyau_client.protocols.fold_workers import run_folds
from fedpsyau_client.protocols.folds import Fold, plan_folds
from fedpsyau_client.protocols.outputs import RunSummary, summarise, write_outputs
from fedpsyau_client.protocols.plan import Job, Plan, Protocol, Selection
from fedpsyau_client.protocols.train_run import TrainRun
from fedpsyau_model.checkpoints import read_checkpoint, start_from
from fedpsyau_model.devices import require_device
from fedpsyau_model.network import build_network
from fedpsyau_model.settings import FederationSettings
from fedpsyau_model.worker_crew import Report


@dataclass(frozen=True)
class Options:
    """What a person asks of a run. `settings` gives seed, network, loss and training."""

    protocol: Protocol
    data: Path
    out: Path
    settings: FederationSettings
    epochs: int
    partitions: Sequence[str] = ()
    folds: int = 10
    select: Selection = "last"
    start: Path | None = None
    workers: int = 1
    keep_models: bool = False
    resume: bool = False
    device: str = "cpu"


#: Called once, with all folds and those that are left to train.
Begin = Callable[[Sequence[Fold], Sequence[Fold]], None]


def train_protocol(
    options: Options,
    begin: Begin = lambda folds, pending: None,
    report: Report = lambda progress: None,
) -> RunSummary:
    """Train and test all folds that have no result yet, and write the run's outputs.

    Raises a FedPsyAUError for whatever a user can cause; folds that are done are kept.
    """
    with trained_run(options, begin, report) as run:
        summary = summarise(run)
        write_outputs(summary)
    return summary


@contextmanager
def trained_run(options: Options, begin: Begin, report: Report) -> Iterator[TrainRun]:
    """Train and test all folds that have no result yet; the run is locked as long as the block.

    Raises a FedPsyAUError for whatever a user can cause; folds that are done are kept.
    """
    plan, folds = planned(options)
    open_run = TrainRun.resume if options.resume else TrainRun.create
    run = open_run(options.out, plan)
    job = Job(
        plan=plan,
        data=options.data,
        run=options.out,
        start=options.start,
        keep_models=options.keep_models,
        device=options.device,
    )
    with run.locked():
        pending = run.pending(folds)
        begin(folds, pending)
        run_folds(job, [fold.number for fold in pending], options.workers, report)
        yield run


def planned(options: Options) -> tuple[Plan, tuple[Fold, ...]]:
    """Plan a run and divide its clips, without training anything."""
    require_device(options.device)
    settings = options.settings
    clips = open_clip_set(options.data, options.partitions, settings.network.classes)
    plan = Plan(
        protocol=options.protocol,
        folds=options.folds if options.protocol == "kfold" else 0,
        seed=settings.seed,
        epochs=options.epochs,
        select=options.select,
        start_sha256=_start_hash(options.start, settings),
        device="cuda" if options.device.startswith("cuda") else "cpu",
        data=clips.parts(),
        network=settings.network,
        priors=settings.priors,
        loss=settings.loss,
        training=settings.training,
    )
    return plan, plan_folds(clips, plan)


def _start_hash(start: Path | None, settings: FederationSettings) -> str:
    """Check that the network can start from a checkpoint; returns its SHA-256, or ""."""
    if start is None:
        return ""
    checkpoint = read_checkpoint(start)
    start_from(build_network(settings.network, 0, settings.shared_priors()), checkpoint)
    return checkpoint.sha256
