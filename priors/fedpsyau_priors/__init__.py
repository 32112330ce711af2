"""Psychological prior knowledge of which facial action units go together.

Supplement section 5: the intrinsic prior (which pairs are coordinated) gives the edges of the
network's graphs, the extrinsic prior (how often pairs occur together in DFME) weighs them.
"""

from fedpsyau_priors.au_frequency import MIN_SHARE, AuFrequency, AuSelection, AuVerdict, select_aus
from fedpsyau_priors.cooccurrence import check_counts, count_cooccurrence, smoothed_counts
from fedpsyau_priors.errors import PriorError
from fedpsyau_priors.extrinsic import attention, normalise_rows, prior_over_edges
from fedpsyau_priors.graph import GraphPrior, GraphPriors, graph_priors
from fedpsyau_priors.intrinsic import (
    IntrinsicEdges,
    asymmetric_pairs,
    intrinsic_edges,
    published_intrinsic,
    symmetric_closure,
)
from fedpsyau_priors.oddities import Oddity, oddities
from fedpsyau_priors.priors import (
    PUBLISHED,
    Priors,
    check_intrinsic,
    own_priors,
    published_priors,
)
from fedpsyau_priors.published import (
    action_units,
    cooccurrence_counts,
    intrinsic_cross,
    intrinsic_lower,
    intrinsic_upper,
)
from fedpsyau_priors.study import (
    CHOSEN,
    Pair,
    TypeStatistics,
    chosen,
    coordinated_matrix,
    type_statistics,
)

__all__ = [
    "CHOSEN",
    "MIN_SHARE",
    "PUBLISHED",
    "AuFrequency",
    "AuSelection",
    "AuVerdict",
    "GraphPrior",
    "GraphPriors",
    "IntrinsicEdges",
    "Oddity",
    "Pair",
    "PriorError",
    "Priors",
    "TypeStatistics",
    "action_units",
    "asymmetric_pairs",
    "attention",
    "check_counts",
    "check_intrinsic",
    "chosen",
    "cooccurrence_counts",
    "coordinated_matrix",
    "count_cooccurrence",
    "graph_priors",
    "intrinsic_cross",
    "intrinsic_edges",
    "intrinsic_lower",
    "intrinsic_upper",
    "normalise_rows",
    "oddities",
    "own_priors",
    "prior_over_edges",
    "published_intrinsic",
    "published_priors",
    "select_aus",
    "smoothed_counts",
    "symmetric_closure",
    "type_statistics",
]
