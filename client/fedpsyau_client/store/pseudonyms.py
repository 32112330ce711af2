"""Ids that take the place of names in a feature store, and the list by which the site finds back.

A store holds ``s001`` and ``c00001`` instead of a subject's and a clip's own names. Which is which
stands in ``ids.csv`` in the partition's working folder: beside the store, never in it, readable by
its owner only, and not copied along with the store.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from fedpsyau_client.store.clip_table import Texts
from fedpsyau_model.atomic_files import write_atomically
from fedpsyau_model.errors import OutputWriteError

__all__ = ["IDS_NAME", "ClipKey", "Pseudonyms", "pseudonymise", "working_folder", "write_ids"]

IDS_NAME: Final = "ids.csv"

#: What a clip is called at the site: subject, file name, onset; `ClipRecord.key` is one.
ClipKey = tuple[str, str, int | None]

_COLUMNS: Final = ("clip", "subject", "original_subject", "original_filename", "onset")


@dataclass(frozen=True, eq=False)
class Pseudonyms:
    """Ids of N clips in the order of their keys.

    clip: (N,) ``c00001`` and so on, by position, so that every clip has one of its own.
    subject: (N,) ``s001`` and so on, by the sorted order of the subjects' names.
    """

    clip: Texts
    subject: Texts


def pseudonymise(keys: Sequence[ClipKey]) -> Pseudonyms:
    """Give every clip and every subject an id. Same keys, same ids.

    keys: of all clips of a label table in its order, also of those that are left out later on:
    then ids don't change when a clip that could not be read is mended.
    """
    _, positions = np.unique(np.array([key[0] for key in keys], dtype=np.str_), return_inverse=True)
    return Pseudonyms(
        clip=np.array([f"c{number:05d}" for number in range(1, len(keys) + 1)], dtype=np.str_),
        subject=np.array([f"s{position + 1:03d}" for position in positions], dtype=np.str_),
    )


def working_folder(out: Path, partition: str) -> Path:
    """Make the partition's working folder ``.PARTITION.work`` in the data folder `out`.

    Only its owner may look into it. Raises OutputWriteError if it cannot be made.
    """
    folder = out / f".{partition}.work"
    try:
        out.mkdir(parents=True, exist_ok=True)
        folder.mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        raise _write_error(folder, error) from error
    return folder


def write_ids(folder: Path, keys: Sequence[ClipKey], pseudonyms: Pseudonyms) -> Path:
    """Write ``ids.csv`` to a working folder, replacing an older one. Returns its path.

    Columns: clip, subject, original_subject, original_filename, onset. Raises OutputWriteError.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(_COLUMNS)
    for clip, subject, key in zip(pseudonyms.clip, pseudonyms.subject, keys, strict=True):
        writer.writerow([clip, subject, *key])
    file = folder / IDS_NAME
    try:
        write_atomically(file, text.getvalue())
    except OSError as error:
        raise _write_error(file, error) from error
    return file


def _write_error(path: Path, error: OSError) -> OutputWriteError:
    return OutputWriteError(
        f"{path} cannot be written: {error.strerror or error}. Check free space and permissions, "
        "or give another place with --out."
    )
