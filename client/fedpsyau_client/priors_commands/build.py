"""``fedpsyau priors build``: co-occurrence counts from label tables and feature stores."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from fedpsyau_client.own_priors.au_sources import AuSource
    from fedpsyau_client.own_priors.priors_file import PriorsFile


def build(
    sources: Annotated[
        list[str],
        typer.Option(
            "--from",
            metavar="SOURCE",
            help="DATASET=FILE for a label table, or the folder of a feature store. Repeatable.",
        ),
    ],
    out: Annotated[Path, typer.Option(help="Folder to write to.")],
    smoothing: Annotated[
        float, typer.Option(min=0, max=1e6, help="Added to every count where the priors are used.")
    ] = 0.0,
    intrinsic: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Matrix of coordinated pairs, such as intrinsic.csv of `priors study`, to go "
            "with the counts. Default: the published one.",
        ),
    ] = None,
    name: Annotated[
        str | None, typer.Option(help="What to call these priors. Default: the sources' names.")
    ] = None,
    replace: Annotated[bool, typer.Option("--replace", help="Replace an earlier result.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the priors file as JSON.")] = False,
) -> None:
    """Count which action units occur together, and make priors of it.

    Writes a priors file that a site can use, a section for federation.toml, the matrices as CSV
    and a picture.
    """
    from fedpsyau_client.own_priors.au_sources import read_au_sources
    from fedpsyau_client.own_priors.priors_file import PRIORS_NAME
    from fedpsyau_client.priors_commands.result_folder import check_name, write_results
    from fedpsyau_model.file_content import png_bytes
    from fedpsyau_priors.plot import plot_attention

    if name is not None:
        check_name(name)
    read = read_au_sources(sources)
    made = _priors_file(read, smoothing, intrinsic, name)
    text = made.to_json()
    files: dict[str, str | bytes] = {
        PRIORS_NAME: text,
        "priors.toml": made.to_toml(),
        **_tables(made),
        "attention.png": png_bytes(plot_attention(made.priors().counts, _title(made))),
    }
    write_results(out, files, replace)
    if as_json:
        typer.echo(text, nl=False)
        return
    for source in made.sources:
        typer.echo(
            f"{source.dataset} ({source.kind}): {source.clips_with_aus} clips with AU labels"
        )
    typer.echo(f"Wrote {', '.join(files)} into {out}")
    if any(source.kind == "feature store" for source in made.sources):
        from fedpsyau_model.command_line import print_notice

        print_notice(
            "the counts come from this site's own clips. Using them here sends them nowhere; to "
            "share them is your decision."
        )


def _priors_file(
    sources: Sequence[AuSource], smoothing: float, intrinsic: Path | None, name: str | None
) -> PriorsFile:
    """Count, and check that a prior follows. Raises NoPriorError or PriorsFileError."""
    from fedpsyau_client.own_priors.au_sources import au_matrix
    from fedpsyau_client.own_priors.matrix_csv import read_matrix
    from fedpsyau_client.own_priors.priors_file import PriorsFile, SourceSummary
    from fedpsyau_model.errors import NoPriorError, PriorsFileError
    from fedpsyau_priors import (
        PriorError,
        attention,
        check_intrinsic,
        count_cooccurrence,
        own_priors,
    )

    counts = count_cooccurrence(au_matrix(sources))
    try:
        coordinated = None if intrinsic is None else check_intrinsic(read_matrix(intrinsic))
    except PriorError as error:
        raise PriorsFileError(f"{intrinsic} cannot be used: {error}") from None
    try:
        weights = own_priors("", cooccurrence=counts, smoothing=smoothing).counts
    except PriorError as error:
        raise NoPriorError(str(error)) from None
    return PriorsFile.model_validate(
        {
            "name": name or _sources_name(sources),
            "sources": [
                SourceSummary(
                    dataset=source.dataset,
                    kind=source.kind,
                    clips=source.clips,
                    clips_with_aus=len(source.au_sets),
                    synthetic=source.synthetic,
                )
                for source in sources
            ],
            "smoothing": smoothing,
            "cooccurrence": counts.tolist(),
            "attention": {
                region: attention(region, weights).round(6).tolist()
                for region in ("upper", "lower", "whole")
            },
            "intrinsic": [] if coordinated is None else coordinated.tolist(),
        }
    )


def _sources_name(sources: Sequence[AuSource]) -> str:
    """Names of the sources, as many of them as there is room for."""
    from fedpsyau_model.settings import LONGEST_NAME

    name = " + ".join(source.partition or source.dataset for source in sources)
    return name if len(name) <= LONGEST_NAME else f"{name[: LONGEST_NAME - 3]}..."


def _tables(made: PriorsFile) -> dict[str, str]:
    import numpy as np

    from fedpsyau_client.own_priors.matrix_csv import format_matrix
    from fedpsyau_model.action_units import AUS
    from fedpsyau_priors.extrinsic import region_slice

    tables = {"cooccurrence.csv": format_matrix(np.array(made.cooccurrence))}
    for region, rows in made.attention.items():
        aus = AUS[region_slice(region)]
        tables[f"attention-{region}.csv"] = format_matrix(np.array(rows), aus)
    return tables


def _title(made: PriorsFile) -> str:
    clips = sum(source.clips_with_aus for source in made.sources)
    synthetic = "SYNTHETIC DATA, " if any(source.synthetic for source in made.sources) else ""
    smoothed = f", {made.smoothing:g} added to every count" if made.smoothing else ""
    return f"{synthetic}{made.name}: {clips} clips{smoothed}"
