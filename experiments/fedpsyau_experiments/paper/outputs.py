"""What a finished experiment is read from: NAME.json, NAME.csv, NAME.md and NAME.png."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from fedpsyau_client.protocols.outputs import FEW_SUBJECTS
from fedpsyau_experiments.paper.markdown import page
from fedpsyau_experiments.paper.outcome import BlockOutcome, Outcome, SettingOutcome
from fedpsyau_experiments.paper.pictures import plot
from fedpsyau_experiments.paper.published import published
from fedpsyau_experiments.paper.statistics import Spread, smallest_sign_flip_p
from fedpsyau_model.atomic_files import write_atomically
from fedpsyau_model.bootstrap import COVERAGE
from fedpsyau_model.emotions import CLASS_NAMES
from fedpsyau_model.errors import OutputWriteError
from fedpsyau_model.file_content import csv_text, png_bytes

__all__ = ["csv_rows", "document", "notes", "write_outputs"]


def write_outputs(outcome: Outcome, folder: Path) -> tuple[Path, ...]:
    """Write tables and the figure into an experiment's folder, replacing older ones.

    Returns the files, the page first. Raises OutputWriteError if they cannot be written.
    """
    name = outcome.plan.experiment
    contents: dict[str, str | bytes] = {
        f"{name}.md": page(outcome, notes(outcome)),
        f"{name}.json": json.dumps(document(outcome), indent=2, allow_nan=False) + "\n",
        f"{name}.csv": csv_text(csv_rows(outcome)),
        f"{name}.png": png_bytes(plot(outcome)),
    }
    try:
        for file, content in contents.items():
            write_atomically(folder / file, content)
    except OSError as error:
        raise OutputWriteError(
            f"The results in {folder} cannot be written: {error.strerror or error}. Check space "
            "and permissions, and repeat the command with --resume; no cell is lost."
        ) from None
    return tuple(folder / file for file in contents)


def notes(outcome: Outcome) -> list[str]:
    """Rules of the scores, and what limits these."""
    plan = outcome.plan
    section, tests = plan.settings.experiment, len(outcome.differences) // 2
    found = [
        "UF1 and UAR come from the pooled counts of all tested clips of a seed; they are never "
        "averaged over sites or folds. ± is the standard deviation over seeds.",
    ]
    if tests:
        found += [
            f"Difference over subjects: setting minus reference, mean over seeds; "
            f"{COVERAGE:.0%} interval and p from {section.resamples} paired resamples of the "
            "subjects. It tells chance in who was tested, not chance in training.",
            f"Difference over seeds: p from all changes of sign of the {len(section.seeds)} paired "
            f"differences; with so many seeds it cannot be below "
            f"{smallest_sign_flip_p(len(section.seeds)):.4f}. Seeds divide the same people anew, "
            "so they are not independent, and this p is too small rather than too large.",
            f"p after Holm is corrected over the {tests} comparisons of this experiment on one "
            "score. UF1 and UAR, and the two kinds of test, are not corrected for one another.",
        ]
    fewest = min(block.subjects for block in outcome.blocks)
    if fewest < FEW_SUBJECTS:
        found.append(
            f"Only {fewest} subjects were tested: with fewer than {FEW_SUBJECTS} intervals are too "
            "short and p is too small."
        )
    return found


def document(outcome: Outcome) -> dict[str, Any]:
    """Content of the JSON; what is not defined is null."""
    plan, experiment = outcome.plan, outcome.plan.catalogued
    values: dict[str, Any] = _defined(
        {
            "experiment": plan.experiment,
            "title": experiment.title,
            "source": experiment.source,
            "published_claim": experiment.claim,
            "synthetic": plan.synthetic,
            "seeds": list(plan.settings.experiment.seeds),
            "reference": experiment.reference,
            "blocks": [_block_values(outcome, block) for block in outcome.blocks],
            "differences": [asdict(each) for each in outcome.differences],
            "notes": notes(outcome),
            "plan_hash": plan.plan_hash(),
            "plan": plan.as_dict(),
        }
    )
    return values


def _block_values(outcome: Outcome, block: BlockOutcome) -> dict[str, Any]:
    return {
        "name": block.block.name,
        "protocol": block.block.protocol,
        "partitions": list(block.block.partitions),
        "classes": list(CLASS_NAMES[block.block.classes]),
        "subjects": block.subjects,
        "clips": block.clips,
        "settings": [_setting_values(outcome, block, each) for each in block.settings],
    }


def _setting_values(
    outcome: Outcome, block: BlockOutcome, setting: SettingOutcome
) -> dict[str, Any]:
    known = published(outcome.plan.experiment, block.block.name, setting.name)
    return {
        "name": setting.name,
        "label": setting.label,
        "changes": next(
            each.changes for each in outcome.plan.compared if each.name == setting.name
        ),
        "uf1": asdict(setting.uf1),
        "uar": asdict(setting.uar),
        "accuracy": asdict(setting.accuracy),
        "worst_uf1": asdict(setting.worst),
        "received_uf1": setting.received and asdict(setting.received),
        "au_f1_mean": setting.au_f1 and asdict(setting.au_f1),
        "parts": {
            part: {score.lower(): asdict(each) for score, each in scores.items()}
            for part, scores in setting.parts.items()
        },
        "theta": {site: asdict(each) for site, each in setting.theta.items()},
        "confusion": setting.confusion.tolist(),
        "published": known and known._asdict(),
    }


def _defined(value: Any) -> Any:
    """Replace every NaN within by None, which JSON has a word for."""
    if isinstance(value, dict):
        return {key: _defined(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_defined(each) for each in value]
    return None if isinstance(value, float) and math.isnan(value) else value


def csv_rows(outcome: Outcome) -> Iterable[dict[str, Any]]:
    """One row for every block, setting, seed and part, and one for all parts together."""
    for block in outcome.blocks:
        for setting in block.settings:
            for place, seed in enumerate(outcome.plan.settings.experiment.seeds):
                key = {
                    "experiment": outcome.plan.experiment,
                    "block": block.block.name,
                    "setting": setting.name,
                    "seed": seed,
                }
                yield key | {
                    "part": "all",
                    "uf1": _cell(setting.uf1, place),
                    "uar": _cell(setting.uar, place),
                    "accuracy": _cell(setting.accuracy, place),
                    "synthetic": outcome.plan.synthetic,
                }
                for part, scores in setting.parts.items():
                    yield key | {
                        "part": part,
                        "uf1": _cell(scores["UF1"], place),
                        "uar": _cell(scores["UAR"], place),
                        "accuracy": "",
                        "synthetic": outcome.plan.synthetic,
                    }


def _cell(found: Spread, place: int) -> float | str:
    value = found.values[place]
    return "" if math.isnan(value) else value
