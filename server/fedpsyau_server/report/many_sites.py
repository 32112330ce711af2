"""Which sites pictures show one by one: all, or of very many the worst, beside quartiles of all.

A thousand panels are no picture. Tables, CSV and JSON have every site, however many there are.
"""

from __future__ import annotations

from fedpsyau_server.report.tables import RunTables

__all__ = ["MOST_DRAWN", "QUARTILES", "WORST_DRAWN", "drawn_sites", "draws_all"]

#: Sites up to which each has a panel of its own.
MOST_DRAWN = 36

#: Of more sites than that, how many have one.
WORST_DRAWN = 8

#: What stands for all sites then: share of the sites that lie below, and its name.
QUARTILES = ((0.25, "lower quartile"), (0.5, "median"), (0.75, "upper quartile"))


def draws_all(tables: RunTables) -> bool:
    """Whether there are few enough sites for each to be drawn."""
    return len(tables.sites) <= MOST_DRAWN


def drawn_sites(tables: RunTables) -> tuple[str, ...]:
    """Sites that are drawn one by one: all, or those of the lowest UF1 in the last round."""
    if draws_all(tables):
        return tables.sites
    return tuple(reply.site for reply in tables.last.worst_ones(WORST_DRAWN))
