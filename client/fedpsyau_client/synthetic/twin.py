"""The seven partitions of the paper (supplement Table 3), synthetic, as feature stores."""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from fedpsyau_client.labels.class_rules import three_class
from fedpsyau_client.labels.readers import read_casme3_labels
from fedpsyau_client.store.feature_store import ClipTable, Manifest, write_feature_store
from fedpsyau_client.store.partition_set import assembled_partitions
from fedpsyau_client.synthetic.clip_motion import CLIPS_PER_CHUNK, Difficulty, draw_features
from fedpsyau_client.synthetic.face_identity import (
    SiteShift,
    SubjectTraits,
    draw_site_shift,
    draw_subjects,
)
from fedpsyau_client.synthetic.label_statistics import Source
from fedpsyau_client.synthetic.partition_labels import (
    MIN_CLIPS_PER_CLASS,
    PartitionLabels,
    casme3_site_records,
    draw_labels,
    labels_of_records,
)
from fedpsyau_model.emotions import EMOTIONS
from fedpsyau_model.errors import SettingsError

__all__ = [
    "MIN_SUBJECTS",
    "TABLE_3",
    "Partition",
    "Purpose",
    "SiteDraws",
    "SyntheticPartition",
    "draw_site",
    "make_partition",
    "partition_clips",
    "plan_with_labels",
    "planned_partitions",
    "seed_sequence",
    "write_twin",
]

#: Fewest subjects of a site, however small the scale.
MIN_SUBJECTS: Final = 8

#: Fewest clips of a site: below, held-out subjects would show so few that scores say nothing.
MIN_CLIPS: Final = max(5 * MIN_SUBJECTS, 3 * MIN_CLIPS_PER_CLASS)


@dataclass(frozen=True)
class Partition:
    """One site: its name, whose statistics it follows, and how much it has."""

    name: str
    source: Source
    clips: int
    subjects: int


#: Clips by supplement Table 3. DFME's 656 subjects and the 88 of CAS(ME)3's three-class clips are
#: dealt in equal numbers to the sites of their data set.
TABLE_3: Final = (
    Partition("dfme_c1", "dfme", 1389, 132),
    Partition("dfme_c2", "dfme", 1547, 131),
    Partition("dfme_c3", "dfme", 1334, 131),
    Partition("dfme_c4", "dfme", 1492, 131),
    Partition("dfme_c5", "dfme", 1513, 131),
    Partition("casme3_c1", "casme3", 426, 44),
    Partition("casme3_c2", "casme3", 273, 44),
)

#: Name of each data set's twin in manifests and reports.
DATASETS: Final[Mapping[Source, str]] = {"dfme": "synthetic-dfme", "casme3": "synthetic-casme3"}


@dataclass(frozen=True, eq=False)
class SyntheticPartition:
    """One finished partition: labels and the features of its N clips as a store keeps them."""

    partition: Partition
    labels: PartitionLabels
    flow: NDArray[np.float32]
    rois: NDArray[np.float32]


def planned_partitions(scale: float = 1.0) -> tuple[Partition, ...]:
    """Scale the clips and subjects of every partition, at least `MIN_CLIPS` and `MIN_SUBJECTS`.

    Raises SettingsError unless 0 < scale <= 20.
    """
    if not (math.isfinite(scale) and 0 < scale <= 20):
        raise SettingsError(
            f"--scale is {scale:g}; it multiplies the clips of the seven partitions and must lie "
            "above 0 and not above 20. 0.1 makes about 800 clips, 1 the paper's 7,974."
        )
    return tuple(
        Partition(
            name=partition.name,
            source=partition.source,
            clips=max(round(scale * partition.clips), MIN_CLIPS),
            subjects=max(round(scale * partition.subjects), MIN_SUBJECTS),
        )
        for partition in TABLE_3
    )


#: Where a partition's random numbers come from; each use has a seed of its own. New ones go to the
#: end, since the place in the list is part of the seed.
Purpose = Literal[
    "labels",
    "subjects",
    "site",
    "clips",
    "smooth noise",
    "pixel noise",
    "camera",
    "looks",
    "pictures",
]
_PURPOSES: Final[tuple[Purpose, ...]] = get_args(Purpose)
_FEATURE_PURPOSES: Final[tuple[Purpose, ...]] = ("clips", "smooth noise", "pixel noise")


def seed_sequence(seed: int, partition: str, purpose: Purpose) -> np.random.SeedSequence:
    """Seed of one use: no partition's numbers depend on which others are made."""
    return np.random.SeedSequence([seed, zlib.crc32(partition.encode()), _PURPOSES.index(purpose)])


@dataclass(frozen=True, eq=False)
class SiteDraws:
    """What is drawn for a site before anything moves: who shows what, the faces, the camera."""

    labels: PartitionLabels
    subjects: SubjectTraits
    site: SiteShift


def draw_site(partition: Partition, seed: int, labels: PartitionLabels | None = None) -> SiteDraws:
    """Draw a site; the same for both depths of the twin. labels: given ones instead of drawn."""

    def generator(purpose: Purpose) -> np.random.Generator:
        return np.random.default_rng(seed_sequence(seed, partition.name, purpose))

    if labels is None:
        labels = draw_labels(
            partition.source, partition.clips, partition.subjects, generator("labels")
        )
    return SiteDraws(
        labels=labels,
        subjects=draw_subjects(int(labels.subject.max()) + 1, generator("subjects")),
        site=draw_site_shift(partition.source, generator("site")),
    )


def make_partition(
    partition: Partition,
    seed: int,
    *,
    labels: PartitionLabels | None = None,
    difficulty: Difficulty | None = None,
    chunk: int = CLIPS_PER_CHUNK,
    progress: Callable[[int], None] = lambda clips: None,
) -> SyntheticPartition:
    """Make one partition in memory.

    labels: who shows what; drawn from the statistics of the partition's data set if left out.
    chunk: clips made together; the result is the same bit for bit.
    progress: called with the number of clips made since the last call.
    """
    drawn = draw_site(partition, seed, labels)
    flow = np.empty((len(drawn.labels), 3, 28, 28), dtype=np.float32)
    rois = np.empty((len(drawn.labels), 65, 3, 5, 5), dtype=np.float32)
    done = 0
    for flow_part, roi_part in draw_features(
        drawn.labels,
        drawn.subjects,
        drawn.site,
        [seed_sequence(seed, partition.name, purpose) for purpose in _FEATURE_PURPOSES],
        difficulty or Difficulty(),
        chunk,
    ):
        rows = slice(done, done + len(flow_part))
        flow[rows], rois[rows] = flow_part, roi_part
        done = rows.stop
        progress(len(flow_part))
    return SyntheticPartition(partition, drawn.labels, flow, rois)


def plan_with_labels(
    scale: float, seed: int, casme3_labels: Path | None
) -> tuple[tuple[Partition, ...], dict[str, PartitionLabels]]:
    """Plan all partitions; those that take their labels from a real table come with them.

    Raises SettingsError (scale), LabelTableError (label table).
    """
    plan = planned_partitions(scale)
    real = {} if casme3_labels is None else _casme3_labels(casme3_labels, scale, seed)
    return tuple(_with_labels(partition, real.get(partition.name)) for partition in plan), real


def write_twin(
    out: Path,
    *,
    scale: float = 1.0,
    seed: int = 0,
    casme3_labels: Path | None = None,
    overwrite: bool = False,
    begin: Callable[[Sequence[Partition]], None] = lambda partitions: None,
    progress: Callable[[int], None] = lambda clips: None,
) -> tuple[Manifest, ...]:
    """Write the seven partitions as feature stores under `out`, all of them or none.

    casme3_labels: CAS(ME)3's label table, from which the two casme3 partitions take subjects, AU
        sets and emotions; else they follow shipped statistics.
    overwrite: replace synthetic partitions that are there; real data is never replaced.
    begin: called once with what will be made. progress: with the number of clips made since the
        last call.

    Raises SettingsError (scale), LabelTableError (label table), OutputExistsError (partitions are
    there already), OutputWriteError (cannot be written). Whatever is raised, `out` stays as it was.
    """
    plan, real_labels = plan_with_labels(scale, seed, casme3_labels)
    names = [partition.name for partition in plan]
    with assembled_partitions(out, names, overwrite, made_up=True) as folder:
        begin(plan)
        return tuple(
            _write_partition(
                folder,
                make_partition(
                    partition, seed, labels=real_labels.get(partition.name), progress=progress
                ),
                _provenance(scale, seed, partition.name in real_labels),
            )
            for partition in plan
        )


def _casme3_labels(file: Path, scale: float, seed: int) -> dict[str, PartitionLabels]:
    if scale > 1:
        raise SettingsError(
            f"--scale is {scale:g}, but a real label table holds no more clips than it has. Leave "
            "--labels out, or give a scale of at most 1."
        )
    table = read_casme3_labels(file)
    sites = casme3_site_records(table.clips, scale, MIN_SUBJECTS, seed)
    return {
        name: labels_of_records(records, np.random.default_rng(seed_sequence(seed, name, "labels")))
        for name, records in zip(("casme3_c1", "casme3_c2"), sites, strict=True)
    }


def _with_labels(partition: Partition, labels: PartitionLabels | None) -> Partition:
    if labels is None:
        return partition
    subjects = int(labels.subject.max()) + 1
    return Partition(partition.name, partition.source, len(labels), subjects)


def _provenance(scale: float, seed: int, from_table: bool) -> dict[str, Any]:
    return {
        "method": "synthetic motion fields by FACS at 128x128; no face was recorded or shown",
        "labels": "CAS(ME)3 label table" if from_table else "drawn from shipped summary statistics",
        "scale": scale,
        "seed": seed,
        "flow_units": "pixels of the 28x28 grid, x right, y down, onset to apex",
        "roi_units": "pixels of the 128x128 grid, x right, y down, onset to apex",
    }


def _write_partition(
    folder: Path, made: SyntheticPartition, preprocessing: Mapping[str, Any]
) -> Manifest:
    partition = made.partition
    return write_feature_store(
        folder / partition.name,
        partition=partition.name,
        dataset=DATASETS[partition.source],
        synthetic=True,
        clips=partition_clips(partition.name, made.labels),
        flow=made.flow,
        rois=made.rois,
        preprocessing=preprocessing,
    )


def partition_clips(name: str, labels: PartitionLabels) -> ClipTable:
    """Clip table of a partition; ids are the partition's name and a number."""
    emotion = np.array(EMOTIONS)[labels.emotion]
    return ClipTable(
        clip=np.array([f"{name}-{number:05d}" for number in range(len(labels))]),
        subject=np.array([f"{name}-s{number:03d}" for number in labels.subject]),
        emotion=emotion,
        class3=np.array([three_class(each) for each in emotion]),
        class7=emotion,
        au_known=np.ones(len(labels), dtype=np.bool_),
        aus=labels.annotated.astype(np.uint8),
    )
