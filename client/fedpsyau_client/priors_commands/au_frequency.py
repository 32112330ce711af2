"""``fedpsyau priors au-frequency``: how often AUs occur, and which twelve to learn."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from fedpsyau_priors import AuFrequency, AuSelection


def au_frequency(
    sources: Annotated[
        list[str],
        typer.Option(
            "--from",
            metavar="SOURCE",
            help="DATASET=FILE for a label table, or the folder of a feature store. Repeatable.",
        ),
    ],
    out: Annotated[Path, typer.Option(help="Folder to write to.")],
    count: Annotated[int, typer.Option(min=1, help="How many AUs to keep.")] = 12,
    min_share: Annotated[
        float,
        typer.Option(
            min=0, max=1, help="Share of clips below which an AU is rare in another data set."
        ),
    ] = 0.005,
    reference: Annotated[
        str | None,
        typer.Option(
            help="Data set whose frequencies rank the AUs. Default: that with most clips."
        ),
    ] = None,
    replace: Annotated[bool, typer.Option("--replace", help="Replace an earlier result.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the results as JSON.")] = False,
) -> None:
    """Count how often every action unit occurs, and choose those worth learning.

    Of the largest data set's AUs, those that are rare in another one are dropped, and of the rest
    the commonest are kept. Says of every AU what became of it and why.
    """
    from fedpsyau_client.own_priors.au_sources import frequencies, read_au_sources
    from fedpsyau_client.priors_commands.result_folder import write_results
    from fedpsyau_model.errors import SettingsError
    from fedpsyau_model.file_content import png_bytes
    from fedpsyau_priors import PriorError, select_aus
    from fedpsyau_priors.plot_frequency import plot_au_frequency

    counted = frequencies(read_au_sources(sources))
    try:
        selection = select_aus(counted, count, min_share, reference)
    except PriorError as error:
        raise SettingsError(f"--reference {reference}: {error}") from None
    results = _results(selection, counted)
    files: dict[str, str | bytes] = {
        "au-frequency.json": json.dumps(results, indent=2) + "\n",
        "au-frequency.csv": _csv(selection, counted),
        "au-frequency.png": png_bytes(plot_au_frequency(selection)),
    }
    write_results(out, files, replace)
    if as_json:
        typer.echo(json.dumps(results, indent=2))
        return
    _print(selection)
    typer.echo(f"Wrote {', '.join(files)} into {out}")


def _results(selection: AuSelection, counted: tuple[AuFrequency, ...]) -> dict[str, Any]:
    from fedpsyau_model.action_units import AUS

    return {
        "reference": selection.reference,
        "count": selection.count,
        "min_share": selection.min_share,
        "clips": {each.dataset: each.clips for each in counted},
        "kept": list(selection.kept),
        "kept_beyond_the_network": sorted(set(selection.kept) - set(AUS)),
        "not_kept_of_the_network": sorted(set(AUS) - set(selection.kept)),
        "aus": [
            {
                "au": verdict.au,
                "rank": verdict.rank,
                "verdict": verdict.verdict,
                "reason": verdict.reason,
                "clips": {each.dataset: each.counts.get(verdict.au, 0) for each in counted},
                "shares": dict(verdict.shares),
            }
            for verdict in selection.verdicts
        ],
    }


def _csv(selection: AuSelection, counted: tuple[AuFrequency, ...]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    names = [each.dataset for each in counted if each.clips]
    writer.writerow(["au", "rank", "verdict", *(f"share of {name}" for name in names), "reason"])
    for verdict in selection.verdicts:
        shares = [verdict.shares[name] for name in names]
        cells = ["" if share is None else f"{share:.6f}" for share in shares]
        writer.writerow([verdict.au, verdict.rank, verdict.verdict, *cells, verdict.reason])
    return text.getvalue()


def _print(selection: AuSelection) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table

    from fedpsyau_model.action_units import AUS

    console = Console()
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    table.add_column("AU", justify="right")
    for name in selection.verdicts[0].shares if selection.verdicts else ():
        table.add_column(name, justify="right")
    table.add_column("verdict")
    table.add_column("why")
    styles = {"kept": "bold", "rare": "yellow"}
    for verdict in selection.verdicts:
        shares = ["?" if share is None else f"{share:.2%}" for share in verdict.shares.values()]
        table.add_row(
            *(str(verdict.au), *shares, verdict.verdict, verdict.reason),
            style=styles.get(verdict.verdict, "dim"),
        )
    console.print(table)
    console.print(f"Kept: {', '.join(map(str, selection.kept))}", highlight=False)
    if set(selection.kept) != set(AUS):
        more = ", ".join(map(str, sorted(set(selection.kept) - set(AUS)))) or "none"
        less = ", ".join(map(str, sorted(set(AUS) - set(selection.kept)))) or "none"
        console.print(
            f"The network learns {', '.join(map(str, AUS))}. Kept here and not there: {more}; "
            f"there and not here: {less}. This choice is for you to read: the network's AUs are "
            "fixed.",
            style="yellow",
            highlight=False,
        )
