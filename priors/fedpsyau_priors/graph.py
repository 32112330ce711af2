"""What the three DPK-GAT graphs start from: their edges and the prior over them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fedpsyau_priors.extrinsic import Region, prior_over_edges, region_slice
from fedpsyau_priors.intrinsic import BoolMatrix, IntrinsicEdges, intrinsic_edges
from fedpsyau_priors.published import cooccurrence_counts


@dataclass(frozen=True, eq=False)
class GraphPrior:
    """One graph over n AUs; both arrays are read-only.

    edges: (n, n) bool, symmetric, diagonal set.
    prior: (n, n) float32 in [0, 1], 0 off the edges, rows sum to 1.
    """

    edges: BoolMatrix
    prior: npt.NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class GraphPriors:
    """The graphs of the upper 6 AUs, the lower 6 AUs, and all 12."""

    upper: GraphPrior
    lower: GraphPrior
    whole: GraphPrior


def graph_priors(intrinsic: IntrinsicEdges = "published") -> GraphPriors:
    """Edges and extrinsic prior of the three graphs (supplement section 5, design section 3).

    intrinsic: ``"published"`` edges, ``"extended"`` by AU4-AU7, or ``"complete"`` (every pair).
    The prior is the DFME counts restricted to a graph's AUs and edges, normalised per row.
    """
    edges = intrinsic_edges(intrinsic)
    return GraphPriors(*(_of_region(edges, region) for region in ("upper", "lower", "whole")))


def _of_region(edges: BoolMatrix, region: Region) -> GraphPrior:
    inside = region_slice(region)
    own_edges = edges[inside, inside].copy()
    own_edges.setflags(write=False)
    prior = prior_over_edges(cooccurrence_counts()[inside, inside], own_edges).astype(np.float32)
    prior.setflags(write=False)
    return GraphPrior(own_edges, prior)
