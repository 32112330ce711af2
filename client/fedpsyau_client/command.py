"""``fedpsyau-client``: join a federation as one site, train, keep the personal model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fedpsyau_client.connection.preflight_command import preflight_command
from fedpsyau_client.oversight.audit_command import audit_command
from fedpsyau_client.oversight.policy_command import policy_app
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

app = new_app(
    "Join a federation as one site. Nothing but weights and counts leaves this machine.",
    acts_alone=True,
)


app.command("preflight")(preflight_command)
app.command("audit")(audit_command)
app.add_typer(policy_app, name="policy")


@app.callback()
def join(
    context: typer.Context,
    kit: Annotated[
        Path | None,
        typer.Option(
            help="This site's kit from the coordinator, a folder or the archive as it came.",
            envvar="FEDPSYAU_KIT",
            show_envvar=False,
        ),
    ] = None,
    partition: Annotated[
        str | None,
        typer.Option(
            help="Name of this site, and of its folder below --data. [default: the kit's]"
        ),
    ] = None,
    data: Annotated[
        Path | None, typer.Option(help="Folder with the prepared partitions. [default: data]")
    ] = None,
    superlink: Annotated[
        str | None,
        typer.Option(help="The server, HOST:PORT. [default: the kit's, or 127.0.0.1:9092]"),
    ] = None,
    state: Annotated[
        Path | None, typer.Option(help="Folder for this site's own models. [default: state]")
    ] = None,
    priors: Annotated[
        Path | None,
        typer.Option(
            help="This site's own priors.json, for federations that let sites use theirs. "
            "[default: the federation's]"
        ),
    ] = None,
    device: Annotated[
        str | None, typer.Option(help="Where the network runs: cpu or cuda:N. [default: cpu]")
    ] = None,
    threads: Annotated[
        int | None, typer.Option(help="CPU threads of the network. [default: as torch decides]")
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option(help="The federation.toml that this site has agreed to; another is refused."),
    ] = None,
    policy: Annotated[
        Path | None,
        typer.Option(
            help="The policy.toml that says what the server may ask for. "
            "[default: the one in the kit's folder, if there is one]"
        ),
    ] = None,
    connect_seconds: Annotated[
        float | None,
        typer.Option(help="How long to try a server that was never there. [default: 120]"),
    ] = None,
    insecure: Annotated[
        bool,
        typer.Option("--insecure", help="Speak plaintext beyond this machine. Never for earnest."),
    ] = False,
    log_format: Annotated[LogFormat, log_format_option()] = "text",
    version: bool = version_option(),
) -> None:
    """Join a federation as one site, and train in it until the server says that it is over."""
    if context.invoked_subcommand is not None:
        return
    from contextlib import ExitStack

    from fedpsyau_client.connection.site_kit import opened_kit
    from fedpsyau_client.connection.taking_part import protection, take_part
    from fedpsyau_client.settings import ClientSettings
    from fedpsyau_model.settings import FederationSettings, load_settings

    start_logging("client", log_format, partition or "")
    hide_paths([kit, data, state, priors, config, Path.cwd(), Path.home()])
    with ExitStack() as stack:
        opened = stack.enter_context(opened_kit(kit)) if kit else None
        settings = load_settings(
            ClientSettings,
            opened.settings if opened else None,
            {
                "partition": partition,
                "data": data,
                "superlink": superlink,
                "state": state,
                "priors": priors,
                "device": device,
                "threads": threads,
                "connect-seconds": connect_seconds,
                "policy": policy,
                "kit": kit,
                "insecure": insecure or None,
            },
        )
        agreed = load_settings(FederationSettings, config) if config else None
        start_logging("client", log_format, settings.partition)
        own = (settings.data, settings.state, settings.kit, settings.priors, config)
        hide_paths([*own, Path.cwd(), Path.home()])
        tell = print_warning if settings.insecure else print_notice
        tell(protection(settings, opened))
        print_result(take_part(settings, agreed, opened))


def main() -> None:
    """Entry point of ``fedpsyau-client``."""
    run_command(app)


if __name__ == "__main__":
    main()
