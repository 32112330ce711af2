"""``fedpsyau-client policy``: write a policy, and read one."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fedpsyau_model.command_line import new_app

__all__ = ["policy_app"]

policy_app = new_app("What this site lets a server ask for: write a policy.toml, or read one.")


@policy_app.callback()
def _policy() -> None:
    """Keep `init` and `show` commands of a group."""


@policy_app.command("init")
def init(
    config: Annotated[
        Path | None,
        typer.Option(help="The federation.toml that was agreed on, as the coordinator has it."),
    ] = None,
    proposed: Annotated[
        bool,
        typer.Option("--proposed", help="Take what the server proposed when it greeted this site."),
    ] = False,
    closed: Annotated[
        bool,
        typer.Option("--closed", help="Allow nothing: the client hears a proposal and refuses it."),
    ] = False,
    partition: Annotated[
        str | None, typer.Option(help="Name of this site, for --proposed. [default: the kit's]")
    ] = None,
    state: Annotated[
        Path | None, typer.Option(help="The client's --state, for --proposed. [default: state]")
    ] = None,
    kit: Annotated[
        Path | None,
        typer.Option(help="This site's kit, for --proposed.", envvar="FEDPSYAU_KIT"),
    ] = None,
    min_sites: Annotated[
        int | None,
        typer.Option(min=1, help="Fewest sites of a round. [default: the run's min-sites]"),
    ] = None,
    max_rounds: Annotated[
        int | None, typer.Option(min=1, help="Most rounds of a run. [default: the run's rounds]")
    ] = None,
    metrics: Annotated[
        str | None,
        typer.Option(
            help="What may leave beside the model and the numbers of clips, separated by commas: "
            "confusion, losses, seconds, fisher-trace, theta; 'none'. [default: all]"
        ),
    ] = None,
    out: Annotated[Path, typer.Option(help="File to write.")] = Path("policy.toml"),
) -> None:
    """Write a policy that pins one set of settings, from its file or from the server's proposal."""
    from fedpsyau_client.oversight.policy import ALL_METRICS
    from fedpsyau_client.oversight.policy_file import (
        CLOSED,
        agreed_policy,
        policy_text,
        read_proposal,
    )
    from fedpsyau_model.atomic_files import write_atomically
    from fedpsyau_model.errors import OutputExistsError, OutputWriteError, SettingsError
    from fedpsyau_model.settings import FederationSettings, load_settings

    if (config is not None) + proposed + closed != 1:
        raise SettingsError(
            "Say what the policy is to allow: --config FILE, --proposed or --closed, one of them."
        )
    if out.exists():
        raise OutputExistsError(
            f"{out} is there already. Give another --out, or move it away to agree to new settings."
        )
    policy = CLOSED
    if config or proposed:
        if config:
            settings = load_settings(FederationSettings, config, environment={})
            agreement, rounds = settings.agreement(), settings.rounds.rounds
            fewest = min(settings.rounds.min_sites, len(settings.server.sites))
        else:
            agreement, rounds, fewest = read_proposal(_proposal(partition, state, kit))
        policy = agreed_policy(
            agreement,
            max_rounds or rounds,
            min_sites or fewest,
            _metrics(metrics) if metrics else ALL_METRICS,
        )
    try:
        write_atomically(out, policy_text(policy))
    except OSError as error:
        raise OutputWriteError(f"{out} cannot be written: {error.strerror}.") from None
    typer.echo(f"{out}: read it, then start the client with --policy {out}")


@policy_app.command("show")
def show(file: Annotated[Path, typer.Argument(help="A policy.toml.")]) -> None:
    """Check a policy and print what is in force, with what it leaves open."""
    from fedpsyau_client.oversight.policy import Policy, read_policy
    from fedpsyau_model.settings import kebab_case

    policy = read_policy(file)
    values = policy.as_dict()
    for name, field in Policy.model_fields.items():
        if name == "agreement":
            continue
        value = values[kebab_case(name)]
        shown = ", ".join(value) or "none" if isinstance(value, list) else value
        typer.echo(f"{kebab_case(name):16} {'not restricted' if value is None else shown}")
        typer.secho(f"{'':16} {field.description}", dim=True)


def _metrics(text: str) -> list[str]:
    return [] if text == "none" else [each.strip() for each in text.split(",")]


def _proposal(partition: str | None, state: Path | None, kit: Path | None) -> Path:
    from fedpsyau_client.local_training.site_state import proposal_file
    from fedpsyau_client.oversight.own_state import state_folder

    return proposal_file(state_folder(partition, state, kit))
