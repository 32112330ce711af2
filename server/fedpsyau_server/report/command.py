"""``fedpsyau report``: what a run has come to, site by site and round by round."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fedpsyau_model.command_line import new_app

app = new_app("Report on a run: a table of its sites, and plots.")


@app.command()
def report(
    run: Annotated[Path, typer.Argument(help="The run folder, such as runs/NAME.")],
    against: Annotated[
        Path | None,
        typer.Option(
            help="Another run of the same sites, such as one with strategy local, to compare with."
        ),
    ] = None,
    rounds: Annotated[bool, typer.Option("--rounds", help="Print every round, too.")] = False,
) -> None:
    """Print a run's scores site by site, and write them, with a page to read, into RUN/report.

    RUN is a run folder, such as runs/NAME. The run may still be going on.
    """
    from rich.console import Console

    from fedpsyau_model.errors import RunFolderError
    from fedpsyau_server.report.files import write_report
    from fedpsyau_server.report.terminal import print_rounds_table, print_sites_table
    from fedpsyau_server.run_folder import RunFolder

    if (page := run / "summary.html").exists():
        raise RunFolderError(
            f"{run} is no federation's run but one of `fedpsyau train`, which has written its "
            f"report already: {page}."
        )
    folder = RunFolder.open(run)
    files = write_report(folder, RunFolder.open(against) if against else None)
    console = Console()
    if rounds:
        print_rounds_table(folder, console)
    print_sites_table(folder, console)
    for path in files.paths():
        typer.echo(path)
