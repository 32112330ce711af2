"""Optical flow as colour: the hue says which way, the strength of the colour how far."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from matplotlib.colors import hsv_to_rgb

__all__ = ["colour_scale", "colour_wheel", "flow_to_rgb"]

Floats = npt.NDArray[np.floating]

#: The longest vectors of a clip are often a few outliers; this share of all is within the scale.
_SHARE = 0.995


def colour_scale(flow: Floats) -> float:
    """Length that gets the full colour, from (2, H, W); never 0."""
    length = float(np.quantile(np.hypot(*flow), _SHARE))
    return length if length > 0 else 1.0


def flow_to_rgb(flow: Floats, scale: float) -> npt.NDArray[np.float64]:
    """Colour every vector of (2, H, W): (H, W, 3), 0 to 1.

    White is no motion, and a vector of length `scale` or more has its full colour. Red is to the
    right, then with the clock: yellow-green is down, cyan to the left, violet up.
    """
    u, v = np.asarray(flow, dtype=np.float64)
    hue = np.arctan2(v, u) / (2 * np.pi) % 1.0
    strength = np.clip(np.hypot(u, v) / scale, 0, 1)
    return np.asarray(hsv_to_rgb(np.stack([hue, strength, np.ones_like(hue)], axis=-1)))


def colour_wheel(size: int) -> npt.NDArray[np.float64]:
    """Legend of `flow_to_rgb`: (size, size, 4), each direction's colour, transparent around it."""
    axis = np.linspace(-1, 1, size)
    flow = np.stack(np.meshgrid(axis, axis))
    inside = np.hypot(*flow) <= 1
    return np.concatenate([flow_to_rgb(flow, 1.0), inside[..., None]], axis=-1)
