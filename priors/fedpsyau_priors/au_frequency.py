"""How often every action unit occurs, and which of them are worth learning (supplement Fig. 1).

Supplement section 4 takes the AUs that are frequent in the largest data set, and leaves out those
that are "not commonly observed" in the others. `select_aus` is that rule with its numbers stated.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from fedpsyau_priors.errors import PriorError

__all__ = ["MIN_SHARE", "AuFrequency", "AuSelection", "AuVerdict", "Verdict", "select_aus"]

#: Share of clips from which on an AU counts as commonly observed. At half a percent all twelve of
#: the paper are, in CAS(ME)3 and in CASME II; AU20 and AU23, which the paper drops, are not.
MIN_SHARE = 0.005


Verdict = Literal["kept", "rare", "surplus", "absent"]


@dataclass(frozen=True)
class AuFrequency:
    """Clips of one data set that show each AU.

    clips: those that were coded for action units, at least 1.
    counts: clips by FACS number; an AU that is not listed has none.
    coded: the AUs that the labels can tell of, None if of every AU.
    """

    dataset: str
    clips: int
    counts: Mapping[int, int]
    coded: frozenset[int] | None = None

    def share(self, au: int) -> float | None:
        """Share of the clips that show an AU, in [0, 1]; None where the labels don't tell."""
        if self.clips == 0 or (self.coded is not None and au not in self.coded):
            return None
        return self.counts.get(au, 0) / self.clips


@dataclass(frozen=True)
class AuVerdict:
    """What became of one AU, and why.

    verdict: ``kept``; ``rare`` in another data set; ``surplus``, as enough others are commoner; or
        ``absent`` from the reference.
    rank: place among all AUs by number of clips of the reference, from 1.
    shares: share of clips by data set, None where its labels don't tell.
    reason: one sentence.
    """

    au: int
    verdict: Verdict
    rank: int
    shares: Mapping[str, float | None]
    reason: str


@dataclass(frozen=True)
class AuSelection:
    """The AUs chosen, in ascending order, with a verdict for every AU that any data set shows."""

    reference: str
    count: int
    min_share: float
    kept: tuple[int, ...]
    verdicts: tuple[AuVerdict, ...]


def select_aus(
    frequencies: Sequence[AuFrequency],
    count: int = 12,
    min_share: float = MIN_SHARE,
    reference: str | None = None,
) -> AuSelection:
    """Choose AUs by frequency (supplement section 4).

    1. The reference is the data set with the most coded clips, the first of equals, or the one
       that `reference` names.
    2. Its AUs are ranked by the number of clips that show them, of equals the lower number first.
    3. An AU is dropped that any other data set shows in less than `min_share` of its clips. A data
       set whose labels don't tell of an AU has no say in it.
    4. Of the rest the first `count` are kept.

    Raises PriorError if there is no data set with a coded clip, or none of the name `reference`.
    """
    candidates = {frequency.dataset: frequency for frequency in frequencies if frequency.clips}
    if not candidates:
        raise PriorError("No data set has a clip that was coded for action units.")
    if reference is None:
        reference = max(candidates.values(), key=lambda frequency: frequency.clips).dataset
    if reference not in candidates:
        raise PriorError(f"There is no data set {reference!r}, only {', '.join(candidates)}.")
    counts = candidates[reference].counts
    shown = {au for each in candidates.values() for au, clips in each.counts.items() if clips}
    verdicts: list[AuVerdict] = []
    kept: list[int] = []
    for rank, au in enumerate(sorted(shown, key=lambda au: (-counts.get(au, 0), au)), start=1):
        shares = {name: each.share(au) for name, each in candidates.items()}
        others = {name: share for name, share in shares.items() if name != reference}
        verdict, reason = _judge(shares[reference], others, min_share, len(kept) < count)
        verdicts.append(AuVerdict(au, verdict, rank, shares, reason))
        if verdict == "kept":
            kept.append(au)
    return AuSelection(reference, count, min_share, tuple(sorted(kept)), tuple(verdicts))


def _judge(
    share: float | None, others: Mapping[str, float | None], min_share: float, room: bool
) -> tuple[Verdict, str]:
    """Verdict on an AU, with its reason, from its share in the reference and in the others."""
    if not share:
        return "absent", "not labelled in the reference" if share is None else "in no clip of it"
    told = {name: other for name, other in others.items() if other is not None}
    rare = [f"{other:.2%} of {name}" for name, other in told.items() if other < min_share]
    if rare:
        return "rare", f"in only {', '.join(rare)}, less than {min_share:.2%}"
    if not room:
        return "surplus", "enough others are commoner"
    return "kept", f"common in {', '.join(told)} too" if told else "no other data set tells of it"
