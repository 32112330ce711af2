"""Pictures of a protocol's run: the pooled confusion matrix, and the course of training."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from fedpsyau_client.protocols.fold_result import FoldResult
from fedpsyau_model.confusion_figure import draw_confusion
from fedpsyau_model.figure_style import GRID, INK

#: Blue and vermilion of Okabe and Ito, told apart with any common colour blindness.
_BLUE, _VERMILION = "#0072b2", "#d55e00"


def plot_confusion(title: str, confusion: np.ndarray, classes: Sequence[str]) -> Figure:
    """Draw counts (C, C) of all folds: colour and first line the share of the true class."""
    side = 1.5 + 0.95 * len(classes)
    figure = Figure(figsize=(max(side, 5.2), side), layout="constrained", facecolor="white")
    axes = figure.add_subplot()
    draw_confusion(axes, confusion, classes, counts=True)
    axes.set_xlabel("predicted class", color=INK)
    axes.set_ylabel("true class", color=INK)
    axes.set_title(f"Confusion, share of the true class and clips\n{title}", fontsize=9, color=INK)
    return figure


def plot_curves(title: str, results: Sequence[FoldResult]) -> Figure:
    """Draw the training loss of every fold by epoch; beside it UF1 on validation, if there is."""
    validated = [result.validation_uf1 for result in results if result.validation_uf1]
    panels = 2 if validated else 1
    figure = Figure(figsize=(5.6 * panels, 3.8), layout="constrained", facecolor="white")
    grid = figure.subplots(1, panels, squeeze=False)[0]
    _draw_folds(grid[0], [[each[0] for each in result.losses] for result in results], _BLUE)
    grid[0].set_ylabel("training loss")
    grid[0].set_ylim(bottom=0)
    if validated:
        curves = [[np.nan if each is None else each for each in fold] for fold in validated]
        _draw_folds(grid[1], curves, _VERMILION)
        grid[1].set_ylabel("UF1 on validation subjects")
        grid[1].set_ylim(0, 1)
    figure.suptitle(f"Training, every fold and their mean\n{title}", fontsize=9, color=INK)
    return figure


def _draw_folds(axes: Axes, folds: Sequence[Sequence[float]], color: str) -> None:
    """Draw a thin line for each fold and a thick one for their mean; all are equally long."""
    values = np.array(folds, dtype=np.float64)
    epochs = np.arange(1, values.shape[1] + 1)
    axes.plot(epochs, values.T, color=color, alpha=0.25, linewidth=0.8)
    axes.plot(epochs, values.mean(axis=0), color=color, linewidth=2.2, marker="o", markersize=3)
    axes.set_xlabel("epoch")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
