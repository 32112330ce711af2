"""``fedpsyau experiment NAME``: the paper's tables and figures, each from one command."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fedpsyau_experiments.paper.catalogue import EXPERIMENTS, Experiment
from fedpsyau_experiments.paper.sizes import SIZES, TWIN_SCALES, Size
from fedpsyau_model.command_line import new_app

if TYPE_CHECKING:
    from fedpsyau_experiments.paper.experiment_job import Begin
    from fedpsyau_experiments.paper.outcome import Outcome
    from fedpsyau_model.worker_crew import Report

app = new_app("Measure a table or figure of the paper: several seeds, tests, tables, a figure.")


@app.command("list")
def list_experiments() -> None:
    """List what experiments there are."""
    for each in EXPERIMENTS.values():
        compared = "; ".join(setting.label for setting in each.settings)
        typer.secho(each.name, bold=True)
        typer.echo(f"  {each.title} ({each.source})")
        typer.echo(f"  {compared}")
        typer.echo(f"  for --only: {','.join(setting.name for setting in each.settings)}")
        if len(each.settings) > 1:
            typer.echo(f"  tested against: {each.setting(each.reference).label}")


def command_of(experiment: Experiment) -> Callable[..., None]:
    """Make the command of an experiment; all have the same options."""

    def command(
        out: Annotated[Path, typer.Option(help="Folder of the experiment to make.")],
        data: Annotated[
            Path | None,
            typer.Option(
                help="Folder of feature stores, one a site. [default: the synthetic twin]"
            ),
        ] = None,
        scale: Annotated[
            float | None,
            typer.Option(help="Share of the paper's clips in the twin. [default: by --size]"),
        ] = None,
        size: Annotated[
            Size,
            typer.Option(
                help="What stands where neither --config nor an option says otherwise: small, "
                "minutes on two cores; or the paper's lengths and protocols, days."
            ),
        ] = "small",
        seeds: Annotated[
            str | None, typer.Option(help="Seeds, separated by commas. [default: by --size]")
        ] = None,
        sites: Annotated[
            str | None, typer.Option(help="Partitions, separated by commas. [default: all]")
        ] = None,
        only: Annotated[
            str | None,
            typer.Option(
                help="Settings, separated by commas, instead of all; the one that the others are "
                "tested against is always there. `fedpsyau experiment list` has their names."
            ),
        ] = None,
        pretrain_data: Annotated[
            Path | None,
            typer.Option(
                help="Folder of other people's feature stores with AU labels, to pre-train on. "
                "[default: with the twin, another twin]"
            ),
        ] = None,
        config: Annotated[
            Path | None,
            typer.Option(help="Settings, TOML: federation.toml and a section [experiment]."),
        ] = None,
        jobs: Annotated[int, typer.Option(min=1, help="Processes, one thread each.")] = 1,
        device: Annotated[str, typer.Option(help="Where the network runs: cpu or cuda:N.")] = "cpu",
        keep_runs: Annotated[
            bool, typer.Option("--keep-runs", help="Keep the run folder of every cell.")
        ] = False,
        reuse: Annotated[
            list[Path] | None,
            typer.Option(
                help="Folder of another experiment; repeat it. What it did with the same data and "
                "settings is taken from there."
            ),
        ] = None,
        resume: Annotated[
            bool, typer.Option("--resume", help="Go on with --out, if it is there.")
        ] = False,
    ) -> None:
        from fedpsyau_experiments.paper.experiment_job import Options, run_experiment
        from fedpsyau_experiments.paper.settings import ExperimentSettings
        from fedpsyau_model.errors import SettingsError
        from fedpsyau_model.settings import load_settings

        if data is not None and scale is not None:
            raise SettingsError("--scale is for the synthetic twin; leave it out with --data.")
        base = {**SIZES[size], **(experiment.small if size == "small" else {})}
        options = Options(
            experiment=experiment.only(_names(only)) if only else experiment,
            out=out,
            settings=load_settings(
                ExperimentSettings, config, {"experiment.seeds": seeds}, base=base
            ),
            data=data,
            scale=TWIN_SCALES[size] if scale is None else scale,
            pretraining=pretrain_data,
            sites=_names(sites or ""),
            jobs=jobs,
            device=device,
            resume=resume,
            keep_runs=keep_runs,
            reuse=reuse or (),
        )
        with _cell_bar() as (begin, report):
            outcome, files = run_experiment(options, begin, report)
        _print_scores(outcome)
        for file in files:
            typer.echo(file)

    command.__doc__ = f"{experiment.title} ({experiment.source})."
    return command


def _names(listed: str) -> list[str]:
    return [name.strip() for name in listed.split(",") if name.strip()]


for _experiment in EXPERIMENTS.values():
    app.command(_experiment.name)(command_of(_experiment))


@contextmanager
def _cell_bar() -> Iterator[tuple[Begin, Report]]:
    """Draw a bar over all cells; yields what begins it and what moves it."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    from fedpsyau_experiments.paper.experiment_run import STEPS
    from fedpsyau_experiments.paper.plan import Cell
    from fedpsyau_model.worker_crew import Progress as Step

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task("cells", total=None)
        done = total = 0

        def begin(cells: Sequence[Cell], pending: Sequence[Cell]) -> None:
            nonlocal done, total
            total, done = len(cells), len(cells) - len(pending)
            bar.update(task, total=len(pending) * STEPS, description=f"{done} of {total} cells")

        def report(step: Step) -> None:
            nonlocal done
            done += step.done
            bar.update(task, advance=step.amount, description=f"{done} of {total} cells")

        yield begin, report


def _print_scores(outcome: Outcome) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table

    from fedpsyau_client.protocols.outputs import shown

    console = Console()
    made_up = ", synthetic data" if outcome.plan.synthetic else ""
    for block in outcome.blocks:
        table = Table(
            title=f"{outcome.plan.catalogued.title}, {block.block.name}{made_up}",
            title_justify="left",
            box=box.SIMPLE_HEAD,
            show_edge=False,
        )
        table.add_column("setting")
        for heading in ("UF1", "±", "UAR", "±"):
            table.add_column(heading, justify="right")
        for each in block.settings:
            values = (each.uf1.mean, each.uf1.sd, each.uar.mean, each.uar.sd)
            table.add_row(each.label, *map(shown, values))
        console.print(table)
