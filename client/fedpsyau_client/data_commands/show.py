"""``fedpsyau data show``: what feature stores hold."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fedpsyau_client.data_commands.store_table import print_stores
from fedpsyau_model.errors import DataNotFoundError


def show(
    path: Annotated[Path, typer.Argument(help="A data folder, or one partition in it.")],
) -> None:
    """Show what feature stores hold: clips by class, subjects, and whether they are synthetic."""
    from fedpsyau_client.store.feature_store import list_partitions, open_feature_store
    from fedpsyau_client.store.manifest import MANIFEST_NAME
    from fedpsyau_client.store.store_summary import summarise

    single = (path / MANIFEST_NAME).is_file()
    folders = [path] if single else [path / name for name in list_partitions(path)]
    if not folders:
        raise DataNotFoundError(
            f"{path} holds no feature store. Make the synthetic twin there with "
            f"`fedpsyau data synth --out {path}`, or prepare your own clips."
        )
    summaries = [summarise(open_feature_store(folder)) for folder in folders]
    print_stores(summaries, f"Feature stores in {path}")
