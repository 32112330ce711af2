"""The manifest of a feature store: what it holds, how it was made, and checksums of its files."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import ConfigDict, Field, JsonValue, ValidationError

from fedpsyau_model.action_units import AUS
from fedpsyau_model.errors import DataDamagedError, DataNotFoundError, SchemaMismatchError
from fedpsyau_model.file_part import FilePart
from fedpsyau_model.input_files import read_input_text

#: Version of the store's format; raised whenever an older reader would misread a newer store.
SCHEMA_VERSION: Final = 1

MANIFEST_NAME = "manifest.json"
CLIPS_NAME = "clips.csv"
FEATURES_NAME = "features.safetensors"

#: What a partition may be called: it is a folder name and travels in messages.
PARTITION_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$"

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class _ManifestPart(FilePart):
    model_config = ConfigDict(strict=True)


class StoreCounts(_ManifestPart):
    """How much a store holds; checked against clips.csv when it is opened."""

    clips: int = Field(ge=1)
    subjects: int = Field(ge=1)
    clips_with_aus: int = Field(ge=0)
    emotions: dict[str, int]


class StoredFile(_ManifestPart):
    """Size and checksum of one file of a store."""

    size_bytes: int = Field(ge=0)
    sha256: Sha256


class StoredFiles(_ManifestPart):
    """The two files beside the manifest."""

    clips: StoredFile
    features: StoredFile


class Manifest(_ManifestPart):
    """``manifest.json``. Holds no path, no original name and nothing about a single person."""

    schema_version: Literal[1]
    fedpsyau_version: str
    partition: str = Field(pattern=PARTITION_PATTERN)
    dataset: str
    synthetic: bool
    aus: list[int]
    coded_aus: list[int] = Field(default_factory=lambda: list(AUS))
    """AUs that coders looked for; of the others the zeros in clips.csv say nothing."""
    point_count: int
    preprocessing: dict[str, JsonValue]
    counts: StoreCounts
    files: StoredFiles

    @property
    def data_hash(self) -> str:
        """Identity of the data: SHA-256 over the checksums of both files, 64 hex digits."""
        checksums = self.files.clips.sha256 + self.files.features.sha256
        return hashlib.sha256(checksums.encode()).hexdigest()

    def to_json(self) -> str:
        """JSON text as it is written to disk, with kebab-case keys."""
        return self.model_dump_json(indent=2) + "\n"


def read_manifest(file: Path) -> Manifest:
    """Read and check ``manifest.json``.

    Raises DataNotFoundError if it is missing, SchemaMismatchError if it was written under another
    schema version, DataDamagedError if it is not a manifest.
    """
    try:
        text = read_input_text(file)
    except FileNotFoundError:
        raise DataNotFoundError(
            f"The feature store {file.parent} has no {file.name}, so it is not a whole store. "
            "Prepare the partition again with `fedpsyau data`, or copy the whole folder again."
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise DataDamagedError(f"{file} cannot be read: {error}. {_CURE}") from None
    try:
        values = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DataDamagedError(f"{file} is truncated or edited: {error}. {_CURE}") from None
    _check_schema_version(file, values)
    try:
        return Manifest.model_validate(values)
    except ValidationError as error:
        raise DataDamagedError(f"{file} is damaged: {_problems(error)}. {_CURE}") from None


_CURE = "Prepare the partition again, or copy the folder again from where it was prepared."


def _check_schema_version(file: Path, values: Any) -> None:
    version = values.get("schema-version") if isinstance(values, dict) else None
    if type(version) is not int:
        raise DataDamagedError(f"{file} gives no schema-version (a whole number). {_CURE}")
    if version != SCHEMA_VERSION:
        cure = (
            "install the fedpsyau that wrote it"
            if version > SCHEMA_VERSION
            else "prepare the partition again with this fedpsyau"
        )
        raise SchemaMismatchError(
            f"The feature store {file.parent} was written under schema version {version}, but this "
            f"fedpsyau reads version {SCHEMA_VERSION}. Reading it as something else could mix up "
            f"its columns or units: {cure}."
        )


def _problems(error: ValidationError) -> str:
    return "; ".join(
        f"{'.'.join(map(str, problem['loc']))}: {problem['msg']}" for problem in error.errors()
    )
