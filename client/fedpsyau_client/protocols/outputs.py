"""What a finished run is read from: pages, summary.json, folds.csv, predictions.csv, PNGs."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fedpsyau_client.protocols.fold_result import AU_THRESHOLD, FoldResult
from fedpsyau_client.protocols.pictures import plot_confusion, plot_curves
from fedpsyau_client.protocols.plan import Plan
from fedpsyau_client.protocols.pooled import Pooled, PooledScores, Score, pool, score
from fedpsyau_client.protocols.seeds import seed_for
from fedpsyau_client.protocols.summary_page import summary_page
from fedpsyau_client.protocols.train_run import SUMMARY, TrainRun
from fedpsyau_model.action_units import AUS
from fedpsyau_model.atomic_files import write_atomically
from fedpsyau_model.bootstrap import COVERAGE, RESAMPLES
from fedpsyau_model.emotions import CLASS_NAMES
from fedpsyau_model.errors import OutputWriteError
from fedpsyau_model.file_content import csv_text, png_bytes
from fedpsyau_model.metrics import f1_by_class, recall_by_class

#: With fewer test subjects a bootstrap over them says too little, and its intervals are too short.
FEW_SUBJECTS = 20

#: The page to read, in the run's folder.
PAGE = "summary.html"

_RULES = (
    "Scores come from the pooled counts of all test clips; scores of folds are never averaged.",
    "UF1 leaves out a class that neither occurs nor is predicted, UAR one that does not occur; "
    "so does every resample for itself. An AU that neither occurs nor is predicted has no F1.",
    f"Intervals: {COVERAGE:.0%} percentile bootstrap over test subjects, {RESAMPLES} resamples. "
    "They do not cover what another seed of training would change.",
    f"An AU is called active from a probability of {AU_THRESHOLD} on, where the AU was coded.",
)


@dataclass(frozen=True, eq=False)
class RunSummary:
    """A finished run: its folds, their pooled predictions and scores."""

    path: Path
    plan: Plan
    results: Sequence[FoldResult]
    pooled: Pooled
    scores: PooledScores

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names, in the order of the confusion matrix."""
        return CLASS_NAMES[self.plan.network.classes]

    @property
    def confusion(self) -> np.ndarray:
        """Pooled counts (C, C), rows the true class."""
        total: np.ndarray = self.pooled.confusion.sum(axis=0)
        return total

    @property
    def title(self) -> str:
        """What was run on what, and whether it is synthetic."""
        made_up = ", synthetic data" if any(part.synthetic for part in self.plan.data) else ""
        folds = "" if len(self.results) == 1 else f", {len(self.results)} folds"
        return (
            f"{self.plan.protocol}{folds}, {len(self.pooled.clip)} clips of "
            f"{self.pooled.subjects} subjects{made_up}"
        )

    def notes(self) -> list[str]:
        """Rules of the scores, and what limits these."""
        found = list(_RULES)
        if self.pooled.subjects < FEW_SUBJECTS:
            found.append(
                f"Only {self.pooled.subjects} subjects were tested: with fewer than {FEW_SUBJECTS} "
                "the intervals are too short."
            )
        absent = [
            name for name, row in zip(self.classes, self.confusion, strict=True) if not row.sum()
        ]
        if absent:
            found.append(f"No tested clip is of the class {' or '.join(absent)}.")
        return found


def summarise(run: TrainRun) -> RunSummary:
    """Score a run from its folds' files."""
    results = run.results()
    pooled = pool(results)
    generator = np.random.default_rng(seed_for(run.plan.seed, "bootstrap"))
    return RunSummary(run.path, run.plan, results, pooled, score(pooled, generator))


def write_outputs(summary: RunSummary) -> tuple[Path, ...]:
    """Write tables and pictures into the run's folder, replacing older ones file by file.

    Returns the files, the page first. Raises OutputWriteError if they cannot be written.
    """
    contents: dict[str, str | bytes] = {
        PAGE: summary_page(summary),
        "summary.md": _page(summary),
        SUMMARY: json.dumps(summary_document(summary), indent=2, allow_nan=False) + "\n",
        "folds.csv": csv_text(_fold_rows(summary)),
        "predictions.csv": csv_text(_prediction_rows(summary)),
        "confusion.png": png_bytes(
            plot_confusion(summary.title, summary.confusion, summary.classes)
        ),
        "curves.png": png_bytes(plot_curves(summary.title, summary.results)),
    }
    try:
        for name, content in contents.items():
            write_atomically(summary.path / name, content)
    except OSError as error:
        raise OutputWriteError(
            f"The summary in {summary.path} cannot be written: {error.strerror or error}. Check "
            "space and permissions, and repeat the command with --resume; no fold is lost."
        ) from None
    return tuple(summary.path / name for name in contents)


def summary_document(summary: RunSummary) -> dict[str, Any]:
    """Content of ``summary.json``; a score that is not defined is null."""
    scores, confusion = summary.scores, summary.confusion
    return {
        "protocol": summary.plan.protocol,
        "synthetic": any(part.synthetic for part in summary.plan.data),
        "folds": len(summary.results),
        "clips": len(summary.pooled.clip),
        "subjects": summary.pooled.subjects,
        "classes": list(summary.classes),
        "uf1": _score_values(scores.uf1),
        "uar": _score_values(scores.uar),
        "accuracy": _score_values(scores.accuracy),
        "au_f1_mean": scores.au_f1_mean and _score_values(scores.au_f1_mean),
        "au_f1": scores.au_f1
        and {f"AU{au}": _score_values(each) for au, each in zip(AUS, scores.au_f1, strict=True)},
        "confusion": confusion.tolist(),
        "f1_by_class": [_defined(each) for each in f1_by_class(confusion)],
        "recall_by_class": [_defined(each) for each in recall_by_class(confusion)],
        "au_counts": None if summary.pooled.aus is None else _au_count_values(summary.pooled),
        "coverage": COVERAGE,
        "resamples": RESAMPLES,
        "notes": summary.notes(),
        "plan_hash": summary.plan.plan_hash(),
        "plan": summary.plan.as_dict(),
    }


def _au_count_values(pooled: Pooled) -> dict[str, list[int]]:
    assert pooled.aus is not None
    return {f"AU{au}": each for au, each in zip(AUS, pooled.aus.sum(axis=0).tolist(), strict=True)}


def score_rows(scores: PooledScores) -> list[tuple[str, Score]]:
    """Scores with their names, for tables."""
    rows = [("UF1", scores.uf1), ("UAR", scores.uar), ("accuracy", scores.accuracy)]
    if scores.au_f1 is not None and scores.au_f1_mean is not None:
        rows.append(("F1, mean over AUs", scores.au_f1_mean))
        rows += [(f"F1 of AU{au}", each) for au, each in zip(AUS, scores.au_f1, strict=True)]
    return rows


def shown(value: float) -> str:
    """Write a score for a person: four decimals as in the paper, a dash if it is not defined."""
    return "–" if math.isnan(value) else f"{value:.4f}"


def signed(value: float) -> str:
    """Write a difference of scores for a person, with its sign."""
    return "–" if math.isnan(value) else f"{value:+.4f}"


def _score_values(found: Score) -> dict[str, float | None]:
    return {name: _defined(value) for name, value in asdict(found).items()}


def _defined(value: float) -> float | None:
    return None if math.isnan(value) else float(value)


def _fold_rows(summary: RunSummary) -> Iterable[dict[str, Any]]:
    for result in summary.results:
        confusion = {
            f"{truth}_as_{predicted}": count
            for truth, row in zip(summary.classes, result.confusion, strict=True)
            for predicted, count in zip(summary.classes, row, strict=True)
        }
        yield {
            "fold": result.number,
            "name": result.name,
            "train_clips": result.train_clips,
            "train_subjects": result.train_subjects,
            "test_clips": len(result.clip),
            "test_subjects": len(set(result.subject)),
            "chosen_epoch": result.chosen_epoch,
            "loss_total": result.losses[-1][0],
            "seconds": result.seconds,
            **confusion,
        }


def _prediction_rows(summary: RunSummary) -> Iterable[dict[str, Any]]:
    for result in summary.results:
        for i, clip in enumerate(result.clip):
            aus = result.au_probabilities
            yield {
                "clip": clip,
                "subject": result.subject[i],
                "fold": result.number,
                "truth": summary.classes[result.truth[i]],
                "predicted": summary.classes[result.predicted[i]],
                **{
                    f"p_{name}": p
                    for name, p in zip(summary.classes, result.probabilities[i], strict=True)
                },
                **{
                    f"AU{au}": active if known else ""
                    for au, active, known in zip(AUS, result.au[i], result.au_known[i], strict=True)
                },
                **{f"p_AU{au}": "" if aus is None else aus[i][k] for k, au in enumerate(AUS)},
            }


def _page(summary: RunSummary) -> str:
    plan = summary.plan
    start = f", started from checkpoint {plan.start_sha256[:12]}" if plan.start_sha256 else ""
    chosen = "the last one" if plan.select == "last" else "chosen on held-out training subjects"
    lines = [
        f"# {summary.title}",
        "",
        f"- data: {', '.join(f'{part.partition} ({part.dataset})' for part in plan.data)}",
        f"- {plan.epochs} epochs, the model is {chosen}; seed {plan.seed}{start}",
        f"- fedpsyau {plan.version}, plan {plan.plan_hash()[:12]} (all of it in plan.json)",
        "",
        "| score | value | 95 % interval |",
        "|---|--:|--:|",
        *(
            f"| {name} | {shown(each.value)} | {shown(each.low)} to {shown(each.high)} |"
            for name, each in score_rows(summary.scores)
        ),
        "",
        *(f"{note}\n" for note in summary.notes()),
        "![Confusion counts of all folds](confusion.png)",
        "",
        "![Training loss, epoch by epoch](curves.png)",
        "",
        "The same numbers: [summary.json](summary.json), [folds.csv](folds.csv), "
        "[predictions.csv](predictions.csv).",
    ]
    return "\n".join(lines) + "\n"
