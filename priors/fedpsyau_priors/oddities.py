"""Where the published matrices surprise, found from the matrices themselves and put into words."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from fedpsyau_priors.intrinsic import asymmetric_pairs, published_intrinsic
from fedpsyau_priors.published import action_units, cooccurrence_counts


class Oddity(NamedTuple):
    """A pair of AUs (FACS numbers, lower first) and what is odd about it, in one sentence."""

    pair: tuple[int, int]
    note: str


def oddities() -> list[Oddity]:
    """Every oddity of the published matrices that a reader should know of."""
    return [*_asymmetries(), *_commonest_pair_without_edge()]


def _asymmetries() -> list[Oddity]:
    aus, published = action_units(), published_intrinsic()
    return [
        Oddity(
            (aus[i], aus[j]),
            f"AU{aus[i]}-AU{aus[j]} is asymmetric as published: row AU{aus[i]} says "
            f"{published[i, j]}, row AU{aus[j]} says {published[j, i]}. The graphs use the "
            "symmetric closure, in which the pair is an edge.",
        )
        for i, j in asymmetric_pairs(published)
    ]


def _commonest_pair_without_edge() -> list[Oddity]:
    aus, published = action_units(), published_intrinsic()
    pairs = np.triu(cooccurrence_counts(), k=1)
    i, j = (int(index) for index in np.unravel_index(int(pairs.argmax()), pairs.shape))
    if published[i, j] or published[j, i]:
        return []
    note = (
        f"AU{aus[i]}-AU{aus[j]}, the commonest pair in DFME ({pairs[i, j]} clips), is no edge as "
        'published. The setting network.intrinsic-edges = "extended" adds it.'
    )
    return [Oddity((aus[i], aus[j]), note)]
