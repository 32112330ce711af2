"""``fedpsyau pretrain``: teach the AU branch on clips with AU labels, before any emotion."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fedpsyau_client.data_commands.data_folder import DATA_VARIABLE, default_data_folder
from fedpsyau_model.command_line import new_app
from fedpsyau_model.errors import OutputExistsError

if TYPE_CHECKING:
    from fedpsyau_client.protocols.pretraining import Pretrained

app = new_app("Pre-train the AU branch on clips with AU labels, for training to start from.")


@app.command()
def pretrain(
    out: Annotated[Path, typer.Option(help="Checkpoint to write, such as aus.safetensors.")],
    data: Annotated[
        Path | None,
        typer.Option(help=f"Folder of the feature stores. Default: {DATA_VARIABLE}, else ./data."),
    ] = None,
    partition: Annotated[
        list[str] | None, typer.Option(help="A store to take; repeat it. Default: all.")
    ] = None,
    epochs: Annotated[int, typer.Option(min=1, help="Epochs.")] = 20,
    seed: Annotated[int | None, typer.Option(min=0, help="Default: that of the settings.")] = None,
    config: Annotated[
        Path | None, typer.Option(help="Settings, TOML; [network], [loss] and [training] count.")
    ] = None,
    threads: Annotated[
        int, typer.Option(min=1, help="CPU threads; another number may change the last bits.")
    ] = 1,
    device: Annotated[str, typer.Option(help="Where the network runs: cpu or cuda:N.")] = "cpu",
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace a checkpoint that is there.")
    ] = False,
) -> None:
    """Pre-train the AU branch by AU loss alone; emotions play no part.

    Start from the file with `fedpsyau train --start FILE`, or a federation with [server] start.
    """
    if os.path.lexists(out) and not overwrite:
        raise OutputExistsError(
            f"{out} is already there and was left as it is. Give another --out, or --overwrite."
        )
    import torch
    from rich.console import Console
    from rich.progress import Progress

    from fedpsyau_client.protocols.pretraining import pretrain as pretrain_branch
    from fedpsyau_model.settings import FederationSettings, load_settings

    torch.set_num_threads(threads)
    settings = load_settings(FederationSettings, config, {"seed": seed})
    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("epochs", total=epochs)
        found = pretrain_branch(
            data or default_data_folder(),
            partition or [],
            out,
            settings,
            epochs,
            lambda _epoch, _clips: bar.advance(task),
            device,
        )
    _print(found, out)


def _print(found: Pretrained, out: Path) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table

    from fedpsyau_client.protocols.outputs import shown
    from fedpsyau_model.action_units import AUS

    made_up = ", synthetic data" if found.synthetic else ""
    table = Table(
        title=f"{found.training} training and {found.validation} validation clips of "
        f"{found.subjects} subjects{made_up}",
        title_justify="left",
        box=box.SIMPLE_HEAD,
        show_edge=False,
    )
    for heading in ("AU", "validation F1", "clips with it"):
        table.add_column(heading, justify="right")
    occurring = found.counts[:, 0] + found.counts[:, 2]
    for au, f1, clips in zip(AUS, found.f1, occurring, strict=True):
        table.add_row(str(au), shown(float(f1)), str(clips))
    defined = [float(f1) for f1 in found.f1 if not math.isnan(f1)]
    table.add_row("mean", shown(sum(defined) / len(defined)) if defined else shown(math.nan), "")
    console = Console()
    console.print(table)
    console.print(
        f"Validation AU loss {found.loss[found.epoch - 1]:.4f} in epoch {found.epoch} of "
        f"{len(found.loss)}, which was kept; always saying the AUs' shares costs "
        f"{found.base_loss:.4f}."
    )
    typer.echo(out)
