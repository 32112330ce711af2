"""Statistics of a psychology study on which action units go together (supplement section 3).

Every participant sees every pair of AUs once, judges it coordinated or not, and gives a score. So
the responses are two matrices over P participants and Q pairs: judged (P, Q) bool, and scores
(P, Q).
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from fractions import Fraction
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from fedpsyau_priors.errors import PriorError
from fedpsyau_priors.published import IntMatrix, action_units

__all__ = [
    "CHOSEN",
    "Pair",
    "TypeStatistics",
    "chosen",
    "coordinated_matrix",
    "type_statistics",
]

#: Two AUs, FACS numbers, the lower first.
Pair = tuple[int, int]

#: A pair is chosen by more than this share of the participants (supplement Fig. 2).
CHOSEN = Fraction(2, 3)


class TypeStatistics(NamedTuple):
    """A column pair of Table 2; SDs are None where there are no two participants.

    pairs: how many pairs are of the type.
    accuracy_mean, accuracy_sd: of every participant's share of pairs judged as expected.
    score_mean, score_sd: of every participant's sum of scores over the pairs.
    """

    pairs: int
    accuracy_mean: float
    accuracy_sd: float | None
    score_mean: float
    score_sd: float | None


def type_statistics(
    judged: npt.NDArray[np.bool_],
    scores: npt.NDArray[np.float64],
    expected: npt.NDArray[np.bool_],
    coordinated: bool,
    ddof: int = 1,
) -> TypeStatistics | None:
    """Mean and SD over participants of accuracy and score, for one type of pairs (Table 2).

    judged: (P, Q), whether a participant called a pair coordinated. scores: (P, Q).
    expected: (Q,), whether a pair is coordinated by design. coordinated: the type wanted.
    ddof: 1 gives the SD of a sample, 0 that of these participants alone; the paper doesn't say.

    Scores are summed over a participant's pairs: the published means times 30 participants are
    whole numbers (3289 and 1644), as sums of whole scores are.

    Returns None if no pair is of the type.
    """
    of_type = expected == coordinated
    if not of_type.any():
        return None
    accuracy = (judged[:, of_type] == coordinated).mean(axis=1)
    sums = scores[:, of_type].sum(axis=1)
    return TypeStatistics(
        int(of_type.sum()),
        float(accuracy.mean()),
        _deviation(accuracy, ddof),
        float(sums.mean()),
        _deviation(sums, ddof),
    )


def chosen(
    votes: npt.NDArray[np.int64], participants: int, share: Fraction = CHOSEN
) -> npt.NDArray[np.bool_]:
    """Which pairs got the votes of more than `share` of the participants: (Q,) -> (Q,) bool.

    Exactly that share is not enough: of 30 participants 21 are needed, as in Fig. 2.
    """
    return np.asarray(votes * share.denominator > participants * share.numerator)


def coordinated_matrix(
    tested: Sequence[Pair],
    coordinated: Collection[Pair],
    excluded: Collection[Pair],
    untested: npt.NDArray[np.generic] | None = None,
) -> IntMatrix:
    """Matrix of coordinated pairs over the twelve AUs (Fig. 3): (12, 12), 1 or 0, symmetric.

    tested: pairs that the study asked about; pairs with other AUs than the twelve are left out.
    coordinated: those of them that the participants chose; 1, unless in `excluded`.
    excluded: pairs that cannot occur together for anatomical reasons, tested or not; 0.
    untested: (12, 12), what is said of pairs that were not asked about; 0 unless given.

    The diagonal is 1. Raises PriorError if a coordinated pair was not tested.
    """
    aus = action_units()
    if strange := set(coordinated) - set(tested):
        raise PriorError(f"Coordinated, but not tested: {sorted(strange)}.")
    matrix = np.zeros((len(aus), len(aus)), dtype=np.int64)
    if untested is not None:
        matrix = ((untested != 0) | (untested != 0).T).astype(np.int64)
    verdicts = {pair: int(pair in coordinated) for pair in tested}
    for (first, second), verdict in (verdicts | dict.fromkeys(excluded, 0)).items():
        if first in aus and second in aus:
            i, j = aus.index(first), aus.index(second)
            matrix[i, j] = matrix[j, i] = verdict
    np.fill_diagonal(matrix, 1)
    return matrix


def _deviation(values: npt.NDArray[np.float64], ddof: int) -> float | None:
    return float(values.std(ddof=ddof)) if len(values) > ddof and len(values) > 1 else None
