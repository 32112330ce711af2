"""The folds of a protocol: which clips train, which test. Always by subject."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fedpsyau_client.protocols.clip_set import ClipSet, Indices, require_disjoint_subjects
from fedpsyau_client.protocols.plan import Plan
from fedpsyau_client.protocols.seeds import seed_for
from fedpsyau_client.splits import (
    Split,
    k_fold_by_subject,
    leave_one_subject_out,
    split_by_subject,
)
from fedpsyau_model.errors import TooFewSubjectsError


@dataclass(frozen=True, eq=False)
class Fold:
    """One unit of work. `train` and `test` are rows of the clip set, ascending and disjoint."""

    number: int
    """From 1, in the order in which folds are listed."""
    name: str
    """The test subject, the test site, or ``fold 3``; random numbers come from it."""
    train: Indices
    test: Indices


def plan_folds(clips: ClipSet, plan: Plan) -> tuple[Fold, ...]:
    """Divide the clips as the plan says; the same plan gives the same folds.

    Raises TooFewSubjectsError if there are fewer subjects or sites than the protocol needs,
    SubjectOverlapError if a site to be left out shares a subject with another.
    """
    generator = np.random.default_rng(seed_for(plan.seed, plan.protocol, "division"))
    if plan.protocol == "loso":
        splits = leave_one_subject_out(clips.subject)
        names = [str(name) for name in np.unique(clips.subject)]
    elif plan.protocol == "kfold":
        splits = k_fold_by_subject(clips.subject, plan.folds, generator)
        names = [f"fold {number}" for number in range(1, plan.folds + 1)]
    elif plan.protocol == "holdout":
        share = plan.training.test_share
        splits = [split_by_subject(clips.subject, share, generator, clips.emotion)]
        names = ["holdout"]
    else:
        splits, names = _sites_left_out(clips)
    return tuple(
        Fold(number, name, split.train, split.test)
        for number, (name, split) in enumerate(zip(names, splits, strict=True), start=1)
    )


def _sites_left_out(clips: ClipSet) -> tuple[list[Split], list[str]]:
    names = [str(name) for name in np.unique(clips.partition)]
    if len(names) < 2:
        raise TooFewSubjectsError(
            f"There are clips of one site only ({', '.join(names)}), but leaving one site out "
            "needs at least two. Name more with --partition, or use --protocol loso."
        )
    require_disjoint_subjects(clips)
    splits = [
        Split(np.flatnonzero(clips.partition != name), np.flatnonzero(clips.partition == name))
        for name in names
    ]
    return splits, names
