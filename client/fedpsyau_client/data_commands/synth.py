"""``fedpsyau data synth``: write the synthetic twin."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

import typer

from fedpsyau_client.data_commands.data_folder import DATA_VARIABLE, default_data_folder
from fedpsyau_client.data_commands.store_table import print_stores
from fedpsyau_model.errors import SettingsError


def synth(
    out: Annotated[
        Path | None,
        typer.Option(help=f"Data folder to write to. Default: {DATA_VARIABLE}, else ./data."),
    ] = None,
    scale: Annotated[
        float, typer.Option(help="Share of the paper's clips; 0.1 makes about 800.")
    ] = 1.0,
    seed: Annotated[int, typer.Option(min=0, help="The same seed gives the same bits.")] = 0,
    labels: Annotated[
        list[str] | None,
        typer.Option(
            metavar="casme3=FILE",
            help="Take subjects, AUs and emotions of the casme3 partitions from the label table "
            "of CAS(ME)3 part A (.xlsx).",
        ),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace synthetic partitions that are there.")
    ] = False,
) -> None:
    """Write the synthetic twin: the paper's seven partitions, made up, as feature stores."""
    from rich.console import Console
    from rich.progress import Progress

    from fedpsyau_client.feature_store import open_feature_store
    from fedpsyau_client.store_summary import summarise
    from fedpsyau_client.synthetic.twin import Partition, write_twin

    folder = out or default_data_folder()
    tables = _label_tables(labels or [])
    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("synthetic clips", total=None)

        def begin(partitions: Iterable[Partition]) -> None:
            bar.update(task, total=sum(partition.clips for partition in partitions))

        manifests = write_twin(
            folder,
            scale=scale,
            seed=seed,
            casme3_labels=tables.get("casme3"),
            overwrite=overwrite,
            begin=begin,
            progress=lambda clips: bar.advance(task, clips),
        )
    stores = [
        open_feature_store(folder / manifest.partition, verify=False) for manifest in manifests
    ]
    print_stores(map(summarise, stores), f"Synthetic feature stores in {folder}")


def _label_tables(texts: list[str]) -> dict[str, Path]:
    """Read options ``casme3=FILE``. Raises SettingsError for anything else."""
    tables: dict[str, Path] = {}
    for text in texts:
        dataset, separator, file = text.partition("=")
        if dataset != "casme3" or not separator or not file:
            raise SettingsError(
                f"--labels {text} cannot be read. Write --labels casme3=FILE, with the label "
                "table of CAS(ME)3 part A; tables of other data sets are not used."
            )
        tables[dataset] = Path(file)
    return tables
