"""A matrix over action units as a heat map with its numbers, the way Figs 3 and 4 show them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes

__all__ = ["INK", "draw_heat_map", "share_text"]

#: Colour of text and frames in the pictures of this package.
INK = "#26323b"

#: Value that would have the darkest colour; above 1, so that no cell is black.
_FULL = 1.25

#: Above this value a cell is dark, and its number is written in white.
_DARK = 0.7


def draw_heat_map(
    axes: Axes,
    matrix: npt.NDArray[Any],
    texts: Sequence[Sequence[str]],
    aus: Sequence[int],
    upper: int = 0,
) -> None:
    """Draw a matrix (n, n) of values in [0, 1] over n AUs, a text in every cell.

    upper: how many of the AUs, the first ones, belong to the upper face; a broad line then parts
        the halves and each is named. 0 draws no such line.
    """
    labels = [f"AU{au}" for au in aus]
    axes.imshow(matrix, cmap="Blues", vmin=0, vmax=_FULL)
    for position in (axes.xaxis, axes.yaxis):
        position.set_ticks(range(len(labels)), labels=labels)
        position.set_tick_params(length=0, labelsize=10)
    axes.xaxis.tick_top()
    for row, cells in enumerate(texts):
        for column, text in enumerate(cells):
            color = "white" if float(matrix[row, column]) > _DARK else INK
            axes.text(column, row, text, ha="center", va="center", fontsize=9, color=color)
    _draw_grid(axes, len(labels), upper)


def _draw_grid(axes: Axes, count: int, upper: int) -> None:
    """White lines between cells, a broad one between the upper and the lower face."""
    for edge in np.arange(0.5, count - 1):
        axes.axhline(edge, color="white", linewidth=1)
        axes.axvline(edge, color="white", linewidth=1)
    axes.spines[:].set_color(INK)
    if not upper:
        return
    middle = upper - 0.5
    axes.axhline(middle, color="white", linewidth=6)
    axes.axvline(middle, color="white", linewidth=6)
    for name, height in (("upper face", middle / 2), ("lower face", (middle + count) / 2)):
        axes.text(count - 0.4, height, name, rotation=270, va="center", color=INK)


def share_text(value: float) -> str:
    """Two decimals without the leading zero; nothing for what would read .00."""
    text = f"{value:.2f}"
    return "" if text == "0.00" else text.removeprefix("0")
