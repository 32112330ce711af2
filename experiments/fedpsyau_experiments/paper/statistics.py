"""What repeated, paired measurements say: spread over seeds, two tests, and Holm's correction."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from fedpsyau_model.bootstrap import (
    Counts,
    Scores,
    percentile_interval,
    resampled,
    two_sided_p,
)
from fedpsyau_model.metrics import mean_of_defined

__all__ = [
    "PairedDifference",
    "Spread",
    "holm",
    "mean_scores",
    "paired_difference",
    "sign_flip_p",
    "smallest_sign_flip_p",
    "spread",
]


@dataclass(frozen=True)
class Spread:
    """Values of the seeds, their mean, and their standard deviation (n - 1).

    NaN stands for what is not defined: values are left out then, and one value has no deviation.
    """

    values: tuple[float, ...]
    mean: float
    sd: float


def spread(values: Sequence[float]) -> Spread:
    """Mean and standard deviation of the values that are defined."""
    known = [value for value in values if not math.isnan(value)]
    mean = math.fsum(known) / len(known) if known else math.nan
    squares = math.fsum((value - mean) ** 2 for value in known)
    sd = math.sqrt(squares / (len(known) - 1)) if len(known) > 1 else math.nan
    return Spread(tuple(values), mean, sd)


def holm(p: Sequence[float]) -> tuple[float, ...]:
    """Holm's step-down p values of a family of tests, in the order given.

    The i-th smallest of m is multiplied by m - i + 1; none is below a smaller one's, nor above 1.
    Rejecting those below 0.05 keeps the chance of any false rejection below 0.05 (Holm 1979). A NaN
    stays and counts as no test.
    """
    adjusted = [math.nan] * len(p)
    tests = sorted((value, place) for place, value in enumerate(p) if not math.isnan(value))
    largest = 0.0
    for rank, (value, place) in enumerate(tests):
        largest = max(largest, min(1.0, (len(tests) - rank) * value))
        adjusted[place] = largest
    return tuple(adjusted)


def sign_flip_p(differences: Sequence[float]) -> float:
    """Exact two-sided p of "signs of the differences are chance", in [2 / 2^n, 1].

    The share of all 2^n choices of signs whose sum is as far from 0 as the one found. Of the seeds'
    paired differences it assumes no distribution, but with few it can never be small. NaN if there
    is none that is defined.
    """
    known = np.array([each for each in differences if not math.isnan(each)])
    if not len(known):
        return math.nan
    signs = np.array(list(itertools.product((1, -1), repeat=len(known))))
    sums = np.abs(signs @ known)
    # Sums of the same numbers may round differently.
    as_far: int = int(np.count_nonzero(sums >= abs(known.sum()) - 1e-12))
    return as_far / len(sums)


def smallest_sign_flip_p(seeds: int) -> float:
    """Give the smallest p that `sign_flip_p` can have."""
    return min(1.0, math.ldexp(1.0, 1 - seeds))


def mean_scores(
    counts: Sequence[Counts], drawn: Counts, score: Callable[[Scores], Scores]
) -> Scores:
    """Score of every resample, the mean over the seeds: (R,).

    counts: for each seed (S, C, C), by subject; 0 throughout for a subject that the seed does not
        test. drawn: (R, S), how often each subject is drawn, for all seeds alike.
    score: (R, C, C) -> (R,). A seed whose score a resample leaves undefined is left out of it.
    """
    return mean_of_defined(np.stack([score(resampled(each, drawn)) for each in counts], axis=-1))


@dataclass(frozen=True)
class PairedDifference:
    """A setting minus the reference, with its interval and p over resampled subjects."""

    value: float
    low: float
    high: float
    p: float


def paired_difference(reference: Scores, other: Scores) -> PairedDifference:
    """Compare `mean_scores` of the same resamples; the first is of every subject once."""
    differences = other - reference
    interval = percentile_interval(differences[1:])
    return PairedDifference(
        value=float(differences[0]),
        low=interval.low,
        high=interval.high,
        p=two_sided_p(differences[1:]),
    )
