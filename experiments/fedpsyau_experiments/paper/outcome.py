"""What an experiment came to: scores of every setting, and which differences could be chance."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from fedpsyau_client.protocols.seeds import seed_for
from fedpsyau_experiments.paper.cell_result import CellResult, SubjectCounts
from fedpsyau_experiments.paper.experiment_run import ExperimentRun
from fedpsyau_experiments.paper.plan import Block, ExperimentPlan
from fedpsyau_experiments.paper.statistics import (
    PairedDifference,
    Spread,
    holm,
    mean_scores,
    paired_difference,
    sign_flip_p,
    spread,
)
from fedpsyau_model.bootstrap import Counts, Scores, drawn_subjects
from fedpsyau_model.metrics import (
    accuracy_of_each,
    au_f1,
    mean_of_defined,
    uar_of_each,
    uf1_of_each,
)

__all__ = [
    "SCORES",
    "BlockOutcome",
    "Difference",
    "Outcome",
    "SettingOutcome",
    "counts_of_seeds",
    "summarise",
]

#: Scores that are tested, by name.
SCORES: dict[str, Callable[[npt.ArrayLike], Scores]] = {"UF1": uf1_of_each, "UAR": uar_of_each}


@dataclass(frozen=True, eq=False)
class SettingOutcome:
    """A setting on a block. Every spread is over seeds.

    confusion: (C, C), all tested clips of all seeds. parts: UF1 and UAR by site or store.
    worst: UF1 of the worst part of each seed. received: UF1 of what the sites were sent last; None
    without a federation. au_f1: mean over AUs; None where AUs were not told. theta: what the sites
    chose last.
    """

    name: str
    label: str
    uf1: Spread
    uar: Spread
    accuracy: Spread
    confusion: Counts
    parts: dict[str, dict[str, Spread]]
    worst: Spread
    received: Spread | None
    au_f1: Spread | None
    theta: dict[str, Spread]


@dataclass(frozen=True)
class Difference:
    """A setting minus the reference on one score.

    subjects: paired bootstrap over subjects. seeds: of every seed. The p values end in _holm where
    they are corrected over all comparisons of the experiment on this score.
    """

    block: str
    setting: str
    score: str
    subjects: PairedDifference
    subjects_p_holm: float
    seeds: Spread
    seeds_p: float
    seeds_p_holm: float


@dataclass(frozen=True, eq=False)
class BlockOutcome:
    """All settings on one block; subjects and clips are those tested with any seed."""

    block: Block
    subjects: int
    clips: int
    settings: tuple[SettingOutcome, ...]

    def setting(self, name: str) -> SettingOutcome:
        """Give the outcome of this setting."""
        return next(each for each in self.settings if each.name == name)


@dataclass(frozen=True, eq=False)
class Outcome:
    """A finished experiment."""

    plan: ExperimentPlan
    blocks: tuple[BlockOutcome, ...]
    differences: tuple[Difference, ...]


@dataclass(frozen=True, eq=False)
class _Measured:
    """All seeds of a setting on a block."""

    tested: tuple[SubjectCounts, ...]
    counts: tuple[Counts, ...]
    """By seed (S, C, C), over all subjects of the block."""


def summarise(run: ExperimentRun) -> Outcome:
    """Score a finished experiment; the same cells give the same numbers, bit for bit.

    Raises RunFolderError if a cell is missing or damaged.
    """
    plan, results = run.plan, run.results()
    blocks: list[BlockOutcome] = []
    differences: list[Difference] = []
    for block in plan.blocks:
        found = [each for each in results if each.block == block.name]
        outcome, compared = _block(plan, block, found)
        blocks.append(outcome)
        differences += compared
    return Outcome(plan, tuple(blocks), _corrected(differences))


def _block(
    plan: ExperimentPlan, block: Block, results: Sequence[CellResult]
) -> tuple[BlockOutcome, list[Difference]]:
    subjects = sorted({subject for each in results for subject in each.tested.subject})
    measured = {
        setting.name: _Measured(tested, counts_of_seeds(tested, subjects))
        for setting in plan.compared
        for tested in [tuple(each.tested for each in results if each.setting == setting.name)]
    }
    reference = plan.catalogued.reference
    _require_same_clips(measured, reference)
    outcome = BlockOutcome(
        block=block,
        subjects=len(subjects),
        clips=int(sum(counts.sum() for counts in measured[reference].counts)),
        settings=tuple(
            _setting(plan, setting.name, measured[setting.name]) for setting in plan.compared
        ),
    )
    generator = np.random.default_rng(seed_for("experiment", plan.experiment, block.name))
    drawn = drawn_subjects(len(subjects), plan.settings.experiment.resamples, generator)
    drawn = np.concatenate([np.ones((1, len(subjects)), dtype=np.int64), drawn])
    return outcome, _compared(outcome, measured, reference, drawn)


def counts_of_seeds(tested: Sequence[SubjectCounts], subjects: Sequence[str]) -> tuple[Counts, ...]:
    """Counts of every seed over all of `subjects`, (S, C, C); 0 for a subject that it left out."""
    place = {subject: number for number, subject in enumerate(subjects)}
    counts = []
    for each in tested:
        confusion = np.array(each.confusion, dtype=np.int64)
        total = np.zeros((len(subjects), *confusion.shape[1:]), dtype=np.int64)
        np.add.at(total, [place[subject] for subject in each.subject], confusion)
        counts.append(total)
    return tuple(counts)


def _require_same_clips(measured: dict[str, _Measured], reference: str) -> None:
    """Pairing means nothing unless every setting was tested on the same clips of every subject."""
    for name, each in measured.items():
        for ours, theirs in zip(each.counts, measured[reference].counts, strict=True):
            if not np.array_equal(ours.sum(axis=2), theirs.sum(axis=2)):
                raise ValueError(f"{name} and {reference} were tested on different clips")


def _setting(plan: ExperimentPlan, name: str, measured: _Measured) -> SettingOutcome:
    totals = np.stack([counts.sum(axis=0) for counts in measured.counts])
    by_part = [_by_part(tested) for tested in measured.tested]
    parts = sorted({part for each in by_part for part in each})
    aus = [each.au_counts for each in measured.tested if each.au_counts is not None]
    received = [each.received for each in measured.tested if each.received is not None]
    return SettingOutcome(
        name=name,
        label=plan.catalogued.setting(name).label,
        uf1=_spread_of(uf1_of_each(totals)),
        uar=_spread_of(uar_of_each(totals)),
        accuracy=_spread_of(accuracy_of_each(totals)),
        confusion=totals.sum(axis=0),
        parts={
            part: {
                score: _spread_of(
                    [float(of(each[part])) if part in each else np.nan for each in by_part]
                )
                for score, of in SCORES.items()
            }
            for part in parts
        },
        worst=_spread_of(
            [float(np.nanmin([float(uf1_of_each(c)) for c in each.values()])) for each in by_part]
        ),
        received=_spread_of(
            [float(uf1_of_each(np.sum(list(each.values()), axis=0))) for each in received]
        )
        if received
        else None,
        au_f1=_spread_of([float(mean_of_defined(au_f1(each))) for each in aus]) if aus else None,
        theta=_thetas(measured.tested),
    )


def _by_part(tested: SubjectCounts) -> dict[str, Counts]:
    confusion = np.array(tested.confusion, dtype=np.int64)
    part = np.array(tested.part)
    return {str(name): confusion[part == name].sum(axis=0) for name in np.unique(part)}


def _thetas(tested: Sequence[SubjectCounts]) -> dict[str, Spread]:
    chosen = [each.theta for each in tested if each.theta is not None]
    return {
        site: spread([each[site] for each in chosen if site in each])
        for site in sorted({site for each in chosen for site in each})
    }


def _spread_of(values: Sequence[float] | Scores) -> Spread:
    return spread([float(value) for value in values])


def _compared(
    outcome: BlockOutcome, measured: dict[str, _Measured], reference: str, drawn: Counts
) -> list[Difference]:
    """Test every setting against the reference; nothing is corrected yet."""
    found = []
    for score, of in SCORES.items():
        base = mean_scores(measured[reference].counts, drawn, of)
        for setting in outcome.settings:
            if setting.name == reference:
                continue
            seeds = spread(_seed_differences(outcome, setting.name, reference, score))
            found.append(
                Difference(
                    block=outcome.block.name,
                    setting=setting.name,
                    score=score,
                    subjects=paired_difference(
                        base, mean_scores(measured[setting.name].counts, drawn, of)
                    ),
                    subjects_p_holm=np.nan,
                    seeds=seeds,
                    seeds_p=sign_flip_p(seeds.values),
                    seeds_p_holm=np.nan,
                )
            )
    return found


def _seed_differences(outcome: BlockOutcome, name: str, reference: str, score: str) -> list[float]:
    ours, base = (
        each.uf1 if score == "UF1" else each.uar
        for each in (outcome.setting(name), outcome.setting(reference))
    )
    return [one - other for one, other in zip(ours.values, base.values, strict=True)]


def _corrected(differences: Sequence[Difference]) -> tuple[Difference, ...]:
    """Correct each kind of p over all comparisons on one score."""
    corrected: dict[int, Difference] = {}
    for score in SCORES:
        family = [(i, each) for i, each in enumerate(differences) if each.score == score]
        over_subjects = holm([each.subjects.p for _, each in family])
        over_seeds = holm([each.seeds_p for _, each in family])
        for (i, each), subjects_p, seeds_p in zip(family, over_subjects, over_seeds, strict=True):
            corrected[i] = replace(each, subjects_p_holm=subjects_p, seeds_p_holm=seeds_p)
    return tuple(corrected[i] for i in range(len(differences)))
