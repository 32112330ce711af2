"""``fedpsyau-server health``: ask a running server whether it is well; for container checks."""

from __future__ import annotations

from typing import Annotated

import typer

#: Seconds that the server is given to answer.
PATIENCE = 5.0


def health_command(
    address: Annotated[
        str | None,
        typer.Option(
            "--address", help="Its --metrics-address. [default: as set in the environment]"
        ),
    ] = None,
) -> None:
    """Ask a running server whether it is well: exit code 0 if so, 1 if not."""
    import httpx

    from fedpsyau_model.settings import FederationSettings, load_settings
    from fedpsyau_server.watching.paths import HEALTH_PATH

    settings = load_settings(FederationSettings, flags={"server.metrics-address": address})
    where = settings.server.metrics_address
    if not where:
        typer.echo("unwell: health is switched off, as the address is empty", err=True)
        raise typer.Exit(1)
    try:
        with httpx.Client(trust_env=False, timeout=PATIENCE) as client:
            answer = client.get(f"http://{where}{HEALTH_PATH}")
    except httpx.HTTPError as error:
        typer.echo(f"unwell: no server answers at {where} ({error})", err=True)
        raise typer.Exit(1) from None
    typer.echo(answer.text.strip())
    if not answer.is_success:
        raise typer.Exit(1)
