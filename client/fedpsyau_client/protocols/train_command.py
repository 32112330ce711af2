"""``fedpsyau train``: train and test on one machine, by an honest protocol."""

from __future__ import annotations

import json
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fedpsyau_client.data_commands.data_folder import DATA_VARIABLE, default_data_folder
from fedpsyau_model.command_line import new_app

if TYPE_CHECKING:
    from rich.progress import Progress

    from fedpsyau_client.protocols.outputs import RunSummary
    from fedpsyau_client.protocols.training_job import Begin
    from fedpsyau_model.worker_crew import Report

app = new_app("Train and test on one machine: leave-one-subject-out, k-fold, hold-out, by site.")

#: Epochs of a fold where nothing is said; `training.epochs` is per round of a federation.
EPOCHS = 20


class ProtocolName(StrEnum):
    """Values of ``--protocol``."""

    LOSO = "loso"
    KFOLD = "kfold"
    HOLDOUT = "holdout"
    LEAVE_ONE_SITE_OUT = "leave-one-site-out"


class SelectName(StrEnum):
    """Values of ``--select``."""

    LAST = "last"
    VALIDATION = "validation"


@app.command()
def train(
    protocol: Annotated[
        ProtocolName,
        typer.Option(help="How clips are divided; always by subject, never by clip."),
    ],
    out: Annotated[Path, typer.Option(help="Folder of the run; must not be there yet.")],
    data: Annotated[
        Path | None,
        typer.Option(help=f"Folder of the feature stores. Default: {DATA_VARIABLE}, else ./data."),
    ] = None,
    partition: Annotated[
        list[str] | None, typer.Option(help="A store to take; repeat it. Default: all.")
    ] = None,
    folds: Annotated[int, typer.Option(min=2, help="Folds of kfold.")] = 10,
    epochs: Annotated[int, typer.Option(min=1, help="Epochs of every fold.")] = EPOCHS,
    seed: Annotated[int | None, typer.Option(min=0, help="Default: that of the settings.")] = None,
    select: Annotated[
        SelectName,
        typer.Option(
            help="The model that is tested: of the last epoch, or of the best one on a fifth of "
            "the training subjects. Never by test score."
        ),
    ] = SelectName.LAST,
    start: Annotated[
        Path | None, typer.Option(help="Checkpoint to start from, as of `fedpsyau pretrain`.")
    ] = None,
    config: Annotated[
        Path | None, typer.Option(help="Settings, TOML; [network], [loss] and [training] count.")
    ] = None,
    workers: Annotated[
        int, typer.Option(min=1, help="Processes that train folds, one thread each.")
    ] = 1,
    device: Annotated[str, typer.Option(help="Where the network runs: cpu or cuda:N.")] = "cpu",
    keep_models: Annotated[
        bool, typer.Option("--keep-models", help="Keep the model of every fold (16 MB each).")
    ] = False,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with the run in --out, if it is there.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print summary.json.")] = False,
) -> None:
    """Train and test the network fold by fold, and score the pooled predictions.

    Results are the same whatever --workers is, and a run that was stopped goes on with --resume.
    """
    from fedpsyau_client.protocols.outputs import summary_document
    from fedpsyau_client.protocols.training_job import Options, train_protocol
    from fedpsyau_model.settings import FederationSettings, load_settings

    options = Options(
        protocol=protocol.value,
        data=data or default_data_folder(),
        out=out,
        settings=load_settings(FederationSettings, config, {"seed": seed}),
        epochs=epochs,
        partitions=partition or (),
        folds=folds,
        select=select.value,
        start=start,
        workers=workers,
        device=device,
        keep_models=keep_models,
        resume=resume,
    )
    with _progress_bar() as bar:
        summary = train_protocol(options, *_reporters(bar, epochs))
    if as_json:
        typer.echo(json.dumps(summary_document(summary), indent=2))
    else:
        _print_summary(summary)


def _progress_bar() -> Progress:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.fields[folds]}"),
        TextColumn("{task.fields[speed]}"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        console=Console(stderr=True),
    )


def _reporters(bar: Progress, epochs: int) -> tuple[Begin, Report]:
    """Make what draws the beginning of a run and each step of it."""
    from fedpsyau_client.protocols.folds import Fold
    from fedpsyau_model.worker_crew import Progress as Step

    task = bar.add_task("training", total=None, folds="", speed="")
    clips = done = total = 0

    def begin(folds: Sequence[Fold], pending: Sequence[Fold]) -> None:
        nonlocal done, total
        total, done = len(folds), len(folds) - len(pending)
        bar.update(task, total=len(pending) * epochs, folds=f"{done} of {total} folds")

    def report(step: Step) -> None:
        nonlocal clips, done
        clips += step.amount
        done += step.done
        speed = clips / max(bar.tasks[task].elapsed or 0, 0.001)
        bar.update(
            task,
            advance=0 if step.done else 1,
            folds=f"{done} of {total} folds",
            speed=f"{speed:.0f} clips/s",
        )

    return begin, report


def _print_summary(summary: RunSummary) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table

    from fedpsyau_client.protocols.outputs import PAGE, score_rows, shown

    console = Console()
    table = Table(title=summary.title, title_justify="left", box=box.SIMPLE_HEAD, show_edge=False)
    table.add_column("score")
    table.add_column("value", justify="right")
    table.add_column("95 % interval", justify="right")
    for name, each in score_rows(summary.scores):
        table.add_row(name, shown(each.value), f"{shown(each.low)} to {shown(each.high)}")
    console.print(table)
    for note in summary.notes():
        console.print(note, style="dim")
    typer.echo(summary.path / PAGE)
