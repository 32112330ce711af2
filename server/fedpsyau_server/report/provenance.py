"""Where a run's files come from and what they are: hashes of its models and records."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from fedpsyau_server.run_folder import RunFolder

__all__ = ["FileHash", "model_hashes", "record_hashes"]


@dataclass(frozen=True)
class FileHash:
    """A file of the run folder: its name there, size in bytes and SHA-256; None if it is gone."""

    name: str
    size: int | None
    sha256: str | None


def model_hashes(folder: RunFolder) -> list[FileHash]:
    """The initial model, and every site's personal model after the last whole round."""
    names = ["initial.safetensors"]
    names += [f"models/{site}.safetensors" for site in folder.state.personalised]
    return [_hash(folder.path, name) for name in names]


def record_hashes(folder: RunFolder) -> list[FileHash]:
    """The records that a report is made from."""
    return [_hash(folder.path, name) for name in ("config.json", "rounds.jsonl", "events.jsonl")]


def _hash(folder: Path, name: str) -> FileHash:
    try:
        with (folder / name).open("rb") as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
            return FileHash(name, stream.tell(), digest)
    except OSError:  # a copy of a run may well have been made without its models
        return FileHash(name, None, None)
