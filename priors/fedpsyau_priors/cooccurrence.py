"""Counting which action units occur together, the raw material of an extrinsic prior."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from fedpsyau_priors.errors import PriorError
from fedpsyau_priors.extrinsic import FloatMatrix
from fedpsyau_priors.published import IntMatrix, action_units

__all__ = ["check_counts", "count_cooccurrence", "smoothed_counts"]

#: More clips than anybody has; sums of such counts are still exact in float64.
LARGEST_COUNT = 1e12


def count_cooccurrence(aus: npt.ArrayLike) -> IntMatrix:
    """Count the clips that show both AUs of every pair: (N, K) 0 or 1 -> (K, K), symmetric.

    The diagonal counts the clips that show an AU at all. A clip that shows none counts nowhere.

    Raises PriorError if `aus` is no matrix or holds anything but 0 and 1.
    """
    shown = np.asarray(aus)
    if shown.ndim != 2:
        raise PriorError(f"AU labels must be a matrix (clips, AUs), but have shape {shown.shape}.")
    if not np.isin(shown, (0, 1)).all():
        raise PriorError("AU labels must be 0 or 1: an AU is there or it is not.")
    whole = shown.astype(np.int64)
    return np.asarray(whole.T @ whole)


def smoothed_counts(counts: npt.ArrayLike, smoothing: float) -> FloatMatrix:
    """Add `smoothing` to every cell, the diagonal included (additive, or Laplace, smoothing).

    A pair that was never seen in a few hundred clips is rare rather than impossible; the addition
    says so, the more the fewer clips there are. 0 leaves the counts as they are, which is how the
    published matrices were made.

    Raises PriorError if `smoothing` is negative or not finite.
    """
    if not (np.isfinite(smoothing) and smoothing >= 0):
        raise PriorError(f"Smoothing must be a number of at least 0, not {smoothing}.")
    return np.asarray(np.asarray(counts, dtype=np.float64) + smoothing)


def check_counts(counts: npt.ArrayLike) -> FloatMatrix:
    """Return counts (12, 12) as floats if clips could have given them, else raise PriorError.

    They must be at least 0, below `LARGEST_COUNT` and symmetric, and no pair may be commoner than
    one of its AUs alone (the diagonal).
    """
    matrix = np.asarray(counts, dtype=np.float64)
    aus = action_units()
    if matrix.shape != (len(aus), len(aus)):
        raise PriorError(
            f"Co-occurrence counts must be {len(aus)} rows of {len(aus)} numbers, but have the "
            f"shape {matrix.shape}."
        )
    if not ((matrix >= 0) & (matrix < LARGEST_COUNT)).all():  # NaN is neither
        raise PriorError("Co-occurrence counts must be finite, not negative, and below 10^12.")
    occurrences = matrix.diagonal()
    for fault, sentence in (
        (matrix != matrix.T, "differs from its mirror image, though together has no direction"),
        (matrix > np.minimum.outer(occurrences, occurrences), "is commoner than one of its AUs"),
    ):
        if fault.any():
            i, j = (int(index) for index in np.argwhere(fault)[0])
            raise PriorError(f"Co-occurrence counts: AU{aus[i]}-AU{aus[j]} {sentence}.")
    return matrix
