"""A confusion matrix as a picture, the same in every figure of the project."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from fedpsyau_model.figure_style import GRID, INK

if TYPE_CHECKING:  # matplotlib is there only where figures are made
    from matplotlib.axes import Axes

__all__ = ["draw_confusion"]

#: Above this share a cell is dark, and its number is written in white.
_DARK = 0.55


def draw_confusion(
    axes: Axes, confusion: np.ndarray, classes: Sequence[str], *, counts: bool
) -> None:
    """Draw counts (C, C), rows the true classes; colour and number are the share of the row.

    counts: whether the number of clips stands below the share.
    """
    shares = confusion / confusion.sum(axis=1, keepdims=True).clip(min=1)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1.15)
    for (row, column), share in np.ndenumerate(shares):
        axes.text(
            column,
            row,
            f"{share:.2f}\n{confusion[row, column]}" if counts else f"{share:.2f}",
            ha="center",
            va="center",
            fontsize=9,
            color="white" if share > _DARK else INK,
        )
    axes.set_xticks(range(len(classes)), labels=classes, rotation=45 if len(classes) > 3 else 0)
    axes.set_yticks(range(len(classes)), labels=classes)
    axes.tick_params(length=0, labelsize=9)
    axes.spines[:].set_color(GRID)
