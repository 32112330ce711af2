"""Scores of a run from the pooled counts of its folds, with intervals over subjects.

Scores of folds are never averaged: in leave-one-subject-out a fold may hold one clip.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fedpsyau_client.protocols.fold_result import FoldResult, au_outcomes_of_clips
from fedpsyau_model.bootstrap import (
    RESAMPLES,
    Scores,
    counts_by_subject,
    drawn_subjects,
    percentile_interval,
    resampled,
)
from fedpsyau_model.metrics import (
    Counts,
    accuracy_of_each,
    au_f1,
    confusion_matrices,
    mean_of_defined,
    uar_of_each,
    uf1_of_each,
)


@dataclass(frozen=True, eq=False)
class Pooled:
    """Predictions of N tested clips of S subjects, sorted by clip.

    clip: (N,) ids; a clip is there once. subject: (N,) ids. truth, predicted: (N,) classes.
    confusion: (S, C, C) counts by subject, in the order of the sorted subject ids.
    aus: (S, 12, 3) counts by subject over clips with AU labels; None without an AU branch.
    """

    clip: npt.NDArray[np.str_]
    subject: npt.NDArray[np.str_]
    truth: Counts
    predicted: Counts
    confusion: Counts
    aus: Counts | None

    @property
    def subjects(self) -> int:
        """Count the subjects."""
        return len(self.confusion)


def pool(results: Sequence[FoldResult]) -> Pooled:
    """Put the test clips of all folds together; the order of the folds does not matter."""
    clip = np.concatenate([result.clip for result in results])
    order = np.argsort(clip)
    subject = np.concatenate([result.subject for result in results])[order]
    truth, predicted = (
        np.concatenate([getattr(result, name) for result in results])[order].astype(np.int64)
        for name in ("truth", "predicted")
    )
    names, number = np.unique(subject, return_inverse=True)
    outcomes = [au_outcomes_of_clips(result) for result in results]
    known = [each for each in outcomes if each is not None]
    return Pooled(
        clip=clip[order],
        subject=subject,
        truth=truth,
        predicted=predicted,
        confusion=confusion_matrices(
            truth, predicted, number, len(results[0].confusion), len(names)
        ),
        aus=counts_by_subject(number, np.concatenate(known)[order])
        if len(known) == len(results)
        else None,
    )


@dataclass(frozen=True)
class Score:
    """A score of all clips, with its 95 % interval over subjects; NaN where it is not defined."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, eq=False)
class PooledScores:
    """Scores of a run. AU scores are None without an AU branch; `au_f1` has one for each AU."""

    uf1: Score
    uar: Score
    accuracy: Score
    au_f1_mean: Score | None
    au_f1: tuple[Score, ...] | None


def score(
    pooled: Pooled, generator: np.random.Generator, resamples: int = RESAMPLES
) -> PooledScores:
    """Score pooled counts, with percentile intervals of a bootstrap over subjects."""
    drawn = drawn_subjects(pooled.subjects, resamples, generator)
    # The first row is the run as it is: every subject once.
    drawn = np.concatenate([np.ones((1, pooled.subjects), dtype=np.int64), drawn])
    confusions = resampled(pooled.confusion, drawn)
    by_au = None if pooled.aus is None else au_f1(resampled(pooled.aus, drawn))
    return PooledScores(
        uf1=_score(uf1_of_each(confusions)),
        uar=_score(uar_of_each(confusions)),
        accuracy=_score(accuracy_of_each(confusions)),
        au_f1_mean=None if by_au is None else _score(mean_of_defined(by_au)),
        au_f1=None if by_au is None else tuple(_score(each) for each in by_au.T),
    )


def _score(scores: Scores) -> Score:
    """Tell the score of the first row and the interval over the others."""
    interval = percentile_interval(scores[1:])
    return Score(float(scores[0]), interval.low, interval.high)
