"""``fedpsyau-server provision`` and ``revoke``: who may take part, and by which keys."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated

import typer

from fedpsyau_model.errors import SettingsError

__all__ = ["provision_command", "revoke_command"]


def provision_command(
    out: Annotated[Path, typer.Option(help="The coordinator's folder, made or changed.")],
    sites: Annotated[
        str | None, typer.Option(help="Sites of a new federation, separated by commas.")
    ] = None,
    host: Annotated[
        str | None,
        typer.Option(
            help="Names and addresses that sites reach the server by, separated by commas; the "
            "first one goes into the kits."
        ),
    ] = None,
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port of the server.")] = 9092,
    add_site: Annotated[
        str | None, typer.Option(help="Make kits for these further sites; all else stays.")
    ] = None,
    rotate: Annotated[
        str | None, typer.Option(help="Give these sites new keys; their old ones are void at once.")
    ] = None,
    renew_server: Annotated[
        bool,
        typer.Option("--renew-server", help="Issue a new server certificate; kits stay good."),
    ] = False,
    server_days: Annotated[
        float, typer.Option(help="Lifetime of the server's certificate.")
    ] = 398.0,
    authority_days: Annotated[
        float, typer.Option(help="Lifetime of the authority's certificate.")
    ] = 3650.0,
) -> None:
    """Make an authority, the server's certificate and a kit for every site, or change them.

    A new federation takes --sites and --host. What is there already is changed by one of
    --add-site, --rotate and --renew-server.
    """
    from fedpsyau_server.kits import provisioning

    for name, days in (("--server-days", server_days), ("--authority-days", authority_days)):
        if not math.isfinite(days) or not 0 < days <= 36525:
            raise SettingsError(f"{name} {days} is not allowed: more than 0 and at most 36525.")
    changes = [add_site is not None, rotate is not None, renew_server, sites is not None]
    if sum(changes) != 1:
        raise SettingsError(
            "Give exactly one of --sites (a new federation), --add-site, --rotate and "
            "--renew-server."
        )
    if renew_server:
        provisioning.renew_server(out, _names(host), server_days)
        typer.echo(f"{out / 'server.crt'} is new. Restart the server to use it.")
        return
    if add_site is not None:
        archives = provisioning.add_sites(out, _names(add_site))
    elif rotate is not None:
        archives = provisioning.rotate(out, _names(rotate))
    else:
        lifetimes = provisioning.Lifetimes(authority_days, server_days)
        archives = provisioning.provision(out, _names(sites), _names(host), port, lifetimes)
        typer.echo(f"Keep {out} to yourself. Start with: fedpsyau-server --kit {out} --listen ...")
    for archive in archives:
        typer.echo(f"{archive}")
    typer.echo("Each archive holds a private key: hand it over by a safe way, then delete it here.")


def revoke_command(
    site: Annotated[str, typer.Argument(help="The site whose key shall be void.")],
    kit: Annotated[Path, typer.Option(help="The coordinator's folder, as for the server.")],
) -> None:
    """Make a site's key void; a running server refuses its next message."""
    from fedpsyau_server.kits import provisioning

    provisioning.revoke(kit, site)
    typer.echo(
        f"The key of {site} is void. A running server refuses it from now on. A new kit would "
        f"be: fedpsyau-server provision --out {kit} --rotate {site}"
    )


def _names(text: str | None) -> list[str]:
    return [name.strip() for name in (text or "").split(",") if name.strip()]
