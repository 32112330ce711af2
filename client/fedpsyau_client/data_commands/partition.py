"""``fedpsyau data partition``: deal one data set to sites by subject."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fedpsyau_client.data_commands.store_table import print_stores
from fedpsyau_model.errors import SettingsError


def partition(
    store: Annotated[Path, typer.Argument(help="The feature store to divide.")],
    sites: Annotated[int, typer.Option(min=1, help="How many sites.")],
    by: Annotated[str, typer.Option(help="What stays together: subject, nothing else.")] = (
        "subject"
    ),
    seed: Annotated[int, typer.Option(min=0, help="The same seed gives the same division.")] = 0,
    out: Annotated[
        Path | None, typer.Option(help="Data folder for the sites. Default: where STORE lies.")
    ] = None,
    names: Annotated[
        str | None, typer.Option(help="The sites' names, separated by commas.")
    ] = None,
    prefix: Annotated[
        str | None,
        typer.Option(help="Sites are named PREFIX1, PREFIX2... Default: STORE's name and _c."),
    ] = None,
    summary: Annotated[
        Path | None,
        typer.Option(help="Also write the table to this file: .csv, .json or .md."),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace feature stores of these names.")
    ] = False,
) -> None:
    """Deal the subjects of one feature store to sites, in equal numbers up to one."""
    from fedpsyau_client.store.feature_store import open_feature_store
    from fedpsyau_client.store.partitioning import write_partitions
    from fedpsyau_client.store.store_summary import summarise, summary_text, write_summary

    _check_unit(by)
    if summary is not None:
        summary_text([], summary.suffix.removeprefix(".").lower())
    source = open_feature_store(store)
    folder = out or store.absolute().parent
    chosen = _site_names(sites, names, prefix or f"{source.manifest.partition}_c")
    write_partitions(source, chosen, seed, folder, overwrite)
    made = [summarise(open_feature_store(folder / name, verify=False)) for name in chosen]
    print_stores(
        made, f"{source.manifest.partition} dealt to {sites} sites by subject, in {folder}"
    )
    if summary is not None:
        write_summary(made, summary)


def _check_unit(by: str) -> None:
    if by != "subject":
        raise SettingsError(
            f"--by {by} is not possible: data is divided by subject only. With one subject at two "
            "sites, or on both sides of a split, a network that recognises faces looks as if it "
            "recognised emotions."
        )


def _site_names(sites: int, names: str | None, prefix: str) -> list[str]:
    if names is None:
        return [f"{prefix}{number}" for number in range(1, sites + 1)]
    chosen = [name.strip() for name in names.split(",")]
    if len(chosen) != sites:
        raise SettingsError(
            f"--names gives {len(chosen)} names ({', '.join(chosen)}) for {sites} sites. Give one "
            "for each, or a --prefix."
        )
    return chosen
