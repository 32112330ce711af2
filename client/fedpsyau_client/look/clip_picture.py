"""One clip and what preparation makes of it, on one picture. It shows a face."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from fedpsyau_client.look.panels import (
    WARNING,
    draw_flow,
    draw_points,
    draw_strain,
    dress,
    group_legend,
    new_figure,
)
from fedpsyau_client.preparation.clip_features import PreparedPair, pair_features
from fedpsyau_model.motion import optical_strain

__all__ = ["draw_clip"]


def draw_clip(pair: PreparedPair, heading: str) -> Figure:
    """Draw onset with its points, apex, flow, strain, and what the network sees of them.

    heading: what the picture is of. Save the figure with ``figure.savefig``.
    """
    figure = new_figure(12, 8.6)
    figure.suptitle(f"{heading}\ncontains a face: keep it at the site", fontsize=12, color=WARNING)
    (onset, apex, change), (flow, strain, small) = figure.subplots(2, 3)
    size = pair.flow.shape[-1]
    onset.imshow(pair.onset_crop)
    draw_points(onset, pair.points, 8.5)
    dress(onset, "onset, aligned, with the 65 points")
    apex.imshow(pair.apex_crop)
    dress(apex, "apex, same alignment")
    _draw_change(change, pair)
    draw_flow(flow, pair.flow, "optical flow, onset to apex", f"px of {size}")
    draw_strain(figure, strain, optical_strain(pair.flow)[0], "optical strain")
    stream, _ = pair_features(pair)
    draw_flow(small, stream[:2], "flow as the network sees it", f"px of {stream.shape[-1]}")
    figure.legend(
        handles=group_legend(), loc="outside lower center", ncols=4, frameon=False, fontsize=10
    )
    return figure


def _draw_change(axes: Axes, pair: PreparedPair) -> None:
    """Draw what became brighter (red) and darker (blue); a face that moved whole shows edges."""
    grey = [crop.mean(axis=-1) for crop in (pair.onset_crop, pair.apex_crop)]
    change = grey[1] - grey[0]
    limit = max(float(np.quantile(np.abs(change), 0.99)), 1.0)
    axes.imshow(change, cmap="RdBu_r", vmin=-limit, vmax=limit)
    dress(axes, "apex minus onset, brightness")
