"""The feature store: one folder per partition, written atomically and checked when opened.

A store holds what the network reads and nothing from which a face could be shown: optical flow at
28x28, flow patches at 65 facial points, labels and pseudonymous ids. docs/data.md is its reference.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fedpsyau_client.store.atomic_folder import written_whole
from fedpsyau_client.store.clip_table import (
    ClipTable,
    check_clip_table,
    format_clip_table,
    parse_clip_table,
)
from fedpsyau_client.store.features_file import (
    FLOW_SHAPE,
    ROIS_SHAPE,
    Floats,
    check_finite,
    check_shapes,
    map_features,
    write_features,
)
from fedpsyau_client.store.manifest import (
    CLIPS_NAME,
    FEATURES_NAME,
    MANIFEST_NAME,
    PARTITION_PATTERN,
    SCHEMA_VERSION,
    Manifest,
    StoreCounts,
    StoredFile,
    StoredFiles,
    read_manifest,
)
from fedpsyau_model import __version__
from fedpsyau_model.action_units import AUS, POINT_COUNT
from fedpsyau_model.emotions import CLASS_NAMES, EMOTIONS, ClassScheme
from fedpsyau_model.errors import (
    DataDamagedError,
    DataNotFoundError,
    OutputExistsError,
    SchemaMismatchError,
    UnknownPartitionError,
)
from fedpsyau_model.input_files import read_input_text

__all__ = [
    "FLOW_SHAPE",
    "ROIS_SHAPE",
    "ClipTable",
    "FeatureStore",
    "Manifest",
    "list_partitions",
    "open_feature_store",
    "write_feature_store",
]

Indices = npt.NDArray[np.int64]

_CURE = "Prepare the partition again, or copy the folder again from where it was prepared."


@dataclass(frozen=True, eq=False)
class FeatureStore:
    """An opened partition of N clips.

    flow: (N, 3, 28, 28) float32, onset -> apex; u right and v down in pixels of the 28 grid, then
        optical strain (dimensionless).
    rois: (N, 65, 3, 5, 5) float32, the same channels, u and v in pixels of the 128 grid.

    Both arrays are read-only and mapped from the file: a clip is read when it is indexed.
    """

    folder: Path
    manifest: Manifest
    clips: ClipTable
    flow: Floats
    rois: Floats

    def __len__(self) -> int:
        """Count the clips."""
        return len(self.clips)

    def labels(self, scheme: ClassScheme) -> tuple[Indices, Indices]:
        """Clips that have a class under `scheme`, and their classes.

        Returns (indices, labels), both (M,) int64 with M <= N: rows of the store in ascending
        order, and positions in ``CLASS_NAMES[scheme]``.
        """
        names = self.clips.class3 if scheme == "three" else self.clips.class7
        position = {name: index for index, name in enumerate(CLASS_NAMES[scheme])}
        indices = np.flatnonzero(names != "").astype(np.int64)
        return indices, np.array([position[str(name)] for name in names[indices]], dtype=np.int64)

    def au_known(self) -> npt.NDArray[np.bool_]:
        """(N, 12), AUs that a coder looked for in each clip; zeros of the others say nothing."""
        return self.clips.au_known[:, np.newaxis] & np.isin(AUS, self.manifest.coded_aus)


def list_partitions(data_dir: Path) -> list[str]:
    """Names of the feature stores under `data_dir`, sorted; half-written ones don't count.

    Raises DataNotFoundError if `data_dir` is not a folder.
    """
    if not data_dir.is_dir():
        raise DataNotFoundError(
            f"There is no data folder {data_dir}. Give another one with --data, or make the "
            "synthetic twin of the seven partitions with `fedpsyau data synth`."
        )
    return sorted(
        folder.name
        for folder in data_dir.iterdir()
        if re.fullmatch(PARTITION_PATTERN, folder.name) and (folder / MANIFEST_NAME).is_file()
    )


def open_feature_store(folder: Path, verify: bool = True) -> FeatureStore:
    """Open the store in `folder`, whose name is the partition's.

    verify: also compare checksums and look for NaN and infinity; without it only sizes, shapes and
        the clip table are checked, which reads no features.

    Raises DataNotFoundError (folder or file missing), SchemaMismatchError (another schema version),
    UnknownPartitionError (the manifest names another partition), DataDamagedError (anything else
    that is not as it was written).
    """
    if not folder.is_dir():
        raise DataNotFoundError(
            f"There is no feature store {folder}{_neighbours(folder)}. Check --data and "
            "--partition, or make the synthetic twin with `fedpsyau data synth`."
        )
    manifest = read_manifest(folder / MANIFEST_NAME)
    _check_manifest(manifest, folder)
    _check_file(folder / CLIPS_NAME, manifest.files.clips, verify)
    _check_file(folder / FEATURES_NAME, manifest.files.features, verify)
    clips = _read_clips(folder / CLIPS_NAME)
    _check_counts(count_clips(clips), manifest.counts, folder)
    flow, rois = map_features(folder / FEATURES_NAME)
    check_shapes(flow, rois, len(clips), str(folder / FEATURES_NAME))
    if verify:
        check_finite(flow, rois, clips.clip, str(folder / FEATURES_NAME))
    return FeatureStore(folder, manifest, clips, flow, rois)


def write_feature_store(
    folder: Path,
    *,
    partition: str,
    dataset: str,
    synthetic: bool,
    clips: ClipTable,
    flow: npt.ArrayLike,
    rois: npt.ArrayLike,
    preprocessing: Mapping[str, Any],
    coded_aus: Sequence[int] = AUS,
    replace: bool = False,
) -> Manifest:
    """Write a store to `folder`, whose last part must be `partition`, whole or not at all.

    flow: (N, 3, 28, 28); rois: (N, 65, 3, 5, 5); stored as float32. Units as in `FeatureStore`.
    preprocessing: how the features were made (flow method, sizes, units); plain JSON values.
    coded_aus: AUs that the data set's coders looked for, of those in `AUS`.
    replace: put the new store in the place of one that is already there.

    Raises OutputExistsError if `folder` is there and `replace` is off, or it is no feature store;
    UnknownPartitionError if the partition has no usable name; DataDamagedError if table and arrays
    don't fit together or hold NaN or infinity; OutputWriteError if the disk refuses. Whatever is
    raised, `folder` is as it was before.
    """
    _check_target(folder, partition, replace)
    check_clip_table(clips, "The clip table")
    flow = np.ascontiguousarray(flow, dtype=np.float32)
    rois = np.ascontiguousarray(rois, dtype=np.float32)
    check_shapes(flow, rois, len(clips), "The features")
    check_finite(flow, rois, clips.clip, "The features")
    with written_whole(folder, replace) as unfinished:
        write_features(unfinished / FEATURES_NAME, flow, rois)
        (unfinished / CLIPS_NAME).write_text(format_clip_table(clips), encoding="utf-8")
        manifest = Manifest(
            schema_version=SCHEMA_VERSION,
            fedpsyau_version=__version__,
            partition=partition,
            dataset=dataset,
            synthetic=synthetic,
            aus=list(AUS),
            coded_aus=list(coded_aus),
            point_count=POINT_COUNT,
            preprocessing=dict(preprocessing),
            counts=count_clips(clips),
            files=StoredFiles(
                clips=_describe_file(unfinished / CLIPS_NAME),
                features=_describe_file(unfinished / FEATURES_NAME),
            ),
        )
        (unfinished / MANIFEST_NAME).write_text(manifest.to_json(), encoding="utf-8")
    return manifest


def count_clips(clips: ClipTable) -> StoreCounts:
    """Count a table for the manifest; emotions that do not occur are left out."""
    return StoreCounts(
        clips=len(clips),
        subjects=len(np.unique(clips.subject)),
        clips_with_aus=int(clips.au_known.sum()),
        emotions={
            emotion: int((clips.emotion == emotion).sum())
            for emotion in EMOTIONS
            if (clips.emotion == emotion).any()
        },
    )


def _neighbours(folder: Path) -> str:
    if not folder.parent.is_dir():
        return ""
    names = list_partitions(folder.parent)
    return f"; beside it are {', '.join(names)}" if names else ""


def _check_manifest(manifest: Manifest, folder: Path) -> None:
    name = folder.absolute().name
    if manifest.partition != name:
        raise UnknownPartitionError(
            f"The folder {folder} holds the partition {manifest.partition!r}, not {name!r}: it was "
            f"renamed or copied. Rename it to {manifest.partition}, so that a site cannot join "
            "under another site's name by mistake."
        )
    if tuple(manifest.aus) != AUS or manifest.point_count != POINT_COUNT:
        raise SchemaMismatchError(
            f"The feature store {folder} holds {manifest.point_count} points and the AUs "
            f"{manifest.aus}; this fedpsyau reads {POINT_COUNT} points and {list(AUS)}. "
            "Prepare the partition again with this version."
        )


def _check_counts(found: StoreCounts, expected: StoreCounts, folder: Path) -> None:
    described = expected.model_dump()
    differences = [
        f"{name.replace('_', ' ')} {value} instead of {described[name]}"
        for name, value in found.model_dump().items()
        if value != described[name]
    ]
    if differences:
        raise DataDamagedError(
            f"{folder / CLIPS_NAME} does not fit {MANIFEST_NAME}: {', '.join(differences)}. {_CURE}"
        )


def _check_file(file: Path, expected: StoredFile, verify: bool) -> None:
    try:
        size = file.stat().st_size
    except FileNotFoundError:
        raise DataNotFoundError(
            f"The feature store {file.parent} has no {file.name}, so it is not a whole store. "
            f"{_CURE}"
        ) from None
    except OSError as error:
        raise DataDamagedError(f"{file} cannot be read: {error}. {_CURE}") from None
    if size != expected.size_bytes:
        raise DataDamagedError(
            f"{file} has {size} bytes instead of {expected.size_bytes}: it was truncated or edited "
            f"after it was written. {_CURE}"
        )
    if verify and (found := _sha256(file)) != expected.sha256:
        raise DataDamagedError(
            f"{file} was edited or damaged after it was written: its checksum (SHA-256) begins "
            f"with {found[:12]}, the manifest says {expected.sha256[:12]}. {_CURE}"
        )


def _read_clips(file: Path) -> ClipTable:
    try:
        text = read_input_text(file)
    except (OSError, UnicodeDecodeError) as error:
        raise DataDamagedError(f"{file} cannot be read: {error}. {_CURE}") from None
    return parse_clip_table(text, str(file))


def _check_target(folder: Path, partition: str, replace: bool) -> None:
    if not re.fullmatch(PARTITION_PATTERN, partition) or folder.absolute().name != partition:
        raise UnknownPartitionError(
            f"The partition {partition!r} cannot be written to {folder}. A partition's name is its "
            "folder's name: 1 to 64 letters, digits, dashes and underscores, such as dfme_c3."
        )
    if replace and folder.exists() and not (folder / MANIFEST_NAME).is_file():
        raise OutputExistsError(
            f"{folder} is already there and is not a feature store, so it is not replaced. Give "
            "another folder, or remove it by hand."
        )


def _describe_file(file: Path) -> StoredFile:
    return StoredFile(size_bytes=file.stat().st_size, sha256=_sha256(file))


def _sha256(file: Path) -> str:
    try:
        with file.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise DataDamagedError(f"{file} cannot be read: {error}. {_CURE}") from None
