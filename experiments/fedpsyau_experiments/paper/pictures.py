"""The figure of an experiment: scores by site, scores by setting, or confusion matrices."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from fedpsyau_experiments.paper.outcome import SCORES, BlockOutcome, Outcome, SettingOutcome
from fedpsyau_experiments.paper.published import published
from fedpsyau_experiments.paper.statistics import Spread
from fedpsyau_model.confusion_figure import draw_confusion
from fedpsyau_model.emotions import CLASS_NAMES
from fedpsyau_model.figure_style import GRID, INK, LOOKS

__all__ = ["plot"]


#: Blue and vermilion of Okabe and Ito.
_SCORE_COLOURS = {"UF1": "#0072b2", "UAR": "#d55e00"}


def plot(outcome: Outcome) -> Figure:
    """Draw the experiment's figure; it says whether the data are synthetic."""
    draw = {"sites": _sites, "scores": _scores, "confusion": _confusion}
    return draw[outcome.plan.catalogued.figure](outcome)


def _sites(outcome: Outcome) -> Figure:
    """UF1 above UAR: a group of points for every site and for all, one for each setting.

    The bars are one standard deviation over seeds.
    """
    block = outcome.blocks[0]
    groups = [*block.block.partitions, "all sites"]
    width = 1.35 * len(groups) + 2.6
    figure = _figure(outcome, width, 7.6)
    upper, lower = figure.subplots(2, 1, sharex=True)
    for axes, score in ((upper, "UF1"), (lower, "UAR")):
        for place, setting in enumerate(block.settings):
            spreads = [setting.parts[site][score] for site in block.block.partitions]
            spreads.append(setting.uf1 if score == "UF1" else setting.uar)
            _draw_group(axes, spreads, place, len(block.settings), setting.label)
        axes.set_ylabel(f"{score}, trained model")
        axes.set_ylim(0, 1)
        axes.axvspan(len(groups) - 1.5, len(groups) - 0.5, color="#f2f4f5", zorder=0)
        _dress(axes)
    lower.set_xticks(range(len(groups)), labels=groups)
    lower.set_xlim(-0.5, len(groups) - 0.5)
    figure.legend(
        *upper.get_legend_handles_labels(),
        loc="outside lower center",
        ncols=min(int(width / 2.1), len(block.settings)),
        frameon=False,
        fontsize=9,
    )
    return figure


def _draw_group(axes: Axes, spreads: Sequence[Spread], place: int, count: int, label: str) -> None:
    colour, marker = LOOKS[place % len(LOOKS)]
    offset = 0.78 * ((place + 0.5) / count - 0.5)
    axes.errorbar(
        np.arange(len(spreads)) + offset,
        [each.mean for each in spreads],
        yerr=[0 if math.isnan(each.sd) else each.sd for each in spreads],
        fmt=marker,
        color=colour,
        markersize=5.5,
        elinewidth=1,
        label=label,
    )


def _scores(outcome: Outcome) -> Figure:
    """A panel for every block: UF1 and UAR of every setting, its seeds as faint points."""
    count = len(outcome.plan.compared)
    panels = len(outcome.blocks)
    figure = _figure(outcome, 2.6 + 4.6 * panels, 1.8 + 0.5 * count)
    grid = figure.subplots(1, panels, sharey=True, squeeze=False)[0]
    for axes, block in zip(grid, outcome.blocks, strict=True):
        for place, setting in enumerate(block.settings):
            _draw_scores(axes, outcome, block, setting, place)
        axes.set_title(f"{block.block.name}, {block.block.classes} classes", fontsize=10, color=INK)
        axes.set_xlabel("score")
        axes.set_xlim(0, 1)
        _dress(axes)
    grid[0].set_yticks(range(count), labels=[each.label for each in outcome.blocks[0].settings])
    grid[0].invert_yaxis()
    handles, labels = grid[0].get_legend_handles_labels()
    named = dict(zip(labels, handles, strict=True))
    figure.legend(
        named.values(), named.keys(), loc="outside lower center", ncols=4, frameon=False, fontsize=9
    )
    return figure


def _draw_scores(
    axes: Axes, outcome: Outcome, block: BlockOutcome, setting: SettingOutcome, place: int
) -> None:
    known = published(outcome.plan.experiment, block.block.name, setting.name)
    for row, score in enumerate(SCORES):
        found = setting.uf1 if score == "UF1" else setting.uar
        height = place + (row - 0.5) * 0.3
        colour = _SCORE_COLOURS[score]
        axes.plot(
            found.values, [height] * len(found.values), "o", color=colour, alpha=0.3, markersize=4
        )
        axes.errorbar(
            found.mean,
            height,
            xerr=0 if math.isnan(found.sd) else found.sd,
            fmt="o",
            color=colour,
            markersize=6.5,
            label=score,
        )
        if known is not None:
            value = known.uf1 if score == "UF1" else known.uar
            axes.plot(
                value,
                height,
                "x",
                color=INK,
                markersize=6,
                zorder=4,
                label="published, on real data",
            )


def _confusion(outcome: Outcome) -> Figure:
    """Confusion matrices of the reference, all seeds together: share of the true class."""
    panels = len(outcome.blocks)
    sides = [1.2 + 0.72 * len(CLASS_NAMES[block.block.classes]) for block in outcome.blocks]
    figure = _figure(outcome, sum(sides) + 1.0, max(sides) + 1.2)
    grid = figure.subplots(1, panels, squeeze=False, width_ratios=sides)[0]
    for axes, block in zip(grid, outcome.blocks, strict=True):
        setting = block.setting(outcome.plan.catalogued.reference)
        draw_confusion(axes, setting.confusion, CLASS_NAMES[block.block.classes], counts=False)
        axes.set_title(
            f"{block.block.name}\nUF1 {setting.uf1.mean:.3f}, UAR {setting.uar.mean:.3f}",
            fontsize=10,
            color=INK,
        )
    figure.supxlabel("predicted class", fontsize=10, color=INK)
    figure.supylabel("true class", fontsize=10, color=INK)
    return figure


def _figure(outcome: Outcome, width: float, height: float) -> Figure:
    seeds = len(outcome.plan.settings.experiment.seeds)
    made_up = ", synthetic data" if outcome.plan.synthetic else ""
    shown = f"mean and standard deviation of {seeds} seeds" if seeds > 1 else "1 seed"
    figure = Figure(
        figsize=(width, height),
        layout=ConstrainedLayoutEngine(h_pad=0.08, w_pad=0.08),
        facecolor="white",
    )
    figure.suptitle(
        f"{outcome.plan.catalogued.title}{made_up}\nheld-out subjects, {shown}",
        fontsize=11,
        color=INK,
    )
    return figure


def _dress(axes: Axes) -> None:
    axes.grid(color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
