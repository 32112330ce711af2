"""From flow images or arrays to one feature store per site."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from fedpsyau_client.flow_import.flow_encoding import (
    Channels,
    Encoding,
    decode,
    describe_channels,
)
from fedpsyau_client.flow_import.flow_resizing import canonical_features
from fedpsyau_client.flow_import.flow_source import FlowChunk, FlowSource, MissingFlow
from fedpsyau_client.labels.class_rules import ClassRule, class_of
from fedpsyau_client.labels.clip_record import ClipRecord
from fedpsyau_client.preparation.clip_labels import store_labels
from fedpsyau_client.preparation.failures import Failure, count_reasons, write_failures
from fedpsyau_client.store.feature_store import (
    FLOW_SHAPE,
    ROIS_SHAPE,
    Manifest,
    write_feature_store,
)
from fedpsyau_client.store.manifest import PARTITION_PATTERN
from fedpsyau_client.store.partition_set import assembled_partitions
from fedpsyau_client.store.pseudonyms import Pseudonyms, pseudonymise, working_folder, write_ids
from fedpsyau_model.errors import (
    ClipNotFoundError,
    FlowNumbersError,
    LabelTableError,
    PreparationStoppedError,
    UnknownPartitionError,
)
from fedpsyau_model.facial_points import CROP_SIZE

__all__ = ["FlowImport", "ImportReport", "import_flow"]

Floats = npt.NDArray[np.float32]

_LISTED: Final = 5

_NOT_FINITE: Final = "Its flow holds NaN, infinity or absurdly large numbers."
_NEGATIVE: Final = "Its strain channel holds negative numbers, so it is another; see --channels."


@dataclass(frozen=True)
class FlowImport:
    """What the user says about the flow.

    vector_size: side in pixels of the face on which the flow was computed, whose pixels vectors are
        counted in; None where that is the image itself.
    recompute_strain: compute strain from u and v even where it is stored.
    """

    dataset: str
    channels: Channels
    encoding: Encoding
    vector_size: int | None = None
    recompute_strain: bool = False
    rule: ClassRule = "authors"
    synthetic: bool = False


@dataclass(frozen=True, eq=False)
class ImportReport:
    """What was made, what was left out, and what a person should know besides."""

    manifests: Sequence[Manifest]
    failures: Sequence[Failure]
    notes: Sequence[str]


@dataclass(eq=False)
class _Features:
    """Features of all clips as far as they are read; `sizes` are the sides of the images."""

    flow: Floats
    rois: Floats
    read: npt.NDArray[np.bool_]
    missing: list[MissingFlow] = field(default_factory=list)
    sizes: set[int] = field(default_factory=set)
    strain_given: bool = False
    signed: bool = False


def import_flow(
    source: FlowSource,
    settings: FlowImport,
    out: Path,
    *,
    partition: str | None = None,
    max_failures: float = 0.2,
    overwrite: bool = False,
    progress: Callable[[int], None] = lambda clips: None,
) -> ImportReport:
    """Write one feature store per site of the source's records, all of them or none.

    partition: put everything into one store of this name; else records' sites name the stores, or
        the data set does where records have no site.
    max_failures: share of the clips that may be without usable flow. Clips that have no class under
        either scheme count only where their flow is there and damaged.
    progress: called with the number of clips dealt with since the last call.

    Raises PreparationStoppedError (too many failures), LabelTableError (a subject at two sites,
    sites for some clips only), UnknownPartitionError (a site's name cannot be one),
    OutputExistsError, OutputWriteError, and what the source raises. Whatever is raised, stores in
    `out` are as before.
    """
    records = source.records
    positions_of = _positions_by_site(records, partition, settings.dataset)
    with assembled_partitions(out, list(positions_of), overwrite, settings.synthetic) as folder:
        features = _read_features(source, settings, progress)
        ids = pseudonymise([record.key for record in records])
        failures_of = {
            name: _failures(features.missing, set(positions), records, ids)
            for name, positions in positions_of.items()
        }
        for name, failures in failures_of.items():
            write_failures(working_folder(out, name), failures)
        _check_failures(failures_of, features, positions_of, max_failures, settings.rule)
        manifests = [
            _write_site(
                folder / name,
                positions,
                features,
                records,
                ids,
                count_reasons(failures_of[name]),
                settings,
            )
            for name, positions in positions_of.items()
        ]
        # Last, so that a failure before leaves the list that belongs to an older store.
        for name, positions in positions_of.items():
            keys = [records[position].key for position in positions]
            own = Pseudonyms(ids.clip[positions], ids.subject[positions])
            write_ids(working_folder(out, name), keys, own)
    notes = _notes(source, features, settings)
    return ImportReport(manifests, list(chain.from_iterable(failures_of.values())), notes)


def _notes(source: FlowSource, features: _Features, settings: FlowImport) -> list[str]:
    notes = []
    if source.unclaimed:
        notes.append(
            f"{source.unclaimed} images belong to no clip of the label table, or not to one alone, "
            "and were not used."
        )
    if settings.encoding.name == "pixels" and not features.signed:
        notes.append(
            "No vector points to the left or upwards. Displacements have signs; numbers from 0 to "
            "1 or 0 to 255 were normalised, and are no pixels."
        )
    return notes


def _failures(
    missing: Sequence[MissingFlow],
    positions: Set[int],
    records: Sequence[ClipRecord],
    ids: Pseudonyms,
) -> list[Failure]:
    """What one site lacks, in the order of its table."""
    return [
        Failure(records[each.position], str(ids.clip[each.position]), each.error)
        for each in sorted(missing, key=lambda each: each.position)
        if each.position in positions
    ]


def _positions_by_site(
    records: Sequence[ClipRecord], partition: str | None, dataset: str
) -> dict[str, list[int]]:
    """Positions of the records of each site, sites in the order of their names."""
    positions: defaultdict[str, list[int]] = defaultdict(list)
    sites_of: defaultdict[str, set[str]] = defaultdict(set)
    for position, record in enumerate(records):
        name = partition or record.site
        positions[name].append(position)
        sites_of[record.subject].add(name)
    if list(positions) == [""]:
        positions = defaultdict(list, {dataset: positions[""]})
    if "" in positions:
        row = records[positions[""][0]].row
        raise LabelTableError(
            f"Row {row} names no site, but others do. Give every clip a site, or put all into one "
            "store with --partition NAME."
        )
    shared = [subject for subject, sites in sites_of.items() if len(sites) > 1]
    if shared:
        raise LabelTableError(
            f"{len(shared)} subjects have clips at more than one site, {shared[0]!r} for one. A "
            "subject belongs to one site; give different people different names."
        )
    for name in positions:
        if not re.fullmatch(PARTITION_PATTERN, name):
            raise UnknownPartitionError(
                f"A site cannot be called {name!r}: its name is its folder's, 1 to 64 letters, "
                "digits, dashes and underscores, such as lab_a."
            )
    return dict(sorted(positions.items()))


def _read_features(
    source: FlowSource, settings: FlowImport, progress: Callable[[int], None]
) -> _Features:
    count = len(source.records)
    features = _Features(
        flow=np.empty((count, *FLOW_SHAPE), dtype=np.float32),
        rois=np.empty((count, *ROIS_SHAPE), dtype=np.float32),
        read=np.zeros(count, dtype=np.bool_),
    )
    for item in source.read():
        if isinstance(item, MissingFlow):
            features.missing.append(item)
            progress(1)
        else:
            _add_chunk(features, item, settings)
            progress(len(item.positions))
    return features


def _add_chunk(features: _Features, chunk: FlowChunk, settings: FlowImport) -> None:
    size = chunk.images.shape[-1]
    # What is too large for float32, or no number, is looked for afterwards.
    with np.errstate(over="ignore", invalid="ignore"):
        flow, strain = decode(chunk.images, settings.channels, settings.encoding)
        if settings.recompute_strain:
            strain = None
        vector_size = settings.vector_size or settings.encoding.vector_size(size)
        stream, rois = canonical_features(flow, strain, vector_size)
    rows = np.asarray(chunk.positions)
    features.flow[rows], features.rois[rows] = stream, rois
    features.sizes.add(size)
    features.signed |= bool((flow < 0).any())
    features.strain_given = strain is not None
    finite = np.isfinite(stream).all(axis=(1, 2, 3)) & np.isfinite(rois).all(axis=(1, 2, 3, 4))
    lowest = np.zeros(len(rows)) if strain is None else strain.min(axis=(1, 2, 3))
    negative = finite & (lowest < 0)
    features.read[rows] = finite & ~negative
    features.missing += [
        MissingFlow(int(row), FlowNumbersError(_NOT_FINITE)) for row in rows[~finite]
    ]
    features.missing += [
        MissingFlow(int(row), FlowNumbersError(_NEGATIVE)) for row in rows[negative]
    ]


def _check_failures(
    failures_of: Mapping[str, Sequence[Failure]],
    features: _Features,
    positions_of: Mapping[str, Sequence[int]],
    max_failures: float,
    rule: ClassRule,
) -> None:
    """Raise PreparationStoppedError if too much is missing, or a site has nothing."""
    failures = [
        failure
        for failure in chain.from_iterable(failures_of.values())
        if not isinstance(failure.error, ClipNotFoundError) or _has_class(failure.record, rule)
    ]
    tried = len(failures) + int(features.read.sum())
    empty = [name for name, rows in positions_of.items() if not features.read[rows].any()]
    if empty:
        found = f"not one clip of {', '.join(empty[:_LISTED])} has usable flow"
    elif len(failures) > max_failures * tried:
        found = (
            f"{len(failures)} of {tried} clips have no usable flow, and at most {max_failures:.0%} "
            "may fail"
        )
    else:
        return
    every = failures or list(chain.from_iterable(failures_of.values()))
    counts = ", ".join(f"{count} {name}" for name, count in count_reasons(every).items())
    raise PreparationStoppedError(
        f"Nothing was imported: {found} ({counts}). The first: {every[0].error} All of them stand "
        "in failures.csv in the working folders. Mend the cause, or let more of them fail with "
        "--max-failures."
    )


def _has_class(record: ClipRecord, rule: ClassRule) -> bool:
    return bool(class_of(record, rule, "three") or class_of(record, rule, "seven"))


def _write_site(
    folder: Path,
    positions: Sequence[int],
    features: _Features,
    records: Sequence[ClipRecord],
    ids: Pseudonyms,
    failed: Mapping[str, int],
    settings: FlowImport,
) -> Manifest:
    rows = [position for position in positions if features.read[position]]
    return write_feature_store(
        folder,
        partition=folder.name,
        dataset=settings.dataset,
        synthetic=settings.synthetic,
        clips=store_labels(records, ids, rows, settings.rule),
        flow=features.flow[rows],
        rois=features.rois[rows],
        preprocessing={**_provenance(features, settings), "failed": dict(failed)},
    )


def _provenance(features: _Features, settings: FlowImport) -> dict[str, Any]:
    upscaled = min(features.sizes) < CROP_SIZE
    points = "canonical-points-on-upscaled-flow" if upscaled else "canonical-points"
    encoding = settings.encoding
    return {
        "method": "imported optical flow",
        "image_sizes": sorted(features.sizes),
        "channels": list(describe_channels(settings.channels)),
        "encoding": encoding.name,
        "encoding_scale": encoding.scale if encoding.name == "centred" else None,
        "units": encoding.units,
        "vector_grid": settings.vector_size,
        "strain": "given" if features.strain_given else "computed",
        "roi_source": points,
        "class_rule": settings.rule,
        "flow_units": _unit_text(encoding, 28),
        "roi_units": _unit_text(encoding, 128),
    }


def _unit_text(encoding: Encoding, size: int) -> str:
    unit = f"pixels of the {size}x{size} grid"
    if encoding.units == "arbitrary":
        unit = f"arbitrary (the full range of levels is taken for {size / 28:.3g} {unit})"
    return f"{unit}, x right, y down, onset to apex"
