"""The folder that a command fills: tables, JSON and pictures, all of them or none."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from fedpsyau_client.store.atomic_folder import written_whole
from fedpsyau_model.errors import OutputExistsError, SettingsError
from fedpsyau_model.settings import LONGEST_NAME


def write_results(folder: Path, files: Mapping[str, str | bytes], replace: bool) -> None:
    """Write files into a new folder, whole or not at all.

    replace: put it in the place of an earlier one. Only a folder that holds nothing but files of
        these names is ever replaced.

    Raises OutputExistsError and OutputWriteError.
    """
    if replace and folder.is_dir():
        strangers = sorted(path.name for path in folder.iterdir() if path.name not in files)
        if strangers:
            raise OutputExistsError(
                f"{folder} is not replaced, because it also holds {', '.join(strangers[:3])}, "
                "which this command did not write. Give another folder."
            )
    with written_whole(folder, replace) as unfinished:
        for name, content in files.items():
            data = content.encode() if isinstance(content, str) else content
            (unfinished / name).write_bytes(data)


def check_name(name: str) -> None:
    """Raise SettingsError unless `name` can be that of priors."""
    if not (name.isprintable() and 0 < len(name) <= LONGEST_NAME):
        raise SettingsError(
            f"--name {name!r} cannot be used: 1 to {LONGEST_NAME} printable characters are allowed."
        )
