"""The report's pictures: scores by round, training loss by round, confusion matrices.

Figures belong to no window: save them with ``figure.savefig``. Colours are told apart by people
with any common colour blindness, and every site has a marker of its own besides.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Literal

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from fedpsyau_model.figure_style import GRID, INK, LOOKS
from fedpsyau_server.report.many_sites import QUARTILES, drawn_sites, draws_all
from fedpsyau_server.report.tables import LOSS_PARTS, Counts, Round, RunTables, Scores, Stage

#: One for each site; more sites begin anew.
_SITE_LOOKS = LOOKS[:8]

_LINES: dict[Stage, Literal["--", "-"]] = {"received": "--", "trained": "-"}

#: Blue and vermilion of Okabe and Ito.
_SCORES = {"uf1": "#0072b2", "uar": "#d55e00"}

_MEAN_BEHIND = "#c9d0d5"

#: Above this share a cell is dark, and its number is written in white.
_DARK = 0.55

_LOSS_NAMES = {
    "loss_emotion": "emotion",
    "loss_au": "AUs after the graph",
    "loss_au_aux": "AUs before the graph",
    "loss_proximal": "proximal term (weighted)",
}


def plot_curves(tables: RunTables) -> Figure:
    """UF1 and UAR by round, one panel a site and one for the mean over sites.

    Received models are dashed, trained ones solid. The mean's UF1 lies as a broad grey line behind
    every site's own. Very many sites are one panel of medians and quartiles, and the worst have
    panels.
    """
    if not draws_all(tables):
        return _plot_quartiles(tables)
    columns = min(4, len(tables.sites) + 1)
    rows = math.ceil((len(tables.sites) + 1) / columns)
    figure = _figure(
        tables, "UF1 and UAR on held-out subjects", 3.1 * columns + 0.6, 2.6 * rows + 1.6
    )
    grid = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    panels = list(grid.flat)
    for axes, site in zip(panels, tables.sites, strict=False):
        _draw_scores(axes, tables, partial(_site_scores, site))
        axes.set_title(site, fontsize=11, color=INK)
        axes.plot(
            *_course(tables, [each.mean("trained").uf1 for each in tables.rounds]),
            color=_MEAN_BEHIND,
            linewidth=5,
            zorder=1,
        )
    mean_axes = panels[len(tables.sites)]
    _draw_scores(mean_axes, tables, Round.mean, linewidth=2.4)
    mean_axes.set_title("mean over sites", fontsize=11, fontweight="bold", color=INK)
    for axes in panels[len(tables.sites) + 1 :]:
        axes.set_axis_off()
    for axes in panels[max(0, len(tables.sites) + 1 - columns) : len(tables.sites) + 1]:
        axes.set_xlabel("round")
        axes.tick_params(labelbottom=True)
    figure.legend(handles=_score_handles(), loc="outside lower center", ncols=5, frameon=False)
    return figure


def plot_losses(tables: RunTables) -> Figure:
    """Training loss of every site by round, and its parts as means over sites.

    Sites report the parts before weighting, but for the proximal term, which holds its alpha4 / 2.
    """
    figure = _figure(tables, "Training loss", 11, 4.6)
    left, right = figure.subplots(1, 2)
    if not draws_all(tables):
        _draw_quartiles(
            left,
            tables,
            lambda each, share: each.loss_quantile(share, "loss_total"),
            _SCORES["uf1"],
        )
    for index, site in enumerate(drawn_sites(tables)):
        color, marker = _SITE_LOOKS[index % len(_SITE_LOOKS)]
        left.plot(
            *_course(tables, [_site_loss(each, site) for each in tables.rounds]),
            color=color,
            marker=marker,
            markersize=4,
            markevery=_marker_distance(tables),
            label=site,
        )
    left.set_title(
        "total, by site" if draws_all(tables) else "total, all sites and those of lowest UF1",
        fontsize=11,
    )
    for index, name in enumerate(LOSS_PARTS):
        color, marker = _SITE_LOOKS[index]
        right.plot(
            *_course(tables, [each.mean_loss(name) for each in tables.rounds]),
            color=color,
            marker=marker,
            markersize=4,
            markevery=_marker_distance(tables),
            label=_LOSS_NAMES[name],
        )
    right.set_title("its parts before weighting, mean over sites", fontsize=11)
    for axes in (left, right):
        _dress(axes, tables)
        axes.set_xlabel("round")
        axes.set_ylim(bottom=0)
        axes.legend(frameon=False, fontsize=8.5)
    return figure


def plot_confusion(tables: RunTables) -> Figure:
    """Confusion counts of the trained models in the last round: pooled, then of the drawn sites.

    Colours are shares of the true class (row); numbers are clips.
    """
    last = tables.last
    panels = [(f"pooled, {len(last.replies)} sites", last.pooled_confusion("trained"))]
    panels += [
        (site, last.replies[site].confusion["trained"])
        for site in drawn_sites(tables)
        if site in last.replies
    ]
    columns = min(4, len(panels))
    rows = math.ceil(len(panels) / columns)
    side = 2.9 if len(tables.classes) <= 3 else 3.9
    figure = _figure(
        tables,
        f"Confusion on held-out subjects, trained models of round {last.number}",
        side * columns + 0.4,
        side * rows + 1.0,
    )
    grid = figure.subplots(rows, columns, squeeze=False)
    for axes, (name, confusion) in zip(grid.flat, panels, strict=False):
        _draw_confusion(axes, name, confusion, tables.classes)
    for axes in grid.flat[len(panels) :]:
        axes.set_axis_off()
    figure.supxlabel("predicted class", fontsize=11, color=INK)
    figure.supylabel("true class", fontsize=11, color=INK)
    return figure


def _plot_quartiles(tables: RunTables) -> Figure:
    """UF1 and UAR by round over all sites, and below them the worst sites' own."""
    sites = drawn_sites(tables)
    columns = 4
    rows = math.ceil(len(sites) / columns)
    figure = _figure(
        tables,
        f"UF1 and UAR on held-out subjects, {len(tables.sites)} sites",
        3.1 * columns + 0.6,
        4.0 + 2.6 * rows + 1.6,
    )
    top, bottom = figure.subfigures(
        2, 1, squeeze=False, height_ratios=(4.0, 2.6 * rows or 0.1)
    ).flat
    over_all = top.subplots(1, 2, squeeze=False).flat
    for axes, (name, color) in zip(over_all, _SCORES.items(), strict=True):
        for stage, style in _LINES.items():
            _draw_quartiles(axes, tables, _quantiles_of(name, stage), color, style, f"{stage}, ")
        axes.set_title(f"{name.upper()} over sites", fontsize=11, color=INK)
        axes.legend(frameon=False, fontsize=8.5)
        axes.set_ylim(0, 1)
        axes.set_xlabel("round")
    if sites:
        bottom.suptitle(
            f"The {len(sites)} of lowest trained UF1 in round {tables.last.number}", fontsize=11
        )
    grid = bottom.subplots(max(rows, 1), columns, sharex=True, sharey=True, squeeze=False)
    for axes, site in zip(grid.flat, sites, strict=False):
        _draw_scores(axes, tables, partial(_site_scores, site))
        axes.set_title(site, fontsize=11, color=INK)
    for axes in list(grid.flat)[len(sites) :]:
        axes.set_axis_off()
    bottom.legend(handles=_score_handles()[:-1], loc="outside lower center", ncols=4, frameon=False)
    return figure


def _quantiles_of(name: str, stage: Stage) -> Callable[[Round, float], float | None]:
    def value(each: Round, share: float) -> float | None:
        found: float | None = getattr(each.quantile(share, stage), name)
        return found

    return value


def _draw_quartiles(
    axes: Axes,
    tables: RunTables,
    value: Callable[[Round, float], float | None],
    color: str,
    style: Literal["--", "-"] = "-",
    prefix: str = "",
) -> None:
    """Draw a median over sites, and a band from the lower quartile to the upper.

    value: of a round, below which a share of the sites lies.
    """
    lower, median, upper = (
        _course(tables, [value(each, share) for each in tables.rounds]) for share, _ in QUARTILES
    )
    axes.plot(*median, color=color, linestyle=style, linewidth=2.4, label=f"{prefix}median")
    axes.fill_between(
        lower[0],
        lower[1],
        upper[1],
        color=color,
        alpha=0.3 if style == "-" else 0.12,
        linewidth=0,
        label=f"{prefix}half of the sites",
    )
    _dress(axes, tables)


def _figure(tables: RunTables, heading: str, width: float, height: float) -> Figure:
    settings = tables.folder.config.federation_settings()
    strategy: str = settings.strategy.name
    if strategy == "p-fedprox":
        strategy += f", θ {settings.strategy.theta}"
    synthetic = ", synthetic data" if tables.synthetic else ""
    figure = Figure(
        figsize=(width, height),
        layout=ConstrainedLayoutEngine(h_pad=0.08, w_pad=0.08),
        facecolor="white",
    )
    figure.suptitle(
        f"{heading}\n{tables.folder.path.name}: {strategy}{synthetic}", fontsize=12, color=INK
    )
    return figure


def _draw_scores(
    axes: Axes,
    tables: RunTables,
    scores: Callable[[Round, Stage], Scores],
    linewidth: float = 1.5,
) -> None:
    for stage, style in _LINES.items():
        for name, color in _SCORES.items():
            axes.plot(
                *_course(tables, [getattr(scores(each, stage), name) for each in tables.rounds]),
                color=color,
                linestyle=style,
                linewidth=linewidth,
                marker="o",
                markersize=2.5 + 0.4 * linewidth if stage == "trained" else 0,
            )
    _dress(axes, tables)
    axes.set_ylim(0, 1)


def _course(tables: RunTables, values: Sequence[float | None]) -> tuple[list[int], list[float]]:
    """Pair rounds with values to plot; NaN, a gap in the line, for one that is not there."""
    return (
        [each.number for each in tables.rounds],
        [math.nan if known is None else known for known in values],
    )


def _site_scores(site: str, each: Round, stage: Stage) -> Scores:
    reply = each.replies.get(site)
    return Scores(None, None) if reply is None else reply.scores(stage)


def _score_handles() -> list[Line2D]:
    handles = [
        Line2D([], [], color=color, linestyle=style, label=f"{name.upper()} {stage}")
        for name, color in _SCORES.items()
        for stage, style in _LINES.items()
    ]
    mean = Line2D([], [], color=_MEAN_BEHIND, linewidth=5, label="UF1 trained, mean over sites")
    return [*handles, mean]


def _draw_confusion(axes: Axes, name: str, confusion: Counts, classes: Sequence[str]) -> None:
    totals = confusion.sum(axis=1, keepdims=True)
    shares = confusion / totals.clip(min=1)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1.15)
    size = 10 if len(classes) <= 3 else 7.5
    for row, cells in enumerate(confusion):
        for column, count in enumerate(cells):
            color = "white" if shares[row, column] > _DARK else INK
            axes.text(column, row, str(count), ha="center", va="center", fontsize=size, color=color)
    axes.set_title(name, fontsize=11, color=INK)
    axes.set_xticks(range(len(classes)), labels=classes, fontsize=size - 0.5)
    axes.set_yticks(range(len(classes)), labels=classes, fontsize=size - 0.5)
    if len(classes) > 3:
        axes.tick_params(axis="x", rotation=60)
    axes.tick_params(length=0)
    axes.spines[:].set_color(GRID)


def _dress(axes: Axes, tables: RunTables) -> None:
    axes.grid(color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlim(0.8, max(tables.last.number, 2) + 0.2)


def _marker_distance(tables: RunTables) -> int:
    """Space the markers so that a line carries about ten."""
    return max(1, len(tables.rounds) // 10)


def _site_loss(each: Round, site: str) -> float | None:
    reply = each.replies.get(site)
    return None if reply is None else reply.losses["loss_total"]
