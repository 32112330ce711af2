"""What one cell came to: content of ``cells/0003-SETTING-seed-0.json``."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

__all__ = ["CellResult", "SubjectCounts"]

Confusion = list[list[int]]


class SubjectCounts(BaseModel):
    """Counts of the tested clips by subject.

    subject, part and confusion (C, C) have one entry for each subject; a part is the site or store
    that the subject's clips come from. Sorted by subject.
    received: of every site, the counts of the model that it was sent in the last round, before its
        training; None without a federation. theta: what every site chose last, where it chooses.
    au_counts: (12, 3) true positives, false positives and false negatives of all clips; None where
        AUs were not told.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    subject: list[str]
    part: list[str]
    confusion: list[Confusion]
    received: dict[str, Confusion] | None = None
    theta: dict[str, float] | None = None
    au_counts: list[list[int]] | None = None


class CellResult(BaseModel):
    """A finished cell."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    plan_hash: str
    number: int
    block: str
    setting: str
    seed: int
    seconds: float
    tested: SubjectCounts
