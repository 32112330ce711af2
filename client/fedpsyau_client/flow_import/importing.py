"""From flow images or arrays to one feature store per site."""

from __future__ import annotations

import csv
import io
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from fedpsyau_client.feature_store import FLOW_SHAPE, ROIS_SHAPE, Manifest, write_feature_store
from fedpsyau_client.flow_import.flow_encoding import (
    Channels,
    Encoding,
    decode,
    describe_channels,
)
from fedpsyau_client.flow_import.flow_resizing import canonical_features
from fedpsyau_client.flow_import.flow_source import Failure, FlowChunk, FlowSource
from fedpsyau_client.labelled_clips import clip_table
from fedpsyau_client.labels.class_rules import ClassRule, class_of
from fedpsyau_client.labels.clip_record import ClipRecord
from fedpsyau_client.manifest import PARTITION_PATTERN
from fedpsyau_client.partition_set import assembled_partitions
from fedpsyau_client.pseudonyms import Pseudonyms, pseudonymise, working_folder, write_ids
from fedpsyau_model.atomic_files import write_atomically
from fedpsyau_model.errors import ImportStoppedError, LabelTableError, UnknownPartitionError
from fedpsyau_model.facial_points import CROP_SIZE

__all__ = ["FlowImport", "ImportReport", "import_flow"]

Floats = npt.NDArray[np.float32]

FAILURES_NAME: Final = "failures.csv"

_LISTED: Final = 5


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
    """What was made, and what was left out."""

    manifests: Sequence[Manifest]
    failures: Sequence[Failure]


@dataclass(eq=False)
class _Features:
    """Features of all clips as far as they are read; `sizes` are the sides of the images."""

    flow: Floats
    rois: Floats
    read: npt.NDArray[np.bool_]
    failures: list[Failure] = field(default_factory=list)
    sizes: set[int] = field(default_factory=set)
    strain_given: bool = False


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

    Raises ImportStoppedError (too many failures), LabelTableError (a subject at two sites, sites
    for some clips only), UnknownPartitionError (a site's name cannot be one), OutputExistsError,
    OutputWriteError, and what the source raises. Whatever is raised, stores in `out` are as before.
    """
    records = source.records
    positions_of = _positions_by_site(records, partition, settings.dataset)
    with assembled_partitions(out, list(positions_of), overwrite, settings.synthetic) as folder:
        features = _read_features(source, settings, progress)
        ids = pseudonymise([record.key for record in records])
        for name, positions in positions_of.items():
            _write_failures(out, name, positions, records, features.failures)
        _check_failures(features, records, positions_of, max_failures, out, settings.rule)
        manifests = [
            _write_site(folder / name, positions, features, records, ids, settings)
            for name, positions in positions_of.items()
        ]
        for name, positions in positions_of.items():
            rows = np.asarray(positions)
            keys = [records[position].key for position in positions]
            own = Pseudonyms(ids.clip[rows], ids.subject[rows])
            write_ids(working_folder(out, name), keys, own)
    return ImportReport(manifests, features.failures)


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
        if isinstance(item, Failure):
            features.failures.append(item)
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
    features.strain_given = strain is not None
    finite = np.isfinite(stream).all(axis=(1, 2, 3)) & np.isfinite(rois).all(axis=(1, 2, 3, 4))
    lowest = np.zeros(len(rows)) if strain is None else strain.min(axis=(1, 2, 3))
    negative = finite & (lowest < 0)
    features.read[rows] = finite & ~negative
    features.failures += [
        Failure(int(row), "not-finite", "the flow holds NaN, infinity or absurdly large numbers")
        for row in rows[~finite]
    ]
    features.failures += [
        Failure(
            int(row),
            "negative-strain",
            "the strain channel holds negative numbers, so it is another channel; see --channels",
        )
        for row in rows[negative]
    ]


def _check_failures(
    features: _Features,
    records: Sequence[ClipRecord],
    positions_of: Mapping[str, Sequence[int]],
    max_failures: float,
    out: Path,
    rule: ClassRule,
) -> None:
    """Raise ImportStoppedError if too much is missing to be an accident, or a site has nothing."""
    empty = [name for name, rows in positions_of.items() if not features.read[list(rows)].any()]
    failed = [
        failure
        for failure in features.failures
        if failure.kind != "not-matched" or _has_class(records[failure.position], rule)
    ]
    tried = len(failed) + int(features.read.sum())
    if not empty and len(failed) <= max_failures * tried:
        return
    kinds = Counter(failure.reason for failure in failed or features.failures)
    reasons = "; ".join(f"{reason} ({count})" for reason, count in kinds.most_common(3))
    listed = ", ".join(
        f"{out / f'.{name}.work' / FAILURES_NAME}" for name in list(positions_of)[:2]
    )
    if empty:
        found = f"not one clip of {', '.join(empty[:_LISTED])} has usable flow"
    else:
        found = f"{len(failed)} of {tried} clips have no usable flow, more than {max_failures:.0%}"
    raise ImportStoppedError(
        f"Nothing was imported: {found}. Mostly: {reasons}. All are listed in {listed}. Correct "
        "names or images, or allow more with --max-failures."
    )


def _has_class(record: ClipRecord, rule: ClassRule) -> bool:
    return bool(class_of(record, rule, "three") or class_of(record, rule, "seven"))


def _write_site(
    folder: Path,
    positions: Sequence[int],
    features: _Features,
    records: Sequence[ClipRecord],
    ids: Pseudonyms,
    settings: FlowImport,
) -> Manifest:
    own = set(positions)
    rows = [position for position in positions if features.read[position]]
    left_out = Counter(each.kind for each in features.failures if each.position in own)
    return write_feature_store(
        folder,
        partition=folder.name,
        dataset=settings.dataset,
        synthetic=settings.synthetic,
        clips=clip_table(records, ids, rows, settings.rule),
        flow=features.flow[rows],
        rois=features.rois[rows],
        preprocessing={
            **_provenance(features, settings),
            "left-out": dict(sorted(left_out.items())),
        },
    )


def _provenance(features: _Features, settings: FlowImport) -> dict[str, Any]:
    upscaled = min(features.sizes) < CROP_SIZE
    points = "canonical-points-on-upscaled-flow" if upscaled else "canonical-points"
    encoding = settings.encoding
    return {
        "method": "imported optical flow",
        "image-sizes": sorted(features.sizes),
        "channels": list(describe_channels(settings.channels)),
        "encoding": encoding.name,
        "encoding-scale": encoding.scale if encoding.name == "centred" else None,
        "units": encoding.units,
        "vector-grid": settings.vector_size,
        "strain": "given" if features.strain_given else "computed",
        "roi-source": points,
        "class-rule": settings.rule,
        "flow_units": _unit_text(encoding, 28),
        "roi_units": _unit_text(encoding, 128),
    }


def _unit_text(encoding: Encoding, size: int) -> str:
    unit = f"pixels of the {size}x{size} grid"
    if encoding.units == "arbitrary":
        unit = f"arbitrary (the full range of levels is taken for {size / 28:.3g} {unit})"
    return f"{unit}, x right, y down, onset to apex"


def _write_failures(
    out: Path,
    name: str,
    positions: Sequence[int],
    records: Sequence[ClipRecord],
    failures: Sequence[Failure],
) -> None:
    """List the site's failures in its working folder; the list names clips and stays there."""
    own = set(positions)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("row", "subject", "filename", "onset", "kind", "reason"))
    for failure in sorted(failures, key=lambda each: each.position):
        if failure.position in own:
            record = records[failure.position]
            writer.writerow([record.row, *record.key, failure.kind, failure.reason])
    write_atomically(working_folder(out, name) / FAILURES_NAME, text.getvalue())
