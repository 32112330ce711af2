"""``fedpsyau-server``: coordinate a federation from the first greeting to the last round."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fedpsyau_model.command_line import (
    log_format_option,
    new_app,
    print_notice,
    print_result,
    print_warning,
    run_command,
    version_option,
)
from fedpsyau_model.log_lines import LogFormat, hide_paths, start_logging
from fedpsyau_server.kits.kit_commands import provision_command, revoke_command
from fedpsyau_server.watching.health_command import health_command

app = new_app(
    "Coordinate a federation. Sites connect to one port; only weights and counts arrive.",
    acts_alone=True,
)


app.command("provision")(provision_command)
app.command("revoke")(revoke_command)
app.command("health")(health_command)


@app.callback()
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
    metrics_address: Annotated[
        str | None,
        typer.Option(
            help='Where health and metrics are, "" for nowhere. [default: 127.0.0.1:9190]'
        ),
    ] = None,
    log_format: Annotated[LogFormat, log_format_option()] = "text",
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

    start_logging("server", log_format)
    hide_paths([config, runs, resume, kit, Path.cwd(), Path.home()])
    flags = {
        "server.sites": sites,
        "rounds.rounds": rounds,
        "strategy.name": strategy,
        "server.listen": listen,
        "server.runs": runs,
        "server.kit": kit,
        "server.insecure": insecure or None,
        "server.metrics-address": metrics_address,
    }
    if resume is not None:
        folder = resumed_run(resume, flags | {"--config": config, "--run": run})
    else:
        settings = with_kit_sites(load_settings(FederationSettings, config, flags))
        hide_paths([settings.server.runs, settings.server.kit])
        folder = new_run(settings, run)
    settings = folder.config.federation_settings()
    tell = print_warning if settings.server.insecure else print_notice
    tell(protection(settings.server))
    serve_run(folder)
    print_result(f"The run is complete: {folder.path}")
    print_result(f"See it with: fedpsyau report {folder.path}")


def main() -> None:
    """Entry point of ``fedpsyau-server``."""
    run_command(app)


if __name__ == "__main__":
    main()
