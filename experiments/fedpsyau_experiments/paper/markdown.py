"""The page of an experiment: its tables beside the published numbers, and how to read them."""

from __future__ import annotations

import math
from collections.abc import Sequence

from fedpsyau_client.protocols.outputs import shown, signed
from fedpsyau_experiments.paper.outcome import (
    SCORES,
    BlockOutcome,
    Difference,
    Outcome,
    SettingOutcome,
)
from fedpsyau_experiments.paper.published import published
from fedpsyau_experiments.paper.statistics import Spread

__all__ = ["findings", "page"]

#: Below this, a p that is corrected for the number of comparisons speaks against chance.
_SIGNIFICANT = 0.05


def page(outcome: Outcome, notes: Sequence[str]) -> str:
    """Text of NAME.md."""
    plan, experiment = outcome.plan, outcome.plan.catalogued
    seeds = ", ".join(map(str, plan.settings.experiment.seeds))
    reference = experiment.setting(experiment.reference).label
    lines = [
        f"# {experiment.title}{', synthetic data' if plan.synthetic else ''}",
        "",
        f"- after: {experiment.source}",
        f"- data: {', '.join(f'{part.partition} ({part.dataset})' for part in plan.data)}",
        f"- seeds {seeds}; reference of the tests: {reference}",
        f"- fedpsyau {plan.version}, plan {plan.plan_hash()[:12]} (all of it in plan.json)",
        "",
    ]
    if plan.synthetic:
        lines += [
            "**The data are synthetic: these numbers say nothing about real faces, and published "
            "ones, which are on real data, stand beside them only for orientation.**",
            "",
        ]
    if experiment.claim:
        lines += [f"Published: {experiment.claim}", ""]
    if found := findings(outcome):
        lines += ["What the tests say:", "", *(f"- {each}" for each in found), ""]
    for block in outcome.blocks:
        lines += _block_lines(outcome, block)
    lines += [
        f"![{experiment.title}]({experiment.name}.png)",
        "",
        *(f"{note}\n" for note in notes),
        f"The same numbers: [{experiment.name}.json]({experiment.name}.json), "
        f"[{experiment.name}.csv]({experiment.name}.csv).",
    ]
    return "\n".join(lines) + "\n"


def findings(outcome: Outcome) -> list[str]:
    """What can be told from chance, in words made from the corrected tests alone."""
    reference = outcome.plan.catalogued.setting(outcome.plan.catalogued.reference).label
    found = []
    for block in outcome.blocks:
        for score in SCORES:
            compared = _compared(outcome, block, score)
            told = [each for each in compared if each.subjects_p_holm < _SIGNIFICANT]
            for side, sign in (("above", 1), ("below", -1)):
                names = [
                    block.setting(each.setting).label
                    for each in told
                    if sign * each.subjects.value > 0
                ]
                if names:
                    found.append(
                        f"{block.block.name}, {score}: {side} {reference} beyond chance in who was "
                        f"tested: {'; '.join(names)}."
                    )
            rest = len(compared) - len(told)
            if rest:
                found.append(
                    f"{block.block.name}, {score}: {rest} of {len(compared)} settings cannot be "
                    f"told from {reference}, after Holm over subjects."
                )
    return found


def _compared(outcome: Outcome, block: BlockOutcome, score: str) -> list[Difference]:
    return [
        each
        for each in outcome.differences
        if each.block == block.block.name and each.score == score
    ]


def _block_lines(outcome: Outcome, block: BlockOutcome) -> list[str]:
    seeds = len(outcome.plan.settings.experiment.seeds)
    lines = [
        f"## {_heading(block)}",
        "",
        f"{block.clips / seeds:.0f} tested clips a seed, {block.subjects} subjects in all.",
        "",
        *_score_table(outcome, block),
        "",
    ]
    for score in SCORES:
        if compared := _compared(outcome, block, score):
            lines += [f"### {score} against the reference", "", *_tests(block, compared), ""]
    if block.block.protocol == "federation":
        for score in SCORES:
            lines += [f"### {score} by site", "", *_site_table(block, score), ""]
    if any(setting.theta for setting in block.settings):
        lines += ["### θ that the sites chose last", "", *_theta_table(block), ""]
    return lines


def _heading(block: BlockOutcome) -> str:
    how = {
        "federation": "trained together, tested on held-out subjects",
        "kfold": "in folds by subject",
        "loso": "leaving one subject out",
    }
    names = {"sites": "All sites", "all data": "All data"}
    name = names.get(block.block.name, block.block.name)
    return f"{name}, {block.block.classes} classes, {how[block.block.protocol]}"


def _score_table(outcome: Outcome, block: BlockOutcome) -> list[str]:
    federated = block.block.protocol == "federation"
    aus = any(setting.au_f1 is not None for setting in block.settings)
    known = [
        published(outcome.plan.experiment, block.block.name, setting.name)
        for setting in block.settings
    ]
    heads = ["setting", "UF1", "UAR", "accuracy"]
    heads += ["UF1 as received", "UF1 of the worst site"] if federated else []
    heads += ["F1, mean over AUs"] if aus else []
    heads += ["published UF1, UAR (real data)"] if any(known) else []
    lines = _table_head(heads)
    for setting, paper in zip(block.settings, known, strict=True):
        cells = [setting.label, *map(_spread, (setting.uf1, setting.uar, setting.accuracy))]
        cells += [_spread(setting.received), _spread(setting.worst)] if federated else []
        cells += [_spread(setting.au_f1)] if aus else []
        if any(known):
            cells += [f"{paper.uf1:.4f}, {paper.uar:.4f} ({paper.source})" if paper else ""]
        lines.append(_row(cells))
    return lines


def _tests(block: BlockOutcome, compared: Sequence[Difference]) -> list[str]:
    lines = _table_head(
        [
            "setting",
            "difference",
            "95 % interval over subjects",
            "p over subjects",
            "after Holm",
            "difference over seeds",
            "p over seeds",
            "after Holm",
        ]
    )
    for each in compared:
        interval = f"{signed(each.subjects.low)} to {signed(each.subjects.high)}"
        lines.append(
            _row(
                [
                    block.setting(each.setting).label,
                    signed(each.subjects.value),
                    interval,
                    shown(each.subjects.p),
                    shown(each.subjects_p_holm),
                    f"{signed(each.seeds.mean)} ± {shown(each.seeds.sd)}",
                    shown(each.seeds_p),
                    shown(each.seeds_p_holm),
                ]
            )
        )
    return lines


def _site_table(block: BlockOutcome, score: str) -> list[str]:
    sites = block.block.partitions
    lines = _table_head(["setting", *sites])
    for setting in block.settings:
        lines.append(
            _row([setting.label, *(_spread(setting.parts[site][score]) for site in sites)])
        )
    return lines


def _theta_table(block: BlockOutcome) -> list[str]:
    sites = block.block.partitions
    lines = _table_head(["setting", *sites])
    for setting in block.settings:
        if setting.theta:
            lines.append(_row([setting.label, *(_listed(setting, site) for site in sites)]))
    return lines


def _listed(setting: SettingOutcome, site: str) -> str:
    return ", ".join(f"{value:.2f}" for value in setting.theta[site].values)


def _spread(found: Spread | None) -> str:
    if found is None:
        return ""
    if math.isnan(found.sd):
        return shown(found.mean)
    return f"{shown(found.mean)} ± {shown(found.sd)}"


def _table_head(heads: Sequence[str]) -> list[str]:
    return [_row(heads), f"|---|{'--:|' * (len(heads) - 1)}"]


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
