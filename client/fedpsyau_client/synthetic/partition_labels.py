"""Who shows what: subjects, emotions and action units of one synthetic partition."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from fedpsyau_client.labels.class_rules import three_class
from fedpsyau_client.labels.clip_record import ClipRecord
from fedpsyau_client.splits import partition_subjects
from fedpsyau_client.synthetic.label_statistics import Source, draw_au_sets, emotion_shares
from fedpsyau_model.action_units import AUS
from fedpsyau_model.emotions import CLASS_NAMES, EMOTIONS
from fedpsyau_model.errors import LabelTableError

__all__ = [
    "CASME3_SPLIT_SEED",
    "MIN_CLIPS_PER_CLASS",
    "PartitionLabels",
    "casme3_site_records",
    "draw_labels",
    "labels_of_records",
]

#: Deals the 88 subjects of CAS(ME)3's 699 three-class clips to two sites of 44 whose clips number
#: 426 and 273, as in Table 3 of the supplement (`splits.partition_subjects`). It is the first seed
#: that does so; the shares of the classes at the two sites happen to be nearly equal.
CASME3_SPLIT_SEED: Final = 603

#: Floor at small scales: a site has at least so many clips of each of the three classes, each of
#: another subject, so that held-out subjects can show all classes. At full scale it never binds.
MIN_CLIPS_PER_CLASS: Final = 6

#: Share of action units that show on one side only: 86 of 798 annotated in CAS(ME)3 part A.
_ONE_SIDED: Final = 0.11

#: How coders err: units shown but not written down, and written down but not shown.
_OVERLOOKED: Final = 0.06
_IMAGINED: Final = 0.005

#: Tries among which a small sample of real subjects is chosen.
_SAMPLES: Final = 300

_CLASS_OF_EMOTION: NDArray[np.int64] = np.array(
    [CLASS_NAMES["three"].index(three_class(emotion)) for emotion in EMOTIONS]
)


@dataclass(frozen=True, eq=False)
class PartitionLabels:
    """N clips, ordered by subject.

    subject: (N,) index of the subject. emotion: (N,) position in `EMOTIONS`.
    shown: (N, 12, 2) bool, AUs that the face shows on its right and left side.
    annotated: (N, 12) bool, AUs that coders wrote down.
    """

    subject: NDArray[np.int64]
    emotion: NDArray[np.int64]
    shown: NDArray[np.bool_]
    annotated: NDArray[np.bool_]

    def __len__(self) -> int:
        """Count the clips."""
        return len(self.subject)


def draw_labels(
    source: Source, clips: int, subjects: int, generator: np.random.Generator
) -> PartitionLabels:
    """Draw labels with the statistics of a data set.

    clips: at least `subjects` and three times `MIN_CLIPS_PER_CLASS`; every subject gets a clip.
    subjects: at least `MIN_CLIPS_PER_CLASS`.
    """
    emotion = _draw_emotions(source, clips, generator)
    subject = _deal_to_subjects(emotion, subjects, generator)
    order = np.argsort(subject, kind="stable")
    emotion, subject = emotion[order], subject[order]
    sets = draw_au_sets(source, emotion, generator)
    seen = sets & (generator.random(sets.shape) >= _OVERLOOKED)
    imagined = generator.random(sets.shape) < _IMAGINED
    return PartitionLabels(subject, emotion, _draw_sides(sets, generator), seen | imagined)


def _draw_emotions(source: Source, clips: int, generator: np.random.Generator) -> NDArray[np.int64]:
    """(N,) emotions with the data set's shares, rounded, and the floor of every class."""
    exact = emotion_shares(source) * clips
    counts = np.floor(exact).astype(np.int64)
    largest_remainders = np.argsort(counts - exact, kind="stable")
    counts[largest_remainders[: clips - counts.sum()]] += 1
    negative = CLASS_NAMES["three"].index("negative") == _CLASS_OF_EMOTION
    for rare in np.flatnonzero(~negative):
        while counts[rare] < MIN_CLIPS_PER_CLASS:
            counts[np.argmax(np.where(negative, counts, 0))] -= 1
            counts[rare] += 1
    return np.asarray(generator.permutation(np.repeat(np.arange(len(EMOTIONS)), counts)))


def _deal_to_subjects(
    emotion: NDArray[np.int64], subjects: int, generator: np.random.Generator
) -> NDArray[np.int64]:
    """(N,) subject of each clip: some show much, some little, everybody something."""
    weight = generator.lognormal(0.0, 0.6, subjects)
    subject = generator.choice(subjects, len(emotion), p=weight / weight.sum())
    # The floor: the first clips of every class go to different subjects, who then all have one.
    start = 0
    for emotion_class in range(len(CLASS_NAMES["three"])):
        of_class = np.flatnonzero(_CLASS_OF_EMOTION[emotion] == emotion_class)
        first = of_class[: min(max(MIN_CLIPS_PER_CLASS, subjects // 3 + 1), len(of_class))]
        subject[first] = (start + np.arange(len(first))) % subjects
        start += len(first)
    return np.asarray(subject, dtype=np.int64)


def _draw_sides(sets: NDArray[np.bool_], generator: np.random.Generator) -> NDArray[np.bool_]:
    """(N, 12) AU sets -> (N, 12, 2), some of them on one side only."""
    one_sided = generator.random(sets.shape) < _ONE_SIDED
    on_the_right = generator.random(sets.shape) < 0.5
    sides = np.stack([~one_sided | on_the_right, ~one_sided | ~on_the_right], axis=-1)
    return np.asarray(sets[..., None] & sides)


def casme3_site_records(
    records: Sequence[ClipRecord], scale: float, min_subjects: int, seed: int
) -> tuple[tuple[ClipRecord, ...], tuple[ClipRecord, ...]]:
    """Deal the three-class clips of a CAS(ME)3 label table to the two sites, by subject.

    scale: at most 1; below it each site keeps that share of its subjects, at least `min_subjects`,
        with all their clips. Which ones depends on `seed`; a sample is chosen in which all classes
        have several subjects and which has about its share of the clips.

    Raises LabelTableError if there are too few subjects with an emotion for two sites.
    """
    known = [record for record in records if record.emotion]
    subjects = np.array([record.subject for record in known])
    if len(np.unique(subjects)) < 2 * min_subjects:
        raise LabelTableError(
            f"The label table has {len(np.unique(subjects))} subjects with an emotion; two sites "
            f"need at least {2 * min_subjects}. Give the whole table of CAS(ME)3 part A."
        )
    sites = partition_subjects(subjects, 2, np.random.default_rng(CASME3_SPLIT_SEED))
    first, second = (
        _sample_subjects([known[row] for row in rows], scale, min_subjects, seed) for rows in sites
    )
    return first, second


def _sample_subjects(
    records: Sequence[ClipRecord], scale: float, min_subjects: int, seed: int
) -> tuple[ClipRecord, ...]:
    names, subject = np.unique([record.subject for record in records], return_inverse=True)
    wanted = max(round(scale * len(names)), min_subjects)
    if wanted >= len(names):
        return tuple(records)
    classes = np.array([_CLASS_OF_EMOTION[EMOTIONS.index(r.emotion)] for r in records])
    counts = np.zeros((len(names), len(CLASS_NAMES["three"])), dtype=np.int64)
    np.add.at(counts, (subject, classes), 1)
    generator = np.random.default_rng(seed)
    samples = [generator.permutation(len(names))[:wanted] for _ in range(_SAMPLES)]

    def unfitness(sample: NDArray[np.int64]) -> tuple[int, float]:
        subjects_of_rarest = int((counts[sample] > 0).sum(axis=0).min())
        share = counts[sample].sum() / len(records)
        return -min(subjects_of_rarest, MIN_CLIPS_PER_CLASS), abs(share - wanted / len(names))

    chosen = set(names[min(samples, key=unfitness)])
    return tuple(record for record in records if record.subject in chosen)


def labels_of_records(
    records: Sequence[ClipRecord], generator: np.random.Generator
) -> PartitionLabels:
    """Take subjects, emotions and AUs from a real label table, with the sides that it gives.

    Subjects become bare numbers in an order drawn from `generator`, so that no id of the table
    survives. AUs outside the twelve are left out.
    """
    names, subject = np.unique([record.subject for record in records], return_inverse=True)
    subject = generator.permutation(len(names))[subject]
    order = np.argsort(subject, kind="stable")
    shown = np.zeros((len(records), len(AUS), 2), dtype=np.bool_)
    for row, record in enumerate(records):
        for unit in record.aus or ():
            if unit.au in AUS:
                shown[row, AUS.index(unit.au)] |= [unit.side != "left", unit.side != "right"]
    emotion = np.array([EMOTIONS.index(record.emotion) for record in records])
    shown = shown[order]
    annotated = np.asarray(shown.any(axis=-1), dtype=np.bool_)
    return PartitionLabels(
        np.asarray(subject[order], dtype=np.int64), emotion[order], shown, annotated
    )
