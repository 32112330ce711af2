"""What one fold came to: content of ``folds/NNNN.json``."""

from __future__ import annotations

import numpy as np
from pydantic import BaseModel, ConfigDict

from fedpsyau_model.metrics import Counts, au_outcomes

#: From this probability on an AU is called active.
AU_THRESHOLD = 0.5


class FoldResult(BaseModel):
    """Counts and predictions of a fold's test clips, and how its model was trained.

    clip, subject, truth, predicted, probabilities (each C), au_known, au and au_probabilities (each
    12; the last None without an AU branch) have one entry for each test clip.
    losses: total, emotion, au, au_aux and proximal of every epoch. validation_uf1: of every epoch,
    None where the last epoch's model is tested. confusion: (C, C), rows the true class; au_counts:
    (12, 3), true positives, false positives and false negatives over coded AUs.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    number: int
    name: str
    plan_hash: str
    train_clips: int
    train_subjects: int
    chosen_epoch: int
    losses: list[tuple[float, float, float, float, float]]
    validation_uf1: list[float | None] | None
    seconds: float
    confusion: list[list[int]]
    au_counts: list[list[int]] | None
    clip: list[str]
    subject: list[str]
    truth: list[int]
    predicted: list[int]
    probabilities: list[list[float]]
    au_known: list[list[bool]]
    au: list[list[int]]
    au_probabilities: list[list[float]] | None


def au_outcomes_of_clips(result: FoldResult) -> Counts | None:
    """Count AUs clip by clip, (N, 12, 3): all 0 where labels are unknown; None without a branch."""
    if result.au_probabilities is None:
        return None
    called = np.array(result.au_probabilities) >= AU_THRESHOLD
    known = np.array(result.au_known, dtype=bool)
    return au_outcomes(np.array(result.au, dtype=bool), called, known)
