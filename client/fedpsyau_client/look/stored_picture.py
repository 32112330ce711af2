"""The stored features of one clip, on a canonical face; nobody's own face can be seen in them."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from fedpsyau_client.look.flow_colours import colour_scale
from fedpsyau_client.look.panels import (
    INK,
    WARNING,
    Floats,
    draw_flow,
    draw_points,
    draw_strain,
    dress,
    group_legend,
    new_figure,
)
from fedpsyau_client.store.feature_store import FeatureStore
from fedpsyau_model.action_units import AUS
from fedpsyau_model.errors import DataNotFoundError
from fedpsyau_model.facial_points import CROP_SIZE, canonical_points
from fedpsyau_model.motion import FLOW_SIZE

__all__ = ["draw_stored_clip"]

#: Length of the longest arrow on the canonical face, in pixels of its 128.
_ARROW_LENGTH = 14.0


def draw_stored_clip(store: FeatureStore, clip: str) -> Figure:
    """Draw flow and strain at 28x28, and each patch's mean vector at its point of a canonical face.

    clip: its id in the store. Raises DataNotFoundError if the store has none of this id.
    """
    rows = np.flatnonzero(store.clips.clip == clip)
    if len(rows) == 0:
        first, last = store.clips.clip[[0, -1]]
        raise DataNotFoundError(
            f"The store {store.folder} has no clip {clip!r}; its {len(store)} clips go from "
            f"{first} to {last}. See the column clip of clips.csv."
        )
    row = int(rows[0])
    figure = new_figure(12.5, 5.1)
    figure.suptitle(
        _heading(store, row), fontsize=12, color=WARNING if store.manifest.synthetic else INK
    )
    flow, strain, face = figure.subplots(1, 3)
    stream = np.asarray(store.flow[row])
    units = store.manifest.preprocessing.get("units")
    unit = "(arbitrary)" if units == "arbitrary" else f"px of {FLOW_SIZE}"
    draw_flow(flow, stream[:2], "flow as the network sees it", unit)
    draw_strain(figure, strain, stream[2], "optical strain")
    _draw_face(face, np.asarray(store.rois[row, :, :2]).mean(axis=(-2, -1)))
    figure.legend(
        handles=group_legend(), loc="outside lower center", ncols=4, frameon=False, fontsize=10
    )
    return figure


def _heading(store: FeatureStore, row: int) -> str:
    clips = store.clips
    emotion = str(clips.emotion[row]) or str(clips.class3[row]) or "no class"
    shown = ", ".join(f"AU{au}" for au, seen in zip(AUS, clips.aus[row], strict=True) if seen)
    aus = (shown or "none of the AUs") if clips.au_known[row] else "AUs not coded"
    made_up = "SYNTHETIC, " if store.manifest.synthetic else ""
    return f"{made_up}{store.manifest.partition}, {clips.clip[row]}: {emotion}; {aus}"


def _draw_face(axes: Axes, vectors: Floats) -> None:
    """Draw the points of the canonical face and a vector (65, 2) at each."""
    points = canonical_points()
    draw_points(axes, points, 7)
    longest = colour_scale(vectors.T[:, None])
    axes.quiver(
        *points.T,
        *vectors.T,
        angles="xy",
        scale_units="xy",
        scale=longest / _ARROW_LENGTH,
        width=0.006,
        color=INK,
        zorder=4,
    )
    axes.set_xlim(0, CROP_SIZE)
    axes.set_ylim(CROP_SIZE, 0)
    axes.set_aspect("equal")
    dress(axes, "mean vector of each patch, canonical face")
