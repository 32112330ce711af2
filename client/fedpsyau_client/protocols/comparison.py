"""Whether two runs differ: a paired bootstrap over the subjects that both were tested on."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fedpsyau_client.protocols.pooled import Pooled, pool
from fedpsyau_client.protocols.train_run import TrainRun
from fedpsyau_model.bootstrap import (
    RESAMPLES,
    Scores,
    drawn_subjects,
    percentile_interval,
    resampled,
    two_sided_p,
)
from fedpsyau_model.errors import RunsDifferError
from fedpsyau_model.metrics import (
    accuracy_of_each,
    au_f1,
    mean_of_defined,
    uar_of_each,
    uf1_of_each,
)

#: More clips than these are counted, not named.
_NAMED_CLIPS = 3


@dataclass(frozen=True)
class Difference:
    """A score of both runs, B minus A with its 95 % interval, and p of no difference."""

    score: str
    first: float
    second: float
    difference: float
    low: float
    high: float
    p: float


@dataclass(frozen=True)
class Comparison:
    """Two runs on the same clips."""

    clips: int
    subjects: int
    synthetic: bool
    differences: tuple[Difference, ...]


def compare_runs(
    first: TrainRun, second: TrainRun, generator: np.random.Generator, resamples: int = RESAMPLES
) -> Comparison:
    """Compare two finished runs that tested the same clips.

    Raises RunFolderError if one is not finished; RunsDifferError, naming what differs, if classes,
    clips, subjects or labels are not the same: the pairing would mean nothing.
    """
    for run in (first, second):
        run.require_finished()
    schemes = [run.plan.network.classes for run in (first, second)]
    if schemes[0] != schemes[1]:
        raise _differ(
            first, second, f"{first.path} has {schemes[0]} classes, {second.path} {schemes[1]}"
        )
    ours, theirs = pool(first.results()), pool(second.results())
    _require_same_clips(first, second, ours, theirs)
    return Comparison(
        clips=len(ours.clip),
        subjects=ours.subjects,
        synthetic=any(part.synthetic for run in (first, second) for part in run.plan.data),
        differences=compare_pooled(ours, theirs, generator, resamples),
    )


def compare_pooled(
    first: Pooled, second: Pooled, generator: np.random.Generator, resamples: int = RESAMPLES
) -> tuple[Difference, ...]:
    """Compare predictions of the same clips; every resample draws the same subjects for both."""
    drawn = drawn_subjects(first.subjects, resamples, generator)
    drawn = np.concatenate([np.ones((1, first.subjects), dtype=np.int64), drawn])
    confusions = [resampled(pooled.confusion, drawn) for pooled in (first, second)]
    found = [
        _difference(name, *(scores(each) for each in confusions))
        for name, scores in (
            ("UF1", uf1_of_each),
            ("UAR", uar_of_each),
            ("accuracy", accuracy_of_each),
        )
    ]
    if first.aus is not None and second.aus is not None:
        means = [mean_of_defined(au_f1(resampled(aus, drawn))) for aus in (first.aus, second.aus)]
        found.append(_difference("F1, mean over AUs", *means))
    return tuple(found)


def _difference(name: str, first: Scores, second: Scores) -> Difference:
    """first, second: scores of the runs as they are, then of every resample."""
    differences = second - first
    interval = percentile_interval(differences[1:])
    return Difference(
        score=name,
        first=float(first[0]),
        second=float(second[0]),
        difference=float(differences[0]),
        low=interval.low,
        high=interval.high,
        p=two_sided_p(differences[1:]),
    )


def _require_same_clips(first: TrainRun, second: TrainRun, ours: Pooled, theirs: Pooled) -> None:
    only_ours, only_theirs = (
        np.setdiff1d(one.clip, other.clip) for one, other in ((ours, theirs), (theirs, ours))
    )
    if len(only_ours) or len(only_theirs):
        raise _differ(
            first,
            second,
            f"{first.path} tested {_listed(only_ours)} that {second.path} did not, and "
            f"{second.path} {_listed(only_theirs)} that {first.path} did not",
        )
    for name in ("subject", "truth"):
        differs = getattr(ours, name) != getattr(theirs, name)
        if differs.any():
            what = "belong to another subject" if name == "subject" else "have another class"
            raise _differ(first, second, f"{_listed(ours.clip[differs])} {what} in {second.path}")


def _listed(clips: np.ndarray) -> str:
    if not len(clips):
        return "no clip"
    more = ", ..." if len(clips) > _NAMED_CLIPS else ""
    kind = "clip" if len(clips) == 1 else "clips"
    return f"{len(clips)} {kind} ({', '.join(clips[:_NAMED_CLIPS])}{more})"


def _differ(first: TrainRun, second: TrainRun, difference: str) -> RunsDifferError:
    protocols = " and ".join(run.plan.protocol for run in (first, second))
    return RunsDifferError(
        f"The runs cannot be compared: {difference}. A paired comparison needs the same clips, "
        f"subjects and classes (the protocols were {protocols}). Train both on the same partitions "
        "with the same [network] classes; a holdout needs the same seed, too."
    )
