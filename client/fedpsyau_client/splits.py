"""Splits by subject: no clip of one subject ever stands on both sides.

Every function takes one subject id per clip and works on the sorted set of ids, so that neither the
order of the clips nor their number changes who goes where. Randomness is the generator passed in.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fedpsyau_model.errors import TooFewSubjectsError

__all__ = [
    "Split",
    "k_fold_by_subject",
    "leave_one_subject_out",
    "partition_subjects",
    "split_by_subject",
]

Indices = npt.NDArray[np.int64]

#: Random divisions among which `split_by_subject` chooses when it is given labels.
CANDIDATES = 256


@dataclass(frozen=True, eq=False)
class Split:
    """Row numbers of the clips on each side: ascending, disjoint, together all clips (int64)."""

    train: Indices
    test: Indices


def split_by_subject(
    subjects: npt.NDArray[np.str_],
    test_share: float,
    generator: np.random.Generator,
    labels: npt.NDArray[np.generic] | None = None,
) -> Split:
    """Hold out `test_share` of the subjects, at least one on each side.

    subjects: (N,) subject id of each clip.
    test_share: share of subjects, not of clips, in the test part; 0 < test_share < 1; rounded to
        whole subjects.
    labels: (N,) class of each clip, or None for a plain random division. With labels,
        `CANDIDATES` random divisions are drawn and the best is kept: fewest classes missing from
        the training part, then fewest missing from the test part, then the class counts of the
        test part closest to `test_share` of all clips, then the one drawn first.

    Raises TooFewSubjectsError for fewer than two subjects.
    """
    if not 0 < test_share < 1:
        raise ValueError(f"test_share must lie between 0 and 1, not at {test_share}")
    if labels is not None and len(labels) != len(subjects):
        raise ValueError(f"{len(labels)} labels do not fit {len(subjects)} clips")
    names, subject_of_clip = _indexed(subjects)
    _require_subjects(len(names), 2, "a training and a test part")
    test_count = min(max(round(test_share * len(names)), 1), len(names) - 1)
    draws = 1 if labels is None else CANDIDATES
    candidates = np.zeros((draws, len(names)), dtype=np.bool_)
    for candidate in candidates:
        candidate[generator.permutation(len(names))[:test_count]] = True
    best = 0
    if labels is not None:
        best = _most_even(candidates, _class_counts(subject_of_clip, labels), test_share)
    return _divide(candidates[best][subject_of_clip])


def leave_one_subject_out(subjects: npt.NDArray[np.str_]) -> list[Split]:
    """One split per subject, whose clips are the test part; in the order of the subject ids.

    subjects: (N,) subject id of each clip. Raises TooFewSubjectsError for fewer than two subjects.
    """
    names, subject_of_clip = _indexed(subjects)
    _require_subjects(len(names), 2, "leaving one out")
    return [_divide(subject_of_clip == subject) for subject in range(len(names))]


def k_fold_by_subject(
    subjects: npt.NDArray[np.str_], folds: int, generator: np.random.Generator
) -> list[Split]:
    """Divide the subjects into `folds` parts at random, each the test part of one split.

    subjects: (N,) subject id of each clip. Parts differ by at most one subject. Raises
    TooFewSubjectsError if there are fewer subjects than folds; at least two folds are needed.
    """
    if folds < 2:
        raise ValueError(f"at least two folds are needed, not {folds}")
    fold_of_clip = _deal(subjects, folds, generator, f"{folds} folds")
    return [_divide(fold_of_clip == fold) for fold in range(folds)]


def partition_subjects(
    subjects: npt.NDArray[np.str_], sites: int, generator: np.random.Generator
) -> list[Indices]:
    """Deal the subjects of one data set to sites at random (supplement section 7).

    subjects: (N,) subject id of each clip. Sites differ by at most one subject; their clip numbers
    differ as the subjects' do. Returns for each site the ascending row numbers of its clips. Raises
    TooFewSubjectsError if there are fewer subjects than sites.
    """
    if sites < 1:
        raise ValueError(f"at least one site is needed, not {sites}")
    site_of_clip = _deal(subjects, sites, generator, f"{sites} sites")
    return [np.flatnonzero(site_of_clip == site).astype(np.int64) for site in range(sites)]


def _indexed(subjects: npt.NDArray[np.str_]) -> tuple[npt.NDArray[np.str_], Indices]:
    """Give the sorted subject ids (S,) and the position of each clip's subject among them (N,)."""
    names, positions = np.unique(np.asarray(subjects), return_inverse=True)
    return names, positions.astype(np.int64)


def _require_subjects(found: int, needed: int, purpose: str) -> None:
    if found < needed:
        raise TooFewSubjectsError(
            f"Too few subjects: there are clips of {found}, but {purpose} needs at least {needed}, "
            "because one subject's clips never stand on both sides of a split. Add clips of "
            "further subjects."
        )


def _deal(
    subjects: npt.NDArray[np.str_], parts: int, generator: np.random.Generator, purpose: str
) -> Indices:
    """Give each clip the part (0 to parts - 1) that its subject is dealt to: (N,)."""
    names, subject_of_clip = _indexed(subjects)
    _require_subjects(len(names), parts, purpose)
    part_of_subject = np.empty(len(names), dtype=np.int64)
    part_of_subject[generator.permutation(len(names))] = np.arange(len(names)) % parts
    return np.asarray(part_of_subject[subject_of_clip])


def _class_counts(subject_of_clip: Indices, labels: npt.NDArray[np.generic]) -> Indices:
    """Count clips by subject and class: (S, C)."""
    classes, class_of_clip = np.unique(np.asarray(labels), return_inverse=True)
    counts = np.zeros((int(subject_of_clip.max()) + 1, len(classes)), dtype=np.int64)
    np.add.at(counts, (subject_of_clip, class_of_clip), 1)
    return counts


def _most_even(candidates: npt.NDArray[np.bool_], counts: Indices, test_share: float) -> int:
    """Pick the best of the candidates (D, S), who is in the test part; counts: (S, C)."""
    test = candidates.astype(np.int64) @ counts
    train = counts.sum(axis=0) - test
    unevenness = np.abs(test - test_share * counts.sum(axis=0)).sum(axis=1)
    # lexsort looks at its last key first and keeps the order drawn among equals.
    keys = (unevenness, (test == 0).sum(axis=1), (train == 0).sum(axis=1))
    return int(np.lexsort(keys)[0])


def _divide(in_test: npt.NDArray[np.bool_]) -> Split:
    train, test = np.flatnonzero(~in_test), np.flatnonzero(in_test)
    return Split(train.astype(np.int64), test.astype(np.int64))
