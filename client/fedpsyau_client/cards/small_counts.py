"""Hiding small counts in a table that leaves the site, so that sums don't give them away.

A count below the threshold could point to a person. Hiding it alone is not enough: whoever knows
the total and the other counts subtracts. So further counts are withheld until every hidden small
count could, for all that is published, still be any number below the threshold; and where even
that is not enough, the total is given as a range, or not at all. An exact total is kept rather than
an exact count, because a federation learns from every site how many clips it has.

A reader who runs this program on every table that fits what it published can often tell more where
counts are small (what statistics offices call a minimality attack); that is not defended against.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

__all__ = ["MaskedCounts", "Total", "mask_counts", "mask_separately"]

#: Width of the range that is published instead of a total.
_RANGE: Final = 10

#: A count as it is published: itself, "small" (below the threshold), or "withheld" (not small, but
#: it would give a small one away).
Cell = int | Literal["small", "withheld"]


@dataclass(frozen=True)
class Total:
    """What is published of a sum: it lies between `least` and `most`, both included."""

    least: int
    most: float

    @property
    def text(self) -> str:
        """The sum for people."""
        if math.isinf(self.most):
            return "withheld"
        return str(self.least) if self.least == self.most else f"{self.least} to {self.most:.0f}"


@dataclass(frozen=True)
class MaskedCounts:
    """Counts that may be published together with their total."""

    cells: dict[str, Cell]
    total: Total


def mask_separately(counts: Mapping[str, int], threshold: int) -> dict[str, Cell]:
    """Hide small counts of things that may occur together, and so have no sum to subtract from."""
    return {name: count if count >= threshold else "small" for name, count in counts.items()}


def mask_counts(counts: Mapping[str, int], threshold: int) -> MaskedCounts:
    """Hide small counts of a table whose cells add up to its total.

    counts: of things that exclude each other. threshold: the smallest count that is published, at
    least 1; with 1 only zeros are hidden.
    """
    total = sum(counts.values())
    small = {name for name, count in counts.items() if count < threshold}
    # The smallest first: it says least. Ties go by the table's order.
    candidates = sorted(
        counts.keys() - small, key=lambda name: (counts[name], [*counts].index(name))
    )
    floor = total // _RANGE * _RANGE
    for published in (Total(total, total), Total(floor, floor + _RANGE - 1), Total(0, math.inf)):
        for withheld in range(len(candidates) + 1):
            hidden = set(candidates[:withheld])
            shown = [counts[name] for name in candidates[withheld:]]
            if _protected(published, shown, len(small), withheld, threshold):
                return MaskedCounts(_cells(counts, small, hidden), published)
    raise AssertionError("nothing is given away where nothing is published")


def _protected(total: Total, shown: list[int], small: int, withheld: int, threshold: int) -> bool:
    """Whether every small count may still be any number from 0 to threshold - 1.

    A reader knows that small counts lie in that range, and that withheld ones are at least the
    threshold and, being the smallest, at most the smallest count shown.
    """
    if not small:
        return withheld == 0 and total.least == total.most
    largest = min(shown, default=math.inf)
    rest_least, rest_most = total.least - sum(shown), total.most - sum(shown)
    others_most = (small - 1) * (threshold - 1) + (withheld * largest if withheld else 0)
    others_least = withheld * threshold
    return rest_least - others_most <= 0 and rest_most - others_least >= threshold - 1


def _cells(counts: Mapping[str, int], small: set[str], hidden: set[str]) -> dict[str, Cell]:
    return {
        name: "small" if name in small else "withheld" if name in hidden else count
        for name, count in counts.items()
    }
