"""``fedpsyau data check``: what a label table holds, and everything odd about it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fedpsyau_client.labels.class_rules import ClassRule
from fedpsyau_client.labels.datasets import DATASETS, DatasetName
from fedpsyau_model.errors import LabelOdditiesError

if TYPE_CHECKING:
    from fedpsyau_client.labels.clip_record import LabelTable
    from fedpsyau_client.labels.table_summary import TableSummary


def check(
    table: Annotated[
        Path,
        typer.Argument(help="A label table (.xlsx, .csv, .tsv); a folder for DISFA and CK+."),
    ],
    dataset: Annotated[DatasetName, typer.Option(help="Whose table it is; csv for your own.")],
    rule: Annotated[
        ClassRule, typer.Option(help="What counts as negative in the three classes.")
    ] = "authors",
    fps: Annotated[
        float | None,
        typer.Option(
            min=1, help="Frames per second, if not the data set's; csv and dfme have none."
        ),
    ] = None,
    clips: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Also look whether the clips are below this folder."),
    ] = None,
    everything: Annotated[
        bool, typer.Option("--all", help="Tell every oddity, not the first ones of each kind.")
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print JSON: all counts, and all oddities with rows.")
    ] = False,
    strict: Annotated[
        bool,
        typer.Option("--strict", help="End with exit code 17 if there is any warning."),
    ] = False,
) -> None:
    """Report what a label table holds: clips by class, subject and AU, and every oddity."""
    from fedpsyau_client.labels.readers import read_label_table
    from fedpsyau_client.labels.table_summary import oddities_by_kind, summarise_table

    labels = read_label_table(table, dataset, fps)
    if clips is not None:
        labels = _with_clips_checked(labels, clips)
    summary = summarise_table(labels, rule)
    if as_json:
        typer.echo(json.dumps(_document(labels, summary, rule), indent=2))
    else:
        from fedpsyau_client.data_commands.label_report import print_label_report

        title = f"{DATASETS[dataset].title}: {table}, classes by the rule {rule!r}"
        grouped = oddities_by_kind(labels.oddities)
        print_label_report(title, summary, grouped, everything=everything)
    warnings = sum(oddity.severity == "warning" for oddity in labels.oddities)
    if strict and warnings:
        raise LabelOdditiesError(
            f"{table} has {warnings} warnings, and --strict allows none. Correct the rows that the "
            "report names, or leave --strict out."
        )


def _with_clips_checked(labels: LabelTable, clips: Path) -> LabelTable:
    from dataclasses import replace

    from fedpsyau_client.preparation.clip_check import check_clips

    return replace(labels, oddities=labels.oddities + check_clips(clips, labels.clips))


def _document(labels: LabelTable, summary: TableSummary, rule: ClassRule) -> dict[str, Any]:
    from dataclasses import asdict

    return {
        "dataset": labels.dataset,
        "frame-rate": labels.frame_rate,
        "rule": rule,
        "clips": summary.clips,
        "videos": summary.videos,
        "classes": summary.classes,
        "emotions": summary.emotions,
        "subjects": summary.subjects,
        "clips-coded-for-aus": summary.coded,
        "coded-aus": summary.coded_aus,
        "aus": {
            f"AU{au}": {key.replace("_", "-"): value for key, value in asdict(count).items()}
            for au, count in summary.aus.items()
        },
        "oddities": [
            {"kind": each.kind, "severity": each.severity, "row": each.row, "message": each.message}
            for each in labels.oddities
        ],
    }
