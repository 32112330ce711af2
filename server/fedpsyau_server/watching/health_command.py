"""``fedpsyau-server health``: ask a running server whether it is well; for container checks."""

from __future__ import annotations

from typing import Annotated

import typer


def health_command(
    address: Annotated[
        str | None,
        typer.Option(
            "--address", help="Its --metrics-address. [default: as set in the environment]"
        ),
    ] = None,
) -> None:
    """Ask a running server whether it is well: exit code 0 if so, 1 if not."""
    from fedpsyau_model.settings import FederationSettings, load_settings
    from fedpsyau_server.watching.asking import ask

    settings = load_settings(FederationSettings, flags={"server.metrics-address": address})
    where = settings.server.metrics_address
    if not where:
        typer.echo("unwell: health is switched off, as the address is empty", err=True)
        raise typer.Exit(1)
    try:
        well, told = ask(where)
    except OSError as error:
        typer.echo(f"unwell: no server answers at {where} ({error})", err=True)
        raise typer.Exit(1) from None
    typer.echo(told)
    if not well:
        raise typer.Exit(1)
