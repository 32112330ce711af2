"""``fedpsyau simulate``: a whole federation in one process, without a network."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fedpsyau_model.command_line import new_app

if TYPE_CHECKING:
    from fedpsyau_experiments.simulation import TrainingProgress
    from fedpsyau_model.settings import FederationSettings

app = new_app("Run a whole federation in one process, without a network.")


@app.command()
def simulate(
    out: Annotated[Path, typer.Option(help="Run folder to make, or to go on with.")],
    data: Annotated[Path, typer.Option(help="Folder with the feature stores of all sites.")] = Path(
        "data"
    ),
    config: Annotated[
        Path | None, typer.Option(help="Settings, TOML. [default: the defaults]")
    ] = None,
    rounds: Annotated[int | None, typer.Option(help="Communication rounds. [default: 20]")] = None,
    strategy: Annotated[
        str | None, typer.Option(help="How models are fused. [default: p-fedprox]")
    ] = None,
    sites: Annotated[
        str | None, typer.Option(help="Partitions, separated by commas. [default: seven]")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of every random number.")] = None,
    threads: Annotated[
        int, typer.Option(min=1, help="CPU threads; models depend on it to the last bit.")
    ] = 1,
    device: Annotated[str, typer.Option(help="Where the network runs: cpu or cuda:N.")] = "cpu",
    priors: Annotated[
        Path | None,
        typer.Option(
            help="Folder with SITE/priors.json of sites that use priors of their own, for "
            'network.priors = "site".'
        ),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with --out from its last whole round.")
    ] = False,
) -> None:
    """Run the federation of a settings file here: same rounds, same sites, same bits, no network.

    The run folder is the same as that of fedpsyau-server. It holds the sites' own files, too.
    """
    from rich.console import Console

    from fedpsyau_experiments.simulation import resume_simulation
    from fedpsyau_experiments.simulation import simulate as run
    from fedpsyau_model.errors import SettingsError
    from fedpsyau_model.settings import FederationSettings, load_settings
    from fedpsyau_server.report.terminal import print_sites_table
    from fedpsyau_server.run_folder import RunFolder

    flags = {
        "rounds.rounds": rounds,
        "strategy.name": strategy,
        "server.sites": sites,
        "seed": seed,
    }
    if resume:
        extra = {"--config": config, "--priors": priors}
        given = [key for key, value in (flags | extra).items() if value is not None]
        if given:
            raise SettingsError(
                f"--resume goes on with the settings in {out / 'config.json'}, and "
                f"{', '.join(given)} would change them. Leave it out, or start a new run."
            )
        folder = RunFolder.open(out)
        with _training_bar(folder.config.federation_settings(), folder.state.round) as progress:
            folder = resume_simulation(data, out, threads=threads, device=device, progress=progress)
    else:
        settings = load_settings(FederationSettings, config, flags)
        with _training_bar(settings, 0) as progress:
            folder = run(
                settings,
                data,
                out,
                threads=threads,
                device=device,
                priors_folder=priors,
                progress=progress,
            )
    print_sites_table(folder, Console())
    typer.echo(f"The run is complete: {folder.path}")
    typer.echo(f"See it with: fedpsyau report {folder.path}")


@contextmanager
def _training_bar(settings: FederationSettings, rounds_done: int) -> Iterator[TrainingProgress]:
    """Draw a bar over all trainings of all sites; yields what tells it of one."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    sites, rounds = len(settings.server.sites), settings.rounds.rounds
    columns = (TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("sites", total=sites * rounds, completed=sites * rounds_done)

        def tell(round_number: int, site: str) -> None:
            bar.update(task, advance=1, description=f"round {round_number} of {rounds}: {site}")

        yield tell
