"""Pictures of a report: onset with what was attended to, apex, flow, and movement over time."""

from __future__ import annotations

from typing import Final

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from fedpsyau_client.look.panels import INK, WARNING, draw_flow, dress, new_figure
from fedpsyau_client.prediction.prediction_file import FoundMovement
from fedpsyau_client.prediction.windows import MovementCurve
from fedpsyau_client.preparation.clip_features import PreparedPair

__all__ = ["ATTENTION_COLOURS", "draw_faces", "draw_movement"]

#: From little to much attention; brightness rises all along, so that it shows on paper too.
ATTENTION_COLOURS: Final = "plasma"

_GRID: Final = "#e3e7ea"
_MOVEMENT: Final = "#0072b2"


def draw_faces(pair: PreparedPair, attention: tuple[float, ...] | None) -> Figure:
    """Draw onset with the attended points, apex, and the flow between them. It shows a face."""
    figure = new_figure(12, 4.4)
    onset, apex, flow = figure.subplots(1, 3)
    onset.imshow(pair.onset_crop)
    if attention is None:
        dress(onset, "onset, aligned")
    else:
        _draw_attention(figure, onset, pair, attention)
        dress(onset, "onset, aligned: points the graph attended to")
    apex.imshow(pair.apex_crop)
    dress(apex, "apex, same alignment")
    draw_flow(flow, pair.flow, "optical flow, onset to apex", f"px of {pair.flow.shape[-1]}")
    return figure


def draw_movement(curve: MovementCurve, found: FoundMovement | None) -> Figure:
    """Draw how much the face moved in each frame, and where onset and apex were found."""
    figure = new_figure(12, 2.9)
    axes = figure.add_subplot()
    axes.plot(curve.frames, curve.movement, color=_MOVEMENT, marker="o", markersize=3)
    if found is not None:
        for name, frame in (("onset", found.onset), ("apex", found.apex)):
            axes.axvline(frame, color=WARNING, linewidth=1)
            axes.annotate(
                f"{name} {frame}",
                (frame, 1),
                xycoords=("data", "axes fraction"),
                xytext=(3, -3),
                textcoords="offset points",
                va="top",
                fontsize=9,
                color=WARNING,
            )
    axes.set_xlabel("frame", color=INK)
    axes.set_ylabel("movement, px of 128", color=INK)
    axes.set_ylim(bottom=0)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(color=_GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(colors=INK)
    return figure


def _draw_attention(
    figure: Figure, axes: Axes, pair: PreparedPair, attention: tuple[float, ...]
) -> None:
    x, y = pair.points.T
    marks = axes.scatter(
        *(x, y, [10 + 60 * weight for weight in attention]),
        c=attention,
        cmap=ATTENTION_COLOURS,
        vmin=0,
        vmax=1,
        edgecolors="white",
        linewidths=0.6,
    )
    bar = figure.colorbar(marks, ax=axes, fraction=0.046, pad=0.02)
    bar.ax.tick_params(labelsize=7.5, colors=INK)
    bar.outline.set_visible(False)
