"""``fedpsyau data import-flow``: feature stores from optical flow that was computed elsewhere."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fedpsyau_client.data_commands.store_table import print_stores
from fedpsyau_client.labels.class_rules import ClassRule
from fedpsyau_model.command_line import print_notice
from fedpsyau_model.errors import SettingsError

if TYPE_CHECKING:
    from fedpsyau_client.flow_import.flow_source import FlowSource
    from fedpsyau_client.flow_import.importing import ImportReport


def import_flow(
    source: Annotated[
        Path, typer.Argument(help="A folder of flow images (.png, .jpg, .bmp), or an .npz archive.")
    ],
    out: Annotated[Path, typer.Option(help="Data folder for the feature stores.")],
    labels: Annotated[
        Path | None,
        typer.Option(help="Label table. An archive may bring label and subject itself instead."),
    ] = None,
    dataset: Annotated[
        str | None,
        typer.Option(
            help="Whose label table it is, as in `fedpsyau data check`. Default: csv, a plain "
            "table. Without --labels: any name for the data. Default: imported."
        ),
    ] = None,
    channels: Annotated[
        str,
        typer.Option(
            help="What the three channels are, red first: u, v, strain in some order; other for a "
            "third that is not strain; -u or -v where it is stored reversed."
        ),
    ] = "u,v,strain",
    encoding: Annotated[
        str,
        typer.Option(
            help="What 8-bit levels mean: minmax (unknown), centred:SCALE (128 is none, SCALE "
            "pixels a level), or centred:SCALE:STRAIN."
        ),
    ] = "minmax",
    flow_size: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Side in pixels of the face on which the flow was computed, if it was resized "
            "afterwards and vectors were not rescaled. Default: the image's own.",
        ),
    ] = None,
    recompute_strain: Annotated[
        bool,
        typer.Option(
            "--recompute-strain", help="Compute strain from u and v; ignore a stored one."
        ),
    ] = False,
    class_names: Annotated[
        str | None,
        typer.Option(
            help="What label numbers of an archive mean: names of the classes from 0 on, separated "
            "by commas, or three or seven for this program's order."
        ),
    ] = None,
    rule: Annotated[
        ClassRule, typer.Option(help="What counts as negative in the three classes.")
    ] = "authors",
    partition: Annotated[
        str | None,
        typer.Option(help="Put all clips into one store of this name, whatever their sites."),
    ] = None,
    max_failures: Annotated[
        float, typer.Option(min=0, max=1, help="Share of clips that may be without usable flow.")
    ] = 0.2,
    synthetic: Annotated[
        bool, typer.Option("--synthetic", help="Mark the stores as made up, not recorded.")
    ] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace feature stores of these names.")
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print what was made and what failed as JSON.")
    ] = False,
) -> None:
    """Make feature stores, one per site, from onset-apex flow images or an archive of flow."""
    from rich.console import Console
    from rich.progress import Progress

    from fedpsyau_client.flow_import import importing
    from fedpsyau_client.flow_import.flow_encoding import Encoding, parse_channels, parse_encoding
    from fedpsyau_client.store.feature_store import open_feature_store
    from fedpsyau_client.store.store_summary import summarise

    known_channels, known_encoding = parse_channels(channels), parse_encoding(encoding)
    name = dataset or ("imported" if labels is None else "csv")
    flow = _open_source(source, labels, name, class_names)
    if flow.eight_bit and known_encoding.name == "minmax" and flow_size is not None:
        raise SettingsError(
            f"--flow-size {flow_size} says whose pixels the vectors count, but with --encoding "
            "minmax they are not in pixels. Give --encoding centred:SCALE, or leave it out."
        )
    settings = importing.FlowImport(
        dataset=name,
        channels=known_channels,
        encoding=known_encoding if flow.eight_bit else Encoding("pixels"),
        vector_size=flow_size,
        recompute_strain=recompute_strain,
        rule=rule,
        synthetic=synthetic,
    )
    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("clips", total=len(flow.records))
        report = importing.import_flow(
            flow,
            settings,
            out,
            partition=partition,
            max_failures=max_failures,
            overwrite=overwrite,
            progress=lambda clips: bar.advance(task, clips),
        )
    if as_json:
        typer.echo(_document(report))
        return
    made = [
        summarise(open_feature_store(out / manifest.partition, verify=False))
        for manifest in report.manifests
    ]
    print_stores(made, f"Imported to {out}")
    for note in report.notes:
        print_notice(note)
    if report.failures:
        print_notice(
            f"Clips left out: {len(report.failures)}; failures.csv in the working folders "
            f"{out}/.NAME.work says which and why. It names clips: keep it at the site."
        )


def _open_source(
    source: Path, labels: Path | None, dataset: str, class_names: str | None
) -> FlowSource:
    from fedpsyau_client.flow_import.flow_archive import FlowArchive, parse_class_names
    from fedpsyau_client.flow_import.image_folder import ImageFolder
    from fedpsyau_client.labels.datasets import DATASETS
    from fedpsyau_client.labels.readers import read_label_table

    table = None
    if labels is not None:
        name = next((name for name in DATASETS if name == dataset), None)
        if name is None:
            raise SettingsError(
                f"--dataset {dataset} is unknown; label tables are read for {', '.join(DATASETS)}. "
                "Give csv for a plain table of your own."
            )
        table = read_label_table(labels, name).clips
    if source.suffix.lower() == ".npz":
        names = parse_class_names(class_names) if class_names else ()
        return FlowArchive(source, dataset, names, table)
    if table is None:
        raise SettingsError(
            "Images alone have no labels. Give the label table with --labels and --dataset; clips "
            "are found by the images' names."
        )
    return ImageFolder(source, table)


def _document(report: ImportReport) -> str:
    made = [
        {
            "partition": manifest.partition,
            "clips": manifest.counts.clips,
            "subjects": manifest.counts.subjects,
            "failed": manifest.preprocessing["failed"],
            "data-hash": manifest.data_hash,
        }
        for manifest in report.manifests
    ]
    return json.dumps({"stores": made, "notes": list(report.notes)}, indent=2)
