"""What the three DPK-GAT graphs start from: their edges and the prior over them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fedpsyau_priors.extrinsic import Region, prior_over_edges, region_slice
from fedpsyau_priors.intrinsic import BoolMatrix
from fedpsyau_priors.priors import Priors


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


def graph_priors(priors: Priors) -> GraphPriors:
    """Edges and extrinsic prior of the three graphs (supplement section 5, design section 3).

    The prior is the counts restricted to a graph's AUs and edges, normalised per row.
    """
    return GraphPriors(*(_of_region(priors, region) for region in ("upper", "lower", "whole")))


def _of_region(priors: Priors, region: Region) -> GraphPrior:
    inside = region_slice(region)
    edges = priors.edges[inside, inside].copy()
    edges.setflags(write=False)
    prior = prior_over_edges(priors.counts[inside, inside], edges).astype(np.float32)
    prior.setflags(write=False)
    return GraphPrior(edges, prior)
