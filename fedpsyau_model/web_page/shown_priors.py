"""Priors as a page shows them: a name, a hash, and the weights over the edges."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from fedpsyau_model.action_units import AUS
from fedpsyau_priors import Priors, graph_priors

__all__ = ["ShownPriors", "shown_priors"]

#: Whose priors the setting `network.priors` names, in words.
_WHOSE = {
    "published": "the paper’s",
    "file": "own ones, from the settings",
    "site": "each site’s own where it has a file of them; else those shown here",
}


@dataclass(frozen=True)
class ShownPriors:
    """What a page says of priors.

    edges: number of pairs that are edges. rows: an AU of the whole face's graph and its weights,
    None where there is no edge.
    """

    name: str
    whose: str
    sha256: str
    edges: int
    edges_setting: str
    aus: Sequence[int]
    rows: Sequence[tuple[int, Sequence[float | None]]]


def shown_priors(priors: Priors, whose: str, edges_setting: str) -> ShownPriors:
    """Lay out priors. whose, edges_setting: `network.priors` and `network.intrinsic-edges`."""
    graph = graph_priors(priors).whole
    return ShownPriors(
        name=priors.name,
        whose=_WHOSE[whose],
        sha256=priors.fingerprint(),
        edges=int(graph.edges.sum() - len(AUS)) // 2,
        edges_setting=edges_setting,
        aus=AUS,
        rows=[
            (au, [float(weight) if edge else None for weight, edge in zip(row, edges, strict=True)])
            for au, row, edges in zip(AUS, graph.prior, graph.edges, strict=True)
        ],
    )
