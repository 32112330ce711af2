"""One data set dealt to several sites by subject, as the paper makes its seven partitions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fedpsyau_client.splits import partition_subjects
from fedpsyau_client.store.clip_table import ClipTable
from fedpsyau_client.store.feature_store import FeatureStore, Manifest, write_feature_store
from fedpsyau_client.store.partition_set import assembled_partitions
from fedpsyau_model.errors import SettingsError

__all__ = ["clips_of_rows", "write_partitions"]


def write_partitions(
    store: FeatureStore, names: Sequence[str], seed: int, out: Path, overwrite: bool = False
) -> tuple[Manifest, ...]:
    """Write one store per site, equal numbers of subjects up to one, all stores or none.

    names: the sites' partition names, each once. Features and rows are copied as they are; every
    manifest says from which data (hash) and with which seed it was dealt.

    Raises SettingsError (a name stands twice), TooFewSubjectsError, OutputExistsError,
    OutputWriteError, UnknownPartitionError (a name that cannot be one). Then `out` is as it was.
    """
    _check_names(names)
    parts = partition_subjects(store.clips.subject, len(names), np.random.default_rng(seed))
    with assembled_partitions(out, names, overwrite, store.manifest.synthetic) as folder:
        return tuple(
            write_feature_store(
                folder / name,
                partition=name,
                dataset=store.manifest.dataset,
                synthetic=store.manifest.synthetic,
                clips=clips_of_rows(store.clips, rows),
                flow=store.flow[rows],
                rois=store.rois[rows],
                coded_aus=store.manifest.coded_aus,
                preprocessing={
                    **store.manifest.preprocessing,
                    "partitioned": _provenance(store.manifest, number, len(names), seed),
                },
            )
            for number, (name, rows) in enumerate(zip(names, parts, strict=True), start=1)
        )


def clips_of_rows(clips: ClipTable, rows: npt.NDArray[np.int64]) -> ClipTable:
    """Take some rows of a clip table, in the order given."""
    return ClipTable(**{field.name: getattr(clips, field.name)[rows] for field in fields(clips)})


def _check_names(names: Sequence[str]) -> None:
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise SettingsError(
            f"The name {', '.join(twice)} is given to more than one site. Every site needs a name "
            "of its own, which is also its folder's."
        )


def _provenance(parent: Manifest, site: int, sites: int, seed: int) -> dict[str, Any]:
    return {
        "from-partition": parent.partition,
        "from-data-hash": parent.data_hash,
        "by": "subject",
        "site": site,
        "sites": sites,
        "seed": seed,
    }
