"""The extrinsic prior: co-occurrence counts turned into rows that sum to 1."""

from __future__ import annotations

from typing import Literal

import numpy as np
import numpy.typing as npt

from fedpsyau_priors.errors import PriorError
from fedpsyau_priors.intrinsic import BoolMatrix
from fedpsyau_priors.published import action_units, cooccurrence_counts, intrinsic_upper

Region = Literal["upper", "lower", "whole"]

FloatMatrix = npt.NDArray[np.float64]


def region_slice(region: Region) -> slice:
    """Where the AUs of a part of the face stand among the twelve."""
    half = len(intrinsic_upper())
    ends = {"upper": (0, half), "lower": (half, len(action_units()))}
    return slice(*ends.get(region, (0, len(action_units()))))


def normalise_rows(counts: npt.ArrayLike) -> FloatMatrix:
    """Divide every row by its sum, the diagonal included: (n, m) counts -> (n, m) in [0, 1].

    Raises PriorError if an entry is negative or not finite, or if a row has no count at all.
    """
    matrix = np.asarray(counts, dtype=np.float64)
    if matrix.ndim != 2:
        raise PriorError(f"Counts must be a matrix, but have the shape {matrix.shape}.")
    if not (np.isfinite(matrix).all() and (matrix >= 0).all()):
        raise PriorError("Counts must be finite and not negative.")
    sums = matrix.sum(axis=1, keepdims=True)
    if (sums == 0).any():
        empty = ", ".join(str(row) for row in np.flatnonzero(sums[:, 0] == 0))
        raise PriorError(
            f"Rows {empty} (counted from 0) have no counts, so no prior follows from them. Count "
            "every AU in at least one clip, or add a small number to all counts."
        )
    return np.asarray(matrix / sums)


def attention(region: Region = "whole", counts: npt.ArrayLike | None = None) -> FloatMatrix:
    """Derive the attention of a region (supplement Fig. 4): counts whose rows sum to 1.

    counts: (12, 12) co-occurrences, the published DFME ones unless given.

    ``"whole"`` is (12, 12); ``"upper"`` and ``"lower"`` are its (6, 6) diagonal blocks, normalised
    again within the block. Not restricted to edges; see `prior_over_edges` for what the network
    uses. Raises PriorError as `normalise_rows` does.
    """
    inside = region_slice(region)
    matrix = cooccurrence_counts() if counts is None else np.asarray(counts)
    return normalise_rows(matrix[inside, inside])


def prior_over_edges(counts: npt.ArrayLike, edges: BoolMatrix) -> FloatMatrix:
    """Restrict counts (n, n) to edges (n, n), then normalise rows over them (design section 3).

    The diagonal is an edge. Non-edges are exactly 0, rows sum to 1. Raises PriorError if the
    shapes differ, or as `normalise_rows` does.
    """
    matrix = np.asarray(counts, dtype=np.float64)
    if matrix.shape != edges.shape:
        raise PriorError(f"Counts {matrix.shape} and edges {edges.shape} differ in shape.")
    return normalise_rows(np.where(edges, matrix, 0.0))
