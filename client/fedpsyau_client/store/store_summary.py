"""How much every site has, in the manner of the supplement's Table 3."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

import numpy as np

from fedpsyau_client.store.clip_table import ClipTable
from fedpsyau_client.store.feature_store import FeatureStore
from fedpsyau_model.atomic_files import write_atomically
from fedpsyau_model.emotions import CLASS_NAMES
from fedpsyau_model.errors import OutputWriteError, SettingsError

__all__ = ["StoreSummary", "summarise", "summary_text", "write_summary"]

_COLUMNS: Final = ("site", "clips", "subjects", *CLASS_NAMES["three"], "no class", "data set")


@dataclass(frozen=True)
class StoreSummary:
    """One row: a site, its data set, and its clips by class of the 3-class scheme.

    classes: clips of each class in the order of ``CLASS_NAMES["three"]``; clips that the scheme
        drops are in `clips` only.
    """

    partition: str
    dataset: str
    synthetic: bool
    clips: int
    subjects: int
    classes: dict[str, int]

    @property
    def dropped(self) -> int:
        """Clips without a class."""
        return self.clips - sum(self.classes.values())

    @property
    def dataset_label(self) -> str:
        """Name of the data set, which says so where the data is made up."""
        if not self.synthetic or self.dataset.startswith("synthetic"):
            return self.dataset
        return f"{self.dataset} (synthetic)"


def summarise(store: FeatureStore) -> StoreSummary:
    """Count the clips of a store by class."""
    manifest = store.manifest
    return StoreSummary(
        partition=manifest.partition,
        dataset=manifest.dataset,
        synthetic=manifest.synthetic,
        clips=len(store),
        subjects=manifest.counts.subjects,
        classes=_class_counts(store.clips),
    )


def _class_counts(clips: ClipTable) -> dict[str, int]:
    return {name: int(np.sum(clips.class3 == name)) for name in CLASS_NAMES["three"]}


def summary_text(summaries: Sequence[StoreSummary], kind: str) -> str:
    """Format the table as `kind`: "csv", "json" or "md". Raises SettingsError for another."""
    if kind == "json":
        return json.dumps([asdict(summary) for summary in summaries], indent=2) + "\n"
    if kind not in ("csv", "md"):
        raise SettingsError(
            f"A summary cannot be written as {kind!r}. Give a file that ends in .csv, .json or .md."
        )
    rows = [_COLUMNS, *map(_cells, summaries)]
    if kind == "md":
        rows.insert(1, ("---", *["--:"] * (len(_COLUMNS) - 2), "---"))
        return "".join(f"| {' | '.join(row)} |\n" for row in rows)
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()


def write_summary(summaries: Sequence[StoreSummary], file: Path) -> None:
    """Write the table to a file whose ending (.csv, .json, .md) says how; an older one goes.

    Raises SettingsError for another ending, OutputWriteError if it cannot be written.
    """
    text = summary_text(summaries, file.suffix.removeprefix(".").lower())
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(file, text)
    except OSError as error:
        raise OutputWriteError(
            f"The summary {file} cannot be written: {error.strerror or error}. Check free space "
            "and permissions, or give another file with --summary."
        ) from error


def _cells(summary: StoreSummary) -> tuple[str, ...]:
    counts = (summary.clips, summary.subjects, *summary.classes.values(), summary.dropped)
    return (summary.partition, *map(str, counts), summary.dataset_label)
