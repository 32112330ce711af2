"""``fedpsyau data prepare``: from clips and a label table to a feature store."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from fedpsyau_client.data_commands.data_folder import DATA_VARIABLE, default_data_folder
from fedpsyau_client.data_commands.store_table import print_stores

if TYPE_CHECKING:
    from fedpsyau_client.preparation.preparation import Preparation, PreparationReport

#: Failures that are listed in the terminal; all of them stand in the working folder.
_LISTED = 20


def prepare(
    dataset: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="casme3, casme2, samm, smic, dfme, mmew, disfa, ckplus, or csv for a plain table "
            "of your own clips; synthetic-frames for frames of the twin.",
        ),
    ],
    labels: Annotated[
        Path, typer.Option(metavar="TABLE", help="Label table, as its authors publish it.")
    ],
    clips: Annotated[
        Path, typer.Option(metavar="DIR", help="Folder under which the videos or images are.")
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help=f"Data folder to write to. Default: {DATA_VARIABLE}, else ./data."
        ),
    ] = None,
    partition: Annotated[
        str | None, typer.Option(metavar="NAME", help="Name of the store. Default: the data set's.")
    ] = None,
    workers: Annotated[
        int, typer.Option(min=1, help="Processes, each with one thread and about 250 MB.")
    ] = 1,
    flow: Annotated[
        Literal["tvl1", "dis", "farneback"],
        typer.Option(help="Optical flow: the paper's tvl1, or a faster one."),
    ] = "tvl1",
    rule: Annotated[
        Literal["authors", "megc2019"], typer.Option(help="Which emotions count as negative.")
    ] = "authors",
    missing_apex: Annotated[
        Literal["skip", "middle"],
        typer.Option(help="Clips without an apex: leave out, or take the frame half way."),
    ] = "skip",
    first_frame: Annotated[
        int, typer.Option(min=0, max=1, help="Number of a video's first frame.")
    ] = 1,
    landmarks: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Precomputed landmarks (.csv, .npz) instead of a model."),
    ] = None,
    max_failures: Annotated[
        float, typer.Option(min=0, max=1, help="Stop if more than this share of the clips fails.")
    ] = 0.2,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace a store of this name.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print a summary as JSON.")] = False,
) -> None:
    """Turn clips into a feature store. Stopped, it goes on where it was when called again."""
    from fedpsyau_client.data_commands.prepare_progress import clip_progress
    from fedpsyau_client.preparation.preparation import Preparation
    from fedpsyau_client.preparation.preparation import prepare as run

    plan = Preparation(
        dataset=dataset,
        labels=labels,
        clips=clips,
        out=out or default_data_folder(),
        partition=partition or dataset,
        flow=flow,
        rule=rule,
        missing_apex=missing_apex,
        first_frame=first_frame,
        landmarks=landmarks,
        max_failures=max_failures,
        workers=workers,
        overwrite=overwrite,
    )
    with clip_progress() as (begin, progress):
        report = run(plan, begin=begin, progress=progress)
    if as_json:
        typer.echo(json.dumps(_summary(report), indent=2))
    else:
        _print_report(plan, report)


def _summary(report: PreparationReport) -> dict[str, object]:
    """Counts only: it names no clip, so that it may be kept in a log."""
    from fedpsyau_client.preparation.failures import count_reasons

    return {
        "partition": report.manifest.partition,
        "rows": report.total,
        "clips": report.manifest.counts.clips,
        "subjects": report.manifest.counts.subjects,
        "done-before": report.resumed,
        "failed": count_reasons(report.failures),
        "data-hash": report.manifest.data_hash,
    }


def _print_report(plan: Preparation, report: PreparationReport) -> None:
    from rich.console import Console
    from rich.table import Table

    from fedpsyau_client.preparation.failures import FAILURES_CSV
    from fedpsyau_client.store.feature_store import open_feature_store
    from fedpsyau_client.store.store_summary import summarise

    store = open_feature_store(plan.store, verify=False)
    print_stores([summarise(store)], "Prepared")
    for note in report.notes[:_LISTED]:
        typer.echo(f"note: {note}")
    if not report.failures:
        return
    table = Table(title="Clips that could not be prepared", title_justify="left", box=None)
    for column in ("row", "subject", "file", "reason"):
        table.add_column(column, no_wrap=True)
    table.add_column("what to know", overflow="fold")
    for failure in report.failures[:_LISTED]:
        cells = failure.cells
        names = ("row", "subject", "filename", "reason", "message")
        table.add_row(*(str(cells[name]) for name in names))
    Console().print(table)
    typer.echo(
        f"{len(report.failures)} of {report.total} clips failed; all of them stand in "
        f"{report.work / FAILURES_CSV}, which names clips: keep it at the site."
    )
