"""``fedpsyau data``: make the synthetic twin, look at feature stores."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fedpsyau_model.command_line import new_app
from fedpsyau_model.errors import DataNotFoundError, SettingsError

if TYPE_CHECKING:
    from fedpsyau_client.manifest import Manifest

app = new_app("Prepare a site's data, make synthetic data, and look at feature stores.")

#: Folder of the feature stores where none is given.
DATA_VARIABLE = "FEDPSYAU_DATA"
DEFAULT_DATA = "data"


def default_data_folder() -> Path:
    """Folder named by FEDPSYAU_DATA, else ./data."""
    return Path(os.environ.get(DATA_VARIABLE) or DEFAULT_DATA)


@app.callback()
def data() -> None:
    """Prepare a site's data, make synthetic data, and look at feature stores."""


@app.command()
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
    _print_stores(manifests, f"Synthetic feature stores in {folder}")


@app.command()
def show(
    path: Annotated[Path, typer.Argument(help="A data folder, or one partition in it.")],
) -> None:
    """Show what feature stores hold: clips by class, subjects, and whether they are synthetic."""
    from fedpsyau_client.feature_store import list_partitions, open_feature_store
    from fedpsyau_client.manifest import MANIFEST_NAME

    single = (path / MANIFEST_NAME).is_file()
    folders = [path] if single else [path / name for name in list_partitions(path)]
    if not folders:
        raise DataNotFoundError(
            f"{path} holds no feature store. Make the synthetic twin there with "
            f"`fedpsyau data synth --out {path}`, or prepare your own clips."
        )
    stores = [open_feature_store(folder).manifest for folder in folders]
    _print_stores(stores, f"Feature stores in {path}")


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


def _print_stores(manifests: Iterable[Manifest], title: str) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table

    from fedpsyau_client.class_counts import three_class_counts
    from fedpsyau_model.emotions import CLASS_NAMES

    table = Table(
        title=title,
        title_justify="left",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        show_edge=False,
        padding=0,
    )
    table.add_column("partition", no_wrap=True)
    for column in ("clips", "subjects", *CLASS_NAMES["three"]):
        table.add_column(column, justify="right", no_wrap=True)
    table.add_column("data set", no_wrap=True)
    for manifest in manifests:
        counts = manifest.counts
        numbers = (counts.clips, counts.subjects, *three_class_counts(counts.emotions).values())
        known_by_name = not manifest.synthetic or manifest.dataset.startswith("synthetic")
        dataset = manifest.dataset if known_by_name else f"{manifest.dataset} (synthetic)"
        table.add_row(manifest.partition, *(str(number) for number in numbers), dataset)
    Console().print(table)
