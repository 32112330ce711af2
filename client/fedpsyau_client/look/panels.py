"""The panels that pictures of clips and of stored features are made of."""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D
from matplotlib.path import Path as Outline

from fedpsyau_client.look.flow_colours import colour_scale, colour_wheel, flow_to_rgb
from fedpsyau_model.action_units import AU_GROUPS
from fedpsyau_model.facial_points import group_point_indices

__all__ = [
    "INK",
    "WARNING",
    "draw_flow",
    "draw_points",
    "draw_strain",
    "dress",
    "group_legend",
    "new_figure",
]

Floats = npt.NDArray[np.floating]

INK: Final = "#26323b"
WARNING: Final = "#882255"

#: One for each AU group; Okabe and Ito's, told apart with any common colour blindness.
_GROUP_COLOURS: Final = ("#56b4e9", "#e69f00", "#009e73", "#cc79a7")

#: Arrows along a side, and the length of the longest in distances between them.
_ARROWS: Final = 16
_ARROW_REACH: Final = 1.6

#: Share of the strain's values that are within its colour scale.
_SHARE: Final = 0.998

#: Vectors shorter than this share of the colour scale get no arrow.
_ARROW_FROM: Final = 0.15


def new_figure(width: float, height: float) -> Figure:
    """Make a figure that belongs to no window."""
    return Figure(
        figsize=(width, height),
        layout=ConstrainedLayoutEngine(h_pad=0.06, w_pad=0.06),
        facecolor="white",
    )


def dress(axes: Axes, title: str) -> None:
    """Give a panel its title and take its ticks."""
    axes.set_title(title, fontsize=10.5, color=INK)
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set_color("#c9d0d5")


def draw_points(axes: Axes, points: Floats, size: float) -> None:
    """Draw each facial point as a disc with a quarter for every AU group that looks at it.

    points: (65, 2) in pixels of the image below. size: of a disc, in points of type.
    """
    axes.scatter(
        points[:, 0],
        points[:, 1],
        s=(1.2 * size) ** 2,
        color="white",
        edgecolors=INK,
        linewidths=0.5,
    )
    groups = zip(group_point_indices(), _GROUP_COLOURS, strict=True)
    for number, (indices, colour) in enumerate(groups):
        x, y = points[list(indices)].T
        quarter = Outline.wedge(90 * number, 90 * number + 90)
        # A marker is scaled by its own extent, and a quarter reaches as far as the disc.
        axes.scatter(x, y, s=size**2, marker=quarter, color=colour, edgecolors="none", zorder=3)


def group_legend() -> list[Line2D]:
    """Handles for the colours of `draw_points`."""
    sizes = map(len, group_point_indices())
    return [
        Line2D(
            [],
            [],
            linestyle="",
            marker="o",
            color=colour,
            label=f"AU {', '.join(map(str, aus))} ({size} points)",
        )
        for aus, colour, size in zip(AU_GROUPS, _GROUP_COLOURS, sizes, strict=True)
    ]


def draw_flow(axes: Axes, flow: Floats, title: str, unit: str) -> None:
    """Draw flow (2, S, S) as colour with arrows, and a wheel that says which colour is what."""
    scale = colour_scale(flow)
    size = flow.shape[-1]
    axes.imshow(flow_to_rgb(flow, scale), interpolation="nearest")
    step = max(1, size // _ARROWS)
    places = np.arange(step // 2, size, step)
    u, v = flow[:, places[:, None], places]
    x, y = np.meshgrid(places, places)
    seen = np.hypot(u, v) >= _ARROW_FROM * scale
    axes.quiver(
        *(x[seen], y[seen], u[seen], v[seen]),
        angles="xy",
        scale_units="xy",
        scale=scale / (_ARROW_REACH * step),
        width=0.004,
        color=INK,
    )
    dress(axes, title)
    wheel = axes.inset_axes((0.01, 0.01, 0.2, 0.2))
    wheel.imshow(colour_wheel(96))
    wheel.set_axis_off()
    axes.text(
        0.22,
        0.02,
        f"rim: {scale:.2g} {unit}",
        transform=axes.transAxes,
        fontsize=8,
        color=INK,
        va="bottom",
    )


def draw_strain(figure: Figure, axes: Axes, strain: Floats, title: str) -> None:
    """Draw optical strain (S, S), dimensionless, with its scale."""
    # The border, beyond which nothing is known, has a few huge values.
    largest = max(float(np.quantile(strain, _SHARE)), 1e-9)
    image = axes.imshow(strain, cmap="magma", vmin=0, vmax=largest, interpolation="nearest")
    dress(axes, title)
    bar = figure.colorbar(image, ax=axes, fraction=0.046, pad=0.02)
    bar.ax.tick_params(labelsize=7.5, colors=INK)
    bar.outline.set_visible(False)
