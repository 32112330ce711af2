"""``fedpsyau-client preflight``: check everything before taking part."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Annotated

import typer

__all__ = ["preflight_command"]


def preflight_command(
    kit: Annotated[
        Path | None,
        typer.Option(
            help="This site's kit, a folder or an archive.",
            envvar="FEDPSYAU_KIT",
            show_envvar=False,
        ),
    ] = None,
    partition: Annotated[
        str | None, typer.Option(help="Name of this site. [default: the kit's]")
    ] = None,
    data: Annotated[
        Path | None, typer.Option(help="Folder with the prepared partitions. [default: data]")
    ] = None,
    superlink: Annotated[
        str | None, typer.Option(help="The server, HOST:PORT. [default: the kit's]")
    ] = None,
    state: Annotated[
        Path | None, typer.Option(help="Folder for this site's own models. [default: state]")
    ] = None,
    policy: Annotated[
        Path | None,
        typer.Option(help="The policy.toml to check. [default: the one in the kit's folder]"),
    ] = None,
    device: Annotated[
        str | None, typer.Option(help="Where the network runs: cpu or cuda:N. [default: cpu]")
    ] = None,
    greet: Annotated[
        bool,
        typer.Option(
            "--greet",
            help="Hear the server's version and proposal, too; it notes that this site asked.",
        ),
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
) -> None:
    """Check everything before taking part: each line ok, or what to do.

    Nothing is changed, unless --greet asks the server, which goes into both sides' logs.

    Ends with 0 if all is well, else with the code of the first check that is not.
    """
    from fedpsyau_client.connection.preflight import preflight

    flags = {
        "partition": partition,
        "data": data,
        "superlink": superlink,
        "state": state,
        "device": device,
        "policy": policy,
        "kit": kit,
    }
    first_code = 0
    for finding in preflight(kit, flags, greet=greet):
        first_code = first_code or finding.exit_code
        if as_json:
            typer.echo(json.dumps(dataclasses.asdict(finding)))
            continue
        word, colour = {
            True: ("ok", "green"),
            False: ("NOT OK", "red"),
            None: ("skipped", "yellow"),
        }[finding.ok]
        typer.secho(f"{word:8}", fg=colour, nl=False)
        typer.echo(f"{finding.check}: {finding.text}")
    raise typer.Exit(first_code)
