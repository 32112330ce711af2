"""The picture of a site card: clips by class and by action unit, small counts hatched."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import MaxNLocator

from fedpsyau_client.cards.site_card import NO_CLASS, SiteCard, cell_text
from fedpsyau_client.cards.small_counts import Cell
from fedpsyau_model.action_units import UPPER_AUS

__all__ = ["plot_card"]

# The report's colours, which people with any common colour blindness tell apart.
_INK: Final = "#26323b"
_GRID: Final = "#e3e7ea"
_HIDDEN: Final = "#c9d0d5"
_CLASSES: Final = "#332288"
_UPPER: Final = "#0072b2"
_LOWER: Final = "#d55e00"
_WARNING: Final = "#882255"

#: Length of a withheld bar, as a share of the longest one: it says nothing.
_WITHHELD_SHARE: Final = 0.12


def plot_card(card: SiteCard) -> Figure:
    """Draw a site card. Save it with ``figure.savefig``; it belongs to no window."""
    figure = Figure(
        figsize=(10, 5.2),
        layout=ConstrainedLayoutEngine(h_pad=0.1, w_pad=0.12),
        facecolor="white",
    )
    subjects = cell_text(card.subjects, card.mask_below)
    heading = f"{card.partition}: {card.classes.total.text} clips of {subjects} subjects"
    made_up = "SYNTHETIC · " if card.synthetic else ""
    figure.suptitle(
        f"{heading}\n{made_up}{card.dataset} · data hash {card.data_hash[:12]}",
        fontsize=12.5,
        color=_WARNING if card.synthetic else _INK,
    )
    left, right = figure.subplots(1, 2)
    names = list(card.classes.cells)
    colours = [_HIDDEN if name == NO_CLASS else _CLASSES for name in names]
    _draw_bars(left, card.classes.cells, colours, card.mask_below)
    left.set_title(f"clips by class ({card.scheme} classes)", fontsize=11, color=_INK)
    upper = {f"AU{au}" for au in UPPER_AUS}
    if card.annotated == "none":
        right.set_axis_off()
        right.text(0.5, 0.5, "no AU labels", ha="center", va="center", fontsize=11, color=_INK)
    else:
        _draw_bars(
            right,
            card.aus,
            [_UPPER if name in upper else _LOWER for name in card.aus],
            card.mask_below,
        )
        right.set_title("clips by action unit: upper (blue), lower face", fontsize=11, color=_INK)
    return figure


def _draw_bars(
    axes: Axes, cells: Mapping[str, Cell], colours: Sequence[str], mask_below: int
) -> None:
    known = [cell for cell in cells.values() if isinstance(cell, int)]
    longest = max(known, default=2 * mask_below)
    for row, (cell, colour) in enumerate(zip(cells.values(), colours, strict=True)):
        if isinstance(cell, int):
            axes.barh(row, cell, color=colour, height=0.7)
            length: float = cell
        else:
            length = mask_below if cell == "small" else _WITHHELD_SHARE * longest
            axes.barh(row, length, facecolor="white", edgecolor=_HIDDEN, hatch="////", height=0.7)
        axes.annotate(
            cell_text(cell, mask_below),
            (length, row),
            xytext=(4, 0),
            textcoords="offset points",
            va="center",
            fontsize=9.5,
            color=_INK,
        )
    axes.set_yticks(range(len(cells)), labels=list(cells), fontsize=10, color=_INK)
    axes.invert_yaxis()
    axes.set_xlim(0, 1.14 * max(longest, mask_below))
    axes.xaxis.set_major_locator(MaxNLocator(nbins=5, integer=True))
    axes.grid(axis="x", color=_GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(length=0, colors=_INK)
    axes.spines[["top", "right", "bottom"]].set_visible(False)
    axes.spines["left"].set_color(_GRID)
