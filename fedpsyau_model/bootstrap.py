"""How sure a score is: the bootstrap over subjects.

Clips of one subject resemble each other, so the subject is what is drawn anew, with all its clips.
A score is a function of counts, and counts add up over subjects; a resample is therefore a row of
whole numbers, how often each subject was drawn, and all resamples are one matrix product.

What these intervals cover is which subjects happened to be tested. They do not cover what another
seed of training would have changed.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Counts = npt.NDArray[np.int64]
Scores = npt.NDArray[np.float64]

#: Resamples where nothing else is said; percentiles then wobble by about 0.001 of a score.
RESAMPLES = 10_000

#: Share of resamples that lies in an interval.
COVERAGE = 0.95


class Interval(NamedTuple):
    """Ends of a percentile interval; both NaN if no resample has a defined score."""

    low: float
    high: float


def counts_by_subject(subjects: Counts, counts: npt.ArrayLike) -> Counts:
    """Add up clips' counts by subject: (N, ...) -> (S, ...).

    subjects: (N,) number of each clip's subject, in [0, S); S is the largest plus one.
    """
    each = np.asarray(counts, dtype=np.int64)
    total = np.zeros((int(subjects.max()) + 1, *each.shape[1:]), dtype=np.int64)
    np.add.at(total, subjects, each)
    return total


def drawn_subjects(subjects: int, resamples: int, generator: np.random.Generator) -> Counts:
    """Draw `subjects` of as many subjects with replacement, `resamples` times.

    Returns (resamples, subjects) int64: how often each subject was drawn. Rows sum to `subjects`.
    """
    return generator.multinomial(subjects, np.full(subjects, 1 / subjects), size=resamples)


def resampled(counts: npt.ArrayLike, drawn: Counts) -> Scores:
    """Counts of every resample: (S, ...) counts and (R, S) `drawn_subjects` -> (R, ...).

    The result is float64 and whole numbers: exact, and as fast as a matrix product.
    """
    each = np.asarray(counts, dtype=np.float64)
    flat = drawn.astype(np.float64) @ each.reshape(len(each), -1)
    return flat.reshape(len(drawn), *each.shape[1:])


def percentile_interval(scores: npt.ArrayLike, coverage: float = COVERAGE) -> Interval:
    """Interval between the percentiles that leave (1 - coverage) / 2 on either side.

    scores: (R,), one of each resample. A resample in which the score is not defined (NaN: the
    class or AU neither occurs in it nor is predicted) is left out.
    """
    values = np.asarray(scores, dtype=np.float64)
    values = values[~np.isnan(values)]
    if not len(values):
        return Interval(float("nan"), float("nan"))
    low, high = np.quantile(values, [(1 - coverage) / 2, (1 + coverage) / 2])
    return Interval(float(low), float(high))


def two_sided_p(differences: npt.ArrayLike) -> float:
    """Bootstrap p of "there is no difference", in (0, 1]; NaN if no resample is defined.

    differences: (R,), one of each resample. Twice the smaller share of resamples on either side of
    0, a resample at 0 counting for both; 1 is added to the count and to R, so that p is never 0.
    It is below 0.05 when the 95 % percentile interval leaves out 0, up to the added 1.
    """
    values = np.asarray(differences, dtype=np.float64)
    values = values[~np.isnan(values)]
    if not len(values):
        return float("nan")
    fewer = min(int((values <= 0).sum()), int((values >= 0).sum()))
    return min(1.0, 2 * (fewer + 1) / (len(values) + 1))
