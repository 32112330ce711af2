"""The intrinsic prior: which AU pairs are edges of the network's graphs.

Two oddities of the published matrices stay visible:

- AU2-AU9 is asymmetric (row AU2 says 0, row AU9 says 1). Coordination has no direction, so the
  graphs use the symmetric closure, in which the pair is an edge.
- AU4-AU7, the commonest pair in DFME, is no edge of the published upper matrix. It is left as
  published; ``"extended"`` adds it.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import numpy.typing as npt

from fedpsyau_priors.published import (
    IntMatrix,
    action_units,
    intrinsic_cross,
    intrinsic_lower,
    intrinsic_upper,
)

#: As published (or as given), with AU4-AU7 added, or every pair (that is, no intrinsic prior).
IntrinsicEdges = Literal["published", "extended", "complete"]

#: Pairs that ``"extended"`` adds to the published edges, as FACS numbers.
EXTENDED_PAIRS: tuple[tuple[int, int], ...] = ((4, 7),)

BoolMatrix = npt.NDArray[np.bool_]


def symmetric_closure(matrix: npt.ArrayLike) -> BoolMatrix:
    """Pairs that are set in at least one direction: (n, n) -> (n, n) bool."""
    directed = np.asarray(matrix) != 0
    return np.asarray(directed | directed.T)


def asymmetric_pairs(matrix: npt.ArrayLike) -> list[tuple[int, int]]:
    """Index pairs (i, j), i < j, whose two directions differ in `matrix` (n, n)."""
    directed = np.asarray(matrix)
    rows, columns = np.nonzero(np.triu(directed != directed.T))
    return [(int(i), int(j)) for i, j in zip(rows, columns, strict=True)]


def published_intrinsic() -> npt.NDArray[np.int64]:
    """Union of the three published matrices, nothing mended: (12, 12), 1 or 0.

    The upper block is `intrinsic_upper`, the lower `intrinsic_lower`, and pairs across are from
    `intrinsic_cross`, whose own diagonal blocks hold nothing but the identity.
    """
    union = intrinsic_cross().copy()
    half = len(intrinsic_upper())
    union[:half, :half] |= intrinsic_upper()
    union[half:, half:] |= intrinsic_lower()
    return union


def intrinsic_edges(intrinsic: IntrinsicEdges, coordinated: IntMatrix | None = None) -> BoolMatrix:
    """Edges among all AUs: (12, 12) bool, symmetric, the diagonal always set.

    coordinated: (12, 12), 1 where two AUs go together, the diagonal set; `published_intrinsic`
        unless given.

    The symmetric closure of `coordinated`, with what `intrinsic` adds to it.
    """
    aus = action_units()
    if intrinsic == "complete":
        return np.ones((len(aus), len(aus)), dtype=np.bool_)
    directed = published_intrinsic() if coordinated is None else coordinated.copy()
    if intrinsic == "extended":
        for first, second in EXTENDED_PAIRS:
            directed[aus.index(first), aus.index(second)] = 1
    return symmetric_closure(directed)
