"""Several feature stores that appear in a data folder together or not at all."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path

from fedpsyau_client.store.folder_set import assembled_folders
from fedpsyau_client.store.manifest import MANIFEST_NAME, read_manifest
from fedpsyau_model.errors import FedPsyAUError

__all__ = ["assembled_partitions"]


def assembled_partitions(
    out: Path, names: Sequence[str], overwrite: bool = False, made_up: bool = False
) -> AbstractContextManager[Path]:
    """Give an empty folder; the stores written to it move to `out` when the block ends well.

    overwrite: stores of these names that are in `out` are replaced; a folder that is no feature
        store never is.
    made_up: what is written is synthetic, and replaces no store that isn't.

    Raises as `assembled_folders` does.
    """

    def why_kept(folder: Path) -> str:
        if not (folder / MANIFEST_NAME).is_file():
            return "is no feature store"
        if made_up and not _is_synthetic(folder):
            return "is not synthetic, or cannot be read"
        return ""

    return assembled_folders(out, names, why_kept, overwrite)


def _is_synthetic(folder: Path) -> bool:
    try:
        return read_manifest(folder / MANIFEST_NAME).synthetic
    except FedPsyAUError:
        return False
