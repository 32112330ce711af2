"""What the graphs are told beforehand: counts and edges over the twelve AUs, with a name."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fedpsyau_priors.cooccurrence import check_counts, smoothed_counts
from fedpsyau_priors.errors import PriorError
from fedpsyau_priors.extrinsic import FloatMatrix
from fedpsyau_priors.intrinsic import BoolMatrix, IntrinsicEdges, intrinsic_edges
from fedpsyau_priors.published import IntMatrix, action_units, cooccurrence_counts

__all__ = ["PUBLISHED", "Priors", "check_intrinsic", "own_priors", "published_priors"]

#: Name of the priors that the package ships.
PUBLISHED = "published"


@dataclass(frozen=True, eq=False)
class Priors:
    """Both priors over the twelve AUs; the arrays are read-only.

    name: what people call them. It is no part of the fingerprint.
    counts: (12, 12) float64, co-occurrences, smoothed; they weigh the edges.
    edges: (12, 12) bool, symmetric, diagonal set; which AUs attend to each other.
    """

    name: str
    counts: FloatMatrix
    edges: BoolMatrix

    def __post_init__(self) -> None:
        for array in (self.counts, self.edges):
            array.setflags(write=False)

    def fingerprint(self) -> str:
        """SHA-256 over counts and edges, 64 hex digits; equal for equal matrices."""
        counts = np.ascontiguousarray(self.counts, dtype="<f8").tobytes()
        return hashlib.sha256(counts + self.edges.astype(np.uint8).tobytes()).hexdigest()


def published_priors(intrinsic: IntrinsicEdges = "published") -> Priors:
    """Priors of the paper: the DFME counts and the published pairs, as `intrinsic` alters them."""
    return own_priors(PUBLISHED, intrinsic=intrinsic)


def own_priors(
    name: str,
    *,
    cooccurrence: npt.ArrayLike | None = None,
    smoothing: float = 0.0,
    coordinated: npt.ArrayLike | None = None,
    intrinsic: IntrinsicEdges = "published",
) -> Priors:
    """Priors from somebody's own matrices; what is not given is the published one.

    cooccurrence: (12, 12) counts, to every one of which `smoothing` is added.
    coordinated: (12, 12), 1 where two AUs go together; its symmetric closure is taken.
    intrinsic: what is done to `coordinated`: nothing, AU4-AU7 added, or every pair an edge.

    Raises PriorError if a matrix cannot be what it should be, or if an AU has no count at all, so
    that nothing follows for its row.
    """
    counts = cooccurrence_counts() if cooccurrence is None else check_counts(cooccurrence)
    weights = smoothed_counts(counts, smoothing)
    if (empty := np.flatnonzero(weights.diagonal() == 0)).size:
        names = ", ".join(f"AU{action_units()[index]}" for index in empty)
        raise PriorError(
            f"No clip shows {names}, so that no prior follows for it. Add clips that do, or a "
            "smoothing above 0, which is added to all counts."
        )
    directed = None if coordinated is None else check_intrinsic(coordinated)
    return Priors(name, weights, intrinsic_edges(intrinsic, directed))


def check_intrinsic(coordinated: npt.ArrayLike) -> IntMatrix:
    """Return a matrix of coordinated pairs (12, 12) as integers, with its diagonal set.

    Raises PriorError if the shape is another or if a cell is neither 0 nor 1.
    """
    matrix = np.asarray(coordinated)
    aus = action_units()
    if matrix.shape != (len(aus), len(aus)):
        raise PriorError(
            f"The matrix of coordinated pairs must be {len(aus)} rows of {len(aus)} numbers, but "
            f"has the shape {matrix.shape}."
        )
    if not np.isin(matrix, (0, 1)).all():
        raise PriorError("The matrix of coordinated pairs may hold nothing but 0 and 1.")
    return np.asarray(matrix.astype(np.int64) | np.eye(len(aus), dtype=np.int64))
