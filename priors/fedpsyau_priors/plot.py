"""The two priors as heat maps side by side, after the supplement's Figs 3 and 4."""

from __future__ import annotations

from typing import Any

import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.gridspec import SubplotSpec
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.patches import Rectangle

from fedpsyau_priors.extrinsic import Region, attention, region_slice
from fedpsyau_priors.heat_map import INK, draw_heat_map, share_text
from fedpsyau_priors.intrinsic import published_intrinsic
from fedpsyau_priors.oddities import oddities
from fedpsyau_priors.published import action_units, intrinsic_upper

_ODD = "#d1495b"


def plot_priors() -> Figure:
    """Draw the intrinsic prior as published and the extrinsic prior over all pairs.

    Cells with an oddity are framed and explained below the maps. Belongs to no window: save it
    with ``figure.savefig``.
    """
    figure = Figure(figsize=(15, 8.8), layout=ConstrainedLayoutEngine(h_pad=0.2), facecolor="white")
    left, right = figure.subplots(1, 2)
    intrinsic = published_intrinsic()
    _draw(left, intrinsic, [[str(cell) for cell in row] for row in intrinsic])
    left.set_title("Intrinsic prior: coordinated (1) or not (0)\nas published, psychology study")
    shares = attention()
    _draw(right, shares, [[share_text(cell) for cell in row] for row in shares])
    right.set_title("Extrinsic prior: share of AU co-occurrence\nDFME, each row sums to 1")
    found = oddities()
    for axes in (left, right):
        for oddity in found:
            _frame(axes, oddity.pair)
    figure.supxlabel(
        "\n".join(["Framed in red:", *(oddity.note for oddity in found)]),
        fontsize=10,
        color=_ODD,
        x=0.02,
        ha="left",
    )
    return figure


def _draw(axes: Axes, matrix: npt.NDArray[Any], texts: list[list[str]]) -> None:
    draw_heat_map(axes, matrix, texts, action_units(), upper=len(intrinsic_upper()))


def plot_attention(counts: npt.ArrayLike, source: str) -> Figure:
    """Draw the attention of the whole face and of its halves that follows from counts (12, 12).

    source: what the counts come from, for the title.
    """
    figure = Figure(figsize=(13, 7.6), layout="constrained", facecolor="white")
    grid = figure.add_gridspec(2, 2, width_ratios=(1.9, 1))
    panels: tuple[tuple[Region, SubplotSpec], ...] = (
        ("whole", grid[:, 0]),
        ("upper", grid[0, 1]),
        ("lower", grid[1, 1]),
    )
    for region, place in panels:
        axes = figure.add_subplot(place)
        shares = attention(region, counts)
        aus = action_units()[region_slice(region)]
        upper = len(intrinsic_upper()) if region == "whole" else 0
        draw_heat_map(
            axes, shares, [[share_text(cell) for cell in row] for row in shares], aus, upper
        )
        axes.set_title(f"{region} face")
    figure.suptitle(f"Share of AU co-occurrence, each row sums to 1\n{source}", color=INK)
    return figure


def _frame(axes: Axes, pair: tuple[int, int]) -> None:
    first, second = (action_units().index(au) for au in pair)
    for row, column in ((first, second), (second, first)):
        corner = (column - 0.5, row - 0.5)
        axes.add_patch(Rectangle(corner, 1, 1, fill=False, edgecolor=_ODD, linewidth=2.5, zorder=3))
