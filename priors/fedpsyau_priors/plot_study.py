"""Pictures of a psychology study: Table 2 as bars, and the supplement's Figs 2 and 3."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from fedpsyau_priors.heat_map import INK, draw_heat_map
from fedpsyau_priors.published import IntMatrix, action_units, intrinsic_upper
from fedpsyau_priors.study import Pair, TypeStatistics

__all__ = ["plot_chosen_pairs", "plot_coordinated_matrix", "plot_statistics"]

#: Blue and vermilion of Okabe and Ito, told apart with any common colour blindness.
_COORDINATED, _UNCOORDINATED = "#0072b2", "#d55e00"

#: Pairs that one panel can show and still be read.
_MOST_BARS = 80

_EXCLUDED = "#d1495b"


def plot_statistics(statistics: Mapping[str, TypeStatistics]) -> Figure:
    """Accuracy and score by type of pair, mean and SD over participants (Table 2)."""
    figure = Figure(figsize=(8, 3.6), layout="constrained", facecolor="white")
    panels: list[Axes] = list(figure.subplots(1, 2))
    colors = (_COORDINATED, _UNCOORDINATED)[: len(statistics)]
    for axes, name in zip(panels, ("accuracy", "score"), strict=True):
        means = [getattr(each, f"{name}_mean") for each in statistics.values()]
        deviations = [getattr(each, f"{name}_sd") or 0 for each in statistics.values()]
        axes.bar(list(statistics), means, yerr=deviations, color=colors, width=0.55, capsize=5)
        for place, mean in enumerate(means):
            axes.text(place, mean / 2, f"{mean:.3g}", ha="center", color="white", fontsize=11)
        axes.set_title(f"{name}, mean and SD over participants", color=INK, fontsize=10)
        axes.spines[["top", "right"]].set_visible(False)
        axes.set_ylim(bottom=0)
    panels[0].set_ylim(0, 1.05)
    return figure


def plot_chosen_pairs(
    chosen: Mapping[str, Sequence[tuple[Pair, int]]], participants: int, threshold: float
) -> Figure:
    """Pairs chosen by more than a share of the participants, with their votes (Fig. 2).

    chosen: by heading, pairs with how many participants chose them; of very many those with the
    most votes are drawn. threshold: that share.
    """
    chosen = {
        heading if len(pairs) <= _MOST_BARS else f"{heading}: {_MOST_BARS} of {len(pairs)}": sorted(
            pairs, key=lambda each: (-each[1], each[0])
        )[:_MOST_BARS]
        for heading, pairs in chosen.items()
    }
    most = max((len(pairs) for pairs in chosen.values()), default=0)
    figure = Figure(figsize=(10, max(2.2, 1.2 + 0.3 * most)), layout="constrained")
    panels = figure.subplots(1, max(len(chosen), 1), squeeze=False)[0]
    colors = (_COORDINATED, _UNCOORDINATED)
    for axes, (heading, pairs), color in zip(panels, chosen.items(), colors, strict=False):
        names = [f"AU{first}-AU{second}" for (first, second), _ in pairs]
        bars = axes.barh(names, [votes for _, votes in pairs], color=color, height=0.7)
        axes.bar_label(bars, padding=3, fontsize=9, color=INK)
        axes.set_ylim(max(most, 1) - 0.4, -0.6)
        axes.set_xlim(0, participants * 1.08)
        axes.axvline(participants * threshold, color=INK, linewidth=1, linestyle=":")
        axes.set_title(heading, color=INK, fontsize=10)
        axes.spines[["top", "right"]].set_visible(False)
        if not pairs:
            axes.text(0.5, 0.5, "none", transform=axes.transAxes, ha="center", color=INK)
            axes.set_yticks([])
    figure.supxlabel(
        f"participants, of {participants}; dotted: {threshold:.0%}, more is needed", fontsize=9
    )
    return figure


def plot_coordinated_matrix(
    matrix: IntMatrix, tested: Collection[Pair], excluded: Collection[Pair]
) -> Figure:
    """Matrix of coordinated pairs over the twelve AUs (12, 12) (Fig. 3).

    Pairs that the study did not ask about stand in brackets, excluded ones are framed.
    """
    aus = action_units()
    figure = Figure(figsize=(8, 8.3), layout="constrained", facecolor="white")
    axes = figure.subplots()
    known = {tuple(sorted(pair)) for pair in (*tested, *excluded)}
    texts = [
        [
            str(value) if row == column or tuple(sorted((row, column))) in known else f"({value})"
            for column, value in zip(aus, values, strict=True)
        ]
        for row, values in zip(aus, matrix.tolist(), strict=True)
    ]
    draw_heat_map(axes, matrix, texts, aus, upper=len(intrinsic_upper()))
    for first, second in excluded:
        if first in aus and second in aus:
            for row, column in ((first, second), (second, first)):
                corner = (aus.index(column) - 0.5, aus.index(row) - 0.5)
                axes.add_patch(
                    Rectangle(corner, 1, 1, fill=False, edgecolor=_EXCLUDED, linewidth=2, zorder=3)
                )
    axes.set_title("Coordinated (1) or not (0)")
    figure.supxlabel("in brackets: not asked about; framed: excluded by anatomy", fontsize=9)
    return figure
