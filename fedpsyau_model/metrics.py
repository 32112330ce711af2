"""UF1, UAR and AU scores from counts, so that sites' results can be pooled by adding them up.

Scores of sites or folds are never averaged: add their counts, then compute the score.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Counts = npt.NDArray[np.int64]


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


def uf1(confusion: npt.ArrayLike) -> float:
    """Unweighted F1: the mean over classes of 2 TP / (2 TP + FP + FN), in [0, 1].

    confusion: (C, C), rows the true class. A class that neither occurs nor is predicted is left
    out of the mean; NaN if that leaves no class.
    """
    counts = np.asarray(confusion, dtype=np.float64)
    return _mean_of_defined(2 * np.diag(counts), counts.sum(axis=0) + counts.sum(axis=1))


def uar(confusion: npt.ArrayLike) -> float:
    """Unweighted average recall: the mean over classes of TP / (TP + FN), in [0, 1].

    confusion: (C, C), rows the true class. A class that does not occur is left out of the mean;
    NaN if that leaves no class.
    """
    counts = np.asarray(confusion, dtype=np.float64)
    return _mean_of_defined(np.diag(counts), counts.sum(axis=1))


def accuracy(confusion: npt.ArrayLike) -> float:
    """Share of clips on the diagonal of (C, C), in [0, 1]; NaN without clips."""
    counts = np.asarray(confusion, dtype=np.float64)
    return _mean_of_defined(np.trace(counts)[None], counts.sum()[None])


def au_counts(truth: npt.ArrayLike, predicted: npt.ArrayLike) -> Counts:
    """Count, for every AU, true positives, false positives and false negatives.

    truth, predicted: (N, A) bool or 0/1, clips with AU labels only. Returns (A, 3) int64.
    """
    actual, claimed = np.asarray(truth, dtype=bool), np.asarray(predicted, dtype=bool)
    if actual.shape != claimed.shape or actual.ndim != 2:
        raise ValueError(f"AU labels {actual.shape} and predictions {claimed.shape} do not match")
    counts = [actual & claimed, ~actual & claimed, actual & ~claimed]
    return np.stack([each.sum(axis=0, dtype=np.int64) for each in counts], axis=1)


def au_f1(counts: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """F1 of every AU, (A,) in [0, 1], from (A, 3) `au_counts`.

    NaN for an AU that neither occurs nor is predicted.
    """
    true_positives, false_positives, false_negatives = np.asarray(counts, dtype=np.float64).T
    return _ratio(2 * true_positives, 2 * true_positives + false_positives + false_negatives)


def _classes(values: npt.ArrayLike, class_count: int) -> Counts:
    classes = np.asarray(values, dtype=np.int64)
    if classes.ndim != 1:
        raise ValueError(f"classes must be one-dimensional, not of shape {classes.shape}")
    wrong = classes[(classes < 0) | (classes >= class_count)]
    if len(wrong):
        raise ValueError(f"class {wrong[0]} is not one of 0 to {class_count - 1}")
    return classes


def _ratio(
    numerators: npt.NDArray[np.float64], denominators: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    undefined = np.full_like(denominators, np.nan)
    return np.divide(numerators, denominators, out=undefined, where=denominators > 0)


def _mean_of_defined(
    numerators: npt.NDArray[np.float64], denominators: npt.NDArray[np.float64]
) -> float:
    ratios = _ratio(numerators, denominators)
    defined = ratios[~np.isnan(ratios)]
    return float(defined.mean()) if len(defined) else float("nan")
