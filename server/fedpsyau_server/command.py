"""``fedpsyau-server``: coordinate a federation from the first greeting to the last round."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Annotated

import typer

from fedpsyau_model.command_line import (
    new_app,
    print_notice,
    print_warning,
    run_command,
    version_option,
)
from fedpsyau_server.kits.kit_commands import provision_command, revoke_command

app = new_app("Coordinate a federation. Sites connect to one port; only weights and counts arrive.")


app.command("provision")(provision_command)
app.command("revoke")(revoke_command)


@app.callback(invoke_without_command=True)
def serve(
    context: typer.Context,
    config: Annotated[
        Path | None, typer.Option(help="Settings, TOML. [default: the defaults]")
    ] = None,
    sites: Annotated[
        str | None,
        typer.Option(help="Partitions that may take part, separated by commas. [default: seven]"),
    ] = None,
    rounds: Annotated[int | None, typer.Option(help="Communication rounds. [default: 20]")] = None,
    strategy: Annotated[
        str | None, typer.Option(help="How the sites train together. [default: p-fedprox]")
    ] = None,
    listen: Annotated[
        str | None, typer.Option(help="Address for the sites. [default: 127.0.0.1:9092]")
    ] = None,
    runs: Annotated[
        Path | None, typer.Option(help="Folder that holds the run folders. [default: runs]")
    ] = None,
    run: Annotated[
        str | None, typer.Option(help="Name of this run's folder. [default: date and strategy]")
    ] = None,
    resume: Annotated[
        Path | None, typer.Option(help="Go on with this run folder from its last whole round.")
    ] = None,
    kit: Annotated[
        Path | None,
        typer.Option(
            help="Folder from `fedpsyau-server provision`: TLS on, and only its sites may connect."
        ),
    ] = None,
    insecure: Annotated[
        bool,
        typer.Option("--insecure", help="Speak plaintext beyond this machine. Never for earnest."),
    ] = False,
    version: bool = version_option(),
) -> None:
    """Coordinate a federation: wait for the sites, run the rounds, keep everything in a folder."""
    if context.invoked_subcommand is not None:
        return
    from fedpsyau_model.settings import FederationSettings, load_settings
    from fedpsyau_server.serving import (
        new_run,
        protection,
        resumed_run,
        serve_run,
        with_kit_sites,
    )

    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s server %(message)s", datefmt="%H:%M:%S"
    )
    logging.getLogger("httpx").setLevel(logging.WARNING)
    if resume is not None:
        folder = resumed_run(resume)
    else:
        settings = load_settings(
            FederationSettings,
            config,
            {
                "server.sites": sites,
                "rounds.rounds": rounds,
                "strategy.name": strategy,
                "server.listen": listen,
                "server.runs": runs,
                "server.kit": kit,
                "server.insecure": insecure or None,
            },
        )
        settings = with_kit_sites(settings)
        folder = new_run(settings, run)
    settings = folder.config.federation_settings()
    tell = print_warning if settings.server.insecure else print_notice
    tell(protection(settings.server))
    serve_run(folder)
    typer.echo(f"The run is complete: {folder.path}")
    typer.echo(f"See it with: fedpsyau report {folder.path}")


def main() -> None:
    """Entry point of ``fedpsyau-server``."""
    run_command(app)


if __name__ == "__main__":
    main()
