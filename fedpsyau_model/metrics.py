"""UF1, UAR and AU scores from counts, so that sites' results can be pooled by adding them up.

Scores of sites or folds are never averaged: add their counts, then compute the score.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Counts = npt.NDArray[np.int64]
Scores = npt.NDArray[np.float64]


def confusion_matrix(truth: npt.ArrayLike, predicted: npt.ArrayLike, class_count: int) -> Counts:
    """Count clips by true class (row) and predicted class (column).

    truth, predicted: (N,) integers in [0, class_count). Returns (class_count, class_count) int64.
    Raises ValueError if a class is out of range or the lengths differ.
    """
    rows, columns = _classes(truth, class_count), _classes(predicted, class_count)
    if rows.shape != columns.shape:
        raise ValueError(f"{len(rows)} true classes but {len(columns)} predicted ones")
    cells = np.bincount(rows * class_count + columns, minlength=class_count**2)
    return cells.reshape(class_count, class_count).astype(np.int64)


def confusion_matrices(
    truth: npt.ArrayLike,
    predicted: npt.ArrayLike,
    group: npt.ArrayLike,
    class_count: int,
    group_count: int,
) -> Counts:
    """`confusion_matrix` of every group of clips, such as every subject: (G, C, C) int64.

    group: (N,) integers in [0, group_count). Raises ValueError like `confusion_matrix`.
    """
    rows, columns = _classes(truth, class_count), _classes(predicted, class_count)
    groups = _classes(group, group_count)
    if not rows.shape == columns.shape == groups.shape:
        raise ValueError(
            f"{len(rows)} true classes, {len(columns)} predicted, {len(groups)} groups"
        )
    cells = (groups * class_count + rows) * class_count + columns
    counts = np.bincount(cells, minlength=group_count * class_count**2)
    return counts.reshape(group_count, class_count, class_count).astype(np.int64)


def uf1(confusion: npt.ArrayLike) -> float:
    """Unweighted F1: the mean over classes of 2 TP / (2 TP + FP + FN), in [0, 1].

    confusion: (C, C), rows the true class. A class that neither occurs nor is predicted is left
    out of the mean; NaN if that leaves no class.
    """
    return float(uf1_of_each(confusion))


def uar(confusion: npt.ArrayLike) -> float:
    """Unweighted average recall: the mean over classes of TP / (TP + FN), in [0, 1].

    confusion: (C, C), rows the true class. A class that does not occur is left out of the mean;
    NaN if that leaves no class.
    """
    return float(uar_of_each(confusion))


def accuracy(confusion: npt.ArrayLike) -> float:
    """Share of clips on the diagonal of (C, C), in [0, 1]; NaN without clips."""
    return float(accuracy_of_each(confusion))


def uf1_of_each(confusions: npt.ArrayLike) -> Scores:
    """`uf1` of many matrices at once: (..., C, C) -> (...). Each has its own absent classes."""
    return mean_of_defined(f1_by_class(confusions))


def uar_of_each(confusions: npt.ArrayLike) -> Scores:
    """`uar` of many matrices at once: (..., C, C) -> (...). Each has its own absent classes."""
    return mean_of_defined(recall_by_class(confusions))


def accuracy_of_each(confusions: npt.ArrayLike) -> Scores:
    """`accuracy` of many matrices at once: (..., C, C) -> (...)."""
    counts = np.asarray(confusions, dtype=np.float64)
    return _ratio(np.trace(counts, axis1=-2, axis2=-1), counts.sum(axis=(-2, -1)))


def f1_by_class(confusions: npt.ArrayLike) -> Scores:
    """F1 of every class: (..., C, C) -> (..., C); NaN if it neither occurs nor is predicted."""
    counts = np.asarray(confusions, dtype=np.float64)
    found = np.diagonal(counts, axis1=-2, axis2=-1)
    return _ratio(2 * found, counts.sum(axis=-2) + counts.sum(axis=-1))


def recall_by_class(confusions: npt.ArrayLike) -> Scores:
    """Recall of every class: (..., C, C) -> (..., C); NaN if it does not occur."""
    counts = np.asarray(confusions, dtype=np.float64)
    return _ratio(np.diagonal(counts, axis1=-2, axis2=-1), counts.sum(axis=-1))


def au_counts(
    truth: npt.ArrayLike, predicted: npt.ArrayLike, known: npt.ArrayLike = True
) -> Counts:
    """Count, for every AU, true positives, false positives and false negatives.

    truth, predicted: (N, A) bool or 0/1. known: (N, A) bool, AUs that were coded; others do not
        count. Returns (A, 3) int64.
    """
    actual, claimed = np.asarray(truth, dtype=bool), np.asarray(predicted, dtype=bool)
    if actual.shape != claimed.shape or actual.ndim != 2:
        raise ValueError(f"AU labels {actual.shape} and predictions {claimed.shape} do not match")
    coded = np.broadcast_to(np.asarray(known, dtype=bool), actual.shape)
    counts: Counts = au_outcomes(actual, claimed, coded).sum(axis=0, dtype=np.int64)
    return counts


def au_outcomes(
    truth: npt.NDArray[np.bool_], predicted: npt.NDArray[np.bool_], known: npt.NDArray[np.bool_]
) -> Counts:
    """Tell, clip by clip and AU by AU, a true positive, a false positive and a false negative.

    truth, predicted, known: (N, A). Returns (N, A, 3) of 0 and 1, with a single 1 at most in each
    row; a true negative has none, nor has an AU that is not known.
    """
    outcomes = [truth & predicted, ~truth & predicted, truth & ~predicted]
    return np.stack([known & outcome for outcome in outcomes], axis=2).astype(np.int64)


def au_f1(counts: npt.ArrayLike) -> Scores:
    """F1 of every AU, in [0, 1]: (..., A, 3) `au_counts` -> (..., A).

    NaN for an AU that neither occurs nor is predicted.
    """
    found, claimed, missed = np.moveaxis(np.asarray(counts, dtype=np.float64), -1, 0)
    return _ratio(2 * found, 2 * found + claimed + missed)


def mean_of_defined(scores: npt.ArrayLike) -> Scores:
    """Mean over the last axis of what is not NaN: (..., K) -> (...); NaN if nothing is left."""
    values = np.asarray(scores, dtype=np.float64)
    defined = ~np.isnan(values)
    return _ratio(np.where(defined, values, 0).sum(axis=-1), defined.sum(axis=-1))


def _classes(values: npt.ArrayLike, class_count: int) -> Counts:
    classes = np.asarray(values, dtype=np.int64)
    if classes.ndim != 1:
        raise ValueError(f"classes must be one-dimensional, not of shape {classes.shape}")
    wrong = classes[(classes < 0) | (classes >= class_count)]
    if len(wrong):
        raise ValueError(f"class {wrong[0]} is not one of 0 to {class_count - 1}")
    return classes


def _ratio(numerators: npt.ArrayLike, denominators: npt.ArrayLike) -> Scores:
    """Divide element by element; NaN where the denominator is 0."""
    below = np.asarray(denominators, dtype=np.float64)
    return np.divide(numerators, below, out=np.full_like(below, np.nan), where=below > 0)
