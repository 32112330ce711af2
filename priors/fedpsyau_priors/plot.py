"""The two priors as heat maps side by side, after the supplement's Figs 3 and 4."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.patches import Rectangle

from fedpsyau_priors.extrinsic import attention
from fedpsyau_priors.intrinsic import published_intrinsic
from fedpsyau_priors.oddities import oddities
from fedpsyau_priors.published import action_units, intrinsic_upper

_ODD = "#d1495b"
_INK = "#26323b"

#: Value that would have the darkest colour; above 1, so that no cell is black.
_FULL = 1.25

#: Above this value a cell is dark, and its number is written in white.
_DARK = 0.7


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
    _draw(right, shares, [[_share(cell) for cell in row] for row in shares])
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


def _draw(axes: Axes, matrix: npt.NDArray[np.generic], texts: list[list[str]]) -> None:
    labels = [f"AU{au}" for au in action_units()]
    axes.imshow(matrix, cmap="Blues", vmin=0, vmax=_FULL)
    for position in (axes.xaxis, axes.yaxis):
        position.set_ticks(range(len(labels)), labels=labels)
        position.set_tick_params(length=0, labelsize=10)
    axes.xaxis.tick_top()
    for row, cells in enumerate(texts):
        for column, text in enumerate(cells):
            color = "white" if float(matrix[row, column]) > _DARK else _INK
            axes.text(column, row, text, ha="center", va="center", fontsize=9, color=color)
    _draw_grid(axes, len(labels))


def _draw_grid(axes: Axes, count: int) -> None:
    """White lines between cells, a broad one between the upper and the lower face."""
    for edge in np.arange(0.5, count - 1):
        axes.axhline(edge, color="white", linewidth=1)
        axes.axvline(edge, color="white", linewidth=1)
    middle = len(intrinsic_upper()) - 0.5
    axes.axhline(middle, color="white", linewidth=6)
    axes.axvline(middle, color="white", linewidth=6)
    axes.spines[:].set_color(_INK)
    axes.text(count - 0.4, middle / 2, "upper face", rotation=270, va="center", color=_INK)
    axes.text(
        count - 0.4, (middle + count) / 2, "lower face", rotation=270, va="center", color=_INK
    )


def _frame(axes: Axes, pair: tuple[int, int]) -> None:
    first, second = (action_units().index(au) for au in pair)
    for row, column in ((first, second), (second, first)):
        corner = (column - 0.5, row - 0.5)
        axes.add_patch(Rectangle(corner, 1, 1, fill=False, edgecolor=_ODD, linewidth=2.5, zorder=3))


def _share(value: float) -> str:
    """Two decimals without the leading zero; nothing for what would read .00."""
    text = f"{value:.2f}"
    return "" if text == "0.00" else text.removeprefix("0")
